//! Shapes of charts. All coordinates are finite and within the picture, whatever the figures are. A picture is
//! stretched to the room that there is, so there is no text in it.

use std::fmt::Write;

/// Width of a picture.
pub(super) const WIDTH: usize = 1200;
/// Height of a picture.
pub(super) const HEIGHT: f64 = 160.0;

/// Where figures are in a picture.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// Steps from the left to the right.
    pub(super) steps: usize,
    /// The figure at the top; above 0.
    pub(super) top: f64,
}

impl Scale {
    /// So that the highest figure fits, and half of the top is a round number too.
    pub(super) fn fitting(steps: usize, highest: f64) -> Self {
        let highest = if highest.is_finite() { highest.clamp(2.0, 1e20) } else { 2.0 };
        let mut unit = 1.0;
        while unit * 10.0 < highest {
            unit *= 10.0;
        }
        let digits: &[f64] = if unit > 1.0 {
            &[1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0]
        } else {
            &[2.0, 4.0, 6.0, 8.0]
        };
        let mut round = digits.iter().map(|digit| digit * unit);
        let top = round.find(|top| *top >= highest).unwrap_or(10.0 * unit);
        Self { steps, top }
    }

    /// Left edge of a step.
    pub(super) fn x(self, step: usize) -> usize {
        step.min(self.steps) * WIDTH / self.steps.max(1)
    }

    /// Height of a figure, from the top of the picture.
    pub(super) fn y(self, figure: f64) -> f64 {
        let share = figure / self.top;
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        f64::from(tenths((1.0 - share) * HEIGHT)) / 10.0
    }

    /// A line with a tread for each step.
    pub(super) fn treads(self, figures: &[f64]) -> String {
        let mut path = String::new();
        self.go(figures.iter().copied().enumerate(), &mut path);
        path
    }

    /// What is between two such lines, as one is stacked upon the other; empty: nothing is.
    pub(super) fn between(self, low: &[f64], high: &[f64]) -> String {
        let mut path = String::new();
        let differs = |step: &usize| low.get(*step) != high.get(*step);
        let steps = low.len().min(high.len());
        let mut next = 0;
        while let Some(from) = (next..steps).find(differs) {
            let to = (from..steps).find(|step| !differs(step)).unwrap_or(steps);
            self.go((from..to).map(|step| (step, high[step])), &mut path);
            self.back(&low[from..to], from, &mut path);
            path.push('Z');
            next = to;
        }
        path
    }

    /// A line through the middles of the steps that have a figure. It is broken where there is none for long.
    #[expect(clippy::cast_precision_loss, reason = "there are a few hundred steps")]
    pub(super) fn through(self, figures: &[Option<f64>]) -> String {
        let there = figures.iter().enumerate().take(self.steps);
        let there: Vec<_> = there.filter_map(|(step, it)| Some((step, (*it)?))).collect();
        let mut gaps: Vec<_> = there.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        gaps.sort_unstable();
        let longest = gaps.get(gaps.len() / 2).map_or(1, |usual| usual * 4);
        let (mut path, mut before) = (String::new(), None);
        for (step, figure) in there {
            let x = (step as f64 + 0.5) * WIDTH as f64 / self.steps as f64;
            let near = before.is_some_and(|before| step - before <= longest);
            let how = if near { "L" } else { "M" };
            // Writing into memory can't fail. A line without length is a dot.
            let _ = write!(path, "{how}{x:.0} {}", self.y(figure));
            if !near {
                path += "h0";
            }
            before = Some(step);
        }
        path
    }

    /// From the left to the right.
    fn go(self, figures: impl Iterator<Item = (usize, f64)>, path: &mut String) {
        let (mut before, mut end) = (None, 0);
        for (step, figure) in figures.take(self.steps) {
            let y = self.y(figure);
            let _ = match before {
                None => write!(path, "M{} {y}", self.x(step)),
                Some(before) if tenths(before) == tenths(y) => Ok(()),
                Some(_) => write!(path, "H{}V{y}", self.x(step)),
            };
            (before, end) = (Some(y), step + 1);
        }
        if before.is_some() {
            let _ = write!(path, "H{}", self.x(end));
        }
    }

    /// From the right to the left, to where the first of these figures begins.
    fn back(self, figures: &[f64], first: usize, path: &mut String) {
        let mut before = None;
        for (step, figure) in figures.iter().enumerate().rev() {
            let y = self.y(*figure);
            if before.map(tenths) != Some(tenths(y)) {
                let _ = match before {
                    None => write!(path, "V{y}"),
                    Some(_) => write!(path, "H{}V{y}", self.x(first + step + 1)),
                };
            }
            before = Some(y);
        }
        let _ = write!(path, "H{}", self.x(first));
    }
}

/// What a coordinate is rounded to.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the picture")]
fn tenths(y: f64) -> u32 {
    (y * 10.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_drawn_once_where_nothing_changes() {
        let scale = Scale { steps: 4, top: 10.0 };
        assert_eq!(scale.treads(&[5.0, 5.0, 10.0, 0.0]), "M0 80H600V0H900V160H1200");
        assert_eq!(scale.between(&[0.0; 4], &[0.0, 5.0, 5.0, 0.0]), "M300 80H900V160H300Z");
        assert_eq!(
            scale.between(&[0.0, 5.0, 0.0, 0.0], &[10.0, 10.0, 0.0, 0.0]),
            "M0 0H600V80H300V160H0Z"
        );
        assert_eq!(scale.between(&[1.0; 4], &[1.0; 4]), "");
    }

    #[test]
    fn a_line_is_broken_where_nothing_was_seen_for_long() {
        let scale = Scale { steps: 12, top: 1.0 };
        let mut figures = vec![Some(1.0); 12];
        figures[3..10].fill(None);
        assert_eq!(scale.through(&figures), "M50 0h0L150 0L250 0M1050 0h0L1150 0");
        assert_eq!(scale.through(&[]), "");
    }

    #[test]
    fn no_figure_leaves_the_picture() {
        let scale = Scale::fitting(5, f64::INFINITY);
        let hostile = [f64::NAN, f64::INFINITY, -1.0, 1e300, f64::NEG_INFINITY];
        assert_eq!(scale.treads(&hostile), "M0 160H240V0H480V160H720V0H960V160H1200");
        let path = scale.between(&[0.0; 5], &hostile) + &scale.through(&hostile.map(Some));
        assert!(!path.contains("NaN") && !path.contains("inf"), "{path}");
        assert_eq!(Scale::fitting(0, 1.0).x(7), 0);
        assert_eq!(
            [1.0, 3.0, 41.0, 100.0, 101.0].map(|it| Scale::fitting(1, it).top.to_string()),
            ["2", "4", "50", "100", "120"]
        );
        assert!(Scale::fitting(1, 1e300).top >= 1e20);
    }
}
