//! What an account comes to: of each upstream the failed answers, what explains them, and what the kernel saw.

mod interval;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::Serialize;

use super::{
    Accounts,
    account::{Account, Row},
    kernel::{Kernel, Seen},
};
use crate::{
    event::visible,
    logs::{Class, Product},
};

/// The sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Answers that failed on the proxy's side.
    pub failed: u64,
    /// Those that something explains.
    pub explained: u64,
    /// Those that nothing does.
    pub unexplained: u64,
    /// Answers that did not fail.
    pub succeeded: u64,
    /// Explained part of the failed ones, 0 to 1; none where none failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Lines that were not understood.
    pub lines_unknown: u64,
    /// There is no access log: answers are not known, only failed tries.
    pub tries_only: bool,
    /// Why a log can't be read now: what was written since is in no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_off: Option<String>,
    /// When logs could not be read: of each the last time that is over. Lines of then may be in no figure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Bytes of logs that were passed over, as they came faster than they could be read: they are in no figure.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped_bytes: u64,
    /// The logs have more lines than were read by now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
    /// Keys that the logs' formats lack to say why answers failed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub lacks: BTreeSet<&'static str>,
    /// By upstream, most failed answers first.
    pub upstreams: Vec<Explained>,
    /// The same of the time since the sum before, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Box<Self>>,
}

/// When a log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Since when, RFC 3339.
    pub from: String,
    /// Until when.
    pub to: String,
    /// Why not, with the log's name.
    pub why: String,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The kind of proxy whose logs name it.
    pub proxy: &'static str,
    /// As the log names it; `-`: it names none.
    pub upstream: String,
    /// Failed answers by status; 0: none was sent.
    pub statuses: BTreeMap<u16, u64>,
    /// By what explains them.
    pub by: Vec<ByClass>,
    /// Those that nothing explains.
    pub unexplained: u64,
}

/// One explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ByClass {
    /// What.
    pub class: &'static str,
    /// Failed answers that it explains.
    pub answers: u64,
    /// Lines of the error log: failed tries, of which a request may have several.
    pub lines: u64,
    /// Failures in the kernel toward this upstream; none where its address is not known, and of open files, which
    /// have no upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<u64>,
    /// Not certain: several kinds of failures share these answers, divided by how often the kernel saw each; or the kernel's
    /// failures may be another's, as the upstream's address is not known, or proxies of several network namespaces
    /// failed toward it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
    /// The kernel's figure is of proxies in several network namespaces, or of processes that are not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kernel_shared: bool,
}

/// Sums up. `addresses`: of HAProxy's servers, which its log names otherwise.
#[must_use]
pub fn summary(
    accounts: &Accounts,
    kernel: &Kernel,
    addresses: &BTreeMap<String, String>,
    lines_unknown: u64,
) -> Summary {
    let mut sum = Summary {
        tries_only: !accounts.iter().any(|account| account.sees_answers),
        lines_unknown,
        ..Summary::default()
    };
    let none = BTreeMap::new();
    for account in accounts.iter() {
        let addresses = if account.proxy() == Product::HaProxy { addresses } else { &none };
        add(&mut sum, account, &Toward::new(account, kernel, addresses));
    }
    sum.explained = sum.failed - sum.unexplained;
    sum.share = share(sum.explained, sum.failed);
    sum.sort();
    sum
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Of all, where there are any.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(explained: u64, failed: u64) -> Option<f64> {
    (failed > 0).then(|| explained as f64 / failed as f64)
}

impl Summary {
    /// Most failed answers first.
    fn sort(&mut self) {
        let answers = |it: &Explained| it.statuses.values().sum::<u64>();
        let lines = |it: &Explained| it.by.iter().map(|by| by.lines).sum::<u64>();
        self.upstreams.sort_by_key(|it| std::cmp::Reverse((answers(it), lines(it))));
    }
}

fn add(sum: &mut Summary, account: &Account, toward: &Toward<'_>) {
    sum.succeeded += account.succeeded;
    sum.lacks.extend(&account.lacks);
    for (name, row) in account.rows() {
        let found = toward.of(name);
        let (shares, unexplained) = shares(row, &found, toward.rows_without_connection > 1);
        sum.failed += row.answers();
        sum.unexplained += unexplained;
        let classes: BTreeSet<Class> =
            shares.keys().copied().chain(row.lines.keys().map(|&(class, _)| class)).collect();
        let by = classes.into_iter().map(|class| {
            let (answers, inferred) = shares.get(&class).copied().unwrap_or_default();
            // Of open files the kernel knows no upstream.
            let seen = found.by.get(&class).filter(|_| found.is_certain);
            let has_figure = found.is_certain && class != Class::OpenFiles;
            ByClass {
                class: class.name(),
                answers,
                lines: row.lines_of(class),
                kernel: has_figure.then(|| seen.map_or(0, |seen| seen.count)),
                inferred,
                kernel_shared: has_figure && seen.is_some_and(is_shared),
            }
        });
        let mut by: Vec<_> = by.collect();
        by.sort_by_key(|it| std::cmp::Reverse((it.answers, it.lines)));
        sum.upstreams.push(Explained {
            proxy: account.proxy().name(),
            upstream: visible(name.as_bytes()),
            statuses: row.statuses.clone(),
            by,
            unexplained,
        });
    }
}

/// Whether some of it may not be of the log's proxy.
fn is_shared(seen: &Seen) -> bool {
    seen.unowned || seen.netns.len() > 1
}

/// The failures of a kind of proxy, by where they are toward.
struct Toward<'a> {
    addresses: &'a BTreeMap<String, String>,
    by_address: BTreeMap<&'a str, BTreeMap<Class, Seen>>,
    /// Of calls that know no upstream.
    nowhere: BTreeMap<Class, Seen>,
    /// Toward addresses that no log names.
    elsewhere: BTreeMap<Class, Seen>,
    /// Upstreams to which answers had no connection, and the log does not say why.
    rows_without_connection: usize,
}

/// What an upstream's answers may be explained by.
struct Found {
    by: BTreeMap<Class, Seen>,
    /// Its address is known, so all that is toward somewhere is toward it.
    is_certain: bool,
}

impl<'a> Toward<'a> {
    fn new(
        account: &'a Account,
        kernel: &'a Kernel,
        addresses: &'a BTreeMap<String, String>,
    ) -> Self {
        let rows = account.rows();
        let named: BTreeSet<&str> =
            rows.keys().chain(addresses.values()).map(String::as_str).collect();
        let unsaid = |row: &&Row| row.explained.contains_key(&Class::Connect);
        let mut toward = Self {
            addresses,
            by_address: BTreeMap::new(),
            nowhere: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            rows_without_connection: rows.values().filter(unsaid).count(),
        };
        for ((_, upstream, class), seen) in
            kernel.iter().filter(|((proxy, ..), _)| *proxy == account.proxy())
        {
            let to = match upstream {
                None => &mut toward.nowhere,
                Some(upstream) if named.contains(upstream.as_str()) => {
                    toward.by_address.entry(upstream.as_str()).or_default()
                }
                Some(_) => &mut toward.elsewhere,
            };
            add_seen(to, *class, seen);
        }
        toward
    }

    fn of(&self, name: &str) -> Found {
        let address = self.addresses.get(name).map_or(name, String::as_str);
        let is_certain = address.parse::<SocketAddr>().is_ok();
        // One that has no address: what failed toward nobody that is named may be its own.
        let there = if is_certain { self.by_address.get(address) } else { Some(&self.elsewhere) };
        let mut by = there.cloned().unwrap_or_default();
        for (class, seen) in &self.nowhere {
            add_seen(&mut by, *class, seen);
        }
        Found { by, is_certain }
    }
}

fn add_seen(to: &mut BTreeMap<Class, Seen>, class: Class, seen: &Seen) {
    let sum = to.entry(class).or_default();
    sum.count += seen.count;
    sum.netns.extend(&seen.netns);
    sum.unowned |= seen.unowned;
}

/// What explains the answers of an upstream, and whether that is inferred; and how many nothing explains. `others`:
/// answers of other upstreams had no connection either.
fn shares(row: &Row, found: &Found, others: bool) -> (BTreeMap<Class, (u64, bool)>, u64) {
    let said = row.explained.iter();
    let said = said.filter(|(class, _)| !matches!(class, Class::Connect | Class::Ended));
    let mut shares: BTreeMap<Class, (u64, bool)> =
        said.map(|(class, count)| (*class, (*count, false))).collect();
    let ended = row.explained.get(&Class::Ended).copied().unwrap_or(0);
    let said_so = row.explained.get(&Class::Reset).copied().unwrap_or(0);
    let seen = found.by.get(&Class::Reset);
    let resets = seen.map_or(0, |seen| seen.count).saturating_sub(said_so).min(ended);
    let mixed = (resets > 0 && resets < ended)
        || !found.is_certain
        || (resets > 0 && seen.is_some_and(is_shared));
    for (class, count) in [(Class::Reset, resets), (Class::ClosedEarly, ended - resets)] {
        if count > 0 {
            let share = shares.entry(class).or_default();
            *share = (share.0 + count, mixed);
        }
    }
    let unsaid = row.explained.get(&Class::Connect).copied().unwrap_or(0);
    let causes = found.by.iter().filter(|(class, _)| Class::OF_CONNECT.contains(class));
    let mut causes: Vec<(Class, &Seen)> = causes.map(|(class, seen)| (*class, seen)).collect();
    // What the log says itself it says of each.
    let unnamed = |class: &Class| !row.explained.contains_key(class);
    if causes.iter().any(|(class, _)| unnamed(class)) {
        causes.retain(|(class, _)| unnamed(class));
    }
    let sum: u64 = causes.iter().map(|(_, seen)| seen.count).sum();
    if sum == 0 {
        return (shares, row.unexplained + unsaid);
    }
    // Of files it is not known for which upstream they were to be.
    let of_others = |class: Class| others && class == Class::OpenFiles;
    let netns: BTreeSet<_> = causes.iter().flat_map(|(_, seen)| &seen.netns).collect();
    let inferred = causes.len() > 1
        || !found.is_certain
        || netns.len() > 1
        || causes.iter().any(|(class, seen)| seen.unowned || of_others(*class));
    let mut left = unsaid;
    for (index, (class, seen)) in causes.iter().enumerate() {
        let part = u128::from(unsaid) * u128::from(seen.count) / u128::from(sum);
        let last = index + 1 == causes.len();
        let part = if last { left } else { u64::try_from(part).unwrap_or(left).min(left) };
        left -= part;
        if part > 0 {
            let share = shares.entry(*class).or_default();
            *share = (share.0 + part, inferred);
        }
    }
    (shares, row.unexplained)
}

#[cfg(test)]
mod tests;
