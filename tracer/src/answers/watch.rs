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
    kernel::in_the_kernel,
    read::{Log, open},
    summary::{Summary, summary},
};
use crate::{
    kernel::owners::{Look, Owners},
    logs::{Kind, follow::From},
    proxies::{Given, Reader},
    table::Table,
};

/// How often the logs are read: a line waits no longer, and a log that is renamed is not missed.
const EVERY: Duration = Duration::from_millis(200);
/// So long the end waits for lines that are there. Reading that takes longer is behind.
const PATIENCE: Duration = Duration::from_secs(2);

/// The logs, as seen from a sink. Following ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    addresses: BTreeMap<String, String>,
    ask: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    folded: Mutex<Folded>,
    /// All was read.
    all: Condvar,
}

impl Watch {
    /// Begins to follow, from the end of what is there.
    ///
    /// # Errors
    /// A log can't be read, or no thread can be had.
    pub fn begin(logs: &[Log], zone: &TimeZone) -> Result<Self> {
        let haproxy = logs.iter().any(|log| matches!(log.kind, Kind::HaProxy));
        let addresses = if haproxy { addresses() } else { BTreeMap::new() };
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
        Ok(Self { shared, addresses, ask })
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
        let kernel = in_the_kernel(&folded.accounts.proxies(), table.rows());
        let mut sum = summary(&folded.accounts, &kernel, &self.addresses, folded.unknown);
        let broken = folded.health.iter().find_map(|health| health.broken.as_ref());
        sum.broken_off = broken.map(|(_, why)| why.clone());
        sum.gaps = folded.health.iter().filter_map(|health| health.gap.clone()).collect();
        let is_late = folded.behind.is_some_and(|since| since.elapsed() >= PATIENCE);
        sum.behind = is_late || folded.met < folded.asked;
        sum
    }
}

/// Where `HAProxy`'s servers are, by the names that its log has: those of the ones that run and can be asked.
fn addresses() -> BTreeMap<String, String> {
    // Without them it is the kernel's failures that no log names an upstream for.
    let owners = Owners::find(Look::All).unwrap_or_default();
    let running = Reader::new(Given::default()).read(&owners).haproxy;
    let servers = running.iter().flat_map(|haproxy| &haproxy.state.servers);
    unambiguous(servers.filter_map(|server| {
        Some((format!("{}/{}", server.backend, server.name), server.address?.to_string()))
    }))
}

/// Names with one address. Processes of the same names can have others: whose log it is is not known.
fn unambiguous(named: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, address) in named {
        let known = found.entry(name).or_insert_with(|| Some(address.clone()));
        if known.as_ref() != Some(&address) {
            *known = None;
        }
    }
    found.into_iter().filter_map(|(name, address)| Some((name, address?))).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
        time::Instant,
    };

    use super::*;
    use crate::{logs::nginx_access::Format, table::Selection};

    fn watch(path: &std::path::Path) -> Watch {
        fs::write(path, "").unwrap();
        let kind = Kind::NginxAccess(Format::guess());
        Watch::begin(&[Log { path: path.to_owned(), kind }], &TimeZone::UTC).unwrap()
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
        }
    }

    #[test]
    fn a_log_without_end_is_not_waited_for() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("access.log");
        let watch = watch(&path);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(200 << 30).unwrap();
        let begun = Instant::now();
        watch.catch_up();
        assert!(watch.summary(&Table::new(Selection::All)).behind);
        let took = begun.elapsed();
        // So that reading ends.
        file.set_len(0).unwrap();
        assert!(took >= PATIENCE && took < 3 * PATIENCE, "{took:?}");
    }

    #[test]
    fn a_name_of_several_addresses_has_none() {
        let named =
            [("a/s", "1:1"), ("b/s", "1:1"), ("a/s", "2:2"), ("a/s", "1:1"), ("b/s", "1:1")];
        let named = named.map(|(name, address)| (name.to_owned(), address.to_owned()));
        let found = unambiguous(named.into_iter());
        assert_eq!(found, BTreeMap::from([("b/s".to_owned(), "1:1".to_owned())]));
    }
}
