//! Entries in TIME-WAIT by the ten thousand, held against the kernel's own count of them. In a network
//! namespace of their own: its table goes with it.

use std::{collections::BTreeMap, fs, net::SocketAddr, process::Command, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use socklife_tests::{
    net::load_binary,
    process::run,
    socklife::{Socklife, lines, lost},
};

use crate::{
    case::{Family, Ground},
    machine::{self, Elsewhere},
    round::{CaseResult, Outcome},
    watch::{Features, sample, skipped_calls, within},
};

/// More closes than there is room for in the table.
const FULL: &str = "time_wait_table_full";
/// Closes by the ten thousand.
const COUNTED: &str = "time_wait_counted";
/// All tests in here.
pub(crate) const TESTS: [&str; 2] = [FULL, COUNTED];

/// Room in the table, and closes, of [`FULL`].
const ROOM: u64 = 100;
const CLOSES: u32 = 300;

/// What the kernel counts.
struct Counters {
    /// Entries that were made: those that are gone, and those that are there.
    made: u64,
    /// Entries for which there was no room.
    overflow: u64,
    /// All of `/proc/net/netstat`, for a message.
    all: BTreeMap<String, u64>,
}

impl Counters {
    /// Reads them when nothing changes. `TW` and `TWKilled` count entries that are gone; `made_at_once`:
    /// those that were made.
    fn read(made_at_once: bool) -> Result<Self> {
        for _ in 0..1000 {
            let before = netstat()?;
            let there = gauge()?;
            let after = netstat()?;
            if before == after && there == gauge()? {
                let of = |name: &str| after.get(name).copied().context(name.to_owned());
                let counted = of("TW")? + of("TWKilled")?;
                let made = if made_at_once { counted } else { counted + of("TWRecycled")? + there };
                return Ok(Self { made, overflow: of("TCPTimeWaitOverflow")?, all: after });
            }
        }
        bail!("the kernel's counters don't come to rest")
    }
}

/// Whether this kernel counts an entry when it is made. Asked in a namespace that is new, with entries
/// that won't be gone for a minute.
fn made_at_once(ground: &mut Ground) -> Result<bool> {
    // A close may leave no entry: when its peer is reset.
    for _ in 0..10 {
        close_first(ground, 1)?;
        ground.quiet()?;
        if gauge()? > 0 {
            return Ok(netstat()?.get("TW").is_some_and(|&count| count > 0));
        }
    }
    bail!("ten closes left no entry in TIME-WAIT")
}

fn netstat() -> Result<BTreeMap<String, u64>> {
    let path = "/proc/thread-self/net/netstat";
    let text = fs::read_to_string(path).context(path)?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (rows.next().context(path)?, rows.next().context(path)?);
    let pairs = names.split(' ').zip(values.split(' '));
    Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

fn gauge() -> Result<u64> {
    let path = "/proc/thread-self/net/sockstat";
    let text = fs::read_to_string(path).context(path)?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context(path)?;
    let mut words = line.split(' ').skip_while(|word| *word != "tw");
    words.nth(1).and_then(|value| value.parse().ok()).with_context(|| line.to_owned())
}

/// What was made while the tracer watched.
struct Made {
    test: &'static str,
    window: (Timestamp, Timestamp),
    /// What the callers closed, where each close made one entry or found no room.
    closes: Option<u64>,
    /// By the kernel's count.
    entries: u64,
    overflow: u64,
    counters: String,
    seconds: f64,
}

/// Runs those that are wanted, under one tracer.
pub(crate) fn run_all(
    rung: &str,
    features: &Features,
    ground: &mut Ground,
    wanted: &[&'static str],
) -> Vec<CaseResult> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let result = |test: &str, seconds, judged: Result<String>| {
        let (outcome, detail) = match judged {
            Ok(detail) => (Outcome::Pass, detail),
            Err(error) => (Outcome::Fail, format!("{error:#}")),
        };
        CaseResult { test: test.to_owned(), outcome, detail, seconds }
    };
    match watched(rung, ground, wanted) {
        Ok((events, made)) => {
            let judged = made
                .iter()
                .map(|made| result(made.test, made.seconds, judge(made, &events, features)));
            judged.collect()
        }
        Err(error) => {
            let failed = wanted.iter().map(|test| {
                result(test, 0.0, Err(anyhow::anyhow!("it could not be made: {error:#}")))
            });
            failed.collect()
        }
    }
}

fn watched(
    rung: &str,
    ground: &mut Ground,
    wanted: &[&'static str],
) -> Result<(Vec<Value>, Vec<Made>)> {
    let buckets = "/proc/sys/net/ipv4/tcp_max_tw_buckets";
    let outside = fs::read_to_string(buckets).context(buckets)?;
    let elsewhere = Elsewhere::new()?;
    machine::sysctl("ip_local_port_range", "1024 65000")?;
    let made_at_once = made_at_once(ground)?;
    let started = Instant::now();
    let mut trace = Socklife::spawn(&[
        "trace",
        "--format=json",
        "--state=TIME-WAIT",
        &format!("--hooks={rung}"),
        &format!("--netns={}", machine::netns()?),
    ])?;
    if let Some(end) = trace.attach()? {
        bail!("socklife ended with {:?} instead of attaching: {}", end.code, end.stderr);
    }
    println!("{rung}: attached for TIME-WAIT in {:.1} s", started.elapsed().as_secs_f64());
    let mut all = Vec::new();
    for test in wanted {
        println!("{rung}: {test}");
        let (started, from) = (Instant::now(), Timestamp::now());
        let before = Counters::read(made_at_once)?;
        let closes = if *test == FULL {
            machine::sysctl("tcp_max_tw_buckets", &(gauge()? + ROOM).to_string())?;
            close_first(ground, CLOSES)?;
            Some(CLOSES.into())
        } else {
            machine::sysctl("tcp_max_tw_buckets", "200000")?;
            let closes = if ground.emulated { 10_000 } else { 20_000 };
            // An entry that a reset ends early is in no counter where those count ends, and closes that
            // cross make such resets.
            let end = if made_at_once { "race" } else { "turns" };
            let churn = ["churn", "--end", end, "--connections", &closes.to_string()];
            run(Command::new(load_binary()).args(churn))?;
            (!made_at_once).then_some(closes)
        };
        ground.quiet()?;
        let after = Counters::read(made_at_once)?;
        let moved = after.all.iter().filter_map(|(name, value)| {
            let more = value - before.all.get(name).copied()?;
            (more > 0).then(|| format!(" {name} {more}"))
        });
        let counters = moved.collect();
        let (entries, overflow) = (after.made - before.made, after.overflow - before.overflow);
        let window = (from, Timestamp::now());
        let seconds = started.elapsed().as_secs_f64();
        all.push(Made { test, window, closes, entries, overflow, counters, seconds });
    }
    drop(elsewhere);
    ensure!(
        fs::read_to_string(buckets).context(buckets)? == outside,
        "tcp_max_tw_buckets is not the namespace's own on this kernel, and was changed"
    );
    let end = trace.interrupt()?;
    ensure!(end.code == Some(0), "socklife ended with {:?}: {}", end.code, end.stderr);
    Ok((lines(&end.stdout)?, all))
}

/// Connections that the client closes first.
fn close_first(ground: &mut Ground, count: u32) -> Result<()> {
    let (family, port) = (Family::V4, ground.port());
    let server = Ground::serve("follow", SocketAddr::new(family.loopback(), port))?;
    Ground::load("close-first", family, port, count, &[("ok", count)])?;
    // A connection that a server has not accepted when it ends is reset, and so is its entry.
    Ground::ended(port)?;
    drop(server);
    Ok(())
}

fn judge(made: &Made, all: &[Value], features: &Features) -> Result<String> {
    let losses: Vec<_> = all.iter().filter(|event| event["event"] == "lost").collect();
    let lost = lost(all);
    let inferred = features.is_inferred("timewait");
    let events = within(all, made.window.0, made.window.1)?;
    for event in &events {
        let right = event["event"] == "timewait" && (event["inferred"] == true) == inferred;
        ensure!(right, "another event: {event}");
    }
    let (seen, counted, overflow) = (events.len() as u64, made.entries, made.overflow);
    let entries = made.closes.map_or(counted, |closes| closes.saturating_sub(overflow));
    let told = format!(
        "{seen} events, {entries} entries made, {overflow} had no room; the kernel counted \
         {counted}, and{}",
        made.counters
    );
    let room = if made.test == FULL { overflow > 0 } else { overflow == 0 && entries >= 10_000 };
    // Where the kernel counts the ends of entries, it misses those that a new connection took over.
    let right = counted <= entries && entries - counted <= 20 + entries / 50;
    ensure!(room && right, "it isn't what was to be made: {told}");
    ensure!(lost == 0, "{lost} events are said to be lost: {told}{}", sample(&losses));
    if !inferred {
        let skipped = seen < entries && features.may_be_skipped(skipped_calls(all))?;
        ensure!(seen == entries || skipped, "{told}");
        let detail =
            if skipped { format!("the kernel skipped a program: {told}") } else { String::new() };
        return Ok(detail);
    }
    // A socket that finds no room closes like one that does.
    ensure!(seen == entries + overflow, "{told}");
    Ok(format!("inferred: {overflow} more events than entries, as many as had no room"))
}
