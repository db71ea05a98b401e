//! What came before a survey: earlier usage, earlier counters, and failures meanwhile. A finding is
//! completed from it by rates and a forecast.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    Ceiling, Failed, Since, Subject,
    forecast::{self, Sample},
    tally::{Tally, Whose},
};
use crate::ends::{Ended, Ends, Peer};

/// Most subjects whose usage is remembered.
const MAX_SUBJECTS: usize = 65_536;

/// What a listener dropped itself.
pub(super) const OWN_DROPS: &str = "sk_drops";

/// Of a history without end: less than this part of a limit is worth no memory,
const WORTH: f64 = 0.01;
/// and samples are as old as this at most, in seconds.
const OLDEST_S: f64 = 600.0;
/// Samples of a subject that are all kept; of more, old ones make room.
const DENSE: usize = 64;
/// Then each is from the next one by this part of its age at least.
const APART: f64 = 1.0 / 24.0;

/// Surveys that are this many windows apart have a pause between them.
const PAUSE_WINDOWS: u64 = 4;

/// The kernel's counters, by what they are of.
type Counters = HashMap<(Subject, &'static str), u64>;

/// The history of a check, or of a view that goes on.
#[derive(Debug, Default)]
pub struct History {
    /// The first survey: where samples count from.
    origin_ns: Option<u64>,
    last_ns: u64,
    /// Failures are those of this time before the last survey; `None`: since the first one.
    window: Option<Duration>,
    /// Usage by what doesn't go by itself.
    samples: HashMap<Subject, Vec<Sample>>,
    /// The kernel's counters when the time began that failures are counted for, and since.
    counters: VecDeque<(u64, Counters)>,
    surveys: usize,
    /// Failures of that time; `None`: not counted.
    pub tally: Option<Tally>,
    /// Seconds that they were counted for, where it isn't that time.
    tally_s: Option<f64>,
    ends: HashMap<Peer, Ended>,
    /// Most upstreams of a namespace that a survey had no room for.
    pub left_out: usize,
    /// Upstreams and pools that are findings whether they have sockets or not.
    pub(super) expected: Vec<Whose>,
}

impl History {
    /// One without end: failures are those of the last `window`, old samples make room for new ones, and
    /// a subject that is in a survey no more is forgotten.
    #[must_use]
    pub fn sliding(window: Duration) -> Self {
        Self { window: Some(window), ..Self::default() }
    }

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

    /// Takes what was counted in the last so many seconds.
    pub fn counted_lately(&mut self, tally: Tally, seconds: f64) {
        self.tally = Some(tally);
        self.tally_s = Some(seconds);
    }

    /// From which part of their limit on findings are told in full. Of a history without end there are many.
    pub(super) fn in_full_from(&self) -> f64 {
        if self.window.is_some() { WORTH } else { 0.0 }
    }

    /// So many upstreams of a namespace found no room in a survey.
    pub(super) fn leave_out(&mut self, upstreams: usize) {
        let before = if self.window.is_some() { 0 } else { self.left_out };
        self.left_out = before.max(upstreams);
    }

    /// Remembers the findings of a survey, made `at_ns` after boot.
    pub fn note(&mut self, at_ns: u64, findings: &[Ceiling]) {
        let origin_ns = *self.origin_ns.get_or_insert(at_ns);
        let before_ns = std::mem::replace(&mut self.last_ns, at_ns);
        self.surveys += 1;
        let at_s = seconds(at_ns.saturating_sub(origin_ns));
        for ceiling in findings {
            if self.window.is_some() && ceiling.ratio() < WORTH {
                continue;
            }
            let known = self.samples.contains_key(&ceiling.subject);
            if known || self.samples.len() < MAX_SUBJECTS {
                let passing = ceiling.passing.count().min(ceiling.used);
                let sample = Sample { at_s, used: ceiling.used - passing };
                self.samples.entry(ceiling.subject.clone()).or_default().push(sample);
            }
        }
        if self.window.is_some() || self.surveys == 1 {
            let counted = |ceiling: &Ceiling| {
                let subject = ceiling.subject.clone();
                let of = move |failed: &Failed| ((subject.clone(), failed.error), failed.count);
                ceiling.failures.iter().map(of).collect::<Vec<_>>()
            };
            self.counters.push_back((at_ns, findings.iter().flat_map(counted).collect()));
        }
        if let Some(window) = self.window {
            let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
            // After a pause nobody knows which of its failures are of this moment.
            if at_ns.saturating_sub(before_ns) > window_ns.saturating_mul(PAUSE_WINDOWS) {
                self.counters.drain(..self.counters.len() - 1);
            }
            let begin_ns = at_ns.saturating_sub(window_ns);
            // The youngest that is as old as the window is where it begins.
            while self.counters.get(1).is_some_and(|&(next_ns, _)| next_ns <= begin_ns) {
                self.counters.pop_front();
            }
            self.samples.retain(|_, samples| {
                thin(samples, at_s);
                samples.last().is_some_and(|last| last.at_s >= at_s)
            });
        }
    }

    /// Seconds that failures are counted for; `None`: there was one survey only.
    fn interval_s(&self) -> Option<f64> {
        let (begun_ns, _) = self.counters.front()?;
        let interval_s = seconds(self.last_ns.saturating_sub(*begun_ns));
        (self.surveys > 1 && interval_s > 0.0).then_some(interval_s)
    }

    /// Adds rates, failures since the first survey, and a forecast.
    pub fn complete(&self, ceiling: &mut Ceiling) {
        self.count(ceiling);
        let one =
            [Sample { at_s: 0.0, used: ceiling.used - ceiling.passing.count().min(ceiling.used) }];
        let samples = self.samples.get(&ceiling.subject).map_or(&one[..], Vec::as_slice);
        let passing = &ceiling.passing;
        ceiling.forecast = if self.window.is_some() && ceiling.ratio() < WORTH {
            None
        } else if passing.ages_s.is_empty() {
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
                // Of a history without end the last survey is among them: what comes into sight later is no
                // failure of this moment.
                let before = self.counters.iter().find_map(|(_, counters)| counters.get(&key));
                let first = before.copied().unwrap_or(unknown);
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
        let counted_s = self.tally_s.or_else(|| self.interval_s());
        let failed = Failed {
            error: whose.error(),
            count: count.total,
            per_s: counted_s.map(|counted_s| per_s(count.total, counted_s)),
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

/// How many a second; `interval_s` is above 0.
#[expect(clippy::cast_precision_loss, reason = "a rate")]
pub(crate) fn per_s(count: u64, interval_s: f64) -> f64 {
    count as f64 / interval_s
}

#[expect(clippy::cast_precision_loss, reason = "a time")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Keeps the newest samples, and of older ones fewer the older they are.
fn thin(samples: &mut Vec<Sample>, now_s: f64) {
    if samples.len() <= DENSE {
        return;
    }
    let mut next_s = f64::INFINITY;
    let mut kept = Vec::with_capacity(samples.len());
    for (index, sample) in samples.iter().rev().enumerate() {
        let age_s = now_s - sample.at_s;
        let apart = next_s - sample.at_s >= age_s * APART;
        if age_s <= OLDEST_S && (index < DENSE / 4 || apart) {
            kept.push(*sample);
            next_s = sample.at_s;
        }
    }
    kept.reverse();
    *samples = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(count: u64) -> Vec<Ceiling> {
        let mut ceiling = Ceiling::new(Subject::Conntrack { netns: 1 }, 50, 100);
        let (error, since) = ("early_drop", Since::Boot);
        ceiling.failures.push(Failed { error, count, per_s: None, since, who: Vec::new() });
        vec![ceiling]
    }

    /// Failures that the last of these surveys, one a second, has of the window.
    fn lately(counts: &[u64]) -> Vec<(u64, Option<f64>)> {
        let mut history = History::sliding(Duration::from_secs(5));
        let mut last = Vec::new();
        for (second, &count) in (0..).zip(counts) {
            last = drops(count);
            history.note(second * 1_000_000_000, &last);
        }
        history.complete(&mut last[0]);
        let of_window = |failed: &&Failed| failed.since == Since::Interval;
        last[0].failures.iter().filter(of_window).map(|f| (f.count, f.per_s)).collect()
    }

    #[test]
    fn a_sliding_history_forgets_failures() {
        assert_eq!(lately(&[7, 17]), [(10, Some(10.0))]);
        assert_eq!(lately(&[7, 17, 17, 17, 17, 17]), [(10, Some(2.0))]);
        assert_eq!(lately(&[7, 17, 17, 17, 17, 17, 17]), []);
        assert_eq!(lately(&[0, 10, 20, 30, 40, 50, 60, 70]), [(50, Some(10.0))]);
    }

    #[test]
    fn failures_of_a_pause_are_not_of_this_moment() {
        let mut history = History::sliding(Duration::from_secs(5));
        let interval = |history: &mut History, at_s: u64, count| {
            let mut found = drops(count);
            history.note(at_s * 1_000_000_000, &found);
            history.complete(&mut found[0]);
            found[0].failures.iter().filter(|failed| failed.since == Since::Interval).count()
        };
        assert_eq!(interval(&mut history, 1, 5), 0);
        assert_eq!(interval(&mut history, 100, 500), 0);
        assert_eq!(interval(&mut history, 101, 501), 1);
    }

    #[test]
    fn what_comes_into_sight_did_not_fail_now() {
        let mut history = History::sliding(Duration::from_secs(5));
        history.note(1_000_000_000, &[]);
        let mut found = drops(700);
        history.note(2_000_000_000, &found);
        history.complete(&mut found[0]);
        assert!(!found[0].failures.iter().any(|failed| failed.since == Since::Interval));
    }

    #[test]
    fn a_sliding_history_stays_small_and_still_tells_a_trend() {
        let mut history = History::sliding(Duration::from_secs(5));
        let subject = Subject::Conntrack { netns: 1 };
        for second in 0..3600 {
            let used = 10_000 + second * 10;
            history.note(second * 1_000_000_000, &[Ceiling::new(subject.clone(), used, 50_000)]);
        }
        let samples = &history.samples[&subject];
        assert!(samples.len() <= 2 * DENSE, "{}", samples.len());
        assert!(samples[0].at_s >= 3599.0 - OLDEST_S, "{:?}", samples[0]);
        let mut last = Ceiling::new(subject.clone(), 45_990, 50_000);
        history.complete(&mut last);
        let seconds = last.forecast.map(|forecast| forecast.seconds);
        assert!(seconds.is_some_and(|s| (s - 401.0).abs() < 5.0), "{seconds:?}");
        history.note(3_600_000_000_000, &[]);
        assert!(history.samples.is_empty());
    }
}
