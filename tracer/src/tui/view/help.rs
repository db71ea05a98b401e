//! The help: keys, marks, columns.

use super::doc::Doc;
use crate::{
    live::shot::{Process, Upstream},
    tui::{
        columns::{Column, events, gauges},
        keys::{Action, BINDINGS, Binding, Of, Place, name},
        rows::Row,
        theme::{Look, Tone},
    },
};

/// Columns of the names of keys.
const KEYS: usize = 20;

/// What marks say, in every pane.
const MARKS: [(&str, &str); 7] = [
    ("CRITICAL", "fails now, or 95 % of the limit are used (--fail)"),
    ("WARNING", "80 % of the limit are used (--warn)"),
    (
        "12+",
        "at least 12: events were lost, calls not looked at, or a hook is missing (5 says which)",
    ),
    ("~12", "inferred: concluded from other figures"),
    ("123?", "a process that was found in /proc afterwards; who opened the socket isn't known"),
    ("-", "not known, or no hook shows it"),
    ("LOST 12", "events that the kernel made and we did not get; 5 says what to do"),
];

/// From this width on the columns of tables stand beside the keys.
const WIDE: usize = 130;

/// Writes it.
pub(in crate::tui) fn write(doc: &mut Doc, shown: Of, look: Look) {
    if doc.width() >= WIDE {
        let half = doc.width() / 2 - 1;
        let (mut left, mut right) = (Doc::new(look, half), Doc::new(look, half));
        keys(&mut left, shown, look);
        tables(&mut right);
        doc.both(left, right, half);
    } else {
        keys(doc, shown, look);
        tables(doc);
    }
}

fn keys(doc: &mut Doc, shown: Of, look: Look) {
    let section = |doc: &mut Doc, look, title, wanted: &dyn Fn(&&Binding) -> bool| {
        section(doc, look, title, |b| b.is_of(shown) && wanted(b));
    };
    // What only controls the replay.
    let playing = |b: &&Binding| b.of == Of::Replay && b.action != Action::Top;
    if shown == Of::Replay {
        section(doc, look, "keys of the replay", &playing);
    }
    let anywhere =
        |b: &&Binding| !playing(b) && (b.places.contains(&Place::Help) || b.places.len() > 3);
    section(doc, look, "keys", &anywhere);
    let lists = |b: &&Binding| !playing(b) && !anywhere(b) && !b.places.contains(&Place::Typing);
    section(doc, look, "keys in lists", &|b| lists(b) && !b.places.contains(&Place::Events));
    section(doc, look, "keys in events", &|b| lists(b) && b.places.contains(&Place::Events));
    section(doc, look, "keys while one types", &|b| b.places.contains(&Place::Typing));
    doc.title("marks");
    for (mark, about) in MARKS {
        doc.beside(&format!("  {mark}"), KEYS, about, Tone::Plain);
    }
}

fn tables(doc: &mut Doc) {
    columns(doc, "ceilings", gauges::COLUMNS);
    columns(doc, "upstreams", Upstream::columns());
    columns(doc, "processes", Process::columns());
    columns(doc, "events", events::COLUMNS);
}

fn section(doc: &mut Doc, look: Look, title: &str, wanted: impl Fn(&&Binding) -> bool) {
    doc.title(title);
    for binding in BINDINGS.iter().filter(|binding| wanted(binding)) {
        let keys: Vec<_> = binding.keys.iter().map(|key| name(*key, look)).collect();
        doc.beside(&format!("  {}", keys.join(", ")), KEYS, binding.help, Tone::Plain);
    }
}

fn columns<R>(doc: &mut Doc, title: &str, columns: &[Column<R>]) {
    doc.title(&format!("columns of {title}"));
    for column in columns {
        doc.beside(&format!("  {}", column.title), KEYS, column.about, Tone::Plain);
    }
}
