//! What came in to a live view, kept to be folded in again: fixtures of tests are captured on a real kernel.

use serde::{Deserialize, Serialize};

use super::{
    Live,
    listing::Listing,
    shot::{Ground, Shot},
};
use crate::{
    ceilings::{assess, history::History, thresholds::Thresholds},
    decode::{DecodeError, decode},
    event::{Event, Loss},
    kernel::survey::Survey,
    lookout::WINDOW,
    table::{Change, Selection, Table},
};

/// What came in.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Captured {
    /// Nanoseconds between the Unix epoch and boot.
    pub epoch_ns: u64,
    /// The network namespace of who captured it.
    pub own_netns: Option<u32>,
    /// In the order in which it came.
    pub steps: Vec<Step>,
}

/// Something came in.
#[derive(Debug, Serialize, Deserialize)]
pub enum Step {
    /// Records as the kernel wrote them.
    Records(Vec<u8>),
    /// Loss.
    Lost(Loss),
    /// The host was looked at.
    Survey(Box<Survey>),
    /// A moment was shown: nanoseconds since boot.
    Shot(u64),
}

/// What comes of it.
pub enum Outcome<'a> {
    /// An event, and what it changed.
    Event(&'a Event, &'a Change),
    /// A moment.
    Shot(Box<Shot>),
}

impl Captured {
    /// Folds all in again; `ground` is what each moment has of how things came to be known.
    ///
    /// # Errors
    /// A record makes no sense.
    pub fn replay(
        self,
        ground: &Ground,
        mut each: impl FnMut(Outcome<'_>),
    ) -> Result<(), DecodeError> {
        let mut live = Live::new(self.own_netns);
        let mut table = Table::new(Selection::All);
        let mut history = History::sliding(WINDOW);
        let thresholds = Thresholds::default();
        for step in self.steps {
            let mut apply = |mut event: Event| {
                let change = table.apply(&mut event);
                live.event(&event, &change);
                each(Outcome::Event(&event, &change));
            };
            match step {
                Step::Records(records) => {
                    for event in decode(&records.into()) {
                        apply(event?);
                    }
                }
                Step::Lost(loss) => apply(Event::Lost(loss)),
                Step::Survey(mut survey) => {
                    let (tally, seconds) = live.tally();
                    history.counted_lately(tally, seconds);
                    let findings = assess(&survey, &mut history);
                    live.listed(Listing::of(&mut survey, findings, &thresholds));
                }
                Step::Shot(at_ns) => {
                    each(Outcome::Shot(Box::new(live.shot(at_ns, ground.clone()))));
                }
            }
        }
        Ok(())
    }
}
