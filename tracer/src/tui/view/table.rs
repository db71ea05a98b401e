//! Tables: a line of titles, and as many rows as there is room for.

use std::ops::Range;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::human::thousands;
use crate::tui::{
    columns::{Column, Sight, layout},
    model::Model,
    rows::{Order, Row, Rows},
    text::Align,
    theme::{Look, Tone},
};

/// The titles; the one that the rows are sorted by is marked.
pub(in crate::tui) fn titles<R>(
    columns: &[Column<R>],
    places: &[(usize, usize)],
    sorted: Option<(usize, Order)>,
    look: Look,
) -> Line<'static> {
    let mut line = Line::default();
    for (place, &(index, width)) in places.iter().enumerate() {
        let column = &columns[index];
        let mark = match sorted {
            Some((sort, Order::Usual)) if sort == index => look.either("▼", "v"),
            Some((sort, Order::Reversed)) if sort == index => look.either("▲", "^"),
            _ => "",
        };
        if place > 0 {
            line.push_span(Span::raw(" "));
        }
        let title = look.fit(&format!("{}{mark}", column.title), width, column.align);
        line.push_span(Span::styled(title, look.style(Tone::Strong)));
    }
    line
}

/// A row.
pub(in crate::tui) fn row<R>(
    columns: &[Column<R>],
    places: &[(usize, usize)],
    row: &R,
    sight: Sight,
) -> Line<'static> {
    let look = sight.look;
    let mut line = Line::default();
    for (place, &(index, width)) in places.iter().enumerate() {
        let column = &columns[index];
        let cell = (column.cell)(row, sight);
        let text = look.clean(&cell.text);
        let padding = width.saturating_sub(crate::tui::text::width(&text));
        if place > 0 {
            line.push_span(Span::raw(" "));
        }
        let cell = Span::styled(look.cut(&text, width).into_owned(), look.style(cell.tone));
        let padding = Span::raw(" ".repeat(padding));
        match column.align {
            Align::Left => line.extend([cell, padding]),
            Align::Right => line.extend([padding, cell]),
        }
    }
    line
}

/// Which of `count` rows are on a screen of `height`, so that one of them is in sight.
pub(in crate::tui) fn window(count: usize, at: usize, height: usize) -> Range<usize> {
    let start = at.saturating_sub(height / 2).min(count.saturating_sub(height));
    start..(start + height).min(count)
}

/// Puts a line, with a mark before it where it is the selected one.
pub(in crate::tui) fn put(
    buffer: &mut Buffer,
    area: Rect,
    line: &Line<'_>,
    selected: bool,
    look: Look,
) {
    if selected {
        buffer.set_stringn(area.x, area.y, look.either("▸", ">"), 1, Look::bar());
    }
    let room = area.width.saturating_sub(1);
    buffer.set_line(area.x.saturating_add(1), area.y, line, room);
    if selected {
        buffer.set_style(Rect { height: 1, ..area }, Look::bar());
    }
}

/// A table with its titles, its filter, and how much of it is shown.
pub(super) fn draw<R: Row>(
    model: &Model,
    table: &Rows<R>,
    rows: &[R],
    left_out: u64,
    area: Rect,
    buffer: &mut Buffer,
) {
    let sight = model.sight();
    let columns = R::columns();
    let sorted = (table.sort(), table.order());
    let places = layout(columns, Some(table.sort()), usize::from(area.width).saturating_sub(1));
    put(buffer, area, &titles(columns, &places, Some(sorted), model.look), false, model.look);
    let height = usize::from(area.height).saturating_sub(2);
    let mut y = area.y.saturating_add(1);
    for place in window(table.shown().len(), table.at(), height) {
        let Some(found) = table.shown().get(place).and_then(|&index| rows.get(index)) else {
            break;
        };
        let line = row(columns, &places, found, sight);
        put(buffer, Rect { y, ..area }, &line, place == table.at(), model.look);
        y = y.saturating_add(1);
    }
    let text = model.look.clean(&note(table, rows, left_out)).into_owned();
    let at = Rect { y: area.bottom().saturating_sub(1), ..area };
    let line = Span::styled(text, model.look.style(Tone::Quiet)).into();
    put(buffer, at, &line, false, model.look);
}

/// What of the table is shown, in words.
pub(in crate::tui) fn note<R: Row>(table: &Rows<R>, rows: &[R], left_out: u64) -> String {
    let (shown, all) = (thousands(table.shown().len() as u64), thousands(rows.len() as u64));
    let mut note = if !table.filter().is_empty() {
        format!("filter {:?}: {shown} of {all} rows", table.filter())
    } else if rows.is_empty() {
        format!("no {} so far", R::NAME)
    } else {
        format!("{all} {}", R::NAME)
    };
    if left_out > 0 {
        note += &format!("; {} quieter ones are not kept", thousands(left_out));
    }
    note
}
