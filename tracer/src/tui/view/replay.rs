//! The bar of a replay: what is shown is recorded, of where and when, and how time goes by.

use ratatui::text::{Line, Span};

use crate::{
    human::time_left,
    tui::{
        model::Model,
        playback::{Replay, SECOND_NS},
        text::width,
    },
};

/// Columns of the name of a host or a file.
const NAME: usize = 28;

/// One line; what matters most comes first.
pub(super) fn bar(model: &Model, replay: &Replay, columns: u16) -> Line<'static> {
    let look = model.look;
    let at_ns = model.shot().map_or(replay.at_ns, |shot| shot.at_ns);
    let mut parts = vec![pace(replay)];
    parts.push(model.clock.clone().day_and_time(at_ns));
    parts.extend(replay.part(at_ns));
    let back_s = replay.at_ns.saturating_sub(at_ns) / SECOND_NS;
    if back_s > 0 && replay.seeking.is_none() {
        #[expect(clippy::cast_precision_loss, reason = "at most some minutes")]
        parts.push(format!("{} back", time_left(back_s as f64)));
    }
    let named = |name: &str| look.cut(&look.clean(name), NAME).into_owned();
    parts.extend([&replay.host, &replay.file].map(|name| named(name)));
    let mut line = Line::raw("REPLAY");
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if line.width() + 2 + width(&part) < usize::from(columns) {
            line.push_span(Span::raw(format!("  {part}")));
        }
    }
    line
}

/// How time goes by.
fn pace(replay: &Replay) -> String {
    if let Some(way) = told(replay) {
        return way;
    }
    match (replay.ended, replay.paused) {
        (true, _) => "END".to_owned(),
        (false, true) => format!("PAUSED {}", replay.speed.name()),
        (false, false) => replay.speed.name().to_owned(),
    }
}

/// What is being done instead of showing a moment.
fn told(replay: &Replay) -> Option<String> {
    let seeking = replay.seeking?;
    let what = if seeking.to_ns.is_some() { "seeking" } else { "looking for a failure" };
    Some(seeking.percent.map_or_else(|| what.to_owned(), |part| format!("{what} {part} %")))
}

/// The same, in place of a pane.
pub(super) fn way(model: &Model) -> Option<String> {
    Some(format!("{} ... space stops here", told(model.replay.as_ref()?)?))
}

/// What a text that is written says of where it comes from.
pub(in crate::tui) fn origin(replay: &Replay) -> String {
    format!(", replay of {}, recorded on {}", replay.file, replay.host)
}
