//! The terminal: taken, drawn on, and given back however the program ends. Nothing in here waits for a
//! terminal that takes no output, so that keys and signals are always heard.

use std::{
    cell::RefCell,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Once,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        Command,
        cursor::Show,
        terminal::{
            Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
            LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        },
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::{Errno, dup, write},
    stdio,
    termios::{isatty, ttyname},
};

/// How long a terminal may take nothing when it is given back.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a frame is drawn into before it goes to the terminal.
#[derive(Clone, Debug, Default)]
struct Page(Rc<RefCell<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal, taken until this is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Page>>,
    page: Page,
    tty: OwnedFd,
    /// What of the page the terminal has taken.
    written: usize,
    /// It was given back.
    left: bool,
}

impl Screen {
    /// Takes the terminal that standard output is. `instead`: what prints the like where it is none.
    ///
    /// # Errors
    /// It is none.
    pub fn take(instead: &str) -> Result<Self> {
        if !isatty(stdio::stdout()) {
            bail!("standard output is no terminal, which the live view needs; {instead}");
        }
        // What nobody else writes to may be told not to wait.
        let own = ttyname(stdio::stdout(), Vec::new()).and_then(|name| {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            open(name, flags, Mode::empty())
        });
        let tty = own.or_else(|_| dup(stdio::stdout())).context("the terminal can't be opened")?;
        restore_on_panic();
        let page = Page::default();
        let terminal = new_terminal(&page)?;
        let mut screen = Self { terminal, page, tty, written: 0, left: true };
        screen.enter()?;
        Ok(screen)
    }

    /// Takes the terminal, or takes it again.
    ///
    /// # Errors
    /// It refuses.
    pub fn enter(&mut self) -> Result<()> {
        enable_raw_mode().context("the terminal can't be switched to single keys")?;
        self.left = false;
        self.command(EnterAlternateScreen);
        self.command(DisableLineWrap);
        self.command(Clear(ClearType::All));
        // A new one draws all of its first frame; clear() would ask the terminal where its cursor is.
        self.terminal = new_terminal(&self.page)?;
        Ok(())
    }

    /// Gives it back, for a time or for good.
    pub fn leave(&mut self) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        self.command(EnableLineWrap);
        self.command(LeaveAlternateScreen);
        self.command(Show);
        let deadline = Instant::now() + LAST_WORDS;
        while self.send().is_ok_and(|all| !all) && Instant::now() < deadline {
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            // Whether it takes something is found out by trying.
            let _ = poll(&mut [PollFd::new(&self.tty, PollFlags::OUT)], Some(&wait));
        }
        // A terminal that is gone needs no mode.
        let _ = disable_raw_mode();
    }

    /// Draws a frame and gives the terminal what it takes of it; whether that was all.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> Result<bool> {
        self.terminal.draw(view).context("can't draw")?;
        self.send()
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn size(&self) -> Result<(u16, u16)> {
        let size = self.terminal.size().context("the terminal doesn't tell its size")?;
        Ok((size.width, size.height))
    }

    /// Gives the terminal what it takes of the last frames; whether that was all.
    ///
    /// # Errors
    /// It is gone.
    pub fn send(&mut self) -> Result<bool> {
        let mut page = self.page.0.borrow_mut();
        while self.written < page.len() {
            match write(self.tty.as_fd(), &page[self.written..]) {
                Ok(taken) => self.written += taken,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => bail!("the terminal is gone: {error}"),
            }
        }
        page.clear();
        self.written = 0;
        Ok(true)
    }

    fn command(&mut self, command: impl Command) {
        let mut text = String::new();
        // Writing into memory can't fail.
        let _ = command.write_ansi(&mut text);
        let _ = self.page.write_all(text.as_bytes());
    }
}

fn new_terminal(page: &Page) -> Result<Terminal<CrosstermBackend<Page>>> {
    let backend = CrosstermBackend::new(page.clone());
    Terminal::new(backend).context("the terminal doesn't tell its size")
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A message of a panic is worth nothing on a screen that is about to vanish.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let message = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let mut text = String::new();
            // Writing into memory can't fail.
            let _ = EnableLineWrap.write_ansi(&mut text);
            let _ = LeaveAlternateScreen.write_ansi(&mut text);
            let _ = Show.write_ansi(&mut text);
            // It can't be told to anybody if this fails.
            let _ = write(stdio::stdout(), text.as_bytes());
            let _ = disable_raw_mode();
            message(panic);
        }));
    });
}
