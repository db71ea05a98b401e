//! The live view of real incidents: who, what, toward whom, why, and what to do, within seconds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Need, Test,
    demo::{Demo, workers},
    view::{LARGE, View, flat, grouped, number},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx, Need::Tmux];
    vec![
        Test::new("top::names_port_exhaustion", &needs, ports),
        Test::new("top::names_open_files", &needs, files),
        Test::new("top::names_conntrack", &needs, conntrack),
        Test::new("top::foretells_full_ports", &needs, time_wait),
        Test::new("top::small_terminal_names_it_too", &needs, small),
    ]
}

/// Seconds after the first failure in which its sentence must be there.
const SOON: f64 = 5.0;

/// A view of a demonstration's hosts.
fn view_of(demo: &Demo, size: (u16, u16)) -> Result<View> {
    let [near, far] = &demo.paths;
    View::open(size, &[], &["top", "--netns", near, "--netns", far])
}

/// Waits for a sentence on the screen, and holds its time against the first failure's.
fn soon(
    view: &View,
    demo: &mut Demo,
    what: &str,
    mut has: impl FnMut(&str) -> bool,
) -> Result<String> {
    let screen = view.terminal.wait(what, |screen| has(&flat(screen)))?;
    let shown = Timestamp::now();
    let failing = demo.next("failing")?;
    let failing: Timestamp = failing["failing"].as_str().context("no time")?.parse()?;
    let seconds = shown.duration_since(failing).as_secs_f64();
    println!("{what}: on the screen {seconds:.1} s after the first failure");
    ensure!(seconds <= SOON, "after {seconds} s: {screen}");
    Ok(flat(&screen))
}

/// A sentence begins with one of the real workers.
fn names_a_worker(text: &str, facts: &Value, rest: &str) -> bool {
    workers(facts).iter().any(|pid| {
        let names = [format!("nginx[{pid}] {rest}"), format!("nginx[{pid}] and 1 more {rest}")];
        names.iter().any(|name| text.contains(name))
    })
}

/// The remedy is below the banner, or in the detail.
fn remedy(view: &View, any: &[&str]) -> Result<()> {
    let has = |screen: &str| any.iter().any(|remedy| flat(screen).contains(remedy));
    if view.terminal.within(Duration::from_secs(2), "a remedy", has).is_err() {
        view.terminal.keys(&["Enter"])?;
        view.terminal.wait("a remedy in the detail", has)?;
    }
    Ok(())
}

/// Of each sentence with these words: the number before the first `/s` behind them.
fn rates<'a>(text: &'a str, behind: &'a str) -> impl Iterator<Item = u64> + 'a {
    text.split(behind).skip(1).filter_map(|rest| {
        let before =
            rest.split_once("/s")?.0.trim_end_matches(" failures").trim_end_matches(" drops");
        number(before.rsplit(' ').next()?)
    })
}

fn ports() -> Result<()> {
    let mut demo = Demo::start("ports")?;
    let view = view_of(&demo, LARGE)?;
    let facts = demo.begin()?;
    let text = soon(&view, &mut demo, "port exhaustion", |text| {
        names_a_worker(text, &facts, "can't connect to 10.77.0.2:9001")
            && text.contains("local port")
    })?;
    ensure!(text.contains("CRITICAL"), "{text}");
    let full = |screen: &str| {
        let text = flat(screen);
        text.contains("64 of 64") && rates(&text, "can't connect to").any(|rate| rate > 200)
    };
    let screen = view.terminal.wait("all ports and a rate", full)?;
    println!("{}", flat(&screen));
    remedy(&view, &["keepalive", "ip_local_port_range"])?;
    let truth = demo.end_incident()?;
    println!("{truth}");
    ensure!(truth["errors"]["99"].as_object().is_some_and(|by| by.len() == 2), "{truth}");
    view.quit()?;
    demo.end()
}

fn files() -> Result<()> {
    let mut demo = Demo::start("files")?;
    let view = view_of(&demo, LARGE)?;
    let facts = demo.begin()?;
    let text = soon(&view, &mut demo, "open files", |text| {
        names_a_worker(text, &facts, "can't open more files") && text.contains("EMFILE")
    })?;
    ensure!(text.contains("CRITICAL"), "{text}");
    // The file of a client that is turned away is free for a moment.
    let full = |text: &str| (22..=24).any(|used| text.contains(&format!("{used} of 24 ")));
    view.terminal.wait("the limit", |screen| full(&flat(screen)))?;
    remedy(&view, &["worker_rlimit_nofile", "LimitNOFILE"])?;
    view.quit()?;
    demo.end()
}

fn conntrack() -> Result<()> {
    let mut demo = Demo::start("conntrack")?;
    let view = view_of(&demo, LARGE)?;
    let facts = demo.begin()?;
    if let Some(why) = facts["skipped"].as_str() {
        println!("not staged: {why}");
        return demo.end();
    }
    let max = std::fs::read_to_string(socklife_tests::conntrack::MAX)?;
    let max = grouped(max.trim().parse()?);
    let text = soon(&view, &mut demo, "conntrack", |text| {
        text.contains("conntrack table full") && text.contains("CRITICAL")
    })?;
    ensure!(text.contains(&format!("{max} of {max}")), "{max} entries: {text}");
    let drops = |screen: &str| rates(&flat(screen), "conntrack table full").any(|rate| rate > 0);
    view.terminal.wait("drops a second", drops)?;
    remedy(&view, &["nf_conntrack_max"])?;
    view.quit()?;
    demo.end()
}

/// Nothing fails yet, and it is known when it will.
fn time_wait() -> Result<()> {
    let mut demo = Demo::start("time-wait")?;
    let view = view_of(&demo, LARGE)?;
    let facts = demo.begin()?;
    let wanted = format!("10.77.0.1 to {}", facts["upstream"].as_str().context("upstream")?);
    let seconds = |text: &str| {
        let (_, rest) = text.split_once(&wanted)?;
        number(rest.split_once("full in ")?.1)
    };
    let begun = Timestamp::now();
    let screen = view.terminal.wait("a forecast", |screen| seconds(&flat(screen)).is_some())?;
    let shown = Timestamp::now().duration_since(begun).as_secs_f64();
    let text = flat(&screen);
    let stated = seconds(&text).context("seconds")?;
    println!("full in {stated} s, on the screen {shown:.1} s after the load began");
    let (_, rest) = text.split_once(&format!("{wanted}: ")).with_context(|| text.clone())?;
    let (used, rest) = rest.split_once(" of ").with_context(|| text.clone())?;
    let left = number(rest).context("ports")? - number(used).context("used")?;
    let truth = left / facts["rate"].as_u64().context("rate")?;
    ensure!(stated.abs_diff(truth) <= 3 + truth / 4, "{stated} s instead of {truth}: {text}");
    let less = |screen: &str| seconds(&flat(screen)).is_some_and(|now| now + 3 <= stated);
    view.terminal.wait("it to count down", less)?;
    remedy(&view, &["keepalive", "tcp_tw_reuse", "ip_local_port_range"])?;
    let truth = demo.end_incident()?;
    ensure!(truth["errors"] == serde_json::json!({}), "nothing has failed: {truth}");
    view.quit()?;
    demo.end()
}

/// 80 columns and 24 lines have room for all that matters.
fn small() -> Result<()> {
    let mut demo = Demo::start("ports")?;
    let view = view_of(&demo, (80, 24))?;
    let facts = demo.begin()?;
    soon(&view, &mut demo, "port exhaustion on a small screen", |text| {
        names_a_worker(text, &facts, "can't connect to 10.77.0.2:9001")
            && text.contains("local port")
    })?;
    remedy(&view, &["keepalive", "ip_local_port_range"])?;
    view.quit()?;
    demo.end()
}
