//! Rows of cells under titles, as wide as they have to be.

/// To which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// What stands for the end of a cell that was cut.
const CUT: char = '…';
/// Between two columns.
const GAP: usize = 2;

/// Rows of inert cells.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// With these titles.
    pub(super) fn new(columns: &[(&str, Side)]) -> Self {
        let columns = columns.iter().map(|&(title, side)| (title.to_owned(), side));
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The titles, then the rows. Where they would be wider than `room`, the cells of column `elastic` are cut.
    pub(super) fn lines(&self, room: Option<(usize, usize)>) -> Vec<String> {
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| title.clone()).collect();
        let all = || std::iter::once(&titles).chain(&self.rows);
        let width = |column: usize| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let whole = widths.iter().sum::<usize>() + GAP * titles.len().saturating_sub(1);
        if let Some((most, elastic)) = room
            && let Some(width) = widths.get_mut(elastic)
        {
            let least = titles.get(elastic).map_or(1, |title| title.chars().count().max(8));
            *width = width.saturating_sub(whole.saturating_sub(most)).max(least).min(*width);
        }
        all().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, &width), (_, side)) in row.iter().zip(widths).zip(&self.columns) {
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = cut(cell, width);
            line += &match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_one_gives_way() {
        let mut columns = Columns::new(&[("COUNT", Side::Right), ("NAME", Side::Left)]);
        columns.row(vec!["7".to_owned(), "a".repeat(30)]);
        columns.row(vec!["1,234,567".to_owned(), "b".to_owned()]);
        let lines = columns.lines(None);
        assert_eq!(lines[0], "    COUNT  NAME");
        assert_eq!(lines[2], "1,234,567  b");
        assert_eq!(lines[1].len(), 41);
        let lines = columns.lines(Some((25, 1)));
        assert_eq!(lines[1], format!("        7  {}…", "a".repeat(13)));
    }
}
