//! Ephemeral ports: how many local ports a (namespace, local address, upstream) has, and uses.
//!
//! A connect needs a port that is unique for its (local address, remote address, remote port), so
//! the same port serves many upstreams, and a figure for the whole host would mean nothing. The rules are
//! those of `__inet_hash_connect` and `__inet_check_established` (`net/ipv4/inet_hashtables.c`) and
//! `tcp_twsk_unique` (`net/ipv4/tcp_ipv4.c`).

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use super::{
    Ceiling, Passing, Subject, Telling, Traffic, User, bind_pool,
    proxy::advice::{Advice, Use},
    remedy,
    tally::Whose,
};
use crate::{
    event::State,
    kernel::{
        ground::before,
        owners::{Holder, Owners},
        settings::Settings,
        sock_diag::Socket,
        survey::{BoundPorts, Namespace},
        tables::Tuple,
    },
    ports::PortSet,
};

/// How long an entry stays in TIME-WAIT, seconds (`TCP_TIMEWAIT_LEN` in `include/net/tcp.h`: a constant).
pub const TIME_WAIT_S: f64 = 60.0;
/// Index of `lo` in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// Most groups of a namespace that are told of: anybody can make many.
const MAX_GROUPS: usize = 16_384;
/// Most port ranges of their own that are told of a group's sockets.
const MAX_RANGES: usize = 16;
/// Fewer ports than this in a range of their own are meant to be used up.
const FEW_PORTS: usize = 16;
/// Most processes that are named.
const MAX_WHO: usize = 5;

/// Local ports toward one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// Ports that can't be taken, since a socket of this group has them: in any state, TIME-WAIT too
    /// unless it may be reused.
    pub used: u32,
    /// Ports that `connect()` may choose from: the range, less reserved ports, less ports that somebody
    /// has by `bind()`.
    pub usable: u32,
}

/// Ports that `connect()` may choose from in a namespace.
#[must_use]
pub fn usable(settings: &Settings, bound: &PortSet) -> PortSet {
    let range = &settings.port_range;
    let mut usable = PortSet::from(range.clone());
    usable.subtract(&settings.reserved);
    usable.subtract(bound);
    // Of three ports the first two are tried: the scan begins at an even offset below two.
    if range.len() == 3 {
        usable.remove(*range.end());
    }
    usable
}

/// What is common to the sockets of a group: they compete for ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Group {
    src: IpAddr,
    dst: IpAddr,
    dport: u16,
    interface: u32,
}

impl Group {
    fn of(socket: &Socket) -> Self {
        Self { src: socket.src, dst: socket.dst, dport: socket.dport, interface: socket.interface }
    }

    fn to(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dport)
    }

    fn subject(&self, netns: u32, range: Option<(u16, u16)>) -> Subject {
        let Self { src, dst, dport, interface } = *self;
        Subject::Upstream { netns, src, dst, dport, interface, range }
    }
}

/// Which TIME-WAIT entries `connect()` may take over.
struct Reuse<'a> {
    settings: &'a Settings,
    ports: &'a BoundPorts,
    /// Entries whose peer has not closed yet may be taken over too: until about Linux 6.0.
    fin_wait2: bool,
}

impl<'a> Reuse<'a> {
    fn of(namespace: &'a Namespace) -> Self {
        let (settings, ports) = (&namespace.settings, &namespace.ports);
        Self { settings, ports, fin_wait2: before((6, 0)) }
    }

    /// Seconds from which on an entry may be taken over. `None`: never.
    fn delay_s(&self, src: IpAddr, dst: IpAddr, interface: u32) -> Option<f64> {
        let loopback = src.is_loopback() || dst.is_loopback() || interface == LOOPBACK;
        let on = match self.settings.tw_reuse {
            0 => false,
            2 => loopback,
            _ => true,
        };
        on.then_some(f64::from(self.settings.tw_reuse_delay_ms) / 1000.0)
    }

    /// The same for one entry, given its age.
    fn takes(&self, netns: u32, socket: &Socket, age_s: f64) -> bool {
        let Some(delay) = self.delay_s(socket.src, socket.dst, socket.interface) else {
            return false;
        };
        let stamped = match &self.ports.unstamped {
            Some(unstamped) => !unstamped.contains(&tuple(netns, socket)),
            None => self.settings.timestamps,
        };
        let in_time_wait = socket.state == State::TIME_WAIT || self.fin_wait2;
        in_time_wait && stamped && age_s >= delay
    }
}

fn tuple(netns: u32, socket: &Socket) -> Tuple {
    let Socket { src, sport, dst, dport, .. } = *socket;
    Tuple { netns, src, sport, dst, dport }
}

/// Seconds since it became an entry of TIME-WAIT's kind.
pub(super) fn age_s(socket: &Socket) -> Option<f64> {
    Some((TIME_WAIT_S - socket.time_left?.as_secs_f64()).max(0.0))
}

/// What a group's sockets are.
#[derive(Default)]
struct Members<'a> {
    sockets: Vec<&'a Socket>,
}

impl Members<'_> {
    /// The ports that can't be taken, and the rest.
    fn count(&self, namespace: &Namespace, reuse: &Reuse<'_>, within: &PortSet) -> Count {
        let mut count = Count::default();
        for socket in &self.sockets {
            if !within.contains(socket.sport) {
                continue;
            }
            *count.states.entry(socket.state).or_default() += 1;
            let age = age_s(socket);
            if let Some(age) = age {
                count.ages_s.push(age);
            }
            if age.is_some_and(|age| reuse.takes(namespace.netns, socket, age)) {
                count.reusable += 1;
            } else {
                count.held.insert(socket.sport);
            }
        }
        count
    }
}

#[derive(Default)]
struct Count {
    held: HashSet<u16>,
    reusable: u64,
    states: std::collections::BTreeMap<State, u64>,
    ages_s: Vec<f64>,
}

/// Local ports from an address toward one upstream.
#[must_use]
pub fn measure(namespace: &Namespace, src: IpAddr, dst: IpAddr, dport: u16) -> PortUse {
    let usable = usable(&namespace.settings, &namespace.ports.bound);
    let wanted = Group { src, dst, dport, interface: 0 };
    let of_it = |socket: &&Socket| socket.is_connection() && Group::of(socket) == wanted;
    let members = Members { sockets: namespace.sockets.iter().filter(of_it).collect() };
    let used = members.count(namespace, &Reuse::of(namespace), &usable).held.len();
    PortUse { used: u32::try_from(used).unwrap_or(u32::MAX), usable: usable.len() }
}

/// All groups of a namespace, and its pools for `bind()`. Gives also how many groups were left out, those with
/// the fewest sockets.
pub(super) fn assess(
    namespace: &Namespace,
    owners: &Owners,
    advice: &Advice<'_>,
    telling: &Telling<'_>,
) -> (Vec<Ceiling>, usize) {
    let failing = telling.failing;
    let usable = usable(&namespace.settings, &namespace.ports.bound);
    let reuse = Reuse::of(namespace);
    let mut groups: HashMap<Group, Members<'_>> = HashMap::new();
    for socket in namespace.sockets.iter().filter(|socket| socket.is_connection()) {
        if usable.contains(socket.sport) {
            groups.entry(Group::of(socket)).or_default().sockets.push(socket);
        }
    }
    for whose in failing {
        if let Whose::Upstream { src, dst, dport, .. } = *whose {
            groups.entry(Group { src, dst, dport, interface: 0 }).or_default();
        }
    }
    // One that is bound to an interface finds the ports taken of those that aren't, too.
    let bound: Vec<Group> = groups.keys().filter(|group| group.interface != 0).copied().collect();
    for group in bound {
        let others = groups.get(&Group { interface: 0, ..group });
        let others = others.map(|members| members.sockets.clone()).unwrap_or_default();
        groups.entry(group).or_default().sockets.extend(others);
    }
    let left_out = groups.len().saturating_sub(MAX_GROUPS);
    if left_out > 0 {
        let mut by_size: Vec<_> = groups.into_iter().collect();
        by_size.sort_by_key(|(group, members)| (Reverse(members.sockets.len()), *group));
        by_size.truncate(MAX_GROUPS);
        groups = by_size.into_iter().collect();
    }
    let whole = &namespace.settings.port_range;
    let wider = remedy::Wider::of(namespace);
    let mut sources: HashMap<SocketAddr, HashSet<IpAddr>> = HashMap::new();
    for group in groups.keys() {
        sources.entry(group.to()).or_default().insert(group.src);
    }
    let wider = wider.as_ref();
    let place = Place { namespace, owners, reuse, wider, advice, sources, telling };
    let pool = Pool::new(&place, usable, whole.clone(), false);
    let mut found = Vec::with_capacity(groups.len());
    for (group, members) in &groups {
        found.push(pool.assess(*group, members));
        let mut ranges: Vec<_> = members
            .sockets
            .iter()
            .filter_map(|socket| namespace.ports.ranged.get(&tuple(namespace.netns, socket)))
            .map(|range| own_range(range, whole))
            .collect();
        ranges.sort_by_key(|range| (*range.start(), *range.end()));
        ranges.dedup();
        ranges.truncate(MAX_RANGES);
        for range in ranges {
            // Without the rule for a range of three: such sockets try every port.
            let mut usable = PortSet::from(range.clone());
            usable.subtract(&namespace.settings.reserved);
            usable.subtract(&namespace.ports.bound);
            found.push(Pool::new(&place, usable, range, true).assess(*group, members));
        }
    }
    found.extend(bind_pool::assess(namespace, failing, wider));
    (found, left_out)
}

/// What a socket's own range comes to: each end counts where it lies in the namespace's
/// (`inet_sk_get_local_port_range` in `net/ipv4/inet_connection_sock.c`).
fn own_range(own: &RangeInclusive<u16>, whole: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    let end = |own: &u16, whole_end: &u16| if whole.contains(own) { *own } else { *whole_end };
    end(own.start(), whole.start())..=end(own.end(), whole.end())
}

/// What is common to the groups of a namespace.
struct Place<'a> {
    namespace: &'a Namespace,
    owners: &'a Owners,
    reuse: Reuse<'a>,
    wider: Option<&'a remedy::Wider>,
    advice: &'a Advice<'a>,
    /// From which addresses there are sockets toward each.
    sources: HashMap<SocketAddr, HashSet<IpAddr>>,
    telling: &'a Telling<'a>,
}

/// Ports to choose from.
struct Pool<'a> {
    place: &'a Place<'a>,
    usable: PortSet,
    range: RangeInclusive<u16>,
    /// The sockets' own range.
    own: bool,
    evidence: String,
}

impl<'a> Pool<'a> {
    fn new(place: &'a Place<'a>, usable: PortSet, range: RangeInclusive<u16>, own: bool) -> Self {
        let namespace = place.namespace;
        let (first, last) = (range.start(), range.end());
        let of = |set: &PortSet| set.len_within(&range);
        let source = if own { "IP_LOCAL_PORT_RANGE" } else { "net.ipv4.ip_local_port_range" };
        let (reserved, bound) = (of(&namespace.settings.reserved), of(&namespace.ports.bound));
        let by = if namespace.ports.inferred { "sock_diag" } else { "the kernel's bind table" };
        let evidence = format!(
            "{source} {first}-{last}, {reserved} reserved (ip_local_reserved_ports), {bound} held by bind() ({by}); \
             sockets from sock_diag"
        );
        Self { place, usable, range, own, evidence }
    }

    fn assess(&self, group: Group, members: &Members<'_>) -> Ceiling {
        let Place { namespace, owners, reuse, wider, advice, sources, telling } = self.place;
        let limit = u64::from(self.usable.len());
        let count = members.count(namespace, reuse, &self.usable);
        let range = self.own.then_some((*self.range.start(), *self.range.end()));
        let subject = group.subject(namespace.netns, range);
        let mut ceiling = Ceiling::new(subject, count.held.len() as u64, limit);
        // With stamps that are not known to lack.
        let delay_s = reuse
            .delay_s(group.src, group.dst, group.interface)
            .filter(|_| namespace.settings.timestamps);
        let hold_s = delay_s.unwrap_or(TIME_WAIT_S);
        ceiling.traffic = Some(Traffic {
            states: count.states,
            reusable: count.reusable,
            entered_per_s: None,
            sustainable_per_s: Some(sustainable(limit, hold_s)),
            closed: None,
        });
        ceiling.passing = Passing { ages_s: count.ages_s, hold_s };
        ceiling.idle = self.own && self.range.len() < FEW_PORTS;
        ceiling.who = who(&members.sockets, owners);
        let stamps_assumed = reuse.ports.unstamped.is_none() && count.reusable > 0;
        ceiling.inferred = namespace.ports.inferred || stamps_assumed;
        if !telling.in_full(&ceiling) {
            return ceiling;
        }
        ceiling.evidence = self.evidence.clone().into();
        let established =
            ceiling.traffic.iter().filter_map(|it| it.states.get(&State::ESTABLISHED));
        let what = Use {
            src: group.src,
            to: group.to(),
            established: established.sum(),
            sources: sources.get(&group.to()).map_or(0, HashSet::len),
            ports: limit,
            who: &ceiling.who,
        };
        let fitting = advice.fitting(what);
        ceiling.remedy = remedy::ports(namespace, *wider, what, fitting, delay_s.is_some());
        if self.range.len() % 2 == 1 && self.range.len() > 3 && (!self.own || before((6, 12))) {
            ceiling
                .notes
                .push("the range has an odd number of ports: one less may be reachable".to_owned());
        }
        if namespace.ports.inferred {
            ceiling.notes.push(
                "limit inferred: ports that connected sockets hold by bind() are not known"
                    .to_owned(),
            );
        }
        if stamps_assumed {
            ceiling.notes.push(
                "used inferred: that connections in TIME-WAIT had timestamps is assumed".to_owned(),
            );
        }
        ceiling
    }
}

/// New connections per second that `ports` allow when each holds one for `hold_s` after its end.
#[must_use]
pub fn sustainable(ports: u64, hold_s: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let ports = ports as f64;
    ports / hold_s
}

/// The processes that have these sockets open.
fn who(sockets: &[&Socket], owners: &Owners) -> Vec<User> {
    let mut counts: HashMap<u32, (crate::event::Comm, u64)> = HashMap::new();
    for socket in sockets.iter().filter(|socket| socket.inode != 0) {
        if let Some(Holder::One(process)) = owners.of(socket.inode) {
            counts.entry(process.pid).or_insert((process.comm, 0)).1 += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(pid, (_, sockets))| (Reverse(sockets), pid));
    let named = counts.into_iter().take(MAX_WHO);
    named.map(|(pid, (comm, sockets))| User::Process(pid, comm, sockets)).collect()
}
