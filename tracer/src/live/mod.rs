//! What the live view knows: events and listings of the host, folded into a [`shot::Shot`] a second.
//! No terminal in here, no kernel and no clock: time comes with what is folded in.

pub mod captured;
pub mod diagnosis;
pub mod incident;
pub mod latency;
pub mod listing;
pub mod recent;
pub mod shot;
pub mod tail;
pub mod traffic;

#[cfg(test)]
pub(crate) mod testing;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use self::{
    diagnosis::Diagnosis,
    listing::Listing,
    shot::{Gauge, Ground, Incident, LeftOut, Process, Shot, Upstream, UpstreamKey},
    traffic::Traffic,
};
use crate::{
    ceilings::{
        Subject,
        history::per_s,
        tally::{Tally, Whose},
        thresholds::Status,
    },
    event::Event,
    table::Change,
};

/// Shots that a trend goes back.
const TREND: usize = 120;

/// The fold.
#[derive(Debug, Default)]
pub struct Live {
    traffic: Traffic,
    diagnosis: Diagnosis,
    trends: HashMap<Subject, VecDeque<f32>>,
    events: u64,
    events_before: u64,
    failing: bool,
}

impl Live {
    /// Nothing yet. `own_netns`: our own network namespace.
    #[must_use]
    pub fn new(own_netns: Option<u32>) -> Self {
        Self { diagnosis: Diagnosis::new(own_netns), ..Self::default() }
    }

    /// Folds an event in.
    pub fn event(&mut self, event: &Event, change: &Change) {
        self.diagnosis.event(event, change);
        if !matches!(change, Change::Lost(_)) {
            self.events += 1;
            self.traffic.note(event, change.failure().copied());
        }
    }

    /// Takes what was found on the host.
    pub fn listed(&mut self, listing: Listing) {
        for (&pid, process) in &listing.processes {
            self.traffic.restarted(pid, process.started_ns);
        }
        self.diagnosis.listed(listing);
    }

    /// Failures of the last seconds that a ceiling caused, and the seconds that they are of.
    #[must_use]
    pub fn tally(&self) -> (Tally, f64) {
        self.diagnosis.recent.tally()
    }

    /// Whether anything failed in the last seconds for a ceiling.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// The moment `at_ns` (nanoseconds since boot); rates are those since the last one. What `ground` has of
    /// events and loss is filled in.
    pub fn shot(&mut self, at_ns: u64, ground: Ground) -> Shot {
        let seconds = self.diagnosis.advance(at_ns);
        self.traffic.advance(at_ns);
        let listing_ms = self.diagnosis.listing.cost_s * 1e3;
        let ground = self.ground(Ground { listing_ms, ..ground }, seconds);
        let (found, more_incidents) = self.diagnosis.incidents();
        let incidents: Vec<_> = found.into_iter().map(|found| found.incident).collect();
        let by_ceiling = |it: &Incident| it.per_s > 0.0 && it.status == Status::Critical;
        self.failing = incidents.iter().any(by_ceiling);
        let blind = ground.blind.is_some();
        Shot {
            at_ns,
            rates_s: seconds,
            listed_ns: self.diagnosis.listed.then_some(self.diagnosis.listing.at_ns),
            incidents,
            gauges: self.gauges(),
            upstreams: Arc::new(self.upstreams(seconds, blind)),
            processes: Arc::new(self.processes(seconds)),
            left_out: LeftOut {
                incidents: more_incidents,
                gauges: self.diagnosis.listing.more_gauges,
                upstreams: self.diagnosis.listing.more_upstreams,
                processes: 0,
            },
            ground,
            unseen: Arc::new(self.diagnosis.listing.unseen.clone()),
            own_netns: self.diagnosis.own_netns,
        }
    }

    fn ground(&mut self, ground: Ground, seconds: f64) -> Ground {
        let new = self.events - std::mem::replace(&mut self.events_before, self.events);
        let (lost, losing) = (self.diagnosis.lost, self.diagnosis.losing);
        let events_per_s = if seconds > 0.0 { per_s(new, seconds) } else { 0.0 };
        let unlisted = self.traffic.unlisted + self.diagnosis.recent.unlisted();
        Ground { events_per_s, events: self.events, lost, losing, unlisted, ..ground }
    }

    fn gauges(&mut self) -> Vec<Gauge> {
        let mut rates: HashMap<Whose, f64> = HashMap::new();
        for (key, failing) in &self.diagnosis.failing {
            for (pid, of_it) in incident::by_process(failing) {
                if let Some(whose) = Whose::of(key, pid) {
                    *rates.entry(whose).or_default() += of_it.per_s;
                }
            }
        }
        let gauges = &self.diagnosis.listing.gauges;
        let known: HashSet<&Subject> = gauges.iter().map(|gauge| &gauge.ceiling.subject).collect();
        self.trends.retain(|subject, _| known.contains(subject));
        gauges
            .iter()
            .map(|judged| {
                let subject = &judged.ceiling.subject;
                let trend = match self.trends.get_mut(subject) {
                    Some(trend) => trend,
                    None => self.trends.entry(subject.clone()).or_default(),
                };
                if trend.len() == TREND {
                    trend.pop_front();
                }
                #[expect(clippy::cast_possible_truncation, reason = "a share")]
                trend.push_back(judged.ceiling.ratio() as f32);
                let by_event = Whose::of_subject(subject).and_then(|whose| rates.get(&whose));
                Gauge {
                    judged: Arc::clone(judged),
                    trend: trend.iter().copied().collect(),
                    fails_per_s: by_event.copied().unwrap_or_else(|| judged.ceiling.drops_per_s()),
                }
            })
            .collect()
    }

    fn upstreams(&self, seconds: f64, blind: bool) -> Vec<Upstream> {
        let flows = self.traffic.upstreams();
        let listing = &self.diagnosis.listing;
        let listed = listing.upstreams.keys();
        let unlisted = flows.keys().filter(|key| !listing.upstreams.contains_key(key));
        let keys = listed.chain(unlisted);
        keys.map(|key| self.upstream(key, seconds, blind)).collect()
    }

    fn upstream(&self, key: &UpstreamKey, seconds: f64, blind: bool) -> Upstream {
        let listed = self.diagnosis.listing.upstreams.get(key);
        let flow = self.traffic.upstreams().get(key);
        Upstream {
            key: *key,
            // One that is not in the list has no sockets.
            sockets: self.diagnosis.listed.then(|| listed.map(|of| of.sockets).unwrap_or_default()),
            ports: listed.and_then(|of| of.sources.first()).map(|source| source.ports),
            opened_per_s: flow.map_or(0.0, |flow| flow.opened.per_s(seconds)),
            closed_per_s: flow.map_or(0.0, |flow| flow.closed.per_s(seconds)),
            time_wait_per_s: (!blind)
                .then(|| flow.map_or(0.0, |flow| flow.time_wait.per_s(seconds))),
            time_wait_inferred: flow.is_some_and(|flow| flow.inferred),
            closed_here: flow.map_or(0, |flow| flow.closed_here),
            closed_by_peer: flow.map_or(0, |flow| flow.closed_by_peer),
            failures: flow.map(|flow| flow.failures.clone()).unwrap_or_default(),
            fails_per_s: flow.map_or(0.0, |flow| flow.failed.per_s(seconds)),
            latency: flow.and_then(traffic::Flow::latency),
            sources: listed.map(|of| of.sources.clone()).unwrap_or_default(),
            processes: listed.map(|of| of.processes.clone()).unwrap_or_default(),
        }
    }

    fn processes(&self, seconds: f64) -> Vec<Process> {
        let doings = self.traffic.processes();
        let listing = &self.diagnosis.listing;
        let listed = listing.processes.keys();
        let unlisted = doings.keys().filter(|pid| !listing.processes.contains_key(pid));
        let pids = listed.chain(unlisted).copied();
        pids.filter_map(|pid| self.process(pid, seconds)).collect()
    }

    fn process(&self, pid: u32, seconds: f64) -> Option<Process> {
        let listed = self.diagnosis.listing.processes.get(&pid);
        let doing = self.traffic.processes().get(&pid);
        // One that has ended is told of for a while.
        if listed.is_none()
            && self.diagnosis.listed
            && doing.is_some_and(|it| self.traffic.is_quiet(it))
        {
            return None;
        }
        Some(Process {
            pid,
            comm: listed.map(|of| of.comm).or(doing.map(|doing| doing.comm))?,
            files: listed.map(|of| of.files),
            connections: listed.map(|of| (of.inbound, of.outbound)),
            served_per_s: doing.map_or(0.0, |doing| doing.served.per_s(seconds)),
            opened_per_s: doing.map_or(0.0, |doing| doing.opened.per_s(seconds)),
            failed: doing.map_or(0, |doing| doing.failed.total),
            fails_per_s: doing.map_or(0.0, |doing| doing.failed.per_s(seconds)),
            worst: doing.and_then(|doing| doing.failures.first()?.0),
        })
    }
}
