//! `check --what-if`: what it foretells is what a namespace that is configured that way measures.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, only},
    net::{FAR4, Link, NEAR4, Namespace},
    truth::{Grower, limit_files, open_files},
    wait_for,
};

use crate::{
    Need, Test,
    check_ports::{PORTS, RANGE},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Namespaces];
    vec![
        Test::new("what_if::range", &needs, range),
        Test::new("what_if::reserved", &needs, reserved),
        Test::new("what_if::tw_reuse", &needs, tw_reuse),
        Test::new("what_if::sources", &needs, sources),
        Test::new("what_if::upstreams", &needs, upstreams),
        Test::new("what_if::tw_buckets", &needs, tw_buckets),
        Test::new("what_if::nofile", &needs, nofile),
    ]
}

const RANGE_NAME: &str = "net.ipv4.ip_local_port_range";
/// Connections and entries in TIME-WAIT that a test begins with.
const HELD: u64 = 4;
const CLOSED: u64 = 3;

/// What matters of a finding.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    used: u64,
    limit: u64,
    headroom: u64,
}

fn figures(finding: &Value) -> Result<Figures> {
    let of = |key: &str| finding[key].as_u64().with_context(|| format!("no {key}: {finding}"));
    Ok(Figures { used: of("used")?, limit: of("limit")?, headroom: of("headroom")? })
}

fn to(dst: &str, dport: u16) -> [(&'static str, Value); 2] {
    [("dst", dst.into()), ("dport", dport.into())]
}

/// What an upstream's finding would be.
pub(crate) fn foretold(near: &Namespace, settings: &str) -> Result<Value> {
    let check = Check::of_namespace(near, &["--what-if", settings])?;
    let what_if = &check.found["what_if"];
    ensure!(what_if["settings"] == settings, "settings: {what_if}");
    let found = only(&check.would_be("ephemeral-ports", "upstream"), &to(FAR4, 9001));
    found.cloned()
}

fn measured(near: &Namespace) -> Result<Figures> {
    figures(Check::of_namespace(near, &[])?.upstream(FAR4, 9001)?)
}

/// Two hosts with [`PORTS`] local ports, of which some are in use.
fn in_use() -> Result<(Link, Vec<socklife_tests::process::Process>, Grower)> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    link.near.sysctl(RANGE_NAME, RANGE)?;
    let (target, other, closing) =
        (format!("{FAR4}:9001"), format!("{FAR4}:9002"), format!("{FAR4}:9003"));
    let held = link.far.serve("hold", &[target.parse()?, other.parse()?])?;
    let follow = link.far.serve("follow", &[closing.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    grower.take(u32::try_from(HELD)?)?;
    Ok((link, vec![held, follow], grower))
}

/// The same for an upstream that has entries in TIME-WAIT too.
fn in_use_and_closed() -> Result<(Link, socklife_tests::process::Process, Grower)> {
    let link = Link::new()?;
    link.keep_time_wait()?;
    link.near.sysctl(RANGE_NAME, RANGE)?;
    let target = format!("{FAR4}:9001");
    let server = link.far.serve("follow-each", &[target.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    grower.take(u32::try_from(HELD)?)?;
    link.near.fail(&["close-first", "--to", &target, &format!("--count={CLOSED}")])?;
    link.near.wait_for_time_wait(CLOSED)?;
    ensure!(
        measured(&link.near)?
            == Figures { used: HELD + CLOSED, limit: PORTS, headroom: PORTS - HELD - CLOSED },
        "before: {:?}",
        measured(&link.near)?
    );
    Ok((link, server, grower))
}

/// Configures the near host so, and holds what was foretold against check's own figures then, and
/// against the number of connects that succeed.
fn holds(
    link: &Link,
    grower: &mut Grower,
    foretold: &Value,
    (name, value): (&str, &str),
) -> Result<Figures> {
    let foretold = figures(foretold)?;
    link.near.sysctl(name, value)?;
    // An upstream that has none of the ports is no finding.
    let now = if foretold.used > 0 { Some(measured(&link.near)?) } else { None };
    let (ok, _) = grower.overrun(60, "EADDRNOTAVAIL")?;
    println!("{name}={value}: foretold {foretold:?}, then {now:?}, {ok} connects succeeded");
    ensure!(
        now.as_ref().is_none_or(|now| *now == foretold),
        "foretold {foretold:?}, it is something else"
    );
    ensure!(ok == foretold.headroom, "foretold {foretold:?}, {ok} connects succeeded");
    let full = Figures { used: foretold.limit, limit: foretold.limit, headroom: 0 };
    ensure!(measured(&link.near)? == full, "then {:?}", measured(&link.near)?);
    Ok(foretold)
}

/// Wider; elsewhere; overlapping.
fn range() -> Result<()> {
    let cases = [
        ("range=40000-40039", "40000 40039", Some((HELD + CLOSED, 40))),
        ("range=41000-41015", "41000 41015", Some((0, 16))),
        ("range=40010-40029", "40010 40029", None),
    ];
    for (settings, value, expected) in cases {
        let (link, _server, mut grower) = in_use_and_closed()?;
        let foretold = foretold(&link.near, settings)?;
        let held = holds(&link, &mut grower, &foretold, (RANGE_NAME, value))?;
        if let Some((used, limit)) = expected {
            let right = Figures { used, limit, headroom: limit - used };
            ensure!(held == right, "{settings}: {held:?}");
        }
    }
    Ok(())
}

/// Ports that are in use among them or not.
fn reserved() -> Result<()> {
    let (link, _server, mut grower) = in_use_and_closed()?;
    let foretold = foretold(&link.near, "reserved=40001;40010-40012")?;
    let setting = ("net.ipv4.ip_local_reserved_ports", "40001,40010-40012");
    let held = holds(&link, &mut grower, &foretold, setting)?;
    ensure!(held.limit == PORTS - 4, "{held:?}");
    Ok(())
}

/// Entries in TIME-WAIT may be taken over when they are a second old.
fn tw_reuse() -> Result<()> {
    let (link, _server, mut grower) = in_use_and_closed()?;
    let right = Figures { used: HELD, limit: PORTS, headroom: PORTS - HELD };
    let foretold = wait_for("entries that may be taken over", || {
        let found = foretold(&link.near, "tw_reuse=1")?;
        Ok((found["reusable"] == CLOSED).then_some(found))
    })?;
    ensure!(figures(&foretold)? == right, "{foretold}");
    holds(&link, &mut grower, &foretold, ("net.ipv4.tcp_tw_reuse", "1")).map(drop)
}

/// Another address of the near host.
fn sources() -> Result<()> {
    let (link, _servers, mut grower) = in_use()?;
    let foretold = figures(&foretold(&link.near, "sources=2")?)?;
    link.near.ip(&["addr", "add", "10.77.0.3/24", "dev", "v0"])?;
    let from = ["connection", "--to", &format!("{FAR4}:9001"), "--from", "10.77.0.3"];
    let mut other = link.near.grow(&from)?;
    other.take(1)?;
    let check = Check::of_namespace(&link.near, &[])?;
    let mut now = Figures { used: 0, limit: 0, headroom: 0 };
    for src in [NEAR4, "10.77.0.3"] {
        let with = [("src", src.into()), ("dport", 9001.into())];
        let of = figures(check.one("ephemeral-ports", "upstream", &with)?)?;
        now.used += of.used;
        now.limit += of.limit;
        now.headroom += of.headroom;
    }
    let ok = grower.overrun(30, "EADDRNOTAVAIL")?.0 + other.overrun(30, "EADDRNOTAVAIL")?.0;
    println!("foretold {foretold:?}, then {now:?}, {ok} more connects succeeded");
    let right = Figures { used: HELD, limit: 2 * PORTS, headroom: 2 * PORTS - HELD };
    ensure!(foretold == right, "{foretold:?}");
    ensure!(ok + 1 == right.headroom, "{ok} more connects succeeded");
    ensure!(now.used == HELD + 1 && now.limit == right.limit, "{now:?}");
    ensure!(now.headroom == right.headroom - 1, "{now:?}");
    Ok(())
}

/// Another port of the far host.
fn upstreams() -> Result<()> {
    let (link, _servers, mut grower) = in_use()?;
    let foretold = figures(&foretold(&link.near, "upstreams=2")?)?;
    let mut other = link.near.grow(&["connection", "--to", &format!("{FAR4}:9002")])?;
    let ok = grower.overrun(30, "EADDRNOTAVAIL")?.0 + other.overrun(30, "EADDRNOTAVAIL")?.0;
    println!("foretold {foretold:?}; {ok} connects succeeded");
    let right = Figures { used: HELD, limit: 2 * PORTS, headroom: 2 * PORTS - HELD };
    ensure!(foretold == right && ok == right.headroom, "{foretold:?}, {ok} connects succeeded");
    let check = Check::of_namespace(&link.near, &[])?;
    for port in [9001, 9002] {
        let full = Figures { used: PORTS, limit: PORTS, headroom: 0 };
        ensure!(figures(check.upstream(FAR4, port)?)? == full, "{}", check.found);
    }
    Ok(())
}

/// A smaller table: as many entries as foretold find room, and no more.
fn tw_buckets() -> Result<()> {
    const BUCKETS: u64 = 10;
    let (link, _servers, _grower) = in_use()?;
    let close = |count: u64| {
        let (to, count) = (format!("--to={FAR4}:9003"), format!("--count={count}"));
        link.near.fail(&["close-first", &to, &count])
    };
    close(CLOSED)?;
    link.near.wait_for_time_wait(CLOSED)?;
    let table = |findings: &[&Value]| figures(only(findings, &[])?);
    let check = Check::of_namespace(&link.near, &["--what-if", "tw_buckets=10"])?;
    let foretold = table(&check.would_be("time-wait", "netns"))?;
    let right = Figures { used: CLOSED, limit: BUCKETS, headroom: BUCKETS - CLOSED };
    ensure!(foretold == right, "{foretold:?}");
    link.near.sysctl("net.ipv4.tcp_max_tw_buckets", "10")?;
    let now = table(&Check::of_namespace(&link.near, &[])?.all("time-wait", "netns"))?;
    ensure!(now == right, "{now:?}");
    close(foretold.headroom + 5)?;
    let overflow = || link.near.counter("TCPTimeWaitOverflow");
    wait_for("closes without room", || Ok((overflow()? >= 5).then_some(())))?;
    ensure!(overflow()? == 5 && link.near.time_wait()? == BUCKETS, "{} overflows", overflow()?);
    Ok(())
}

/// A process's limit of open files.
fn nofile() -> Result<()> {
    const LIMIT: u64 = 60;
    let link = Link::new()?;
    let mut grower = link.near.grow(&["file", "--to", "127.0.0.1:1"])?;
    grower.take(20)?;
    let pid = grower.pid();
    let (number, with) = (pid.to_string(), [("pid", pid.into())]);
    let check = Check::once(&["--pid", &number, "--what-if", "nofile=60"])?;
    let foretold = figures(only(&check.would_be("open-files", "process"), &with)?)?;
    let used = open_files(pid)?;
    ensure!(foretold == Figures { used, limit: LIMIT, headroom: LIMIT - used }, "{foretold:?}");
    limit_files(pid, LIMIT)?;
    let check = Check::once(&["--pid", &number])?;
    ensure!(figures(check.one("open-files", "process", &with)?)? == foretold, "{}", check.found);
    let (ok, _) = grower.overrun(60, "EMFILE")?;
    ensure!(ok == foretold.headroom, "foretold {foretold:?}, {ok} files could be opened");
    let check = Check::once(&["--pid", &number])?;
    expect(check.one("open-files", "process", &with)?, &[("headroom", 0.into())])
}
