//! What is wrong, without the rows of a moment: failures of the last seconds, held against what was last found on the
//! host. Part of the fold of events; [`super::Live`] has one, and a report one of its own.

use std::collections::HashMap;

use super::{
    incident::{self, Facts, Found},
    listing::Listing,
    recent::{Failing, Recent},
};
use crate::{
    event::{Event, Loss},
    failures::FailureKey,
    table::Change,
};

/// The fold.
#[derive(Debug, Default)]
pub struct Diagnosis {
    pub(super) recent: Recent,
    pub(super) listing: Listing,
    pub(super) listed: bool,
    pub(super) lost: Loss,
    pub(super) losing: bool,
    pub(super) failing: HashMap<FailureKey, Failing>,
    pub(super) own_netns: Option<u32>,
    lost_before: Loss,
    doubted: bool,
    last_ns: Option<u64>,
}

impl Diagnosis {
    /// Nothing yet. `own_netns`: the network namespace of who watches; others are named.
    #[must_use]
    pub fn new(own_netns: Option<u32>) -> Self {
        Self { own_netns, ..Self::default() }
    }

    /// Folds an event in. One that is neither a failure nor loss changes nothing.
    pub fn event(&mut self, event: &Event, change: &Change) {
        match change {
            Change::Lost(loss) => self.lost.add(loss),
            Change::Failure(failure) => self.recent.note(event, *failure),
            Change::None => {}
        }
    }

    /// Nobody knows what happened for a while: what is told of it may be too little.
    pub fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Takes what was found on the host.
    pub fn listed(&mut self, listing: Listing) {
        self.listing = listing;
        self.listed = true;
    }

    /// Goes on to the moment `at_ns` (nanoseconds since boot); gives the seconds since the last one, 0 at the first.
    pub fn advance(&mut self, at_ns: u64) -> f64 {
        let passed_ns = self.last_ns.map_or(0, |last_ns| at_ns.saturating_sub(last_ns));
        self.last_ns = Some(at_ns);
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        let seconds = passed_ns as f64 / 1e9;
        self.recent.advance(at_ns, seconds);
        self.failing = self.recent.failing();
        let losing = self.lost != std::mem::replace(&mut self.lost_before, self.lost);
        self.losing = losing | std::mem::take(&mut self.doubted);
        seconds
    }

    /// What is wrong at this moment, worst first, and how many more there are.
    #[must_use]
    pub fn incidents(&self) -> (Vec<Found>, u64) {
        incident::found(&Facts {
            failing: &self.failing,
            gauges: &self.listing.gauges,
            own_netns: self.own_netns,
            window_s: self.recent.seconds(),
            losing: self.losing || self.recent.unlisted() > 0,
        })
    }
}
