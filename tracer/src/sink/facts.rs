//! What is told of an event, by its documented names: the keys of its JSON, and columns of an export.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::{
    event::{Call, Comm, Errno, Event, Known, State},
    kernel::ladder::Hooked,
    reason::Reason,
    table::Change,
};

/// What is told of an event besides its time; `C` stands for the path of a cgroup. Absent: not known. As JSON, its
/// keys are a contract, see docs/output.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Facts<C> {
    /// Its kind.
    pub event: &'static str,
    /// State before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<State>,
    /// State after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<State>,
    /// What an entry in TIME-WAIT waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substate: Option<State>,
    /// An entry in TIME-WAIT that was concluded from a state change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
    /// The errno that the application saw.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub error: Option<Errno>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub reason: Option<Reason>,
    /// Local address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// Local port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Remote address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<IpAddr>,
    /// Remote port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<u8>,
    /// Process id of the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Name of its thread.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub comm: Option<Comm>,
    /// The owner was inferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Known>,
    /// Network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Cgroup of the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<C>,
    /// Cookie of the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Microseconds spent in the old state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_us: Option<u64>,
}

impl<C> Facts<C> {
    /// Of an event whose owner's cgroup has this path; of loss there is only the kind.
    #[must_use]
    pub fn of(event: &Event, change: &Change, cgroup: Option<C>) -> Self {
        let bare = Self::named(name(event));
        let Some(subject) = event.subject() else { return bare };
        let failure = change.failure();
        let facts = Self {
            error: failure.and_then(|failure| failure.error),
            reason: failure.and_then(|failure| failure.reason),
            src: subject.src,
            sport: subject.sport,
            dst: subject.dst,
            dport: subject.dport,
            family: subject.family(),
            pid: subject.owner.map(|owner| owner.pid),
            comm: subject.owner.map(|owner| owner.comm),
            owner: subject.owner.map(|owner| owner.known).filter(|it| *it == Known::Inferred),
            netns: subject.netns,
            cgroup,
            cookie: subject.cookie,
            ..bare
        };
        match event {
            Event::State(change) => Self {
                old: Some(change.old),
                new: Some(change.new),
                age_us: change.age_ns.map(|ns| ns / 1000),
                ..facts
            },
            Event::TimeWait(entered) => Self {
                old: Some(entered.old),
                new: Some(State::TIME_WAIT),
                substate: (!entered.inferred).then_some(entered.substate),
                inferred: entered.inferred,
                ..facts
            },
            Event::CallFailed(_) | Event::Lost(_) => facts,
        }
    }

    /// Of something that is about no socket.
    #[must_use]
    pub fn named(event: &'static str) -> Self {
        Self {
            event,
            old: None,
            new: None,
            substate: None,
            inferred: false,
            error: None,
            reason: None,
            src: None,
            sport: None,
            dst: None,
            dport: None,
            family: None,
            pid: None,
            comm: None,
            owner: None,
            netns: None,
            cgroup: None,
            cookie: None,
            age_us: None,
        }
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::State(_) => "state",
        Event::CallFailed(failed) => match failed.call {
            Call::Connect => Hooked::Connect.name(),
            Call::Bind => Hooked::Bind.name(),
            Call::Descriptor => Hooked::Descriptor.name(),
        },
        Event::TimeWait(_) => Hooked::TimeWait.name(),
        Event::Lost(_) => "lost",
    }
}

/// Shows a value as it displays itself.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn shown<T: std::fmt::Display, S: Serializer>(
    value: &Option<T>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
