//! Pools of `bind()` to port 0 without `IP_BIND_ADDRESS_NO_PORT`, one for each local address, for all
//! destinations together: a port is taken while any socket of that address, or of the wildcard, has it
//! (`inet_csk_find_open_port`, `inet_csk_bind_conflict` in `net/ipv4/inet_connection_sock.c`).

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{Ceiling, Subject, remedy, tally::Whose};
use crate::{
    event::State,
    kernel::{ground::before, survey::Namespace},
    ports::PortSet,
};

/// Most pools of a namespace that are told of: those with most ports in use.
const MAX_POOLS: usize = 1024;

/// What is common to the pools of a namespace.
struct Pools {
    /// The range, less reserved ports.
    pool: PortSet,
    taken: HashMap<IpAddr, Vec<u16>>,
    /// Those of `0.0.0.0`, which leave IPv6 addresses alone, and of `::`, which block all.
    any_v4: PortSet,
    any_v6: PortSet,
    /// Of IPv6 connections. They block `0.0.0.0` unless they were bound to their address
    /// (`__inet6_bind` makes such sockets IPv6 alone), and the kernel doesn't tell.
    connected_v6: PortSet,
    /// Ports that somebody has by `bind()` and isn't listening on.
    bound: PortSet,
    /// Ports of sockets that the kernel doesn't list.
    unlisted: PortSet,
    /// Ports that sockets which are listed have by `bind()`, where there may be others which aren't.
    shared: PortSet,
}

impl Pools {
    fn of(namespace: &Namespace) -> Self {
        let settings = &namespace.settings;
        let mut pool = PortSet::from(settings.port_range.clone());
        pool.subtract(&settings.reserved);
        if settings.port_range.len() == 3 {
            pool.remove(*settings.port_range.end());
        }
        let mut taken = HashMap::<_, Vec<u16>>::new();
        let (mut any_v4, mut any_v6) = (PortSet::default(), PortSet::default());
        let mut connected_v6 = PortSet::default();
        let (mut listed, mut listens) = (PortSet::default(), PortSet::default());
        for socket in namespace.sockets.iter().filter(|socket| pool.contains(socket.sport)) {
            listed.insert(socket.sport);
            if socket.state == State::LISTEN {
                listens.insert(socket.sport);
            }
            match socket.src {
                IpAddr::V4(any) if any.is_unspecified() => any_v4.insert(socket.sport),
                IpAddr::V6(any) if any.is_unspecified() => any_v6.insert(socket.sport),
                src => taken.entry(src).or_default().push(socket.sport),
            }
            let connected = ![State::LISTEN, State::CLOSE].contains(&socket.state);
            if socket.src.is_ipv6() && connected {
                connected_v6.insert(socket.sport);
            }
        }
        let mut bound = PortSet::from(settings.port_range.clone());
        bound.retain(&namespace.ports.bound);
        let mut unlisted = bound.clone();
        unlisted.subtract(&listed);
        let mut shared = PortSet::default();
        if before((6, 8)) {
            shared = bound.clone();
            shared.subtract(&unlisted);
            shared.retain(&pool);
        }
        bound.subtract(&listens);
        Self { pool, taken, any_v4, any_v6, connected_v6, bound, unlisted, shared }
    }

    /// As `inet_rcv_saddr_equal` (`net/ipv4/inet_connection_sock.c`) has it.
    fn taken(&self, src: IpAddr) -> PortSet {
        let mut taken = self.unlisted.clone();
        taken.add(&self.any_v6);
        if src.is_ipv4() || src.is_unspecified() {
            taken.add(&self.any_v4);
        }
        if src.is_unspecified() {
            let blocks = |other: &IpAddr| other.is_ipv4() || src.is_ipv6();
            let all = self.taken.iter().filter(|(other, _)| blocks(other));
            all.for_each(|(_, ports)| taken.extend(ports.iter().copied()));
            taken.add(&self.connected_v6);
        } else if let Some(ports) = self.taken.get(&src) {
            taken.extend(ports.iter().copied());
        }
        taken.retain(&self.pool);
        taken
    }

    /// Ports that may be free after all.
    fn doubtful(&self, src: IpAddr) -> PortSet {
        let mut doubtful = PortSet::default();
        if src.is_unspecified() && src.is_ipv4() {
            doubtful = self.connected_v6.clone();
            doubtful.subtract(&self.any_v4);
            let four = self.taken.iter().filter(|(other, _)| other.is_ipv4());
            four.flat_map(|(_, ports)| ports).for_each(|&port| doubtful.remove(port));
        }
        doubtful.add(&self.unlisted);
        doubtful.subtract(&self.any_v6);
        doubtful.retain(&self.pool);
        doubtful
    }

    /// What is not known of an address, in a person's words.
    fn doubts(&self, src: IpAddr) -> Vec<String> {
        let mut doubts = Vec::new();
        let doubtful = self.doubtful(src);
        if !doubtful.is_empty() {
            doubts.push(format!(
                "used inferred: of {} ports it is not known whether they block this address",
                doubtful.len()
            ));
        }
        let mut shared = self.shared.clone();
        shared.subtract(&self.taken(src));
        if !shared.is_empty() {
            doubts.push(format!(
                "used inferred: {} ports that other addresses have may be bound at this one too: before Linux 6.8 \
                 sockets that are bound and no more are not listed",
                shared.len()
            ));
        }
        doubts
    }
}

/// The pools of a namespace: of addresses that have sockets, or failed.
#[must_use]
pub(super) fn assess(
    namespace: &Namespace,
    failing: &[Whose],
    wider: Option<&remedy::Wider>,
) -> Vec<Ceiling> {
    let pools = Pools::of(namespace);
    let mut fullest: Vec<_> = pools.taken.iter().collect();
    fullest.sort_by_key(|(src, ports)| (Reverse(ports.len()), **src));
    let mut addresses: HashSet<IpAddr> =
        fullest.into_iter().take(MAX_POOLS).map(|(src, _)| *src).collect();
    if !addresses.is_empty() {
        addresses.insert(Ipv4Addr::UNSPECIFIED.into());
    }
    addresses.extend(failing.iter().filter_map(|whose| match *whose {
        Whose::BindPool { src, .. } => Some(src),
        _ => None,
    }));
    let found = addresses.into_iter().map(|src| {
        let subject = Subject::BindPool { netns: namespace.netns, src };
        let (used, limit) = (pools.taken(src).len(), pools.pool.len());
        let mut ceiling = Ceiling::new(subject, used.into(), limit.into());
        complete(&mut ceiling, namespace, &pools);
        let doubts = pools.doubts(src);
        ceiling.inferred |= !doubts.is_empty();
        ceiling.notes.extend(doubts);
        ceiling.remedy = remedy::bind_pool(wider);
        ceiling
    });
    found.collect()
}

fn complete(ceiling: &mut Ceiling, namespace: &Namespace, pools: &Pools) {
    let range = &namespace.settings.port_range;
    // A port or two are some service's; who binds to port 0 has many.
    ceiling.idle = pools.bound.len() * 20 < pools.pool.len();
    if ceiling.idle {
        ceiling.notes.push("hardly anybody binds to port 0: no finding unless it fails".to_owned());
    }
    ceiling.evidence = format!(
        "net.ipv4.ip_local_port_range {}-{}, {} reserved; sockets of this address from sock_diag",
        range.start(),
        range.end(),
        namespace.settings.reserved.len_within(range)
    )
    .into();
    if range.len() % 2 == 1 && range.len() > 3 {
        ceiling
            .notes
            .push("the range has an odd number of ports: one less may be reachable".to_owned());
    }
    if namespace.ports.inferred && before((6, 8)) {
        ceiling.inferred = true;
        ceiling
            .notes
            .push("used inferred: sockets that are bound and no more are not known".to_owned());
    }
}
