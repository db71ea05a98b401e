//! No size of a terminal breaks the view.

use ratatui::layout::Rect;

use super::{ASCII, FULL, build, draw, press, screen, showing, tail};
use crate::tui::{message::Message, update::update};

#[test]
fn any_size_can_be_drawn() {
    let shots = [build::calm(), build::later(build::several(), 1), build::later(build::lossy(), 2)];
    let mut blind = build::later(build::several(), 3);
    blind.ground.blind = build::blind().ground.blind;
    for look in [FULL, ASCII] {
        let mut model = showing(look, shots.iter().cloned().chain([blind.clone()]));
        model.tail = tail::tail(30, b"nginx");
        for keys in [
            "1",
            "j j j j",
            "enter",
            "esc esc space",
            "2",
            "/ 9 enter",
            "enter",
            "? G",
            "esc esc 3 G",
            "enter G",
            "4 g",
            "f",
            "/ refused enter",
            "5 G",
            "1 / zzz",
        ] {
            press(&mut model, keys);
            // Steps without a common divisor: all widths meet all heights in the course of time.
            let spread = (0..60).map(|step: u16| (1 + step * 37 % 250, 1 + step * 23 % 60));
            let edges =
                [(39, 9), (39, 10), (40, 9), (40, 10), (40, 11), (41, 12), (80, 13), (250, 60)];
            for (columns, rows) in spread.chain(edges) {
                update(&mut model, Message::Resize(columns, rows));
                assert_eq!(draw(&model, columns, rows).area, Rect::new(0, 0, columns, rows));
                press(&mut model, "ctrl-d k");
            }
        }
    }
}

#[test]
fn a_tiny_terminal_says_so() {
    let model = showing(FULL, [build::incident()]);
    let text = screen(&model, 39, 10);
    assert!(text.starts_with("CRITICAL\nterminal too small:\n40 by 10 at least\n"), "{text}");
    assert!(screen(&model, 40, 10).contains("CRITICAL  nginx[1234]"));
}

#[test]
fn the_worst_stands_on_the_narrowest_terminal() {
    for columns in [40, 50, 60, 80, 120, 200] {
        let text = screen(&showing(FULL, [build::lossy()]), columns, 12);
        assert!(text.contains("CRITICAL") && text.contains("LOST 3,204"), "{text}");
        let text = screen(&showing(FULL, [build::incident()]), columns, 24);
        assert!(text.contains("10.0.0.9:9001") && text.contains("what to do"), "{text}");
    }
}
