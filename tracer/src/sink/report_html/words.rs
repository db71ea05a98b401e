//! Times in UTC, and foreign text made inert.

use std::fmt::Write;

use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::{
    ceilings::thresholds::Status,
    event::is_inert,
    human::{thousands, time_left},
    reason::Reason,
    report::Report,
    sink::clock::Clock,
};

/// Longest foreign text that is shown in full, in characters.
const LONGEST: usize = 2000;
const DAY_NS: u64 = 86_400_000_000_000;

/// Dates of a report's times, in UTC.
#[derive(Clone, Copy)]
pub(super) struct Times {
    epoch_ns: u64,
    /// It is over a day: times of day go with their date.
    days: bool,
    /// Its steps are shorter than a second.
    fine: bool,
}

impl Times {
    /// Of a report.
    pub(super) fn of(report: &Report) -> Self {
        Self {
            epoch_ns: report.header.epoch_ns,
            days: report.end_ns().saturating_sub(report.begin_ns()) >= DAY_NS,
            fine: !report.timeline.step_ns.is_multiple_of(1_000_000_000),
        }
    }

    fn clock(self) -> Clock {
        Clock::new(self.epoch_ns, TimeZone::UTC)
    }

    /// `2026-03-01 14:05:09 UTC`
    pub(super) fn stamp(self, ts_ns: u64) -> Markup {
        let rfc3339 = self.clock().rfc3339(ts_ns);
        let shown = rfc3339.get(..19).unwrap_or(&rfc3339).replace('T', " ");
        html! { time datetime=(rfc3339) { (shown) " UTC" } }
    }

    /// Time of day; its date before it where the report is over a day.
    pub(super) fn time(self, ts_ns: u64) -> String {
        let mut clock = self.clock();
        if self.days { clock.day_and_time(ts_ns) } else { clock.time_of_day(ts_ns) }
    }

    /// The same, as precise as the steps are.
    pub(super) fn of_step(self, ts_ns: u64) -> String {
        let mut time = self.time(ts_ns);
        if self.fine {
            let ms = self.epoch_ns.saturating_add(ts_ns) / 1_000_000 % 1000;
            time += trimmed(&format!(".{ms:03}"));
        }
        time
    }

    /// `14:05:09 to 14:05:17 UTC`
    pub(super) fn range(self, first_ns: u64, last_ns: u64) -> String {
        let (first, last) = (self.time(first_ns), self.time(last_ns));
        if first == last { format!("{first} UTC") } else { format!("{first} to {last} UTC") }
    }
}

/// Without zeros at the end, and without a point that nothing follows.
fn trimmed(number: &str) -> &str {
    number.trim_end_matches('0').trim_end_matches('.')
}

/// `0.5 s`, `42 s`, `3 min 20 s`
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn lasting(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    match ns {
        0 => "0 s".to_owned(),
        1..1_000_000_000 => format!("{} s", trimmed(&format!("{:.3}", seconds.max(0.001)))),
        1_000_000_000..10_000_000_000 => format!("{seconds:.1} s"),
        _ => time_left(seconds),
    }
}

/// Text from a capture, with all made visible that hides or reorders what is beside it. What was made visible
/// before stays as it is.
pub(super) fn inert(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    let mut characters = text.chars();
    for character in characters.by_ref().take(LONGEST) {
        match character {
            // As sysctls have between their numbers.
            '\t' => shown.push(' '),
            _ if is_inert(character) || character == '\\' => shown.push(character),
            _ => shown.extend(character.escape_unicode()),
        }
    }
    let left_out = characters.count();
    if left_out > 0 {
        // Writing into memory can't fail.
        let _ = write!(shown, "... ({} more characters)", thousands(left_out as u64));
    }
    shown
}

/// A reason's name.
pub(super) fn reason(reason: Option<Reason>) -> &'static str {
    reason.map_or("unknown", Reason::name)
}

/// `12,403 refused, 12 timed-out`
pub(super) fn reasons(failures: &[(Option<Reason>, u64)]) -> String {
    let named =
        failures.iter().map(|(why, count)| format!("{} {}", thousands(*count), reason(*why)));
    named.collect::<Vec<_>>().join(", ")
}

/// How many failed in all.
pub(super) fn sum(failures: &[(Option<Reason>, u64)]) -> u64 {
    failures.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
}

/// How bad, by a mark and a word.
pub(super) fn badge(status: Status) -> Markup {
    let (class, mark) = match status {
        Status::Ok => ("ok", "\u{2713}"),
        Status::Unknown => ("warn", "?"),
        Status::Warning => ("warn", "\u{25b2}"),
        Status::Critical => ("crit", "\u{25a0}"),
    };
    html! { span class={ "badge " (class) } { span aria-hidden="true" { (mark) " " } (status.name()) } }
}

/// `97.1 %` of a share from 0 to 1 and above.
pub(super) fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        percent if !percent.is_finite() => "?".to_owned(),
        percent if percent.abs() >= 1e6 => format!("{percent:.1e} %"),
        percent => format!("{:.1} %", percent + 0.0),
    }
}

/// The first of a list, and how many more there are.
pub(super) fn first_of<T>(list: &[T], most: usize) -> (&[T], usize) {
    let (first, more) = list.split_at(list.len().min(most));
    (first, more.len())
}

/// How many are left out, if any: `and 12 more`.
pub(super) fn more(count: u64, what: &str) -> Markup {
    html! {
        @if count > 0 { p.note { "And " (thousands(count)) " more " (what) "." } }
    }
}
