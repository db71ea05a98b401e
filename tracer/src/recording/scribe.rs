//! The thread that writes: whatever the disk does, it holds nothing else up.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;

use super::{
    carry::Carry,
    place::{Place, Target},
    window::Window,
};
use crate::{
    capture::{
        block::Encoder,
        content::{End, Header},
        frame::{Frame, Kind},
        writer::Writer,
    },
    event::Loss,
    human::size,
};

/// How old the open block gets: what a kill may take besides what is on its way.
const OPEN: Duration = Duration::from_secs(1);
/// What the end of a file takes: its totals; its index is small beside the blocks.
const RESERVE: u64 = 4096;
/// Bytes that a block takes in the index, at most.
const INDEXED: u64 = 128;

/// What comes in.
pub(super) enum Part {
    /// Whole records.
    Records(Bytes),
    /// What was lost.
    Lost(Loss),
    /// Anything else.
    Other {
        /// What.
        kind: Kind,
        /// Of when: nanoseconds since boot.
        at_ns: u64,
        /// As it is read again.
        raw: Vec<u8>,
        /// It is more of the frame before.
        continued: bool,
    },
    /// The window is wanted, and what comes from now on.
    Fire(String),
    /// This file ends; the window begins anew.
    Close(End),
    /// All ends.
    End(End),
}

/// How it stands.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes written into files so far.
    pub bytes: AtomicU64,
    /// Events in them.
    pub events: AtomicU64,
    /// Files begun.
    pub files: AtomicU64,
    /// Bytes that the window takes.
    pub window: AtomicUsize,
    /// Nothing more is written.
    pub over: AtomicBool,
    /// What is worth a word, once.
    said: Mutex<Vec<String>>,
}

impl Progress {
    /// What was said since this was last asked.
    pub fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn say(&self, what: String) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// How a recording is kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Where.
    pub place: Place,
    /// Most bytes of a file; `None`: as the disk has room.
    pub max_size: Option<u64>,
    /// Only what a trigger wants is written: the last seconds before it are kept in so many bytes.
    pub window: Option<(Duration, usize)>,
}

/// The thread.
pub(super) struct Scribe {
    keeping: Keeping,
    header: Header,
    encoder: Encoder,
    writer: Option<Writer<Target>>,
    window: Option<Window>,
    carry: Carry,
    sealed: Instant,
    progress: Arc<Progress>,
    /// Bytes and events of files that are done.
    before: (u64, u64),
}

impl Scribe {
    /// Opens the file, unless it waits for a trigger.
    pub(super) fn new(keeping: Keeping, header: Header, progress: Arc<Progress>) -> Result<Self> {
        let mut scribe = Self {
            encoder: Encoder::new().context("no memory to compress")?,
            writer: None,
            window: keeping.window.map(|(span, memory)| Window::new(span, memory)),
            carry: Carry::default(),
            sealed: Instant::now(),
            progress,
            before: (0, 0),
            header,
            keeping,
        };
        if scribe.window.is_none() {
            scribe.open(true)?;
        }
        Ok(scribe)
    }

    fn open(&mut self, first: bool) -> Result<()> {
        let target = self.keeping.place.open(first)?;
        self.progress.files.fetch_add(1, Relaxed);
        self.writer = Some(Writer::new(target, &self.header).with_context(|| self.cant())?);
        Ok(())
    }

    fn cant(&self) -> String {
        match &self.keeping.place.path {
            Some(path) => format!("can't write {}", path.display()),
            None => "can't write to standard output".to_owned(),
        }
    }

    /// Writes what comes until the end does. Gives what failed.
    pub(super) fn run(
        mut self,
        parts: &mpsc::Receiver<Part>,
        in_flight: &AtomicUsize,
    ) -> Result<()> {
        let mut outcome = Ok(());
        loop {
            let wait = OPEN.saturating_sub(self.sealed.elapsed());
            let part = match parts.recv_timeout(wait) {
                Ok(part) => Some(part),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                // Nobody said how it ended.
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    Some(Part::End(End { why: "it broke off".to_owned(), ..End::default() }))
                }
            };
            let last = matches!(part, Some(Part::End(_)));
            let weight = part.as_ref().map_or(0, Part::weight);
            if outcome.is_ok() && !self.progress.over.load(Relaxed) {
                outcome = self.take(part);
                if outcome.is_err() {
                    self.give_up();
                }
            }
            in_flight.fetch_sub(weight, Relaxed);
            if last {
                break;
            }
        }
        outcome
    }

    /// What is in the file stays readable.
    fn give_up(&mut self) {
        self.progress.over.store(true, Relaxed);
        if let Some(writer) = &mut self.writer {
            let written = writer.written();
            writer.inner().cut(written);
        }
    }

    fn take(&mut self, part: Option<Part>) -> Result<()> {
        match part {
            None => self.seal()?,
            Some(Part::Records(records)) => {
                let mut full = Vec::new();
                self.encoder.records(&records, |frame| {
                    full.push(frame);
                    Ok(())
                })?;
                for frame in full {
                    self.keep(frame, false)?;
                }
                if self.sealed.elapsed() >= OPEN {
                    self.seal()?;
                }
            }
            Some(Part::Lost(loss)) => {
                self.other(Kind::Lost, loss.ts_ns, &serde_json::to_vec(&loss)?, false)?;
            }
            Some(Part::Other { kind, at_ns, raw, continued }) => {
                self.other(kind, at_ns, &raw, continued)?;
            }
            Some(Part::Fire(why)) => self.fire(why)?,
            Some(Part::Close(end)) => {
                self.seal()?;
                self.end(&end)?;
            }
            Some(Part::End(end)) => {
                if self.writer.is_some() {
                    self.seal()?;
                    self.end(&end)?;
                }
                self.progress.over.store(true, Relaxed);
            }
        }
        Ok(())
    }

    /// What came before it comes before it in the capture.
    fn other(&mut self, kind: Kind, at_ns: u64, raw: &[u8], continued: bool) -> Result<()> {
        if let Some(block) = self.encoder.seal()? {
            self.keep(block, false)?;
        }
        let frame = self.encoder.other(kind, at_ns, raw)?;
        self.keep(frame, continued)
    }

    fn seal(&mut self) -> Result<()> {
        self.sealed = Instant::now();
        if let Some(block) = self.encoder.seal()? {
            self.keep(block, false)?;
        }
        if let Some(writer) = &mut self.writer {
            let synced = writer.inner().sync();
            self.check(synced)?;
        }
        Ok(())
    }

    fn keep(&mut self, frame: Frame, continued: bool) -> Result<()> {
        if self.progress.over.load(Relaxed) {
            return Ok(());
        }
        if self.writer.is_none() {
            if let Some(window) = &mut self.window {
                window.push(frame, continued, &mut self.carry);
                self.progress.window.store(window.bytes(), Relaxed);
            }
            return Ok(());
        }
        self.write(frame, continued)
    }

    /// Into the file, or the next one.
    fn write(&mut self, frame: Frame, continued: bool) -> Result<()> {
        if self.is_full(&frame) && !self.turn(&frame)? {
            return Ok(());
        }
        self.put(&frame)?;
        self.carry.note(frame, continued);
        Ok(())
    }

    fn put(&mut self, frame: &Frame) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let put = writer.put(frame);
        let (bytes, events) = (writer.written(), writer.events());
        self.progress.bytes.store(self.before.0 + bytes, Relaxed);
        self.progress.events.store(self.before.1 + events, Relaxed);
        self.check(put)
    }

    /// Who reads standard output may go.
    fn check(&self, done: io::Result<()>) -> Result<()> {
        match done {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.progress.over.store(true, Relaxed);
                Ok(())
            }
            done => done.with_context(|| self.cant()),
        }
    }

    fn is_full(&self, frame: &Frame) -> bool {
        let (Some(most), Some(writer)) = (self.keeping.max_size, &self.writer) else {
            return false;
        };
        let blocks = writer.written() / frame.length().max(1) + 2;
        writer.written() + frame.length() + RESERVE + blocks.min(65_536) * INDEXED > most
    }

    /// The file is full: the next one, if there may be one. Whether there is.
    fn turn(&mut self, frame: &Frame) -> Result<bool> {
        let end = End { at_ns: frame.first_ns, ..End::default() };
        if self.keeping.place.files < 2 {
            self.end(&End { why: "it had its largest size".to_owned(), ..end })?;
            self.progress.over.store(true, Relaxed);
            self.progress.say("the file has its largest size: recording has ended".to_owned());
            return Ok(false);
        }
        self.end(&End { why: "it goes on in the next file".to_owned(), ..end })?;
        self.header = self.header.next_part();
        self.open(false)?;
        self.begin()?;
        Ok(true)
    }

    /// What every file begins with.
    fn begin(&mut self) -> Result<()> {
        let carry = std::mem::take(&mut self.carry);
        let begun = carry.frames().try_for_each(|frame| self.put(frame));
        self.carry = carry;
        begun
    }

    fn fire(&mut self, why: String) -> Result<()> {
        if self.writer.is_some() {
            return Ok(());
        }
        if let Some(block) = self.encoder.seal()? {
            self.keep(block, false)?;
        }
        let first = self.progress.files.load(Relaxed) == 0;
        if !first {
            self.header = self.header.next_part();
        }
        self.header.trigger = Some(why);
        self.open(first)?;
        self.begin()?;
        if let Some(window) = &mut self.window {
            if window.short_ns().is_some() {
                let bytes = size(window.bytes() as u64);
                self.progress.say(format!(
                    "the time before does not fit into {bytes} (--memory): its beginning is missing"
                ));
            }
            for (frame, continued) in window.take() {
                self.write(frame, continued)?;
            }
        }
        self.progress.window.store(0, Relaxed);
        self.seal()
    }

    fn end(&mut self, end: &End) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.before.1 += writer.events();
        let ended = writer.end(end).and_then(|(mut target, written)| {
            self.before.0 += written;
            self.progress.bytes.store(self.before.0, Relaxed);
            target.sync()
        });
        self.check(ended)
    }
}

impl Part {
    /// Bytes that it takes on its way.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Records(records) => records.len(),
            Self::Other { raw, .. } => raw.len(),
            _ => 0,
        }
    }
}
