//! Moments of what is wrong, put together to spans.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
};

use super::Incident;
use crate::{
    ceilings::tally::Whose,
    live::{
        incident::Found,
        shot::{self, About},
    },
    reason::Reason,
};

/// What is wrong again within this time was wrong all the while.
const GAP_NS: u64 = 10_000_000_000;
/// Most spans that are kept: the worst.
const MAX_SPANS: usize = 512;

/// What moments of one span have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// What failed for a ceiling, whether it had been found yet or not.
    Caused(Whose),
    /// Anything else: where it is about nothing in particular, by process.
    Other(About, Option<Reason>, Option<u32>),
}

impl Key {
    fn of(found: &Found) -> Self {
        if let Some(whose) = found.whose {
            return Self::Caused(whose);
        }
        let about = found.incident.about.clone();
        let pid = found.pid.filter(|_| about == About::Other);
        Self::Other(about, found.reason, pid)
    }
}

/// A span, and how bad its worst moment was.
struct Span {
    incident: Incident,
    by_ceiling: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Spans {
    open: HashMap<Key, Span>,
    ended: Vec<Span>,
    dropped: u64,
}

impl Spans {
    /// Takes the moment from `from_ns` to `to_ns`.
    pub(super) fn note(&mut self, from_ns: u64, to_ns: u64, moment: Vec<Found>) {
        let over = |span: &Span| span.incident.last_ns.saturating_add(GAP_NS) < from_ns;
        self.ended.extend(self.open.extract_if(|_, span| over(span)).map(|(_, span)| span));
        for found in moment {
            let key = Key::of(&found);
            // Failures of the seconds before, but none now, are told already.
            if found.when_ns.is_some() && found.incident.per_s <= 0.0 {
                continue;
            }
            let (from_ns, to_ns) = found.when_ns.unwrap_or((from_ns, to_ns));
            let by_ceiling = matches!(found.incident.about, About::Ceiling(_));
            match self.open.entry(key) {
                Entry::Occupied(mut open) => {
                    open.get_mut().extend(to_ns, by_ceiling, found.incident);
                }
                Entry::Vacant(room) => {
                    let incident = begin(from_ns, to_ns, found.incident);
                    room.insert(Span { incident, by_ceiling });
                }
            }
        }
        if self.ended.len() > 2 * MAX_SPANS {
            self.bound();
        }
    }

    fn bound(&mut self) {
        self.ended.sort_by_cached_key(Span::rank);
        self.dropped += self.ended.len().saturating_sub(MAX_SPANS) as u64;
        self.ended.truncate(MAX_SPANS);
    }

    /// The worst of them, worst first, and how many more there were.
    pub(super) fn finish(mut self) -> (Vec<Incident>, u64) {
        self.ended.extend(self.open.drain().map(|(_, span)| span));
        self.bound();
        (self.ended.into_iter().map(|span| span.incident).collect(), self.dropped)
    }
}

fn begin(first_ns: u64, last_ns: u64, worst: shot::Incident) -> Incident {
    let shot::Incident { status, sentence, remedy, per_s, doubt, .. } = worst;
    // The sum of no rates is -0.
    let peak_per_s = if per_s > 0.0 { per_s } else { 0.0 };
    Incident { status, first_ns, last_ns, peak_per_s, sentence, remedy, doubt }
}

impl Span {
    fn extend(&mut self, to_ns: u64, by_ceiling: bool, now: shot::Incident) {
        let before = &self.incident;
        let (first_ns, last_ns) = (before.first_ns, before.last_ns.max(to_ns));
        let doubt = before.doubt.or(now.doubt);
        let peak_per_s = before.peak_per_s.max(now.per_s);
        let worse = (now.status, by_ceiling, now.per_s)
            >= (before.status, self.by_ceiling, before.peak_per_s);
        if worse {
            self.by_ceiling = by_ceiling;
            self.incident = begin(first_ns, last_ns, now);
        }
        let incident = &mut self.incident;
        (incident.last_ns, incident.doubt, incident.peak_per_s) = (last_ns, doubt, peak_per_s);
    }

    /// Worst first: by status, then what failed, then what a ceiling caused, then how often.
    fn rank(&self) -> impl Ord + use<> {
        let Incident { status, peak_per_s, first_ns, .. } = &self.incident;
        let rate = peak_per_s.to_bits();
        let sentence = self.incident.sentence.clone();
        (Reverse((*status, rate > 0, self.by_ceiling, rate)), *first_ns, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceilings::thresholds::Status;

    const SECOND: u64 = 1_000_000_000;

    fn found(reason: Option<Reason>, per_s: f64, sentence: &str, second: u64) -> Found {
        let incident = shot::Incident {
            status: Status::Warning,
            about: About::Other,
            sentence: sentence.to_owned(),
            remedy: Vec::new(),
            per_s,
            doubt: None,
        };
        let when_ns = Some((second * SECOND, second * SECOND + SECOND / 2));
        Found { incident, reason, pid: Some(1), whose: None, when_ns }
    }

    #[test]
    fn moments_within_ten_seconds_are_one_span_with_its_worst_sentence() {
        let mut spans = Spans::default();
        let mut note = |second: u64, reason, per_s, sentence| {
            let moment = vec![found(Some(reason), per_s, sentence, second)];
            spans.note(second * SECOND, (second + 1) * SECOND, moment);
        };
        note(1, Reason::Refused, 5.0, "five");
        note(2, Reason::Refused, 9.0, "nine");
        note(3, Reason::Refused, 0.0, "none now");
        note(12, Reason::Refused, 2.0, "two");
        note(24, Reason::Refused, 3.0, "again");
        note(25, Reason::Reset, 1.0, "another reason");
        let (incidents, more) = spans.finish();
        let told: Vec<_> = incidents
            .iter()
            .map(|it| (it.sentence.as_str(), it.first_ns / SECOND, it.last_ns / SECOND))
            .collect();
        assert_eq!(told, [("nine", 1, 12), ("again", 24, 24), ("another reason", 25, 25)]);
        assert_eq!(more, 0);
    }

    #[test]
    fn spans_are_bounded_and_the_worst_stay() {
        let mut spans = Spans::default();
        for index in 0..3000_u32 {
            let second = u64::from(index) * 20;
            let moment = found(Some(Reason::Refused), f64::from(index + 1), "one", second);
            let moment = Found { pid: Some(index), ..moment };
            spans.note(second * SECOND, (second + 1) * SECOND, vec![moment]);
        }
        let (incidents, more) = spans.finish();
        assert_eq!((incidents.len(), more), (MAX_SPANS, 3000 - MAX_SPANS as u64));
        assert!((incidents[0].peak_per_s - 3000.0).abs() < 1e-9);
    }
}
