//! What becomes of the terminal: a pseudoterminal, with us at its other end.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};
use socklife::tui::screen::Screen;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// A program on a terminal of its own.
struct OnTerminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    before: Termios,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { child, master: master.into(), slave, before }
    }

    /// Collects what it prints from now on.
    fn collect(&self) -> Arc<Mutex<String>> {
        let mut master = self.master.try_clone().unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut part) {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                *all += &String::from_utf8_lossy(&part[..length]);
            }
        });
        text
    }

    /// Its exit code.
    fn end(&mut self) -> Option<i32> {
        wait_for("its end", || self.child.try_wait().unwrap()).code()
    }

    fn is_as_before(&self) -> bool {
        let now = tcgetattr(self.slave.as_fd()).unwrap();
        (now.input_flags, now.output_flags, now.local_flags, now.control_flags)
            == (
                self.before.input_flags,
                self.before.output_flags,
                self.before.local_flags,
                self.before.control_flags,
            )
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(ready) = ready() {
            return ready;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn shows(text: &Mutex<String>, what: &str) -> bool {
    text.lock().unwrap_or_else(PoisonError::into_inner).contains(what)
}

fn live_view() -> OnTerminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_socklife"));
    command.arg("top").env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
    OnTerminal::start(command)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn signals_give_the_terminal_back() {
    for asked in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut view = live_view();
        let text = view.collect();
        wait_for("the first frame", || shows(&text, "Overview").then_some(()));
        assert!(!view.is_as_before(), "it takes single keys");
        signal(&view.child, asked);
        assert_eq!(view.end(), Some(0), "{asked}");
        wait_for("the end of its output", || shows(&text, LEAVE).then_some(()));
        assert!(shows(&text, SHOW_CURSOR) && view.is_as_before(), "{asked}");
    }
}

/// A terminal that takes no output keeps no signal from being heard.
#[test]
fn a_stalled_terminal_does_not_hold_it() {
    let mut view = live_view();
    let mut begun = String::new();
    let mut part = [0; 256];
    while !begun.contains(ENTER) {
        let length = view.master.read(&mut part).unwrap();
        begun += &String::from_utf8_lossy(&part[..length]);
    }
    // Nobody reads any more. Each key asks for another frame, more than the terminal holds.
    for _ in 0..100 {
        for key in b"12345" {
            view.master.write_all(&[*key]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&view.child, Signal::SIGTERM);
    assert_eq!(view.end(), Some(0));
    assert!(view.is_as_before());
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "panics_on_the_screen"]);
    let mut panicking = OnTerminal::start(command);
    let text = panicking.collect();
    assert_eq!(panicking.end(), Some(101));
    wait_for("its message", || shows(&text, "on purpose").then_some(()));
    let text = text.lock().unwrap().clone();
    let (enter, leave) = (text.find(ENTER).unwrap(), text.find(LEAVE).unwrap());
    let message = text.find("on purpose").unwrap();
    assert!(enter < leave && leave < message, "{text:?}");
    assert!(panicking.is_as_before());
}

#[test]
#[ignore = "only a part of another test"]
fn panics_on_the_screen() {
    let mut screen = Screen::take("").unwrap();
    screen.draw(|_| {}).unwrap();
    panic!("on purpose");
}
