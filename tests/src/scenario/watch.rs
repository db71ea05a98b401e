//! `socklife trace` and `socklife count` at once, and what they have seen.

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use socklife_tests::{
    process::Finished,
    socklife::{Socklife, last_line, lines, lost, socklife},
};

use crate::case::Made;

/// Both, on one rung and one network namespace.
pub(crate) struct Watch {
    trace: Socklife,
    count: Socklife,
}

/// What they printed.
pub(crate) struct Watched {
    /// Of `trace`.
    pub(crate) events: Vec<Value>,
    /// Of `count`.
    pub(crate) totals: Value,
}

impl Watch {
    /// Starts both; gives how the first of them ended when it doesn't attach.
    pub(crate) fn start(rung: &str, netns: u64) -> Result<Result<Self, Finished>> {
        let filter = format!("--netns={netns}");
        let common = [&format!("--hooks={rung}"), "--format=json", &filter];
        let arguments = |own: &[&'static str]| [own, &common[..]].concat();
        let mut trace = Socklife::spawn(&arguments(&["trace"]))?;
        let mut count = Socklife::spawn(&arguments(&["count", "--error=all"]))?;
        for program in [&mut trace, &mut count] {
            if let Some(end) = program.attach()? {
                return Ok(Err(end));
            }
        }
        Ok(Ok(Self { trace, count }))
    }

    /// Ends both.
    pub(crate) fn end(self) -> Result<Watched> {
        let mut printed = Vec::new();
        for (name, program) in [("trace", self.trace), ("count", self.count)] {
            let end = program.interrupt()?;
            ensure!(end.code == Some(0), "{name} ended with {:?}: {}", end.code, end.stderr);
            printed.push(end.stdout);
        }
        Ok(Watched { events: lines(&printed[0])?, totals: last_line(&printed[1])? })
    }
}

impl Watched {
    /// Nothing lost, and both programs say the same.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(lost(&self.events) == 0, "trace lost {} events", lost(&self.events));
        let totals = &self.totals;
        ensure!(totals["lost"] == 0, "count lost {} events", totals["lost"]);
        let failures = self.events.iter().filter(|event| is_failure(event)).count();
        if totals["total"] == failures as u64 {
            return Ok(());
        }
        let told = format!("count says {} failures, trace {failures}", totals["total"]);
        Err(Fewer(told).into())
    }

    /// Calls that one of both says no program looked at.
    pub(crate) fn skipped_calls(&self) -> u64 {
        skipped_calls(&self.events) + self.totals["skipped_calls"].as_u64().unwrap_or(0)
    }

    /// What was seen from one moment to another.
    pub(crate) fn between(
        &self,
        (from, to): (Timestamp, Timestamp),
        features: &Features,
        netns: u64,
    ) -> Result<Seen> {
        let events = within(&self.events, from, to)?;
        let rows = self.totals["by"].as_array().cloned().unwrap_or_default();
        let time_wait_inferred = features.is_inferred("timewait");
        let accept_owner = features.refusal("accept_owner").is_none();
        Ok(Seen { events, rows, netns, time_wait_inferred, accept_owner })
    }
}

/// Events from one moment to another, without those about loss.
pub(crate) fn within(events: &[Value], from: Timestamp, to: Timestamp) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for event in events {
        let at: Timestamp = event["ts"].as_str().context("an event without time")?.parse()?;
        if event["event"] != "lost" && from <= at && at < to {
            found.push(event.clone());
        }
    }
    Ok(found)
}

/// Fewer were seen than were made. No failure where the kernel may have skipped the program, see
/// [`Features::may_be_skipped`].
#[derive(Debug)]
pub(crate) struct Fewer(String);

impl std::fmt::Display for Fewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fewer {}

/// As many as were made.
pub(crate) fn exactly(found: &[&Value], made: u32, what: &str) -> Result<()> {
    if found.len() == made as usize {
        return Ok(());
    }
    let told = format!("{} {what} instead of {made}{}", found.len(), sample(found));
    if found.len() < made as usize { Err(fewer(told)) } else { bail!(told) }
}

/// See [`Fewer`].
pub(crate) fn fewer(told: String) -> anyhow::Error {
    Fewer(told).into()
}

/// Calls that `socklife` says no program looked at.
pub(crate) fn skipped_calls(events: &[Value]) -> u64 {
    events.iter().filter_map(|event| event["skipped_calls"].as_u64()).sum()
}

fn is_failure(event: &Value) -> bool {
    event["reason"].is_string() || event["error"].is_string()
}

/// The first of some events, for a message.
pub(crate) fn sample(events: &[&Value]) -> String {
    events.iter().take(5).fold(String::new(), |text, event| text + &format!("\n      {event}"))
}

/// What belongs to one case.
pub(crate) struct Seen {
    /// Events, of the server too.
    pub(crate) events: Vec<Value>,
    rows: Vec<Value>,
    /// The namespace that it was made in.
    pub(crate) netns: u64,
    /// Whether this rung concludes TIME-WAIT entries from state changes.
    pub(crate) time_wait_inferred: bool,
    accept_owner: bool,
}

impl Seen {
    /// Events of a kind.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }

    /// Failures of any kind.
    pub(crate) fn failures(&self) -> Vec<&Value> {
        self.events.iter().filter(|event| is_failure(event)).collect()
    }

    /// Who owns a socket that this process accepted, as far as this rung can tell.
    pub(crate) fn accept_owner(&self, server: u64) -> Option<u64> {
        self.accept_owner.then_some(server)
    }

    /// Nothing is called a failure.
    pub(crate) fn none_failed(&self) -> Result<()> {
        let failures = self.failures();
        ensure!(failures.is_empty(), "{} false failures{}", failures.len(), sample(&failures));
        Ok(())
    }

    /// Rows of `count` for what a process connected.
    pub(crate) fn counted(&self, made: &Made) -> Vec<&Value> {
        let mut rows = self.counted_of(made.pid);
        rows.retain(|row| is_to(row, made));
        rows
    }

    /// Rows of `count` for the calls of a process.
    pub(crate) fn counted_of(&self, pid: u64) -> Vec<&Value> {
        let of_it =
            |row: &&Value| row["pids"].as_array().is_some_and(|pids| pids.contains(&pid.into()));
        self.rows.iter().filter(of_it).collect()
    }

    /// Rows of `count` for what anybody connected to the same end.
    pub(crate) fn counted_to(&self, made: &Made) -> Vec<&Value> {
        self.rows.iter().filter(|row| is_to(row, made)).collect()
    }

    /// An event of a socket that a process connected: owner, addresses, family, namespace, age.
    pub(crate) fn check_socket(&self, event: &Value, made: &Made) -> Result<()> {
        ensure!(
            event["comm"] == "socklife-load" && event["pid"] == made.pid,
            "another owner than {}: {event}",
            made.pid
        );
        ensure!(
            event["dst"] == made.to.ip().to_string() && event["dport"] == made.to.port(),
            "another peer: {event}"
        );
        ensure!(event["family"] == made.family.version(), "another family: {event}");
        ensure!(event["netns"] == self.netns, "another namespace: {event}");
        let (begins, fails) = (event["new"] == "SYN-SENT", is_failure(event));
        ensure!(begins || event["age_us"].is_u64(), "no age: {event}");
        // Without a port the kernel had chosen no source address either.
        let source = event["src"] == made.to.ip().to_string();
        ensure!(source || begins || fails, "another source: {event}");
        Ok(())
    }
}

fn is_to(row: &Value, made: &Made) -> bool {
    row["dport"] == made.to.port() && row["dst"] == made.to.ip().to_string()
}

/// What `socklife features` says about a rung.
pub(crate) struct Features(Value);

impl Features {
    /// Asks.
    pub(crate) fn ask(rung: &str) -> Result<Self> {
        let end = socklife(&["features", "--format=json", "--hooks", rung])?;
        match serde_json::from_str(&end.stdout) {
            Ok(features) => Ok(Self(features)),
            Err(_) => bail!("socklife features failed: {}", end.stderr),
        }
    }

    /// One event after the other: name, and what is said of it.
    pub(crate) fn events(&self) -> &[Value] {
        self.0["events"].as_array().map_or(&[][..], Vec::as_slice)
    }

    fn of(&self, event: &str) -> Option<&Value> {
        self.events().iter().find(|feature| feature["event"] == event)
    }

    /// Whether the kernel may have skipped a program: a plain tracepoint's, while another eBPF program or
    /// a `bpf()` call had its CPU, which it counts since 6.7, so that `socklife` says so; a kprobe's also
    /// while another kprobe had it, which no program can ask for.
    pub(crate) fn may_be_skipped(&self, skipped_calls: u64) -> Result<bool> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let any_of = |kinds: &[&str]| {
            self.events().iter().any(|feature| {
                let rung = feature["rung"].as_str().unwrap_or_default();
                kinds.iter().any(|kind| rung.starts_with(kind))
            })
        };
        let counted = version >= (6, 7) && skipped_calls == 0;
        Ok(any_of(&["kprobe/", "kretprobe/"]) || any_of(&["tracepoint/"]) && !counted)
    }

    /// Whether an event is concluded from others.
    pub(crate) fn is_inferred(&self, event: &str) -> bool {
        self.of(event).is_some_and(|feature| feature["inferred"] == true)
    }

    /// Why an event has no hook; `None`: it has one.
    pub(crate) fn refusal(&self, event: &str) -> Option<String> {
        let Some(feature) = self.of(event) else {
            return Some(format!("socklife features knows no event {event}"));
        };
        feature["rung"].is_null().then(|| why(feature))
    }

    /// The same of calls that `io_uring` makes.
    pub(crate) fn refusal_of_uring(&self, event: &str) -> Option<String> {
        self.refusal(event).or_else(|| self.of(event).and_then(misses_uring))
    }

    /// Programs that the kernel's verifier refuses: ours are wrong, except that before 5.12 it does not
    /// know an instruction of the first ones for state changes.
    pub(crate) fn refused_programs(&self) -> Vec<String> {
        let events = self.0["events"].as_array().map_or(&[][..], Vec::as_slice);
        let refused = events.iter().filter_map(|event| event["refused"].as_array()).flatten();
        let known = "tp_btf/inet_sock_set_state";
        refused
            .filter(|refusal| refusal["rung"] != known)
            .filter(|refusal| refusal["why"].as_str().is_some_and(|why| why.contains("verifier")))
            .map(ToString::to_string)
            .collect()
    }
}

/// What the hook in use says that it misses of `io_uring`.
pub(crate) fn misses_uring(feature: &Value) -> Option<String> {
    let notes = feature["notes"].as_array().map_or(&[][..], Vec::as_slice);
    let notes = notes.iter().filter_map(Value::as_str);
    notes.filter(|note| note.contains("io_uring")).map(str::to_owned).next()
}

/// Why better rungs than the one in use are not, or any.
pub(crate) fn why(feature: &Value) -> String {
    let refused = feature["refused"].as_array().map_or(&[][..], Vec::as_slice);
    let mut reasons: Vec<&str> = Vec::new();
    for reason in refused.iter().filter_map(|refusal| refusal["why"].as_str()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    // What was not asked for is no news beside what is not there.
    let news = |reason: &&str| !reason.starts_with("left out by");
    if reasons.iter().any(news) {
        reasons.retain(news);
    }
    reasons.join("; ").split_whitespace().collect::<Vec<_>>().join(" ")
}
