//! What `socklife-demo` stages, held against `count` and `check`, and what it leaves behind: nothing.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socklife_tests::{
    check::Check,
    net::beside,
    process::{Process, run},
    socklife::{Socklife, last_line, lines},
    wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx];
    vec![
        Test::new("demo::failures_are_those_counted", &needs, failures_are_those_counted),
        Test::new("demo::ceilings_are_those_checked", &needs[1..], ceilings_are_those_checked),
        Test::new("demo::nothing_is_left_behind", &needs[1..], nothing_is_left_behind),
    ]
}

/// A demonstration that is told what to do, incident by incident.
pub(crate) struct Demo {
    process: Process,
    /// Its lines that were taken.
    taken: usize,
    /// The files of its network namespaces: Nginx's and the other.
    pub(crate) paths: [String; 2],
}

impl Demo {
    /// Makes the namespaces.
    pub(crate) fn start(incidents: &str) -> Result<Self> {
        let mut command = Command::new(beside("socklife-demo"));
        command.args(["stage", "--ordered", "--only", incidents]);
        let process = Process::start_ordered(&mut command)?;
        let mut demo = Self { process, taken: 0, paths: Default::default() };
        let ready = demo.next("ready")?;
        demo.paths = serde_json::from_value(ready["paths"].clone()).context("paths")?;
        Ok(demo)
    }

    /// Waits for its next line, which must have this.
    pub(crate) fn next(&mut self, key: &str) -> Result<Value> {
        let wanted = self.taken;
        let line = wait_for(&format!("{key} of the demo"), || {
            let said = self.process.stdout_so_far();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            let line = whole.lines().nth(wanted).map(str::to_owned);
            if line.is_none() && self.process.ended()? {
                bail!("the demo ended: {}", self.process.stderr_so_far());
            }
            Ok(line)
        })?;
        self.taken += 1;
        let facts: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(facts.get(key).is_some(), "no {key}: {facts}");
        Ok(facts)
    }

    /// Begins the next incident: facts, or why it can't be staged here.
    pub(crate) fn begin(&mut self) -> Result<Value> {
        self.process.order("")?;
        self.next("incident")
    }

    /// Ends the incident: the truth about it.
    pub(crate) fn end_incident(&mut self) -> Result<Value> {
        self.process.order("")?;
        self.next("ended")
    }

    /// Ends it all.
    pub(crate) fn end(mut self) -> Result<()> {
        self.process.close_input();
        let end = self.process.end()?;
        ensure!(end.code == Some(0), "the demo ended with {:?}: {}", end.code, end.stderr);
        Ok(())
    }
}

/// Also where a test fails: asked to end when dropped, since what it has made outlives one that is killed.
impl Drop for Demo {
    fn drop(&mut self) {
        self.process.close_input();
        // It is killed next.
        let _ = wait_for("the end of the demo", || Ok(self.process.ended()?.then_some(())));
    }
}

/// The process ids of Nginx's workers.
pub(crate) fn workers(facts: &Value) -> Vec<u64> {
    facts["pids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// Failures in Nginx's error log, by errno.
fn errors(truth: &Value, errno: &str) -> BTreeMap<u64, u64> {
    let by_worker = truth["errors"][errno].as_object().into_iter().flatten();
    by_worker.filter_map(|(pid, count)| Some((pid.parse().ok()?, count.as_u64()?))).collect()
}

/// Ports and files: as many failures as Nginx has logged.
fn failures_are_those_counted() -> Result<()> {
    let mut demo = Demo::start("ports,files")?;
    let netns = demo.paths[0].clone();
    for (errno, error) in [("99", "EADDRNOTAVAIL"), ("24", "EMFILE")] {
        let arguments = ["count", "--format=json", "--netns", &netns, "--error", error];
        let count = Socklife::start(&arguments)?;
        let facts = demo.begin()?;
        demo.next("failing")?;
        // Some more of them.
        let begun = Instant::now();
        wait_for("a second", || Ok((begun.elapsed() > Duration::from_secs(1)).then_some(())))?;
        let truth = demo.end_incident()?;
        let counted = last_line(&count.interrupt()?.stdout)?;
        println!("{truth}\n{counted}");
        let logged = errors(&truth, errno);
        ensure!(logged.keys().copied().eq(workers(&facts)), "both workers fail: {truth}");
        let failed: u64 = logged.values().sum();
        ensure!(failed > 20, "few failures: {truth}");
        ensure!(counted["total"] == failed && counted["lost"] == 0, "{failed} failures: {counted}");
        if errno == "99" {
            ensure!(truth["statuses"]["502"] == failed, "{truth}");
            let row = &counted["by"][0];
            let to = format!("{}:{}", row["dst"].as_str().unwrap_or_default(), row["dport"]);
            ensure!(facts["upstream"] == to, "upstream: {row}");
            ensure!(row["ports_used"] == 64 && row["ports_usable"] == 64, "ports: {row}");
        }
    }
    demo.end()
}

/// TIME-WAIT, conntrack and Nginx's own limit.
fn ceilings_are_those_checked() -> Result<()> {
    let mut demo = Demo::start("time-wait,conntrack,worker-connections")?;
    let netns = demo.paths[0].clone();
    demo.begin()?;
    let found = wait_for("a forecast", || {
        let check = Check::once(&["--netns", &netns])?;
        let found = check.upstream("10.77.0.2", 9002).cloned().unwrap_or_default();
        Ok(found["forecast"]["seconds"].is_number().then_some(found))
    })?;
    println!("{found}");
    let (headroom, seconds) = (&found["headroom"], &found["forecast"]["seconds"]);
    let rate = headroom.as_f64().context("headroom")? / seconds.as_f64().context("seconds")?;
    ensure!((300.0..500.0).contains(&rate), "400 a second are wanted, not {rate}");
    let truth = demo.end_incident()?;
    ensure!(truth["errors"] == serde_json::json!({}), "nothing fails yet: {truth}");

    let facts = demo.begin()?;
    if facts.get("skipped").is_some() {
        println!("{facts}");
    } else {
        demo.next("failing")?;
        let check = Check::once(&["--netns", &netns])?;
        let full = [("status", "CRITICAL".into()), ("headroom", 0.into())];
        println!("{}", check.one("conntrack", "netns", &full)?);
        let truth = demo.end_incident()?;
        ensure!(truth["dropped"].as_u64() > Some(10), "dropped: {truth}");
        let check = Check::once(&["--netns", &netns])?;
        let tables = check.all("conntrack", "netns");
        ensure!(tables.iter().all(|table| table["used"] == 0), "not empty again: {tables:?}");
    }

    demo.begin()?;
    demo.next("failing")?;
    let truth = demo.end_incident()?;
    ensure!(truth["not_enough"].as_u64() > Some(0), "connections: {truth}");
    demo.end()
}

/// However it ends.
fn nothing_is_left_behind() -> Result<()> {
    let ways = [None, Some(Signal::SIGINT), Some(Signal::SIGTERM), Some(Signal::SIGHUP)];
    for way in ways {
        let mut demo = Demo::start("ports")?;
        let paths = demo.paths.clone();
        let names: Vec<&str> = paths.iter().filter_map(|path| path.rsplit('/').next()).collect();
        let mut pids = workers(&demo.begin()?);
        demo.next("failing")?;
        for name in &names {
            let inside = run(Command::new("ip").args(["netns", "pids", name]))?;
            pids.extend(inside.split_whitespace().filter_map(|pid| pid.parse::<u64>().ok()));
        }
        ensure!(pids.len() >= 5, "Nginx, its workers, upstream and clients: {pids:?}");
        match way {
            None => demo.process.close_input(),
            Some(signal) => demo.process.signal(signal)?,
        }
        let end = demo.process.end()?;
        ensure!(end.code == Some(0), "{way:?}: {:?} {}", end.code, end.stderr);
        let said = lines(&end.stdout)?;
        let last = said.last().context("no lines")?;
        ensure!(last["errors"]["99"].is_object(), "{way:?}: the truth is said: {last}");
        for pid in pids {
            let there = std::path::Path::new("/proc").join(pid.to_string()).exists();
            ensure!(!there, "{way:?}: process {pid} is left behind");
        }
        let namespaces = run(Command::new("ip").args(["netns", "list"]))?;
        for name in names {
            ensure!(!namespaces.contains(name), "{way:?}: {name} is left behind");
        }
    }
    Ok(())
}
