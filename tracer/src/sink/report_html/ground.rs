//! How things came to be known: settings of the host, the recording, and what reasons mean.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{
    host::Host,
    tables::{pairs, table},
    words::{Times, first_of, inert, more},
};
use crate::{human::thousands, reason::Reason, report::Report, sink::text::told};

/// Most settings of a kind, network namespaces, hooks and the like.
const MOST: usize = 100;

/// Settings at the beginning, and what changed.
pub(super) fn settings(host: &Host<'_>) -> Markup {
    let report = host.report;
    let Some(settings) = &report.settings else {
        return html! { p { "None were recorded." } (changes(host)) };
    };
    let of = |sysctls: &BTreeMap<String, String>, caption: &str| {
        let body = html! {
            @for (name, value) in sysctls.iter().take(MOST) {
                tr { th scope="row" { code { (inert(name)) } } td { code { (inert(value)) } } }
            }
        };
        html! { @if !sysctls.is_empty() { (table(caption, &["Name", "Value"], &[], &body)) } }
    };
    let (namespaces, left_out) = first_of(&settings.namespaces, MOST);
    html! {
        p { "As they were at " (Times::of(report).stamp(settings.at_ns)) "." }
        (of(&settings.host, "Of the whole host"))
        @for namespace in namespaces {
            @let own = report.header.own_netns == Some(namespace.netns);
            @let path = namespace.path.as_ref().map(|path| format!(", {}", inert(path)));
            @let whose = if own { ", that of who recorded" } else { "" };
            (of(
                &namespace.sysctls,
                &format!("Of network namespace {}{}{whose}", namespace.netns, path.unwrap_or_default()),
            ))
        }
        (more(left_out as u64, "network namespaces"))
        (changes(host))
    }
}

fn changes(host: &Host<'_>) -> Markup {
    let (rows, left_out) = first_of(&host.report.changes, MOST);
    let value =
        |value: &Option<String>| value.as_ref().map_or_else(|| "-".to_owned(), |it| inert(it));
    let body = html! {
        @for change in rows {
            tr {
                th scope="row" { (host.times.time(change.at_ns)) }
                td { code { (inert(&change.name)) } }
                td { @match change.netns { Some(netns) => (netns), None => "the host's" } }
                td { code { (value(&change.from)) } }
                td { code { (value(&change.to)) } }
            }
        }
    };
    let heads = ["Noticed at (UTC)", "Name", "Network namespace", "Before", "After"];
    html! {
        @if rows.is_empty() {
            p { "No change of a setting was noticed while it was recorded." }
        } @else {
            (table("Changed while it was recorded", &heads, &[], &body))
        }
        (more(host.report.more_changes.saturating_add(left_out as u64), "changes"))
    }
}

/// How it was recorded.
pub(super) fn recorded(host: &Host<'_>) -> Markup {
    let (report, header) = (host.report, &host.report.header);
    let arguments: Vec<_> = header.arguments.iter().take(MOST).map(|it| inert(it)).collect();
    let mut facts = vec![
        ("file", inert(&report.file)),
        ("command", format!("socklife {}", arguments.join(" "))),
        (
            "socklife",
            format!(
                "{}, format {}, records {}",
                inert(&header.socklife),
                header.format,
                header.abi
            ),
        ),
        ("kernel", format!("{} ({})", inert(&header.kernel), inert(&header.machine))),
        ("processors", thousands(header.cpus as u64)),
        ("boot", inert(&header.boot_id)),
        ("begun", inert(&header.started)),
        (
            "events",
            format!("{}, {} lost", thousands(report.events), thousands(report.lost.events())),
        ),
    ];
    facts.push(("samples", format!("{} of the host's ceilings", thousands(report.samples))));
    if let Some(netns) = header.own_netns {
        facts.push(("recorded in", format!("network namespace {netns}")));
    }
    if header.part > 1 {
        facts.push(("part", format!("file {} of its recording", thousands(header.part.into()))));
    }
    if let Some(trigger) = &header.trigger {
        facts.push(("trigger", inert(trigger)));
    }
    match &report.end {
        None => facts.push(("ended", "it was cut off".to_owned())),
        Some(end) => {
            facts.push(("ended", inert(&end.why)));
            if let Some(produced) = end.produced {
                facts.push(("produced", format!("{} events, seen or lost", thousands(produced))));
            }
        }
    }
    facts.extend(told(&report.lost).into_iter().map(|line| ("lost", line)));
    let (unseen, left_out) = first_of(&header.unseen, MOST);
    html! {
        (pairs(&facts))
        (hooks(host))
        @if !unseen.is_empty() {
            p { "No hook of this kernel shows:" }
            ul { @for what in unseen { li { (inert(what)) } } }
            (more(left_out as u64, "kinds of events"))
        }
    }
}

fn hooks(host: &Host<'_>) -> Markup {
    let (hooks, left_out) = first_of(&host.report.header.hooks, MOST);
    let body = html! {
        @for hook in hooks {
            tr {
                th scope="row" { (inert(&hook.event)) }
                td {
                    (inert(&hook.rung))
                    @if hook.inferred { " " em { "inferred" } }
                }
                td.wide { (inert(&hook.cost)) }
                td.wide { @for note in hook.notes.iter().take(MOST) { (inert(note)) ". " } }
            }
        }
    };
    html! {
        @if hooks.is_empty() {
            p { "Which hooks were in use is not known." }
        } @else {
            (table("Hooks", &["Event", "Hook", "Cost", "What it can't do"], &[], &body))
        }
        (more(left_out as u64, "hooks"))
    }
}

/// What the reasons in these reports mean, and what to do.
pub(super) fn glossary(reports: &[Report]) -> Markup {
    let named = reports.iter().flat_map(|report| &report.reasons).filter_map(|(why, _)| *why);
    let named: BTreeSet<Reason> = named.collect();
    let body = html! {
        @for reason in Reason::ALL.into_iter().filter(|reason| named.contains(reason)) {
            tr {
                th scope="row" { (reason) }
                td.wide { (reason.meaning()) }
                td.wide { (reason.advice()) }
            }
        }
    };
    html! {
        @if !named.is_empty() {
            section aria-labelledby="reasons" {
                h2 id="reasons" { "Reasons" }
                (table("Reasons of these failures", &["Reason", "What it means", "What to do"], &[], &body))
            }
        }
    }
}
