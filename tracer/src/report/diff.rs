//! Two captures side by side: before and after a fix. Rates, not totals, since they last differently long; by names
//! that outlive a restart: neither network namespaces nor process ids are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Report, settings::differing};
use crate::{
    capture::content::{NamespaceSysctls, Sysctls},
    ceilings::{self, Kind, Subject, history::per_s},
    human::thousands,
    reason::Reason,
};

/// A figure of both captures; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// Before.
    pub a: Option<f64>,
    /// After.
    pub b: Option<f64>,
}

impl Pair {
    /// By how many percent it changed; `None`: it isn't known, or there was none before.
    #[must_use]
    pub fn change_percent(&self) -> Option<f64> {
        let (a, b) = (self.a?, self.b?);
        (a > 0.0).then(|| (b - a) / a * 100.0)
    }

    fn most(&self) -> f64 {
        self.a.unwrap_or(0.0).max(self.b.unwrap_or(0.0))
    }
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name; of a namespace other than the recorder's with the namespace before and after.
    pub name: String,
    /// Before; `None`: not known.
    pub a: Option<String>,
    /// After.
    pub b: Option<String>,
}

/// An upstream in both.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its address.
    pub dst: IpAddr,
    /// Its port.
    pub dport: u16,
    /// Failures a second.
    pub failed: Pair,
    /// Connections that became established, a second.
    pub opened: Pair,
    /// Entries in TIME-WAIT, a second.
    pub time_waits: Pair,
}

/// A ceiling in both: the highest used part of its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Its kind.
    pub kind: Kind,
    /// Of what, without what a restart changes.
    pub subject: String,
    /// The ratio.
    pub ratio: Pair,
}

/// What differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// Why the figures are to be taken with care.
    pub warnings: Vec<String>,
    /// Settings at the beginning that differ.
    pub settings: Vec<Setting>,
    /// Events a second.
    pub events: Pair,
    /// Connections that became established, on either side, a second.
    pub opened: Pair,
    /// Entries in TIME-WAIT, a second.
    pub time_waits: Pair,
    /// Failures a second.
    pub failed: Pair,
    /// The same by reason, most first.
    pub reasons: Vec<(Option<Reason>, Pair)>,
    /// Upstreams, most failures first.
    pub upstreams: Vec<Upstream>,
    /// Ceilings, the fullest first.
    pub ceilings: Vec<Ceiling>,
}

/// Compares two captures, the one before first.
#[must_use]
pub fn of(a: &Report, b: &Report) -> Diff {
    let rate = |of: &dyn Fn(&Report) -> u64| {
        let one = |report: &Report| {
            let seconds = report.seconds();
            (seconds > 0.0).then(|| per_s(of(report), seconds))
        };
        Pair { a: one(a), b: one(b) }
    };
    let reasons: BTreeSet<_> = a.reasons.iter().chain(&b.reasons).map(|(it, _)| *it).collect();
    let mut reasons: Vec<_> = reasons
        .into_iter()
        .map(|reason| {
            let count = |report: &Report| {
                report.reasons.iter().find(|(it, _)| *it == reason).map_or(0, |(_, count)| *count)
            };
            (reason, rate(&count))
        })
        .collect();
    reasons.sort_by(|(_, x), (_, y)| y.most().total_cmp(&x.most()));
    let (ups_a, ups_b) = (upstreams(a), upstreams(b));
    let names: BTreeSet<_> = ups_a.keys().chain(ups_b.keys()).copied().collect();
    let mut upstreams: Vec<_> = names
        .into_iter()
        .map(|name| {
            let count = |at: fn(&Counts) -> u64| {
                let one = |counts: &Upstreams, report: &Report| {
                    let seconds = report.seconds();
                    (seconds > 0.0).then(|| per_s(counts.get(&name).map_or(0, at), seconds))
                };
                Pair { a: one(&ups_a, a), b: one(&ups_b, b) }
            };
            Upstream {
                dst: name.0,
                dport: name.1,
                failed: count(|it| it.failed),
                opened: count(|it| it.opened),
                time_waits: count(|it| it.time_waits),
            }
        })
        .collect();
    upstreams.sort_by(|x, y| {
        let by_opened = || y.opened.most().total_cmp(&x.opened.most());
        y.failed.most().total_cmp(&x.failed.most()).then_with(by_opened)
    });
    Diff {
        warnings: warnings(a, b),
        settings: settings(a, b),
        events: rate(&|report| report.events),
        opened: rate(&|report| report.timeline.steps.iter().map(|step| step.opened).sum()),
        time_waits: rate(&|report| report.timeline.steps.iter().map(|step| step.time_waits).sum()),
        failed: rate(&|report| report.failed),
        reasons,
        upstreams,
        ceilings: ceilings(a, b),
    }
}

/// What is counted of an upstream, in all namespaces together.
#[derive(Default)]
struct Counts {
    failed: u64,
    opened: u64,
    time_waits: u64,
}

type Upstreams = BTreeMap<(IpAddr, u16), Counts>;

fn upstreams(report: &Report) -> Upstreams {
    let mut all = Upstreams::new();
    for it in &report.upstreams {
        let counts = all.entry((it.key.dst, it.key.dport)).or_default();
        counts.failed += it.failed();
        counts.opened += it.opened;
        counts.time_waits += it.time_waits;
    }
    all
}

fn ceilings(a: &Report, b: &Report) -> Vec<Ceiling> {
    let mut all: BTreeMap<(Kind, String), Pair> = BTreeMap::new();
    for (report, is_before) in [(a, true), (b, false)] {
        for it in report.ceilings.iter().filter(|it| !it.worst.ceiling.idle) {
            let ceiling = &it.worst.ceiling;
            let name = (ceiling.subject.kind(), lasting(ceiling));
            let pair = all.entry(name).or_default();
            let ratio = if is_before { &mut pair.a } else { &mut pair.b };
            *ratio = Some(ratio.map_or(ceiling.ratio(), |before| before.max(ceiling.ratio())));
        }
    }
    let mut all: Vec<_> =
        all.into_iter().map(|((kind, subject), ratio)| Ceiling { kind, subject, ratio }).collect();
    all.sort_by(|x, y| y.ratio.most().total_cmp(&x.ratio.most()));
    all
}

/// A subject's name without a process id.
fn lasting(ceiling: &ceilings::Ceiling) -> String {
    match &ceiling.subject {
        Subject::Process { comm, .. } => comm.to_string(),
        other => other.to_string(),
    }
}

fn settings(a: &Report, b: &Report) -> Vec<Setting> {
    let (Some(before), Some(after)) = (&a.settings, &b.settings) else { return Vec::new() };
    let setting = |(name, a, b): (&String, Option<&String>, Option<&String>), place: &str| {
        Setting { name: format!("{name}{place}"), a: a.cloned(), b: b.cloned() }
    };
    let host = differing(&before.host, &after.host);
    let mut all: Vec<_> = host.map(|it| setting(it, "")).collect();
    for (x, y) in namespaces((a, before), (b, after)) {
        let place = if Some(x.netns) == a.header.own_netns {
            String::new()
        } else if x.netns == y.netns {
            format!(" [netns {}]", x.netns)
        } else {
            format!(" [netns {} and {}]", x.netns, y.netns)
        };
        all.extend(differing(&x.sysctls, &y.sysctls).map(|it| setting(it, &place)));
    }
    all
}

/// Namespaces that are the same: by number within one boot, else the recorder's own, or the only other one.
fn namespaces<'a>(
    (a, before): (&Report, &'a Sysctls),
    (b, after): (&Report, &'a Sysctls),
) -> Vec<(&'a NamespaceSysctls, &'a NamespaceSysctls)> {
    let same_boot = !a.header.boot_id.is_empty() && a.header.boot_id == b.header.boot_id;
    let is_own = |report: &Report, it: &NamespaceSysctls| Some(it.netns) == report.header.own_netns;
    let alike = |x: &NamespaceSysctls, y: &NamespaceSysctls| {
        (is_own(a, x) && is_own(b, y)) || (same_boot && x.netns == y.netns)
    };
    let mut pairs = Vec::new();
    let mut alone = Vec::new();
    for x in &before.namespaces {
        match after.namespaces.iter().find(|y| alike(x, y)) {
            Some(y) => pairs.push((x, y)),
            None => alone.push(x),
        }
    }
    let mut others = after.namespaces.iter().filter(|y| !pairs.iter().any(|(_, it)| it == y));
    if let ([x], Some(y), None) = (alone.as_slice(), others.next(), others.next()) {
        pairs.push((x, y));
    }
    pairs
}

fn warnings(a: &Report, b: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, report) in [("A", a), ("B", b)] {
        let lost = report.lost.events();
        if lost > 0 {
            warnings.push(format!(
                "{name}: {} events were lost, so its rates are lower bounds",
                thousands(lost)
            ));
        }
        if report.damaged > 0 {
            warnings.push(format!("{name}: the file is damaged; {}", report.missing_words()));
        }
        if report.undecodable > 0 {
            let unread = thousands(report.undecodable);
            warnings.push(format!("{name}: {unread} records were not understood"));
        }
        if report.end.is_none() {
            let what = "its recording was cut off: rates are of the time until its last event";
            warnings.push(format!("{name}: {what}"));
        }
        if let Some(trigger) = &report.header.trigger {
            warnings.push(format!(
                "{name}: recorded around a trigger ({trigger}): rates are of that time only"
            ));
        }
        let beyond = [report.unplaced, report.more_upstreams, report.more_ceilings];
        if beyond.into_iter().any(|count| count > 0) {
            let what = "not all of its upstreams and ceilings found room: some may look like none";
            warnings.push(format!("{name}: {what}"));
        }
    }
    if filters(a) != filters(b) {
        warnings.push("they were recorded with different filters".to_owned());
    }
    if a.header.unseen != b.header.unseen {
        warnings.push("the two kernels don't show the same kinds of events".to_owned());
    }
    warnings
}

/// Options of `record` that are no filter, and whether a value follows.
const NO_FILTERS: [(&str, bool); 13] = [
    ("-o", true),
    ("--output", true),
    ("--force", false),
    ("--duration", true),
    ("--max-size", true),
    ("--rotate", true),
    ("--before", true),
    ("--after", true),
    ("--memory", true),
    ("--format", true),
    ("--hooks", true),
    ("--ring-size", true),
    ("--trigger", true),
];

/// What of the command line says which events are recorded.
fn filters(report: &Report) -> Vec<&str> {
    let mut words = report.header.arguments.iter().map(String::as_str);
    let mut filters = Vec::new();
    while let Some(word) = words.next().filter(|word| *word != "--") {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let verbose =
            word.strip_prefix('-').is_some_and(|it| it.trim_start_matches('v').is_empty());
        match NO_FILTERS.iter().find(|(option, _)| *option == name) {
            Some((_, true)) if name == word => drop(words.next()),
            Some(_) => {}
            None if verbose || word == "--verbose" || word == "record" => {}
            None if word.starts_with("-o") => {}
            None => filters.push(word),
        }
    }
    filters
}
