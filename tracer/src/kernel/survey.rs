//! What the ceilings are judged by: settings, counters, sockets and open files of this host, read once.
//! Works without eBPF, and as far as the kernel allows without privilege; says what it could not see.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use tracer_ebpf::state;

use super::{
    conntrack::{self, Conntrack},
    counters::Counters,
    ground::before,
    netns,
    owners::{Look, Owners},
    proc_net,
    ring::boot_time_ns,
    settings::{self, Settings},
    snapshot::Which,
    sock_diag::{self, ALL_STATES, Coverage, Socket},
    tables::{Held, Tables, Tuple},
};
use crate::ports::PortSet;

/// Most sockets of a survey: bounds its memory to some 600 MB.
const MAX_SOCKETS: usize = 4_000_000;

/// From how full a conntrack table on its entries are listed: that costs about 1 µs each.
const LIST_CONNTRACK_FROM: f64 = 0.7;
/// Most addresses that are named as filling a conntrack table.
const MAX_FILLERS: usize = 10;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Which network namespaces.
    pub namespaces: Which,
    /// Whose open files; empty: everybody's.
    pub pids: Vec<u32>,
}

/// This host at one time.
#[derive(Debug, Default)]
pub struct Survey {
    /// When: nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// The network namespaces, by inode number.
    pub namespaces: Vec<Namespace>,
    /// Who has sockets open, and how many files.
    pub owners: Owners,
    /// Open files of the host and room for them (`fs.file-nr`).
    pub host_files: Option<(u64, u64)>,
    /// The largest soft limit that a process may be given (`fs.nr_open`).
    pub nr_open: Option<u64>,
    /// What could not be seen, and how to get it.
    pub unseen: Vec<String>,
}

/// One network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Inode number.
    pub netns: u32,
    /// A file that stands for it; `None`: it is our own.
    pub path: Option<PathBuf>,
    /// Its settings.
    pub settings: Settings,
    /// Its counters.
    pub counters: Counters,
    /// Its conntrack table; `None`: the kernel tracks no connections.
    pub conntrack: Option<Conntrack>,
    /// Who fills that: entries by remote address, most first. Only where it is near its limit.
    pub fillers: Vec<(IpAddr, u64)>,
    /// Its TCP sockets.
    pub sockets: Vec<Socket>,
    /// What listeners dropped since they began, by cookie.
    pub drops: HashMap<u64, u32>,
    /// How `connect()` sees its ports.
    pub ports: BoundPorts,
}

/// Ports that somebody has by `bind()`, and what else `connect()` looks at.
#[derive(Clone, Debug, Default)]
pub struct BoundPorts {
    /// Ports that `connect()` passes over.
    pub bound: PortSet,
    /// TIME-WAIT entries that saw no timestamps. `None`: not known.
    pub unstamped: Option<HashSet<Tuple>>,
    /// Sockets with a port range of their own, as they asked for it.
    pub ranged: HashMap<Tuple, RangeInclusive<u16>>,
    /// Not read from the kernel's tables, but concluded from listeners and bound sockets: a port that a
    /// connected socket holds by `bind()` is missing.
    pub inferred: bool,
}

/// Takes surveys. Keeps what can be used again.
#[derive(Debug)]
pub struct Surveyor {
    scope: Scope,
    tables: Result<Arc<Mutex<Tables>>, String>,
}

impl Surveyor {
    /// Loads the programs that read the kernel's tables, where this may be done.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        let tables = Tables::load().map(|tables| Arc::new(Mutex::new(tables)));
        Self { scope, tables: tables.map_err(|error| format!("{error:#}")) }
    }

    /// Looks at the host now.
    #[must_use]
    pub fn take(&self) -> Survey {
        let mut survey = self.look(&self.scope.namespaces);
        self.files(&mut survey);
        survey
    }

    /// Looks at these network namespaces now, and at nobody's open files: those cost about 3 µs each.
    #[must_use]
    pub fn look(&self, which: &Which) -> Survey {
        let mut survey = Survey { at_ns: boot_time_ns(), ..Survey::default() };
        let namespaces = find(which, &mut survey.unseen);
        let mut room = MAX_SOCKETS;
        for (netns, path) in namespaces {
            let tables = self.tables.as_ref().ok().map(Arc::clone);
            let at = path.clone();
            let read =
                netns::inside_at(netns, at, move || read_here(netns, room, tables.as_deref()));
            match read {
                Ok(mut read) => {
                    room -= read.namespace.sockets.len();
                    let own = path.starts_with("/proc/thread-self");
                    read.namespace.path = (!own).then_some(path);
                    let named = |what| format!("network namespace {netns}: {what}");
                    survey.unseen.extend(read.unseen.into_iter().map(named));
                    survey.namespaces.push(read.namespace);
                }
                Err(error) => survey.unseen.push(format!(
                    "network namespace {netns} can't be looked at: {error:#} (as root it can)"
                )),
            }
        }
        survey.namespaces.sort_by_key(|namespace| namespace.netns);
        self.distribute(&mut survey);
        survey
    }

    /// Gives each namespace what the kernel's tables say of it.
    fn distribute(&self, survey: &mut Survey) {
        let held = match &self.tables {
            Ok(tables) => Ok(tables.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Err(why) => Err(why),
        };
        match held {
            Ok(held) => {
                if held.incomplete {
                    survey.unseen.push("some ports held by bind(): a bucket of the kernel's table was too full to be read".to_owned());
                }
                for namespace in &mut survey.namespaces {
                    namespace.ports = BoundPorts::of(namespace.netns, &held);
                }
            }
            Err(why) => {
                survey.unseen.push(format!(
                    "ports that connected sockets hold by bind(), and TIME-WAIT entries without timestamps: \
                     the kernel's tables can't be read: {why}"
                ));
                for namespace in &mut survey.namespaces {
                    namespace.ports = BoundPorts::concluded(&namespace.sockets);
                }
            }
        }
    }

    fn files(&self, survey: &mut Survey) {
        let look =
            if self.scope.pids.is_empty() { Look::All } else { Look::Pids(&self.scope.pids) };
        match Owners::find(look) {
            Ok(owners) => survey.owners = owners,
            Err(error) => survey.unseen.push(format!("open files: {error:#}")),
        }
        if survey.owners.denied > 0 {
            survey.unseen.push(format!(
                "open files of {} processes, and the sockets they own: they are hidden from this user (as root, or \
                 with CAP_SYS_PTRACE, they can be seen)",
                survey.owners.denied
            ));
        }
        survey.host_files = settings::read("fs/file-nr").ok().and_then(|text| {
            let mut words = text.split_whitespace();
            let open = words.next()?.parse().ok()?;
            Some((open, words.nth(1)?.parse().ok()?))
        });
        survey.nr_open = settings::read("fs/nr_open").ok().and_then(|text| settings::number(&text));
    }
}

fn find(which: &Which, unseen: &mut Vec<String>) -> Vec<(u32, PathBuf)> {
    let wanted: HashSet<u32> = match which {
        Which::All => {
            let all = netns::all();
            unseen.extend(all.unreadable);
            return all.namespaces.into_iter().collect();
        }
        Which::Only(wanted) => wanted.iter().copied().collect(),
    };
    let mut found = Vec::new();
    for netns in wanted {
        match netns::find(netns) {
            Some(path) => found.push((netns, path)),
            None => unseen.push(format!("network namespace {netns} is gone, or hidden")),
        }
    }
    found
}

impl BoundPorts {
    fn of(netns: u32, held: &Held) -> Self {
        Self {
            bound: held.bound.get(&netns).cloned().unwrap_or_default(),
            unstamped: Some(held.unstamped.iter().filter(|t| t.netns == netns).copied().collect()),
            ranged: held
                .ranged
                .iter()
                .filter(|(tuple, _)| tuple.netns == netns)
                .map(|(tuple, range)| (*tuple, range.clone()))
                .collect(),
            inferred: false,
        }
    }

    /// From what everybody may see.
    fn concluded(sockets: &[Socket]) -> Self {
        let has_port =
            |socket: &&Socket| [state::LISTEN, state::CLOSE].contains(&socket.state.number());
        let bound = sockets.iter().filter(has_port).map(|socket| socket.sport).collect();
        Self { bound, unstamped: None, ranged: HashMap::new(), inferred: true }
    }
}

/// What was read inside a namespace.
struct Read {
    namespace: Namespace,
    unseen: Vec<String>,
}

fn read_here(netns: u32, room: usize, tables: Option<&Mutex<Tables>>) -> Result<Read> {
    let mut unseen = Vec::new();
    let (mut sockets, mut beyond) = (Vec::new(), 0_usize);
    let mut add = |socket| {
        if sockets.len() < room {
            sockets.push(socket);
        } else {
            beyond += 1;
        }
    };
    match sock_diag::dump(ALL_STATES, None, &mut add) {
        Ok(Coverage::Whole) => {}
        Ok(Coverage::Interrupted) => {
            unseen.push(
                "sockets came and went while they were listed, some may be missing".to_owned(),
            );
        }
        Err(error) => {
            proc_net::list(&mut add)?;
            unseen.push(format!(
                "bound sockets and backlogs: read from /proc/net/tcp, for {error:#}"
            ));
        }
    }
    if beyond > 0 {
        unseen.push(format!("{beyond} sockets beyond the first {MAX_SOCKETS}"));
    }
    if let Some(tables) = tables {
        let read = tables.lock().unwrap_or_else(PoisonError::into_inner).read();
        if let Err(error) = read {
            unseen.push(format!("ports held by bind(): {error:#}"));
        }
    } else if before((6, 8)) {
        unseen.push(
            "sockets that are bound and no more: Linux 6.8 lists them to everybody".to_owned(),
        );
    }
    let conntrack = Conntrack::read_here()?;
    let mut fillers = Vec::new();
    if let Some(table) = &conntrack
        && is_nearly_full(table)
    {
        let own: HashSet<IpAddr> = sockets.iter().map(|socket: &Socket| socket.src).collect();
        match conntrack::fillers(&own.into_iter().collect::<Vec<_>>()) {
            Ok((found, _)) => fillers = found.into_iter().take(MAX_FILLERS).collect(),
            Err(error) => unseen.push(format!(
                "who fills the conntrack table: {error} (it takes CAP_NET_ADMIN and the module nf_conntrack_netlink)"
            )),
        }
    }
    let namespace = Namespace {
        netns,
        path: None,
        settings: Settings::read_here()?,
        counters: Counters::read_here()?,
        conntrack,
        fillers,
        drops: sock_diag::drops().unwrap_or_default(),
        sockets,
        ports: BoundPorts::default(),
    };
    Ok(Read { namespace, unseen })
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn is_nearly_full(table: &Conntrack) -> bool {
    table.max > 0 && table.count as f64 >= table.max as f64 * LIST_CONNTRACK_FROM
}
