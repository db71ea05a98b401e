//! What comes from outside: lines of standard input, its end, and signals.

use std::{
    io::BufRead,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

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

/// How long a signal may wait to be heard.
const HEARD: Duration = Duration::from_millis(20);

static ENDED: AtomicBool = AtomicBool::new(false);

/// Not a blocked signal that a thread waits for: what is started would have it blocked, too.
extern "C" fn end(_: libc::c_int) {
    ENDED.store(true, Ordering::Relaxed);
    // A terminal sends it to all that it runs: what cleans up shall not be hit by a second one.
    // SAFETY: it may be called in a handler, and sets none.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

impl Inbox {
    /// Listens to signals, and to standard input where that is wanted.
    pub(crate) fn open(input: bool) -> Result<Self> {
        let action = SigAction::new(SigHandler::Handler(end), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: the handler does only what is allowed in one.
            unsafe { sigaction(signal, &action) }.with_context(|| signal.to_string())?;
        }
        let (speaks, words) = channel();
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
        loop {
            if let Some(word) = self.within(Duration::from_secs(1)) {
                return word;
            }
        }
    }

    /// Waits for a word that comes soon.
    pub(crate) fn within(&self, time: Duration) -> Option<Word> {
        let deadline = Instant::now() + time;
        loop {
            if ENDED.load(Ordering::Relaxed) {
                return Some(Word::End);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.words.recv_timeout(left.min(HEARD)) {
                Ok(word) => return Some(word),
                Err(_) if left.is_zero() => return None,
                Err(_) => {}
            }
        }
    }
}
