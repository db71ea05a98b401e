//! Text that is safe to show and fits: foreign characters made visible, cut, padded, wrapped; gauges and
//! sparklines.

use std::borrow::Cow;

use ratatui::text::Span;

use super::theme::Look;
use crate::event::is_inert;
pub(super) use crate::human::percent;

/// To which side a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Characters of our own, and what they are in ASCII.
const OURS: [(char, &str); 5] = [('…', "..."), ('·', "-"), ('→', "->"), ('≥', ">="), ('µ', "u")];

impl Look {
    /// A text with everything made visible that a terminal could take for a command, or can't show.
    pub(super) fn clean(self, text: &str) -> Cow<'_, str> {
        // A backslash is what such characters were made visible with.
        let shown = |c: char| (is_inert(c) || c == '\\') && (self.utf8 || c.is_ascii());
        if text.chars().all(shown) {
            return Cow::Borrowed(text);
        }
        let mut clean = String::with_capacity(text.len() + 8);
        for character in text.chars() {
            if shown(character) {
                clean.push(character);
            } else if let Some((_, ours)) = OURS.iter().find(|(ours, _)| *ours == character) {
                clean.push_str(ours);
            } else {
                clean.extend(character.escape_unicode());
            }
        }
        Cow::Owned(clean)
    }

    /// What stands for the end of a text that was cut.
    fn ellipsis(self) -> &'static str {
        self.either("…", "..")
    }

    /// At most `columns` of a clean text.
    pub(super) fn cut(self, text: &str, columns: usize) -> Cow<'_, str> {
        if width(text) <= columns {
            return Cow::Borrowed(text);
        }
        let end = Some(self.ellipsis()).filter(|end| width(end) < columns).unwrap_or("");
        let kept = &text[..prefix(text, columns - width(end))];
        Cow::Owned(format!("{kept}{end}"))
    }

    /// A clean text in exactly `columns`.
    pub(super) fn fit(self, text: &str, columns: usize, align: Align) -> String {
        let cut = self.cut(text, columns);
        let padding = " ".repeat(columns.saturating_sub(width(&cut)));
        match align {
            Align::Left => format!("{cut}{padding}"),
            Align::Right => format!("{padding}{cut}"),
        }
    }

    /// A gauge of `columns`: the used part of a limit, 0 to 1 and above.
    pub(super) fn gauge(self, ratio: f64, columns: usize) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let (full, empty) = (self.either("█", "#"), self.either("░", "."));
        let each = if self.utf8 { PARTS.len() } else { 1 };
        let all = columns * each;
        // Full is full only where nothing is left, and empty is empty.
        let used = if ratio >= 1.0 {
            all
        } else {
            scaled(ratio, all).clamp(usize::from(self.utf8 && ratio > 0.0), all.saturating_sub(1))
        };
        let part = PARTS[used % each];
        let rest = columns.saturating_sub(used / each + usize::from(!part.is_empty()));
        format!("{}{part}{}", full.repeat(used / each), empty.repeat(rest))
    }

    /// The last minute of used parts of a limit, oldest first; the last one is of `at_s`, each other one
    /// `step_s` seconds before the next. A column is some seconds, and stays what it is while time goes on.
    pub(super) fn sparkline(self, trend: &[f32], at_s: f64, step_s: f64, columns: usize) -> String {
        let levels: [&str; 8] = if self.utf8 {
            ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
        } else {
            ["_", ".", "-", ":", "=", "+", "*", "#"]
        };
        let each_s = 60.0 / float(columns.max(1));
        let column = |seconds: f64| (seconds / each_s).floor();
        let newest = column(at_s);
        let mut cells = vec![None::<f32>; columns];
        for (age, &used) in trend.iter().rev().enumerate() {
            let back = newest - column(at_s - float(age) * step_s);
            let Some(cell) = columns.checked_sub(1).and_then(|last| last.checked_sub(whole(back)))
            else {
                break;
            };
            cells[cell] = Some(cells[cell].map_or(used, |most| most.max(used)));
        }
        let level = |used: f32| levels[scaled(used.into(), levels.len()).min(levels.len() - 1)];
        let mut text = String::new();
        let mut last = " ";
        for cell in cells {
            // Where samples are further apart than columns, one holds until the next.
            last = cell.map_or(last, level);
            text.push_str(last);
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of columns or samples")]
fn float(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is negative or too large is 0 or the largest one"
)]
fn whole(number: f64) -> usize {
    number as usize
}

/// `ratio` of `all`, rounded down; between 0 and `all`.
fn scaled(ratio: f64, all: usize) -> usize {
    whole(ratio.clamp(0.0, 1.0) * float(all))
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// Bytes of the longest beginning of a text that takes at most `columns`.
fn prefix(text: &str, columns: usize) -> usize {
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        let end = at + character.len_utf8();
        taken += width(&text[at..end]);
        if taken > columns {
            return at;
        }
    }
    text.len()
}

/// A clean text in lines of at most `columns`, broken between words where that is possible.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let (mut lines, mut line, mut taken) = (Vec::new(), String::new(), 0);
    // A number and its sign stay together.
    let text = text.replace(" %", "\u{a0}%");
    for mut word in text.split(' ') {
        let mut long = width(word);
        if taken > 0 && taken + 1 + long > columns {
            lines.push(std::mem::take(&mut line));
            taken = 0;
        }
        if !line.is_empty() {
            line.push(' ');
            taken += 1;
        }
        while long > columns {
            // A wide character in a single column would never end.
            let at = prefix(word, columns).max(word.chars().next().map_or(0, char::len_utf8));
            lines.push(word[..at].to_owned());
            word = &word[at..];
            long = width(word);
        }
        line.push_str(word);
        taken += long;
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// `512 B`, `3.4 KB`, `12 MB`
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    let mut rest = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if rest < 1000.0 {
            break;
        }
        rest /= 1000.0;
        unit = larger;
    }
    if unit != "B" && rest < 10.0 {
        format!("{rest:.1} {unit}")
    } else {
        format!("{rest:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Look = Look { colour: true, utf8: true };
    const ASCII: Look = Look { colour: false, utf8: false };

    #[test]
    fn foreign_text_is_made_visible() {
        assert_eq!(UTF8.clean("nginx"), "nginx");
        assert_eq!(UTF8.clean("a\x1b[31m"), "a\\u{1b}[31m");
        assert_eq!(UTF8.clean("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(UTF8.clean("wörker…"), "wörker…");
        assert_eq!(ASCII.clean("wörker…"), "w\\u{f6}rker...");
    }

    #[test]
    fn texts_fit() {
        assert_eq!(UTF8.fit("abc", 5, Align::Right), "  abc");
        assert_eq!(UTF8.fit("abcdef", 4, Align::Left), "abc…");
        assert_eq!(ASCII.fit("abcdef", 4, Align::Left), "ab..");
        assert_eq!(UTF8.fit("漢字漢字", 4, Align::Left), "漢… ");
        assert_eq!(ASCII.fit("abc", 1, Align::Left), "a");
        assert_eq!(UTF8.fit("abc", 0, Align::Left), "");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("is 87 %)", 6), ["is", "87 %)"]);
        assert_eq!(wrap("漢字", 1), ["漢", "字"]);
    }

    #[test]
    fn gauges() {
        assert_eq!(ASCII.gauge(0.0, 4), "....");
        assert_eq!(ASCII.gauge(0.3, 4), "#...");
        assert_eq!(UTF8.gauge(0.001, 4), "▏░░░");
        assert_eq!(UTF8.gauge(0.375, 4), "█▌░░");
        assert_eq!(UTF8.gauge(0.9999, 4), "███▉");
        assert_eq!([UTF8.gauge(1.0, 2), UTF8.gauge(0.0, 2)], ["██", "░░"]);
        assert_eq!(ASCII.gauge(0.999, 4), "###.");
        assert_eq!(ASCII.gauge(1.0, 4), "####");
        assert_eq!(ASCII.gauge(7.0, 4), "####");
        assert_eq!([0.5, 0.934, 0.9999, 1.0].map(percent), ["50 %", "93 %", "99.9 %", "100 %"]);
        assert_eq!([12, 3_400, 12_000_000].map(bytes), ["12 B", "3.4 KB", "12 MB"]);
    }

    #[test]
    fn a_column_of_a_sparkline_stays_what_it_is() {
        let trend: Vec<f32> =
            (0..120).map(|second| if second == 100 { 1.0 } else { 0.0 }).collect();
        // Seconds 60 to 119, five in a column.
        assert_eq!(ASCII.sparkline(&trend, 119.2, 1.0, 12), "________#___");
        assert_eq!(ASCII.sparkline(&trend[..119], 118.2, 1.0, 12), "________#___");
        assert_eq!(ASCII.sparkline(&trend[..3], 119.2, 1.0, 4), "   _");
        // One sample each ten seconds; ten each second.
        assert_eq!(ASCII.sparkline(&[0.0, 1.0, 0.5], 119.0, 10.0, 12), "       __##=");
        assert_eq!(ASCII.sparkline(&[1.0; 60], 119.0, 0.1, 12), "          ##");
    }
}
