//! Which key does what, in one table: it finds the action, and makes the help and the footer.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{model::Pane, theme::Look};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Help,
    Quit,
    Open,
    Close,
    Filter,
    Search,
    NextMatch,
    PreviousMatch,
    FailuresOnly,
    SortNext,
    SortPrevious,
    SortReverse,
    Pause,
    SecondBack,
    SecondForward,
    MinuteBack,
    MinuteForward,
    Play,
    TenBack,
    TenForward,
    Beginning,
    GoTo,
    NextFailure,
    Faster,
    Slower,
    Record,
    Write,
    Show(Pane),
    NextPane,
    PreviousPane,
    Down,
    Up,
    HalfDown,
    HalfUp,
    PageDown,
    PageUp,
    Top,
    Bottom,
    Suspend,
    Accept,
    Discard,
    Erase,
    EraseAll,
}

/// Where keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// The ceilings.
    Overview,
    /// A table that can be sorted.
    Table,
    /// Events.
    Events,
    /// How things are known.
    Kernel,
    /// All about one row.
    Detail,
    /// The help.
    Help,
    /// A filter or a search is being typed.
    Typing,
}

/// Of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// The host, now, or a capture.
    Both,
    /// The host, now.
    Live,
    /// A capture.
    Replay,
}

impl Of {
    /// What is shown.
    pub(super) fn shown(is_replay: bool) -> Self {
        if is_replay { Self::Replay } else { Self::Live }
    }
}

/// Some keys, and what they do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) keys: &'static [(KeyCode, KeyModifiers)],
    pub(super) action: Action,
    pub(super) places: &'static [Place],
    /// A word for the footer; empty: only in the help.
    pub(super) hint: &'static str,
    pub(super) help: &'static str,
    pub(super) of: Of,
}

impl Binding {
    /// Whether it is there.
    pub(super) fn is_of(&self, shown: Of) -> bool {
        self.of == Of::Both || self.of == shown
    }

    const fn only(self, of: Of) -> Self {
        Self { of, ..self }
    }
}

const fn bind(
    keys: &'static [(KeyCode, KeyModifiers)],
    action: Action,
    places: &'static [Place],
    hint: &'static str,
    help: &'static str,
) -> Binding {
    Binding { keys, action, places, hint, help, of: Of::Both }
}

const fn char(character: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(character), KeyModifiers::NONE)
}

const fn ctrl(character: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(character), KeyModifiers::CONTROL)
}

const fn plain(code: KeyCode) -> (KeyCode, KeyModifiers) {
    (code, KeyModifiers::NONE)
}

use Place::{Detail, Events, Help, Kernel, Overview, Table, Typing};

const ALL: &[Place] = &[Overview, Table, Events, Kernel, Detail, Help];
const LISTS: &[Place] = &[Overview, Table, Events];
const SHOWN: &[Place] = &[Overview, Table, Events, Kernel, Detail];

/// All of them; those that the footer shows first come first.
pub(super) const BINDINGS: &[Binding] = &[
    bind(&[plain(KeyCode::Enter)], Action::Accept, &[Typing], "done", "keep what was typed"),
    bind(&[plain(KeyCode::Esc)], Action::Discard, &[Typing], "discard", "as it was before"),
    bind(
        &[plain(KeyCode::Backspace), ctrl('h')],
        Action::Erase,
        &[Typing],
        "",
        "erase a character",
    ),
    bind(&[ctrl('u')], Action::EraseAll, &[Typing], "erase all", "erase all"),
    bind(&[char('?'), plain(KeyCode::F(1))], Action::Help, ALL, "help", "this help"),
    bind(&[char('q'), ctrl('c')], Action::Quit, ALL, "quit", "end"),
    bind(&[ctrl('c')], Action::Quit, &[Typing], "", "end"),
    bind(
        &[plain(KeyCode::Enter)],
        Action::Open,
        &[Overview, Table],
        "details",
        "all about the selected row, and what to do",
    ),
    bind(
        &[plain(KeyCode::Esc), plain(KeyCode::Backspace)],
        Action::Close,
        ALL,
        "back",
        "back; in a list: no filter any more, then the first row again, or the newest event",
    ),
    bind(&[char('/')], Action::Filter, &[Overview, Table], "filter", "only rows with these words"),
    bind(&[char('/')], Action::Search, &[Events], "search", "search events"),
    bind(&[char('n')], Action::NextMatch, &[Events], "", "next event that was searched for"),
    bind(&[char('N')], Action::PreviousMatch, &[Events], "", "the one before"),
    bind(&[char('f')], Action::FailuresOnly, &[Events], "failures", "failures only, or all events"),
    bind(&[char('s'), char('>')], Action::SortNext, &[Table], "sort", "sort by the next column"),
    bind(&[char('<')], Action::SortPrevious, &[Table], "", "sort by the column before"),
    bind(&[char('S')], Action::SortReverse, &[Table], "", "sort the other way round"),
    bind(&[char(' ')], Action::Pause, SHOWN, "pause", "pause, or go back to live").only(Of::Live),
    bind(&[char(' ')], Action::Play, SHOWN, "pause", "pause, or play on").only(Of::Replay),
    bind(
        &[char('n'), char('F')],
        Action::NextFailure,
        &[Overview, Table, Kernel, Detail],
        "next failure",
        "on to the next failure, and stop in its second",
    )
    .only(Of::Replay),
    bind(
        &[char('F')],
        Action::NextFailure,
        &[Events],
        "next failure",
        "the same (n too, while nothing is searched for)",
    )
    .only(Of::Replay),
    bind(&[char('g')], Action::GoTo, SHOWN, "go to", "go to a time: 14:03:20, +90s, -30s, 35%")
        .only(Of::Replay),
    bind(
        &[char('+'), char('=')],
        Action::Faster,
        SHOWN,
        "faster",
        "play faster: up to 256x, then max",
    )
    .only(Of::Replay),
    bind(&[char('-')], Action::Slower, SHOWN, "slower", "play slower: down to 1/4x")
        .only(Of::Replay),
    bind(&[char('[')], Action::TenBack, SHOWN, "", "ten seconds back").only(Of::Replay),
    bind(&[char(']')], Action::TenForward, SHOWN, "", "ten seconds on").only(Of::Replay),
    bind(&[char('0')], Action::Beginning, SHOWN, "", "to the beginning").only(Of::Replay),
    bind(
        &[plain(KeyCode::Left), char('h')],
        Action::SecondBack,
        SHOWN,
        "1 s back",
        "pause, and go a second back: up to ten minutes",
    ),
    bind(
        &[plain(KeyCode::Right), char('l')],
        Action::SecondForward,
        SHOWN,
        "",
        "while paused: a second forward",
    )
    .only(Of::Live),
    bind(
        &[plain(KeyCode::Right), char('l'), char('.')],
        Action::SecondForward,
        SHOWN,
        "",
        "while paused: a second on",
    )
    .only(Of::Replay),
    bind(&[char('[')], Action::MinuteBack, SHOWN, "", "pause, and go a minute back").only(Of::Live),
    bind(&[char(']')], Action::MinuteForward, SHOWN, "", "while paused: a minute forward")
        .only(Of::Live),
    bind(&[char('r')], Action::Record, SHOWN, "record", "start or stop recording into a capture")
        .only(Of::Live),
    bind(
        &[char('y')],
        Action::Write,
        ALL,
        "write",
        "write all that is listed here into a text file",
    ),
    bind(&[char('1')], Action::Show(Pane::Overview), ALL, "", "what is wrong, and every ceiling"),
    bind(&[char('2')], Action::Show(Pane::Upstreams), ALL, "", "where this host connects to"),
    bind(&[char('3')], Action::Show(Pane::Processes), ALL, "", "whose connections these are"),
    bind(&[char('4')], Action::Show(Pane::Events), ALL, "", "what happens, one by one"),
    bind(&[char('5')], Action::Show(Pane::Kernel), ALL, "", "how all this is known, what it costs"),
    bind(&[plain(KeyCode::Tab)], Action::NextPane, ALL, "", "next pane"),
    bind(&[plain(KeyCode::BackTab)], Action::PreviousPane, ALL, "", "the pane before"),
    bind(&[plain(KeyCode::Down), char('j')], Action::Down, ALL, "", "down"),
    bind(&[plain(KeyCode::Up), char('k')], Action::Up, ALL, "", "up"),
    bind(&[ctrl('d')], Action::HalfDown, ALL, "", "half a page down"),
    bind(&[ctrl('u')], Action::HalfUp, ALL, "", "half a page up"),
    bind(&[plain(KeyCode::PageDown), ctrl('f')], Action::PageDown, ALL, "", "a page down"),
    bind(&[plain(KeyCode::PageUp), ctrl('b')], Action::PageUp, ALL, "", "a page up"),
    bind(&[plain(KeyCode::Home), char('g')], Action::Top, ALL, "", "first row, oldest event")
        .only(Of::Live),
    bind(&[plain(KeyCode::Home)], Action::Top, ALL, "", "first row, or oldest event")
        .only(Of::Replay),
    bind(&[plain(KeyCode::End), char('G')], Action::Bottom, ALL, "", "last row, newest event"),
    bind(&[ctrl('z')], Action::Suspend, ALL, "", "suspend; fg goes on"),
];

/// What a key does in a place.
pub(super) fn find(key: &KeyEvent, place: Place, shown: Of) -> Option<Action> {
    // Shift is in the character already; not every terminal tells it besides.
    let modifiers = key.modifiers - KeyModifiers::SHIFT;
    let is_it = |binding: &&Binding| {
        binding.is_of(shown)
            && binding.places.contains(&place)
            && binding.keys.contains(&(key.code, modifiers))
    };
    BINDINGS.iter().find(is_it).map(|binding| binding.action)
}

/// `ctrl-d`, `enter`, `?`
pub(super) fn name(key: (KeyCode, KeyModifiers), look: Look) -> String {
    let code = match key.0 {
        KeyCode::Char(' ') => "space".to_owned(),
        KeyCode::Char(character) => character.to_string(),
        KeyCode::Left => look.either("←", "left").to_owned(),
        KeyCode::Right => look.either("→", "right").to_owned(),
        KeyCode::Up => look.either("↑", "up").to_owned(),
        KeyCode::Down => look.either("↓", "down").to_owned(),
        KeyCode::BackTab => "shift-tab".to_owned(),
        KeyCode::PageDown => "page down".to_owned(),
        KeyCode::PageUp => "page up".to_owned(),
        KeyCode::F(number) => format!("F{number}"),
        other => format!("{other:?}").to_lowercase(),
    };
    if key.1 == KeyModifiers::CONTROL { format!("ctrl-{code}") } else { code }
}

/// The first key of an action, by name.
pub(super) fn first(action: Action, look: Look) -> String {
    let binding = BINDINGS.iter().find(|binding| binding.action == action);
    binding
        .and_then(|binding| binding.keys.first())
        .map_or_else(String::new, |key| name(*key, look))
}

/// The most important keys of a place, by name, and what they do.
pub(super) fn hints(
    place: Place,
    shown: Of,
    look: Look,
) -> impl Iterator<Item = (String, Binding)> {
    // In a list there is nothing to go back from, most of the time.
    let needless =
        move |binding: &Binding| binding.action == Action::Close && LISTS.contains(&place);
    BINDINGS
        .iter()
        .filter(move |b| {
            b.is_of(shown) && b.places.contains(&place) && !b.hint.is_empty() && !needless(b)
        })
        .filter_map(move |b| b.keys.first().map(|key| (name(*key, look), *b)))
}
