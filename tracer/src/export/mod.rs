//! `socklife export`: captures as Parquet, JSON lines or CSV. docs/export.md is the contract.
//!
//! [`row`]: what an event is in columns. [`jsonl`], [`csv`], [`parquet`]: the formats. [`output`]: where they go.

pub mod csv;
pub mod jsonl;
pub mod output;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod row;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tokio::sync::oneshot;

use self::{
    output::{Output, Place},
    row::Gone,
};
use crate::{
    capture::{
        content::Header,
        walk::{Step, Walk},
    },
    event::{Event, made_visible},
    human::{size, thousands},
    kernel::cgroup::Cgroups,
    run::Stop,
    table::Change,
};

/// Longest path of a cgroup (`PATH_MAX`): what is longer is none.
const MAX_PATH: usize = 4096;
/// Longest name of a host, characters.
const MAX_HOST: usize = 255;

/// What to make of captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Columns, for DuckDB, pandas, ClickHouse, Spark.
    Parquet,
    /// The lines of `trace --format json`.
    Jsonl,
    /// The columns of Parquet as text, with a header line.
    Csv,
}

/// What to export, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The captures; `-`: standard input.
    pub captures: Vec<PathBuf>,
    /// Into what.
    pub to: To,
    /// Where to.
    pub place: Place,
    /// Failures only. What is missing is told all the same.
    pub failures: bool,
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Captures read.
    pub captures: u64,
    /// Events written, loss not counted.
    pub events: u64,
    /// Events that were lost while they were recorded.
    pub lost: u64,
    /// Places where events are missing for damage, or because a recording was cut off.
    pub damaged: u64,
    /// Events that are known to be missing there; there may be more.
    pub missing: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Who read them has stopped: not all was written.
    pub reader_gone: bool,
}

/// A way to write captures. One method for each thing that happens.
pub trait Format {
    /// A capture begins; `host` is inert.
    ///
    /// # Errors
    /// It can't be written.
    fn begin(&mut self, header: &Header, host: &str) -> Result<()>;
    /// An event of it, or loss. `cgroup`: the path of its owner's, inert.
    ///
    /// # Errors
    /// It can't be written.
    fn event(&mut self, event: &Event, change: &Change, cgroup: Option<&str>) -> Result<()>;
    /// Events of it are missing.
    ///
    /// # Errors
    /// It can't be written.
    fn gone(&mut self, gone: Gone) -> Result<()>;
    /// All captures were read: gives the output back, with everything in it.
    ///
    /// # Errors
    /// It can't be written.
    fn end(self: Box<Self>) -> Result<Output>;
}

/// Exports until all is written or a signal comes. An output file is whole, or not there.
///
/// # Errors
/// A capture can't be read, the output can't be written, or a signal came.
pub async fn run(plan: Plan) -> Result<Exported> {
    let mut stop = Stop::listen()?;
    let stopped = Arc::new(AtomicBool::new(false));
    let to_file = plan.place.path.is_some();
    let (done, mut ended) = oneshot::channel();
    let asked = Arc::clone(&stopped);
    let work = move || {
        // Who waits may be gone.
        let _ = done.send(export(&plan, &asked));
    };
    let thread = std::thread::Builder::new().name("export".to_owned()).spawn(work);
    thread.context("can't start a thread")?;
    tokio::select! {
        exported = &mut ended => return exported.context("the export broke off")?,
        _ = stop.asked() => stopped.store(true, Relaxed),
    }
    // Standard output may never take what is being written; a file is to be removed.
    if to_file {
        return ended.await.context("the export broke off")?;
    }
    bail!("interrupted: the output is not whole")
}

/// The same, on this thread, until `stopped` is set.
///
/// # Errors
/// As [`run`].
pub fn export(plan: &Plan, stopped: &AtomicBool) -> Result<Exported> {
    // Whether they can be read is known before anything is written.
    let mut captures = plan.captures.iter();
    let Some(first) = captures.next() else { bail!("no capture is given") };
    let first = Walk::open(first)?;
    plan.place.check(plan.to)?;
    let output = Output::create(&plan.place)?;
    let mut format = format(plan, output)?;
    let mut exported = Exported::default();
    let mut written = one(first, plan, format.as_mut(), stopped, &mut exported);
    for path in captures {
        written = written.and_then(|()| {
            let walk = Walk::open(path)?;
            one(walk, plan, format.as_mut(), stopped, &mut exported)
        });
    }
    match written.and_then(|()| format.end()?.finish()) {
        Ok(bytes) => exported.bytes = bytes,
        Err(error) if is_reader_gone(&error) && plan.place.path.is_none() => {
            exported.reader_gone = true;
        }
        Err(error) => return Err(error),
    }
    Ok(exported)
}

fn format(plan: &Plan, output: Output) -> Result<Box<dyn Format>> {
    Ok(match plan.to {
        To::Jsonl => Box::new(jsonl::Jsonl::new(output, plan.captures.len() > 1)),
        To::Csv => Box::new(csv::Csv::new(output)?),
        #[cfg(feature = "parquet")]
        To::Parquet => Box::new(parquet::Parquet::new(output)?),
        #[cfg(not(feature = "parquet"))]
        To::Parquet => bail!(
            "this socklife was built without Parquet: build it with `cargo build --release` (the feature `parquet` \
             is on unless --no-default-features is given), or take --to csv, which has the same columns"
        ),
    })
}

fn one(
    mut walk: Walk,
    plan: &Plan,
    format: &mut dyn Format,
    stopped: &AtomicBool,
    exported: &mut Exported,
) -> Result<()> {
    let host = made_visible(&walk.header().host).chars().take(MAX_HOST).collect::<String>();
    format.begin(walk.header(), &host)?;
    let mut cgroups = Cgroups::told();
    let mut failed = None;
    let mut step = |step: Step<'_>| -> Result<()> {
        match step {
            Step::Event(event, change) => {
                let is_loss = matches!(event, Event::Lost(_));
                if is_loss || !plan.failures || change.failure().is_some() {
                    exported.events += u64::from(!is_loss);
                    let cgroup = event.cgroup().and_then(|id| cgroups.path(id));
                    format.event(event, change, cgroup)?;
                }
            }
            Step::Cgroups(paths) => {
                for told in paths.into_iter().filter(|told| told.path.len() <= MAX_PATH) {
                    let path = match made_visible(&told.path) {
                        Cow::Borrowed(_) => told.path,
                        Cow::Owned(path) => path,
                    };
                    cgroups.learn(told.id, path);
                }
            }
            Step::Damage(damage) => {
                exported.damaged += 1;
                format.gone(Gone { lost: damage.events, why: damage.why })?;
            }
            Step::Sample(_) | Step::Settings(_) => {}
        }
        Ok(())
    };
    loop {
        let more = walk.advance(|it| {
            if failed.is_none() {
                failed = step(it).err();
            }
        })?;
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if stopped.load(Relaxed) {
            bail!("interrupted: nothing was written");
        }
        if !more {
            break;
        }
    }
    let unread = Gone { lost: Some(walk.undecodable()), why: "records of no known kind" };
    let cut_off = Gone { lost: None, why: "the recording was cut off" };
    let ends = [(walk.undecodable() > 0, unread), (walk.end().is_none(), cut_off)];
    for (_, gone) in ends.into_iter().filter(|(is_so, _)| *is_so) {
        exported.damaged += 1;
        format.gone(gone)?;
    }
    exported.captures += 1;
    exported.lost = exported.lost.saturating_add(walk.table.lost());
    exported.missing = exported.missing.saturating_add(walk.missing());
    exported.missing = exported.missing.saturating_add(walk.undecodable());
    Ok(())
}

/// Whether writing failed as nobody reads any more: that is no error of ours.
fn is_reader_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What was exported, in words.
#[must_use]
pub fn summary(exported: &Exported, place: &Place) -> String {
    let mut said = format!("exported {} events", thousands(exported.events));
    if exported.captures > 1 {
        said += &format!(" of {} captures", thousands(exported.captures));
    }
    if let Some(path) = &place.path {
        said += &format!(" into {}", path.display());
    }
    if !exported.reader_gone {
        said += &format!(" ({})", size(exported.bytes));
    }
    said += &format!(", {} lost", thousands(exported.lost));
    if exported.damaged > 0 {
        said += &format!(
            "; {} damaged or cut off places, at least {} events missing there",
            thousands(exported.damaged),
            thousands(exported.missing)
        );
    }
    if exported.reader_gone {
        said += "; the reader stopped before the end";
    }
    said
}
