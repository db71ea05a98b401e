//! What is wrong, in words, with what to do; and every kind of ceiling.

use ratatui::{buffer::Buffer, layout::Rect, text::Line};

use super::{
    doc::Doc,
    table::{put, row, titles},
};
use crate::{
    ceilings::Kind,
    human::{thousands, time_left},
    live::shot::{Gauge, Incident, Shot},
    sink::check_text,
    tui::{
        columns::{Column, Sight, gauges, layout},
        keys::{self, Action},
        model::Model,
        rows::{Row, Rows},
        spots::{self, Ceilings},
        text::Align,
        theme::{self, Tone},
    },
};

/// Lines of the table of ceilings: titles, and a line for each kind.
const TABLE: usize = 1 + Kind::ALL.len();

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
    next = table(model, shot, &ceilings, at, next, buffer);
    if shot.ground.blind.is_none() {
        next = failing(model, &model.upstreams, &shot.upstreams, next, buffer);
        failing(model, &model.processes, &shot.processes, next, buffer);
    }
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
    let left_out = shot.left_out.incidents;
    if (above + under > 0 || left_out > 0) && lines.len() < room {
        let places = [
            (above as u64, "above"),
            (under as u64, "below"),
            (left_out, "like these that are not kept"),
        ];
        let places = places.into_iter().filter(|&(count, _)| count > 0);
        let places: Vec<_> =
            places.map(|(count, place)| format!("{} {place}", thousands(count))).collect();
        let more = format!("more incidents: {}", places.join(", "));
        lines.push((false, Line::styled(more, model.look.style(Tone::Strong))));
    }
    lines.truncate(room);
    let (of, whose) =
        if shown.contains(&at) { (at, "the marked one") } else { (shown.start, "the first") };
    let title = if blocks.len() > 1 { format!("about {whose}") } else { String::new() };
    let remedy =
        remedy(model, &shot.incidents[of].remedy, width, room.saturating_sub(lines.len() + 1));
    if !remedy.is_empty() {
        lines.push((false, Line::styled(title, model.look.style(Tone::Strong))));
        lines.extend(remedy.into_iter().map(|line| (false, line)));
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
        doc.badge("", Tone::Plain, doubt, Tone::Quiet);
    }
}

/// As many ways as there is room for: half a command is worse than none.
fn remedy(model: &Model, all: &[String], width: usize, room: usize) -> Vec<Line<'static>> {
    let written = |count: usize| {
        let mut doc = Doc::new(model.look, width);
        ways(&mut doc, &all[..count]);
        if count < all.len() {
            let what = if count == 0 { "what to do" } else { "all of it" };
            let hint = format!("{}: {what}", keys::first(Action::Open, model.look));
            doc.beside("", 11, &hint, Tone::Quiet);
        }
        doc.lines()
    };
    let fits = (0..=all.len()).rev().map(written).find(|lines| lines.len() <= room);
    fits.unwrap_or_default()
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
    let soonest = shot.gauges.iter().filter_map(|gauge| {
        let ceiling = &gauge.judged.ceiling;
        Some((ceiling.forecast.as_ref()?.seconds, ceiling)).filter(|_| ceiling.headroom() > 0)
    });
    let next = soonest.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(fullest, |(seconds, ceiling)| {
        let (kind, of) = (ceiling.subject.kind().name(), gauges::name(ceiling, shot.own_netns));
        format!("; first to be full, in {}: {kind} {of}", time_left(seconds))
    });
    let what =
        if shot.ground.blind.is_some() { "nothing is known to fail" } else { "nothing fails" };
    doc.badge(status.name(), Tone::Badge(status), &format!("{what}{next}"), Tone::Plain);
}

fn table(
    model: &Model,
    shot: &Shot,
    ceilings: &Ceilings<'_>,
    at: Option<usize>,
    area: Rect,
    buffer: &mut Buffer,
) -> Rect {
    let look = model.look;
    let room = usize::from(area.width).saturating_sub(1);
    let gauges: usize = ceilings.all().count();
    let tall = usize::from(area.height) > 2 * gauges + 3;
    let form = Form::of(room, tall);
    let mut lines = vec![(false, titles(form.columns(), &form.places(room), None, look))];
    let mut number = 0;
    for (kind, gauge) in &ceilings.kinds {
        if let Some(gauge) = gauge {
            let these = form.lines(gauge, room, model.sight());
            lines.extend(these.into_iter().map(|line| (at == Some(number), line)));
            number += 1;
        } else if model.ceiling_filter.is_empty() {
            let name = look.fit(kind.name(), 17, Align::Left);
            let line = format!("{name} -        none here, or not seen");
            lines.push((false, Line::styled(line, look.style(Tone::Quiet))));
        }
    }
    if !ceilings.further.is_empty() {
        let count = thousands(ceilings.further.len() as u64);
        let title = if model.ceiling_filter.is_empty() {
            format!("further ones that need a look: {count}")
        } else {
            format!("others: {count}")
        };
        lines.push((false, Line::styled(title, look.style(Tone::Strong))));
    }
    for gauge in &ceilings.further {
        let these = form.lines(gauge, room, model.sight());
        lines.extend(these.into_iter().map(|line| (at == Some(number), line)));
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
        notes.push(format!("{} others are not kept", thousands(shot.left_out.gauges)));
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
        next = below(next);
    }
    next
}

/// In how many lines a ceiling stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Two,
}

impl Form {
    fn of(room: usize, tall: bool) -> Self {
        let all = layout(gauges::COLUMNS, None, room).len() == gauges::COLUMNS.len();
        if tall && !all { Self::Two } else { Self::One }
    }

    fn columns(self) -> &'static [Column<Gauge>] {
        match self {
            Self::One => gauges::COLUMNS,
            Self::Two => &gauges::COLUMNS[..gauges::FIRST_LINE],
        }
    }

    fn places(self, room: usize) -> Vec<(usize, usize)> {
        layout(self.columns(), None, room)
    }

    fn lines(self, gauge: &Gauge, room: usize, sight: Sight) -> Vec<Line<'static>> {
        let mut lines = vec![row(self.columns(), &self.places(room), gauge, sight)];
        if self == Self::Two {
            let ceiling = &gauge.judged.ceiling;
            let of = gauges::name(ceiling, sight.own_netns);
            let (used, limit) = (thousands(ceiling.used), thousands(ceiling.limit));
            let text = format!("  {}{used} of {limit}: {of}", gauges::mark(ceiling));
            let text = sight.look.cut(&sight.look.clean(&text), room).into_owned();
            lines.push(Line::styled(text, sight.look.style(Tone::Quiet)));
        }
        lines
    }
}

/// The rows that fail most, where there is room.
fn failing<R: Row>(
    model: &Model,
    table: &Rows<R>,
    rows: &[R],
    area: Rect,
    buffer: &mut Buffer,
) -> Rect {
    let most = usize::from(area.height).saturating_sub(3);
    if table.failing().is_empty() || most == 0 {
        return area;
    }
    let columns = R::columns();
    let places = layout(columns, None, usize::from(area.width).saturating_sub(1));
    let mut next = below(area);
    let title = Line::styled(
        format!("{} with failures, most first", R::NAME),
        model.look.style(Tone::Strong),
    );
    put(buffer, next, &title, false, model.look);
    next = below(next);
    put(buffer, next, &titles(columns, &places, None, model.look), false, model.look);
    for found in table.failing().iter().take(most).filter_map(|&index| rows.get(index)) {
        next = below(next);
        put(buffer, next, &row(columns, &places, found, model.sight()), false, model.look);
    }
    below(next)
}
