//! Connections that end well: the states that they go through, by who closes first.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Result, ensure};
use socklife_tests::wait_for;

use crate::{
    case::{Case, FAMILIES, Family, Ground, Listed, Made, TIME_WAIT, sockets},
    watch::Seen,
};

/// Connections of each case: fewer than local ports, so that none is used twice.
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
    Case {
        name: format!("{}::{}", way.name, family.name()),
        event: "state",
        make: Box::new(move |ground| {
            let port = ground.port();
            let server = Ground::serve(way.server, SocketAddr::new(family.loopback(), port))?;
            let made = Ground::load(way.how, family, port, COUNT, &[("ok", COUNT)])?;
            let waits = |socket: &&Listed| {
                let port_there = if way.client_waits { socket.remote } else { socket.local };
                socket.state == TIME_WAIT && port_there == port
            };
            wait_for("sockets in TIME-WAIT, one of each connection", || {
                let waiting = sockets()?.iter().filter(waits).count();
                Ok((waiting == COUNT as usize).then_some(()))
            })?;
            drop(server);
            Ok(Box::new(move |seen| check(way, &made, seen)))
        }),
    }
}

fn check(way: &Way, made: &Made, seen: &Seen) -> Result<()> {
    seen.none_failed()?;
    let mut started = 0;
    let mut by_port: BTreeMap<u64, Vec<(&str, &str)>> = BTreeMap::new();
    for event in &seen.events {
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
    ensure!(by_port.len() == COUNT as usize, "{} connections instead of {COUNT}", by_port.len());
    for (port, changes) in by_port {
        ensure!(changes == way.states, "from port {port} the states were {changes:?}");
    }
    Ok(())
}
