//! Calls that fail without a change of the socket's state.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    case::{Case, Done, FAMILIES, Family, Ground, Made},
    watch::{Seen, exactly, fewer, sample},
};

/// What a call is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    /// An address that this host neither has nor has a route to.
    Foreign,
    /// An address of this host that no other case uses.
    Free,
    /// The loopback address, and a port at which somebody listens.
    Taken,
}

/// A call that fails.
struct Way {
    name: &'static str,
    /// As `trace` and `features` name it.
    event: &'static str,
    /// A way of `socklife-load fail`.
    how: &'static str,
    given: Given,
    count: u32,
    /// What the callers saw: this, and nothing else but "ok".
    error: &'static str,
    reason: &'static str,
}

const WAYS: &[Way] = &[
    Way {
        name: "no_route",
        event: "connect_failed",
        how: "plain",
        given: Given::Foreign,
        count: 21,
        error: "ENETUNREACH",
        reason: "unreachable",
    },
    Way {
        name: "bind_foreign_address",
        event: "bind_failed",
        how: "bind",
        given: Given::Foreign,
        count: 13,
        error: "EADDRNOTAVAIL",
        reason: "address-not-local",
    },
    Way {
        name: "bind_port_in_use",
        event: "bind_failed",
        how: "bind",
        given: Given::Taken,
        count: 17,
        error: "EADDRINUSE",
        reason: "address-in-use",
    },
    Way {
        name: "bind_range_exhausted",
        event: "bind_failed",
        how: "bind-all",
        given: Given::Free,
        count: 23,
        error: "EADDRINUSE",
        reason: "port-range-exhausted",
    },
];

/// Ports that no `connect()` gets: before Linux 6.18 one that was bound while it had an entry in
/// TIME-WAIT is of no use for `connect()` until that entry is gone.
const BIND_RANGE: (u16, u16) = (41_000, 41_063);

/// Calls that find no free descriptor: there is no socket to tell of.
const DESCRIPTORS: [(&str, &str); 2] =
    [("fd_limit_socket", "descriptors"), ("fd_limit_accept", "accept")];

/// Calls that each of [`DESCRIPTORS`] makes in vain.
const IN_VAIN: u32 = 19;

/// Sockets that are refused, and whose next `connect()` returns that.
const AGAIN: u32 = 15;

pub(crate) fn cases() -> Vec<Case> {
    let each = |way: &'static Way| FAMILIES.map(|family| case(way, family));
    let mut cases: Vec<_> = WAYS.iter().flat_map(each).collect();
    cases.extend(DESCRIPTORS.map(|(name, how)| descriptors(name, how)));
    cases.extend(FAMILIES.map(told_once));
    cases.extend(URING.iter().map(uring));
    cases
}

fn case(way: &'static Way, family: Family) -> Case {
    Case::new(format!("{}::{}", way.name, family.name()), way.event, move |ground| {
        let address = match way.given {
            Given::Foreign => family.foreign(),
            Given::Taken => family.loopback(),
            Given::Free => family.unused(),
        };
        let to = SocketAddr::new(address, ground.port());
        let server = (way.given == Given::Taken).then(|| Ground::serve("hold", to)).transpose()?;
        let load = || Ground::load_at(way.how, family, to, way.count, &[(way.error, way.count)]);
        let made =
            if way.given == Given::Free { Ground::with_range(BIND_RANGE, load) } else { load() }?;
        Ok(Done::new(server, move |seen| check(way, &made, seen)))
    })
}

fn check(way: &Way, made: &Made, seen: &Seen) -> Result<()> {
    let failures = failed(seen, way.count)?;
    let address = made.to.ip().to_string();
    for event in failures {
        check_call(event, (way.event, way.reason, way.error), made, seen)?;
        ensure!(event["family"] == made.family.version(), "another family: {event}");
        let port = event["sport"].as_u64();
        if way.event == "bind_failed" {
            let asked = (way.how == "bind").then(|| made.to.port().into());
            ensure!(event["src"] == address && port == asked, "another address: {event}");
            ensure!(event["dst"].is_null() && event["dport"].is_null(), "a peer: {event}");
        } else {
            ensure!(
                event["dst"] == address && event["dport"] == made.to.port(),
                "another peer: {event}"
            );
            ensure!(port.is_none(), "a port that it never had: {event}");
        }
    }
    check_rows(&seen.counted_of(made.pid), (way.reason, way.error), way.count)
}

/// Connects that `io_uring` makes: (name, event, whether toward a foreign address, error, reason).
const URING: &[(&str, &str, bool, &str, &str)] = &[
    ("io_uring_refused", "state", false, "ECONNREFUSED", "refused"),
    ("io_uring_no_route", "connect_failed", true, "ENETUNREACH", "unreachable"),
];

/// Connects of each of [`URING`].
const THROUGH_URING: u32 = 12;

fn uring(&(name, event, foreign, error, reason): &'static (&str, &str, bool, &str, &str)) -> Case {
    let family = Family::V4;
    let make = move |ground: &mut Ground| {
        let address = if foreign { family.foreign() } else { family.loopback() };
        let to = SocketAddr::new(address, ground.port());
        let outcomes = [(error, THROUGH_URING)];
        let made = Ground::load_at("uring", family, to, THROUGH_URING, &outcomes)?;
        Ok(Done::new(None, move |seen| {
            for event_seen in failed(seen, THROUGH_URING)? {
                check_call(event_seen, (event, reason, error), &made, seen)?;
            }
            check_rows(&seen.counted_of(made.pid), (reason, error), THROUGH_URING)
        }))
    };
    Case::new(name.to_owned(), event, make).through_uring()
}

fn descriptors(name: &'static str, how: &'static str) -> Case {
    Case::new(name.to_owned(), "fd_limit", move |ground| {
        let port = ground.port();
        let made = Ground::load(how, Family::V4, port, IN_VAIN, &[("EMFILE", IN_VAIN)])?;
        Ok(Done::new(None, move |seen| {
            for event in failed(seen, IN_VAIN)? {
                let what = ("fd_limit", "process-file-limit", "EMFILE");
                check_call(event, what, &made, seen)?;
                for none in ["src", "sport", "dst", "dport", "family", "cookie"] {
                    ensure!(event[none].is_null(), "there is no socket: {event}");
                }
            }
            // The row has nothing that would tell one process's calls from another's.
            let rows = seen.counted_of(made.pid);
            let pids = rows.iter().filter_map(|row| row["pids"].as_array()).flatten().count();
            let what = ("process-file-limit", "EMFILE");
            check_rows(&rows, what, IN_VAIN * u32::try_from(pids)?)
        }))
    })
}

/// The first `connect()` doesn't wait, the second one returns that the first was refused.
fn told_once(family: Family) -> Case {
    Case::new(format!("refused_is_told_once::{}", family.name()), "state", move |ground| {
        let port = ground.port();
        let outcomes = [("EINPROGRESS", AGAIN), ("ECONNREFUSED", AGAIN)];
        let made = Ground::load("again", family, port, AGAIN, &outcomes)?;
        Ok(Done::new(None, move |seen| {
            for event in failed(seen, AGAIN)? {
                check_call(event, ("state", "refused", "ECONNREFUSED"), &made, seen)?;
                seen.check_socket(event, &made)?;
            }
            check_rows(&seen.counted(&made), ("refused", "ECONNREFUSED"), AGAIN)
        }))
    })
}

fn failed(seen: &Seen, count: u32) -> Result<Vec<&Value>> {
    let failures = seen.failures();
    exactly(&failures, count, "failures traced")?;
    Ok(failures)
}

fn check_call(
    event: &Value,
    (kind, reason, error): (&str, &str, &str),
    made: &Made,
    seen: &Seen,
) -> Result<()> {
    ensure!(event["event"] == kind, "another event: {event}");
    ensure!(event["reason"] == reason && event["error"] == error, "another reason: {event}");
    ensure!(
        event["pid"] == made.pid && event["comm"] == "socklife-load" && event["owner"].is_null(),
        "another owner than {}: {event}",
        made.pid
    );
    ensure!(event["netns"] == seen.netns, "another namespace: {event}");
    Ok(())
}

/// Rows of `count` that tell of this and nothing else.
pub(crate) fn check_rows(rows: &[&Value], (reason, error): (&str, &str), count: u32) -> Result<()> {
    let total: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
    if total < u64::from(count) {
        return Err(fewer(format!("count says {total} instead of {count}{}", sample(rows))));
    }
    ensure!(total == u64::from(count), "count says {total} instead of {count}{}", sample(rows));
    for row in rows {
        ensure!(
            row["reason"] == reason && row["error"] == error && row["comm"] == "socklife-load",
            "another row: {row}"
        );
    }
    Ok(())
}
