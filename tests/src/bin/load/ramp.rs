//! A usage that rises as planned until it meets its limit: what forecasts are checked against.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use socklife_tests::course::Course;

use crate::say;

/// What there is more and more of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Connections that this side closes at once: entries in TIME-WAIT.
    Closed,
    /// Connections that stay.
    Held,
    /// Open files: sockets that go nowhere.
    Files,
}

/// A rate, how it changes, and when it ends.
#[derive(clap::Args)]
pub(crate) struct Ramp {
    /// What there is more and more of.
    #[arg(value_enum)]
    what: What,
    /// Where to connect to.
    #[arg(long)]
    to: SocketAddr,
    /// How many per second at first.
    #[arg(long)]
    rate: f64,
    /// The rate doubles every so many seconds.
    #[arg(long, default_value_t = f64::INFINITY)]
    doubling: f64,
    /// Before that, a tenth of the rate for so many seconds.
    #[arg(long, default_value_t = 0.0)]
    calm: f64,
    /// At random times, as many as planned on average.
    #[arg(long)]
    random: bool,
    /// This process may have so many open files.
    #[arg(long)]
    files: Option<u64>,
    /// The limit is met when the kernel counts an entry in TIME-WAIT that it had no room for.
    #[arg(long)]
    until_overflow: bool,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

/// Goes on until the first failure, or until the time is over.
pub(crate) fn ramp(ramp: &Ramp) -> Result<()> {
    ensure!(ramp.rate > 0.0 && ramp.doubling > 0.0, "--rate and --doubling are above 0");
    limit_files(ramp.files)?;
    let overflow = Arc::new(OnceLock::new());
    if ramp.until_overflow {
        watch_overflow(&overflow)?;
    }
    let Ramp { rate, doubling: doubling_s, calm: calm_s, random, .. } = *ramp;
    let course = Course { rate, doubling_s, calm_s };
    let mut plan = Plan { course, random, number: 0.0, state: u64::from(std::process::id()) };
    let mut kept: Vec<OwnedFd> = Vec::new();
    let (mut made, mut late) = (0_u64, Duration::ZERO);
    let started = Instant::now();
    say(&json!({ "pid": std::process::id() }))?;
    let failed = loop {
        let due = plan.next_s();
        if due > ramp.seconds {
            break None;
        }
        let due = Duration::from_secs_f64(due);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        if let Some(&at) = overflow.get() {
            break Some((at, "TCPTimeWaitOverflow".to_owned()));
        }
        late = late.max(started.elapsed().saturating_sub(due));
        if let Err(error) = more(ramp, &mut kept) {
            break Some((Instant::now(), expected(ramp.what, &error)?));
        }
        made += 1;
    };
    let (failed, error) = failed.unzip();
    say(&json!({
        "made": made,
        "late_s": late.as_secs_f64(),
        "failed_after_s": failed.map(|at| (at - started).as_secs_f64()),
        "error": error,
    }))
}

/// When the next one is due.
struct Plan {
    course: Course,
    random: bool,
    /// How many are due, on average.
    number: f64,
    state: u64,
}

impl Plan {
    fn next_s(&mut self) -> f64 {
        self.number += if self.random { self.gap() } else { 1.0 };
        self.course.when(self.number)
    }

    /// Of a Poisson process; by xorshift.
    fn gap(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
        let part = ((self.state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -part.ln()
    }
}

fn more(ramp: &Ramp, kept: &mut Vec<OwnedFd>) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(ramp.to), Type::STREAM, Some(Protocol::TCP))?;
    if ramp.what != What::Files {
        socket.connect(&ramp.to.into())?;
    }
    if ramp.what != What::Closed {
        kept.push(socket.into());
    }
    Ok(())
}

/// The failure that this is about; any other one ends it all.
fn expected(what: What, error: &std::io::Error) -> Result<String> {
    let wanted = if what == What::Files { Errno::EMFILE } else { Errno::EADDRNOTAVAIL };
    ensure!(error.raw_os_error() == Some(wanted as i32), "not the failure to come: {error}");
    Ok(format!("{wanted:?}"))
}

/// To what was asked for, else as far up as is allowed.
fn limit_files(files: Option<u64>) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files.unwrap_or(most), most).context("RLIMIT_NOFILE")
}

/// Notes when the kernel's counter goes up.
fn watch_overflow(at: &Arc<OnceLock<Instant>>) -> Result<()> {
    let (before, at) = (overflows()?, Arc::clone(at));
    std::thread::spawn(move || {
        // What can't be read any more counts as no change: the time is bounded anyway.
        while overflows().is_ok_and(|now| now == before) {
            std::thread::sleep(Duration::from_millis(2));
        }
        at.get_or_init(Instant::now);
    });
    Ok(())
}

/// `TCPTimeWaitOverflow`: two lines that begin alike, names in the first and values in the second.
fn overflows() -> Result<u64> {
    let path = "/proc/thread-self/net/netstat";
    let text = std::fs::read_to_string(path).context(path)?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = lines.next().zip(lines.next()).context(path)?;
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(name, _)| *name == "TCPTimeWaitOverflow").context(path)?;
    Ok(value.parse()?)
}
