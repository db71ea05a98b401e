//! What the view shows, and where in it one is.

use std::sync::Arc;

use super::{
    archive::Archive,
    columns::Sight,
    feed::Feed,
    keys::{Of, Place},
    message::Recording,
    playback::Replay,
    rows::Rows,
    theme::Look,
};
use crate::{
    ceilings::Subject,
    live::{
        shot::{About, Incident, Process, Shot, Upstream, UpstreamKey},
        tail::Tail,
    },
    sink::clock::Clock,
};

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pane {
    Overview,
    Upstreams,
    Processes,
    Events,
    Kernel,
}

impl Pane {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 5] =
        [Self::Overview, Self::Upstreams, Self::Processes, Self::Events, Self::Kernel];

    /// Its title.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Upstreams => "Upstreams",
            Self::Processes => "Processes",
            Self::Events => "Events",
            Self::Kernel => "Kernel",
        }
    }

    /// The pane so many further on, in a circle.
    pub(super) fn step(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }
}

/// What a key means at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One moves through a pane.
    Browse,
    /// All about one row is shown.
    Detail(Detail),
    /// A filter or a search is typed; `before`: what it was.
    Typing { before: String },
    /// A time to go to is typed; then that mode is again.
    GoTo { text: String, then: Option<Detail> },
    /// The help is shown; then that mode is again.
    Help(Option<Detail>),
}

/// An incident: what it is about, and how many worse ones are about the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) about: About,
    pub(super) worse: usize,
}

impl Which {
    /// That one of a shot's incidents.
    pub(super) fn of(incidents: &[Incident], at: usize) -> Option<Self> {
        let about = &incidents.get(at)?.about;
        let worse = incidents[..at].iter().filter(|incident| incident.about == *about).count();
        Some(Self { about: about.clone(), worse })
    }

    /// The incident, where there is one.
    pub(super) fn find<'a>(&self, incidents: &'a [Incident]) -> Option<&'a Incident> {
        incidents.iter().filter(|incident| incident.about == self.about).nth(self.worse)
    }
}

/// What all is shown about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Incident(Which),
    Ceiling(Subject),
    Upstream(UpstreamKey),
    Process(u32),
}

/// Which moment is shown.
#[derive(Clone, Debug)]
pub(super) enum Time {
    /// The newest.
    Live,
    /// That one, with the events up to a number, of those that were kept when time was stopped: new ones push no
    /// old ones out.
    Paused { shot: Arc<Shot>, until: u64, tail: Arc<Tail> },
}

impl Time {
    /// The events that are kept, given those that are kept now.
    pub(super) fn tail<'a>(&'a self, now: &'a Tail) -> &'a Tail {
        match self {
            Self::Live => now,
            Self::Paused { tail, .. } => tail,
        }
    }
}

/// A row of the overview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Incident(Which),
    Ceiling(Subject),
}

/// The state of the live view.
#[derive(Clone, Debug)]
pub struct Model {
    /// The last events: whoever reads them adds them here.
    pub tail: Tail,
    pub(super) look: Look,
    pub(super) clock: Clock,
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    pub(super) pane: Pane,
    pub(super) mode: Mode,
    pub(super) time: Time,
    pub(super) archive: Archive,
    /// The chosen row of the overview; `None`: the first one, whichever it is.
    pub(super) spot: Option<Spot>,
    /// What ceilings must have.
    pub(super) ceiling_filter: String,
    pub(super) upstreams: Rows<Upstream>,
    pub(super) processes: Rows<Process>,
    pub(super) feed: Feed,
    /// Lines of a text that are above the screen.
    pub(super) scroll: usize,
    pub(super) recording: Option<Recording>,
    /// How the replay stands; `None`: the host is shown, now.
    pub(crate) replay: Option<Replay>,
    /// A line for the person who pressed a key.
    pub(super) notice: Option<String>,
}

impl Model {
    /// An empty one. `clock` dates what is shown.
    #[must_use]
    pub fn new(look: Look, clock: Clock) -> Self {
        Self {
            tail: Tail::default(),
            look,
            clock,
            size: (80, 24),
            pane: Pane::Overview,
            mode: Mode::Browse,
            time: Time::Live,
            archive: Archive::default(),
            spot: None,
            ceiling_filter: String::new(),
            upstreams: Rows::default(),
            processes: Rows::default(),
            feed: Feed::default(),
            scroll: 0,
            recording: None,
            replay: None,
            notice: None,
        }
    }

    /// The moment that is shown; `None`: nothing is known yet.
    pub(crate) fn shot(&self) -> Option<&Shot> {
        match &self.time {
            Time::Live => self.archive.newest().map(Arc::as_ref),
            Time::Paused { shot, .. } => Some(shot),
        }
    }

    /// The events that are kept.
    pub(super) fn kept(&self) -> &Tail {
        self.time.tail(&self.tail)
    }

    /// Number of the first event that is not shown.
    pub(super) fn until(&self) -> u64 {
        match self.time {
            Time::Live => u64::MAX,
            Time::Paused { until, .. } => until,
        }
    }

    /// How the figures of the moment are to be read.
    pub(super) fn sight(&self) -> Sight {
        self.shot().map_or_else(
            || Sight::of(&Shot::default(), self.look),
            |shot| Sight::of(shot, self.look),
        )
    }

    /// Where keys go.
    pub(super) fn place(&self) -> Place {
        match (&self.mode, self.pane) {
            (Mode::Typing { .. } | Mode::GoTo { .. }, _) => Place::Typing,
            (Mode::Help(_), _) => Place::Help,
            (Mode::Detail(_), _) => Place::Detail,
            (Mode::Browse, Pane::Overview) => Place::Overview,
            (Mode::Browse, Pane::Upstreams | Pane::Processes) => Place::Table,
            (Mode::Browse, Pane::Events) => Place::Events,
            (Mode::Browse, Pane::Kernel) => Place::Kernel,
        }
    }

    /// Which keys there are.
    pub(super) fn of(&self) -> Of {
        Of::shown(self.replay.is_some())
    }

    /// Sorts and filters what is shown anew.
    pub(super) fn refresh(&mut self) {
        let sight = self.sight();
        let shot = match &self.time {
            Time::Live => self.archive.newest(),
            Time::Paused { shot, .. } => Some(shot),
        };
        if let Some(shot) = shot {
            self.upstreams.refresh(&shot.upstreams, sight);
            self.processes.refresh(&shot.processes, sight);
        }
    }

    /// What the filter of the pane, the search, or the time to go to is.
    pub(super) fn words(&self) -> &str {
        if let Mode::GoTo { text, .. } = &self.mode {
            return text;
        }
        match self.pane {
            Pane::Overview => &self.ceiling_filter,
            Pane::Upstreams => self.upstreams.filter(),
            Pane::Processes => self.processes.filter(),
            Pane::Events => &self.feed.search,
            Pane::Kernel => "",
        }
    }

    /// Another filter of the pane, another search, or another time.
    pub(super) fn set_words(&mut self, words: &str) {
        if let Mode::GoTo { text, .. } = &mut self.mode {
            words.clone_into(text);
            return;
        }
        match self.pane {
            Pane::Overview => words.clone_into(&mut self.ceiling_filter),
            Pane::Upstreams => self.upstreams.set_filter(words),
            Pane::Processes => self.processes.set_filter(words),
            Pane::Events => words.clone_into(&mut self.feed.search),
            Pane::Kernel => {}
        }
        self.refresh();
    }
}
