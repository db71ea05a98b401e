//! What samples of the host tell over time: how full ceilings got, the most sockets and open files.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{Ceiling, timeline::Steps, timeline::halve};
use crate::{
    ceilings::{Subject, ephemeral_ports::PortUse, tally::Whose},
    check::{Judged, worst_first},
    event::Comm,
    failures::{FailureKey, FailureRow},
    live::{
        listing::{ListedProcess, ListedUpstream, Listing},
        shot::{Sockets, UpstreamKey},
    },
    reason::Reason,
};

/// Most subjects of ceilings that are kept apart: when there are twice as many, the least full make room.
const MAX_SUBJECTS: usize = 512;
/// Most upstreams, and most processes.
const MAX_ROWS: usize = 16_384;
/// Most source addresses of upstreams.
const MAX_SOURCES: usize = 65_536;

/// A ceiling over time, so far.
struct Seen {
    worst: Arc<Judged>,
    worst_ns: u64,
    last: Arc<Judged>,
    ratios: Vec<Option<f32>>,
}

/// An upstream over time, so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UpstreamSeen {
    pub(super) most: Sockets,
    pub(super) ports: Option<(u64, u64)>,
}

/// A process over time, so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessSeen {
    pub(super) comm: Comm,
    pub(super) files: (u64, u64),
}

/// All samples, condensed.
#[derive(Default)]
pub(super) struct Samples {
    ceilings: HashMap<Subject, Seen>,
    dropped: u64,
    pub(super) upstreams: HashMap<UpstreamKey, UpstreamSeen>,
    pub(super) processes: HashMap<u32, ProcessSeen>,
    ports: HashMap<Whose, PortUse>,
    pub(super) unseen: Vec<String>,
    pub(super) count: u64,
}

impl Samples {
    /// Takes one, of the step `step`.
    pub(super) fn note(&mut self, listing: &Listing, step: usize) {
        self.count += 1;
        for gauge in &listing.gauges {
            self.gauge(gauge, listing.at_ns, step);
        }
        if self.ceilings.len() > 2 * MAX_SUBJECTS {
            self.bound();
        }
        for (key, upstream) in &listing.upstreams {
            self.upstream(key, upstream);
        }
        for (&pid, process) in &listing.processes {
            self.process(pid, process);
        }
        self.unseen.clone_from(&listing.unseen);
    }

    fn gauge(&mut self, gauge: &Arc<Judged>, at_ns: u64, step: usize) {
        let seen = match self.ceilings.entry(gauge.ceiling.subject.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(room) => {
                let (worst, last) = (Arc::clone(gauge), Arc::clone(gauge));
                room.insert(Seen { worst, worst_ns: at_ns, last, ratios: Vec::new() })
            }
        };
        // One that nobody depends on is fuller than none that somebody does.
        let fullness = |it: &Judged| (it.status, !it.ceiling.idle, it.ceiling.ratio());
        if fullness(gauge) > fullness(&seen.worst) {
            (seen.worst, seen.worst_ns) = (Arc::clone(gauge), at_ns);
        }
        seen.last = Arc::clone(gauge);
        if seen.ratios.len() <= step {
            seen.ratios.resize(step + 1, None);
        }
        if let Some(most) = seen.ratios.get_mut(step) {
            #[expect(clippy::cast_possible_truncation, reason = "a share")]
            let ratio = gauge.ceiling.ratio() as f32;
            *most = Some(most.map_or(ratio, |before| before.max(ratio)));
        }
    }

    /// The fullest stay.
    fn bound(&mut self) {
        let mut all: Vec<_> = self.ceilings.drain().collect();
        all.sort_by(|(a, x), (b, y)| worst_first(&x.worst, &y.worst).then_with(|| a.cmp(b)));
        self.dropped += all.len().saturating_sub(MAX_SUBJECTS) as u64;
        self.ceilings = all.into_iter().take(MAX_SUBJECTS).collect();
    }

    fn upstream(&mut self, key: &UpstreamKey, listed: &ListedUpstream) {
        let room = self.upstreams.len() < MAX_ROWS || self.upstreams.contains_key(key);
        if room {
            let seen = self.upstreams.entry(*key).or_default();
            let (most, now) = (&mut seen.most, &listed.sockets);
            most.established = most.established.max(now.established);
            most.connecting = most.connecting.max(now.connecting);
            most.time_wait = most.time_wait.max(now.time_wait);
            most.other = most.other.max(now.other);
            for source in listed.sources.iter() {
                let (used, usable) = (source.ports.used, source.ports.usable);
                if seen.ports.is_none_or(|(most, _)| used > most) {
                    seen.ports = Some((used, usable));
                }
            }
        }
        let Some(netns) = key.netns else { return };
        for source in listed.sources.iter() {
            let (src, dst, dport) = (source.src, key.dst, key.dport);
            let whose = Whose::Upstream { netns, src, dst, dport };
            let number = |it: u64| u32::try_from(it).unwrap_or(u32::MAX);
            let now =
                PortUse { used: number(source.ports.used), usable: number(source.ports.usable) };
            if self.ports.len() < MAX_SOURCES || self.ports.contains_key(&whose) {
                let most = self.ports.entry(whose).or_insert(now);
                *most = if now.used > most.used { now } else { *most };
            }
        }
    }

    fn process(&mut self, pid: u32, listed: &ListedProcess) {
        let now = ProcessSeen { comm: listed.comm, files: listed.files };
        if self.processes.len() < MAX_ROWS || self.processes.contains_key(&pid) {
            let most = self.processes.entry(pid).or_insert(now);
            *most = if now.files.0 > most.files.0 { now } else { *most };
        }
    }

    /// Steps have become twice as long.
    pub(super) fn double(&mut self) {
        for seen in self.ceilings.values_mut() {
            halve(&mut seen.ratios, |a, b| {
                *a = a.map_or(b, |a| b.map_or(Some(a), |b| Some(a.max(b))));
            });
        }
    }

    /// Ports in use where a row of failures has none: the sample with most.
    pub(super) fn complete(&self, key: &FailureKey, row: &mut FailureRow) {
        if key.reason != Some(Reason::PortRangeExhausted) || row.ports.is_some() {
            return;
        }
        if let Some(whose @ Whose::Upstream { .. }) = Whose::of(key, None) {
            row.ports = self.ports.get(&whose).copied();
        }
    }

    /// The ceilings, worst first, and how many more there were; each has all `steps`.
    pub(super) fn ceilings(&mut self, steps: usize) -> (Vec<Ceiling>, u64) {
        self.bound();
        let mut all: Vec<Ceiling> = self
            .ceilings
            .drain()
            .map(|(_, mut seen)| {
                seen.ratios.resize(steps, None);
                let (worst, last) = (Judged::clone(&seen.worst), Judged::clone(&seen.last));
                Ceiling { worst, worst_ns: seen.worst_ns, last, ratios: seen.ratios }
            })
            .collect();
        all.sort_by(|a, b| {
            let by_subject = || a.worst.ceiling.subject.cmp(&b.worst.ceiling.subject);
            worst_first(&a.worst, &b.worst).then_with(by_subject)
        });
        (all, self.dropped)
    }
}

/// Where the samples' steps are.
pub(super) fn step_of(cuts: Steps, listing: &Listing) -> usize {
    cuts.at(listing.at_ns).min(super::timeline::MAX_STEPS - 1)
}
