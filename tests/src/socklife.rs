//! The program under test, as its user runs it.

use std::{fs::File, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    process::{Finished, Process},
    socklife_binary, wait_for,
};

/// How socklife hooks state changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The best there is.
    Auto,
    /// The plain tracepoints.
    Tracepoint,
}

impl Rung {
    /// What goes behind the command's name.
    #[must_use]
    pub fn hooks(self) -> &'static str {
        match self {
            Self::Auto => "--hooks=auto",
            Self::Tracepoint => "--hooks=tracepoint",
        }
    }
}

/// How the line begins that socklife prints on standard error when its programs are attached.
pub const WATCHING: &str = "watching";

/// How the line begins that `socklife record` prints then.
const RECORDING: &str = "recording";

/// A running socklife whose programs are attached.
#[derive(Debug)]
pub struct Socklife {
    process: Process,
}

impl Socklife {
    /// Starts `socklife ARGUMENTS` and waits until it is attached.
    ///
    /// # Errors
    /// It ends instead.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::started(Command::new(socklife_binary()).args(arguments))
    }

    /// The same, on a rung.
    ///
    /// # Errors
    /// It ends instead.
    pub fn start_on(rung: Rung, arguments: &[&str]) -> Result<Self> {
        Self::started(Command::new(socklife_binary()).args(arguments).arg(rung.hooks()))
    }

    /// The same, printing into a file.
    ///
    /// # Errors
    /// It ends instead.
    pub fn start_into(file: &Path, arguments: &[&str]) -> Result<Self> {
        // The shell opens the file, as a user would have it.
        let mut command = Command::new("sh");
        File::create(file)?;
        command.args(["-c", "exec \"$0\" \"$@\" > \"$FILE\""]).env("FILE", file);
        Self::started(command.arg(socklife_binary()).args(arguments))
    }

    /// Starts `socklife ARGUMENTS` and doesn't wait.
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn(arguments: &[&str]) -> Result<Self> {
        let process = Process::start(Command::new(socklife_binary()).args(arguments))?;
        Ok(Self { process })
    }

    fn started(command: &mut Command) -> Result<Self> {
        let mut started = Self { process: Process::start(command)? };
        if let Some(end) = started.attach()? {
            bail!("socklife ended with {:?} instead of attaching: {}", end.code, end.stderr);
        }
        Ok(started)
    }

    /// Waits until it is attached; gives its end when it ends instead.
    ///
    /// # Errors
    /// Neither happens in time.
    pub fn attach(&mut self) -> Result<Option<Finished>> {
        let process = &mut self.process;
        let attached = wait_for("socklife to attach", || {
            let is_ready = |line: &str| line.starts_with(WATCHING) || line.starts_with(RECORDING);
            let watching = process.stderr_so_far().lines().any(is_ready);
            Ok(if watching { Some(true) } else { process.ended()?.then_some(false) })
        })?;
        if attached { Ok(None) } else { process.end().map(Some) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn ended(&mut self) -> Result<bool> {
        self.process.ended()
    }

    /// Sends a signal and goes on.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn interrupt(self) -> Result<Finished> {
        self.end(Signal::SIGINT)
    }

    /// Ends it with a signal.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn end(self, signal: Signal) -> Result<Finished> {
        self.process.signal(signal)?;
        self.process.finish()
    }

    /// Waits for its own end.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn finish(self) -> Result<Finished> {
        self.process.finish()
    }
}

/// `socklife ARGUMENTS` to its end.
///
/// # Errors
/// It can't be run or doesn't end.
pub fn socklife(arguments: &[&str]) -> Result<Finished> {
    Process::start(Command::new(socklife_binary()).args(arguments))?.finish()
}

/// NDJSON as values.
///
/// # Errors
/// A line is no JSON.
pub fn lines(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

/// The last line of NDJSON.
///
/// # Errors
/// There is none, or it is no JSON.
pub fn last_line(text: &str) -> Result<Value> {
    lines(text)?.pop().context("nothing was printed")
}

/// Sum of `lost` in the loss events of a trace.
#[must_use]
pub fn lost(events: &[Value]) -> u64 {
    events.iter().filter(|e| e["event"] == "lost").filter_map(|e| e["lost"].as_u64()).sum()
}
