//! Columns of events.

use super::{Cell, Column, as_given};
use crate::{
    sink::text::Told,
    tui::{text::Align, theme::Tone},
};

/// An event in words.
#[derive(Clone, Debug)]
pub(in crate::tui) struct Line {
    pub(in crate::tui) time: String,
    pub(in crate::tui) told: Told,
    pub(in crate::tui) tone: Tone,
}

const fn column(
    title: &'static str,
    (width, grow): (usize, usize),
    align: Align,
    rank: u8,
    about: &'static str,
    cell: fn(&Line, super::Sight) -> Cell,
) -> Column<Line> {
    Column { title, width, grow, align, rank, about, cell, compare: as_given }
}

pub(in crate::tui) const COLUMNS: &[Column<Line>] = &[
    column("TIME", (12, 0), Align::Left, 0, "when", |line, _| line.time.clone().into()),
    column(
        "PID",
        (8, 0),
        Align::Right,
        6,
        "process id; with ? it was found in /proc afterwards",
        |line, _| line.told.pid.clone().into(),
    ),
    column("COMM", (9, 6), Align::Left, 4, "name of the process", |line, _| {
        line.told.comm.clone().into()
    }),
    column("LOCAL", (21, 26), Align::Left, 8, "local address and port", |line, _| {
        line.told.local.clone().into()
    }),
    column("REMOTE", (21, 26), Align::Left, 2, "remote address and port", |line, _| {
        line.told.remote.clone().into()
    }),
    column("OLD", (10, 2), Align::Left, 5, "state before", |line, _| {
        line.told.old.to_owned().into()
    }),
    column("NEW", (10, 2), Align::Left, 3, "state after", |line, _| {
        line.told.new.to_owned().into()
    }),
    column("AGE", (8, 0), Align::Right, 7, "time spent in the state before", |line, _| {
        line.told.age.clone().into()
    }),
    column(
        "FAILURE",
        (20, 24),
        Align::Left,
        1,
        "why it failed, and the error that the application saw",
        |line, _| Cell::new(line.told.outcome.clone(), line.tone),
    ),
];
