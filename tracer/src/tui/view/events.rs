//! Events, the newest at the bottom, in the columns of `trace`.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::table::{put, row, titles};
use crate::{
    event::Event,
    human::thousands,
    live::tail::Seen,
    sink::{
        clock::Clock,
        text::{Told, told},
    },
    tui::{
        columns::{events, layout},
        feed::{self, Wanted},
        model::{Model, Time},
        theme::Tone,
    },
};

/// An event in words, in the tone of what it is; `None`: loss. `search`: a lower-case text.
pub(in crate::tui) fn line(seen: &Seen, search: &str, clock: &mut Clock) -> Option<events::Line> {
    let told = Told::of(&seen.event, seen.failure.as_ref())?;
    let tone = if feed::has(seen, search) {
        Tone::Found
    } else if seen.failure.is_some() {
        Tone::Bad
    } else {
        Tone::Plain
    };
    Some(events::Line { time: time(clock, seen.event.ts_ns()), told, tone })
}

/// With milliseconds: `trace` has the rest.
fn time(clock: &mut Clock, ts_ns: u64) -> String {
    let mut time = clock.time(ts_ns);
    time.truncate(12);
    time
}

/// The lines of an event: what is missing before it, then itself. `before`: number of the one before it.
pub(in crate::tui) fn lines(
    model: &Model,
    seen: &Seen,
    before: Option<u64>,
    places: &[(usize, usize)],
    clock: &mut Clock,
) -> Vec<Line<'static>> {
    let look = model.look;
    let mut lines = Vec::new();
    let missing = seen.number - before.map_or(0, |number| number + 1).min(seen.number);
    if missing > 0 && model.feed.wanted == Wanted::All {
        let text = format!("… {} events not kept …", thousands(missing));
        lines.push(Line::styled(look.clean(&text).into_owned(), look.style(Tone::Quiet)));
    }
    if let Event::Lost(loss) = &seen.event {
        let at = time(clock, loss.ts_ns);
        for text in told(loss) {
            let badge = Span::styled(
                " LOST ",
                look.style(Tone::Badge(crate::ceilings::thresholds::Status::Critical)),
            );
            let text = Span::styled(format!(" {text}"), look.style(Tone::Bad));
            lines.push(Line::from(vec![Span::raw(format!("{at} ")), badge, text]));
        }
    }
    if let Some(line) = line(seen, &model.feed.search.to_lowercase(), clock) {
        let found = line.tone == Tone::Found;
        let mut line = row(events::COLUMNS, places, &line, model.sight());
        if found {
            line = line.patch_style(look.style(Tone::Found));
        }
        lines.push(line);
    }
    lines
}

/// Draws it.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let look = model.look;
    let places = layout(events::COLUMNS, None, usize::from(area.width).saturating_sub(1));
    put(buffer, area, &titles(events::COLUMNS, &places, None, look), false, look);
    let height = usize::from(area.height).saturating_sub(2);
    let events = model.feed.events(model.kept(), model.until());
    let at = model.feed.at(&events);
    // The chosen event in the middle, or the newest at the bottom.
    let mut end = match model.feed.cursor {
        None => events.len(),
        Some(_) => (at + height / 2 + 1).max(height).min(events.len()),
    };
    let mut clock = model.clock.clone();
    // From below upwards, until the screen is full.
    let mut shown: Vec<(bool, Line<'static>)> = Vec::new();
    while end > 0 && shown.len() < height {
        end -= 1;
        let Some(seen) = events.get(end) else { continue };
        let before = end.checked_sub(1).and_then(|index| events.get(index)).map(|seen| seen.number);
        let selected = model.feed.cursor.is_some() && end == at;
        let lines = lines(model, seen, before, &places, &mut clock);
        shown.extend(lines.into_iter().rev().map(|line| (selected, line)));
    }
    // The first of all events must be in sight with what is missing before it.
    if end == 0 && model.feed.cursor.is_some() {
        shown.drain(..shown.len().saturating_sub(height));
    }
    shown.truncate(height);
    let mut y = area.y.saturating_add(1);
    for (selected, line) in shown.iter().rev() {
        put(buffer, Rect { y, ..area }, line, *selected, look);
        y = y.saturating_add(1);
    }
    let at = Rect { y: area.bottom().saturating_sub(1), ..area };
    let note = Line::styled(look.clean(&note(model)).into_owned(), look.style(Tone::Quiet));
    put(buffer, at, &note, false, look);
}

/// What of the events is shown, in words.
pub(in crate::tui) fn note(model: &Model) -> String {
    let events = model.feed.events(model.kept(), model.until());
    let what = match model.feed.wanted {
        Wanted::All => "all events",
        Wanted::Failures => "failures only",
    };
    let (kept, total) = (events.len() as u64, model.kept().total());
    let mut note = match (model.feed.wanted, total) {
        (_, 0) => format!("{what}: none so far"),
        (Wanted::Failures, _) => format!("{what}: {} kept", thousands(kept)),
        (Wanted::All, _) if kept == total => format!("{what}: {}", thousands(kept)),
        (Wanted::All, _) => format!("{what}: {} of {} kept", thousands(kept), thousands(total)),
    };
    if !model.feed.search.is_empty() {
        note += &format!("; search {:?}: n, N", model.feed.search);
    }
    if model.feed.cursor.is_some() {
        let newer = events.len().saturating_sub(model.feed.at(&events) + 1) as u64;
        note += &format!("; {} newer below", thousands(newer));
    } else if matches!(model.time, Time::Live) && total > 0 {
        note += "; newest last";
    }
    note
}
