//! What a case is made of, and the ground that all stand on.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    net::load_binary,
    process::{Process, run},
    wait_for,
};

use crate::{machine, watch::Seen};

/// Looks at what was seen while a case was made.
pub(crate) type Check = Box<dyn FnOnce(&Seen) -> Result<()>>;

/// Makes a case.
pub(crate) type Make = Box<dyn FnOnce(&mut Ground) -> Result<Done>>;

/// Something that is made in a known number, and how what socklife says about it is judged.
pub(crate) struct Case {
    /// Its name; `--test` selects by a part of it.
    pub(crate) name: String,
    /// The event of `socklife features` that must have a hook for it to be seen.
    pub(crate) event: &'static str,
    /// Makes it, to its end.
    pub(crate) make: Make,
}

/// A case that was made.
pub(crate) struct Done {
    /// What it needed running. How this ends is no part of the case.
    pub(crate) servers: Vec<Process>,
    /// What must have been seen.
    pub(crate) check: Check,
}

/// An address family as an application uses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// IPv4 through an IPv6 socket.
    Mapped,
}

/// All of them.
pub(crate) const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];

impl Family {
    /// For names of tests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
            Self::Mapped => "v4_mapped",
        }
    }

    /// The loopback address on the wire.
    pub(crate) fn loopback(self) -> IpAddr {
        if self == Self::V6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
    }

    /// The version that socklife shows.
    pub(crate) fn version(self) -> u8 {
        if self == Self::V6 { 6 } else { 4 }
    }
}

/// Local ports to connect from.
pub(crate) const RANGE: (u16, u16) = (40_000, 40_063);

/// The network that the cases run in.
pub(crate) struct Ground {
    /// Its namespace.
    pub(crate) netns: u64,
    next_port: u16,
}

impl Ground {
    /// Sets the sysctls that the cases count on.
    pub(crate) fn prepare() -> Result<Self> {
        let range = format!("{} {}", RANGE.0, RANGE.1);
        for (name, value) in [("ip_local_port_range", range.as_str()), ("tcp_syn_retries", "1")] {
            let path = format!("/proc/sys/net/ipv4/{name}");
            fs::write(&path, value).with_context(|| path.clone())?;
        }
        let netns = fs::metadata("/proc/self/ns/net").context("/proc/self/ns/net")?.ino();
        Ok(Self { netns, next_port: 10_000 })
    }

    /// A port that no case before has used: TIME-WAIT sockets of earlier cases hold their tuples.
    pub(crate) fn port(&mut self) -> u16 {
        self.next_port += 2;
        self.next_port
    }

    /// `socklife-load serve`, listening when this returns.
    pub(crate) fn serve(mode: &str, at: SocketAddr) -> Result<Process> {
        let mut command = Command::new(load_binary());
        command.args(["serve", "--mode", mode, "--listen", &at.to_string()]);
        Process::start_ready(&mut command)
    }

    /// `socklife-load fail` to its end; checks that the callers saw what they should.
    pub(crate) fn load(
        how: &str,
        family: Family,
        to: u16,
        count: u32,
        seen: &[(&str, u32)],
    ) -> Result<Made> {
        let to = SocketAddr::new(family.loopback(), to);
        let mut command = Command::new(load_binary());
        command.args(["fail", how, "--to", &to.to_string(), "--count", &count.to_string()]);
        command.args(["--sport", "45000"]);
        if family == Family::Mapped {
            command.arg("--mapped");
        }
        let printed = run(&mut command)?;
        let printed: Value =
            serde_json::from_str(&printed).context("what socklife-load printed")?;
        for (outcome, count) in seen {
            ensure!(
                printed["outcomes"][outcome] == *count,
                "the callers saw something else: {printed}"
            );
        }
        let pid = printed["pid"].as_u64().context("socklife-load says no pid")?;
        Ok(Made { pid, family, to })
    }

    /// Waits until no socket is left but those that only time ends.
    pub(crate) fn quiet() -> Result<()> {
        wait_for("all sockets to be closed", || {
            Ok(sockets()?.iter().all(|socket| socket.state == TIME_WAIT).then_some(()))
        })?;
        // The kernel takes a socket out of its list before it tells of the last state.
        machine::wait_for_softirqs()
    }
}

/// Connects that a process made.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    /// The process.
    pub(crate) pid: u64,
    /// How it addressed the peer.
    pub(crate) family: Family,
    /// The peer.
    pub(crate) to: SocketAddr,
}

/// TIME-WAIT, in `/proc/net/tcp`.
pub(crate) const TIME_WAIT: u8 = 6;

/// A line of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Copy)]
pub(crate) struct Listed {
    /// Its local port.
    pub(crate) local: u16,
    /// Its remote port.
    pub(crate) remote: u16,
    /// Its state.
    pub(crate) state: u8,
}

/// All TCP sockets in this namespace.
pub(crate) fn sockets() -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let port = |index: usize| -> Option<u16> {
                u16::from_str_radix(words.get(index)?.rsplit(':').next()?, 16).ok()
            };
            let state = words.get(3).and_then(|word| u8::from_str_radix(word, 16).ok());
            let (Some(local), Some(remote), Some(state)) = (port(1), port(2), state) else {
                continue;
            };
            all.push(Listed { local, remote, state });
        }
    }
    Ok(all)
}
