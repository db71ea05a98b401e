//! NDJSON: one object a line. The keys are a contract, see docs/output.md.

use std::{io::Write, net::IpAddr};

use serde::{Serialize, Serializer};

use super::{Sink, Totals, clock::Clock};
use crate::{
    event::{Call, Event, Known, Loss, State, Subject},
    failures::{FailureKey, FailureRow},
    kernel::{cgroup::Cgroups, ladder::Hooked},
    reason::Failure,
    table::{Change, Table},
};

/// Shows a value as it displays itself.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn shown<T: std::fmt::Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

pub(super) fn line(value: &impl Serialize, out: &mut Vec<u8>) {
    // Writing into memory can't fail, and these types hold nothing that JSON can't.
    if serde_json::to_writer(&mut *out, value).is_ok() {
        out.push(b'\n');
    }
}

#[derive(Serialize)]
struct EventLine<'a> {
    ts: &'a str,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    substate: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inferred: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    error: Option<crate::event::Errno>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    reason: Option<crate::reason::Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    comm: Option<crate::event::Comm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_us: Option<u64>,
}

#[derive(Serialize)]
struct LostLine<'a> {
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

    /// What every event has, and what a failure adds.
    fn about(
        &mut self,
        event: &'static str,
        subject: &Subject,
        failure: Option<&Failure>,
        add: impl FnOnce(&mut EventLine<'_>),
        out: &mut Vec<u8>,
    ) {
        let mut event = EventLine {
            ts: &self.clock.rfc3339(subject.ts_ns),
            event,
            old: None,
            new: None,
            substate: None,
            inferred: false,
            error: failure.and_then(|failure| failure.error),
            reason: failure.and_then(|failure| failure.reason),
            src: subject.src,
            sport: subject.sport,
            dst: subject.dst,
            dport: subject.dport,
            family: subject.family(),
            pid: subject.owner.map(|owner| owner.pid),
            comm: subject.owner.map(|owner| owner.comm),
            owner: subject.owner.filter(|owner| owner.known == Known::Inferred).map(|_| "inferred"),
            netns: subject.netns,
            cgroup: subject.cgroup.and_then(|id| self.cgroups.path(id)),
            cookie: subject.cookie,
            age_us: None,
        };
        add(&mut event);
        line(&event, out);
    }

    fn lost(&mut self, loss: &Loss, out: &mut Vec<u8>) {
        let lost = LostLine {
            ts: &self.clock.rfc3339(loss.ts_ns),
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
}

impl Sink for Trace {
    fn event(&mut self, event: &Event, change: &Change, out: &mut Vec<u8>) {
        let failure = change.failure();
        match event {
            Event::Lost(loss) => self.lost(loss, out),
            Event::State(change) => {
                let add = |line: &mut EventLine<'_>| {
                    line.old = Some(change.old.name());
                    line.new = Some(change.new.name());
                    line.age_us = change.age_ns.map(|ns| ns / 1000);
                };
                self.about("state", &change.subject, failure, add, out);
            }
            Event::CallFailed(failed) => {
                let name = match failed.call {
                    Call::Connect => Hooked::Connect.name(),
                    Call::Bind => Hooked::Bind.name(),
                    Call::Descriptor => Hooked::Descriptor.name(),
                };
                self.about(name, &failed.subject, failure, |_| {}, out);
            }
            Event::TimeWait(entered) => {
                let add = |line: &mut EventLine<'_>| {
                    line.old = Some(entered.old.name());
                    line.new = Some(State::TIME_WAIT.name());
                    line.substate = (!entered.inferred).then(|| entered.substate.name());
                    line.inferred = entered.inferred;
                };
                self.about(Hooked::TimeWait.name(), &entered.subject, None, add, out);
            }
        }
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
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct CountRow<'a> {
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
}

impl Count {
    /// `clock` dates the first and last failure of a row.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }

    fn row<'a>(&mut self, (key, row): (&FailureKey, &'a FailureRow)) -> CountRow<'a> {
        CountRow {
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
            first: self.clock.rfc3339(row.first_ns),
            last: self.clock.rfc3339(row.last_ns),
            ports_used: row.ports.map(|ports| ports.used),
            ports_usable: row.ports.map(|ports| ports.usable),
        }
    }
}

impl Sink for Count {
    fn event(&mut self, _event: &Event, _change: &Change, _out: &mut Vec<u8>) {}

    fn totals(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>) {
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
            by: table.rows().into_iter().map(|row| self.row(row)).collect(),
        };
        line(&count, out);
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
    use crate::event::{CallFailed, Comm, Errno, Owner};

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
