//! What is wrong now, in sentences: who can't do what, toward whom, why, how often.

#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    recent::Failing,
    shot::{About, Incident, UpstreamKey},
};
use crate::{
    ceilings::{Ceiling, Failed, Since, Subject, User, tally::Whose, thresholds::Status},
    check::Judged,
    event::{Call, State},
    failures::FailureKey,
    human::{rate, thousands, time_left},
    reason::Reason,
};

/// Most incidents of a shot.
const MAX_INCIDENTS: usize = 64;
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
    /// Events were lost in the last seconds.
    pub losing: bool,
}

/// The incidents, worst first.
#[must_use]
pub fn incidents(facts: &Facts<'_>) -> Vec<Incident> {
    let mut found: Vec<Incident> = alike(facts.failing)
        .iter()
        .filter_map(|group| match group.as_slice() {
            [(key, failing)] => facts.of_failures(key, failing),
            several => facts.of_many(several),
        })
        .collect();
    let told: HashSet<Subject> = found
        .iter()
        .filter_map(|incident| match &incident.about {
            About::Ceiling(subject) => Some(subject.clone()),
            About::Upstream(_) | About::Other => None,
        })
        .collect();
    let others = facts.gauges.iter().filter(|gauge| !told.contains(&gauge.ceiling.subject));
    found.extend(others.filter_map(|gauge| facts.of_finding(gauge)));
    found.sort_by(worst_first);
    found.truncate(MAX_INCIDENTS);
    found
}

/// Failures alike but for their upstream, most first: many of them are one incident. Those that a ceiling
/// caused are not: each upstream has ports of its own.
fn alike(failing: &HashMap<FailureKey, Failing>) -> Vec<Vec<(&FailureKey, &Failing)>> {
    let mut groups: HashMap<FailureKey, Vec<(&FailureKey, &Failing)>> = HashMap::new();
    let mut alone = Vec::new();
    for (key, failing) in failing {
        if Whose::of(key, most(&failing.who)).is_some() || is_noise(key) {
            alone.push(vec![(key, failing)]);
        } else {
            let anywhere = FailureKey { src: None, dst: None, dport: None, ..*key };
            groups.entry(anywhere).or_default().push((key, failing));
        }
    }
    for (_, mut group) in groups {
        if group.len() > MAX_ALIKE {
            group.sort_by(|(a, x), (b, y)| y.count.cmp(&x.count).then_with(|| a.cmp(b)));
            alone.push(group);
        } else {
            alone.extend(group.into_iter().map(|one| vec![one]));
        }
    }
    alone
}

fn worst_first(a: &Incident, b: &Incident) -> Ordering {
    let by_ceiling = |incident: &Incident| matches!(incident.about, About::Ceiling(_));
    (b.status.cmp(&a.status))
        .then(by_ceiling(b).cmp(&by_ceiling(a)))
        .then(b.per_s.total_cmp(&a.per_s))
        .then_with(|| a.sentence.cmp(&b.sentence))
}

impl Facts<'_> {
    fn of_failures(&self, key: &FailureKey, failing: &Failing) -> Option<Incident> {
        let who = who(key, &failing.who);
        let pid = most(&failing.who);
        let whose = Whose::of(key, pid);
        let ceiling = whose.and_then(|whose| self.fullest(whose));
        let (what, about, remedy) = match (whose, ceiling) {
            (Some(whose), ceiling) => (
                what_fails(&who, key, ceiling),
                ceiling
                    .map_or_else(|| about(key), |ceiling| About::Ceiling(ceiling.subject.clone())),
                ceiling.map_or_else(|| advice_of(whose), |ceiling| ceiling.remedy.clone()),
            ),
            (None, _) if is_noise(key) => return None,
            (None, _) => {
                let advice = key.reason.map(|reason| reason.advice().to_owned());
                (what_fails(&who, key, None), about(key), advice.into_iter().collect())
            }
        };
        let status = if whose.is_some() { Status::Critical } else { Status::Warning };
        let sentence = format!("{what}; {}{}", failures(failing), self.place(key.netns));
        let inferred = ceiling.is_some_and(|ceiling| ceiling.inferred);
        let doubt = self.doubt(inferred);
        Some(Incident { status, about, sentence, remedy, per_s: failing.per_s, doubt })
    }

    /// `group`: alike but for their upstream, most failures first.
    fn of_many(&self, group: &[(&FailureKey, &Failing)]) -> Option<Incident> {
        let (key, _) = group.first()?;
        let mut sum = Failing::default();
        for (_, failing) in group {
            sum.count += failing.count;
            sum.per_s += failing.per_s;
            for (&pid, count) in &failing.who {
                *sum.who.entry(pid).or_default() += count;
            }
        }
        let more = thousands(group.len() as u64 - 1);
        let what = what_fails(&who(key, &sum.who), key, None);
        let sentence = format!(
            "{what}, and {more} more like it; {} in all{}",
            failures(&sum),
            self.place(key.netns)
        );
        let remedy = key.reason.map(|reason| reason.advice().to_owned()).into_iter().collect();
        let (status, per_s, doubt) = (Status::Warning, sum.per_s, self.doubt(false));
        Some(Incident { status, about: about(key), sentence, remedy, per_s, doubt })
    }

    fn of_finding(&self, judged: &Judged) -> Option<Incident> {
        let Judged { ceiling, status } = judged;
        let soon = ceiling.forecast.as_ref().map(|forecast| forecast.seconds);
        let soon = soon.filter(|&s| s <= SOON_S && ceiling.ratio() >= SOON_FROM && !ceiling.idle);
        if *status < Status::Warning && soon.is_none() {
            return None;
        }
        let lately = |failed: &&Failed| failed.since == Since::Interval && failed.count > 0;
        let failed: Vec<&Failed> = ceiling.failures.iter().filter(lately).collect();
        let per_s = failed.iter().filter_map(|failed| failed.per_s).sum();
        let mut sentence = usage(ceiling);
        for failed in failed.iter().take(2) {
            let often =
                failed.per_s.map_or_else(|| thousands(failed.count), |per_s| rate(per_s) + "/s");
            sentence += &format!("; {} {often}", failed.error);
        }
        if let Some(seconds) = soon {
            sentence += &format!("; full in {}", time_left(seconds));
        }
        sentence += &self.place(ceiling.subject.netns());
        Some(Incident {
            status: (*status).max(Status::Warning),
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

/// What goes on at every server all the time: clients that go away.
fn is_noise(key: &FailureKey) -> bool {
    let toward_upstream = key.dst.is_some() && key.dport.is_some();
    key.call.is_none() && !toward_upstream
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
fn most(who: &BTreeMap<u32, u64>) -> Option<u32> {
    who.iter().max_by_key(|&(pid, count)| (count, std::cmp::Reverse(pid))).map(|(&pid, _)| pid)
}

/// `nginx[812] and 3 more`
fn who(key: &FailureKey, who: &BTreeMap<u32, u64>) -> String {
    let comm =
        key.comm.map_or_else(|| "a process that is not known".to_owned(), |comm| comm.to_string());
    match (most(who), who.len()) {
        (None, _) => comm,
        (Some(pid), 1) => format!("{comm}[{pid}]"),
        (Some(pid), several) => format!("{comm}[{pid}] and {} more", several - 1),
    }
}

fn failures(failing: &Failing) -> String {
    // Fewer than one in the newest spans, but some before.
    if failing.per_s > 0.0 {
        format!("{} failures/s", rate(failing.per_s))
    } else {
        format!("{} failures in the last seconds", thousands(failing.count))
    }
}

fn what_fails(who: &str, key: &FailureKey, ceiling: Option<&Ceiling>) -> String {
    let at = |address: Option<std::net::IpAddr>, port: Option<u16>| match (address, port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => "?".to_owned(),
    };
    let of = |what: &str| {
        ceiling.map_or_else(String::new, |ceiling| {
            let (used, limit) = (thousands(ceiling.used), thousands(ceiling.limit));
            format!(" ({used} of {limit} {what}{})", time_waits(ceiling))
        })
    };
    match (key.reason, key.call) {
        (Some(Reason::PortRangeExhausted), None) => {
            let upstream = at(key.dst, key.dport);
            format!("{who} can't connect to {upstream}: no free local port{}", of("used"))
        }
        (Some(Reason::PortRangeExhausted), _) => {
            format!(
                "{who} can't bind() to port 0 of {}: no free port{}",
                at(key.src, None),
                of("used")
            )
        }
        (Some(Reason::ProcessFileLimit), _) => {
            format!("{who} can't open more files: EMFILE{}", of("open"))
        }
        (Some(Reason::SystemFileLimit), _) => {
            format!("{who} can't open a file: the host has no free one, ENFILE{}", of("open"))
        }
        (reason, call) => {
            let reason = reason.map_or("failed", Reason::name);
            let error = key.error.map_or_else(String::new, |error| format!(" ({error})"));
            let what = match (call, reason) {
                (Some(Call::Bind), _) => format!("can't bind() to {}", at(key.src, key.sport)),
                (_, "reset") => format!("is cut off by {}", at(key.dst, key.dport)),
                _ => format!("can't connect to {}", at(key.dst, key.dport)),
            };
            format!("{who} {what}: {reason}{error}")
        }
    }
}

fn time_waits(ceiling: &Ceiling) -> String {
    let states = ceiling.traffic.as_ref().map(|traffic| &traffic.states);
    match states.and_then(|states| states.get(&State::TIME_WAIT)) {
        Some(&count) if count > 0 => format!("; {} TIME-WAIT", thousands(count)),
        _ => String::new(),
    }
}

/// How full a ceiling is, in words.
fn usage(ceiling: &Ceiling) -> String {
    let (used, limit) = (thousands(ceiling.used), thousands(ceiling.limit));
    let percent = (ceiling.ratio() * 1000.0).round() / 10.0;
    let full = ceiling.headroom() == 0;
    let whose = ceiling.who.iter().find_map(|user| match user {
        User::Process(pid, comm, _) => Some(format!("{comm}[{pid}]: ")),
        User::Address(..) => None,
    });
    let whose = whose.unwrap_or_default();
    let waits = time_waits(ceiling);
    match &ceiling.subject {
        Subject::Upstream { .. } => format!(
            "{whose}{}: {used} of {limit} local ports used ({percent} %){waits}",
            ceiling.subject
        ),
        Subject::BindPool { .. } => {
            format!("{}: {used} of {limit} ports used ({percent} %)", ceiling.subject)
        }
        Subject::TimeWait { .. } if full => {
            format!(
                "TIME-WAIT table full ({used} of {limit}): sockets that close are forgotten at once"
            )
        }
        Subject::TimeWait { .. } => {
            format!("{used} of {limit} entries in TIME-WAIT (tcp_max_tw_buckets, {percent} %)")
        }
        Subject::Process { .. } => {
            format!("{}: {used} of {limit} files open ({percent} %)", ceiling.subject)
        }
        Subject::Host => format!("all processes: {used} of {limit} files open ({percent} %)"),
        Subject::Conntrack { .. } if full => {
            format!("new connections are dropped: conntrack table full ({used} of {limit})")
        }
        Subject::Conntrack { .. } => {
            format!("conntrack table: {used} of {limit} entries ({percent} %)")
        }
        Subject::Listener { .. } => {
            let listener = &ceiling.subject;
            format!("{whose}accept queue of {listener}: {used} wait, backlog {limit} ({percent} %)")
        }
    }
}

/// What to do where no finding is there yet to say it.
fn advice_of(whose: Whose) -> Vec<String> {
    let reason = match whose {
        Whose::Upstream { .. } | Whose::BindPool { .. } => Reason::PortRangeExhausted,
        Whose::Process { .. } => Reason::ProcessFileLimit,
        Whose::Host => Reason::SystemFileLimit,
    };
    vec![reason.advice().to_owned()]
}
