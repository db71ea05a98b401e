//! A histogram of times: four steps to each doubling, so that a percentile is at most 25 % too high.

use super::shot::Latency;

/// Steps of a doubling.
const STEPS: u32 = 4;
/// The shortest time that is told apart, as a power of two of microseconds: 16 µs.
const SHORTEST: u32 = 4;
/// Doublings above it: up to 134 s, beyond what `connect()` waits for.
const DOUBLINGS: u32 = 23;
/// What a time counts when it is new.
const WEIGHT: u32 = 4;
const CELLS: usize = (STEPS * DOUBLINGS) as usize;

/// Times by their steps; nothing is allocated before the first.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Option<Box<[u32; CELLS]>>);

impl Histogram {
    /// Adds a time in microseconds.
    pub fn note(&mut self, us: u64) {
        let cells = self.0.get_or_insert_with(|| Box::new([0; CELLS]));
        let cell = &mut cells[cell_of(us)];
        *cell = cell.saturating_add(WEIGHT);
    }

    /// All there is counts half from now on; a single one is forgotten at the third time.
    pub fn halve(&mut self) {
        if let Some(cells) = &mut self.0 {
            cells.iter_mut().for_each(|cell| *cell /= 2);
        }
    }

    /// The median and the 99th percentile; `None`: there is nothing.
    #[must_use]
    pub fn percentiles(&self) -> Option<Latency> {
        let cells = self.0.as_ref()?;
        let total: u64 = cells.iter().map(|&cell| u64::from(cell)).sum();
        let at = |percent: u64| {
            let rank = (total * percent).div_ceil(100);
            let mut below = 0;
            let reached = |&cell: &u32| {
                below += u64::from(cell);
                below >= rank
            };
            cells.iter().position(reached).map(end_of)
        };
        (total > 0).then_some(Latency { p50_us: at(50)?, p99_us: at(99)? })
    }
}

fn cell_of(us: u64) -> usize {
    let us = us.clamp(1 << SHORTEST, 1 << (SHORTEST + DOUBLINGS));
    let doubling = us.ilog2();
    let step = ((us - (1 << doubling)) * u64::from(STEPS)) >> doubling;
    let cell = u64::from((doubling - SHORTEST) * STEPS) + step;
    usize::try_from(cell).unwrap_or(CELLS).min(CELLS - 1)
}

/// The longest time of a cell, in microseconds.
fn end_of(cell: usize) -> u64 {
    let next = u64::try_from(cell).unwrap_or(0) + 1;
    let (doubling, step) = (next / u64::from(STEPS), next % u64::from(STEPS));
    let begin = 1u64 << (doubling + u64::from(SHORTEST));
    begin + begin * step / u64::from(STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_above() {
        for us in [16, 17, 99, 1000, 1500, 65_535, 1_000_000, 100_000_000] {
            let mut histogram = Histogram::default();
            histogram.note(us);
            let told = histogram.percentiles().unwrap().p50_us;
            assert!(told >= us && told * 100 <= us * 126, "{us}: {told}");
        }
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentiles(), None);
        (0..98).for_each(|_| histogram.note(200));
        (0..2).for_each(|_| histogram.note(3_000_000));
        let Latency { p50_us, p99_us } = histogram.percentiles().unwrap();
        assert!((200..=250).contains(&p50_us) && p99_us >= 3_000_000, "{p50_us} {p99_us}");
        histogram.note(u64::MAX);
        for _ in 0..12 {
            histogram.halve();
        }
        assert_eq!(histogram.percentiles(), None);
    }
}
