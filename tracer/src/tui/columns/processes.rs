//! Columns of processes.

use std::cmp::Ordering;

use super::{Cell, Column, Events, Sight, by_reason, failing, fullness, most, share, unknown};
use crate::{
    human::thousands,
    live::shot::Process,
    reason::Reason,
    tui::{
        rows::Row,
        text::{Align, percent},
    },
};

impl Row for Process {
    type Key = u32;
    const NAME: &'static str = "processes";

    fn key(&self) -> u32 {
        self.pid
    }

    fn columns() -> &'static [Column<Self>] {
        COLUMNS
    }

    fn worse(&self, other: &Self) -> Ordering {
        most(self.fails_per_s, other.fails_per_s)
            .then_with(|| most(self.failed, other.failed))
            .then_with(|| most(used(self), used(other)))
            .then_with(|| most(held(self), held(other)))
    }

    fn fails(&self) -> bool {
        self.failed > 0
    }

    fn text(&self, _: Sight) -> String {
        format!("{}[{}] {}", self.comm, self.pid, self.worst.map_or("", Reason::name))
    }
}

/// How failures of processes are to be read.
pub(in crate::tui) fn of_failures(sight: Sight) -> Sight {
    sight.partly(sight.unhooked.connects || sight.unhooked.calls)
}

/// Connections that were served, a second.
pub(in crate::tui) fn served(process: &Process, sight: Sight) -> String {
    if sight.unhooked.accepts { unknown() } else { sight.rate(process.served_per_s) }
}

fn used(process: &Process) -> f64 {
    process.files.map_or(-1.0, |(used, limit)| share(used, limit))
}

fn held(process: &Process) -> Option<u64> {
    process.connections.map(|(accepted, made)| accepted + made)
}

const fn number(
    title: &'static str,
    width: usize,
    rank: u8,
    about: &'static str,
    cell: fn(&Process, Sight) -> Cell,
    compare: fn(&Process, &Process) -> Ordering,
) -> Column<Process> {
    Column { title, width, grow: 0, align: Align::Right, rank, about, cell, compare }
}

const COLUMNS: &[Column<Process>] = &[
    Column {
        title: "COMM",
        width: 12,
        grow: 18,
        align: Align::Left,
        rank: 0,
        about: "name of the process",
        cell: |row, _| row.comm.to_string().into(),
        compare: |a, b| a.comm.cmp(&b.comm),
    },
    number("PID", 7, 3, "its id", |row, _| row.pid.to_string().into(), |a, b| a.pid.cmp(&b.pid)),
    number(
        "FAILED",
        10,
        8,
        "calls and connections that failed since the start",
        |row, sight| failing(of_failures(sight).count(row.failed), row.failed > 0),
        |a, b| most(a.failed, b.failed),
    ),
    number(
        "FAIL/S",
        8,
        1,
        "the same a second",
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
        cell: |row, sight| match row.worst.filter(|_| sight.events != Events::Missing) {
            Some(reason) => reason.name().to_owned().into(),
            None => unknown().into(),
        },
        compare: |a, b| by_reason(a.worst, b.worst),
    },
    number(
        "OPEN FILES",
        19,
        7,
        "open files, and their soft limit",
        |row, _| match row.files {
            None => unknown().into(),
            Some((used, limit)) => format!("{}/{}", thousands(used), thousands(limit)).into(),
        },
        |a, b| most(a.files.map(|(used, _)| used), b.files.map(|(used, _)| used)),
    ),
    number(
        "USED",
        7,
        2,
        "used part of that limit",
        |row, _| match row.files {
            None => unknown().into(),
            Some((files, limit)) => {
                let ratio = share(files, limit);
                Cell::new(percent(ratio), fullness(ratio))
            }
        },
        |a, b| most(used(a), used(b)),
    ),
    number(
        "CONNS-IN",
        9,
        4,
        "open connections that it accepted",
        |row, _| row.connections.map_or_else(unknown, |(accepted, _)| thousands(accepted)).into(),
        |a, b| most(a.connections.map(|c| c.0), b.connections.map(|c| c.0)),
    ),
    number(
        "CONNS-OUT",
        10,
        6,
        "open connections that it made",
        |row, _| row.connections.map_or_else(unknown, |(_, made)| thousands(made)).into(),
        |a, b| most(a.connections.map(|c| c.1), b.connections.map(|c| c.1)),
    ),
    number(
        "SERVED/S",
        9,
        10,
        "connections that it had accepted and that began to close, a second",
        |row, sight| served(row, sight).into(),
        |a, b| most(a.served_per_s, b.served_per_s),
    ),
    number(
        "OPENED/S",
        9,
        9,
        "connections made a second",
        |row, sight| sight.rate(row.opened_per_s).into(),
        |a, b| most(a.opened_per_s, b.opened_per_s),
    ),
];
