//! For people: aligned columns, colour on a terminal.

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    net::IpAddr,
};

use super::{
    Sink, Totals, answers_text,
    clock::Clock,
    columns::{Columns, Side},
};
use crate::{
    answers::watch::Watch,
    event::{Call, Event, Known, Loss, State, Subject},
    failures::{FailureKey, FailureRow},
    human::thousands,
    kernel::{features::Feature, ground::Ground},
    reason::Failure,
    table::{Change, Table},
};

/// Whether to colour: standard output is a terminal, and the user did not say no
/// (<https://no-color.org>).
#[must_use]
pub fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !refused && !dumb
}

pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const RED: &str = "\x1b[31m";
pub(super) const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Paints, or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn line(self, style: &str, line: &str, out: &mut Vec<u8>) {
        let (start, end) = if self.0 { (style, PLAIN) } else { ("", "") };
        // Writing into memory can't fail.
        let _ = writeln!(out, "{start}{line}{end}");
    }
}

/// `10.0.0.1:80`, `[::1]:80`; `-` where there is no port.
pub(crate) fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    let port: &dyn Display = port.as_ref().map_or(&"-", |port| port);
    match address {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

/// `12us`, `3.4ms`, `5.6s`: three digits are enough to see what matters.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn span(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{}us", ns / 1000),
        1_000_000..1_000_000_000 => format!("{:.1}ms", ns as f64 / 1e6),
        _ => format!("{:.1}s", ns as f64 / 1e9),
    }
}

/// What a loss is and what to do about it, a line each.
pub(crate) fn told(loss: &Loss) -> Vec<String> {
    let dropped = loss.states.saturating_add(loss.failures);
    let kinds = [
        (dropped, "events lost: the ring was full; raise --ring-size or filter more"),
        (loss.missed, "events lost: the kernel skipped the program, which it was just running"),
        (loss.owners, "sockets have no owner shown: there was no room to store it"),
        (loss.calls, "calls were not looked at, since another eBPF program ran on that CPU"),
    ];
    let happened = kinds.into_iter().filter(|&(count, _)| count > 0);
    happened.map(|(count, what)| format!("{} {what}", thousands(count))).collect()
}

/// `trace --format text`
#[derive(Debug)]
pub struct Trace {
    clock: Clock,
    paint: Paint,
    header: bool,
    /// Of the two columns with addresses: as wide as the longest so far.
    width: usize,
}

/// An event in words, one for each column; loss has other ones, see [`told`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Process id, `?` behind it: inferred.
    pub(crate) pid: String,
    pub(crate) comm: String,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
    pub(crate) age: String,
    /// Why it failed, or what else there is to say.
    pub(crate) outcome: String,
}

/// What differs between kinds of events.
#[derive(Clone, Copy)]
struct Row {
    old: &'static str,
    new: &'static str,
    age_ns: Option<u64>,
    note: &'static str,
}

impl Told {
    /// `None`: loss.
    pub(crate) fn of(event: &Event, failure: Option<&Failure>) -> Option<Self> {
        let told = match event {
            Event::Lost(_) => return None,
            Event::State(change) => {
                let (old, new, age_ns) = (change.old.name(), change.new.name(), change.age_ns);
                Self::about(&change.subject, Row { old, new, age_ns, note: "" }, failure)
            }
            Event::CallFailed(failed) => {
                let note = match failed.call {
                    Call::Connect => "connect: ",
                    Call::Bind => "bind: ",
                    Call::Descriptor => "",
                };
                let row = Row { old: "-", new: "-", age_ns: None, note };
                Self::about(&failed.subject, row, failure)
            }
            Event::TimeWait(entered) => {
                let note = if entered.inferred {
                    "inferred"
                } else if entered.substate == State::TIME_WAIT {
                    ""
                } else {
                    "the peer's FIN is still to come"
                };
                let new = State::TIME_WAIT.name();
                let row = Row { old: entered.old.name(), new, age_ns: None, note };
                Self::about(&entered.subject, row, None)
            }
        };
        Some(told)
    }

    fn about(subject: &Subject, row: Row, failure: Option<&Failure>) -> Self {
        let shown = |address: Option<IpAddr>, port| {
            address.map_or_else(|| "-".to_owned(), |address| endpoint(address, port))
        };
        let (pid, comm) = match &subject.owner {
            Some(owner) => {
                let mark = if owner.known == Known::Inferred { "?" } else { "" };
                (format!("{}{mark}", owner.pid), owner.comm.to_string())
            }
            None => ("-".to_owned(), "-".to_owned()),
        };
        let outcome = failure.map_or_else(
            || row.note.to_owned(),
            |failure| {
                let reason = failure.reason.map_or("unknown", |reason| reason.name());
                match failure.error {
                    Some(error) => format!("{}{reason} ({error})", row.note),
                    None => format!("{}{reason}", row.note),
                }
            },
        );
        Self {
            pid,
            comm,
            local: shown(subject.src, subject.sport),
            remote: shown(subject.dst, subject.dport),
            old: row.old,
            new: row.new,
            age: row.age_ns.map_or_else(|| "-".to_owned(), span),
            outcome,
        }
    }
}

impl Trace {
    /// `clock` dates the events; `colour`: paint failures.
    #[must_use]
    pub fn new(clock: Clock, colour: bool) -> Self {
        Self { clock, paint: Paint(colour), header: true, width: 21 }
    }

    fn line(&mut self, ts_ns: u64, told: &Told, failed: bool, out: &mut Vec<u8>) {
        let Told { pid, comm, local, remote, old, new, age, outcome } = told;
        self.width = self.width.max(local.len()).max(remote.len());
        let width = self.width;
        if std::mem::take(&mut self.header) {
            let titles = format!(
                "{:<15} {:>7} {:<15} {:<width$} {:<width$} {:<10} {:<10} {:>8}  FAILURE",
                "TIME", "PID", "COMM", "LOCAL", "REMOTE", "OLD", "NEW", "AGE"
            );
            self.paint.line(BOLD, &titles, out);
        }
        let mut line = format!(
            "{} {pid:>7} {comm:<15} {local:<width$} {remote:<width$} {old:<10} {new:<10} {age:>8}",
            self.clock.time(ts_ns),
        );
        if !outcome.is_empty() {
            line += &format!("  {outcome}");
        }
        self.paint.line(if failed { RED } else { "" }, &line, out);
    }

    fn lost(&mut self, loss: &Loss, out: &mut Vec<u8>) {
        let at = self.clock.time(loss.ts_ns);
        for line in told(loss) {
            self.paint.line(YELLOW, &format!("{at} {line}"), out);
        }
    }
}

impl Sink for Trace {
    fn event(&mut self, event: &Event, change: &Change, out: &mut Vec<u8>) {
        let failure = change.failure();
        if let Event::Lost(loss) = event {
            self.lost(loss, out);
        }
        if let Some(told) = Told::of(event, failure) {
            self.line(event.ts_ns(), &told, failure.is_some(), out);
        }
    }

    fn totals(&mut self, _table: &Table, _totals: &Totals, _out: &mut Vec<u8>) {}
}

/// `count --format text`
#[derive(Debug)]
pub struct Count {
    clock: Clock,
    paint: Paint,
    answers: Option<Watch>,
}

/// Process ids that a row of text names.
const SHOWN_PIDS: usize = 4;

impl Count {
    /// `clock` dates the first and last failure of a row; `colour`: paint.
    #[must_use]
    pub fn new(clock: Clock, colour: bool) -> Self {
        Self { clock, paint: Paint(colour), answers: None }
    }

    /// Tells of failed answers of proxies, too.
    #[must_use]
    pub fn with_answers(self, answers: Option<Watch>) -> Self {
        Self { answers, ..self }
    }

    fn cells(&mut self, (key, row): (&FailureKey, &FailureRow), netns: bool) -> Vec<String> {
        let mut pids: Vec<_> = row.pids.iter().take(SHOWN_PIDS).map(u32::to_string).collect();
        if row.pids.len() > SHOWN_PIDS {
            pids.push(format!("+{}", row.pids.len() - SHOWN_PIDS));
        }
        let unknown = || "-".to_owned();
        let mut cells = vec![
            thousands(row.count),
            key.error.map_or_else(unknown, |error| error.to_string()),
            key.reason.map_or_else(unknown, |reason| reason.to_string()),
            key.comm.map_or_else(unknown, |comm| comm.to_string()),
            if pids.is_empty() { unknown() } else { pids.join(",") },
            match key.src {
                None => unknown(),
                Some(src) if key.sport.is_some() => endpoint(src, key.sport),
                Some(src) => src.to_string(),
            },
            match key.dst {
                Some(dst) => endpoint(dst, key.dport),
                None if key.is_clients() => "(clients)".to_owned(),
                None => unknown(),
            },
            row.ports.map_or_else(unknown, |ports| format!("{} of {}", ports.used, ports.usable)),
            when(&mut self.clock, row.first_ns, row.last_ns),
        ];
        if netns {
            cells.insert(5, key.netns.map_or_else(unknown, |netns| netns.to_string()));
        }
        cells
    }
}

const COUNT_TITLES: [&str; 9] =
    ["COUNT", "ERROR", "REASON", "COMM", "PIDS", "FROM", "UPSTREAM", "PORTS USED", "WHEN"];

impl Sink for Count {
    fn event(&mut self, _event: &Event, _change: &Change, _out: &mut Vec<u8>) {}

    fn totals(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>) {
        let rows = table.rows();
        if let Some((first, _)) = rows.first() {
            // Alike rows of two containers differ in the namespace only.
            let netns = rows.iter().any(|(key, _)| key.netns != first.netns);
            let mut titles = COUNT_TITLES.map(|title| (title, Side::Left)).to_vec();
            titles[0].1 = Side::Right;
            if netns {
                titles.insert(5, ("NETNS", Side::Left));
            }
            let mut columns = Columns::new(&titles);
            for row in rows {
                columns.row(self.cells(row, netns));
            }
            for (index, line) in columns.lines(None).iter().enumerate() {
                self.paint.line(if index == 0 { BOLD } else { "" }, line, out);
            }
        }
        if table.unlisted() > 0 {
            let line = format!(
                "{} failures are in the total only: too many rows",
                thousands(table.unlisted())
            );
            self.paint.line(YELLOW, &line, out);
        }
        for line in told(&table.loss()) {
            self.paint.line(YELLOW, &line, out);
        }
        let or_more = if table.is_incomplete() { " or more" } else { "" };
        let total = format!(
            "total {}{or_more} in {:.1} s: {} lost ({} events seen of {} produced)",
            thousands(table.failures()),
            totals.duration_s,
            thousands(table.lost()),
            thousands(table.seen()),
            thousands(totals.produced),
        );
        self.paint.line(if table.failures() > 0 { RED } else { "" }, &total, out);
        if let Some(answers) = &self.answers {
            for line in answers_text::lines(&answers.summary(table)) {
                self.paint.line("", &line, out);
            }
        }
    }

    fn end(&mut self, table: &Table, totals: &Totals, out: &mut Vec<u8>) {
        self.answers.iter().for_each(Watch::catch_up);
        self.totals(table, totals, out);
    }
}

/// From when to when: with the day where it isn't one and the same.
pub(super) fn when(clock: &mut Clock, first_ns: u64, last_ns: u64) -> String {
    let first = clock.day_and_time(first_ns);
    let last = clock.day_and_time(last_ns);
    if first[..5] == last[..5] {
        format!("{} - {}", &first[6..], &last[6..])
    } else {
        format!("{first} - {last}")
    }
}

/// `features --format text`
pub fn features(ground: &Ground, features: &[Feature], out: &mut impl Write) {
    let missing = match ground.missing_capabilities.join(", ") {
        none if none.is_empty() => "all there".to_owned(),
        some => format!("{some} missing"),
    };
    let mut text = format!(
        "kernel        {}\nBTF           {}\ntracefs       {}\ncapabilities  {missing}\n",
        ground.kernel, ground.btf, ground.tracefs
    );
    let width = features.iter().filter_map(|feature| feature.rung).map(str::len).max();
    let width = width.unwrap_or(0).max(24);
    let row = |event: &str, rung: &str, cost: &str| {
        let line = format!("{event:<14}  {rung:<width$}  {cost}");
        format!("{}\n", line.trim_end())
    };
    text += &format!("\n{}", row("EVENT", "HOOK IN USE", "COST"));
    for feature in features {
        let rung = feature.rung.unwrap_or("none: it can't be seen");
        let class = feature.cost.and_then(|cost| cost.split(':').next()).unwrap_or("-");
        text += &row(feature.event, rung, class);
    }
    for feature in features {
        text += &format!("\n{}\n", feature.event);
        if let Some(cost) = feature.cost {
            text += &format!("  cost      {cost}\n");
        }
        for note in &feature.notes {
            text += &format!("  note      {note}\n");
        }
        for refusal in &feature.refused {
            text += &format!("  not used  {}: {}\n", refusal.rung, refusal.why);
        }
    }
    // A closed pipe is not ours to report.
    let _ = out.write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(span(1_234), "1us");
        assert_eq!(span(3_449_000), "3.4ms");
        assert_eq!(span(61_000_000_000), "61.0s");
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("10.0.0.1".parse().unwrap(), Some(80)), "10.0.0.1:80");
        assert_eq!(endpoint("fd00::1".parse().unwrap(), None), "[fd00::1]:-");
    }
}
