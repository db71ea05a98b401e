//! What is wrong, in words, with what to do; and every kind of ceiling.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    doc::Doc,
    table::{put, row, titles},
};
use crate::{
    human::thousands,
    live::shot::{Incident, Shot},
    sink::check_text,
    tui::{
        columns::{gauges, layout},
        model::Model,
        spots::{self, Ceilings},
        text::Align,
        theme::{self, Tone},
    },
};

/// Lines of the table of ceilings: titles, and a line for each kind.
const TABLE: usize = 6;

/// Draws it.
pub(super) fn draw(model: &Model, shot: &Shot, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width).saturating_sub(2);
    let room = usize::from(area.height);
    let spots = spots::spots(model);
    let at = spots::at(model, &spots);
    let for_banner = room.saturating_sub(TABLE + 1).max(room.min(3));
    let mut next = area;
    for (selected, line) in banner(model, shot, at, width, for_banner) {
        put(buffer, next, &line, selected, model.look);
        next = below(next);
    }
    next = below(next);
    let ceilings = Ceilings::of(shot, &model.ceiling_filter, model.sight());
    let at = at.checked_sub(shot.incidents.len());
    table(model, shot, &ceilings, at, next, buffer);
}

fn below(area: Rect) -> Rect {
    let y = area.y.saturating_add(1).min(area.bottom());
    Rect { y, height: area.bottom() - y, ..area }
}

/// The incidents, worst first, and what to do about the selected one, in at most `room` lines; each with
/// whether it is the selected one's.
fn banner(
    model: &Model,
    shot: &Shot,
    at: usize,
    width: usize,
    room: usize,
) -> Vec<(bool, Line<'static>)> {
    if shot.incidents.is_empty() {
        let mut doc = Doc::new(model.look, width);
        calm(&mut doc, shot);
        return doc.lines().into_iter().map(|line| (false, line)).collect();
    }
    let blocks: Vec<_> =
        shot.incidents.iter().map(|incident| sentence(model, incident, width)).collect();
    // The selected one must be in sight, if need be instead of the worst.
    let count = |first: usize| {
        let mut taken = 0;
        let fits = blocks[first..].iter().take_while(|block| {
            taken += block.len();
            taken < room
        });
        fits.count().max(1)
    };
    let mut first = 0;
    while at < blocks.len() && first + count(first) <= at {
        first += 1;
    }
    let shown = first..(first + count(first)).min(blocks.len());
    let (above, under) = (shown.start, blocks.len() - shown.end);
    let mut lines: Vec<_> = Vec::new();
    for index in shown.clone() {
        let block = blocks[index].iter().cloned();
        lines.extend(block.map(|line| (index == at, line)));
    }
    lines.truncate(room);
    if above + under > 0 && lines.len() < room {
        let more = format!("and {} more incidents, above and below", above + under);
        lines.push((false, Line::styled(more, model.look.style(Tone::Strong))));
    }
    let of = if shown.contains(&at) { at } else { shown.start };
    let ways = remedy(model, &shot.incidents[of], width);
    let left = room.saturating_sub(lines.len());
    if left >= 2 && !ways.is_empty() {
        let fits = ways.len() < left;
        lines.push((false, Line::default()));
        let kept = if fits { ways.len() } else { left - 2 };
        lines.extend(ways.into_iter().take(kept).map(|line| (false, line)));
        if !fits {
            let more = Span::styled("enter: all of it", model.look.style(Tone::Quiet));
            lines.push((false, more.into()));
        }
    }
    lines
}

fn sentence(model: &Model, of: &Incident, width: usize) -> Vec<Line<'static>> {
    let mut doc = Doc::new(model.look, width);
    incident(&mut doc, of);
    doc.lines()
}

/// How bad it is, what it is, and how sure that is.
pub(in crate::tui) fn incident(doc: &mut Doc, incident: &Incident) {
    let (status, tone) = (incident.status, theme::of(incident.status));
    doc.badge(status.name(), Tone::Badge(status), &incident.sentence, tone);
    if let Some(doubt) = incident.doubt {
        let indent = " ".repeat(status.name().len());
        doc.badge(&indent, Tone::Plain, doubt, Tone::Quiet);
    }
}

fn remedy(model: &Model, incident: &Incident, width: usize) -> Vec<Line<'static>> {
    let mut doc = Doc::new(model.look, width);
    ways(&mut doc, &incident.remedy);
    doc.lines()
}

/// What to do: one of several ways.
pub(in crate::tui) fn ways(doc: &mut Doc, ways: &[String]) {
    for (index, way) in ways.iter().enumerate() {
        doc.beside(if index == 0 { "what to do" } else { "        or" }, 11, way, Tone::Plain);
    }
}

/// That nothing is wrong, and what comes next to it.
pub(in crate::tui) fn calm(doc: &mut Doc, shot: &Shot) {
    let status = super::header::status(shot);
    let fullest = shot.gauges.iter().filter(|gauge| !gauge.judged.ceiling.idle);
    let fullest =
        fullest.max_by(|a, b| a.judged.ceiling.ratio().total_cmp(&b.judged.ceiling.ratio()));
    let fullest = fullest.map_or_else(String::new, |gauge| {
        format!("; fullest: {}", check_text::headline(&gauge.judged.ceiling, shot.own_netns))
    });
    let what =
        if shot.ground.blind.is_some() { "nothing is known to fail" } else { "nothing fails" };
    doc.badge(status.name(), Tone::Badge(status), &format!("{what}{fullest}"), Tone::Plain);
}

fn table(
    model: &Model,
    shot: &Shot,
    ceilings: &Ceilings<'_>,
    at: Option<usize>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let (look, sight) = (model.look, model.sight());
    let places = layout(gauges::COLUMNS, None, usize::from(area.width).saturating_sub(1));
    let mut lines = vec![(false, titles(gauges::COLUMNS, &places, None, look))];
    let mut number = 0;
    for (kind, gauge) in &ceilings.kinds {
        if let Some(gauge) = gauge {
            let line = row(gauges::COLUMNS, &places, *gauge, sight);
            lines.push((at == Some(number), line));
            number += 1;
        } else if model.ceiling_filter.is_empty() {
            let name = look.fit(kind.name(), 15, Align::Left);
            let line = format!("{name} -        none here, or not seen");
            lines.push((false, Line::styled(line, look.style(Tone::Quiet))));
        }
    }
    if !ceilings.further.is_empty() {
        let title = if model.ceiling_filter.is_empty() { "further ones" } else { "others" };
        lines.push((false, Line::styled(title, look.style(Tone::Strong))));
    }
    for gauge in &ceilings.further {
        let line = row(gauges::COLUMNS, &places, *gauge, sight);
        lines.push((at == Some(number), line));
        number += 1;
    }
    let mut notes = Vec::new();
    if !model.ceiling_filter.is_empty() {
        let all = shot.gauges.len() as u64;
        notes.push(format!(
            "filter {:?}: {} of {} ceilings",
            model.ceiling_filter,
            thousands(number as u64),
            thousands(all)
        ));
    }
    if shot.left_out.gauges > 0 {
        notes.push(format!("{} emptier ones are not kept", thousands(shot.left_out.gauges)));
    }
    let height = usize::from(area.height);
    let selected = lines.iter().position(|(selected, _)| *selected).unwrap_or(0);
    let keep = height.saturating_sub(usize::from(!notes.is_empty()));
    let window = super::table::window(lines.len(), selected, keep);
    let mut next = area;
    for (selected, line) in &lines[window] {
        put(buffer, next, line, *selected, look);
        next = below(next);
    }
    if !notes.is_empty() && next.height > 0 {
        let line =
            Line::styled(look.clean(&notes.join("; ")).into_owned(), look.style(Tone::Quiet));
        put(buffer, next, &line, false, look);
    }
}
