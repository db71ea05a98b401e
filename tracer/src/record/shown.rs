//! Progress, for who looks on.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use crate::{
    human::{size, thousands},
    recording::{Recorder, trigger::Trigger},
};

/// One line on a terminal, shown again and again.
pub(super) struct Shown {
    on: bool,
    trigger: Option<Trigger>,
    before: (Duration, u64),
}

impl Shown {
    pub(super) fn new(trigger: Option<Trigger>) -> Self {
        Self { on: stderr().is_terminal(), trigger, before: (Duration::ZERO, 0) }
    }

    pub(super) fn show(&mut self, recorder: &Recorder, lost: u64, passed: Duration) {
        if !self.on {
            return;
        }
        let progress = recorder.progress();
        let (events, bytes) = (progress.events.load(Relaxed), progress.bytes.load(Relaxed));
        let (then, had) = std::mem::replace(&mut self.before, (passed, events));
        let seconds = passed.saturating_sub(then).as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate"
        )]
        let rate = (events.saturating_sub(had) as f64 / seconds) as u64;
        let lost = lost + recorder.lost().events();
        let mut line = format!(
            "{:.0} s  {} events  {}/s  {}  {} lost",
            passed.as_secs_f64(),
            thousands(events),
            thousands(rate),
            size(bytes),
            thousands(lost)
        );
        if let Some(trigger) = self.trigger {
            let window = progress.window.load(Relaxed);
            line = match window {
                0 => format!("{trigger}: {line}"),
                window => {
                    format!(
                        "waiting for {trigger}  {} in memory  {} lost",
                        size(window as u64),
                        thousands(lost)
                    )
                }
            };
        }
        // Nobody may read it.
        let _ = write!(stderr(), "\r\x1b[K{line}");
    }

    pub(super) fn clear(&self) {
        if self.on {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
