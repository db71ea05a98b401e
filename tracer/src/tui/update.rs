//! `update(model, message)`: what a key, a second or the loop's word changes. No clock, no terminal.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    archive::{Archive, MIN_STEP_NS},
    dump,
    feed::{Wanted, Way},
    keys::{self, Action, Place},
    message::{Effect, Message},
    model::{Detail, Mode, Model, Pane, Spot, Time},
    playback::Order,
    replay, spots, view,
};
use crate::{live::shot::Shot, live::tail::Tail};

const MINUTE_NS: u64 = 60_000_000_000;
/// Characters of a filter.
const MAX_TYPED: usize = 100;

/// Takes a message in; gives what is to be done outside.
pub fn update(model: &mut Model, message: Message) -> Option<Effect> {
    match message {
        Message::Key(key) if key.kind == KeyEventKind::Release => None,
        Message::Key(key) => press(model, &key),
        Message::Resize(columns, rows) => {
            model.size = (columns, rows);
            None
        }
        Message::Shot(shot) => {
            model.archive.push(*shot);
            let on_the_way = model.replay.as_ref().is_some_and(|replay| replay.seeking.is_some());
            if matches!(model.time, Time::Live) && !on_the_way {
                model.refresh();
            }
            None
        }
        Message::Notice(notice) => {
            model.notice = Some(notice);
            None
        }
        Message::Replay(replay) => {
            let arrived = replay.seeking.is_none();
            let before = model.replay.replace(replay);
            if arrived && before.is_some_and(|before| before.seeking.is_some()) {
                model.refresh();
            }
            None
        }
        Message::Rewound => {
            (model.archive, model.tail) = (Archive::default(), Tail::default());
            (model.time, model.feed.cursor) = (Time::Live, None);
            None
        }
        Message::Recording(recording) => {
            model.recording = recording;
            None
        }
    }
}

fn press(model: &mut Model, key: &KeyEvent) -> Option<Effect> {
    model.notice = None;
    let place = model.place();
    if let Some(action) = keys::find(key, place, model.of()) {
        return act(model, action);
    }
    let is_text = (key.modifiers - KeyModifiers::SHIFT).is_empty();
    if let (Place::Typing, KeyCode::Char(character), true) = (place, key.code, is_text) {
        let mut words = model.words().to_owned();
        if words.chars().count() < MAX_TYPED {
            words.push(character);
            model.set_words(&words);
        }
    }
    None
}

fn act(model: &mut Model, action: Action) -> Option<Effect> {
    match action {
        Action::Quit => return Some(Effect::Quit),
        Action::Suspend => return Some(Effect::Suspend),
        Action::Record if model.recording.is_some() => return Some(Effect::StopRecording),
        Action::Record => return Some(Effect::StartRecording),
        Action::Write => return Some(dump::effect(model)),
        Action::Help => help(model),
        Action::Open => open(model),
        Action::Close => close(model),
        Action::Filter | Action::Search => {
            model.mode = Mode::Typing { before: model.words().to_owned() };
        }
        Action::Accept | Action::Discard | Action::Erase | Action::EraseAll => {
            return typed(model, action);
        }
        Action::NextMatch if model.replay.is_some() && model.feed.search.is_empty() => {
            return Some(replay::order(model, Order::NextFailure));
        }
        Action::NextMatch => seek(model, &[Way::Newer], 1),
        Action::PreviousMatch => seek(model, &[Way::Older], 1),
        Action::FailuresOnly => {
            model.feed.wanted = match model.feed.wanted {
                Wanted::All => Wanted::Failures,
                Wanted::Failures => Wanted::All,
            };
        }
        Action::SortNext => sort(model, 1),
        Action::SortPrevious => sort(model, -1),
        Action::SortReverse => {
            match model.pane {
                Pane::Upstreams => model.upstreams.reverse(),
                Pane::Processes => model.processes.reverse(),
                Pane::Overview | Pane::Events | Pane::Kernel => {}
            }
            model.refresh();
        }
        Action::Pause => pause(model),
        Action::Play
        | Action::Faster
        | Action::Slower
        | Action::TenBack
        | Action::TenForward
        | Action::Beginning
        | Action::GoTo
        | Action::NextFailure => return replay::act(model, action),
        Action::SecondBack => {
            back(model, MIN_STEP_NS);
            return replay::went_back(model);
        }
        Action::SecondForward if replay::is_at_newest(model) => return replay::step(model),
        Action::MinuteBack => back(model, MINUTE_NS),
        Action::SecondForward => forward(model, MIN_STEP_NS),
        Action::MinuteForward => forward(model, MINUTE_NS),
        Action::Show(pane) => show(model, pane),
        Action::NextPane => show(model, model.pane.step(1)),
        Action::PreviousPane => show(model, model.pane.step(Pane::ALL.len() - 1)),
        Action::Down => step(model, 1),
        Action::Up => step(model, -1),
        Action::HalfDown => step(model, page(model) / 2),
        Action::HalfUp => step(model, -page(model) / 2),
        Action::PageDown => step(model, page(model)),
        Action::PageUp => step(model, -page(model)),
        Action::Top => step(model, isize::MIN),
        Action::Bottom => step(model, isize::MAX),
    }
    None
}

fn show(model: &mut Model, pane: Pane) {
    model.pane = pane;
    model.mode = Mode::Browse;
    model.scroll = 0;
}

fn help(model: &mut Model) {
    model.scroll = 0;
    model.mode = match std::mem::replace(&mut model.mode, Mode::Browse) {
        Mode::Help(None) | Mode::Typing { .. } => Mode::Browse,
        Mode::Help(Some(detail)) => Mode::Detail(detail),
        Mode::Browse => Mode::Help(None),
        Mode::Detail(detail) => Mode::Help(Some(detail)),
        Mode::GoTo { then, .. } => Mode::Help(then),
    };
}

fn open(model: &mut Model) {
    let Some(shot) = model.shot() else { return };
    let detail = match model.pane {
        Pane::Overview => {
            let spots = spots::spots(model);
            let at = spots::at(model, &spots);
            spots.into_iter().nth(at).map(|spot| match spot {
                Spot::Incident(which) => Detail::Incident(which),
                Spot::Ceiling(subject) => Detail::Ceiling(subject),
            })
        }
        Pane::Upstreams => model.upstreams.selected(&shot.upstreams).map(Detail::Upstream),
        Pane::Processes => model.processes.selected(&shot.processes).map(Detail::Process),
        Pane::Events | Pane::Kernel => None,
    };
    if let Some(detail) = detail {
        model.mode = Mode::Detail(detail);
        model.scroll = 0;
    }
}

fn close(model: &mut Model) {
    match &model.mode {
        Mode::Help(_) => help(model),
        Mode::Detail(_) | Mode::Typing { .. } | Mode::GoTo { .. } => {
            model.mode = Mode::Browse;
            model.scroll = 0;
        }
        Mode::Browse if !model.words().is_empty() => model.set_words(""),
        Mode::Browse => match model.pane {
            Pane::Overview => model.spot = None,
            Pane::Upstreams => model.upstreams.release(),
            Pane::Processes => model.processes.release(),
            Pane::Events => model.feed.cursor = None,
            Pane::Kernel => model.scroll = 0,
        },
    }
}

fn typed(model: &mut Model, action: Action) -> Option<Effect> {
    match action {
        Action::Erase => {
            let mut words = model.words().to_owned();
            words.pop();
            model.set_words(&words);
        }
        Action::EraseAll => model.set_words(""),
        _ => match std::mem::replace(&mut model.mode, Mode::Browse) {
            Mode::Typing { before } if action == Action::Discard => model.set_words(&before),
            Mode::Typing { .. } if model.pane == Pane::Events => {
                seek(model, &[Way::Older, Way::Newer], 0);
            }
            Mode::GoTo { text, then } => {
                model.mode = then.map_or(Mode::Browse, Mode::Detail);
                if action == Action::Accept {
                    return replay::go_to(model, &text);
                }
            }
            _ => {}
        },
    }
    None
}

/// Goes to an event with what is searched for: the first of these ways that leads to one.
fn seek(model: &mut Model, ways: &[Way], from_here: usize) {
    if model.feed.search.is_empty() {
        return;
    }
    let until = model.until();
    let found = ways
        .iter()
        .any(|&way| model.feed.seek(model.time.tail(&model.tail), until, way, from_here));
    if !found {
        let more = if from_here > 0 { "no further event" } else { "no event" };
        model.notice = Some(format!("{more} with {:?} among those kept", model.feed.search));
    }
}

fn sort(model: &mut Model, steps: isize) {
    match model.pane {
        Pane::Upstreams => model.upstreams.sort_by(steps),
        Pane::Processes => model.processes.sort_by(steps),
        Pane::Overview | Pane::Events | Pane::Kernel => {}
    }
    model.refresh();
}

/// Lines of a page.
fn page(model: &Model) -> isize {
    isize::try_from(view::rows(model)).unwrap_or(1).max(2)
}

fn step(model: &mut Model, steps: isize) {
    if let Some(limit) = view::last_scroll(model) {
        model.scroll = model.scroll.min(limit).saturating_add_signed(steps).min(limit);
        return;
    }
    let until = model.until();
    let shot = match &model.time {
        Time::Live => model.archive.newest(),
        Time::Paused { shot, .. } => Some(shot),
    };
    match (model.pane, shot) {
        (Pane::Overview, _) => {
            let spots = spots::spots(model);
            let last = spots.len().saturating_sub(1);
            let at = spots::at(model, &spots).saturating_add_signed(steps).min(last);
            model.spot = spots.into_iter().nth(at);
        }
        (Pane::Upstreams, Some(shot)) => model.upstreams.step(&shot.upstreams, steps),
        (Pane::Processes, Some(shot)) => model.processes.step(&shot.processes, steps),
        (Pane::Events, _) => model.feed.step(model.time.tail(&model.tail), until, steps),
        _ => {}
    }
}

fn pause(model: &mut Model) {
    model.time = match (&model.time, model.archive.newest()) {
        (Time::Live, Some(shot)) => {
            let (until, tail) = (model.tail.total(), Arc::new(model.tail.clone()));
            Time::Paused { shot: Arc::clone(shot), until, tail }
        }
        _ => Time::Live,
    };
    model.refresh();
}

/// The moment that is shown, or would be when paused.
pub(super) fn present(model: &Model) -> Option<&Arc<Shot>> {
    match &model.time {
        Time::Live => model.archive.newest(),
        Time::Paused { shot, .. } => Some(shot),
    }
}

fn back(model: &mut Model, by_ns: u64) {
    let Some(now_ns) = present(model).map(|shot| shot.at_ns) else { return };
    let found = model.archive.at_or_before(now_ns.saturating_sub(by_ns)).map(Arc::clone);
    match found.filter(|shot| shot.at_ns < now_ns) {
        Some(shot) => go(model, shot),
        None if model.replay.is_some() => {
            let beginning = present(model).map(|shot| shot.at_ns)
                == model.replay.as_ref().map(|it| it.first_ns);
            let why = if beginning {
                "this is the beginning"
            } else {
                "nothing older is kept; [ goes there"
            };
            model.notice = Some(why.to_owned());
        }
        None => model.notice = Some("nothing older is kept".to_owned()),
    }
}

fn forward(model: &mut Model, by_ns: u64) {
    let Time::Paused { shot, .. } = &model.time else { return };
    let now_ns = shot.at_ns;
    let found = model.archive.at_or_after(now_ns.saturating_add(by_ns)).map(Arc::clone);
    match found.filter(|shot| shot.at_ns > now_ns) {
        Some(shot) => go(model, shot),
        None if model.replay.is_some() => model.notice = Some("end of the capture".to_owned()),
        None => model.notice = Some("this is the newest; space goes live".to_owned()),
    }
}

fn go(model: &mut Model, shot: Arc<Shot>) {
    let tail = match &model.time {
        Time::Live => Arc::new(model.tail.clone()),
        Time::Paused { tail, .. } => Arc::clone(tail),
    };
    let until = first_after(&tail, shot.at_ns);
    model.time = Time::Paused { shot, until, tail };
    model.refresh();
}

/// Number of the first event after that time.
fn first_after(tail: &Tail, at_ns: u64) -> u64 {
    let of = |kept: &std::collections::VecDeque<crate::live::tail::Seen>| {
        let first = kept.partition_point(|seen| seen.event.ts_ns() <= at_ns);
        kept.get(first).map_or(tail.total(), |seen| seen.number)
    };
    of(tail.all()).min(of(tail.failures()))
}
