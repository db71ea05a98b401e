//! Follows the logs, on a thread of its own, and folds them into accounts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;

use super::{
    Accounts,
    follow::{Folded, Following, lock},
    kernel::{Places, in_the_kernel},
    read::{Log, open},
    running::Running,
    summary::{Summary, summary},
};
use crate::{logs::follow::From, table::Table};

/// How often the logs are read: a line waits no longer, and a log that is renamed is not missed.
const EVERY: Duration = Duration::from_millis(200);
/// So long the end waits for lines that are there. Reading that takes longer is behind.
const PATIENCE: Duration = Duration::from_secs(2);

/// The logs, as seen from a sink. Following ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    addresses: BTreeMap<String, String>,
    places: Places,
    ask: mpsc::Sender<()>,
    /// The sum before, where each is told what is new.
    before: Option<Mutex<Summary>>,
}

#[derive(Debug)]
struct Shared {
    folded: Mutex<Folded>,
    /// All was read.
    all: Condvar,
}

impl Watch {
    /// Begins to follow, from the end of what is there. `running`: what the proxies say that write them; `by_interval`: each sum says also what came since the one before.
    ///
    /// # Errors
    /// A log can't be read, or no thread can be had.
    pub fn begin(
        logs: &[Log],
        zone: &TimeZone,
        running: Running,
        by_interval: bool,
    ) -> Result<Self> {
        let (mut following, folded) =
            Following::new(open(logs, From::End, zone)?, Accounts::new(logs));
        let shared = Arc::new(Shared { folded: Mutex::new(folded), all: Condvar::new() });
        let (ask, asked) = mpsc::channel::<()>();
        let of_thread = Arc::clone(&shared);
        let follow = move || {
            let mut pause = EVERY;
            while asked.recv_timeout(pause) != Err(RecvTimeoutError::Disconnected) {
                let all = following.step(&of_thread.folded);
                pause = if all { EVERY } else { Duration::ZERO };
                of_thread.all.notify_all();
            }
        };
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(follow);
        thread.context("can't start a thread to follow logs")?;
        let before = by_interval.then(Mutex::default);
        let (places, addresses) = (running.places(logs), running.addresses);
        Ok(Self { shared, addresses, places, ask, before })
    }

    /// Has all read that the logs have now, and waits for it, at most two seconds.
    pub fn catch_up(&self) {
        let mut folded = lock(&self.shared.folded);
        folded.asked += 1;
        // Without its thread nothing more is read, and that is seen.
        let _ = self.ask.send(());
        let unmet = |folded: &mut Folded| folded.met < folded.asked;
        let waited = self.shared.all.wait_timeout_while(folded, PATIENCE, unmet);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What was read of the logs comes to, beside the kernel's failures. It does not wait for a log.
    #[must_use]
    pub fn summary(&self, table: &Table) -> Summary {
        let folded = lock(&self.shared.folded);
        let kernel = in_the_kernel(&folded.accounts.proxies(), &self.places, table.rows());
        let mut sum = summary(&folded.accounts, &kernel, &self.addresses, folded.unknown);
        let broken = folded.health.iter().find_map(|health| health.broken.as_ref());
        sum.broken_off = broken.map(|(_, why)| why.clone());
        sum.gaps = folded.health.iter().filter_map(|health| health.gap.clone()).collect();
        sum.skipped_bytes = folded.skipped_bytes;
        let is_late = folded.behind.is_some_and(|since| since.elapsed() >= PATIENCE);
        sum.behind = is_late || folded.met < folded.asked;
        if let Some(before) = &self.before {
            let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
            let interval = sum.since(&before);
            before.clone_from(&sum);
            sum.interval = Some(Box::new(interval));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{Seek as _, SeekFrom, Write as _},
        time::Instant,
    };

    use super::*;
    use crate::{
        logs::{Kind, nginx_access::Format},
        table::Selection,
    };

    fn watch(path: &std::path::Path) -> Watch {
        fs::write(path, "").unwrap();
        let kind = Kind::NginxAccess(Format::guess());
        let logs = [Log { path: path.to_owned(), kind }];
        Watch::begin(&logs, &TimeZone::UTC, Running::default(), true).unwrap()
    }

    #[test]
    fn what_is_in_the_log_at_the_end_is_folded() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("access.log");
        let watch = watch(&path);
        let mut file = File::options().append(true).open(&path).unwrap();
        for lines in 1..=20 {
            file.write_all(b"{\"status\":200}\n").unwrap();
            watch.catch_up();
            let sum = watch.summary(&Table::new(Selection::All));
            assert_eq!((sum.succeeded, sum.behind), (lines, false));
            assert_eq!(sum.interval.unwrap().succeeded, 1);
        }
    }

    #[test]
    fn a_hole_is_not_waited_for() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("access.log");
        let watch = watch(&path);
        let mut file = File::options().write(true).open(&path).unwrap();
        file.set_len(200 << 30).unwrap();
        let begun = Instant::now();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"\n{\"status\":200}\n").unwrap();
        watch.catch_up();
        let sum = watch.summary(&Table::new(Selection::All));
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert_eq!((sum.succeeded, sum.behind), (1, false));
    }
}
