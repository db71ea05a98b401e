//! Failures of the last seconds, by row and process: what is failing now. Part of the fold of events.

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry};

use crate::{
    ceilings::{
        history::per_s,
        tally::{Tally, Whose},
    },
    event::Event,
    failures::FailureKey,
    reason::Failure,
};

/// For how long a failure is one of these, seconds.
pub const WINDOW_S: f64 = 5.0;
/// The newest seconds, by which rates are told.
const LATEST_S: f64 = 2.0;
/// Most rows of a span that a ceiling caused, and most of the others.
const MAX_ROWS: usize = 4096;
/// Most rows of a span that begin with a failure of the same process: none takes the room of all.
const MAX_ROWS_OF_ONE: u32 = 1024;
/// Most processes that a row tells apart.
const MAX_PIDS: usize = 64;
/// What is older than this when a span begins came late: after a pause.
const LATE_NS: u64 = 2_000_000_000;

/// The failures of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failing {
    /// How many in the window.
    pub count: u64,
    /// A second, in its newest part.
    pub per_s: f64,
    /// By process; what is missing to `count` has no owner that is known, or no room.
    pub who: BTreeMap<u32, u64>,
    /// When the first and the last happened: nanoseconds since boot.
    pub when_ns: Option<(u64, u64)>,
}

impl Failing {
    /// Others happened then, too.
    pub fn when(&mut self, others_ns: Option<(u64, u64)>) {
        let Some((first, last)) = others_ns else { return };
        let (from, to) = self.when_ns.unwrap_or((first, last));
        self.when_ns = Some((from.min(first), to.max(last)));
    }
}

/// What failed while something lasted.
#[derive(Debug, Default)]
struct Span {
    seconds: f64,
    rows: HashMap<FailureKey, Failing>,
    /// Rows that a ceiling caused.
    of_ceilings: usize,
    /// Rows by the process of their first failure.
    of_process: HashMap<Option<u32>, u32>,
    /// Failures that found no room for a row of their own.
    unlisted: u64,
}

/// The last spans.
#[derive(Debug, Default)]
pub struct Recent {
    /// Those that have ended, the newest last.
    ended: VecDeque<Span>,
    current: Span,
    begun_ns: u64,
}

impl Recent {
    /// Folds a failure in, unless it is one that servers have all the time.
    pub fn note(&mut self, event: &Event, failure: Failure) {
        let Some(key) = FailureKey::of(event, failure).filter(|key| !is_noise(key)) else { return };
        if event.ts_ns().saturating_add(LATE_NS) < self.begun_ns {
            return;
        }
        let span = &mut self.current;
        let pid = event.owner().map(|owner| owner.pid);
        let row = match span.rows.entry(key) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(room) => {
                let of_ceiling = Whose::of(&key, pid).is_some();
                let others = span.of_process.values().sum::<u32>() as usize - span.of_ceilings;
                let rows = if of_ceiling { span.of_ceilings } else { others };
                let of_process = span.of_process.entry(pid).or_default();
                if rows >= MAX_ROWS || *of_process >= MAX_ROWS_OF_ONE {
                    span.unlisted += 1;
                    return;
                }
                *of_process += 1;
                span.of_ceilings += usize::from(of_ceiling);
                room.insert(Failing::default())
            }
        };
        row.count += 1;
        row.when(Some((event.ts_ns(), event.ts_ns())));
        if let Some(pid) = pid
            && (row.who.len() < MAX_PIDS || row.who.contains_key(&pid))
        {
            *row.who.entry(pid).or_default() += 1;
        }
    }

    /// Ends a span that lasted for so many seconds, and begins the next, `at_ns` after boot.
    pub fn advance(&mut self, at_ns: u64, seconds: f64) {
        let mut span = std::mem::take(&mut self.current);
        span.seconds = seconds;
        self.ended.push_back(span);
        self.begun_ns = at_ns;
        while self.ended.iter().skip(1).map(|span| span.seconds).sum::<f64>() >= WINDOW_S - SLACK_S
        {
            self.ended.pop_front();
        }
    }

    /// What failed in the spans that have ended, in no order.
    #[must_use]
    pub fn failing(&self) -> HashMap<FailureKey, Failing> {
        let mut failing: HashMap<FailureKey, Failing> = HashMap::new();
        let (newest, latest_s) = self.newest();
        for (index, span) in self.ended.iter().enumerate() {
            for (key, of_span) in &span.rows {
                let row = failing.entry(*key).or_default();
                row.count += of_span.count;
                row.when(of_span.when_ns);
                if index >= newest && latest_s > 0.0 {
                    row.per_s += per_s(of_span.count, latest_s);
                }
                for (&pid, count) in &of_span.who {
                    *row.who.entry(pid).or_default() += count;
                }
            }
        }
        failing
    }

    /// Failures that are in no row.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.ended.iter().map(|span| span.unlisted).sum()
    }

    /// Seconds that the spans cover.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.ended.iter().map(|span| span.seconds).sum()
    }

    /// The same as a ceiling's failures, and the seconds that they are of.
    #[must_use]
    pub fn tally(&self) -> (Tally, f64) {
        let mut tally = Tally::default();
        for (key, row) in self.ended.iter().flat_map(|span| &span.rows) {
            for (&pid, &count) in &row.who {
                tally.add(key, Some(pid), count);
            }
            let nobodys = row.count - row.who.values().sum::<u64>();
            if nobodys > 0 {
                tally.add(key, None, nobodys);
            }
        }
        (tally, self.seconds())
    }

    /// From which span on they are the newest ones, and the seconds of these.
    fn newest(&self) -> (usize, f64) {
        let mut seconds = 0.0;
        let mut newest = self.ended.len();
        while newest > 0 && seconds < LATEST_S - SLACK_S {
            newest -= 1;
            seconds += self.ended[newest].seconds;
        }
        (newest, seconds)
    }
}

/// A timer's second is a little more or less than one.
const SLACK_S: f64 = 0.3;

/// What goes on at every server all the time: clients that go away.
fn is_noise(key: &FailureKey) -> bool {
    let toward_upstream = key.dst.is_some() && key.dport.is_some();
    key.call.is_none() && !toward_upstream
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::testing,
        reason::{Failure, Reason},
    };

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
        recent.advance(0, 2.0);
        let failing = recent.failing();
        let (key, row) = failing.iter().next().unwrap();
        assert_eq!(key.reason, Some(Reason::PortRangeExhausted));
        assert_eq!((row.count, row.per_s), (40, 20.0));
        assert_eq!(row.who, BTreeMap::from([(812, 30), (813, 10)]));
        let (tally, seconds) = recent.tally();
        let whose = Whose::of(key, None).unwrap();
        assert_eq!((tally.of(whose).unwrap().total, seconds), (40, 2.0));

        exhausted(&mut recent, 812, 5);
        recent.advance(0, 1.0);
        recent.advance(0, 1.0);
        let failing = recent.failing();
        let row = failing.values().next().unwrap();
        assert_eq!((row.count, row.per_s), (45, 2.5));
        for _ in 0..5 {
            recent.advance(0, 1.0);
        }
        assert!(recent.failing().is_empty());
    }

    #[test]
    fn windows_are_of_seconds_whatever_a_span_lasts() {
        for (span_s, spans) in [(0.2, 25), (1.0, 5), (10.0, 1), (60.0, 1)] {
            let mut recent = Recent::default();
            exhausted(&mut recent, 812, 10);
            recent.advance(0, span_s);
            let mut lasted: i32 = 0;
            while !recent.failing().is_empty() {
                recent.advance(0, span_s);
                lasted += 1;
            }
            assert!((lasted - spans).abs() <= 2, "{span_s}: {lasted}");
        }
    }

    #[test]
    fn what_goes_on_is_not_told_yet() {
        let mut recent = Recent::default();
        exhausted(&mut recent, 812, 3);
        assert!(recent.failing().is_empty());
    }

    #[test]
    fn what_comes_late_is_of_another_moment() {
        let mut recent = Recent::default();
        recent.advance(60_000_000_000, 1.0);
        // It is one of the first nanoseconds since boot.
        exhausted(&mut recent, 812, 3);
        recent.advance(61_000_000_000, 1.0);
        assert!(recent.failing().is_empty());
    }

    #[test]
    fn no_process_takes_the_room_of_others() {
        let mut recent = Recent::default();
        let refused = Failure { reason: Some(Reason::Refused), error: None };
        for address in 0..20_000 {
            let (event, _) = testing::exhausted_to(address);
            recent.note(&event, refused);
        }
        let (event, _) = testing::exhausted(813, 9001);
        recent.note(&event, refused);
        exhausted(&mut recent, 814, 1);
        recent.advance(0, 1.0);
        let failing = recent.failing();
        assert_eq!(failing.len(), MAX_ROWS_OF_ONE as usize + 2);
        assert_eq!(recent.unlisted(), 20_000 - u64::from(MAX_ROWS_OF_ONE));
    }
}
