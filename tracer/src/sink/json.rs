//! NDJSON: one object a line. The keys are a contract, see docs/output.md.

use std::{io::Write, net::IpAddr};

use serde::Serialize;

use super::{
    Sink, Totals,
    clock::Clock,
    facts::{Facts, shown},
};
use crate::{
    answers::{summary::Summary, watch::Watch},
    event::Event,
    failures::{FailureKey, FailureRow},
    kernel::cgroup::Cgroups,
    table::{Change, Table},
};

pub(crate) fn line(value: &impl Serialize, out: &mut Vec<u8>) {
    // Writing into memory can't fail, and these types hold nothing that JSON can't.
    if serde_json::to_writer(&mut *out, value).is_ok() {
        out.push(b'\n');
    }
}

/// What a line says besides the event's own facts.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Of which host, where lines of several stand together.
    pub host: Option<&'a str>,
    /// When, RFC 3339.
    pub ts: &'a str,
    /// Path of the owner's cgroup.
    pub cgroup: Option<&'a str>,
}

#[derive(Serialize)]
struct EventLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    ts: &'a str,
    #[serde(flatten)]
    facts: Facts<&'a str>,
}

#[derive(Serialize)]
struct LostLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    ts: &'a str,
    event: &'static str,
    lost: u64,
    lost_states: u64,
    lost_failures: u64,
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
    lost_owners: u64,
    #[serde(skip_serializing_if = "is_zero")]
    skipped_calls: u64,
}

/// The line of an event.
pub fn event(event: &Event, change: &Change, told: Told<'_>, out: &mut Vec<u8>) {
    let Told { host, ts, cgroup } = told;
    let Event::Lost(loss) = event else {
        return line(&EventLine { host, ts, facts: Facts::of(event, change, cgroup) }, out);
    };
    let lost = LostLine {
        host,
        ts,
        event: "lost",
        lost: loss.events(),
        lost_states: loss.states,
        lost_failures: loss.failures,
        missed: loss.missed,
        lost_owners: loss.owners,
        skipped_calls: loss.calls,
    };
    line(&lost, out);
}

/// `trace --format json`
#[derive(Debug)]
pub struct Trace {
    clock: Clock,
    cgroups: Cgroups,
}

impl Trace {
    /// `clock` dates the events.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, cgroups: Cgroups::default() }
    }
}

impl Sink for Trace {
    fn event(&mut self, happened: &Event, change: &Change, out: &mut Vec<u8>) {
        let ts = self.clock.rfc3339(happened.ts_ns());
        let cgroup = happened.cgroup().and_then(|id| self.cgroups.path(id));
        event(happened, change, Told { host: None, ts: &ts, cgroup }, out);
    }

    fn totals(&mut self, _table: &Table, _totals: &Totals, _out: &mut Vec<u8>) {}
}

#[derive(Serialize)]
struct CountLine<'a> {
    total: u64,
    lost: u64,
    duration_s: f64,
    seen: u64,
    produced: u64,
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lost_owners: u64,
    #[serde(skip_serializing_if = "is_zero")]
    skipped_calls: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unlisted: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unseen: &'a [&'static str],
    by: Vec<CountRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Summary>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A row of failures.
#[derive(Serialize)]
pub(super) struct CountRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    error: Option<crate::event::Errno>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    reason: Option<crate::reason::Reason>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    comm: Option<crate::event::Comm>,
    pids: &'a std::collections::BTreeSet<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    count: u64,
    first: String,
    last: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_used: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_usable: Option<u32>,
}

/// `count --format json`
#[derive(Debug)]
pub struct Count {
    clock: Clock,
    answers: Option<Watch>,
}

impl Count {
    /// `clock` dates the first and last failure of a row.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, answers: None }
    }

    /// Tells of failed answers of proxies, too.
    #[must_use]
    pub fn with_answers(self, answers: Option<Watch>) -> Self {
        Self { answers, ..self }
    }
}

impl<'a> CountRow<'a> {
    /// `clock` dates the first and the last failure.
    pub(super) fn of(clock: &mut Clock, key: &FailureKey, row: &'a FailureRow) -> Self {
        Self {
            error: key.error,
            reason: key.reason,
            comm: key.comm,
            pids: &row.pids,
            src: key.src,
            sport: key.sport,
            dst: key.dst,
            dport: key.dport,
            netns: key.netns,
            count: row.count,
            first: clock.rfc3339(row.first_ns),
            last: clock.rfc3339(row.last_ns),
            ports_used: row.ports.map(|ports| ports.used),
            ports_usable: row.ports.map(|ports| ports.usable),
        }
    }
}

impl Sink for Count {
    fn event(&mut self, _event: &Event, _change: &Change, _out: &mut Vec<u8>) {}

    fn totals(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>) {
        let clock = &mut self.clock;
        let by = table.rows().into_iter().map(|(key, row)| CountRow::of(clock, key, row));
        let count = CountLine {
            total: table.failures(),
            lost: table.lost(),
            duration_s: (totals.duration_s * 1000.0).round() / 1000.0,
            seen: table.seen(),
            produced: totals.produced,
            missed: table.loss().missed,
            lost_owners: table.loss().owners,
            skipped_calls: table.loss().calls,
            unlisted: table.unlisted(),
            unseen: &totals.unseen,
            by: by.collect(),
            answers: self.answers.as_ref().map(|answers| answers.summary(table)),
        };
        line(&count, out);
    }

    fn end(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>) {
        self.answers.iter().for_each(Watch::catch_up);
        self.totals(table, totals, out);
    }
}

/// `features --format json`
pub fn features(ground: &impl Serialize, features: &impl Serialize, out: &mut impl Write) {
    let all = serde_json::json!({ "host": ground, "events": features });
    // A closed pipe is not ours to report.
    let _ = writeln!(out, "{all}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Call, CallFailed, Comm, Errno, Known, Owner, Subject};

    #[test]
    fn an_owner_that_was_inferred_is_called_so() {
        let printed = |known| {
            let subject = Subject {
                ts_ns: 1,
                cookie: None,
                src: None,
                sport: None,
                dst: None,
                dport: None,
                netns: None,
                cgroup: None,
                owner: Some(Owner { pid: 7, tid: 7, comm: Comm::new([b'a'; 16]), known }),
            };
            let errno = Errno::EADDRNOTAVAIL;
            let event = Event::CallFailed(CallFailed { subject, call: Call::Bind, errno });
            let mut out = Vec::new();
            let mut sink = Trace::new(Clock::new(0, jiff::tz::TimeZone::UTC));
            sink.event(&event, &Change::None, &mut out);
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()["owner"].clone()
        };
        assert_eq!(printed(Known::Inferred), "inferred");
        assert!(printed(Known::Stored).is_null());
        assert!(printed(Known::Current).is_null());
    }
}
