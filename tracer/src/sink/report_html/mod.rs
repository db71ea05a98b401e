//! `report --format html`: one page that needs nothing but itself. No script, no font, no address is in it, and the
//! page forbids them too.
//!
//! `host`: what is told of one host. `charts`: how it went, each a `chart` of shapes in `svg`. `tables`: who, and toward
//! whom. `answers`: what explains failed answers of proxies.
//! `ground`: how it came to be known. `words`: times, and foreign text made inert. `style.css`: how it looks, in
//! light, in dark and on paper.

mod answers;
mod chart;
mod charts;
mod ground;
mod host;
mod svg;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::{
    host::Host,
    words::{Times, inert},
};
use crate::report::Report;

const STYLE: &str = include_str!("style.css");

/// Nothing may be fetched, sent or run, whatever a foreign name holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The page of these reports, in their order. Of several ones an overview goes first.
#[must_use]
pub fn page(reports: &[Report]) -> String {
    let title = title(reports);
    let hosts: Vec<_> =
        reports.iter().enumerate().map(|(index, it)| Host::new(it, index, reports.len())).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Else a browser asks the server for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#main" { "To the report" }
                (chart::patterns())
                header { (head(reports, &title)) }
                @if let [only] = &hosts[..] { (only.contents()) }
                main id="main" {
                    @match &hosts[..] {
                        [] => p { "There is nothing to report." },
                        [only] => (only.sections()),
                        several => {
                            (overview(several))
                            @for host in several { (host.as_one_of_several()) }
                        }
                    }
                    (ground::glossary(reports))
                }
                footer {
                    p {
                        "Made by socklife " (env!("CARGO_PKG_VERSION")) ". Times are in UTC. This page is complete in \
                         itself: it loads nothing."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn title(reports: &[Report]) -> String {
    match reports {
        [only] => format!("socklife report: {}", host::name(only)),
        several => format!("socklife report: {} hosts", several.len()),
    }
}

fn head(reports: &[Report], title: &str) -> Markup {
    html! {
        h1 { (title) }
        @if let [only] = reports { (host::when(only)) }
    }
}

/// All hosts at a glance.
fn overview(hosts: &[Host<'_>]) -> Markup {
    let body = html! {
        @for host in hosts {
            @let report = host.report;
            tr {
                th scope="row" { a href={ "#" (host.id("")) } { (host::name(report)) } }
                td { (Times::of(report).stamp(report.begin_ns())) }
                td.n { (host::lasted(report)) }
                td.n { (host::failed(report)) }
                td.wide {
                    @match report.incidents.first() {
                        Some(worst) => { (words::badge(worst.status)) " " (inert(&worst.sentence)) },
                        None => "nothing",
                    }
                }
                td.wide { (host::fullest(report)) }
                td.wide { (host::missing(report).join(" ")) }
            }
        }
    };
    let heads = ["Host", "From", "For", "Failures", "Worst", "Fullest ceiling", "What is missing"];
    html! {
        section aria-labelledby="overview" {
            h2 id="overview" { "Overview" }
            (tables::table("Hosts, from and for how long they were recorded", &heads, &[2, 3], &body))
        }
    }
}
