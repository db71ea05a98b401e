//! Styles, and what a terminal must not be given.

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

use super::{ASCII, FULL, PLAIN, build, draw, press, showing, tail, written};
use crate::{
    live::shot::Shot,
    tui::{model::Model, theme::Look},
};

/// Keys that lead to every pane and mode, one after another.
const TOUR: [&str; 14] = [
    "1",
    "j",
    "enter",
    "esc space",
    "space 2",
    "enter",
    "esc / ngi",
    "enter 3",
    "enter",
    "4",
    "f",
    "/ refu enter",
    "5",
    "?",
];

/// Every screen of a tour.
fn tour(look: Look, shot: Shot, name: &[u8], mut each: impl FnMut(&Model, &Buffer)) {
    let mut model = showing(look, [shot]);
    model.tail = tail::tail(30, name);
    for keys in TOUR {
        press(&mut model, keys);
        for (columns, rows) in [(60, 20), (80, 24), (200, 50)] {
            each(&model, &draw(&model, columns, rows));
        }
    }
}

/// The first cell of a text on the screen.
fn find<'a>(buffer: &'a Buffer, text: &str) -> &'a Cell {
    let symbols: Vec<&str> = buffer.content.iter().map(Cell::symbol).collect();
    let width = text.chars().count();
    let at = symbols.windows(width).position(|window| window.concat() == text);
    &buffer.content[at.unwrap_or_else(|| panic!("no {text:?}"))]
}

#[test]
fn what_is_critical_stands_out() {
    let buffer = draw(&showing(FULL, [build::several()]), 80, 24);
    let badge = find(&buffer, "CRITICAL");
    assert_eq!(badge.fg, Color::Red);
    assert!(badge.modifier.contains(Modifier::BOLD | Modifier::REVERSED));
    let warning = find(&buffer, "WARNING");
    assert_eq!(warning.fg, Color::Yellow);
    assert!(warning.modifier.contains(Modifier::BOLD));
    assert!(!warning.modifier.contains(Modifier::REVERSED));
    let losing = draw(&showing(PLAIN, [build::lossy()]), 80, 24);
    let lost = find(&losing, "LOST 3,204");
    assert!(lost.modifier.contains(Modifier::BOLD | Modifier::REVERSED));
}

#[test]
fn the_selected_row_is_reversed() {
    let mut model = showing(FULL, [build::incident()]);
    press(&mut model, "2 j");
    let buffer = draw(&model, 80, 24);
    assert!(find(&buffer, "10.0.0.12:8080").modifier.contains(Modifier::REVERSED));
    assert!(!find(&buffer, "10.0.0.9:9001").modifier.contains(Modifier::REVERSED));
    assert!(find(&buffer, "2 Upstreams").modifier.contains(Modifier::REVERSED));
    assert!(!find(&buffer, "3 Processes").modifier.contains(Modifier::REVERSED));
}

#[test]
fn what_was_searched_for_is_underlined() {
    let mut model = showing(PLAIN, [build::incident()]);
    model.tail = tail::tail(12, b"nginx");
    press(&mut model, "4 / refused enter");
    let buffer = draw(&model, 80, 24);
    assert!(find(&buffer, "connect: refused").modifier.contains(Modifier::UNDERLINED));
    assert!(!find(&buffer, "port-range").modifier.contains(Modifier::UNDERLINED));
}

#[test]
fn without_colour_there_is_none() {
    let allowed = Modifier::BOLD | Modifier::REVERSED | Modifier::UNDERLINED;
    for shot in [build::several(), build::lossy(), build::blind()] {
        tour(PLAIN, shot, b"nginx", |_, buffer| {
            for cell in &buffer.content {
                assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{cell:?}");
                assert!(allowed.contains(cell.modifier), "{cell:?}");
            }
        });
    }
}

#[test]
fn without_utf8_there_is_only_ascii() {
    for shot in [hostile(), build::lossy(), build::blind()] {
        tour(ASCII, shot, "wörk漢".as_bytes(), |_, buffer| {
            for cell in &buffer.content {
                assert!(cell.symbol().is_ascii(), "{cell:?}");
            }
        });
    }
}

const HOSTILE: [&[u8]; 5] = [
    b"a\x1b[31mred",
    "a\u{202e}b".as_bytes(),
    b"new\nline",
    "漢字漢字".as_bytes(),
    b"\xff\xfe\x9b",
];

/// A shot in which all foreign text is bad.
fn hostile() -> Shot {
    use std::sync::Arc;
    let mut shot = build::several();
    let names = HOSTILE.iter().cycle().map(|name| build::comm(name));
    for (process, name) in Arc::make_mut(&mut shot.processes).iter_mut().zip(names.clone()) {
        process.comm = name;
    }
    for (upstream, name) in Arc::make_mut(&mut shot.upstreams).iter_mut().zip(names) {
        upstream.processes = [(1, name, 3)].into();
    }
    let bad = "\u{1b}]0;owned\u{7}\u{202e}\n\u{feff}漢";
    shot.incidents[0].sentence += bad;
    shot.incidents[0].remedy.push(bad.to_owned());
    shot.unseen = Arc::new(vec![bad.to_owned()]);
    let mut judged = (*shot.gauges[0].judged).clone();
    judged.ceiling.notes.push(bad.to_owned());
    shot.gauges[0].judged = Arc::new(judged);
    shot
}

fn inert(text: &str) -> bool {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}')
    };
    !text.chars().any(bad)
}

#[test]
fn hostile_names_do_nothing() {
    let mut blind = hostile();
    blind.ground.blind = Some("no \u{1b}[2J\u{202e}".into());
    for shot in [hostile(), blind] {
        for name in HOSTILE {
            tour(FULL, shot.clone(), name, |model, buffer| {
                for cell in &buffer.content {
                    assert!(inert(cell.symbol()), "{cell:?}");
                }
                let mut model = model.clone();
                // While a filter is typed, keys are text.
                if !matches!(model.mode, crate::tui::model::Mode::Typing { .. }) {
                    let text = written(press(&mut model, "y"));
                    assert!(text.lines().all(inert), "{text:?}");
                }
            });
        }
    }
}

#[test]
fn a_typed_filter_does_nothing() {
    let mut model = showing(FULL, [build::incident()]);
    press(&mut model, "2 / \u{202e}\u{9b}x");
    for cell in &draw(&model, 80, 24).content {
        assert!(inert(cell.symbol()), "{cell:?}");
    }
    press(&mut model, "enter");
    assert!(written(press(&mut model, "y")).lines().all(inert));
}

#[test]
fn wide_names_keep_columns_aligned() {
    let mut model = showing(FULL, [hostile()]);
    press(&mut model, "3");
    let text = super::screen(&model, 80, 24);
    let rows: Vec<_> = text.lines().skip(3).take(5).map(super::super::text::width).collect();
    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
}
