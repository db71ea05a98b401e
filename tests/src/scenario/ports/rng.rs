//! Random draws that a seed repeats.

/// `splitmix64`: small, and good enough for draws.
pub(crate) struct Rng(u64);

impl Rng {
    /// Seeds that follow each other give draws that have nothing in common.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u16, high: u16) -> u16 {
        let choices = u64::from(high.saturating_sub(low)) + 1;
        low + u16::try_from(self.next() % choices).unwrap_or(0)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u16) -> bool {
        self.between(1, n) == 1
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// An index into so many, of which there is at least one.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::from(self.between(1, u16::try_from(length).unwrap_or(u16::MAX))) - 1
    }
}
