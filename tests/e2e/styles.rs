//! Styles of a terminal's screen, as escape sequences have them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

/// How a character looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// The parameters of its colour; empty: the terminal's own.
    pub(crate) foreground: Vec<u32>,
    /// The same of what is behind it.
    pub(crate) background: Vec<u32>,
    /// Bold (1), reversed (7), and so on.
    pub(crate) attributes: BTreeSet<u32>,
}

impl Style {
    /// Takes the parameters of one sequence.
    fn take(&mut self, parameters: &[u32]) {
        let mut rest = parameters.iter().copied();
        while let Some(parameter) = rest.next() {
            let mut colour = || {
                let mut all = vec![parameter];
                let kind = rest.next();
                all.extend(kind);
                all.extend(rest.by_ref().take(if kind == Some(2) { 3 } else { 1 }));
                all
            };
            match parameter {
                0 => *self = Self::default(),
                38 => self.foreground = colour(),
                48 => self.background = colour(),
                // The colour of an underline.
                58 => drop(colour()),
                30..=37 | 90..=97 => self.foreground = vec![parameter],
                40..=47 | 100..=107 => self.background = vec![parameter],
                39 => self.foreground.clear(),
                49 => self.background.clear(),
                22 => self.attributes.retain(|set| !matches!(set, 1 | 2)),
                23..=29 => drop(self.attributes.remove(&(parameter - 20))),
                set => drop(self.attributes.insert(set)),
            }
        }
    }
}

/// A character and how it looks.
pub(crate) type Cell = (char, Style);

/// The characters of a styled screen, line by line.
pub(crate) fn cells(styled: &str) -> Result<Vec<Vec<Cell>>> {
    let mut style = Style::default();
    let mut lines = Vec::new();
    for line in styled.lines() {
        let mut cells = Vec::new();
        let mut rest = line.chars();
        while let Some(c) = rest.next() {
            if c != '\u{1b}' {
                // Shift out and in: tmux's way to draw lines.
                if !matches!(c, '\u{e}' | '\u{f}') {
                    cells.push((c, style.clone()));
                }
                continue;
            }
            match rest.next() {
                Some('[') => {}
                other => bail!("an escape sequence with {other:?} in {line:?}"),
            }
            let sequence: String = rest.by_ref().take_while(|c| *c != 'm').collect();
            let parameters = sequence.split([';', ':']).map(|number| match number {
                "" => Ok(0),
                number => number.parse(),
            });
            let parameters: Vec<u32> = parameters
                .collect::<Result<_, _>>()
                .with_context(|| format!("{sequence:?} in {line:?}"))?;
            style.take(&parameters);
        }
        lines.push(cells);
    }
    Ok(lines)
}
