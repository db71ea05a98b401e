//! What is listed as text, for a file: all of it, in the order that is shown.

use ratatui::text::Line;

use super::{
    columns::{self, Column, Sight},
    message::Effect,
    model::{Detail, Mode, Model, Pane, Time},
    rows::{Order, Row, Rows},
    spots::Ceilings,
    theme::Tone,
    view::{self, doc::Doc},
};
use crate::{
    human::thousands,
    live::shot::{Gauge, Shot},
};

/// Columns of a page of text.
const PAGE: usize = 120;

/// Writing what is listed.
pub(super) fn effect(model: &Model) -> Effect {
    let name = match (&model.mode, model.pane) {
        (Mode::Help(_), _) => "help",
        (Mode::Detail(Detail::Incident(_)), _) => "incident",
        (Mode::Detail(Detail::Ceiling(_)), _) => "ceiling",
        (Mode::Detail(Detail::Upstream(_)), _) => "upstream",
        (Mode::Detail(Detail::Process(_)), _) => "process",
        (_, Pane::Overview) => "overview",
        (_, Pane::Upstreams) => "upstreams",
        (_, Pane::Processes) => "processes",
        (_, Pane::Events) => "events",
        (_, Pane::Kernel) => "kernel",
    };
    let mut text = header(model, name);
    if let Some(lines) = view::lines(model, PAGE) {
        add_all(&mut text, &lines);
    } else if model.pane == Pane::Events {
        events(model, &mut text);
    } else if let Some(shot) = model.shot() {
        match model.pane {
            Pane::Upstreams => {
                table(model, &model.upstreams, &shot.upstreams, shot.left_out.upstreams, &mut text);
            }
            Pane::Processes => {
                table(model, &model.processes, &shot.processes, shot.left_out.processes, &mut text);
            }
            Pane::Overview | Pane::Events | Pane::Kernel => overview(model, shot, &mut text),
        }
    }
    Effect::WriteText { name, text }
}

fn header(model: &Model, name: &str) -> String {
    let mut clock = model.clock.clone();
    let time = model.shot().map_or_else(String::new, |shot| clock.rfc3339(shot.at_ns));
    let mut header = format!("socklife {name} {time}");
    match &model.replay {
        Some(replay) => {
            header += &model.look.clean(&view::replay::origin(replay));
            if let Some(flaw) = &replay.flaw {
                header += &format!("\n{}", model.look.clean(flaw));
            }
        }
        None if matches!(model.time, Time::Paused { .. }) => header += ", paused",
        None => {}
    }
    if let Some(shot) = model.shot() {
        if columns::is_lossy(shot) {
            let mut lost = crate::sink::text::told(&shot.ground.lost);
            if lost.is_empty() {
                lost.push("events are missing".to_owned());
            }
            header += &format!("\n{}; + means: at least", lost.join("\n"));
        }
        if let Some(why) = &shot.ground.blind {
            header += &format!("\nno events: {}", model.look.clean(why));
        }
    }
    header + "\n"
}

fn add_all(text: &mut String, lines: &[Line<'_>]) {
    for line in lines {
        add(text, line);
    }
}

fn add(text: &mut String, line: &Line<'_>) {
    let whole: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    text.push_str(whole.trim_end());
    text.push('\n');
}

fn table<R: Row>(model: &Model, table: &Rows<R>, rows: &[R], left_out: u64, text: &mut String) {
    let sorted = R::columns()[table.sort()].title;
    let way = match table.order() {
        Order::Usual => "",
        Order::Reversed => ", reversed",
    };
    let note = view::table::note(table, rows, left_out);
    *text += &format!("{}; sorted by {sorted}{way}\n\n", model.look.clean(&note));
    let shown: Vec<&R> = table.shown().iter().filter_map(|&index| rows.get(index)).collect();
    aligned(R::columns(), &shown, model.sight(), text);
}

/// All columns, each as wide as it has to be.
fn aligned<R>(columns: &[Column<R>], rows: &[&R], sight: Sight, text: &mut String) {
    let cells = |row: &&R| -> Vec<String> {
        let texts = columns.iter().map(|column| (column.cell)(row, sight).text);
        texts.map(|text| sight.look.clean(&text).into_owned()).collect()
    };
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let places = columns::whole(columns, &cells);
    for row in std::iter::once(&titles).chain(&cells) {
        let mut line = String::new();
        for (cell, &(index, width)) in row.iter().zip(&places) {
            line += &sight.look.fit(cell, width, columns[index].align);
            line += "  ";
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn overview(model: &Model, shot: &Shot, text: &mut String) {
    let mut doc = Doc::new(model.look, PAGE);
    for incident in &shot.incidents {
        doc.gap();
        view::overview::incident(&mut doc, incident);
        view::overview::ways(&mut doc, &incident.remedy);
    }
    if shot.incidents.is_empty() {
        view::overview::calm(&mut doc, shot);
    }
    if shot.left_out.incidents > 0 {
        doc.gap();
        let more = thousands(shot.left_out.incidents);
        doc.text(&format!("{more} more incidents like these are not kept"), Tone::Plain);
    }
    doc.gap();
    add_all(text, &doc.lines());
    let ceilings = Ceilings::of(shot, &model.ceiling_filter, model.sight());
    let kinds = ceilings.kinds.iter().filter_map(|(_, gauge)| *gauge);
    let rows: Vec<&Gauge> = kinds.chain(ceilings.further.iter().copied()).collect();
    if !model.ceiling_filter.is_empty() {
        *text += &format!("filter {:?}\n", model.look.clean(&model.ceiling_filter));
    }
    aligned(columns::gauges::COLUMNS, &rows, model.sight(), text);
}

fn events(model: &Model, text: &mut String) {
    *text += &format!("{}\n\n", model.look.clean(&view::events::note(model)));
    let events = model.feed.events(model.kept(), model.until());
    let mut clock = model.clock.clone();
    let columns = columns::events::COLUMNS;
    let places: Vec<(usize, usize)> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| (index, column.width + column.grow))
        .collect();
    add(text, &view::table::titles(columns, &places, None, model.look));
    let mut before = None;
    for seen in (0..events.len()).filter_map(|index| events.get(index)) {
        let lines = view::events::lines(model, seen, before, &places, &mut clock);
        add_all(text, &lines);
        before = Some(seen.number);
    }
}
