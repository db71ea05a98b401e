//! Recording: from the road's batches, and what is found on the host, to files.
//!
//! [`Recorder`] is what the loop has; [`scribe`] the thread that writes. [`place`]: files and their names.
//! [`window`]: the last seconds, until a [`trigger`] wants them; [`carry`]: what every file must begin with.

pub mod carry;
pub mod place;
pub mod scribe;
pub mod trigger;
pub mod window;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;
use tracer_ebpf::{RAW_EVENT_SIZE, RawEvent, flag};

use self::scribe::{Keeping, Part, Progress, Scribe};
use crate::{
    capture::{
        content::{CgroupPath, End, Header, Sysctls},
        frame::Kind,
    },
    event::Loss,
    existing::Met,
    kernel::{cgroup::Cgroups, ring::boot_time_ns},
    live::listing::Listing,
    source::Batch,
};

/// Bytes on their way to the disk; what comes beyond is lost, and the capture says so.
const MAX_IN_FLIGHT: usize = 64 << 20;
/// Sockets in one frame.
const SOCKETS: usize = 100_000;
/// Cgroups whose paths are told.
const MAX_CGROUPS: usize = 65_536;
/// How long the disk may take nothing at the end.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// A recording under way.
pub struct Recorder {
    parts: mpsc::Sender<Part>,
    in_flight: Arc<AtomicUsize>,
    progress: Arc<Progress>,
    done: oneshot::Receiver<Result<()>>,
    /// Lost on the way, and not yet told.
    untold: Loss,
    lost: Loss,
    known: HashSet<u64>,
    last: u64,
    cgroups: Cgroups,
    sysctls: Sysctls,
}

impl Recorder {
    /// Opens the file, unless it waits for a trigger, and starts the thread.
    ///
    /// # Errors
    /// The file can't be made, or no thread can be had.
    pub fn start(keeping: Keeping, header: Header) -> Result<Self> {
        let progress = Arc::new(Progress::default());
        let scribe = Scribe::new(keeping, header, Arc::clone(&progress))?;
        let (parts, inbox) = mpsc::channel();
        let (finished, done) = oneshot::channel();
        let in_flight = Arc::new(AtomicUsize::new(0));
        let (weight, over) = (Arc::clone(&in_flight), Arc::clone(&progress));
        let write = move || {
            let outcome = scribe.run(&inbox, &weight);
            over.over.store(true, Relaxed);
            // Nobody may wait for it any more.
            let _ = finished.send(outcome);
        };
        let thread = std::thread::Builder::new().name("recording".to_owned()).spawn(write);
        thread.context("can't start a thread to write")?;
        Ok(Self {
            parts,
            in_flight,
            progress,
            done,
            untold: Loss::default(),
            lost: Loss::default(),
            known: HashSet::new(),
            last: 0,
            cgroups: Cgroups::default(),
            sysctls: Sysctls::default(),
        })
    }

    /// How it stands.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, for when the recording is over.
    #[must_use]
    pub fn share(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Whether nothing more is written.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress.over.load(Relaxed)
    }

    /// Lost on the way to the file, since the disk was slower than events came.
    #[must_use]
    pub fn lost(&self) -> &Loss {
        &self.lost
    }

    /// Takes a batch as it is folded in.
    pub fn batch(&mut self, batch: &Batch) {
        if !batch.records.is_empty() {
            self.cgroups_of(&batch.records);
            if self.has_room() {
                if self.untold != Loss::default() {
                    let untold = Loss { ts_ns: boot_time_ns(), ..std::mem::take(&mut self.untold) };
                    self.send(Part::Lost(untold));
                }
                self.send(Part::Records(batch.records.clone()));
            } else {
                let of_batch = of(&batch.records);
                self.untold.add(&of_batch);
                self.lost.add(&of_batch);
            }
        }
        if let Some(loss) = batch.lost {
            self.send(Part::Lost(loss));
        }
    }

    /// Takes a list of existing sockets as the table does.
    pub fn met(&mut self, met: &Met) {
        let mut continued = met.continued;
        for sockets in met.sockets.chunks(SOCKETS) {
            let of_frame = Met { continued, sockets: sockets.to_vec() };
            self.other(Kind::Sockets, boot_time_ns(), &of_frame, continued);
            continued = true;
        }
    }

    /// Takes what was found on the host.
    pub fn found(&mut self, listing: &Listing, sysctls: &Sysctls) {
        if !sysctls.are_as(&self.sysctls) {
            self.sysctls.clone_from(sysctls);
            self.other(Kind::Settings, sysctls.at_ns, sysctls, false);
        }
        if self.has_room() {
            self.other(Kind::Sample, listing.at_ns, listing, false);
        }
    }

    /// What a trigger waited for has happened: the window is written, and what comes from now on.
    pub fn fire(&mut self, why: String) {
        self.send(Part::Fire(why));
    }

    /// What a trigger wanted has been written.
    pub fn close(&mut self, end: End) {
        self.send(Part::Close(end));
    }

    /// Ends, and waits until all is on the disk.
    ///
    /// # Errors
    /// Something could not be written, or the disk takes nothing.
    pub async fn finish(mut self, end: End) -> Result<()> {
        if self.untold != Loss::default() {
            let untold = std::mem::take(&mut self.untold);
            self.send(Part::Lost(untold));
        }
        self.send(Part::End(end));
        loop {
            let before = self.progress.bytes.load(Relaxed);
            match tokio::time::timeout(LAST_WRITES, &mut self.done).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => bail!("the thread that writes has died"),
                Err(_) if self.progress.bytes.load(Relaxed) == before => {
                    bail!("the file is not written to its end: the disk takes nothing")
                }
                Err(_) => {}
            }
        }
    }

    /// Tells the paths of cgroups that are new in these records.
    fn cgroups_of(&mut self, records: &[u8]) {
        const AT: usize = std::mem::offset_of!(RawEvent, cgroup);
        let mut paths = Vec::new();
        for record in records.chunks_exact(RAW_EVENT_SIZE) {
            let id = record[AT..AT + 8].try_into().map_or(0, u64::from_le_bytes);
            // Neighbours are alike.
            if id == self.last || id == 0 {
                continue;
            }
            self.last = id;
            if self.known.len() < MAX_CGROUPS
                && self.known.insert(id)
                && let Some(path) = self.cgroups.path(id)
            {
                paths.push(CgroupPath { id, path: path.to_owned() });
            }
        }
        if !paths.is_empty() {
            self.other(Kind::Cgroups, boot_time_ns(), &paths, false);
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.load(Relaxed) < MAX_IN_FLIGHT
    }

    fn other(&self, kind: Kind, at_ns: u64, content: &impl serde::Serialize, continued: bool) {
        match serde_json::to_vec(content) {
            Ok(raw) => self.send(Part::Other { kind, at_ns, raw, continued }),
            Err(error) => tracing::warn!("what was found can't be recorded: {error}"),
        }
    }

    fn send(&self, part: Part) {
        self.in_flight.fetch_add(part.weight(), Relaxed);
        // The thread may have ended: then nobody counts.
        let _ = self.parts.send(part);
    }
}

/// What records are, as loss.
fn of(records: &[u8]) -> Loss {
    const AT: usize = std::mem::offset_of!(RawEvent, flags);
    let flags = |record: &[u8]| record[AT..AT + 2].try_into().map_or(0, u16::from_le_bytes);
    let all = records.len() / RAW_EVENT_SIZE;
    let records = records.chunks_exact(RAW_EVENT_SIZE);
    let failures = records.filter(|record| flags(record) & flag::FAILURE != 0).count();
    Loss {
        ts_ns: boot_time_ns(),
        states: (all - failures) as u64,
        failures: failures as u64,
        ..Loss::default()
    }
}
