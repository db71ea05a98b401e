//! The terminal of these tests itself: what it says of ordinary programs.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use socklife_tests::tmux::Terminal;

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("tmux::shell", &[Need::Tmux], shell),
        Test::new("tmux::program_on_the_alternate_screen", &[Need::Tmux], alternate_screen),
        Test::new("tmux::modes_that_were_left", &[Need::Tmux], modes_that_were_left),
    ]
}

fn shell() -> Result<()> {
    let terminal = Terminal::open((80, 24), Path::new("/"), &[("COLOUR", "grün")])?;
    ensure!(terminal.shell("echo ok")? == "ok", "echo");
    ensure!(terminal.shell("echo $COLOUR; pwd")? == "grün\n/", "environment, UTF-8, directory");
    ensure!(terminal.shell("stty size")? == "24 80", "size");
    terminal.resize(61, 11)?;
    ensure!(terminal.shell("stty size")? == "11 61", "another size");
    terminal.run(&["sh", "-c", "exit 3"])?;
    ensure!(terminal.shell("echo $ended")? == "3", "exit code");
    ensure!(terminal.shell("printf '\\033[45mwhat\\033[0m\\n'")? == "what", "text without styles");
    ensure!(terminal.styled()?.contains("\u{1b}[45mwhat"), "text with styles");
    Ok(())
}

/// `top` is such a program.
fn alternate_screen() -> Result<()> {
    let terminal = Terminal::open((100, 30), Path::new("/"), &[])?;
    let before = terminal.modes()?;
    ensure!(before.cursor && !before.alternate && !before.mouse, "{before:?}");
    for end in [None, Some(Signal::SIGTERM)] {
        terminal.run(&["top", "-d", "1"])?;
        let pid = terminal.program()?;
        terminal.wait("top", |screen| screen.contains("COMMAND"))?;
        ensure!(terminal.modes()?.line != before.line, "top reads keys, not lines");
        ensure!(terminal.foreground()? == pid, "another program");
        match end {
            None => terminal.keys(&["q"])?,
            Some(signal) => terminal.signal(signal)?,
        }
        ensure!(terminal.shell("echo ok")? == "ok", "echo");
        ensure!(terminal.modes()? == before, "after top: {:?}", terminal.modes());
    }
    terminal.run(&["sleep", "1000"])?;
    terminal.program()?;
    terminal.keys(&["C-z"])?;
    terminal.wait("the shell to say so", |screen| screen.contains("Stopped"))?;
    terminal.run(&["fg"])?;
    terminal.program()?;
    terminal.keys(&["C-c"])?;
    ensure!(terminal.shell("echo $ended")? == "130", "Ctrl-C");
    Ok(())
}

/// What a program leaves behind is seen.
fn modes_that_were_left() -> Result<()> {
    let terminal = Terminal::open((80, 24), Path::new("/"), &[])?;
    let before = terminal.modes()?;
    terminal.shell("stty -echo; printf '\\033[?25l\\033[?1000h'")?;
    let after = terminal.modes()?;
    ensure!(after.line != before.line && !after.cursor && after.mouse, "{after:?}");
    terminal.run(&["printf", "\\033[?1049h"])?;
    terminal.wait_for("the alternate screen", || Ok(terminal.modes()?.alternate.then_some(())))
}
