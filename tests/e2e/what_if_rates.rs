//! `check --what-if`: rates that never run out, and a proxy that keeps its connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, only},
    net::{FAR4, Link, NEAR4, load_binary},
    nginx::{Blocks, Nginx},
    process::{Process, run},
};

use crate::{Need, Test, what_if::foretold};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Namespaces];
    vec![
        Test::new("what_if::rate_with_tw_reuse", &needs, rate_with_tw_reuse),
        Test::new("what_if::rate_without", &needs, rate_without),
        Test::new("what_if::keepalive", &[Need::Namespaces, Need::Nginx], keepalive),
    ]
}

const NAME: &str = "net.ipv4.ip_local_port_range";
const PORTS: usize = 16;

/// New connections per second that a namespace really has, when a client tries as often as it can, and
/// the first [`PORTS`] are no more than the beginning.
fn rate(link: &Link, target: &str, seconds: f64) -> Result<f64> {
    let mut command = link.near.command(load_binary());
    let mut client =
        Process::start(command.args(["retry", "--to", target, &format!("--seconds={seconds}")]))?;
    let deadline = Instant::now() + Duration::from_secs_f64(seconds + 10.0);
    while !client.ended()? {
        ensure!(Instant::now() < deadline, "the client does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let said: Value = serde_json::from_str(&client.finish()?.stdout)?;
    let times = said["ok_ms"].as_array().context("times")?;
    let rounds = (times.len() - 1) / PORTS;
    ensure!(rounds > 0 && said["outcomes"]["EADDRNOTAVAIL"].is_u64(), "ports were left: {said}");
    let at = |index: usize| times[index].as_f64().context("a time");
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let made = (rounds * PORTS) as f64;
    let rate = made * 1000.0 / (at(rounds * PORTS)? - at(0)?);
    println!("{}: {} in {rounds} rounds, {rate:.3}/s", said["outcomes"], times.len());
    Ok(rate)
}

/// Two hosts, the near one with all its ports in TIME-WAIT.
fn all_closed() -> Result<(Link, Process, String)> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    link.near.sysctl(NAME, "40000 40015")?;
    let target = format!("{FAR4}:9001");
    let server = link.far.serve("follow", &[target.parse()?])?;
    link.near.fail(&["close-first", "--to", &target, &format!("--count={PORTS}")])?;
    let all = PORTS as u64;
    link.near.wait_for_time_wait(all)?;
    Ok((link, server, target))
}

/// What was foretold is what is measured, and no more than a little less.
fn near(foretold: &Value, measured: f64) -> Result<()> {
    let said = foretold["sustainable_per_s"].as_f64().context("no sustainable rate")?;
    ensure!(
        measured <= said * 1.01 && measured >= said * 0.95,
        "foretold {said}/s, measured {measured}/s: {foretold}"
    );
    Ok(())
}

/// An entry is taken over after a second.
fn rate_with_tw_reuse() -> Result<()> {
    let (link, _server, target) = all_closed()?;
    let foretold = foretold(&link.near, "tw_reuse=1")?;
    link.near.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    near(&foretold, rate(&link, &target, 6.5)?)?;
    let check = Check::of_namespace(&link.near, &[])?;
    let own = check.upstream(FAR4, 9001)?;
    ensure!(own["sustainable_per_s"] == foretold["sustainable_per_s"], "its own: {own}");
    Ok(())
}

/// An entry is there for a minute. From other ports than those that are in use.
fn rate_without() -> Result<()> {
    let (link, _server, target) = all_closed()?;
    let foretold = foretold(&link.near, "range=41000-41015")?;
    link.near.sysctl(NAME, "41000 41015")?;
    near(&foretold, rate(&link, &target, 63.0)?)?;
    let check = Check::of_namespace(&link.near, &[])?;
    let own = check.upstream(FAR4, 9001)?;
    ensure!(own["sustainable_per_s"] == foretold["sustainable_per_s"], "its own: {own}");
    Ok(())
}

/// A real Nginx that opens a connection for each request runs out; keeping them, it doesn't.
fn keepalive() -> Result<()> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    link.near.sysctl(NAME, "40000 40015")?;
    let many = "keepalive_requests 100000000;";
    let answers = format!("{many} return 200 here;");
    let _behind = Nginx::start(&link.far, "127.0.0.1:1", "", &answers)?;
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    // Nginx itself closes first, unless it keeps the connection.
    let server = "proxy_http_version 1.1; proxy_set_header Connection \"\";";
    let load = |keep: &str| -> Result<_> {
        let upstream = format!("upstream behind {{ server {FAR4}:{}; {keep} }}", Nginx::PORT);
        let blocks = Blocks { http: &upstream, server, ..Blocks::default() };
        let nginx = Nginx::start_with(&link.near, "behind", blocks)?;
        run(link.far.command("wrk").args(["-t", "1", "-c", "4", "-d", "2s", &target]))?;
        // Before it ends, and closes what it kept.
        let check = Check::of_namespace(&link.near, &["--what-if", "keepalive"])?;
        Ok((check, nginx.stop()?))
    };
    let to = [("dst", FAR4.into()), ("dport", Nginx::PORT.into())];
    let (check, logs) = load("")?;
    let found = check.one("ephemeral-ports", "upstream", &to)?;
    let foretold = only(&check.would_be("ephemeral-ports", "upstream"), &to)?;
    println!("without: {:?}\n{found:#}\nforetold: {foretold:#}", logs.statuses);
    ensure!(logs.with(99) > 10, "it does not run out: {logs:?}");
    let all = PORTS as u64;
    expect(found, &[("used", all.into()), ("headroom", 0.into()), ("status", "CRITICAL".into())])?;
    expect(foretold, &[("used", 0.into()), ("headroom", all.into()), ("status", "OK".into())])?;

    // Other ports than those that are in use.
    link.near.sysctl(NAME, "41000 41015")?;
    let (check, logs) = load(&format!("keepalive 16; {many}"))?;
    let found = check.one("ephemeral-ports", "upstream", &to)?;
    println!("with: {:?}\n{found:#}", logs.statuses);
    ensure!(logs.errors.is_empty() && logs.statuses.len() == 1, "it fails: {logs:?}");
    ensure!(logs.statuses.get(&200) > Some(&1000), "no load: {logs:?}");
    expect(found, &[("limit", all.into()), ("status", "OK".into())])?;
    // Never more than its two workers have clients that ask at once.
    ensure!(found["used"].as_u64() <= Some(8), "{found}");
    Ok(())
}
