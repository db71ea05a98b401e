//! The fold of one kind of proxy's lines: failed answers, and which lines explain them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::queue::Queue;
use crate::logs::{Answer, Class, Entry, Product, Trouble, Try};

/// Most upstreams that are kept apart; what is of others goes together.
pub(super) const MAX_UPSTREAMS: usize = 4096;
/// Where answers go whose upstream no line says.
const UNSAID: &str = "-";
/// Where those of upstreams go that found no room.
const OTHERS: &str = "others";
/// So many seconds before an answer there is no line for it: it is written at once after that of the last failed try.
/// Those of tries before are older by what the later ones took.
const PATIENCE: i64 = 300;

/// Statuses that are a proxy's own words for a failure toward the upstream: bad gateway, gateway timeout (RFC 9110,
/// 15.6.3 and 15.6.5). Of a try at an upstream that is a gateway itself they can also be its own.
const OF_A_GATEWAY: [u16; 2] = [502, 504];
/// Nginx's where it could not try: no connection of its own, or no file.
const NOT_TRIED: u16 = 500;

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
#[derive(Debug)]
pub struct Account {
    proxy: Product,
    rows: BTreeMap<String, Row>,
    queue: Queue,
    /// Answers that did not fail.
    pub succeeded: u64,
    /// There is an access log: only then failed answers are known.
    pub sees_answers: bool,
    /// There is an error log.
    pub sees_troubles: bool,
    /// Keys that the logs' formats lack to say why answers failed.
    pub lacks: BTreeSet<&'static str>,
}

impl Account {
    /// An empty one. Unless told otherwise, there are both kinds of logs.
    #[must_use]
    pub fn new(proxy: Product) -> Self {
        Self {
            proxy,
            rows: BTreeMap::new(),
            queue: Queue::default(),
            succeeded: 0,
            sees_answers: true,
            sees_troubles: true,
            lacks: BTreeSet::new(),
        }
    }

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
        if let Some(status) = trouble.status.filter(|_| explains) {
            let at = trouble.at.map(Timestamp::as_second);
            self.queue.push(status, &name, trouble.class, at);
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let (of, class) = match self.proxy {
            Product::Nginx if self.sees_troubles => self.by_error_log(answer),
            Product::Nginx => (None, None),
            Product::HaProxy => (None, self.no_ports(answer).or(answer.class)),
            Product::Envoy => (None, answer.class),
        };
        let status = answer.status.unwrap_or(0);
        let said = class.is_some() && (is_failure(status) || status == 0);
        let of_gateway =
            self.proxy == Product::Nginx && self.sees_troubles && is_of_gateway(answer);
        if !(said || of_gateway) {
            self.succeeded += 1;
            return;
        }
        self.lacks.extend(answer.lacks);
        let last_try = answer.tries.iter().rfind(|tried| !tried.upstream.is_empty());
        let name = of.or_else(|| last_try.map(|tried| tried.upstream.clone()));
        let name = self.name(name.unwrap_or_else(|| UNSAID.to_owned()));
        let row = self.row(&name);
        *row.statuses.entry(status).or_default() += 1;
        match class {
            Some(class) if class != Class::Other => *row.explained.entry(class).or_default() += 1,
            _ => row.unexplained += 1,
        }
    }

    /// Takes the lines of Nginx's error log that an answer has: of the last one it is where to, and why. Of another status
    /// than the gateway's own there is none: it is what the upstream sent, or what the configuration says.
    fn by_error_log(&mut self, answer: &Answer) -> (Option<String>, Option<Class>) {
        let status = answer.status.unwrap_or(0);
        let by = answer.at.map(Timestamp::as_second);
        if let Some(by) = by {
            self.queue.forget(by.saturating_sub(PATIENCE));
        }
        let (mut of, mut class) = (None, None);
        for tried in &answer.tries {
            (of, class) = (None, None);
            if !tried.upstream.is_empty()
                && let Some(status) = status_of(tried, status)
            {
                let name = self.name(tried.upstream.clone());
                class = self.queue.pop(status, &name, by);
                of = Some(name);
            }
        }
        let not_tried = answer.tries.last().is_none_or(|tried| tried.upstream.is_empty());
        let unsaid = !answer.tells_tries && OF_A_GATEWAY.contains(&status);
        if not_tried
            && (status == NOT_TRIED || unsaid)
            && let Some((upstream, why)) = self.queue.pop_any(status, by)
        {
            (of, class) = (Some(upstream), Some(why));
        }
        (of, class)
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
            && let Some(class) = self.queue.pop(503, backend, None)
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

    /// Whose it is.
    #[must_use]
    pub fn proxy(&self) -> Product {
        self.proxy
    }

    /// By upstream, as the logs name them.
    #[must_use]
    pub fn rows(&self) -> &BTreeMap<String, Row> {
        &self.rows
    }
}

/// Whether an answer of Nginx may have lines in its error log: those have to be folded before.
#[must_use]
pub fn has_lines(answer: &Answer) -> bool {
    let status = answer.status.unwrap_or(0);
    is_failure(status) || answer.tries.iter().any(|tried| status_of(tried, status).is_some())
}

/// The gateway's own status that a failed try has. Where a try's outcome is not said, the answer's is its own: one
/// whose client left (499) has no line.
fn status_of(tried: &Try, answered: u16) -> Option<u16> {
    Some(tried.status.unwrap_or(answered)).filter(|status| OF_A_GATEWAY.contains(status))
}

/// Whether the proxy failed for its upstream; also where it tells the client otherwise (`error_page 502 =503`).
fn is_of_gateway(answer: &Answer) -> bool {
    let status = answer.status.unwrap_or(0);
    let last = answer.tries.last();
    let tried = last.is_some_and(|tried| status_of(tried, status).is_some());
    OF_A_GATEWAY.contains(&status) || (is_failure(status) && tried)
}

/// A server's error (RFC 9110, 15.6).
fn is_failure(status: u16) -> bool {
    (500..600).contains(&status)
}

#[cfg(test)]
mod tests;
