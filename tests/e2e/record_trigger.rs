//! The flight recorder: nothing is written until what is waited for happens, and then what was before it, too.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socklife_tests::{
    net::{Link, load_binary},
    process::{Process, run},
    socklife::Socklife,
    wait_for,
};

use crate::{
    Need, Test,
    record::{Room, number, report},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("record_trigger::fires", &needs, fires),
        Test::new("record_trigger::fires_again", &needs, fires_again),
        Test::new("record_trigger::does_not_fire", &needs, does_not_fire),
        Test::new("record_trigger::by_a_ceiling", &needs, by_a_ceiling),
        Test::new("record_trigger::keeps_to_its_memory", &needs, keeps_to_its_memory),
    ]
}

fn wait_to_record(link: &Link, file: &str, more: &[&str]) -> Result<Socklife> {
    let path = link.near.path();
    Socklife::start(&[&["record", "--netns", &path, "-o", file][..], more].concat())
}

fn refuse(link: &Link, count: u32) -> Result<()> {
    let count = format!("--count={count}");
    link.near.fail(&["plain", "--to=10.77.0.2:9101", &count]).map(drop)
}

/// How often a report says that a connect was refused: the churn's resets are failures, too.
fn refused(read: &Value) -> Option<u64> {
    let mut rows = read["failures"].as_array()?.iter();
    rows.find(|row| row["error"] == "ECONNREFUSED")?["count"].as_u64()
}

fn churn(link: &Link, connections: u32) -> Result<()> {
    let count = connections.to_string();
    let mut load: Command = link.near.command(load_binary());
    run(load.args(["churn", "--connections", &count])).map(drop)
}

fn fires() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let trigger = ["--trigger=ECONNREFUSED>50/s", "--before=20s", "--after=1s"];
    let mut waiting = wait_to_record(&link, &file, &trigger)?;
    churn(&link, 2000)?;
    refuse(&link, 30)?;
    ensure!(room.files()?.is_empty() && !waiting.ended()?, "it fired too early");
    refuse(&link, 200)?;
    wait_for("the file", || Ok((room.files()? == ["capture"]).then_some(())))?;
    // What comes after it is in there, too.
    refuse(&link, 7)?;
    let end = waiting.finish()?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    let (line, read) = report(&file)?;
    ensure!(read["complete"] == true, "{line}");
    ensure!(refused(&read) == Some(237), "{}", read["failures"]);
    let events = number(&read, "events")?;
    ensure!(events == 6 * 2000 + 2 + 2 * 237, "{events} events");
    Ok(())
}

fn fires_again() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let trigger = ["--trigger=refused>20/s", "--before=10s", "--after=300ms", "--rotate=2"];
    let waiting = wait_to_record(&link, &file, &trigger)?;
    for round in 1..=3 {
        refuse(&link, 100 + round)?;
        wait_for("what it wrote to be complete", || {
            // While it is written it may be gone for a moment, or not be complete.
            let Ok((_, read)) = report(&file) else { return Ok(None) };
            let of_round = refused(&read) == Some(100 + u64::from(round));
            Ok((of_round && read["complete"] == true).then_some(()))
        })
        .with_context(|| format!("round {round}"))?;
    }
    let end = waiting.end(Signal::SIGTERM)?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    ensure!(room.files()? == ["capture", "capture.1"], "{:?}", room.files()?);
    let (line, before) = report(&room.text("capture.1"))?;
    ensure!(refused(&before) == Some(102), "{line}");
    Ok(())
}

fn does_not_fire() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let waiting = wait_to_record(&link, &file, &["--trigger=failures>1000/s"])?;
    refuse(&link, 100)?;
    let end = waiting.interrupt()?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    ensure!(end.stderr.contains("nothing was written"), "{}", end.stderr);
    ensure!(room.files()?.is_empty(), "{:?}", room.files()?);
    Ok(())
}

/// Nothing has failed yet: 18 of 20 ports are taken.
fn by_a_ceiling() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let silent = "10.77.0.77";
    link.blackhole(silent)?;
    link.near.sysctl("net.ipv4.ip_local_port_range", "40000 40019")?;
    let file = room.text("capture");
    let waiting =
        wait_to_record(&link, &file, &["--trigger=ephemeral-ports>80%", "--after=500ms"])?;
    let mut hold = link.near.command(load_binary());
    hold.args(["hold", "--then", "hang", "--count=18", &format!("--to={silent}:80")]);
    let held = Process::start_ready(&mut hold)?;
    let end = waiting.finish()?;
    drop(held);
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    let (line, read) = report(&file)?;
    ensure!(number(&read, "events")? >= 18, "{line}");
    let full = |it: &&Value| it["ceiling"] == "ephemeral-ports" && it["used"] == 18;
    let ceilings = read["ceilings"].as_array().context("no ceilings")?;
    ensure!(ceilings.iter().any(|it| full(&it)), "{line}");
    Ok(())
}

/// The time before does not fit: its end is kept, and it is said.
fn keeps_to_its_memory() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let trigger = ["--trigger=ECONNREFUSED>20/s", "--before=60s", "--after=100ms", "--memory=1M"];
    let waiting = wait_to_record(&link, &file, &trigger)?;
    churn(&link, 60_000)?;
    refuse(&link, 50)?;
    let end = waiting.finish()?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    ensure!(end.stderr.contains("does not fit"), "{}", end.stderr);
    let length = fs::metadata(room.path("capture"))?.len();
    ensure!(length < 2 << 20, "{length} bytes");
    let (line, read) = report(&file)?;
    ensure!(refused(&read) == Some(50), "{line}");
    let events = number(&read, "events")?;
    println!("{events} of 360,102 events in {length} bytes");
    ensure!((10_000..360_000).contains(&events), "{events} events");
    Ok(())
}
