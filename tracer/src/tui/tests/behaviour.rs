//! What keys and seconds change.

use std::collections::HashSet;

use super::{ASCII, FULL, build, model, press, screen, showing, tail, written};
use crate::{
    live::tail::Seen,
    tui::{
        columns::{self, events},
        keys::{BINDINGS, Binding, Of, Place, find, hints, name},
        message::{Effect, Message, Recording},
        model::{Mode, Model, Pane},
        rows::Row,
        theme::Look,
        update::update,
        view,
    },
};

const PLACES: [Place; 7] = [
    Place::Overview,
    Place::Table,
    Place::Events,
    Place::Kernel,
    Place::Detail,
    Place::Help,
    Place::Typing,
];

#[test]
fn no_key_is_bound_twice() {
    for (place, shown) in PLACES.into_iter().flat_map(|it| [(it, Of::Live), (it, Of::Replay)]) {
        let mut seen = HashSet::new();
        let there = |binding: &&Binding| binding.is_of(shown) && binding.places.contains(&place);
        for binding in BINDINGS.iter().filter(there) {
            for key in binding.keys {
                assert!(seen.insert(*key), "{place:?}: {key:?}");
            }
        }
    }
}

#[test]
fn every_key_does_what_the_help_says() {
    let help = |shown: Of| {
        let mut model = model(FULL);
        model.replay = (shown == Of::Replay).then(Default::default);
        update(&mut model, Message::Resize(120, 500));
        press(&mut model, "?");
        screen(&model, 120, 500)
    };
    let helps = [Of::Live, Of::Replay].map(|shown| (shown, help(shown)));
    let all = helps
        .iter()
        .flat_map(|(shown, help)| BINDINGS.iter().map(move |binding| (*shown, help, binding)));
    for (shown, help, binding) in all {
        assert!(!binding.places.is_empty() && !binding.keys.is_empty());
        let keys: Vec<_> = binding.keys.iter().map(|key| name(*key, FULL)).collect();
        let line = help
            .lines()
            .find(|line| line.trim().starts_with(&keys.join(", ")) && line.ends_with(binding.help));
        assert_eq!(line.is_some(), binding.is_of(shown), "{keys:?}: {help}");
        if line.is_none() {
            continue;
        }
        for (&place, &(code, modifiers)) in binding.places.iter().zip(binding.keys.iter().cycle()) {
            let key = ratatui::crossterm::event::KeyEvent::new(code, modifiers);
            assert_eq!(find(&key, place, shown), Some(binding.action));
        }
    }
    for column in columns::gauges::COLUMNS {
        assert!(helps[0].1.contains(column.about));
    }
}

#[test]
fn the_footer_says_how_to_get_help_and_out() {
    for place in PLACES.into_iter().filter(|place| *place != Place::Typing) {
        let first: Vec<_> =
            hints(place, Of::Live, ASCII).take(2).map(|(_, binding)| binding.hint).collect();
        assert_eq!(first, ["help", "quit"]);
    }
}

#[test]
fn keys_have_effects() {
    let mut model = showing(FULL, [build::incident()]);
    assert_eq!(press(&mut model, "q"), [Effect::Quit]);
    assert_eq!(press(&mut model, "ctrl-c"), [Effect::Quit]);
    assert_eq!(press(&mut model, "ctrl-z"), [Effect::Suspend]);
    assert_eq!(press(&mut model, "r"), [Effect::StartRecording]);
    let recording = Recording { path: "/tmp/x".into(), events: 0, bytes: 0, lost: 0 };
    update(&mut model, Message::Recording(Some(recording)));
    assert_eq!(press(&mut model, "r"), [Effect::StopRecording]);
    // In a filter they are letters, but for the way out.
    assert_eq!(press(&mut model, "2 / q r"), []);
    assert_eq!(model.words(), "qr");
    assert_eq!(press(&mut model, "ctrl-c"), [Effect::Quit]);
}

#[test]
fn panes_are_a_circle() {
    let mut model = showing(FULL, [build::incident()]);
    press(&mut model, "tab tab");
    assert_eq!(model.pane, Pane::Processes);
    press(&mut model, "shift-tab shift-tab shift-tab");
    assert_eq!(model.pane, Pane::Kernel);
    press(&mut model, "tab");
    assert_eq!(model.pane, Pane::Overview);
    press(&mut model, "2 enter 4");
    assert_eq!((model.pane, &model.mode), (Pane::Events, &Mode::Browse));
}

fn selected(model: &Model) -> String {
    let text = screen(model, 80, 24);
    let line = text.lines().find(|line| line.starts_with('▸')).unwrap_or_default();
    line.trim_start_matches('▸').split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn the_selection_stays_on_its_row() {
    let mut model = showing(FULL, [build::incident()]);
    press(&mut model, "2");
    assert_eq!(selected(&model), "10.0.0.9:9001");
    press(&mut model, "j j");
    assert_eq!(selected(&model), "10.0.0.10:9001");
    for keys in ["s", "s s", "S", "< <"] {
        press(&mut model, keys);
        assert_eq!(selected(&model), "10.0.0.10:9001", "{keys}");
    }
    let mut shot = build::later(build::incident(), 1);
    std::sync::Arc::make_mut(&mut shot.upstreams).reverse();
    update(&mut model, Message::Shot(Box::new(shot)));
    assert_eq!(selected(&model), "10.0.0.10:9001");
    // Nobody has chosen one: the worst is selected, whichever it is.
    press(&mut model, "esc");
    assert_eq!(model.upstreams.at(), 0);
}

#[test]
fn every_incident_can_be_reached() {
    let mut shot = build::several();
    // Two that are about the same.
    let mut same = shot.incidents[1].clone();
    same.sentence = "the same again".to_owned();
    shot.incidents.insert(2, same);
    let all = shot.incidents.len() + shot.gauges.len();
    let mut model = showing(FULL, [shot]);
    let mut seen = Vec::new();
    for _ in 0..all {
        let text = screen(&model, 200, 50);
        seen.push(text.lines().find(|line| line.starts_with('▸')).unwrap().to_owned());
        press(&mut model, "j");
    }
    assert!(seen[2].contains("the same again"), "{seen:#?}");
    assert!(seen[3].contains("files open"), "{seen:#?}");
    press(&mut model, "g j j enter");
    assert!(screen(&model, 80, 24).contains("the same again"));
    // The last one is not passed, and each line was met once.
    press(&mut model, "esc G");
    let last =
        screen(&model, 200, 50).lines().rfind(|line| line.starts_with('▸')).unwrap().to_owned();
    assert_eq!(seen.iter().filter(|line| **line == last).count(), 3, "{seen:#?}");
}

#[test]
fn every_column_sorts() {
    let mut model = showing(FULL, [build::incident()]);
    update(&mut model, Message::Resize(200, 50));
    for pane in ["2", "3"] {
        press(&mut model, pane);
        let mut marked = HashSet::new();
        let count = if pane == "2" {
            crate::live::shot::Upstream::columns().len()
        } else {
            crate::live::shot::Process::columns().len()
        };
        for _ in 0..count {
            press(&mut model, "s");
            // It is shown on the narrowest screen too.
            for columns in [40, 200] {
                let text = screen(&model, columns, 24);
                let titles = text.lines().nth(2).unwrap();
                let title =
                    titles.split(' ').find(|title| title.ends_with('▼')).unwrap_or_default();
                assert!(!title.is_empty(), "{titles}");
                if columns == 200 {
                    marked.insert(title.to_owned());
                }
            }
        }
        assert!(marked.len() >= count - 1, "{marked:?}");
    }
}

#[test]
fn filters_count_and_go() {
    let mut model = showing(FULL, [build::incident()]);
    press(&mut model, "2 / PHP");
    assert!(screen(&model, 80, 24).contains("filter \"PHP\": 1 of 8 rows"));
    press(&mut model, "esc");
    assert!(screen(&model, 80, 24).contains("8 upstreams"));
    press(&mut model, "/ nginx space");
    assert_eq!(model.words(), "nginx ");
    press(&mut model, "backspace refused enter");
    assert_eq!(model.words(), "nginxrefused");
    press(&mut model, "esc");
    assert_eq!(model.words(), "");
}

#[test]
fn searching_goes_both_ways() {
    let mut model = showing(FULL, [build::incident()]);
    model.tail = tail::tail(40, b"nginx");
    press(&mut model, "4 / Refused enter");
    let newest = model.feed.cursor.unwrap();
    press(&mut model, "N N");
    let older = model.feed.cursor.unwrap();
    assert!(older < newest);
    press(&mut model, "n n");
    assert_eq!(model.feed.cursor, Some(newest));
    press(&mut model, "n");
    assert!(screen(&model, 80, 24).contains("no further event with \"Refused\""));
    press(&mut model, "/ ctrl-u nothing enter");
    assert!(screen(&model, 80, 24).contains("no event with \"nothing\""));
    press(&mut model, "esc");
    assert_eq!(model.feed.search, "");
    press(&mut model, "esc");
    assert_eq!(model.feed.cursor, None);
}

#[test]
fn missing_events_are_counted() {
    let model = model(FULL);
    let seen = |number| Seen { number, ..tail::tail(1, b"nginx").all()[0] };
    let places = columns::layout(events::COLUMNS, None, 79);
    let mut clock = model.clock.clone();
    let mut text = |number, before| -> Vec<String> {
        let lines = view::events::lines(&model, &seen(number), before, &places, &mut clock);
        lines.iter().map(ToString::to_string).collect()
    };
    assert_eq!(text(5, Some(4)).len(), 1);
    assert_eq!(text(3_300, Some(95))[0], "… 3,204 events not kept …");
    assert_eq!(text(7, None)[0], "… 7 events not kept …");
}

#[test]
fn loss_is_named_on_every_pane() {
    let mut model = showing(FULL, [build::lossy()]);
    for keys in ["1", "2", "3", "4", "5", "?", "1 enter", "esc space"] {
        press(&mut model, keys);
        assert!(screen(&model, 60, 20).lines().next().unwrap().contains("LOST 3,204, LOSING NOW"));
    }
}

#[test]
fn what_a_missing_hook_hides_is_marked() {
    use crate::kernel::ladder::Hooked;
    let mut shot = build::incident();
    let missing = |hooked: Hooked| (hooked.unseen().into(), "no such function".to_owned());
    shot.ground.unhooked = std::sync::Arc::new(vec![missing(Hooked::Bind)]);
    let mut model = showing(FULL, [shot.clone()]);
    press(&mut model, "2");
    assert!(!screen(&model, 200, 20).contains("412+"));
    press(&mut model, "3");
    let text = screen(&model, 200, 20);
    // Served connections are known.
    assert!(text.contains("380+") && text.contains(" 212 "), "{text}");
    shot.ground.unhooked = std::sync::Arc::new(vec![missing(Hooked::Connect)]);
    update(&mut model, Message::Shot(Box::new(build::later(shot, 1))));
    press(&mut model, "2");
    let text = screen(&model, 200, 20);
    assert!(text.contains("412+") && text.contains(" 470 "), "{text}");
}

#[test]
fn rates_are_not_known_at_once() {
    let mut shot = build::incident();
    shot.rates_s = 0.0;
    let mut model = showing(FULL, [shot]);
    press(&mut model, "2");
    let text = screen(&model, 200, 20);
    assert!(text.contains("12,420") && !text.contains(" 412 "), "{text}");
}

#[test]
fn a_written_table_has_all_rows() {
    let mut model = showing(FULL, [build::many(2_000)]);
    let text = written(press(&mut model, "2 y"));
    assert_eq!(text.lines().count(), 2_000 + 4, "{}", &text[..300]);
    let text = written(press(&mut model, "/ 10.0.1. enter y"));
    assert!(text.contains("filter \"10.0.1.\": 256 of 2,000 rows; sorted by FAIL/S"));
    assert_eq!(text.lines().count(), 256 + 4);
}

#[test]
fn looks_can_be_had_without_anything() {
    for look in [FULL, ASCII, Look { colour: true, utf8: false }] {
        assert!(screen(&model(look), 80, 24).contains("looking at this host"));
    }
}
