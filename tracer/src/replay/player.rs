//! A capture folded in time with a clock of its own: no terminal, and no clock of the host.
//!
//! A moment is shown for each second of the capture, counted from its first event or sample, however fast it goes and
//! wherever it goes to: so the same moment looks the same each time. Going back is beginning anew, without showing
//! what is passed.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;

use super::{
    reel::{Item, LATEST_NS, Reel},
    tape::Tape,
};
use crate::{
    capture::content::Header,
    event::visible,
    kernel::ladder::Hooked,
    live::{
        Live,
        shot::{Ground, Recorded},
    },
    tui::{
        message::Message,
        model::Model,
        playback::{Order, Replay, SECOND_NS, Seeking, Speed},
        update::update,
    },
};

/// Seconds without anything that are shown; more of them are passed over.
const GAP_NS: u64 = 120 * SECOND_NS;
/// Later than anything.
const NEVER_NS: u64 = 1 << 63;
/// So many items are folded in before one asks whether there is time left.
const CHUNK: usize = 64;
/// Moments that are further before the end of the way are not kept.
const KEPT_NS: u64 = 700 * SECOND_NS;

/// Where it goes without regard to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    To(u64),
    Failure,
}

/// A capture on its way through the live view.
pub struct Player {
    reel: Reel,
    live: Live,
    ground: Ground,
    host: Arc<str>,
    first_ns: u64,
    last_ns: Option<u64>,
    /// The moment that is shown.
    shown_ns: u64,
    /// The next one.
    next_ns: u64,
    /// Time of the last item that was folded in.
    folded_ns: u64,
    /// Something has failed since the last moment.
    failed: bool,
    /// Up to here the clock went.
    clock_ns: u64,
    speed: Speed,
    playing: bool,
    goal: Option<(Goal, u64)>,
    ended: bool,
}

impl Player {
    /// Opens a capture.
    ///
    /// # Errors
    /// It can't be read, is no capture, or is nothing that one can go back in.
    pub fn open(path: &Path) -> Result<Self> {
        let mut reel = Reel::new(Tape::open(path)?)?;
        let first_ns = reel.begins()?;
        let last_ns = reel.tape().last_ns().map(|last_ns| last_ns.min(LATEST_NS));
        let header = reel.header();
        let mut player = Self {
            live: Live::new(header.own_netns),
            ground: ground(header),
            host: visible(header.host.as_bytes()).into(),
            reel,
            first_ns,
            last_ns: last_ns.filter(|&last_ns| last_ns > first_ns),
            shown_ns: 0,
            next_ns: 0,
            folded_ns: 0,
            failed: false,
            clock_ns: 0,
            speed: Speed::default(),
            playing: true,
            goal: None,
            ended: false,
        };
        player.begin();
        Ok(player)
    }

    /// Where, when and how it was recorded.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.reel.header()
    }

    fn begin(&mut self) {
        (self.shown_ns, self.next_ns, self.clock_ns) =
            (self.first_ns, self.first_ns, self.first_ns);
        (self.folded_ns, self.failed, self.ended) = (0, false, false);
    }

    /// Whether the clock goes.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.playing && self.goal.is_none()
    }

    /// Whether something is to be folded in.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.ended && (self.goal.is_some() || self.clock_ns >= self.next_ns)
    }

    /// So much time has passed for who looks on. Where folding does not keep up, the clock waits for it.
    pub fn advance(&mut self, wall: Duration) {
        if !self.is_playing() || self.has_work() {
            return;
        }
        // Where nothing was recorded for long, there is nothing to wait for.
        if self.next_ns - self.shown_ns > SECOND_NS {
            self.clock_ns = self.next_ns;
            return;
        }
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let passed = self.speed.passed(wall_ns).unwrap_or(NEVER_NS);
        self.clock_ns = self.clock_ns.saturating_add(passed).min(NEVER_NS);
    }

    /// Does what a key asks for.
    ///
    /// # Errors
    /// The file can't be read any more.
    pub fn order(&mut self, order: Order, model: &mut Model) -> Result<()> {
        match order {
            Order::Play if self.ended => {
                notice(model, "end of the capture; 0 goes to its beginning");
            }
            Order::Play => self.playing = true,
            Order::Pause => {
                self.playing = false;
                self.stay();
            }
            Order::Faster => self.speed = self.speed.faster(),
            Order::Slower => {
                self.speed = self.speed.slower();
                // At full speed it was ahead of what is shown.
                self.stay();
            }
            Order::NextFailure if self.ended => notice(model, "end of the capture"),
            Order::NextFailure => {
                self.playing = false;
                self.goal = Some((Goal::Failure, self.shown_ns));
            }
            Order::To(at_ns) if self.ended && self.second(at_ns) >= self.shown_ns => {
                notice(model, "end of the capture");
            }
            Order::To(at_ns) => {
                let to_ns = self.second(at_ns);
                if to_ns < self.shown_ns {
                    self.rewind(model)?;
                }
                self.goal = Some((Goal::To(to_ns), self.shown_ns));
            }
        }
        self.tell(model);
        Ok(())
    }

    /// The clock shows what the screen does.
    fn stay(&mut self) {
        self.goal = None;
        self.clock_ns = self.clock_ns.min(self.next_ns.saturating_sub(1));
    }

    /// The moment that is shown of a time: the first one that has all until then.
    fn second(&self, at_ns: u64) -> u64 {
        if self.last_ns.is_some_and(|last_ns| at_ns >= last_ns) {
            return NEVER_NS;
        }
        let passed = at_ns.saturating_sub(self.first_ns);
        let seconds = passed.div_ceil(SECOND_NS);
        self.first_ns.saturating_add(seconds.saturating_mul(SECOND_NS)).min(NEVER_NS)
    }

    fn rewind(&mut self, model: &mut Model) -> Result<()> {
        self.reel.rewind()?;
        self.live = Live::new(self.header().own_netns);
        if let Some(recorded) = &mut self.ground.recorded {
            recorded.damaged = false;
        }
        self.begin();
        update(model, Message::Rewound);
        Ok(())
    }

    /// Folds in what is due, while there is time for `more`, and tells the model.
    ///
    /// # Errors
    /// The file can't be read any more.
    pub fn work(&mut self, model: &mut Model, mut more: impl FnMut() -> bool) -> Result<()> {
        while self.fold(model)? && more() {}
        self.tell(model);
        Ok(())
    }

    /// Folds some of it in; whether there is more.
    fn fold(&mut self, model: &mut Model) -> Result<bool> {
        let until_ns = match self.goal {
            Some((Goal::To(at_ns), _)) => at_ns,
            Some((Goal::Failure, _)) => NEVER_NS,
            None => self.clock_ns,
        };
        for _ in 0..CHUNK {
            let due_ns = self.reel.next_ns()?;
            if due_ns.is_some_and(|at_ns| at_ns <= self.next_ns.min(until_ns)) {
                self.take(model);
            } else if self.ended || self.next_ns > until_ns {
                self.arrive(until_ns);
                return Ok(false);
            } else {
                self.shot(model, until_ns);
                let failed = std::mem::take(&mut self.failed);
                let over = due_ns.is_none();
                if over {
                    self.end(model);
                }
                if over || failed && matches!(self.goal, Some((Goal::Failure, _))) {
                    self.arrive(self.shown_ns);
                    return Ok(false);
                }
                self.pass_over(due_ns);
            }
        }
        Ok(true)
    }

    /// The way is done.
    fn arrive(&mut self, at_ns: u64) {
        if self.goal.take().is_some() {
            self.clock_ns = at_ns.min(self.next_ns.saturating_sub(1)).max(self.shown_ns);
        }
    }

    fn take(&mut self, model: &mut Model) {
        let Some((at_ns, item)) = self.reel.take() else { return };
        self.folded_ns = self.folded_ns.max(at_ns);
        match item {
            Item::Event(event, change) => {
                self.live.event(&event, &change);
                model.tail.push(&event, change.failure().copied());
                self.failed |= change.failure().is_some();
            }
            Item::Sample(listing) => self.live.listed(*listing),
            Item::Hole => {
                if let Some(recorded) = &mut self.ground.recorded {
                    recorded.damaged = true;
                }
            }
        }
    }

    fn shot(&mut self, model: &mut Model, until_ns: u64) {
        let shot = self.live.shot(self.next_ns, self.ground.clone());
        self.shown_ns = self.next_ns;
        self.next_ns = self.next_ns.saturating_add(SECOND_NS);
        let far = matches!(self.goal, Some((Goal::To(_), _)))
            && self.shown_ns.saturating_add(KEPT_NS) < until_ns.min(self.last_ns.unwrap_or(0));
        if !far {
            update(model, Message::Shot(Box::new(shot)));
        }
    }

    /// Where nothing was recorded for long, its end comes next.
    fn pass_over(&mut self, due_ns: Option<u64>) {
        let Some(at_ns) = due_ns else { return };
        let idle = self.shown_ns.saturating_sub(self.folded_ns.max(self.first_ns)) >= GAP_NS;
        let ahead = at_ns.saturating_sub(self.next_ns);
        if idle && ahead >= SECOND_NS {
            self.next_ns += ahead - ahead % SECOND_NS;
            if self.goal.is_none() {
                self.clock_ns = self.clock_ns.max(self.next_ns);
            }
        }
    }

    fn end(&mut self, model: &mut Model) {
        (self.ended, self.playing) = (true, false);
        self.last_ns.get_or_insert(self.shown_ns);
        notice(
            model,
            match self.goal {
                Some((Goal::Failure, _)) => "no further failure: end of the capture",
                _ => "end of the capture",
            },
        );
    }

    /// Tells the model how it stands.
    pub fn tell(&self, model: &mut Model) {
        let seeking = self.goal.map(|(goal, from_ns)| {
            let to_ns = match goal {
                Goal::To(to_ns) => Some(to_ns.min(self.last_ns.unwrap_or(to_ns))),
                Goal::Failure => None,
            };
            let way_ns = to_ns.or(self.last_ns).and_then(|to_ns| to_ns.checked_sub(from_ns));
            let done_ns = self.shown_ns.saturating_sub(from_ns);
            let percent = way_ns.filter(|&way_ns| way_ns > 0).map(|way_ns| {
                let percent = u128::from(done_ns) * 100 / u128::from(way_ns);
                u8::try_from(percent.min(99)).unwrap_or(99)
            });
            Seeking { to_ns, percent }
        });
        let replay = Replay {
            host: Arc::clone(&self.host),
            file: Arc::clone(self.reel.tape().name()),
            flaw: self.reel.flaw(),
            at_ns: self.shown_ns,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            speed: self.speed,
            paused: !self.playing,
            ended: self.ended,
            seeking,
        };
        update(model, Message::Replay(replay));
    }
}

fn notice(model: &mut Model, text: &str) {
    update(model, Message::Notice(text.to_owned()));
}

/// What all moments have of how they came to be known.
fn ground(header: &Header) -> Ground {
    let trigger = header.trigger.as_ref().map(|trigger| format!(", written for {trigger}"));
    let part = (header.part > 1).then(|| format!(", file {} of the recording", header.part));
    let about = format!(
        "on {}, kernel {} ({}, {} processors), {}, by socklife {}{}{}: {}",
        header.host,
        header.kernel,
        header.machine,
        header.cpus,
        header.started,
        header.socklife,
        trigger.unwrap_or_default(),
        part.unwrap_or_default(),
        header.arguments.join(" "),
    );
    let known = |text: &String| {
        let hooked = Hooked::ALL.iter().map(|hooked| hooked.unseen());
        hooked.into_iter().find(|it| it == text).map_or_else(|| text.clone().into(), Into::into)
    };
    let unhooked = header.unseen.iter().map(|text| (known(text), String::new()));
    Ground {
        hooks: Arc::new(header.hooks.clone()),
        unhooked: Arc::new(unhooked.collect()),
        recorded: Some(Recorded { about: visible(about.as_bytes()).into(), damaged: false }),
        ..Ground::default()
    }
}
