//! Standard output behind a thread of its own, so that a reader that stands still (a pager, a slow
//! terminal) can't keep signals from being heard. What it makes us miss is counted as loss.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{mpsc, oneshot};

/// Whether a file may be written there: to be asked before anything is read.
///
/// # Errors
/// There is one already, or a directory.
pub fn check(path: &Path, force: bool) -> Result<()> {
    ensure!(!path.is_dir(), "{} is a directory: name a file", path.display());
    let there = fs::symlink_metadata(path).is_ok_and(|it| it.is_file() || it.is_symlink());
    ensure!(force || !there, "{} exists already: --force overwrites it", path.display());
    Ok(())
}

/// Writes a file; with `force` over what is there.
///
/// # Errors
/// It can't be written.
pub fn write(path: &Path, force: bool, bytes: &[u8]) -> Result<()> {
    check(path, force)?;
    let failed = || format!("can't write {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true);
    // What is no file, such as a FIFO, is just written to.
    if fs::metadata(path).map_or(true, |it| it.is_file()) {
        options.create_new(true);
        // What was there may be another's, or a link: it is not written into.
        match if force { fs::remove_file(path) } else { Ok(()) } {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
    }
    let written = options.open(path).and_then(|mut file| file.write_all(bytes));
    written.with_context(failed)
}

/// Blocks on their way to standard output.
const IN_FLIGHT: usize = 4;
/// How long the reader may take nothing at the end of a run.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Bytes written at a time: what the reader takes shows as progress.
const PIECE: usize = 64 << 10;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// Nobody reads any more: time to end.
    ReaderGone,
    /// The reader is there and takes nothing; the buffer is as it was.
    Stalled,
}

/// The way to standard output.
#[derive(Debug)]
pub struct Output {
    blocks: Option<mpsc::Sender<Vec<u8>>>,
    done: oneshot::Receiver<io::Result<()>>,
    written: Arc<AtomicU64>,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn stdout() -> Result<Self> {
        let (blocks, mut inbox) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
        let (finished, done) = oneshot::channel();
        let written = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&written);
        let write = move || {
            let mut stdout = io::stdout().lock();
            let mut result = Ok(());
            while let Some(block) = inbox.blocking_recv() {
                result = block.chunks(PIECE).try_for_each(|piece| {
                    stdout.write_all(piece)?;
                    progress.fetch_add(piece.len() as u64, Relaxed);
                    Ok(())
                });
                result = result.and_then(|()| stdout.flush());
                if result.is_err() {
                    break;
                }
            }
            inbox.close();
            // The other side may be gone.
            let _ = finished.send(result);
        };
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(write);
        thread.context("can't start a thread for standard output")?;
        Ok(Self { blocks: Some(blocks), done, written })
    }

    /// Hands over what is in `buffer`, and empties it. Waits while the reader is behind. Cancelled,
    /// it has handed over nothing and the buffer is as it was.
    pub async fn send(&self, buffer: &mut Vec<u8>) -> Sent {
        if buffer.is_empty() {
            return Sent::Yes;
        }
        let Some(blocks) = &self.blocks else {
            return Sent::ReaderGone;
        };
        match blocks.reserve().await {
            Ok(room) => {
                room.send(std::mem::take(buffer));
                Sent::Yes
            }
            Err(_) => Sent::ReaderGone,
        }
    }

    /// The same at the end of a run, when no signal is heard any more: gives a reader up that takes
    /// nothing for some seconds.
    pub async fn send_while_read(&self, buffer: &mut Vec<u8>) -> Sent {
        while_read(&self.written, self.send(buffer)).await.unwrap_or(Sent::Stalled)
    }

    /// Hands over the last block and waits until all is written.
    ///
    /// # Errors
    /// Writing failed for another reason than that nobody reads, or the reader stands still.
    pub async fn finish(mut self, mut buffer: Vec<u8>) -> Result<()> {
        let written = Arc::clone(&self.written);
        let last = async {
            self.send(&mut buffer).await;
            self.blocks = None;
            (&mut self.done).await
        };
        match while_read(&written, last).await {
            None => bail!("standard output is blocked: its reader takes nothing; the end is lost"),
            Some(Ok(Err(error))) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("can't write to standard output")
            }
            Some(_) => Ok(()),
        }
    }
}

/// Waits for `work` as long as the reader takes something now and then; `None`: it doesn't.
async fn while_read<T>(written: &AtomicU64, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    loop {
        let before = written.load(Relaxed);
        match tokio::time::timeout(LAST_WORDS, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if written.load(Relaxed) == before => return None,
            Err(_) => {}
        }
    }
}
