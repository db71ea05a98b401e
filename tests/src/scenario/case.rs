//! What a case is made of, and the ground that all stand on.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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

/// Starts what must be there before the tracers are.
pub(crate) type Before = Box<dyn FnOnce(&mut Ground) -> Result<()>>;

/// Something that is made in a known number, and how what socklife says about it is judged.
pub(crate) struct Case {
    /// Its name; `--test` selects by a part of it.
    pub(crate) name: String,
    /// The event of `socklife features` that must have a hook for it to be seen.
    pub(crate) event: &'static str,
    /// Its calls are made by `io_uring`.
    pub(crate) through_uring: bool,
    /// What must be there before the tracers are.
    pub(crate) before: Option<Before>,
    /// Makes it, to its end.
    pub(crate) make: Make,
}

impl Case {
    pub(crate) fn new(
        name: String,
        event: &'static str,
        make: impl FnOnce(&mut Ground) -> Result<Done> + 'static,
    ) -> Self {
        Self { name, event, through_uring: false, before: None, make: Box::new(make) }
    }

    pub(crate) fn through_uring(self) -> Self {
        Self { through_uring: true, ..self }
    }
}

/// A case that was made.
pub(crate) struct Done {
    /// What it needed running. How this ends is no part of the case.
    pub(crate) servers: Vec<Process>,
    /// What must have been seen.
    pub(crate) check: Check,
    /// The same where this rung can't see it: what must not have been said.
    pub(crate) unseen: Check,
}

impl Done {
    /// Where it can't be seen, no failure may be.
    pub(crate) fn new(
        servers: impl IntoIterator<Item = Process>,
        check: impl FnOnce(&Seen) -> Result<()> + 'static,
    ) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            check: Box::new(check),
            unseen: Box::new(Seen::none_failed),
        }
    }
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

    /// An address of this host that no other family's sockets use.
    pub(crate) fn unused(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(127, 0, 0, 14).into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
            Self::Mapped => Ipv4Addr::new(127, 0, 0, 16).into(),
        }
    }

    /// An address that this host neither has nor has a route to.
    pub(crate) fn foreign(self) -> IpAddr {
        if self == Self::V6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
        } else {
            Ipv4Addr::new(192, 0, 2, 1).into()
        }
    }

    /// The version that socklife shows.
    pub(crate) fn version(self) -> u8 {
        if self == Self::V6 { 6 } else { 4 }
    }
}

/// Local ports to connect from.
pub(crate) const RANGE: (u16, u16) = (40_000, 40_063);

fn set_range((first, last): (u16, u16)) -> Result<()> {
    machine::sysctl("ip_local_port_range", &format!("{first} {last}"))
}

/// The network that the cases run in.
pub(crate) struct Ground {
    /// Its namespace.
    pub(crate) netns: u64,
    /// On an emulated CPU, some thirty times slower.
    pub(crate) emulated: bool,
    /// Ports of connections that shall stay for now.
    pub(crate) standing: Vec<u16>,
    next_port: u16,
}

impl Ground {
    /// Sets the sysctls that the cases count on.
    pub(crate) fn prepare(emulated: bool) -> Result<Self> {
        set_range(RANGE)?;
        machine::sysctl("tcp_syn_retries", "1")?;
        let netns = machine::netns()?;
        Ok(Self { netns, emulated, standing: Vec::new(), next_port: 10_000 })
    }

    /// Has other local ports for a while.
    pub(crate) fn with_range<T>(range: (u16, u16), work: impl FnOnce() -> Result<T>) -> Result<T> {
        set_range(range)?;
        let done = work();
        set_range(RANGE)?;
        done
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

    /// `socklife-load fail` toward a port of the loopback address.
    pub(crate) fn load(
        how: &str,
        family: Family,
        to: u16,
        count: u32,
        seen: &[(&str, u32)],
    ) -> Result<Made> {
        Self::load_at(how, family, SocketAddr::new(family.loopback(), to), count, seen)
    }

    /// `socklife-load fail` to its end; checks that the callers saw what they should.
    pub(crate) fn load_at(
        how: &str,
        family: Family,
        to: SocketAddr,
        count: u32,
        seen: &[(&str, u32)],
    ) -> Result<Made> {
        let mut command = Self::load_command("fail", family, to, count);
        command.args([how, "--sport", "45000"]);
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
        let listed = printed["pids"].as_array().map_or(&[][..], Vec::as_slice);
        let pids = listed.iter().filter_map(Value::as_u64).collect();
        Ok(Made { pid, pids, family, to })
    }

    /// `socklife-load hold`, with its connections begun when this returns.
    pub(crate) fn hold(family: Family, to: u16, count: u32, then: &str) -> Result<Process> {
        let to = SocketAddr::new(family.loopback(), to);
        let mut command = Self::load_command("hold", family, to, count);
        Process::start_ready(command.args(["--then", then]))
    }

    fn load_command(what: &str, family: Family, to: SocketAddr, count: u32) -> Command {
        let mut command = Command::new(load_binary());
        command.args([what, "--to", &to.to_string(), "--count", &count.to_string()]);
        if family == Family::Mapped {
            command.arg("--mapped");
        }
        command
    }

    /// Waits until no socket is left but those that only time ends, and those that shall stay.
    pub(crate) fn quiet(&self) -> Result<()> {
        wait_for("all sockets to be closed", || {
            let done = |socket: &Listed| {
                socket.state == TIME_WAIT || self.standing.iter().any(|&port| socket.is_of(port))
            };
            Ok(sockets()?.iter().all(done).then_some(()))
        })?;
        // The kernel takes a socket out of its list before it tells of the last state.
        machine::wait_for_softirqs()
    }

    /// Waits until the connections of a listener have ended.
    pub(crate) fn ended(listener: u16) -> Result<()> {
        let done = |socket: &Listed| {
            [TIME_WAIT, LISTEN].contains(&socket.state) || !socket.is_of(listener)
        };
        wait_for("the connections to be closed", || Ok(sockets()?.iter().all(done).then_some(())))
            .with_context(|| {
                let left = sockets().unwrap_or_default().into_iter().filter(|it| !done(it));
                format!("left: {:?}", left.take(20).collect::<Vec<_>>())
            })?;
        machine::wait_for_softirqs()
    }
}

/// Calls that a process made.
#[derive(Clone)]
pub(crate) struct Made {
    /// The process.
    pub(crate) pid: u64,
    /// Those that it started, where they made the calls.
    pub(crate) pids: Vec<u64>,
    /// How it addressed the peer.
    pub(crate) family: Family,
    /// The peer.
    pub(crate) to: SocketAddr,
}

/// TIME-WAIT, in `/proc/net/tcp`.
pub(crate) const TIME_WAIT: u8 = 6;

/// LISTEN, likewise.
const LISTEN: u8 = 10;

/// A line of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    /// Its local port.
    pub(crate) local: u16,
    /// Its remote port.
    pub(crate) remote: u16,
    /// Its state.
    pub(crate) state: u8,
}

impl Listed {
    fn is_of(self, port: u16) -> bool {
        self.local == port || self.remote == port
    }
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
