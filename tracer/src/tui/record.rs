//! Files that are made from the live view: a recording (the lines of `trace --format json`), and tables as text.
//! Each is written on a thread of its own, so that a disk that hangs holds nothing else; the thread tells how it
//! ended.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use super::message::Recording;
use crate::{
    event::{Event, Loss},
    human::thousands,
    kernel::ring::boot_time_ns,
    sink::{Sink, clock::Clock, json},
    table::Change,
};

/// Blocks on their way to the file.
const IN_FLIGHT: usize = 64;
/// A recording ends at so many bytes: who forgets it shall not fill the disk.
const MAX_BYTES: u64 = 1 << 30;

/// Where a thread tells, in words, how its file ended. Each tells once.
pub type Tell = UnboundedSender<String>;

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
/// No thread can be had.
pub fn write(name: &'static str, text: String, tell: Tell) -> Result<()> {
    let write = move || {
        let written = create(&format!("socklife-{name}"), "txt").and_then(|(mut file, path)| {
            file.write_all(text.as_bytes())
                .with_context(|| format!("can't write {}", path.display()))?;
            Ok(path)
        });
        // Nobody may be there any more.
        let _ = tell.send(match written {
            Ok(path) => format!("written to {}", path.display()),
            Err(error) => format!("can't write: {error:#}"),
        });
    };
    let thread = std::thread::Builder::new().name("text".to_owned()).spawn(write);
    thread.map(drop).context("can't start a thread to write")
}

/// A recording under way; it ends when this is dropped.
pub struct Recorder {
    path: PathBuf,
    format: json::Trace,
    block: Vec<u8>,
    /// What the block holds.
    of_block: Loss,
    blocks: mpsc::SyncSender<Vec<u8>>,
    /// What the file ends with, and what is said of it then.
    end: Arc<Mutex<(Vec<u8>, String)>>,
    written: Arc<AtomicU64>,
    bytes: u64,
    events: u64,
    /// Lost, and not yet told in the file.
    untold: Loss,
    lost: u64,
}

impl Recorder {
    /// Begins one in the current directory.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn start(clock: Clock, tell: Tell) -> Result<Self> {
        let (file, path) = create("socklife", "ndjson")?;
        let (blocks, inbox) = mpsc::sync_channel::<Vec<u8>>(IN_FLIGHT);
        let (written, end) = (Arc::default(), Arc::default());
        let (progress, last, name) = (Arc::clone(&written), Arc::clone(&end), path.clone());
        let write = move || {
            let ended = write_all(file, &inbox, &progress, &last);
            let (_, said) =
                std::mem::take(&mut *last.lock().unwrap_or_else(PoisonError::into_inner));
            // Nobody may be there any more.
            let _ = tell.send(match ended {
                Ok(()) => said,
                Err(error) => format!("recording into {} broke off: {error}", name.display()),
            });
        };
        let thread = std::thread::Builder::new().name("recording".to_owned()).spawn(write);
        thread.context("can't start a thread to write")?;
        Ok(Self {
            path,
            format: json::Trace::new(clock),
            block: Vec::new(),
            of_block: Loss::default(),
            blocks,
            end,
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
            Event::Lost(loss) => self.of_block.add(loss),
            Event::CallFailed(_) => self.of_block.failures += 1,
            Event::State(_) | Event::TimeWait(_) => self.of_block.states += 1,
        }
        if !matches!(event, Event::Lost(_)) {
            self.events += 1;
        }
        self.format.event(event, change, &mut self.block);
    }

    /// Hands the block over. Where the disk is slower than events come, it is lost, which the file says.
    ///
    /// # Errors
    /// The file has its largest size, or can't be written any more: the recording has ended.
    pub fn hand_over(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let told = self.take();
        let of_block = std::mem::take(&mut self.of_block);
        let length = told.len() as u64;
        match self.blocks.try_send(told) {
            Ok(()) => {
                self.untold = Loss::default();
                self.bytes += length;
            }
            Err(mpsc::TrySendError::Full(_)) => {
                self.untold.add(&of_block);
                self.untold.ts_ns = boot_time_ns();
                self.events -= of_block.states + of_block.failures;
                self.lost += of_block.states + of_block.failures;
            }
            Err(mpsc::TrySendError::Disconnected(_)) => bail!("recording has ended"),
        }
        if self.bytes >= MAX_BYTES {
            bail!("{} has 1 GiB: recording has ended", self.path.display());
        }
        Ok(())
    }

    /// The block, after what was lost before it.
    fn take(&mut self) -> Vec<u8> {
        let mut told = Vec::new();
        if self.untold != Loss::default() {
            let event = Event::Lost(self.untold);
            self.format.event(&event, &Change::Lost(self.untold), &mut told);
        }
        told.append(&mut self.block);
        told
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> Recording {
        let (path, bytes) = (self.path.clone(), self.written.load(Relaxed));
        Recording { path, events: self.events, bytes, lost: self.lost }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let rest = self.take();
        let lost = match self.lost {
            0 => String::new(),
            some => format!(", {} lost", thousands(some)),
        };
        let (events, path) = (thousands(self.events), self.path.display());
        let said = format!("{events} events recorded in {path}{lost}");
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = (rest, said);
    }
}

/// Writes what comes, until nothing does, and then the end.
fn write_all(
    mut file: File,
    inbox: &mpsc::Receiver<Vec<u8>>,
    progress: &AtomicU64,
    end: &Mutex<(Vec<u8>, String)>,
) -> io::Result<()> {
    while let Ok(block) = inbox.recv() {
        file.write_all(&block)?;
        progress.fetch_add(block.len() as u64, Relaxed);
    }
    let rest = std::mem::take(&mut end.lock().unwrap_or_else(PoisonError::into_inner).0);
    file.write_all(&rest)?;
    file.sync_all()
}
