//! Columns of tables: which fit, and what stands in them.

pub(super) mod events;
pub(super) mod gauges;
pub(super) mod processes;
pub(super) mod upstreams;

use std::cmp::Ordering;

use super::{
    text::{Align, width},
    theme::{Look, Tone},
};
use crate::{human, kernel::ladder::Hooked, live::shot::Shot, reason::Reason};

/// What one must know of a shot to read its figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) look: Look,
    /// What events tell.
    pub(super) events: Events,
    /// What no hook shows.
    pub(super) unhooked: Unhooked,
    /// When: seconds since boot.
    pub(super) at_s: f64,
    /// Seconds from one shot to the next.
    pub(super) step_s: f64,
    pub(super) own_netns: Option<u32>,
}

/// How far events can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// There are none.
    Missing,
    /// All of them, so far not for long enough to tell rates.
    Fresh,
    /// All of them.
    Whole,
    /// Some were lost, or no hook shows them: there may be more.
    Lossy,
}

/// What no hook of this kernel shows, of what there is a figure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unhooked {
    /// Some `connect()` that fail.
    pub(super) connects: bool,
    /// `bind()` that fails, or calls without a free file descriptor.
    pub(super) calls: bool,
    /// Who accepted a connection.
    pub(super) accepts: bool,
}

impl Unhooked {
    fn of(shot: &Shot) -> Self {
        let is = |hooked: Hooked| {
            shot.ground.unhooked.iter().any(|(unseen, _)| unseen == hooked.unseen())
        };
        Self {
            connects: is(Hooked::Connect),
            calls: is(Hooked::Bind) || is(Hooked::Descriptor),
            accepts: is(Hooked::Accept),
        }
    }
}

impl Sight {
    pub(super) fn of(shot: &Shot, look: Look) -> Self {
        let events = if shot.ground.blind.is_some() {
            Events::Missing
        } else if is_lossy(shot) {
            Events::Lossy
        } else if shot.rates_s > 0.0 {
            Events::Whole
        } else {
            Events::Fresh
        };
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        let at_s = shot.at_ns as f64 / 1e9;
        // The first shot has no rates yet.
        let step_s = if shot.rates_s > 0.0 { shot.rates_s } else { 1.0 };
        let unhooked = Unhooked::of(shot);
        Self { look, events, unhooked, at_s, step_s, own_netns: shot.own_netns }
    }

    /// The same for figures of what some hook doesn't show: they are at least that, as if events were lost.
    pub(super) fn partly(self, unhooked: bool) -> Self {
        let events = match self.events {
            Events::Whole if unhooked => Events::Lossy,
            events => events,
        };
        Self { events, ..self }
    }

    /// A count that events made: `-` without them, `+` where some were lost.
    pub(super) fn count(self, count: u64) -> String {
        match self.events {
            Events::Missing => "-".to_owned(),
            Events::Lossy => format!("{}+", human::thousands(count)),
            Events::Fresh | Events::Whole => human::thousands(count),
        }
    }

    /// A rate that events made, in the same way.
    pub(super) fn rate(self, per_s: f64) -> String {
        match self.events {
            Events::Missing | Events::Fresh => "-".to_owned(),
            Events::Lossy => format!("{}+", rate(per_s)),
            Events::Whole => rate(per_s),
        }
    }

    /// ` [netns 4026532]`, where that isn't our own.
    pub(super) fn netns(self, netns: Option<u32>) -> String {
        match netns.filter(|_| netns != self.own_netns) {
            Some(netns) => format!(" [netns {netns}]"),
            None => String::new(),
        }
    }
}

/// Whether something that failed or changed may be missing from a shot's figures.
pub(super) fn is_lossy(shot: &Shot) -> bool {
    let damaged = shot.ground.recorded.as_ref().is_some_and(|recorded| recorded.damaged);
    damaged || shot.ground.lost.events() > 0 || shot.ground.lost.calls > 0
}

/// As [`human::rate`], and nothing is nothing.
pub(super) fn rate(per_s: f64) -> String {
    if per_s < 0.005 { "0".to_owned() } else { human::rate(per_s) }
}

/// What stands in a row's column.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

/// A column of a table of `R`s.
pub(super) struct Column<R> {
    pub(super) title: &'static str,
    /// Columns of the screen: enough for the title with the mark of sorting.
    pub(super) width: usize,
    /// How many more it can use.
    pub(super) grow: usize,
    pub(super) align: Align,
    /// Those of the highest rank go first where there is no room.
    pub(super) rank: u8,
    /// What it shows, for the help.
    pub(super) about: &'static str,
    pub(super) cell: fn(&R, Sight) -> Cell,
    pub(super) compare: fn(&R, &R) -> Ordering,
}

/// For tables that are not sorted by columns.
pub(super) fn as_given<R>(_: &R, _: &R) -> Ordering {
    Ordering::Equal
}

/// Which columns there is room for, and how wide each is: it depends on nothing that changes from second to
/// second. The one that the rows are sorted by is always there.
pub(super) fn layout<R>(
    columns: &[Column<R>],
    sorted: Option<usize>,
    room: usize,
) -> Vec<(usize, usize)> {
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|&index| (Some(index) != sorted && index != 0, columns[index].rank));
    let mut chosen: Vec<(usize, usize)> = Vec::new();
    let mut taken = 0;
    for &index in &by_rank {
        let wanted = columns[index].width;
        let gap = usize::from(taken > 0);
        if chosen.is_empty() && wanted > room {
            chosen.push((index, room));
            taken = room;
        } else if taken + gap + wanted <= room {
            chosen.push((index, wanted));
            taken += gap + wanted;
        } else if Some(index) == sorted {
            chosen.push((index, room.saturating_sub(taken + gap)));
            taken = room;
        }
    }
    for (index, width) in &mut chosen {
        let more = columns[*index].grow.min(room.saturating_sub(taken));
        *width += more;
        taken += more;
    }
    chosen.sort_unstable();
    chosen
}

/// Widths at which nothing is cut.
pub(super) fn whole<R>(columns: &[Column<R>], cells: &[Vec<String>]) -> Vec<(usize, usize)> {
    let widest = |index: usize| {
        let cells = cells.iter().map(|row| width(&row[index]));
        cells.chain([width(columns[index].title) + 1]).max().unwrap_or(0)
    };
    (0..columns.len()).map(|index| (index, widest(index))).collect()
}

/// Most first.
pub(super) fn most<T: PartialOrd + Copy>(a: T, b: T) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// By name; what has none goes last.
pub(super) fn by_reason(a: Option<Reason>, b: Option<Reason>) -> Ordering {
    let name = |reason: Option<Reason>| (reason.is_none(), reason.map(Reason::name));
    name(a).cmp(&name(b))
}

/// A part of a whole, 0 where there is no whole.
#[expect(clippy::cast_precision_loss, reason = "a share")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How bad a used part of a limit looks.
pub(super) fn fullness(ratio: f64) -> Tone {
    if ratio >= 0.95 {
        Tone::Bad
    } else if ratio >= 0.8 {
        Tone::Warning
    } else {
        Tone::Plain
    }
}

/// A figure of failures: it stands out where there are some.
pub(super) fn failing(text: String, some: bool) -> Cell {
    Cell::new(text, if some { Tone::Bad } else { Tone::Plain })
}

/// What is not known.
pub(super) fn unknown() -> String {
    "-".to_owned()
}
