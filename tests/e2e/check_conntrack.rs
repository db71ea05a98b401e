//! `check` of connection tracking: a table that fills, packets that are dropped, and the remedy.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use socklife_tests::{
    check::{Check, expect, fails, failures, remedy},
    conntrack::{ConntrackMax, MAX as MAX_FILE},
    net::{FAR4, Link, NEAR4, Namespace, load_binary},
    process::Process,
    wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Conntrack, Need::Namespaces, Need::Bpf];
    vec![
        Test::new("check_conntrack::table_fills", &needs, table_fills),
        Test::new("check_conntrack::setting_comes_back", &needs[..2], setting_comes_back),
        Test::new("check_conntrack::nothing_tracked", &needs[1..2], nothing_tracked),
    ]
}

const MAX: u64 = 50;
const NAME: &str = "net.netfilter.nf_conntrack_max";
/// The near host's other address.
const OTHER4: &str = "10.77.0.3";

fn table(check: &Check, namespace: &Namespace) -> Result<Value> {
    let with = [("netns", namespace.inode()?.into())];
    check.one("conntrack", "netns", &with).cloned()
}

/// From half full to full; drops; the remedy.
fn table_fills() -> Result<()> {
    let link = Link::new()?;
    link.near.ip(&["addr", "add", &format!("{OTHER4}/24"), "dev", "v0"])?;
    link.far.track()?;
    let max = ConntrackMax::new()?;
    max.set(MAX)?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let mut some = link.near.grow(&["connection", "--to", &target, "--from", OTHER4])?;
    let mut most = link.near.grow(&["connection", "--to", &target, "--from", NEAR4])?;
    some.take(9)?;
    for (more, used, status) in [(11, 20, "OK"), (22, 42, "WARNING"), (6, 48, "CRITICAL")] {
        most.take(more)?;
        let check = Check::of_namespace(&link.far, &[])?;
        let found = table(&check, &link.far)?;
        ensure!(link.far.tracked()? == used, "the kernel tracks {}", link.far.tracked()?);
        expect(
            &found,
            &[
                ("status", status.into()),
                ("used", used.into()),
                ("limit", MAX.into()),
                ("headroom", (MAX - used).into()),
            ],
        )?;
        if status != "OK" {
            let who = json!([{ "address": NEAR4, "entries": used - 9 },
                             { "address": OTHER4, "entries": 9 }]);
            ensure!(found["who"] == who, "who: {found}");
        }
        ensure!(found.get("failures").is_none(), "nothing failed: {found}");
    }
    most.take(2)?;

    let before = link.far.conntrack_counters()?;
    let watch = Check::watch(&link.far, &["--interval=3s"])?;
    let hang = ["hold", "--to", &target, "--count=5", "--then=hang"];
    let hanging = Process::start_ready(link.near.command(load_binary()).args(hang))?;
    let dropped = || -> Result<u64> { Ok(link.far.conntrack_counters()?["drop"] - before["drop"]) };
    wait_for("five SYNs to be dropped", || Ok((dropped()? >= 5).then_some(())))?;
    // Without it nothing is sent again.
    drop(hanging);
    let check = watch.end()?;
    let found = table(&check, &link.far)?;
    println!("{found:#}");
    expect(&found, &[("status", "CRITICAL".into()), ("used", MAX.into()), ("headroom", 0.into())])?;
    for (name, count) in link.far.conntrack_counters()? {
        if ["drop", "early_drop", "insert_failed"].contains(&name.as_str()) {
            let made = count - before[&name];
            ensure!(failures(&found, &name) == made, "{name} {made}: {found}");
        }
    }

    max.set(remedy(&found, NAME)?.parse()?)?;
    let before = link.far.conntrack_counters()?;
    let watch = Check::watch(&link.far, &["--interval=2s"])?;
    most.take(5)?;
    let check = watch.end()?;
    let found = table(&check, &link.far)?;
    expect(&found, &[("status", "OK".into()), ("used", (MAX + 5).into())])?;
    ensure!(!fails(&found) && check.code == 0, "after the remedy: {found}");
    ensure!(link.far.conntrack_counters()?["drop"] == before["drop"], "packets were dropped");
    Ok(())
}

/// A namespace without rules: the kernel tracks nothing there, and that is no error.
fn nothing_tracked() -> Result<()> {
    let link = Link::new()?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    grower.take(10)?;
    let check = Check::of_namespace(&link.far, &[])?;
    ensure!(check.code == 0, "{}", check.found);
    for found in check.all("conntrack", "netns") {
        expect(found, &[("used", 0.into()), ("status", "OK".into())])?;
    }
    Ok(())
}

/// The host's setting is as it was after a test that failed, and after one that was killed.
fn setting_comes_back() -> Result<()> {
    let link = Link::new()?;
    link.far.track()?;
    let setting = || -> Result<u64> { Ok(std::fs::read_to_string(MAX_FILE)?.trim().parse()?) };
    let before = setting()?;
    let failing = || -> Result<()> {
        let max = ConntrackMax::new()?;
        max.set(before + 1)?;
        ensure!(setting()? == before + 1, "it could not be set");
        bail!("as a test does that fails")
    };
    ensure!(failing().is_err() && setting()? == before, "after a failure: {}", setting()?);
    let max = ConntrackMax::new()?;
    max.set(before + 1)?;
    max.abandon()?;
    ensure!(setting()? == before + 1, "nobody was there to restore it");
    drop(ConntrackMax::new()?);
    ensure!(setting()? == before, "after a run that was killed: {}", setting()?);
    Ok(())
}
