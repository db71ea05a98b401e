//! Calls that fail before a socket's state changes, in ways that take routes and rules to make. The
//! scenario (`tests/src/scenario`) has the others.

use anyhow::{Result, ensure};
use socklife_tests::{
    net::{Link, Namespace},
    socklife::{Socklife, last_line, lines, lost},
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    vec![
        Test::new("calls::not_permitted", &needs, not_permitted),
        Test::new("calls::no_source_address", &needs, no_source_address),
    ]
}

/// One way to fail: how the near host is set up, the target, the errno and the reason.
fn fails(
    prepare: impl Fn(&Namespace) -> Result<()>,
    target: &str,
    more: &[&str],
    (errno, reason): (&str, &str),
) -> Result<()> {
    const COUNT: u64 = 9;
    let link = Link::new()?;
    prepare(&link.near)?;
    let path = link.near.path();
    let filter = ["--format=json", "--netns", &path];
    let trace = Socklife::start(&[&["trace", "--failures"], &filter[..]].concat())?;
    let count = Socklife::start(&[&["count", "--error", errno], &filter[..]].concat())?;
    let (to, number) = (format!("--to={target}"), format!("--count={COUNT}"));
    let made = link.near.fail(&[&["plain", &to, &number], more].concat())?;
    ensure!(made["outcomes"][errno] == COUNT, "the caller saw something else: {made}");
    let traced = trace.interrupt()?;
    let events = lines(&traced.stdout)?;
    ensure!(lost(&events) == 0 && events.len() as u64 == COUNT, "other events: {}", traced.stdout);
    for event in events {
        ensure!(
            event["event"] == "connect_failed"
                && event["error"] == errno
                && event["reason"] == reason
                && event["pid"] == made["pid"]
                && event["comm"] == "socklife-load"
                && event["dport"] == 80,
            "another event: {event}"
        );
    }
    let counted = last_line(&count.interrupt()?.stdout)?;
    ensure!(counted["total"] == COUNT && counted["lost"] == 0, "count says {counted}");
    Ok(())
}

/// A route that forbids.
fn not_permitted() -> Result<()> {
    let route = |near: &Namespace| -> Result<()> {
        near.ip(&["route", "add", "prohibit", "10.99.0.0/16"])?;
        near.ip(&["-6", "route", "add", "prohibit", "fd99::/64"]).map(drop)
    };
    let failure = ("EACCES", "not-permitted");
    fails(route, "10.99.0.1:80", &[], failure)?;
    fails(route, "10.99.0.1:80", &["--mapped"], failure)?;
    fails(route, "[fd99::1]:80", &[], failure)
}

/// A host, or a container, without IPv6: `EADDRNOTAVAIL`, though no port is missing.
fn no_source_address() -> Result<()> {
    let without = |near: &Namespace| near.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    fails(without, "[::1]:80", &[], ("EADDRNOTAVAIL", "no-source-address"))
}
