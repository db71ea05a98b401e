//! The ABI between the kernel-side programs and userspace: records, ids, sizes, names of globals.
//!
//! `no_std`, and free of aya, so that both sides and every reader of a capture share one
//! definition. Fields are integers and byte arrays only; padding is explicit; the layout is that
//! of `repr(C)` on a little-endian 64-bit host.
#![no_std]

pub mod globals;
pub mod tables;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the layout in this file. A change of meaning or layout raises it.
pub const ABI_VERSION: u16 = 1;

/// Length of a task name in the kernel, with its terminating zero byte (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// [`RawEvent::kind`] of a TCP state change.
pub const KIND_STATE: u16 = 1;
/// [`RawEvent::kind`] of a `connect()` that failed before the socket left CLOSE. `error` is the errno
/// that it returned; `daddr` and `dport` are what it was called with.
pub const KIND_CONNECT: u16 = 2;
/// [`RawEvent::kind`] of a `bind()` that failed. `error` is the errno that it returned; `saddr` and
/// `sport` are what it was called with; there is no remote end.
pub const KIND_BIND: u16 = 3;
/// [`RawEvent::kind`] of a call that found no free file descriptor (`EMFILE`) or no free file of the
/// system (`ENFILE`). There are no addresses, and `family` is 0.
pub const KIND_FD: u16 = 4;
/// [`RawEvent::kind`] of a TIME-WAIT entry that takes a socket's place. `old` is the socket's state,
/// `new` the entry's substate: `TIME_WAIT`, or `FIN_WAIT2` while the peer's FIN is still to come.
pub const KIND_TIMEWAIT: u16 = 5;

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`).
pub mod state {
    /// `TCP_ESTABLISHED`
    pub const ESTABLISHED: u8 = 1;
    /// `TCP_SYN_SENT`
    pub const SYN_SENT: u8 = 2;
    /// `TCP_SYN_RECV`
    pub const SYN_RECV: u8 = 3;
    /// `TCP_FIN_WAIT1`
    pub const FIN_WAIT1: u8 = 4;
    /// `TCP_FIN_WAIT2`
    pub const FIN_WAIT2: u8 = 5;
    /// `TCP_TIME_WAIT`
    pub const TIME_WAIT: u8 = 6;
    /// `TCP_CLOSE`
    pub const CLOSE: u8 = 7;
    /// `TCP_CLOSE_WAIT`
    pub const CLOSE_WAIT: u8 = 8;
    /// `TCP_LAST_ACK`
    pub const LAST_ACK: u8 = 9;
    /// `TCP_LISTEN`
    pub const LISTEN: u8 = 10;
    /// `TCP_CLOSING`
    pub const CLOSING: u8 = 11;
    /// `TCP_NEW_SYN_RECV`
    pub const NEW_SYN_RECV: u8 = 12;
}

/// How the owner in a record is known ([`RawEvent::owner`]).
pub mod owner {
    /// Not known: the socket existed before the trace, or was not accepted yet. `pid`, `tgid`, `comm`
    /// are 0.
    pub const UNKNOWN: u8 = 0;
    /// This very transition ran in the owner's own system call.
    pub const CURRENT: u8 = 1;
    /// Stored when the owner called `connect()`, `listen()` or `accept()` for this socket.
    pub const STORED: u8 = 2;
}

/// Bits of [`RawEvent::flags`].
pub mod flag {
    /// The local port was held before `connect()`: the application called `bind()`.
    pub const PORT_HELD: u16 = 1 << 0;
    /// At least one segment left this socket (`tcp_sock.segs_out` is not 0).
    pub const SENT: u16 = 1 << 1;
    /// The socket came out of a listener: this host is the server of this connection.
    pub const PASSIVE: u16 = 1 << 2;
    /// `cookie` is made up from the socket's address and first sight, since the rung can't read the
    /// kernel's. Unique for the run, but `ss` doesn't know it.
    pub const COOKIE_MADE: u16 = 1 << 3;
    /// Only what the plain tracepoint carries is known: `error`, `shutdown`, `netns`,
    /// [`PORT_HELD`] and [`SENT`] are not.
    pub const STABLE_FIELDS_ONLY: u16 = 1 << 4;
    /// A failure: the kernel side put this record into the ring for failures.
    pub const FAILURE: u16 = 1 << 5;
    /// Not seen, but concluded from a state change.
    pub const INFERRED: u16 = 1 << 6;
    /// `error` is what `connect()` returned; `sk_err` was 0.
    pub const RETURNED: u16 = 1 << 7;
    /// A failure whose errno the application had fetched (`SO_ERROR`) before the socket was closed:
    /// `error` is 0.
    pub const ERROR_TAKEN: u16 = 1 << 8;
}

/// One record, as the kernel side writes it into a ring and as a capture keeps it.
///
/// All integers are in host byte order (little-endian hosts only); addresses are in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawEvent {
    /// What happened: [`KIND_STATE`] and its like.
    pub kind: u16,
    /// Size of this record in bytes.
    pub size: u16,
    /// CPU that ran the program.
    pub cpu: u16,
    /// See [`flag`].
    pub flags: u16,
    /// Time of the event: nanoseconds since boot, suspended time included (`CLOCK_BOOTTIME`).
    pub ts_ns: u64,
    /// The socket's cookie (`SO_COOKIE`; `ss -e` shows it as `sk:`); 0 when not known.
    pub cookie: u64,
    /// Time spent in the old state, nanoseconds; 0 when not known.
    pub age_ns: u64,
    /// Id of the owner's cgroup in the cgroup2 hierarchy (the inode of its directory); 0 unknown.
    pub cgroup: u64,
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub saddr: [u8; 16],
    /// Remote address; IPv4 as `::ffff:a.b.c.d`.
    pub daddr: [u8; 16],
    /// Network namespace of the socket (`net.ns.inum`, as `readlink /proc/PID/ns/net` shows); 0 unknown.
    pub netns: u32,
    /// Owner's process id (the kernel's tgid), in the initial pid namespace; 0 unknown.
    pub tgid: u32,
    /// Owner's thread id, in the initial pid namespace; 0 unknown.
    pub pid: u32,
    /// Local port; 0 when the socket has none (yet, or because none was free).
    pub sport: u16,
    /// Remote port.
    pub dport: u16,
    /// `sk_err` at the time of the event: an errno, or 0.
    pub error: u16,
    /// State before, see [`state`].
    pub old: u8,
    /// State after, see [`state`].
    pub new: u8,
    /// 4 or 6; an IPv6 socket that speaks IPv4 (v4-mapped) counts as 4. 0: no addresses.
    pub family: u8,
    /// `sk_shutdown`: bit 0 receive, bit 1 send (`RCV_SHUTDOWN`, `SEND_SHUTDOWN`).
    pub shutdown: u8,
    /// How the owner is known, see [`owner`].
    pub owner: u8,
    /// Zero.
    pub reserved: u8,
    /// Owner's task name, zero-padded.
    pub comm: [u8; COMM_LEN],
}

/// Size of a [`RawEvent`] in bytes.
pub const RAW_EVENT_SIZE: usize = size_of::<RawEvent>();

const _: () = assert!(RAW_EVENT_SIZE == 112);
const _: () = assert!(align_of::<RawEvent>() == 8);

/// Counters that the kernel side keeps, one of these for each CPU. They are the truth that totals
/// are checked against: what userspace saw plus what was dropped is what was produced.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counters {
    /// State changes that passed the filters.
    pub state_produced: u64,
    /// Of these, the ones that found the ring full.
    pub state_dropped: u64,
    /// Failures that passed the filters.
    pub failure_produced: u64,
    /// Of these, the ones that found the ring full.
    pub failure_dropped: u64,
    /// Sockets whose owner could not be stored (no memory, or the map was full).
    pub owner_dropped: u64,
    /// Transitions that the kernel skipped the first program for, and the second one took.
    pub rescued: u64,
}

const _: () = assert!(size_of::<Counters>() == 48);

/// What the state hook must know of the other hooks, which are attached before it: the one value of the
/// map `SETTINGS`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// Which hook waits for the return of `connect()`: see [`connect_return`].
    pub connect_return: u8,
    /// 1 to infer from a state change that a TIME-WAIT entry took the socket's place.
    pub timewait_inferred: u8,
    /// Zero.
    pub padding: [u8; 6],
}

const _: () = assert!(size_of::<Settings>() == 8);

/// Values of [`Settings::connect_return`].
pub mod connect_return {
    /// None.
    pub const NONE: u8 = 0;
    /// One on `tcp_v4_connect` and `tcp_v6_connect`.
    pub const FUNCTION: u8 = 1;
    /// One on the system call, which `io_uring` does not make.
    pub const SYSCALL: u8 = 2;
}
