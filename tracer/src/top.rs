//! `socklife top`: the loop of the live view. It owns the fold, the model and the terminal; nothing in it waits
//! for one of them alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use rustix::process::{Signal, kill_current_process_group};
use tokio::{
    signal::unix::{Signal as Caught, SignalKind, signal},
    sync::mpsc,
    time::sleep_until,
};

use crate::{
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
    lookout::{Lookout, Pace},
    run::{Stop, ticker, until},
    sink::clock::Clock,
    source::{self, Batch},
    table::{Selection, Table},
    tui::{
        job_control,
        keyboard::Keyboard,
        message::{Effect, Message},
        model::Model,
        record::{self, Recorder},
        screen::Screen,
        theme::Look,
        update::update,
        view::view,
    },
    usage::{Usage, give_memory_back, keep_little_memory, thread_time},
};

/// The shortest time between two frames.
const FRAME: Duration = Duration::from_millis(40);

/// How long the end waits for a file that is being written.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which events.
    pub filter: Filter,
    /// How they are got.
    pub options: Options,
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(async {
        let stop = Stop::listen()?;
        let suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))
            .context("can't listen for signals")?;
        let mut top = Top::begin(plan)?;
        let outcome = top.drive(plan, stop, suspend).await;
        // The terminal first: to detach the hooks takes a moment.
        top.screen.leave();
        let said = top.end().await;
        outcome.map(|()| said)
    })
}

/// What the loop owns.
struct Top {
    screen: Screen,
    keyboard: Keyboard,
    model: Model,
    live: Live,
    lookout: Lookout,
    /// `None`: there are no events.
    intake: Option<Intake>,
    /// What of the ground stays as it is.
    ground: Ground,
    recorder: Option<Recorder>,
    /// Threads tell here how the files ended that they write,
    told: mpsc::UnboundedReceiver<String>,
    tell: record::Tell,
    /// and so many have not done so yet.
    writing: usize,
    usage: Usage,
    /// Something is to be drawn.
    dirty: bool,
    drawn: Instant,
}

impl Top {
    fn begin(plan: &Plan) -> Result<Self> {
        let clock = Clock::new(boot_epoch_ns(), TimeZone::system());
        let screen = Screen::take()?;
        let mut model = Model::new(plan.look, clock);
        let (width, height) = screen.size()?;
        update(&mut model, Message::Resize(width, height));
        let keyboard = Keyboard::start()?;
        let (tell, told) = mpsc::unbounded_channel();
        let mut top = Self {
            screen,
            keyboard,
            model,
            live: Live::new(netns::own()),
            lookout: Lookout::start(plan.filter.clone(), Pace::WATCHED)?,
            intake: None,
            ground: Ground::default(),
            recorder: None,
            told,
            tell,
            writing: 0,
            usage: Usage::default(),
            dirty: true,
            drawn: Instant::now(),
        };
        top.draw()?;
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
                    (unseen.hooked.unseen(), why.join("; "))
                });
                self.ground.unhooked = Arc::new(unhooked.collect());
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

    async fn drive(&mut self, plan: &Plan, mut stop: Stop, mut suspend: Caught) -> Result<()> {
        let started = Instant::now();
        let deadline = plan.duration.map(|duration| started + duration);
        let mut shots = ticker(started, plan.interval);
        let mut listed = false;
        loop {
            tokio::select! {
                _ = stop.asked() => return Ok(()),
                () = until(deadline) => return Ok(()),
                _ = suspend.recv() => self.suspend()?,
                message = self.keyboard.next() => {
                    let Some(message) = message else { return Ok(()) };
                    if self.tell(message) {
                        return Ok(());
                    }
                }
                found = self.lookout.found() => {
                    self.live.listed(found.listing);
                    // Nobody shall wait for the first second.
                    if !std::mem::replace(&mut listed, true) {
                        give_memory_back();
                        shots.reset();
                        self.shot();
                    }
                }
                batch = next(&mut self.intake) => self.take(batch?),
                Some(said) = self.told.recv() => self.written(said),
                _ = shots.tick() => self.shot(),
                () = frame(self.dirty, self.drawn + FRAME) => self.draw()?,
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        let Some(intake) = &mut self.intake else { return };
        let (live, tail, recorder) = (&mut self.live, &mut self.model.tail, &mut self.recorder);
        intake.take(batch, |event, change| {
            live.event(event, change);
            tail.push(event, change.failure().copied());
            if let Some(recorder) = recorder {
                recorder.event(event, change);
            }
        });
        if !self.lookout.has_begun() {
            self.look();
        }
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = recorder.hand_over()
        {
            self.notice(format!("{error:#}"));
            self.stop_recording();
        }
    }

    /// Tells the model; whether it wants to end.
    fn tell(&mut self, message: Message) -> bool {
        self.dirty = true;
        match update(&mut self.model, message) {
            None => {}
            Some(Effect::Quit) => return true,
            Some(Effect::Suspend) => self.ask_to_suspend(),
            Some(Effect::StartRecording) => self.start_recording(),
            Some(Effect::StopRecording) => self.stop_recording(),
            Some(Effect::WriteText { name, text }) => self.write(name, text),
        }
        false
    }

    fn notice(&mut self, text: String) {
        self.dirty = true;
        update(&mut self.model, Message::Notice(text));
    }

    fn shot(&mut self) {
        let recording = self.recorder.as_ref().map(Recorder::state);
        if recording.is_some() {
            update(&mut self.model, Message::Recording(recording));
        }
        let failing = self.live.is_failing();
        let (cpu_percent, resident) = self.usage.since_last();
        let ground = Ground {
            cpu_percent,
            resident,
            listing_every_s: self.lookout.every(failing).as_secs_f64(),
            frame_us: self.usage.frames(),
            ..self.ground.clone()
        };
        let shot = self.live.shot(boot_time_ns(), ground);
        self.tell(Message::Shot(Box::new(shot)));
        self.look();
    }

    /// Looks at the host, when it is time. Not while existing sockets are listed for their events: both take
    /// memory.
    fn look(&mut self) {
        if !self.intake.as_ref().is_some_and(Intake::is_waiting) {
            self.lookout.ask(self.live.is_failing(), || self.live.tally());
        }
    }

    /// Draws, unless the terminal has not taken the last frame yet.
    fn draw(&mut self) -> Result<()> {
        self.drawn = Instant::now();
        let before = thread_time();
        if self.screen.send()? {
            let model = &self.model;
            // What it did not take yet is sent with the next frame.
            self.dirty = !self.screen.draw(|frame| view(model, frame))?;
            self.usage.frame(thread_time().saturating_sub(before));
        }
        Ok(())
    }

    /// Gives the terminal back and stops, until somebody continues us.
    fn suspend(&mut self) -> Result<()> {
        if !job_control::has_shell() {
            self.notice("there is no shell to come back from: not suspended".to_owned());
            return Ok(());
        }
        self.screen.leave();
        job_control::stop();
        self.screen.enter()?;
        let (width, height) = self.screen.size()?;
        self.tell(Message::Resize(width, height));
        Ok(())
    }

    /// All that the shell started with us stops together; we hear of it by the signal.
    fn ask_to_suspend(&mut self) {
        if let Err(error) = kill_current_process_group(Signal::TSTP) {
            self.notice(format!("can't suspend: {error}"));
        }
    }

    fn start_recording(&mut self) {
        if self.intake.is_none() {
            return self.notice("there are no events to record".to_owned());
        }
        match Recorder::start(Clock::new(boot_epoch_ns(), TimeZone::UTC), self.tell.clone()) {
            Ok(recorder) => {
                self.writing += 1;
                self.notice(format!("recording events into {}", recorder.path().display()));
                self.tell(Message::Recording(Some(recorder.state())));
                self.recorder = Some(recorder);
            }
            Err(error) => self.notice(format!("can't record: {error:#}")),
        }
    }

    /// Its thread tells when all is written.
    fn stop_recording(&mut self) {
        self.recorder = None;
        self.tell(Message::Recording(None));
    }

    fn write(&mut self, name: &'static str, text: String) {
        match record::write(name, text, self.tell.clone()) {
            Ok(()) => self.writing += 1,
            Err(error) => self.notice(format!("{error:#}")),
        }
    }

    /// A file has ended.
    fn written(&mut self, said: String) {
        self.writing = self.writing.saturating_sub(1);
        self.notice(said);
    }

    /// Waits for files that are being written, for a while; gives what is worth a word then.
    async fn end(mut self) -> Vec<String> {
        self.recorder = None;
        let mut said = Vec::new();
        while self.writing > 0 {
            let line = tokio::time::timeout(LAST_WRITES, self.told.recv()).await;
            said.push(line.ok().flatten().unwrap_or_else(|| {
                "a file is not written to its end: the disk takes nothing".to_owned()
            }));
            self.writing -= 1;
        }
        said
    }
}

async fn next(intake: &mut Option<Intake>) -> Result<Batch> {
    match intake {
        Some(intake) => intake.next().await,
        None => std::future::pending().await,
    }
}

async fn frame(dirty: bool, due: Instant) {
    if dirty {
        sleep_until(due.into()).await;
    } else {
        std::future::pending::<()>().await;
    }
}
