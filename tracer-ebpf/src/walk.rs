//! The kernel's own tables of local ports and of TCP sockets, as `connect()` reads them when it looks for
//! a port (`__inet_hash_connect`, `__inet_check_established` in `net/ipv4/inet_hashtables.c`,
//! `tcp_twsk_unique` in `net/ipv4/tcp_ipv4.c`). Userspace runs these programs itself
//! (`BPF_PROG_TEST_RUN`), for a stretch of buckets each time: they are attached to nothing. What is told
//! is only what no other interface shows. Checked against 5.10 to 7.2.
//!
//! The tables change meanwhile, and no lock is taken: an entry that moves may be missed.

use aya_ebpf::{btf_maps::RingBuf, macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::{
    globals::OFFSET_UNKNOWN,
    state,
    tables::{Entry, STEPS, kind},
};

use crate::{
    maps::RING_TABLES,
    offsets as off,
    probed::{read, read_field},
    sock::Address,
    task::current_net,
};

const AF_INET6: u16 = crate::sock::AF_INET6;

/// The tables that the current task's network namespace uses: `struct inet_hashinfo`.
#[inline(always)]
fn hashinfo() -> u64 {
    let inside = current_net() + u64::from(off::OFF_DEATH_ROW.load());
    // From 5.18 to 6.0 it is behind a pointer.
    let death_row = if off::DEATH_ROW_POINTER.load() == 0 { inside } else { read(inside) };
    read_field(death_row, &off::OFF_HASHINFO)
}

/// Which tables these are, and how large. Namespaces may share them.
#[raw_tracepoint]
pub(crate) fn walk_describe(_ctx: RawTracePointContext) -> i32 {
    let tables = hashinfo();
    let binds: u32 = read_field(tables, &off::OFF_BHASH_SIZE);
    let mask: u32 = read_field(tables, &off::OFF_EHASH_MASK);
    tell(
        #[inline(always)]
        |entry| {
            entry.kind = kind::TABLES;
            entry.table = tables;
            entry.bind_buckets = binds;
            entry.socket_buckets = mask.wrapping_add(1);
        },
    );
    0
}

/// Ports that `connect()` passes over, since somebody has them by `bind()`. Argument: the first bucket.
#[raw_tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn walk_binds(ctx: RawTracePointContext) -> i32 {
    let tables = hashinfo();
    let table: u64 = read_field(tables, &off::OFF_BHASH);
    let size: u32 = read_field(tables, &off::OFF_BHASH_SIZE);
    walk(
        ctx.arg(0),
        u64::from(size),
        #[inline(always)]
        |bucket| {
            let head = table + bucket * u64::from(off::SIZE_BIND_HEAD.load());
            read_field(head, &off::OFF_BIND_CHAIN)
        },
        #[inline(always)]
        |node| bind_bucket(node - u64::from(off::OFF_BIND_NODE.load())),
    );
    0
}

/// TIME-WAIT entries that can't be reused for want of timestamps, and sockets with a port range of their
/// own. Argument: the first bucket.
#[raw_tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn walk_sockets(ctx: RawTracePointContext) -> i32 {
    let tables = hashinfo();
    let table: u64 = read_field(tables, &off::OFF_EHASH);
    let mask: u32 = read_field(tables, &off::OFF_EHASH_MASK);
    walk(
        ctx.arg(0),
        u64::from(mask) + 1,
        #[inline(always)]
        |bucket| read(table + bucket * 8),
        #[inline(always)]
        |node| socket(node - u64::from(off::OFF_SOCK_NODE.load())),
    );
    0
}

/// Goes through chains for a number of steps, for verifiers follow each, and tells how many buckets are
/// done; nothing where the ring was full.
#[inline(always)]
fn walk(first: u64, buckets: u64, head: impl Fn(u64) -> u64, visit: impl Fn(u64) -> bool) {
    let mut bucket = first;
    let mut node = head(bucket);
    for _ in 0..STEPS {
        // A chain ends with zero, or with an odd number (include/linux/list_nulls.h).
        if node == 0 || node & 1 == 1 {
            bucket += 1;
            if bucket >= buckets {
                break;
            }
            node = head(bucket);
        } else {
            if !visit(node) {
                return;
            }
            node = read(node);
        }
    }
    tell(
        #[inline(always)]
        |entry| {
            entry.kind = kind::DONE;
            entry.buckets_done = (bucket - first) as u32;
        },
    );
}

/// A `struct inet_bind_bucket`. Both fields are −1 while only `connect()` has chosen the port.
#[inline(always)]
fn bind_bucket(bucket: u64) -> bool {
    let reuse: u8 = read_field(bucket, &off::OFF_FASTREUSE);
    let reuseport: u8 = read_field(bucket, &off::OFF_FASTREUSEPORT);
    if reuse.cast_signed() < 0 && reuseport.cast_signed() < 0 {
        return true;
    }
    let net: u64 = read_field(bucket, &off::OFF_BIND_NET);
    let netns = read_field(net, &off::OFF_NETNS_INUM);
    let port = read_field(bucket, &off::OFF_BIND_PORT);
    tell(
        #[inline(always)]
        |entry| {
            entry.kind = kind::BOUND;
            entry.netns = netns;
            entry.sport = port;
        },
    )
}

/// A `struct sock_common`: at the beginning of a socket, a TIME-WAIT entry, or a request.
#[inline(always)]
fn socket(sock: u64) -> bool {
    let state: u8 = read_field(sock, &off::OFF_STATE);
    let (what, range) = match state {
        state::TIME_WAIT => {
            let stamp: u32 = read_field(sock, &off::OFF_TW_STAMP);
            (if stamp == 0 { kind::UNSTAMPED } else { kind::NOTHING }, 0)
        }
        // A request has none of a socket's fields.
        state::NEW_SYN_RECV => (kind::NOTHING, 0),
        _ if off::OFF_PORT_RANGE.load() == OFFSET_UNKNOWN => (kind::NOTHING, 0),
        _ => {
            let range: u32 = read_field(sock, &off::OFF_PORT_RANGE);
            (if range == 0 { kind::NOTHING } else { kind::RANGED }, range)
        }
    };
    if what == kind::NOTHING {
        return true;
    }
    let net: u64 = read_field(sock, &off::OFF_NET);
    let netns = read_field(net, &off::OFF_NETNS_INUM);
    let sport = read_field(sock, &off::OFF_NUM);
    let dport: u16 = read_field(sock, &off::OFF_DPORT);
    let family: u16 = read_field(sock, &off::OFF_FAMILY);
    let (saddr, daddr) = if family == AF_INET6 {
        (
            Address(read_field(sock, &off::OFF_V6_RCV_SADDR)),
            Address(read_field(sock, &off::OFF_V6_DADDR)),
        )
    } else {
        (
            Address::v4(read_field(sock, &off::OFF_RCV_SADDR)),
            Address::v4(read_field(sock, &off::OFF_DADDR)),
        )
    };
    tell(|entry| {
        entry.kind = what;
        entry.netns = netns;
        entry.sport = sport;
        entry.dport = u16::from_be(dport);
        entry.range = range;
        entry.saddr = saddr.0;
        entry.daddr = daddr.0;
    })
}

/// Writes one entry into the ring; false: there is no room.
#[inline(always)]
fn tell(write: impl FnOnce(&mut Entry)) -> bool {
    let ring: &RingBuf<Entry, _> = &RING_TABLES;
    let Some(mut room) = ring.reserve(0) else { return false };
    // SAFETY: every field is a plain integer, and the whole is set before it is looked at.
    let entry = unsafe {
        room.as_mut_ptr().write(Entry::NOTHING);
        &mut *room.as_mut_ptr()
    };
    write(entry);
    room.submit(0);
    true
}
