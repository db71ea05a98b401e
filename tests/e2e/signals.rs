//! How a run ends: by time, by signal, by a reader that goes away or stands still.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use socklife_tests::{
    net::Link,
    socklife::{Socklife, WATCHING, last_line, socklife},
    socklife_binary, wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("signals::each_ends_with_totals", &needs, each_ends_with_totals),
        Test::new("signals::duration", &needs, duration),
        Test::new("signals::fail_over", &needs, fail_over),
        Test::new("signals::reader_gone", &needs, reader_gone),
        Test::new("signals::reader_stands_still", &needs, reader_stands_still),
        Test::new("signals::nothing_stays_in_the_kernel", &needs, nothing_stays_in_the_kernel),
    ]
}

fn refuse(link: &Link, count: &str) -> Result<()> {
    link.near.fail(&["plain", "--to", "10.77.0.2:9101", "--count", count]).map(drop)
}

fn each_ends_with_totals() -> Result<()> {
    let link = Link::new()?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let path = link.near.path();
        let arguments = ["count", "--error=all", "--format=json", "--netns", &path];
        let counting = Socklife::start(&arguments)?;
        refuse(&link, "12")?;
        let end = counting.end(signal)?;
        ensure!(end.code == Some(0), "{signal}: {:?} {}", end.code, end.stderr);
        ensure!(last_line(&end.stdout)?["total"] == 12, "{signal}: {}", end.stdout);
    }
    Ok(())
}

fn duration() -> Result<()> {
    let end = socklife(&["count", "--duration=300ms", "--interval=100ms", "--format=json"])?;
    ensure!(end.code == Some(0), "{}", end.stderr);
    let seconds = last_line(&end.stdout)?["duration_s"].as_f64().context("no duration")?;
    ensure!(seconds >= 0.3, "it ran {seconds} s");
    ensure!(end.stdout.lines().count() >= 3, "an object every interval: {}", end.stdout);
    Ok(())
}

fn fail_over() -> Result<()> {
    let link = Link::new()?;
    let path = link.near.path();
    for (most, code) in [("11", 4), ("12", 0)] {
        let arguments = ["count", "--error=ECONNREFUSED", "--netns", &path, "--fail-over", most];
        let counting = Socklife::start(&arguments)?;
        refuse(&link, "12")?;
        let end = counting.interrupt()?;
        ensure!(end.code == Some(code), "above {most}: {:?} {}", end.code, end.stdout);
    }
    Ok(())
}

/// As with `socklife trace | head -1`.
fn reader_gone() -> Result<()> {
    let link = Link::new()?;
    let mut child = Command::new(socklife_binary())
        .args(["trace", "--netns", &link.near.path()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    drop(child.stdout.take());
    let code = wait_for("the end of trace", || {
        refuse(&link, "1")?;
        Ok(child.try_wait()?)
    });
    if code.is_err() {
        child.kill()?;
        child.wait()?;
    }
    ensure!(code?.code() == Some(0), "it ended with an error");
    Ok(())
}

/// As with `socklife trace | less`: a signal is heard although nobody takes the output.
fn reader_stands_still() -> Result<()> {
    let link = Link::new()?;
    let path = link.near.path();
    let mut command = Command::new("sh");
    // The pipe's reader never reads; `sleep` ends with the test at the latest.
    command.args([
        "-c",
        "\"$0\" trace --format=json --netns \"$1\" & echo $!; wait $!; echo code $? >&2",
    ]);
    command.arg(socklife_binary()).arg(&path);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = std::io::BufReader::new(child.stdout.take().context("no output")?);
    let mut pid = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut pid)?;
    let pid: i32 = pid.trim().parse()?;
    let mut stderr = std::io::BufReader::new(child.stderr.take().context("no error")?);
    let mut said = String::new();
    while !said.lines().any(|line| line.starts_with(WATCHING)) {
        ensure!(std::io::BufRead::read_line(&mut stderr, &mut said)? > 0, "it ended: {said}");
    }
    // More than a pipe and the blocks on their way to it hold.
    refuse(&link, "20000")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM)?;
    let ended = wait_for("the end of trace", || Ok(child.try_wait()?));
    if ended.is_err() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL)?;
        child.wait()?;
    }
    ended?;
    std::io::Read::read_to_string(&mut stderr, &mut said)?;
    ensure!(said.contains("standard output is blocked") && said.contains("code 1"), "{said}");
    Ok(())
}

/// Programs and maps go with the process, also when it is killed.
fn nothing_stays_in_the_kernel() -> Result<()> {
    let before = loaded()?;
    let killed = Socklife::start(&["trace"])?;
    ensure!(loaded()? == before + 1, "the program is not where it is looked for");
    killed.end(Signal::SIGKILL)?;
    wait_for("the kernel to drop the program", || Ok((loaded()? == before).then_some(())))
}

/// How many of our programs for state changes the kernel holds.
pub(crate) fn loaded() -> Result<usize> {
    let names = ["state_tp_btf", "state_tracepoin"];
    let mut found = 0;
    for program in aya::programs::loaded_programs() {
        found += usize::from(program?.name_as_str().is_some_and(|name| names.contains(&name)));
    }
    Ok(found)
}
