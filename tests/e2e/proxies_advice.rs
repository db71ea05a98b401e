//! What `check` advises where the ports of a real Nginx run out fits its configuration, and ends the 502s.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect},
    net::{FAR4, Link, NEAR4},
    nginx::{Blocks, Logs, Nginx},
    process::run,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Namespaces, Need::Nginx];
    vec![
        Test::new("advice::keepalive", &needs, keepalive),
        Test::new("advice::second_source", &needs, second_source),
    ]
}

const RANGE: &str = "net.ipv4.ip_local_port_range";
/// Local ports toward the upstream from one address.
const PORTS: u64 = 256;
/// Another address of the near host.
const SECOND: &str = "10.77.0.3";

/// An Nginx whose each request takes a port for a minute, since it closes first.
fn proxy() -> Result<(Link, socklife_tests::process::Process, Nginx)> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    fresh_ports(&link, 40_000)?;
    let upstream = format!("{FAR4}:9001");
    let server = link.far.serve("answer", &[upstream.parse()?])?;
    let http = format!("upstream behind {{ server {upstream}; }}");
    let nginx =
        Nginx::start_with(&link.near, "behind", Blocks { http: &http, ..Blocks::default() })?;
    Ok((link, server, nginx))
}

/// As many ports that nobody has used yet: those of before are in TIME-WAIT for a minute.
fn fresh_ports(link: &Link, first: u64) -> Result<()> {
    link.near.sysctl(RANGE, &format!("{first} {}", first + PORTS - 1))
}

/// What `check` finds of the ports from an address toward the upstream, and its advice in pieces.
fn found(link: &Link, src: &str) -> Result<(Value, Vec<String>)> {
    let check = Check::of_namespace(&link.near, &[])?;
    let with = [("src", Value::from(src)), ("dst", FAR4.into()), ("dport", 9001.into())];
    let found = check.one("ephemeral-ports", "upstream", &with)?.clone();
    let remedy = found["remedy"].as_str().context("no remedy")?;
    println!("{found:#}");
    Ok((found.clone(), remedy.split("; or ").map(str::to_owned).collect()))
}

fn is_full(found: &Value) -> Result<()> {
    expect(found, &[("used", PORTS.into()), ("headroom", 0.into()), ("status", "CRITICAL".into())])
}

/// Applies `TEXT WORD (FILE:LINE)`: inserts the text at what it names: before a directive, as the last line of a block.
fn apply(nginx: &Nginx, text: &str, advised: &str, named: &str) -> Result<()> {
    let (_, rest) = advised.split_once(named).with_context(|| format!("{named} in {advised}"))?;
    let place = rest.strip_prefix(" (").and_then(|rest| rest.split_once(')'));
    let (_, line) = place.and_then(|(place, _)| place.rsplit_once(':')).context("no place")?;
    let line = Some(line.parse()?);
    if named.contains("proxy_pass") {
        return nginx.replace(line, "proxy_pass", &format!("{text}proxy_pass"));
    }
    nginx.replace(line, ":9001; }", &format!(":9001; {text}}}"))
}

/// What was added to the logs since.
fn statuses(before: &Logs, after: &Logs) -> BTreeMap<u32, u64> {
    let of = |status: &u32| before.statuses.get(status).copied().unwrap_or(0);
    let added = after.statuses.iter().map(|(status, count)| (*status, count - of(status)));
    added.filter(|(_, count)| *count > 0).collect()
}

/// With the lines of the advice inserted where it says connections are kept, and no request fails. Nginx still
/// closes each after 1000 requests: what is advised then ends that, too.
fn keepalive() -> Result<()> {
    let (link, _server, nginx) = proxy()?;
    let load = || -> Result<BTreeMap<u32, u64>> {
        let before = nginx.logs()?;
        let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
        run(link.far.command("wrk").args(["-t", "1", "-c", "8", "-d", "1s", &target]))?;
        Ok(statuses(&before, &nginx.logs()?))
    };
    let without = load()?;
    ensure!(without.get(&200) == Some(&PORTS), "a port for each: {without:?}");
    ensure!(without.get(&502) > Some(&1000), "the ports did not run out: {without:?}");
    let (finding, ways) = found(&link, NEAR4)?;
    is_full(&finding)?;

    let advised = &ways[0];
    let (keep, rest) =
        advised.split_once(" as the last line of upstream").context("no keepalive")?;
    let (_, beside) = rest.split_once(", and ").context("nothing beside proxy_pass")?;
    let (kept, _) = beside.split_once(" beside proxy_pass").context("nothing beside it")?;
    apply(&nginx, &format!("{keep} "), advised, "of upstream behind")?;
    apply(&nginx, &format!("{kept} "), advised, "beside proxy_pass")?;
    nginx.replace_workers()?;
    fresh_ports(&link, 41_000)?;
    let with = load()?;
    println!("without keepalive {without:?}, with it {with:?}");
    ensure!(with.len() == 1 && with.get(&200) > Some(&1000), "requests fail: {with:?}");
    let (finding, ways) = found(&link, NEAR4)?;
    let closed = with[&200] / 1000;
    ensure!(finding["used"].as_u64() <= Some(closed + 8), "more than {closed} closed: {finding}");

    let advised = &ways[0];
    let (keep, _) = advised.split_once(" instead of 32 and 1000 in ").context("no more of it")?;
    ensure!(keep.contains("keepalive_requests 100000;"), "{keep}");
    nginx.replace(None, "keepalive 32;", keep)?;
    nginx.replace_workers()?;
    fresh_ports(&link, 42_000)?;
    let more = load()?;
    let (finding, _) = found(&link, NEAR4)?;
    ensure!(more.len() == 1 && more.get(&200) > Some(&1000), "requests fail: {more:?}");
    expect(&finding, &[("status", "OK".into())])?;
    // The connections that its clients keep busy, each of them once closed.
    ensure!(finding["used"].as_u64() <= Some(2 * 8), "{more:?}: {finding}");
    Ok(())
}

/// So many requests, one after the other, a connection each: their statuses.
fn ask(link: &Link, requests: u64) -> Result<BTreeMap<String, u64>> {
    let one = format!(
        "exec 3<>/dev/tcp/{NEAR4}/{}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; read -r _ status _ <&3; \
         cat <&3 >/dev/null; exec 3>&-; echo $status",
        Nginx::PORT
    );
    let all = format!("for ((i = 0; i < {requests}; i++)); do {one}; done");
    let said = run(link.far.command("bash").args(["-c", &all]))?;
    let mut statuses = BTreeMap::new();
    for status in said.split_whitespace() {
        *statuses.entry(status.to_owned()).or_default() += 1;
    }
    Ok(statuses)
}

fn only(status: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(status.to_owned(), count)])
}

/// With a second source address as advised twice as many requests find a port; when those are used up too, it is
/// said of how many addresses.
fn second_source() -> Result<()> {
    // That more than 256 of 400 go to one of two addresses has a chance of less than one in a million.
    const REQUESTS: u64 = 400;
    let (link, _server, nginx) = proxy()?;
    let before = ask(&link, REQUESTS)?;
    let expected =
        BTreeMap::from([("200".to_owned(), PORTS), ("502".to_owned(), REQUESTS - PORTS)]);
    ensure!(before == expected, "a port for each: {before:?}");
    let (finding, ways) = found(&link, NEAR4)?;
    is_full(&finding)?;

    let advised = ways.iter().find(|way| way.starts_with("a second source")).context("none")?;
    let (_, rest) = advised.split_once("of this host: ").context("no split_clients")?;
    let (split, rest) = rest.split_once(" in http, and ").context("no place for it")?;
    let (bind, _) = rest.split_once(" beside proxy_pass").context("no proxy_bind")?;
    link.near.ip(&["addr", "add", &format!("{SECOND}/24"), "dev", "v0"])?;
    apply(&nginx, &format!("{bind} "), advised, "beside proxy_pass")?;
    nginx.replace(None, "http {", &format!("http {{ {}", split.replace("ADDRESS", SECOND)))?;
    nginx.replace_workers()?;
    fresh_ports(&link, 41_000)?;
    let after = ask(&link, REQUESTS)?;
    println!("one source {before:?}, two {after:?}");
    ensure!(after == only("200", REQUESTS), "requests fail: {after:?}");

    let more = ask(&link, REQUESTS)?;
    ensure!(more.get("200") == Some(&(2 * PORTS - REQUESTS)), "a port for each: {more:?}");
    for src in [NEAR4, SECOND] {
        let (finding, ways) = found(&link, src)?;
        is_full(&finding)?;
        let wanted = "more source addresses than the 2 that proxy_bind $source (";
        ensure!(ways.iter().any(|way| way.starts_with(wanted)), "{ways:?}");
    }
    Ok(())
}
