//! What an account comes to: of each upstream the failed answers, what explains them, and what the kernel saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::Serialize;

use super::{Account, Row};
use crate::{event::visible, logs::Class};

/// Kernel failures by upstream (its address; `None`: of calls that know none) and class.
pub type Kernel = BTreeMap<(Option<String>, Class), u64>;

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
    /// Why a log can't be read any more: what was written since is in no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_off: Option<String>,
    /// By upstream, most failed answers first.
    pub upstreams: Vec<Explained>,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
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
    /// Several kinds of failures share these answers: divided by how often the kernel saw each.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
}

/// Sums up. `addresses`: of upstreams that logs name otherwise.
#[must_use]
pub fn summary(
    account: &Account,
    kernel: &Kernel,
    addresses: &BTreeMap<String, String>,
    lines_unknown: u64,
) -> Summary {
    let address = |name: &str| addresses.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let rows = account.rows();
    let named: BTreeSet<String> = rows.keys().map(|name| address(name)).collect();
    let mut sum = Summary {
        succeeded: account.succeeded,
        tries_only: !account.sees_answers,
        lines_unknown,
        ..Summary::default()
    };
    for (name, row) in rows {
        let address = address(name);
        let of_it = address.parse::<SocketAddr>().is_ok().then_some(&address);
        // One that has no address in the log: what failed toward nobody that is named may be its own.
        let may_be = |upstream: &Option<String>| match (upstream, of_it) {
            (None, _) => true,
            (Some(upstream), Some(of_it)) => upstream == of_it,
            (Some(upstream), None) => !named.contains(upstream),
        };
        let (shares, unexplained) = shares(row, kernel, may_be);
        sum.failed += row.answers();
        sum.unexplained += unexplained;
        let classes: BTreeSet<Class> =
            shares.keys().copied().chain(row.lines.keys().map(|&(class, _)| class)).collect();
        let by = classes.into_iter().map(|class| {
            let (answers, inferred) = shares.get(&class).copied().unwrap_or_default();
            let seen = of_it
                .filter(|_| class != Class::OpenFiles)
                .map(|of_it| kernel.get(&(Some(of_it.clone()), class)).copied().unwrap_or(0));
            ByClass {
                class: class.name(),
                answers,
                lines: row.lines_of(class),
                kernel: seen,
                inferred,
            }
        });
        let mut by: Vec<_> = by.collect();
        by.sort_by_key(|it| std::cmp::Reverse((it.answers, it.lines)));
        let statuses = row.statuses.clone();
        sum.upstreams.push(Explained {
            upstream: visible(name.as_bytes()),
            statuses,
            by,
            unexplained,
        });
    }
    sum.explained = sum.failed - sum.unexplained;
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = (sum.failed > 0).then(|| sum.explained as f64 / sum.failed as f64);
    sum.share = share;
    let answers = |it: &Explained| it.statuses.values().sum::<u64>();
    let lines = |it: &Explained| it.by.iter().map(|by| by.lines).sum::<u64>();
    sum.upstreams.sort_by_key(|it| std::cmp::Reverse((answers(it), lines(it))));
    sum
}

/// What explains the answers of an upstream, and whether that was divided; and how many nothing explains.
fn shares(
    row: &Row,
    kernel: &Kernel,
    may_be: impl Fn(&Option<String>) -> bool,
) -> (BTreeMap<Class, (u64, bool)>, u64) {
    let said = row.explained.iter();
    let said = said.filter(|(class, _)| !matches!(class, Class::Connect | Class::Ended));
    let mut shares: BTreeMap<Class, (u64, bool)> =
        said.map(|(class, count)| (*class, (*count, false))).collect();
    let ended = row.explained.get(&Class::Ended).copied().unwrap_or(0);
    let resets = kernel.iter().filter(|((to, class), _)| *class == Class::Reset && may_be(to));
    let said_so = row.explained.get(&Class::Reset).copied().unwrap_or(0);
    let resets = resets.map(|(_, count)| count).sum::<u64>().saturating_sub(said_so).min(ended);
    let mixed = resets > 0 && resets < ended;
    for (class, count) in [(Class::Reset, resets), (Class::ClosedEarly, ended - resets)] {
        if count > 0 {
            let share = shares.entry(class).or_default();
            *share = (share.0 + count, mixed);
        }
    }
    let unsaid = row.explained.get(&Class::Connect).copied().unwrap_or(0);
    let mut causes: BTreeMap<Class, u64> = BTreeMap::new();
    for ((upstream, class), count) in kernel {
        if may_be(upstream) && Class::OF_CONNECT.contains(class) {
            *causes.entry(*class).or_default() += count;
        }
    }
    // What the log says itself it says of each.
    let unnamed = |class: &Class| !row.explained.contains_key(class);
    if causes.keys().any(unnamed) {
        causes.retain(|class, _| unnamed(class));
    }
    let sum: u64 = causes.values().sum();
    if sum == 0 {
        return (shares, row.unexplained + unsaid);
    }
    let inferred = causes.len() > 1;
    let mut left = unsaid;
    for (index, (class, count)) in causes.iter().enumerate() {
        let part = u128::from(unsaid) * u128::from(*count) / u128::from(sum);
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
mod tests {
    use super::*;
    use crate::logs::{Answer, Entry, Try};

    fn of_connect(account: &mut Account, upstream: &str, count: u64) {
        of(Class::Connect, account, upstream, count);
    }

    fn of(class: Class, account: &mut Account, upstream: &str, count: u64) {
        for _ in 0..count {
            account.note(Entry::Answer(Answer {
                status: Some(503),
                tries: vec![Try { upstream: upstream.to_owned(), ..Try::default() }],
                class: Some(class),
                ..Answer::default()
            }));
        }
    }

    #[test]
    fn the_kernel_says_why_there_was_no_connection() {
        let mut account = Account { sees_answers: true, ..Account::default() };
        of_connect(&mut account, "10.0.0.9:80", 10);
        let to = |upstream: &str| Some(upstream.to_owned());
        let mut kernel = Kernel::from([((to("10.0.0.9:80"), Class::PortsExhausted), 40)]);
        kernel.insert((to("10.0.0.7:80"), Class::Refused), 1000);
        let sum = summary(&account, &kernel, &BTreeMap::new(), 0);
        assert_eq!((sum.failed, sum.explained, sum.share), (10, 10, Some(1.0)));
        let by = &sum.upstreams[0].by[0];
        assert_eq!((by.class, by.answers, by.kernel), ("ports-exhausted", 10, Some(40)));
        assert!(!by.inferred);
        // Nobody failed toward it: unexplained.
        let sum = summary(&account, &Kernel::new(), &BTreeMap::new(), 0);
        assert_eq!((sum.explained, sum.unexplained), (0, 10));
    }

    #[test]
    fn several_causes_share_the_answers_and_it_is_said() {
        let mut account = Account { sees_answers: true, ..Account::default() };
        of_connect(&mut account, "app/s1", 8);
        let to = Some("10.0.0.9:80".to_owned());
        let kernel = Kernel::from([
            ((to.clone(), Class::PortsExhausted), 30),
            ((to.clone(), Class::Refused), 10),
            ((to, Class::Reset), 500),
        ]);
        let addresses = BTreeMap::from([("app/s1".to_owned(), "10.0.0.9:80".to_owned())]);
        let sum = summary(&account, &kernel, &addresses, 0);
        let by: Vec<_> =
            sum.upstreams[0].by.iter().map(|by| (by.class, by.answers, by.inferred)).collect();
        assert_eq!(by, [("ports-exhausted", 6, true), ("refused", 2, true)]);
    }

    #[test]
    fn the_kernel_says_whether_it_was_a_reset() {
        let mut account = Account { sees_answers: true, ..Account::default() };
        of(Class::Ended, &mut account, "10.0.0.9:80", 5);
        let to = |upstream: &str| Some(upstream.to_owned());
        for (resets, wanted) in [
            (0, vec![("closed-early", 5, Some(0), false)]),
            (2, vec![("closed-early", 3, Some(0), true), ("reset", 2, Some(2), true)]),
            (5, vec![("reset", 5, Some(5), false)]),
            (7, vec![("reset", 5, Some(7), false)]),
        ] {
            // Those toward others, and of clients, are not meant.
            let kernel = Kernel::from([
                ((to("10.0.0.9:80"), Class::Reset), resets),
                ((to("10.0.0.7:80"), Class::Reset), 9),
            ]);
            let sum = summary(&account, &kernel, &BTreeMap::new(), 0);
            let by = sum.upstreams[0].by.iter();
            let by: Vec<_> = by.map(|by| (by.class, by.answers, by.kernel, by.inferred)).collect();
            assert_eq!(by, wanted);
            assert_eq!(sum.explained, 5);
        }
    }

    #[test]
    fn what_the_log_says_itself_is_not_divided() {
        let mut account = Account { sees_answers: true, ..Account::default() };
        of(Class::PortsExhausted, &mut account, "10.0.0.9:80", 9);
        of_connect(&mut account, "10.0.0.9:80", 4);
        let to = Some("10.0.0.9:80".to_owned());
        let mut kernel = Kernel::from([((to.clone(), Class::PortsExhausted), 40)]);
        let by = |kernel: &Kernel| {
            let sum = summary(&account, kernel, &BTreeMap::new(), 0);
            let by = sum.upstreams[0].by.iter();
            by.map(|by| (by.class, by.answers, by.inferred)).collect::<Vec<_>>()
        };
        // A line was lost.
        assert_eq!(by(&kernel), [("ports-exhausted", 13, false)]);
        kernel.insert((to, Class::Refused), 16);
        assert_eq!(by(&kernel), [("ports-exhausted", 9, false), ("refused", 4, false)]);
    }

    #[test]
    fn what_failed_toward_others_explains_nothing() {
        let mut account = Account { sees_answers: true, ..Account::default() };
        of_connect(&mut account, "10.0.0.9:80", 3);
        of_connect(&mut account, "app/s1", 4);
        let kernel = Kernel::from([((Some("10.0.0.7:80".to_owned()), Class::Refused), 50)]);
        let sum = summary(&account, &kernel, &BTreeMap::new(), 0);
        // Where a server's address is not known, it may be that one.
        assert_eq!((sum.explained, sum.unexplained), (4, 3));
        // Files have no upstream.
        let kernel = Kernel::from([((None, Class::OpenFiles), 7)]);
        let sum = summary(&account, &kernel, &BTreeMap::new(), 0);
        let by: Vec<_> = sum.upstreams.iter().flat_map(|it| &it.by).collect();
        assert!(by.iter().all(|by| by.class == "open-files" && by.kernel.is_none()), "{by:?}");
        assert_eq!(sum.explained, 7);
    }
}
