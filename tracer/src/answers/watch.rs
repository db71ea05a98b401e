//! Follows the logs, on a thread of its own, and folds them into an account.

use std::{
    collections::BTreeMap,
    path::PathBuf,
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
    summary::{Summary, summary},
};
use crate::{
    kernel::owners::{Look, Owners},
    logs::{
        Kind, Parsed,
        follow::{Follower, From},
    },
    proxies::{Given, Reader},
    table::Table,
};

/// How often the logs are read: a line waits no longer, and a log that is renamed is not missed.
const EVERY: Duration = Duration::from_millis(200);

/// A log to be followed.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
    /// How its lines are read.
    pub kind: Kind,
}

/// The logs, as seen from a sink. Following ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Mutex<Followed>>,
    addresses: BTreeMap<String, String>,
    _enough: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Followed {
    logs: Vec<(Follower, Kind)>,
    account: Account,
    unknown: u64,
    zone: TimeZone,
    /// Why reading broke off.
    failed: Option<String>,
}

impl Followed {
    /// Reads what is new. Answers first: then the lines that explain them, which were written before, are there
    /// already; they are folded first.
    fn poll(&mut self) {
        let Self { logs, account, unknown, zone, failed } = self;
        let mut answers = Vec::new();
        let (access, error): (Vec<_>, Vec<_>) =
            logs.iter_mut().partition(|(_, kind)| !matches!(kind, Kind::NginxError));
        for (follower, kind) in access {
            let read = follower.poll(&mut |line| match kind.parse(line, zone) {
                Parsed::Entry(entry) => answers.push(entry),
                Parsed::Unknown => *unknown += 1,
                Parsed::Nothing => {}
            });
            if let Err(error) = read {
                failed.get_or_insert_with(|| error.to_string());
            }
        }
        for (follower, kind) in error {
            let read = follower.poll(&mut |line| match kind.parse(line, zone) {
                Parsed::Entry(entry) => account.note(entry),
                Parsed::Unknown => *unknown += 1,
                Parsed::Nothing => {}
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
    pub fn begin(logs: Vec<Log>, zone: TimeZone) -> Result<Self> {
        let account = Account {
            sees_troubles: logs.iter().any(|log| matches!(log.kind, Kind::NginxError)),
            sees_answers: logs.iter().any(|log| !matches!(log.kind, Kind::NginxError)),
            ..Account::default()
        };
        let haproxy = logs.iter().any(|log| matches!(log.kind, Kind::HaProxy));
        let addresses = if haproxy { addresses() } else { BTreeMap::new() };
        let opened = logs.into_iter().map(|log| {
            let follower = Follower::open(&log.path, From::End)
                .with_context(|| format!("can't follow {}", log.path.display()))?;
            Ok((follower, log.kind))
        });
        let logs = opened.collect::<Result<Vec<_>>>()?;
        let followed = Followed { logs, account, unknown: 0, zone, failed: None };
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
        let mut sum =
            summary(&followed.account, &in_the_kernel(table), &self.addresses, followed.unknown);
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
