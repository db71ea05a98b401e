//! Columns of ceilings.

use std::net::SocketAddr;

use super::{Cell, Column, as_given, failing};
use crate::{
    ceilings::{Ceiling, Subject},
    human::{thousands, time_left},
    live::shot::Gauge,
    sink::check_text,
    tui::{
        text::{Align, percent},
        theme::{self, Tone},
    },
};

/// Columns of the gauge itself, and of the trend: the latter divide a minute.
const BAR: usize = 10;
const TREND: usize = 12;

/// What is full within so many seconds stands out.
const SOON_S: f64 = 600.0;

/// What stands before a figure that was inferred.
pub(in crate::tui) fn mark(ceiling: &Ceiling) -> &'static str {
    if ceiling.inferred { "~" } else { "" }
}

/// Of what it is. Of an upstream its own address comes first, which stays where there is little room.
pub(in crate::tui) fn name(ceiling: &Ceiling, own_netns: Option<u32>) -> String {
    let text = check_text::subject(ceiling, own_netns);
    match ceiling.subject {
        Subject::Upstream { src, dst, dport, .. } => {
            let upstream = SocketAddr::new(dst, dport);
            text.replacen(&format!("{src} to {upstream}"), &format!("{upstream} from {src}"), 1)
        }
        _ => text,
    }
}

fn when_full(gauge: &Gauge) -> Cell {
    let ceiling = &gauge.judged.ceiling;
    if ceiling.headroom() == 0 {
        return Cell::new("full", Tone::Bad);
    }
    match &ceiling.forecast {
        Some(forecast) => {
            let tone = if forecast.seconds < SOON_S { Tone::Warning } else { Tone::Plain };
            Cell::new(time_left(forecast.seconds), tone)
        }
        None => Cell::new("-", Tone::Plain),
    }
}

/// How many of the columns stand in the first of two lines, where one can't hold all.
pub(in crate::tui) const FIRST_LINE: usize = 7;

pub(in crate::tui) const COLUMNS: &[Column<Gauge>] = &[
    Column {
        title: "CEILING",
        width: 17,
        grow: 0,
        align: Align::Left,
        rank: 0,
        about: "what is bounded",
        cell: |gauge, _| gauge.judged.ceiling.subject.kind().name().to_owned().into(),
        compare: as_given,
    },
    Column {
        title: "STATUS",
        width: 8,
        grow: 0,
        align: Align::Left,
        rank: 1,
        about: "how bad it is: CRITICAL where calls fail for it, or hardly any room is left",
        cell: |gauge, _| Cell::new(gauge.judged.status.name(), Tone::Badge(gauge.judged.status)),
        compare: as_given,
    },
    Column {
        title: "GAUGE",
        width: BAR,
        grow: 0,
        align: Align::Left,
        rank: 7,
        about: "used part of the limit",
        cell: |gauge, sight| {
            let ratio = gauge.judged.ceiling.ratio();
            Cell::new(sight.look.gauge(ratio, BAR), theme::of(gauge.judged.status))
        },
        compare: as_given,
    },
    Column {
        title: "USED",
        width: 7,
        grow: 0,
        align: Align::Right,
        rank: 2,
        about: "the same in percent",
        cell: |gauge, _| {
            let ceiling = &gauge.judged.ceiling;
            let text = format!("{}{}", mark(ceiling), percent(ceiling.ratio()));
            Cell::new(text, theme::of(gauge.judged.status))
        },
        compare: as_given,
    },
    Column {
        title: "LAST MINUTE",
        width: TREND,
        grow: 0,
        align: Align::Left,
        rank: 8,
        about: "used part of the limit over the last minute, five seconds in a column",
        cell: |gauge, sight| {
            sight.look.sparkline(&gauge.trend, sight.at_s, sight.step_s, TREND).into()
        },
        compare: as_given,
    },
    Column {
        title: "FULL IN",
        width: 11,
        grow: 0,
        align: Align::Right,
        rank: 4,
        about: "how soon it is full at the present trend",
        cell: |gauge, _| when_full(gauge),
        compare: as_given,
    },
    Column {
        title: "FAIL/S",
        width: 7,
        grow: 0,
        align: Align::Right,
        rank: 3,
        about: "failures a second for it",
        cell: |gauge, sight| failing(sight.rate(gauge.fails_per_s), gauge.fails_per_s > 0.0),
        compare: as_given,
    },
    Column {
        title: "USED/LIMIT",
        width: 19,
        grow: 0,
        align: Align::Right,
        rank: 6,
        about: "in numbers",
        cell: |gauge, _| {
            let ceiling = &gauge.judged.ceiling;
            let (used, limit) = (thousands(ceiling.used), thousands(ceiling.limit));
            format!("{}{used}/{limit}", mark(ceiling)).into()
        },
        compare: as_given,
    },
    Column {
        title: "OF",
        width: 20,
        grow: 80,
        align: Align::Left,
        rank: 5,
        about: "of what, or of whom: the fullest one",
        cell: |gauge, sight| name(&gauge.judged.ceiling, sight.own_netns).into(),
        compare: as_given,
    },
];
