//! What `connect()` returned. It fails before the socket leaves CLOSE when there is no route, no source
//! address, no permission (`tcp_v4_connect` in `net/ipv4/tcp_ipv4.c`, `tcp_v6_connect` in
//! `net/ipv6/tcp_ipv6.c`); and where it fails later without an errno on the socket, only what it
//! returned tells why. Checked against 5.10 to 7.2.

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe, tracepoint},
    programs::{FExitContext, ProbeContext, RetProbeContext, TracePointContext},
};
use tracer_ebpf::{KIND_CONNECT, RawEvent, flag};

use crate::{
    call::{self, Call, Given, SYSCALL_ARGUMENTS, SYSCALL_RETURN},
    emit, filter,
    life::{self, connecting},
    maps::{PARKED, TOLD},
    offsets as off,
    probed::{ProbedSock, read_field, socket_of_fd},
    sock::{Sock, Tuple},
};

/// First rung. Arguments: `struct sock *`, `struct sockaddr *` (copied from the caller), `int`.
#[fexit(function = "tcp_v4_connect")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn connect_fexit_v4(ctx: FExitContext) -> i32 {
    if let Some(sock) = ProbedSock::new(call::word(&ctx, 0)) {
        let error = call::errno_of_int(call::word(&ctx, 3));
        returned(sock, error, true, Given::read(call::word(&ctx, 1), false));
        // `tcp_v6_connect` may have called this, and will return the same.
        if error.is_some() && sock.is_v6() {
            let _ = TOLD.insert(sock.addr(), 1, 0);
        }
    }
    0
}

/// First rung. A v4-mapped address goes on to `tcp_v4_connect`.
#[fexit(function = "tcp_v6_connect")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn connect_fexit_v6(ctx: FExitContext) -> i32 {
    if let Some(sock) = ProbedSock::new(call::word(&ctx, 0)) {
        let error = call::errno_of_int(call::word(&ctx, 3));
        if error.is_none() || TOLD.remove(sock.addr()).is_err() {
            returned(sock, error, true, Given::read(call::word(&ctx, 1), false));
        }
    }
    0
}

/// Second rung, on entry to either function.
#[kprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn connect_kprobe(ctx: ProbeContext) -> u32 {
    let (socket, address) = (ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    call::enter(&Call { socket, address, fresh: 1 });
    0
}

/// Second rung, on return. Of two nested functions the inner one takes the entry.
#[kretprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn connect_kretprobe(ctx: RetProbeContext) -> u32 {
    if let Some(call) = call::leave()
        && let Some(sock) = ProbedSock::new(call.socket)
    {
        returned(sock, call::errno_of_int(ctx.ret()), true, Given::read(call.address, false));
    }
    0
}

/// `SS_UNCONNECTED` of `enum socket_state`.
const UNCONNECTED: u32 = 1;

/// Third rung. Arguments: `int fd`, `struct sockaddr *` (the caller's memory), `int`.
#[tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn connect_sys_enter(ctx: TracePointContext) -> u32 {
    let socket = socket_of_fd(call::word(&ctx, SYSCALL_ARGUMENTS));
    let fresh = read_field::<u32>(socket, &off::OFF_SOCKET_STATE) == UNCONNECTED;
    let address = call::word(&ctx, SYSCALL_ARGUMENTS + 1);
    if ProbedSock::of_socket(socket).is_some() {
        call::enter(&Call { socket, address, fresh: u64::from(fresh) });
    }
    0
}

/// Third rung. What the caller passed is read now: by now it is not paged out.
#[tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn connect_sys_exit(ctx: TracePointContext) -> u32 {
    if let Some(call) = call::leave()
        && let Some(sock) = ProbedSock::of_socket(call.socket)
    {
        let error = call::errno(call::word(&ctx, SYSCALL_RETURN));
        let fresh = call.fresh != 0 && !error.is_some_and(is_under_way);
        returned(sock, error, fresh, Given::read(call.address, true));
    }
    0
}

/// Whether an errno of the system call says that the connect goes on: `EINPROGRESS`, `EALREADY`,
/// `EINTR`, and `ERESTARTSYS` and its like, which never reach the caller.
#[inline(always)]
fn is_under_way(error: u16) -> bool {
    matches!(error, 115 | 114 | 4 | 512..=516)
}

/// A `connect()` returned. `fresh`: that it failed is told by nothing but this.
#[inline(always)]
fn returned(sock: ProbedSock, error: Option<u16>, fresh: bool, to: Given) {
    if let Some(life) = sock.own_life() {
        // SAFETY: valid for the run of the program; the caller still holds the socket.
        let life = unsafe { &mut *life.as_ptr() };
        let stood = core::mem::replace(&mut life.connecting, connecting::NO);
        if stood == connecting::PARKED {
            unpark(sock, error.unwrap_or(0));
        }
        if stood == connecting::PARKED || stood == connecting::TOLD {
            sock.forget();
        }
        return;
    }
    if TOLD.get_ptr(sock.addr()).is_some() {
        let _ = TOLD.remove(sock.addr());
        return;
    }
    if let Some(error) = error
        && fresh
    {
        let mut tuple = sock.tuple();
        let local = tuple.saddr;
        tuple = if to.v4 {
            Tuple { saddr: local.as_v4(), daddr: to.address, dport: to.port, family: 4, ..tuple }
        } else {
            Tuple::v6(local, to.address, sock.num(), to.port)
        };
        // Of an earlier attempt, or none: only a port that is held is this socket's.
        tuple.sport = sock.num();
        call::failed(KIND_CONNECT, sock, &tuple, error);
    }
}

/// Sends off the report that waited for the errno.
#[inline(always)]
fn unpark(sock: ProbedSock, error: u16) {
    let Some(parked) = PARKED.get_ptr(sock.addr()) else { return };
    if filter::error_wanted(error) {
        emit::emit(
            true,
            #[inline(always)]
            |event: &mut RawEvent| {
                // Nobody else writes it: the socket is held by its `connect()`.
                life::copy(event, parked);
                event.error = error;
                event.flags |= flag::RETURNED;
            },
        );
    }
    let _ = PARKED.remove(sock.addr());
}
