//! Connections that end well: the states that they go through, by who closes first.

use std::{collections::BTreeMap, fs, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use socklife_tests::wait_for;

use crate::{
    case::{Case, Done, FAMILIES, Family, Ground, Listed, Made, TIME_WAIT, sockets},
    watch::{Seen, exactly, sample},
};

/// Connections of each case: fewer than local ports.
const COUNT: u32 = 40;

/// Who closes first.
struct Way {
    name: &'static str,
    server: &'static str,
    how: &'static str,
    /// Whether a socket in TIME-WAIT is the client's.
    client_waits: bool,
    /// The client's states, from the first that has a local port.
    states: [(&'static str, &'static str); 4],
}

const WAYS: &[Way] = &[
    Way {
        name: "active_close",
        server: "follow",
        how: "close-first",
        client_waits: true,
        states: [
            ("SYN-SENT", "ESTAB"),
            ("ESTAB", "FIN-WAIT-1"),
            ("FIN-WAIT-1", "FIN-WAIT-2"),
            ("FIN-WAIT-2", "UNCONN"),
        ],
    },
    Way {
        name: "passive_close",
        server: "close",
        how: "close-last",
        client_waits: false,
        states: [
            ("SYN-SENT", "ESTAB"),
            ("ESTAB", "CLOSE-WAIT"),
            ("CLOSE-WAIT", "LAST-ACK"),
            ("LAST-ACK", "UNCONN"),
        ],
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let each = |way: &'static Way| FAMILIES.map(|family| case(way, family));
    WAYS.iter().flat_map(each).collect()
}

fn case(way: &'static Way, family: Family) -> Case {
    Case::new(format!("{}::{}", way.name, family.name()), "state", move |ground| {
        let port = ground.port();
        let resets_before = resets()?;
        let server = Ground::serve(way.server, SocketAddr::new(family.loopback(), port))?;
        let server_pid = u64::from(server.pid());
        let made = Ground::load(way.how, family, port, COUNT, &[("ok", COUNT)])?;
        wait_for("sockets in TIME-WAIT at the end that closed first", || {
            let sockets = sockets()?;
            let count = |end: fn(&Listed) -> u16| {
                let of_it = |s: &&Listed| s.state == TIME_WAIT && end(s) == port;
                sockets.iter().filter(of_it).count()
            };
            let (client, server) = (count(|s| s.remote), count(|s| s.local));
            let (here, there) = if way.client_waits { (client, server) } else { (server, client) };
            Ok(((1..=COUNT as usize).contains(&here) && there == 0).then_some(()))
        })?;
        Ground::ended(port)?;
        let resets = resets()? - resets_before;
        Ok(Done::new([server], move |seen| {
            check_resets(resets, seen)?;
            check(way, &made, seen)?;
            check_time_wait(way, &made, server_pid, seen)
        }))
    })
}

/// `EstabResets` of RFC 1213: connections that a reset ended. With entries in TIME-WAIT the kernel may
/// reset one now and then by itself.
fn resets() -> Result<u64> {
    let path = "/proc/self/net/snmp";
    let text = fs::read_to_string(path).context(path)?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (rows.next().context(path)?, rows.next().context(path)?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "EstabResets").context("EstabResets")?;
    value.parse().context("EstabResets")
}

/// No failure but those that the kernel counted.
fn check_resets(resets: u64, seen: &Seen) -> Result<()> {
    let failures = seen.failures();
    let right = failures.iter().all(|event| event["reason"] == "reset");
    let told = sample(&failures);
    ensure!(right && failures.len() as u64 <= resets, "{resets} resets, and these failures:{told}");
    Ok(())
}

fn check(way: &Way, made: &Made, seen: &Seen) -> Result<()> {
    let mut started = 0;
    let mut by_port: BTreeMap<u64, Vec<(&str, &str)>> = BTreeMap::new();
    for event in seen.of("state") {
        if event["dport"] != made.to.port() {
            continue;
        }
        seen.check_socket(event, made)?;
        let state = |key: &str| event[key].as_str().unwrap_or_default();
        let change = (state("old"), state("new"));
        match event["sport"].as_u64() {
            None => {
                ensure!(change == ("UNCONN", "SYN-SENT"), "no local port: {event}");
                started += 1;
            }
            Some(port) => by_port.entry(port).or_default().push(change),
        }
    }
    ensure!(started == COUNT, "{started} connects began instead of {COUNT}");
    // A port whose TIME-WAIT is the server's may be used again at once.
    let connections: usize = by_port.values().map(|changes| changes.len().div_ceil(4)).sum();
    ensure!(connections == COUNT as usize, "{connections} connections instead of {COUNT}");
    for (port, changes) in by_port {
        for one in changes.chunks(way.states.len()) {
            ensure!(one == way.states, "from port {port} the states were {one:?}");
        }
    }
    Ok(())
}

/// One entry for each connection, at the end that closed first, with its owner.
fn check_time_wait(way: &Way, made: &Made, server: u64, seen: &Seen) -> Result<()> {
    let (near, far) = if way.client_waits { ("sport", "dport") } else { ("dport", "sport") };
    let entries: Vec<_> = seen.of("timewait").collect();
    exactly(&entries, COUNT, "TIME-WAIT entries")?;
    let address = made.to.ip().to_string();
    for event in entries {
        ensure!(event[far] == made.to.port() && event[near].is_u64(), "other ports: {event}");
        ensure!(event["src"] == address && event["dst"] == address, "other ends: {event}");
        ensure!(event["family"] == made.family.version(), "another family: {event}");
        ensure!(event["netns"] == seen.netns, "another namespace: {event}");
        ensure!(event["new"] == "TIME-WAIT", "another state: {event}");
        let inferred = event["inferred"] == true;
        ensure!(inferred == seen.time_wait_inferred, "inferred or not: {event}");
        let owner = if way.client_waits { Some(made.pid) } else { seen.accept_owner(server) };
        ensure!(
            event["pid"].as_u64() == owner,
            "another owner than {owner:?} (client {}, server {server}): {event}",
            made.pid
        );
    }
    Ok(())
}
