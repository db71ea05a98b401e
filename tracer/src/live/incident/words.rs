//! The parts of sentences.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::most;
use crate::{
    ceilings::{Ceiling, Subject, User},
    event::{Call, State},
    failures::FailureKey,
    human::thousands,
    reason::Reason,
};

/// `nginx[812] and 3 more`
pub(super) fn who(key: &FailureKey, who: &BTreeMap<u32, u64>) -> String {
    let comm =
        key.comm.map_or_else(|| "a process that is not known".to_owned(), |comm| comm.to_string());
    match (most(who), who.len()) {
        (None, _) => comm,
        (Some(pid), 1) => format!("{comm}[{pid}]"),
        (Some(pid), several) => format!("{comm}[{pid}] and {} more", several - 1),
    }
}

/// What fails of whom, toward whom, and why.
pub(super) fn what_fails(who: &str, key: &FailureKey, ceiling: Option<&Ceiling>) -> String {
    let at = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => "?".to_owned(),
    };
    // The limit of a process that has ended isn't known.
    let known = ceiling.filter(|ceiling| ceiling.limit > 0 || ceiling.used > 0);
    let of = |what: &str| {
        known.map_or_else(String::new, |ceiling| {
            let (used, limit) = (thousands(ceiling.used), thousands(ceiling.limit));
            format!(" ({used} of {limit} {what}{})", time_waits(ceiling))
        })
    };
    match (key.reason, key.call) {
        (Some(Reason::PortRangeExhausted), None) => {
            let upstream = at(key.dst, key.dport);
            format!("{who} can't connect to {upstream}: no free local port{}", of("used"))
        }
        (Some(Reason::PortRangeExhausted), _) => {
            format!(
                "{who} can't bind() to port 0 of {}: no free port{}",
                at(key.src, None),
                of("used")
            )
        }
        (Some(Reason::ProcessFileLimit), _) => {
            format!("{who} can't open more files: EMFILE{}", of("open"))
        }
        (Some(Reason::SystemFileLimit), _) => {
            format!("{who} can't open a file: the host has no free one, ENFILE{}", of("open"))
        }
        (reason, call) => {
            let reason = reason.map_or("failed", Reason::name);
            let error = key.error.map_or_else(String::new, |error| format!(" ({error})"));
            let what = match (call, reason) {
                (Some(Call::Bind), _) => format!("can't bind() to {}", at(key.src, key.sport)),
                (_, "reset") => format!("is cut off by {}", at(key.dst, key.dport)),
                _ => format!("can't connect to {}", at(key.dst, key.dport)),
            };
            format!("{who} {what}: {reason}{error}")
        }
    }
}

/// How many of a ceiling's sockets are entries in TIME-WAIT.
fn time_waits(ceiling: &Ceiling) -> String {
    let states = ceiling.traffic.as_ref().map(|traffic| &traffic.states);
    match states.and_then(|states| states.get(&State::TIME_WAIT)) {
        Some(&count) if count > 0 => format!("; {} TIME-WAIT", thousands(count)),
        _ => String::new(),
    }
}

/// How full a ceiling is, in words.
pub(super) fn usage(ceiling: &Ceiling) -> String {
    let (used, limit) = (thousands(ceiling.used), thousands(ceiling.limit));
    let percent = (ceiling.ratio() * 1000.0).round() / 10.0;
    let full = ceiling.headroom() == 0;
    let whose = ceiling.who.iter().find_map(|user| match user {
        User::Process(pid, comm, _) => Some(format!("{comm}[{pid}]: ")),
        User::Address(..) => None,
    });
    let whose = whose.unwrap_or_default();
    let waits = time_waits(ceiling);
    match &ceiling.subject {
        Subject::Upstream { .. } => format!(
            "{whose}{}: {used} of {limit} local ports used ({percent} %){waits}",
            ceiling.subject
        ),
        Subject::BindPool { .. } => {
            format!("{}: {used} of {limit} ports used ({percent} %)", ceiling.subject)
        }
        Subject::TimeWait { .. } if full => {
            format!(
                "TIME-WAIT table full ({used} of {limit}): sockets that close are forgotten at once"
            )
        }
        Subject::TimeWait { .. } => {
            format!("{used} of {limit} entries in TIME-WAIT (tcp_max_tw_buckets, {percent} %)")
        }
        Subject::Process { .. } => {
            format!("{}: {used} of {limit} files open ({percent} %)", ceiling.subject)
        }
        Subject::Proxy { pid, comm, bound, .. } => {
            let units = bound.units();
            format!("{comm}[{pid}]: {used} of {limit} {units} by {bound} ({percent} %)")
        }
        Subject::Host => format!("all processes: {used} of {limit} files open ({percent} %)"),
        Subject::Conntrack { .. } if full => {
            format!("new connections are dropped: conntrack table full ({used} of {limit})")
        }
        Subject::Conntrack { .. } => {
            format!("conntrack table: {used} of {limit} entries ({percent} %)")
        }
        Subject::Listener { .. } => {
            let listener = &ceiling.subject;
            format!("{whose}accept queue of {listener}: {used} wait, backlog {limit} ({percent} %)")
        }
    }
}
