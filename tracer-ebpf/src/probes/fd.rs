//! No free file descriptor for the process: `EMFILE` of `get_unused_fd_flags` (`fs/file.c`); no free file
//! for the whole system: `ENFILE` of `alloc_empty_file` (`fs/file_table.c`). Checked against 5.10 to 7.2.

use aya_ebpf::{
    macros::{fexit, kretprobe, tracepoint},
    programs::{FExitContext, RetProbeContext, TracePointContext},
};

use crate::{
    call::{self, SYSCALL_RETURN},
    offsets as off,
};

const ENFILE: u16 = 23;
const EMFILE: u16 = 24;

/// First rung. Argument: `unsigned flags`; `alloc_fd`, which all ways to a descriptor lead to, takes three,
/// and as `__alloc_fd` four.
#[fexit(function = "get_unused_fd_flags")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn fd_fexit_descriptor(ctx: FExitContext) -> i32 {
    let value = match off::FD_ARGUMENTS.load() {
        3 => call::word(&ctx, 3),
        4 => call::word(&ctx, 4),
        _ => call::word(&ctx, 1),
    };
    returned(call::errno_of_int(value));
    0
}

/// First rung. Arguments: `int flags`, `const struct cred *`; it returns a pointer or an errno.
#[fexit(function = "alloc_empty_file")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn fd_fexit_file(ctx: FExitContext) -> i32 {
    returned(call::errno(call::word(&ctx, 2)));
    0
}

/// Second rung, for the same.
#[kretprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn fd_kretprobe_descriptor(ctx: RetProbeContext) -> u32 {
    returned(call::errno_of_int(ctx.ret()));
    0
}

/// Second rung, for `alloc_empty_file`.
#[kretprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn fd_kretprobe_file(ctx: RetProbeContext) -> u32 {
    returned(call::errno(ctx.ret()));
    0
}

/// Third rung: returns of `socket`, `accept` and `accept4`.
#[tracepoint]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn fd_sys_exit(ctx: TracePointContext) -> u32 {
    returned(call::errno(call::word(&ctx, SYSCALL_RETURN)));
    0
}

#[inline(always)]
fn returned(error: Option<u16>) {
    if let Some(error) = error
        && (error == EMFILE || error == ENFILE)
    {
        call::no_descriptor(error);
    }
}
