//! `socklife replay`: the live view over a capture.
//!
//! [`player`]: the fold and its clock. `tape`: the file. `reel`: what was read of it and waits for its time.

pub mod player;
mod reel;
mod tape;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::tz::TimeZone;
use tokio::time::Interval;

use self::player::Player;
use crate::{
    run::{Stop, runtime, ticker},
    sink::clock::Clock,
    tui::{
        message::Effect,
        model::Model,
        stage::{FRAME, Stage},
        theme::Look,
    },
    usage::keep_little_memory,
};

/// What prints the like where there is no terminal.
const INSTEAD: &str = "`socklife report` prints what a capture tells";
/// Most time that is spent folding before keys are heard and frames drawn.
const SLICE: Duration = Duration::from_millis(20);
/// Who was stopped for longer has not looked on.
const LONGEST: Duration = Duration::from_millis(500);

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The capture.
    pub file: PathBuf,
    /// What the terminal can show.
    pub look: Look,
}

/// Runs the view until a key or a signal ends it. Gives what is worth a word afterwards.
///
/// # Errors
/// The capture can't be read, standard output is no terminal, or the terminal goes.
pub fn run(plan: &Plan) -> Result<Vec<String>> {
    keep_little_memory();
    let player = Player::open(&plan.file)?;
    runtime()?.block_on(async {
        let stop = Stop::listen()?;
        let clock = Clock::new(player.header().epoch_ns, TimeZone::system());
        let mut model = Model::new(plan.look, clock);
        player.tell(&mut model);
        let mut stage = Stage::take(model, INSTEAD)?;
        let outcome = drive(player, &mut stage, stop).await;
        stage.leave();
        let said = stage.end().await;
        outcome.map(|()| said)
    })
}

async fn drive(mut player: Player, stage: &mut Stage, mut stop: Stop) -> Result<()> {
    let mut ticks = ticker(Instant::now(), FRAME);
    let mut before = Instant::now();
    loop {
        // Keys first: there may always be something to fold in.
        tokio::select! {
            biased;
            _ = stop.asked() => return Ok(()),
            heard = stage.heard() => match stage.answer(heard)? {
                Some(Effect::Quit) => return Ok(()),
                Some(Effect::Replay(order)) => {
                    if !player.is_playing() {
                        before = Instant::now();
                    }
                    player.order(order, &mut stage.model)?;
                }
                _ => {}
            },
            () = tick(&mut ticks, player.is_playing()) => {
                player.advance(before.elapsed().min(LONGEST));
                before = Instant::now();
            }
            () = ready(player.has_work()) => {
                let begun = Instant::now();
                player.work(&mut stage.model, || begun.elapsed() < SLICE)?;
                stage.changed();
                // Signals and keys come in meanwhile.
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn tick(ticks: &mut Interval, playing: bool) {
    if playing {
        ticks.tick().await;
    } else {
        std::future::pending::<()>().await;
    }
}

async fn ready(ready: bool) {
    if !ready {
        std::future::pending::<()>().await;
    }
}
