//! What comes from outside: lines of standard input, its end, and signals.

use std::{
    io::BufRead,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The next thing.
    Next,
    /// The end of all.
    End,
}

/// Where words come in.
pub(crate) struct Inbox {
    words: Receiver<Word>,
    /// Without this one it would be closed when no thread speaks any more.
    _open: Sender<Word>,
}

impl Inbox {
    /// Listens to signals, and to standard input where that is wanted. Before any other thread is started.
    pub(crate) fn open(input: bool) -> Result<Self> {
        let (speaks, words) = channel();
        let mut signals = SigSet::empty();
        for one in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(one);
        }
        signals.thread_block().context("signals")?;
        // A terminal sends it to all that it runs: `ip` shall delete a namespace nevertheless. One that is
        // waited for comes although it is ignored.
        // SAFETY: no handler is set.
        unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }.context("SIGINT")?;
        let ends = speaks.clone();
        std::thread::spawn(move || {
            while signals.wait().is_ok() {
                if ends.send(Word::End).is_err() {
                    break;
                }
            }
        });
        if input {
            let speaks = speaks.clone();
            std::thread::spawn(move || {
                let lines = std::io::stdin().lock().lines();
                let all = lines.map_while(Result::ok).map(|_| Word::Next);
                for word in all.chain([Word::End]) {
                    if speaks.send(word).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { words, _open: speaks })
    }

    /// Waits for a word.
    pub(crate) fn next(&self) -> Word {
        self.words.recv().unwrap_or(Word::End)
    }

    /// Waits for a word that comes soon.
    pub(crate) fn within(&self, time: Duration) -> Option<Word> {
        self.words.recv_timeout(time).ok()
    }
}
