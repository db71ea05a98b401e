//! A table's order: sorted, filtered, with a selected row that is known by its key and not by its place.

use std::cmp::Ordering;

use super::columns::{Column, Sight};

/// What a table has a row of.
pub(super) trait Row: Sized + 'static {
    /// What a row is known by.
    type Key: Copy + Ord;
    /// What the table is called.
    const NAME: &'static str;
    /// What it is known by.
    fn key(&self) -> Self::Key;
    /// Its columns.
    fn columns() -> &'static [Column<Self>];
    /// By which of them it is sorted at first.
    fn first_sort() -> usize {
        Self::columns().iter().position(|column| column.title == "FAIL/S").unwrap_or(0)
    }
    /// Worse goes before.
    fn worse(&self, other: &Self) -> Ordering;
    /// The same, and never equal.
    fn before(&self, other: &Self) -> Ordering {
        self.worse(other).then_with(|| self.key().cmp(&other.key()))
    }
    /// Whether something of it failed.
    fn fails(&self) -> bool;
    /// What a filter looks at.
    fn text(&self, sight: Sight) -> String;
}

/// Which way a table is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Numbers from the most on, names from A on.
    Usual,
    /// The other way.
    Reversed,
}

/// The order of a table.
#[derive(Clone, Debug)]
pub(super) struct Rows<R: Row> {
    sort: usize,
    order: Order,
    filter: String,
    /// `None`: the first row, whichever it is.
    cursor: Option<R::Key>,
    at: usize,
    /// Indices of the rows, as they are shown.
    shown: Vec<usize>,
    /// Indices of the worst of all that fail, worst first.
    failing: Vec<usize>,
}

/// Rows that fail of which the order is known.
const MOST_FAILING: usize = 8;

impl<R: Row> Default for Rows<R> {
    fn default() -> Self {
        Self {
            sort: R::first_sort(),
            order: Order::Usual,
            filter: String::new(),
            cursor: None,
            at: 0,
            shown: Vec::new(),
            failing: Vec::new(),
        }
    }
}

impl<R: Row> Rows<R> {
    /// By which column it is sorted.
    pub(super) fn sort(&self) -> usize {
        self.sort
    }

    /// Which way.
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// What rows must have.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Indices of the rows that are shown, in order.
    pub(super) fn shown(&self) -> &[usize] {
        &self.shown
    }

    /// Indices of the worst of all rows that fail, worst first; some only.
    pub(super) fn failing(&self) -> &[usize] {
        &self.failing
    }

    /// Place of the selected row among those shown.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Another filter; [`Self::refresh`] applies it.
    pub(super) fn set_filter(&mut self, filter: &str) {
        filter.clone_into(&mut self.filter);
    }

    /// Another column to sort by; [`Self::refresh`] applies it.
    pub(super) fn sort_by(&mut self, steps: isize) {
        let count = R::columns().len();
        let count_signed = isize::try_from(count).unwrap_or(isize::MAX);
        let forward = usize::try_from(steps.rem_euclid(count_signed)).unwrap_or(0);
        self.sort = (self.sort + forward) % count;
        self.order = Order::Usual;
    }

    /// The other way round; [`Self::refresh`] applies it.
    pub(super) fn reverse(&mut self) {
        self.order = match self.order {
            Order::Usual => Order::Reversed,
            Order::Reversed => Order::Usual,
        };
    }

    /// Filters and sorts, and finds the selected row again.
    pub(super) fn refresh(&mut self, rows: &[R], sight: Sight) {
        let words: Vec<String> = self.filter.split_whitespace().map(str::to_lowercase).collect();
        let wanted = |row: &R| {
            let text = row.text(sight).to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        self.shown.clear();
        self.shown.extend(
            rows.iter()
                .enumerate()
                .filter(|(_, row)| words.is_empty() || wanted(row))
                .map(|(index, _)| index),
        );
        let compare = R::columns()[self.sort].compare;
        let order = self.order;
        self.shown.sort_unstable_by(|&a, &b| {
            let (a, b) = (&rows[a], &rows[b]);
            let by_column = match order {
                Order::Usual => compare(a, b),
                Order::Reversed => compare(b, a),
            };
            by_column.then_with(|| a.before(b))
        });
        self.failing.clear();
        self.failing.extend((0..rows.len()).filter(|&index| rows[index].fails()));
        let worst_first = |&a: &usize, &b: &usize| rows[a].before(&rows[b]);
        if self.failing.len() > MOST_FAILING {
            self.failing.select_nth_unstable_by(MOST_FAILING, worst_first);
            self.failing.truncate(MOST_FAILING);
        }
        self.failing.sort_unstable_by(worst_first);
        let place = match self.cursor {
            None => Some(0),
            Some(key) => self.shown.iter().position(|&index| rows[index].key() == key),
        };
        // A row that has gone leaves its place to the next one.
        self.at = place.unwrap_or(self.at).min(self.shown.len().saturating_sub(1));
    }

    /// Selects the row so many further down.
    pub(super) fn step(&mut self, rows: &[R], steps: isize) {
        let last = self.shown.len().saturating_sub(1);
        self.at = self.at.saturating_add_signed(steps).min(last);
        self.cursor = self.shown.get(self.at).map(|&index| rows[index].key());
    }

    /// Selects the first row, whichever it is.
    pub(super) fn release(&mut self) {
        self.cursor = None;
        self.at = 0;
    }

    /// Key of the selected row.
    pub(super) fn selected(&self, rows: &[R]) -> Option<R::Key> {
        self.shown.get(self.at).and_then(|&index| rows.get(index)).map(Row::key)
    }
}
