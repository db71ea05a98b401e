//! Equal steps of time that double when there are too many of them.

use super::{Step, Timeline};
use crate::{
    event::{Event, State},
    live::traffic::count_failures,
    reason::Failure,
};

/// Most steps.
pub(super) const MAX_STEPS: usize = 600;
/// The shortest step: an eighth of a second, so that one of its doubles is a second.
const SHORTEST_NS: u64 = 125_000_000;

/// Where time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) start_ns: u64,
    pub(super) step_ns: u64,
}

impl Steps {
    pub(super) fn from(start_ns: u64) -> Self {
        Self { start_ns, step_ns: SHORTEST_NS }
    }

    /// The step of a time; what is earlier than the first is in the first.
    pub(super) fn at(self, ts_ns: u64) -> usize {
        let index = ts_ns.saturating_sub(self.start_ns) / self.step_ns;
        usize::try_from(index).unwrap_or(usize::MAX)
    }

    /// How often the steps have to double until a time has one.
    pub(super) fn doublings(self, ts_ns: u64) -> u32 {
        let (mut index, mut doublings) = (self.at(ts_ns), 0);
        while index >= MAX_STEPS {
            index /= 2;
            doublings += 1;
        }
        doublings
    }

    pub(super) fn double(&mut self) {
        // Below 2^62: with the longest step there is but one.
        self.step_ns = self.step_ns.saturating_mul(2);
    }
}

/// Makes one of every two steps.
pub(super) fn halve<T>(steps: &mut Vec<T>, merge: impl Fn(&mut T, T)) {
    let mut halved = Vec::with_capacity(steps.len().div_ceil(2));
    for (index, step) in steps.drain(..).enumerate() {
        match halved.last_mut() {
            Some(last) if index % 2 == 1 => merge(last, step),
            _ => halved.push(step),
        }
    }
    *steps = halved;
}

impl Step {
    /// Adds what happened later in it.
    fn merge(&mut self, later: Self) {
        self.opened += later.opened;
        self.closed += later.closed;
        self.time_waits += later.time_waits;
        self.lost = self.lost.saturating_add(later.lost);
        for (reason, count) in later.failures {
            count_failures(&mut self.failures, reason, count);
        }
    }

    pub(super) fn note(&mut self, event: &Event, failure: Option<&Failure>) {
        match event {
            Event::State(change) if change.new == State::ESTABLISHED => self.opened += 1,
            Event::State(change) if change.old == State::ESTABLISHED => self.closed += 1,
            Event::TimeWait(_) => self.time_waits += 1,
            Event::Lost(loss) => self.lost = self.lost.saturating_add(loss.events()),
            Event::State(_) | Event::CallFailed(_) => {}
        }
        if let Some(failure) = failure {
            count_failures(&mut self.failures, failure.reason, 1);
        }
    }
}

impl Timeline {
    pub(super) fn from(start_ns: u64) -> Self {
        let Steps { start_ns, step_ns } = Steps::from(start_ns);
        Self { start_ns, step_ns, steps: Vec::new() }
    }

    pub(super) fn cuts(&self) -> Steps {
        Steps { start_ns: self.start_ns, step_ns: self.step_ns }
    }

    /// Makes every step twice as long.
    pub(super) fn double(&mut self) {
        let mut cuts = self.cuts();
        cuts.double();
        self.step_ns = cuts.step_ns;
        halve(&mut self.steps, Step::merge);
    }

    /// The step of a time that has one: see [`Steps::doublings`].
    pub(super) fn step(&mut self, ts_ns: u64) -> Option<&mut Step> {
        let index = self.cuts().at(ts_ns).min(MAX_STEPS - 1);
        if self.steps.len() <= index {
            self.steps.resize_with(index + 1, Step::default);
        }
        self.steps.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn steps_double_and_nothing_is_lost() {
        let mut timeline = Timeline::from(1_000_000_000);
        let ends_ns = [0, 999_999_999, 1_000_000_000, 76_000_000_000, 500_000_000_000, u64::MAX];
        for (count, ts_ns) in ends_ns.into_iter().enumerate() {
            for _ in 0..timeline.cuts().doublings(ts_ns) {
                timeline.double();
            }
            let step = timeline.step(ts_ns).unwrap();
            step.opened += 1;
            count_failures(&mut step.failures, Some(Reason::Refused), 2);
            assert!(timeline.steps.len() <= MAX_STEPS);
            let opened: u64 = timeline.steps.iter().map(|step| step.opened).sum();
            assert_eq!(opened, count as u64 + 1);
        }
        let failed = timeline.steps.iter().flat_map(|step| &step.failures);
        assert_eq!(failed.map(|(_, count)| count).sum::<u64>(), 12);
    }

    #[test]
    fn pairs_are_merged_from_the_beginning() {
        let mut odd = vec![1, 2, 3, 4, 5];
        halve(&mut odd, |a, b| *a += b);
        assert_eq!(odd, [3, 7, 5]);
    }
}
