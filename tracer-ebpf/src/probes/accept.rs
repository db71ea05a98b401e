//! Who accepted a connection: from then on it is the owner. `inet_csk_accept` in
//! `net/ipv4/inet_connection_sock.c` runs in the time of `accept()`'s caller and returns the new socket.
//! Its arguments changed with 6.10. Checked against 5.10 to 7.2.

use aya_ebpf::{
    macros::{fexit, kretprobe, tracepoint},
    programs::{FExitContext, RetProbeContext, TracePointContext},
};
use tracer_ebpf::{flag, owner};

use crate::{
    call::{self, SYSCALL_RETURN},
    offsets as off,
    probed::{ProbedSock, socket_of_fd},
};

/// First rung.
#[fexit(function = "inet_csk_accept")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn accept_fexit(ctx: FExitContext) -> i32 {
    let returned =
        if off::ACCEPT_ARGUMENTS.load() == 2 { call::word(&ctx, 2) } else { call::word(&ctx, 4) };
    accepted(ProbedSock::new(returned));
    0
}

/// Second rung.
#[kretprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn accept_kretprobe(ctx: RetProbeContext) -> u32 {
    accepted(ProbedSock::new(ctx.ret()));
    0
}

/// Third rung: returns of `accept` and `accept4`.
#[tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn accept_sys_exit(ctx: TracePointContext) -> u32 {
    let fd = call::word(&ctx, SYSCALL_RETURN);
    if fd.cast_signed() >= 0 {
        accepted(ProbedSock::of_socket(socket_of_fd(fd)));
    }
    0
}

#[inline(always)]
fn accepted(sock: Option<ProbedSock>) {
    if let Some(life) = sock.and_then(ProbedSock::own_life) {
        // SAFETY: valid for the run of the program. A transition on another CPU meanwhile reads an
        // owner whose names are half written only if it comes within these few instructions, for
        // `owner` is set last.
        let life = unsafe { &mut *life.as_ptr() };
        if life.flags & flag::PASSIVE != 0 && life.owner == owner::UNKNOWN {
            life.owned_by_current();
        }
    }
}
