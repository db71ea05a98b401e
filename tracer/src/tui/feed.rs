//! Which events the pane of events shows: the newest ones, or those around a chosen one.

use std::collections::VecDeque;

use crate::{
    live::tail::{Seen, Tail},
    sink::text::{Told, told},
};

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of them.
    #[default]
    All,
    /// Failures, and loss.
    Failures,
}

/// Where one is in the events.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed {
    pub(super) wanted: Wanted,
    /// What is searched for; empty: nothing.
    pub(super) search: String,
    /// Number of the chosen event; `None`: the newest, whichever it is.
    pub(super) cursor: Option<u64>,
}

/// Which way to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Newer,
    Older,
}

impl Feed {
    /// The events that are wanted, oldest first, up to a number exclusively.
    pub(super) fn events<'a>(&self, tail: &'a Tail, until: u64) -> Events<'a> {
        let kept = match self.wanted {
            Wanted::All => tail.all(),
            Wanted::Failures => tail.failures(),
        };
        Events { kept, len: kept.partition_point(|seen| seen.number < until) }
    }

    /// Place of the chosen event; the last one where none is chosen.
    pub(super) fn at(&self, events: &Events<'_>) -> usize {
        let last = events.len.saturating_sub(1);
        self.cursor.map_or(last, |number| events.place(number).min(last))
    }

    /// Chooses the event so many further on; the last one lets go.
    pub(super) fn step(&mut self, tail: &Tail, until: u64, steps: isize) {
        let events = self.events(tail, until);
        let at = self.at(&events).saturating_add_signed(steps);
        self.cursor =
            (at + 1 < events.len).then(|| events.get(at)).flatten().map(|seen| seen.number);
    }

    /// Chooses the next event that has what is searched for; whether there is one.
    pub(super) fn seek(&mut self, tail: &Tail, until: u64, way: Way, from_here: usize) -> bool {
        let events = self.events(tail, until);
        let at = self.at(&events);
        let words = self.search.to_lowercase();
        let is_it = |index: &usize| events.get(*index).is_some_and(|seen| has(seen, &words));
        let found = match way {
            Way::Newer => (at + from_here..events.len).find(is_it),
            Way::Older => (0..(at + 1).saturating_sub(from_here).min(events.len)).rev().find(is_it),
        };
        if let Some(seen) = found.and_then(|index| events.get(index)) {
            self.cursor = Some(seen.number);
        }
        found.is_some()
    }
}

/// Events that are kept, up to some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Events<'a> {
    kept: &'a VecDeque<Seen>,
    len: usize,
}

impl<'a> Events<'a> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> Option<&'a Seen> {
        self.kept.get(index).filter(|_| index < self.len)
    }

    /// Place of an event, or of the next one where it isn't kept any more.
    fn place(&self, number: u64) -> usize {
        self.kept.partition_point(|seen| seen.number < number)
    }
}

/// Whether an event has a lower-case text in its line.
pub(super) fn has(seen: &Seen, text: &str) -> bool {
    !text.is_empty() && line(seen).to_lowercase().contains(text)
}

/// All that is said of an event, but the time.
fn line(seen: &Seen) -> String {
    match Told::of(&seen.event, seen.failure.as_ref()) {
        Some(Told { pid, comm, local, remote, old, new, age, outcome }) => {
            format!("{pid} {comm} {local} {remote} {old} {new} {age} {outcome}")
        }
        None => match &seen.event {
            crate::event::Event::Lost(loss) => told(loss).join(" "),
            _ => String::new(),
        },
    }
}
