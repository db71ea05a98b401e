//! Draining the two rings into one batch, in the order of time.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use bytes::{Bytes, BytesMut};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{Interest, unix::AsyncFd};
use tracer_ebpf::RAW_EVENT_SIZE;

/// Most records taken from one ring at a time: bounds the memory and the latency of a batch.
const MAX_RECORDS: usize = 65_536;

/// One ring, and what was taken from it that is not yet due.
struct Ring {
    map: RingBuf<MapData>,
    pending: BytesMut,
    wakeups: AsyncFd<OwnedFd>,
}

impl Ring {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
        let map = RingBuf::try_from(map).with_context(|| format!("{name} is no ring"))?;
        let fd = map.as_fd().try_clone_to_owned().context("can't duplicate a descriptor")?;
        let wakeups = wait_on(fd).with_context(|| format!("can't wait on ring {name}"))?;
        Ok(Self { map, pending: BytesMut::new(), wakeups })
    }

    fn fill(&mut self) {
        let room = MAX_RECORDS.saturating_sub(self.pending.len() / RAW_EVENT_SIZE);
        for _ in 0..room {
            let Some(item) = self.map.next() else { break };
            self.pending.extend_from_slice(&item);
        }
    }

    /// Bytes of the pending records before the first one that is not yet due at `until`.
    fn due(&self, until: u64) -> usize {
        let late = |record: &[u8]| timestamp(record) > until;
        // Only the last few can be late, so look from the end.
        let mut end = self.pending.len();
        for record in self.pending.rchunks_exact(RAW_EVENT_SIZE) {
            if !late(record) {
                break;
            }
            end -= RAW_EVENT_SIZE;
        }
        end
    }

    async fn woken(&self) {
        if let Ok(mut guard) = self.wakeups.readable().await {
            guard.clear_ready();
        }
    }
}

/// Registers a ring with the runtime.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn wait_on(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// `ts_ns` of a whole record.
fn timestamp(record: &[u8]) -> u64 {
    let at = std::mem::offset_of!(tracer_ebpf::RawEvent, ts_ns);
    record[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// The rings of a run.
pub struct Rings {
    failures: Ring,
    states: Ring,
}

impl Rings {
    /// Takes the rings out of a loaded object.
    ///
    /// # Errors
    /// The object lacks one, or the runtime can't wait on it.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            failures: Ring::take(ebpf, "RING_FAILURE")?,
            states: Ring::take(ebpf, "RING_STATE")?,
        })
    }

    /// Waits until the kernel side says that one of the rings fills up.
    pub async fn filling_up(&self) {
        tokio::select! {
            () = self.failures.woken() => {}
            () = self.states.woken() => {}
        }
    }

    /// Takes what happened up to now, in the order of time. What is younger stays for the next
    /// call: an event can be in one ring while an older one still makes its way into the other.
    pub fn drain(&mut self) -> Bytes {
        self.drain_until(boot_time_ns())
    }

    /// Takes all that is there, after the programs are gone.
    pub fn drain_rest(&mut self) -> Bytes {
        self.drain_until(u64::MAX)
    }

    fn drain_until(&mut self, until: u64) -> Bytes {
        self.failures.fill();
        self.states.fill();
        let failures_full = self.failures.pending.len() >= MAX_RECORDS * RAW_EVENT_SIZE;
        let states_full = self.states.pending.len() >= MAX_RECORDS * RAW_EVENT_SIZE;
        // A ring that was not emptied limits what is due of the other.
        let mut until = until;
        for (full, ring) in [(failures_full, &self.failures), (states_full, &self.states)] {
            if full && let Some(last) = ring.pending.rchunks_exact(RAW_EVENT_SIZE).next() {
                until = until.min(timestamp(last));
            }
        }
        let failures_due = self.failures.due(until);
        let failures = self.failures.pending.split_to(failures_due);
        let states_due = self.states.due(until);
        let states = self.states.pending.split_to(states_due);
        merge(failures, states)
    }
}

/// Merges two runs of records, each in order.
fn merge(failures: BytesMut, states: BytesMut) -> Bytes {
    if failures.is_empty() {
        return states.freeze();
    }
    if states.is_empty() {
        return failures.freeze();
    }
    let mut merged = BytesMut::with_capacity(failures.len() + states.len());
    let mut failures = failures.chunks(RAW_EVENT_SIZE).peekable();
    for state in states.chunks(RAW_EVENT_SIZE) {
        while let Some(failure) = failures.next_if(|f| timestamp(f) < timestamp(state)) {
            merged.extend_from_slice(failure);
        }
        merged.extend_from_slice(state);
    }
    failures.for_each(|failure| merged.extend_from_slice(failure));
    merged.freeze()
}

/// Nanoseconds since boot, suspended time included: the clock of the records.
#[must_use]
pub fn boot_time_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Nanoseconds between the Unix epoch and boot: what turns a record's time into a date.
#[must_use]
pub fn boot_epoch_ns() -> u64 {
    nanoseconds(ClockId::Realtime).saturating_sub(boot_time_ns())
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(times: &[u64]) -> BytesMut {
        let mut run = BytesMut::new();
        for time in times {
            let mut record = [0; RAW_EVENT_SIZE];
            record[8..16].copy_from_slice(&time.to_le_bytes());
            run.extend_from_slice(&record);
        }
        run
    }

    fn merged(failures: &[u64], states: &[u64]) -> Vec<u64> {
        merge(run(failures), run(states)).chunks(RAW_EVENT_SIZE).map(timestamp).collect()
    }

    #[test]
    fn two_runs_become_one_in_order() {
        assert_eq!(merged(&[2, 5, 9], &[1, 3, 4, 8]), [1, 2, 3, 4, 5, 8, 9]);
        assert_eq!(merged(&[], &[1, 2]), [1, 2]);
        assert_eq!(merged(&[1, 2], &[]), [1, 2]);
        assert_eq!(merged(&[], &[]), [0; 0]);
    }
}
