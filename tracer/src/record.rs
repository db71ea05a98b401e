//! `socklife record`: the road into a file. `child`: the command that is recorded. `shown`: progress.

mod child;
mod shown;

use std::{
    ffi::OsString,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use tokio::process::Child;

pub use self::child::NotStarted;
use self::shown::Shown;
use crate::{
    capture::content::{End, Header},
    event::Event,
    existing::Lister,
    filter::Filter,
    human::thousands,
    intake::Intake,
    kernel::{
        loader::{Kernel, Options},
        ring::boot_time_ns,
    },
    live::recent::Recent,
    lookout::{Lookout, Pace},
    proxies::Given,
    recording::{
        Recorder,
        place::Place,
        scribe::{Keeping, Progress},
        trigger::{Trigger, Watch},
    },
    run::{Stop, ticker, until},
    sink::Totals,
    source::{Batch, Live},
    table::{Change, Selection, Table},
};

/// How often progress is shown, and what is due looked at.
const TICK: Duration = Duration::from_millis(500);

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which events.
    pub filter: Filter,
    /// How they are got.
    pub options: Options,
    /// Where proxies are read, other than where they say.
    pub given: Given,
    /// How long; `None`: until it is ended.
    pub duration: Option<Duration>,
    /// Where to.
    pub keeping: Keeping,
    /// What to wait for, and how long what comes after it is wanted.
    pub trigger: Option<(Trigger, Duration)>,
    /// What to run meanwhile; empty: nothing.
    pub command: Vec<OsString>,
}

/// What became of it.
#[derive(Debug)]
pub struct Recorded {
    /// The totals.
    pub table: Table,
    /// What goes with them.
    pub totals: Totals,
    /// What dates the events in the recording: nanoseconds between the Unix epoch and boot.
    pub epoch_ns: u64,
    /// Files begun, bytes and events in them.
    pub written: (u64, u64, u64),
    /// Lost between the kernel and the disk, besides what the table has.
    pub unwritten: u64,
    /// How the command ended, as a shell says it.
    pub exit: Option<u8>,
    /// What else is worth a word.
    pub notes: Vec<String>,
    /// The recording broke off.
    pub failed: Option<anyhow::Error>,
}

/// Records until the time is up, a signal comes, the command ends or the file is full.
///
/// # Errors
/// The file can't be made, the kernel side can't be attached, or the command can't be started.
pub async fn run(plan: &Plan, say: impl Fn(&str)) -> Result<Recorded> {
    plan.keeping.place.check()?;
    let stop = Stop::listen()?;
    let kernel = Kernel::attach(&plan.options, &plan.filter)?;
    for unseen in kernel.unseen() {
        let what = unseen.hooked.unseen();
        say(&format!("not seen on this kernel: {what} (`socklife features` says why)"));
    }
    let header = Header::now(&kernel);
    let epoch_ns = header.epoch_ns;
    let recorder = Recorder::start(plan.keeping.clone(), header)?;
    let lister = (!plan.filter.connects_only()).then(|| Lister::begin(plan.filter.which()));
    let mut intake = Intake::new(Live::new(kernel), Table::new(Selection::All), lister);
    intake.record(recorder);
    let recording = Recording {
        intake,
        epoch_ns,
        lookout: Lookout::start(plan.filter.clone(), plan.given.clone(), Pace::RECORDED)?,
        recent: Recent::default(),
        looked_ns: boot_time_ns(),
        watch: plan.trigger.map(|(trigger, _)| Watch::new(trigger)),
        after: plan.trigger.map_or(Duration::ZERO, |(_, after)| after),
        again: plan.keeping.place.files > 1,
        closing: None,
        done: false,
        started: Instant::now(),
        shown: Shown::new(plan.trigger.map(|(trigger, _)| trigger)),
    };
    let child = match child::start(&plan.command) {
        Ok(child) => child,
        Err(error) => {
            // Nobody wants an empty file.
            recording.abandon(&plan.keeping.place).await;
            return Err(error);
        }
    };
    say(&match (&plan.trigger, &child) {
        (Some((trigger, _)), _) => format!("watching for {trigger}; Ctrl-C ends"),
        (None, Some(_)) => "watching and recording while the command runs".to_owned(),
        (None, None) => "watching and recording; Ctrl-C ends".to_owned(),
    });
    recording.drive(plan, stop, child, &say).await
}

/// What the loop owns.
struct Recording {
    intake: Intake,
    epoch_ns: u64,
    lookout: Lookout,
    /// Failures of the last seconds, for what is found on the host.
    recent: Recent,
    looked_ns: u64,
    watch: Option<Watch>,
    after: Duration,
    /// After one trigger it waits for the next.
    again: bool,
    /// When what a trigger wanted ends.
    closing: Option<Instant>,
    done: bool,
    started: Instant,
    shown: Shown,
}

impl Recording {
    async fn drive(
        mut self,
        plan: &Plan,
        mut stop: Stop,
        mut child: Option<Child>,
        say: &impl Fn(&str),
    ) -> Result<Recorded> {
        let deadline = plan.duration.map(|duration| self.started + duration);
        let mut ticks = ticker(self.started, TICK);
        let mut exit = None;
        let mut asked = None;
        let why = loop {
            tokio::select! {
                signal = stop.asked() => {
                    asked = Some(signal);
                    break "it was ended by a signal";
                }
                () = until(deadline) => break "its time was up",
                () = until(self.closing) => self.close(),
                batch = self.intake.next() => self.take(batch?),
                found = self.lookout.found() => {
                    if let Some(watch) = &mut self.watch {
                        watch.looked(&found.listing);
                    }
                    if let Some(recorder) = self.intake.recorder() {
                        recorder.found(&found.listing, &found.sysctls);
                    }
                    self.fire();
                }
                ended = child::wait(&mut child) => {
                    exit = Some(child::code(ended?));
                    child = None;
                    break "the command had ended";
                }
                _ = ticks.tick() => self.tick(say),
            }
            if self.done {
                break "what the trigger wanted was written";
            }
            if self.intake.recorder().is_none_or(|recorder| recorder.is_over()) {
                break "it had its largest size";
            }
        };
        self.shown.clear();
        let mut recorded = self.end(why).await?;
        if let Some(mut child) = child {
            recorded.exit = Some(child::finish(&mut child, asked, stop).await?);
        } else {
            recorded.exit = exit;
        }
        Ok(recorded)
    }

    fn take(&mut self, batch: Batch) {
        let (recent, watch) = (&mut self.recent, &mut self.watch);
        self.intake.take(batch, |event, change| note(recent, watch, event, change));
        self.fire();
    }

    /// After the batch in which it fired: that one belongs to the window.
    fn fire(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        if watch.take().is_none() || self.closing.is_some() || self.done {
            return;
        }
        let trigger = watch.trigger().to_string();
        self.closing = Some(Instant::now() + self.after);
        if let Some(recorder) = self.intake.recorder() {
            recorder.fire(trigger);
        }
    }

    fn close(&mut self) {
        self.closing = None;
        self.done = !self.again;
        if !self.done
            && let Some(recorder) = self.intake.recorder()
        {
            let why = "what the trigger wanted was written".to_owned();
            recorder.close(End { at_ns: boot_time_ns(), why, ..End::default() });
        }
    }

    fn tick(&mut self, say: &impl Fn(&str)) {
        let now_ns = boot_time_ns();
        if !self.intake.is_waiting() {
            let (recent, looked_ns) = (&mut self.recent, &mut self.looked_ns);
            self.lookout.ask(false, || {
                #[expect(clippy::cast_precision_loss, reason = "a time")]
                let seconds =
                    now_ns.saturating_sub(std::mem::replace(looked_ns, now_ns)) as f64 / 1e9;
                recent.advance(now_ns, seconds);
                recent.tally()
            });
        }
        let lost = self.intake.table.lost();
        if let Some(recorder) = self.intake.recorder() {
            let said = recorder.progress().said();
            if !said.is_empty() {
                self.shown.clear();
            }
            for line in &said {
                say(line);
            }
            self.shown.show(recorder, lost, self.started.elapsed());
        }
    }

    async fn abandon(mut self, place: &Place) {
        if let Some(recorder) = self.intake.take_recorder() {
            // What is written now is removed at once.
            let _ = recorder.finish(End::default()).await;
            place.discard();
        }
    }

    async fn end(mut self, why: &str) -> Result<Recorded> {
        self.intake.stop().await?;
        while let Some(batch) = self.intake.rest()? {
            let (recent, watch) = (&mut self.recent, &mut self.watch);
            self.intake.take(batch, |event, change| note(recent, watch, event, change));
        }
        let (recent, watch) = (&mut self.recent, &mut self.watch);
        self.intake.release(|event, change| note(recent, watch, event, change));
        // What fired in the last moment is wanted, too.
        self.fire();
        let source = self.intake.source();
        let produced = source.produced()?;
        let totals = Totals {
            duration_s: self.started.elapsed().as_secs_f64(),
            produced,
            unseen: source.unseen(),
        };
        let recorder = self.intake.take_recorder().context("the recording is gone")?;
        let whole = self.watch.is_none() && !self.again;
        let end = End {
            at_ns: boot_time_ns(),
            why: why.to_owned(),
            produced: whole.then_some(produced),
            ..End::default()
        };
        let unwritten = recorder.lost().events();
        let progress = recorder.share();
        let failed = recorder.finish(end).await.err();
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Relaxed);
        let of = |progress: &Progress| {
            (read(&progress.files), read(&progress.bytes), read(&progress.events))
        };
        let written = of(&progress);
        let failed = failed.map(|error| match written.2 {
            0 => error,
            events => anyhow!("{error:#}; the {} events before it can be read", thousands(events)),
        });
        let table = self.intake.into_table();
        let epoch_ns = self.epoch_ns;
        Ok(Recorded {
            table,
            totals,
            epoch_ns,
            written,
            unwritten,
            exit: None,
            notes: progress.said(),
            failed,
        })
    }
}

fn note(recent: &mut Recent, watch: &mut Option<Watch>, event: &Event, change: &Change) {
    if let Some(failure) = change.failure() {
        recent.note(event, *failure);
        if let Some(watch) = watch {
            watch.failed(event, *failure);
        }
    }
}
