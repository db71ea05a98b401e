//! Failures of the last seconds, by row and process: what is failing now. Part of the fold of events.

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry};

use crate::{ceilings::tally::Tally, event::Event, failures::FailureKey, reason::Failure};

/// Spans that are kept; a failure is forgotten after as many.
const SPANS: usize = 5;
/// The newest spans, by which rates are told.
const LATEST: usize = 2;
/// Most rows of a span; failures beyond them are in no incident.
const MAX_ROWS: usize = 4096;
/// Most processes that a row tells apart.
const MAX_PIDS: usize = 64;

/// The failures of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failing {
    /// How many in all spans.
    pub count: u64,
    /// A second, in the newest ones.
    pub per_s: f64,
    /// By process; what is missing to `count` has no owner that is known, or no room.
    pub who: BTreeMap<u32, u64>,
}

/// What failed while something lasted.
#[derive(Debug, Default)]
struct Span {
    seconds: f64,
    rows: HashMap<FailureKey, (u64, BTreeMap<u32, u64>)>,
}

/// The last spans.
#[derive(Debug, Default)]
pub struct Recent {
    /// The newest last: it is the one that goes on.
    spans: VecDeque<Span>,
}

impl Recent {
    /// Folds a failure in.
    pub fn note(&mut self, event: &Event, failure: Failure) {
        let Some(key) = FailureKey::of(event, failure) else { return };
        if self.spans.is_empty() {
            self.spans.push_back(Span::default());
        }
        let Some(span) = self.spans.back_mut() else { return };
        let full = span.rows.len() >= MAX_ROWS;
        let (count, who) = match span.rows.entry(key) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(_) if full => return,
            Entry::Vacant(room) => room.insert(Default::default()),
        };
        *count += 1;
        if let Some(owner) = event.owner()
            && (who.len() < MAX_PIDS || who.contains_key(&owner.pid))
        {
            *who.entry(owner.pid).or_default() += 1;
        }
    }

    /// Ends a span that lasted for so many seconds, and begins the next.
    pub fn advance(&mut self, seconds: f64) {
        if let Some(span) = self.spans.back_mut() {
            span.seconds = seconds;
        }
        self.spans.push_back(Span::default());
        while self.spans.len() > SPANS + 1 {
            self.spans.pop_front();
        }
    }

    /// What failed in the spans that have ended, in no order.
    #[must_use]
    pub fn failing(&self) -> HashMap<FailureKey, Failing> {
        let mut failing: HashMap<FailureKey, Failing> = HashMap::new();
        let ended = self.ended();
        let newest = ended.saturating_sub(LATEST);
        let latest_s: f64 = self.spans.range(newest..ended).map(|span| span.seconds).sum();
        for (index, span) in self.spans.range(..ended).enumerate() {
            for (key, (count, who)) in &span.rows {
                let row = failing.entry(*key).or_default();
                row.count += count;
                if index >= newest && latest_s > 0.0 {
                    row.per_s += per_s(*count, latest_s);
                }
                for (&pid, count) in who {
                    *row.who.entry(pid).or_default() += count;
                }
            }
        }
        failing
    }

    /// The same as a ceiling's failures, and the seconds that they are of.
    #[must_use]
    pub fn tally(&self) -> (Tally, f64) {
        let mut tally = Tally::default();
        let ended = self.spans.range(..self.ended());
        let seconds = ended.clone().map(|span| span.seconds).sum();
        for (key, (count, who)) in ended.flat_map(|span| &span.rows) {
            for (&pid, &count) in who {
                tally.add(key, Some(pid), count);
            }
            let nobodys = count - who.values().sum::<u64>();
            if nobodys > 0 {
                tally.add(key, None, nobodys);
            }
        }
        (tally, seconds)
    }

    fn ended(&self) -> usize {
        self.spans.len().saturating_sub(1)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_s(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ceilings::tally::Whose, live::testing, reason::Reason};

    fn exhausted(recent: &mut Recent, pid: u32, times: u32) {
        let (event, failure) = testing::exhausted(pid, 9001);
        for _ in 0..times {
            recent.note(&event, failure);
        }
    }

    #[test]
    fn failures_are_told_by_process_and_forgotten() {
        let mut recent = Recent::default();
        exhausted(&mut recent, 812, 30);
        exhausted(&mut recent, 813, 10);
        recent.advance(2.0);
        let failing = recent.failing();
        let (key, row) = failing.iter().next().unwrap();
        assert_eq!(key.reason, Some(Reason::PortRangeExhausted));
        assert_eq!((row.count, row.per_s), (40, 20.0));
        assert_eq!(row.who, BTreeMap::from([(812, 30), (813, 10)]));
        let (tally, seconds) = recent.tally();
        let whose = Whose::of(key, None).unwrap();
        assert_eq!((tally.of(whose).unwrap().total, seconds), (40, 2.0));

        exhausted(&mut recent, 812, 5);
        recent.advance(1.0);
        recent.advance(1.0);
        let failing = recent.failing();
        let row = failing.values().next().unwrap();
        assert_eq!((row.count, row.per_s), (45, 2.5));
        for _ in 0..SPANS {
            recent.advance(1.0);
        }
        assert!(recent.failing().is_empty());
    }

    #[test]
    fn what_goes_on_is_not_told_yet() {
        let mut recent = Recent::default();
        exhausted(&mut recent, 812, 3);
        assert!(recent.failing().is_empty());
    }
}
