//! Failed answers afterwards: what logs hold of the time of a capture, beside the failures in it.

use anyhow::{Context, Result};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use std::{collections::BTreeMap, os::unix::ffi::OsStrExt};

use super::{
    Accounts,
    kernel::{Places, in_the_kernel},
    merge::{Span, Told, merge},
    read::{Log, open},
    summary::{Summary, summary},
};
use crate::{
    event::visible,
    logs::{follow::From, zone},
    report::Report,
};

/// Failed answers within a capture's time, and what explains them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Captured {
    /// As live.
    #[serde(flatten)]
    pub summary: Summary,
    /// Lines of the logs outside of that time: they are in no figure.
    pub lines_outside: u64,
    /// A log is without times, so all lines of all logs count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_time: bool,
    /// Failures are missing in the capture, or in its rows: the kernel's figures are lower bounds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kernel_incomplete: bool,
    /// The zone of times without one; `None`: no log has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The logs.
    pub logs: Vec<OfLog>,
}

/// What became of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfLog {
    /// Its name, inert.
    pub file: String,
    /// Lines of interest that counted.
    pub lines: u64,
    /// Lines outside of the capture's time.
    pub lines_outside: u64,
    /// The earliest time in it, RFC 3339; `None`: no line of interest has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The latest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Its lines have no times.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub timeless: bool,
    /// Its times are without a zone.
    #[serde(skip)]
    pub without_zone: bool,
}

impl OfLog {
    /// Whether it has lines, and all are of another time.
    #[must_use]
    pub fn is_of_another_time(&self) -> bool {
        self.lines == 0 && self.lines_outside > 0
    }
}

/// Reads the logs. Times without a zone are in `zone`; unless given, in that of the recording's host; where the capture
/// does not tell that, in this machine's.
///
/// # Errors
/// A log can't be read, or this machine does not know the zone.
pub fn of(report: &Report, logs: &[Log], given: Option<&TimeZone>) -> Result<Captured> {
    let named = report.header.zone.as_str();
    let without_zone = logs.iter().any(|log| log.kind.is_without_zone());
    let zone = match given {
        Some(zone) => zone.clone(),
        None if named.is_empty() || !without_zone => TimeZone::system(),
        None => zone::of(named).map_err(anyhow::Error::msg).with_context(|| {
            format!(
                "the logs have times without a zone, and that of the recording's host, {named}, is not known here: \
                 give --log-time-zone"
            )
        })?,
    };
    let mut accounts = Accounts::new(logs);
    let readings = open(logs, From::Start, &zone)?;
    let told = merge(readings, span(report), &mut |proxy, entry| accounts.note(proxy, entry))?;
    let failures = report.failures.iter().map(|(key, row)| (key, row));
    let kernel = in_the_kernel(&accounts.proxies(), &Places::new(), failures);
    let unknown = told.iter().map(|told| told.unknown).sum();
    // Where HAProxy's servers were, the capture does not tell.
    let mut summary = summary(&accounts, &kernel, &BTreeMap::new(), unknown);
    summary.broken_off = told.iter().find_map(|told| told.broken_off.clone());
    Ok(Captured {
        summary,
        lines_outside: told.iter().map(|told| told.outside).sum(),
        any_time: told.iter().any(|told| told.timeless),
        kernel_incomplete: report.is_incomplete() || report.unlisted > 0,
        time_zone: without_zone.then(|| zone::name(&zone)),
        logs: logs.iter().zip(told).map(|(log, told)| of_log(log, &told)).collect(),
    })
}

/// The seconds in which it was recorded: logs tell no less. A capture ends within the one that it has begun.
fn span(report: &Report) -> Span {
    let second = |ns: u64| {
        i64::try_from(report.header.epoch_ns.saturating_add(ns) / 1_000_000_000).unwrap_or(i64::MAX)
    };
    Span(second(report.begin_ns()), second(report.end_ns()))
}

fn of_log(log: &Log, told: &Told) -> OfLog {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    OfLog {
        file: visible(log.path.as_os_str().as_bytes()),
        lines: told.lines,
        lines_outside: told.outside,
        first: time(told.first),
        last: time(told.last),
        timeless: told.timeless,
        without_zone: log.kind.is_without_zone(),
    }
}

#[cfg(test)]
mod tests;
