//! Walks a capture down the road: the same decoder and the same table as live.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::mpsc,
};

use anyhow::{Context, Result};

use super::{
    Damage, Item,
    content::{CgroupPath, End, Header, Sysctls},
    reader::Reader,
};
use crate::{
    decode::decode,
    event::Event,
    live::listing::Listing,
    table::{Change, Selection, Table},
};

/// Items that are read ahead: their memory is bounded by so many frames.
const AHEAD: usize = 4;
/// Damage that is told one by one.
const MAX_DAMAGE: usize = 100;

/// Something on the way.
#[derive(Debug)]
pub enum Step<'a> {
    /// An event, and what it changed.
    Event(&'a Event, &'a Change),
    /// What was found on the host.
    Sample(Box<Listing>),
    /// Settings of the host.
    Settings(Sysctls),
    /// Paths of cgroups that later events name.
    Cgroups(Vec<CgroupPath>),
    /// A part that can't be read.
    Damage(&'a Damage),
}

/// A capture on its way down the road.
pub struct Walk {
    header: Header,
    items: mpsc::Receiver<io::Result<Item>>,
    /// What the events are folded into.
    pub table: Table,
    damage: Vec<Damage>,
    damaged: u64,
    missing: u64,
    undecodable: u64,
    end: Option<End>,
}

impl Walk {
    /// Begins. A thread reads and unpacks ahead of who walks.
    ///
    /// # Errors
    /// It can't be read, or is no capture.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || format!("can't read {}", path.display());
        if path.as_os_str() == "-" {
            return Self::of(io::stdin()).context("can't read standard input");
        }
        Self::of(File::open(path).with_context(failed)?).with_context(failed)
    }

    /// Begins with what comes out of `from`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(from: impl Read + Send + 'static) -> Result<Self> {
        let mut reader = Reader::open(from)?;
        let header = reader.header().clone();
        let (ahead, items) = mpsc::sync_channel(AHEAD);
        let read = move || {
            while let Some(item) = reader.next_item().transpose() {
                let failed = item.is_err();
                if ahead.send(item).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("reading".to_owned()).spawn(read);
        thread.context("can't start a thread to read")?;
        Ok(Self {
            header,
            items,
            table: Table::new(Selection::All),
            damage: Vec::new(),
            damaged: 0,
            missing: 0,
            undecodable: 0,
            end: None,
        })
    }

    /// Where, when and how it was recorded.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Folds the next item in; `each` is told of what is in it. Whether there was one.
    ///
    /// # Errors
    /// The file can't be read further.
    pub fn advance(&mut self, mut each: impl FnMut(Step<'_>)) -> Result<bool> {
        // The thread ends with the capture.
        let Ok(item) = self.items.recv() else { return Ok(false) };
        let mut apply = |table: &mut Table, mut event: Event| {
            let change = table.apply(&mut event);
            each(Step::Event(&event, &change));
        };
        match item.context("the capture can't be read further")? {
            Item::Records(records) => {
                for event in decode(&records) {
                    match event {
                        Ok(event) => apply(&mut self.table, event),
                        Err(error) => {
                            tracing::debug!("{error}");
                            self.undecodable += 1;
                        }
                    }
                }
            }
            Item::Lost(loss) => apply(&mut self.table, Event::Lost(loss)),
            Item::Sockets(met) => self.table.meet(&met),
            Item::Sample(listing) => each(Step::Sample(listing)),
            Item::Settings(settings) => each(Step::Settings(settings)),
            Item::Cgroups(paths) => each(Step::Cgroups(paths)),
            Item::Damage(damage) => {
                self.damaged += 1;
                self.missing = self.missing.saturating_add(damage.events.unwrap_or(0));
                each(Step::Damage(&damage));
                if self.damage.len() < MAX_DAMAGE {
                    self.damage.push(damage);
                }
            }
            Item::End(end) => self.end = Some(end),
        }
        Ok(true)
    }

    /// Damaged places, the first of them.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// How many damaged places there are.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Events that are known to be missing for damage; there may be more where [`Damage::events`] is `None`.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Records that were not understood.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Totals, at the end; `None`: the recording was cut off, or its end is damaged.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}
