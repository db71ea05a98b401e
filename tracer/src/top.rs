//! `socklife top`: the loop of the live view. It owns the fold; [`Stage`] has the model and the terminal.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::tz::TimeZone;

use crate::{
    capture::content::Header,
    existing::Lister,
    filter::Filter,
    intake::Intake,
    kernel::{
        features::{self, Feature},
        loader::{Kernel, Options},
        netns,
        ring::{boot_epoch_ns, boot_time_ns},
    },
    live::{Live, shot::Ground},
    lookout::{Found, Lookout, Pace},
    proxies::Given,
    run::{Stop, runtime, ticker, until},
    sink::clock::Clock,
    source::{self, Batch},
    table::{Selection, Table},
    tui::{
        message::{Effect, Message},
        model::Model,
        record,
        stage::Stage,
        theme::Look,
        update::update,
    },
    usage::{give_memory_back, keep_little_memory},
};

/// What prints the like where there is no terminal.
const INSTEAD: &str = "`socklife check` prints all ceilings once, `socklife count` and `socklife trace` print \
                       what happens";

/// What to show, and how.
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
    /// From one shot to the next.
    pub interval: Duration,
    /// What the terminal can show.
    pub look: Look,
}

/// Runs the view until a key, a signal or the time ends it. Gives what is worth a word afterwards.
///
/// # Errors
/// Standard output is no terminal, the terminal goes, or a filter can't be applied in the kernel.
pub fn run(plan: &Plan) -> Result<Vec<String>> {
    keep_little_memory();
    runtime()?.block_on(async {
        let stop = Stop::listen()?;
        let mut top = Top::begin(plan)?;
        let outcome = top.drive(plan, stop).await;
        // The terminal first: to detach the hooks takes a moment.
        top.stage.leave();
        top.stop_recording("the live view was ended");
        let said = top.stage.end().await;
        outcome.map(|()| said)
    })
}

/// What the loop owns.
struct Top {
    stage: Stage,
    live: Live,
    lookout: Lookout,
    /// `None`: there are no events.
    intake: Option<Intake>,
    /// What a recording begins with, and where the one under way goes.
    header: Header,
    recording: PathBuf,
    /// What of the ground stays as it is.
    ground: Ground,
}

impl Top {
    fn begin(plan: &Plan) -> Result<Self> {
        let clock = Clock::new(boot_epoch_ns(), TimeZone::system());
        let mut top = Self {
            stage: Stage::take(Model::new(plan.look, clock), INSTEAD)?,
            live: Live::new(netns::own()),
            lookout: Lookout::start(plan.filter.clone(), plan.given.clone(), Pace::WATCHED)?,
            intake: None,
            header: Header::default(),
            recording: PathBuf::new(),
            ground: Ground::default(),
        };
        top.attach(plan)?;
        top.look();
        Ok(top)
    }

    /// Attaches the hooks; where that can't be done, the view shows what can be had without.
    fn attach(&mut self, plan: &Plan) -> Result<()> {
        match Kernel::attach(&plan.options, &plan.filter) {
            Ok(kernel) => {
                let of_events = features::in_use(&kernel).into_iter().filter_map(Feature::hook);
                self.ground.hooks = Arc::new(of_events.collect());
                let unhooked = kernel.unseen().iter().map(|unseen| {
                    let refused = unseen.refused.iter();
                    let why: Vec<_> = refused
                        .map(|refusal| format!("{}: {}", refusal.rung, refusal.why))
                        .collect();
                    (unseen.hooked.unseen().into(), why.join("; "))
                });
                self.ground.unhooked = Arc::new(unhooked.collect());
                self.header = Header::now(&kernel);
                let lister = Lister::begin(plan.filter.which());
                let table = Table::new(Selection::All);
                self.intake = Some(Intake::new(source::Live::new(kernel), table, Some(lister)));
            }
            // Without events a filter on them would be ignored.
            Err(error) if plan.filter.is_of_events() => return Err(error),
            Err(error) => self.ground.blind = Some(format!("{error:#}").into()),
        }
        Ok(())
    }

    async fn drive(&mut self, plan: &Plan, mut stop: Stop) -> Result<()> {
        let started = Instant::now();
        let deadline = plan.duration.map(|duration| started + duration);
        let mut shots = ticker(started, plan.interval);
        let mut listed = false;
        loop {
            tokio::select! {
                _ = stop.asked() => return Ok(()),
                () = until(deadline) => return Ok(()),
                heard = self.stage.heard() => match self.stage.answer(heard)? {
                    Some(Effect::Quit) => return Ok(()),
                    Some(Effect::StartRecording) => self.start_recording(),
                    Some(Effect::StopRecording) => self.stop_recording("it was ended by a key"),
                    _ => {}
                },
                found = self.lookout.found() => {
                    self.found(found);
                    // Nobody shall wait for the first second.
                    if !std::mem::replace(&mut listed, true) {
                        give_memory_back();
                        shots.reset();
                        self.shot();
                    }
                }
                batch = next(&mut self.intake) => self.take(batch?),
                _ = shots.tick() => self.shot(),
            }
        }
    }

    fn found(&mut self, found: Found) {
        if let Some(recorder) = self.intake.as_mut().and_then(Intake::recorder) {
            recorder.found(&found.listing, &found.sysctls);
        }
        self.live.listed(found.listing);
    }

    fn take(&mut self, batch: Batch) {
        let Some(intake) = &mut self.intake else { return };
        let (live, tail) = (&mut self.live, &mut self.stage.model.tail);
        intake.take(batch, |event, change| {
            live.event(event, change);
            tail.push(event, change.failure().copied());
        });
        if !self.lookout.has_begun() {
            self.look();
        }
    }

    fn shot(&mut self) {
        self.show_recording();
        let failing = self.live.is_failing();
        let (cpu_percent, resident) = self.stage.usage.since_last();
        let ground = Ground {
            cpu_percent,
            resident,
            listing_every_s: self.lookout.every(failing).as_secs_f64(),
            frame_us: self.stage.usage.frames(),
            ..self.ground.clone()
        };
        let shot = self.live.shot(boot_time_ns(), ground);
        self.stage.tell(Message::Shot(Box::new(shot)));
        self.look();
    }

    /// Looks at the host, when it is time. Not while existing sockets are listed for their events: both take
    /// memory.
    fn look(&mut self) {
        if !self.intake.as_ref().is_some_and(Intake::is_waiting) {
            self.lookout.ask(self.live.is_failing(), || self.live.tally());
        }
    }

    fn start_recording(&mut self) {
        let Some(intake) = &mut self.intake else {
            return self.stage.notice("there are no events to record".to_owned());
        };
        match record::begin(std::path::Path::new(""), self.header.again()) {
            Ok((recorder, path)) => {
                intake.record(recorder);
                self.stage.notice(format!("recording into {}", path.display()));
                self.recording = path;
                self.show_recording();
            }
            Err(error) => self.stage.notice(format!("can't record: {error:#}")),
        }
    }

    /// Says how the recording stands; one that has ended by itself is closed.
    fn show_recording(&mut self) {
        let Some(recorder) = self.intake.as_mut().and_then(Intake::recorder) else { return };
        let (over, state) = (recorder.is_over(), record::state(recorder, &self.recording));
        update(&mut self.stage.model, Message::Recording(Some(state)));
        if over {
            self.stop_recording("it had its largest size");
        }
    }

    /// What is on its way to the disk is written meanwhile; then it is told how that ended.
    fn stop_recording(&mut self, why: &'static str) {
        let Some(recorder) = self.intake.as_mut().and_then(Intake::take_recorder) else { return };
        let (path, tell) = (std::mem::take(&mut self.recording), self.stage.writes());
        tokio::spawn(async move {
            let said = record::finish(recorder, &path, why).await;
            // Nobody may be there any more.
            let _ = tell.send(said);
        });
        self.stage.tell(Message::Recording(None));
    }
}

async fn next(intake: &mut Option<Intake>) -> Result<Batch> {
    match intake {
        Some(intake) => intake.next().await,
        None => std::future::pending().await,
    }
}
