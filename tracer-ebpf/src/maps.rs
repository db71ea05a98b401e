//! Every map, its bound, and what happens when it is full.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf},
    macros::btf_map,
};
use tracer_ebpf::{COMM_LEN, Counters, RawEvent};

use crate::life::{Bucket, Life};

/// State changes. Full: the record is dropped and counted. Userspace sets the size.
#[btf_map(name = "RING_STATE")]
pub(crate) static RING_STATE: RingBuf<RawEvent, { 8 << 20 }> = RingBuf::new();

/// Failures, in a ring of their own so that churn can't push them out. Full: dropped and counted.
#[btf_map(name = "RING_FAILURE")]
pub(crate) static RING_FAILURE: RingBuf<RawEvent, { 8 << 20 }> = RingBuf::new();

/// What was produced and what was dropped, for each CPU.
#[btf_map(name = "COUNTERS")]
pub(crate) static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

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
