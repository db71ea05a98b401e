//! Standard output behind a thread of its own, so that a reader that stands still (a pager, a slow
//! terminal) can't keep signals from being heard. What it makes us miss is counted as loss.

use std::{
    io::{self, ErrorKind, Write},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, oneshot};

/// Blocks on their way to standard output.
const IN_FLIGHT: usize = 16;
/// How long the last block may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// Nobody reads any more: time to end.
    ReaderGone,
}

/// The way to standard output.
#[derive(Debug)]
pub struct Output {
    blocks: Option<mpsc::Sender<Vec<u8>>>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn stdout() -> Result<Self> {
        let (blocks, mut inbox) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
        let (finished, done) = oneshot::channel();
        let write = move || {
            let mut stdout = io::stdout().lock();
            let mut result = Ok(());
            while let Some(block) = inbox.blocking_recv() {
                result = stdout.write_all(&block).and_then(|()| stdout.flush());
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
        Ok(Self { blocks: Some(blocks), done })
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

    /// Hands over the last block and waits until all is written.
    ///
    /// # Errors
    /// Writing failed for another reason than that nobody reads, or the reader stands still.
    pub async fn finish(mut self, mut buffer: Vec<u8>) -> Result<()> {
        let last = async {
            self.send(&mut buffer).await;
            self.blocks = None;
            (&mut self.done).await
        };
        match tokio::time::timeout(LAST_WORDS, last).await {
            Err(_) => {
                bail!("standard output is blocked: its reader takes nothing; the end is lost")
            }
            Ok(Ok(Err(error))) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("can't write to standard output")
            }
            Ok(_) => Ok(()),
        }
    }
}
