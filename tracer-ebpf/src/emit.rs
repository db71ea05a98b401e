//! Reserve → write → submit, or count the loss.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::RingBuf,
    helpers::bpf_ringbuf_query,
};
use tracer_ebpf::{Counters, RAW_EVENT_SIZE, RawEvent};

use crate::{
    maps::{COUNTERS, RING_FAILURE, RING_STATE},
    offsets::WAKE_BYTES,
};

/// This CPU's counters.
#[inline(always)]
pub(crate) fn counters() -> Option<&'static mut Counters> {
    // SAFETY: one slot for each CPU, plain integers.
    COUNTERS.get_ptr_mut(0).map(|slot| unsafe { &mut *slot })
}

/// Adds in one instruction: before Linux 6.1 a softirq may interrupt the program and run it for another
/// socket's transition on the same CPU.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn add(counter: &mut u64, number: u64) {
    // SAFETY: an aligned 64-bit word of a map's value; the instruction changes that word only.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {number}",
            counter = in(reg) core::ptr::from_mut(counter),
            number = in(reg) number,
        );
    }
}

/// The same for the host, whose compiler only checks these sources.
#[cfg(not(target_arch = "bpf"))]
pub(crate) fn add(counter: &mut u64, number: u64) {
    *counter += number;
}

/// Writes one record into its ring. Nobody is woken for it: the reader comes by on a timer, and is
/// called only when what waits crosses `WAKE_BYTES`.
#[inline(always)]
pub(crate) fn emit(failure: bool, write: impl FnOnce(&mut RawEvent)) {
    let Some(counters) = counters() else { return };
    let (ring, produced, dropped) = if failure {
        (&RING_FAILURE, &mut counters.failure_produced, &mut counters.failure_dropped)
    } else {
        (&RING_STATE, &mut counters.state_produced, &mut counters.state_dropped)
    };
    add(produced, 1);
    // Whether there was room is asked once only: verifiers before 6.3 take a second test of the same
    // pointer for a way to keep the room without giving it back.
    let Some(mut entry) = ring.reserve(0) else {
        add(dropped, 1);
        return;
    };
    // SAFETY: `write` sets every field; all fields are plain integers.
    write(unsafe { &mut *entry.as_mut_ptr() });
    entry.submit(u64::from(wakeup(ring)));
}

#[inline(always)]
fn wakeup<const N: usize>(ring: &'static RingBuf<RawEvent, N>) -> u32 {
    let map = core::ptr::from_ref(ring).cast_mut().cast();
    // SAFETY: a ring, and a number that asks for one of its positions.
    let waiting = unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA)) };
    // A record in the ring has an 8-byte header before it. Only the one that crosses the mark wakes.
    let past = waiting.wrapping_sub(u64::from(WAKE_BYTES.load()));
    if past < (RAW_EVENT_SIZE + 8) as u64 { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }
}
