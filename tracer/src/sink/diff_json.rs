//! `diff --format json`: one object. The keys are a contract, see docs/output.md.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    check_json::rounded_option,
    facts::shown,
    json::line,
    report_json::{About, clock},
};
use crate::{
    reason::Reason,
    report::{
        Report,
        diff::{Ceiling, Diff, Pair, Setting, Upstream},
    },
};

#[derive(Serialize)]
struct DiffLine<'a> {
    a: Side<'a>,
    b: Side<'a>,
    warnings: &'a [String],
    settings: Vec<SettingRow<'a>>,
    events_per_s: PairRow,
    opened_per_s: PairRow,
    time_waits_per_s: PairRow,
    failed_per_s: PairRow,
    reasons: Vec<ReasonRow>,
    upstreams: Vec<UpstreamRow>,
    ceilings: Vec<CeilingRow<'a>>,
}

#[derive(Serialize)]
struct Side<'a> {
    file: &'a str,
    #[serde(flatten)]
    about: About<'a>,
}

#[derive(Serialize)]
struct SettingRow<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<&'a str>,
}

#[derive(Serialize)]
struct PairRow {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded_option")]
    a: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded_option")]
    b: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded_option")]
    change_percent: Option<f64>,
}

impl From<Pair> for PairRow {
    fn from(pair: Pair) -> Self {
        Self { a: pair.a, b: pair.b, change_percent: pair.change_percent() }
    }
}

#[derive(Serialize)]
struct ReasonRow {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    reason: Option<Reason>,
    #[serde(flatten)]
    per_s: PairRow,
}

#[derive(Serialize)]
struct UpstreamRow {
    dst: IpAddr,
    dport: u16,
    failed_per_s: PairRow,
    opened_per_s: PairRow,
    time_waits_per_s: PairRow,
}

#[derive(Serialize)]
struct CeilingRow<'a> {
    ceiling: &'static str,
    subject: &'a str,
    #[serde(flatten)]
    ratio: PairRow,
}

/// Prints it.
pub fn print(a: &Report, b: &Report, diff: &Diff, out: &mut Vec<u8>) {
    let whole = DiffLine {
        a: side(a),
        b: side(b),
        warnings: &diff.warnings,
        settings: diff.settings.iter().map(setting).collect(),
        events_per_s: diff.events.into(),
        opened_per_s: diff.opened.into(),
        time_waits_per_s: diff.time_waits.into(),
        failed_per_s: diff.failed.into(),
        reasons: diff
            .reasons
            .iter()
            .map(|&(reason, pair)| ReasonRow { reason, per_s: pair.into() })
            .collect(),
        upstreams: diff.upstreams.iter().map(upstream).collect(),
        ceilings: diff.ceilings.iter().map(ceiling).collect(),
    };
    line(&whole, out);
}

fn side(report: &Report) -> Side<'_> {
    Side { file: &report.file, about: About::of(report, &mut clock(report)) }
}

fn setting(it: &Setting) -> SettingRow<'_> {
    SettingRow { name: &it.name, a: it.a.as_deref(), b: it.b.as_deref() }
}

fn upstream(it: &Upstream) -> UpstreamRow {
    UpstreamRow {
        dst: it.dst,
        dport: it.dport,
        failed_per_s: it.failed.into(),
        opened_per_s: it.opened.into(),
        time_waits_per_s: it.time_waits.into(),
    }
}

fn ceiling(it: &Ceiling) -> CeilingRow<'_> {
    CeilingRow { ceiling: it.kind.name(), subject: &it.subject, ratio: it.ratio.into() }
}
