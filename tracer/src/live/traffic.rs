//! What happens toward each upstream and in each process: counts since the start, and rates from one shot to
//! the next. Part of the fold of events.

use std::collections::{HashMap, hash_map::Entry};

use tracer_ebpf::state;

use super::{
    latency::Histogram,
    shot::{Latency, UpstreamKey},
};
use crate::{
    ceilings::history::per_s,
    event::{CallFailed, Comm, Event, Owner, State, StateChange, Subject},
    reason::{Failure, Reason},
};

/// Most upstreams that are kept apart.
const MAX_UPSTREAMS: usize = 16_384;
/// Most processes that are kept apart.
const MAX_PROCESSES: usize = 16_384;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// One without an event for so long makes room for others,
const IDLE_NS: u64 = 600 * SECOND;
/// and one that never had a connection for so long.
const FUTILE_NS: u64 = 5 * SECOND;
/// A process without an event for so long is quiet;
const QUIET_NS: u64 = 5 * SECOND;
/// one whose calls failed for so long.
const FAILED_NS: u64 = 60 * SECOND;
/// When a process started is told to this.
const CLOCK_TICK_NS: u64 = SECOND / 100;
/// What a histogram holds counts half as often.
const HALVE_EVERY_NS: u64 = 10 * SECOND;

/// A count, and what it was at the last shot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Since the start.
    pub total: u64,
    before: u64,
    /// Between the last two shots.
    lately: u64,
}

impl Counter {
    fn add(&mut self) {
        self.total += 1;
    }

    fn advance(&mut self) {
        self.lately = self.total - self.before;
        self.before = self.total;
    }

    /// A second, given how many the last span had; 0: it had none.
    #[must_use]
    pub fn per_s(&self, seconds: f64) -> f64 {
        if seconds > 0.0 { per_s(self.lately, seconds) } else { 0.0 }
    }
}

/// Failures by reason, most first.
pub type Failures = Vec<(Option<Reason>, u64)>;

/// Adds failures of a reason; the order stays.
pub(crate) fn count_failures(failures: &mut Failures, reason: Option<Reason>, count: u64) {
    let at = failures.iter().position(|(known, _)| *known == reason);
    let mut at = at.unwrap_or_else(|| {
        failures.push((reason, 0));
        failures.len() - 1
    });
    failures[at].1 += count;
    while at > 0 && failures[at - 1].1 < failures[at].1 {
        failures.swap(at - 1, at);
        at -= 1;
    }
}

/// What happens toward an upstream.
#[derive(Debug, Default)]
pub struct Flow {
    /// Connections that became established.
    pub opened: Counter,
    /// Connections that began to close, or were reset.
    pub closed: Counter,
    /// Entries in TIME-WAIT.
    pub time_wait: Counter,
    /// Some of them were concluded from state changes.
    pub inferred: bool,
    /// This side closed first.
    pub closed_here: u64,
    /// The upstream closed first.
    pub closed_by_peer: u64,
    /// By reason.
    pub failures: Failures,
    /// All of them.
    pub failed: Counter,
    latency: Histogram,
    active_ns: u64,
}

impl Flow {
    /// How long a connect took lately.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        self.latency.percentiles()
    }

    fn advance(&mut self, halve: bool) {
        for counter in [&mut self.opened, &mut self.closed, &mut self.time_wait, &mut self.failed] {
            counter.advance();
        }
        if halve {
            self.latency.halve();
        }
    }
}

/// What a process does.
#[derive(Debug)]
pub struct Doing {
    /// Its name.
    pub comm: Comm,
    /// Connections that it made.
    pub opened: Counter,
    /// Connections that it had accepted and that ended.
    pub served: Counter,
    /// By reason.
    pub failures: Failures,
    /// All of them.
    pub failed: Counter,
    active_ns: u64,
}

impl Doing {
    fn of(comm: Comm) -> Self {
        let none = Counter::default;
        let (opened, served, failed) = (none(), none(), none());
        Self { comm, opened, served, failures: Vec::new(), failed, active_ns: 0 }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Traffic {
    upstreams: HashMap<UpstreamKey, Flow>,
    processes: HashMap<u32, Doing>,
    now_ns: u64,
    halved_ns: u64,
    /// Events of upstreams or processes for which there was no room.
    pub unlisted: u64,
}

impl Traffic {
    /// Folds an event in.
    pub fn note(&mut self, event: &Event, failure: Option<Failure>) {
        match event {
            Event::State(change) => self.state(change, failure),
            Event::CallFailed(failed) => self.call(failed, failure),
            Event::TimeWait(entered) => {
                if let Some(key) = upstream(&entered.subject, entered.passive, false)
                    && let Some(flow) = self.flow(key, entered.subject.ts_ns)
                {
                    flow.time_wait.add();
                    flow.inferred |= entered.inferred;
                }
            }
            Event::Lost(_) => {}
        }
    }

    fn state(&mut self, change: &StateChange, failure: Option<Failure>) {
        let ts_ns = change.subject.ts_ns;
        let connecting = change.old == State::SYN_SENT;
        let opened = connecting && change.new == State::ESTABLISHED;
        let ended = change.old == State::ESTABLISHED && change.new != State::ESTABLISHED;
        if !opened && !ended && failure.is_none() {
            return;
        }
        if let Some(key) = upstream(&change.subject, change.passive, connecting)
            && let Some(flow) = self.flow(key, ts_ns)
        {
            if opened {
                flow.opened.add();
                if let Some(age_ns) = change.age_ns {
                    flow.latency.note(age_ns / 1000);
                }
            }
            if ended {
                flow.closed.add();
                match change.new.number() {
                    state::FIN_WAIT1 => flow.closed_here += 1,
                    state::CLOSE_WAIT => flow.closed_by_peer += 1,
                    _ => {}
                }
            }
            if let Some(failure) = failure {
                flow.failed.add();
                count_failures(&mut flow.failures, failure.reason, 1);
            }
        }
        if let Some(doing) = change.subject.owner.and_then(|owner| self.doing(owner, ts_ns)) {
            if opened {
                doing.opened.add();
            }
            if ended && change.passive {
                doing.served.add();
            }
            if let Some(failure) = failure {
                doing.failed.add();
                count_failures(&mut doing.failures, failure.reason, 1);
            }
        }
    }

    fn call(&mut self, failed: &CallFailed, failure: Option<Failure>) {
        let Some(failure) = failure else { return };
        let ts_ns = failed.subject.ts_ns;
        if let Some(key) = upstream(&failed.subject, false, true)
            && let Some(flow) = self.flow(key, ts_ns)
        {
            flow.failed.add();
            count_failures(&mut flow.failures, failure.reason, 1);
        }
        if let Some(doing) = failed.subject.owner.and_then(|owner| self.doing(owner, ts_ns)) {
            doing.failed.add();
            count_failures(&mut doing.failures, failure.reason, 1);
        }
    }

    fn flow(&mut self, key: UpstreamKey, ts_ns: u64) -> Option<&mut Flow> {
        let full = self.upstreams.len() >= MAX_UPSTREAMS;
        let flow = match self.upstreams.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => {
                self.unlisted += 1;
                return None;
            }
            Entry::Vacant(room) => room.insert(Flow::default()),
        };
        flow.active_ns = ts_ns;
        Some(flow)
    }

    fn doing(&mut self, owner: Owner, ts_ns: u64) -> Option<&mut Doing> {
        let full = self.processes.len() >= MAX_PROCESSES;
        let doing = match self.processes.entry(owner.pid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => {
                self.unlisted += 1;
                return None;
            }
            Entry::Vacant(room) => room.insert(Doing::of(owner.comm)),
        };
        doing.active_ns = ts_ns;
        Some(doing)
    }

    /// A shot is made, `at_ns` after boot: rates are those since the last one.
    pub fn advance(&mut self, at_ns: u64) {
        let since = |active_ns: u64| at_ns.saturating_sub(active_ns);
        let halve = since(self.halved_ns) >= HALVE_EVERY_NS;
        if halve {
            self.halved_ns = at_ns;
        }
        self.now_ns = at_ns;
        let crowded = self.upstreams.len() > MAX_UPSTREAMS / 2;
        self.upstreams.retain(|_, flow| {
            flow.advance(halve);
            let futile = flow.opened.total == 0 && since(flow.active_ns) >= FUTILE_NS;
            !crowded || (since(flow.active_ns) < IDLE_NS && !futile)
        });
        let crowded = self.processes.len() > MAX_PROCESSES / 2;
        self.processes.retain(|_, doing| {
            for counter in [&mut doing.opened, &mut doing.served, &mut doing.failed] {
                counter.advance();
            }
            !crowded || since(doing.active_ns) < FAILED_NS
        });
    }

    /// Forgets what a process did whose id has been given to another one, which started `started_ns` after boot.
    pub fn restarted(&mut self, pid: u32, started_ns: u64) {
        if self
            .processes
            .get(&pid)
            .is_some_and(|doing| doing.active_ns.saturating_add(CLOCK_TICK_NS) < started_ns)
        {
            self.processes.remove(&pid);
        }
    }

    /// By upstream, in no order.
    #[must_use]
    pub fn upstreams(&self) -> &HashMap<UpstreamKey, Flow> {
        &self.upstreams
    }

    /// Whether a process has had no event for a while: for a longer one where something of it failed.
    #[must_use]
    pub fn is_quiet(&self, doing: &Doing) -> bool {
        let after_ns = if doing.failed.total > 0 { FAILED_NS } else { QUIET_NS };
        self.now_ns.saturating_sub(doing.active_ns) > after_ns
    }

    /// By process, in no order.
    #[must_use]
    pub fn processes(&self) -> &HashMap<u32, Doing> {
        &self.processes
    }
}

/// The upstream that an event is about; `None`: this host is the server, or may be. `connects`: it can't be.
fn upstream(subject: &Subject, passive: bool, connects: bool) -> Option<UpstreamKey> {
    if passive || (!connects && subject.owner.is_none()) {
        return None;
    }
    let key = UpstreamKey { netns: subject.netns, dst: subject.dst?, dport: subject.dport? };
    (key.dport != 0).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing;

    #[test]
    fn failures_are_counted_by_upstream_and_process() {
        let mut traffic = Traffic::default();
        for (pid, dport, times) in [(812, 9001, 30), (813, 9001, 20), (812, 9002, 1)] {
            let (event, failure) = testing::exhausted(pid, dport);
            for _ in 0..times {
                traffic.note(&event, Some(failure));
            }
        }
        traffic.advance(SECOND);
        let upstreams: HashMap<_, _> =
            traffic.upstreams().iter().map(|(key, flow)| (key.dport, flow)).collect();
        assert_eq!(upstreams[&9001].failures, [(Some(Reason::PortRangeExhausted), 50)]);
        assert!((upstreams[&9001].failed.per_s(2.0) - 25.0).abs() < 1e-9);
        assert_eq!(upstreams[&9002].failed.total, 1);
        assert_eq!(traffic.processes()[&812].failed.total, 31);
        traffic.advance(2 * SECOND);
        assert!(traffic.processes()[&812].failed.per_s(1.0).abs() < 1e-9);
        traffic.restarted(812, 1);
        assert!(traffic.processes().contains_key(&812));
        traffic.restarted(812, 9 * SECOND);
        assert!(!traffic.processes().contains_key(&812), "its id was given to another one");
    }

    #[test]
    fn connections_are_counted_from_their_beginning_to_their_end() {
        let mut traffic = Traffic::default();
        for event in testing::connection(812, 9001, 1500) {
            traffic.note(&event, None);
        }
        let flow = traffic.upstreams().values().next().unwrap();
        assert_eq!((flow.opened.total, flow.closed.total, flow.time_wait.total), (1, 1, 1));
        assert_eq!((flow.closed_here, flow.closed_by_peer), (1, 0));
        let p50_us = flow.latency().unwrap().p50_us;
        assert!((1500..=1800).contains(&p50_us), "{p50_us}");
        assert_eq!(traffic.processes()[&812].opened.total, 1);
    }

    #[test]
    fn the_main_reason_comes_first() {
        let mut failures = Vec::new();
        for reason in [Reason::Reset, Reason::Refused, Reason::Refused, Reason::TimedOut] {
            count_failures(&mut failures, Some(reason), 1);
        }
        assert_eq!(failures[0], (Some(Reason::Refused), 2));
        assert_eq!(failures.len(), 3);
    }

    #[test]
    fn upstreams_are_bounded_and_futile_ones_make_room() {
        let mut traffic = Traffic::default();
        for index in 0..MAX_UPSTREAMS + 5 {
            let (event, failure) = testing::exhausted_to(u32::try_from(index).unwrap());
            traffic.note(&event, Some(failure));
        }
        assert_eq!(traffic.upstreams().len(), MAX_UPSTREAMS);
        assert_eq!(traffic.unlisted, 5);
        traffic.advance(SECOND);
        for event in testing::connection(812, 9001, 1500) {
            traffic.note(&event, None);
        }
        assert_eq!(traffic.upstreams().len(), MAX_UPSTREAMS, "full");
        traffic.advance(2 * FUTILE_NS);
        assert!(traffic.upstreams().is_empty(), "none of them ever had a connection");
    }
}
