//! How it went: which charts there are, and of what.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{
    chart::{Chart, DIFFERENT, FAILED, Look, REST, STEPS, Series, Together, count, draw},
    host::{self, Host},
    words::{first_of, inert, lasting, percent, reason, sum},
};
use crate::{
    ceilings::thresholds::Status,
    human::{rate, thousands},
    reason::Reason,
    report::{Ceiling, Report, Step, Upstream},
    sink::{check_text::subject, text::endpoint},
};

/// Most charts of ceilings, and of upstreams.
const SMALL: usize = 8;
/// A ceiling that was this full came near.
const NEAR: f64 = 0.5;

/// All charts of a host.
pub(super) fn course(host: &Host<'_>) -> Markup {
    let report = host.report;
    if report.timeline.steps.is_empty() {
        return html! { p { "Nothing was recorded that could be drawn." } };
    }
    let near = report.ceilings.iter().filter(|it| came_near(it)).take(SMALL);
    let near: Vec<_> = near.enumerate().collect();
    let drawn = |it: &&Upstream| !it.opened_by_step.is_empty() || !it.failed_by_step.is_empty();
    let upstreams: Vec<_> = report.upstreams.iter().filter(drawn).take(SMALL).enumerate().collect();
    html! {
        (draw(host, &failures(host)))
        (draw(host, &connections(host)))
        (lost(host))
        @if near.is_empty() {
            p { "No ceiling came near its limit. The fullest: " (host::fullest(report)) "." }
        } @else {
            (host.heading(2, None, &html! { "Ceilings that came near" }))
            p.note {
                "Used part of the limit, the highest of each step. Lines are at 80 % (dotted), 95 % (dashed) and 100 % \
                 (solid)."
            }
            div.small { @for (index, it) in &near { (draw(host, &ceiling(host, *index, it))) } }
        }
        @if !upstreams.is_empty() {
            (host.heading(2, None, &html! { "Upstreams" }))
            div.small { @for (index, it) in &upstreams { (draw(host, &upstream(host, *index, it))) } }
        }
    }
}

fn came_near(ceiling: &Ceiling) -> bool {
    let highest = ceiling.ratios.iter().flatten().fold(0.0_f32, |a, b| a.max(*b));
    !ceiling.worst.ceiling.idle && f64::from(highest) >= NEAR
        || ceiling.worst.status > Status::Unknown
}

/// The steps that are drawn.
fn steps(report: &Report) -> &[Step] {
    first_of(&report.timeline.steps, STEPS).0
}

#[expect(clippy::cast_precision_loss, reason = "what is drawn has three digits")]
fn figure(count: u64) -> f64 {
    count as f64
}

/// How many a second so many in a step are.
#[expect(clippy::cast_precision_loss, reason = "what is drawn has three digits")]
fn per_s(report: &Report, count: u64) -> f64 {
    let step_ns = report.timeline.step_ns;
    if step_ns == 0 { 0.0 } else { count as f64 / (step_ns as f64 / 1e9) }
}

fn failures(host: &Host<'_>) -> Chart {
    let steps = steps(host.report);
    let mut totals: Vec<(Option<Reason>, u64)> = Vec::new();
    for (why, count) in steps.iter().flat_map(|step| &step.failures) {
        match totals.iter_mut().find(|(it, _)| it == why) {
            Some((_, total)) => *total = total.saturating_add(*count),
            None => totals.push((*why, *count)),
        }
    }
    totals.sort_by_key(|&(why, total)| (Reverse(total), why));
    let named: Vec<_> = totals.iter().take(DIFFERENT).map(|(why, _)| *why).collect();
    let of = |wanted: &dyn Fn(Option<Reason>) -> bool| {
        let counts = steps.iter().map(|step| {
            let these = step.failures.iter().filter(|(why, _)| wanted(*why));
            Some(figure(these.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))))
        });
        counts.collect::<Vec<_>>()
    };
    let mut series: Vec<_> = named
        .iter()
        .enumerate()
        .map(|(index, why)| Series {
            name: reason(*why).to_owned(),
            figures: of(&|it| it == *why),
            look: Look::Area(index),
        })
        .collect();
    if totals.len() > DIFFERENT {
        let (name, figures) = ("other reasons".to_owned(), of(&|it| !named.contains(&it)));
        series.push(Series { name, figures, look: Look::Area(REST) });
    }
    let step = lasting(host.report.timeline.step_ns);
    Chart {
        id: host.id("-failed"),
        title: format!("Failures in each {step}, by reason"),
        about: "Failures over time, the reasons stacked.".to_owned(),
        series,
        top: None,
        together: Together::Sum,
        shown: count,
    }
}

fn line(name: &str, class: &'static str, figures: impl Iterator<Item = Option<f64>>) -> Series {
    Series { name: name.to_owned(), figures: figures.collect(), look: Look::Line(class) }
}

fn connections(host: &Host<'_>) -> Chart {
    let report = host.report;
    let steps = steps(report);
    let rates = |of: fn(&Step) -> u64| steps.iter().map(move |step| Some(per_s(report, of(step))));
    let inferred = report.upstreams.iter().any(|upstream| upstream.inferred);
    let waits = if inferred { "into TIME-WAIT (inferred)" } else { "into TIME-WAIT" };
    Chart {
        id: host.id("-connections"),
        title: "Connections a second".to_owned(),
        about: "Connections opened, closed and put into TIME-WAIT a second, over time.".to_owned(),
        series: vec![
            line("opened", "s1", rates(|step| step.opened)),
            line("closed", "s4 dashed", rates(|step| step.closed)),
            line(waits, "s3 dotted", rates(|step| step.time_waits)),
        ],
        top: None,
        together: Together::Mean,
        shown: rate,
    }
}

/// Where events were lost, if any were.
fn lost(host: &Host<'_>) -> Markup {
    let steps = steps(host.report);
    if steps.iter().all(|step| step.lost == 0) {
        return html! {};
    }
    let figures = steps.iter().map(|step| Some(figure(step.lost))).collect();
    let name = "events lost".to_owned();
    let chart = Chart {
        id: host.id("-lost"),
        title: format!("Events lost in each {}", lasting(host.report.timeline.step_ns)),
        about: "Events lost over time: other figures of these steps are too low.".to_owned(),
        series: vec![Series { name, figures, look: Look::Area(REST) }],
        top: None,
        together: Together::Sum,
        shown: count,
    };
    draw(host, &chart)
}

fn ceiling(host: &Host<'_>, index: usize, it: &Ceiling) -> Chart {
    let worst = &it.worst.ceiling;
    let ratios = it.ratios.iter().take(steps(host.report).len()).map(|ratio| ratio.map(f64::from));
    let figures: Vec<_> = ratios.map(|ratio| ratio.filter(|ratio| ratio.is_finite())).collect();
    let highest = figures.iter().flatten().fold(worst.ratio(), |a, b| a.max(*b));
    let of = inert(&subject(worst, host.report.header.own_netns));
    let inferred = if worst.inferred { ", inferred" } else { "" };
    Chart {
        id: host.id(&format!("-ceiling-{index}")),
        title: format!("{} {of}", worst.subject.kind().name()),
        about: format!(
            "At most {} of {} ({}{inferred}), at {} UTC.",
            thousands(worst.used),
            thousands(worst.limit),
            percent(worst.ratio()),
            host.times.time(it.worst_ns),
        ),
        series: vec![line("used part of the limit", "s1", figures.into_iter())],
        // The lines are to be seen, and what is above them.
        top: Some(highest.clamp(1.0, 10.0) * 1.1),
        together: Together::Highest,
        shown: percent,
    }
}

fn upstream(host: &Host<'_>, index: usize, it: &Upstream) -> Chart {
    let report = host.report;
    let a_second = |counts: &[u64]| {
        let drawn = counts.iter().take(steps(report).len());
        drawn.map(|count| Some(per_s(report, *count))).collect::<Vec<_>>()
    };
    let netns = it.key.netns.filter(|netns| Some(*netns) != report.header.own_netns);
    let netns = netns.map_or_else(String::new, |netns| format!(" [netns {netns}]"));
    Chart {
        id: host.id(&format!("-upstream-{index}")),
        title: format!("{}{netns}", endpoint(it.key.dst, Some(it.key.dport))),
        about: format!(
            "{} connections opened, {} failed; both a second, over time.",
            thousands(it.opened),
            thousands(sum(&it.failures)),
        ),
        series: vec![
            Series {
                name: "failed".to_owned(),
                figures: a_second(&it.failed_by_step),
                look: Look::Area(FAILED),
            },
            line("opened", "s1", a_second(&it.opened_by_step).into_iter()),
        ],
        top: None,
        together: Together::Mean,
        shown: rate,
    }
}
