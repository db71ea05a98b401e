//! Looks at the host again and again, on a thread of its own, and says what it found.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::mpsc as inbox;

use crate::{
    capture::content::Sysctls,
    ceilings::{assess, history::History, tally::Tally, thresholds::Thresholds},
    filter::Filter,
    kernel::{
        owners::Owners,
        survey::{Scope, Surveyor},
    },
    live::listing::Listing,
    proxies::Given,
    usage::give_memory_back,
};

/// How often it looks, when that costs little.
const EVERY: Duration = Duration::from_secs(1);
/// To find out who has which socket open costs the most: it may take this part.
const OWNERS_SHARE: f64 = 0.04;
/// But it is not older than this.
const OWNERS_SELDOM: Duration = Duration::from_secs(30);
/// Failures that the kernel counts are those of this time before a look.
pub const WINDOW: Duration = Duration::from_secs(5);

/// A look that would be due within this time is due.
const SLACK: Duration = Duration::from_millis(100);

/// What failed lately, and the seconds that it is of.
type Lately = (Tally, f64);

/// How much of a core looking may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// This part of the time,
    pub share: f64,
    /// and while something fails for a ceiling this one;
    pub urgent_share: f64,
    /// but what is older than this helps nobody, whatever it costs.
    pub seldom: Duration,
}

impl Pace {
    /// For somebody who looks on.
    pub const WATCHED: Self =
        Self { share: 0.05, urgent_share: 0.2, seldom: Duration::from_secs(5) };
    /// For somebody who looks later.
    pub const RECORDED: Self =
        Self { share: 0.02, urgent_share: 0.05, seldom: Duration::from_secs(10) };
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Ceilings, upstreams and processes.
    pub listing: Listing,
    /// The settings that decide them.
    pub sysctls: Sysctls,
}

/// The thread, as seen from the loop.
pub struct Lookout {
    asks: mpsc::Sender<Lately>,
    answers: inbox::Receiver<Found>,
    pace: Pace,
    under_way: bool,
    begun: Option<Instant>,
    /// The first look is still to come.
    first: bool,
    cost: Duration,
}

/// Who has which socket open.
struct Known {
    owners: Owners,
    found: Instant,
    cost: Duration,
}

impl Known {
    /// To find them anew takes no more than a part of the time.
    fn is_fresh(&self) -> bool {
        let enough = self.cost.div_f64(OWNERS_SHARE).clamp(EVERY, OWNERS_SELDOM);
        self.found.elapsed() + SLACK < enough.max(2 * self.cost)
    }
}

impl Lookout {
    /// Starts the thread; it looks when it is asked to, at what these filters want. `given`: where proxies are read.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(filter: Filter, given: Given, pace: Pace) -> Result<Self> {
        let (asks, asked) = mpsc::channel::<Lately>();
        let (answer, answers) = inbox::channel(1);
        let look = move || {
            let namespaces = filter.which();
            let surveyor = Surveyor::new(Scope { namespaces, pids: Vec::new(), given });
            let mut history = History::sliding(WINDOW);
            let thresholds = Thresholds::default();
            let mut owners: Option<Known> = None;
            while let Ok((tally, seconds)) = asked.recv() {
                let begun = Instant::now();
                history.counted_lately(tally, seconds);
                let known = owners.take().filter(Known::is_fresh);
                let found = known.as_ref().map(|known| (known.found, known.cost));
                let mut survey = match known {
                    Some(known) => surveyor.take_again(known.owners),
                    None => surveyor.take(),
                };
                let findings = assess(&survey, &mut history);
                let sysctls = Sysctls::of(&survey);
                let mut listing = Listing::of(&mut survey, findings, &thresholds);
                let (found, cost) = found.unwrap_or_else(|| (begun, begun.elapsed()));
                owners = Some(Known { owners: survey.owners, found, cost });
                listing.more_upstreams += history.left_out as u64;
                listing.upstreams.retain(|key, _| filter.wants_upstream(key.dst, key.dport));
                listing.cost_s = begun.elapsed().as_secs_f64();
                give_memory_back();
                if answer.blocking_send(Found { listing, sysctls }).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lookout".to_owned()).spawn(look);
        thread.context("can't start a thread to look at the host")?;
        Ok(Self {
            asks,
            answers,
            pace,
            under_way: false,
            begun: None,
            first: true,
            cost: Duration::ZERO,
        })
    }

    /// Asks for a look, if it is time for one. `urgent`: something fails for a ceiling.
    pub fn ask(&mut self, urgent: bool, lately: impl FnOnce() -> Lately) {
        let due = self.begun.is_none_or(|begun| begun.elapsed() + SLACK >= self.every(urgent));
        if due && !self.under_way {
            // Where the thread has ended, nothing is found any more.
            self.under_way = self.asks.send(lately()).is_ok();
            self.begun = Some(Instant::now());
        }
    }

    /// Whether it was ever asked to look.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What it found. Safe to cancel.
    pub async fn found(&mut self) -> Found {
        let Some(found) = self.answers.recv().await else {
            // The thread is gone.
            return std::future::pending().await;
        };
        self.under_way = false;
        // The first one has waited until programs were loaded.
        if !std::mem::take(&mut self.first) {
            self.cost = Duration::from_secs_f64(found.listing.cost_s);
        }
        found
    }

    /// From one look to the next.
    #[must_use]
    pub fn every(&self, urgent: bool) -> Duration {
        let share = if urgent { self.pace.urgent_share } else { self.pace.share };
        self.cost.div_f64(share).clamp(EVERY, self.pace.seldom).max(2 * self.cost)
    }
}
