//! The keys of the live view: panes, filter, order, pause and time travel, details, help.

use anyhow::{Context, Result, ensure};
use socklife_tests::{
    net::{FAR4, Link, load_binary},
    process::Process,
    truth::Grower,
};

use crate::{
    Need, Test,
    view::{KEY, LARGE, PANES, View, active, flat, grouped, row, words},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Tmux];
    vec![
        Test::new("top::keys_open_panes", &needs, panes),
        Test::new("top::filter_narrows", &needs, filter),
        Test::new("top::sort_changes_the_order", &needs, sort),
        Test::new("top::pause_and_time_travel", &needs, pause),
        Test::new("top::details_and_help", &needs, details_and_help),
    ]
}

/// Upstreams of which each has something else.
struct Upstreams {
    _hold: Process,
    _hangs: Process,
    _connections: Grower,
}

/// With established connections; with connects under way; with failures.
const NAMES: [&str; 3] = ["10.77.0.2:9102", "10.77.0.9:9103", "10.77.0.2:9101"];

impl Upstreams {
    fn make(link: &Link) -> Result<Self> {
        link.blackhole("10.77.0.9")?;
        let hold = link.far.serve("hold", &[NAMES[0].parse()?])?;
        let mut connections = link.near.grow(&["connection", "--to", NAMES[0]])?;
        connections.take(7)?;
        let mut command = link.near.command(load_binary());
        command.args(["hold", "--to", NAMES[1], "--then=hang", "--count=23"]);
        let hangs = Process::start_ready(&mut command)?;
        Ok(Self { _hold: hold, _hangs: hangs, _connections: connections })
    }
}

/// A view of them, with its pane of upstreams open.
fn upstreams() -> Result<(Link, Upstreams, View)> {
    let link = Link::new()?;
    let upstreams = Upstreams::make(&link)?;
    let view = View::of(&link, LARGE, &[])?;
    link.near.fail(&["plain", "--to", NAMES[2], "--count=5"])?;
    view.pane("Upstreams")?;
    for (name, figure) in NAMES.iter().zip(["7", "23", "5"]) {
        view.row(name, &[figure.to_owned()])?;
    }
    Ok((link, upstreams, view))
}

fn panes() -> Result<()> {
    let (_link, _upstreams, view) = upstreams()?;
    for (_, name) in PANES.into_iter().chain(PANES.into_iter().rev()) {
        view.pane(name)?;
    }
    // There is something of its own in each.
    let shows = [
        ("Upstreams", NAMES[1]),
        ("Processes", "socklife-load"),
        ("Events", "refused"),
        ("Kernel", "frame"),
    ];
    for (pane, text) in shows {
        view.pane(pane)?;
        view.terminal.wait(text, |screen| screen.contains(text))?;
    }
    // Round, and to where it began.
    view.pane("Overview")?;
    for name in ["Upstreams", "Processes", "Events", "Kernel", "Overview"] {
        view.terminal.keys(&["Tab"])?;
        view.terminal.wait_for(&format!("{name} behind tab"), || {
            Ok((active(&view.terminal.styled()?).as_deref() == Some(name)).then_some(()))
        })?;
    }
    view.quit()
}

fn filter() -> Result<()> {
    let (_link, _upstreams, view) = upstreams()?;
    let all = |screen: &str| NAMES.iter().all(|name| row(screen, name).is_some());
    view.terminal.keys(&["/"])?;
    view.terminal.text("9103")?;
    view.terminal.keys(&["Enter"])?;
    let only = |screen: &str| {
        row(screen, NAMES[1]).is_some()
            && row(screen, NAMES[0]).is_none()
            && row(screen, NAMES[2]).is_none()
    };
    view.terminal.wait("one row", only)?;
    view.terminal.keys(&["/"])?;
    view.terminal.keys(&["BSpace"; 4])?;
    view.terminal.keys(&["Enter"])?;
    view.terminal.wait("all rows", all)?;
    view.quit()
}

fn sort() -> Result<()> {
    let (_link, _upstreams, view) = upstreams()?;
    let order = |screen: &str| -> Vec<String> {
        let first = |line: &str| words(line).first().map(|word| (*word).to_owned());
        screen.lines().filter_map(first).filter(|name| NAMES.contains(&name.as_str())).collect()
    };
    let before = order(&view.terminal.screen()?);
    ensure!(before.len() == NAMES.len(), "rows: {before:?}");
    // One of the columns orders them otherwise.
    for _ in 0..20 {
        view.terminal.keys(&["s"])?;
        let other = |screen: &str| order(screen).len() == NAMES.len() && order(screen) != before;
        if let Ok(screen) = view.terminal.within(KEY, "another order", other) {
            println!("{before:?}, then {:?}", order(&screen));
            return view.quit();
        }
    }
    anyhow::bail!("no other order than {before:?}: {}", view.terminal.screen()?)
}

/// What is shown stands while the load goes on; what was before it can be seen; then all is there.
fn pause() -> Result<()> {
    let (link, _upstreams, view) = upstreams()?;
    let late = format!("{FAR4}:9105");
    ensure!(row(&view.terminal.screen()?, &late).is_none(), "it has not begun");
    let fail = |count: u64| -> Result<()> {
        let count = format!("--count={count}");
        link.near.fail(&["plain", "--to", &late, &count]).map(drop)
    };
    fail(1111)?;
    view.row(&late, &[grouped(1111)])?;

    view.terminal.keys(&["Space"])?;
    view.terminal.wait("the pause", |screen| screen.contains("PAUSED"))?;
    fail(1000)?;
    // Long enough for several shots; another key is answered meanwhile, and nothing changes.
    for name in ["Processes", "Upstreams", "Processes", "Upstreams"] {
        view.pane(name)?;
    }
    let screen = view.terminal.screen()?;
    ensure!(screen.contains("PAUSED"), "{screen}");
    let shown = row(&screen, &late).context("the row is gone")?;
    ensure!(words(shown).contains(&"1,111"), "it is paused: {shown}");

    let before = |screen: &str| screen.contains("PAUSED") && row(screen, &late).is_none();
    let mut back = 0;
    while view.terminal.within(KEY / 2, "the time before", before).is_err() {
        view.terminal.keys(&["Left"])?;
        back += 1;
        ensure!(back <= 120, "two minutes back: {}", view.terminal.screen()?);
    }
    println!("the time before the failures is {back} steps back");
    ensure!(back > 0, "a step is needed");
    ensure!(row(&view.terminal.screen()?, NAMES[0]).is_some(), "what was there then");
    let mut forth = 0;
    let again = |screen: &str| row(screen, &late).is_some();
    while view.terminal.within(KEY / 2, "the time with them", again).is_err() {
        view.terminal.keys(&["Right"])?;
        forth += 1;
        ensure!(forth <= back, "{back} steps forth: {}", view.terminal.screen()?);
    }
    view.terminal.keys(&["Space"])?;
    view.terminal.wait("the end of the pause", |screen| !screen.contains("PAUSED"))?;
    view.row(&late, &[grouped(2111)])?;
    view.quit()
}

fn details_and_help() -> Result<()> {
    let (_link, _upstreams, view) = upstreams()?;
    view.terminal.keys(&["/"])?;
    view.terminal.text("9102")?;
    view.terminal.keys(&["Enter"])?;
    let table = |screen: &str| {
        row(screen, NAMES[0]).is_some_and(|row| words(row).len() > 6)
            && row(screen, NAMES[1]).is_none()
    };
    view.terminal.wait("one row", table)?;
    let process = |screen: &str| screen.contains("socklife-load[") && !table(screen);
    view.terminal.keys(&["Enter"])?;
    let screen = view.terminal.wait("the detail, which says whose sockets they are", process)?;
    ensure!(flat(&screen).contains(NAMES[0]), "of what: {screen}");
    view.terminal.keys(&["Escape"])?;
    view.terminal.wait("the table again", table)?;

    let help = |screen: &str| {
        let text = flat(screen);
        ["help", "pause", "record", "sort"].iter().all(|word| text.contains(word)) && !table(screen)
    };
    for close in ["Escape", "?"] {
        view.terminal.keys(&["?"])?;
        view.terminal.wait("help", help)?;
        view.terminal.keys(&[close])?;
        view.terminal.wait("the table again", table)?;
    }
    view.quit()
}
