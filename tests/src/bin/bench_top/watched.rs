//! The live view in a terminal, looked at from outside.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use socklife_tests::{net::Namespace, tmux::Terminal};
use tempfile::TempDir;

/// A terminal of which one part shows nothing but the view.
const SIZE: (u16, u16) = (200, 50);

/// A word that only the pane of the kernel has.
const KERNEL: &str = "longest";

/// What a process has used so far.
pub(crate) struct Usage {
    /// Seconds of a processor.
    pub(crate) cpu_s: f64,
    /// Bytes.
    pub(crate) resident: u64,
    /// The most of them that there were.
    pub(crate) resident_most: u64,
}

/// What the view says of itself.
pub(crate) struct Kernel {
    /// The last frame.
    pub(crate) frame_us: Option<f64>,
    /// The longest one of the last minute.
    pub(crate) longest_us: Option<f64>,
    /// Events were lost.
    pub(crate) lost: bool,
}

/// A live view of a network namespace.
pub(crate) struct Watched {
    terminal: Terminal,
    pid: u32,
    _directory: TempDir,
}

impl Watched {
    /// Opens it, and waits until it has listed the sockets.
    pub(crate) fn open(namespace: &Namespace, program: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let terminal = Terminal::open(SIZE, directory.path(), &[])?;
        let program = program.canonicalize().context("socklife is not built")?;
        let program = program.to_string_lossy();
        terminal.run(&[&program, "top", "--netns", &namespace.path()])?;
        let pid = terminal.program()?;
        terminal.wait("the live view", |screen| screen.contains("Overview"))?;
        terminal.keys(&["2"])?;
        terminal.wait("the upstreams", |screen| screen.matches(" 127.0.").count() > 30)?;
        Ok(Self { terminal, pid, _directory: directory })
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let file = |name: &str| {
            let path = format!("/proc/{}/{name}", self.pid);
            fs::read_to_string(&path).with_context(|| path)
        };
        let stat = file("stat")?;
        let (_, words) = stat.rsplit_once(") ").context("stat")?;
        let words: Vec<&str> = words.split(' ').collect();
        // utime and stime, in ticks of 10 ms.
        let ticks: f64 = words[11].parse::<f64>()? + words[12].parse::<f64>()?;
        let status = file("status")?;
        let bytes = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()).context("status")?;
            Ok(kib.parse::<u64>()? * 1024)
        };
        Ok(Usage {
            cpu_s: ticks / 100.0,
            resident: bytes("VmRSS:")?,
            resident_most: bytes("VmHWM:")?,
        })
    }

    /// Opens one pane after the other: how long it takes each time until the screen shows it, in
    /// milliseconds, with the time that tmux takes to tell.
    pub(crate) fn keys(&self, count: u32) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for index in 0..count {
            let kernel = index % 2 == 0;
            let begun = Instant::now();
            self.terminal.keys(&[if kernel { "5" } else { "2" }])?;
            while self.terminal.screen()?.contains(KERNEL) != kernel {
                ensure!(begun.elapsed() < Duration::from_secs(10), "a key is not answered");
            }
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(times)
    }

    /// What it says of itself now.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        self.terminal.keys(&["5"])?;
        let screen = self.terminal.wait("the kernel's pane", |screen| screen.contains(KERNEL))?;
        let line = screen.lines().find(|line| line.contains(KERNEL)).unwrap_or_default();
        let (first, last) = line.split_once(KERNEL).unwrap_or_default();
        Ok(Kernel {
            frame_us: microseconds(first),
            longest_us: microseconds(last),
            lost: screen.contains("LOST"),
        })
    }

    /// Ends it.
    pub(crate) fn quit(self) -> Result<()> {
        self.terminal.keys(&["q"])?;
        self.terminal.shell("true").map(drop)
    }
}

/// The first time in a text, such as `1.2ms` or `340 us`.
fn microseconds(text: &str) -> Option<f64> {
    let begin = text.find(|c: char| c.is_ascii_digit())?;
    let text = &text[begin..];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')?;
    let number: f64 = text[..end].replace(',', "").parse().ok()?;
    let unit = text[end..].trim_start();
    Some(match unit {
        _ if unit.starts_with("ms") => number * 1e3,
        _ if unit.starts_with("ns") => number / 1e3,
        _ if unit.starts_with('s') => number * 1e6,
        _ => number,
    })
}
