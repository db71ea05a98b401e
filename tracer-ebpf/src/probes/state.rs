//! TCP state changes: tracepoint `sock:inet_sock_set_state`, which fires in `inet_sk_state_store`
//! and `inet_sk_set_state` (`net/ipv4/af_inet.c`), after the socket's port was put back and before
//! `sk_state` changes. Checked against 5.10 to 6.18.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use aya_log_ebpf::debug;
use tracer_ebpf::{KIND_STATE, RAW_EVENT_SIZE, RawEvent, flag, owner, state};

use crate::{
    emit, filter,
    life::{Life, clear},
    offsets as off,
    sock::{Sock, TracepointSock, TrustedSock, Tuple},
};

/// First rung: the BTF-typed tracepoint.
///
/// Since Linux 6.1 the kernel skips a program that is running on this CPU already (`__bpf_trace_run`):
/// here, for a transition in a softirq that came while it ran for a task's own. The second program
/// takes these.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tp_btf(ctx: BtfTracePointContext) -> i32 {
    let (old, new): (u8, u8) = (ctx.arg(1), ctx.arg(2));
    if passes_by(old, new) {
        return 0;
    }
    let Some(counters) = emit::counters() else { return 0 };
    if counters.busy != 0 {
        counters.reentrant = 1;
    }
    emit::add(&mut counters.busy, 1);
    if let Some(sock) = TrustedSock::new(&ctx) {
        transition(&ctx, sock, old, new);
    }
    emit::add(&mut counters.busy, u64::MAX);
    0
}

/// Takes what the kernel skipped the first program for: it is in the middle of another transition on
/// this CPU. What is skipped in the few instructions before and after that is the kernel's count of
/// skipped runs less this program's.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tp_btf_2(ctx: BtfTracePointContext) -> i32 {
    let Some(counters) = emit::counters() else { return 0 };
    if counters.busy == 0 || counters.reentrant != 0 {
        return 0;
    }
    emit::add(&mut counters.rescued, 1);
    let (old, new): (u8, u8) = (ctx.arg(1), ctx.arg(2));
    if passes_by(old, new) {
        return 0;
    }
    if let Some(sock) = TrustedSock::new(&ctx) {
        transition(&ctx, sock, old, new);
    }
    0
}

/// Second rung: the plain tracepoint, for kernels that refuse the first.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tracepoint(ctx: TracePointContext) -> u32 {
    if let Some(sock) = TracepointSock::new(&ctx) {
        let old = sock.record::<u32>(&off::TP_OLDSTATE) as u8;
        let new = sock.record::<u32>(&off::TP_NEWSTATE) as u8;
        if !passes_by(old, new) {
            transition(&ctx, sock, old, new);
        }
    }
    0
}

/// Whether this transition is neither the beginning nor the end of a `connect()`, so that a command
/// that counts failed connects is done with it at once.
#[inline(always)]
fn passes_by(old: u8, new: u8) -> bool {
    off::TRACK_ALL.load() == 0 && old != state::SYN_SENT && new != state::SYN_SENT
}

#[inline(always)]
fn transition<C: EbpfContext, S: Sock>(ctx: &C, sock: S, old: u8, new: u8) {
    // SAFETY: takes no argument.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut tuple = sock.tuple();

    // `tcp_v4_connect`, `tcp_v6_connect` and `inet_csk_listen_start` run in the caller's own task.
    let begins = old == state::CLOSE && (new == state::SYN_SENT || new == state::LISTEN);
    let born = old == state::LISTEN && new == state::SYN_RECV;
    let life = if begins || born {
        sock.life_or_new()
    } else {
        // SAFETY: valid for the run of the program.
        sock.life().filter(|&life| unsafe { (*life).is_of(sock) })
    };

    let mut age_ns = 0;
    if let Some(life) = life {
        // SAFETY: valid for the run of the program; one transition of a socket at a time.
        let life = unsafe { &mut *life };
        if begins {
            life.begin(sock, new, tuple.sport, now);
        } else if born {
            life.begin_passive(sock, now);
        } else if life.state == old {
            age_ns = now.wrapping_sub(life.since_ns);
        }
        life.state = new;
        life.since_ns = now;
    } else if begins || born {
        if let Some(counters) = emit::counters() {
            emit::add(&mut counters.owner_dropped, 1);
        }
        debug!(ctx, "no room for the owner of a socket");
    }

    tuple.sport = own_port(sock, &tuple, life, old, new);
    let error = sock.err();
    let failure = new == state::CLOSE && (old == state::SYN_SENT || error != 0);
    let wanted =
        if failure { filter::error_wanted(error) } else { off::FILTER_FAILURES.load() == 0 };
    if wanted && filter::wanted(sock, &tuple, life, new) {
        debug!(ctx, "state {} -> {} sk_err {}", old, new, error);
        emit::emit(failure, |event| {
            event.ts_ns = now;
            event.age_ns = age_ns;
            event.error = error;
            event.old = old;
            event.new = new;
            write(event, sock, &tuple, life, begins, born);
            if failure {
                event.flags |= flag::FAILURE;
            }
        });
    }
    let done = off::TRACK_ALL.load() == 0 && old == state::SYN_SENT;
    if done || new == state::CLOSE {
        sock.forget();
    }
}

/// The local port of *this* attempt. `inet_sport` keeps the port of an earlier `connect()` on the
/// same socket until a new one is chosen (`__inet_hash_connect` tests and sets `inet_num` only).
#[inline(always)]
fn own_port<S: Sock>(sock: S, tuple: &Tuple, life: Option<*mut Life>, old: u8, new: u8) -> u16 {
    if !sock.all_fields() {
        return tuple.sport;
    }
    if new == state::SYN_SENT {
        return sock.num();
    }
    // SAFETY: a life is valid for the run of the program.
    let stale = life.is_some_and(|life| unsafe { (*life).stale_port } == tuple.sport);
    if stale && old == state::SYN_SENT && new == state::CLOSE && sock.segs_out() == 0 {
        return 0;
    }
    tuple.sport
}

#[inline(always)]
fn write<S: Sock>(
    event: &mut RawEvent,
    sock: S,
    tuple: &Tuple,
    life: Option<*mut Life>,
    begins: bool,
    born: bool,
) {
    event.kind = KIND_STATE;
    event.size = RAW_EVENT_SIZE as u16;
    // SAFETY: takes no argument.
    event.cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: two u64 are 16 bytes.
    unsafe {
        event.saddr = core::mem::transmute::<[u64; 2], [u8; 16]>(tuple.saddr.0);
        event.daddr = core::mem::transmute::<[u64; 2], [u8; 16]>(tuple.daddr.0);
    }
    event.sport = tuple.sport;
    event.dport = tuple.dport;
    event.family = tuple.family;
    event.netns = sock.netns();
    event.shutdown = sock.shutdown();
    event.flags = match (sock.all_fields(), sock.segs_out()) {
        (false, _) => flag::STABLE_FIELDS_ONLY,
        (true, 0) => 0,
        (true, _) => flag::SENT,
    };
    // Before Linux 6.15 a newborn still carries its listener's addresses and cookie
    // (`inet_csk_clone_lock` set its own after the state).
    event.cookie = if born && tuple.dport == 0 { 0 } else { sock.cookie().unwrap_or(0) };
    if let Some(life) = life {
        // SAFETY: valid for the run of the program.
        let life = unsafe { &*life };
        event.owner = if begins { owner::CURRENT } else { life.owner };
        event.tgid = life.tgid;
        event.pid = life.pid;
        event.comm = life.comm;
        event.cgroup = life.cgroup;
        event.flags |= life.flags;
        if sock.cookie().is_none() {
            event.cookie = life.cookie;
            event.flags |= flag::COOKIE_MADE;
        }
    } else {
        // What is held on the way to CLOSE was held by `bind()`: other ports are put back before.
        if event.new == state::CLOSE && sock.num() != 0 {
            event.flags |= flag::PORT_HELD;
        }
        event.owner = owner::UNKNOWN;
        event.tgid = 0;
        event.pid = 0;
        clear(&mut event.comm);
        event.cgroup = 0;
    }
}
