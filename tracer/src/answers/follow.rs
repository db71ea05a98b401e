//! The logs as they grow: read in the order in which they explain each other, and folded at once.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};

use super::{Accounts, account::has_lines, read::Reading, summary::Gap};
use crate::logs::{Entry, Product, Trouble};

/// Most bytes of lines of answers that wait for an error log to be read to its end.
const MAX_HELD: usize = 2 << 20;
/// What a line costs beside its bytes.
const LINE: usize = 256;
/// Zones differ by multiples of so many seconds.
const STEP: i64 = 15 * 60;
/// Zones differ by no more seconds (UTC-12 and UTC+14).
const MAX_SHIFT: i64 = 26 * 60 * 60;

/// What was folded by now. It is locked for a line at a time, never while a log is read.
#[derive(Debug)]
pub struct Folded {
    /// Of the lines.
    pub accounts: Accounts,
    /// Lines that were not understood.
    pub unknown: u64,
    /// Bytes of logs that were passed over: they came faster than they could be read.
    pub skipped_bytes: u64,
    /// Of each log.
    pub health: Vec<Health>,
    /// Since when the logs have had more lines than were read; `None`: they have none.
    pub behind: Option<Instant>,
    /// Which request to read all was the last, and which was met.
    pub asked: u64,
    /// As [`Self::asked`].
    pub met: u64,
}

/// Whether a log can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Since when it can't, and why.
    pub broken: Option<(Timestamp, String)>,
    /// The last time that it could not, and can again.
    pub gap: Option<Gap>,
}

impl Health {
    fn note(&mut self, error: Option<String>, now: Timestamp) {
        let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if let Some(why) = error {
            self.broken.get_or_insert((now, why));
        } else if let Some((from, why)) = self.broken.take() {
            self.gap = Some(Gap { from: second(from), to: second(now), why });
        }
    }
}

/// Reads the logs.
#[derive(Debug)]
pub struct Following {
    /// Those with answers first.
    logs: Vec<(Reading, Shift)>,
    /// There is an error log of Nginx: answers wait until what explains them is folded.
    holds: bool,
    held: Vec<Entry>,
    bytes: usize,
}

impl Following {
    /// Of opened logs; and what is folded of them, nothing as yet.
    #[must_use]
    pub fn new(mut logs: Vec<Reading>, accounts: Accounts) -> (Self, Folded) {
        logs.sort_by_key(|log| !log.tells_answers());
        let health = vec![Health::default(); logs.len()];
        let holds = logs.iter().any(|log| !log.tells_answers());
        let logs = logs.into_iter().map(|log| (log, Shift::default())).collect();
        let folded = Folded {
            accounts,
            unknown: 0,
            skipped_bytes: 0,
            health,
            behind: None,
            asked: 0,
            met: 0,
        };
        (Self { logs, holds, held: Vec::new(), bytes: 0 }, folded)
    }

    /// Reads what is new, or a part of it. Answers first: then the lines that explain them, which were written before,
    /// are there already; those are folded first. Whether it was all.
    pub fn step(&mut self, folded: &Mutex<Folded>) -> bool {
        let asked = {
            let mut folded = lock(folded);
            folded.behind.get_or_insert_with(Instant::now);
            folded.asked
        };
        let Self { logs, holds, held, bytes } = self;
        let (mut all, mut all_troubles) = (true, true);
        for (index, (log, shift)) in logs.iter_mut().enumerate() {
            let proxy = log.proxy();
            let tells_answers = log.tells_answers();
            let waits = *holds && tells_answers && proxy == Product::Nginx;
            if waits && *bytes >= MAX_HELD {
                all = false;
                continue;
            }
            let now = Timestamp::now();
            let read = log.poll(&mut |entry, length| match entry {
                None => lock(folded).unknown += 1,
                Some(Entry::Answer(mut answer)) if proxy == Product::Nginx => {
                    answer.at.get_or_insert_with(Timestamp::now);
                    let may_wait = waits && has_lines(&answer);
                    let entry = Entry::Answer(answer);
                    if may_wait {
                        *bytes += length + LINE;
                        held.push(entry);
                    } else {
                        lock(folded).accounts.note(proxy, entry);
                    }
                }
                Some(Entry::Trouble(trouble)) if proxy == Product::Nginx => {
                    let entry = Entry::Trouble(shift.correct(trouble, now));
                    lock(folded).accounts.note(proxy, entry);
                }
                Some(entry) => lock(folded).accounts.note(proxy, entry),
            });
            // What can't be read is not waited for.
            let more = *read.as_ref().unwrap_or(&false);
            shift.is_behind = more;
            all &= !more;
            all_troubles &= !more || tells_answers;
            if let Some(health) = lock(folded).health.get_mut(index) {
                health.note(read.err().map(|error| error.to_string()), now);
            }
        }
        if all_troubles {
            *bytes = 0;
            for entry in held.drain(..) {
                lock(folded).accounts.note(Product::Nginx, entry);
            }
        }
        let skipped = logs.iter().map(|(log, _)| log.skipped_bytes()).sum();
        let mut folded = lock(folded);
        folded.skipped_bytes = skipped;
        if all {
            (folded.behind, folded.met) = (None, asked);
        }
        all
    }
}

/// The same, whatever became of another thread.
pub(super) fn lock(folded: &Mutex<Folded>) -> MutexGuard<'_, Folded> {
    folded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What times of an error log, which have no zone, are wrong by: a proxy in a container can have another zone than its
/// host, and its answers' times have theirs. A line is read at once after it is written.
#[derive(Debug, Default)]
struct Shift {
    seconds: i64,
    /// Lines are not read at once.
    is_behind: bool,
}

impl Shift {
    fn correct(&mut self, trouble: Trouble, now: Timestamp) -> Trouble {
        let Some(at) = trouble.at else { return trouble };
        if !self.is_behind {
            let late = now.as_second().saturating_sub(at.as_second());
            let steps = late.saturating_add(STEP / 2).div_euclid(STEP);
            let seconds = steps.saturating_mul(STEP);
            // Else it is a matter of no zone: a client has made it up.
            self.seconds = if seconds.abs() <= MAX_SHIFT { seconds } else { 0 };
        }
        let at = at.checked_add(SignedDuration::from_secs(self.seconds)).unwrap_or(at);
        Trouble { at: Some(at), ..trouble }
    }
}

#[cfg(test)]
mod tests;
