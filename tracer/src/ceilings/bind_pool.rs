//! Pools of `bind()` to port 0 without `IP_BIND_ADDRESS_NO_PORT`, one for each local address, for all
//! destinations together: a port is taken while any socket of that address, or of the wildcard, has it
//! (`inet_csk_find_open_port`, `inet_csk_bind_conflict` in `net/ipv4/inet_connection_sock.c`).

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{Ceiling, Subject, remedy, tally::Whose};
use crate::{
    event::State,
    kernel::{ground::before, survey::Namespace},
    ports::PortSet,
};

/// What is common to the pools of a namespace.
struct Pools {
    /// The range, less reserved ports.
    pool: PortSet,
    taken: HashMap<IpAddr, PortSet>,
    wildcard: PortSet,
    /// Ports that somebody has by `bind()` and isn't listening on.
    bound: PortSet,
    /// Ports of sockets that the kernel doesn't list.
    unlisted: PortSet,
}

impl Pools {
    fn of(namespace: &Namespace) -> Self {
        let settings = &namespace.settings;
        let mut pool = PortSet::from(settings.port_range.clone());
        pool.subtract(&settings.reserved);
        if settings.port_range.len() == 3 {
            pool.remove(*settings.port_range.end());
        }
        let (mut taken, mut wildcard) = (HashMap::<_, PortSet>::new(), PortSet::default());
        let (mut listed, mut listens) = (PortSet::default(), PortSet::default());
        for socket in namespace.sockets.iter().filter(|socket| pool.contains(socket.sport)) {
            listed.insert(socket.sport);
            if socket.state == State::LISTEN {
                listens.insert(socket.sport);
            }
            if socket.src.is_unspecified() {
                wildcard.insert(socket.sport);
            } else {
                taken.entry(socket.src).or_default().insert(socket.sport);
            }
        }
        let mut bound = PortSet::from(settings.port_range.clone());
        bound.retain(&namespace.ports.bound);
        let mut unlisted = bound.clone();
        unlisted.subtract(&listed);
        bound.subtract(&listens);
        Self { pool, taken, wildcard, bound, unlisted }
    }

    fn taken(&self, src: IpAddr) -> PortSet {
        let mut taken = self.wildcard.clone();
        taken.add(&self.unlisted);
        if src.is_unspecified() {
            self.taken.values().for_each(|ports| taken.add(ports));
        } else if let Some(ports) = self.taken.get(&src) {
            taken.add(ports);
        }
        taken.retain(&self.pool);
        taken
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
    let mut addresses: HashSet<IpAddr> = pools.taken.keys().copied().collect();
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
        ceiling.remedy = remedy::bind_pool(wider);
        ceiling
    });
    found.collect()
}

fn complete(ceiling: &mut Ceiling, namespace: &Namespace, pools: &Pools) {
    let range = &namespace.settings.port_range;
    ceiling.idle = pools.bound.is_empty();
    if ceiling.idle {
        ceiling.notes.push("nobody seems to bind to port 0: no finding".to_owned());
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
    if !pools.unlisted.is_empty() {
        ceiling.notes.push(format!(
            "used inferred: of {} ports it is not known which address has them",
            pools.unlisted.len()
        ));
    } else if namespace.ports.inferred && before((6, 8)) {
        ceiling
            .notes
            .push("used inferred: sockets that are bound and no more are not known".to_owned());
    }
}
