//! `bind()` that failed: `inet_bind` in `net/ipv4/af_inet.c`, `inet6_bind` in `net/ipv6/af_inet6.c`,
//! which handles v4-mapped addresses itself. Checked against 5.10 to 7.2.

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe, tracepoint},
    programs::{FExitContext, ProbeContext, RetProbeContext, TracePointContext},
};
use tracer_ebpf::KIND_BIND;

use crate::{
    call::{self, Call, Given, SYSCALL_ARGUMENTS, SYSCALL_RETURN},
    probed::{ProbedSock, socket_of_fd},
    sock::{Address, Tuple},
};

/// First rung. Arguments: `struct socket *`, `struct sockaddr *` (copied from the caller), `int`.
#[fexit(function = "inet_bind")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn bind_fexit_v4(ctx: FExitContext) -> i32 {
    returned(
        call::word(&ctx, 0),
        call::errno_of_int(call::word(&ctx, 3)),
        call::word(&ctx, 1),
        false,
    );
    0
}

/// First rung.
#[fexit(function = "inet6_bind")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn bind_fexit_v6(ctx: FExitContext) -> i32 {
    returned(
        call::word(&ctx, 0),
        call::errno_of_int(call::word(&ctx, 3)),
        call::word(&ctx, 1),
        false,
    );
    0
}

/// Second rung, on entry to either function.
#[kprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn bind_kprobe(ctx: ProbeContext) -> u32 {
    let (socket, address) = (ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    call::enter(&Call { socket, address, fresh: 1 });
    0
}

/// Second rung, on return.
#[kretprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn bind_kretprobe(ctx: RetProbeContext) -> u32 {
    if let Some(call) = call::leave() {
        returned(call.socket, call::errno_of_int(ctx.ret()), call.address, false);
    }
    0
}

/// Third rung. Arguments: `int fd`, `struct sockaddr *` (the caller's memory), `int`.
#[tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn bind_sys_enter(ctx: TracePointContext) -> u32 {
    let socket = socket_of_fd(call::word(&ctx, SYSCALL_ARGUMENTS));
    let address = call::word(&ctx, SYSCALL_ARGUMENTS + 1);
    if ProbedSock::of_socket(socket).is_some() {
        call::enter(&Call { socket, address, fresh: 1 });
    }
    0
}

/// Third rung.
#[tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn bind_sys_exit(ctx: TracePointContext) -> u32 {
    if let Some(call) = call::leave() {
        returned(call.socket, call::errno(call::word(&ctx, SYSCALL_RETURN)), call.address, true);
    }
    0
}

#[inline(always)]
fn returned(socket: u64, error: Option<u16>, address: u64, from_user: bool) {
    if let Some(error) = error
        && let Some(sock) = ProbedSock::of_socket(socket)
    {
        let local = Given::read(address, from_user);
        let tuple = if local.v4 {
            Tuple { saddr: local.address, ..Tuple::v4(0, 0, local.port, 0) }
        } else {
            Tuple::v6(local.address, Address([0, 0]), local.port, 0)
        };
        call::failed(KIND_BIND, sock, &tuple, error);
    }
}
