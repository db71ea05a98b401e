//! Which failed answers of a proxy are explained by what: its logs joined to each other, and to the kernel's failures.
//! A fold of log lines; no clock, no I/O but in [`watch`] (live), [`captured`] (afterwards) and what they read by, [`read`].
//!
//! Nginx writes a line for each failed try into its error log, and then, when the request is done, one into its access
//! log. So the lines of each upstream stand in a queue, and an answer takes one for each of its failed tries: the last
//! one explains it. HAProxy and Envoy say in the line itself how a request ended; where that is no more than "no
//! connection" or "it ended", the kernel's failures toward that upstream say why. Of used up ports HAProxy writes a
//! line for each try at a server of a backend, before that of the answer: it takes one for each of its tries.

pub mod captured;
pub mod merge;
pub mod queue;
pub mod read;
pub mod summary;
pub mod watch;

use std::collections::BTreeMap;

use self::queue::Queue;
use crate::{
    failures::{FailureKey, FailureRow},
    logs::{Answer, Class, Entry, Trouble, Try},
    reason::Reason,
};

/// Most upstreams that are kept apart; what is of others goes together.
const MAX_UPSTREAMS: usize = 4096;
/// Where answers go whose upstream no line says.
const UNSAID: &str = "-";
/// Where those of upstreams go that found no room.
const OTHERS: &str = "others";

/// Statuses that are a proxy's own words for a failure toward the upstream: bad gateway, gateway timeout (RFC 9110,
/// 15.6.3 and 15.6.5).
const OF_A_GATEWAY: [u16; 2] = [502, 504];

/// What is counted of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Failed answers, by status; 0: none was sent.
    pub statuses: BTreeMap<u16, u64>,
    /// What explains them.
    pub explained: BTreeMap<Class, u64>,
    /// Those that nothing explains.
    pub unexplained: u64,
    /// Lines of the error log: failed tries, by class and errno.
    pub lines: BTreeMap<(Class, Option<u16>), u64>,
}

impl Row {
    /// Failed answers.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Lines of a class.
    #[must_use]
    pub fn lines_of(&self, class: Class) -> u64 {
        self.lines.iter().filter(|((of, _), _)| *of == class).map(|(_, count)| count).sum()
    }
}

/// The fold.
#[derive(Debug, Default)]
pub struct Account {
    rows: BTreeMap<String, Row>,
    queue: Queue,
    /// Answers that did not fail.
    pub succeeded: u64,
    /// There is an access log: only then failed answers are known.
    pub sees_answers: bool,
    /// There is an error log.
    pub sees_troubles: bool,
}

impl Account {
    /// Folds a line in.
    pub fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Trouble(trouble) => self.trouble(trouble),
            Entry::Answer(answer) => self.answer(&answer),
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        // One that is toward no upstream, as of accept(), explains no answer: there was no request yet.
        let explains = trouble.upstream.is_some();
        let name = trouble.upstream.unwrap_or_else(|| UNSAID.to_owned());
        let name = self.name(name);
        *self.row(&name).lines.entry((trouble.class, trouble.errno)).or_default() += 1;
        if explains {
            self.queue.push(&name, trouble.class);
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let status = answer.status.unwrap_or(0);
        let (mut last, mut of) = (None, None);
        if self.sees_troubles {
            // Where a try's outcome is not said, the answer's is its own: one whose client left (499) has no line.
            let failed = |tried: &&Try| is_failure(tried.status.unwrap_or(status));
            for tried in answer.tries.iter().filter(failed) {
                let name = self.name(tried.upstream.clone());
                last = self.queue.pop(&name);
                of = Some(name);
            }
            if answer.tries.is_empty() && is_failure(status) {
                (of, last) = self.queue.pop_any();
            }
        }
        let class = last.or_else(|| self.no_ports(answer)).or(answer.class);
        let of_gateway = self.sees_troubles && OF_A_GATEWAY.contains(&status);
        if !(of_gateway || (class.is_some() && (is_failure(status) || status == 0))) {
            self.succeeded += 1;
            return;
        }
        let last_try = answer.tries.last().map(|tried| tried.upstream.clone());
        let name = of.or(last_try).unwrap_or_else(|| UNSAID.to_owned());
        let name = self.name(name);
        let row = self.row(&name);
        *row.statuses.entry(status).or_default() += 1;
        match class {
            Some(class) if class != Class::Other => *row.explained.entry(class).or_default() += 1,
            _ => row.unexplained += 1,
        }
    }

    /// Takes the lines that HAProxy wrote for the tries of an answer. They explain it where they are of half of its
    /// tries or more: a log loses lines that come too fast.
    fn no_ports(&mut self, answer: &Answer) -> Option<Class> {
        let (backend, _server) = answer.tries.last()?.upstream.split_once('/')?;
        let connect = answer.class == Some(Class::Connect);
        // One whose client left while it was being connected has lines too.
        let left = answer.class.is_none() && answer.status.is_none_or(is_failure);
        let tries = answer.retries.saturating_add(u32::from(connect || left));
        let mut taken = 0_u32;
        let mut last = None;
        while taken < tries
            && let Some(class) = self.queue.pop(backend)
        {
            (taken, last) = (taken + 1, Some(class));
        }
        last.filter(|_| connect && taken >= tries.div_ceil(2))
    }

    fn name(&self, name: String) -> String {
        let room = self.rows.len() < MAX_UPSTREAMS || self.rows.contains_key(&name);
        if room { name } else { OTHERS.to_owned() }
    }

    fn row(&mut self, name: &str) -> &mut Row {
        if !self.rows.contains_key(name) {
            self.rows.insert(name.to_owned(), Row::default());
        }
        // It was put there.
        self.rows.entry(name.to_owned()).or_default()
    }

    /// By upstream, as the logs name them.
    #[must_use]
    pub fn rows(&self) -> &BTreeMap<String, Row> {
        &self.rows
    }
}

/// A server's error (RFC 9110, 15.6).
fn is_failure(status: u16) -> bool {
    (500..600).contains(&status)
}

/// What the kernel saw of a class of failures toward an upstream.
#[must_use]
pub fn class_of(reason: Reason) -> Class {
    match reason {
        Reason::PortRangeExhausted | Reason::TupleCollision | Reason::NoSourceAddress => {
            Class::PortsExhausted
        }
        Reason::Refused => Class::Refused,
        Reason::Reset => Class::Reset,
        Reason::TimedOut | Reason::Abandoned | Reason::ErrorTaken => Class::ConnectTimeout,
        Reason::Unreachable => Class::Unreachable,
        Reason::ProcessFileLimit | Reason::SystemFileLimit => Class::OpenFiles,
        Reason::LocalError
        | Reason::AddressNotLocal
        | Reason::AddressInUse
        | Reason::NotPermitted => Class::Other,
    }
}

/// The kernel's failures, as rows of a table, by class, toward an upstream that is named by its address; and of calls
/// that know no upstream (open files) all together.
#[must_use]
pub fn in_the_kernel<'a>(
    rows: impl IntoIterator<Item = (&'a FailureKey, &'a FailureRow)>,
) -> BTreeMap<(Option<String>, Class), u64> {
    let mut found = BTreeMap::new();
    for (key, row) in rows {
        let FailureKey { call, reason: Some(reason), dst, dport, .. } = *key else { continue };
        let upstream =
            dst.zip(dport).map(|(dst, dport)| std::net::SocketAddr::new(dst, dport).to_string());
        // Connections of clients, and those that may be.
        if call.is_none() && upstream.is_none() {
            continue;
        }
        *found.entry((upstream, class_of(reason))).or_default() += row.count;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { sees_answers: true, sees_troubles: true, ..Account::default() }
    }

    fn line(upstream: Option<&str>, class: Class) -> Entry {
        let upstream = upstream.map(str::to_owned);
        let (at, pid, errno, address) = (None, None, None, None);
        Entry::Trouble(Trouble { at, pid, class, errno, upstream, address })
    }

    fn answer(status: u16, tries: &[(&str, u16)]) -> Entry {
        let one = |&(upstream, status): &(&str, u16)| Try {
            upstream: upstream.to_owned(),
            address: None,
            status: Some(status),
        };
        let tries = tries.iter().map(one).collect();
        Entry::Answer(Answer { status: Some(status), tries, ..Answer::default() })
    }

    #[test]
    fn an_answer_is_explained_by_its_last_try() {
        let mut account = account();
        account.note(line(Some("a"), Class::PortsExhausted));
        account.note(line(Some("b"), Class::Refused));
        account.note(answer(502, &[("a", 502), ("b", 502)]));
        account.note(line(Some("a"), Class::Reset));
        account.note(answer(200, &[("a", 502), ("b", 200)]));
        account.note(line(Some("a"), Class::ConnectTimeout));
        account.note(answer(504, &[("a", 504)]));
        let (a, b) = (&account.rows()["a"], &account.rows()["b"]);
        assert_eq!(b.explained, BTreeMap::from([(Class::Refused, 1)]));
        assert_eq!(a.explained, BTreeMap::from([(Class::ConnectTimeout, 1)]));
        assert_eq!((a.answers(), b.answers(), account.succeeded), (1, 1, 1));
        assert_eq!(a.lines.values().sum::<u64>(), 3);
    }

    #[test]
    fn what_no_line_explains_is_unexplained() {
        let mut account = account();
        account.note(answer(502, &[("a", 502)]));
        account.note(answer(500, &[("a", 500)]));
        account.note(line(None, Class::OwnLimit));
        account.note(line(Some("a"), Class::OpenFiles));
        account.note(answer(500, &[]));
        let row = &account.rows()["a"];
        assert_eq!((row.unexplained, row.answers(), account.succeeded), (1, 2, 1));
        assert_eq!(row.explained, BTreeMap::from([(Class::OpenFiles, 1)]));
    }

    #[test]
    fn a_client_that_left_takes_no_line() {
        let mut account = account();
        account.note(line(Some("a"), Class::Refused));
        let upstream = "a".to_owned();
        let tries = vec![Try { upstream, address: None, status: None }];
        account.note(Entry::Answer(Answer { status: Some(499), tries, ..Answer::default() }));
        account.note(answer(502, &[("a", 502)]));
        assert_eq!(account.rows()["a"].explained, BTreeMap::from([(Class::Refused, 1)]));
    }

    #[test]
    fn lines_of_no_free_ports_are_of_the_answers_behind_them() {
        let mut account = Account { sees_answers: true, ..Account::default() };
        let answer = |status, retries, class| {
            let upstream = "app/s1".to_owned();
            let tries = vec![Try { upstream, address: None, status: Some(status) }];
            Entry::Answer(Answer { status: Some(status), tries, retries, class, at: None })
        };
        let lines = |account: &mut Account, count| {
            for _ in 0..count {
                account.note(line(Some("app"), Class::PortsExhausted));
            }
        };
        lines(&mut account, 4);
        account.note(answer(503, 3, Some(Class::Connect)));
        account.note(answer(503, 3, Some(Class::Connect)));
        // The second try had a port.
        lines(&mut account, 1);
        account.note(answer(200, 1, None));
        account.note(answer(503, 0, Some(Class::Connect)));
        // Its client left.
        lines(&mut account, 1);
        account.note(answer(503, 0, None));
        account.note(answer(503, u32::MAX, Some(Class::Connect)));
        let row = &account.rows()["app/s1"];
        let wanted = BTreeMap::from([(Class::PortsExhausted, 1), (Class::Connect, 3)]);
        assert_eq!((&row.explained, row.answers()), (&wanted, 4));
        assert_eq!(account.rows()["app"].lines_of(Class::PortsExhausted), 6);
    }

    #[test]
    fn there_are_not_too_many_upstreams() {
        let mut account = account();
        for index in 0..2 * MAX_UPSTREAMS {
            account.note(line(Some(&index.to_string()), Class::Refused));
        }
        assert!(account.rows().len() <= MAX_UPSTREAMS + 1, "{}", account.rows().len());
        assert_eq!(
            account.rows().values().map(|row| row.lines_of(Class::Refused)).sum::<u64>(),
            8192
        );
    }
}
