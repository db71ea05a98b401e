//! `report --format json`: an object for each capture. The keys are a contract, see docs/output.md.

use std::{collections::HashSet, net::IpAddr};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    check_json::{self, rounded},
    clock::Clock,
    facts::shown,
    json::{CountRow, is_zero, line},
};
use crate::{
    answers::captured::Captured,
    capture::{Damage, content::Sysctls},
    event::Comm,
    live::shot::Sockets,
    reason::Reason,
    report::{Ceiling, Incident, Process, Report, SettingChange, Upstream},
};

#[derive(Serialize)]
struct ReportLine<'a> {
    file: &'a str,
    #[serde(flatten)]
    about: About<'a>,
    damage: Vec<DamageRow>,
    #[serde(skip_serializing_if = "is_zero")]
    not_understood: u64,
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lost_owners: u64,
    #[serde(skip_serializing_if = "is_zero")]
    skipped_calls: u64,
    reasons: Vec<ReasonRow>,
    failures: Vec<CountRow<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    unlisted: u64,
    incidents: Vec<IncidentRow<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_incidents: u64,
    ceilings: Vec<CeilingRow<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_ceilings: u64,
    samples: u64,
    upstreams: Vec<UpstreamRow>,
    #[serde(skip_serializing_if = "is_zero")]
    more_upstreams: u64,
    processes: Vec<ProcessRow>,
    #[serde(skip_serializing_if = "is_zero")]
    more_processes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unplaced: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<&'a Sysctls>,
    changes: Vec<ChangeRow<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_changes: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unseen_events: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unseen: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<&'a Captured>,
}

/// Of where and when a capture is, and how much of it there is.
#[derive(Serialize)]
pub(super) struct About<'a> {
    host: &'a str,
    kernel: &'a str,
    socklife: &'a str,
    boot_id: &'a str,
    arguments: &'a [String],
    part: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a str>,
    start: String,
    end: String,
    #[serde(serialize_with = "rounded")]
    duration_s: f64,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'a str>,
    events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    produced: Option<u64>,
    lost: u64,
    damaged_blocks: u64,
    missing: u64,
    failed: u64,
}

impl<'a> About<'a> {
    pub(super) fn of(report: &'a Report, clock: &mut Clock) -> Self {
        let (header, end) = (&report.header, &report.end);
        Self {
            host: &header.host,
            kernel: &header.kernel,
            socklife: &header.socklife,
            boot_id: &header.boot_id,
            arguments: &header.arguments,
            part: header.part,
            trigger: header.trigger.as_deref(),
            start: clock.rfc3339(report.begin_ns()),
            end: clock.rfc3339(report.end_ns()),
            duration_s: report.seconds(),
            complete: end.is_some(),
            ended: end.as_ref().map(|end| end.why.as_str()),
            events: report.events,
            produced: end.as_ref().and_then(|end| end.produced),
            lost: report.lost.events(),
            damaged_blocks: report.damaged,
            missing: report.missing,
            failed: report.failed,
        }
    }
}

#[derive(Serialize)]
struct DamageRow {
    why: &'static str,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
}

#[derive(Serialize)]
struct ReasonRow {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    reason: Option<Reason>,
    count: u64,
}

#[derive(Serialize)]
struct IncidentRow<'a> {
    status: &'static str,
    first: String,
    last: String,
    #[serde(serialize_with = "rounded")]
    peak_per_s: f64,
    sentence: &'a str,
    remedy: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<&'static str>,
}

#[derive(Serialize)]
struct CeilingRow<'a> {
    #[serde(flatten)]
    worst: check_json::Row<'a>,
    at: String,
    idle: bool,
    last_used: u64,
    last_limit: u64,
    #[serde(serialize_with = "rounded")]
    last_ratio: f64,
}

#[derive(Serialize)]
struct UpstreamRow {
    dst: IpAddr,
    dport: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    opened: u64,
    closed: u64,
    closed_here: u64,
    closed_by_peer: u64,
    time_waits: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inferred: bool,
    failed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_p99_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_sockets: Option<Sockets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_usable: Option<u64>,
}

#[derive(Serialize)]
struct ProcessRow {
    pid: u32,
    comm: Comm,
    opened: u64,
    served: u64,
    failed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_limit: Option<u64>,
}

#[derive(Serialize)]
struct ChangeRow<'a> {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
}

/// All captures together.
#[derive(Serialize)]
struct Fleet<'a> {
    hosts: usize,
    events: u64,
    lost: u64,
    missing: u64,
    failed: u64,
    failures: Vec<HostRow<'a>>,
}

#[derive(Serialize)]
struct HostRow<'a> {
    host: &'a str,
    file: &'a str,
    #[serde(flatten)]
    row: CountRow<'a>,
}

/// Prints a line for each report, and of several ones a last line with all of them together.
pub fn print(reports: &[Report], out: &mut Vec<u8>) {
    for report in reports {
        line(&of(report), out);
    }
    if reports.len() > 1 {
        line(&fleet(reports), out);
    }
}

/// What dates a report's events.
pub(super) fn clock(report: &Report) -> Clock {
    Clock::new(report.header.epoch_ns, TimeZone::UTC)
}

fn of(report: &Report) -> ReportLine<'_> {
    let clock = &mut clock(report);
    ReportLine {
        file: &report.file,
        about: About::of(report, clock),
        damage: report.damage.iter().map(damage).collect(),
        not_understood: report.undecodable,
        missed: report.lost.missed,
        lost_owners: report.lost.owners,
        skipped_calls: report.lost.calls,
        reasons: reasons(&report.reasons),
        failures: rows(report, clock),
        unlisted: report.unlisted,
        incidents: report.incidents.iter().map(|it| incident(it, clock)).collect(),
        more_incidents: report.more_incidents,
        ceilings: report.ceilings.iter().map(|it| ceiling(it, clock)).collect(),
        more_ceilings: report.more_ceilings,
        samples: report.samples,
        upstreams: report.upstreams.iter().map(upstream).collect(),
        more_upstreams: report.more_upstreams,
        processes: report.processes.iter().map(process).collect(),
        more_processes: report.more_processes,
        unplaced: report.unplaced,
        settings: report.settings.as_ref(),
        changes: report.changes.iter().map(|it| change(it, clock)).collect(),
        more_changes: report.more_changes,
        unseen_events: &report.header.unseen,
        unseen: &report.unseen,
        answers: report.answers.as_ref(),
    }
}

fn rows<'a>(report: &'a Report, clock: &mut Clock) -> Vec<CountRow<'a>> {
    report.failures.iter().map(|(key, row)| CountRow::of(clock, key, row)).collect()
}

fn fleet(reports: &[Report]) -> Fleet<'_> {
    let hosts: HashSet<_> = reports.iter().map(|report| report.header.host.as_str()).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).fold(0, u64::saturating_add);
    let mut failures: Vec<_> = reports
        .iter()
        .flat_map(|report| {
            let (host, file) = (report.header.host.as_str(), report.file.as_str());
            let counts = report.failures.iter().map(|(_, row)| row.count);
            let rows = rows(report, &mut clock(report)).into_iter();
            counts.zip(rows.map(move |row| HostRow { host, file, row }))
        })
        .collect();
    failures.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    Fleet {
        hosts: hosts.len(),
        events: sum(|report| report.events),
        lost: sum(|report| report.lost.events()),
        missing: sum(|report| report.missing),
        failed: sum(|report| report.failed),
        failures: failures.into_iter().map(|(_, row)| row).collect(),
    }
}

fn damage(&Damage { why, bytes, events, .. }: &Damage) -> DamageRow {
    DamageRow { why, bytes, events }
}

fn reasons(reasons: &[(Option<Reason>, u64)]) -> Vec<ReasonRow> {
    reasons.iter().map(|&(reason, count)| ReasonRow { reason, count }).collect()
}

fn incident<'a>(it: &'a Incident, clock: &mut Clock) -> IncidentRow<'a> {
    IncidentRow {
        status: it.status.name(),
        first: clock.rfc3339(it.first_ns),
        last: clock.rfc3339(it.last_ns),
        peak_per_s: it.peak_per_s,
        sentence: &it.sentence,
        remedy: &it.remedy,
        doubt: it.doubt,
    }
}

fn ceiling<'a>(it: &'a Ceiling, clock: &mut Clock) -> CeilingRow<'a> {
    let last = &it.last.ceiling;
    CeilingRow {
        worst: check_json::row(&it.worst),
        at: clock.rfc3339(it.worst_ns),
        idle: it.worst.ceiling.idle,
        last_used: last.used,
        last_limit: last.limit,
        last_ratio: last.ratio(),
    }
}

fn upstream(it: &Upstream) -> UpstreamRow {
    UpstreamRow {
        dst: it.key.dst,
        dport: it.key.dport,
        netns: it.key.netns,
        opened: it.opened,
        closed: it.closed,
        closed_here: it.closed_here,
        closed_by_peer: it.closed_by_peer,
        time_waits: it.time_waits,
        inferred: it.inferred,
        failed: it.failed(),
        reasons: reasons(&it.failures),
        connect_p50_us: it.latency.map(|latency| latency.p50_us),
        connect_p99_us: it.latency.map(|latency| latency.p99_us),
        most_sockets: it.most,
        ports_used: it.ports.map(|(used, _)| used),
        ports_usable: it.ports.map(|(_, usable)| usable),
    }
}

fn process(it: &Process) -> ProcessRow {
    ProcessRow {
        pid: it.pid,
        comm: it.comm,
        opened: it.opened,
        served: it.served,
        failed: it.failed(),
        reasons: reasons(&it.failures),
        most_files: it.files.map(|(open, _)| open),
        files_limit: it.files.map(|(_, limit)| limit),
    }
}

fn change<'a>(it: &'a SettingChange, clock: &mut Clock) -> ChangeRow<'a> {
    ChangeRow {
        at: clock.rfc3339(it.at_ns),
        netns: it.netns,
        name: &it.name,
        from: it.from.as_deref(),
        to: it.to.as_deref(),
    }
}
