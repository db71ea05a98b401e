//! Figures of the live view against the truth: failures exactly, gauges as `ss` counts.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    net::{FAR4, Link, NEAR4, load_binary},
    process::Process,
};

use crate::{
    Need, Test,
    view::{LARGE, View, grouped, pid},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Tmux];
    vec![
        Test::new("top::failures_are_exact", &needs, failures),
        Test::new("top::open_file_failures_are_exact", &needs, open_files),
        Test::new("top::gauges_are_those_of_ss", &needs, gauges),
    ]
}

/// Of all that failed, how often with an errno.
fn failed(made: &Value, errno: &str) -> Result<u64> {
    made["outcomes"][errno].as_u64().with_context(|| format!("no {errno}: {made}"))
}

fn failures() -> Result<()> {
    let link = Link::new()?;
    let view = View::of(&link, LARGE, &[])?;
    let to = format!("{FAR4}:9101");
    let mut all = 0;
    // The second time shows that the first figure was not on its way to another one.
    for count in [1237, 2451] {
        let made = link.near.fail(&["plain", "--to", &to, &format!("--count={count}")])?;
        ensure!(failed(&made, "ECONNREFUSED")? == count, "{made}");
        all += count;
        view.pane("Upstreams")?;
        let row = view.row(&to, &[grouped(all)])?;
        println!("{row}");
        ensure!(row.contains("refused"), "the reason: {row}");
        view.pane("Processes")?;
        let row = view.row(&pid(&made)?.to_string(), &[grouped(count)])?;
        println!("{row}");
        ensure!(row.contains("socklife-load"), "the name: {row}");
    }
    view.quit()
}

fn open_files() -> Result<()> {
    let link = Link::new()?;
    let view = View::of(&link, LARGE, &[])?;
    for count in [613, 1724] {
        let made =
            link.near.fail(&["descriptors", "--to=127.0.0.1:1", &format!("--count={count}")])?;
        ensure!(failed(&made, "EMFILE")? == count, "{made}");
        view.pane("Processes")?;
        let row = view.row(&pid(&made)?.to_string(), &[grouped(count)])?;
        println!("{row}");
    }
    view.quit()
}

/// Established, under way, and in TIME-WAIT, in a namespace in which nothing else is.
fn gauges() -> Result<()> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    link.blackhole("10.77.0.9")?;
    let [held, hangs, closed] = [(FAR4, 9102), ("10.77.0.9", 9103), (FAR4, 9104)];
    let named = |(address, port): (&str, u16)| format!("{address}:{port}");
    let _hold = link.far.serve("hold", &[named(held).parse()?])?;
    let _follow = link.far.serve("follow", &[named(closed).parse()?])?;

    let view = View::of(&link, LARGE, &[])?;
    let mut grower = link.near.grow(&["connection", "--to", &named(held)])?;
    let mut hanging = link.near.command(load_binary());
    hanging.args(["hold", "--to", &named(hangs), "--then=hang", "--count=23"]);
    let _hanging = Process::start_ready(&mut hanging)?;
    let made = link.near.fail(&["close-first", "--to", &named(closed), "--count=41"])?;
    ensure!(failed(&made, "ok")? == 41, "{made}");
    link.near.wait_for_time_wait(41)?;

    let there = |state: &str, to: &str| -> Result<String> {
        let all = link.near.ss(&["-tn", "state", state, "src", NEAR4, "dst", to])?;
        Ok(grouped(all.len().try_into()?))
    };
    view.pane("Upstreams")?;
    for more in [37, 12] {
        grower.take(more)?;
        for (upstream, state) in [(held, "established"), (hangs, "syn-sent"), (closed, "time-wait")]
        {
            let name = named(upstream);
            let counted = there(state, &name)?;
            ensure!(counted != "0", "{name} {state}");
            println!("{counted} {state}: {}", view.row(&name, std::slice::from_ref(&counted))?);
        }
    }
    view.quit()
}
