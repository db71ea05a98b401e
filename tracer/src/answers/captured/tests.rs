//! Logs beside a capture, and what the report prints of them.

use std::{collections::BTreeSet, fs};

use super::*;
use crate::{
    capture::content::{End, Header},
    event::{Comm, Errno, Loss},
    failures::{FailureKey, FailureRow},
    logs::{Kind, nginx_access::Format},
    proxies::nginx::settings::Escape,
    reason::Reason,
    sink::{
        report_html, report_json,
        report_text::{self, Style},
    },
};

/// 2026-11-25 12:26:00 UTC
const START: u64 = 1_795_609_560;
const S: u64 = 1_000_000_000;

/// Of 12:26:10.5 to 12:26:20.25, in which two connections were refused.
fn report() -> Report {
    let key = FailureKey {
        call: None,
        error: Some(Errno(111)),
        reason: Some(Reason::Refused),
        comm: Some(Comm::new(*b"nginx\0\0\0\0\0\0\0\0\0\0\0")),
        src: None,
        sport: None,
        dst: Some("10.0.0.9".parse().unwrap()),
        dport: Some(9001),
        netns: None,
    };
    let (pids, first_ns, last_ns) = (BTreeSet::new(), 111 * S, 112 * S);
    Report {
        header: Header {
            epoch_ns: (START - 100) * S,
            started_ns: 110 * S + S / 2,
            zone: "+02:00".to_owned(),
            ..Header::default()
        },
        end: Some(End { at_ns: 120 * S + S / 4, ..End::default() }),
        first_ns,
        last_ns,
        failures: vec![(key, FailureRow { count: 2, pids, first_ns, last_ns, ports: None })],
        ..Report::default()
    }
}

/// A line of the error log; its hour is that of a zone.
fn refused(hour: u8, second: u8) -> String {
    format!(
        "2026/11/25 {hour}:26:{second:02} [error] 7#7: *1 connect() failed (111: X) while connecting to upstream, \
         client: 10.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.9:9001/\"\n"
    )
}

fn answered(second: u64) -> String {
    format!("502 10.0.0.9:9001 502 {}.900\n", START + second)
}

fn logs(room: &tempfile::TempDir, error: &str, access: &str, format: &str) -> Vec<Log> {
    let format = Format::compile(format, Escape::Default).unwrap();
    let files =
        [("error.log", error, Kind::NginxError), ("access.log", access, Kind::NginxAccess(format))];
    let log = |(name, text, kind)| {
        let path = room.path().join(name);
        fs::write(&path, text).unwrap();
        Log { path, kind }
    };
    files.map(log).to_vec()
}

const FORMAT: &str = "$status $upstream_addr $upstream_status $msec";

fn with(
    report: Report,
    error: &str,
    access: &str,
    format: &str,
    given: Option<&TimeZone>,
) -> Report {
    let room = tempfile::tempdir().unwrap();
    let answers = of(&report, &logs(&room, error, access, format), given).unwrap();
    Report { answers: Some(answers), ..report }
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    let style = Style { zone: TimeZone::UTC, colour: false, top: 10 };
    report_text::print(std::slice::from_ref(report), &style, &mut out);
    // As it was before it was wrapped.
    String::from_utf8(out).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn lines_of_the_recordings_time_are_joined_with_its_failures() {
    // The seconds in which it began and ended are its own.
    let error: String = [9, 10, 20, 21].map(|second| refused(14, second)).concat();
    let access: String = [9, 10, 20, 21].map(answered).concat();
    let report = with(report(), &error, &access, FORMAT, None);
    let mut out = Vec::new();
    report_json::print(std::slice::from_ref(&report), &mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let answers = &json["answers"];
    assert_eq!((&answers["failed"], &answers["explained"]), (&2.into(), &2.into()), "{answers}");
    assert_eq!(answers["lines_outside"], 4);
    let by = &answers["upstreams"][0]["by"][0];
    let wanted = serde_json::json!({ "class": "refused", "answers": 2, "lines": 2, "kernel": 2 });
    assert_eq!(by, &wanted);
    assert_eq!(answers["time_zone"], "+02:00");
    let log = &answers["logs"][0];
    assert_eq!((&log["lines"], &log["lines_outside"]), (&2.into(), &2.into()), "{log}");
    assert_eq!(log["first"], "2026-11-25T12:26:09Z", "{log}");
    for absent in ["any_time", "kernel_incomplete"] {
        assert!(answers.get(absent).is_none(), "{answers}");
    }
    let text = text(&report);
    assert!(text.contains("failed answers 2, explained 2 (100.0 %)"), "{text}");
    assert!(text.contains("4 lines of the logs are of another time"), "{text}");
    assert!(!text.contains('!'), "{text}");
}

#[test]
fn of_the_wrong_zone_or_file_it_is_said() {
    let (error, access) = (refused(12, 15), answered(15));
    let wrong = with(report(), &error, &access, FORMAT, None);
    let text_of_it = text(&wrong);
    for said in [
        "error.log is of the recording's time, 2026-11-25 12:26:10 to 2026-11-25 12:26:20 UTC: its lines (1) are of \
         2026-11-25 10:26:15 to 2026-11-25 10:26:15 UTC. Is it the right file?",
        "were read as of zone +02:00: --log-time-zone says another",
        "explained 0 (0.0 %), unexplained 1",
    ] {
        assert!(text_of_it.contains(said), "{said}\n{text_of_it}");
    }
    let page = report_html::page(&[wrong]);
    assert!(page.contains("Failed answers of proxies") && page.contains("--log-time-zone"));
    let right = with(report(), &error, &access, FORMAT, Some(&TimeZone::UTC));
    assert_eq!(right.answers.as_ref().unwrap().summary.explained, 1);
    assert!(!text(&right).contains("--log-time-zone"));
}

#[test]
fn a_zone_that_is_not_known_here_matters_only_where_one_is_needed() {
    let mut report = report();
    report.header.zone = "Nowhere/Atlantis".to_owned();
    let room = tempfile::tempdir().unwrap();
    let mut logs = logs(&room, "", &answered(15), FORMAT);
    let error = of(&report, &logs, None).unwrap_err();
    assert!(format!("{error:#}").contains("--log-time-zone"), "{error:#}");
    logs.remove(0);
    let captured = of(&report, &logs, None).unwrap();
    assert_eq!((captured.time_zone, captured.logs[0].lines), (None, 1));
}

#[test]
fn without_times_all_lines_count_and_it_is_said() {
    let error = refused(14, 1) + &refused(14, 15);
    let report = with(report(), &error, "502 10.0.0.9:9001\n", "$status $upstream_addr", None);
    let answers = report.answers.as_ref().unwrap();
    assert!(answers.any_time && answers.lines_outside == 0);
    assert_eq!(answers.summary.upstreams[0].by[0].lines, 2);
    let text = text(&report);
    assert!(text.contains("access.log has no times, so all lines of all logs count"), "{text}");
}

#[test]
fn what_is_missing_in_the_capture_is_said() {
    let lost = Loss { states: 1, ..Loss::default() };
    for report in [Report { unlisted: 1, ..report() }, Report { lost, ..report() }] {
        let report = with(report, "", &answered(15), FORMAT, None);
        assert!(report.answers.as_ref().unwrap().kernel_incomplete);
        assert!(text(&report).contains("the kernel's figures are lower bounds"));
    }
}

#[test]
fn a_compressed_log_is_refused_with_what_to_do() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("error.log.2.gz");
    fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
    let error = of(&report(), &[Log { path, kind: Kind::NginxError }], None).unwrap_err();
    assert!(format!("{error:#}").contains("zcat"), "{error:#}");
}
