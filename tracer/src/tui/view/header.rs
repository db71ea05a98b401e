//! The head of every pane: how bad it is, what was lost, whether it is recorded; the tabs; and bars for what
//! changes the meaning of all below: a moment that has passed, events that are missing.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{replay, table::put};
use crate::{
    ceilings::thresholds::Status,
    human::{thousands, time_left},
    live::shot::Shot,
    tui::{
        columns::{is_lossy, rate},
        keys::{self, Action},
        message::Recording,
        model::{Model, Pane, Time},
        text::{bytes, wrap},
        theme::{Look, Tone},
    },
};

/// From this width on there is room for our name.
const NARROW: u16 = 60;
/// Lines that say why there are no events.
const MAX_BLIND: usize = 3;

/// How bad the worst of it is.
pub(super) fn status(shot: &Shot) -> Status {
    let incidents = shot.incidents.iter().map(|incident| incident.status);
    let gauges = shot.gauges.iter().map(|gauge| gauge.judged.status);
    let worst = incidents.chain(gauges).max().unwrap_or(Status::Unknown);
    // Without events nobody knows whether anything fails.
    if shot.ground.blind.is_some() { worst.max(Status::Unknown) } else { worst }
}

/// What is left for a pane.
pub(super) fn body(model: &Model, area: Rect) -> Rect {
    let bars = u16::from(model.replay.is_some() || matches!(model.time, Time::Paused { .. }));
    let warnings = warnings(model, area.width).len();
    let above = 2 + bars + u16::try_from(warnings).unwrap_or(0);
    let y = area.y.saturating_add(above).min(area.bottom());
    Rect { y, height: area.bottom() - y, ..area }
}

/// Draws it; gives what is left.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) -> Rect {
    put(buffer, area, &summary(model, area.width), false, model.look);
    let mut next = Rect { y: area.y + 1, ..area };
    put(buffer, next, &tabs(model), false, model.look);
    let bar = match &model.replay {
        Some(at) => Some(replay::bar(model, at, area.width)),
        None => paused(model, area.width),
    };
    if let Some(line) = bar {
        next.y += 1;
        put(buffer, next, &line, false, model.look);
        buffer.set_style(Rect { height: 1, ..next }, Look::bar());
    }
    for line in warnings(model, area.width) {
        next.y += 1;
        let line = Span::styled(line, model.look.style(Tone::Warning)).into();
        put(buffer, next, &line, false, model.look);
    }
    body(model, area)
}

/// One line; what matters most stands there on the narrowest terminal.
fn summary(model: &Model, columns: u16) -> Line<'static> {
    let look = model.look;
    let room = usize::from(columns).saturating_sub(2);
    let mut line = Line::default();
    if columns >= NARROW {
        line.push_span(Span::styled("socklife ", look.style(Tone::Strong)));
    }
    let mut clock = model.clock.clone();
    let mut parts = Vec::new();
    if let Some(shot) = model.shot() {
        let status = status(shot);
        let badge = Span::styled(format!(" {} ", status.name()), look.style(Tone::Badge(status)));
        line.push_span(badge);
        parts.extend(lost(shot));
    }
    parts.extend(model.recording.as_ref().map(|recording| (recorded(recording), Tone::Strong)));
    if let Some(shot) = model.shot() {
        match shot.incidents.len() as u64 + shot.left_out.incidents {
            0 => {}
            1 => parts.push(("1 incident".to_owned(), Tone::Plain)),
            some => parts.push((format!("{some} incidents"), Tone::Plain)),
        }
        if shot.ground.blind.is_none() {
            let per_s = format!("{} events/s", rate(shot.ground.events_per_s));
            parts.push((per_s, Tone::Plain));
        }
    }
    for (text, tone) in parts {
        let left = room.saturating_sub(line.width() + 2);
        if text.len() <= left || text.contains("LOST") {
            let text = look.cut(&text, left).into_owned();
            line.extend([Span::raw("  "), Span::styled(text, look.style(tone))]);
        }
    }
    if let Some(shot) = model.shot() {
        let time = clock.time_of_day(shot.at_ns);
        if line.width() + 2 + time.len() <= room {
            line.push_span(Span::raw(" ".repeat(room - line.width() - time.len())));
            line.push_span(Span::raw(time));
        }
    }
    line
}

fn lost(shot: &Shot) -> Option<(String, Tone)> {
    let ground = &shot.ground;
    if !is_lossy(shot) {
        return None;
    }
    let events = match ground.lost.events() {
        0 if ground.lost.calls == 0 => "EVENTS MISSING".to_owned(),
        0 => format!("{} CALLS NOT SEEN", thousands(ground.lost.calls)),
        events => format!("LOST {}", thousands(events)),
    };
    Some(if ground.losing {
        (format!(" {events}, LOSING NOW "), Tone::Badge(Status::Critical))
    } else {
        (events, Tone::Warning)
    })
}

fn recorded(recording: &Recording) -> String {
    let written = format!("REC {}", bytes(recording.bytes));
    match recording.lost {
        0 => written,
        lost => format!("{written}, {} NOT WRITTEN", thousands(lost)),
    }
}

fn tabs(model: &Model) -> Line<'static> {
    let mut line = Line::default();
    for (index, pane) in Pane::ALL.into_iter().enumerate() {
        let tab = format!(" {} {} ", index + 1, pane.title());
        line.push_span(if pane == model.pane {
            Span::styled(tab, Look::bar())
        } else {
            Span::raw(tab)
        });
    }
    line
}

fn paused(model: &Model, columns: u16) -> Option<Line<'static>> {
    let Time::Paused { shot, .. } = &model.time else { return None };
    let newest = model.archive.newest().map_or(shot.at_ns, |newest| newest.at_ns);
    let back_s = newest.saturating_sub(shot.at_ns) / 1_000_000_000;
    let time = model.clock.clone().day_and_time(shot.at_ns);
    #[expect(clippy::cast_precision_loss, reason = "at most some minutes")]
    let back = time_left(back_s as f64);
    let mut line = Line::raw(format!("PAUSED  {time}  {back} back"));
    let key = |action| keys::first(action, model.look);
    let keys = [
        format!("{} live", key(Action::Pause)),
        format!("{} {} 1 s", key(Action::SecondBack), key(Action::SecondForward)),
        format!("{} {} 1 min", key(Action::MinuteBack), key(Action::MinuteForward)),
    ];
    for part in keys {
        let span = Span::raw(format!("   {part}"));
        if line.width() + span.width() < usize::from(columns) {
            line.push_span(span);
        }
    }
    Some(line)
}

/// Why there are no events, or what of a recording is missing.
fn warnings(model: &Model, columns: u16) -> Vec<String> {
    let flaw = model.replay.as_ref().and_then(|replay| replay.flaw.as_ref());
    let blind = model.shot().and_then(|shot| shot.ground.blind.as_ref());
    let Some(text) = flaw.map(ToString::to_string).or(blind.map(|why| format!("NO EVENTS: {why}")))
    else {
        return Vec::new();
    };
    let room = usize::from(columns).saturating_sub(2);
    let mut lines = wrap(&model.look.clean(&text), room);
    if lines.len() > MAX_BLIND {
        // The kernel's pane has all of it.
        let rest = lines.split_off(MAX_BLIND - 1).join(" ");
        lines.push(model.look.cut(&rest, room).into_owned());
    }
    lines
}
