//! What the kernel side keeps in its maps: bounded, right, and gone with the sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData, loaded_maps};
use nix::sys::signal::Signal;
use socklife_tests::{
    net::{FAR4, Link, load_binary},
    process::{Process, run},
    socklife::{Rung, Socklife, lines, lost},
    wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("maps::bounded_and_empty_afterwards::best_hook", &needs, || bounded(Rung::Auto)),
        Test::new("maps::bounded_and_empty_afterwards::tracepoint", &needs, || {
            bounded(Rung::Tracepoint)
        }),
    ]
}

/// Short-lived processes, each with one connect that is refused.
const PROCESSES: u64 = 10_000;
/// Failures on sockets of one process: more than any map of failures or calls holds.
const FAILURES: u64 = 30_000;
/// Connects under way when their process is killed.
const KILLED: u64 = 50;

/// Bytes of a bucket of the map `LIVES`, and of the keys at its start: see `tracer-ebpf/src/life.rs`.
const BUCKET: usize = 8 * 64;
const KEYS: usize = 8;

fn bounded(rung: Rung) -> Result<()> {
    let link = Link::new()?;
    let silent = "10.77.0.77";
    link.blackhole(silent)?;
    let path = link.near.path();
    let trace = Socklife::start_on(
        rung,
        &["trace", "--format=json", "--netns", &path, "--ring-size=64M", "--state=UNCONN"],
    )?;
    let pid = trace.pid();
    let empty = || {
        let left = entries(pid)?;
        Ok(left.values().all(|&entries| entries == 0).then_some(()))
    };
    // The sockets of the whole machine are in there.
    wait_for("the maps to be empty at the start", empty)?;

    let refused = format!("--to={FAR4}:9");
    let one_each = ["processes", &refused, &format!("--count={PROCESSES}")];
    let many = link.near.fail(&one_each)?;
    ensure!(many["outcomes"]["ECONNREFUSED"] == PROCESSES, "they saw something else: {many}");
    let one = link.near.fail(&["plain", &refused, &format!("--count={FAILURES}")])?;
    ensure!(one["outcomes"]["ECONNREFUSED"] == FAILURES, "it saw something else: {one}");

    let to = format!("--to={silent}:80");
    let mut hold = link.near.command(load_binary());
    hold.args(["hold", "--then", "hang", &to, &format!("--count={KILLED}")]);
    let victim = Process::start_ready(&mut hold)?;
    let connecting = || -> Result<u64> {
        let listed = run(link.near.command("ss").args(["-Htn", "state", "syn-sent"]))?;
        Ok(listed.lines().count() as u64)
    };
    ensure!(connecting()? == KILLED, "connects under way: {}", connecting()?);
    let full = entries(pid)?;
    let held: u64 = full.values().sum();
    ensure!((KILLED..KILLED + 100).contains(&held), "while {KILLED} connect: {full:?}");
    let victim_pid = u64::from(victim.pid());
    victim.signal(Signal::SIGKILL)?;
    victim.finish()?;
    wait_for("the sockets of the killed process to go", || Ok((connecting()? == 0).then_some(())))?;

    wait_for("the maps to be empty", empty).with_context(|| format!("{:?}", entries(pid)))?;

    let traced = trace.interrupt()?;
    let events = lines(&traced.stdout)?;
    ensure!(lost(&events) == 0, "lost: {}", traced.stderr);
    let mut owners: BTreeMap<u64, u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event["old"] == "SYN-SENT") {
        ensure!(event["comm"] == "socklife-load", "another process: {event}");
        *owners.entry(event["pid"].as_u64().unwrap_or(0)).or_default() += 1;
    }
    ensure!(owners.remove(&victim_pid) == Some(KILLED), "of the killed process: {owners:?}");
    let of_one = one["pid"].as_u64().and_then(|pid| owners.remove(&pid));
    ensure!(of_one == Some(FAILURES), "of one process: {of_one:?}");
    ensure!(owners.len() as u64 == PROCESSES, "{} processes", owners.len());
    ensure!(owners.values().all(|&failures| failures == 1), "more than one of a process");
    Ok(())
}

/// Maps of the kernel side that hold sockets and calls.
const HASHES: [&str; 4] = ["LIVES_BY_ADDR", "CALLS", "PARKED", "TOLD"];

/// How many entries these maps of a socklife hold, by name.
fn entries(pid: u32) -> Result<BTreeMap<String, u64>> {
    let ids = map_ids(pid)?;
    let mut all = BTreeMap::new();
    for info in loaded_maps() {
        let info = info?;
        let name = info.name_as_str().unwrap_or_default().to_owned();
        if !ids.contains(&info.id()) {
            continue;
        }
        if name == "LIVES" {
            all.insert(name, lives(&info)?);
        } else if HASHES.contains(&name.as_str()) {
            all.insert(name, keys(&info)?);
        }
    }
    ensure!(all.len() == HASHES.len() + 1, "maps of one socklife: {all:?}");
    Ok(all)
}

/// Ids of the maps that a process holds.
fn map_ids(pid: u32) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may be closed by now.
        let info = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("map_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

fn opened(info: &aya::maps::MapInfo) -> Result<MapData> {
    MapData::from_fd(info.fd()?.as_fd().try_clone_to_owned()?).context("a map can't be opened")
}

/// The keys are addresses or thread ids; the values are not looked at.
fn keys(info: &aya::maps::MapInfo) -> Result<u64> {
    let map = opened(info)?;
    let mut number = 0;
    macro_rules! count {
        ($size:literal, $kind:ident) => {
            let map = HashMap::<_, u64, [u8; $size]>::try_from(Map::$kind(map))?;
            for key in map.keys() {
                key?;
                number += 1;
            }
        };
    }
    match info.name_as_str() {
        Some("LIVES_BY_ADDR") => {
            count!(56, HashMap);
        }
        Some("CALLS") => {
            count!(24, LruHashMap);
        }
        Some("PARKED") => {
            count!(112, LruHashMap);
        }
        _ => {
            count!(1, LruHashMap);
        }
    }
    Ok(number)
}

/// A life has its socket's address as its key, and 0 when it is nobody's.
fn lives(info: &aya::maps::MapInfo) -> Result<u64> {
    let map = Array::<_, [u8; BUCKET]>::try_from(Map::Array(opened(info)?))?;
    let mut number = 0;
    for bucket in map.iter() {
        let bucket = bucket?;
        let keys = bucket.chunks_exact(8).take(KEYS);
        number += keys.filter(|key| key.iter().any(|&byte| byte != 0)).count() as u64;
    }
    Ok(number)
}
