//! Failures that a ceiling caused, counted as they happen: by the subject that they belong to. Part of the
//! fold of events; no clock, no I/O.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
};

use super::Subject;
use crate::{
    event::{Comm, Event},
    failures::{FailureKey, MAX_PIDS},
    reason::{Failure, Reason},
};

/// Most subjects that are kept apart; failures beyond them are counted in [`Tally::unlisted`].
const MAX_SUBJECTS: usize = 65_536;

/// Whose failures: what an event tells of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// `connect()` found no free port.
    Upstream {
        /// Network namespace.
        netns: u32,
        /// Source address.
        src: IpAddr,
        /// The upstream's address.
        dst: IpAddr,
        /// The upstream's port.
        dport: u16,
    },
    /// `bind()` to port 0 found no free port.
    BindPool {
        /// Network namespace.
        netns: u32,
        /// The address.
        src: IpAddr,
    },
    /// A process has no free file descriptor.
    Process {
        /// Process id.
        pid: u32,
    },
    /// The host has no free file.
    Host,
}

impl Whose {
    /// Whose the failures of a row are, of this process; `None`: no ceiling caused them.
    #[must_use]
    pub fn of(key: &FailureKey, pid: Option<u32>) -> Option<Self> {
        match (key.reason?, key.call) {
            (Reason::PortRangeExhausted, None) => Some(Self::Upstream {
                netns: key.netns?,
                src: key.src?,
                dst: key.dst?,
                dport: key.dport?,
            }),
            (Reason::PortRangeExhausted, Some(_)) => {
                Some(Self::BindPool { netns: key.netns?, src: key.src? })
            }
            (Reason::ProcessFileLimit, _) => pid.map(|pid| Self::Process { pid }),
            (Reason::SystemFileLimit, _) => Some(Self::Host),
            _ => None,
        }
    }

    /// Whose failures are those of a subject. Sockets with a port range or an interface of their own share
    /// them with the others toward the same upstream: events don't tell them apart.
    #[must_use]
    pub fn of_subject(subject: &Subject) -> Option<Self> {
        match *subject {
            Subject::Upstream { netns, src, dst, dport, .. } => {
                Some(Self::Upstream { netns, src, dst, dport })
            }
            Subject::BindPool { netns, src } => Some(Self::BindPool { netns, src }),
            Subject::Process { pid, .. } => Some(Self::Process { pid }),
            Subject::Host => Some(Self::Host),
            _ => None,
        }
    }

    /// The errno that the callers saw.
    #[must_use]
    pub fn error(self) -> &'static str {
        match self {
            Self::Upstream { .. } => "EADDRNOTAVAIL",
            Self::BindPool { .. } => "EADDRINUSE",
            Self::Process { .. } => "EMFILE",
            Self::Host => "ENFILE",
        }
    }
}

/// Failures of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub total: u64,
    /// By process; at most [`MAX_PIDS`] of them.
    pub who: BTreeMap<(u32, Comm), u64>,
}

/// The counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: HashMap<Whose, Count>,
    unlisted: u64,
}

impl Tally {
    /// Folds a failure in, if a ceiling caused it.
    pub fn note(&mut self, event: &Event, failure: Failure) {
        if let Some(key) = FailureKey::of(event, failure) {
            self.add(&key, event.owner().map(|owner| owner.pid), 1);
        }
    }

    /// Adds so many failures of a row, of this process.
    pub fn add(&mut self, key: &FailureKey, pid: Option<u32>, failures: u64) {
        let Some(whose) = Whose::of(key, pid) else { return };
        let full = self.counts.len() >= MAX_SUBJECTS;
        let count = match self.counts.entry(whose) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if full => {
                self.unlisted += failures;
                return;
            }
            Entry::Vacant(entry) => entry.insert(Count::default()),
        };
        count.total += failures;
        if let (Some(pid), Some(comm)) = (pid, key.comm)
            && (count.who.len() < MAX_PIDS || count.who.contains_key(&(pid, comm)))
        {
            *count.who.entry((pid, comm)).or_default() += failures;
        }
    }

    /// Those of one subject.
    #[must_use]
    pub fn of(&self, whose: Whose) -> Option<&Count> {
        self.counts.get(&whose)
    }

    /// All of them, in no order.
    pub fn counts(&self) -> impl Iterator<Item = (&Whose, &Count)> {
        self.counts.iter()
    }

    /// Failures that found no room for a subject of their own.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }
}
