//! A text of several lines: titles, rows with a name, small tables; wrapped to a width.

use ratatui::text::{Line, Span};

use crate::tui::{
    columns::{Column, Sight, layout},
    text::{Align, width, wrap},
    theme::{Look, Tone},
};

/// Columns of words that stand out: `CRITICAL` is the longest.
const BADGES: usize = 8;
/// Columns of the names of rows.
const NAMES: usize = 11;

/// Collects lines.
pub(in crate::tui) struct Doc {
    look: Look,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Doc {
    /// Lines of at most that width.
    pub(in crate::tui) fn new(look: Look, width: usize) -> Self {
        Self { look, width, lines: Vec::new() }
    }

    /// What was collected.
    pub(in crate::tui) fn lines(self) -> Vec<Line<'static>> {
        self.lines
    }

    /// An empty line, unless it would be the first one.
    pub(in crate::tui) fn gap(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(Line::default());
        }
    }

    /// A title, after an empty line.
    pub(in crate::tui) fn title(&mut self, text: &str) {
        self.gap();
        self.text(text, Tone::Strong);
    }

    /// A paragraph.
    pub(in crate::tui) fn text(&mut self, text: &str, tone: Tone) {
        let text = self.look.clean(text);
        for line in wrap(&text, self.width) {
            self.lines.push(Span::styled(line, self.look.style(tone)).into());
        }
    }

    /// Columns that there are.
    pub(in crate::tui) fn width(&self) -> usize {
        self.width
    }

    /// A paragraph after a word that stands out.
    pub(in crate::tui) fn badge(&mut self, word: &str, badge: Tone, text: &str, tone: Tone) {
        let indent = BADGES + 2;
        let text = self.look.clean(text);
        let badge = Span::styled(word.to_owned(), self.look.style(badge));
        for (index, line) in wrap(&text, self.width.saturating_sub(indent)).into_iter().enumerate()
        {
            let line = Span::styled(line, self.look.style(tone));
            self.lines.push(if index == 0 {
                Line::from(vec![badge.clone(), Span::raw(" ".repeat(indent - width(word))), line])
            } else {
                Line::from(vec![Span::raw(" ".repeat(indent)), line])
            });
        }
    }

    /// A name, and a paragraph beside it.
    pub(in crate::tui) fn row(&mut self, name: &str, text: &str) {
        self.toned(name, text, Tone::Plain);
    }

    /// The same in a tone.
    pub(in crate::tui) fn toned(&mut self, name: &str, text: &str, tone: Tone) {
        self.beside(name, NAMES, text, tone);
    }

    /// A name in so many columns, and a paragraph beside it.
    pub(in crate::tui) fn beside(&mut self, name: &str, columns: usize, text: &str, tone: Tone) {
        let look = self.look;
        let columns = columns.min(self.width / 2);
        let text = look.clean(text);
        let name = look.fit(&look.clean(name), columns, Align::Left);
        for (index, line) in
            wrap(&text, self.width.saturating_sub(columns + 1)).into_iter().enumerate()
        {
            let name = if index == 0 { name.clone() } else { " ".repeat(columns) };
            self.lines.push(Line::from(vec![
                Span::styled(name, look.style(Tone::Quiet)),
                Span::raw(" "),
                Span::styled(line, look.style(tone)),
            ]));
        }
    }

    /// Two texts beside each other, the first one in so many columns.
    pub(in crate::tui) fn both(&mut self, left: Self, right: Self, columns: usize) {
        let height = left.lines.len().max(right.lines.len());
        let (mut left, mut right) = (left.lines.into_iter(), right.lines.into_iter());
        for _ in 0..height {
            let mut line = left.next().unwrap_or_default();
            let padding = (columns + 2).saturating_sub(line.width());
            line.push_span(Span::raw(" ".repeat(padding)));
            line.extend(right.next().unwrap_or_default().spans);
            self.lines.push(line);
        }
    }

    /// A table, in the order that is given.
    pub(in crate::tui) fn table<R>(&mut self, columns: &[Column<R>], rows: &[R], sight: Sight) {
        let places = layout(columns, None, self.width);
        self.lines.push(super::table::titles(columns, &places, None, self.look));
        for row in rows {
            self.lines.push(super::table::row(columns, &places, row, sight));
        }
    }

    /// Rows of cells, each column as wide as it has to be.
    pub(in crate::tui) fn cells(&mut self, aligns: &[Align], rows: &[Vec<String>]) {
        let clean = |row: &Vec<String>| -> Vec<String> {
            row.iter().map(|cell| self.look.clean(cell).into_owned()).collect()
        };
        let rows: Vec<Vec<String>> = rows.iter().map(clean).collect();
        let widest = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..aligns.len()).map(widest).collect();
        for row in &rows {
            let mut line = String::from(" ");
            for ((cell, &width), &align) in row.iter().zip(&widths).zip(aligns) {
                line += &format!(" {} ", self.look.fit(cell, width, align));
            }
            let line = self.look.cut(line.trim_end(), self.width).into_owned();
            self.lines.push(Line::raw(line));
        }
    }
}
