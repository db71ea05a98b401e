//! `check --format json`: one object. The keys are a contract, see docs/output.md.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Serialize, Serializer};

use super::json::line;
use crate::{
    ceilings::{Ceiling, Failed, Since, Subject, User, forecast::Forecast},
    check::{Findings, Judged, Report},
};

#[derive(Serialize)]
struct Checked<'a> {
    status: &'static str,
    ceilings: Vec<Row<'a>>,
    unseen: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<Hypothesis<'a>>,
}

#[derive(Serialize)]
struct Hypothesis<'a> {
    settings: String,
    status: &'static str,
    ceilings: Vec<Row<'a>>,
}

/// A finding.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    ceiling: &'static str,
    scope: &'static str,
    subject: String,
    status: &'static str,
    used: u64,
    limit: u64,
    #[serde(serialize_with = "rounded")]
    ratio: f64,
    headroom: u64,
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    traffic: Option<TrafficRow>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded_option")]
    entered_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<FailedRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    who: Vec<UserRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<ForecastRow<'a>>,
    evidence: &'a str,
    remedy: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
}

/// Where a subject is.
#[derive(Default, Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[u16; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize)]
struct TrafficRow {
    states: BTreeMap<&'static str, u64>,
    reusable: u64,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded_option")]
    sustainable_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_here: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by_peer: Option<u64>,
}

#[derive(Serialize)]
struct FailedRow {
    error: &'static str,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rounded_option")]
    per_s: Option<f64>,
    since: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    who: Vec<FailedUser>,
}

#[derive(Serialize)]
struct FailedUser {
    pid: u32,
    comm: String,
    count: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum UserRow {
    Process { pid: u32, comm: String, sockets: u64 },
    Holder { pid: u32, comm: String, files: u64 },
    Address { address: IpAddr, entries: u64 },
}

#[derive(Serialize)]
struct ForecastRow<'a> {
    #[serde(serialize_with = "rounded")]
    seconds: f64,
    basis: &'a str,
}

/// Thousandths are enough.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn rounded<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((number * 1000.0).round() / 1000.0)
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn rounded_option<S: Serializer>(
    number: &Option<f64>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => rounded(number, to),
        None => to.serialize_none(),
    }
}

/// Prints it.
pub fn print(report: &Report, out: &mut Vec<u8>) {
    let checked = Checked {
        status: report.now.status.name(),
        ceilings: rows(&report.now),
        unseen: &report.unseen,
        what_if: report.what_if.as_ref().map(|(what_if, findings)| Hypothesis {
            settings: what_if.to_string(),
            status: findings.status.name(),
            ceilings: rows(findings),
        }),
    };
    line(&checked, out);
}

fn rows(findings: &Findings) -> Vec<Row<'_>> {
    findings.list.iter().map(row).collect()
}

/// A finding as a row.
pub(super) fn row(Judged { ceiling, status }: &Judged) -> Row<'_> {
    let entered_per_s = match &ceiling.traffic {
        Some(traffic) => traffic.entered_per_s,
        None => ceiling.entered_per_s,
    };
    Row {
        ceiling: ceiling.subject.kind().name(),
        scope: ceiling.subject.scope(),
        subject: ceiling.subject.to_string(),
        status: status.name(),
        used: ceiling.used,
        limit: ceiling.limit,
        ratio: ceiling.ratio(),
        headroom: ceiling.headroom(),
        place: place(&ceiling.subject),
        traffic: ceiling.traffic.as_ref().map(|traffic| TrafficRow {
            states: traffic.states.iter().map(|(state, count)| (state.name(), *count)).collect(),
            reusable: traffic.reusable,
            sustainable_per_s: traffic.sustainable_per_s,
            closed_here: traffic.closed.map(|(here, _)| here),
            closed_by_peer: traffic.closed.map(|(_, peer)| peer),
        }),
        entered_per_s,
        failures: ceiling.failures.iter().map(failed).collect(),
        who: ceiling.who.iter().map(|user| user_row(ceiling, user)).collect(),
        forecast: ceiling
            .forecast
            .as_ref()
            .map(|Forecast { seconds, basis }| ForecastRow { seconds: *seconds, basis }),
        evidence: &ceiling.evidence,
        remedy: ceiling.remedy.join("; or "),
        notes: &ceiling.notes,
    }
}

fn failed(failed: &Failed) -> FailedRow {
    FailedRow {
        error: failed.error,
        count: failed.count,
        per_s: failed.per_s,
        since: match failed.since {
            Since::Interval => "interval",
            Since::Boot => "boot",
        },
        who: failed
            .who
            .iter()
            .map(|&(pid, comm, count)| FailedUser { pid, comm: comm.to_string(), count })
            .collect(),
    }
}

fn user_row(ceiling: &Ceiling, user: &User) -> UserRow {
    match *user {
        User::Process(pid, comm, files) if ceiling.subject == Subject::Host => {
            UserRow::Holder { pid, comm: comm.to_string(), files }
        }
        User::Process(pid, comm, sockets) => {
            UserRow::Process { pid, comm: comm.to_string(), sockets }
        }
        User::Address(address, entries) => UserRow::Address { address, entries },
    }
}

fn place(subject: &Subject) -> Place {
    let netns = subject.netns();
    match subject {
        Subject::Proxy { pid, comm, bound, .. } => Place {
            netns,
            pid: Some(*pid),
            comm: Some(comm.to_string()),
            name: bound.name().map(ToString::to_string),
            ..Place::default()
        },
        &Subject::Upstream { src, dst, dport, interface, range, .. } => Place {
            netns,
            src: Some(src),
            dst: Some(dst),
            dport: Some(dport),
            interface: (interface != 0).then_some(interface),
            range: range.map(|(first, last)| [first, last]),
            ..Place::default()
        },
        &Subject::BindPool { src, .. } => Place { netns, src: Some(src), ..Place::default() },
        &Subject::Listener { src, sport, .. } => {
            Place { netns, src: Some(src), sport: Some(sport), ..Place::default() }
        }
        &Subject::Process { pid, comm } => {
            Place { pid: Some(pid), comm: Some(comm.to_string()), ..Place::default() }
        }
        Subject::TimeWait { .. } | Subject::Conntrack { .. } | Subject::Host => {
            Place { netns, ..Place::default() }
        }
    }
}
