//! Which failed answers of a proxy are explained by what: its logs joined to each other, and to the kernel's failures.
//! A fold of log lines ([`account`], [`queue`]) and of [`kernel`] failures to a [`summary`]; no clock, no I/O but in [`watch`]
//! (live) with its [`follow`], [`captured`] (afterwards) with its [`merge`], and what they read by, [`read`].
//!
//! Nginx writes a line for each failed try into its error log, and then, when the request is done, one into its access
//! log. So the lines of each upstream wait, and an answer takes one for each of its failed tries: the last
//! one explains it. HAProxy and Envoy say in the line itself how a request ended; where that is no more than "no
//! connection" or "it ended", the kernel's failures toward that upstream say why. Of used up ports HAProxy writes a
//! line for each try at a server of a backend, before that of the answer: it takes one for each of its tries.

pub mod account;
pub mod captured;
pub mod follow;
pub mod kernel;
pub mod merge;
pub mod queue;
pub mod read;
pub mod running;
pub mod summary;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};

use self::{account::Account, read::Log};
use crate::logs::{Entry, Product};

/// An account for each kind of proxy that has a log.
#[derive(Debug, Default)]
pub struct Accounts(BTreeMap<Product, Account>);

impl Accounts {
    /// Empty ones, of what these logs tell.
    #[must_use]
    pub fn new(logs: &[Log]) -> Self {
        let mut accounts = Self::default();
        for log in logs {
            let proxy = log.kind.proxy();
            let account = accounts.0.entry(proxy).or_insert_with(|| {
                let mut account = Account::new(proxy);
                (account.sees_answers, account.sees_troubles) = (false, false);
                account
            });
            account.sees_answers |= log.kind.tells_answers();
            account.sees_troubles |= !log.kind.tells_answers();
        }
        accounts
    }

    /// Folds a line of a proxy's log in.
    pub fn note(&mut self, proxy: Product, entry: Entry) {
        self.0.entry(proxy).or_insert_with(|| Account::new(proxy)).note(entry);
    }

    /// Whose logs there are.
    #[must_use]
    pub fn proxies(&self) -> BTreeSet<Product> {
        self.0.keys().copied().collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.values()
    }
}
