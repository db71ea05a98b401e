//! The one loop: source → decode → table → sink.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    decode::decode,
    event::Event,
    existing::Lister,
    sampler::PortSampler,
    sink::{
        Sink, Totals,
        output::{Output, Sent},
    },
    source::{Batch, Live},
    table::Table,
};

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
        let _ = tokio::time::timeout(time, self.asked()).await;
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// A run: what the loop owns.
pub struct Run<'a> {
    source: Live,
    table: Table,
    sink: &'a mut dyn Sink,
    sampler: Option<PortSampler>,
    lister: Option<Lister>,
    /// What waits for the first list of existing sockets.
    held: Vec<Batch>,
    started: Instant,
    undecodable: u64,
    buffer: Vec<u8>,
}

/// Most bytes of records that wait for the first list of existing sockets.
const MAX_HELD: usize = 64 << 20;

impl<'a> Run<'a> {
    /// `sampler` measures ports while connects fail for want of one, `lister` lists the sockets that
    /// exist; `None`: nobody asked.
    pub fn new(
        source: Live,
        table: Table,
        sink: &'a mut dyn Sink,
        sampler: Option<PortSampler>,
        lister: Option<Lister>,
    ) -> Self {
        let (held, started, undecodable, buffer) = (Vec::new(), Instant::now(), 0, Vec::new());
        Self { source, table, sink, sampler, lister, held, started, undecodable, buffer }
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
                () = stop.asked() => break,
                () = until(deadline) => break,
                () = tick(&mut ticks) => self.totals()?,
                batch = self.source.next() => self.take(batch?),
            }
            tokio::select! {
                biased;
                sent = output.send(&mut self.buffer) => if sent == Sent::ReaderGone { break },
                () = stop.asked() => break,
                () = until(deadline) => break,
            }
        }
        self.source.stop()?;
        if let Some(lister) = &mut self.lister
            && let Some(snapshot) = lister.finish().await
        {
            self.table.meet(&snapshot);
        }
        while let Some(batch) = self.source.rest()? {
            self.take(batch);
            if output.send_while_read(&mut self.buffer).await != Sent::Yes {
                break;
            }
        }
        self.release();
        if let Some(sampler) = &mut self.sampler {
            sampler.finish(&mut self.table).await;
        }
        let totals = self.now()?;
        self.sink.end(&self.table, &totals, &mut self.buffer);
        if self.undecodable > 0 {
            tracing::warn!("{} records were not understood", self.undecodable);
        }
        output.finish(self.buffer).await?;
        Ok((self.table, totals))
    }

    /// Folds a batch in, or holds it back until the first list of existing sockets is there.
    fn take(&mut self, batch: Batch) {
        if let Some(lister) = &mut self.lister {
            if let Some(snapshot) = lister.poll() {
                self.table.meet(&snapshot);
            }
            if batch.lost.is_some() {
                lister.lost();
            }
            lister.refresh();
            let bytes: usize = self.held.iter().map(|batch| batch.records.len()).sum();
            if lister.is_awaited() && bytes < MAX_HELD {
                self.held.push(batch);
                return;
            }
        }
        self.release();
        self.fold(&batch);
    }

    fn release(&mut self) {
        for batch in std::mem::take(&mut self.held) {
            self.fold(&batch);
        }
    }

    fn fold(&mut self, batch: &Batch) {
        for event in decode(&batch.records) {
            match event {
                Ok(event) => self.apply(event),
                Err(error) => {
                    tracing::debug!("{error}");
                    self.undecodable += 1;
                }
            }
        }
        if let Some(loss) = batch.lost {
            self.apply(Event::Lost(loss));
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.poll(&mut self.table);
        }
    }

    fn apply(&mut self, mut event: Event) {
        let change = self.table.apply(&mut event);
        self.sink.event(&event, &change, &mut self.buffer);
    }

    fn totals(&mut self) -> Result<()> {
        let totals = self.now()?;
        self.sink.totals(&self.table, &totals, &mut self.buffer);
        Ok(())
    }

    fn now(&self) -> Result<Totals> {
        let duration_s = self.started.elapsed().as_secs_f64();
        let unseen = self.source.unseen();
        Ok(Totals { duration_s, produced: self.source.produced()?, unseen })
    }
}

/// Ticks that a slow reader delays, and does not pile up.
fn ticker(started: Instant, every: Duration) -> Interval {
    let mut ticks = interval_at((started + every).into(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn until(deadline: Option<Instant>) {
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
