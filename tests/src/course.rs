//! How a usage is planned to rise.

/// A rate that stays or doubles, after a calm.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Per second, when the calm is over.
    pub rate: f64,
    /// Seconds in which the rate doubles; infinite: it stays.
    pub doubling_s: f64,
    /// Seconds before that with a tenth of the rate.
    pub calm_s: f64,
}

impl Course {
    /// Seconds after the beginning when so many are there.
    #[must_use]
    pub fn when(&self, number: f64) -> f64 {
        let of_calm = self.calm_s * self.rate / 10.0;
        if number <= of_calm {
            return number * 10.0 / self.rate;
        }
        let (number, growth) = (number - of_calm, 2_f64.ln() / self.doubling_s);
        let seconds = if growth == 0.0 {
            number / self.rate
        } else {
            (growth * number / self.rate).ln_1p() / growth
        };
        self.calm_s + seconds
    }
}
