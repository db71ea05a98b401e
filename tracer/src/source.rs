//! Where batches of records come from: the live kernel, and later a capture.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracer_ebpf::{Counters, RAW_EVENT_SIZE};

use crate::{
    event::Loss,
    kernel::{
        loader::{Kernel, Skipped},
        ring::boot_time_ns,
    },
};

/// How often the rings are emptied. Nobody is woken for an event, so this is also the latency.
const DRAIN_EVERY: Duration = Duration::from_millis(25);
/// How long the end of a run waits for a record that is still being written.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Records as the kernel wrote them, in the order of time, and what was lost meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Whole records, one after the other.
    pub records: Bytes,
    /// Noticed since the last batch.
    pub lost: Option<Loss>,
}

/// The live kernel as a source.
pub struct Live {
    kernel: Kernel,
    timer: Interval,
    reported: Counters,
    skipped: Skipped,
    taken: u64,
    /// The last batch did not empty the rings.
    more: bool,
}

impl Live {
    /// Wraps an attached kernel side.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        let mut timer = interval(DRAIN_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            kernel,
            timer,
            reported: Counters::default(),
            skipped: Skipped::default(),
            taken: 0,
            more: false,
        }
    }

    /// Waits for the next batch, which may be empty. Safe to cancel: nothing is taken before it is
    /// returned.
    ///
    /// # Errors
    /// The kernel side's counters can't be read.
    pub async fn next(&mut self) -> Result<Batch> {
        if !self.more {
            tokio::select! {
                _ = self.timer.tick() => {}
                () = self.kernel.filling_up() => {}
            }
        }
        let (records, more) = self.kernel.drain();
        self.more = more;
        self.batch(records)
    }

    /// Detaches the kernel side, so that nothing more is produced.
    ///
    /// # Errors
    /// The kernel side can't be asked what it skipped.
    pub fn stop(&mut self) -> Result<()> {
        self.kernel.detach()
    }

    /// What is left after [`Self::stop`]; `None` when that was all: when what was taken and what was
    /// dropped are together what was produced. A program that still ran on another CPU while it was
    /// detached is waited for.
    ///
    /// # Errors
    /// The kernel side's counters can't be read.
    pub fn rest(&mut self) -> Result<Option<Batch>> {
        let deadline = Instant::now() + LAST_WAIT;
        loop {
            let records = self.kernel.drain_rest();
            let batch = self.batch(records)?;
            if batch != Batch::default() {
                return Ok(Some(batch));
            }
            let counters = self.reported;
            let dropped = counters.state_dropped + counters.failure_dropped;
            let produced = counters.state_produced + counters.failure_produced;
            if self.taken + dropped >= produced {
                return Ok(None);
            }
            if Instant::now() > deadline {
                let missing = produced - dropped - self.taken;
                tracing::warn!("{missing} events were produced and never arrived");
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Events that passed the filters so far, seen or lost, and state changes that were missed.
    ///
    /// # Errors
    /// The kernel side's counters can't be read.
    pub fn produced(&self) -> Result<u64> {
        let counters = self.kernel.counters()?;
        Ok(counters.state_produced + counters.failure_produced + self.kernel.skipped()?.states)
    }

    /// What the filters ask for and no hook of this kernel shows.
    #[must_use]
    pub fn unseen(&self) -> Vec<&'static str> {
        self.kernel.unseen().iter().map(|unseen| unseen.hooked.name()).collect()
    }

    fn batch(&mut self, records: Bytes) -> Result<Batch> {
        self.taken += (records.len() / RAW_EVENT_SIZE) as u64;
        Ok(Batch { records, lost: self.loss()? })
    }

    fn loss(&mut self) -> Result<Option<Loss>> {
        let (now, skipped) = (self.kernel.counters()?, self.kernel.skipped()?);
        let before = std::mem::replace(&mut self.reported, now);
        // A run that was skipped is counted before the second program takes it.
        let skipped = Skipped { states: skipped.states.max(self.skipped.states), ..skipped };
        let skipped_before = std::mem::replace(&mut self.skipped, skipped);
        let loss = Loss {
            ts_ns: boot_time_ns(),
            states: now.state_dropped - before.state_dropped,
            failures: now.failure_dropped - before.failure_dropped,
            missed: skipped.states - skipped_before.states,
            owners: now.owner_dropped - before.owner_dropped,
            calls: skipped.calls - skipped_before.calls,
        };
        Ok((loss.events() + loss.owners + loss.calls > 0).then_some(loss))
    }
}
