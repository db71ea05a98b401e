//! The present trend of a history: the largest recent window in which a rate that is constant or
//! grows exponentially agrees with what was counted.
//!
//! Noise is judged by the counts themselves: neighbours that differ more than random arrivals would
//! are bursts, and widen what counts as agreement. So a minute of batches is a constant rate, while
//! an incident that began five seconds ago is told from the calm before it.

use super::{Sample, as_float};

/// Bins in which a window is compared with a model.
const MOST_BINS: u32 = 32;
/// Each window is this much of the one before.
const SHRINK: f64 = 0.85;
/// How far the sums may be off, as a part of all that came, before it counts,
const TOLERATED: f64 = 0.04;
/// and in the newest part, as a part of that.
const TOLERATED_AT_END: f64 = 0.15;
/// A stall of so many seconds is no disagreement.
const STALL_S: f64 = 0.3;
/// Standard deviations that the sums of random arrivals stay within (the Kolmogorov distribution at 1 %).
const KOLMOGOROV: f64 = 1.63;
/// What is always unsure of a growth over a window, by stalls and jitter.
const JITTER: f64 = 0.035;
/// Differences count from this many standard deviations on.
const SIGNIFICANT: f64 = 3.0;
/// A window has at least as many intervals between samples.
const LEAST_INTERVALS: usize = 4;
/// A step is seen when it is likelier by this logarithm,
const CLEARLY: f64 = 8.0;
/// and changes the rate by this part of the higher one.
const STEP: f64 = 0.25;
/// Random arrivals are taken for as likely as this many pairs of bins that show them.
const PRIOR: f64 = 1.0;
/// Squared standard deviations that a growth loses for being unsure,
const RISE_UNSURE: f64 = 2.0;
/// and a fall, which would mean that the limit is never reached.
const FALL_UNSURE: f64 = 9.0;
/// A trend is taken to grow on for at most this many times the time that it was seen,
const GROWS_FOR: f64 = 4.0;
/// and below that for this many seconds, however unsure it is.
const SOON_S: f64 = 15.0;
/// Fewer arrivals than this are no window of their own.
const FEW: f64 = 20.0;

/// A rate, and how it changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    /// Per second, now. Below 0: the usage falls.
    pub(super) rate: f64,
    /// Relative change of the rate per second: it is `rate · e^(growth · t)` at time t. 0: constant.
    pub(super) growth: f64,
    /// Seconds that it was seen for.
    pub(super) over_s: f64,
    /// Seconds that it may be taken to grow on for: the surer, the longer. The rate is constant then.
    pub(super) grows_s: f64,
}

/// What came, by age.
pub(super) struct History {
    /// Ages at which the count is known, in seconds, upward from 0.
    ages: Vec<f64>,
    /// What came since each age.
    since: Vec<f64>,
    /// Sum of the ages of what came since.
    moment: Vec<f64>,
    kind: Kind,
}

/// What a history is made of.
#[derive(Clone, Copy)]
enum Kind {
    /// Arrivals of entries, each known. No window is shorter than this, in seconds.
    Entries { least_s: f64 },
    /// A usage that goes up and down. Where only two or three samples speak, a change must exceed this.
    Samples { doubt: f64 },
}

impl History {
    /// `edges`: ages upward from 0, each with the number of entries that are younger.
    pub(super) fn of_entries(edges: impl Iterator<Item = (f64, f64)>, hold_s: f64) -> Self {
        Self::new(edges, Kind::Entries { least_s: hold_s / 30.0 })
    }

    /// `samples`: in order of time.
    pub(super) fn of_samples(samples: &[Sample]) -> Self {
        let (now_s, used) = samples.last().map_or((0.0, 0), |last| (last.at_s, last.used));
        let edges = samples
            .iter()
            .rev()
            .map(|sample| (now_s - sample.at_s, as_float(used) - as_float(sample.used)));
        Self::new(edges, Kind::Samples { doubt: SIGNIFICANT * as_float(used).sqrt() })
    }

    fn new(edges: impl Iterator<Item = (f64, f64)>, kind: Kind) -> Self {
        let (ages, since): (Vec<f64>, Vec<f64>) = edges.unzip();
        let mut moment = vec![0.0; ages.len()];
        for index in 1..ages.len() {
            let middle = f64::midpoint(ages[index], ages[index - 1]);
            moment[index] = moment[index - 1] + middle * (since[index] - since[index - 1]);
        }
        Self { ages, since, moment, kind }
    }

    fn is_of_entries(&self) -> bool {
        matches!(self.kind, Kind::Entries { .. })
    }

    /// The edge nearest to an age.
    fn edge(&self, age_s: f64) -> usize {
        let above = self.ages.partition_point(|&age| age < age_s).min(self.ages.len() - 1);
        let nearer_below = above > 0 && age_s - self.ages[above - 1] < self.ages[above] - age_s;
        if nearer_below { above - 1 } else { above }
    }
}

/// The present trend, where there is one.
pub(super) fn of(history: &History) -> Option<Trend> {
    let all = history.ages.len().checked_sub(1).filter(|&intervals| intervals > 0)?;
    let mut end = all;
    loop {
        let window = Window::new(history, end);
        match history.kind {
            Kind::Samples { doubt } if all < LEAST_INTERVALS => return window.of_few(doubt),
            // The calm after a burst, or few entries in all.
            Kind::Entries { .. } if window.count < FEW => {
                return Some(window.constant()).filter(|trend| trend.rate > 0.0);
            }
            _ => {}
        }
        if let Some(step) = window.step() {
            end = step;
            continue;
        }
        let fit = window.fit();
        if fit.agrees {
            // It may still have a little of what was before the present trend.
            let inner = history.edge(history.ages[end] * f64::midpoint(1.0, SHRINK));
            return if end < all && inner >= 2 * LEAST_INTERVALS {
                Window::new(history, inner).fit().trend
            } else {
                fit.trend
            };
        }
        let next = history.edge(history.ages[end] * SHRINK).min(end - 1);
        match history.kind {
            // Entries did come, however unevenly. Samples that agree with nothing tell nothing.
            Kind::Entries { least_s } if history.ages[next] < least_s => {
                return Some(window.constant());
            }
            Kind::Samples { .. } if next < LEAST_INTERVALS => return None,
            _ => end = next,
        }
    }
}

/// The last part of a history.
struct Window<'a> {
    history: &'a History,
    /// Its oldest edge.
    end: usize,
    length_s: f64,
    count: f64,
    /// Mean age of what came, as a part of the length.
    mean_age: f64,
    bins: usize,
}

/// A model against a window.
struct Fit {
    agrees: bool,
    /// `None`: what came is no more than chance.
    trend: Option<Trend>,
}

/// How bins differ from a model.
struct Residuals {
    /// Variance, in units of the variance of random arrivals, as differences of neighbours tell it.
    dispersion: f64,
    /// Variance of all arrivals together if they are random.
    variance: f64,
    bins: f64,
    /// No more than chance.
    agrees: bool,
}

impl<'a> Window<'a> {
    fn new(history: &'a History, end: usize) -> Self {
        let (length_s, count) = (history.ages[end], history.since[end]);
        let mean_age = history.moment[end] / count / length_s;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a few"
        )]
        let for_count = (count.abs() / 8.0).clamp(4.0, f64::from(MOST_BINS)) as usize;
        let bins = if history.is_of_entries() { for_count } else { MOST_BINS as usize }.min(end);
        Self { history, end, length_s, count, mean_age, bins }
    }

    fn constant(&self) -> Trend {
        Trend { rate: self.count / self.length_s, growth: 0.0, over_s: self.length_s, grows_s: 0.0 }
    }

    /// Where the rate changed at once, when that says more of what came than a rate that grows: the
    /// likelihoods of both, beside that of a constant rate.
    fn step(&self) -> Option<usize> {
        let Kind::Entries { least_s } = self.history.kind else { return None };
        let gamma = gamma_of(self.mean_age);
        let grown = match gamma {
            0.0 => 0.0,
            _ => self.count * ((gamma / -(-gamma).exp_m1()).ln() - gamma * self.mean_age),
        };
        let gain = |count: f64, part: f64| {
            if count > 0.0 { count * (count / (self.count * part)).ln() } else { 0.0 }
        };
        let mut best = (grown + CLEARLY * self.residuals(gamma).dispersion.max(1.0), None);
        for edge in self.history.edge(least_s / 2.0).max(1)..self.end {
            let part = self.history.ages[edge] / self.length_s;
            let (after, before) = (self.history.since[edge], self.count - self.history.since[edge]);
            let (now, then) = (after / part, before / (1.0 - part));
            let changed = (now - then).abs() > STEP * now.max(then);
            let said = gain(after, part) + gain(before, 1.0 - part);
            if changed && said > best.0 {
                best = (said, Some(edge));
            }
        }
        best.1
    }

    /// The change from the first of a few samples to the last, where it is more than chance.
    fn of_few(&self, doubt: f64) -> Option<Trend> {
        let enough = doubt.max(SIGNIFICANT * self.count.abs().sqrt());
        (self.count.abs() > enough).then(|| self.constant())
    }

    fn fit(&self) -> Fit {
        let rising = self.count > 0.0 && self.mean_age > 0.0 && self.mean_age < 1.0;
        let flat = self.residuals(0.0);
        if rising {
            let gamma = gamma_of(self.mean_age);
            let grown = self.residuals(gamma);
            let deviation = (12.0 * grown.noise() * grown.variance).sqrt() / self.count;
            let sure = shrunk(gamma, deviation.hypot(JITTER));
            if grown.agrees && (sure != 0.0 || !flat.agrees) {
                let gamma = if flat.agrees { sure } else { gamma };
                let part = -(-gamma).exp_m1();
                let trend = Trend {
                    rate: self.count * gamma / (self.length_s * part),
                    growth: gamma / self.length_s,
                    over_s: self.length_s,
                    grows_s: self.grows_on(gamma / deviation),
                };
                let trend = Some(trend).filter(|_| self.counts(&grown));
                return Fit { agrees: true, trend };
            }
        }
        let trend = Some(self.constant()).filter(|_| self.counts(&flat));
        Fit { agrees: flat.agrees, trend }
    }

    fn grows_on(&self, sigmas: f64) -> f64 {
        let most = self.length_s * GROWS_FOR;
        (self.length_s * (sigmas / SIGNIFICANT).max(0.5)).max(SOON_S).min(most)
    }

    /// Whether what came is more than chance.
    fn counts(&self, residuals: &Residuals) -> bool {
        let noise = residuals.dispersion.max(1.0) * residuals.variance;
        self.history.is_of_entries() || self.count.abs() > SIGNIFICANT * noise.sqrt()
    }

    /// Compares with the model whose rate is `e^(-gamma · age / length)`, in bins that it says are alike.
    fn residuals(&self, gamma: f64) -> Residuals {
        let whole = -(-gamma).exp_m1();
        let share = |age: f64| if gamma == 0.0 { age } else { -(-gamma * age).exp_m1() / whole };
        let age = |share: f64| {
            if gamma == 0.0 { share } else { -(-share * whole).ln_1p() / gamma }
        };
        let part = |bin: usize| as_float(bin as u64) / as_float(self.bins as u64);
        let mut edges: Vec<usize> =
            (0..=self.bins).map(|bin| self.history.edge(age(part(bin)) * self.length_s)).collect();
        edges.dedup();
        let bins: Vec<(f64, f64)> = edges
            .windows(2)
            .map(|edges| {
                let at = |edge: usize| share(self.history.ages[edge] / self.length_s);
                let came = self.history.since[edges[1]] - self.history.since[edges[0]];
                (came, self.count * (at(edges[1]) - at(edges[0])))
            })
            .collect();
        let stall_s = STALL_S.min(self.length_s / 20.0);
        let slope = if gamma == 0.0 { 1.0 } else { gamma / whole };
        let rate = slope * self.count / self.length_s;
        Residuals::of(&bins, rate.abs() * stall_s)
    }
}

impl Residuals {
    /// `bins`: what came and what was expected, the newest first. `stall`: what comes in a stall that is
    /// nothing to wonder at.
    fn of(bins: &[(f64, f64)], stall: f64) -> Self {
        let number = as_float(bins.len().max(1) as u64);
        let typical = bins.iter().map(|(came, _)| came.abs()).sum::<f64>() / number;
        let variance = |expected: f64| expected.abs().max(typical / 2.0).max(1.0);
        let residual =
            |&(came, expected): &(f64, f64)| (came - expected) / variance(expected).sqrt();
        let differences = bins.windows(2).map(|pair| residual(&pair[0]) - residual(&pair[1]));
        let mut differences: Vec<f64> = differences.map(|d| d * d).collect();
        differences.sort_by(f64::total_cmp);
        if differences.len() >= 6 {
            // A step is one large difference; a burst is two.
            differences.pop();
        }
        let pairs = as_float(differences.len().max(1) as u64);
        let dispersion = differences.iter().sum::<f64>() / (2.0 * pairs);
        let whole: f64 = bins.iter().map(|bin| variance(bin.1)).sum();
        let noise = |variance: f64| (dispersion.max(1.0) * variance).sqrt();
        // How far the sums since each edge are off. A stall that is made up for puts them off but little.
        let allowed =
            KOLMOGOROV * noise(whole) + TOLERATED * bins.iter().map(|bin| bin.1).sum::<f64>().abs();
        let (mut off, mut expected, mut variance_yet) = (0.0_f64, 0.0_f64, 0.0);
        let mut agrees = true;
        for (index, bin) in bins.iter().enumerate() {
            off += bin.0 - bin.1;
            expected += bin.1;
            variance_yet += variance(bin.1);
            agrees &= off.abs() <= allowed;
            // The newest part agrees by itself: the forecast goes on from there.
            if index + 1 == bins.len().div_ceil(4) || index + 1 == bins.len().div_ceil(8) {
                agrees &= off.abs()
                    <= SIGNIFICANT * noise(variance_yet)
                        + TOLERATED_AT_END * expected.abs()
                        + stall;
            }
        }
        Self { dispersion, variance: whole, bins: number, agrees }
    }

    /// The dispersion to reckon with: few bins tell little, and random arrivals are the likeliest.
    fn noise(&self) -> f64 {
        let pairs = self.bins - 1.0;
        (self.dispersion * pairs + PRIOR) / (pairs + PRIOR)
    }
}

/// As much of a growth as its standard deviation leaves sure (a positive-part James-Stein estimate).
fn shrunk(gamma: f64, deviation: f64) -> f64 {
    let unsure = if gamma > 0.0 { RISE_UNSURE } else { FALL_UNSURE };
    let part = 1.0 - unsure * (deviation / gamma).powi(2);
    if part > 0.0 && gamma.abs() > 0.02 { gamma * part } else { 0.0 }
}

/// The gamma of arrivals whose density over ages from 0 to 1 is as `e^(-gamma · age)` and whose mean is given.
fn gamma_of(mean_age: f64) -> f64 {
    let mean_age = mean_age.clamp(0.003, 0.997);
    let mean = |gamma: f64| {
        if gamma.abs() < 1e-4 { 0.5 - gamma / 12.0 } else { 1.0 / gamma - 1.0 / gamma.exp_m1() }
    };
    let (mut low, mut high) = (-400.0, 400.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if mean(middle) > mean_age {
            low = middle;
        } else {
            high = middle;
        }
    }
    let gamma = f64::midpoint(low, high);
    if gamma.abs() < 1e-6 { 0.0 } else { gamma }
}
