//! The last events, and the last failures, which many events would push out.

use std::collections::VecDeque;

use crate::{event::Event, reason::Failure};

/// Events that are kept.
const MAX_EVENTS: usize = 8192;

/// An event, and whether it is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number, from the first one on: those that are missing between two are not kept.
    pub number: u64,
    /// The event.
    pub event: Event,
    /// Why it is one.
    pub failure: Option<Failure>,
}

/// The last events.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    all: VecDeque<Seen>,
    failures: VecDeque<Seen>,
    next: u64,
}

impl Tail {
    /// Adds one.
    pub fn push(&mut self, event: &Event, failure: Option<Failure>) {
        let seen = Seen { number: self.next, event: *event, failure };
        self.next += 1;
        keep(&mut self.all, seen);
        // Loss stands among the failures: it may be one.
        if failure.is_some() || matches!(event, Event::Lost(_)) {
            keep(&mut self.failures, seen);
        }
    }

    /// The last events, oldest first.
    #[must_use]
    pub fn all(&self) -> &VecDeque<Seen> {
        &self.all
    }

    /// The last failures, and loss, oldest first.
    #[must_use]
    pub fn failures(&self) -> &VecDeque<Seen> {
        &self.failures
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.next
    }
}

fn keep(kept: &mut VecDeque<Seen>, seen: Seen) {
    if kept.len() == MAX_EVENTS {
        kept.pop_front();
    }
    kept.push_back(seen);
}
