//! Filling in a record. Between them these set every field.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use tracer_ebpf::{RAW_EVENT_SIZE, RawEvent, owner};

use crate::{life::clear, sock::Tuple, task::Task};

/// Nanoseconds since boot, suspended time included.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes no argument.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// What happened, and when.
#[inline(always)]
pub(crate) fn what(event: &mut RawEvent, kind: u16, now: u64, old: u8, new: u8) {
    event.kind = kind;
    event.size = RAW_EVENT_SIZE as u16;
    // SAFETY: takes no argument.
    event.cpu = unsafe { bpf_get_smp_processor_id() } as u16;
    event.reserved = 0;
    event.ts_ns = now;
    event.old = old;
    event.new = new;
}

/// Between which ends.
#[inline(always)]
pub(crate) fn ends(event: &mut RawEvent, tuple: &Tuple, netns: u32) {
    // SAFETY: two u64 are 16 bytes.
    unsafe {
        event.saddr = core::mem::transmute::<[u64; 2], [u8; 16]>(tuple.saddr.0);
        event.daddr = core::mem::transmute::<[u64; 2], [u8; 16]>(tuple.daddr.0);
    }
    event.sport = tuple.sport;
    event.dport = tuple.dport;
    event.family = tuple.family;
    event.netns = netns;
}

/// Whose socket it is.
#[inline(always)]
pub(crate) fn owned(event: &mut RawEvent, task: &Task, known: u8) {
    event.owner = known;
    event.tgid = task.tgid;
    event.pid = task.pid;
    event.comm = task.comm;
    event.cgroup = task.cgroup;
}

/// Nobody knows whose socket it is.
#[inline(always)]
pub(crate) fn unowned(event: &mut RawEvent) {
    event.owner = owner::UNKNOWN;
    event.tgid = 0;
    event.pid = 0;
    clear(&mut event.comm);
    event.cgroup = 0;
}
