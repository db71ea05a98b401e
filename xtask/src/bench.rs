//! What tracing costs: the same churn without a tracer, under socklife, and under its peers, round
//! after round in one run; medians and ratios go to docs/benchmarks.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aya::{programs::loaded_programs, sys};

use crate::{
    bench_check, bench_top,
    shell::{capture, cargo, have, root, run},
};

/// A tracer to measure under.
struct Subject {
    name: &'static str,
    budget: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// Name of its program in the kernel, as far as the kernel keeps it; empty: not asked.
    kernel_name: &'static str,
}

const SUBJECTS: &[Subject] = &[
    Subject {
        name: "socklife count",
        budget: "1.03",
        program: "socklife",
        arguments: &["count"],
        kernel_name: "state_tp_btf",
    },
    // Without the tracepoints of system calls, where these take the place of fexit.
    Subject {
        name: "socklife count --hooks fentry",
        budget: "1.03",
        program: "socklife",
        arguments: &["count", "--hooks=fentry"],
        kernel_name: "state_tp_btf",
    },
    Subject {
        name: "socklife count --error all",
        budget: "",
        program: "socklife",
        arguments: &["count", "--error=all"],
        kernel_name: "state_tp_btf",
    },
    Subject {
        name: "socklife record -o file",
        budget: "1.10",
        program: "socklife",
        arguments: &["record", "--force", "-o", "target/bench.socklife"],
        kernel_name: "state_tp_btf",
    },
    Subject {
        name: "socklife trace > file",
        budget: "",
        program: "socklife",
        arguments: &["trace"],
        kernel_name: "state_tp_btf",
    },
    Subject {
        name: "socklife trace --format json > file",
        budget: "",
        program: "socklife",
        arguments: &["trace", "--format=json"],
        kernel_name: "state_tp_btf",
    },
    Subject {
        name: "tcpstates > file",
        budget: "",
        program: "tcpstates",
        arguments: &[],
        kernel_name: "",
    },
    Subject {
        name: "bpftrace > file",
        budget: "",
        program: "bpftrace",
        arguments: &[
            "-e",
            "tracepoint:sock:inet_sock_set_state { printf(\"%d %s %d %d\\n\", pid, comm, args->oldstate, \
             args->newstate); }",
        ],
        kernel_name: "",
    },
];

/// What one measurement gave.
#[derive(Clone, Copy, Default)]
struct Measure {
    seconds: f64,
    /// To the churn without a tracer just before.
    ratio: f64,
    /// Kernel time of one run of the program, in nanoseconds.
    kernel_ns: Option<f64>,
    lost: Option<u64>,
}

/// A part of docs/benchmarks.md.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// What tracing costs.
    Tracing,
    /// How long `check` takes.
    Check,
    /// What the live view costs.
    Top,
}

/// Runs of `check` in each measurement.
const CHECKS: usize = 40;

pub(crate) fn run_all(only: Option<Part>, connections: u64, rounds: usize) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let written = fs::read_to_string(&path).unwrap_or_default();
    let at = |heading: &str| written.find(heading).unwrap_or(written.len());
    let (second, third) = (at(bench_check::HEADING), at(bench_top::HEADING));
    let second = second.min(third);
    let mut tracing = written[..second].to_owned();
    let mut check = written[second..third].to_owned();
    let mut top = written[third..].to_owned();
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted(Part::Tracing) {
        tracing = measure(connections, rounds)?;
    }
    if wanted(Part::Check) {
        check = bench_check::measure(CHECKS)?;
    }
    if wanted(Part::Top) {
        top = bench_top::measure(connections, rounds)?;
    }
    let parts = [tracing, check, top].map(|part| part.trim().to_owned());
    let report = format!("{}\n", parts.join("\n\n").trim());
    fs::write(&path, &report).with_context(|| path.display().to_string())?;
    println!("\n{report}");
    Ok(())
}

fn measure(connections: u64, rounds: usize) -> Result<String> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife"]))?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife-tests", "--bins"]))?;
    let subjects: Vec<&Subject> = SUBJECTS.iter().filter(|subject| available(subject)).collect();
    churn(connections / 10)?;
    let mut plain = Vec::new();
    let mut measures = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds.max(1) {
        println!("round {round} of {rounds}");
        for (subject, measures) in subjects.iter().zip(&mut measures) {
            // Each beside one of its own without a tracer: the machine's pace changes by the minute.
            let base = churn(connections)?;
            plain.push(base);
            let mut measure = under(subject, connections)?;
            measure.ratio = measure.seconds / base;
            measures.push(measure);
        }
    }
    report(connections, rounds, &plain, &subjects, &measures)
}

fn binary(subject: &Subject) -> PathBuf {
    match subject.program {
        "socklife" => root().join("target/release/socklife"),
        other => PathBuf::from(other),
    }
}

fn available(subject: &Subject) -> bool {
    let there = subject.program == "socklife" || have(subject.program);
    if !there {
        println!("NOT MEASURED: {} is not installed", subject.program);
    }
    there
}

/// Seconds that the churn takes.
fn churn(connections: u64) -> Result<f64> {
    let load = root().join("target/release/socklife-load");
    let printed =
        capture(Command::new(load).args(["churn", "--connections", &connections.to_string()]))?;
    let printed: serde_json::Value = serde_json::from_str(&printed)?;
    printed["seconds"].as_f64().context("the churn says no time")
}

/// Kills what it holds.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn under(subject: &Subject, connections: u64) -> Result<Measure> {
    let file = root().join("target/bench.out");
    let log = root().join("target/bench.err");
    // Only a fallback: its own mount namespace keeps tracefs from staying mounted.
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tracefs none /sys/kernel/tracing; exec \"$0\" \"$@\"",
    ]);
    command.arg(binary(subject)).args(subject.arguments);
    let child = command
        .stdin(Stdio::null())
        .stdout(fs::File::create(&file)?)
        .stderr(fs::File::create(&log)?)
        .spawn()
        .with_context(|| format!("can't start {}", subject.name))?;
    let mut running = Running(child);
    wait_until_attached(&mut running, subject)?;
    let seconds = churn(connections)?;
    let kernel_ns = match subject.kernel_name {
        "" => None,
        name => {
            // Apart from the measurement: the account itself costs time.
            let _stats = sys::enable_stats(sys::Stats::RunTime)?;
            churn(connections / 4)?;
            kernel_ns(name)
        }
    };
    run(Command::new("kill").args(["-INT", &running.0.id().to_string()]))?;
    let deadline = Instant::now() + Duration::from_mins(1);
    while running.0.try_wait()?.is_none() {
        if Instant::now() > deadline {
            bail!("{} does not end", subject.name);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Measure { seconds, ratio: 0.0, kernel_ns, lost: lost(&file, &log) })
}

/// A tracer is attached when its process holds an eBPF link or a perf event.
fn wait_until_attached(running: &mut Running, subject: &Subject) -> Result<()> {
    let descriptors = format!("/proc/{}/fd", running.0.id());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let entries = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        let mut targets = entries.filter_map(|entry| entry.path().read_link().ok());
        if targets.any(|to| {
            ["bpf_link", "perf_event"].iter().any(|kind| to.to_string_lossy().contains(kind))
        }) {
            // Tracers with several hooks attach one after the other.
            std::thread::sleep(Duration::from_millis(500));
            return Ok(());
        }
        if running.0.try_wait()?.is_some() || Instant::now() > deadline {
            bail!("{} does not attach; see target/bench.err", subject.name);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kernel_ns(name: &str) -> Option<f64> {
    let program =
        loaded_programs().flatten().find(|program| program.name_as_str() == Some(name))?;
    let (time, runs) = (program.run_time(), program.run_count());
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    (runs > 0).then(|| time.as_nanos() as f64 / runs as f64)
}

/// The number before " lost" in what socklife says at its end.
fn lost(file: &Path, log: &Path) -> Option<u64> {
    let tail = |path: &Path| -> Option<String> {
        let text = fs::read(path).ok()?;
        let start = text.len().saturating_sub(4096);
        Some(String::from_utf8_lossy(&text[start..]).into_owned())
    };
    let text = tail(log)? + &tail(file)?;
    let line = text.lines().rfind(|line| line.contains(" lost ("))?;
    line.split(" lost (").next()?.rsplit(' ').next()?.replace(',', "").parse().ok()
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn seconds(measures: &[Measure]) -> Vec<f64> {
    measures.iter().map(|measure| measure.seconds).collect()
}

fn report(
    connections: u64,
    rounds: usize,
    plain: &[f64],
    subjects: &[&Subject],
    measures: &[Vec<Measure>],
) -> Result<String> {
    let base = median(plain.to_vec());
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = connections as f64 / base;
    let spread = |values: &[f64]| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        format!("{low:.2}-{high:.2}")
    };
    let mut text = format!(
        "# Benchmarks\n\n\
         Made by `cargo xtask bench`. One client thread connects and closes with a reset, to 64 loopback\n\
         addresses, and one acceptor that never sleeps does the same: {connections} connections a measurement,\n\
         {events} state changes. {rounds} rounds; in each, every row once, right after the same churn without a tracer:\n\
         the slowdown is the median of these pairs' ratios.\n\n\
         {machine}\
         - untraced: {rate:.0} connections/s, {base:.2} s ({spread})\n\n\
         | under | slowdown | budget | seconds (range) | events lost | kernel ns per run of the program |\n\
         |---|---|---|---|---|---|\n",
        events = connections * 6,
        machine = machine()?,
        spread = spread(plain),
    );
    for (subject, measures) in subjects.iter().zip(measures) {
        let times = seconds(measures);
        let time = median(times.clone());
        let kernel = median(measures.iter().filter_map(|measure| measure.kernel_ns).collect());
        let lost: Option<u64> = measures.iter().map(|measure| measure.lost).sum();
        let budget = if subject.budget.is_empty() { "" } else { subject.budget };
        text += &format!(
            "| `{}` | {:.2}x | {budget} | {time:.2} ({}) | {} | {} |\n",
            subject.name,
            median(measures.iter().map(|measure| measure.ratio).collect()),
            spread(&times),
            lost.map_or_else(|| "not said".to_owned(), |lost| lost.to_string()),
            if kernel.is_nan() { "-".to_owned() } else { format!("{kernel:.0}") },
        );
    }
    text += "\nKernel time is the kernel's own account (`BPF_ENABLE_STATS`), which itself adds some ns to each run.\n\
             A program runs once for each state change; under `count` most runs end at their first test.\n";
    Ok(text)
}

/// When and on what something was measured: items of a list.
pub(crate) fn machine() -> Result<String> {
    Ok(format!(
        "- date: {}\n- kernel: {}\n- processor: {}, {} cores\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        capture(Command::new("uname").arg("-r"))?,
        processor(),
        std::thread::available_parallelism()?,
    ))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    name.unwrap_or("unknown").trim().to_owned()
}
