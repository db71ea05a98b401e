//! `check` of accept queues: a listener whose acceptor is stopped, SYNs that are dropped, the remedy.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, fails, failure, failures, remedy_number, sysctls},
    net::{FAR4, Link, load_binary},
    process::Process,
    wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("check_queue::backlog", &needs, || fills(10, 4096)),
        Test::new("check_queue::somaxconn", &needs, || fills(1000, 10)),
        Test::new("check_queue::both", &needs, || fills(10, 10)),
    ]
}

const LIMIT: u64 = 10;
const PORT: u16 = 9001;

/// A listener that has stopped accepting.
fn stopped(link: &Link, backlog: u64) -> Result<Process> {
    let mut command = link.far.command(load_binary());
    let (listen, backlog) = (format!("--listen={FAR4}:{PORT}"), format!("--backlog={backlog}"));
    let server = Process::start_ready(command.args(["serve", "--mode=hold", &listen, &backlog]))?;
    server.signal(Signal::SIGSTOP)?;
    wait_for("the server to stop", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
        Ok(status.contains("State:\tT").then_some(()))
    })?;
    Ok(server)
}

/// A listener's queue, its limit and its drops, as `ss` has them.
fn queue(link: &Link) -> Result<(u64, u64, u64)> {
    let rows = link.far.ss(&["-tlmO", "sport", &format!("= :{PORT}")])?;
    let row = rows.first().context("no listener")?;
    let words: Vec<&str> = row.split_whitespace().collect();
    let (_, drops) = row.rsplit_once(",d").context("no drops")?;
    Ok((words[1].parse()?, words[2].parse()?, drops.trim_end_matches([')', ' ']).parse()?))
}

fn listener(check: &Check, link: &Link) -> Result<Value> {
    let with = [("netns", link.far.inode()?.into()), ("sport", PORT.into())];
    check.one("accept-queue", "listener", &with).cloned()
}

/// From half full to full; SYNs that are dropped; the remedy, with which as many find room.
fn fills(backlog: u64, somaxconn: u64) -> Result<()> {
    let link = Link::new()?;
    link.far.sysctl("net.core.somaxconn", &somaxconn.to_string())?;
    let target: SocketAddr = format!("{FAR4}:{PORT}").parse()?;
    let server = stopped(&link, backlog)?;
    let mut grower = link.near.grow(&["connection", "--to", &target.to_string()])?;
    // A queue takes one more than its limit.
    for (more, used, status) in [(5, 5, "OK"), (3, 8, "WARNING"), (3, 11, "CRITICAL")] {
        grower.take(more)?;
        wait_for("the queue", || Ok((queue(&link)? == (used, LIMIT, 0)).then_some(())))?;
        let found = listener(&Check::of_namespace(&link.far, &[])?, &link)?;
        expect(
            &found,
            &[
                ("status", status.into()),
                ("used", used.into()),
                ("limit", LIMIT.into()),
                ("headroom", (LIMIT + 1 - used).into()),
                ("src", FAR4.into()),
            ],
        )?;
        let who = serde_json::json!({ "pid": server.pid(), "comm": "socklife-load" });
        let said = &found["who"][0];
        ensure!(said["pid"] == who["pid"] && said["comm"] == who["comm"], "who: {found}");
        let subject = found["subject"].as_str().unwrap_or_default();
        ensure!(subject.contains(&target.to_string()), "subject: {found}");
        ensure!(found.get("failures").is_none(), "nothing failed: {found}");
    }

    let names = ["ListenOverflows", "ListenDrops"];
    let counters =
        || -> Result<[u64; 2]> { Ok([link.far.counter(names[0])?, link.far.counter(names[1])?]) };
    let before = counters()?;
    let watch = Check::watch(&link.far, &["--interval=3s"])?;
    let hang = ["hold", "--to", &target.to_string(), "--count=5", "--then=hang"];
    let hanging = Process::start_ready(link.near.command(load_binary()).args(hang))?;
    wait_for("five SYNs to be dropped", || Ok((queue(&link)?.2 >= 5).then_some(())))?;
    // Without it nothing is sent again.
    drop(hanging);
    let found = listener(&watch.end()?, &link)?;
    println!("{found:#}");
    expect(&found, &[("status", "CRITICAL".into()), ("used", 11.into())])?;
    for ((name, before), after) in names.iter().zip(before).zip(counters()?) {
        ensure!(failures(&found, name) == after - before, "{name} {}: {found}", after - before);
    }
    let (_, _, drops) = queue(&link)?;
    ensure!(failures(&found, "sk_drops") == drops, "ss has {drops} drops: {found}");
    let found = listener(&Check::of_namespace(&link.far, &[])?, &link)?;
    let ever = failure(&found, "sk_drops", "boot");
    ensure!(ever.is_some_and(|ever| ever["count"] == drops), "{found}");

    let settings = sysctls(found["remedy"].as_str().unwrap_or_default());
    let somaxconn_now = settings.get("net.core.somaxconn");
    ensure!((somaxconn == LIMIT) == somaxconn_now.is_some(), "somaxconn is {somaxconn}: {found}");
    if let Some(value) = somaxconn_now {
        link.far.sysctl("net.core.somaxconn", value)?;
    }
    // What listen() asked for when it was cut is nowhere to be read: a remedy names it in any case.
    let wanted = remedy_number(&found, &["backlog=", "backlog of", "backlog to", "backlog"])?;
    ensure!(wanted > LIMIT, "it is no raise: {found}");
    drop((grower, server));
    let _server = stopped(&link, wanted)?;
    let before = counters()?;
    let mut grower = link.near.grow(&["connection", "--to", &target.to_string()])?;
    let watch = Check::watch(&link.far, &["--interval=2s"])?;
    grower.take(16)?;
    let found = listener(&watch.end()?, &link)?;
    ensure!(!fails(&found), "after the remedy: {found}");
    ensure!(counters()? == before && queue(&link)?.2 == 0, "SYNs were dropped: {found}");
    expect(&found, &[("used", 16.into()), ("status", "OK".into())])
}
