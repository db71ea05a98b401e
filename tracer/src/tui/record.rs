//! A recording that is made from the live view: the lines of `trace --format json`, into a file of its own.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::message::Recording;
use crate::{
    event::{Event, Loss},
    human::thousands,
    sink::{Sink, clock::Clock, json},
    table::Change,
};

/// Blocks on their way to the file.
const IN_FLIGHT: usize = 64;
/// A recording ends at so many bytes: who forgets it shall not fill the disk.
const MAX_BYTES: u64 = 1 << 30;

/// A recording under way.
pub struct Recorder {
    path: PathBuf,
    format: json::Trace,
    block: Vec<u8>,
    /// Events of the block, by kind.
    states: u64,
    failures: u64,
    blocks: Option<mpsc::SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<std::io::Result<()>>>,
    written: Arc<AtomicU64>,
    bytes: u64,
    events: u64,
    /// Lost, and not yet told in the file.
    untold: Loss,
    lost: u64,
}

/// Opens a new file that only its owner may read: `socklife-20261125T031501Z.ndjson`, or `…-2.ndjson` if there is
/// one already.
///
/// # Errors
/// The current directory takes no file.
pub fn create(stem: &str, extension: &str) -> Result<(File, PathBuf)> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    for number in 1..100 {
        let more = if number > 1 { format!("-{number}") } else { String::new() };
        let path = PathBuf::from(format!("{stem}-{now}{more}.{extension}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            file => {
                let file = file.with_context(|| format!("can't create {}", path.display()))?;
                return Ok((file, path));
            }
        }
    }
    anyhow::bail!("there are a hundred files of this second already")
}

/// Writes a text into a new file of its own, named after what it is.
///
/// # Errors
/// The current directory takes no file, or the disk is full.
pub fn write(name: &str, text: &str) -> Result<PathBuf> {
    let (mut file, path) = create(&format!("socklife-{name}"), "txt")?;
    file.write_all(text.as_bytes()).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

/// How a recording ended, in words.
#[must_use]
pub fn ended(recording: &Recording, ended: Result<()>) -> String {
    let Recording { path, events, lost, .. } = recording;
    let path = path.display();
    let lost = if *lost > 0 { format!(", {} lost", thousands(*lost)) } else { String::new() };
    match ended {
        Ok(()) => format!("{} events recorded in {path}{lost}", thousands(*events)),
        Err(error) => format!("recording into {path} broke off: {error:#}"),
    }
}

impl Recorder {
    /// Begins one in the current directory.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn start(clock: Clock) -> Result<Self> {
        let (mut file, path) = create("socklife", "ndjson")?;
        let (blocks, inbox) = mpsc::sync_channel::<Vec<u8>>(IN_FLIGHT);
        let written = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&written);
        let write = move || {
            while let Ok(block) = inbox.recv() {
                file.write_all(&block)?;
                progress.fetch_add(block.len() as u64, Relaxed);
            }
            file.sync_all()
        };
        let writer = std::thread::Builder::new().name("recording".to_owned()).spawn(write);
        Ok(Self {
            path,
            format: json::Trace::new(clock),
            block: Vec::new(),
            states: 0,
            failures: 0,
            blocks: Some(blocks),
            writer: Some(writer.context("can't start a thread to write")?),
            written,
            bytes: 0,
            events: 0,
            untold: Loss::default(),
            lost: 0,
        })
    }

    /// Where to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an event to the block.
    pub fn event(&mut self, event: &Event, change: &Change) {
        match event {
            Event::Lost(_) => {}
            Event::CallFailed(_) => self.failures += 1,
            Event::State(_) | Event::TimeWait(_) => self.states += 1,
        }
        self.format.event(event, change, &mut self.block);
    }

    /// Hands the block over. Where the disk is slower than events come, it is lost, which the file says.
    ///
    /// # Errors
    /// Writing failed: the recording has ended. Likewise where the file has its largest size.
    pub fn hand_over(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.block);
        let (states, failures) =
            (std::mem::take(&mut self.states), std::mem::take(&mut self.failures));
        if block.is_empty() {
            return Ok(());
        }
        let mut said = Vec::new();
        if self.untold != Loss::default() {
            let event = Event::Lost(self.untold);
            self.format.event(&event, &Change::Lost(self.untold), &mut said);
        }
        said.extend_from_slice(&block);
        let length = said.len() as u64;
        let sent = self.blocks.as_ref().map(|blocks| blocks.try_send(said));
        match sent {
            Some(Ok(())) => {
                self.untold = Loss::default();
                self.events += states + failures;
                self.bytes += length;
            }
            Some(Err(mpsc::TrySendError::Full(_))) => {
                self.untold.ts_ns = crate::kernel::ring::boot_time_ns();
                self.untold.states += states;
                self.untold.failures += failures;
                self.lost += states + failures;
            }
            Some(Err(mpsc::TrySendError::Disconnected(_))) | None => {
                self.finish()?;
                anyhow::bail!("recording into {} has ended", self.path.display());
            }
        }
        if self.bytes >= MAX_BYTES {
            self.finish()?;
            anyhow::bail!("{} has 1 GiB: the recording has ended", self.path.display());
        }
        Ok(())
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> Recording {
        let (path, bytes) = (self.path.clone(), self.written.load(Relaxed));
        Recording { path, events: self.events, bytes, lost: self.lost }
    }

    /// Ends it: all that was handed over is in the file.
    ///
    /// # Errors
    /// Writing failed.
    pub fn finish(&mut self) -> Result<()> {
        self.blocks = None;
        let ended = self.writer.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Err(error))) => {
                Err(error).with_context(|| format!("can't write {}", self.path.display()))
            }
            Some(Err(_)) => anyhow::bail!("writing {} broke off", self.path.display()),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }
}
