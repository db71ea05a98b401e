//! What the live view writes: recordings and tables.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    net::{FAR4, Link},
    socklife::{lines, lost, socklife},
};

use crate::{
    Need, Test,
    view::{LARGE, View, grouped, row},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Tmux];
    vec![
        Test::new("top::records", &needs, records),
        Test::new("top::writes_the_table", &needs, writes_the_table),
    ]
}

/// Connects toward a port that found no local one, of the events in a capture.
fn connects_failed(file: &Path, port: u16) -> Result<(u64, Vec<Value>)> {
    let path = file.to_str().context("path")?;
    let exported = socklife(&["export", path, "--to", "jsonl", "-o", "-"])?;
    ensure!(exported.code == Some(0), "{exported:?}");
    let events = lines(&exported.stdout)?;
    let failed = |event: &&Value| event["error"] == "EADDRNOTAVAIL" && event["dport"] == port;
    let count = events.iter().filter(failed).count();
    Ok((u64::try_from(count)?, events))
}

/// A recording is a capture that has each failure.
fn records() -> Result<()> {
    const COUNT: u64 = 1357;
    let link = Link::new()?;
    let to = format!("{FAR4}:9106");
    let _hold = link.far.serve("hold", &[to.parse()?])?;
    let view = View::of(&link, LARGE, &[])?;
    link.near.sysctl("net.ipv4.ip_local_port_range", "40000 40063")?;
    view.terminal.keys(&["r"])?;
    let file = view
        .terminal
        .wait_for("a recording", || Ok(view.files(".socklife")?.into_iter().next()))?;
    view.terminal.wait("what is being done", |screen| screen.contains("REC"))?;
    let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{}: mode {mode:o}", file.display());
    link.near.fail(&["exhaust", "--to", &to, &format!("--count={COUNT}")])?;
    // When they are shown, they have come in. The file may have them later.
    view.pane("Upstreams")?;
    view.row(&to, &[grouped(COUNT)])?;
    view.terminal.keys(&["r"])?;
    view.terminal.wait("the end of the recording", |screen| !screen.contains("REC "))?;
    // All of it is on the disk when that is said.
    view.terminal.wait("how it ended", |screen| screen.contains("events recorded in"))?;
    // What comes now is in no recording.
    link.near.fail(&["exhaust", "--to", &to, "--count=10"])?;

    // Others beside it, one at once after the other.
    for more in 2..4 {
        view.terminal.keys(&["r"])?;
        view.terminal.wait_for("another recording", || {
            Ok((view.files(".socklife")?.len() == more).then_some(()))
        })?;
        view.terminal.wait("what is being done", |screen| screen.contains("REC"))?;
        view.terminal.keys(&["r"])?;
        view.terminal.wait("the end of the recording", |screen| !screen.contains("REC "))?;
    }
    view.quit()?;
    let (count, events) = connects_failed(&file, 9106)?;
    ensure!(count == COUNT && lost(&events) == 0, "{COUNT} failures, {count} are recorded");
    for event in events.iter().filter(|event| event["error"] == "EADDRNOTAVAIL") {
        let whole = event["reason"] == "port-range-exhausted"
            && event["comm"] == "socklife-load"
            && ["ts", "pid", "netns"].iter().all(|key| event.get(key).is_some());
        ensure!(whole, "not as trace has it: {event}");
    }
    Ok(())
}

/// The table is written whole, although the screen has room for a part of it.
fn writes_the_table() -> Result<()> {
    let link = Link::new()?;
    let view = View::of(&link, (80, 24), &[])?;
    let names: Vec<String> = (9300..9360).map(|port| format!("{FAR4}:{port}")).collect();
    for name in &names {
        link.near.fail(&["plain", "--to", name])?;
    }
    view.pane("Upstreams")?;
    let mut known = Vec::new();
    // Again when the table has all; never over one that is there.
    let file = view.terminal.wait_for("a table with all rows", || {
        view.terminal.keys(&["y"])?;
        let all = view.terminal.wait_for("one more table", || {
            Ok(Some(view.files(".txt")?).filter(|files| files.len() > known.len()))
        })?;
        let new = all.iter().find(|file| !known.contains(*file)).cloned().context("no new one")?;
        known = all;
        let text = fs::read_to_string(&new)?;
        Ok(names.iter().all(|name| row(&text, name).is_some()).then_some(new))
    })?;
    let name = file.file_name().context("no name")?.to_string_lossy().into_owned();
    ensure!(name.contains("upstreams"), "the pane is in its name: {name}");
    let said = |screen: &str| screen.lines().collect::<String>().contains(&name);
    view.terminal.wait("the path on the screen", said)?;
    let text = fs::read_to_string(&file)?;
    ensure!(!text.contains('\u{1b}'), "a table without styles: {text}");
    view.quit()?;
    for file in known {
        ensure!(fs::metadata(&file)?.len() > 0, "{} is empty", file.display());
    }
    Ok(())
}
