//! A capture of real incidents (Nginx without free ports, then without free files) in the replay, with the keys that
//! a person presses.

mod odd;

use std::{path::PathBuf, time::Duration};

use insta::assert_snapshot;
use jiff::tz::TimeZone;

use super::player::Player;
use crate::{
    capture::walk::{Step, Walk},
    live::shot::Upstream,
    sink::clock::Clock,
    tui::{
        message::Effect,
        model::Model,
        playback::SECOND_NS,
        tests::{ASCII, FULL, press, screen, written},
        theme::Look,
    },
};

fn incidents() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/incidents-v1.socklife").into()
}

/// A replay, and who looks on.
struct Show {
    player: Player,
    model: Model,
}

impl Show {
    fn of(path: &std::path::Path, look: Look) -> Self {
        let player = Player::open(path).unwrap();
        let mut model = Model::new(look, Clock::new(player.header().epoch_ns, TimeZone::UTC));
        player.tell(&mut model);
        Self { player, model }
    }

    fn new() -> Self {
        Self::of(&incidents(), FULL)
    }

    /// Presses keys, and has what they ask for begun.
    fn ask(&mut self, keys: &str) {
        for key in keys.split_whitespace() {
            for effect in press(&mut self.model, key) {
                let Effect::Replay(order) = effect else { panic!("{effect:?}") };
                self.player.order(order, &mut self.model).unwrap();
            }
        }
    }

    /// Has it done, too.
    fn keys(&mut self, keys: &str) {
        self.ask(keys);
        self.work();
    }

    fn work(&mut self) {
        while self.player.has_work() {
            self.player.work(&mut self.model, || true).unwrap();
        }
    }

    /// Looks on for so many seconds.
    fn wait(&mut self, seconds: u64) {
        self.work();
        for _ in 0..seconds * 20 {
            self.player.advance(Duration::from_millis(50));
            self.work();
        }
    }

    /// Seconds from the beginning to the moment that is shown.
    fn second(&self) -> u64 {
        let replay = self.model.replay.as_ref().unwrap();
        (self.model.shot().unwrap().at_ns - replay.first_ns) / SECOND_NS
    }

    fn text(&self) -> String {
        screen(&self.model, 80, 24)
    }

    /// All that the model knows of the moment: each list in full.
    fn all(&self) -> Vec<String> {
        let mut model = self.model.clone();
        let panes = ["1", "2", "3", "4", "4 f", "5", "1 enter", "esc 2 enter"];
        let texts = panes.map(|keys| {
            press(&mut model, keys);
            let text = written(press(&mut model, "y"));
            text + &screen(&model, 200, 50)
        });
        texts.to_vec()
    }
}

/// Failures, and the seconds from the beginning of the first of them.
fn failures() -> (u64, u64, u64) {
    let mut walk = Walk::open(&incidents()).unwrap();
    let (mut begun, mut first) = (None, None);
    while walk
        .advance(|step| match step {
            Step::Event(event, change) => {
                begun.get_or_insert(event.ts_ns());
                if change.failure().is_some() {
                    first.get_or_insert(event.ts_ns());
                }
            }
            Step::Sample(listing) => {
                begun.get_or_insert(listing.at_ns);
            }
            _ => {}
        })
        .unwrap()
    {}
    assert_eq!(walk.table.seen(), 32_534);
    (walk.table.failures(), begun.unwrap(), first.unwrap())
}

fn same(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| assert_snapshot!(name, text));
}

#[test]
fn it_looks_like_the_live_view() {
    let mut show = Show::new();
    same("opened", &show.text());
    show.keys("n");
    show.wait(1);
    same("first_failure", &show.text());
    show.keys("]");
    same("ports", &show.text());
    show.keys("5");
    same("kernel", &show.text());
    show.ask("1 g 50% enter");
    same("seeking", &show.text());
    show.work();
    show.keys("space + + +");
    show.wait(1);
    same("playing", &show.text());
    show.keys("space left left");
    same("paused_back", &show.text());
    show.keys("g 100% enter");
    same("end", &show.text());
    press(&mut show.model, "? ");
    same("help", &screen(&show.model, 120, 75));
}

#[test]
fn it_fits_on_a_small_and_plain_terminal() {
    let mut show = Show::of(&incidents(), ASCII);
    show.keys("n ]");
    let text = screen(&show.model, 60, 20);
    assert!(text.contains("REPLAY  PAUSED 1x") && text.is_ascii(), "{text}");
    assert!(screen(&show.model, 40, 10).contains("REPLAY  PAUSED 1x"));
}

#[test]
fn all_failures_of_the_capture_are_shown() {
    let (failures, ..) = failures();
    assert!(failures > 0);
    let mut show = Show::new();
    show.keys("+ + + + + + + + + + + +");
    show.wait(1);
    assert!(show.model.replay.as_ref().unwrap().ended);
    assert!(show.text().contains("end of the capture"), "{}", show.text());
    let shot = show.model.shot().unwrap();
    let of_processes: u64 = shot.processes.iter().map(|process| process.failed).sum();
    let of_upstreams: u64 = shot.upstreams.iter().map(Upstream::failed).sum();
    assert_eq!(shot.ground.events, 32_534);
    let of_events = show.model.tail.total();
    assert_eq!((of_events, shot.ground.unlisted), (32_534, 0));
    assert!(of_processes <= failures && of_upstreams <= failures);
    assert_eq!(of_processes.max(of_upstreams), failures);
}

#[test]
fn n_stops_in_the_second_of_each_failure() {
    let (_, begun, first) = failures();
    let mut show = Show::new();
    show.keys("n");
    let stopped = show.model.shot().unwrap().at_ns;
    assert!((first..first + SECOND_NS).contains(&stopped), "{stopped} for {first}");
    assert_eq!(show.second(), (first - begun).div_ceil(SECOND_NS));
    assert!(show.model.replay.as_ref().unwrap().paused);
    // Time stands.
    show.wait(5);
    assert_eq!(show.model.shot().unwrap().at_ns, stopped);
    // Each leads to a later one, and the last to the end.
    let mut seconds = vec![show.second()];
    while !show.model.replay.as_ref().unwrap().ended {
        show.keys("4 n");
        assert!(show.second() > *seconds.last().unwrap(), "{seconds:?}");
        seconds.push(show.second());
    }
    assert!(show.text().contains("no further failure"), "{}", show.text());
    // The pause between the two incidents is passed over.
    assert!(seconds.windows(2).any(|pair| pair[1] - pair[0] > 1), "{seconds:?}");
}

#[test]
fn a_moment_is_the_same_on_every_way_to_it() {
    let mut straight = Show::new();
    straight.wait(9);
    straight.keys("space");
    let second = straight.second();
    assert_eq!(second, 9);
    let wanted = straight.all();
    for keys in [&["]", "]", "0"][..], &["g 100% enter", "0"], &["n", "n", "["], &["] ] [ ]", "0"]]
    {
        let mut show = Show::new();
        show.keys("space");
        for keys in keys {
            show.keys(keys);
        }
        assert!(show.second() < second);
        let ahead = second - show.second();
        show.keys(&format!("g +{ahead}s enter"));
        assert_eq!(show.second(), second);
        for (a, b) in show.all().iter().zip(&wanted) {
            assert_eq!(a, b);
        }
    }
}

#[test]
fn the_clock_obeys() {
    let mut show = Show::new();
    show.wait(3);
    assert_eq!(show.second(), 3);
    show.keys("space");
    show.wait(10);
    assert_eq!(show.second(), 3);
    show.keys(". l right");
    assert_eq!(show.second(), 6);
    show.keys("left");
    assert_eq!(show.second(), 5);
    show.keys("left left");
    assert!(show.text().contains("3 s back"), "{}", show.text());
    show.keys("right");
    assert_eq!(show.second(), 4);
    // Time goes on where it stood.
    show.keys("space +");
    show.wait(2);
    assert_eq!(show.second(), 10);
    show.keys("- - -");
    show.wait(8);
    assert_eq!(show.second(), 12);
    // One step back stops it.
    show.keys("h");
    assert!(show.text().contains("REPLAY  PAUSED 1/4x"), "{}", show.text());
    show.keys("0");
    assert_eq!(show.second(), 0);
    show.keys("left");
    assert!(show.text().contains("this is the beginning"), "{}", show.text());
    show.ask("] ]");
    show.work();
    // It has no more.
    assert_eq!(show.second(), 19);
    show.keys("[");
    assert_eq!(show.second(), 9);
    show.keys("g -2s enter");
    assert_eq!(show.second(), 7);
    show.keys("g soon enter");
    assert!(show.text().contains("\"soon\" is no time"), "{}", show.text());
    show.keys("g 1 esc");
    assert_eq!(show.second(), 7);
}

#[test]
fn a_way_can_be_broken_off() {
    let mut show = Show::new();
    show.ask("g 100% enter");
    let mut left = 3;
    // A frame's time, and then a key.
    show.player
        .work(&mut show.model, || {
            left -= 1;
            left > 0
        })
        .unwrap();
    assert!(show.player.has_work() && show.text().contains("seeking"), "{}", show.text());
    show.keys("space");
    assert!(!show.player.has_work() && !show.text().contains("seeking"), "{}", show.text());
    assert!(!show.model.replay.as_ref().unwrap().ended);
}
