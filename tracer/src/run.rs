//! The one loop: source → decode → table → sink.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    intake::Intake,
    sampler::PortSampler,
    sink::{
        Sink, Totals,
        output::{Output, Sent},
    },
    source::Batch,
    table::Table,
};

/// The runtime of a loop: one thread.
///
/// # Errors
/// The system refuses.
pub fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("can't start the runtime")
}

/// When a run ends, and how often it prints totals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    /// How long.
    pub duration: Option<Duration>,
    /// How often totals are printed.
    pub interval: Option<Duration>,
}

/// Ctrl-C, SIGTERM and hang-up. Listened to before the programs are attached, so that none comes too
/// early.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// Which of them came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Ctrl-C
    Interrupt,
    /// SIGTERM
    Terminate,
    /// SIGHUP
    HangUp,
}

impl Stop {
    /// Starts listening.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("can't listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until one comes, for so long at most.
    pub async fn asked_within(mut self, time: Duration) {
        // Which of the two it was is the same to who waits.
        let _: Result<Asked, _> = tokio::time::timeout(time, self.asked()).await;
    }

    /// Waits until one comes, and says which. Safe to cancel.
    pub async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.hang_up.recv() => Asked::HangUp,
        }
    }
}

/// A run: what the loop owns.
pub struct Run<'a> {
    intake: Intake,
    sink: &'a mut dyn Sink,
    sampler: Option<PortSampler>,
    started: Instant,
    buffer: Vec<u8>,
}

impl<'a> Run<'a> {
    /// `sampler` measures ports while connects fail for want of one; `None`: nobody asked.
    pub fn new(intake: Intake, sink: &'a mut dyn Sink, sampler: Option<PortSampler>) -> Self {
        Self { intake, sink, sampler, started: Instant::now(), buffer: Vec::new() }
    }

    /// Runs until the time is up, a signal comes, or nobody reads the output any more; then takes
    /// what is still in the rings, so that all that was produced is seen or counted as lost.
    ///
    /// # Errors
    /// The kernel side or the output fails.
    pub async fn drive(
        mut self,
        schedule: Schedule,
        mut stop: Stop,
        output: Output,
    ) -> Result<(Table, Totals)> {
        let deadline = schedule.duration.map(|duration| self.started + duration);
        let mut ticks = schedule.interval.map(|every| ticker(self.started, every));
        loop {
            // In no order of preference: none of them may keep the others from their turn.
            tokio::select! {
                _ = stop.asked() => break,
                () = until(deadline) => break,
                () = tick(&mut ticks) => self.totals()?,
                batch = self.intake.next() => self.take(batch?),
            }
            tokio::select! {
                biased;
                sent = output.send(&mut self.buffer) => if sent == Sent::ReaderGone { break },
                _ = stop.asked() => break,
                () = until(deadline) => break,
            }
        }
        self.intake.stop().await?;
        while let Some(batch) = self.intake.rest()? {
            self.take(batch);
            if output.send_while_read(&mut self.buffer).await != Sent::Yes {
                break;
            }
        }
        self.intake.release(|event, change| self.sink.event(event, change, &mut self.buffer));
        if let Some(sampler) = &mut self.sampler {
            sampler.finish(&mut self.intake.table).await;
        }
        let totals = self.now()?;
        self.sink.end(&self.intake.table, &totals, &mut self.buffer);
        output.finish(self.buffer).await?;
        Ok((self.intake.into_table(), totals))
    }

    fn take(&mut self, batch: Batch) {
        self.intake.take(batch, |event, change| self.sink.event(event, change, &mut self.buffer));
        if let Some(sampler) = &mut self.sampler {
            sampler.poll(&mut self.intake.table);
        }
    }

    fn totals(&mut self) -> Result<()> {
        let totals = self.now()?;
        self.sink.totals(&self.intake.table, &totals, &mut self.buffer);
        Ok(())
    }

    fn now(&self) -> Result<Totals> {
        let duration_s = self.started.elapsed().as_secs_f64();
        let source = self.intake.source();
        Ok(Totals { duration_s, produced: source.produced()?, unseen: source.unseen() })
    }
}

/// Ticks that a slow reader delays, and does not pile up.
pub(crate) fn ticker(started: Instant, every: Duration) -> Interval {
    let mut ticks = interval_at((started + every).into(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
