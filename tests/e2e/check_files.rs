//! `check` of open files: a process at its limit, and the host.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, fails, failures, remedy_number, who_failed},
    net::{FAR4, Link, NEAR4, load_binary},
    nginx::Nginx,
    process::run,
    truth::{Grower, limit_files, open_files, room_for_files},
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    let nginx = [Need::Bpf, Need::Namespaces, Need::Nginx];
    vec![
        Test::new("check_files::process_fills", &needs, process_fills),
        Test::new("check_files::nginx_workers", &nginx, nginx_workers),
        Test::new("check_files::numbers_above_the_limit", &needs[1..], numbers_above_the_limit),
        Test::new("check_files::host", &needs[1..], host),
    ]
}

const LIMIT: u64 = 100;
/// Where a remedy has the new limit.
const WORDS: [&str; 4] = ["--nofile", "LimitNOFILE", "worker_rlimit_nofile", "nofile"];

/// The hard limit of a process, by the kernel.
fn hard_limit(pid: u64) -> Result<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("limits")?;
    Ok(line.split_whitespace().nth(4).context("no hard limit")?.parse()?)
}

/// Applies a remedy, as far as this machine allows.
fn apply(found: &Value, pid: u64) -> Result<()> {
    let wanted = remedy_number(found, &WORDS)?;
    ensure!(wanted > LIMIT, "it is no raise: {found}");
    limit_files(pid, wanted.min(hard_limit(pid)?))
}

/// A process whose limit was set from outside, from half full to full.
fn process_fills() -> Result<()> {
    let link = Link::new()?;
    let mut grower = link.near.grow(&["file", "--to", "127.0.0.1:1"])?;
    let pid = grower.pid();
    limit_files(pid, LIMIT)?;
    let of = |check: &Check| check.one("open-files", "process", &[("pid", pid.into())]).cloned();
    let number = pid.to_string();
    for (target, status) in [(50, "OK"), (85, "WARNING"), (97, "CRITICAL")] {
        grower.take(u32::try_from(target - open_files(pid)?)?)?;
        let check = Check::once(&["--pid", &number])?;
        let found = of(&check)?;
        ensure!(open_files(pid)? == target, "{target} files were wanted");
        expect(
            &found,
            &[
                ("status", status.into()),
                ("used", target.into()),
                ("limit", LIMIT.into()),
                ("headroom", (LIMIT - target).into()),
                ("comm", "socklife-load".into()),
            ],
        )?;
    }
    let watch = Check::watch(&link.near, &["--pid", &number, "--interval=3s"])?;
    let (ok, failed) = grower.overrun(10, "EMFILE")?;
    ensure!(ok == 3, "three files were left, {ok} could be opened");
    let check = watch.end()?;
    let found = of(&check)?;
    println!("{found:#}");
    expect(
        &found,
        &[("status", "CRITICAL".into()), ("used", LIMIT.into()), ("headroom", 0.into())],
    )?;
    ensure!(failures(&found, "EMFILE") == failed, "{failed} calls failed: {found}");
    ensure!(who_failed(&found, "EMFILE") == BTreeMap::from([(pid, failed)]), "who: {found}");

    apply(&found, pid)?;
    let watch = Check::watch(&link.near, &["--pid", &number, "--interval=2s"])?;
    grower.take(10)?;
    let found = of(&watch.end()?)?;
    expect(&found, &[("status", "OK".into()), ("used", (LIMIT + 10).into())])?;
    ensure!(!fails(&found), "after the remedy: {found}");
    Ok(())
}

/// The workers of a real Nginx, each with a limit of its own; and again with the remedy's, as far as this
/// machine allows.
fn nginx_workers() -> Result<()> {
    let link = Link::new()?;
    let upstream = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[upstream.parse()?])?;
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    let under_load = |files: u64| -> Result<_> {
        let main = format!("worker_rlimit_nofile {files};");
        let nginx = Nginx::start(&link.near, &upstream, &main, "")?;
        let watch = Check::watch(&link.near, &["--interval=5s"])?;
        run(link.far.command("wrk").args(["-t", "1", "-c", "64", "-d", "2s", &target]))?;
        let check = watch.end()?;
        let workers = nginx.workers()?;
        ensure!(workers.len() == 2, "two workers: {workers:?}");
        let mut counted = BTreeMap::new();
        let mut wanted = files;
        for pid in workers {
            let found = check.one("open-files", "process", &[("pid", pid.into())])?;
            println!("{found:#}");
            expect(found, &[("limit", files.into()), ("comm", "nginx".into())])?;
            ensure!(fails(found) == (found["status"] == "CRITICAL"), "{found}");
            wanted = remedy_number(found, &WORDS)?;
            if fails(found) {
                counted.insert(u32::try_from(pid)?, failures(found, "EMFILE"));
            }
        }
        let logs = nginx.stop()?;
        ensure!(logs.by_worker(24) == counted, "error log: {logs:?}, check: {counted:?}");
        Ok((logs.with(24), wanted))
    };
    let (failed, wanted) = under_load(24)?;
    ensure!(failed > 10 && wanted > 24, "{failed} failures, and {wanted} are no raise");
    let (failed, _) = under_load(wanted.min(hard_limit(std::process::id().into())?))?;
    ensure!(failed == 0, "with {wanted} files {failed} times");
    Ok(())
}

/// A file whose number is above the limit takes no room below it, and may be there nevertheless.
fn numbers_above_the_limit() -> Result<()> {
    const LOW: u64 = 9;
    let link = Link::new()?;
    let mut command = link.near.command("sh");
    command.args(["-c", "exec 9</dev/null; exec \"$0\" \"$@\""]).arg(load_binary());
    let mut grower = Grower::start(command.args(["grow", "file", "--to=127.0.0.1:1"]))?;
    let pid = grower.pid();
    limit_files(pid, LOW)?;
    let number = pid.to_string();
    let now = || -> Result<Value> {
        let check = Check::once(&["--pid", &number])?;
        check.one("open-files", "process", &[("pid", pid.into())]).cloned()
    };
    let room = room_for_files(pid, LOW)?;
    expect(&now()?, &[("used", 3.into()), ("limit", LOW.into()), ("headroom", room.into())])?;
    let (ok, _) = grower.overrun(12, "EMFILE")?;
    ensure!(ok == room && room == 6, "{ok} files could be opened, there was room for {room}");
    let full = [("used", LOW.into()), ("headroom", 0.into()), ("status", "CRITICAL".into())];
    expect(&now()?, &full)
}

/// The host's table of files, by the kernel's own count; other programs open and close files meanwhile.
fn host() -> Result<()> {
    let table = || -> Result<(u64, u64)> {
        let text = fs::read_to_string("/proc/sys/fs/file-nr")?;
        let numbers: Vec<u64> =
            text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok((numbers[0], numbers[2]))
    };
    let (before, limit) = table()?;
    let check = Check::once(&[])?;
    let (after, _) = table()?;
    let found = check.one("open-files", "host", &[])?;
    expect(found, &[("limit", limit.into()), ("status", "OK".into())])?;
    let used = found["used"].as_u64().context("used")?;
    let (low, high) = (before.min(after).saturating_sub(500), before.max(after) + 500);
    ensure!((low..=high).contains(&used), "file-nr {before}, {after}: {found}");
    Ok(())
}
