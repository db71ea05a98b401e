//! What a flight recorder waits for: `EADDRNOTAVAIL>100/s`, `port-range-exhausted>0/s`, `failures>50/s`,
//! `ephemeral-ports>90%`.

use std::{collections::VecDeque, fmt, str::FromStr};

use crate::{
    ceilings::Kind,
    event::{Errno, Event},
    live::listing::Listing,
    reason::{Failure, Reason},
};

/// Failures are counted by this much time.
const STEP_NS: u64 = 100_000_000;
/// And so many of these are a second.
const STEPS: u64 = 10;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    /// More failures within a second.
    Failures {
        /// Which.
        which: Which,
        /// More than so many.
        above: u64,
    },
    /// A ceiling is fuller.
    Ceiling {
        /// Which.
        kind: Kind,
        /// Than this part of its limit, percent.
        above: f64,
    },
}

/// Which failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// With this errno.
    Error(Errno),
    /// For this reason.
    Reason(Reason),
}

impl Which {
    fn is(self, failure: Failure) -> bool {
        match self {
            Self::All => true,
            Self::Error(error) => failure.error == Some(error),
            Self::Reason(reason) => failure.reason == Some(reason),
        }
    }
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "give a trigger such as 'EADDRNOTAVAIL>100/s', 'failures>50/s' or 'ephemeral-ports>90%'";
        let (what, much) = text.split_once('>').ok_or(example)?;
        let (what, much) = (what.trim(), much.trim());
        if let Some(percent) = much.strip_suffix('%') {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == what);
            let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            let known = || format!("no ceiling {what:?}; there are {}", names.join(", "));
            let above = percent.trim().parse::<f64>().ok();
            let above = above.filter(|it| (0.0..=1000.0).contains(it)).ok_or(example)?;
            return Ok(Self::Ceiling { kind: kind.ok_or_else(known)?, above });
        }
        let above = much.strip_suffix("/s").ok_or(example)?.trim().parse().map_err(|_| example)?;
        let reason = || Reason::ALL.into_iter().find(|reason| reason.name() == what);
        let which = if what == "failures" {
            Which::All
        } else if let Some(reason) = reason() {
            Which::Reason(reason)
        } else {
            let known = |error| {
                format!("{error}; reasons are as in docs/events.md, such as port-range-exhausted")
            };
            Which::Error(what.parse().map_err(known)?)
        };
        Ok(Self::Failures { which, above })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { which: Which::All, above } => write!(f, "failures>{above}/s"),
            Self::Failures { which: Which::Error(error), above } => write!(f, "{error}>{above}/s"),
            Self::Failures { which: Which::Reason(reason), above } => {
                write!(f, "{reason}>{above}/s")
            }
            Self::Ceiling { kind, above } => write!(f, "{}>{above}%", kind.name()),
        }
    }
}

/// A trigger, and what it has seen.
#[derive(Clone, Debug)]
pub struct Watch {
    trigger: Trigger,
    /// Failures by tenth of a second, of the last second.
    lately: VecDeque<(u64, u64)>,
    sum: u64,
    fired: Option<u64>,
}

impl Watch {
    /// Nothing yet.
    #[must_use]
    pub fn new(trigger: Trigger) -> Self {
        Self { trigger, lately: VecDeque::new(), sum: 0, fired: None }
    }

    /// What it waits for.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// A failure happened.
    pub fn failed(&mut self, event: &Event, failure: Failure) {
        let Trigger::Failures { which, above } = self.trigger else { return };
        if !which.is(failure) {
            return;
        }
        let step = event.ts_ns() / STEP_NS;
        while let Some(&(old, count)) = self.lately.front()
            && old + STEPS <= step
        {
            self.sum -= count;
            self.lately.pop_front();
        }
        match self.lately.back_mut() {
            Some((last, count)) if *last >= step => *count += 1,
            _ => self.lately.push_back((step, 1)),
        }
        self.sum += 1;
        if self.sum > above {
            self.fired.get_or_insert(event.ts_ns());
        }
    }

    /// The host was looked at.
    pub fn looked(&mut self, listing: &Listing) {
        let Trigger::Ceiling { kind, above } = self.trigger else { return };
        let over = listing.gauges.iter().any(|it| {
            let ceiling = &it.ceiling;
            ceiling.subject.kind() == kind && !ceiling.idle && ceiling.ratio() * 100.0 > above
        });
        if over {
            self.fired.get_or_insert(listing.at_ns);
        }
    }

    /// When it fired, once: nanoseconds since boot. What it has seen is forgotten.
    pub fn take(&mut self) -> Option<u64> {
        let fired = self.fired.take()?;
        self.lately.clear();
        self.sum = 0;
        Some(fired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Loss;

    #[test]
    fn triggers_are_read_as_they_are_shown() {
        for text in
            ["EADDRNOTAVAIL>100/s", "port-range-exhausted>0/s", "failures>50/s", "time-wait>90%"]
        {
            assert_eq!(text.parse::<Trigger>().unwrap().to_string(), text);
        }
        assert!("EWHAT>1/s".parse::<Trigger>().unwrap_err().contains("EADDRNOTAVAIL"));
        assert!("fuel>90%".parse::<Trigger>().unwrap_err().contains("time-wait"));
        for text in ["", "failures", "failures>", "failures>x/s", "failures>1", "time-wait>-1%"] {
            assert!(text.parse::<Trigger>().unwrap_err().contains("give a trigger"), "{text}");
        }
    }

    #[test]
    fn fires_when_more_fail_within_a_second() {
        let mut watch = Watch::new("failures>3/s".parse().unwrap());
        let failure = Failure { reason: None, error: None };
        let mut fail = |at_ms: u64| {
            let at = Loss { ts_ns: at_ms * 1_000_000, ..Loss::default() };
            watch.failed(&Event::Lost(at), failure);
            watch.take()
        };
        for at_ms in [0, 400, 800, 1200, 1600, 2000] {
            assert_eq!(fail(at_ms), None);
        }
        assert_eq!(fail(2100), Some(2_100_000_000));
        assert_eq!(fail(2100), None, "it begins anew");
    }
}
