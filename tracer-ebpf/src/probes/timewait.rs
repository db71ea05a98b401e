//! A TIME-WAIT entry takes a socket's place: `inet_twsk_hashdance` in `net/ipv4/inet_timewait_sock.c`
//! (since 6.11 `inet_twsk_hashdance_schedule`), which `tcp_time_wait` calls once it has made the entry,
//! and not when the table of entries is full. Checked against 5.10 to 7.2.

use core::ptr::NonNull;

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_ebpf::{KIND_TIMEWAIT, flag, state};

use crate::{
    call, emit, filter,
    life::Life,
    maps, offsets as off,
    probed::{ProbedSock, read_field},
    record,
    sock::{Sock, Tuple},
};

/// First rung. Arguments: `struct inet_timewait_sock *`, `struct sock *`, ...
#[fentry(function = "inet_twsk_hashdance")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn timewait_fentry(ctx: FEntryContext) -> i32 {
    entered(call::word(&ctx, 0), call::word(&ctx, 1));
    0
}

/// Second rung.
#[kprobe]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn timewait_kprobe(ctx: ProbeContext) -> u32 {
    entered(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    0
}

#[inline(always)]
fn entered(entry: u64, sock: u64) {
    if let Some(sock) = ProbedSock::new(sock) {
        let substate: u8 = read_field(entry, &off::OFF_TW_SUBSTATE);
        let old: u8 = read_field(sock.addr(), &off::OFF_STATE);
        report(sock, &sock.tuple(), sock.own_life(), (old, substate), 0, record::now());
    }
}

/// Third rung: a state change says that an entry was made, or as good as. Wrong where the table of
/// entries is full (`TCPTimeWaitOverflow`), and where the application or the kernel gave up a socket in
/// FIN-WAIT-2 without an errno (`tcp_close` with unread data or `SO_LINGER` 0, too many orphans).
#[inline(always)]
pub(crate) fn inferred<S: Sock>(
    sock: S,
    tuple: &Tuple,
    life: Option<NonNull<Life>>,
    (old, new): (u8, u8),
    now: u64,
) {
    let closed = new == state::CLOSE && (old == state::FIN_WAIT2 || old == state::CLOSING);
    if closed && sock.err() == 0 && maps::settings().timewait_inferred != 0 {
        report(sock, tuple, life, (old, state::TIME_WAIT), flag::INFERRED, now);
    }
}

#[inline(always)]
fn report<S: Sock>(
    sock: S,
    tuple: &Tuple,
    life: Option<NonNull<Life>>,
    (old, substate): (u8, u8),
    flags: u16,
    now: u64,
) {
    let wanted = off::FILTER_FAILURES.load() == 0
        && filter::state_wanted(state::TIME_WAIT)
        && filter::life_wanted(life)
        && filter::endpoints_wanted(tuple, || sock.netns());
    if !wanted {
        return;
    }
    emit::emit(
        false,
        #[inline(always)]
        |event| {
            record::what(event, KIND_TIMEWAIT, now, old, substate);
            record::ends(event, tuple, sock.netns());
            event.cookie = sock.cookie();
            event.age_ns = 0;
            event.error = 0;
            event.shutdown = 0;
            event.flags = flags;
            if let Some(life) = life {
                // SAFETY: valid for the run of the program.
                let life = unsafe { &*life.as_ptr() };
                record::owned(event, &life.task, life.owner);
                event.flags |= life.flags & flag::PASSIVE;
            } else {
                record::unowned(event);
            }
        },
    );
}
