//! Follows the logs, on a thread of its own, and folds them into an account.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;

use super::{
    Account, in_the_kernel,
    read::{Log, Reading, account, open},
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

/// The logs, as seen from a sink. Following ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Mutex<Followed>>,
    addresses: BTreeMap<String, String>,
    _enough: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Followed {
    /// Those with answers first.
    logs: Vec<Reading>,
    account: Account,
    unknown: u64,
    /// Why reading broke off.
    failed: Option<String>,
}

impl Followed {
    /// Reads what is new. Answers first: then the lines that explain them, which were written before, are there
    /// already; they are folded first.
    fn poll(&mut self) {
        let Self { logs, account, unknown, failed } = self;
        let mut answers = Vec::new();
        for log in logs {
            let tells_answers = log.tells_answers();
            let read = log.poll(&mut |entry, _| match entry {
                None => *unknown += 1,
                Some(entry) if tells_answers => answers.push(entry),
                Some(entry) => account.note(entry),
            });
            if let Err(error) = read {
                failed.get_or_insert_with(|| error.to_string());
            }
        }
        for entry in answers {
            account.note(entry);
        }
    }
}

impl Watch {
    /// Begins to follow, from the end of what is there.
    ///
    /// # Errors
    /// A log can't be read, or no thread can be had.
    pub fn begin(logs: &[Log], zone: &TimeZone) -> Result<Self> {
        let account = account(logs);
        let haproxy = logs.iter().any(|log| matches!(log.kind, Kind::HaProxy));
        let addresses = if haproxy { addresses() } else { BTreeMap::new() };
        let mut logs = open(logs, From::End, zone)?;
        logs.sort_by_key(|log| !log.tells_answers());
        let followed = Followed { logs, account, unknown: 0, failed: None };
        let shared = Arc::new(Mutex::new(followed));
        let (enough, asked) = mpsc::channel::<()>();
        let of_thread = Arc::clone(&shared);
        let follow = move || {
            while asked.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                of_thread.lock().unwrap_or_else(PoisonError::into_inner).poll();
            }
        };
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(follow);
        thread.context("can't start a thread to follow logs")?;
        Ok(Self { shared, addresses, _enough: enough })
    }

    /// What the logs come to now, beside the kernel's failures.
    #[must_use]
    pub fn summary(&self, table: &Table) -> Summary {
        let mut followed = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        followed.poll();
        let kernel = in_the_kernel(table.rows());
        let mut sum = summary(&followed.account, &kernel, &self.addresses, followed.unknown);
        sum.broken_off.clone_from(&followed.failed);
        sum
    }
}

/// Where `HAProxy`'s servers are, by the names that its log has: those of the ones that run and can be asked.
fn addresses() -> BTreeMap<String, String> {
    // Without them it is the kernel's failures that no log names an upstream for.
    let owners = Owners::find(Look::All).unwrap_or_default();
    let running = Reader::new(Given::default()).read(&owners).haproxy;
    let servers = running.iter().flat_map(|haproxy| &haproxy.state.servers);
    let named = servers.filter_map(|server| {
        Some((format!("{}/{}", server.backend, server.name), server.address?.to_string()))
    });
    named.collect()
}
