//! One chart over the timeline: its picture, and its figures in a table. Series are told apart by patterns of lines
//! and areas, not by colour alone.

use maud::{Markup, html};

use super::{
    host::Host,
    svg::{HEIGHT, Scale, WIDTH},
    words::Times,
};
use crate::{human::thousands, report::Timeline};

/// Most rows of a chart's table: more steps are put together.
const ROWS: usize = 60;
/// A chart of this long has whole seconds below it.
const SECONDS_FROM_NS: u64 = 10_000_000_000;
/// Most steps that are drawn.
pub(super) const STEPS: usize = 600;
/// What areas are filled with: a colour and a texture of holes, by which they are told apart without colour too. No
/// texture hides an area that is thin.
const PATTERNS: [(&str, &str); 8] = [
    ("s0", ""),
    ("s1", "M-1 9L9 -1M-1 1L1 -1M7 9L9 7"),
    ("s2", "M2 2h.1M6 6h.1"),
    ("s3", "M4 0V8"),
    ("s4", "M-1 -1L9 9M7 -1L9 1M-1 7L1 9"),
    ("s5", "M0 0L8 8M0 8L8 0"),
    ("s6", "M2 0V8M6 0V8"),
    ("s0", "M-1 9L9 -1M-1 1L1 -1M7 9L9 7"),
];
/// Patterns that one picture may have of different things.
pub(super) const DIFFERENT: usize = 6;
/// The pattern of what is left.
pub(super) const REST: usize = 6;
/// The pattern of failures of all kinds.
pub(super) const FAILED: usize = 7;

/// What a series is of.
pub(super) struct Series {
    pub(super) name: String,
    /// One for each step; `None`: not known.
    pub(super) figures: Vec<Option<f64>>,
    pub(super) look: Look,
}

/// How a series looks.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// A line of this class.
    Line(&'static str),
    /// An area with this pattern, upon the one before it.
    Area(usize),
}

impl Look {
    fn shape(self, path: &str) -> Markup {
        match self {
            Self::Line(class) => html! { path class={ "line " (class) } d=(path) {} },
            Self::Area(pattern) => html! { path fill={ "url(#p" (pattern) ")" } d=(path) {} },
        }
    }
}

impl Series {
    fn is_area(&self) -> bool {
        matches!(self.look, Look::Area(_))
    }
}

/// How the figures of several steps are put together in a row of a table.
#[derive(Clone, Copy)]
pub(super) enum Together {
    Sum,
    Mean,
    Highest,
}

/// A chart before it is drawn.
pub(super) struct Chart {
    pub(super) id: String,
    pub(super) title: String,
    /// What the picture shows, in a sentence.
    pub(super) about: String,
    pub(super) series: Vec<Series>,
    /// Shares of a limit, up to this one; `None`: counts or rates.
    pub(super) top: Option<f64>,
    pub(super) together: Together,
    pub(super) shown: fn(f64) -> String,
}

/// Where lines are among shares of a limit.
const MARKS: [(f64, &str); 3] = [(0.8, "mark warn"), (0.95, "mark fail"), (1.0, "mark full")];

/// A count, in words.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
pub(super) fn count(figure: f64) -> String {
    thousands(figure.round() as u64)
}

/// Draws it.
pub(super) fn draw(host: &Host<'_>, chart: &Chart) -> Markup {
    let (timeline, times) = (&host.report.timeline, host.times);
    let steps = timeline.steps.len().min(STEPS);
    let stacked = areas(chart, steps);
    let lines = chart.series.iter().filter(|series| !series.is_area());
    let lines = lines.flat_map(|series| series.figures.iter().flatten());
    let all = stacked.iter().flatten().chain(lines).filter(|it| it.is_finite());
    let highest = all.fold(0.0_f64, |a, b| a.max(*b));
    let fitting = || Scale::fitting(steps, highest);
    let scale = chart.top.map_or_else(fitting, |top| Scale { steps, top });
    let whole_s = timeline.step_ns.saturating_mul(steps as u64) >= SECONDS_FROM_NS;
    let at = |step| {
        let ns = begin(timeline, step);
        if whole_s { times.time(ns) } else { times.of_step(ns) }
    };
    let (title, about) = (format!("{}-t", chart.id), format!("{}-d", chart.id));
    let across = |share: f64| format!("M0 {}H{WIDTH}", scale.y(share));
    html! {
        figure {
            figcaption {
                strong { (chart.title) }
                @if chart.top.is_some() { span { (chart.about) } } @else { (legend(chart)) }
            }
            div.plot {
                div.y aria-hidden="true" { (ticks(chart, scale)) }
                svg role="img" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none"
                    aria-labelledby={ (title) " " (about) } {
                    title id=(title) { (chart.title) }
                    desc id=(about) { (chart.about) " The same figures are in the table below it." }
                    @if chart.top.is_none() {
                        path.grid d={ (across(scale.top)) (across(scale.top / 2.0)) } {}
                    }
                    @if chart.top.is_some() {
                        @for (share, class) in MARKS { path class=(class) d=(across(share)) {} }
                    }
                    path.axis d=(across(0.0)) {}
                    (shapes(chart, &stacked, scale))
                }
                div.x aria-hidden="true" {
                    span { (at(0)) } span { (at(steps / 2)) } span { (at(steps)) " UTC" }
                }
            }
            (table(times, chart, timeline, steps))
        }
    }
}

/// When a step begins.
fn begin(timeline: &Timeline, step: usize) -> u64 {
    timeline.start_ns.saturating_add(timeline.step_ns.saturating_mul(step as u64))
}

/// The tops of the areas, each upon the one before it; the first is the ground.
fn areas(chart: &Chart, steps: usize) -> Vec<Vec<f64>> {
    let mut stacked = vec![vec![0.0; steps]];
    for series in chart.series.iter().filter(|series| series.is_area()) {
        let below = stacked.last().into_iter().flatten();
        let figures =
            series.figures.iter().map(|it| it.unwrap_or(0.0)).chain(std::iter::repeat(0.0));
        stacked.push(below.zip(figures).map(|(low, it)| low + it).collect());
    }
    stacked
}

fn shapes(chart: &Chart, stacked: &[Vec<f64>], scale: Scale) -> Markup {
    let areas = chart.series.iter().filter(|series| series.is_area());
    let lines = chart.series.iter().filter(|series| !series.is_area());
    html! {
        @for (series, pair) in areas.zip(stacked.windows(2)) {
            (series.look.shape(&scale.between(&pair[0], &pair[1])))
        }
        @for series in lines {
            @let path = if chart.top.is_some() {
                scale.through(&series.figures)
            } else {
                scale.treads(&series.figures.iter().map(|it| it.unwrap_or(0.0)).collect::<Vec<_>>())
            };
            (series.look.shape(&path))
        }
    }
}

fn ticks(chart: &Chart, scale: Scale) -> Markup {
    let at = |figure: f64| (scale.y(figure) / HEIGHT * 1000.0).round() / 10.0;
    let shown = |figure: f64| match figure {
        _ if chart.top.is_some() => format!("{:.0} %", figure * 100.0),
        1e7.. => format!("{figure:.0e}"),
        _ => count(figure),
    };
    let ticks = match chart.top {
        None => vec![scale.top, scale.top / 2.0, 0.0],
        // They would be too near to each other.
        Some(2.0..) => vec![1.0, 0.0],
        Some(_) => vec![1.0, 0.8, 0.0],
    };
    html! { @for tick in ticks { span style={ "top:" (at(tick)) "%" } { (shown(tick)) } } }
}

fn legend(chart: &Chart) -> Markup {
    html! {
        ul.legend {
            @for series in &chart.series {
                li {
                    svg.key viewBox="0 0 24 12" aria-hidden="true" {
                        (series.look.shape(if series.is_area() { "M0 0H24V12H0Z" } else { "M1 6H23" }))
                    }
                    (series.name)
                }
            }
        }
    }
}

fn table(times: Times, chart: &Chart, timeline: &Timeline, steps: usize) -> Markup {
    let each = steps.div_ceil(ROWS).max(1);
    let how = match chart.together {
        Together::Sum => "their sum",
        Together::Mean => "their mean",
        Together::Highest => "the highest of them",
    };
    let cell = |series: &Series, first: usize| {
        let end = (first + each).min(series.figures.len());
        let these = series.figures.get(first..end).unwrap_or_default();
        let there: Vec<f64> = these.iter().flatten().copied().collect();
        let sum: f64 = there.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a few steps")]
        let together = match chart.together {
            _ if there.is_empty() => return "-".to_owned(),
            Together::Sum => sum,
            Together::Mean => sum / there.len() as f64,
            Together::Highest => there.iter().copied().fold(f64::MIN, f64::max),
        };
        (chart.shown)(together)
    };
    html! {
        details {
            summary { "Figures" span.hidden { " of: " (chart.title) } }
            div.scroll tabindex="0" role="region" aria-label={ "Figures of: " (chart.title) } {
                table.figures {
                    caption {
                        (chart.title)
                        @if each > 1 { ". Each row is " (each) " steps of the chart: " (how) }
                    }
                    thead {
                        tr {
                            th scope="col" { "From (UTC)" }
                            @for series in &chart.series { th.n scope="col" { (series.name) } }
                        }
                    }
                    tbody {
                        @for first in (0..steps).step_by(each) {
                            tr {
                                th scope="row" { (times.of_step(begin(timeline, first))) }
                                @for series in &chart.series { td.n { (cell(series, first)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The patterns, to be in the page once.
pub(super) fn patterns() -> Markup {
    html! {
        svg.defs aria-hidden="true" focusable="false" width="0" height="0" {
            defs {
                @for (index, (class, texture)) in PATTERNS.into_iter().enumerate() {
                    pattern id={ "p" (index) } width="8" height="8" patternUnits="userSpaceOnUse" {
                        rect class={ "fill " (class) } width="8" height="8" {}
                        path.texture d=(texture) {}
                    }
                }
            }
        }
    }
}
