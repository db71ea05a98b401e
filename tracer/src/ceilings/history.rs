//! What came before a survey: earlier usage, earlier counters, and failures meanwhile. A finding is
//! completed from it by rates and a forecast.

use std::collections::HashMap;

use super::{
    Ceiling, Failed, Since, Subject,
    forecast::{self, Sample},
    tally::{Tally, Whose},
};
use crate::ends::{Ended, Ends, Peer};

/// Most subjects whose usage is remembered.
const MAX_SUBJECTS: usize = 65_536;

/// What a listener dropped itself.
const OWN_DROPS: &str = "sk_drops";

/// The history of a check.
#[derive(Debug, Default)]
pub struct History {
    first_ns: Option<u64>,
    last_ns: u64,
    surveys: usize,
    /// Usage by what doesn't go by itself.
    samples: HashMap<Subject, Vec<Sample>>,
    /// The kernel's counters at first.
    counters: HashMap<(Subject, &'static str), u64>,
    /// Failures since the first survey; `None`: not counted.
    pub tally: Option<Tally>,
    ends: HashMap<Peer, Ended>,
    /// Most upstreams of a namespace that a survey had no room for.
    pub left_out: usize,
    /// Upstreams and pools that are findings whether they have sockets or not.
    pub(super) expected: Vec<Whose>,
}

impl History {
    /// None, of a survey of the same host under other settings, by which it may have nothing in use of what
    /// these findings are of.
    #[must_use]
    pub fn expecting(findings: &[Ceiling]) -> Self {
        let whole = |ceiling: &&Ceiling| {
            !matches!(
                ceiling.subject,
                Subject::Upstream { interface: 1.., .. } | Subject::Upstream { range: Some(_), .. }
            )
        };
        let subjects = findings.iter().filter(whole).map(|ceiling| &ceiling.subject);
        Self { expected: subjects.filter_map(Whose::of_subject).collect(), ..Self::default() }
    }

    /// Takes what was counted since the first survey.
    pub fn counted(&mut self, tally: Tally, ends: &Ends) {
        self.tally = Some(tally);
        self.ends = ends.peers().into_iter().map(|(peer, ended)| (*peer, *ended)).collect();
    }

    /// Remembers the findings of a survey, made `at_ns` after boot.
    pub fn note(&mut self, at_ns: u64, findings: &[Ceiling]) {
        let first_ns = *self.first_ns.get_or_insert(at_ns);
        self.last_ns = at_ns;
        self.surveys += 1;
        for ceiling in findings {
            let known = self.samples.contains_key(&ceiling.subject);
            if known || self.samples.len() < MAX_SUBJECTS {
                let passing = ceiling.passing.count().min(ceiling.used);
                let sample =
                    Sample { at_s: seconds(at_ns - first_ns), used: ceiling.used - passing };
                self.samples.entry(ceiling.subject.clone()).or_default().push(sample);
            }
            if self.surveys == 1 {
                for failed in &ceiling.failures {
                    let key = (ceiling.subject.clone(), failed.error);
                    self.counters.insert(key, failed.count);
                }
            }
        }
    }

    /// Seconds from the first survey to the last one; `None`: there was one only.
    fn interval_s(&self) -> Option<f64> {
        let interval_s = seconds(self.last_ns.saturating_sub(self.first_ns?));
        (self.surveys > 1 && interval_s > 0.0).then_some(interval_s)
    }

    /// Adds rates, failures since the first survey, and a forecast.
    pub fn complete(&self, ceiling: &mut Ceiling) {
        self.count(ceiling);
        let one =
            [Sample { at_s: 0.0, used: ceiling.used - ceiling.passing.count().min(ceiling.used) }];
        let samples = self.samples.get(&ceiling.subject).map_or(&one[..], Vec::as_slice);
        let passing = &ceiling.passing;
        ceiling.forecast = if passing.ages_s.is_empty() {
            forecast::of_samples(samples, ceiling.limit)
        } else {
            forecast::of_entries(&passing.ages_s, passing.hold_s, samples, ceiling.limit)
        };
        // Entries that may be taken over still tell how many were made.
        let ages_s = &passing.ages_s;
        let entered = match self.interval_s() {
            Some(interval_s) => {
                let new = ages_s.iter().filter(|&&age_s| age_s <= interval_s).count();
                Some(per_s(new as u64, interval_s))
            }
            None => forecast::entry_rate(ages_s, super::ephemeral_ports::TIME_WAIT_S),
        };
        match &mut ceiling.traffic {
            Some(traffic) => traffic.entered_per_s = entered,
            None => ceiling.entered_per_s = entered,
        }
        if let (Some(traffic), Some(peer)) = (&mut ceiling.traffic, peer(&ceiling.subject)) {
            let ended = self.ends.get(&peer);
            traffic.closed = ended.map(|ended| (ended.closed_here, ended.closed_by_peer));
        }
    }

    fn count(&self, ceiling: &mut Ceiling) {
        if let Some(interval_s) = self.interval_s() {
            let mut new = Vec::new();
            let listener = matches!(ceiling.subject, Subject::Listener { .. });
            for failed in ceiling.failures.iter().filter(|failed| failed.since == Since::Boot) {
                let key = (ceiling.subject.clone(), failed.error);
                // What is new began at zero; its namespace's counters did not.
                let unknown = if listener && failed.error != OWN_DROPS { failed.count } else { 0 };
                let first = self.counters.get(&key).copied().unwrap_or(unknown);
                let count = failed.count.saturating_sub(first);
                let per_s = Some(per_s(count, interval_s));
                new.push(Failed { count, per_s, since: Since::Interval, ..failed.clone() });
            }
            ceiling.failures.splice(0..0, new);
        }
        // The counters of its namespace are for all listeners: they speak of one that dropped something.
        let dropped = |since| {
            let own = |failed: &Failed| (failed.error, failed.since) == (OWN_DROPS, since);
            ceiling.failures.iter().any(|failed| own(failed) && failed.count > 0)
        };
        let listener = matches!(ceiling.subject, Subject::Listener { .. });
        let (lately, ever) = (dropped(Since::Interval), dropped(Since::Boot));
        ceiling.failures.retain(|failed| {
            let spoken_of = match failed.since {
                Since::Interval => lately,
                Since::Boot => ever,
            };
            failed.count > 0 && (!listener || spoken_of)
        });
    }

    /// Adds failures that were counted as they happened.
    pub fn blame(&self, ceiling: &mut Ceiling) {
        let whose = Whose::of_subject(&ceiling.subject);
        let Some((whose, count)) =
            whose.and_then(|whose| Some((whose, self.tally.as_ref()?.of(whose)?)))
        else {
            return;
        };
        let mut who: Vec<_> =
            count.who.iter().map(|(&(pid, comm), &count)| (pid, comm, count)).collect();
        who.sort_by_key(|&(pid, _, count)| (std::cmp::Reverse(count), pid));
        let failed = Failed {
            error: whose.error(),
            count: count.total,
            per_s: self.interval_s().map(|interval_s| per_s(count.total, interval_s)),
            since: Since::Interval,
            who,
        };
        ceiling.failures.insert(0, failed);
    }
}

/// The peer of an upstream, as the fold of events names it.
fn peer(subject: &Subject) -> Option<Peer> {
    match *subject {
        Subject::Upstream { netns, dst, dport, .. } => {
            Some(Peer::Upstream { netns: Some(netns), dst, dport })
        }
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_s(count: u64, interval_s: f64) -> f64 {
    count as f64 / interval_s
}

#[expect(clippy::cast_precision_loss, reason = "a time")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
