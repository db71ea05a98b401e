//! `check` of TIME-WAIT: a table that fills, entries that found no room, and the remedy.

use anyhow::{Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, fails, failures, remedy},
    net::{FAR4, Link},
    wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("check_time_wait::table_fills", &needs, table_fills),
        Test::new("check_time_wait::who_closes_first", &needs, who_closes_first),
    ]
}

const BUCKETS: u64 = 40;
const NAME: &str = "net.ipv4.tcp_max_tw_buckets";

/// Connections that the near host closes first.
fn close_first(link: &Link, target: &str, count: u64) -> Result<()> {
    let made = link.near.fail(&["close-first", "--to", target, &format!("--count={count}")])?;
    ensure!(made["outcomes"]["ok"] == count, "{made}");
    Ok(())
}

fn table(check: &Check, link: &Link) -> Result<Value> {
    check.one("time-wait", "netns", &[("netns", link.near.inode()?.into())]).cloned()
}

/// From half full to full; entries that find no room; the remedy.
fn table_fills() -> Result<()> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    link.near.sysctl(NAME, &BUCKETS.to_string())?;
    let target = format!("{FAR4}:9001");
    let _follow = link.far.serve("follow", &[target.parse()?])?;
    for (more, used, status) in [(20, 20, "OK"), (14, 34, "WARNING"), (5, 39, "CRITICAL")] {
        close_first(&link, &target, more)?;
        link.near.wait_for_time_wait(used)?;
        let check = Check::of_namespace(&link.near, &[])?;
        let found = table(&check, &link)?;
        expect(
            &found,
            &[
                ("status", status.into()),
                ("used", used.into()),
                ("limit", BUCKETS.into()),
                ("headroom", (BUCKETS - used).into()),
            ],
        )?;
        ensure!(found.get("failures").is_none(), "all found room: {found}");
        let states = serde_json::json!({ "TIME-WAIT": used });
        let there = check.upstream(FAR4, 9001)?;
        ensure!(there["states"] == states, "states: {there}");
        ensure!(link.near.ss(&["-ta", "state", "time-wait"])?.len() as u64 == used, "ss");
    }

    let overflow = || link.near.counter("TCPTimeWaitOverflow");
    ensure!(overflow()? == 0, "some found no room");
    let watch = Check::watch(&link.near, &["--interval=3s"])?;
    close_first(&link, &target, 12)?;
    wait_for("closes without room", || Ok((overflow()? >= 11).then_some(())))?;
    let check = watch.end()?;
    let found = table(&check, &link)?;
    println!("{found:#}");
    expect(
        &found,
        &[("status", "CRITICAL".into()), ("used", BUCKETS.into()), ("headroom", 0.into())],
    )?;
    let failed = overflow()?;
    ensure!(failures(&found, "TCPTimeWaitOverflow") == failed, "{failed} had no room: {found}");

    link.near.sysctl(NAME, &remedy(&found, NAME)?)?;
    let watch = Check::watch(&link.near, &["--interval=2s"])?;
    close_first(&link, &target, 12)?;
    link.near.wait_for_time_wait(BUCKETS + 12)?;
    let check = watch.end()?;
    let found = table(&check, &link)?;
    ensure!(overflow()? == failed, "the remedy does not help: {found}");
    expect(&found, &[("status", "OK".into()), ("used", (BUCKETS + 12).into())])?;
    ensure!(!fails(&found) && check.code == 0, "after the remedy: {found}");
    Ok(())
}

/// Which side closes first is told by upstream, and how many entries a second that makes.
fn who_closes_first() -> Result<()> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    let (follows, closes) = (format!("{FAR4}:9001"), format!("{FAR4}:9002"));
    let _follow = link.far.serve("follow", &[follows.parse()?])?;
    let _close = link.far.serve("close", &[closes.parse()?])?;
    // One that stays open here, so that there is something to tell of this upstream.
    let mut stays = link.near.grow(&["connection", "--to", &closes])?;
    stays.take(1)?;
    let watch = Check::watch(&link.near, &["--interval=3s"])?;
    close_first(&link, &follows, 30)?;
    let last = link.near.fail(&["close-last", "--to", &closes, "--count=20"])?;
    ensure!(last["outcomes"]["ok"] == 20, "{last}");
    link.near.wait_for_time_wait(30)?;
    let check = watch.end()?;
    let near_first = [("closed_here", 30.into()), ("closed_by_peer", 0.into())];
    let found = check.upstream(FAR4, 9001)?;
    expect(found, &near_first)?;
    // It watched for three seconds, and for as long as its last look takes.
    let rate = found["entered_per_s"].as_f64().unwrap_or(f64::NAN);
    ensure!((5.0..=10.0).contains(&rate), "thirty entries in three seconds: {found}");
    let far_first = [("closed_here", 0.into()), ("closed_by_peer", 20.into())];
    expect(check.upstream(FAR4, 9002)?, &far_first)
}
