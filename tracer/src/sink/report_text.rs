//! `report --format text`: for somebody who was not there. What makes it doubtful comes first, then what failed.

use super::{
    answers_text, check_text,
    clock::Clock,
    columns::{
        Columns,
        Side::{Left, Right},
    },
    text::{BOLD, Paint, RED, YELLOW, endpoint, span, told, when},
};
use crate::{
    ceilings::thresholds::Status,
    human::{percent, rate, thousands, time_left},
    live::shot::UpstreamKey,
    reason::Reason,
    report::{Incident, Report},
    tui::text::wrap,
};

/// Columns that it fits.
pub(super) const WIDTH: usize = 100;
/// From this part of its limit on a ceiling came near it.
const NEAR: f64 = 0.5;
/// Damaged places that are told one by one.
const SHOWN_DAMAGE: usize = 3;

/// How to print.
#[derive(Clone, Debug)]
pub struct Style {
    /// Of dates.
    pub zone: jiff::tz::TimeZone,
    /// Paint.
    pub colour: bool,
    /// Most rows of each kind.
    pub top: usize,
}

/// Prints the reports one after the other.
pub fn print(reports: &[Report], style: &Style, out: &mut Vec<u8>) {
    for (index, report) in reports.iter().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        let clock = Clock::new(report.header.epoch_ns, style.zone.clone());
        Page { report, clock, paint: Paint(style.colour), top: style.top, out }.print();
    }
    if reports.len() > 1 {
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).fold(0, u64::saturating_add);
        let line = format!(
            "\n{} captures together: {} events, {} lost, {} failures",
            reports.len(),
            thousands(sum(|report| report.events)),
            thousands(sum(|report| report.lost.events())),
            thousands(sum(|report| report.failed)),
        );
        Paint(style.colour).line(BOLD, &line, out);
    }
}

/// What there is to say of how whole a capture is, a line each; none: it is whole.
fn doubts(report: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    if report.end.is_none() {
        doubts.push(
            "the recording was cut off: it has no end, and what happened later is not in it"
                .to_owned(),
        );
    }
    if report.damaged > 0 {
        let places = if report.damaged == 1 { "place" } else { "places" };
        doubts.push(format!(
            "damaged in {} {places}: {}",
            thousands(report.damaged),
            report.missing_words()
        ));
        let places = report.damage.iter().take(SHOWN_DAMAGE);
        doubts.extend(places.map(|damage| format!("  {damage}")));
    }
    if report.undecodable > 0 {
        doubts.push(format!("{} records were not understood", thousands(report.undecodable)));
    }
    doubts.extend(told(&report.lost));
    if !report.header.unseen.is_empty() {
        doubts.push(format!(
            "not seen on the kernel of that host: {}",
            report.header.unseen.join(", ")
        ));
    }
    doubts
}

/// Where and when it was recorded, and how much it is.
fn title(report: &Report, clock: &mut Clock) -> String {
    let (header, begin_ns, end_ns) = (&report.header, report.begin_ns(), report.end_ns());
    let host = if header.host.is_empty() { "an unnamed host" } else { &header.host };
    format!(
        "{}: {host}, Linux {}; {} to {} ({}); {} events, {} failures",
        report.file,
        header.kernel,
        clock.day_and_time(begin_ns),
        clock.day_and_time(end_ns),
        time_left(report.seconds()),
        thousands(report.events),
        thousands(report.failed),
    )
}

struct Page<'a> {
    report: &'a Report,
    clock: Clock,
    paint: Paint,
    top: usize,
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    fn print(&mut self) {
        for doubt in doubts(self.report) {
            self.wrapped(YELLOW, "", &format!("! {doubt}"));
        }
        let title = title(self.report, &mut self.clock);
        self.wrapped(BOLD, "", &title);
        let arguments = self.report.header.arguments.join(" ");
        if !arguments.is_empty() {
            self.wrapped("", "", &format!("recorded with: socklife {arguments}"));
        }
        if let Some(trigger) = &self.report.header.trigger {
            self.wrapped("", "", &format!("recorded for: {trigger}"));
        }
        self.incidents();
        self.ceilings();
        self.failures();
        self.answers();
        self.upstreams();
        self.processes();
        self.changes();
        if !self.report.unseen.is_empty() {
            self.section("not seen");
            for what in self.report.unseen.iter().take(self.top) {
                self.wrapped("", "  ", what);
            }
        }
    }

    /// A text in lines, the first one too after `indent`.
    fn wrapped(&mut self, style: &str, indent: &str, text: &str) {
        for line in wrap(text, WIDTH - indent.len()) {
            self.paint.line(style, &format!("{indent}{line}"), self.out);
        }
    }

    fn section(&mut self, title: &str) {
        self.paint.line("", "", self.out);
        self.paint.line(BOLD, title, self.out);
    }

    fn table(&mut self, columns: &Columns, elastic: usize) {
        for line in columns.lines(Some((WIDTH - 2, elastic))) {
            self.paint.line("", &format!("  {line}"), self.out);
        }
    }

    fn more(&mut self, shown: usize, there: usize, beyond: u64, what: &str) {
        let more = (there.saturating_sub(shown) as u64).saturating_add(beyond);
        if more > 0 {
            let all = if beyond == 0 { "; --top shows more" } else { "" };
            let line = format!("  ({} more {what}{all})", thousands(more));
            self.paint.line("", &line, self.out);
        }
    }

    fn incidents(&mut self) {
        let report = self.report;
        if report.incidents.is_empty() {
            let what = match (report.failed, report.samples) {
                (0, 0) => "nothing failed; ceilings were not looked at",
                (0, _) => "nothing failed, and no ceiling came near its limit",
                // Clients that go away.
                _ => "nothing that needs attention",
            };
            return self.section(what);
        }
        self.section("what was wrong");
        for incident in report.incidents.iter().take(self.top) {
            self.incident(incident);
        }
        self.more(self.top, report.incidents.len(), report.more_incidents, "incidents");
    }

    fn incident(&mut self, incident: &Incident) {
        let when = when(&mut self.clock, incident.first_ns, incident.last_ns);
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        let seconds = incident.last_ns.saturating_sub(incident.first_ns) as f64 / 1e9;
        let mut head = format!("{when} ({})  {}", time_left(seconds), incident.status.name());
        if incident.peak_per_s > 0.0 {
            head += &format!("  at worst {} failures/s", rate(incident.peak_per_s));
        }
        let style = if incident.status == Status::Critical { RED } else { YELLOW };
        self.paint.line(style, &format!("  {head}"), self.out);
        self.wrapped("", "    ", &incident.sentence);
        if let Some(doubt) = incident.doubt {
            self.wrapped("", "    ", &format!("({doubt})"));
        }
        for (index, way) in incident.remedy.iter().enumerate() {
            let name = if index == 0 { "remedy" } else { "or" };
            for (index, line) in wrap(way, WIDTH - 12).iter().enumerate() {
                let name = if index == 0 { name } else { "" };
                self.paint.line("", &format!("    {name:>6}  {line}"), self.out);
            }
        }
    }

    fn ceilings(&mut self) {
        let near = self.report.ceilings.iter().filter(|ceiling| {
            let worst = &ceiling.worst;
            worst.status > Status::Ok || (!worst.ceiling.idle && worst.ceiling.ratio() >= NEAR)
        });
        let near: Vec<_> = near.collect();
        if near.is_empty() {
            return;
        }
        self.section("ceilings that came near their limits");
        let mut columns = Columns::new(&[
            ("FULLEST", Right),
            ("USED", Right),
            ("LIMIT", Right),
            ("AT", Left),
            ("LAST", Right),
            ("CEILING", Left),
            ("OF", Left),
        ]);
        for it in near.iter().take(self.top) {
            let worst = &it.worst.ceiling;
            let mark = if worst.inferred { " (inferred)" } else { "" };
            let whose = check_text::subject(worst, self.report.header.own_netns);
            columns.row(vec![
                percent(worst.ratio()),
                thousands(worst.used),
                thousands(worst.limit),
                self.clock.time_of_day(it.worst_ns),
                percent(it.last.ceiling.ratio()),
                worst.subject.kind().name().to_owned(),
                format!("{whose}{mark}"),
            ]);
        }
        self.table(&columns, 6);
        self.more(self.top, near.len(), 0, "ceilings");
    }

    fn failures(&mut self) {
        let report = self.report;
        if report.failures.is_empty() {
            return;
        }
        self.section("failures");
        let mut columns = Columns::new(&[
            ("COUNT", Right),
            ("REASON", Left),
            ("ERROR", Left),
            ("COMM", Left),
            ("UPSTREAM", Left),
            ("WHEN", Left),
        ]);
        let unknown = || "-".to_owned();
        for (key, row) in report.failures.iter().take(self.top) {
            let upstream = match key.dst {
                Some(dst) => endpoint(dst, key.dport),
                None if key.is_clients() => "(clients)".to_owned(),
                None => unknown(),
            };
            columns.row(vec![
                thousands(row.count),
                reason(key.reason).to_owned(),
                key.error.map_or_else(unknown, |error| error.to_string()),
                key.comm.map_or_else(unknown, |comm| comm.to_string()),
                upstream,
                when(&mut self.clock, row.first_ns, row.last_ns),
            ]);
        }
        self.table(&columns, 4);
        self.more(self.top, report.failures.len(), 0, "rows of failures");
        if report.unlisted > 0 {
            let unlisted = thousands(report.unlisted);
            let line = format!("  {unlisted} failures are in the total only: too many rows");
            self.paint.line(YELLOW, &line, self.out);
        }
    }

    fn answers(&mut self) {
        let Some(answers) = &self.report.answers else { return };
        self.section("failed answers of proxies");
        for doubt in answers_text::doubts(self.report) {
            self.wrapped(YELLOW, "  ", &format!("! {doubt}"));
        }
        for line in answers_text::table(&answers.summary) {
            self.paint.line("", &format!("  {line}"), self.out);
        }
        let notes = answers_text::notes(&answers.summary);
        for note in notes.into_iter().chain(answers_text::outside(self.report)) {
            self.wrapped("", "  ", &note);
        }
    }

    fn upstreams(&mut self) {
        let report = self.report;
        if report.upstreams.is_empty() {
            return;
        }
        self.section("upstreams");
        let mut columns = Columns::new(&[
            ("FAILED", Right),
            ("OPENED", Right),
            ("TIME-WAIT", Right),
            ("CLOSED HERE", Right),
            ("BY PEER", Right),
            ("P50", Right),
            ("P99", Right),
            ("UPSTREAM", Left),
        ]);
        for it in report.upstreams.iter().take(self.top) {
            let latency = |of: Option<u64>| {
                of.map_or_else(|| "-".to_owned(), |us| span(us.saturating_mul(1000)))
            };
            let mark = if it.inferred { "~" } else { "" };
            columns.row(vec![
                thousands(it.failed()),
                thousands(it.opened),
                format!("{mark}{}", thousands(it.time_waits)),
                thousands(it.closed_here),
                thousands(it.closed_by_peer),
                latency(it.latency.map(|latency| latency.p50_us)),
                latency(it.latency.map(|latency| latency.p99_us)),
                upstream(&it.key, report.header.own_netns),
            ]);
        }
        self.table(&columns, 7);
        if report.upstreams.iter().take(self.top).any(|it| it.inferred) {
            self.wrapped("", "  ", "~: concluded from state changes");
        }
        self.more(self.top, report.upstreams.len(), report.more_upstreams, "upstreams");
        if report.unplaced > 0 {
            let unplaced = thousands(report.unplaced);
            let line =
                format!("  {unplaced} events are of upstreams or processes beyond all of these");
            self.paint.line(YELLOW, &line, self.out);
        }
    }

    fn processes(&mut self) {
        let report = self.report;
        if report.processes.is_empty() {
            return;
        }
        self.section("processes");
        let mut columns = Columns::new(&[
            ("FAILED", Right),
            ("OPENED", Right),
            ("SERVED", Right),
            ("MOST FILES", Right),
            ("PROCESS", Left),
            ("MOSTLY", Left),
        ]);
        for it in report.processes.iter().take(self.top) {
            let files = it
                .files
                .map(|(most, limit)| format!("{} of {}", thousands(most), thousands(limit)));
            let mostly = it.failures.first().map(|&(it, _)| reason(it).to_owned());
            columns.row(vec![
                thousands(it.failed()),
                thousands(it.opened),
                thousands(it.served),
                files.unwrap_or_else(|| "-".to_owned()),
                format!("{}[{}]", it.comm, it.pid),
                mostly.unwrap_or_default(),
            ]);
        }
        self.table(&columns, 4);
        self.more(self.top, report.processes.len(), report.more_processes, "processes");
    }

    fn changes(&mut self) {
        let report = self.report;
        if report.changes.is_empty() {
            return;
        }
        self.section("settings that were changed");
        for it in report.changes.iter().take(self.top) {
            let place = it.netns.filter(|netns| Some(*netns) != report.header.own_netns);
            let place = place.map_or_else(String::new, |netns| format!(" [netns {netns}]"));
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
            let line = format!(
                "{} {}: {} to {}{place}",
                self.clock.time_of_day(it.at_ns),
                it.name,
                value(&it.from),
                value(&it.to)
            );
            self.wrapped("", "  ", &line);
        }
        self.more(self.top, report.changes.len(), report.more_changes, "changes");
    }
}

fn reason(reason: Option<Reason>) -> &'static str {
    reason.map_or("unknown", Reason::name)
}

/// `10.0.0.9:9001`, with its network namespace where that isn't the recorder's own.
fn upstream(key: &UpstreamKey, own_netns: Option<u32>) -> String {
    let name = endpoint(key.dst, Some(key.dport));
    match key.netns.filter(|netns| Some(*netns) != own_netns) {
        Some(netns) => format!("{name} [netns {netns}]"),
        None => name,
    }
}
