//! Each pane and mode, as it looks.

use std::path::PathBuf;

use super::{ASCII, FULL, build, model, press, screen, showing, tail, written};
use crate::{
    live::shot::Shot,
    tui::{
        message::{Message, Recording},
        model::Model,
        theme::Look,
        update::update,
    },
};

/// The sizes that matter: a split window, a console, a large one.
const SIZES: [(u16, u16); 3] = [(60, 20), (80, 24), (200, 50)];

/// Compares a text with the one that was accepted.
fn same(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Compares a screen with the one that was accepted, in each of the sizes.
fn shown(name: &str, model: &mut Model, keys: &str) {
    for (columns, rows) in SIZES {
        let mut model = model.clone();
        update(&mut model, Message::Resize(columns, rows));
        press(&mut model, keys);
        same(&format!("{name}@{columns}x{rows}"), &screen(&model, columns, rows));
    }
}

fn with_events(look: Look, shot: Shot) -> Model {
    let mut model = showing(look, [shot]);
    model.tail = tail::tail(40, b"nginx");
    model
}

#[test]
fn empty() {
    shown("empty", &mut model(FULL), "");
    shown("empty_events", &mut model(FULL), "4");
    shown("nothing_there", &mut showing(FULL, [Shot::default()]), "2");
}

#[test]
fn overview() {
    shown("overview_calm", &mut showing(FULL, [build::calm()]), "");
    shown("overview_incident", &mut showing(FULL, [build::incident()]), "");
    shown("overview_several", &mut showing(FULL, [build::several()]), "");
    shown("overview_third_selected", &mut showing(FULL, [build::several()]), "j j");
    shown("overview_filtered", &mut showing(FULL, [build::several()]), "/ queue enter");
    shown("overview_lossy", &mut showing(FULL, [build::lossy()]), "");
    shown("overview_blind", &mut showing(FULL, [build::blind()]), "");
    shown("overview_ascii", &mut showing(ASCII, [build::several()]), "");
}

#[test]
fn details() {
    shown("incident", &mut with_events(FULL, build::several()), "enter");
    shown("incident_of_an_upstream", &mut with_events(FULL, build::several()), "j enter");
    shown("ceiling", &mut with_events(FULL, build::calm()), "enter");
    shown("upstream", &mut with_events(FULL, build::incident()), "2 enter");
    shown("upstream_lossy", &mut with_events(FULL, build::lossy()), "2 enter");
    shown("upstream_blind", &mut with_events(FULL, build::blind()), "2 enter");
    shown("upstream_ascii", &mut with_events(ASCII, build::incident()), "2 enter");
    shown("process", &mut with_events(FULL, build::incident()), "3 enter");
}

#[test]
fn upstreams() {
    shown("upstreams", &mut showing(FULL, [build::incident()]), "2");
    shown("upstreams_sorted", &mut showing(FULL, [build::incident()]), "2 s s s s S j");
    shown("upstreams_filtered", &mut showing(FULL, [build::incident()]), "2 / 9001 enter");
    shown("upstreams_typing", &mut showing(FULL, [build::incident()]), "2 / ngi");
    shown("upstreams_lossy", &mut showing(FULL, [build::lossy()]), "2");
    shown("upstreams_blind", &mut showing(FULL, [build::blind()]), "2");
    shown("upstreams_ascii", &mut showing(ASCII, [build::incident()]), "2");
    shown("upstreams_many", &mut showing(FULL, [build::many(10_000)]), "2 G");
}

#[test]
fn processes() {
    shown("processes", &mut showing(FULL, [build::incident()]), "3");
    shown("processes_filtered", &mut showing(FULL, [build::incident()]), "3 / nginx enter");
}

#[test]
fn events() {
    shown("events", &mut with_events(FULL, build::incident()), "4");
    shown("events_failures", &mut with_events(FULL, build::incident()), "4 f");
    shown("events_search", &mut with_events(FULL, build::incident()), "4 / refused enter N");
    shown("events_scrolled", &mut with_events(FULL, build::incident()), "4 g");
    shown("events_ascii", &mut with_events(ASCII, build::incident()), "4");
    let mut long = showing(FULL, [build::incident()]);
    long.tail = tail::tail(3_600, b"nginx");
    shown("events_not_kept", &mut long, "4 g");
}

#[test]
fn kernel() {
    shown("kernel", &mut showing(FULL, [build::calm()]), "5");
    shown("kernel_lossy", &mut showing(FULL, [build::lossy()]), "5");
    shown("kernel_blind", &mut showing(FULL, [build::blind()]), "5");
}

#[test]
fn help() {
    shown("help", &mut showing(FULL, [build::calm()]), "?");
    shown("help_below", &mut showing(ASCII, [build::calm()]), "? G");
}

#[test]
fn time_travel() {
    let shots = (0..130).map(|second| {
        build::later(if second < 100 { build::calm() } else { build::incident() }, second)
    });
    let mut model = showing(FULL, shots);
    model.tail = tail::tail(40, b"nginx");
    shown("paused", &mut model, "space");
    shown("paused_earlier", &mut model, "space left left [");
    shown("paused_earlier_upstreams", &mut model, "[ 2");
    shown("paused_at_the_end", &mut model, "space right");
}

#[test]
fn recording() {
    let mut model = showing(FULL, [build::lossy()]);
    let path = PathBuf::from("/var/tmp/socklife.cap");
    let recording = Recording { path, events: 120_411, bytes: 3_410_000, lost: 12 };
    update(&mut model, Message::Recording(Some(recording)));
    update(&mut model, Message::Notice("recording into /var/tmp/socklife.cap".to_owned()));
    shown("recording", &mut model, "");
}

#[test]
fn texts() {
    let text = |keys: &str| {
        let mut model = with_events(FULL, build::lossy());
        written(press(&mut model, keys))
    };
    same("text_overview", &text("y"));
    same("text_upstreams", &text("2 / 9001 enter s y"));
    same("text_processes", &text("3 y"));
    same("text_events", &text("4 f y"));
    same("text_upstream", &text("2 enter y"));
    same("text_kernel", &text("5 y"));
}
