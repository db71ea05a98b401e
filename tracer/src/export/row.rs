//! What an event is in columns: the same ones in Parquet and CSV.

use crate::{
    event::{Call, Event, Loss, State},
    kernel::ladder::Hooked,
    sink::facts::Facts,
    table::Change,
};

/// The kind of a row that tells of missing events.
pub const DAMAGED: &str = "damaged";

/// The columns, in their order.
pub const COLUMNS: [&str; 30] = [
    "host",
    "ts",
    "event",
    "old",
    "new",
    "substate",
    "inferred",
    "failed",
    "error",
    "reason",
    "src",
    "sport",
    "dst",
    "dport",
    "family",
    "side",
    "pid",
    "comm",
    "owner",
    "netns",
    "cgroup",
    "cookie",
    "age_us",
    "lost",
    "lost_states",
    "lost_failures",
    "missed",
    "lost_owners",
    "skipped_calls",
    "why",
];

/// Events that are missing in a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// How many; `None`: nobody knows.
    pub lost: Option<u64>,
    /// Why.
    pub why: &'static str,
}

/// What a row that is no event counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Lost while it was recorded.
    Lost(Loss),
    /// Missing in the capture.
    Gone(Gone),
}

/// A row; `T` stands for a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// Name of the host.
    pub host: T,
    /// Nanoseconds since the Unix epoch; `None`: nobody knows.
    pub ts_ns: Option<u64>,
    /// What happened.
    pub facts: Facts<T>,
    /// Which side of the connection this host is on; `None`: it is none, or nobody knows.
    pub side: Option<&'static str>,
    /// Whether it is a failure; `None`: it is no event.
    pub failed: Option<bool>,
    /// What is lost or missing. Seldom there, and large.
    pub counted: Option<Box<Counted>>,
}

impl<T> Row<T> {
    /// Of an event of a host that was booted at `epoch_ns`.
    pub fn of(host: T, epoch_ns: u64, event: &Event, change: &Change, cgroup: Option<T>) -> Self {
        let counted = match event {
            Event::Lost(loss) => Some(Box::new(Counted::Lost(*loss))),
            _ => None,
        };
        Self {
            host,
            ts_ns: Some(epoch_ns.saturating_add(event.ts_ns())),
            facts: Facts::of(event, change, cgroup),
            side: side(event),
            failed: counted.is_none().then(|| change.failure().is_some()),
            counted,
        }
    }

    /// Of missing events.
    pub fn gone(host: T, gone: Gone) -> Self {
        Self {
            host,
            ts_ns: None,
            facts: Facts::named(DAMAGED),
            side: None,
            failed: None,
            counted: Some(Box::new(Counted::Gone(gone))),
        }
    }

    /// Whether an entry in TIME-WAIT was inferred; `None`: it is none.
    pub fn inferred(&self) -> Option<bool> {
        (self.facts.event == Hooked::TimeWait.name()).then_some(self.facts.inferred)
    }

    /// `inferred`: of an owner that was.
    pub fn owner(&self) -> Option<&'static str> {
        self.facts.owner.map(|_| "inferred")
    }

    /// Events that are lost or missing; `None`: none, or nobody knows.
    pub fn lost(&self) -> Option<u64> {
        match self.counted.as_deref()? {
            Counted::Lost(loss) => Some(loss.events()),
            Counted::Gone(gone) => gone.lost,
        }
    }

    /// Of a row about loss.
    pub fn loss(&self) -> Option<&Loss> {
        match self.counted.as_deref()? {
            Counted::Lost(loss) => Some(loss),
            Counted::Gone(_) => None,
        }
    }

    /// Why events are missing.
    pub fn why(&self) -> Option<&'static str> {
        match self.counted.as_deref()? {
            Counted::Lost(_) => None,
            Counted::Gone(gone) => Some(gone.why),
        }
    }
}

/// Of a socket whose beginning was not seen, which side connected is not known.
fn side(event: &Event) -> Option<&'static str> {
    let (subject, passive, connects) = match event {
        Event::State(change) if [change.old, change.new].contains(&State::LISTEN) => return None,
        Event::State(change) => {
            let connects = [change.old, change.new].contains(&State::SYN_SENT);
            (&change.subject, change.passive, connects)
        }
        Event::TimeWait(entered) => (&entered.subject, entered.passive, false),
        Event::CallFailed(failed) => return (failed.call == Call::Connect).then_some("client"),
        Event::Lost(_) => return None,
    };
    if passive {
        return Some("server");
    }
    (connects || subject.owner.is_some()).then_some("client")
}
