//! A capture, folded into a report: the same decoder, table and diagnosis as live.

use std::{cmp::Reverse, collections::HashMap, os::unix::ffi::OsStrExt, path::Path};

use anyhow::Result;

use super::{
    Process, Report, Timeline, Upstream, clean,
    samples::{Samples, step_of},
    settings::Settings,
    spans::Spans,
    timeline::{MAX_STEPS, halve},
};
use crate::{
    capture::walk::{Step, Walk},
    event::{Event, visible},
    live::{
        diagnosis::Diagnosis,
        listing::Listing,
        shot::UpstreamKey,
        traffic::{Flow, Traffic},
    },
    table::Change,
};

/// Most upstreams, and most processes, of a report.
const MAX_ROWS: usize = 1000;
/// Most upstreams whose steps are counted,
const MAX_SERIES: usize = 4096;
/// and most of them in the report.
const MAX_TOLD: usize = 50;
/// A moment of what is wrong.
const MOMENT_NS: u64 = 1_000_000_000;
/// So many moments after the last event nothing is wrong any more for what failed.
const QUIET: u32 = 8;

/// Folds a capture; `-`: standard input.
///
/// # Errors
/// It can't be read, or is no capture.
pub fn of(path: &Path) -> Result<Report> {
    let file = visible(path.as_os_str().as_bytes());
    of_walk(Walk::open(path)?, file)
}

/// Folds what is walked; `file`: its name, inert.
///
/// # Errors
/// It can't be read further.
pub fn of_walk(mut walk: Walk, file: String) -> Result<Report> {
    let mut fold = Fold::new(walk.header().own_netns);
    while walk.advance(|step| fold.step(step))? {}
    Ok(fold.finish(&walk, file))
}

/// Counts of an upstream by step.
#[derive(Default)]
struct Series {
    opened: Vec<u32>,
    failed: Vec<u32>,
    /// Both as they were when the last step began.
    before: (u64, u64),
}

/// The fold.
struct Fold {
    /// First and last time of anything; `None`: nothing yet.
    span: Option<(u64, u64)>,
    timeline: Timeline,
    /// When the timeline's last step ends.
    step_ends_ns: u64,
    traffic: Traffic,
    series: HashMap<UpstreamKey, Series>,
    diagnosis: Diagnosis,
    /// When the present moment ends.
    moment_ends_ns: u64,
    spans: Spans,
    beyond: u64,
    samples: Samples,
    settings: Settings,
}

impl Fold {
    fn new(own_netns: Option<u32>) -> Self {
        Self {
            span: None,
            timeline: Timeline::from(0),
            step_ends_ns: 0,
            traffic: Traffic::default(),
            series: HashMap::new(),
            diagnosis: Diagnosis::new(own_netns),
            moment_ends_ns: 0,
            spans: Spans::default(),
            beyond: 0,
            samples: Samples::default(),
            settings: Settings::default(),
        }
    }

    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Event(event, change) => self.event(event, change),
            Step::Sample(listing) => self.sample(*listing),
            Step::Settings(mut sysctls) => {
                clean::sysctls(&mut sysctls);
                self.settings.note(sysctls);
            }
            Step::Cgroups(_) => {}
            // What was lost by it may have been failures.
            Step::Damage(_) => self.diagnosis.doubt(),
        }
    }

    fn event(&mut self, event: &Event, change: &Change) {
        let ts_ns = event.ts_ns();
        self.reach(ts_ns);
        let failure = change.failure();
        if let Some(step) = self.timeline.step(ts_ns) {
            step.note(event, failure);
        }
        self.traffic.note(event, failure.copied());
        if *change != Change::None {
            self.diagnosis.event(event, change);
        }
    }

    fn sample(&mut self, mut listing: Listing) {
        clean::listing(&mut listing);
        self.reach(listing.at_ns);
        self.samples.note(&listing, step_of(self.timeline.cuts(), &listing));
        self.diagnosis.listed(listing);
    }

    /// Something happened at this time.
    fn reach(&mut self, ts_ns: u64) {
        let Some((first_ns, last_ns)) = &mut self.span else {
            self.span = Some((ts_ns, ts_ns));
            self.timeline = Timeline::from(ts_ns);
            self.step_ends_ns = ts_ns.saturating_add(self.timeline.step_ns);
            self.diagnosis.advance(ts_ns);
            self.moment_ends_ns = ts_ns.saturating_add(MOMENT_NS);
            return;
        };
        *first_ns = ts_ns.min(*first_ns);
        *last_ns = ts_ns.max(*last_ns);
        if ts_ns >= self.moment_ends_ns {
            self.moments(ts_ns);
        }
        if ts_ns >= self.step_ends_ns {
            self.end_step(ts_ns);
        }
    }

    /// Ends the moments before this time. In a long pause nothing changes after the first few.
    fn moments(&mut self, ts_ns: u64) {
        let mut left = QUIET;
        while ts_ns >= self.moment_ends_ns && self.moment_ends_ns < u64::MAX {
            let from_ns = self.moment_ends_ns - MOMENT_NS;
            let mut to_ns = self.moment_ends_ns;
            if left == 0 {
                to_ns = ts_ns - (ts_ns - to_ns) % MOMENT_NS;
            }
            self.diagnosis.advance(to_ns);
            let (found, more) = self.diagnosis.incidents();
            self.beyond = self.beyond.max(more);
            self.spans.note(from_ns, to_ns, found);
            self.moment_ends_ns = to_ns.saturating_add(MOMENT_NS);
            left = left.saturating_sub(1);
        }
    }

    /// Ends the last step; `ts_ns` is in a later one.
    fn end_step(&mut self, ts_ns: u64) {
        self.count_series();
        for _ in 0..self.timeline.cuts().doublings(ts_ns) {
            self.timeline.double();
            self.samples.double();
            for series in self.series.values_mut() {
                halve(&mut series.opened, |a, b| *a = a.saturating_add(b));
                halve(&mut series.failed, |a, b| *a = a.saturating_add(b));
            }
        }
        let cuts = self.timeline.cuts();
        let next = (cuts.at(ts_ns) as u64).saturating_add(1);
        self.step_ends_ns = cuts.start_ns.saturating_add(next.saturating_mul(cuts.step_ns));
    }

    /// Adds what happened in the step that ends now.
    fn count_series(&mut self) {
        let index = self.timeline.cuts().at(self.step_ends_ns.saturating_sub(1)).min(MAX_STEPS - 1);
        for (key, flow) in self.traffic.upstreams() {
            let now = (flow.opened.total, flow.failed.total);
            if self.series.len() >= MAX_SERIES && !self.series.contains_key(key) {
                continue;
            }
            let series = self.series.entry(*key).or_default();
            let before = std::mem::replace(&mut series.before, now);
            if before != now {
                add(&mut series.opened, index, now.0 - before.0);
                add(&mut series.failed, index, now.1 - before.1);
            }
        }
    }

    fn finish(mut self, walk: &Walk, file: String) -> Report {
        self.count_series();
        let (first_ns, last_ns) = self.span.unwrap_or_default();
        // The last moment hasn't ended.
        if self.span.is_some() {
            self.moments(last_ns.saturating_add(MOMENT_NS));
        }
        let (mut header, mut end) = (walk.header().clone(), walk.end().cloned());
        clean::header(&mut header);
        end.iter_mut().for_each(clean::end);
        let table = &walk.table;
        let mut reasons: Vec<_> = table.reasons().iter().map(|(&it, &count)| (it, count)).collect();
        reasons.sort_by_key(|&(_, count)| Reverse(count));
        let rows = table.rows().into_iter().map(|(key, row)| {
            let mut row = row.clone();
            self.samples.complete(key, &mut row);
            (*key, row)
        });
        let failures = rows.collect();
        let steps = self.timeline.steps.len();
        let (upstreams, more_upstreams) = self.upstreams(steps);
        let (processes, more_processes) = self.processes();
        let (ceilings, more_ceilings) = self.samples.ceilings(steps);
        let (incidents, more_incidents) = self.spans.finish();
        Report {
            file,
            header,
            end,
            first_ns,
            last_ns,
            events: table.seen(),
            lost: table.loss(),
            damage: walk.damage().to_vec(),
            damaged: walk.damaged(),
            missing: walk.missing(),
            undecodable: walk.undecodable(),
            failed: table.failures(),
            reasons,
            failures,
            unlisted: table.unlisted(),
            incidents,
            more_incidents: more_incidents + self.beyond,
            ceilings,
            more_ceilings,
            samples: self.samples.count,
            upstreams,
            more_upstreams,
            processes,
            more_processes,
            unplaced: self.traffic.unlisted,
            timeline: self.timeline,
            settings: self.settings.first,
            changes: self.settings.changes,
            more_changes: self.settings.dropped,
            unseen: self.samples.unseen,
            answers: None,
        }
    }

    /// The upstreams, and how many more there were.
    fn upstreams(&mut self, steps: usize) -> (Vec<Upstream>, u64) {
        let flows = self.traffic.upstreams();
        let listed = self.samples.upstreams.keys().filter(|key| !flows.contains_key(key));
        let mut keys: Vec<_> = flows.keys().chain(listed).copied().collect();
        keys.sort_by_cached_key(|key| {
            let flow = flows.get(key);
            let count = |of: fn(&Flow) -> u64| flow.map_or(0, of);
            let most = self.samples.upstreams.get(key).map_or(0, |seen| seen.most.established);
            let (failed, opened) = (count(|it| it.failed.total), count(|it| it.opened.total));
            (Reverse((failed, opened, most)), *key)
        });
        let more = keys.len().saturating_sub(MAX_ROWS);
        keys.truncate(MAX_ROWS);
        let mut upstreams = Vec::with_capacity(keys.len());
        for (rank, key) in keys.into_iter().enumerate() {
            let series = self.series.remove(&key).filter(|_| rank < MAX_TOLD);
            let by_step = |of: fn(&Series) -> &Vec<u32>| {
                let Some(series) = &series else { return Vec::new() };
                let mut steps_of: Vec<_> = of(series).iter().map(|&it| u64::from(it)).collect();
                steps_of.resize(steps, 0);
                steps_of
            };
            let seen = self.samples.upstreams.get(&key);
            let flow = self.traffic.upstreams().get(&key);
            let count = |of: fn(&Flow) -> u64| flow.map_or(0, of);
            upstreams.push(Upstream {
                key,
                opened: count(|it| it.opened.total),
                closed: count(|it| it.closed.total),
                time_waits: count(|it| it.time_wait.total),
                inferred: flow.is_some_and(|it| it.inferred),
                closed_here: count(|it| it.closed_here),
                closed_by_peer: count(|it| it.closed_by_peer),
                failures: flow.map(|it| it.failures.clone()).unwrap_or_default(),
                latency: flow.and_then(Flow::latency),
                most: seen.map(|seen| seen.most),
                ports: seen.and_then(|seen| seen.ports),
                opened_by_step: by_step(|series| &series.opened),
                failed_by_step: by_step(|series| &series.failed),
            });
        }
        (upstreams, more as u64)
    }

    /// The processes of which anything happened, and how many more there were.
    fn processes(&self) -> (Vec<Process>, u64) {
        let seen = &self.samples.processes;
        let mut processes: Vec<_> = self
            .traffic
            .processes()
            .iter()
            .map(|(&pid, doing)| Process {
                pid,
                comm: seen.get(&pid).map_or(doing.comm, |seen| seen.comm),
                opened: doing.opened.total,
                served: doing.served.total,
                failures: doing.failures.clone(),
                files: seen.get(&pid).map(|seen| seen.files),
            })
            .collect();
        processes.sort_by_cached_key(|it| (Reverse((it.failed(), it.opened, it.served)), it.pid));
        let more = processes.len().saturating_sub(MAX_ROWS) as u64;
        processes.truncate(MAX_ROWS);
        (processes, more)
    }
}

fn add(steps: &mut Vec<u32>, index: usize, count: u64) {
    if steps.len() <= index {
        steps.resize(index + 1, 0);
    }
    if let Some(step) = steps.get_mut(index) {
        *step = step.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
}
