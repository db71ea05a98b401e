//! System calls and functions that a task is in, and the failures that they return with.

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_pid_tgid};
use tracer_ebpf::{KIND_FD, flag, owner, state};

use crate::{
    emit, filter,
    maps::CALLS,
    probed::{Plain, ProbedSock, read, read_user},
    record,
    sock::{AF_INET6, Address, Sock, Tuple},
    task::{self, Task},
};

/// What is remembered of a call until it returns.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Call {
    /// The `struct sock`, or the `struct socket` where a system call was entered.
    pub socket: u64,
    /// The address that it was given: in the kernel's memory, or in the caller's.
    pub address: u64,
    /// 1 when the socket had neither connected nor begun to.
    pub fresh: u64,
}

/// The current task enters a call.
#[inline(always)]
pub(crate) fn enter(call: &Call) {
    // LRU: there is always room.
    let _ = CALLS.insert(bpf_get_current_pid_tgid(), call, 0);
}

/// The current task returns from a call.
#[inline(always)]
pub(crate) fn leave() -> Option<Call> {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the current task's own entry, copied at once.
    let call = unsafe { CALLS.get(thread) }.copied()?;
    let _ = CALLS.remove(thread);
    Some(call)
}

/// Whether the current task is in a call.
#[inline(always)]
pub(crate) fn is_under_way() -> bool {
    CALLS.get_ptr(bpf_get_current_pid_tgid()).is_some()
}

/// A word of a program's context: an argument, or behind the last one what the function returned.
#[inline(always)]
pub(crate) fn word<C: EbpfContext>(ctx: &C, index: usize) -> u64 {
    // The contexts of fentry, fexit and tracepoints are arrays of words; copied by a helper they are
    // plain numbers, whatever the verifier knows of their types.
    read(ctx.as_ptr().wrapping_byte_add(index * 8) as u64)
}

/// Arguments of a system call begin here in the record of its tracepoint, in words.
pub(crate) const SYSCALL_ARGUMENTS: usize = 2;
/// What a system call returns is here.
pub(crate) const SYSCALL_RETURN: usize = 2;

/// The errno in what a kernel function returned; `None`: it did not fail.
#[inline(always)]
pub(crate) fn errno(returned: u64) -> Option<u16> {
    let returned = returned.cast_signed();
    (-4095..0).contains(&returned).then_some(returned.unsigned_abs() as u16)
}

/// The same for a function that returns an `int`, whose upper half is not defined.
#[inline(always)]
pub(crate) fn errno_of_int(returned: u64) -> Option<u16> {
    errno(i64::from(returned as i32).cast_unsigned())
}

/// An address and port as `connect()` and `bind()` take them.
#[derive(Clone, Copy)]
pub(crate) struct Given {
    pub address: Address,
    /// Host byte order.
    pub port: u16,
    /// Not `AF_INET6`.
    pub v4: bool,
}

impl Given {
    /// Reads a `struct sockaddr`.
    #[inline(always)]
    pub(crate) fn read(at: u64, from_user: bool) -> Self {
        let family: u16 = copy(at, from_user);
        let port = u16::from_be(copy(at + 2, from_user));
        if family == AF_INET6 {
            Self { address: Address(copy(at + 8, from_user)), port, v4: false }
        } else {
            Self { address: Address::v4(copy(at + 4, from_user)), port, v4: true }
        }
    }
}

#[inline(always)]
fn copy<T: Plain>(at: u64, from_user: bool) -> T {
    if from_user { read_user(at) } else { read(at) }
}

/// Reports a call on a socket that failed and left no trace in the socket's states.
#[inline(always)]
pub(crate) fn failed(kind: u16, sock: ProbedSock, tuple: &Tuple, error: u16) {
    if !filter::stateless_wanted() || !filter::error_wanted(error) {
        return;
    }
    let task = Task::current();
    if !filter::owner_wanted(&task) || !filter::endpoints_wanted(tuple, || sock.netns()) {
        return;
    }
    emit::emit(
        true,
        #[inline(always)]
        |event| {
            record::what(event, kind, record::now(), state::CLOSE, state::CLOSE);
            record::ends(event, tuple, sock.netns());
            record::owned(event, &task, owner::CURRENT);
            event.cookie = sock.cookie();
            event.age_ns = 0;
            event.error = error;
            event.shutdown = 0;
            event.flags = flag::FAILURE;
        },
    );
}

/// Reports that the current task found no free file descriptor.
#[inline(always)]
pub(crate) fn no_descriptor(error: u16) {
    let wanted = filter::stateless_wanted()
        && filter::addressless_wanted()
        && filter::error_wanted(error)
        && filter::netns_wanted(task::current_netns);
    let task = Task::current();
    if !wanted || !filter::owner_wanted(&task) {
        return;
    }
    emit::emit(
        true,
        #[inline(always)]
        |event| {
            record::what(event, KIND_FD, record::now(), state::CLOSE, state::CLOSE);
            let nowhere = Tuple::v4(0, 0, 0, 0);
            record::ends(event, &nowhere, task::current_netns());
            event.family = 0;
            record::owned(event, &task, owner::CURRENT);
            event.cookie = 0;
            event.age_ns = 0;
            event.error = error;
            event.shutdown = 0;
            event.flags = flag::FAILURE;
        },
    );
}
