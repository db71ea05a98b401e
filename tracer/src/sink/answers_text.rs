//! Failed answers of proxies and what explains them, as text.

use jiff::tz::TimeZone;

use super::{
    clock::Clock,
    columns::{Columns, Side},
};
use crate::{
    answers::{
        captured::OfLog,
        summary::{Explained, Summary},
    },
    human::thousands,
    report::Report,
};

const TITLES: [(&str, Side); 6] = [
    ("FAILED", Side::Right),
    ("STATUS", Side::Left),
    ("EXPLAINED BY", Side::Left),
    ("LOG LINES", Side::Right),
    ("KERNEL", Side::Right),
    ("UPSTREAM", Side::Left),
];

/// Of the time since the sum before; where only tries are known, of those.
const NEW: (&str, Side) = ("NEW", Side::Right);

/// Most upstreams that are named.
const SHOWN: usize = 20;

/// The lines: the table, then what there is to say beside it.
#[must_use]
pub fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = table(summary);
    lines.extend(notes(summary));
    lines
}

/// The table; empty: there is nothing in it.
#[must_use]
pub fn table(summary: &Summary) -> Vec<String> {
    if summary.upstreams.is_empty() {
        return Vec::new();
    }
    let (mut titles, interval) = (TITLES.to_vec(), summary.interval.as_deref());
    if interval.is_some() {
        titles.insert(1, NEW);
    }
    let mut columns = Columns::new(&titles);
    let several = several_proxies(summary);
    for upstream in summary.upstreams.iter().take(SHOWN) {
        let name = name(upstream, several);
        for row in rows(upstream, name, summary.tries_only, interval) {
            columns.row(row);
        }
    }
    let mut lines = columns.lines(None);
    let more = summary.upstreams.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("({more} more upstreams)"));
    }
    lines
}

/// Whether logs are of several kinds of proxies.
#[must_use]
pub fn several_proxies(summary: &Summary) -> bool {
    let mut proxies = summary.upstreams.iter().map(|it| it.proxy);
    let first = proxies.next();
    proxies.any(|proxy| Some(proxy) != first)
}

/// An upstream's name; with that of the proxy, where there are several.
#[must_use]
pub fn name(upstream: &Explained, several: bool) -> String {
    let name = &upstream.upstream;
    if several { format!("{name} ({})", upstream.proxy) } else { name.clone() }
}

/// What there is to say beside the table; the sum is the last.
#[must_use]
pub fn notes(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    let inferred = summary.upstreams.iter().flat_map(|it| &it.by).any(|by| by.inferred);
    if inferred {
        lines.push(
            "~ inferred: several causes share these answers, or whether a cause is theirs is not certain (docs/answers.md)"
                .to_owned(),
        );
    }
    if summary.upstreams.iter().flat_map(|it| &it.by).any(|by| by.kernel_shared) {
        lines.push(
            "~ before the kernel's figure: proxies of several network namespaces, or unknown processes, failed toward it \
             (--netns counts one namespace)"
                .to_owned(),
        );
    }
    for key in &summary.lacks {
        lines.push(format!(
            "the log's lines have no {key}: whether the proxy itself failed, and why, is not known; add it to the \
             log's format"
        ));
    }
    if summary.lines_unknown > 0 {
        lines.push(format!(
            "{} lines of the logs were not understood: they are in no figure (docs/answers.md says which formats are)",
            thousands(summary.lines_unknown)
        ));
    }
    if let Some(why) = &summary.broken_off {
        lines.push(format!(
            "a log can't be read now, what was written since is in no figure: {why}"
        ));
    }
    for gap in &summary.gaps {
        lines.push(format!(
            "a log could not be read from {} to {}, lines of then may be missing: {}",
            gap.from, gap.to, gap.why
        ));
    }
    if summary.skipped_bytes > 0 {
        lines.push(format!(
            "{} bytes of the logs came faster than they could be read: they are in no figure",
            thousands(summary.skipped_bytes)
        ));
    }
    if summary.behind {
        lines.push(
            "reading the logs is behind: they have lines that are in no figure yet, and answers may lack the lines that \
             explain them"
                .to_owned(),
        );
    }
    lines.push(sum(summary));
    if let Some(interval) = &summary.interval {
        lines.push(format!("of these, new in this interval: {}", sum(interval)));
    }
    lines
}

/// Of answers beside a capture: what makes their figures doubtful, a sentence each.
#[must_use]
pub fn doubts(report: &Report) -> Vec<String> {
    let Some(captured) = &report.answers else { return Vec::new() };
    let mut doubts = Vec::new();
    let zone = captured.time_zone.as_deref().unwrap_or_default();
    for log in captured.logs.iter().filter(|log| log.is_of_another_time()) {
        doubts.push(other_time(log, zone, report));
    }
    for log in captured.logs.iter().filter(|log| log.timeless) {
        doubts.push(format!(
            "{} has no times, so all lines of all logs count, whenever they were written: have $time_iso8601 or \
             $msec in its format",
            log.file
        ));
    }
    if captured.kernel_incomplete {
        doubts.push(
            "failures are missing in the capture: the kernel's figures are lower bounds, and what is unexplained may \
             be explained by what is missing"
                .to_owned(),
        );
    }
    doubts
}

/// None of a log's lines is of the recording's time: the wrong file, or the wrong zone.
fn other_time(log: &OfLog, zone: &str, report: &Report) -> String {
    // `2026-11-25T12:26:09…`
    let shown = |rfc3339: &str| rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ");
    let mut clock = Clock::new(report.header.epoch_ns, TimeZone::UTC);
    let mut recorded = |ns| shown(&clock.rfc3339(ns));
    let (begin, end) = (recorded(report.begin_ns()), recorded(report.end_ns()));
    let time = |at: &Option<String>| at.as_deref().map_or_else(|| "?".to_owned(), shown);
    let (first, last) = (time(&log.first), time(&log.last));
    let mut said = format!(
        "no line of {} is of the recording's time, {begin} to {end} UTC: its lines ({}) are of {first} to {last} UTC. Is \
         it the right file?",
        log.file,
        thousands(log.lines_outside)
    );
    if log.without_zone {
        said += &format!(" Its times were read as of zone {zone}: --log-time-zone says another");
    }
    said
}

/// How many lines of the logs are of another time, if any.
#[must_use]
pub fn outside(report: &Report) -> Option<String> {
    let outside = report.answers.as_ref()?.lines_outside;
    let outside = Some(outside).filter(|outside| *outside > 0).map(thousands)?;
    Some(format!(
        "{outside} lines of the logs are of another time than the recording: they are in no figure"
    ))
}

fn sum(summary: &Summary) -> String {
    if summary.tries_only {
        let tries = summary.upstreams.iter().flat_map(|it| &it.by).map(|by| by.lines).sum();
        return format!(
            "{} failed tries in the error log; answers are not known without --nginx-access-log",
            thousands(tries)
        );
    }
    let Some(share) = summary.share else {
        return format!("no failed answers; {} others", thousands(summary.succeeded));
    };
    // Never more than there are.
    let percent = (share * 1000.0).floor() / 10.0;
    format!(
        "failed answers {}, explained {} ({percent:.1} %), unexplained {}; {} others",
        thousands(summary.failed),
        thousands(summary.explained),
        thousands(summary.unexplained),
        thousands(summary.succeeded)
    )
}

fn rows(
    upstream: &Explained,
    name: String,
    tries_only: bool,
    interval: Option<&Summary>,
) -> Vec<Vec<String>> {
    let status = |code: u16| if code == 0 { "none".to_owned() } else { code.to_string() };
    let statuses: Vec<_> = upstream.statuses.keys().map(|code| status(*code)).collect();
    let statuses = if statuses.is_empty() { "-".to_owned() } else { statuses.join(",") };
    let dash = || "-".to_owned();
    let some = |count: u64| if count == 0 { dash() } else { thousands(count) };
    let same = |it: &&Explained| it.proxy == upstream.proxy && it.upstream == upstream.upstream;
    let new = interval.map(|sum| sum.upstreams.iter().find(same));
    let with_new = |new: Option<u64>, mut row: Vec<String>| {
        if let Some(new) = new {
            row.insert(1, some(new));
        }
        row
    };
    let mut rows = Vec::new();
    for by in &upstream.by {
        let mark = if by.inferred { "~" } else { "" };
        let answers = if tries_only { dash() } else { mark.to_owned() + &thousands(by.answers) };
        let shared = if by.kernel_shared { "~" } else { "" };
        let kernel = by.kernel.map_or_else(dash, thousands);
        let of_it = new.map(|new| {
            let of = new.and_then(|new| new.by.iter().find(|it| it.class == by.class));
            of.map_or(0, |of| if tries_only { of.lines } else { of.answers })
        });
        let row = vec![
            answers,
            statuses.clone(),
            by.class.to_owned(),
            some(by.lines),
            shared.to_owned() + &kernel,
            name.clone(),
        ];
        rows.push(with_new(of_it, row));
    }
    if upstream.unexplained > 0 {
        let of_it = new.map(|new| new.map_or(0, |new| new.unexplained));
        let why = "unexplained".to_owned();
        let row = vec![thousands(upstream.unexplained), statuses, why, dash(), dash(), name];
        rows.push(with_new(of_it, row));
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::answers::summary::{ByClass, Gap};

    #[test]
    fn a_table_and_a_sum() {
        let by = |class, answers, kernel, inferred| ByClass {
            class,
            answers,
            lines: answers,
            kernel,
            inferred,
            kernel_shared: false,
        };
        let summary = Summary {
            failed: 12_001,
            explained: 12_000,
            unexplained: 1,
            succeeded: 7,
            share: Some(12_000.0 / 12_001.0),
            upstreams: vec![Explained {
                proxy: "nginx",
                upstream: "10.0.0.9:9001".to_owned(),
                statuses: BTreeMap::from([(502, 12_001)]),
                by: vec![
                    by("ports-exhausted", 11_000, Some(11_000), false),
                    by("refused", 1000, None, true),
                ],
                unexplained: 1,
            }],
            ..Summary::default()
        };
        insta::assert_snapshot!(lines(&summary).join("\n"));
        let mut before = summary.clone();
        (before.failed, before.explained) = (11_990, 11_990);
        before.unexplained = 0;
        before.upstreams[0].unexplained = 0;
        before.upstreams[0].by[0].answers = 10_990;
        let interval = Some(Box::new(summary.since(&before)));
        insta::assert_snapshot!("an_interval", lines(&Summary { interval, ..summary }).join("\n"));
    }

    #[test]
    fn what_there_is_to_say_beside_it() {
        let by = ByClass {
            class: "refused",
            answers: 3,
            lines: 0,
            kernel: Some(7),
            inferred: true,
            kernel_shared: true,
        };
        let upstream = |proxy| Explained {
            proxy,
            upstream: "10.0.0.9:80".to_owned(),
            statuses: BTreeMap::from([(503, 4)]),
            by: vec![by],
            unexplained: 1,
        };
        let gap = Gap {
            from: "2026-11-25T12:00:00Z".to_owned(),
            to: "2026-11-25T12:00:01Z".to_owned(),
            why: "/var/log/nginx/error.log: Permission denied (os error 13)".to_owned(),
        };
        let summary = Summary {
            failed: 8,
            explained: 6,
            unexplained: 2,
            share: Some(0.75),
            gaps: vec![gap],
            behind: true,
            lacks: BTreeSet::from(["response_flags"]),
            upstreams: vec![upstream("haproxy"), upstream("envoy")],
            ..Summary::default()
        };
        insta::assert_snapshot!(lines(&summary).join("\n"));
    }
}
