//! All about one row.

use super::{doc::Doc, events::line, overview::ways};
use crate::{
    ceilings::Subject,
    event::Event,
    human::thousands,
    live::{
        shot::{About, Gauge, Incident, Process, Shot, Upstream, UpstreamKey},
        tail::Seen,
    },
    reason::Reason,
    sink::check_text,
    tui::{
        columns::{
            Events, Sight, events,
            processes::{of_failures, served},
            rate, share,
            upstreams::{self, closes, micros, name, ports, reason_name, tone},
        },
        model::{Detail, Model},
        text::{Align, percent},
        theme::Tone,
    },
};

/// Failures that are listed.
const MAX_RECENT: usize = 20;

/// Writes it.
pub(in crate::tui) fn write(model: &Model, detail: &Detail, doc: &mut Doc) {
    let Some(shot) = model.shot() else { return };
    let found = match detail {
        Detail::Incident(which) => {
            which.find(&shot.incidents).map(|incident| self::incident(model, shot, incident, doc))
        }
        Detail::Ceiling(subject) => {
            gauge(shot, subject).map(|gauge| ceiling(model, gauge, Remedy::Here, doc))
        }
        Detail::Upstream(key) => {
            let found = shot.upstreams.iter().find(|upstream| upstream.key == *key);
            found.map(|found| upstream(model, found, doc))
        }
        Detail::Process(pid) => {
            let found = shot.processes.iter().find(|process| process.pid == *pid);
            found.map(|found| process(model, found, doc))
        }
    };
    if found.is_none() {
        doc.text(
            &format!("{}: nothing of it at this time, or not kept", titled(detail, model.sight())),
            Tone::Plain,
        );
    }
}

fn titled(detail: &Detail, sight: Sight) -> String {
    let ceiling = |subject: &Subject| format!("{} {subject}", subject.kind().name());
    match detail {
        Detail::Incident(which) => match &which.about {
            About::Ceiling(subject) => ceiling(subject),
            About::Upstream(key) => name(key, sight),
            About::Other => "incident".to_owned(),
        },
        Detail::Ceiling(subject) => ceiling(subject),
        Detail::Upstream(key) => name(key, sight),
        Detail::Process(pid) => format!("process {pid}"),
    }
}

fn gauge<'a>(shot: &'a Shot, subject: &Subject) -> Option<&'a Gauge> {
    shot.gauges.iter().find(|gauge| gauge.judged.ceiling.subject == *subject)
}

fn incident(model: &Model, shot: &Shot, incident: &Incident, doc: &mut Doc) {
    super::overview::incident(doc, incident);
    doc.gap();
    ways(doc, &incident.remedy);
    match &incident.about {
        About::Ceiling(subject) => {
            if let Some(found) = gauge(shot, subject) {
                doc.gap();
                ceiling(model, found, Remedy::Above, doc);
            }
        }
        About::Upstream(key) => {
            let found = shot.upstreams.iter().find(|upstream| upstream.key == *key);
            if let Some(found) = found {
                doc.gap();
                upstream(model, found, doc);
            }
        }
        About::Other => recent(model, doc, |_| true),
    }
}

/// Where it is said what to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Above,
    Here,
}

/// What `check` says of it.
fn ceiling(model: &Model, gauge: &Gauge, remedy: Remedy, doc: &mut Doc) {
    let sight = model.sight();
    let (ceiling, status) = (&gauge.judged.ceiling, gauge.judged.status);
    let left = thousands(ceiling.headroom());
    let title = format!("{}, {left} left", check_text::headline(ceiling, sight.own_netns));
    doc.badge(status.name(), Tone::Badge(status), &title, Tone::Strong);
    let bar = sight.look.gauge(ceiling.ratio(), 20);
    let lowest = gauge.trend.iter().rev().take(60).copied().fold(f32::INFINITY, f32::min);
    let mut now = format!("{bar} {}", percent(ceiling.ratio()));
    if lowest.is_finite() {
        now += &format!("; the lowest of the last minute: {}", percent(lowest.into()));
    }
    doc.row("now", &now);
    if !gauge.trend.is_empty() {
        // A second in each column, or two; from the left it may begin with nothing.
        let columns = if doc.width() < 75 { 30 } else { 60 };
        let trend = sight.look.sparkline(&gauge.trend, sight.at_s, sight.step_s, columns);
        doc.row("last minute", trend.trim_start());
    }
    if gauge.fails_per_s > 0.0 {
        doc.toned("failing", &format!("{} a second now", sight.rate(gauge.fails_per_s)), Tone::Bad);
    }
    let skipped = |name: &str| remedy == Remedy::Above && matches!(name.trim(), "remedy" | "or");
    for (name, text) in check_text::facts(ceiling) {
        if skipped(name) {
            continue;
        }
        let tone = if name == "failed" { Tone::Bad } else { Tone::Plain };
        doc.toned(name, &text, tone);
    }
    match ceiling.subject {
        Subject::Upstream { netns, dst, dport, .. } => {
            recent(model, doc, toward(UpstreamKey { netns: Some(netns), dst, dport }));
        }
        Subject::Process { pid, .. } => recent(model, doc, by(pid)),
        _ => {}
    }
}

fn upstream(model: &Model, upstream: &Upstream, doc: &mut Doc) {
    let sight = model.sight();
    doc.text(&format!("upstream {}", name(&upstream.key, sight)), Tone::Strong);
    match &upstream.sockets {
        None => doc.row("sockets", "not listed yet"),
        Some(sockets) => doc.row(
            "sockets",
            &format!(
                "{} ESTAB, {} SYN-SENT, {} TIME-WAIT, {} in other states",
                thousands(sockets.established),
                thousands(sockets.connecting),
                thousands(sockets.time_wait),
                thousands(sockets.other)
            ),
        ),
    }
    if let Some(found) = upstream.ports {
        let ratio = percent(found.ratio());
        doc.row(
            "ports",
            &format!("{} ({ratio}) from the source address with the least room", ports(found)),
        );
    }
    let mark = if upstream.time_wait_inferred { "~" } else { "" };
    let entered = upstream.time_wait_per_s.map_or_else(|| "-".to_owned(), rate);
    doc.row(
        "a second",
        &format!(
            "{} opened, {} closed, {mark}{entered} enter TIME-WAIT",
            sight.rate(upstream.opened_per_s),
            sight.rate(upstream.closed_per_s),
        ),
    );
    if sight.events == Events::Missing {
        doc.row("failed", "not known: there are no events");
    } else {
        let (here, peer) = (upstream.closed_here, upstream.closed_by_peer);
        doc.row(
            "closes",
            &format!(
                "{}; closed first: {} by this side, {} by the upstream",
                closes(upstream),
                sight.count(here),
                sight.count(peer)
            ),
        );
        let latency = upstream.latency.map_or_else(
            || "no connect() succeeded lately".to_owned(),
            |took| {
                format!("median {}, 99 of 100 within {}", micros(took.p50_us), micros(took.p99_us))
            },
        );
        doc.row("connect()", &latency);
        let failed = upstream.failed();
        let sight = upstreams::of_failures(sight);
        let text = format!(
            "{} so far, {} a second",
            sight.count(failed),
            sight.rate(upstream.fails_per_s)
        );
        doc.toned("failed", &text, tone(failed));
    }
    parts(upstream, sight, doc);
    recent(model, doc, toward(upstream.key));
}

fn parts(upstream: &Upstream, sight: Sight, doc: &mut Doc) {
    let of_failures = upstreams::of_failures(sight);
    if !upstream.failures.is_empty() && sight.events != Events::Missing {
        doc.title("failures by reason");
        let row = |(reason, count): &(Option<Reason>, u64)| {
            vec![of_failures.count(*count), reason_name(*reason).to_owned()]
        };
        let rows: Vec<_> = upstream.failures.iter().map(row).collect();
        doc.cells(&[Align::Right, Align::Left], &rows);
    }
    if !upstream.sources.is_empty() {
        doc.title("local ports by source address");
        let row = |source: &crate::live::shot::Source| {
            vec![source.src.to_string(), ports(source.ports), percent(source.ports.ratio())]
        };
        let rows: Vec<_> = upstream.sources.iter().map(row).collect();
        doc.cells(&[Align::Left, Align::Right, Align::Right], &rows);
    }
    if !upstream.processes.is_empty() {
        doc.title("sockets by process");
        let row = |(pid, comm, count): &(u32, crate::event::Comm, u64)| {
            vec![thousands(*count), format!("{comm}[{pid}]")]
        };
        let rows: Vec<_> = upstream.processes.iter().map(row).collect();
        doc.cells(&[Align::Right, Align::Left], &rows);
    }
}

fn process(model: &Model, process: &Process, doc: &mut Doc) {
    let sight = model.sight();
    doc.text(&format!("process {}[{}]", process.comm, process.pid), Tone::Strong);
    match process.files {
        None => doc.row("open files", "hidden, or the process has ended"),
        Some((used, limit)) => {
            let ratio = share(used, limit);
            let text = format!(
                "{} of {} ({}), {} left",
                thousands(used),
                thousands(limit),
                percent(ratio),
                thousands(limit.saturating_sub(used))
            );
            doc.row("open files", &text);
        }
    }
    match process.connections {
        None => doc.row("open now", "not known"),
        Some((accepted, made)) => doc.row(
            "open now",
            &format!("{} connections accepted, {} made", thousands(accepted), thousands(made)),
        ),
    }
    if sight.events == Events::Missing {
        doc.row("failed", "not known: there are no events");
    } else {
        let (ended, made) = (served(process, sight), sight.rate(process.opened_per_s));
        doc.row("a second", &format!("{made} made, {ended} of the accepted ones end"));
        let sight = of_failures(sight);
        let worst =
            process.worst.map_or_else(String::new, |reason| format!(", mostly {}", reason.name()));
        let text = format!(
            "{} so far, {} a second{worst}",
            sight.count(process.failed),
            sight.rate(process.fails_per_s)
        );
        doc.toned("failed", &text, tone(process.failed));
    }
    recent(model, doc, by(process.pid));
}

/// Whether an event is of a connection to that upstream.
fn toward(key: UpstreamKey) -> impl Fn(&Seen) -> bool {
    move |seen| {
        seen.event.subject().is_some_and(|subject| {
            subject.dst == Some(key.dst)
                && subject.dport == Some(key.dport)
                && subject.netns == key.netns
        })
    }
}

/// Whether an event is of that process.
fn by(pid: u32) -> impl Fn(&Seen) -> bool {
    move |seen| {
        let owner = seen.event.subject().and_then(|subject| subject.owner);
        owner.is_some_and(|owner| owner.pid == pid)
    }
}

/// The last failures that are wanted, newest first.
fn recent(model: &Model, doc: &mut Doc, wanted: impl Fn(&Seen) -> bool) {
    let until = model.until();
    let mut clock = model.clock.clone();
    let failed = model.kept().failures().iter().rev().filter(|seen| {
        seen.number < until && !matches!(seen.event, Event::Lost(_)) && wanted(seen)
    });
    let rows: Vec<_> =
        failed.take(MAX_RECENT).filter_map(|seen| line(seen, "", &mut clock)).collect();
    if !rows.is_empty() {
        doc.title("last failures, newest first");
        doc.table(events::COLUMNS, &rows, model.sight());
    }
}
