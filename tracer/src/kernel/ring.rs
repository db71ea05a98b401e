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
const MAX_RECORDS: usize = 16_384;

/// How long a record may be on its way into its ring after its time was taken: a program that is
/// interrupted between the two holds up its ring. What is younger waits for the next batch.
const SETTLE_NS: u64 = 2_000_000;

/// One record as the kernel side wrote it.
type Record = [u8; RAW_EVENT_SIZE];

/// One ring.
struct Ring {
    map: RingBuf<MapData>,
    wakeups: AsyncFd<OwnedFd>,
}

impl Ring {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
        let map = RingBuf::try_from(map).with_context(|| format!("{name} is no ring"))?;
        let fd = map.as_fd().try_clone_to_owned().context("can't duplicate a descriptor")?;
        let wakeups = wait_on(fd).with_context(|| format!("can't wait on ring {name}"))?;
        Ok(Self { map, wakeups })
    }

    /// Appends what the ring holds; gives the time of the last record if there may be more.
    fn fill(&mut self, pending: &mut Vec<Record>) -> Option<u64> {
        for taken in 1..=MAX_RECORDS {
            let item = self.map.next()?;
            // The kernel side writes whole records only.
            let record = Record::try_from(&item[..]).ok()?;
            pending.push(record);
            if taken == MAX_RECORDS {
                return Some(timestamp(&record));
            }
        }
        None
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
fn timestamp(record: &Record) -> u64 {
    let at = std::mem::offset_of!(tracer_ebpf::RawEvent, ts_ns);
    record[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// The rings of a run.
pub struct Rings {
    failures: Ring,
    states: Ring,
    /// Taken from the rings, and not yet due.
    pending: Vec<Record>,
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
            pending: Vec::new(),
        })
    }

    /// Waits until the kernel side says that one of the rings fills up.
    pub async fn filling_up(&self) {
        tokio::select! {
            () = self.failures.woken() => {}
            () = self.states.woken() => {}
        }
    }

    /// Takes what happened up to a moment ago, in the order of time, and whether there is more.
    pub fn drain(&mut self) -> (Bytes, bool) {
        self.drain_until(boot_time_ns().saturating_sub(SETTLE_NS))
    }

    /// Takes all that is there, after the programs are gone.
    pub fn drain_rest(&mut self) -> Bytes {
        self.drain_until(u64::MAX).0
    }

    fn drain_until(&mut self, mut until: u64) -> (Bytes, bool) {
        let rings = [&mut self.failures, &mut self.states];
        let mut more = false;
        // A ring that was not emptied limits what is due of the other.
        for last in rings.into_iter().filter_map(|ring| ring.fill(&mut self.pending)) {
            until = until.min(last);
            more = true;
        }
        (take_due(&mut self.pending, until), more)
    }
}

/// Takes the records up to a time out of `pending`, in the order of time.
fn take_due(pending: &mut Vec<Record>, until: u64) -> Bytes {
    // Each ring is in order but for neighbours that two CPUs wrote at once: a few runs to merge.
    pending.sort_by_key(timestamp);
    let due = pending.partition_point(|record| timestamp(record) <= until);
    let mut batch = BytesMut::with_capacity(due * RAW_EVENT_SIZE);
    for record in pending.drain(..due) {
        batch.extend_from_slice(&record);
    }
    batch.freeze()
}

/// Nanoseconds since boot, suspended time included: the clock of the records.
#[must_use]
pub fn boot_time_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Nanoseconds between the Unix epoch and boot: what turns a record's time into a date.
#[must_use]
pub fn boot_epoch_ns() -> u64 {
    // A thread that is interrupted between two clocks would shift every date: the closest reading counts.
    let read = |_| {
        let before = boot_time_ns();
        let real = nanoseconds(ClockId::Realtime);
        let after = boot_time_ns();
        (after - before, real.saturating_sub(before + (after - before) / 2))
    };
    (0..CLOCK_READINGS).map(read).min().map_or(0, |(_, epoch)| epoch)
}

/// Readings of a pair of clocks.
const CLOCK_READINGS: u32 = 16;

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(times: &[u64]) -> Vec<Record> {
        let record = |time: &u64| {
            let mut record = [0; RAW_EVENT_SIZE];
            record[8..16].copy_from_slice(&time.to_le_bytes());
            record
        };
        times.iter().map(record).collect()
    }

    fn times(batch: &[u8]) -> Vec<u64> {
        batch.chunks(RAW_EVENT_SIZE).map(|r| timestamp(r.try_into().unwrap())).collect()
    }

    #[test]
    fn what_is_due_comes_in_order_and_the_rest_stays() {
        let mut pending = records(&[2, 5, 9, 1, 3, 4, 8]);
        assert_eq!(times(&take_due(&mut pending, 5)), [1, 2, 3, 4, 5]);
        pending.extend(records(&[6, 10]));
        assert_eq!(times(&take_due(&mut pending, 9)), [6, 8, 9]);
        assert_eq!(times(&take_due(&mut pending, u64::MAX)), [10]);
        assert!(take_due(&mut pending, u64::MAX).is_empty());
    }
}
