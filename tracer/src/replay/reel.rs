//! A capture as it is read: what waits for its time.

use std::{collections::VecDeque, sync::Arc};

use anyhow::Result;

use super::tape::Tape;
use crate::{
    capture::{
        content::Header,
        walk::{Step, Walk},
    },
    event::Event,
    live::listing::Listing,
    table::Change,
};

/// No time is later (146 years after boot): a damaged one must not overflow.
pub(super) const LATEST_NS: u64 = 1 << 62;

/// What waits.
pub(super) enum Item {
    Event(Event, Change),
    Sample(Box<Listing>),
    /// A part that can't be read, in which events are missing.
    Hole,
}

/// A capture that is being read; what was read and is not due yet is bounded by a block.
pub(super) struct Reel {
    tape: Tape,
    walk: Walk,
    queue: VecDeque<(u64, Item)>,
    /// The file was read to its end.
    read: bool,
    /// What is wrong with it, as far as that is known.
    flaw: Option<Arc<str>>,
    damaged: u64,
}

impl Reel {
    /// Begins.
    pub(super) fn new(tape: Tape) -> Result<Self> {
        let walk = tape.walk()?;
        let mut reel =
            Self { tape, walk, queue: VecDeque::new(), read: false, flaw: None, damaged: 0 };
        reel.look();
        Ok(reel)
    }

    /// Begins anew.
    pub(super) fn rewind(&mut self) -> Result<()> {
        self.walk = self.tape.walk()?;
        self.queue.clear();
        self.read = false;
        Ok(())
    }

    /// The file.
    pub(super) fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Where, when and how it was recorded.
    pub(super) fn header(&self) -> &Header {
        self.walk.header()
    }

    /// What is wrong with it, as far as that is known.
    pub(super) fn flaw(&self) -> Option<Arc<str>> {
        self.flaw.clone()
    }

    /// When it begins: time of the first event or sample.
    pub(super) fn begins(&mut self) -> Result<u64> {
        let begins = |(_, item): &&(u64, Item)| !matches!(item, Item::Hole);
        loop {
            if let Some((at_ns, _)) = self.queue.iter().find(begins) {
                return Ok(*at_ns);
            }
            if self.read {
                return Ok(self.header().started_ns.min(LATEST_NS));
            }
            self.advance()?;
        }
    }

    /// Time of what comes next; `None`: nothing does.
    pub(super) fn next_ns(&mut self) -> Result<Option<u64>> {
        while self.queue.is_empty() && !self.read {
            self.advance()?;
        }
        Ok(self.queue.front().map(|(at_ns, _)| *at_ns))
    }

    /// What comes next, and its time.
    pub(super) fn take(&mut self) -> Option<(u64, Item)> {
        self.queue.pop_front()
    }

    fn advance(&mut self) -> Result<()> {
        let queue = &mut self.queue;
        let more = self.walk.advance(|step| {
            let (at_ns, item) = match step {
                Step::Event(event, change) => (event.ts_ns(), Item::Event(*event, *change)),
                Step::Sample(listing) => (listing.at_ns, Item::Sample(listing)),
                Step::Damage(damage) if damage.events != Some(0) => (0, Item::Hole),
                Step::Damage(_) | Step::Settings(_) | Step::Cgroups(_) => return,
            };
            queue.push_back((at_ns.min(LATEST_NS), item));
        })?;
        self.read = !more;
        self.look();
        Ok(())
    }

    /// Looks at what is wrong with it. What was found once is known.
    fn look(&mut self) {
        let damaged = self.walk.damaged() + self.walk.undecodable();
        if damaged > self.damaged || self.flaw.is_none() {
            self.damaged = damaged;
            self.flaw = self.tape.flaw(&self.walk).map(Into::into);
        }
    }
}
