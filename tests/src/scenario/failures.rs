//! Failures of connections: each reason in a known number.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    case::{Case, Done, FAMILIES, Family, Ground, Made, RANGE},
    watch::{Seen, sample},
};

/// A way to fail, the same for each family.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// What listens there: a mode of `socklife-load serve`.
    server: Option<&'static str>,
    /// A way of `socklife-load fail`.
    how: &'static str,
    count: u32,
    /// What the callers saw.
    seen: &'static [(&'static str, u32)],
    reason: &'static str,
    error: Option<&'static str>,
}

const WAYS: &[Way] = &[
    Way {
        name: "port_range_exhausted",
        server: Some("hold"),
        how: "exhaust",
        count: 51,
        seen: &[("ok", 64), ("EADDRNOTAVAIL", 51)],
        reason: "port-range-exhausted",
        error: Some("EADDRNOTAVAIL"),
    },
    Way {
        name: "tuple_collision",
        server: Some("hold"),
        how: "collide",
        count: 11,
        seen: &[("EADDRNOTAVAIL", 11)],
        reason: "tuple-collision",
        error: Some("EADDRNOTAVAIL"),
    },
    Way {
        name: "refused",
        server: None,
        how: "plain",
        count: 60,
        seen: &[("ECONNREFUSED", 60)],
        reason: "refused",
        error: Some("ECONNREFUSED"),
    },
    Way {
        name: "timed_out",
        server: Some("full"),
        how: "wait",
        count: 9,
        seen: &[("ETIMEDOUT", 9)],
        reason: "timed-out",
        error: Some("ETIMEDOUT"),
    },
    Way {
        name: "reset",
        server: Some("reset"),
        how: "reset",
        count: 30,
        seen: &[("ECONNRESET", 30)],
        reason: "reset",
        error: Some("ECONNRESET"),
    },
    Way {
        name: "abandoned",
        server: Some("full"),
        how: "abandon",
        count: 25,
        seen: &[("ok", 25)],
        reason: "abandoned",
        error: None,
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let each = |way: &'static Way| FAMILIES.map(|family| case(way, family));
    WAYS.iter().flat_map(each).collect()
}

fn case(way: &'static Way, family: Family) -> Case {
    Case::new(format!("{}::{}", way.name, family.name()), "state", move |ground| {
        let port = ground.port();
        let listen = SocketAddr::new(family.loopback(), port);
        let server = way.server.map(|mode| Ground::serve(mode, listen)).transpose()?;
        let made = Ground::load(way.how, family, port, way.count, way.seen)?;
        Ok(Done::new(server, move |seen| check(way, &made, seen)))
    })
}

fn check(way: &Way, made: &Made, seen: &Seen) -> Result<()> {
    let failures = seen.failures();
    ensure!(
        failures.len() == way.count as usize,
        "{} failures traced instead of {}{}",
        failures.len(),
        way.count,
        sample(&failures)
    );
    for event in failures {
        check_event(way, made, seen, event)?;
    }
    let mut rows = seen.counted(made);
    // How the other connections end, when the server does, is no part of the case.
    rows.retain(|row| row["reason"] == way.reason && row["error"].as_str() == way.error);
    let total: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
    ensure!(
        total == u64::from(way.count),
        "count says {total} instead of {}{}",
        way.count,
        sample(&rows)
    );
    for row in rows {
        ensure!(
            row["reason"] == way.reason
                && row["error"].as_str() == way.error
                && row["comm"] == "socklife-load"
                && row["pids"] == serde_json::json!([made.pid]),
            "another row: {row}"
        );
        if way.reason == "port-range-exhausted" {
            ensure!(row["ports_usable"] == 64, "ports usable: {row}");
            ensure!(row["ports_used"].as_u64() <= Some(64), "ports used: {row}");
        }
    }
    Ok(())
}

fn check_event(way: &Way, made: &Made, seen: &Seen, event: &Value) -> Result<()> {
    ensure!(event["reason"] == way.reason, "another reason: {event}");
    ensure!(event["error"].as_str() == way.error, "another errno: {event}");
    ensure!(event["new"] == "UNCONN", "another state: {event}");
    seen.check_socket(event, made)?;
    let port = event["sport"].as_u64();
    match way.reason {
        "port-range-exhausted" => ensure!(port.is_none(), "a port: {event}"),
        "tuple-collision" => ensure!(port == Some(45_000), "another port: {event}"),
        _ => {
            let chosen = |port: u64| (u64::from(RANGE.0)..=u64::from(RANGE.1)).contains(&port);
            ensure!(port.is_some_and(chosen), "another port: {event}");
        }
    }
    Ok(())
}
