//! Nginx. `ngx_get_connection` (`src/core/ngx_connection.c`) gives each connection a slot of its worker's
//! `worker_connections`: those to clients and to upstreams, the listeners, and the channel to the master. Where none is
//! free it closes idle ones, and then says so: "`worker_connections` are not enough".

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use super::{Bound, Name, subject};
use crate::{
    ceilings::Ceiling,
    event::State,
    human::thousands,
    kernel::{
        owners::Holder,
        survey::{Namespace, Survey},
    },
    proxies::nginx::{
        Nginx, Worker,
        leads::Leads,
        settings::{Place, Set, Upstream},
    },
};

/// A worker's end of the channel to its master has a slot too (`ngx_add_channel_event`).
const CHANNEL: u64 = 1;
/// A request that is passed on takes two slots, and two files.
const PER_REQUEST: u64 = 2;

/// The findings of one Nginx.
pub(super) fn assess(nginx: &Nginx, survey: &Survey) -> Vec<Ceiling> {
    let namespace =
        survey.namespaces.iter().find(|namespace| Some(namespace.netns) == nginx.master.netns);
    let listeners = listeners(nginx, namespace);
    let mut found: Vec<_> = nginx
        .workers
        .iter()
        .filter(|worker| !worker.shutting_down)
        .map(|worker| of_worker(nginx, worker, listeners))
        .collect();
    if let Some(namespace) = namespace {
        found.extend(max_conns(nginx, namespace, survey));
    }
    let notes = notes(nginx);
    for ceiling in &mut found {
        ceiling.inferred |= nginx.changed_since;
        ceiling.notes.extend(notes.iter().cloned());
    }
    found
}

/// How many listeners a worker accepts from: each address once, since with `reuseport` each worker has the others'
/// too, and leaves them alone (`ngx_event_process_init`).
fn listeners(nginx: &Nginx, namespace: Option<&Namespace>) -> u64 {
    let of_master: HashSet<u32> = nginx.listening.iter().copied().collect();
    let sockets = namespace.into_iter().flat_map(|namespace| &namespace.sockets);
    let addresses: HashSet<_> = sockets
        .filter(|socket| socket.state == State::LISTEN && of_master.contains(&socket.inode))
        .map(|socket| (socket.src, socket.sport))
        .collect();
    let unix = nginx.settings.listens.iter().filter(|listen| listen.name.starts_with("unix:"));
    let unix: HashSet<_> = unix.map(|listen| &listen.name).collect();
    (addresses.len() + unix.len()) as u64
}

fn of_worker(nginx: &Nginx, worker: &Worker, listeners: u64) -> Ceiling {
    let settings = &nginx.settings;
    let Set { value: limit, place } = &settings.worker_connections;
    let used = worker.sockets + listeners + CHANNEL;
    let mut ceiling = Ceiling::new(subject(&worker.located, Bound::Worker), used, *limit);
    ceiling.inferred = worker.inferred;
    let pid = worker.located.process.pid;
    ceiling.evidence = format!(
        "sockets of /proc/{pid}/fd that no other process has ({}), its listeners ({listeners}), its channel; \
         worker_connections {}",
        worker.sockets,
        at(place.as_ref()),
    )
    .into();
    let value = limit.saturating_mul(2);
    let (_, files) = worker.files;
    let needs = if files < value {
        format!("worker_rlimit_nofile {}; and ", value.saturating_mul(PER_REQUEST))
    } else {
        String::new()
    };
    ceiling.remedy.push(format!(
        "{needs}worker_connections {value}; in its configuration, then nginx -s reload"
    ));
    if let Some(name) = without_keepalive(nginx) {
        ceiling.notes.push(format!(
            "upstream {name} is passed requests without keepalive: each takes a connection of its own"
        ));
    }
    if files < *limit {
        ceiling.notes.push(format!(
            "worker_connections {} is above its limit of open files ({}), which it reaches first: worker_rlimit_nofile \
             {};",
            thousands(*limit),
            thousands(files),
            limit.saturating_mul(PER_REQUEST),
        ));
    }
    ceiling
}

fn at(place: Option<&Place>) -> String {
    place.map_or_else(
        || "is not set: the default".to_owned(),
        |place| format!("in {}", shown(place)),
    )
}

/// `FILE:LINE`, inert.
pub(super) fn shown(place: &Place) -> String {
    format!("{}:{}", Name::new(&place.file.to_string_lossy()), place.line)
}

/// An upstream that is used, and keeps no connections.
fn without_keepalive(nginx: &Nginx) -> Option<Name> {
    let used = |upstream: &&Upstream| {
        !upstream.stream && nginx.settings.passes.iter().any(|pass| pass.target == upstream.name)
    };
    let without = |upstream: &&Upstream| nginx.settings.idle(upstream).is_none();
    nginx.settings.upstreams.iter().filter(used).find(without).map(|it| Name::new(&it.name))
}

/// Servers whose connections are bounded, by worker, or for all where the upstream has a `zone`.
fn max_conns(nginx: &Nginx, namespace: &Namespace, survey: &Survey) -> Vec<Ceiling> {
    let servers = nginx.settings.upstreams.iter().flat_map(|upstream| {
        let bounded = upstream.servers.iter().filter(|server| !server.down);
        bounded
            .filter_map(move |server| Some((upstream, server, server.address?, server.max_conns?)))
    });
    let servers: Vec<_> = servers.collect();
    if servers.is_empty() {
        return Vec::new();
    }
    let workers: HashSet<u32> =
        nginx.workers.iter().map(|worker| worker.located.process.pid).collect();
    let mut used: HashMap<(u32, SocketAddr), u64> = HashMap::new();
    let has_inode = namespace.sockets.iter().filter(|socket| socket.inode != 0);
    for socket in has_inode.filter(|socket| socket.state != State::LISTEN) {
        if let Some(Holder::One(process)) = survey.owners.of(socket.inode)
            && workers.contains(&process.pid)
        {
            let to = SocketAddr::new(socket.dst, socket.dport);
            *used.entry((process.pid, to)).or_default() += 1;
        }
    }
    // Whose connections to an address are whose is not told where several lead there.
    let leads = Leads::of(&nginx.settings);
    let mut found = Vec::new();
    for (upstream, server, (address, port), limit) in servers {
        let shared = leads.toward(address, port).len() > 1;
        let to = SocketAddr::new(address, port);
        let of =
            |worker: &Worker| used.get(&(worker.located.process.pid, to)).copied().unwrap_or(0);
        let name = Name::new(&format!("{} in upstream {}", server.name, upstream.name));
        let mut add = |located, used| {
            let mut ceiling =
                Ceiling::new(subject(located, Bound::MaxConns(name.clone())), used, limit);
            ceiling.evidence =
                format!("its connections to {to}; max_conns in {}", shown(&server.place)).into();
            ceiling.remedy.push(format!("max_conns={} or no max_conns", limit.saturating_mul(2)));
            if nginx.settings.idle(upstream).is_some() {
                ceiling.inferred = true;
                let note = "connections kept for another request are counted here, Nginx counts them only with zone";
                ceiling.notes.push(note.to_owned());
            }
            if shared {
                ceiling.inferred = true;
                ceiling.notes.push(format!(
                    "other upstream blocks or directives lead to {to}, too: theirs are counted here"
                ));
            }
            found.push(ceiling);
        };
        if upstream.zone {
            add(&nginx.master, nginx.workers.iter().map(of).sum());
        } else {
            nginx.workers.iter().for_each(|worker| add(&worker.located, of(worker)));
        }
    }
    found
}

/// What one should know of all of them.
fn notes(nginx: &Nginx) -> Vec<String> {
    let mut notes = Vec::new();
    if nginx.changed_since {
        notes.push(
            "its configuration was changed after its workers had started: they may run by an older one"
                .to_owned(),
        );
    }
    let old: Vec<_> = nginx.workers.iter().filter(|worker| worker.shutting_down).collect();
    if !old.is_empty() {
        let sockets: u64 = old.iter().map(|worker| worker.sockets).sum();
        let (who, are) = match old.len() {
            1 => ("a worker".to_owned(), "is"),
            more => (format!("{more} workers"), "are"),
        };
        notes.push(format!(
            "{who} from before a reload {are} shutting down, with {} connections left, which are not in here",
            thousands(sockets)
        ));
    }
    notes
}
