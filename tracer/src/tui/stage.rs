//! A model on the terminal: what the loops of all views have in common. Nothing in here waits for one of them alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Signal, kill_current_process_group};
use tokio::{
    signal::unix::{Signal as Caught, SignalKind, signal},
    sync::mpsc,
    time::sleep_until,
};

use super::{
    job_control,
    keyboard::Keyboard,
    message::{Effect, Message},
    model::Model,
    record::{self, Tell},
    screen::Screen,
    update::update,
    view::view,
};
use crate::usage::{Usage, thread_time};

/// The shortest time between two frames.
pub const FRAME: Duration = Duration::from_millis(40);

/// How long the end waits for a file that is being written.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// The terminal, taken until this is dropped, and what is shown on it.
pub struct Stage {
    screen: Screen,
    keyboard: Keyboard,
    suspend: Caught,
    /// What is shown.
    pub model: Model,
    /// What it costs.
    pub usage: Usage,
    /// It is told here how the files ended that are written meanwhile,
    told: mpsc::UnboundedReceiver<String>,
    tell: Tell,
    /// and so many have not ended yet.
    writing: usize,
    /// Something is to be drawn.
    dirty: bool,
    drawn: Instant,
}

/// Something happened around the terminal.
#[derive(Debug)]
pub enum Heard {
    /// A key, or another size; `None`: the terminal is gone.
    Message(Option<Message>),
    /// The shell stops us.
    Suspended,
    /// A file has ended: how.
    Written(String),
    /// It is time to draw.
    Frame,
}

impl Stage {
    /// Takes the terminal and draws the first frame. `instead`: what prints the like where there is none.
    ///
    /// # Errors
    /// Standard output is no terminal, or no signals can be had.
    pub fn take(model: Model, instead: &str) -> Result<Self> {
        let suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))
            .context("can't listen for signals")?;
        let screen = Screen::take(instead)?;
        let (width, height) = screen.size()?;
        let (tell, told) = mpsc::unbounded_channel();
        let mut stage = Self {
            screen,
            keyboard: Keyboard::start()?,
            suspend,
            model,
            usage: Usage::default(),
            told,
            tell,
            writing: 0,
            dirty: true,
            drawn: Instant::now(),
        };
        update(&mut stage.model, Message::Resize(width, height));
        stage.draw()?;
        Ok(stage)
    }

    /// Waits for what happens next, for [`Self::answer`]. Safe to cancel.
    pub async fn heard(&mut self) -> Heard {
        tokio::select! {
            message = self.keyboard.next() => Heard::Message(message),
            _ = self.suspend.recv() => Heard::Suspended,
            Some(said) = self.told.recv() => Heard::Written(said),
            () = frame(self.dirty, self.drawn + FRAME) => Heard::Frame,
        }
    }

    /// Does what is to be done about it; gives what is left to do for who owns the loop.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn answer(&mut self, heard: Heard) -> Result<Option<Effect>> {
        match heard {
            Heard::Message(None) => return Ok(Some(Effect::Quit)),
            Heard::Message(Some(message)) => return Ok(self.tell(message)),
            Heard::Suspended => self.suspend()?,
            Heard::Written(said) => {
                self.writing = self.writing.saturating_sub(1);
                self.notice(said);
            }
            Heard::Frame => self.draw()?,
        }
        Ok(None)
    }

    /// Tells the model; gives what is left to do.
    pub fn tell(&mut self, message: Message) -> Option<Effect> {
        self.dirty = true;
        match update(&mut self.model, message)? {
            Effect::Suspend => self.ask_to_suspend(),
            Effect::WriteText { name, text } => match record::write(name, text, self.writes()) {
                Ok(()) => {}
                Err(error) => {
                    self.writing -= 1;
                    self.notice(format!("{error:#}"));
                }
            },
            effect => return Some(effect),
        }
        None
    }

    /// A line for the person who looks on.
    pub fn notice(&mut self, text: String) {
        self.tell(Message::Notice(text));
    }

    /// A file is being written, of which is told here how it ended: once.
    pub fn writes(&mut self) -> Tell {
        self.writing += 1;
        self.tell.clone()
    }

    /// What is shown has changed.
    pub fn changed(&mut self) {
        self.dirty = true;
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

    /// Gives the terminal back.
    pub fn leave(&mut self) {
        self.screen.leave();
    }

    /// Waits for files that are being written, for a while; gives what is worth a word then.
    pub async fn end(mut self) -> Vec<String> {
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

async fn frame(dirty: bool, due: Instant) {
    if dirty {
        sleep_until(due.into()).await;
    } else {
        std::future::pending::<()>().await;
    }
}
