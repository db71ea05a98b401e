//! The live view and what it may not trust, and who may not see all.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use socklife_tests::{
    net::{FAR4, Link, load_binary},
    process::run,
};

use crate::{
    Need, Test,
    styles::cells,
    view::{LARGE, PANES, View, flat},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Tmux];
    vec![
        Test::new("top::hostile_name", &needs, hostile_name),
        Test::new("top::without_privilege", &needs[1..], without_privilege),
    ]
}

/// A process's name that would colour the screen, clear it and write elsewhere.
fn hostile_name() -> Result<()> {
    // Magenta behind it, and "crossed out"; 15 bytes.
    const NAME: &str = "\u{1b}[45;9m\u{1b}[2Jevi";
    let link = Link::new()?;
    let view = View::of(&link, LARGE, &[])?;
    let program = view.directory.path().join(NAME);
    std::fs::copy(load_binary(), &program).context("a copy of socklife-load")?;
    let to = format!("{FAR4}:9108");
    run(link.near.command(program).args(["fail", "plain", "--to", &to, "--count=9"]))?;
    view.pane("Upstreams")?;
    view.row(&to, &["9".to_owned()])?;
    for pane in ["Processes", "Events"] {
        view.pane(pane)?;
        // A narrow column has room for its beginning.
        let visible = r"\u{1b}";
        view.terminal.wait("the name, made visible", |screen| screen.contains(visible))?;
        for cell in cells(&view.terminal.styled()?)?.iter().flatten() {
            let styled = cell.1.background == [45] || cell.1.attributes.contains(&9);
            ensure!(!styled, "{pane}: the name styles {cell:?}");
        }
    }
    for (_, pane) in PANES {
        view.pane(pane)?;
        let screen = view.terminal.screen()?;
        ensure!(!screen.chars().any(|c| c.is_control() && c != '\n'), "{pane}: {screen:?}");
    }
    view.quit()
}

/// Whoever may not load programs sees ceilings, and what is missing.
fn without_privilege() -> Result<()> {
    let view = View::shell(LARGE, &[])?;
    let program = view.program()?;
    run(Command::new("chmod").arg("755").arg(&program))?;
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    view.terminal.run(&[&nobody[..], &[&*program.to_string_lossy(), "top"]].concat())?;
    view.shown()?;
    let says = |screen: &str| {
        let text = flat(screen);
        text.contains("CAP_BPF") && text.contains("root")
    };
    let screen = view.terminal.wait("what is missing", says)?;
    println!("{}", flat(&screen));
    view.terminal.wait("ceilings", |screen| {
        let text = flat(screen);
        ["open-files", "time-wait"].iter().all(|ceiling| text.contains(ceiling))
    })?;
    view.quit()
}
