//! What is wrong now, in sentences: who can't do what, toward whom, why, how often.

mod words;

#[cfg(test)]
mod tests;

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use self::words::{usage, what_fails, who};
use super::{
    recent::Failing,
    shot::{About, Incident, UpstreamKey},
};
use crate::{
    ceilings::{
        Ceiling, Failed, Since, Subject,
        tally::Whose,
        thresholds::{Status, Thresholds},
    },
    check::Judged,
    failures::FailureKey,
    human::{rate, thousands, time_left},
    reason::Reason,
};

/// Most incidents of a shot,
const MAX_INCIDENTS: usize = 64;
/// most of them for one reason: none hides all others,
const MAX_OF_REASON: usize = 12;
/// and most of these of one process.
const MAX_OF_PROCESS: usize = 3;
/// So many for one reason are put into words, those with most failures: there may be tens of thousands.
const MAX_WORDED: usize = 128;
/// More failures than this that are alike but for their upstream are one incident.
const MAX_ALIKE: usize = 3;
/// What is reached within so many seconds is worth a word,
const SOON_S: f64 = 120.0;
/// from this part of its limit on.
const SOON_FROM: f64 = 0.3;

/// What sentences are made of.
pub struct Facts<'a> {
    /// What failed in the last seconds.
    pub failing: &'a HashMap<FailureKey, Failing>,
    /// Findings, worst first.
    pub gauges: &'a [Arc<Judged>],
    /// Our own network namespace.
    pub own_netns: Option<u32>,
    /// Seconds that failures are of.
    pub window_s: f64,
    /// Events were lost in the last seconds, or found no room.
    pub losing: bool,
}

/// Rows of failures that are alike.
type Group = Vec<(FailureKey, Failing)>;

/// An incident, and what it is counted under.
#[derive(Clone, Debug)]
pub struct Found {
    /// The incident.
    pub incident: Incident,
    /// Why it fails; `None`: nothing does, or the reason isn't known.
    pub reason: Option<Reason>,
    /// The process with most of the failures.
    pub pid: Option<u32>,
    /// Whose the failures are, where a ceiling caused them: whether it was found yet or not.
    pub whose: Option<Whose>,
    /// When the first and the last of the failures happened; `None`: it is none.
    pub when_ns: Option<(u64, u64)>,
}

/// The incidents, worst first, and how many more there are.
#[must_use]
pub fn found(facts: &Facts<'_>) -> (Vec<Found>, u64) {
    let mut groups = alike(facts.failing);
    let all = groups.len();
    if all > MAX_WORDED {
        leave_most(&mut groups);
    }
    let unworded = all - groups.len();
    let mut found: Vec<Found> = groups
        .iter()
        .filter_map(|group| {
            let (key, failing) = group.first()?;
            let incident = match group.as_slice() {
                [_] => facts.of_failures(key, failing),
                several => facts.of_many(several)?,
            };
            let mut all = Failing::default();
            for (_, failing) in group {
                all.when(failing.when_ns);
            }
            let (reason, pid, when_ns) = (key.reason, most(&failing.who), all.when_ns);
            Some(Found { incident, reason, pid, whose: Whose::of(key, pid), when_ns })
        })
        .collect();
    let told: HashSet<Subject> = found
        .iter()
        .filter_map(|found| match &found.incident.about {
            About::Ceiling(subject) => Some(subject.clone()),
            About::Upstream(_) | About::Other => None,
        })
        .collect();
    let others = facts.gauges.iter().filter(|gauge| !told.contains(&gauge.ceiling.subject));
    let of_findings = others.filter_map(|gauge| facts.of_finding(gauge));
    let of_finding =
        |incident| Found { incident, reason: None, pid: None, whose: None, when_ns: None };
    found.extend(of_findings.map(of_finding));
    found.sort_by(|a, b| worst_first(&a.incident, &b.incident));
    let total = found.len() + unworded;
    let (mut by_reason, mut by_process) = (HashMap::new(), HashMap::new());
    found.retain(|Found { reason, pid, .. }| {
        let (of_reason, of_process) = (
            by_reason.entry(*reason).or_insert(0_usize),
            by_process.entry((*reason, *pid)).or_insert(0_usize),
        );
        let room = reason.is_none()
            || (*of_reason < MAX_OF_REASON && (pid.is_none() || *of_process < MAX_OF_PROCESS));
        *of_reason += usize::from(room);
        *of_process += usize::from(room);
        room
    });
    found.truncate(MAX_INCIDENTS);
    let more = (total - found.len()) as u64;
    (found, more)
}

/// Of each reason those with most failures.
fn leave_most(groups: &mut Vec<Group>) {
    let count = |group: &Group| group.iter().map(|(_, failing)| failing.count).sum::<u64>();
    let key = |group: &Group| group.first().map(|(key, _)| *key);
    groups.sort_by_cached_key(|group| (Reverse(count(group)), key(group)));
    let mut of_reason: HashMap<Option<Reason>, usize> = HashMap::new();
    groups.retain(|group| {
        let worded = of_reason.entry(key(group).and_then(|key| key.reason)).or_default();
        *worded += 1;
        *worded <= MAX_WORDED
    });
}

/// Failures alike but for their upstream, or the name of a thread, most first: many of them are one incident.
/// Of those that a ceiling caused each upstream is apart: it has ports of its own; and of open files each process.
fn alike(failing: &HashMap<FailureKey, Failing>) -> Vec<Group> {
    let mut groups: HashMap<(FailureKey, Option<u32>), Group> = HashMap::new();
    let mut alone = Vec::new();
    for (key, failing) in failing {
        let pid = most(&failing.who);
        match Whose::of(key, pid) {
            Some(Whose::Process { .. }) => {
                for (pid, of_it) in by_process(failing) {
                    let group = groups.entry((FailureKey { comm: None, ..*key }, pid));
                    group.or_default().push((*key, of_it));
                }
            }
            Some(_) => alone.push(vec![(*key, failing.clone())]),
            None => {
                let anywhere = FailureKey { comm: None, src: None, dst: None, dport: None, ..*key };
                groups.entry((anywhere, pid)).or_default().push((*key, failing.clone()));
            }
        }
    }
    for ((_, pid), mut group) in groups {
        group.sort_by(|(a, x), (b, y)| y.count.cmp(&x.count).then_with(|| a.cmp(b)));
        let of_files = pid.is_some_and(|pid| {
            matches!(Whose::of(&group[0].0, Some(pid)), Some(Whose::Process { .. }))
        });
        if of_files {
            // One process, whatever its threads are called.
            let sum = sum(&group);
            alone.push(vec![(group[0].0, sum)]);
        } else if group.len() > MAX_ALIKE {
            alone.push(group);
        } else {
            alone.extend(group.into_iter().map(|one| vec![one]));
        }
    }
    alone
}

/// The failures of each process; of none where it isn't known.
pub(super) fn by_process(failing: &Failing) -> Vec<(Option<u32>, Failing)> {
    let part = |count: u64| {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = count as f64 / failing.count.max(1) as f64;
        failing.per_s * share
    };
    let of = |(&pid, &count): (&u32, &u64)| {
        let who = BTreeMap::from([(pid, count)]);
        (Some(pid), Failing { count, per_s: part(count), who, when_ns: failing.when_ns })
    };
    let mut all: Vec<_> = failing.who.iter().map(of).collect();
    let nobodys = failing.count - failing.who.values().sum::<u64>();
    if nobodys > 0 {
        let (per_s, who, when_ns) = (part(nobodys), BTreeMap::new(), failing.when_ns);
        all.push((None, Failing { count: nobodys, per_s, who, when_ns }));
    }
    all
}

fn sum(group: &[(FailureKey, Failing)]) -> Failing {
    let mut sum = Failing::default();
    for (_, failing) in group {
        sum.count += failing.count;
        sum.per_s += failing.per_s;
        sum.when(failing.when_ns);
        for (&pid, count) in &failing.who {
            *sum.who.entry(pid).or_default() += count;
        }
    }
    sum
}

/// Of as bad ones those of ceilings come first, then by the order of magnitude of their rate: within one they
/// stay where they are from second to second.
fn worst_first(a: &Incident, b: &Incident) -> Ordering {
    let by_ceiling = |incident: &Incident| matches!(incident.about, About::Ceiling(_));
    let magnitude = |incident: &Incident| incident.per_s.max(0.1).log2().round();
    (b.status.cmp(&a.status))
        .then(by_ceiling(b).cmp(&by_ceiling(a)))
        .then(magnitude(b).total_cmp(&magnitude(a)))
        .then_with(|| a.sentence.cmp(&b.sentence))
}

impl Facts<'_> {
    fn of_failures(&self, key: &FailureKey, failing: &Failing) -> Incident {
        let who = who(key, &failing.who);
        let whose = Whose::of(key, most(&failing.who));
        let ceiling = whose.and_then(|whose| self.fullest(whose));
        let what = what_fails(&who, key, ceiling);
        let (about, remedy) = match (ceiling, whose) {
            (Some(ceiling), _) => (About::Ceiling(ceiling.subject.clone()), ceiling.remedy.clone()),
            (None, Some(whose)) => (about(key), advice_of(whose)),
            (None, None) => (about(key), advice(key.reason)),
        };
        let status = if whose.is_some() { Status::Critical } else { Status::Warning };
        let sentence = format!("{what}; {}{}", self.failures(failing), self.place(key.netns));
        let doubt = self.doubt(ceiling.is_some_and(|ceiling| ceiling.inferred));
        Incident { status, about, sentence, remedy, per_s: failing.per_s, doubt }
    }

    /// `group`: alike but for their upstream, most failures first.
    fn of_many(&self, group: &[(FailureKey, Failing)]) -> Option<Incident> {
        let (key, _) = group.first()?;
        let sum = sum(group);
        let more = thousands(group.len() as u64 - 1);
        let what = what_fails(&who(key, &sum.who), key, None);
        let sentence = format!(
            "{what}, and {more} more like it; {} in all{}",
            self.failures(&sum),
            self.place(key.netns)
        );
        let remedy = advice(key.reason);
        let (status, per_s, doubt) = (Status::Warning, sum.per_s, self.doubt(false));
        Some(Incident { status, about: about(key), sentence, remedy, per_s, doubt })
    }

    fn failures(&self, failing: &Failing) -> String {
        // None in the newest seconds, but some before.
        if failing.per_s > 0.0 {
            format!("{} failures/s", rate(failing.per_s))
        } else {
            format!(
                "{} failures in the last {}, none now",
                thousands(failing.count),
                time_left(self.window_s)
            )
        }
    }

    fn of_finding(&self, judged: &Judged) -> Option<Incident> {
        let ceiling = &judged.ceiling;
        // What events tell is in an incident of its own, as long as it lasts.
        let by_event = Whose::of_subject(&ceiling.subject).map(Whose::error);
        let status = match by_event {
            Some(error) if ceiling.fails_now() => judged_without(ceiling, error),
            _ => judged.status,
        };
        let soon = ceiling.forecast.as_ref().map(|forecast| forecast.seconds);
        let soon = soon.filter(|&s| s <= SOON_S && ceiling.ratio() >= SOON_FROM && !ceiling.idle);
        if status < Status::Warning && soon.is_none() {
            return None;
        }
        let lately = |failed: &&Failed| {
            failed.since == Since::Interval && failed.count > 0 && Some(failed.error) != by_event
        };
        let per_s = ceiling.drops_per_s();
        let mut sentence = usage(ceiling);
        for failed in ceiling.failures.iter().filter(lately).take(2) {
            let often = failed.per_s.map_or_else(|| thousands(failed.count), |it| rate(it) + "/s");
            sentence += &format!("; {} {often}", failed.error);
        }
        if let Some(seconds) = soon {
            sentence += &format!("; full in {}", time_left(seconds));
        }
        sentence += &self.place(ceiling.subject.netns());
        Some(Incident {
            status: status.max(Status::Warning),
            about: About::Ceiling(ceiling.subject.clone()),
            sentence,
            remedy: ceiling.remedy.clone(),
            per_s,
            doubt: self.doubt(ceiling.inferred),
        })
    }

    /// The fullest finding that failures may belong to.
    fn fullest(&self, whose: Whose) -> Option<&Ceiling> {
        let of_it = self.gauges.iter().map(|gauge| &gauge.ceiling);
        let of_it = of_it.filter(|ceiling| Whose::of_subject(&ceiling.subject) == Some(whose));
        of_it.max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
    }

    fn place(&self, netns: Option<u32>) -> String {
        match netns.filter(|netns| Some(*netns) != self.own_netns) {
            Some(netns) => format!(" [netns {netns}]"),
            None => String::new(),
        }
    }

    fn doubt(&self, inferred: bool) -> Option<&'static str> {
        if self.losing {
            Some("events were lost: there may be more failures")
        } else {
            inferred.then_some("the limit or the usage is inferred")
        }
    }
}

fn about(key: &FailureKey) -> About {
    match (key.dst, key.dport) {
        (Some(dst), Some(dport)) if dport != 0 => {
            About::Upstream(UpstreamKey { netns: key.netns, dst, dport })
        }
        _ => About::Other,
    }
}

/// The process with most failures.
/// How bad a finding is but for its failures with this error.
fn judged_without(ceiling: &Ceiling, error: &str) -> Status {
    let mut ceiling = ceiling.clone();
    ceiling.failures.retain(|failed| failed.error != error);
    Thresholds::default().judge(&ceiling)
}

fn most(who: &BTreeMap<u32, u64>) -> Option<u32> {
    who.iter().max_by_key(|&(pid, count)| (count, Reverse(pid))).map(|(&pid, _)| pid)
}

/// What to do where no finding is there yet to say it.
fn advice_of(whose: Whose) -> Vec<String> {
    let reason = match whose {
        Whose::Upstream { .. } | Whose::BindPool { .. } => Reason::PortRangeExhausted,
        Whose::Process { .. } => Reason::ProcessFileLimit,
        Whose::Host => Reason::SystemFileLimit,
    };
    advice(Some(reason))
}

fn advice(reason: Option<Reason>) -> Vec<String> {
    reason.map(|reason| reason.advice().to_owned()).into_iter().collect()
}
