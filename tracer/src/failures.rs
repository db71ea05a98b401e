//! Rows of failures: what is alike in them, and what is counted of them. Part of the table's fold.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
    net::IpAddr,
};

use crate::{
    ceilings::ephemeral_ports::PortUse,
    event::{Call, CallFailed, Comm, Errno, Event, State, StateChange, Subject},
    reason::{Failure, Reason},
};

/// Most process ids that one row lists.
pub const MAX_PIDS: usize = 1024;

/// One row of failures: what is alike in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureKey {
    /// The call that failed; `None`: a socket's state changed.
    pub call: Option<Call>,
    /// The errno that the application saw.
    pub error: Option<Errno>,
    /// Why.
    pub reason: Option<Reason>,
    /// The process's name.
    pub comm: Option<Comm>,
    /// Local address; `None`: there is no socket.
    pub src: Option<IpAddr>,
    /// Local port: only of a `bind()`, and where this host is the server, as its clients' ports all
    /// differ.
    pub sport: Option<u16>,
    /// The upstream's address; `None` where this host is the server, or there is no remote end.
    pub dst: Option<IpAddr>,
    /// The upstream's port; `None` where this host is the server, or may be: the socket existed before,
    /// and one of the two ports is a client's.
    pub dport: Option<u16>,
    /// Network namespace.
    pub netns: Option<u32>,
}

/// In few pieces, as each has its price and every failure is looked up by its row several times.
impl Hash for FailureKey {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let number = |it: Option<u16>| it.map_or(1 << 16, u64::from);
        to.write_u128(address_bits(self.src));
        to.write_u128(address_bits(self.dst));
        self.comm.hash(to);
        to.write_u64((number(self.dport) << 32) | u64::from(self.netns.unwrap_or(0)));
        let reason = self.reason.map_or(0, |reason| reason as u64 + 1);
        let call = self.call.map_or(0, |call| call as u64 + 1);
        let error = number(self.error.map(|error| error.0));
        to.write_u64((number(self.sport) << 40) | (error << 16) | (reason << 8) | call);
    }
}

/// An address for a hash.
pub(crate) fn address_bits(address: Option<IpAddr>) -> u128 {
    match address {
        None => 0,
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().to_bits(),
        Some(IpAddr::V6(v6)) => v6.to_bits(),
    }
}

impl FailureKey {
    /// The row of an event that is this failure; `None`: an event of this kind is none.
    #[must_use]
    pub fn of(event: &Event, failure: Failure) -> Option<Self> {
        match event {
            Event::State(change) => Some(Self::of_change(change, failure)),
            Event::CallFailed(failed) => Some(Self::of_call(failed, failure)),
            Event::TimeWait(_) | Event::Lost(_) => None,
        }
    }

    pub(crate) fn of_change(change: &StateChange, failure: Failure) -> Self {
        // Which side this host is on is known of sockets whose beginning was seen.
        let client = change.old == State::SYN_SENT || change.subject.owner.is_some();
        let server = change.passive;
        Self {
            sport: change.subject.sport.filter(|_| server),
            dst: change.subject.dst.filter(|_| !server),
            dport: change.subject.dport.filter(|_| client && !server),
            ..Self::alike(&change.subject, failure)
        }
    }

    pub(crate) fn of_call(failed: &CallFailed, failure: Failure) -> Self {
        let key = Self::alike(&failed.subject, failure);
        let sport = failed.subject.sport.filter(|_| failed.call == Call::Bind);
        Self { call: Some(failed.call), sport, ..key }
    }

    /// Whether the remote ends are the clients of a listener of this host.
    #[must_use]
    pub fn is_clients(&self) -> bool {
        self.call.is_none() && self.dst.is_none()
    }

    fn alike(subject: &Subject, failure: Failure) -> Self {
        Self {
            call: None,
            error: failure.error,
            reason: failure.reason,
            comm: subject.owner.map(|owner| owner.comm),
            src: subject.src,
            sport: subject.sport,
            dst: subject.dst,
            dport: subject.dport,
            netns: subject.netns,
        }
    }
}

/// What a row counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRow {
    /// How often.
    pub count: u64,
    /// Process ids, at most [`MAX_PIDS`] of them.
    pub pids: BTreeSet<u32>,
    /// Time of the first, nanoseconds since boot.
    pub first_ns: u64,
    /// Time of the last, nanoseconds since boot.
    pub last_ns: u64,
    /// Local ports toward this upstream, measured while it failed: the sample with most in use.
    pub ports: Option<PortUse>,
}
