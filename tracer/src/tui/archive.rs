//! The last ten minutes: a shot a second, and from the third minute back one in five seconds; each reduced to
//! what is worst in it.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use super::rows::Row;
use crate::{
    ceilings::Kind,
    live::shot::{Gauge, Shot, Upstream},
};

/// How long shots are kept: ten minutes, and a moment more.
const KEPT_NS: u64 = 601_000_000_000;
/// So old ones stand further apart, by this.
const DENSE_NS: u64 = 120_000_000_000;
const APART_NS: u64 = 5_000_000_000 - SLACK_NS;
/// What a timer is off.
const SLACK_NS: u64 = 100_000_000;
/// The shortest time between two of them: a second.
pub(super) const MIN_STEP_NS: u64 = 1_000_000_000 - SLACK_NS;
/// Rows of an earlier shot; with these, all of them stay within some 16 MB.
const MAX_UPSTREAMS: usize = 150;
const MAX_PROCESSES: usize = 100;
const MAX_GAUGES: usize = 24;
const MAX_INCIDENTS: usize = 8;
/// Upstreams of an earlier shot of which source addresses and processes are kept, and how many of each.
const MAX_DETAILED: usize = 40;
const MAX_PARTS: usize = 3;
/// Seconds of a trend: what is drawn.
const MAX_TREND: usize = 60;

/// The newest shot, and those before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    newest: Option<Arc<Shot>>,
    /// Oldest first.
    earlier: VecDeque<Arc<Shot>>,
}

impl Archive {
    /// Adds the newest shot; the one before it is reduced.
    pub(super) fn push(&mut self, shot: Shot) {
        let now_ns = shot.at_ns;
        if let Some(before) = self.newest.replace(Arc::new(shot)) {
            let last = self.earlier.back();
            // Of several in a second one is kept.
            if last.is_none_or(|last| last.at_ns + MIN_STEP_NS <= before.at_ns) {
                let reduced = reduce(&before, last.map(Arc::as_ref));
                self.earlier.push_back(Arc::new(reduced));
            }
        }
        let is_old = |shot: &Arc<Shot>| shot.at_ns + KEPT_NS < now_ns;
        while self.earlier.front().is_some_and(is_old) {
            self.earlier.pop_front();
        }
        self.thin(now_ns);
    }

    /// Takes the newest one of the old ones out, where it stands too near to the one before.
    fn thin(&mut self, now_ns: u64) {
        let dense = self.earlier.partition_point(|shot| shot.at_ns + DENSE_NS < now_ns);
        let near = |at: usize| {
            let times = self.earlier.get(at.wrapping_sub(1)).zip(self.earlier.get(at));
            times.is_some_and(|(before, shot)| shot.at_ns - before.at_ns < APART_NS)
        };
        if dense > 0 && near(dense - 1) {
            self.earlier.remove(dense - 1);
        }
    }

    /// How many are kept besides the newest.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.earlier.len()
    }

    /// The newest.
    pub(super) fn newest(&self) -> Option<&Arc<Shot>> {
        self.newest.as_ref()
    }

    /// The last shot of that time or before; else the oldest.
    pub(super) fn at_or_before(&self, at_ns: u64) -> Option<&Arc<Shot>> {
        let newest = self.newest.as_ref()?;
        if newest.at_ns <= at_ns {
            return Some(newest);
        }
        let later = self.earlier.partition_point(|shot| shot.at_ns <= at_ns);
        self.earlier.get(later.saturating_sub(1)).or(Some(newest))
    }

    /// The first shot of that time or after; else the newest.
    pub(super) fn at_or_after(&self, at_ns: u64) -> Option<&Arc<Shot>> {
        let first = self.earlier.partition_point(|shot| shot.at_ns < at_ns);
        self.earlier.get(first).or(self.newest.as_ref())
    }
}

/// What of a shot is worth its room. Findings that are as they were in the one `before` are shared with it.
fn reduce(shot: &Shot, before: Option<&Shot>) -> Shot {
    let (mut upstreams, fewer) = worst(&shot.upstreams, MAX_UPSTREAMS);
    upstreams.iter_mut().enumerate().for_each(|(index, upstream)| thin(upstream, index));
    let (processes, fewer_processes) = worst(&shot.processes, MAX_PROCESSES);
    let mut left_out = shot.left_out;
    left_out.upstreams += fewer;
    left_out.processes += fewer_processes;
    let gauges = first_of_all_kinds(&shot.gauges);
    left_out.gauges += (shot.gauges.len() - gauges.len()) as u64;
    left_out.incidents += shot.incidents.len().saturating_sub(MAX_INCIDENTS) as u64;
    Shot {
        at_ns: shot.at_ns,
        rates_s: shot.rates_s,
        listed_ns: shot.listed_ns,
        incidents: shot.incidents.iter().take(MAX_INCIDENTS).cloned().collect(),
        gauges: gauges.into_iter().map(|gauge| keep(gauge, before)).collect(),
        upstreams: Arc::new(upstreams),
        processes: Arc::new(processes),
        left_out,
        ground: shot.ground.clone(),
        unseen: Arc::clone(&shot.unseen),
        own_netns: shot.own_netns,
    }
}

/// The worst rows, worst first, and how many others there are.
fn worst<R: Row + Clone>(rows: &[R], most: usize) -> (Vec<R>, u64) {
    let mut order: Vec<&R> = rows.iter().collect();
    if order.len() > most {
        order.select_nth_unstable_by(most, |a, b| a.before(b));
        order.truncate(most);
    }
    order.sort_unstable_by(|a, b| a.before(b));
    (order.into_iter().cloned().collect(), rows.len().saturating_sub(most) as u64)
}

/// The worst findings, the fullest of each kind among them.
fn first_of_all_kinds(gauges: &[Gauge]) -> Vec<&Gauge> {
    let mut missing: HashSet<Kind> =
        gauges.iter().map(|gauge| gauge.judged.ceiling.subject.kind()).collect();
    let mut kept = Vec::new();
    for gauge in gauges {
        let first = missing.remove(&gauge.judged.ceiling.subject.kind());
        if first || kept.len() + missing.len() < MAX_GAUGES {
            kept.push(gauge);
        }
    }
    kept
}

fn thin(upstream: &mut Upstream, index: usize) {
    let parts = if index < MAX_DETAILED { MAX_PARTS } else { 0 };
    if upstream.sources.len() > parts {
        upstream.sources = upstream.sources[..parts].into();
    }
    if upstream.processes.len() > parts {
        upstream.processes = upstream.processes[..parts].into();
    }
}

fn keep(gauge: &Gauge, before: Option<&Shot>) -> Gauge {
    let same = before.and_then(|shot| {
        shot.gauges.iter().find(|old| {
            old.judged.status == gauge.judged.status && old.judged.ceiling == gauge.judged.ceiling
        })
    });
    let trend = &gauge.trend[gauge.trend.len().saturating_sub(MAX_TREND)..];
    Gauge {
        judged: Arc::clone(&same.unwrap_or(gauge).judged),
        trend: trend.into(),
        fails_per_s: gauge.fails_per_s,
    }
}
