//! Logs in, entries out: the same while they grow and afterwards.

use std::{io, path::PathBuf};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;

use crate::logs::{
    Entry, Kind, Parsed, Product,
    follow::{Follower, From},
};

/// A log to be read.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
    /// How its lines are read.
    pub kind: Kind,
}

/// Is given each line of interest and its length in bytes; `None`: the line was not understood.
pub type Each<'a> = &'a mut dyn FnMut(Option<Entry>, usize);

/// A log that is read.
#[derive(Debug)]
pub struct Reading {
    follower: Follower,
    kind: Kind,
    zone: TimeZone,
}

/// Opens all of them, in their order. Times without a zone are in `zone`.
///
/// # Errors
/// One can't be read.
pub fn open(logs: &[Log], from: From, zone: &TimeZone) -> Result<Vec<Reading>> {
    let open = |log: &Log| {
        // The error has its path.
        let follower = Follower::open(&log.path, from).context("can't read a log")?;
        Ok(Reading { follower, kind: log.kind.clone(), zone: zone.clone() })
    };
    logs.iter().map(open).collect()
}

impl Reading {
    /// Whether its lines tell of answers, and not only of what went wrong.
    #[must_use]
    pub fn tells_answers(&self) -> bool {
        self.kind.tells_answers()
    }

    /// Whose log it is.
    #[must_use]
    pub fn proxy(&self) -> Product {
        self.kind.proxy()
    }

    /// Gives what is new, or a part of it: whether there is more, as [`Follower::poll`] says.
    ///
    /// # Errors
    /// It can't be read now.
    pub fn poll(&mut self, each: Each<'_>) -> io::Result<bool> {
        let Self { follower, kind, zone } = self;
        follower.poll(&mut |line| give(kind, zone, line, each))
    }

    /// The last poll: the last line needs no end.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn finish(&mut self, each: Each<'_>) -> io::Result<()> {
        let Self { follower, kind, zone } = self;
        follower.finish(&mut |line| give(kind, zone, line, each))
    }

    /// As [`Follower::skipped_bytes`].
    #[must_use]
    pub fn skipped_bytes(&self) -> u64 {
        self.follower.skipped_bytes()
    }
}

fn give(kind: &Kind, zone: &TimeZone, line: &[u8], each: Each<'_>) {
    match kind.parse(line, zone) {
        Parsed::Entry(entry) => each(Some(entry), line.len()),
        Parsed::Unknown => each(None, line.len()),
        Parsed::Nothing => {}
    }
}
