//! What the live view shows of one moment: plain values, worst first. A shot is made once a second; the
//! last ten minutes of them are what one can travel back through.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    ceilings::{Subject, thresholds::Status},
    check::Judged,
    event::{Comm, Loss},
    failures::address_bits,
    reason::Reason,
};

/// One moment.
#[derive(Clone, Debug, Default)]
pub struct Shot {
    /// When: nanoseconds since boot.
    pub at_ns: u64,
    /// Seconds that its rates cover; 0: there are none yet.
    pub rates_s: f64,
    /// When sockets and open files were last listed: nanoseconds since boot; `None`: not yet.
    pub listed_ns: Option<u64>,
    /// What is wrong, worst first; empty: nothing is.
    pub incidents: Vec<Incident>,
    /// Findings, worst first; the fullest of each kind is among them.
    pub gauges: Vec<Gauge>,
    /// Where this host connects to, in no order.
    pub upstreams: Arc<Vec<Upstream>>,
    /// Processes that have sockets, or whose calls failed; in no order.
    pub processes: Arc<Vec<Process>>,
    /// What there was no room for in here.
    pub left_out: LeftOut,
    /// How all this came to be known, and what that costs.
    pub ground: Ground,
    /// What could not be seen, and how to get it.
    pub unseen: Arc<Vec<String>>,
    /// Our own network namespace: subjects in others are shown with theirs.
    pub own_netns: Option<u32>,
}

/// Rows that a shot has no room for: the quietest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Incidents.
    pub incidents: u64,
    /// Findings.
    pub gauges: u64,
    /// Upstreams.
    pub upstreams: u64,
    /// Processes.
    pub processes: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// How bad.
    pub status: Status,
    /// What it is about.
    pub about: About,
    /// One sentence: who can't do what, toward whom, why, how often. Foreign names in it are inert.
    pub sentence: String,
    /// What to do: one of these.
    pub remedy: Vec<String>,
    /// Failures a second; 0: none yet.
    pub per_s: f64,
    /// A figure in it was inferred, or events were lost meanwhile: there may be more.
    pub doubt: Option<&'static str>,
}

/// What an incident is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// A ceiling.
    Ceiling(Subject),
    /// Failures toward an upstream that no ceiling caused.
    Upstream(UpstreamKey),
    /// Failures of this host's clients, or without a remote end.
    Other,
}

/// A finding, and how it came there.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// The finding, without the ages of its entries.
    pub judged: Arc<Judged>,
    /// Used part of the limit (0 to 1, and above) at each shot, oldest first; the last is now.
    pub trend: Arc<[f32]>,
    /// Failures a second, lately.
    pub fails_per_s: f64,
}

/// An upstream by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UpstreamKey {
    /// Network namespace.
    pub netns: Option<u32>,
    /// Address.
    pub dst: IpAddr,
    /// Port.
    pub dport: u16,
}

/// In few pieces, as each has its price and every event is looked up by its upstream.
impl Hash for UpstreamKey {
    fn hash<H: Hasher>(&self, to: &mut H) {
        to.write_u128(address_bits(Some(self.dst)));
        to.write_u64((u64::from(self.dport) << 32) | u64::from(self.netns.unwrap_or(0)));
    }
}

/// Where this host connects to.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub key: UpstreamKey,
    /// Its sockets, as they were last listed; `None`: not yet.
    pub sockets: Option<Sockets>,
    /// Local ports of the source address with the least room; `None`: not known.
    pub ports: Option<Ports>,
    /// Connections that became established, a second.
    pub opened_per_s: f64,
    /// Connections that began to close, or were reset, a second.
    pub closed_per_s: f64,
    /// Entries in TIME-WAIT made a second; `None`: not known.
    pub time_wait_per_s: Option<f64>,
    /// That rate was concluded from state changes.
    pub time_wait_inferred: bool,
    /// Connections that this side closed first, since the start.
    pub closed_here: u64,
    /// Connections that the upstream closed first, since the start.
    pub closed_by_peer: u64,
    /// Failures by reason since the start, most first; of an unknown reason: `None`.
    pub failures: Vec<(Option<Reason>, u64)>,
    /// Failures a second.
    pub fails_per_s: f64,
    /// How long a connect took lately; `None`: none succeeded.
    pub latency: Option<Latency>,
    /// Source addresses, the one with the least room first; some only.
    pub sources: Arc<[Source]>,
    /// Processes with sockets toward it, most first; some only.
    pub processes: Arc<[(u32, Comm, u64)]>,
}

impl Upstream {
    /// Failures since the start.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

/// Sockets by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// ESTAB
    pub established: u64,
    /// SYN-SENT
    pub connecting: u64,
    /// TIME-WAIT
    pub time_wait: u64,
    /// FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT, LAST-ACK, CLOSING
    pub other: u64,
}

/// Local ports from a source address toward an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Taken.
    pub used: u64,
    /// There are.
    pub usable: u64,
    /// One of the two was inferred.
    pub inferred: bool,
}

impl Ports {
    /// Used part, 0 to 1 and above; 1 where there are none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn ratio(&self) -> f64 {
        if self.usable == 0 { 1.0 } else { self.used as f64 / self.usable as f64 }
    }
}

/// A source address of connections to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The address.
    pub src: IpAddr,
    /// Its ports.
    pub ports: Ports,
}

/// How long `connect()` took, from SYN-SENT to ESTAB, in microseconds: each a step of a histogram, at most
/// 25 % too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Median.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: Comm,
    /// Open files and the soft limit; `None`: hidden, or the process has ended.
    pub files: Option<(u64, u64)>,
    /// Connections that it has open and accepted, and those that it has open and made; `None`: not known.
    pub connections: Option<(u64, u64)>,
    /// Connections that it had accepted and that began to close, a second: who accepts one is seen when it
    /// ends.
    pub served_per_s: f64,
    /// Connections that it made, a second.
    pub opened_per_s: f64,
    /// Calls and connections that failed, since the start.
    pub failed: u64,
    /// The same a second.
    pub fails_per_s: f64,
    /// The reason of most failures.
    pub worst: Option<Reason>,
}

/// How things came to be known.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Why there are no events; `None`: they flow.
    pub blind: Option<Arc<str>>,
    /// Which hook each kind of event has.
    pub hooks: Arc<Vec<Hook>>,
    /// Kinds of events that no hook of this kernel shows, and why.
    pub unhooked: Arc<Vec<(Cow<'static, str>, String)>>,
    /// Events a second.
    pub events_per_s: f64,
    /// Events since the start.
    pub events: u64,
    /// Lost since the start.
    pub lost: Loss,
    /// Lost since the shot before.
    pub losing: bool,
    /// Events that are in no row of an upstream or a process, and failures of the last seconds that are in no
    /// incident: there was no room for more.
    pub unlisted: u64,
    /// Processor time of ours, percent of one core, since the shot before.
    pub cpu_percent: f64,
    /// Our resident memory, bytes.
    pub resident: u64,
    /// How long the last listing took, milliseconds.
    pub listing_ms: f64,
    /// How often sockets are listed, seconds.
    pub listing_every_s: f64,
    /// Processor time that the last frame took, and the longest of the last minute, microseconds.
    pub frame_us: (u64, u64),
    /// It comes from a capture; `None`: it is what happens now.
    pub recorded: Option<Recorded>,
}

/// Where a capture comes from.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Where, when and by what it was recorded, inert.
    pub about: Arc<str>,
    /// A part before this moment can't be read: there may be more events.
    pub damaged: bool,
}

/// A hook in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The kind of event.
    pub event: Cow<'static, str>,
    /// The rung.
    pub rung: Cow<'static, str>,
    /// What it costs.
    pub cost: Cow<'static, str>,
    /// The event is concluded from others.
    pub inferred: bool,
    /// What this rung can't do.
    pub notes: Vec<String>,
}
