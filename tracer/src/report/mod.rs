//! What a capture tells, condensed: what failed, when, why and for whom; how full every ceiling was; who connected
//! where. Plain values, worst first; a page, a text or JSON only has to print them.

mod clean;
pub mod diff;
pub mod fold;
mod samples;
mod settings;
mod spans;
mod timeline;

#[cfg(test)]
mod tests;

use crate::{
    answers::captured::Captured,
    capture::{
        Damage,
        content::{End, Header, Sysctls},
    },
    ceilings::thresholds::Status,
    check::Judged,
    event::{Comm, Loss},
    failures::{FailureKey, FailureRow},
    human::thousands,
    live::shot::{Latency, Sockets, UpstreamKey},
    reason::Reason,
};

/// A capture, condensed. Times are nanoseconds since boot; `header.epoch_ns` makes dates of them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's name, inert.
    pub file: String,
    /// Where, when and how it was recorded.
    pub header: Header,
    /// Its totals; `None`: it was cut off.
    pub end: Option<End>,
    /// When the first event happened, or the first sample was taken.
    pub first_ns: u64,
    /// When the last did.
    pub last_ns: u64,
    /// Events in it.
    pub events: u64,
    /// Lost while it was recorded.
    pub lost: Loss,
    /// Damaged places, the first of them.
    pub damage: Vec<Damage>,
    /// How many there are.
    pub damaged: u64,
    /// Events that are known to be missing for them.
    pub missing: u64,
    /// Records that were not understood.
    pub undecodable: u64,
    /// Failures.
    pub failed: u64,
    /// Failures by reason, most first; of an unknown reason: `None`.
    pub reasons: Vec<(Option<Reason>, u64)>,
    /// Failures by what is alike in them, most first.
    pub failures: Vec<(FailureKey, FailureRow)>,
    /// Failures in no row, for want of room.
    pub unlisted: u64,
    /// What was wrong, and when: worst first.
    pub incidents: Vec<Incident>,
    /// Incidents beyond those.
    pub more_incidents: u64,
    /// The ceilings that came nearest to their limits, worst first.
    pub ceilings: Vec<Ceiling>,
    /// Ceilings beyond those.
    pub more_ceilings: u64,
    /// Samples of the host.
    pub samples: u64,
    /// Where the host connected to: most failures first, then most connections.
    pub upstreams: Vec<Upstream>,
    /// Upstreams beyond those.
    pub more_upstreams: u64,
    /// Whose calls and connections they were: most failures first, then most connections.
    pub processes: Vec<Process>,
    /// Processes beyond those.
    pub more_processes: u64,
    /// Events of upstreams or processes for which there was no room.
    pub unplaced: u64,
    /// How it went.
    pub timeline: Timeline,
    /// Settings of the host at the beginning.
    pub settings: Option<Sysctls>,
    /// Settings that were changed meanwhile.
    pub changes: Vec<SettingChange>,
    /// Changes beyond those.
    pub more_changes: u64,
    /// What could not be seen, and how to get it: as the last sample has it.
    pub unseen: Vec<String>,
    /// Failed answers of proxies in that time; `None`: no logs were given.
    pub answers: Option<Captured>,
}

impl Report {
    /// When the recording began: nanoseconds since boot. One that waited for a trigger begins with its first event.
    #[must_use]
    pub fn begin_ns(&self) -> u64 {
        let started_ns = self.header.started_ns;
        let waited = self.header.trigger.is_some();
        let earlier = started_ns > 0 && (self.is_empty() || started_ns < self.first_ns);
        if earlier && !waited { started_ns } else { self.first_ns }
    }

    /// When it ended, or was cut off.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.end.as_ref().map_or(0, |end| end.at_ns).max(self.last_ns).max(self.begin_ns())
    }

    /// How long it lasted, seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a time")]
    pub fn seconds(&self) -> f64 {
        (self.end_ns() - self.begin_ns()) as f64 / 1e9
    }

    /// Whether nothing happened in it, and nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last_ns == 0
    }

    /// What its damage took, in words.
    #[must_use]
    pub fn missing_words(&self) -> String {
        let known = self.damage.iter().all(|damage| damage.events.is_some())
            && self.damage.len() as u64 == self.damaged;
        match (known, self.missing) {
            (true, 0) => "no event is missing for it".to_owned(),
            (true, missing) => format!("{} events are missing", thousands(missing)),
            (false, missing) => format!("at least {} events are missing", thousands(missing)),
        }
    }

    /// Whether its counts are lower bounds: something was lost, damaged or not understood. One that was cut off
    /// is exact for the time that it covers.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        let Loss { owners, calls, .. } = self.lost;
        let all = [self.lost.events(), owners, calls, self.damaged, self.undecodable];
        all.into_iter().any(|count| count > 0)
    }
}

impl Upstream {
    /// Its failures.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

impl Process {
    /// Its failures.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

/// Something that was wrong for a while.
#[derive(Clone, Debug)]
pub struct Incident {
    /// How bad it got.
    pub status: Status,
    /// From when.
    pub first_ns: u64,
    /// To when.
    pub last_ns: u64,
    /// Failures a second at the worst moment.
    pub peak_per_s: f64,
    /// One sentence, of the worst moment. Foreign names in it are inert.
    pub sentence: String,
    /// What to do: one of these.
    pub remedy: Vec<String>,
    /// A figure in it was inferred, or events were lost meanwhile.
    pub doubt: Option<&'static str>,
}

/// A ceiling over time.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// The sample in which it was fullest.
    pub worst: Judged,
    /// When that was.
    pub worst_ns: u64,
    /// The last sample.
    pub last: Judged,
    /// Used part of the limit (0 to 1 and above), the highest within each step of the timeline; `None`: no sample.
    pub ratios: Vec<Option<f32>>,
}

/// An upstream over time.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name.
    pub key: UpstreamKey,
    /// Connections that became established.
    pub opened: u64,
    /// Connections that began to close, or were reset.
    pub closed: u64,
    /// Entries in TIME-WAIT.
    pub time_waits: u64,
    /// They were concluded from state changes.
    pub inferred: bool,
    /// Connections that this side closed first.
    pub closed_here: u64,
    /// Connections that the upstream closed first.
    pub closed_by_peer: u64,
    /// Failures by reason, most first.
    pub failures: Vec<(Option<Reason>, u64)>,
    /// How long connects took; `None`: none succeeded.
    pub latency: Option<Latency>,
    /// Most sockets at a time, by state, of the samples.
    pub most: Option<Sockets>,
    /// Ports used and usable in the sample with most in use from one source address.
    pub ports: Option<(u64, u64)>,
    /// Connections opened within each step of the timeline; empty for all but the first upstreams.
    pub opened_by_step: Vec<u64>,
    /// Failures within each step.
    pub failed_by_step: Vec<u64>,
}

/// A process over time.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: Comm,
    /// Connections that it made.
    pub opened: u64,
    /// Connections that it had accepted and that began to close.
    pub served: u64,
    /// Failures by reason, most first.
    pub failures: Vec<(Option<Reason>, u64)>,
    /// Most open files, and the soft limit then, of the samples.
    pub files: Option<(u64, u64)>,
}

/// How it went, in equal steps.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// When the first step begins.
    pub start_ns: u64,
    /// How long a step is.
    pub step_ns: u64,
    /// The steps: at most 600.
    pub steps: Vec<Step>,
}

/// What happened in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Connections that became established, on either side.
    pub opened: u64,
    /// Connections that began to close, or were reset.
    pub closed: u64,
    /// Entries in TIME-WAIT.
    pub time_waits: u64,
    /// Failures by reason.
    pub failures: Vec<(Option<Reason>, u64)>,
    /// Events lost.
    pub lost: u64,
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// When it was noticed.
    pub at_ns: u64,
    /// In which network namespace; `None`: it is the host's.
    pub netns: Option<u32>,
    /// Its name.
    pub name: String,
    /// Before; `None`: not known.
    pub from: Option<String>,
    /// After.
    pub to: Option<String>,
}
