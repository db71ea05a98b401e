//! `check --format text`: what is wrong first, with its remedy; one line for each kind that is well.

use std::io::Write;

use super::text::{BOLD, Paint, RED, YELLOW};
use crate::{
    ceilings::{Ceiling, Failed, Kind, Since, Subject, Traffic, User, thresholds::Status},
    check::{Findings, Judged, Report, UNCOUNTED, worst_first},
    human::{rate, thousands, time_left},
};

/// Findings of a kind and a status that are shown in full.
const SHOWN: usize = 10;
/// Processes or addresses that are named.
const SHOWN_WHO: usize = 5;

/// Prints it; `colour`: paint.
pub fn print(report: &Report, colour: bool, out: &mut Vec<u8>) {
    let blind = report.unseen.iter().filter(|what| *what != UNCOUNTED).count();
    let page = Page { paint: Paint(colour), own_netns: report.own_netns };
    let paint = page.paint;
    page.findings(&report.now, "socklife", blind, out);
    if let Some((what_if, found)) = &report.what_if {
        paint.line("", "", out);
        paint.line(BOLD, &format!("what if {what_if}"), out);
        page.findings(found, "it would be", 0, out);
    }
    if !report.unseen.is_empty() {
        paint.line("", "", out);
        paint.line(BOLD, "not seen", out);
        for what in &report.unseen {
            paint.line("", &format!("  {what}"), out);
        }
    }
}

/// How a page is printed.
struct Page {
    paint: Paint,
    own_netns: Option<u32>,
}

impl Page {
    fn findings(&self, findings: &Findings, title: &str, unseen: usize, out: &mut Vec<u8>) {
        let paint = self.paint;
        let count = |status| findings.list.iter().filter(|judged| judged.status == status).count();
        // Monitoring systems show the first line.
        let summary = format!(
            "{title} {}: {} critical, {} warning, {} ok{}{}",
            findings.status.name(),
            count(Status::Critical),
            count(Status::Warning),
            count(Status::Ok),
            if unseen > 0 { format!(", not seen: {unseen}") } else { String::new() },
            worst(findings)
                .map_or_else(String::new, |worst| format!("; {}", headline(worst, self.own_netns))),
        );
        // Behind a bar they look for figures of their own.
        paint.line(style(findings.status), &summary.replace('|', "/"), out);
        for status in [Status::Critical, Status::Warning] {
            for kind in Kind::ALL {
                let of_it = |judged: &&Judged| {
                    judged.status == status && judged.ceiling.subject.kind() == kind
                };
                let mut these: Vec<_> = findings.list.iter().filter(of_it).collect();
                these.sort_by(|a, b| worst_first(a, b));
                let (mut shown, mut more) = (0, 0);
                for judged in these {
                    if shown == SHOWN {
                        more += 1;
                        continue;
                    }
                    shown += 1;
                    self.finding(judged, out);
                }
                if more > 0 {
                    let line = format!(
                        "  and {more} more {} like these (--format json has all)",
                        kind.name()
                    );
                    paint.line("", &line, out);
                }
            }
        }
        self.well(findings, out);
    }

    fn finding(&self, Judged { ceiling, status }: &Judged, out: &mut Vec<u8>) {
        let paint = self.paint;
        paint.line("", "", out);
        let title = format!(
            "{:<8}  {}, {} left",
            status.name(),
            headline(ceiling, self.own_netns),
            thousands(ceiling.headroom())
        );
        paint.line(style(*status), &title, out);
        for (name, text) in facts(ceiling) {
            // Writing into memory can't fail.
            let _ = writeln!(out, "  {name:<9} {text}");
        }
    }

    /// What needs no attention: a line for each kind, with its fullest.
    fn well(&self, findings: &Findings, out: &mut Vec<u8>) {
        let paint = self.paint;
        let mut lines = Vec::new();
        for kind in Kind::ALL {
            let these = findings.list.iter().filter(|judged| {
                judged.status == Status::Ok && judged.ceiling.subject.kind() == kind
            });
            let these: Vec<_> = these.collect();
            let fullest = these.iter().find(|judged| !judged.ceiling.idle).or(these.first());
            if let Some(Judged { ceiling, .. }) = fullest {
                let percent = (ceiling.ratio() * 1000.0).round() / 10.0;
                lines.push(format!(
                    "  {:<17} {:>5}  fullest: {}, {} of {} ({percent} %)",
                    kind.name(),
                    these.len(),
                    subject(ceiling, self.own_netns),
                    thousands(ceiling.used),
                    thousands(ceiling.limit),
                ));
            }
        }
        if !lines.is_empty() {
            paint.line("", "", out);
            paint.line(BOLD, "ok", out);
            for line in &lines {
                paint.line("", line, out);
            }
        }
    }
}

/// `ephemeral-ports 10.0.0.1 to 10.0.0.2:80: 28,232 of 28,232 (100 %)`
pub(crate) fn headline(ceiling: &Ceiling, own_netns: Option<u32>) -> String {
    let percent = (ceiling.ratio() * 1000.0).round() / 10.0;
    format!(
        "{} {}: {} of {} ({percent} %)",
        ceiling.subject.kind().name(),
        subject(ceiling, own_netns),
        thousands(ceiling.used),
        thousands(ceiling.limit),
    )
}

/// With its network namespace, where that isn't our own.
pub(crate) fn subject(ceiling: &Ceiling, own_netns: Option<u32>) -> String {
    match ceiling.subject.netns().filter(|netns| Some(*netns) != own_netns) {
        Some(netns) => format!("{} [netns {netns}]", ceiling.subject),
        None => ceiling.subject.to_string(),
    }
}

/// What there is to say of a finding besides its usage: what it is called, and what it is.
pub(crate) fn facts(ceiling: &Ceiling) -> Vec<(&'static str, String)> {
    let mut facts: Vec<_> =
        ceiling.failures.iter().map(|failed| ("failed", failure(failed))).collect();
    if !ceiling.who.is_empty() {
        let named = ceiling.who.iter().take(SHOWN_WHO).map(|user| who(ceiling, user));
        facts.push(("used by", named.collect::<Vec<_>>().join(", ")));
    }
    if let Some(traffic) = &ceiling.traffic {
        facts.push(("sockets", states(traffic)));
        let rates = rates(traffic);
        if !rates.is_empty() {
            facts.push(("rates", rates));
        }
    }
    if let Some(entered) = ceiling.entered_per_s {
        facts.push(("rates", format!("{} entries made a second", rate(entered))));
    }
    if let Some(forecast) = &ceiling.forecast {
        facts.push(("full in", format!("{} ({})", time_left(forecast.seconds), forecast.basis)));
    }
    facts.extend(ceiling.notes.iter().map(|note| ("note", note.clone())));
    for (index, way) in ceiling.remedy.iter().enumerate() {
        facts.push((if index == 0 { "remedy" } else { "      or" }, way.clone()));
    }
    facts.push(("read from", ceiling.evidence.to_string()));
    facts
}

fn style(status: Status) -> &'static str {
    match status {
        Status::Critical => RED,
        Status::Warning | Status::Unknown => YELLOW,
        Status::Ok => "",
    }
}

fn worst(findings: &Findings) -> Option<&Ceiling> {
    let bad = findings.list.iter().filter(|judged| judged.status > Status::Unknown);
    bad.min_by(|a, b| worst_first(a, b)).map(|judged| &judged.ceiling)
}

fn failure(failed: &Failed) -> String {
    let since = match (failed.since, failed.per_s) {
        (Since::Interval, Some(per_s)) => format!(" while watching ({}/s)", rate(per_s)),
        (Since::Interval, None) => " while watching".to_owned(),
        (Since::Boot, _) => {
            " since counting began (boot, or its namespace's or listener's start)".to_owned()
        }
    };
    let named = failed.who.iter().take(SHOWN_WHO);
    let who: Vec<_> =
        named.map(|(pid, comm, count)| format!("{comm}[{pid}] {}", thousands(*count))).collect();
    let who = if who.is_empty() { String::new() } else { format!(": {}", who.join(", ")) };
    format!("{} {}{since}{who}", thousands(failed.count), failed.error)
}

fn who(ceiling: &Ceiling, user: &User) -> String {
    match user {
        User::Process(pid, comm, _) if matches!(ceiling.subject, Subject::Listener { .. }) => {
            format!("{comm}[{pid}]")
        }
        User::Process(pid, comm, count) => {
            let what = if ceiling.subject == Subject::Host { "files" } else { "sockets" };
            format!("{comm}[{pid}] {} {what}", thousands(*count))
        }
        User::Address(address, count) => format!("{address} {} entries", thousands(*count)),
    }
}

fn states(traffic: &Traffic) -> String {
    let mut states: Vec<_> = traffic.states.iter().collect();
    states.sort_by_key(|&(_, count)| std::cmp::Reverse(*count));
    let states = states.into_iter().map(|(state, count)| format!("{} {state}", thousands(*count)));
    let mut states: Vec<_> = states.collect();
    if traffic.reusable > 0 {
        states.push(format!("{} of them may be taken over", thousands(traffic.reusable)));
    }
    if states.is_empty() { "none".to_owned() } else { states.join(", ") }
}

fn rates(traffic: &Traffic) -> String {
    let mut rates = Vec::new();
    if let Some(entered) = traffic.entered_per_s {
        rates.push(format!("{} a second enter TIME-WAIT", rate(entered)));
    }
    if let Some(most) = traffic.sustainable_per_s {
        rates.push(format!(
            "up to {} new connections a second are sustainable while this side closes first",
            rate(most)
        ));
    }
    if let Some((here, peer)) = traffic.closed {
        rates.push(format!(
            "closed first: {} by this side, {} by the upstream",
            thousands(here),
            thousands(peer)
        ));
    }
    rates.join("; ")
}
