//! Screens of what a real kernel said: Nginx with two workers, 32 local ports, and 304 requests in six seconds, of
//! which it answered 272 with 502 (its error log had 272 lines with errno 99). Captured with
//! `examples/capture_fixture.rs`.

use insta::assert_snapshot;
use jiff::tz::TimeZone;

use super::{FULL, build, press, screen};
use crate::{
    live::{
        captured::{Captured, Outcome},
        shot::Ground,
    },
    reason::Reason,
    sink::clock::Clock,
    tui::{message::Message, model::Model, update::update},
};

const NGINX_PORTS: &[u8] = include_bytes!("../../../fixtures/nginx-ports.postcard");

fn ground() -> Ground {
    Ground { hooks: build::calm().ground.hooks, ..Ground::default() }
}

fn nginx_ports() -> Model {
    let captured: Captured = postcard::from_bytes(NGINX_PORTS).unwrap();
    let mut model = Model::new(FULL, Clock::new(captured.epoch_ns, TimeZone::UTC));
    let fold = |outcome: Outcome<'_>| match outcome {
        Outcome::Event(event, change) => model.tail.push(event, change.failure().copied()),
        Outcome::Shot(shot) => {
            update(&mut model, Message::Shot(shot));
        }
    };
    captured.replay(&ground(), fold).unwrap();
    model
}

#[test]
fn what_failed_is_counted_as_nginx_logged_it() {
    let captured: Captured = postcard::from_bytes(NGINX_PORTS).unwrap();
    let mut last = None;
    let mut first_ns = None;
    let mut told_ns = None;
    let fold = |outcome: Outcome<'_>| match outcome {
        Outcome::Event(event, change) => {
            if change.failure().and_then(|failure| failure.reason)
                == Some(Reason::PortRangeExhausted)
            {
                first_ns.get_or_insert(event.ts_ns());
            }
        }
        Outcome::Shot(shot) => {
            let told = shot
                .incidents
                .iter()
                .any(|incident| incident.sentence.contains("no free local port"));
            if told {
                told_ns.get_or_insert(shot.at_ns);
            }
            last = Some(shot);
        }
    };
    captured.replay(&ground(), fold).unwrap();
    let last = last.unwrap();
    let exhausted: u64 = last
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.failures)
        .filter(|(reason, _)| *reason == Some(Reason::PortRangeExhausted))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(exhausted, 272);
    let nginx = last.processes.iter().filter(|process| process.comm.to_string() == "nginx");
    assert_eq!(nginx.map(|process| process.failed).sum::<u64>(), 272);
    let late_ns = told_ns.unwrap() - first_ns.unwrap();
    assert!(late_ns <= 2_000_000_000, "told {late_ns} ns after the first failure");
}

/// Compares a screen with the one that was accepted.
fn same(name: &str, model: &Model, columns: u16, rows: u16) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let name = format!("captured_{name}@{columns}x{rows}");
    settings.bind(|| assert_snapshot!(name, screen(model, columns, rows)));
}

#[test]
fn a_real_incident() {
    for (columns, rows) in [(60, 20), (80, 24), (200, 50)] {
        let mut model = nginx_ports();
        update(&mut model, Message::Resize(columns, rows));
        for (name, keys) in [
            ("overview", ""),
            ("finding", "enter"),
            ("upstreams", "esc 2"),
            ("upstream", "enter"),
            ("processes", "esc 3"),
            ("failures", "4 f"),
            ("before", "1 left left left left left left left left"),
        ] {
            press(&mut model, keys);
            same(name, &model, columns, rows);
        }
    }
}
