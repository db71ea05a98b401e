//! How things look: never by colour alone, and without colour by bold, reverse and underlined only.

use ratatui::style::{Color, Modifier, Style};

use crate::ceilings::thresholds::Status;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colours are wanted.
    pub colour: bool,
    /// UTF-8 is understood; else everything is ASCII.
    pub utf8: bool,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Text.
    #[default]
    Plain,
    /// Titles.
    Strong,
    /// What matters less.
    Quiet,
    /// Something that needs a look.
    Warning,
    /// Something that fails.
    Bad,
    /// What was searched for.
    Found,
    /// A word that says how bad it is.
    Badge(Status),
}

impl Look {
    /// The style of a tone.
    pub(super) fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        match tone {
            // Not every terminal without colour dims what still can be read.
            Tone::Quiet if self.colour => plain.add_modifier(Modifier::DIM),
            Tone::Plain | Tone::Quiet | Tone::Badge(Status::Ok) => plain,
            Tone::Strong => plain.add_modifier(Modifier::BOLD),
            Tone::Warning | Tone::Badge(Status::Warning | Status::Unknown) => {
                self.tinted(Color::Yellow).add_modifier(Modifier::BOLD)
            }
            Tone::Bad => self.tinted(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Found => plain.add_modifier(Modifier::UNDERLINED),
            Tone::Badge(Status::Critical) => {
                self.tinted(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED)
            }
        }
    }

    /// The style of a bar across the screen, and of what is selected.
    pub(super) fn bar() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn tinted(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Either of two texts, by whether UTF-8 is understood.
    pub(super) fn either(self, utf8: &'static str, ascii: &'static str) -> &'static str {
        if self.utf8 { utf8 } else { ascii }
    }
}

/// The tone of figures of that status.
pub(super) fn of(status: Status) -> Tone {
    match status {
        Status::Critical => Tone::Bad,
        Status::Warning | Status::Unknown => Tone::Warning,
        Status::Ok => Tone::Plain,
    }
}
