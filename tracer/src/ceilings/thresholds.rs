//! From which usage on a ceiling is a warning, and from which on it is critical.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Ceiling, Kind};

/// How bad it is: monitoring plugins' four words, and their exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Nothing to do. Exit code 0.
    Ok,
    /// Nobody knows. Exit code 3.
    Unknown,
    /// Above the first threshold. Exit code 1.
    Warning,
    /// Above the second one, or failing now. Exit code 2.
    Critical,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// One value of `--warn` or `--fail`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// For this kind; `None`: for all.
    pub kind: Option<Kind>,
    /// Percent of the limit, 0 to 100.
    pub percent: f64,
}

impl FromStr for Threshold {
    type Err = String;

    /// `80`, `80%`, `time-wait=90`
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, percent) = match text.split_once('=') {
            None => (None, text),
            Some((name, percent)) => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                let known = || format!("no ceiling {name:?}; there are {}", names.join(", "));
                (Some(kind.ok_or_else(known)?), percent)
            }
        };
        let number = percent.strip_suffix('%').unwrap_or(percent).parse::<f64>();
        match number {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self { kind, percent }),
            _ => {
                Err("give percent of the limit, from 0 to 100, such as 80 or time-wait=90"
                    .to_owned())
            }
        }
    }
}

/// What was asked for, over the defaults.
#[derive(Clone, Debug, Default)]
pub struct Thresholds {
    warn: Vec<Threshold>,
    fail: Vec<Threshold>,
}

/// Percent from which on it is a warning.
pub const WARN: f64 = 80.0;
/// Percent from which on it is critical.
pub const FAIL: f64 = 95.0;

impl Thresholds {
    /// Takes the values of `--warn` and `--fail`; one for a kind goes before one for all, and a later one
    /// before an earlier one.
    ///
    /// # Errors
    /// A warning would come after it is critical.
    pub fn new(warn: Vec<Threshold>, fail: Vec<Threshold>) -> Result<Self, String> {
        let thresholds = Self { warn, fail };
        for kind in Kind::ALL {
            let (warn, fail) = thresholds.of(kind);
            if warn > fail {
                return Err(format!(
                    "{}: --warn {warn} is above --fail {fail}; a warning must come first",
                    kind.name()
                ));
            }
        }
        Ok(thresholds)
    }

    /// Percent from which on a kind is a warning, and from which on it is critical.
    #[must_use]
    pub fn of(&self, kind: Kind) -> (f64, f64) {
        let pick = |given: &[Threshold], default| {
            let latest = |wanted| given.iter().rev().find(|threshold| threshold.kind == wanted);
            latest(Some(kind)).or_else(|| latest(None)).map_or(default, |found| found.percent)
        };
        (pick(&self.warn, WARN), pick(&self.fail, FAIL))
    }

    /// How bad a finding is.
    #[must_use]
    pub fn judge(&self, ceiling: &Ceiling) -> Status {
        if ceiling.fails_now() {
            return Status::Critical;
        }
        if ceiling.idle {
            return Status::Ok;
        }
        let (warn, fail) = self.of(ceiling.subject.kind());
        let percent = ceiling.ratio() * 100.0;
        if percent >= fail {
            Status::Critical
        } else if percent >= warn {
            Status::Warning
        } else {
            Status::Ok
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceilings::Subject;

    #[test]
    fn values() {
        let parse = |text: &str| text.parse::<Threshold>();
        assert_eq!(parse("80"), Ok(Threshold { kind: None, percent: 80.0 }));
        let kind = Some(Kind::TimeWait);
        assert_eq!(parse("time-wait=90%"), Ok(Threshold { kind, percent: 90.0 }));
        assert!(parse("120").unwrap_err().contains("0 to 100"));
        assert!(parse("NaN").is_err());
        assert!(parse("ports=90").unwrap_err().contains("ephemeral-ports"));
    }

    #[test]
    fn the_nearest_value_counts() {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let thresholds =
            Thresholds::new(list(&["70", "time-wait=50"]), list(&["time-wait=60"])).unwrap();
        assert_eq!(thresholds.of(Kind::TimeWait), (50.0, 60.0));
        assert_eq!(thresholds.of(Kind::Conntrack), (70.0, 95.0));
        let wrong = Thresholds::new(list(&["96"]), Vec::new()).unwrap_err();
        assert!(wrong.contains("--warn 96 is above --fail 95"), "{wrong}");
    }

    #[test]
    fn thresholds_are_met_when_reached() {
        let thresholds = Thresholds::default();
        let status = |used| thresholds.judge(&Ceiling::new(Subject::Host, used, 100));
        assert_eq!(
            [79, 80, 94, 95, 101].map(status),
            [Status::Ok, Status::Warning, Status::Warning, Status::Critical, Status::Critical]
        );
    }
}
