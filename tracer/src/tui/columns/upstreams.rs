//! Columns of upstreams.

use std::cmp::Ordering;

use super::{
    Cell, Column, Events, Sight, by_reason, failing, fullness, most, rate, share, unknown,
};
use crate::{
    human::thousands,
    live::shot::{Latency, Ports, Sockets, Upstream, UpstreamKey},
    reason::Reason,
    sink::text::{endpoint, span},
    tui::{
        rows::Row,
        text::{Align, percent},
        theme::Tone,
    },
};

impl Row for Upstream {
    type Key = UpstreamKey;
    const NAME: &'static str = "upstreams";

    fn key(&self) -> UpstreamKey {
        self.key
    }

    fn columns() -> &'static [Column<Self>] {
        COLUMNS
    }

    fn worse(&self, other: &Self) -> Ordering {
        most(self.fails_per_s, other.fails_per_s)
            .then_with(|| most(self.failed(), other.failed()))
            .then_with(|| most(used(self), used(other)))
            .then_with(|| most(held(self), held(other)))
    }

    fn fails(&self) -> bool {
        !self.failures.is_empty()
    }

    fn text(&self, sight: Sight) -> String {
        let mut text = name(&self.key, sight);
        for (pid, comm, _) in &*self.processes {
            text += &format!(" {comm}[{pid}]");
        }
        for (reason, _) in &self.failures {
            text += &format!(" {}", reason_name(*reason));
        }
        for source in &*self.sources {
            text += &format!(" {}", source.src);
        }
        text
    }
}

/// `10.0.0.9:9001`, with its network namespace where that isn't our own.
pub(in crate::tui) fn name(key: &UpstreamKey, sight: Sight) -> String {
    format!("{}{}", endpoint(key.dst, Some(key.dport)), sight.netns(key.netns))
}

/// How failures toward upstreams are to be read.
pub(in crate::tui) fn of_failures(sight: Sight) -> Sight {
    sight.partly(sight.unhooked.connects)
}

/// The name of a reason, where it is known.
pub(in crate::tui) fn reason_name(reason: Option<Reason>) -> &'static str {
    reason.map_or("unknown", Reason::name)
}

/// `28,231/28,232`, with `~` where one was inferred.
pub(in crate::tui) fn ports(ports: Ports) -> String {
    let mark = if ports.inferred { "~" } else { "" };
    format!("{mark}{}/{}", thousands(ports.used), thousands(ports.usable))
}

/// `here 98 %`: who closes first, most of the time.
pub(in crate::tui) fn closes(upstream: &Upstream) -> String {
    let (here, peer) = (upstream.closed_here, upstream.closed_by_peer);
    if here + peer == 0 {
        return unknown();
    }
    let (who, count) = if here >= peer { ("here", here) } else { ("peer", peer) };
    format!("{who} {:.0} %", share(count, here + peer) * 100.0)
}

/// `12us`
pub(in crate::tui) fn micros(us: u64) -> String {
    span(us.saturating_mul(1000))
}

fn used(upstream: &Upstream) -> f64 {
    upstream.ports.map_or(-1.0, |ports| ports.ratio())
}

fn held(upstream: &Upstream) -> u64 {
    let Sockets { established, connecting, time_wait, other } =
        upstream.sockets.unwrap_or_default();
    established + connecting + time_wait + other
}

fn main_reason(upstream: &Upstream) -> Option<Reason> {
    upstream.failures.first().and_then(|(reason, _)| *reason)
}

fn sockets(upstream: &Upstream, of: fn(&Sockets) -> u64) -> Cell {
    upstream.sockets.as_ref().map_or_else(unknown, |sockets| thousands(of(sockets))).into()
}

fn latency(upstream: &Upstream, sight: Sight, of: fn(&Latency) -> u64) -> Cell {
    let seen = upstream.latency.as_ref().filter(|_| sight.events != Events::Missing);
    seen.map_or_else(unknown, |latency| micros(of(latency))).into()
}

fn entered(upstream: &Upstream) -> String {
    let mark = if upstream.time_wait_inferred { "~" } else { "" };
    upstream.time_wait_per_s.map_or_else(unknown, |per_s| format!("{mark}{}", rate(per_s)))
}

fn by_sockets(a: &Upstream, b: &Upstream, of: fn(&Sockets) -> u64) -> Ordering {
    most(a.sockets.as_ref().map(of), b.sockets.as_ref().map(of))
}

fn by_latency(a: &Upstream, b: &Upstream, of: fn(&Latency) -> u64) -> Ordering {
    most(a.latency.as_ref().map(of), b.latency.as_ref().map(of))
}

const fn number(
    title: &'static str,
    width: usize,
    rank: u8,
    about: &'static str,
    cell: fn(&Upstream, Sight) -> Cell,
    compare: fn(&Upstream, &Upstream) -> Ordering,
) -> Column<Upstream> {
    Column { title, width, grow: 0, align: Align::Right, rank, about, cell, compare }
}

const COLUMNS: &[Column<Upstream>] = &[
    Column {
        title: "UPSTREAM",
        width: 21,
        grow: 26,
        align: Align::Left,
        rank: 0,
        about: "address and port of the remote end",
        cell: |row, _| endpoint(row.key.dst, Some(row.key.dport)).into(),
        compare: |a, b| (a.key.dst, a.key.dport).cmp(&(b.key.dst, b.key.dport)),
    },
    number(
        "NETNS",
        10,
        16,
        "its network namespace, where that isn't ours",
        |row, sight| match row.key.netns.filter(|_| row.key.netns != sight.own_netns) {
            Some(netns) => netns.to_string().into(),
            None => String::new().into(),
        },
        |a, b| a.key.netns.cmp(&b.key.netns),
    ),
    number(
        "FAILED",
        10,
        7,
        "failures since the start",
        |row, sight| failing(of_failures(sight).count(row.failed()), row.failed() > 0),
        |a, b| most(a.failed(), b.failed()),
    ),
    number(
        "FAIL/S",
        8,
        1,
        "failures a second",
        |row, sight| failing(of_failures(sight).rate(row.fails_per_s), row.fails_per_s > 0.0),
        |a, b| most(a.fails_per_s, b.fails_per_s),
    ),
    Column {
        title: "REASON",
        width: 20,
        grow: 0,
        align: Align::Left,
        rank: 5,
        about: "why most of them failed",
        cell: |row, sight| match row.failures.first().filter(|_| sight.events != Events::Missing) {
            Some((reason, _)) => reason_name(*reason).to_owned().into(),
            None => unknown().into(),
        },
        compare: |a, b| by_reason(main_reason(a), main_reason(b)),
    },
    number(
        "PORTS",
        14,
        11,
        "local ports used and usable, from the source address with the least room",
        |row, _| row.ports.map_or_else(unknown, ports).into(),
        |a, b| most(a.ports.map(|ports| ports.used), b.ports.map(|ports| ports.used)),
    ),
    number(
        "USED",
        7,
        2,
        "used part of these ports",
        |row, _| match row.ports {
            None => unknown().into(),
            Some(ports) => {
                let ratio = ports.ratio();
                let mark = if ports.inferred { "~" } else { "" };
                Cell::new(format!("{mark}{}", percent(ratio)), fullness(ratio))
            }
        },
        |a, b| most(used(a), used(b)),
    ),
    number(
        "ESTAB",
        7,
        3,
        "sockets in ESTAB",
        |row, _| sockets(row, |sockets| sockets.established),
        |a, b| by_sockets(a, b, |sockets| sockets.established),
    ),
    number(
        "SYN-SENT",
        9,
        8,
        "sockets that are connecting",
        |row, _| sockets(row, |sockets| sockets.connecting),
        |a, b| by_sockets(a, b, |sockets| sockets.connecting),
    ),
    number(
        "TIME-WAIT",
        10,
        4,
        "entries in TIME-WAIT: each holds a port for 60 s",
        |row, _| sockets(row, |sockets| sockets.time_wait),
        |a, b| by_sockets(a, b, |sockets| sockets.time_wait),
    ),
    number(
        "OTHER",
        7,
        15,
        "sockets in FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT, LAST-ACK, CLOSING",
        |row, _| sockets(row, |sockets| sockets.other),
        |a, b| by_sockets(a, b, |sockets| sockets.other),
    ),
    number(
        "OPENED/S",
        9,
        6,
        "connections that became established, a second",
        |row, sight| sight.rate(row.opened_per_s).into(),
        |a, b| most(a.opened_per_s, b.opened_per_s),
    ),
    number(
        "CLOSED/S",
        9,
        14,
        "connections that began to close or were reset, a second",
        |row, sight| sight.rate(row.closed_per_s).into(),
        |a, b| most(a.closed_per_s, b.closed_per_s),
    ),
    number(
        "TW/S",
        8,
        10,
        "entries in TIME-WAIT made a second",
        |row, _| entered(row).into(),
        |a, b| most(a.time_wait_per_s, b.time_wait_per_s),
    ),
    Column {
        title: "CLOSES",
        width: 10,
        grow: 0,
        align: Align::Left,
        rank: 9,
        about: "which side closes first, and how often: the one that does has the TIME-WAIT",
        cell: |row, sight| match sight.events {
            Events::Missing => unknown().into(),
            _ => closes(row).into(),
        },
        compare: |a, b| {
            let here =
                |row: &Upstream| share(row.closed_here, row.closed_here + row.closed_by_peer);
            most(here(a), here(b))
        },
    },
    number(
        "P50",
        7,
        13,
        "median time that connect() took lately",
        |row, sight| latency(row, sight, |latency| latency.p50_us),
        |a, b| by_latency(a, b, |latency| latency.p50_us),
    ),
    number(
        "P99",
        7,
        12,
        "99 of 100 connects took no longer",
        |row, sight| latency(row, sight, |latency| latency.p99_us),
        |a, b| by_latency(a, b, |latency| latency.p99_us),
    ),
];

/// The tone of a count of failures.
pub(in crate::tui) fn tone(count: u64) -> Tone {
    if count > 0 { Tone::Bad } else { Tone::Plain }
}
