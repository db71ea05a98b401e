//! What the ceilings are judged by: settings, counters, sockets and open files of this host, read once.
//! Works without eBPF, and as far as the kernel allows without privilege; says what it could not see.

mod files;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::JoinHandle,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tracer_ebpf::state;

use self::files::Files;
use super::{
    conntrack::{self, Conntrack},
    counters::Counters,
    ground::before,
    netns,
    owners::Owners,
    proc_net,
    ring::boot_time_ns,
    settings::Settings,
    snapshot::Which,
    sock_diag::{self, ALL_STATES, Coverage, Socket},
    tables::{Held, Tables, Tuple},
};
use crate::{
    ports::PortSet,
    proxies::{self, Given, Proxies},
};

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
    /// Where proxies are to be read from, other than where they say.
    pub given: Given,
}

/// This host at one time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Survey {
    /// When sockets were listed: nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// The network namespaces, by inode number.
    pub namespaces: Vec<Namespace>,
    /// Who has sockets open, and how many files.
    pub owners: Owners,
    /// Open files of the host and room for them (`fs.file-nr`).
    pub host_files: Option<(u64, u64)>,
    /// The largest soft limit that a process may be given (`fs.nr_open`).
    pub nr_open: Option<u64>,
    /// What proxies say of themselves; not kept with the rest.
    #[serde(skip)]
    pub proxies: Proxies,
    /// What could not be seen, and how to get it.
    pub unseen: Vec<String>,
}

/// One network namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Loaded while other things are looked at.
    tables: Arc<Loading>,
    proxies: Mutex<proxies::Reader>,
}

/// What a thread loads.
#[derive(Debug)]
struct Loading {
    thread: Mutex<Option<JoinHandle<Result<Tables, String>>>>,
    loaded: OnceLock<Result<Mutex<Tables>, String>>,
}

impl Loading {
    fn begin() -> Self {
        let load = || Tables::load().map_err(|error| format!("{error:#}"));
        let thread = std::thread::Builder::new().name("tables".to_owned()).spawn(load).ok();
        Self { thread: Mutex::new(thread), loaded: OnceLock::new() }
    }

    /// The programs, or why there are none. Waits until they are loaded.
    fn get(&self) -> Result<MutexGuard<'_, Tables>, &str> {
        let loaded = self.loaded.get_or_init(|| {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            let loaded = thread.and_then(|thread| thread.join().ok());
            loaded
                .unwrap_or_else(|| Err("no thread could be had to load programs".to_owned()))
                .map(Mutex::new)
        });
        let tables = loaded.as_ref().map_err(String::as_str)?;
        Ok(tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Surveyor {
    /// Loads the programs that read the kernel's tables, where this may be done.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        let proxies = Mutex::new(proxies::Reader::new(scope.given.clone()));
        Self { scope, tables: Arc::new(Loading::begin()), proxies }
    }

    /// Looks at the host now.
    #[must_use]
    pub fn take(&self) -> Survey {
        self.take_with(|| Files::read(&self.scope, &self.proxies))
    }

    /// Looks at the host now, but for who has which socket open, which is taken from an earlier survey: what was
    /// opened since has no owner.
    #[must_use]
    pub fn take_again(&self, owners: Owners) -> Survey {
        self.take_with(|| Files::again(owners, &self.scope, &self.proxies))
    }

    fn take_with(&self, read: impl FnOnce() -> Files + Send) -> Survey {
        std::thread::scope(|scope| {
            let files = scope.spawn(read);
            let mut survey = self.look(&self.scope.namespaces);
            match files.join() {
                Ok(files) => files.put_into(&mut survey),
                Err(_) => survey.unseen.push("open files: reading them broke off".to_owned()),
            }
            survey
        })
    }

    /// Looks at these network namespaces now, and at nobody's open files: those cost about 3 µs each.
    #[must_use]
    pub fn look(&self, which: &Which) -> Survey {
        let mut survey = Survey::default();
        let namespaces = find(which, &mut survey.unseen);
        let began_ns = boot_time_ns();
        let (mut room, mut closed) = (MAX_SOCKETS, 0);
        for (netns, path) in namespaces {
            let (at, tables) = (path.clone(), Arc::clone(&self.tables));
            let read = netns::inside_at(netns, at, move || read_here(netns, room, &tables));
            match read {
                Ok(mut read) => {
                    room -= read.namespace.sockets.len();
                    let own = path.starts_with("/proc/thread-self");
                    read.namespace.path = (!own).then_some(path);
                    let named = |what| format!("network namespace {netns}: {what}");
                    survey.unseen.extend(read.unseen.into_iter().map(named));
                    survey.namespaces.push(read.namespace);
                }
                Err(error) if not_permitted(&error) => closed += 1,
                Err(error) => survey
                    .unseen
                    .push(format!("network namespace {netns} can't be looked at: {error:#}")),
            }
        }
        survey.at_ns = began_ns.midpoint(boot_time_ns());
        if closed > 0 {
            survey.unseen.push(format!(
                "network namespaces that this user may not enter (needs CAP_SYS_ADMIN): {closed}"
            ));
        }
        survey.namespaces.sort_by_key(|namespace| namespace.netns);
        self.distribute(&mut survey);
        survey
    }

    /// Gives each namespace what the kernel's tables say of it.
    fn distribute(&self, survey: &mut Survey) {
        match self.tables.get().map(|mut tables| tables.take()) {
            Ok(mut held) => {
                if held.incomplete {
                    survey.unseen.push(
                        "some ports held by bind(), or entries without timestamps: a bucket of the \
                         kernel's tables was too full to be read"
                            .to_owned(),
                    );
                }
                for namespace in &mut survey.namespaces {
                    if namespace.ports.inferred {
                        namespace.ports = BoundPorts::concluded(&namespace.sockets);
                    } else {
                        namespace.ports = BoundPorts::of(namespace.netns, &mut held);
                    }
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
}

fn not_permitted(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref() == Some(&rustix::io::Errno::PERM)
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
    fn of(netns: u32, held: &mut Held) -> Self {
        Self {
            bound: held.bound.remove(&netns).unwrap_or_default(),
            unstamped: Some(held.unstamped.remove(&netns).unwrap_or_default()),
            ranged: held.ranged.remove(&netns).unwrap_or_default(),
            inferred: held.incomplete,
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

fn read_here(netns: u32, room: usize, tables: &Loading) -> Result<Read> {
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
    let read = tables.get().map(|mut tables| tables.read());
    let inferred = !matches!(read, Ok(Ok(())));
    match read {
        Ok(Err(error)) => unseen.push(format!("ports held by bind(): {error:#}")),
        Err(_) if before((6, 8)) => {
            unseen.push(
                "sockets that are bound and no more: Linux 6.8 lists them to everybody".to_owned(),
            );
        }
        Ok(Ok(())) | Err(_) => {}
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
        ports: BoundPorts { inferred, ..BoundPorts::default() },
    };
    Ok(Read { namespace, unseen })
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn is_nearly_full(table: &Conntrack) -> bool {
    table.max > 0 && table.count as f64 >= table.max as f64 * LIST_CONNTRACK_FROM
}
