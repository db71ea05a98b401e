//! The live view over a capture: real incidents (Nginx without free ports, then without free files), in a terminal.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use socklife_tests::{socklife::socklife, socklife_binary};

use crate::{
    Need, Test,
    view::{LARGE, View, flat},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("replay::names_what_was_wrong", &[Need::Tmux], names_what_was_wrong),
        Test::new("replay::ends_with_the_capture", &[Need::Tmux], ends_with_the_capture),
        Test::new("replay::refuses_what_it_cant_play", &[], refuses),
    ]
}

fn incidents() -> Result<PathBuf> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer/fixtures/incidents-v1.socklife");
    PathBuf::from(path).canonicalize().context(path)
}

/// The bar below the tabs.
fn bar(screen: &str) -> &str {
    screen.lines().find(|line| line.trim_start().starts_with("REPLAY")).unwrap_or_default()
}

fn names_what_was_wrong() -> Result<()> {
    let view = View::shell((80, 24), &[("TZ", "UTC")])?;
    ensure!(view.terminal.shell("echo ok")? == "ok", "the shell");
    let before = view.terminal.modes()?;
    view.start(&["replay", &incidents()?.to_string_lossy()])?;
    view.terminal.wait("the first seconds", |screen| bar(screen).contains("REPLAY  1x"))?;
    view.terminal.keys(&["Space"])?;
    view.terminal.wait("the pause", |screen| bar(screen).contains("PAUSED 1x"))?;

    view.terminal.keys(&["0"])?;
    view.terminal.wait("the beginning", |screen| bar(screen).contains("  0 %"))?;
    view.terminal.keys(&["n"])?;
    let ports = |screen: &str| {
        let text = flat(screen);
        text.contains("can't connect to 10.77.0.2:9001: no free local port (64 of 64 used")
            && text.contains("CRITICAL")
    };
    let screen = view.terminal.wait("port exhaustion", ports)?;
    ensure!(bar(&screen).contains("PAUSED") && bar(&screen).contains("08:49:08"), "{screen}");
    println!("{}", flat(&screen));

    view.terminal.keys(&["g"])?;
    view.terminal.wait("what to type", |screen| screen.contains("go to"))?;
    view.terminal.text("08:49:20")?;
    view.terminal.keys(&["Enter"])?;
    let files = |screen: &str| {
        bar(screen).contains("08:49:20") && flat(screen).contains("can't open more files: EMFILE")
    };
    view.terminal.wait("open-file exhaustion", files)?;
    view.terminal.keys(&["["])?;
    view.terminal.wait("ten seconds before", |screen| {
        bar(screen).contains("08:49:10") && ports(screen) && !screen.contains("EMFILE")
    })?;
    view.terminal.keys(&["+"])?;
    view.terminal.wait("the speed", |screen| bar(screen).contains("PAUSED 2x"))?;
    view.terminal.keys(&["?"])?;
    view.terminal.wait("help", |screen| screen.contains("keys of the replay"))?;
    view.terminal.keys(&["?"])?;
    view.quit()?;
    ensure!(view.terminal.modes()? == before, "the terminal is not as it was");
    Ok(())
}

fn ends_with_the_capture() -> Result<()> {
    let view = View::shell(LARGE, &[("TZ", "UTC")])?;
    view.start(&["replay", &incidents()?.to_string_lossy()])?;
    // 256x, and max.
    view.terminal.keys(&["+"; 10])?;
    view.terminal.wait("the end", |screen| {
        bar(screen).contains("END") && screen.contains("end of the capture")
    })?;
    view.terminal.keys(&["5"])?;
    view.terminal.wait("where it is from", |screen| {
        let text = flat(screen);
        text.contains("32,534 since the start") && text.contains("recorded on vm, kernel")
    })?;
    view.quit()
}

fn refuses() -> Result<()> {
    let of_stdin = socklife(&["replay", "-"])?;
    ensure!(of_stdin.code == Some(2), "{of_stdin:?}");
    ensure!(of_stdin.stderr.contains("standard input"), "{of_stdin:?}");
    let gone = socklife(&["replay", "/nowhere/at-all"])?;
    ensure!(gone.code == Some(1) && gone.stderr.contains("No such file"), "{gone:?}");
    let other = socklife(&["replay", "/proc/self/exe"])?;
    ensure!(other.code == Some(1) && other.stderr.contains("no capture of socklife"), "{other:?}");
    let mut piped = Command::new(socklife_binary());
    let piped = piped.arg("replay").arg(incidents()?).output()?;
    let said = String::from_utf8_lossy(&piped.stderr);
    ensure!(piped.status.code() == Some(1), "{piped:?}");
    ensure!(said.contains("no terminal") && said.contains("socklife report"), "{said}");
    Ok(())
}
