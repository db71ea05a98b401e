//! `view(model)`: a frame. The header and the tabs, a pane, and the keys.

pub(super) mod detail;
pub(super) mod doc;
pub(super) mod events;
mod header;
pub(super) mod help;
pub(super) mod kernel;
pub(super) mod overview;
pub(super) mod replay;
pub(super) mod table;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    keys::{self, Action},
    model::{Mode, Model, Pane, Time},
    theme::{Look, Tone},
};
use doc::Doc;

/// The smallest terminal that one can work with.
const MIN: (u16, u16) = (40, 10);

/// Draws what the model says.
pub fn view(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < MIN.0 || area.height < MIN.1 {
        too_small(model, area, buffer);
        return;
    }
    let body = header::draw(model, area, buffer);
    let body = Rect { height: body.height.saturating_sub(1), ..body };
    draw(model, body, buffer);
    footer(model, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
}

/// Rows of a pane.
pub(super) fn rows(model: &Model) -> usize {
    let area = Rect::new(0, 0, model.size.0, model.size.1);
    usize::from(header::body(model, area).height.saturating_sub(1))
}

/// How far the text that is shown can be scrolled; `None`: no text is.
pub(super) fn last_scroll(model: &Model) -> Option<usize> {
    let lines = lines(model, usize::from(model.size.0).saturating_sub(2))?;
    Some(lines.len().saturating_sub(rows(model)))
}

/// The text that is shown, in lines of at most that width; `None`: a list is.
pub(super) fn lines(model: &Model, width: usize) -> Option<Vec<Line<'static>>> {
    let mut doc = Doc::new(model.look, width);
    match (&model.mode, model.pane) {
        (Mode::Help(_), _) => help::write(&mut doc, model.of(), model.look),
        (Mode::Detail(detail), _) => detail::write(model, detail, &mut doc),
        (Mode::Browse | Mode::Typing { .. } | Mode::GoTo { .. }, Pane::Kernel) => {
            kernel::write(model, &mut doc);
        }
        (Mode::Browse | Mode::Typing { .. } | Mode::GoTo { .. }, _) => return None,
    }
    Some(doc.lines())
}

fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if let (Some(way), false) = (replay::way(model), matches!(model.mode, Mode::Help(_))) {
        table::put(buffer, area, &Line::raw(way), false, model.look);
        return;
    }
    if let Some(lines) = lines(model, usize::from(area.width).saturating_sub(2)) {
        scrolled(model, &lines, area, buffer);
        return;
    }
    if model.pane == Pane::Events {
        events::draw(model, area, buffer);
        return;
    }
    let Some(shot) = model.shot() else {
        let line = Line::raw(nothing_yet(model));
        table::put(buffer, area, &line, false, model.look);
        return;
    };
    match model.pane {
        Pane::Overview => overview::draw(model, shot, area, buffer),
        Pane::Upstreams => {
            let left_out = shot.left_out.upstreams;
            table::draw(model, &model.upstreams, &shot.upstreams, left_out, area, buffer);
        }
        Pane::Processes => {
            let left_out = shot.left_out.processes;
            table::draw(model, &model.processes, &shot.processes, left_out, area, buffer);
        }
        Pane::Events | Pane::Kernel => {}
    }
}

/// What stands there before there is anything.
fn nothing_yet(model: &Model) -> &'static str {
    match model.replay {
        Some(_) => "reading the capture ...",
        None => "looking at this host ...",
    }
}

fn scrolled(model: &Model, lines: &[Line<'_>], area: Rect, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    let top = model.scroll.min(lines.len().saturating_sub(height));
    for (y, line) in (area.y..area.bottom()).zip(&lines[top..]) {
        table::put(buffer, Rect { y, ..area }, line, false, model.look);
    }
    if top + height < lines.len() {
        let below = (lines.len() + 1).saturating_sub(top + height);
        let more = format!("{} {below} more lines", model.look.either("↓", "v"));
        let last =
            Rect { y: area.bottom().saturating_sub(1), height: 1, ..area }.intersection(area);
        buffer.set_stringn(
            last.x,
            last.y,
            " ".repeat(usize::from(last.width)),
            last.width.into(),
            Style::new(),
        );
        let more = Line::styled(more, model.look.style(Tone::Strong));
        table::put(buffer, last, &more, false, model.look);
    }
}

fn footer(model: &Model, area: Rect, buffer: &mut Buffer) {
    let look = model.look;
    let mut line = Line::default();
    if let Mode::Typing { .. } | Mode::GoTo { .. } = model.mode {
        let what = match (&model.mode, model.pane) {
            (Mode::GoTo { .. }, _) => "go to (14:03:20, +90s, -30s, 35%)",
            (_, Pane::Events) => "search",
            _ => "filter",
        };
        let typed = look.clean(model.words()).into_owned();
        line.push_span(Span::styled(format!("{what}: {typed}"), look.style(Tone::Strong)));
        line.push_span(Span::styled(" ", Look::bar()));
        line.push_span(Span::raw("   "));
    } else if let Some(notice) = &model.notice {
        line.push_span(Span::styled(look.clean(notice).into_owned(), look.style(Tone::Strong)));
        table::put(buffer, area, &line, false, look);
        return;
    }
    let room = usize::from(area.width).saturating_sub(1);
    for (key, binding) in keys::hints(model.place(), model.of(), look) {
        let hint = match binding.action {
            Action::Pause if matches!(model.time, Time::Paused { .. }) => "live",
            Action::Play if model.replay.as_ref().is_some_and(|replay| replay.paused) => "play",
            Action::Record if model.recording.is_some() => "stop recording",
            _ => binding.hint,
        };
        let key = Span::styled(key, look.style(Tone::Strong));
        let hint = Span::raw(format!(" {hint}  "));
        if line.width() + key.width() + hint.width() > room + 2 {
            break;
        }
        line.extend([key, hint]);
    }
    table::put(buffer, area, &line, false, look);
}

fn too_small(model: &Model, area: Rect, buffer: &mut Buffer) {
    let look = model.look;
    let needed = format!("{} by {} at least", MIN.0, MIN.1);
    let status = model.shot().map_or("", |shot| header::status(shot).name());
    let there = format!("here: {} by {}", area.width, area.height);
    let lines = [status, "terminal too small:", needed.as_str(), there.as_str()];
    for (y, line) in (area.y..area.bottom()).zip(lines.iter().filter(|line| !line.is_empty())) {
        let line = look.cut(line, usize::from(area.width)).into_owned();
        buffer.set_stringn(area.x, y, line, usize::from(area.width), look.style(Tone::Strong));
    }
}
