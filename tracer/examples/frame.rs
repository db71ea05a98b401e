//! Prints how long the live view takes for a second and for a frame of a host with 10,000 upstreams.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use socklife::{
    event::Comm,
    live::shot::{Latency, Ports, Shot, Sockets, Source, Upstream, UpstreamKey},
    reason::Reason,
    sink::clock::Clock,
    tui::{message::Message, model::Model, theme::Look, update::update, view::view},
};

const UPSTREAMS: u32 = 10_000;
const ROUNDS: u32 = 100;

fn upstream(index: u32, second: u32) -> Upstream {
    let dst = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index));
    let held = u64::from((index * 31 + second) % 997);
    let ports = Ports { used: held, usable: 28_232, inferred: index.is_multiple_of(7) };
    Upstream {
        key: UpstreamKey { netns: Some(4_026_531_840), dst, dport: 9001 },
        sockets: Some(Sockets { established: held, connecting: 1, time_wait: held / 2, other: 0 }),
        ports: Some(ports),
        opened_per_s: f64::from((index * 17 + second) % 501) / 10.0,
        closed_per_s: f64::from((index * 13 + second) % 501) / 10.0,
        time_wait_per_s: Some(12.0),
        time_wait_inferred: false,
        closed_here: held * 9,
        closed_by_peer: held,
        failures: vec![(Some(Reason::Refused), held / 10)],
        fails_per_s: f64::from((index * 7 + second) % 89),
        latency: Some(Latency { p50_us: 340, p99_us: 2_100 }),
        sources: [Source { src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), ports }].into(),
        processes: [(1234, Comm::new(*b"nginx\0\0\0\0\0\0\0\0\0\0\0"), held)].into(),
    }
}

fn shot(second: u32) -> Box<Shot> {
    let mut shot =
        Shot { at_ns: u64::from(second) * 1_000_000_000, rates_s: 10.0, ..Shot::default() };
    shot.upstreams = Arc::new((0..UPSTREAMS).map(|index| upstream(index, second)).collect());
    Box::new(shot)
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        update(model, Message::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
}

/// Medians of a second and of a frame.
fn measure(model: &mut Model, first: u32) -> std::io::Result<(Duration, Duration)> {
    let mut terminal = Terminal::new(TestBackend::new(200, 50)).map_err(std::io::Error::other)?;
    let (mut seconds, mut frames) = (Vec::new(), Vec::new());
    for second in first..first + ROUNDS {
        let next = shot(second);
        let began = Instant::now();
        update(model, Message::Shot(next));
        seconds.push(began.elapsed());
        let began = Instant::now();
        terminal.draw(|frame| view(model, frame)).map_err(std::io::Error::other)?;
        frames.push(began.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    Ok((median(&mut seconds), median(&mut frames)))
}

fn main() -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let clock = Clock::new(1_773_457_200_000_000_000, TimeZone::UTC);
    let mut model = Model::new(Look { colour: true, utf8: true }, clock);
    update(&mut model, Message::Resize(200, 50));
    writeln!(out, "{UPSTREAMS} upstreams, 200 by 50; medians of {ROUNDS}")?;
    let mut second = 0;
    for (what, keys) in [
        ("overview", "1"),
        ("upstreams", "2"),
        ("upstreams, filtered", "/10.0.1\n"),
        ("detail", "\n"),
    ] {
        press(&mut model, keys);
        let (update, frame) = measure(&mut model, second)?;
        second += ROUNDS;
        writeln!(out, "{what:<20} update {update:>10.1?}  frame {frame:>10.1?}")?;
    }
    Ok(())
}
