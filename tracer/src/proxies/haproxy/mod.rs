//! HAProxy: what its workers say on their runtime socket (management.txt, section 9.3, "Unix Socket commands").

mod answer;
mod discovery;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use self::answer::parse;
pub use self::discovery::{configured, sockets};
use super::{
    Located,
    endpoint::{Endpoint, PATIENCE, some},
    host::{own_pid, parent},
};

/// What is asked: one connection, so that one process answers both.
const QUESTION: &[u8] = b"show info;show stat\n";

/// A running HAProxy that takes connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HaProxy {
    /// Its worker: the process that holds clients' connections.
    pub process: Located,
    /// Workers of the same master from before a reload, which only finish their connections. Their runtime socket
    /// is the new worker's now, so they can't be asked.
    pub finishing: Vec<Located>,
    /// Where it was asked.
    pub endpoint: String,
    /// What it said.
    pub state: State,
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `Version` of `show info`.
    pub version: String,
    /// `Pid`, in its own pid namespace.
    pub pid: Option<u32>,
    /// It ends when its connections do.
    pub stopping: bool,
    /// Clients' connections that it takes at most (`maxconn` of `global`, else concluded from the limit of open
    /// files). What comes beyond waits in the kernel's accept queue: no refusal, no line in the log.
    pub maxconn: u64,
    /// That which it could be raised to by `set maxconn global`.
    pub hard_maxconn: Option<u64>,
    /// Clients' connections now (`CurrConns`); those to the runtime socket are not among them.
    pub current: u64,
    /// Those ever taken (`CumConns`), with those to the runtime socket.
    pub connections: Option<u64>,
    /// Files that it may come to need (`Maxsock`).
    pub maxsock: Option<u64>,
    /// Files that it asked for when it started (`Ulimit-n`); what the kernel grants now may differ.
    pub ulimit_n: Option<u64>,
    /// Lines that its log lost (`DroppedLogs`).
    pub dropped_logs: Option<u64>,
    /// Where clients come in.
    pub frontends: Vec<Frontend>,
    /// Groups of servers.
    pub backends: Vec<Backend>,
    /// Servers of all backends.
    pub servers: Vec<Server>,
}

/// A line of `show stat` of type 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frontend {
    /// `pxname`
    pub name: String,
    /// Connections now (`scur`).
    pub current: u64,
    /// Most that it takes (`slim`): its `maxconn`, else the process's. Beyond it, clients wait in the kernel's queue.
    pub limit: Option<u64>,
    /// Most there ever were at once (`smax`).
    pub most: u64,
    /// Those ever taken (`conn_tot`).
    pub connections: Option<u64>,
    /// Requests and connections denied by rules of its own (`dcon`, `dses`).
    pub denied: u64,
    /// `OPEN`, `PAUSED`, `STOP`.
    pub status: String,
}

/// A line of `show stat` of type 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// `pxname`
    pub name: String,
    /// Connections now, with those that wait (`scur`).
    pub current: u64,
    /// Those that wait for any server (`qcur`).
    pub queued: u64,
    /// Most that waited (`qmax`).
    pub most_queued: u64,
    /// `fullconn` (`slim`): from how many on servers get their whole `maxconn`. No limit.
    pub fullconn: Option<u64>,
    /// The failures of its servers and its own.
    pub failures: Failures,
    /// `UP`, `DOWN`.
    pub status: String,
}

/// A line of `show stat` of type 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// The backend's name (`pxname`).
    pub backend: String,
    /// Its own (`svname`).
    pub name: String,
    /// Where it is (`addr`). `None`: a Unix socket, or not said: the runtime socket has a level below `operator`.
    pub address: Option<SocketAddr>,
    /// Connections now (`scur`).
    pub current: u64,
    /// Its `maxconn` (`slim`); `None`: without.
    pub limit: Option<u64>,
    /// Requests that wait for this very server (`qcur`); others wait in the backend's queue.
    pub queued: u64,
    /// Its `maxqueue` (`qlimit`); `None`: without.
    pub queue_limit: Option<u64>,
    /// Its failures.
    pub failures: Failures,
    /// `UP`, `DOWN`, `MAINT`, `no check`, …
    pub status: String,
}

/// Counts since HAProxy started, or `clear counters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// Requests without a connection after all retries (`econ`). A backend's have also those that waited in vain
    /// (`timeout queue`) or found no server.
    pub connect: u64,
    /// Answers that failed (`eresp`). HAProxy 2.6 counts a reset twice.
    pub response: u64,
    /// Connections tried again (`wretr`).
    pub retries: u64,
    /// Requests sent to another server (`wredis`).
    pub redispatches: u64,
}

impl State {
    /// How much it is.
    pub(super) fn parts(&self) -> usize {
        self.frontends.len() + self.backends.len() + self.servers.len()
    }
}

/// Reads a worker, by the endpoint that is given, else by those of its configuration.
///
/// # Errors
/// It can't be asked, or another process answers: in a person's words, with what to do.
pub fn read(process: Located, given: Option<&Endpoint>) -> Result<HaProxy> {
    let pid = process.process.pid;
    let name = || format!("HAProxy (process {pid}) could not be read");
    let proxy = ask(process, given, || Instant::now() + PATIENCE).with_context(name)?;
    match proxy.state.pid {
        Some(other) if own_pid(pid).is_some_and(|own| own != other) => {
            let from = &proxy.endpoint;
            bail!(
                "{}: at {from} another process answers ({other}): it is a master, or \
                   finishes its connections after a reload",
                name()
            )
        }
        _ => Ok(proxy),
    }
}

/// These processes without masters.
pub(super) fn workers(processes: &[Located]) -> Vec<Located> {
    let parents: HashSet<u32> = processes.iter().filter_map(|it| parent(it.process.pid)).collect();
    processes.iter().filter(|it| !parents.contains(&it.process.pid)).copied().collect()
}

/// What workers said: those from before a reload are named with the new one of the same master. What could not be
/// read is said in a person's words.
pub(super) fn sorted(said: Vec<(Located, Result<HaProxy>)>) -> (Vec<HaProxy>, Vec<String>) {
    let (mut read, mut finishing): (Vec<HaProxy>, Vec<Located>) = (Vec::new(), Vec::new());
    let mut unread = Vec::new();
    for (process, said) in said {
        let pid = process.process.pid;
        match said {
            Ok(it) if it.state.pid.is_some() && it.state.pid != own_pid(pid) => {
                finishing.push(process);
            }
            Ok(it) => read.push(it),
            Err(error) => {
                unread.push(format!("HAProxy (process {pid}) could not be read: {error:#}"));
            }
        }
    }
    let masters = read.iter().enumerate();
    let by_master: HashMap<u32, usize> =
        masters.filter_map(|(at, it)| Some((parent(it.process.process.pid)?, at))).collect();
    for process in finishing {
        let family = parent(process.process.pid).and_then(|master| by_master.get(&master));
        match family.and_then(|&at| read.get_mut(at)) {
            Some(it) => it.finishing.push(process),
            None => unread.push(format!(
                "HAProxy (process {}) could not be read: another process answers at its runtime \
                 socket. Give each HAProxy a `stats socket` of its own",
                process.process.pid
            )),
        }
    }
    (read, unread)
}

/// Asks a worker. `until`: when its time ends, once it is known where to ask.
pub(super) fn ask(
    process: Located,
    given: Option<&Endpoint>,
    until: impl Fn() -> Instant,
) -> Result<HaProxy> {
    let endpoints = match given {
        Some(endpoint) => vec![endpoint.clone()],
        None => discovery::endpoints(process.process.pid)?,
    };
    let (until, mut failed) = (until(), None);
    for endpoint in endpoints {
        let answer = endpoint.ask(process, QUESTION, until);
        let state = answer.and_then(|answer| {
            some(&answer)?;
            parse(&answer).with_context(|| format!("what {endpoint} answers"))
        });
        match state {
            Ok(state) => {
                let endpoint = endpoint.to_string();
                return Ok(HaProxy { process, finishing: Vec::new(), endpoint, state });
            }
            // The first one is the most likely to be meant.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| anyhow::anyhow!("there is no runtime socket")))
}
