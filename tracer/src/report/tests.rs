//! Reports of a capture of real incidents, whole, damaged, cut off and hostile, against what its records say.

use std::{
    collections::BTreeMap,
    io::Cursor,
    mem::offset_of,
    net::{IpAddr, Ipv4Addr},
};

use jiff::tz::TimeZone;
use tracer_ebpf::{
    KIND_FD, KIND_STATE, KIND_TIMEWAIT, RAW_EVENT_SIZE, RawEvent,
    state::{CLOSE, ESTABLISHED, SYN_SENT},
};
use zerocopy::FromBytes;

use super::{Report, diff, fold};
use crate::{
    capture::{
        Item,
        block::Encoder,
        content::{End, Header},
        frame::Kind,
        reader::Reader,
        walk::Walk,
        writer::Writer,
    },
    event::{Errno, Loss},
    reason::Reason,
    sink::{
        Sink, Totals,
        clock::Clock,
        diff_json, diff_text, json, report_json,
        report_text::{self, Style},
    },
};

const INCIDENTS: &[u8] = include_bytes!("../../fixtures/incidents-v1.socklife");

fn report_of(bytes: &[u8], file: &str) -> Report {
    let walk = Walk::of(Cursor::new(bytes.to_vec())).unwrap();
    fold::of_walk(walk, file.to_owned()).unwrap()
}

fn raw_records(bytes: &'static [u8]) -> Vec<RawEvent> {
    let mut reader = Reader::open(bytes).unwrap();
    let mut all = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Records(records) = item {
            let raw = |record| RawEvent::read_from_bytes(record).unwrap();
            all.extend(records.chunks_exact(RAW_EVENT_SIZE).map(raw));
        }
    }
    all
}

/// Process ids of sockets that existed before, by cookie.
fn listed() -> BTreeMap<u64, u32> {
    let mut reader = Reader::open(INCIDENTS).unwrap();
    let mut all = BTreeMap::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Sockets(met) = item {
            all.extend(met.sockets.iter().map(|socket| (socket.cookie, socket.owner.pid)));
        }
    }
    all
}

fn style(top: usize) -> Style {
    Style { zone: TimeZone::UTC, colour: false, top }
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    report_text::print(std::slice::from_ref(report), &style(10), &mut out);
    String::from_utf8(out).unwrap()
}

fn json_lines(reports: &[Report]) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    report_json::print(reports, &mut out);
    let lines = out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn same(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A capture of these records.
fn capture(header: &Header, records: &[u8], frames: &[(Kind, Vec<u8>)], end: bool) -> Vec<u8> {
    let mut encoder = Encoder::new().unwrap();
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for (kind, raw) in frames {
        writer.put(&encoder.other(*kind, 1, raw).unwrap()).unwrap();
    }
    encoder.records(records, |frame| writer.put(&frame)).unwrap();
    if let Some(frame) = encoder.seal().unwrap() {
        writer.put(&frame).unwrap();
    }
    if end { writer.end(&End::default()).unwrap().0 } else { std::mem::take(writer.inner()) }
}

fn fixture_header() -> Header {
    Reader::open(INCIDENTS).unwrap().header().clone()
}

#[test]
fn figures_are_those_of_the_records() {
    let raw = raw_records(INCIDENTS);
    let report = report_of(INCIDENTS, "incidents");
    let count =
        |wanted: &dyn Fn(&RawEvent) -> bool| raw.iter().filter(|it| wanted(it)).count() as u64;
    let is_state = |it: &RawEvent| it.kind == KIND_STATE;

    let no_port = |it: &RawEvent| {
        is_state(it) && (it.old, it.new) == (SYN_SENT, CLOSE) && it.sport == 0 && it.error == 0
    };
    let no_file = |it: &RawEvent| it.kind == KIND_FD && it.error == 24;
    let reset = |it: &RawEvent| is_state(it) && it.new == CLOSE && [32, 104].contains(&it.error);
    let truth = [
        (Some(Reason::PortRangeExhausted), count(&no_port)),
        (Some(Reason::ProcessFileLimit), count(&no_file)),
        (Some(Reason::Reset), count(&reset)),
    ];
    assert_eq!(report.reasons, truth);
    assert_eq!(report.failed, truth.iter().map(|(_, count)| count).sum::<u64>());
    assert_eq!(report.events, raw.len() as u64);
    let mut by_errno: BTreeMap<Errno, u64> = BTreeMap::new();
    for (key, row) in &report.failures {
        if let Some(error) = key.error {
            *by_errno.entry(error).or_default() += row.count;
        }
    }
    assert_eq!(by_errno[&Errno::EADDRNOTAVAIL], truth[0].1);
    assert_eq!(by_errno[&Errno(24)], truth[1].1);

    let steps = &report.timeline.steps;
    let sum = |of: fn(&super::Step) -> u64| steps.iter().map(of).sum::<u64>();
    assert_eq!(sum(|step| step.opened), count(&|it| is_state(it) && it.new == ESTABLISHED));
    assert_eq!(sum(|step| step.closed), count(&|it| is_state(it) && it.old == ESTABLISHED));
    assert_eq!(sum(|step| step.time_waits), count(&|it| it.kind == KIND_TIMEWAIT));
    assert_eq!(sum(|step| step.failures.iter().map(|it| it.1).sum()), report.failed);
    // Each step has what its time has.
    let (start_ns, step_ns) = (report.timeline.start_ns, report.timeline.step_ns);
    let inside = |index: u64| {
        let from = start_ns + index * step_ns;
        count(&|it| no_file(it) && (from..from + step_ns).contains(&it.ts_ns))
    };
    for (index, step) in (0..).zip(steps).skip(1) {
        let of_step = step.failures.iter().find(|it| it.0 == Some(Reason::ProcessFileLimit));
        assert_eq!(of_step.map_or(0, |it| it.1), inside(index), "step {index}");
    }

    let (dst, dport) = (IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 9001);
    let upstream = report.upstreams.first().unwrap();
    assert_eq!((upstream.key.dst, upstream.key.dport), (dst, dport));
    assert_eq!(upstream.failed(), count(&|it| no_port(it) && it.dport == dport));
    let by_step: u64 = upstream.failed_by_step.iter().sum();
    assert_eq!((by_step, upstream.failed_by_step.len()), (upstream.failed(), steps.len()));
    for upstream in &report.upstreams {
        assert_eq!(upstream.opened_by_step.iter().sum::<u64>(), upstream.opened);
    }
    // Whose the sockets are that existed before was listed.
    let before = listed();
    let pid_of = |it: &RawEvent| {
        if it.tgid == 0 { before.get(&it.cookie).copied().unwrap_or(0) } else { it.tgid }
    };
    let by_pid =
        |pid: u32| count(&|it| pid_of(it) == pid && (no_port(it) || no_file(it) || reset(it)));
    assert!(!report.processes.is_empty());
    for process in &report.processes {
        assert_eq!(process.failed(), by_pid(process.pid), "process {}", process.pid);
    }
}

#[test]
fn incidents_are_when_their_failures_are() {
    let report = report_of(INCIDENTS, "incidents");
    let raw = raw_records(INCIDENTS);
    let times = |wanted: &dyn Fn(&RawEvent) -> bool| {
        let mut times: Vec<_> = raw.iter().filter(|it| wanted(it)).map(|it| it.ts_ns).collect();
        times.sort_unstable();
        (times[0], times[times.len() - 1])
    };
    let no_port = |it: &RawEvent| it.kind == KIND_STATE && it.old == SYN_SENT && it.sport == 0;
    let ports = report.incidents.iter().find(|it| it.sentence.contains("no free local port"));
    let ports = ports.unwrap();
    assert_eq!((ports.first_ns, ports.last_ns), times(&|it| no_port(it) && it.new == CLOSE));
    assert!(ports.sentence.contains("64 of 64 used"), "{}", ports.sentence);
    assert!(!ports.remedy.is_empty());
    let files: Vec<_> =
        report.incidents.iter().filter(|it| it.sentence.contains("EMFILE")).collect();
    assert_eq!(files.len(), 2, "one of each process, before its limit was found and after");
    let (first, last) = times(&|it| it.kind == KIND_FD);
    assert_eq!(files.iter().map(|it| it.first_ns).min(), Some(first));
    assert_eq!(files.iter().map(|it| it.last_ns).max(), Some(last));
}

#[test]
fn ports_of_a_row_are_the_most_that_a_sample_found() {
    let report = report_of(INCIDENTS, "incidents");
    let (key, row) = &report.failures[0];
    assert_eq!(key.reason, Some(Reason::PortRangeExhausted));
    let ports = row.ports.unwrap();
    assert_eq!((ports.used, ports.usable), (64, 64));
    let others = report.failures.iter().skip(1);
    assert!(
        others
            .filter(|(key, _)| key.reason != Some(Reason::PortRangeExhausted))
            .all(|(_, row)| row.ports.is_none())
    );
    let change = report.changes.first().unwrap();
    assert_eq!(change.name, "net.ipv4.ip_local_port_range");
    assert_eq!(change.to.as_deref(), Some("32768 60999"));
}

#[test]
fn rows_are_those_that_record_prints() {
    let report = report_of(INCIDENTS, "incidents");
    let mut walk = Walk::of(Cursor::new(INCIDENTS)).unwrap();
    while walk.advance(|_| ()).unwrap() {}
    let mut out = Vec::new();
    let totals = Totals { duration_s: 1.0, produced: 0, unseen: Vec::new() };
    let clock = Clock::new(report.header.epoch_ns, TimeZone::UTC);
    json::Count::new(clock).totals(&walk.table, &totals, &mut out);
    let counted = String::from_utf8(out).unwrap();
    let by = counted.split_once("\"by\":[").unwrap().1.trim_end().trim_end_matches("]}");

    let mut without = report;
    without.failures.iter_mut().for_each(|(_, row)| row.ports = None);
    let mut out = Vec::new();
    report_json::print(&[without], &mut out);
    let reported = String::from_utf8(out).unwrap();
    assert!(reported.contains(&format!("\"failures\":[{by}]")), "{by}");
}

#[test]
fn a_report_reads_well() {
    let report = report_of(INCIDENTS, "incidents.socklife");
    let text = text(&report);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    same("report", &text);
}

#[test]
fn damage_is_told_first_and_counted() {
    let mut damaged = INCIDENTS.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x40;
    let report = report_of(&damaged, "damaged");
    let whole = report_of(INCIDENTS, "whole");
    assert!(report.missing > 0 && report.damaged == 1, "{:?}", report.damage);
    assert_eq!(report.events + report.missing, whole.events);
    assert!(report.end.is_some());
    let text = text(&report);
    assert!(text.starts_with("! damaged in 1 place: "), "{text}");
    let json = &json_lines(std::slice::from_ref(&report))[0];
    assert_eq!((&json["damaged_blocks"], &json["missing"]), (&1.into(), &report.missing.into()));
    let diff = diff::of(&whole, &report);
    assert!(
        diff.warnings.iter().any(|it| it.starts_with("B: the file is damaged; ")),
        "{:?}",
        diff.warnings
    );
}

#[test]
fn a_recording_that_was_cut_off_says_so() {
    let report = report_of(&INCIDENTS[..INCIDENTS.len() * 2 / 3], "cut");
    assert!(report.end.is_none() && report.events > 0);
    assert!(text(&report).starts_with("! the recording was cut off"));
    let json = &json_lines(std::slice::from_ref(&report))[0];
    assert_eq!(json["complete"], false);
    assert!(json.get("produced").is_none());
}

#[test]
fn an_empty_capture_has_an_empty_report() {
    let header = Header { started_ns: 5, trigger: None, ..fixture_header() };
    let report = report_of(&capture(&header, &[], &[], true), "empty");
    assert_eq!((report.events, report.failed, report.timeline.steps.len()), (0, 0, 0));
    assert_eq!((report.begin_ns(), report.end_ns()), (5, 5));
    assert!(text(&report).contains("nothing failed; ceilings were not looked at"));
    assert_eq!(json_lines(std::slice::from_ref(&report))[0]["complete"], true);
    let diff = diff::of(&report, &report_of(INCIDENTS, "incidents"));
    assert_eq!((diff.events.a, diff.events.change_percent()), (None, None));
}

#[test]
fn several_captures_are_summed_up() {
    let reports = [report_of(INCIDENTS, "one"), report_of(INCIDENTS, "two")];
    let lines = json_lines(&reports);
    assert_eq!(lines.len(), 3);
    let last = &lines[2];
    assert_eq!((&last["hosts"], &last["lost"]), (&1.into(), &0.into()));
    assert_eq!(last["events"], 2 * reports[0].events);
    let rows = last["failures"].as_array().unwrap();
    let counts: Vec<u64> = rows.iter().map(|row| row["count"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 2 * reports[0].failed);
    assert_eq!((&rows[0]["host"], &rows[1]["file"]), (&"vm".into(), &"two".into()));
}

#[test]
fn a_diff_reads_well() {
    let before = report_of(INCIDENTS, "before.socklife");
    let mut after = report_of(&INCIDENTS[..INCIDENTS.len() * 9 / 10], "after.socklife");
    // Another host, other settings and filters, as after a fix.
    after.header.host = "vm-2".to_owned();
    after.header.arguments.push("--failures".to_owned());
    let settings = after.settings.as_mut().unwrap();
    let range = "net.ipv4.ip_local_port_range".to_owned();
    settings.namespaces[0].sysctls.insert(range, "1024 65535".to_owned());
    let found = diff::of(&before, &after);
    let mut out = Vec::new();
    diff_text::print(&before, &after, &found, &style(10), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    same("diff", &text);
    let mut out = Vec::new();
    diff_json::print(&before, &after, &found, &mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["settings"][0]["b"], "1024 65535");
    let per_s = json["failed_per_s"]["a"].as_f64().unwrap();
    let seconds = json["a"]["duration_s"].as_f64().unwrap();
    assert!((per_s * seconds - 16_395.0).abs() < 1.0, "{per_s} in {seconds} s");
}

#[test]
fn options_that_are_no_filters_make_no_difference() {
    let mut a = report_of(&capture(&fixture_header(), &[], &[], true), "a");
    let mut b = a.clone();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    a.header.arguments = words("record -o a --netns 7 --duration=5s -- curl --pid");
    b.header.arguments = words("-v record --output b --netns 7 --force --ring-size 8M");
    assert_eq!(diff::of(&a, &b).warnings, Vec::<String>::new());
    b.header.arguments = words("record -o b --netns 8");
    assert_eq!(diff::of(&a, &b).warnings, ["they were recorded with different filters"]);
}

#[test]
fn names_of_a_foreign_capture_stay_inert() {
    let hostile = "\x1b]0;x\x07<script>\u{202e}\n".to_owned();
    let header = Header {
        host: hostile.clone(),
        kernel: hostile.clone(),
        arguments: vec![hostile.clone()],
        trigger: Some(hostile.clone()),
        unseen: vec![hostile],
        ..fixture_header()
    };
    let report = report_of(&capture(&header, &[], &[], true), "hostile");
    let text = text(&report);
    let shown = text.chars().filter(|it| *it != '\n');
    assert!(shown.clone().all(|it| !it.is_control() && it != '\u{202e}'), "{text:?}");
    assert!(text.contains("\\u{1b}]0;x"), "{text}");
}

#[test]
fn times_and_loss_of_a_hostile_capture_do_no_harm() {
    const AT: usize = offset_of!(RawEvent, ts_ns);
    let mut reader = Reader::open(INCIDENTS).unwrap();
    let record = loop {
        if let Some(Item::Records(records)) = reader.next_item().unwrap() {
            break records[..RAW_EVENT_SIZE].to_vec();
        }
    };
    let times = [5, u64::MAX, 0, u64::MAX / 2, 1 << 60, 7, u64::MAX - 1];
    let mut records = Vec::new();
    for time in times {
        let mut record = record.clone();
        record[AT..AT + 8].copy_from_slice(&time.to_le_bytes());
        records.extend(record);
    }
    let most = u64::MAX;
    let loss = Loss { ts_ns: most, states: most, failures: most, ..Loss::default() };
    let loss = serde_json::to_vec(&loss).unwrap();
    let frames = [(Kind::Lost, loss.clone()), (Kind::Lost, loss)];
    let header = Header { epoch_ns: most, started_ns: most, ..fixture_header() };
    for frames in [&frames[..], &[]] {
        let report = report_of(&capture(&header, &records, frames, false), "hostile");
        assert_eq!(report.events, times.len() as u64);
        assert!(report.timeline.steps.len() <= 600);
        assert!(!text(&report).is_empty());
        assert_eq!(json_lines(std::slice::from_ref(&report)).len(), 1);
    }
}

#[test]
fn flipped_bits_never_add_an_event() {
    let whole = report_of(INCIDENTS, "whole").events;
    for part in 1..16 {
        let mut damaged = INCIDENTS.to_vec();
        let at = damaged.len() / 16 * part + part;
        damaged[at] ^= 1 << (part % 8);
        let report = report_of(&damaged, "damaged");
        assert!(report.events <= whole);
        assert!(report.damaged > 0 || report.events == whole, "byte {at}");
    }
}
