//! The view as a person meets it: shots and keys go in, screens and effects come out.

mod behaviour;
mod build;
mod captured;
mod screens;
mod sizes;
mod styles;
mod tail;
mod time;

use jiff::tz::TimeZone;
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    message::{Effect, Message},
    model::Model,
    theme::Look,
    update::update,
    view::view,
};
use crate::{live::shot::Shot, sink::clock::Clock};

pub(crate) const FULL: Look = Look { colour: true, utf8: true };
pub(crate) const PLAIN: Look = Look { colour: false, utf8: true };
pub(crate) const ASCII: Look = Look { colour: false, utf8: false };

/// A model on a host that was started on 2026-03-14 at 03:00 UTC.
pub(crate) fn model(look: Look) -> Model {
    Model::new(look, Clock::new(1_773_457_200_000_000_000, TimeZone::UTC))
}

/// A model that was given these shots.
pub(crate) fn showing(look: Look, shots: impl IntoIterator<Item = Shot>) -> Model {
    let mut model = model(look);
    for shot in shots {
        update(&mut model, Message::Shot(Box::new(shot)));
    }
    model
}

/// Presses keys, with spaces between them: `2 s s enter`; other words are typed.
pub(crate) fn press(model: &mut Model, keys: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut send = |code, modifiers| {
        effects.extend(update(model, Message::Key(KeyEvent::new(code, modifiers))));
    };
    for word in keys.split_whitespace() {
        let code = match word {
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "tab" => KeyCode::Tab,
            "shift-tab" => KeyCode::BackTab,
            "space" => KeyCode::Char(' '),
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "backspace" => KeyCode::Backspace,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "pagedown" => KeyCode::PageDown,
            _ => {
                if let Some(letter) = word.strip_prefix("ctrl-") {
                    let letter = letter.chars().next().unwrap();
                    send(KeyCode::Char(letter), KeyModifiers::CONTROL);
                } else {
                    for letter in word.chars() {
                        send(KeyCode::Char(letter), KeyModifiers::NONE);
                    }
                }
                continue;
            }
        };
        send(code, KeyModifiers::NONE);
    }
    effects
}

/// A frame of that size.
pub(crate) fn draw(model: &Model, columns: u16, rows: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| view(model, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The frame as text, a line for each row.
pub(crate) fn screen(model: &Model, columns: u16, rows: u16) -> String {
    let buffer = draw(model, columns, rows);
    let mut text = String::new();
    for y in 0..rows {
        let mut line = String::new();
        let mut x = 0;
        while x < columns {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            // What follows a wide character is its other half.
            x += u16::try_from(super::text::width(symbol).max(1)).unwrap();
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The text that a key wants written.
pub(crate) fn written(effects: Vec<Effect>) -> String {
    match effects.into_iter().next() {
        Some(Effect::WriteText { text, .. }) => text,
        other => panic!("no text: {other:?}"),
    }
}
