//! A survey of the host, condensed to what the live view keeps of it: the worst findings in full, of every
//! upstream and process a few figures.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tracer_ebpf::state;

use super::shot::{Ports, Sockets, Source, UpstreamKey};
use crate::{
    ceilings::{Ceiling, Subject, User, thresholds::Thresholds},
    check::{Judged, worst_first},
    event::Comm,
    kernel::{
        owners::{Holder, Owners},
        sock_diag::Socket,
        survey::{Namespace, Survey},
    },
};

/// Most findings of a kind that are kept in full.
const MAX_GAUGES: usize = 100;
/// Most upstreams that are told of.
const MAX_UPSTREAMS: usize = 16_384;
/// Most source addresses of an upstream that are named.
const MAX_SOURCES: usize = 8;
/// Most processes of an upstream that are named.
const MAX_PROCESSES: usize = 5;

/// What was found at one time.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    /// When: nanoseconds since boot.
    pub at_ns: u64,
    /// How long it took, seconds.
    pub cost_s: f64,
    /// Findings, worst first; the fullest of each kind is among them.
    pub gauges: Vec<Arc<Judged>>,
    /// Findings beyond those.
    pub more_gauges: u64,
    /// Where this host has connections to.
    #[serde(with = "pairs")]
    pub upstreams: HashMap<UpstreamKey, ListedUpstream>,
    /// Upstreams beyond those, with the fewest sockets.
    pub more_upstreams: u64,
    /// Processes that have sockets open.
    pub processes: HashMap<u32, ListedProcess>,
    /// What could not be seen, and how to get it.
    pub unseen: Vec<String>,
}

/// A map whose keys are no strings, as a list of pairs.
mod pairs {
    use std::{collections::HashMap, hash::Hash};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &HashMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D: Deserializer<'de>>(
        from: D,
    ) -> Result<HashMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Eq + Hash,
        V: Deserialize<'de>,
    {
        Vec::<(K, V)>::deserialize(from).map(|pairs| pairs.into_iter().collect())
    }
}

/// An upstream's sockets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListedUpstream {
    /// By state.
    pub sockets: Sockets,
    /// Source addresses, the one with the least room first.
    pub sources: Arc<[Source]>,
    /// Processes, most sockets first.
    pub processes: Arc<[(u32, Comm, u64)]>,
}

/// What an upstream consists of.
#[derive(Default)]
struct Parts {
    sources: Vec<Source>,
    processes: BTreeMap<(u32, Comm), u64>,
}

/// A process's open files and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedProcess {
    /// Its name.
    pub comm: Comm,
    /// When it started: nanoseconds since boot, to the hundredth of a second.
    pub started_ns: u64,
    /// Open files with numbers below the soft limit, and that limit.
    pub files: (u64, u64),
    /// Connections that clients made to it.
    pub inbound: u64,
    /// Connections that it made.
    pub outbound: u64,
}

impl Listing {
    /// Condenses a survey and what was concluded from it; takes its namespaces, which are large.
    #[must_use]
    pub fn of(survey: &mut Survey, findings: Vec<Ceiling>, thresholds: &Thresholds) -> Self {
        let mut listing = Self { at_ns: survey.at_ns, ..Self::default() };
        let files = survey.owners.files.iter();
        listing.processes = files
            .map(|files| {
                let files_of = (files.below_limit, files.soft);
                let process = &files.process;
                let (comm, started_ns) = (process.comm, process.started_ns);
                let (inbound, outbound) = (0, 0);
                (
                    process.pid,
                    ListedProcess { comm, started_ns, files: files_of, inbound, outbound },
                )
            })
            .collect();
        for namespace in std::mem::take(&mut survey.namespaces) {
            listing.count(&namespace, &survey.owners);
        }
        listing.bound();
        listing.take(findings, thresholds);
        listing.unseen.clone_from(&survey.unseen);
        listing
    }

    fn count(&mut self, namespace: &Namespace, owners: &Owners) {
        let sides = Sides::of(namespace);
        for socket in namespace.sockets.iter().filter(|socket| socket.is_connection()) {
            let outbound = sides.is_outbound(socket);
            if outbound {
                let (netns, dst, dport) = (Some(namespace.netns), socket.dst, socket.dport);
                let upstream = self.upstreams.entry(UpstreamKey { netns, dst, dport });
                let sockets = &mut upstream.or_default().sockets;
                *match socket.state.number() {
                    state::ESTABLISHED => &mut sockets.established,
                    state::SYN_SENT => &mut sockets.connecting,
                    state::TIME_WAIT => &mut sockets.time_wait,
                    _ => &mut sockets.other,
                } += 1;
            }
            if socket.inode != 0
                && let Some(Holder::One(process)) = owners.of(socket.inode)
                && let Some(listed) = self.processes.get_mut(&process.pid)
            {
                *if outbound { &mut listed.outbound } else { &mut listed.inbound } += 1;
            }
        }
    }

    /// Anybody can make many.
    fn bound(&mut self) {
        let beyond = self.upstreams.len().saturating_sub(MAX_UPSTREAMS);
        if beyond == 0 {
            return;
        }
        let sum = |s: &Sockets| s.established + s.connecting + s.time_wait + s.other;
        let mut by_size: Vec<_> =
            self.upstreams.iter().map(|(key, of)| (sum(&of.sockets), *key)).collect();
        by_size.select_nth_unstable(beyond - 1);
        for (_, key) in &by_size[..beyond] {
            self.upstreams.remove(key);
        }
        self.more_upstreams = beyond as u64;
    }

    fn take(&mut self, findings: Vec<Ceiling>, thresholds: &Thresholds) {
        let mut parts: HashMap<UpstreamKey, Parts> = HashMap::new();
        for ceiling in &findings {
            // Sockets of an interface or a port range of their own are in no upstream's ports.
            let Subject::Upstream { netns, src, dst, dport, interface: 0, range: None } =
                ceiling.subject
            else {
                continue;
            };
            let (used, usable, inferred) = (ceiling.used, ceiling.limit, ceiling.inferred);
            let parts = parts.entry(UpstreamKey { netns: Some(netns), dst, dport }).or_default();
            parts.sources.push(Source { src, ports: Ports { used, usable, inferred } });
            for user in &ceiling.who {
                if let User::Process(pid, comm, sockets) = *user {
                    *parts.processes.entry((pid, comm)).or_default() += sockets;
                }
            }
        }
        for (key, mut parts) in parts {
            let Some(upstream) = self.upstreams.get_mut(&key) else { continue };
            parts.sources.sort_by(|a, b| b.ports.ratio().total_cmp(&a.ports.ratio()));
            upstream.sources = parts.sources.into_iter().take(MAX_SOURCES).collect();
            let processes = parts.processes.into_iter();
            let mut processes: Vec<_> =
                processes.map(|((pid, comm), sockets)| (pid, comm, sockets)).collect();
            processes.sort_by_key(|&(pid, _, sockets)| (Reverse(sockets), pid));
            upstream.processes = processes.into_iter().take(MAX_PROCESSES).collect();
        }
        self.gauges = worst(findings, thresholds, &mut self.more_gauges);
    }
}

/// The worst findings of each kind; they come last that nobody depends on.
fn worst(findings: Vec<Ceiling>, thresholds: &Thresholds, more: &mut u64) -> Vec<Arc<Judged>> {
    // Of a process that has ended only its failures are known, which events tell.
    let has_ended = |it: &Ceiling| {
        matches!(it.subject, Subject::Process { .. }) && (it.used, it.limit) == (0, 0)
    };
    let findings: Vec<_> = findings.into_iter().filter(|it| !has_ended(it)).collect();
    let total = findings.len();
    let mut judged: Vec<Judged> = findings
        .into_iter()
        .map(|ceiling| {
            let status = thresholds.judge(&ceiling);
            Judged { ceiling, status }
        })
        .collect();
    judged.sort_by(worst_first);
    let (mut of_kind, mut kept) = (HashMap::new(), Vec::new());
    for mut judged in judged {
        let of_kind = of_kind.entry(judged.ceiling.subject.kind()).or_insert(0);
        if *of_kind < MAX_GAUGES {
            *of_kind += 1;
            judged.ceiling.passing.ages_s = Vec::new();
            kept.push(Arc::new(judged));
        }
    }
    *more = (total - kept.len()) as u64;
    kept
}

/// Which side of its connections this host is on.
struct Sides<'a> {
    listening: HashSet<u16>,
    range: &'a RangeInclusive<u16>,
}

impl<'a> Sides<'a> {
    fn of(namespace: &'a Namespace) -> Self {
        let listeners = namespace.sockets.iter();
        let listeners = listeners.filter(|socket| socket.state.number() == state::LISTEN);
        Self {
            listening: listeners.map(|socket| socket.sport).collect(),
            range: &namespace.settings.port_range,
        }
    }

    /// No list says which side connected. Its port tells: a listener's is a server's, one of the ephemeral
    /// range a client's; of a port that was bound to, the other end's decides.
    fn is_outbound(&self, socket: &Socket) -> bool {
        let passive = [state::SYN_RECV, state::NEW_SYN_RECV].contains(&socket.state.number());
        !passive
            && !self.listening.contains(&socket.sport)
            && (self.range.contains(&socket.sport) || !self.range.contains(&socket.dport))
    }
}
