//! Failed answers of the host of `build`.

use std::collections::BTreeMap;

use crate::answers::{
    captured::{Captured, OfLog},
    summary::{ByClass, Explained, Gap, Summary},
};

fn by(class: &'static str, answers: u64, kernel: Option<u64>, inferred: bool) -> ByClass {
    ByClass { class, answers, lines: answers + 3, kernel, inferred, kernel_shared: false }
}

/// Most are explained, by two causes.
pub(super) fn answers() -> Captured {
    let upstream = |name: &str, by: Vec<ByClass>, unexplained| Explained {
        proxy: "nginx",
        upstream: name.to_owned(),
        statuses: BTreeMap::from([(502, 3_412), (504, 20)]),
        by,
        unexplained,
    };
    Captured {
        summary: Summary {
            failed: 3_432,
            explained: 3_431,
            unexplained: 1,
            succeeded: 12_400,
            share: Some(3_431.0 / 3_432.0),
            upstreams: vec![
                upstream(
                    "10.0.0.9:9001",
                    vec![by("ports-exhausted", 3_400, Some(3_412), false)],
                    1,
                ),
                upstream("app/server-1", vec![by("refused", 31, None, true)], 0),
            ],
            ..Summary::default()
        },
        lines_outside: 120,
        time_zone: Some("Europe/Berlin".to_owned()),
        logs: vec![OfLog {
            file: "/var/log/nginx/error.log".to_owned(),
            lines: 3_412,
            lines_outside: 120,
            first: Some("2026-03-01T13:00:00Z".to_owned()),
            last: Some("2026-03-01T15:00:00Z".to_owned()),
            timeless: false,
            without_zone: true,
        }],
        ..Captured::default()
    }
}

/// The same with text of somebody else wherever a log has any.
pub(super) fn hostile(text: &str) -> Captured {
    let mut answers = answers();
    answers.summary.broken_off = Some(text.to_owned());
    let gap = Gap { from: text.to_owned(), to: text.to_owned(), why: text.to_owned() };
    answers.summary.gaps.push(gap);
    answers.summary.upstreams[0].upstream = text.to_owned();
    answers.time_zone = Some(text.to_owned());
    answers.logs[0] = OfLog {
        file: text.to_owned(),
        lines: 0,
        first: Some(text.to_owned()),
        timeless: true,
        ..answers.logs[0].clone()
    };
    (answers.kernel_incomplete, answers.any_time) = (true, true);
    answers
}

/// Figures that no host has.
pub(super) fn absurd() -> Captured {
    let mut answers = hostile("");
    let most = u64::MAX;
    let summary = &mut answers.summary;
    (summary.failed, summary.unexplained, summary.lines_unknown) = (most, most, most);
    summary.share = Some(f64::NAN);
    summary.upstreams = vec![
        Explained {
            proxy: "envoy",
            upstream: String::new(),
            statuses: (0..=u16::MAX).map(|status| (status, most)).collect(),
            by: vec![
                ByClass {
                    class: "reset",
                    answers: most,
                    lines: most,
                    kernel: Some(most),
                    inferred: true,
                    kernel_shared: true
                };
                13
            ],
            unexplained: most,
        };
        500
    ];
    answers
}
