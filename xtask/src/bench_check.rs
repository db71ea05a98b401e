//! How long `socklife check` takes on a host with many sockets.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    bench::{machine, median},
    shell::{cargo, root, run},
};

/// The heading of what this writes into docs/benchmarks.md.
pub(crate) const HEADING: &str = "## `socklife check` on a busy host";

const ESTABLISHED: u64 = 10_000;
const TIME_WAIT: u64 = 60_000;
const PROCESSES: u64 = 4;
/// Seconds that a run may take.
const BUDGET: f64 = 0.3;
/// How long after the first entry in TIME-WAIT all of them are certainly there.
const FRESH: Duration = Duration::from_secs(50);

/// A network namespace full of sockets, which goes when this is dropped.
struct Crowd {
    child: Child,
    netns: u64,
    begun: Instant,
}

impl Crowd {
    fn start() -> Result<Self> {
        let begun = Instant::now();
        let settings = "ip link set lo up; sysctl -q -w net.ipv4.ip_local_port_range='1024 65000' \
                        net.ipv4.tcp_tw_reuse=0 net.ipv4.tcp_max_tw_buckets=262144";
        let child = Command::new("unshare")
            .args(["--net", "sh", "-e", "-c", &format!("{settings}; exec \"$0\" \"$@\"")])
            .arg(root().join("target/release/socklife-load"))
            .args(["crowd", "--established", &ESTABLISHED.to_string()])
            .args(["--time-wait", &TIME_WAIT.to_string(), "--processes", &PROCESSES.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't run unshare")?;
        let mut crowd = Self { child, netns: 0, begun };
        let mut line = String::new();
        let stdout = crowd.child.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the sockets can't be made");
        crowd.netns = std::fs::metadata(format!("/proc/{}/ns/net", crowd.child.id()))?.ino();
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of one run, and what it found.
fn check(arguments: &[&str]) -> Result<(f64, Value)> {
    let mut command = Command::new(root().join("target/release/socklife"));
    command.args(["check", "--format=json"]).args(arguments);
    let started = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().context("can't run socklife")?;
    let seconds = started.elapsed().as_secs_f64();
    let found = serde_json::from_slice(&output.stdout).context("what socklife check prints")?;
    Ok((seconds, found))
}

/// Sockets in TIME-WAIT that it found in a namespace.
fn time_wait(found: &Value, netns: u64) -> Option<u64> {
    let all = found["ceilings"].as_array()?;
    let there = |found: &&Value| found["ceiling"] == "time-wait" && found["netns"] == netns;
    all.iter().find(there)?["used"].as_u64()
}

/// Seconds of CPU that ended children took, ours and theirs (`cutime`, `cstime`: ticks of 10 ms).
fn children_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, words) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    let ticks = |index: usize| -> Result<f64> {
        Ok(words.split(' ').nth(index).context("/proc/self/stat")?.parse()?)
    };
    Ok((ticks(13)? + ticks(14)?) / 100.0)
}

/// What one kind of run took.
#[derive(Default)]
struct Times {
    wall: Vec<f64>,
    cpu: f64,
}

impl Times {
    /// Runs it once more; gives what it found.
    fn run(&mut self, arguments: &[&str]) -> Result<Value> {
        let before = children_cpu()?;
        let (seconds, found) = check(arguments)?;
        self.cpu += children_cpu()? - before;
        self.wall.push(seconds);
        Ok(found)
    }
}

/// Measures, and writes the section.
pub(crate) fn measure(runs: usize) -> Result<String> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife"]))?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife-tests", "--bins"]))?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let mut idle = Times::default();
    for _ in 0..runs {
        idle.run(&[])?;
    }
    let crowd = Crowd::start()?;
    let inside = crowd.netns.to_string();
    let kinds: [(&str, &[&str]); 2] = [
        ("the whole host", &[]),
        ("that network namespace alone (`--netns`)", &["--netns", &inside]),
    ];
    let mut times = [Times::default(), Times::default()];
    for _ in 0..runs {
        for ((_, arguments), times) in kinds.iter().zip(&mut times) {
            let found = times.run(arguments)?;
            if crowd.begun.elapsed() > FRESH {
                bail!("{runs} runs take longer than entries in TIME-WAIT live");
            }
            let counted = time_wait(&found, crowd.netns);
            ensure!(counted == Some(TIME_WAIT), "{counted:?} in TIME-WAIT, not {TIME_WAIT}");
        }
    }
    drop(crowd);
    let mut text = format!(
        "{HEADING}\n\n\
         Made by `cargo xtask bench --only check`: {TIME_WAIT} sockets in TIME-WAIT and {ESTABLISHED} that are\n\
         established, of {PROCESSES} processes, in a network namespace of their own; {runs} runs of the program from start\n\
         to end, as root, without --interval. Each run counted the entries in TIME-WAIT exactly. Budget: {BUDGET} s.\n\n\
         {}- load before: {load} (other work on this machine makes wall time longer, CPU time hardly)\n\n\
         | of | median | longest | within the budget | CPU time, mean |\n|---|---|---|---|---|\n",
        machine()?
    );
    let rows = kinds.iter().map(|(name, _)| *name).zip(times);
    for (name, times) in std::iter::once(("the host without them", idle)).chain(rows) {
        let longest = times.wall.iter().copied().fold(0.0, f64::max);
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let cpu = times.cpu / times.wall.len() as f64;
        text += &format!(
            "| {name} | {:.3} s | {longest:.3} s | {} | {cpu:.3} s |\n",
            median(times.wall),
            if longest <= BUDGET { "yes" } else { "no" },
        );
    }
    Ok(text)
}
