//! What every run does with events: takes batches from the source, holds them back until the sockets that
//! existed are listed, decodes them and folds them into the table.

use anyhow::Result;

use crate::{
    decode::decode,
    event::Event,
    existing::{Lister, Met},
    recording::Recorder,
    source::{Batch, Live},
    table::{Change, Table},
};

/// Most bytes of records that wait for the first list of existing sockets.
const MAX_HELD: usize = 64 << 20;

/// The road from the source to the table.
pub struct Intake {
    source: Live,
    /// What the events are folded into.
    pub table: Table,
    lister: Option<Lister>,
    /// What waits for the first list of existing sockets.
    held: Vec<Batch>,
    undecodable: u64,
    /// Takes what is folded in, as it came.
    recorder: Option<Recorder>,
}

impl Intake {
    /// `lister` lists the sockets that exist; `None`: nobody asked.
    #[must_use]
    pub fn new(source: Live, table: Table, lister: Option<Lister>) -> Self {
        Self { source, table, lister, held: Vec::new(), undecodable: 0, recorder: None }
    }

    /// Whether events wait for the first list of existing sockets.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.lister.as_ref().is_some_and(Lister::is_awaited)
    }

    /// Where the batches come from.
    #[must_use]
    pub fn source(&self) -> &Live {
        &self.source
    }

    /// Waits for the next batch, for [`Self::take`]. Safe to cancel.
    ///
    /// # Errors
    /// The kernel side's counters can't be read.
    pub async fn next(&mut self) -> Result<Batch> {
        self.source.next().await
    }

    /// Folds a batch in, or holds it back until the first list of existing sockets is there. `each` is told
    /// of every event that is folded in.
    pub fn take(&mut self, batch: Batch, mut each: impl FnMut(&Event, &Change)) {
        if let Some(lister) = &mut self.lister {
            let snapshot = lister.poll();
            if batch.lost.is_some() {
                lister.lost();
            }
            lister.refresh();
            if let Some(snapshot) = snapshot {
                self.meet(&Met::of(&snapshot));
            }
            let bytes: usize = self.held.iter().map(|batch| batch.records.len()).sum();
            if self.is_waiting() && bytes < MAX_HELD {
                self.held.push(batch);
                return;
            }
        }
        self.release(&mut each);
        self.fold(&batch, each);
    }

    /// Folds in what was held back.
    pub fn release(&mut self, mut each: impl FnMut(&Event, &Change)) {
        for batch in std::mem::take(&mut self.held) {
            self.fold(&batch, &mut each);
        }
    }

    /// From now on what is folded in is recorded, too; `recorder` is told of the sockets that are known.
    pub fn record(&mut self, mut recorder: Recorder) {
        recorder.met(&self.table.met());
        self.recorder = Some(recorder);
    }

    /// The recording under way.
    pub fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_mut()
    }

    /// Ends recording.
    pub fn take_recorder(&mut self) -> Option<Recorder> {
        self.recorder.take()
    }

    fn meet(&mut self, met: &Met) {
        self.table.meet(met);
        if let Some(recorder) = &mut self.recorder {
            recorder.met(met);
        }
    }

    fn fold(&mut self, batch: &Batch, mut each: impl FnMut(&Event, &Change)) {
        if let Some(recorder) = &mut self.recorder {
            recorder.batch(batch);
        }
        let mut apply = |table: &mut Table, mut event| {
            let change = table.apply(&mut event);
            each(&event, &change);
        };
        for event in decode(&batch.records) {
            match event {
                Ok(event) => apply(&mut self.table, event),
                Err(error) => {
                    tracing::debug!("{error}");
                    self.undecodable += 1;
                }
            }
        }
        if let Some(loss) = batch.lost {
            apply(&mut self.table, Event::Lost(loss));
        }
    }

    /// Detaches the kernel side and waits for the first list of existing sockets, if it isn't there yet.
    ///
    /// # Errors
    /// The kernel side can't be asked what it skipped.
    pub async fn stop(&mut self) -> Result<()> {
        self.source.stop()?;
        if let Some(lister) = &mut self.lister
            && let Some(snapshot) = lister.finish().await
        {
            self.meet(&Met::of(&snapshot));
        }
        Ok(())
    }

    /// What is left after [`Self::stop`]; `None` when that was all.
    ///
    /// # Errors
    /// The kernel side's counters can't be read.
    pub fn rest(&mut self) -> Result<Option<Batch>> {
        self.source.rest()
    }

    /// The table, at the end of a run.
    #[must_use]
    pub fn into_table(self) -> Table {
        if self.undecodable > 0 {
            tracing::warn!("{} records were not understood", self.undecodable);
        }
        self.table
    }
}
