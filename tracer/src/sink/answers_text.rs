//! Failed answers of proxies and what explains them, as text.

use super::columns::{Columns, Side};
use crate::{
    answers::summary::{Explained, Summary},
    human::thousands,
};

const TITLES: [(&str, Side); 6] = [
    ("FAILED", Side::Right),
    ("STATUS", Side::Left),
    ("EXPLAINED BY", Side::Left),
    ("LOG LINES", Side::Right),
    ("KERNEL", Side::Right),
    ("UPSTREAM", Side::Left),
];

/// Most upstreams that are named.
const SHOWN: usize = 20;

/// The lines: the table, then the sum.
#[must_use]
pub fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if !summary.upstreams.is_empty() {
        let mut columns = Columns::new(&TITLES);
        for upstream in summary.upstreams.iter().take(SHOWN) {
            rows(upstream, summary.tries_only, &mut columns);
        }
        lines.extend(columns.lines(None));
        let more = summary.upstreams.len().saturating_sub(SHOWN);
        if more > 0 {
            lines.push(format!("({more} more upstreams)"));
        }
    }
    let inferred = summary.upstreams.iter().flat_map(|it| &it.by).any(|by| by.inferred);
    if inferred {
        lines.push(
            "~ inferred: several kinds of failures share these answers, divided by how often the kernel saw each"
                .to_owned(),
        );
    }
    if summary.lines_unknown > 0 {
        lines.push(format!(
            "{} lines of the logs were not understood: they are in no figure (docs/answers.md says which formats are)",
            thousands(summary.lines_unknown)
        ));
    }
    if let Some(why) = &summary.broken_off {
        lines.push(format!(
            "a log can't be read any more, what was written since is in no figure: {why}"
        ));
    }
    lines.push(sum(summary));
    lines
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

fn rows(upstream: &Explained, tries_only: bool, columns: &mut Columns) {
    let status = |code: u16| if code == 0 { "none".to_owned() } else { code.to_string() };
    let statuses: Vec<_> = upstream.statuses.keys().map(|code| status(*code)).collect();
    let statuses = if statuses.is_empty() { "-".to_owned() } else { statuses.join(",") };
    for by in &upstream.by {
        let mark = if by.inferred { "~" } else { "" };
        let answers =
            if tries_only { "-".to_owned() } else { mark.to_owned() + &thousands(by.answers) };
        let lines = if by.lines == 0 { "-".to_owned() } else { thousands(by.lines) };
        let kernel = by.kernel.map_or_else(|| "-".to_owned(), thousands);
        columns.row(vec![
            answers,
            statuses.clone(),
            by.class.to_owned(),
            lines,
            kernel,
            upstream.upstream.clone(),
        ]);
    }
    if upstream.unexplained > 0 {
        columns.row(vec![
            thousands(upstream.unexplained),
            statuses,
            "unexplained".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            upstream.upstream.clone(),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::answers::summary::ByClass;

    #[test]
    fn a_table_and_a_sum() {
        let by = |class, answers, kernel, inferred| ByClass {
            class,
            answers,
            lines: answers,
            kernel,
            inferred,
        };
        let summary = Summary {
            failed: 12_001,
            explained: 12_000,
            unexplained: 1,
            succeeded: 7,
            share: Some(12_000.0 / 12_001.0),
            upstreams: vec![Explained {
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
        let printed = lines(&summary).join("\n");
        insta::assert_snapshot!(printed);
    }
}
