//! How the replay of a capture stands, what a key may ask of it, and times as people type them.

use std::sync::Arc;

use super::text::percent;
use crate::sink::clock::Clock;

/// A second, in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;

/// How fast time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed(usize);

/// Seconds of the capture in a second: a fraction.
const SPEEDS: [(&str, u32, u32); 11] = [
    ("1/4x", 1, 4),
    ("1/2x", 1, 2),
    ("1x", 1, 1),
    ("2x", 2, 1),
    ("4x", 4, 1),
    ("8x", 8, 1),
    ("16x", 16, 1),
    ("32x", 32, 1),
    ("64x", 64, 1),
    ("128x", 128, 1),
    ("256x", 256, 1),
];

impl Default for Speed {
    fn default() -> Self {
        Self(2)
    }
}

impl Speed {
    /// The next higher one.
    #[must_use]
    pub fn faster(self) -> Self {
        Self((self.0 + 1).min(SPEEDS.len()))
    }

    /// The next lower one.
    #[must_use]
    pub fn slower(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Its name: `4x`, `max`.
    #[must_use]
    pub fn name(self) -> &'static str {
        SPEEDS.get(self.0).map_or("max", |(name, ..)| name)
    }

    /// Nanoseconds of the capture that pass in `wall_ns`; `None`: as many as can be folded in.
    #[must_use]
    pub fn passed(self, wall_ns: u64) -> Option<u64> {
        let &(_, times, parts) = SPEEDS.get(self.0)?;
        Some(wall_ns.saturating_mul(times.into()) / u64::from(parts))
    }
}

/// What a key asks of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Time goes on.
    Play,
    /// Time stops.
    Pause,
    /// The next higher speed.
    Faster,
    /// The next lower one.
    Slower,
    /// Go to that time: nanoseconds since boot, as everywhere in here.
    To(u64),
    /// Go on until something fails, and stop there.
    NextFailure,
}

/// What a replay is on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeking {
    /// To where; `None`: to the next failure.
    pub to_ns: Option<u64>,
    /// How much of the way is done, percent; `None`: nobody knows.
    pub percent: Option<u8>,
}

/// How a replay stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Name of the host, inert.
    pub host: Arc<str>,
    /// Name of the file, inert.
    pub file: Arc<str>,
    /// What is wrong with the recording; `None`: nothing is known to be.
    pub flaw: Option<Arc<str>>,
    /// The moment that is shown.
    pub at_ns: u64,
    /// The first one.
    pub first_ns: u64,
    /// The last one; `None`: nobody knows.
    pub last_ns: Option<u64>,
    /// How fast it goes.
    pub speed: Speed,
    /// Time stands.
    pub paused: bool,
    /// All was shown.
    pub ended: bool,
    /// It is on its way to somewhere.
    pub seeking: Option<Seeking>,
}

impl Replay {
    /// How much of the capture is before a moment: `35 %`.
    pub(super) fn part(&self, at_ns: u64) -> Option<String> {
        let all = self.last_ns?.checked_sub(self.first_ns).filter(|&all| all > 0)?;
        let ratio = ratio(at_ns.saturating_sub(self.first_ns), all);
        Some(percent(if self.ended && at_ns >= self.at_ns { 1.0 } else { ratio.min(0.999) }))
    }

    /// The moment that a text names: `14:03:20`, `+90s`, `-30s`, `35%`. `now_ns`: the one that is shown.
    pub(super) fn find(&self, text: &str, now_ns: u64, clock: &Clock) -> Result<u64, String> {
        let text = text.trim();
        let unclear = || format!("{text:?} is no time: give 14:03:20, +90s, -30s or 35%");
        if let Some(number) = text.strip_suffix('%') {
            let part = number.trim().parse::<f64>().map_err(|_| unclear())?;
            let all = self.last_ns.ok_or("nobody knows how long this recording is")?;
            let all = all.saturating_sub(self.first_ns);
            if !(0.0..=100.0).contains(&part) {
                return Err("give 0% to 100%".to_owned());
            }
            return Ok(self.first_ns.saturating_add(scaled(all, part / 100.0)));
        }
        if let Some(rest) = text.strip_prefix(['+', '-']) {
            let rest = rest.trim();
            let digits = rest.trim_end_matches(|c: char| !c.is_ascii_digit());
            let unit_s = match &rest[digits.len()..] {
                "" | "s" => 1,
                "m" | "min" => 60,
                "h" => 3600,
                _ => return Err(unclear()),
            };
            let number = digits.parse::<u64>().map_err(|_| unclear())?;
            let by_ns = number.saturating_mul(unit_s * SECOND_NS);
            return Ok(if text.starts_with('+') {
                now_ns.saturating_add(by_ns)
            } else {
                now_ns.saturating_sub(by_ns).max(self.first_ns)
            });
        }
        let mut parts = text.split(':').map(|part| part.parse::<i8>().ok());
        let (hour, minute) = (parts.next().flatten(), parts.next().flatten());
        let second = parts.next().unwrap_or(Some(0));
        let (Some(hour), Some(minute), Some(second), None) = (hour, minute, second, parts.next())
        else {
            return Err(unclear());
        };
        let times = clock.at_time_of_day(now_ns, (hour, minute, second)).ok_or_else(unclear)?;
        // A recording begins and ends within a second.
        let last_ns = self.last_ns.unwrap_or(u64::MAX).saturating_add(SECOND_NS);
        let held = times.into_iter().filter(|at_ns| {
            (self.first_ns..=last_ns).contains(&at_ns.saturating_add(SECOND_NS - 1))
        });
        held.min_by_key(|at_ns| at_ns.abs_diff(now_ns)).ok_or_else(|| {
            let mut clock = clock.clone();
            let mut date = |at_ns| clock.day_and_time(at_ns);
            let last = self.last_ns.map_or_else(|| "its end".to_owned(), &mut date);
            format!("{text} is not in the recording: {} to {last}", date(self.first_ns))
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a percentage")]
pub(super) fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a part of a time, not negative"
)]
fn scaled(all: u64, part: f64) -> u64 {
    (all as f64 * part) as u64
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn times_as_people_type_them() {
        // Begun 2023-11-14 at 22:13:20, for four hours.
        let clock = Clock::new(1_700_000_000 * SECOND_NS, TimeZone::UTC);
        let at = |seconds: u64| seconds * SECOND_NS;
        let replay =
            Replay { first_ns: at(100), last_ns: Some(at(100 + 4 * 3600)), ..Replay::default() };
        let find = |text: &str| replay.find(text, at(1000), &clock);
        assert_eq!(find("35%"), Ok(at(100 + 5040)));
        assert_eq!(find(" +90s "), Ok(at(1090)));
        assert_eq!(find("+2m"), Ok(at(1120)));
        assert_eq!(find("-30"), Ok(at(970)));
        assert_eq!(find("-9h"), Ok(at(100)));
        assert_eq!(find("22:15:00"), Ok(at(100)));
        // The day after.
        assert_eq!(find("01:13:20"), Ok(at(3 * 3600)));
        assert_eq!(find("1:13"), Ok(at(3 * 3600 - 20)));
        let not_in = find("21:00:00").unwrap_err();
        assert_eq!(not_in, "21:00:00 is not in the recording: 11-14 22:15:00 to 11-15 02:15:00");
        for text in ["", "soon", "25:00:00", "1:2:3:4", "+", "+9 parsecs", "x%", "12", "é%", "+é"]
        {
            assert!(find(text).unwrap_err().contains("is no time"), "{text}");
        }
        assert!(find("101%").is_err() && find("NaN%").is_err());
        assert!(find("+99999999999999999999h").is_err());
        assert_eq!(find("+9999999999999999h"), Ok(u64::MAX));
    }

    #[test]
    fn speeds() {
        let mut speed = Speed::default();
        assert_eq!((speed.name(), speed.passed(1000)), ("1x", Some(1000)));
        assert_eq!(speed.slower().slower().slower().passed(1000), Some(250));
        for _ in 0..20 {
            speed = speed.faster();
        }
        assert_eq!((speed.name(), speed.passed(1000)), ("max", None));
        assert_eq!(speed.slower().passed(1000), Some(256_000));
    }
}
