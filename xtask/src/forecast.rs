//! Forecasts against truth: `socklife-forecast` runs loads into their ceilings and asks on the way how
//! long there is; docs/forecast.md has the figures.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::{capture, cargo, root, run};

const INTRO: &str = "\
# Forecasts

`socklife check` says of a ceiling when it is reached (`full in`, in JSON `forecast.seconds` and `forecast.basis`): at the
present trend, from the moment when it says so. What the trend rests on:

- **Entries in TIME-WAIT** carry their age. One look at the table shows every entry of the last minute: how many came each
  second, whether that grows, and when each of them goes. So ephemeral ports and TIME-WAIT have a forecast without
  `--interval`. With `tcp_tw_reuse` only those count that can't be taken over yet.
- **Anything else** (open files, connections that stay, queues, conntrack) is sampled twenty times during
  `--interval`. Growth that is slow beside the interval can't be told from noise and is taken for a constant rate: what
  doubles every 20 s needs `--interval 10s`.

The trend is that of the largest recent window in which a rate that is constant or grows exponentially agrees with what
came: after a minute of calm, an incident of five seconds is extrapolated from those five seconds. Bursts count as their mean
rate, random arrivals as random, and a client that stalls and catches up changes nothing. Growth goes on only as far ahead as the
evidence carries (at most four times the window); from there on the rate is taken for constant.

There is no forecast when the usage falls or shows no trend, when it levels off below the limit (400/s that each hold a port
for 60 s never use more than 24,000), when the limit would not be reached within an hour, or when it is reached already.

A forecast says what happens if things go on as they do. It knows nothing of a load balancer that is about to shift traffic.
Where it is weak:

- Growth from few random arrivals is uncertain by nature: in simulations of some hundred to some thousand random entries
  whose rate doubles every 2 to 20 s, 85 to 97 % of the forecasts were off by 20 % at most.
- Growth in samples of 2 s: jitter of the client is taken for growth, or growth for jitter, when the rate changes by less than
  about 20 % within the interval. A longer `--interval` helps.
- Timers of the kernel let entries in TIME-WAIT live up to 2 s longer than 60 s, so a rate that levels off within 3 % of
  the limit may reach it.
- On a host that is so busy that `check` itself waits seconds for a processor, its answer may come too late to be of use.
";

pub(crate) fn run_all(rounds: u32, only: Option<&str>, write_docs: bool) -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife"]))?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife-tests", "--bins"]))?;
    let built = |name: &str| root().join("target/release").join(name);
    // The load goes first, whatever else this machine does.
    let mut command = Command::new("chrt");
    command.args(["--rr", "1"]).arg(built("socklife-forecast"));
    command.arg(format!("--rounds={rounds}")).env("SOCKLIFE_BIN", built("socklife"));
    if let Some(only) = only {
        command.args(["--only", only]);
    }
    let printed = capture(&mut command)?;
    let answers: Vec<Value> =
        printed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let report = report(&answers)?;
    println!("{report}");
    if write_docs {
        let path = root().join("docs/forecast.md");
        fs::write(&path, format!("{INTRO}\n{report}"))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Answers to the same question, one a run.
#[derive(Default)]
struct Row {
    title: String,
    stated: Vec<f64>,
    observed: Vec<f64>,
    errors: Vec<String>,
}

/// How many forecasts were how good.
#[derive(Default)]
struct Count {
    all: usize,
    /// Off by 20 % at most.
    good: usize,
}

fn report(answers: &[Value]) -> Result<String> {
    let mut rows: Vec<Row> = Vec::new();
    let mut known = BTreeMap::new();
    let mut count = Count::default();
    for answer in answers {
        let title = title(answer);
        let index = *known.entry(title.clone()).or_insert_with(|| {
            rows.push(Row { title, ..Row::default() });
            rows.len() - 1
        });
        rows[index].add(answer, &mut count);
    }
    let mut text = format!(
        "## Against truth\n\n\
         Made by `cargo xtask forecast`: each load runs into its ceiling in network namespaces of its own, `check` is asked when\n\
         about 30, 50 and 70 % of the limit are used, and its answer is compared with the time that then passed until the first\n\
         failure: EADDRNOTAVAIL, EMFILE, or the kernel's TCPTimeWaitOverflow. Seconds are medians of the runs, errors are those\n\
         of each run. Runs in which the load itself was more than 0.2 s off its course are repeated. \"At random\": a Poisson\n\
         process. Error \"±0.2 s\": less than that, of less than 2 s.\n\n\
         - date: {date}\n- kernel: {kernel}\n- {cores} cores, shared with other work\n\
         - off by 20 % or 0.2 s at most: {good} of {all}\n\n\
         | ceiling | load | limit | asked | at | stated | observed | error of each run |\n\
         |---|---|---|---|---|---|---|---|\n",
        date = jiff::Timestamp::now().strftime("%Y-%m-%d"),
        kernel = capture(Command::new("uname").arg("-r"))?,
        cores = std::thread::available_parallelism()?,
        good = count.good,
        all = count.all,
    );
    for row in &rows {
        text += &format!(
            "| {} | {} | {} | {} |\n",
            row.title,
            median(&row.stated).map_or_else(|| "no forecast".to_owned(), |s| format!("{s:.1} s")),
            median(&row.observed).map_or_else(|| "never".to_owned(), |s| format!("{s:.1} s")),
            row.errors.join(", "),
        );
    }
    Ok(text)
}

fn title(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let kind = match text("load") {
        load if load.starts_with("ports, held") => "ephemeral ports, held",
        load if load.starts_with("ports") => "ephemeral ports, closed at once",
        load if load.starts_with("files") => "open files",
        _ => "TIME-WAIT entries",
    };
    let how = if answer["interval"] == true { "`--interval 2s`" } else { "once" };
    let fill = answer["fill"].as_f64().unwrap_or_default() * 100.0;
    format!("{kind} | {} | {} | {how} | {fill:.0} %", text("rate"), answer["limit"])
}

impl Row {
    fn add(&mut self, answer: &Value, count: &mut Count) {
        let (stated, observed) = (answer["stated_s"].as_f64(), answer["observed_s"].as_f64());
        self.stated.extend(stated);
        self.observed.extend(observed);
        let (error, good) = match (stated, observed) {
            (None, None) => ("right".to_owned(), true),
            (_, Some(observed)) if observed <= 0.0 => {
                // It was full when the answer came.
                self.errors.push("too late".to_owned());
                return;
            }
            (Some(stated), Some(observed)) => {
                let (off, part) = (stated - observed, stated / observed - 1.0);
                let close = observed < 2.0 && off.abs() < 0.2;
                let error = if close { "±0.2 s".to_owned() } else { percent(part) };
                (error, close || part.abs() <= 0.2)
            }
            (None, Some(_)) => ("missing".to_owned(), false),
            (Some(_), None) => ("false".to_owned(), false),
        };
        count.all += 1;
        count.good += usize::from(good);
        self.errors.push(error);
    }
}

/// `+5 %`; no sign before nothing.
fn percent(part: f64) -> String {
    let text = format!("{:+.0} %", part * 100.0);
    if text[1..].starts_with("0 ") { text[1..].to_owned() } else { text }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
