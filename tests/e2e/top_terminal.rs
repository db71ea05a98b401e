//! The live view and its terminal: sizes, how it is left, colours, characters, and none at all.

use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use socklife_tests::{net::Link, process::Process, socklife_binary};

use crate::{
    Need, Test,
    styles::cells,
    view::{LARGE, PANES, View},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Tmux];
    vec![
        Test::new("top::resizes", &needs, resizes),
        Test::new("top::leaves_the_terminal_sane", &needs, leaves_the_terminal_sane),
        Test::new("top::suspends", &needs, suspends),
        Test::new("top::no_color", &needs, no_color),
        Test::new("top::ascii", &needs, ascii),
        Test::new("top::not_a_terminal", &[], not_a_terminal),
        Test::new("top::is_the_default", &[Need::Tmux], is_the_default),
    ]
}

fn resizes() -> Result<()> {
    let link = Link::new()?;
    let view = View::of(&link, LARGE, &[])?;
    let pid = view.terminal.foreground()?;
    let mut last = view.terminal.screen()?;
    for (columns, rows) in [(60, 20), (20, 5), (1, 1), (20, 5), (200, 50), (60, 20), (200, 50)] {
        view.terminal.resize(columns, rows)?;
        // A key, so that there is something to draw whatever was there.
        view.terminal.keys(&[if rows == 5 { "2" } else { "1" }])?;
        if columns > 1 {
            last = view.terminal.wait(&format!("{columns}x{rows}"), |screen| {
                let fits = screen.lines().all(|line| line.chars().count() <= columns.into());
                fits && screen != last && !screen.trim().is_empty()
            })?;
        }
        ensure!(view.terminal.foreground()? == pid, "it has ended: {last}");
        if columns >= 60 {
            view.terminal.wait("the panes", |screen| {
                screen.contains("Overview") && screen.contains("Kernel") && screen.contains("quit")
            })?;
        }
    }
    view.quit()
}

/// Whatever ends it.
fn leaves_the_terminal_sane() -> Result<()> {
    enum End {
        Key(&'static str),
        Signal(Signal),
    }
    let link = Link::new()?;
    let (near, view) = (link.near.path(), View::shell((100, 30), &[])?);
    ensure!(view.terminal.shell("echo ok")? == "ok", "the shell");
    let before = view.terminal.modes()?;
    ensure!(before.cursor && !before.alternate && !before.mouse, "{before:?}");
    let ends = [
        End::Key("q"),
        End::Key("C-c"),
        End::Signal(Signal::SIGTERM),
        End::Signal(Signal::SIGINT),
        End::Signal(Signal::SIGHUP),
    ];
    for end in ends {
        view.start(&["top", "--netns", &near])?;
        let during = view.terminal.modes()?;
        ensure!(during.alternate && during.line != before.line, "{during:?}");
        let name = match end {
            End::Key(key) => {
                view.terminal.keys(&[key])?;
                key
            }
            End::Signal(signal) => {
                view.terminal.signal(signal)?;
                signal.as_str()
            }
        };
        let said = view.terminal.shell("echo ended with $ended")?;
        println!("{name}: {said}");
        ensure!(said == "ended with 0", "{name}: {said}");
        let after = view.terminal.modes()?;
        ensure!(after == before, "{name}: {after:?} instead of {before:?}");
    }
    Ok(())
}

/// Ctrl-Z, and back again, twice.
fn suspends() -> Result<()> {
    let link = Link::new()?;
    let view = View::shell((100, 30), &[])?;
    ensure!(view.terminal.shell("echo ok")? == "ok", "the shell");
    let before = view.terminal.modes()?;
    view.start(&["top", "--netns", &link.near.path()])?;
    for _ in 0..2 {
        view.terminal.keys(&["C-z"])?;
        view.terminal.wait("the shell to say so", |screen| screen.contains("Stopped"))?;
        ensure!(view.terminal.shell("echo ok")? == "ok", "the shell");
        let stopped = view.terminal.modes()?;
        ensure!(stopped == before, "{stopped:?} instead of {before:?}");
        view.terminal.run(&["fg"])?;
        view.shown()?;
        // It is drawn whole, and hears keys.
        view.watches(&link)?;
    }
    view.quit()?;
    let after = view.terminal.modes()?;
    ensure!(after == before, "{after:?} instead of {before:?}");
    Ok(())
}

/// A view of failures, in each of its panes.
fn each_pane(environment: &[(&str, &str)], check: impl Fn(&View) -> Result<()>) -> Result<()> {
    let link = Link::new()?;
    let view = View::of(&link, LARGE, environment)?;
    link.near.fail(&["plain", "--to=10.77.0.2:9107", "--count=7"])?;
    view.pane("Upstreams")?;
    view.row("10.77.0.2:9107", &["7".to_owned()])?;
    for (_, name) in PANES {
        view.pane(name)?;
        check(&view)?;
    }
    view.terminal.keys(&["?"])?;
    view.terminal.wait("help", |screen| screen.contains("pause"))?;
    check(&view)?;
    view.terminal.keys(&["Escape"])?;
    view.quit()
}

/// Attributes say what colours would.
fn no_color() -> Result<()> {
    each_pane(&[("NO_COLOR", "1")], |view| {
        let styled = view.terminal.styled()?;
        for cell in cells(&styled)?.iter().flatten() {
            let plain = cell.1.foreground.is_empty() && cell.1.background.is_empty();
            ensure!(plain, "{cell:?} in {styled:?}");
        }
        Ok(())
    })
}

fn ascii() -> Result<()> {
    each_pane(&[("LC_ALL", "C")], |view| {
        let screen = view.terminal.screen()?;
        let odd: Vec<char> = screen.chars().filter(|c| !c.is_ascii()).collect();
        ensure!(odd.is_empty(), "{odd:?} on the screen:\n{screen}");
        Ok(())
    })
}

/// A clear word, at once.
fn not_a_terminal() -> Result<()> {
    for arguments in [&["top"][..], &[]] {
        let mut command = Command::new(socklife_binary());
        let end = Process::start(command.args(arguments))?.finish()?;
        println!("{}", end.stderr.trim());
        ensure!(matches!(end.code, Some(1 | 2)), "exit code {:?}", end.code);
        ensure!(end.stderr.contains("terminal"), "it says why: {}", end.stderr);
        ensure!(end.stdout.is_empty(), "nothing is drawn: {:?}", end.stdout);
    }
    Ok(())
}

fn is_the_default() -> Result<()> {
    let view = View::open((100, 30), &[], &[])?;
    view.terminal
        .wait("all panes", |screen| PANES.iter().all(|(_, name)| screen.contains(name)))?;
    view.quit()
}
