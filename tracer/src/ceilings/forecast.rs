//! When a ceiling is reached at the present trend: pure arithmetic, without clock or I/O.
//!
//! Usage that only samples tell is extrapolated from them. Entries in TIME-WAIT tell more: the age
//! of each says when it came and when it goes, so one snapshot holds all arrivals of the last minute.

mod trend;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::trend::{History, Trend};

/// Longest time that a forecast looks ahead, in seconds.
const HORIZON_S: f64 = 3600.0;
/// Cells of the history of entries, per `hold_s`.
const CELLS: usize = 4096;
/// Fewer entries than this tell no rate.
const FEW_ENTRIES: usize = 10;

/// A usage at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds, from any fixed point.
    pub at_s: f64,
    /// Usage at that time.
    pub used: u64,
}

/// When a ceiling is reached at the present trend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Seconds from the last sample, or from the snapshot, until the limit is reached, less the time that
    /// has [passed](Self::pass) since.
    pub seconds: f64,
    /// What it rests on, for people: "470/s over the last 8 s, growing 7 %/s".
    pub basis: String,
}

impl Forecast {
    /// Time has passed since the last sample, or the snapshot.
    pub fn pass(&mut self, time: Duration) {
        self.seconds = (self.seconds - time.as_secs_f64()).max(0.0);
    }
}

/// For usage that only samples tell: open files, queues, held connections, conntrack.
///
/// Ten samples or more tell growth from noise; two or three are taken for a constant rate. `None`:
/// no trend, it falls, or the limit is reached already or not within an hour.
#[must_use]
pub fn of_samples(samples: &[Sample], limit: u64) -> Option<Forecast> {
    let samples = in_order(samples);
    let used = samples.last()?.used;
    let trend = trend::of(&History::of_samples(&samples))?;
    if used >= limit {
        return None;
    }
    let seconds = time_to(&trend, as_float(limit - used))?;
    (seconds <= HORIZON_S).then(|| Forecast { seconds, basis: basis(&trend) })
}

/// For usage that includes entries which go by themselves after `hold_s` seconds: TIME-WAIT (60 s; 1 s
/// where `tcp_tw_reuse` gives a port back).
///
/// `ages_s`: age of each such entry now, in any order; those older than `hold_s` are ignored.
/// `others`: samples of the rest of the usage; a single one tells no trend. `None`: no trend, the
/// usage levels off below the limit, or the limit is reached already or not within an hour.
#[must_use]
pub fn of_entries(ages_s: &[f64], hold_s: f64, others: &[Sample], limit: u64) -> Option<Forecast> {
    let entries = Entries::new(ages_s, hold_s)?;
    let others = in_order(others);
    let base = others.last().map_or(0.0, |sample| as_float(sample.used));
    let others = trend::of(&History::of_samples(&others));
    let arriving = entries.trend();
    let limit = as_float(limit);
    let level = |seconds: f64| {
        let rest = base + others.as_ref().map_or(0.0, |trend| gained(trend, seconds));
        let came = arriving.as_ref().map_or(0.0, |trend| {
            gained(trend, seconds) - gained(trend, (seconds - hold_s).max(0.0))
        });
        rest.max(0.0) + entries.younger_than(hold_s - seconds) + came
    };
    let (mut before, mut level_before) = (0.0, level(0.0));
    if level_before >= limit || (arriving.is_none() && others.is_none()) {
        return None;
    }
    while before < HORIZON_S {
        let step =
            if before < hold_s { entries.cell_s } else { (before / 1000.0).max(hold_s / 64.0) };
        let after = before + step;
        let level_after = level(after);
        if level_after >= limit {
            let part = (limit - level_before) / (level_after - level_before);
            let seconds = (before + step * part.clamp(0.0, 1.0)).min(HORIZON_S);
            let matters = |trend: &&Trend| gained(trend, seconds).abs() > limit / 100.0;
            let entries = arriving.as_ref().map(basis);
            let others =
                others.as_ref().filter(matters).map(|trend| format!("others {}", basis(trend)));
            let parts: Vec<_> = entries.into_iter().chain(others).collect();
            let basis = parts.join("; ");
            return Some(Forecast { seconds, basis });
        }
        (before, level_before) = (after, level_after);
    }
    None
}

/// Entries made per second lately, told by their ages alone. `None`: too few to tell.
#[must_use]
pub fn entry_rate(ages_s: &[f64], hold_s: f64) -> Option<f64> {
    if ages_s.len() < FEW_ENTRIES {
        return None;
    }
    Entries::new(ages_s, hold_s)?.trend().map(|trend| trend.rate)
}

/// The samples that make sense, in order of time.
fn in_order(samples: &[Sample]) -> Vec<Sample> {
    let mut samples: Vec<_> = samples.iter().copied().filter(|s| s.at_s.is_finite()).collect();
    samples.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    samples.dedup_by(|later, earlier| {
        let same = later.at_s - earlier.at_s < 1e-6;
        if same {
            earlier.used = later.used;
        }
        same
    });
    samples
}

/// Entries by age, in cells of equal length.
struct Entries {
    cell_s: f64,
    /// How many are younger than the end of each cell; the first is 0.
    until: Vec<f64>,
    oldest_s: f64,
    count: usize,
}

impl Entries {
    fn new(ages_s: &[f64], hold_s: f64) -> Option<Self> {
        if !(0.01..=86_400.0).contains(&hold_s) || ages_s.is_empty() {
            return None;
        }
        let cell_s = hold_s / as_float(CELLS as u64);
        let mut until = vec![0.0; CELLS + 1];
        let (mut oldest_s, mut count) = (0.0_f64, 0);
        for &age_s in ages_s.iter().filter(|age_s| (0.0..=hold_s).contains(*age_s)) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number of a cell: it is not negative and at most CELLS"
            )]
            let cell = (age_s / cell_s) as usize;
            until[cell.min(CELLS - 1) + 1] += 1.0;
            oldest_s = oldest_s.max(age_s);
            count += 1;
        }
        let mut sum = 0.0;
        for count in &mut until {
            sum += *count;
            *count = sum;
        }
        Some(Self { cell_s, until, oldest_s, count })
    }

    fn trend(&self) -> Option<Trend> {
        if self.count < FEW_ENTRIES {
            return None;
        }
        // What was before the oldest is unknown: it may be where the load began, not a calm.
        let edges = self.until.iter().enumerate();
        let edges = edges.map(|(cell, &until)| (as_float(cell as u64) * self.cell_s, until));
        let last = edges.clone().find(|(age_s, _)| *age_s >= self.oldest_s)?.0;
        let edges = edges.take_while(|(age_s, _)| *age_s <= last);
        trend::of(&History::of_entries(edges, self.cell_s * as_float(CELLS as u64)))
    }

    fn younger_than(&self, age_s: f64) -> f64 {
        let place = (age_s / self.cell_s).clamp(0.0, as_float(CELLS as u64));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the cells"
        )]
        let cell = (place as usize).min(CELLS - 1);
        let part = place - as_float(cell as u64);
        self.until[cell] + part * (self.until[cell + 1] - self.until[cell])
    }
}

/// How much a trend adds in the next `seconds`.
fn gained(trend: &Trend, seconds: f64) -> f64 {
    if trend.growth == 0.0 {
        return trend.rate * seconds;
    }
    let growing = if trend.growth > 0.0 { seconds.min(trend.grows_s) } else { seconds };
    let factor = (trend.growth * growing).exp();
    trend.rate * ((factor - 1.0) / trend.growth + factor * (seconds - growing))
}

/// Seconds until a trend has added `wanted`, which is above 0.
fn time_to(trend: &Trend, wanted: f64) -> Option<f64> {
    if trend.rate <= 0.0 {
        return None;
    }
    if trend.growth == 0.0 {
        return Some(wanted / trend.rate);
    }
    let growing = trend.grows_s;
    if trend.growth > 0.0 && gained(trend, growing) < wanted {
        let rate = trend.rate * (trend.growth * growing).exp();
        return Some(growing + (wanted - gained(trend, growing)) / rate);
    }
    let seconds = (trend.growth * wanted / trend.rate).ln_1p() / trend.growth;
    seconds.is_finite().then_some(seconds)
}

fn basis(trend: &Trend) -> String {
    let number = |value: f64| {
        if value.abs() < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
    };
    let (rate, over) = (number(trend.rate), number(trend.over_s));
    let percent = (trend.growth.exp() - 1.0) * 100.0;
    match trend.growth {
        growth if growth > 0.0 => {
            format!("{rate}/s over the last {over} s, growing {} %/s", number(percent))
        }
        growth if growth < 0.0 => {
            format!("{rate}/s over the last {over} s, falling {} %/s", number(-percent))
        }
        _ => format!("{rate}/s over the last {over} s"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "usages and limits are far below 2^53")]
fn as_float(number: u64) -> f64 {
    number as f64
}
