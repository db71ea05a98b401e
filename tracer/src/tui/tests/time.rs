//! The last ten minutes: going back in them, and what they weigh.

use super::{FULL, build, press, screen, showing, tail};
use crate::{
    live::shot::Shot,
    tui::{
        message::Message,
        model::{Model, Time},
        update::update,
    },
};

fn history(seconds: u64) -> Model {
    showing(FULL, (0..seconds).map(|second| build::later(build::calm(), second)))
}

fn back_s(model: &Model) -> u64 {
    let newest = model.archive.newest().unwrap().at_ns;
    (newest - model.shot().unwrap().at_ns) / 1_000_000_000
}

#[test]
fn time_goes_back_and_forth() {
    let mut model = history(700);
    press(&mut model, "space");
    assert_eq!(back_s(&model), 0);
    press(&mut model, "left h h");
    assert_eq!(back_s(&model), 3);
    press(&mut model, "[ l");
    assert_eq!(back_s(&model), 62);
    // The moment stays while new ones come.
    update(&mut model, Message::Shot(Box::new(build::later(build::calm(), 700))));
    assert_eq!(back_s(&model), 63);
    for _ in 0..20 {
        press(&mut model, "[");
    }
    assert!((596..=601).contains(&back_s(&model)), "{}", back_s(&model));
    // A second at a time is kept of the last two minutes.
    assert!((215..=220).contains(&model.archive.len()), "{}", model.archive.len());
    assert!(screen(&model, 80, 24).contains("nothing older is kept"));
    for _ in 0..20 {
        press(&mut model, "]");
    }
    assert_eq!(back_s(&model), 0);
    press(&mut model, "space");
    assert!(matches!(model.time, Time::Live));
    // One key leads back from live.
    press(&mut model, "[");
    assert_eq!(back_s(&model), 60);
    assert!(screen(&model, 80, 24).contains(" PAUSED "));
}

#[test]
fn events_of_a_moment_end_with_it() {
    let mut model = history(5);
    // A round each 10 ms, the last one at the first shot.
    model.tail = tail::tail(40, b"nginx");
    press(&mut model, "4");
    let live = screen(&model, 80, 24);
    press(&mut model, "space");
    tail::tail(1, b"later").all().iter().for_each(|seen| {
        let mut event = seen.event;
        if let crate::event::Event::State(change) = &mut event {
            change.subject.ts_ns = build::AT_NS + 4_500_000_000;
        }
        model.tail.push(&event, seen.failure);
    });
    let rows =
        |screen: &str| screen.lines().skip(4).take(15).map(str::to_owned).collect::<Vec<_>>();
    let paused = screen(&model, 80, 24);
    assert_eq!(rows(&paused), rows(&live));
    press(&mut model, "[");
    assert!(!screen(&model, 80, 24).contains("later"));
    press(&mut model, "space");
    assert!(screen(&model, 80, 24).contains("later"));
}

#[test]
fn events_stay_while_time_is_stopped() {
    let mut model = history(5);
    model.tail = tail::tail(40, b"nginx");
    press(&mut model, "4 space");
    let paused = screen(&model, 80, 24);
    assert!(paused.contains("nginx"));
    // More than are kept.
    tail::tail(9000, b"later").all().iter().for_each(|seen| {
        model.tail.push(&seen.event, seen.failure);
    });
    assert_eq!(screen(&model, 80, 24), paused);
    press(&mut model, "k k");
    assert!(screen(&model, 80, 24).contains("nginx"));
    press(&mut model, "space");
    assert!(!screen(&model, 80, 24).contains("nginx"));
}

/// Bytes that a shot takes, but for what it shares with others.
fn weight(shot: &Shot, before: &Shot) -> usize {
    use std::{mem::size_of_val, sync::Arc};
    let upstreams: usize = shot
        .upstreams
        .iter()
        .map(|u| {
            let parts = [
                size_of_val(&u.failures[..]),
                size_of_val(&u.sources[..]),
                size_of_val(&u.processes[..]),
            ];
            // Each allocation has a header.
            size_of_val(u)
                + parts.iter().filter(|&&part| part > 0).map(|part| part + 16).sum::<usize>()
        })
        .sum();
    let gauges: usize = shot
        .gauges
        .iter()
        .map(|gauge| {
            let shared = before.gauges.iter().any(|old| Arc::ptr_eq(&old.judged, &gauge.judged));
            size_of_val(&gauge.trend[..]) + if shared { 0 } else { 2_000 }
        })
        .sum();
    let texts = |incident: &crate::live::shot::Incident| {
        incident.sentence.len() + incident.remedy.iter().map(|way| way.len() + 40).sum::<usize>()
    };
    upstreams
        + gauges
        + size_of_val(&shot.processes[..])
        + shot.incidents.iter().map(texts).sum::<usize>()
}

#[test]
fn ten_minutes_of_a_large_host_are_kept_in_some_40_mb() {
    let crowded = |second| {
        let mut shot = build::later(build::many(10_000), second);
        let one = shot.processes[0].clone();
        let pids = (0..5_000).map(|pid| crate::live::shot::Process { pid, ..one.clone() });
        shot.processes = std::sync::Arc::new(pids.collect());
        let gauge = shot.gauges[4].clone();
        shot.gauges.extend(std::iter::repeat_n(gauge, 200));
        let incident = shot.incidents[0].clone();
        shot.incidents.extend(std::iter::repeat_n(incident, 50));
        shot
    };
    let model = showing(FULL, (0..4).map(crowded));
    let at =
        |second: u64| model.archive.at_or_before(build::AT_NS + second * 1_000_000_000).unwrap();
    let (before, shot) = (at(1), at(2));
    assert_eq!(shot.at_ns, build::AT_NS + 2_000_000_000);
    let weight = weight(shot, before);
    assert!(weight * 220 < 17_000_000, "{weight}");
    assert_eq!(shot.left_out.upstreams + shot.upstreams.len() as u64, 10_000);
    assert_eq!(shot.left_out.processes + shot.processes.len() as u64, 5_000);
    assert_eq!(at(3).upstreams.len(), 10_000);
    // The worst are those that are left.
    assert!(shot.upstreams.iter().all(|upstream| upstream.failed() == 12));
}
