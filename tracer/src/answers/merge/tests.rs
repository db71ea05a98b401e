//! Logs that are merged: their order, and what of them counts.

use std::{fs, path::PathBuf};

use jiff::tz::TimeZone;

use super::*;
use crate::{
    answers::read::{Log, open},
    logs::{Class, Kind, follow::From, nginx_access::Format},
    proxies::nginx::settings::Escape,
};

const FORMAT: &str = "$status $upstream_addr $upstream_status $msec";
/// 2026-11-25 12:26:00 UTC
const START: i64 = 1_795_609_560;

fn access() -> Kind {
    Kind::NginxAccess(Format::compile(FORMAT, Escape::Default).unwrap())
}

fn error(second: i64, errno: u16, upstream: &str) -> String {
    format!(
        "2026/11/25 12:26:{second:02} [error] 7#7: *1 connect() failed ({errno}: X) while connecting to \
         upstream, client: 10.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://{upstream}/\"\n"
    )
}

fn answer(status: u16, upstream: &str, msec: &str) -> String {
    format!("{status} {upstream} {status} {msec}\n")
}

struct Logs(tempfile::TempDir);

impl Logs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn log(&self, name: &str, kind: Kind, text: &str) -> Log {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        Log { path, kind }
    }
}

/// Entries in a word each, and what is told of the logs.
fn merged(logs: &[Log], span: Span) -> (Vec<String>, Vec<Told>) {
    let mut words = Vec::new();
    let readings = open(logs, From::Start, &TimeZone::UTC).unwrap();
    let told = merge(readings, span, &mut |_, entry| {
        words.push(match entry {
            Entry::Answer(answer) => format!("{}", answer.status.unwrap()),
            Entry::Trouble(trouble) => match trouble.class {
                Class::Refused => format!("refused:{}", trouble.upstream.unwrap()),
                class => class.name().to_owned(),
            },
        });
    });
    (words, told.unwrap())
}

const ALL: Span = Span(i64::MIN, i64::MAX);

#[test]
fn a_failed_try_comes_before_the_answers_of_its_second_and_not_of_the_one_before() {
    let at = |ms: i64| format!("{}.{:03}", START + ms / 1000, ms % 1000);
    let logs = Logs::new();
    let error_log = error(1, 111, "a") + &error(2, 111, "b");
    let access_log = answer(500, "a", &at(900))
        + &answer(502, "a", &at(1001))
        + &answer(503, "a", &at(1999))
        + &answer(504, "a", &at(2000));
    // In whichever order they are named.
    let (access, error) =
        (logs.log("a", access(), &access_log), logs.log("e", Kind::NginxError, &error_log));
    let wanted = ["500", "refused:a", "502", "503", "refused:b", "504"];
    assert_eq!(merged(&[access.clone(), error.clone()], ALL).0, wanted);
    assert_eq!(merged(&[error, access], ALL).0, wanted);
}

#[test]
fn lines_that_are_a_bit_out_of_order_are_not_missed() {
    // One worker was late: its line of the second before stands behind that of another.
    let logs = Logs::new();
    let error_log = error(2, 111, "b") + &error(1, 111, "a");
    let access_log = answer(502, "a", &format!("{}.9", START + 1))
        + &answer(504, "b", &format!("{}.1", START + 2));
    let (words, _) = merged(
        &[logs.log("e", Kind::NginxError, &error_log), logs.log("a", access(), &access_log)],
        ALL,
    );
    assert_eq!(words, ["refused:a", "502", "refused:b", "504"]);
}

#[test]
fn rotated_files_are_read_in_the_order_of_their_times() {
    let logs = Logs::new();
    let (words, told) = merged(
        &[
            logs.log("e", Kind::NginxError, &error(9, 111, "new")),
            logs.log("e.1", Kind::NginxError, &error(3, 111, "old")),
        ],
        ALL,
    );
    assert_eq!(words, ["refused:old", "refused:new"]);
    assert_eq!((told[0].lines, told[1].lines), (1, 1));
}

#[test]
fn what_is_outside_does_not_count_and_is_told() {
    let logs = Logs::new();
    let error_log =
        format!("{}nonsense\n{}{}", error(1, 111, "a"), error(5, 111, "b"), error(6, 111, "c"));
    let access_log = answer(502, "a", &format!("{}.999", START + 4))
        + &answer(502, "b", &format!("{}.000", START + 5))
        + "what?\n"
        + &answer(502, "c", &format!("{}.999", START + 6));
    let (words, told) = merged(
        &[logs.log("e", Kind::NginxError, &error_log), logs.log("a", access(), &access_log)],
        Span(START + 5, START + 5),
    );
    assert_eq!(words, ["refused:b", "502"]);
    // A line that is not understood is where the one before it is.
    let count = |told: &Told| (told.lines, told.outside, told.unknown);
    assert_eq!((count(&told[0]), count(&told[1])), ((1, 3, 0), (1, 2, 1)));
    let second = |at: Option<Timestamp>| at.unwrap().as_second() - START;
    assert_eq!((second(told[0].first), second(told[0].last)), (1, 6));
}

#[test]
fn where_a_log_is_without_times_all_lines_count() {
    let logs = Logs::new();
    let format = Format::compile("$status $upstream_addr", Escape::Default).unwrap();
    let (words, told) = merged(
        &[
            logs.log("a", Kind::NginxAccess(format), "502 a\n504 b\n"),
            logs.log("e", Kind::NginxError, &(error(1, 111, "a") + &error(9, 111, "b"))),
        ],
        Span(START + 9, START + 9),
    );
    assert_eq!(words, ["refused:a", "refused:b", "502", "504"]);
    assert!(told[0].timeless && !told[1].timeless);
    assert_eq!((told[0].lines, told[1].outside), (2, 0));
}

#[test]
fn a_line_without_a_time_has_that_of_its_neighbour() {
    let logs = Logs::new();
    let no_ports = "Connect() failed for backend app: no free ports.\n";
    let of = |second: u8| {
        format!(
            "10.0.0.1:5000 [25/Nov/2026:12:26:{second:02}.000] web app/s1 0/0/-1/-1/0 503 222 - - SC-- \
             1/1/0/0/3 0/0 \"GET / HTTP/1.1\"\n"
        )
    };
    let text = format!("{no_ports}{}{no_ports}{}", of(1), of(5));
    let (words, told) = merged(&[logs.log("h", Kind::HaProxy, &text)], Span(START, START + 1));
    assert_eq!(words, ["ports-exhausted", "503", "ports-exhausted"]);
    assert_eq!((told[0].outside, told[0].timeless), (1, false));
}

#[test]
fn an_empty_log_is_no_reason_to_count_all() {
    let logs = Logs::new();
    let (words, told) = merged(
        &[
            logs.log("a", access(), ""),
            logs.log("b", access(), "unknown\n"),
            logs.log("e", Kind::NginxError, &error(1, 111, "a")),
        ],
        Span(START + 9, START + 9),
    );
    assert!(words.is_empty() && told.iter().all(|told| !told.timeless), "{words:?} {told:?}");
    assert_eq!((told[1].unknown, told[2].outside), (1, 1));
}

#[test]
fn many_lines_of_one_second_all_come() {
    let logs = Logs::new();
    let text = answer(502, "a", &format!("{START}.5")).repeat(100_000);
    let (words, told) = merged(&[logs.log("a", access(), &text)], ALL);
    assert_eq!((words.len(), told[0].lines), (100_000, 100_000));
}
