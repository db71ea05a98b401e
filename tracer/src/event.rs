//! What happened, in the field's terms: the typed form of a record. `names`: of states, tasks and errors.

mod names;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tracer_ebpf::state;

pub(crate) use self::names::is_inert;
pub use self::names::{Comm, Errno, MAX_ERRNO, State, made_visible, visible};

/// How the owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// The transition ran in the owner's own system call.
    Current,
    /// Stored when the owner called `connect()`, `listen()` or `accept()`.
    Stored,
    /// Found in `/proc` as the only process that has the socket open; who opened it isn't known.
    Inferred,
}

/// The process behind a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Process id (the kernel's tgid), in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The thread's name.
    pub comm: Comm,
    /// How this is known.
    pub known: Known,
}

/// What an event is about: which socket, whose, when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub ts_ns: u64,
    /// The kernel's socket cookie.
    pub cookie: Option<u64>,
    /// Local address; v4-mapped is given as IPv4. `None`: there is no socket.
    pub src: Option<IpAddr>,
    /// Local port; `None`: the socket has none.
    pub sport: Option<u16>,
    /// Remote address; `None`: there is no remote end.
    pub dst: Option<IpAddr>,
    /// Remote port; 0 for a listener.
    pub dport: Option<u16>,
    /// Network namespace, as `readlink /proc/PID/ns/net` shows it.
    pub netns: Option<u32>,
    /// Cgroup id of the owner (inode of its directory in the cgroup2 hierarchy).
    pub cgroup: Option<u64>,
    /// Who opened the socket, or made the call.
    pub owner: Option<Owner>,
}

impl Subject {
    /// 4 or 6; `None`: there are no addresses.
    #[must_use]
    pub fn family(&self) -> Option<u8> {
        let of = |address: IpAddr| if address.is_ipv4() { 4 } else { 6 };
        self.dst.or(self.src).map(of)
    }
}

/// A TCP socket went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a record, each by itself")]
pub struct StateChange {
    /// Which socket.
    pub subject: Subject,
    /// State before.
    pub old: State,
    /// State after.
    pub new: State,
    /// Nanoseconds spent in the old state.
    pub age_ns: Option<u64>,
    /// `sk_err`; `None`: this rung can't read it.
    pub sk_err: Option<u16>,
    /// What `connect()` returned, where `sk_err` is 0 and a hook saw it.
    pub returned: Option<Errno>,
    /// The application had fetched the errno of this failure before it was seen.
    pub error_taken: bool,
    /// Both directions were shut down by the application (`SHUTDOWN_MASK`).
    pub shut_down: bool,
    /// The application had called `bind()` before `connect()`.
    pub port_held: bool,
    /// At least one segment left the socket.
    pub sent: bool,
    /// This host is the server of the connection.
    pub passive: bool,
}

/// A call that fails without a change of a socket's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// `connect()`
    Connect,
    /// `bind()`
    Bind,
    /// Any that makes a file descriptor.
    Descriptor,
}

/// A call failed, and no socket's state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFailed {
    /// Which socket; the addresses are those that the call was given.
    pub subject: Subject,
    /// Which call.
    pub call: Call,
    /// What it returned.
    pub errno: Errno,
}

/// A TIME-WAIT entry took a socket's place (`tcp_time_wait` in `net/ipv4/tcp_minisocks.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWait {
    /// Which socket.
    pub subject: Subject,
    /// The socket's last state.
    pub old: State,
    /// What the entry waits for: `TIME_WAIT` for its 60 seconds, `FIN_WAIT2` for the peer's FIN first.
    pub substate: State,
    /// Concluded from a state change.
    pub inferred: bool,
    /// This host is the server of the connection.
    pub passive: bool,
}

impl StateChange {
    /// Whether the application had given the socket up, and the kernel only finished its end.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        let closing = matches!(
            self.old.number(),
            state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING | state::LAST_ACK
        );
        self.shut_down && closing
    }
}

/// Events that were produced and did not reach userspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Nanoseconds since boot at which the loss was noticed.
    pub ts_ns: u64,
    /// State changes dropped since the last such event.
    pub states: u64,
    /// Failures dropped since the last such event.
    pub failures: u64,
    /// State changes for which the kernel did not run the program; what they were, and whether the
    /// filters wanted them, nobody knows.
    pub missed: u64,
    /// Sockets whose owner could not be stored.
    pub owners: u64,
    /// Calls (`connect()`, `bind()`, ...) that no program looked at: a failure among them is not seen.
    pub calls: u64,
}

impl Loss {
    /// Adds what was lost later.
    pub fn add(&mut self, later: &Self) {
        self.ts_ns = later.ts_ns;
        // A capture may say anything.
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.states, later.states);
        add(&mut self.failures, later.failures);
        add(&mut self.missed, later.missed);
        add(&mut self.owners, later.owners);
        add(&mut self.calls, later.calls);
    }

    /// Events lost, of all kinds.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.states.saturating_add(self.failures).saturating_add(self.missed)
    }
}

/// One event on the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A TCP state change.
    State(StateChange),
    /// A call that failed.
    CallFailed(CallFailed),
    /// A TIME-WAIT entry.
    TimeWait(TimeWait),
    /// Loss is data.
    Lost(Loss),
}

impl Event {
    /// Which socket, whose, when; `None`: it is about none.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Self::State(change) => Some(&change.subject),
            Self::CallFailed(failed) => Some(&failed.subject),
            Self::TimeWait(entered) => Some(&entered.subject),
            Self::Lost(_) => None,
        }
    }

    /// Cgroup id of the process behind it.
    #[must_use]
    pub fn cgroup(&self) -> Option<u64> {
        self.subject()?.cgroup
    }

    /// The process behind it.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.subject()?.owner
    }

    /// When: nanoseconds since boot.
    #[must_use]
    pub fn ts_ns(&self) -> u64 {
        match self {
            Self::Lost(loss) => loss.ts_ns,
            other => other.subject().map_or(0, |subject| subject.ts_ns),
        }
    }
}
