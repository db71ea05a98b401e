//! The kernel's own tables of local ports and of TCP sockets, as `connect()` reads them when it looks for
//! a port (`__inet_hash_connect`, `__inet_check_established` in `net/ipv4/inet_hashtables.c`,
//! `tcp_twsk_unique` in `net/ipv4/tcp_ipv4.c`). Userspace runs these programs itself
//! (`BPF_PROG_TEST_RUN`), for a stretch of buckets each time: they are attached to nothing. What is told
//! is only what no other interface shows. Checked against 5.10 to 7.2.
//!
//! The tables change meanwhile, and no lock is taken: an entry that moves may be missed.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP, btf_maps::RingBuf, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_ebpf::{
    globals::OFFSET_UNKNOWN,
    state,
    tables::{Entry, STEPS, kind},
};

use crate::{
    maps::{self, RING_TABLES, WINDOW},
    offsets as off,
    probed::{read, read_field, read_window},
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
    let buckets: u32 = read_field(tables, &off::OFF_BHASH_SIZE);
    let table = Table {
        at: read_field(tables, &off::OFF_BHASH),
        buckets: u64::from(buckets),
        stride: u64::from(off::SIZE_BIND_HEAD.load()) / 8,
        head: u64::from(off::OFF_BIND_CHAIN.load()) / 8,
    };
    table.walk(
        ctx.arg(0),
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
    let mask: u32 = read_field(tables, &off::OFF_EHASH_MASK);
    let at = read_field(tables, &off::OFF_EHASH);
    let table = Table { at, buckets: u64::from(mask) + 1, stride: 1, head: 0 };
    table.walk(
        ctx.arg(0),
        #[inline(always)]
        |node| socket(node - u64::from(off::OFF_SOCK_NODE.load())),
    );
    0
}

/// An array of buckets, in words of 8 bytes.
struct Table {
    at: u64,
    buckets: u64,
    /// From one bucket to the next.
    stride: u64,
    /// Where in a bucket its chain begins.
    head: u64,
}

impl Table {
    /// Goes through chains for a number of steps, for verifiers follow each, and tells how many buckets are
    /// done; nothing where the ring was full. A step goes to the next entry, or over a window of buckets
    /// that are empty.
    #[inline(always)]
    fn walk(&self, first: u64, visit: impl Fn(u64) -> bool) {
        let mut bucket = first;
        let mut node = 0;
        for _ in 0..STEPS {
            if !is_end(node) {
                if !visit(node) {
                    return;
                }
                node = read(node);
                continue;
            }
            if bucket >= self.buckets {
                break;
            }
            let (empty, found) = self.skip(bucket);
            bucket += empty;
            if bucket >= self.buckets {
                break;
            }
            if !is_end(found) {
                // Counts as done once its chain is.
                bucket += 1;
                node = found;
            }
        }
        let done = bucket - first - u64::from(!is_end(node));
        tell(
            #[inline(always)]
            |entry| {
                entry.kind = kind::DONE;
                entry.buckets_done = done as u32;
            },
        );
    }

    /// How many buckets are empty from here on, within a window, and the first entry of the next one.
    #[inline(always)]
    fn skip(&self, bucket: u64) -> (u64, u64) {
        let Some(window) = maps::window() else { return (0, 0) };
        // Beyond the table there is other memory, or none, which reads as empty.
        read_window(self.at + bucket * self.stride * 8, window);
        let (mut empty, mut at) = (0, self.head);
        for _ in 0..WINDOW {
            if at >= WINDOW as u64 {
                break;
            }
            let word = window[at as usize & (WINDOW - 1)];
            if !is_end(word) {
                return (empty, word);
            }
            empty += 1;
            at += self.stride;
        }
        (empty, 0)
    }
}

/// A chain ends with zero, or with a small odd number (`include/linux/list_nulls.h`); addresses in the kernel
/// have the highest bit set.
#[inline(always)]
fn is_end(node: u64) -> bool {
    node >> 63 == 0
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
    // Who runs this looks by itself; a wake-up is an interrupt.
    room.submit(u64::from(BPF_RB_NO_WAKEUP));
    true
}
