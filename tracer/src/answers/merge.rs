//! Logs that are complete, merged by their times, line by line: of those of one second a failed try comes before an
//! answer, as Nginx writes them.
//!
//! A worker of Nginx stamps its lines with the time that it last looked at (`ngx_time_update` in `src/core/ngx_times.c`),
//! so of one request no failed try has a later second than its answer. Of several workers the lines are a bit out of
//! order in a log: those of the next [`SETTLED`] seconds are read before one is taken. An access log with `buffer=`
//! has whole blocks out of order: its answers come later than the lines that explain them, which wait.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::mpsc,
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::read::Reading;
use crate::logs::Entry;

/// So many seconds further on no line of a second is missing any more.
const SETTLED: i64 = 2;
/// Most bytes of lines of a log that wait for that.
const MAX_BYTES: usize = 4 << 20;
/// What a line costs beside its bytes.
const LINE: usize = 256;
/// Lines that are handed on together,
const BATCH: usize = 256;
/// and how many times so many are read ahead.
const AHEAD: usize = 4;
/// Where so many lines of interest have no time, none has.
const SEARCHED: usize = 1000;

/// First and last second (since 1970) that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub i64, pub i64);

/// What became of a log's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Lines of interest that counted.
    pub lines: u64,
    /// Lines outside of the span.
    pub outside: u64,
    /// Lines that were not understood.
    pub unknown: u64,
    /// The earliest time in it; `None`: no line of interest has one.
    pub first: Option<Timestamp>,
    /// The latest one.
    pub last: Option<Timestamp>,
    /// There are lines of interest, and none has a time.
    pub timeless: bool,
    /// Why it could not be read to its end.
    pub broken_off: Option<String>,
}

/// Gives the entries of all logs within the span, in order; tells of each log. Where one is without times, all lines of
/// all logs count, and its own come last.
///
/// # Errors
/// No thread can be had.
pub fn merge(logs: Vec<Reading>, span: Span, each: &mut dyn FnMut(Entry)) -> Result<Vec<Told>> {
    let mut sources = logs.into_iter().map(Source::begin).collect::<Result<Vec<_>>>()?;
    sources.iter_mut().for_each(Source::search);
    let span = (!sources.iter().any(|source| source.told.timeless)).then_some(span);
    loop {
        for source in &mut sources {
            source.settle(span);
        }
        let next = sources.iter_mut().filter_map(|source| Some((source.next()?, source)));
        let Some((_, source)) = next.min_by_key(|(second, source)| (*second, source.answers))
        else {
            return Ok(sources.into_iter().map(|source| source.told).collect());
        };
        if let Some((_, (entry, bytes))) = source.window.pop_first() {
            source.bytes -= bytes;
            each(entry);
        }
    }
}

/// A line of interest, or one that was not understood.
#[derive(Debug)]
struct Line {
    entry: Option<Entry>,
    bytes: usize,
}

/// A log on its way. A thread reads ahead.
struct Source {
    answers: bool,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    /// Read while a time was searched.
    searched: VecDeque<Line>,
    /// In order of seconds, then as they stand in the log.
    window: BTreeMap<(i64, u64), (Entry, usize)>,
    /// What is in it.
    bytes: usize,
    placed: u64,
    /// The latest second in the window's past and present.
    newest: i64,
    /// The second of the line before.
    second: Option<i64>,
    told: Told,
}

impl Source {
    fn begin(mut log: Reading) -> Result<Self> {
        let answers = log.tells_answers();
        let (ahead, lines) = mpsc::sync_channel(AHEAD);
        let read = move || {
            let (mut batch, mut bytes, mut gone) = (Vec::new(), 0, false);
            let read = log.finish(&mut |entry, length| {
                batch.push(Line { entry, bytes: length + LINE });
                bytes += length + LINE;
                if batch.len() >= BATCH || bytes >= MAX_BYTES / 4 {
                    bytes = 0;
                    let full = std::mem::take(&mut batch);
                    gone = gone || ahead.send(Ok(full)).is_err();
                }
            });
            // Nobody may be there any more.
            let _ = ahead.send(Ok(batch));
            let _ = read.map_err(|error| ahead.send(Err(error)));
        };
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(read);
        thread.context("can't start a thread to read logs")?;
        Ok(Self {
            answers,
            lines,
            searched: VecDeque::new(),
            window: BTreeMap::new(),
            bytes: 0,
            placed: 0,
            newest: i64::MIN,
            second: None,
            told: Told::default(),
        })
    }

    /// More lines; `None`: that was all.
    fn receive(&mut self) -> Option<Vec<Line>> {
        match self.lines.recv().ok()? {
            Ok(lines) => Some(lines),
            Err(error) => {
                self.told.broken_off = Some(error.to_string());
                None
            }
        }
    }

    /// Reads until a line has a time: those before are of that time, too.
    fn search(&mut self) {
        let (mut without, mut bytes) = (0, 0);
        while without < SEARCHED && bytes < MAX_BYTES {
            let Some(lines) = self.receive() else { break };
            for line in &lines {
                let at = line.entry.as_ref().and_then(Entry::at);
                self.second = self.second.or(at.map(Timestamp::as_second));
                without += usize::from(line.entry.is_some());
                bytes += line.bytes;
            }
            self.searched.extend(lines);
            if self.second.is_some() {
                return;
            }
        }
        self.told.timeless = without > 0;
    }

    /// Reads until it is known which line is next.
    fn settle(&mut self, span: Option<Span>) {
        while let Some(line) = self.searched.pop_front() {
            self.place(line, span);
        }
        while !self.is_settled() {
            let Some(lines) = self.receive() else { return };
            for line in lines {
                self.place(line, span);
            }
        }
    }

    fn is_settled(&self) -> bool {
        let next = self.next();
        next.is_some_and(|next| {
            self.newest.saturating_sub(next) >= SETTLED || self.bytes >= MAX_BYTES
        })
    }

    /// The second of the next line.
    fn next(&self) -> Option<i64> {
        self.window.first_key_value().map(|((second, _), _)| *second)
    }

    /// A line without a time has that of the one before.
    fn place(&mut self, Line { entry, bytes }: Line, span: Option<Span>) {
        if let Some(at) = entry.as_ref().and_then(Entry::at) {
            self.second = Some(at.as_second());
            self.told.first = Some(self.told.first.map_or(at, |first| first.min(at)));
            self.told.last = Some(self.told.last.map_or(at, |last| last.max(at)));
        }
        if let (Some(Span(first, last)), Some(second)) = (span, self.second)
            && !(first..=last).contains(&second)
        {
            self.told.outside += 1;
            return;
        }
        let Some(entry) = entry else {
            self.told.unknown += 1;
            return;
        };
        self.told.lines += 1;
        let second = self.second.unwrap_or(i64::MAX);
        self.newest = self.newest.max(second);
        self.bytes += bytes;
        self.placed += 1;
        self.window.insert((second, self.placed), (entry, bytes));
    }
}

#[cfg(test)]
mod tests {
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
        let told = merge(readings, span, &mut |entry| {
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
}
