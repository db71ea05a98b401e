//! Captures as they are recorded: exact, whole, and readable whatever ends them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;
use socklife_tests::{
    net::{Link, load_binary},
    process::{Finished, Process, run},
    socklife::{Socklife, last_line, socklife},
    socklife_binary, wait_for,
};
use tempfile::TempDir;

use crate::{Need, Test, signals::loaded};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("record::is_exact", &needs, || is_exact(&[])),
        Test::new("record::is_exact_with_loss", &needs, || is_exact(&["--ring-size=4K"])),
        Test::new("record::killed_under_load", &needs, killed_under_load),
        Test::new("record::disk_full", &needs, disk_full),
        Test::new("record::largest_size", &needs, largest_size),
        Test::new("record::rotates", &needs, rotates),
        Test::new("record::command", &needs, command),
        Test::new("record::overwrites_nothing", &[Need::Bpf], overwrites_nothing),
        Test::new("record::into_a_pipe", &needs, into_a_pipe),
    ]
}

/// A file's name in a directory that goes with the test.
pub(crate) struct Room {
    directory: TempDir,
}

impl Room {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()? })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// All files, by name.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.directory.path())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// `socklife report --format json` of a capture: the line, and what it says.
pub(crate) fn report(file: &str) -> Result<(String, Value)> {
    let end = socklife(&["report", "--format=json", file])?;
    ensure!(end.code == Some(0), "report ended with {:?}: {}", end.code, end.stderr);
    let value = last_line(&end.stdout)?;
    Ok((end.stdout, value))
}

pub(crate) fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().with_context(|| format!("no {key} in {value}"))
}

fn churn(link: &Link, connections: u64) -> Command {
    let mut load = link.near.command(load_binary());
    load.args(["churn", "--connections", &connections.to_string()]);
    load
}

fn record(link: &Link, more: &[&str]) -> Result<Socklife> {
    let path = link.near.path();
    Socklife::start(&[&["record", "--netns", &path][..], more].concat())
}

/// The value of a key, as it stands in a line of JSON: a list.
fn list_of<'a>(line: &'a str, key: &str) -> Result<&'a str> {
    let begin = line.find(&format!("\"{key}\":[")).with_context(|| format!("no {key}"))?;
    let list = &line[begin + key.len() + 3..];
    let mut depth = 0;
    for (at, character) in list.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(&list[..=at]);
        }
    }
    anyhow::bail!("{key} does not end")
}

/// What is in the file is what was produced, but for what was lost; and read again it adds up to the same, byte
/// for byte.
fn is_exact(more: &[&str]) -> Result<()> {
    const CONNECTIONS: u64 = 20_000;
    const REFUSED: u64 = 500;
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let arguments = [&["-o", &file, "--format=json"][..], more].concat();
    let recording = record(&link, &arguments)?;
    run(&mut churn(&link, CONNECTIONS))?;
    let count = format!("--count={REFUSED}");
    let failed = link.near.fail(&["plain", "--to=10.77.0.2:9101", &count])?;
    ensure!(failed["outcomes"]["ECONNREFUSED"] == REFUSED, "{failed}");
    if !more.is_empty() {
        recording.signal(Signal::SIGSTOP)?;
        run(&mut churn(&link, 1000))?;
        recording.signal(Signal::SIGCONT)?;
    }
    let end = recording.interrupt()?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    let live = last_line(&end.stdout)?;
    let (line, read) = report(&file)?;
    let (seen, lost, produced) =
        (number(&live, "seen")?, number(&live, "lost")?, number(&live, "produced")?);
    println!("{seen} events in the file + {lost} lost = {produced} produced");
    ensure!(seen + lost == produced, "{live}");
    ensure!((lost > 0) != more.is_empty(), "lost: {lost}");
    // Three transitions on either side, and two of each listener; what is refused has two.
    let churned = if more.is_empty() { CONNECTIONS } else { CONNECTIONS + 1000 };
    let listeners = if more.is_empty() { 1 } else { 2 };
    ensure!(produced == 6 * churned + 2 * listeners + 2 * REFUSED, "produced: {produced}");
    for key in ["lost", "produced"] {
        ensure!(read[key] == live[key], "{key}: {} and {}", read[key], live[key]);
    }
    ensure!(number(&read, "events")? == seen, "events: {} of {seen}", read["events"]);
    ensure!(read["complete"] == true && number(&read, "damaged_blocks")? == 0, "{line}");
    let (before, after) = (list_of(&end.stdout, "by")?, list_of(&line, "failures")?);
    ensure!(before == after, "live:\n{before}\nread again:\n{after}");
    ensure!(before.contains("ECONNREFUSED"), "{before}");
    Ok(())
}

/// The kernel takes its programs back, and the file holds all but what was written last.
fn killed_under_load() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let before = loaded()?;
    let file = room.text("capture");
    let recording = record(&link, &["-o", &file])?;
    let load = Process::start(&mut churn(&link, 10_000_000))?;
    // Some blocks are there, and more come.
    wait_for("the file to grow", || {
        let length = fs::metadata(room.path("capture"))?.len();
        Ok((length > 3_000_000).then_some(()))
    })?;
    let killed = Timestamp::now();
    let end = recording.end(Signal::SIGKILL)?;
    ensure!(end.code.is_none(), "it ended with {:?}", end.code);
    drop(load);
    wait_for("the kernel to drop the programs", || Ok((loaded()? == before).then_some(())))?;
    let (line, read) = report(&file)?;
    ensure!(read["complete"] == false, "{line}");
    ensure!(number(&read, "damaged_blocks")? <= 1, "{line}");
    let last: Timestamp = read["end"].as_str().context("no end")?.parse()?;
    let missing_ms = (killed - last).total(jiff::Unit::Millisecond)?;
    println!("{} events; the last {missing_ms:.0} ms before the kill are missing", read["events"]);
    ensure!(missing_ms < 1500.0, "the last event is {missing_ms} ms before the kill");
    Ok(())
}

/// A file system of this many bytes.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, size: &str) -> Result<Self> {
        fs::create_dir(at)?;
        let size = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at))?;
        Ok(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.0)) {
            eprintln!("{} stays mounted: {error:#}", self.0.display());
        }
    }
}

fn disk_full() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let at = room.path("disk");
    let _disk = Disk::mount(&at, "256k")?;
    let file = room.text("disk/capture");
    let recording = record(&link, &["-o", &file])?;
    let load = Process::start(&mut churn(&link, 10_000_000))?;
    let end = recording.finish()?;
    drop(load);
    ensure!(end.code == Some(1), "{:?} {}", end.code, end.stderr);
    let said = &end.stderr;
    ensure!(said.contains("No space left") && said.contains(&file), "{said}");
    ensure!(said.contains("events before it can be read"), "{said}");
    let (line, read) = report(&file)?;
    ensure!(number(&read, "events")? > 0 && read["complete"] == false, "{line}");
    ensure!(number(&read, "damaged_blocks")? == 0, "what found no room is cut off: {line}");
    Ok(())
}

fn largest_size() -> Result<()> {
    const MOST: u64 = 300 << 10;
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let recording = record(&link, &["-o", &file, "--max-size=300K"])?;
    let load = Process::start(&mut churn(&link, 10_000_000))?;
    let end = recording.finish()?;
    drop(load);
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    ensure!(end.stderr.contains("largest size"), "{}", end.stderr);
    let length = fs::metadata(room.path("capture"))?.len();
    ensure!((MOST / 2..=MOST).contains(&length), "{length} bytes");
    ensure!(report(&file)?.1["complete"] == true, "its end is missing");
    Ok(())
}

fn rotates() -> Result<()> {
    const MOST: u64 = 200 << 10;
    let (link, room) = (Link::new()?, Room::new()?);
    let file = room.text("capture");
    let recording = record(&link, &["-o", &file, "--max-size=200K", "--rotate=3"])?;
    // More than three files hold.
    run(&mut churn(&link, 40_000))?;
    let end = recording.interrupt()?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    ensure!(room.files()? == ["capture", "capture.1", "capture.2"], "{:?}", room.files()?);
    let mut last = None;
    for name in ["capture.2", "capture.1", "capture"] {
        ensure!(fs::metadata(room.path(name))?.len() <= MOST, "{name} is too large");
        let (line, read) = report(&room.text(name))?;
        ensure!(read["complete"] == true && number(&read, "events")? > 0, "{name}: {line}");
        ensure!(read["produced"].is_null(), "no file has it all: {line}");
        let start = read["start"].as_str().map(str::to_owned);
        ensure!(last <= start, "{name} begins at {start:?}, and the one before ended at {last:?}");
        last = read["end"].as_str().map(str::to_owned);
    }
    Ok(())
}

fn command() -> Result<()> {
    let (link, room) = (Link::new()?, Room::new()?);
    let path = link.near.path();
    let with = |name: &str, command: &[&str]| -> Result<Finished> {
        let file = room.text(name);
        socklife(&[&["record", "--netns", &path, "-o", &file, "--"][..], command].concat())
    };
    let end = with("seven", &["sh", "-c", "exit 7"])?;
    ensure!(end.code == Some(7), "{:?} {}", end.code, end.stderr);
    let end = with("killed", &["sh", "-c", "kill -TERM $$"])?;
    ensure!(end.code == Some(128 + 15), "{:?} {}", end.code, end.stderr);
    let end = with("none", &["/no/such/program"])?;
    ensure!(end.code == Some(127) && end.stderr.contains("/no/such/program"), "{}", end.stderr);
    ensure!(room.files()? == ["killed", "seven"], "{:?}", room.files()?);
    // From its first call to its last.
    let load = load_binary().display().to_string();
    let name = link.near.name().to_owned();
    let fail = ["ip", "netns", "exec", &name, &load, "fail", "plain", "--to=10.77.0.2:9101"];
    let end = with("load", &[&fail[..], &["--count=300"]].concat())?;
    ensure!(end.code == Some(0), "{:?} {}", end.code, end.stderr);
    let (line, read) = report(&room.text("load"))?;
    ensure!(read["failures"][0]["count"] == 300, "{line}");
    Ok(())
}

fn overwrites_nothing() -> Result<()> {
    let room = Room::new()?;
    let file = room.text("capture");
    let short = ["record", "--duration=100ms", "-o", &file];
    let end = socklife(&short)?;
    ensure!(end.code == Some(0), "{}", end.stderr);
    let mode = fs::metadata(room.path("capture"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "mode {mode:o}");
    let there = fs::read(room.path("capture"))?;
    let end = socklife(&short)?;
    ensure!(end.code == Some(1) && end.stderr.contains("--force"), "{}", end.stderr);
    ensure!(fs::read(room.path("capture"))? == there, "it was written to");
    // A link to another file is replaced, not followed.
    let other = room.path("other");
    fs::write(&other, "mine")?;
    fs::remove_file(room.path("capture"))?;
    std::os::unix::fs::symlink(&other, room.path("capture"))?;
    let end = socklife(&[&short[..], &["--force"]].concat())?;
    ensure!(end.code == Some(0), "{}", end.stderr);
    ensure!(fs::read_to_string(&other)? == "mine", "what the link named was written to");
    ensure!(fs::symlink_metadata(room.path("capture"))?.is_file(), "the link is still there");
    Ok(())
}

fn into_a_pipe() -> Result<()> {
    let link = Link::new()?;
    let mut command = Command::new("sh");
    let pipe = "\"$0\" record --netns \"$1\" -o - -- \
                ip netns exec \"$2\" \"$3\" fail plain --to=10.77.0.2:9101 --count=40 2>/dev/null | \
                \"$0\" report --format=json -";
    command.args(["-c", pipe]).arg(socklife_binary()).arg(link.near.path());
    let printed = run(command.arg(link.near.name()).arg(load_binary()))?;
    // The load prints a line into the pipe, too, which is no part of the capture.
    let read = last_line(&printed)?;
    ensure!(read["failures"][0]["count"] == 40, "{read}");
    Ok(())
}
