//! The command that is recorded: started, waited for, told of signals.

use std::{ffi::OsString, io::IsTerminal, os::unix::process::ExitStatusExt, process::ExitStatus};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::{
    event::visible,
    run::{Asked, Stop},
};

/// Starts it; `None`: there is none.
pub(super) fn start(command: &[OsString]) -> Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    match Command::new(program).args(arguments).spawn() {
        Ok(child) => Ok(Some(child)),
        Err(source) => {
            let command = visible(program.as_encoded_bytes());
            Err(NotStarted { command, source }.into())
        }
    }
}

/// The command can't be started.
#[derive(Debug, thiserror::Error)]
#[error("can't start {command}, so nothing is recorded")]
pub struct NotStarted {
    command: String,
    source: std::io::Error,
}

impl NotStarted {
    /// As env(1) has it: 127 for a command that isn't there, 126 for others.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.source.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// Waits until it ends. Safe to cancel.
pub(super) async fn wait(child: &mut Option<Child>) -> Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await.context("can't wait for the command"),
        None => std::future::pending().await,
    }
}

/// The recording has ended, and the command has not: it is told of signals, and waited for.
pub(super) async fn finish(child: &mut Child, asked: Option<Asked>, mut stop: Stop) -> Result<u8> {
    let mut signal = asked;
    loop {
        // A terminal sends Ctrl-C to both of us.
        let pass_on = match signal.take() {
            Some(Asked::Terminate) => Some(Signal::TERM),
            Some(Asked::HangUp) => Some(Signal::HUP),
            Some(Asked::Interrupt) if !std::io::stdin().is_terminal() => Some(Signal::INT),
            _ => None,
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let (Some(signal), Some(pid)) = (pass_on, pid) {
            // It may have ended just now.
            let _ = kill_process(pid, signal);
        }
        tokio::select! {
            ended = child.wait() => return Ok(code(ended.context("can't wait for the command")?)),
            asked = stop.asked() => signal = Some(asked),
        }
    }
}

/// As a shell has it: of a signal, 128 and its number.
pub(super) fn code(ended: ExitStatus) -> u8 {
    let code = ended.code().or(ended.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
