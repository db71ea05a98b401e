//! Every map, its bound, and what happens when it is full.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use tracer_ebpf::{COMM_LEN, Counters, RawEvent, Settings, tables::Entry};

use crate::{
    call::Call,
    life::{Bucket, Life},
};

/// State changes. Full: the record is dropped and counted. Userspace sets the size.
#[btf_map(name = "RING_STATE")]
pub(crate) static RING_STATE: RingBuf<RawEvent, { 8 << 20 }> = RingBuf::new();

/// Failures, in a ring of their own so that churn can't push them out. Full: dropped and counted.
#[btf_map(name = "RING_FAILURE")]
pub(crate) static RING_FAILURE: RingBuf<RawEvent, { 8 << 20 }> = RingBuf::new();

/// What [`crate::walk`] tells; emptied after each run. Full: the run says so.
#[btf_map(name = "RING_TABLES")]
pub(crate) static RING_TABLES: RingBuf<Entry, { 256 << 10 }> = RingBuf::new();

/// Words of the tables that [`crate::walk`] reads at a time.
pub(crate) const WINDOW: usize = 8;

/// Where they are read to.
#[btf_map(name = "WINDOWS")]
static WINDOWS: PerCpuArray<[u64; WINDOW], 1> = PerCpuArray::new();

/// This CPU's.
#[inline(always)]
pub(crate) fn window() -> Option<&'static mut [u64; WINDOW]> {
    // SAFETY: one for each CPU; only a program that userspace runs looks at it.
    WINDOWS.get_ptr_mut(0).map(|window| unsafe { &mut *window })
}

/// What was produced and what was dropped, for each CPU.
#[btf_map(name = "COUNTERS")]
pub(crate) static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Marks of transitions that the first of two programs took and the second has not seen yet, for each
/// CPU: a few, each in a bucket by its socket's address. 0: none. Full: one that the second program was skipped
/// for gives way.
#[btf_map(name = "HANDLED")]
static HANDLED: PerCpuArray<[u64; 4], 64> = PerCpuArray::new();

/// The bucket of a socket.
#[inline(always)]
pub(crate) fn handled(sk: u64) -> Option<&'static mut [u64; 4]> {
    // SAFETY: this CPU's own; a program that interrupts this one leaves it as it was, or as if it had
    // come before.
    HANDLED.get_ptr_mut((sk >> 6) as u32 & 63).map(|bucket| unsafe { &mut *bucket })
}

/// What is remembered of sockets, see [`crate::life`]: a table of our own, since an entry in socket
/// storage or in a hash map costs several times as much as all the rest of an event. A life goes when
/// its socket closes. Bucket full: the owner stays unknown, and that is counted. Userspace sets the
/// size: a power of two, which it also puts into `LIFE_BUCKETS`. Needs Linux 5.12.
#[btf_map(name = "LIVES")]
pub(crate) static LIVES: Array<Bucket, 16_384> = Array::new();

/// The same for the plain tracepoint's program, which kernels before 5.12 load too. Full: the owner stays
/// unknown, and that is counted.
#[btf_map(name = "LIVES_BY_ADDR")]
pub(crate) static LIVES_BY_ADDR: HashMap<u64, Life, 65_536> = HashMap::new();

/// System calls, or functions behind a kretprobe, that are under way, by thread. Full: the longest
/// under way is given up, as one that sleeps in `connect()`; the ones that end at once are what is
/// looked for.
#[btf_map(name = "CALLS")]
pub(crate) static CALLS: LruHashMap<u64, Call, 8192> = LruHashMap::new();

/// Failures whose report waits for the errno that `connect()` returns, by the socket's address. Full:
/// the oldest is given up; each waits for the end of a function only.
#[btf_map(name = "PARKED")]
pub(crate) static PARKED: LruHashMap<u64, RawEvent, 1024> = LruHashMap::new();

/// Sockets without a life whose `connect()` is known to need no report when it returns, by address.
#[btf_map(name = "TOLD")]
pub(crate) static TOLD: LruHashMap<u64, u8, 4096> = LruHashMap::new();

/// What the state hook must know of the other hooks; userspace writes it before it attaches that one.
#[btf_map(name = "SETTINGS")]
static SETTINGS: Array<Settings, 1> = Array::new();

/// The settings of this run.
#[inline(always)]
pub(crate) fn settings() -> Settings {
    SETTINGS.get(0).copied().unwrap_or_default()
}

/// How many values one filter takes.
pub(crate) const FILTER_ENTRIES: usize = 1024;

/// `--pid`: owners' process ids.
#[btf_map(name = "PIDS")]
pub(crate) static PIDS: HashMap<u32, u8, FILTER_ENTRIES> = HashMap::new();
/// `--comm`: owners' task names, zero-padded.
#[btf_map(name = "COMMS")]
pub(crate) static COMMS: HashMap<[u8; COMM_LEN], u8, FILTER_ENTRIES> = HashMap::new();
/// `--port`: ports on either side.
#[btf_map(name = "PORTS")]
pub(crate) static PORTS: HashMap<u16, u8, FILTER_ENTRIES> = HashMap::new();
/// `--dport`: remote ports.
#[btf_map(name = "DPORTS")]
pub(crate) static DPORTS: HashMap<u16, u8, FILTER_ENTRIES> = HashMap::new();
/// `--netns`: namespace inode numbers.
#[btf_map(name = "NETNS")]
pub(crate) static NETNS: HashMap<u32, u8, FILTER_ENTRIES> = HashMap::new();
/// `--src`: local networks, IPv4 as `::ffff:a.b.c.d`.
#[btf_map(name = "SRC")]
pub(crate) static SRC: LpmTrie<[u8; 16], u8, FILTER_ENTRIES> = LpmTrie::new();
/// `--dst`: remote networks, IPv4 as `::ffff:a.b.c.d`.
#[btf_map(name = "DST")]
pub(crate) static DST: LpmTrie<[u8; 16], u8, FILTER_ENTRIES> = LpmTrie::new();
