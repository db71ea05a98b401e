//! Who, and toward whom: tables of failures, ceilings, upstreams and processes.

use maud::{Markup, html};

use super::{
    host::Host,
    words::{badge, first_of, inert, more, percent, reason, reasons},
};
use crate::{
    failures::{FailureKey, FailureRow},
    human::thousands,
    report::{Ceiling, Process, Upstream},
    sink::{
        check_text::{facts, subject},
        text::{endpoint, span},
    },
};

/// Most rows of a table.
const ROWS: usize = 100;
/// Most ceilings: each has many lines.
const CEILINGS: usize = 30;
/// Process ids that a row names.
const PIDS: usize = 4;
/// Most facts of a ceiling.
const FACTS: usize = 20;

/// A table that scrolls by itself where the page is narrow. `numbers`: columns whose heads are to the right.
pub(super) fn table(caption: &str, heads: &[&str], numbers: &[usize], body: &Markup) -> Markup {
    html! {
        div.scroll.broad[heads.len() > 4] tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead {
                    tr {
                        @for (index, head) in heads.iter().enumerate() {
                            th.n[numbers.contains(&index)] scope="col" { (head) }
                        }
                    }
                }
                tbody { (body) }
            }
        }
    }
}

/// Rows as `count` has them.
pub(super) fn failures(host: &Host<'_>) -> Markup {
    let report = host.report;
    let (rows, left_out) = first_of(&report.failures, ROWS);
    let body = html! { @for (key, row) in rows { (failure(host, key, row)) } };
    let heads = [
        "Count",
        "Error",
        "Reason",
        "Process",
        "Pids",
        "From",
        "Upstream",
        "Ports used",
        "When (UTC)",
    ];
    html! {
        @if rows.is_empty() {
            p { "No failure was recorded." }
        } @else {
            (table("Failures by what is alike in them, most first", &heads, &[0], &body))
        }
        (more(left_out as u64, "rows; --format json has all of them"))
        @if report.unlisted > 0 {
            p.note { (thousands(report.unlisted)) " failures are in the total only: too many rows." }
        }
    }
}

fn failure(host: &Host<'_>, key: &FailureKey, row: &FailureRow) -> Markup {
    let unknown = || "-".to_owned();
    let mut pids: Vec<_> = row.pids.iter().take(PIDS).map(u32::to_string).collect();
    if row.pids.len() > PIDS {
        pids.push(format!("+{}", row.pids.len() - PIDS));
    }
    let from = match key.src {
        None => unknown(),
        Some(src) if key.sport.is_some() => endpoint(src, key.sport),
        Some(src) => src.to_string(),
    };
    let to = match key.dst {
        Some(dst) => endpoint(dst, key.dport),
        None if key.is_clients() => "(clients)".to_owned(),
        None => unknown(),
    };
    html! {
        tr {
            th.n scope="row" { (thousands(row.count)) }
            td { (key.error.map_or_else(unknown, |error| error.to_string())) }
            td { (reason(key.reason)) }
            td { (key.comm.map_or_else(unknown, |comm| comm.to_string())) }
            td { @if pids.is_empty() { "-" } @else { (pids.join(", ")) } }
            td { (from) (elsewhere(host, key.netns)) }
            td { (to) }
            td { (row.ports.map_or_else(unknown, |it| of(it.used.into(), it.usable.into()))) }
            td { (host.times.range(row.first_ns, row.last_ns).trim_end_matches(" UTC")) }
        }
    }
}

/// The network namespace, where it is not that of who recorded.
fn elsewhere(host: &Host<'_>, netns: Option<u32>) -> Markup {
    let netns = netns.filter(|netns| Some(*netns) != host.report.header.own_netns);
    html! { @if let Some(netns) = netns { " [netns " (netns) "]" } }
}

fn of(used: u64, limit: u64) -> String {
    format!("{} of {}", thousands(used), thousands(limit))
}

/// How full each was at its worst moment.
pub(super) fn ceilings(host: &Host<'_>) -> Markup {
    let report = host.report;
    let (rows, left_out) = first_of(&report.ceilings, CEILINGS);
    let body = html! { @for it in rows { (ceiling(host, it)) } };
    let heads =
        ["Ceiling", "Status", "Used of limit", "At (UTC)", "At the end", "Who, evidence, remedy"];
    html! {
        @if rows.is_empty() {
            p { "No ceiling was looked at while this was recorded." }
        } @else {
            (table("Ceilings at their worst moment, worst first", &heads, &[2, 4], &body))
        }
        (more(report.more_ceilings.saturating_add(left_out as u64), "ceilings that were less full"))
        @if !report.unseen.is_empty() {
            @let (unseen, left_out) = first_of(&report.unseen, ROWS);
            p { "Not seen:" }
            ul { @for what in unseen { li { (inert(what)) } } }
            (more(left_out as u64, "of them"))
        }
    }
}

fn ceiling(host: &Host<'_>, it: &Ceiling) -> Markup {
    let (worst, last) = (&it.worst.ceiling, &it.last.ceiling);
    html! {
        tr {
            th scope="row" {
                (worst.subject.kind().name()) br;
                (inert(&subject(worst, host.report.header.own_netns)))
            }
            td { (badge(it.worst.status)) }
            td.n {
                (of(worst.used, worst.limit)) br; (percent(worst.ratio()))
                @if worst.inferred { br; em { "inferred" } }
                @if worst.idle { br; em { "idle: nobody depends on it" } }
            }
            td { (host.times.time(it.worst_ns)) }
            td.n { (of(last.used, last.limit)) }
            td.wide {
                dl.facts {
                    @for (name, text) in facts(worst).into_iter().take(FACTS) {
                        div { dt { (name.trim()) } dd { (inert(&text)) } }
                    }
                }
            }
        }
    }
}

/// Where the host connected to.
pub(super) fn upstreams(host: &Host<'_>) -> Markup {
    let report = host.report;
    let (rows, left_out) = first_of(&report.upstreams, ROWS);
    let body = html! { @for it in rows { (upstream(host, it)) } };
    let heads = [
        "Upstream",
        "Failed",
        "Opened",
        "Closed",
        "First by us, by them",
        "TIME-WAIT",
        "Connect: median, 99 %",
        "Most sockets",
        "Ports used",
    ];
    html! {
        @if rows.is_empty() {
            p { "The host connected to nobody while this was recorded." }
        } @else {
            (table("Upstreams, those with most failures first", &heads, &[2, 3, 4, 5, 6, 8], &body))
            p.note {
                "Connect: how long connect() took, at most 25 % too high. Most sockets: at any one time, by state. \
                 Ports used: from the source address with most in use."
            }
        }
        (more(report.more_upstreams.saturating_add(left_out as u64), "upstreams"))
    }
}

fn upstream(host: &Host<'_>, it: &Upstream) -> Markup {
    let took = |us: u64| span(us.saturating_mul(1000));
    let sockets = it.most.map(|most| {
        let states = [
            (most.established, "ESTAB"),
            (most.time_wait, "TIME-WAIT"),
            (most.connecting, "SYN-SENT"),
            (most.other, "closing"),
        ];
        let there = states.into_iter().filter(|(count, _)| *count > 0);
        let there: Vec<_> = there.map(|(count, of)| format!("{} {of}", thousands(count))).collect();
        if there.is_empty() { "0".to_owned() } else { there.join(", ") }
    });
    html! {
        tr {
            th scope="row" { (endpoint(it.key.dst, Some(it.key.dport))) (elsewhere(host, it.key.netns)) }
            td { @if it.failures.is_empty() { "0" } @else { (reasons(&it.failures)) } }
            td.n { (thousands(it.opened)) }
            td.n { (thousands(it.closed)) }
            td.n { (thousands(it.closed_here)) ", " (thousands(it.closed_by_peer)) }
            td.n { (thousands(it.time_waits)) @if it.inferred { br; em { "inferred" } } }
            td.n {
                @match it.latency {
                    Some(latency) => { (took(latency.p50_us)) ", " (took(latency.p99_us)) },
                    None => "-",
                }
            }
            td { (sockets.unwrap_or_else(|| "-".to_owned())) }
            td.n { (it.ports.map_or_else(|| "-".to_owned(), |(used, usable)| of(used, usable))) }
        }
    }
}

/// Whose calls and connections they were.
pub(super) fn processes(host: &Host<'_>) -> Markup {
    let report = host.report;
    let (rows, left_out) = first_of(&report.processes, ROWS);
    let body = html! { @for it in rows { (process(it)) } };
    let heads = ["Process", "Failed", "Opened", "Served", "Most open files"];
    html! {
        @if rows.is_empty() {
            p { "No process had a connection while this was recorded, as far as owners are known." }
        } @else {
            (table("Processes, those with most failures first", &heads, &[2, 3, 4], &body))
            p.note {
                "Served: connections that it had accepted and that began to close. Most open files: of its soft limit."
            }
        }
        (more(report.more_processes.saturating_add(left_out as u64), "processes"))
        @if report.unplaced > 0 {
            p.note {
                (thousands(report.unplaced)) " events are of upstreams or processes for which there was no room."
            }
        }
    }
}

fn process(it: &Process) -> Markup {
    html! {
        tr {
            th scope="row" { (it.comm) "[" (it.pid) "]" }
            td { @if it.failures.is_empty() { "0" } @else { (reasons(&it.failures)) } }
            td.n { (thousands(it.opened)) }
            td.n { (thousands(it.served)) }
            td.n { (it.files.map_or_else(|| "-".to_owned(), |(used, limit)| of(used, limit))) }
        }
    }
}

/// A list of names and what they are.
pub(super) fn pairs(pairs: &[(&str, String)]) -> Markup {
    html! {
        dl.facts { @for (name, text) in pairs { div { dt { (name) } dd { (text) } } } }
    }
}
