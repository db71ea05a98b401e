//! Exports of real recordings: the same as what `trace` printed meanwhile, and what other tools then find in them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    net::Link,
    process::{Process, run},
    python::interpreter,
    socklife::{Socklife, last_line, lines, socklife},
    wait_for,
};
use tempfile::TempDir;

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("export::same_as_trace", &needs, same_as_trace),
        Test::new("export::queries", &[Need::Bpf, Need::Namespaces, Need::Python], queries),
        Test::new("export::closed_pipe", &needs, closed_pipe),
    ]
}

/// Ports of the far host: it closes after its peer, it closes first, it resets, nobody listens.
const FOLLOWS: u16 = 9001;
const CLOSES: u16 = 9002;
const RESETS: u16 = 9003;
const REFUSES: u16 = 9004;

/// How many connections the near host makes to each.
#[derive(Clone, Copy)]
struct Made {
    closed_here: u64,
    closed_by_peer: u64,
    reset: u64,
    refused: u64,
}

/// Two hosts, the far one listening.
struct Hosts {
    link: Link,
    _servers: [Process; 3],
}

impl Hosts {
    fn new() -> Result<Self> {
        let link = Link::new()?;
        link.keep_time_wait()?;
        let serve = |mode, port: u16| link.far.serve(mode, &[format!("10.77.0.2:{port}").parse()?]);
        let servers = [serve("follow", FOLLOWS)?, serve("close", CLOSES)?, serve("reset", RESETS)?];
        Ok(Self { link, _servers: servers })
    }

    /// Makes them, and waits until all have ended.
    fn make(&self, made: Made) -> Result<()> {
        let near = &self.link.near;
        let fail = |how: &str, port: u16, count: u64, seen: &str| {
            let (to, number) = (format!("--to=10.77.0.2:{port}"), format!("--count={count}"));
            let said = near.fail(&[how, &to, &number])?;
            ensure!(said["outcomes"][seen] == count, "the caller of {how} saw {said}");
            Ok(())
        };
        fail("close-first", FOLLOWS, made.closed_here, "ok")?;
        fail("close-last", CLOSES, made.closed_by_peer, "ok")?;
        fail("reset", RESETS, made.reset, "ECONNRESET")?;
        fail("plain", REFUSES, made.refused, "ECONNREFUSED")?;
        wait_for("the end of all connections", || {
            let open = near.ss(&["-tan", "exclude", "time-wait"])?;
            Ok(open.is_empty().then_some(()))
        })
    }
}

/// A recording of what `during` does.
fn record(hosts: &Hosts, to: &Path, during: impl FnOnce() -> Result<()>) -> Result<Value> {
    let (path, to) = (hosts.link.near.path(), to.to_str().context("a path")?);
    let record = Socklife::start(&["record", "-o", to, "--format=json", "--netns", &path])?;
    during()?;
    let end = record.interrupt()?;
    ensure!(end.code == Some(0), "record: {}", end.stderr);
    last_line(&end.stdout)
}

/// What an event says, without its time and what only one of two tracers may know.
fn essence(event: &Value) -> String {
    let keys = [
        "event", "old", "new", "substate", "error", "reason", "src", "sport", "dst", "dport",
        "family", "pid", "comm", "owner", "netns", "cgroup", "cookie",
    ];
    let values = keys.map(|key| format!("{key}={}", event[key]));
    values.join(" ")
}

fn essences(text: &str) -> Result<Vec<String>> {
    let mut essences: Vec<String> = lines(text)?.iter().map(essence).collect();
    essences.sort_unstable();
    Ok(essences)
}

fn same_as_trace() -> Result<()> {
    let hosts = Hosts::new()?;
    let folder = TempDir::new()?;
    let capture = folder.path().join("a.socklife");
    let path = hosts.link.near.path();
    let made = Made { closed_here: 300, closed_by_peer: 200, reset: 100, refused: 400 };
    let mut traced = None;
    let totals = record(&hosts, &capture, || {
        let trace = Socklife::start(&["trace", "--format=json", "--netns", &path])?;
        hosts.make(made)?;
        traced = Some(trace.interrupt()?);
        Ok(())
    })?;
    let traced = essences(&traced.context("no trace")?.stdout)?;
    let capture = capture.to_str().context("a path")?;
    let exported = socklife(&["export", capture, "--to=jsonl"])?;
    ensure!(exported.code == Some(0), "export: {}", exported.stderr);
    let told = essences(&exported.stdout)?;
    let events = told.len() as u64;
    ensure!(totals["lost"] == 0 && totals["produced"] == events, "{events} exported, of {totals}");
    ensure!(totals["total"] == made.reset + made.refused, "failures: {totals}");
    let other = told.iter().zip(&traced).find(|(exported, traced)| exported != traced);
    ensure!(told.len() == traced.len() && other.is_none(), "export and trace differ: {other:#?}");
    let failures = socklife(&["export", capture, "--to=csv", "--failures"])?.stdout;
    let count = failures.lines().count() as u64 - 1;
    ensure!(count == made.reset + made.refused, "{count} failures in CSV");
    Ok(())
}

/// `head` takes ten lines of many: no error.
fn closed_pipe() -> Result<()> {
    let hosts = Hosts::new()?;
    let folder = TempDir::new()?;
    let capture = folder.path().join("a.socklife");
    let made = Made { closed_here: 1, closed_by_peer: 1, reset: 1, refused: 5000 };
    record(&hosts, &capture, || hosts.make(made))?;
    for to in ["jsonl", "csv", "parquet"] {
        let script =
            "{ \"$0\" export \"$1\" --to \"$2\"; echo $? > \"$3\"; } | head -c 100 > /dev/null";
        let code = folder.path().join("code");
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(socklife_tests::socklife_binary());
        run(shell.arg(&capture).arg(to).arg(&code))?;
        let code = std::fs::read_to_string(code)?;
        ensure!(code.trim() == "0", "{to}: exit code {code}");
    }
    Ok(())
}

/// What the queries of docs/export.md give for the files of a folder.
fn ask(folder: &Path) -> Result<Value> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(interpreter()?);
    command.arg(here.join("e2e/export.py")).arg(here.join("../docs/export.md"));
    let said = run(command.current_dir(folder))?;
    serde_json::from_str(&said).context("what the queries gave")
}

/// Sums of a column by other columns.
fn sums(rows: &Value, by: &[&str], of: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for row in rows.as_array().into_iter().flatten() {
        let key = by.iter().map(|key| row[key].to_string()).collect::<Vec<_>>().join(" ");
        *sums.entry(key).or_default() += row[of].as_u64().unwrap_or_default();
    }
    sums
}

fn one(key: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(key.to_owned(), count)])
}

/// The queries of the page, over two recordings whose contents are known.
fn queries() -> Result<()> {
    let hosts = Hosts::new()?;
    let folder = TempDir::new()?;
    let all = [
        Made { closed_here: 120, closed_by_peer: 80, reset: 30, refused: 250 },
        Made { closed_here: 7, closed_by_peer: 5, reset: 3, refused: 11 },
    ];
    let mut totals = Vec::new();
    for (number, made) in all.into_iter().enumerate() {
        let file = |kind: &str| folder.path().join(format!("web{}.{kind}", number + 1));
        let (capture, parquet): (PathBuf, PathBuf) = (file("socklife"), file("parquet"));
        totals.push(record(&hosts, &capture, || hosts.make(made))?);
        let paths = [&capture, &parquet].map(|path| path.to_string_lossy().into_owned());
        let exported = socklife(&["export", &paths[0], "--to=parquet", "-o", &paths[1]])?;
        ensure!(exported.code == Some(0), "export: {}", exported.stderr);
    }
    let (made, counted) = (all[0], &totals[0]);
    ensure!(counted["lost"] == 0, "events were lost: {counted}");
    let found = ask(folder.path())?;
    let same = |what: &str, found: BTreeMap<String, u64>, expected: BTreeMap<String, u64>| {
        ensure!(found == expected, "{what}: {found:?} instead of {expected:?}");
        Ok(())
    };
    ensure!(found["missing"] == serde_json::json!([]), "missing: {}", found["missing"]);
    same(
        "failures",
        sums(&found["failures"], &["reason", "error", "comm", "upstream", "port"], "failures"),
        sums(&counted["by"], &["reason", "error", "comm", "dst", "dport"], "count"),
    )?;
    same(
        "failures per second",
        sums(&found["failures_per_second"], &["reason"], "failures"),
        sums(&counted["by"], &["reason"], "count"),
    )?;
    same(
        "TIME-WAIT",
        sums(&found["time_wait"], &["dst", "dport"], "entered"),
        one("\"10.77.0.2\" 9001", made.closed_here),
    )?;
    same("closes, here", sums(&found["closes"], &["dport"], "here"), {
        BTreeMap::from([("9001".to_owned(), made.closed_here), ("9002".to_owned(), 0)])
    })?;
    same("closes, peer", sums(&found["closes"], &["dport"], "peer"), {
        BTreeMap::from([("9001".to_owned(), 0), ("9002".to_owned(), made.closed_by_peer)])
    })?;
    same("connects", sums(&found["latency"], &["dport"], "connects"), {
        let connects =
            [("9001", made.closed_here), ("9002", made.closed_by_peer), ("9003", made.reset)];
        connects.map(|(port, count)| (port.to_owned(), count)).into()
    })?;
    for row in found["latency"].as_array().into_iter().flatten() {
        let of = |key: &str| row[key].as_u64().unwrap_or_default();
        let rises =
            0 < of("p50_us") && of("p50_us") <= of("p99_us") && of("p99_us") <= of("max_us");
        ensure!(rises, "latency: {row}");
    }
    let expected = all.iter().enumerate().flat_map(|(number, made)| {
        let key = |reason: &str| format!("\"web{}.parquet\" \"{reason}\"", number + 1);
        [(key("refused"), made.refused), (key("reset"), made.reset)]
    });
    same("across hosts", sums(&found["hosts"], &["filename", "reason"], "failures"), {
        expected.collect()
    })?;
    let said = found["python0"].as_array().context("no output of Python")?;
    let failed = (made.refused + made.reset).to_string();
    ensure!(said.last().is_some_and(|line| *line == failed), "pyarrow: {said:?}");
    let refused = format!("refused {}", made.refused);
    let words = |line: &Value| {
        let line = line.as_str().unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    ensure!(said.iter().any(|line| words(line) == refused), "pandas: {said:?}");
    Ok(())
}
