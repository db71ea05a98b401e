//! TCP state changes: tracepoint `sock:inet_sock_set_state`, which fires in `inet_sk_state_store`
//! and `inet_sk_set_state` (`net/ipv4/af_inet.c`), after the socket's port was put back and before
//! `sk_state` changes. Checked against 5.10 to 7.2.

use core::ptr::NonNull;

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::debug;
use tracer_ebpf::{KIND_STATE, RawEvent, connect_return, flag, owner, state};

use super::timewait;
use crate::{
    call, emit, filter,
    life::{Life, connecting},
    maps::{self, PARKED, TOLD},
    offsets as off,
    probed::ProbedSock,
    record,
    sock::{Sock, TracepointSock, TrustedSock, Tuple},
};

/// First rung: the BTF-typed tracepoint.
///
/// Since Linux 6.1 the kernel skips a program that is running on this CPU already (`__bpf_trace_run`):
/// here, for a transition in a softirq that came while it ran for a task's own. The second program
/// takes these: it runs for each transition after the first one, and finds the socket in the map
/// `HANDLED` unless the first was skipped.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tp_btf(ctx: BtfTracePointContext) -> i32 {
    let (old, new): (u8, u8) = (ctx.arg(1), ctx.arg(2));
    if !passes_by(old, new)
        && let Some(sock) = TrustedSock::<true>::new(&ctx)
    {
        transition::<true, _, _>(&ctx, sock, old, new);
    }
    handled(mark(call::word(&ctx, 0), old, new));
    0
}

/// Takes what the kernel skipped the first program for.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tp_btf_2(ctx: BtfTracePointContext) -> i32 {
    let (old, new): (u8, u8) = (ctx.arg(1), ctx.arg(2));
    if was_handled(mark(call::word(&ctx, 0), old, new)) {
        return 0;
    }
    if !passes_by(old, new)
        && let Some(sock) = TrustedSock::<true>::new(&ctx)
    {
        transition::<false, _, _>(&ctx, sock, old, new);
    }
    0
}

/// What a transition is known by between the two programs: the socket's address, of which the upper
/// bits are all ones, and its states.
#[inline(always)]
fn mark(sk: u64, old: u8, new: u8) -> u64 {
    sk ^ (u64::from(old) << 48) ^ (u64::from(new) << 56)
}

/// The part of a mark that is the socket's.
const SOCKET: u64 = 0x0000_ffff_ffff_ffff;

/// The first program has taken this transition. Last in it: a transition in a softirq that comes before
/// this finds itself skipped, and so does one that comes after, for its socket is another. A mark that
/// the same socket left before is one that the second program was skipped for.
#[inline(always)]
fn handled(mark: u64) {
    if let Some(marks) = maps::handled(mark & SOCKET) {
        let (mut way, mut free) = (0, marks.len() - 1);
        while way < marks.len() {
            if (marks[way] ^ mark) & SOCKET == 0 {
                marks[way] = 0;
            }
            if marks[way] == 0 {
                free = way;
            }
            way += 1;
        }
        marks[free & 3] = mark;
    }
}

/// Whether the first program has taken this transition; if not, it counts as rescued.
#[inline(always)]
fn was_handled(mark: u64) -> bool {
    let Some(marks) = maps::handled(mark & SOCKET) else { return true };
    let mut way = 0;
    while way < marks.len() {
        if marks[way] == mark {
            marks[way] = 0;
            return true;
        }
        way += 1;
    }
    if let Some(counters) = emit::counters() {
        emit::add(&mut counters.rescued, 1);
    }
    false
}

/// First rung before Linux 5.12. The kernel skips none of its runs, and has no cookies for it.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tp_btf_old(ctx: BtfTracePointContext) -> i32 {
    let (old, new): (u8, u8) = (ctx.arg(1), ctx.arg(2));
    if !passes_by(old, new)
        && let Some(sock) = TrustedSock::<false>::new(&ctx)
    {
        transition::<true, _, _>(&ctx, sock, old, new);
    }
    0
}

/// Second rung: the same tracepoint without types. Its two programs go together as those of the first.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_raw_tp(ctx: RawTracePointContext) -> i32 {
    let (old, new) = (call::word(&ctx, 1) as u8, call::word(&ctx, 2) as u8);
    untyped::<true>(&ctx, old, new);
    handled(mark(call::word(&ctx, 0), old, new));
    0
}

/// Takes what the kernel skipped the one before for.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_raw_tp_2(ctx: RawTracePointContext) -> i32 {
    let (old, new) = (call::word(&ctx, 1) as u8, call::word(&ctx, 2) as u8);
    if !was_handled(mark(call::word(&ctx, 0), old, new)) {
        untyped::<false>(&ctx, old, new);
    }
    0
}

#[inline(always)]
fn untyped<const LOG: bool>(ctx: &RawTracePointContext, old: u8, new: u8) {
    if !passes_by(old, new)
        && let Some(sock) = ProbedSock::new(call::word(ctx, 0))
    {
        transition::<LOG, _, _>(ctx, sock, old, new);
    }
}

/// Third rung: the plain tracepoint, for kernels without type information.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
#[expect(clippy::needless_pass_by_value, reason = "the macro passes a value")]
pub(crate) fn state_tracepoint(ctx: TracePointContext) -> u32 {
    if let Some(sock) = TracepointSock::new(&ctx) {
        let old = sock.record::<u32>(&off::TP_OLDSTATE) as u8;
        let new = sock.record::<u32>(&off::TP_NEWSTATE) as u8;
        if !passes_by(old, new) {
            transition::<true, _, _>(&ctx, sock, old, new);
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

/// `LOG`: with debug messages. They are in one program of a pair only: in two they would be functions.
#[inline(always)]
fn transition<const LOG: bool, C: EbpfContext, S: Sock>(ctx: &C, sock: S, old: u8, new: u8) {
    let now = record::now();
    let mut tuple = sock.tuple();

    // `tcp_v4_connect`, `tcp_v6_connect` and `inet_csk_listen_start` run in the caller's own task.
    let begins = old == state::CLOSE && (new == state::SYN_SENT || new == state::LISTEN);
    let born = old == state::LISTEN && new == state::SYN_RECV;
    let life = if begins || born {
        sock.life_or_new()
    } else {
        // SAFETY: valid for the run of the program.
        sock.life().filter(|&life| unsafe { (*life.as_ptr()).is_of(sock) })
    };

    let mut age_ns = 0;
    if let Some(life) = life {
        // SAFETY: valid for the run of the program; one transition of a socket at a time.
        let life = unsafe { &mut *life.as_ptr() };
        if begins {
            life.begin(sock, new, tuple.sport, now);
            if new == state::SYN_SENT && return_awaited() {
                life.connecting = connecting::IN_CALL;
            }
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
        if new == state::SYN_SENT && return_awaited() {
            let _ = TOLD.insert(sock.addr(), 1, 0);
        }
        if LOG {
            debug!(ctx, "no room for the owner of a socket");
        }
    }

    tuple.sport = own_port(sock, &tuple, life, old, new);
    timewait::inferred(sock, &tuple, life, (old, new), now);
    let error = sock.err();
    let taken = error == 0 && error_was_taken(sock, old, new);
    let change = Change { now, age_ns, old, new, begins, born, error, taken };
    let parked = change.awaits_errno(sock, &tuple, life);
    if parked || change.wanted() {
        let wanted = filter::state_wanted(new)
            && filter::life_wanted(life)
            && filter::endpoints_wanted(&tuple, || sock.netns());
        if wanted && parked {
            park(
                sock.addr(),
                #[inline(always)]
                |event| change.write(event, sock, &tuple, life),
            );
        } else if wanted {
            if LOG {
                debug!(ctx, "state {} -> {} sk_err {}", old, new, change.error);
            }
            let failure = change.is_failure();
            emit::emit(
                failure,
                #[inline(always)]
                |event| change.write(event, sock, &tuple, life),
            );
        }
    }
    end(sock, life, old, new, parked);
}

/// Whether the kernel gives up a connection, and the application has fetched its errno already: before
/// 6.10 `tcp_write_err` (`net/ipv4/tcp_timer.c`) and `tcp_v4_err` wake it before they close the socket,
/// and `getsockopt(SO_ERROR)` clears `sk_err`. A close or a disconnect by the application has the socket
/// locked, and one that it does not hold any more is shut down both ways; a listener that is closed drops
/// those that nobody accepted yet (`inet_csk_listen_stop`).
#[inline(always)]
fn error_was_taken<S: Sock>(sock: S, old: u8, new: u8) -> bool {
    let connected =
        matches!(old, state::SYN_SENT | state::ESTABLISHED | state::FIN_WAIT1 | state::CLOSE_WAIT);
    new == state::CLOSE
        && connected
        && sock.all_fields()
        && sock.has_socket()
        && !sock.is_locked()
        && sock.shutdown() & 3 != 3
}

/// The life ends with the socket, or, where only connecting sockets are followed, as soon as it does not
/// connect any more. A hook that waits for the return of `connect()` ends it then.
#[inline(always)]
fn end<S: Sock>(sock: S, life: Option<NonNull<Life>>, old: u8, new: u8, parked: bool) {
    let done = off::TRACK_ALL.load() == 0 && old == state::SYN_SENT;
    if new != state::CLOSE && !done {
        return;
    }
    if let Some(life) = life
        && new == state::CLOSE
    {
        // SAFETY: valid for the run of the program.
        let stands = unsafe { &mut (*life.as_ptr()).connecting };
        if *stands == connecting::IN_CALL {
            *stands = if parked { connecting::PARKED } else { connecting::TOLD };
            return;
        }
    }
    sock.forget();
}

/// Whether a hook sees the return of the `connect()` that the current task is in.
#[inline(always)]
fn return_awaited() -> bool {
    match maps::settings().connect_return {
        connect_return::NONE => false,
        connect_return::FUNCTION => true,
        _ => call::is_under_way(),
    }
}

/// Keeps a report until `connect()` returns.
#[inline(always)]
fn park(addr: u64, write: impl FnOnce(&mut RawEvent)) {
    let nothing: &RawEvent = &NOTHING;
    if PARKED.insert(addr, nothing, 0).is_ok()
        && let Some(event) = PARKED.get_ptr_mut(addr)
    {
        // SAFETY: valid for the run of the program, and this socket's own.
        write(unsafe { &mut *event });
    }
}

static NOTHING: RawEvent = {
    // SAFETY: all fields are plain integers.
    unsafe { core::mem::zeroed() }
};

/// One transition.
#[derive(Clone, Copy)]
struct Change {
    now: u64,
    age_ns: u64,
    old: u8,
    new: u8,
    begins: bool,
    born: bool,
    /// `sk_err`.
    error: u16,
    /// See [`error_was_taken`].
    taken: bool,
}

impl Change {
    #[inline(always)]
    fn is_failure(self) -> bool {
        self.new == state::CLOSE && (self.old == state::SYN_SENT || self.error != 0 || self.taken)
    }

    #[inline(always)]
    fn wanted(self) -> bool {
        if self.is_failure() {
            filter::error_wanted(self.error)
        } else {
            off::FILTER_FAILURES.load() == 0
        }
    }

    /// Whether this is the end of a `connect()` that failed with a port of its own and without an errno on
    /// the socket, so that only what it returns tells why.
    #[inline(always)]
    fn awaits_errno<S: Sock>(self, sock: S, tuple: &Tuple, life: Option<NonNull<Life>>) -> bool {
        let Some(life) = life else { return false };
        // SAFETY: valid for the run of the program.
        let life = unsafe { &*life.as_ptr() };
        self.is_failure()
            && self.error == 0
            && life.connecting == connecting::IN_CALL
            && life.flags & flag::PORT_HELD == 0
            && tuple.sport != 0
            && sock.segs_out() == 0
            && sock.shutdown() & 3 != 3
    }

    #[inline(always)]
    fn write<S: Sock>(
        self,
        event: &mut RawEvent,
        sock: S,
        tuple: &Tuple,
        life: Option<NonNull<Life>>,
    ) {
        record::what(event, KIND_STATE, self.now, self.old, self.new);
        record::ends(event, tuple, sock.netns());
        event.age_ns = self.age_ns;
        event.error = self.error;
        event.shutdown = sock.shutdown();
        event.flags = match (sock.all_fields(), sock.segs_out()) {
            (false, _) => flag::STABLE_FIELDS_ONLY,
            (true, 0) => 0,
            (true, _) => flag::SENT,
        };
        if self.is_failure() {
            event.flags |= flag::FAILURE;
        }
        if self.taken {
            event.flags |= flag::ERROR_TAKEN;
        }
        // Before Linux 6.15 a newborn still carries its listener's addresses and cookie
        // (`inet_csk_clone_lock` set its own after the state).
        event.cookie = if self.born && tuple.dport == 0 { 0 } else { sock.cookie() };
        if let Some(life) = life {
            // SAFETY: valid for the run of the program.
            let life = unsafe { &*life.as_ptr() };
            record::owned(event, &life.task, if self.begins { owner::CURRENT } else { life.owner });
            event.flags |= life.flags;
            if event.cookie == 0 && off::LIFE_TABLE.load() == 0 {
                event.cookie = life.cookie;
                event.flags |= flag::COOKIE_MADE;
            }
        } else {
            // What is held on the way to CLOSE was held by `bind()`: other ports are put back before.
            if event.new == state::CLOSE && sock.num() != 0 {
                event.flags |= flag::PORT_HELD;
            }
            record::unowned(event);
        }
    }
}

/// The local port of *this* attempt. `inet_sport` keeps the port of an earlier `connect()` on the
/// same socket until a new one is chosen (`__inet_hash_connect` tests and sets `inet_num` only).
#[inline(always)]
fn own_port<S: Sock>(sock: S, tuple: &Tuple, life: Option<NonNull<Life>>, old: u8, new: u8) -> u16 {
    if !sock.all_fields() {
        return tuple.sport;
    }
    if new == state::SYN_SENT {
        return sock.num();
    }
    // SAFETY: a life is valid for the run of the program.
    let stale = life.is_some_and(|life| unsafe { (*life.as_ptr()).stale_port } == tuple.sport);
    if stale && old == state::SYN_SENT && new == state::CLOSE && sock.segs_out() == 0 {
        return 0;
    }
    tuple.sport
}
