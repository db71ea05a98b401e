//! With a ring that is far too small: what was seen and what was lost are together what was
//! produced, and every output says so.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socklife_tests::{
    net::{Link, load_binary},
    process::run,
    socklife::{Socklife, last_line, lines, lost},
};

use crate::{Need, Test};

const CONNECTIONS: u64 = 20_000;

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("loss::trace_json", &needs, trace_json),
        Test::new("loss::trace_text", &needs, trace_text),
        Test::new("loss::count_json", &needs, || count("json")),
        Test::new("loss::count_text", &needs, || count("text")),
        Test::new("loss::none_with_the_default_ring", &needs, none_with_the_default_ring),
    ]
}

/// Runs socklife over a churn in a namespace of its own, so that no other socket of the machine is
/// counted. `paused` connections are made while nobody empties the rings.
fn churn(arguments: &[&str], paused: u64) -> Result<socklife_tests::process::Finished> {
    let link = Link::new()?;
    let path = link.near.path();
    let socklife = Socklife::start(&[arguments, &["--netns", &path]].concat())?;
    let load = |connections: u64| {
        let load: &mut Command = &mut link.near.command(load_binary());
        run(load.args(["churn", "--connections", &connections.to_string()]))
    };
    if paused > 0 {
        socklife.signal(Signal::SIGSTOP)?;
        load(paused)?;
        socklife.signal(Signal::SIGCONT)?;
    }
    load(CONNECTIONS - paused)?;
    let end = socklife.interrupt()?;
    ensure!(end.code == Some(0), "it ended with {:?}: {}", end.code, end.stderr);
    Ok(end)
}

/// Of the connections, those that are made while nobody empties the rings.
const PAUSED: u64 = 1000;

/// Each connection makes three transitions on either side; a listener two more.
const PRODUCED: u64 = 6 * CONNECTIONS + 2;
/// The same with the listener of the load before.
const PRODUCED_IN_TWO: u64 = PRODUCED + 2;

/// The numbers in `1,234 events in 2.0 s, 56 lost (7,890 produced)…`.
fn summary(stderr: &str) -> Result<(u64, u64, u64)> {
    let line = stderr.lines().rfind(|line| line.contains("produced)")).context("no summary")?;
    let number_before = |word: &str| -> Result<u64> {
        let head = line.split(word).next().context("a word")?;
        let digits = head.trim_end().rsplit([' ', '(']).next().unwrap_or_default();
        digits.replace(',', "").parse().with_context(|| format!("before {word:?} in {line}"))
    };
    Ok((number_before(" events in")?, number_before(" lost (")?, number_before(" produced)")?))
}

fn trace_json() -> Result<()> {
    let end = churn(&["trace", "--ring-size=4K", "--format=json"], PAUSED)?;
    let events = lines(&end.stdout)?;
    let seen = events.iter().filter(|event| event["event"] == "state").count() as u64;
    let lost = lost(&events);
    println!("seen {seen} + lost {lost} = {}; produced {PRODUCED_IN_TWO}", seen + lost);
    ensure!(lost > 0, "nothing was lost: the test shows nothing");
    ensure!(seen + lost == PRODUCED_IN_TWO, "{seen} + {lost} is not {PRODUCED_IN_TWO}");
    ensure!(summary(&end.stderr)? == (seen, lost, PRODUCED_IN_TWO), "the summary: {}", end.stderr);
    Ok(())
}

fn trace_text() -> Result<()> {
    let end = churn(&["trace", "--ring-size=4K"], PAUSED)?;
    let (seen, lost, produced) = summary(&end.stderr)?;
    ensure!(lost > 0 && seen + lost == produced && produced == PRODUCED_IN_TWO, "{}", end.stderr);
    let in_events = end.stdout.lines().filter(|line| line.contains(" events lost: "));
    let told: u64 = in_events
        .filter_map(|line| line.split_whitespace().nth(1)?.replace(',', "").parse::<u64>().ok())
        .sum();
    ensure!(told == lost, "the lines say {told}, the summary {lost}");
    let shown =
        end.stdout.lines().filter(|line| line.contains("socklife-load") || line.contains(" - "));
    ensure!(shown.count() as u64 == seen, "as many lines as events");
    Ok(())
}

/// Connects that are refused: one failure each.
const REFUSED: u64 = 10_000;

/// Nobody empties the ring while the failures are made, so it holds the first few and no more.
fn count(format: &str) -> Result<()> {
    let link = Link::new()?;
    let path = link.near.path();
    let arguments = ["count", "--error=all", "--ring-size=4K", "--format", format, "--netns"];
    let socklife = Socklife::start(&[&arguments[..], &[&path]].concat())?;
    socklife.signal(Signal::SIGSTOP)?;
    let count = format!("--count={REFUSED}");
    let made = link.near.fail(&["plain", "--to=127.0.0.1:9", &count])?;
    ensure!(made["outcomes"]["ECONNREFUSED"] == REFUSED, "the caller saw something else: {made}");
    socklife.signal(Signal::SIGCONT)?;
    let end = socklife.interrupt()?;
    ensure!(end.code == Some(0), "it ended with {:?}: {}", end.code, end.stderr);
    if format == "text" {
        let total = end.stdout.lines().last().unwrap_or_default();
        ensure!(total.contains(" or more in "), "the total is a lower bound: {total}");
        ensure!(end.stdout.contains("events lost: the ring was full"), "{}", end.stdout);
        return Ok(());
    }
    let counted: Value = last_line(&end.stdout)?;
    let number = |key: &str| counted[key].as_u64().context("a number");
    println!("seen {} + lost {} of {}", counted["seen"], counted["lost"], counted["produced"]);
    ensure!(number("lost")? > 0, "nothing was lost: the test shows nothing");
    ensure!(number("seen")? + number("lost")? == number("produced")?, "{counted}");
    ensure!(number("produced")? == REFUSED, "{counted}");
    ensure!(number("total")? == number("seen")?, "{counted}");
    let rows = counted["by"].as_array().map_or(&[][..], Vec::as_slice);
    let in_rows: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
    ensure!(in_rows == number("total")?, "{counted}");
    Ok(())
}

fn none_with_the_default_ring() -> Result<()> {
    let end = churn(&["trace", "--format=json"], 0)?;
    let events = lines(&end.stdout)?;
    ensure!(lost(&events) == 0, "lost {}", lost(&events));
    ensure!(events.len() as u64 == PRODUCED, "{} events", events.len());
    in_order(&events)?;
    // A socket's cookie tells its transitions apart; only newborns had none, before Linux 6.15.
    let without = events.iter().filter(|event| event.get("cookie").is_none()).count() as u64;
    ensure!(without == 0 || without == CONNECTIONS, "{without} events have no cookie");
    Ok(())
}

/// The two rings come out as one, in the order of time for each socket.
fn in_order(events: &[Value]) -> Result<()> {
    let mut last = std::collections::HashMap::new();
    for event in events {
        let Some(cookie) = event["cookie"].as_u64() else {
            continue;
        };
        if let Some(new) = last.insert(cookie, event["new"].clone()) {
            ensure!(event["old"] == new, "after {new} comes {event}");
        }
    }
    Ok(())
}
