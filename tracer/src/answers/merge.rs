//! Logs that are complete, merged by their times, line by line: of those of one second a failed try comes before an
//! answer, as Nginx writes them.
//!
//! A worker of Nginx stamps its lines with the time that it last looked at (`ngx_time_update` in `src/core/ngx_times.c`),
//! so of one request no failed try has a later second than its answer. Of several workers the lines are a bit out of
//! order in a log: those of the next `SETTLED` seconds are read before one is taken. An access log with `buffer=`
//! has whole blocks out of order: its answers come later than the lines that explain them, which wait.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::mpsc,
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::read::Reading;
use crate::logs::{Entry, Product};

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

/// Gives the entries of all logs within the span, in order, and whose log has them; tells of each log. Where one is without times, all lines of
/// all logs count, and its own come last.
///
/// # Errors
/// No thread can be had.
pub fn merge(
    logs: Vec<Reading>,
    span: Span,
    each: &mut dyn FnMut(Product, Entry),
) -> Result<Vec<Told>> {
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
            each(source.proxy, entry);
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
    proxy: Product,
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
        let (proxy, answers) = (log.proxy(), log.tells_answers());
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
            proxy,
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
mod tests;
