//! The ceilings: one file each. A ceiling has a usage and a limit, says where it read them, what failed
//! for it, who is there, when it is reached, and what to do. All is concluded from a
//! [`Survey`]; nothing here asks the kernel or a clock.

pub mod accept_queue;
pub mod bind_pool;
pub mod conntrack;
pub mod ephemeral_ports;
pub mod forecast;
pub mod history;
pub mod open_files;
pub mod proxy;
pub mod remedy;
pub mod subject;
pub mod tally;
pub mod thresholds;
pub mod time_wait;
pub mod what_if;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use serde::{Deserialize, Deserializer, Serialize};

pub use self::subject::{Kind, Subject};
use crate::{
    event::{Comm, State},
    kernel::survey::Survey,
};
use forecast::Forecast;
use history::History;
use proxy::advice::Advice;
use tally::{Tally, Whose};

/// Since when failures were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Since {
    /// Since the check began.
    Interval,
    /// Since the counter began: the host, the namespace or the listener.
    Boot,
}

/// Failures that a ceiling caused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The errno's name, or that of the kernel's counter.
    #[serde(deserialize_with = "known_error")]
    pub error: ErrorName,
    /// How many.
    pub count: u64,
    /// How many a second, where a time is known.
    pub per_s: Option<f64>,
    /// Since when.
    pub since: Since,
    /// Whose calls failed: process id, name, failures; most first.
    pub who: Vec<(u32, Comm, u64)>,
}

/// One of a few.
pub type ErrorName = &'static str;

/// All names that [`Failed::error`] may have.
const ERRORS: [&str; 16] = [
    "EADDRNOTAVAIL",
    "EADDRINUSE",
    "EMFILE",
    "ENFILE",
    "TCPTimeWaitOverflow",
    "drop",
    "early_drop",
    "insert_failed",
    "sk_drops",
    "ListenOverflows",
    "ListenDrops",
    "upstream_cx_overflow",
    "upstream_rq_pending_overflow",
    "upstream_rq_active_overflow",
    "downstream_cx_overflow",
    "downstream_global_cx_overflow",
];

/// One of [`ERRORS`]; a later version may have more.
fn known_error<'de, D: Deserializer<'de>>(from: D) -> Result<ErrorName, D::Error> {
    let name = <Cow<'_, str>>::deserialize(from)?;
    Ok(ERRORS.into_iter().find(|error| *error == name).unwrap_or("other"))
}

/// Who uses what a ceiling bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// A process: its id, its name, its sockets in here.
    Process(u32, Comm, u64),
    /// An address, and its entries in here.
    Address(IpAddr, u64),
}

/// What is told of upstreams besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Sockets on usable ports, by state; TIME-WAIT and FIN-WAIT-2 entries too.
    pub states: BTreeMap<State, u64>,
    /// TIME-WAIT entries that `connect()` may take over: not in use.
    pub reusable: u64,
    /// TIME-WAIT entries made per second, lately.
    pub entered_per_s: Option<f64>,
    /// New connections per second for which there are always ports, where this side closes first.
    pub sustainable_per_s: Option<f64>,
    /// Connections that this side closed first, and those that the peer did, since the check began.
    pub closed: Option<(u64, u64)>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Of what.
    pub subject: Subject,
    /// How much is in use.
    pub used: u64,
    /// How much there can be.
    pub limit: u64,
    /// What it caused.
    pub failures: Vec<Failed>,
    /// Who uses it, most first.
    pub who: Vec<User>,
    /// When it is reached.
    pub forecast: Option<Forecast>,
    /// Of upstreams.
    pub traffic: Option<Traffic>,
    /// TIME-WAIT entries made per second, of a namespace.
    pub entered_per_s: Option<f64>,
    /// Entries that go by themselves: part of `used`.
    pub passing: Passing,
    /// Usage that nobody depends on, as far as can be seen: its ratio is no finding.
    pub idle: bool,
    /// The usage or the limit is inferred: a note says which, and why.
    pub inferred: bool,
    /// Where it was read.
    pub evidence: Cow<'static, str>,
    /// What to do: one of these.
    pub remedy: Vec<String>,
    /// What one should know besides.
    pub notes: Vec<String>,
}

/// Entries that go by themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Passing {
    /// Their ages in seconds.
    pub ages_s: Vec<f64>,
    /// How old they get.
    pub hold_s: f64,
}

impl Passing {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ages_s.iter().filter(|&&age_s| age_s <= self.hold_s).count() as u64
    }
}

impl Ceiling {
    /// One with nothing but a usage and a limit.
    #[must_use]
    pub fn new(subject: Subject, used: u64, limit: u64) -> Self {
        Self {
            subject,
            used,
            limit,
            failures: Vec::new(),
            who: Vec::new(),
            forecast: None,
            traffic: None,
            entered_per_s: None,
            passing: Passing::default(),
            idle: false,
            inferred: false,
            evidence: Cow::Borrowed(""),
            remedy: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Used part of the limit, 0 to 1 and above; 1 where there is no room at all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn ratio(&self) -> f64 {
        if self.room() == 0 { 1.0 } else { self.used as f64 / self.limit.max(1) as f64 }
    }

    /// How many more there is room for.
    #[must_use]
    pub fn headroom(&self) -> u64 {
        self.room().saturating_sub(self.used)
    }

    /// How many there is room for: a queue holds one more than its backlog (`sk_acceptq_is_full` in
    /// `include/net/sock.h`).
    fn room(&self) -> u64 {
        let queue = matches!(self.subject.kind(), Kind::AcceptQueue);
        self.limit.saturating_add(u64::from(queue))
    }

    /// Failures since the check began that are sure to be of this ceiling. A listener also drops for other
    /// causes than a full queue, and conntrack when an entry has lost a race with its like.
    #[must_use]
    pub fn failed_now(&self) -> u64 {
        if self.subject.kind() == Kind::AcceptQueue {
            // The namespace's counter speaks of all of its listeners, the listener's own of other causes too.
            let of = |error| self.lately(error).map_or(0, |failed| failed.count);
            return of("ListenOverflows").min(of(history::OWN_DROPS));
        }
        let nearly_full = self.ratio() >= 0.9;
        let sure = |failed: &&Failed| match (self.subject.kind(), failed.error) {
            (Kind::Conntrack, "drop") => nearly_full,
            (Kind::Conntrack, error) => error == "early_drop",
            _ => true,
        };
        let now = self.failures.iter().filter(|failed| failed.since == Since::Interval);
        now.filter(sure).map(|failed| failed.count).sum()
    }

    /// What failed with this error since the check began.
    fn lately(&self, error: &str) -> Option<&Failed> {
        self.failures.iter().find(|it| it.since == Since::Interval && it.error == error)
    }

    /// Failures a second by the kernel's own counters, lately; 0: none, or no time is known. Several counters
    /// of a listener count the same drop.
    #[must_use]
    pub fn drops_per_s(&self) -> f64 {
        if self.subject.kind() == Kind::AcceptQueue {
            return self.lately(history::OWN_DROPS).and_then(|failed| failed.per_s).unwrap_or(0.0);
        }
        let by_event = Whose::of_subject(&self.subject).map(Whose::error);
        let lately = self.failures.iter().filter(|failed| failed.since == Since::Interval);
        let counted = lately.filter(|failed| Some(failed.error) != by_event);
        counted.filter_map(|failed| failed.per_s).sum()
    }

    /// Whether there were such.
    #[must_use]
    pub fn fails_now(&self) -> bool {
        self.failed_now() > 0
    }
}

/// All findings of a survey, the fullest of each kind first. The history of the same check is continued
/// by it.
#[must_use]
pub fn assess(survey: &Survey, history: &mut History) -> Vec<Ceiling> {
    let (mut found, mut most_left_out) = (Vec::new(), 0);
    for namespace in &survey.namespaces {
        let failing = failing(namespace.netns, history);
        let telling = Telling { failing: &failing, in_full_from: history.in_full_from() };
        let advice = Advice::of(survey, namespace.netns);
        let owners = &survey.owners;
        let (ports, left_out) = ephemeral_ports::assess(namespace, owners, &advice, &telling);
        found.extend(ports);
        most_left_out = most_left_out.max(left_out);
        found.push(time_wait::assess(namespace));
        found.extend(conntrack::assess(namespace));
        found.extend(accept_queue::assess(namespace, &survey.owners));
    }
    found.extend(open_files::assess(survey, history));
    found.extend(proxy::assess(survey));
    history.leave_out(most_left_out);
    history.note(survey.at_ns, &found);
    for ceiling in &mut found {
        history.complete(ceiling);
    }
    blame(&mut found, history);
    found.sort_by(|a, b| {
        let by_kind = a.subject.kind().cmp(&b.subject.kind());
        by_kind.then(b.ratio().total_cmp(&a.ratio())).then_with(|| a.subject.cmp(&b.subject))
    });
    found
}

/// Which findings are told, and how.
struct Telling<'a> {
    /// Whose calls failed: they are findings whether there are sockets or not.
    failing: &'a [Whose],
    /// From this part of its limit on one has evidence and remedies.
    in_full_from: f64,
}

impl Telling<'_> {
    fn in_full(&self, ceiling: &Ceiling) -> bool {
        let fails =
            || Whose::of_subject(&ceiling.subject).is_some_and(|it| self.failing.contains(&it));
        ceiling.ratio() >= self.in_full_from || fails()
    }
}

/// Whose calls failed in a namespace, and who is expected there.
fn failing(netns: u32, history: &History) -> Vec<Whose> {
    let here = |whose: &Whose| match *whose {
        Whose::Upstream { netns: of, .. } | Whose::BindPool { netns: of, .. } => of == netns,
        Whose::Process { .. } | Whose::Host => false,
    };
    let counts = history.tally.iter().flat_map(Tally::counts);
    let failed = counts.map(|(whose, _)| whose);
    failed.chain(&history.expected).copied().filter(here).collect()
}

/// Gives each failure to the fullest of the findings that it may belong to.
fn blame(found: &mut [Ceiling], history: &History) {
    let mut fullest: HashMap<Whose, usize> = HashMap::new();
    for (index, ceiling) in found.iter().enumerate() {
        if let Some(whose) = Whose::of_subject(&ceiling.subject) {
            let known = fullest.entry(whose).or_insert(index);
            if found[*known].ratio() < ceiling.ratio() {
                *known = index;
            }
        }
    }
    for index in fullest.into_values() {
        history.blame(&mut found[index]);
    }
}
