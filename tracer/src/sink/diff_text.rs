//! `diff --format text`: two captures side by side.

use super::{
    clock::Clock,
    columns::{
        Columns,
        Side::{Left, Right},
    },
    report_text::{Style, WIDTH},
    text::{BOLD, Paint, YELLOW, endpoint},
};
use crate::{
    human::{percent, rate, thousands, time_left},
    reason::Reason,
    report::{
        Report,
        diff::{Diff, Pair},
    },
    tui::text::wrap,
};

/// Prints it.
pub fn print(a: &Report, b: &Report, diff: &Diff, style: &Style, out: &mut Vec<u8>) {
    Page { paint: Paint(style.colour), top: style.top, out }.print((a, b), diff, style);
}

struct Page<'a> {
    paint: Paint,
    top: usize,
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    fn print(&mut self, (a, b): (&Report, &Report), diff: &Diff, style: &Style) {
        for warning in &diff.warnings {
            self.wrapped(YELLOW, &format!("! {warning}"));
        }
        self.sides(a, b, style);
        self.settings(diff);
        self.rates(diff);
        self.upstreams(diff);
        self.ceilings(diff);
    }

    fn wrapped(&mut self, style: &str, text: &str) {
        for line in wrap(text, WIDTH) {
            self.paint.line(style, &line, self.out);
        }
    }

    fn section(&mut self, title: &str, columns: &Columns, elastic: usize) {
        self.paint.line("", "", self.out);
        self.paint.line(BOLD, title, self.out);
        for line in columns.lines(Some((WIDTH - 2, elastic))) {
            self.paint.line("", &format!("  {line}"), self.out);
        }
    }

    fn more(&mut self, there: usize, what: &str) {
        if there > self.top {
            let more = thousands((there - self.top) as u64);
            self.paint.line("", &format!("  ({more} more {what}; --top shows more)"), self.out);
        }
    }

    /// Of where and when both are; in full, since they may be of anything.
    fn sides(&mut self, a: &Report, b: &Report, style: &Style) {
        for (name, report) in [("A", a), ("B", b)] {
            let header = &report.header;
            let mut clock = Clock::new(header.epoch_ns, style.zone.clone());
            let line = format!(
                "{name}  {}: {}, Linux {}; {}, {}; {} events, {} failures",
                report.file,
                header.host,
                header.kernel,
                clock.day_and_time(report.begin_ns()),
                time_left(report.seconds()),
                thousands(report.events),
                thousands(report.failed)
            );
            self.wrapped(BOLD, &line);
            self.wrapped("", &format!("recorded with: socklife {}", header.arguments.join(" ")));
        }
        let differ = [
            ("host", &a.header.host, &b.header.host),
            ("kernel", &a.header.kernel, &b.header.kernel),
            ("socklife", &a.header.socklife, &b.header.socklife),
        ];
        for (what, a, b) in differ.into_iter().filter(|(_, a, b)| a != b) {
            self.wrapped(YELLOW, &format!("another {what}: {a}, then {b}"));
        }
    }

    fn settings(&mut self, diff: &Diff) {
        if diff.settings.is_empty() {
            return;
        }
        let mut columns = Columns::new(&[("SETTING", Left), ("A", Left), ("B", Left)]);
        for it in &diff.settings {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
            columns.row(vec![it.name.clone(), value(&it.a), value(&it.b)]);
        }
        self.section("settings that differ", &columns, 0);
    }

    fn rates(&mut self, diff: &Diff) {
        let mut columns =
            Columns::new(&[("A SECOND", Left), ("A", Right), ("B", Right), ("CHANGE", Right)]);
        let mut row = |name: &str, pair: &Pair| {
            let mut cells = vec![name.to_owned()];
            cells.extend(figures(pair));
            columns.row(cells);
        };
        row("events", &diff.events);
        row("connections opened", &diff.opened);
        row("entered TIME-WAIT", &diff.time_waits);
        row("failures", &diff.failed);
        for (reason, pair) in &diff.reasons {
            let reason = reason.map_or("unknown", Reason::name);
            row(&format!("  {reason}"), pair);
        }
        self.section("rates", &columns, 0);
    }

    fn upstreams(&mut self, diff: &Diff) {
        if diff.upstreams.is_empty() {
            return;
        }
        let mut columns = Columns::new(&[
            ("FAILED/S A", Right),
            ("B", Right),
            ("CHANGE", Right),
            ("OPENED/S A", Right),
            ("B", Right),
            ("CHANGE", Right),
            ("UPSTREAM", Left),
        ]);
        for it in diff.upstreams.iter().take(self.top) {
            let mut cells: Vec<_> = figures(&it.failed).to_vec();
            cells.extend(figures(&it.opened));
            cells.push(endpoint(it.dst, Some(it.dport)));
            columns.row(cells);
        }
        self.section("upstreams", &columns, 6);
        self.more(diff.upstreams.len(), "upstreams");
    }

    fn ceilings(&mut self, diff: &Diff) {
        if diff.ceilings.is_empty() {
            return;
        }
        let mut columns =
            Columns::new(&[("FULLEST A", Right), ("B", Right), ("CEILING", Left), ("OF", Left)]);
        let ratio = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), percent);
        for it in diff.ceilings.iter().take(self.top) {
            columns.row(vec![
                ratio(it.ratio.a),
                ratio(it.ratio.b),
                it.kind.name().to_owned(),
                it.subject.clone(),
            ]);
        }
        self.section("ceilings", &columns, 3);
        self.more(diff.ceilings.len(), "ceilings");
    }
}

/// Both figures and their change.
fn figures(pair: &Pair) -> [String; 3] {
    let one = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), rate);
    let change = match (pair.a, pair.b, pair.change_percent()) {
        (_, _, Some(change)) => format!("{change:+.0} %"),
        (Some(_), Some(b), None) if b > 0.0 => "new".to_owned(),
        _ => "-".to_owned(),
    };
    [one(pair.a), one(pair.b), change]
}
