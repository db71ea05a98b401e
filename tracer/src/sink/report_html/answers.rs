//! Failed answers of proxies, and what explains them.

use maud::{Markup, html};

use super::{
    tables::table,
    words::{first_of, inert, more},
};
use crate::{
    answers::{
        captured::Captured,
        summary::{ByClass, Explained},
    },
    human::thousands,
    report::Report,
    sink::answers_text,
};

/// Most upstreams.
const UPSTREAMS: usize = 100;
/// Most statuses that a row names.
const STATUSES: usize = 8;

/// What a report has of them.
pub(super) fn part(report: &Report, captured: &Captured) -> Markup {
    let summary = &captured.summary;
    let (rows, left_out) = first_of(&summary.upstreams, UPSTREAMS);
    let several = answers_text::several_proxies(summary);
    let body = html! { @for it in rows { (upstream(it, &answers_text::name(it, several), summary.tries_only)) } };
    let heads =
        ["Upstream", "Statuses", "Failed answers", "Explained by", "Log lines", "In the kernel"];
    html! {
        @for doubt in answers_text::doubts(report) { p { strong { "!" } " " (inert(&doubt)) "." } }
        @for line in answers_text::notes(summary) { p { (inert(&line)) "." } }
        @if !rows.is_empty() {
            (table("Failed answers by upstream and by what explains them, most first", &heads, &[2, 4, 5], &body))
            p.note {
                "Log lines: failed tries in the error log; a request has one for each. In the kernel: failures toward \
                 this upstream, where the log gives its address."
            }
        }
        (more(left_out as u64, "upstreams; --format json has all of them"))
        @if let Some(outside) = answers_text::outside(report) { p.note { (outside) "." } }
    }
}

fn upstream(it: &Explained, name: &str, tries_only: bool) -> Markup {
    let status = |code: &u16| if *code == 0 { "none".to_owned() } else { code.to_string() };
    let mut statuses: Vec<_> = it.statuses.keys().take(STATUSES).map(status).collect();
    if it.statuses.len() > STATUSES {
        statuses.push("...".to_owned());
    }
    let statuses = if statuses.is_empty() { "-".to_owned() } else { statuses.join(", ") };
    let row = |answers: String, class: &str, inferred: bool, lines: String, kernel: String| {
        html! {
            tr {
                th scope="row" { (inert(name)) }
                td { (statuses) }
                td.n { (answers) @if inferred { br; em { "inferred" } } }
                td { (class) }
                td.n { (lines) }
                td.n { (kernel) }
            }
        }
    };
    let dash = || "-".to_owned();
    let kernel = |by: &ByClass| {
        let shared = if by.kernel_shared { "~" } else { "" };
        shared.to_owned() + &by.kernel.map_or_else(dash, thousands)
    };
    let some = |count: u64| if count == 0 { dash() } else { thousands(count) };
    html! {
        @for by in &it.by {
            @let answers = if tries_only { dash() } else { thousands(by.answers) };
            (row(answers, by.class, by.inferred, some(by.lines), kernel(by)))
        }
        @if it.unexplained > 0 {
            (row(thousands(it.unexplained), "unexplained", false, dash(), dash()))
        }
    }
}
