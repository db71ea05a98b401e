//! A real capture in every format, held against what its walk tells.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use tracer_ebpf::RAW_EVENT_SIZE;

use super::{row::COLUMNS, *};
use crate::{
    capture::{
        block::Encoder,
        content::{CgroupPath, End},
        frame::{FORMAT, Kind},
        writer::Writer,
    },
    event::Loss,
    table::Table,
};

fn incidents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/incidents-v1.socklife")
}

/// What the walk says of a capture.
fn walked(capture: &Path) -> Table {
    let mut walk = Walk::open(capture).unwrap();
    while walk.advance(|_| ()).unwrap() {}
    walk.table
}

/// An export of captures: its bytes, and what it says of itself.
fn exported(captures: &[&Path], to: To, failures: bool) -> (Vec<u8>, Exported) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out");
    let plan = Plan {
        captures: captures.iter().map(|&path| path.to_owned()).collect(),
        to,
        place: Place { path: Some(path.clone()), force: false },
        failures,
    };
    let exported = export(&plan, &AtomicBool::new(false)).unwrap();
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(exported.bytes, bytes.len() as u64);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "something is left beside the output");
    (bytes, exported)
}

/// Its rows as text by column, as CSV has them; what is not there is "".
type Rows = Vec<BTreeMap<String, String>>;

fn csv_rows(bytes: &[u8]) -> Rows {
    let mut reader = ::csv::Reader::from_reader(bytes);
    assert_eq!(reader.headers().unwrap(), COLUMNS.as_slice());
    reader.deserialize().map(Result::unwrap).collect()
}

#[cfg(feature = "parquet")]
fn parquet_rows(bytes: Vec<u8>) -> Rows {
    use ::parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let columns = reader.metadata().file_metadata().schema_descr().columns();
    assert_eq!(columns.iter().map(|it| it.name()).collect::<Vec<_>>(), COLUMNS);
    let mut clock = crate::sink::clock::Clock::new(0, jiff::tz::TimeZone::UTC);
    let mut text = |name: &str, field: &Field| match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Long(ns) if name == "ts" => clock.rfc3339(u64::try_from(*ns).unwrap()),
        other => other.to_string(),
    };
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| {
        row.get_column_iter().map(|(name, field)| (name.clone(), text(name, field))).collect()
    })
    .collect()
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn by_reason<'a>(reasons: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u64> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    counts
}

fn reasons(table: &Table) -> BTreeMap<&str, u64> {
    let named = |reason: &Option<crate::reason::Reason>| reason.map_or("", |it| it.name());
    table.reasons().iter().map(|(reason, count)| (named(reason), *count)).collect()
}

#[test]
fn json_lines_are_those_of_the_walk() {
    let table = walked(&incidents());
    let (bytes, told) = exported(&[&incidents()], To::Jsonl, false);
    let lines = json_lines(&bytes);
    assert_eq!((lines.len() as u64, told.events), (table.seen(), table.seen()));
    assert_eq!((told.lost, told.damaged, told.missing), (0, 0, 0));
    let failed = lines.iter().filter_map(|line| line["reason"].as_str());
    assert_eq!(by_reason(failed), reasons(&table));
    assert!(lines.iter().all(|line| line.get("host").is_none()));
    let first = String::from_utf8(bytes.split(|it| *it == b'\n').next().unwrap().to_vec()).unwrap();
    insta::assert_snapshot!(first);
}

#[test]
fn csv_has_the_same_rows_as_json() {
    let table = walked(&incidents());
    let lines = json_lines(&exported(&[&incidents()], To::Jsonl, false).0);
    let rows = csv_rows(&exported(&[&incidents()], To::Csv, false).0);
    assert_eq!(rows.len(), lines.len());
    let failed = rows.iter().filter(|row| row["failed"] == "true");
    assert_eq!(by_reason(failed.map(|row| &*row["reason"])), reasons(&table));
    for (row, line) in rows.iter().zip(&lines) {
        for (key, value) in line.as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(row[key], value, "{key} of {line}");
        }
        let more = row.iter().filter(|(key, value)| line.get(key).is_none() && !value.is_empty());
        for (key, value) in more {
            let expected = match &**key {
                "host" => "vm",
                "side" if ["client", "server"].contains(&&**value) => value,
                "inferred" | "failed" if value == "false" => "false",
                "failed" => "true",
                _ => "",
            };
            assert_eq!(value, expected, "{key} of {line}");
        }
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_has_the_same_rows_as_csv() {
    let csv = csv_rows(&exported(&[&incidents()], To::Csv, false).0);
    let parquet = parquet_rows(exported(&[&incidents()], To::Parquet, false).0);
    assert_eq!(parquet.len(), csv.len());
    for (parquet, csv) in parquet.iter().zip(&csv) {
        assert_eq!(parquet, csv);
    }
}

#[test]
fn failures_only() {
    let table = walked(&incidents());
    let (bytes, told) = exported(&[&incidents()], To::Csv, true);
    let rows = csv_rows(&bytes);
    assert_eq!((rows.len() as u64, told.events), (table.failures(), table.failures()));
    assert!(rows.iter().all(|row| row["failed"] == "true"));
}

/// A capture of five frames with records, with loss and cgroups, of a host with a hostile name.
fn hostile(folder: &TempDir) -> PathBuf {
    let incidents = std::fs::File::open(incidents()).unwrap();
    let mut reader = crate::capture::reader::Reader::open(incidents).unwrap();
    let mut header = reader.header().clone();
    (header.format, header.host) = (FORMAT, "=a,\"b\"\u{1b}[2J\u{202e}".to_owned());
    let mut records = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let crate::capture::Item::Records(block) = item {
            records.extend_from_slice(&block);
        }
    }
    let mut encoder = Encoder::new().unwrap();
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    let at = std::mem::offset_of!(tracer_ebpf::RawEvent, cgroup);
    let ids: std::collections::BTreeSet<u64> = records
        .chunks(RAW_EVENT_SIZE)
        .map(|record| u64::from_le_bytes(record[at..at + 8].try_into().unwrap()))
        .collect();
    let path = |id| CgroupPath { id, path: "/x\u{1b}\n,y".to_owned() };
    let paths: Vec<_> = ids.into_iter().map(path).collect();
    let paths = serde_json::to_vec(&paths).unwrap();
    writer.put(&encoder.other(Kind::Cgroups, 1, &paths).unwrap()).unwrap();
    for part in records.chunks(100 * RAW_EVENT_SIZE).take(5) {
        encoder.records(part, |_| unreachable!("a full block")).unwrap();
        let frame = encoder.seal().unwrap().unwrap();
        writer.put(&frame).unwrap();
    }
    let loss = Loss { ts_ns: 7, states: 2, failures: 1, missed: 4, owners: 5, calls: 6 };
    let loss = serde_json::to_vec(&loss).unwrap();
    writer.put(&encoder.other(Kind::Lost, 7, &loss).unwrap()).unwrap();
    let mut bytes = writer.end(&End::default()).unwrap().0;
    // The last frame breaks off.
    bytes.truncate(bytes.len() - 3);
    // A byte of the third block is another one.
    let blocks: Vec<usize> = bytes
        .windows(crate::capture::frame::MARKER.len())
        .enumerate()
        .filter(|(_, it)| *it == crate::capture::frame::MARKER)
        .map(|(at, _)| at)
        .collect();
    bytes[blocks[5] + crate::capture::frame::HEAD + 20] ^= 0xff;
    let path = folder.path().join("hostile.socklife");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_is_missing_is_in_every_format_and_names_are_inert() {
    let folder = TempDir::new().unwrap();
    let capture = hostile(&folder);
    let (json, told) = exported(&[&capture, &incidents()], To::Jsonl, true);
    let lines = json_lines(&json);
    let host = "=a,\"b\"\\u{1b}[2J\\u{202e}";
    let of = |event: &str| lines.iter().filter(|it| it["event"] == event).collect::<Vec<_>>();
    let (lost, damaged) = (of("lost"), of("damaged"));
    assert_eq!(lost.len(), 1);
    assert_eq!((&lost[0]["lost"], &lost[0]["skipped_calls"]), (&7.into(), &6.into()));
    assert_eq!(damaged[0]["lost"], 100);
    assert_eq!(damaged.last().unwrap()["why"], "the recording was cut off");
    assert!(damaged.last().unwrap().get("lost").is_none());
    assert_eq!((told.lost, told.missing, told.damaged), (7, 100, damaged.len() as u64));
    assert!(damaged.iter().chain(&lost).all(|line| line["host"] == host));
    assert_eq!(lines.last().unwrap()["host"], "vm");
    assert!(lines.iter().any(|line| line["cgroup"] == "/x\\u{1b}\\u{a},y"));
    assert!(!json.iter().any(|byte| byte.is_ascii_control() && *byte != b'\n'));

    let csv = exported(&[&capture, &incidents()], To::Csv, true).0;
    assert!(!csv.iter().any(|byte| byte.is_ascii_control() && *byte != b'\n'));
    let rows = csv_rows(&csv);
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        for key in ["host", "event", "lost", "lost_states", "why", "cgroup", "ts"] {
            let value = &line[key];
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(row[key], if line[key].is_null() { "" } else { &value }, "{key}");
        }
    }
    #[cfg(feature = "parquet")]
    assert_eq!(parquet_rows(exported(&[&capture, &incidents()], To::Parquet, true).0), rows);
}

#[test]
fn nothing_is_overwritten_or_left_half() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.csv");
    let place = |force| Place { path: Some(path.clone()), force };
    let plan = |place, stopped| {
        let plan = Plan { captures: vec![incidents()], to: To::Csv, place, failures: true };
        export(&plan, &AtomicBool::new(stopped))
    };
    std::fs::write(&path, "kept").unwrap();
    let error = plan(place(false), false).unwrap_err().to_string();
    assert!(error.ends_with("exists already: --force overwrites it"), "{error}");
    // Broken off, it leaves what was there, and nothing else.
    plan(place(true), true).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    plan(place(true), false).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"host,ts,event,"));
}

/// The table of columns in docs/export.md names all of them, in their order.
#[test]
fn every_column_is_documented() {
    let page = include_str!("../../../docs/export.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| column")).skip(2);
    let named: Vec<&str> = rows
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| line.split('|').nth(1).unwrap().split(','))
        .map(|name| name.trim().trim_matches('`'))
        .collect();
    assert_eq!(named, COLUMNS);
}
