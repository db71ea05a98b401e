//! What is told of one host.

use maud::{Markup, PreEscaped, html};

use super::{
    answers, charts, ground, tables,
    words::{Times, badge, first_of, inert, lasting, more, percent, reasons},
};
use crate::{
    human::{rate, thousands},
    report::{Incident, Report},
    sink::{check_text::subject, text::told},
};

/// Most incidents that are shown.
const INCIDENTS: usize = 50;
/// Most remedies of one.
const REMEDIES: usize = 10;
/// Most damaged places that are named.
const DAMAGE: usize = 20;

/// A report's part of the page.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) report: &'a Report,
    pub(super) times: Times,
    /// Which one it is; `None`: the only one.
    index: Option<usize>,
}

impl<'a> Host<'a> {
    /// The `index`th of so many reports.
    pub(super) fn new(report: &'a Report, index: usize, of: usize) -> Self {
        Self { report, times: Times::of(report), index: (of > 1).then_some(index + 1) }
    }

    /// An id that no other part of the page has.
    pub(super) fn id(&self, name: &str) -> String {
        self.index.map_or_else(
            || name.trim_start_matches('-').to_owned(),
            |index| format!("host-{index}{name}"),
        )
    }

    /// A heading, so many levels below that of the host.
    pub(super) fn heading(&self, below: usize, id: Option<&str>, text: &Markup) -> Markup {
        let level = below + if self.index.is_some() { 2 } else { 1 };
        let (open, close) = (format!("<h{level}"), format!("</h{level}>"));
        html! {
            (PreEscaped(open))
            @if let Some(id) = id { (PreEscaped(" id=\"")) (id) (PreEscaped("\"")) }
            (PreEscaped(">")) (text) (PreEscaped(close))
        }
    }

    /// A part with a heading.
    fn section(&self, (name, title): (&str, &str), contents: &Markup) -> Markup {
        let id = self.id(name);
        html! {
            section aria-labelledby=(id) {
                (self.heading(1, Some(&id), &html! { (title) }))
                (contents)
            }
        }
    }

    fn parts(&self) -> Vec<((&'static str, &'static str), Markup)> {
        let mut parts = vec![
            (("-why", "What failed, when and why"), self.why()),
            (("-course", "How it went"), charts::course(self)),
            (("-failures", "Failures"), tables::failures(self)),
            (("-ceilings", "Ceilings"), tables::ceilings(self)),
            (("-upstreams", "Upstreams"), tables::upstreams(self)),
            (("-processes", "Processes"), tables::processes(self)),
            (("-settings", "Settings of the host"), ground::settings(self)),
            (("-recorded", "How it was recorded"), ground::recorded(self)),
        ];
        if let Some(captured) = &self.report.answers {
            let failures = parts.iter().position(|((name, _), _)| *name == "-failures");
            let part =
                (("-answers", "Failed answers of proxies"), answers::part(self.report, captured));
            parts.insert(failures.map_or(0, |at| at + 1), part);
        }
        parts
    }

    /// Where its parts are.
    pub(super) fn contents(&self) -> Markup {
        html! {
            nav aria-label=(format!("Parts: {}", name(self.report))) {
                ul {
                    @for ((name, title), _) in self.parts() {
                        li { a href={ "#" (self.id(name)) } { (title) } }
                    }
                }
            }
        }
    }

    /// All of it.
    pub(super) fn sections(&self) -> Markup {
        html! {
            (self.banner())
            @for (name, contents) in self.parts() { (self.section(name, &contents)) }
        }
    }

    /// The same, below a heading of its own.
    pub(super) fn as_one_of_several(&self) -> Markup {
        let id = self.id("");
        html! {
            section.host aria-labelledby=(id) {
                (self.heading(0, Some(&id), &html! { (name(self.report)) }))
                (when(self.report))
                (self.contents())
                (self.sections())
            }
        }
    }

    /// What is missing, where anything is.
    fn banner(&self) -> Markup {
        let missing = missing(self.report);
        let (places, left_out) = first_of(&self.report.damage, DAMAGE);
        let named = places.len() as u64;
        html! {
            @if !missing.is_empty() {
                aside.banner aria-label=(format!("What is missing: {}", name(self.report))) {
                    p {
                        strong { "Not everything is here." }
                        @if self.report.is_incomplete() { " Counts are lower bounds." }
                    }
                    ul { @for line in missing { li { (line) } } }
                    @if named > 0 {
                        details {
                            summary { "Damaged places" }
                            ul { @for place in places { li { (place) } } }
                            (more(self.report.damaged.saturating_sub(named).max(left_out as u64), "places"))
                        }
                    }
                }
            }
        }
    }

    fn why(&self) -> Markup {
        let report = self.report;
        let (shown, left_out) = first_of(&report.incidents, INCIDENTS);
        html! {
            @if report.failed > 0 {
                p { (failed(report)) " failures: " (reasons(&report.reasons)) "." }
            } @else {
                p { "No failure was recorded." }
            }
            @if shown.is_empty() {
                p { "No incident: no ceiling came near its limit, and nothing kept failing." }
            }
            @for incident in shown { (self.incident(incident)) }
            (more(report.more_incidents.saturating_add(left_out as u64), "incidents"))
        }
    }

    fn incident(&self, incident: &Incident) -> Markup {
        let lasted = incident.last_ns.saturating_sub(incident.first_ns);
        let title = html! {
            (badge(incident.status)) " "
            (self.times.range(incident.first_ns, incident.last_ns))
            @if lasted >= 1_000_000_000 { ", " (lasting(lasted)) }
            @if incident.peak_per_s > 0.0 { ", up to " (rate(incident.peak_per_s)) " failures/s" }
        };
        let (ways, _) = first_of(&incident.remedy, REMEDIES);
        html! {
            article.incident {
                (self.heading(2, None, &title))
                p.sentence { (inert(&incident.sentence)) }
                @if let Some(doubt) = incident.doubt { p { em { (inert(doubt)) "." } } }
                @if !ways.is_empty() {
                    p { "What to do" @if ways.len() > 1 { ", one of these" } ":" }
                    ul.ways { @for way in ways { li { (inert(way)) } } }
                }
            }
        }
    }
}

/// The host's name.
pub(super) fn name(report: &Report) -> String {
    let name = inert(&report.header.host);
    if name.is_empty() { "a host without a name".to_owned() } else { name }
}

/// When it was recorded, for how long, and how much.
pub(super) fn when(report: &Report) -> Markup {
    let times = Times::of(report);
    html! {
        p.when {
            (times.stamp(report.begin_ns())) " to " (times.stamp(report.end_ns())) ": "
            (lasted(report)) ", " (thousands(report.events)) " events, " (failed(report)) " failures"
        }
        p.when { "From " code { (inert(&report.file)) } }
    }
}

/// How long it was recorded.
pub(super) fn lasted(report: &Report) -> String {
    lasting(report.end_ns().saturating_sub(report.begin_ns()))
}

/// How many failures, as far as is known.
pub(super) fn failed(report: &Report) -> String {
    let doubt = if report.is_incomplete() { " or more" } else { "" };
    format!("{}{doubt}", thousands(report.failed))
}

/// The ceiling that came nearest to its limit.
pub(super) fn fullest(report: &Report) -> String {
    report.ceilings.first().map_or_else(
        || "none was looked at".to_owned(),
        |it| {
            let ceiling = &it.worst.ceiling;
            let of = subject(ceiling, report.header.own_netns);
            let kind = ceiling.subject.kind().name();
            inert(&format!("{kind} {of}: {}", percent(ceiling.ratio())))
        },
    )
}

/// What is missing in it, a sentence each; empty: nothing is, as far as anybody knows.
pub(super) fn missing(report: &Report) -> Vec<String> {
    let mut missing = Vec::new();
    if report.end.is_none() {
        let last = Times::of(report).time(report.last_ns);
        missing
            .push(format!("The recording was cut off: what came after {last} UTC is not in it."));
    }
    if report.damaged > 0 {
        let (places, events) = (thousands(report.damaged), thousands(report.missing));
        missing.push(format!(
            "The file is damaged at {places} places: {events} events are known to be missing."
        ));
    }
    if report.undecodable > 0 {
        missing.push(format!("{} records were not understood.", thousands(report.undecodable)));
    }
    missing.extend(told(&report.lost).into_iter().map(|line| format!("{line}.")));
    missing
}
