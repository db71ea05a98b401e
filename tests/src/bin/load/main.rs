//! Makes known numbers of TCP connections and failures, and says which errno each call saw: the
//! truth that the tests and the benchmark check against.

mod serve;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::serve::{Mode, serve};

/// Makes known numbers of TCP connections and failures.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Accept connections, and do with them what the mode says, until killed.
    Serve {
        /// Where to listen.
        #[arg(long)]
        listen: Vec<SocketAddr>,
        /// What to do with a connection.
        #[arg(long, value_enum)]
        mode: Mode,
    },
    /// Connect and close with a reset, as fast as one thread can, to 64 loopback addresses, with one
    /// acceptor that does the same.
    Churn {
        /// How many connections.
        #[arg(long)]
        connections: u64,
    },
    /// Make connects that fail, and print how each ended.
    Fail {
        /// How.
        #[arg(value_enum)]
        how: How,
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// Go to an IPv4 address through an IPv6 socket.
        #[arg(long)]
        mapped: bool,
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// The local port for a collision, or to bind to.
        #[arg(long, default_value_t = 0)]
        sport: u16,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// Connect and hold until no port is free, then `count` more.
    Exhaust,
    /// Bind to a port that is taken for this destination, then connect.
    Collide,
    /// The same, where the port came from `bind()` with port 0.
    CollideAuto,
    /// Connect; fails at once.
    Plain,
    /// Connect without waiting; wait for the error.
    Wait,
    /// Connect without waiting; close while connecting.
    Abandon,
    /// Connect without waiting; disconnect (`AF_UNSPEC`) while connecting.
    Disconnect,
    /// Connect, send a byte, and read until the peer resets.
    Reset,
    /// Connect and close.
    CloseFirst,
    /// Connect, read until the peer has closed, and close.
    CloseLast,
    /// On one socket: a connect to `to` that is refused, then `count` more, which find no port.
    Reuse,
}

fn main() -> Result<()> {
    match Cli::parse().load {
        Load::Serve { listen, mode } => serve(&listen, mode),
        Load::Churn { connections } => churn(connections),
        Load::Fail { how, to, mapped, count, sport } => {
            let target = if mapped { through_v6(to)? } else { to };
            fail(how, target, count, sport)
        }
    }
}

fn through_v6(to: SocketAddr) -> Result<SocketAddr> {
    match to.ip() {
        IpAddr::V4(v4) => Ok(SocketAddr::new(v4.to_ipv6_mapped().into(), to.port())),
        IpAddr::V6(_) => bail!("--mapped wants an IPv4 address"),
    }
}

fn tcp(to: SocketAddr) -> Result<Socket> {
    Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).context("socket()")
}

#[expect(clippy::print_stdout, reason = "this is what the tool is for")]
fn say(what: &serde_json::Value) -> Result<()> {
    println!("{what}");
    std::io::stdout().flush().context("standard output")
}

fn churn(connections: u64) -> Result<()> {
    let listener = tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    listener.listen(4096)?;
    let port = listener.local_addr()?.as_socket().context("no address")?.port();
    // It never sleeps: in a virtual machine waking an idle CPU costs more than a connection.
    listener.set_nonblocking(true)?;
    let acceptor = std::thread::spawn(move || -> Result<()> {
        let mut left = connections;
        while left > 0 {
            match listener.accept() {
                Ok((connection, _)) => connection.set_linger(Some(Duration::ZERO))?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("accept()"),
            }
            left -= 1;
        }
        Ok(())
    });
    let started = Instant::now();
    for index in 0..connections {
        let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (index % 64) as u8), port));
        let socket = tcp(to)?;
        match socket.connect(&to.into()) {
            // The acceptor may be faster than this call's return.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            result => result.context("connect()")?,
        }
        socket.set_linger(Some(Duration::ZERO))?;
    }
    let Ok(accepted) = acceptor.join() else { bail!("the acceptor failed") };
    accepted?;
    let seconds = started.elapsed().as_secs_f64();
    say(&json!({ "connections": connections, "seconds": seconds }))
}

/// How often each errno came, by name; "ok" for none.
#[derive(Default)]
struct Outcomes(BTreeMap<String, u32>);

impl Outcomes {
    fn note(&mut self, result: &std::io::Result<()>) {
        let name = match result {
            Ok(()) => "ok".to_owned(),
            Err(error) => error
                .raw_os_error()
                .map_or_else(|| error.to_string(), |raw| format!("{:?}", Errno::from_raw(raw))),
        };
        *self.0.entry(name).or_default() += 1;
    }
}

fn fail(how: How, to: SocketAddr, count: u32, sport: u16) -> Result<()> {
    let mut outcomes = Outcomes::default();
    match how {
        How::Exhaust => exhaust(to, count, &mut outcomes)?,
        How::Collide => collide(to, count, sport, &mut outcomes)?,
        How::CollideAuto => collide_auto(to, count, &mut outcomes)?,
        How::Plain => {
            for _ in 0..count {
                outcomes.note(&tcp(to)?.connect(&to.into()));
            }
        }
        How::Wait | How::Abandon | How::Disconnect => under_way(how, to, count, &mut outcomes)?,
        How::Reset => {
            for _ in 0..count {
                let socket = tcp(to)?;
                socket.connect(&to.into()).context("connect()")?;
                socket.send(b"x").context("send()")?;
                outcomes.note(&(&socket).read(&mut [0]).map(drop));
            }
        }
        How::CloseFirst | How::CloseLast => {
            for _ in 0..count {
                let socket = tcp(to)?;
                outcomes.note(&socket.connect(&to.into()));
                if how == How::CloseLast {
                    while (&socket).read(&mut [0; 64]).context("read()")? > 0 {}
                }
            }
        }
        How::Reuse => reuse(to, count, &mut outcomes)?,
    }
    say(&json!({ "pid": std::process::id(), "outcomes": outcomes.0 }))
}

fn exhaust(to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    let mut held = Vec::new();
    loop {
        let socket = tcp(to)?;
        let result = socket.connect(&to.into());
        outcomes.note(&result);
        match result {
            Ok(()) => held.push(socket),
            Err(_) if outcomes.0.iter().any(|(name, n)| name != "ok" && *n >= count) => {
                break;
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn collide(to: SocketAddr, count: u32, sport: u16, outcomes: &mut Outcomes) -> Result<()> {
    let bound = || -> Result<Socket> {
        let socket = tcp(to)?;
        socket.set_reuse_address(true)?;
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        socket.bind(&SocketAddr::new(any.parse()?, sport).into()).context("bind()")?;
        Ok(socket)
    };
    let holder = bound()?;
    holder.connect(&to.into()).context("the first connect()")?;
    for _ in 0..count {
        outcomes.note(&bound()?.connect(&to.into()));
    }
    Ok(())
}

/// The port comes from `bind()` with port 0, and another socket takes the same 4-tuple first.
fn collide_auto(to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    for _ in 0..count {
        let late = tcp(to)?;
        late.set_reuse_address(true)?;
        late.bind(&SocketAddr::new(any.parse()?, 0).into()).context("bind(0)")?;
        let early = tcp(to)?;
        early.set_reuse_address(true)?;
        early.bind(&late.local_addr()?).context("bind()")?;
        early.connect(&to.into()).context("the first connect()")?;
        outcomes.note(&late.connect(&to.into()));
    }
    Ok(())
}

/// Connects that don't end by themselves at once.
fn under_way(how: How, to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = tcp(to)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            other => bail!("a connect that should be under way: {other:?}"),
        }
        sockets.push(socket);
    }
    for socket in sockets {
        match how {
            How::Abandon => outcomes.note(&Ok(())),
            How::Disconnect => {
                // SAFETY: an address of family AF_UNSPEC (0) and no more than that.
                let unspecified =
                    unsafe { socket2::SockAddr::new(MaybeUninit::zeroed().assume_init(), 16) };
                outcomes.note(&socket.connect(&unspecified));
            }
            _ => {
                // Hung up is closed. Asked for earlier, the error is taken off the socket before the
                // tracepoint sees it (tcp_write_err() wakes us before it closes).
                let mut polled = [PollFd::new(socket.as_fd(), PollFlags::empty())];
                poll(&mut polled, PollTimeout::from(60_000_u16))?;
                let Some(error) = socket.take_error()? else {
                    bail!("still connecting after a minute");
                };
                outcomes.note(&Err(error));
            }
        }
    }
    Ok(())
}

/// One socket: refused first (at the port above `to`'s), then out of ports toward `to`.
fn reuse(to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    let closed = SocketAddr::new(to.ip(), to.port() + 1);
    let mut held = Vec::new();
    loop {
        let socket = tcp(to)?;
        outcomes.note(&socket.connect(&closed.into()));
        let result = socket.connect(&to.into());
        outcomes.note(&result);
        if result.is_err() {
            for _ in 1..count {
                outcomes.note(&socket.connect(&to.into()));
            }
            return Ok(());
        }
        held.push(socket);
    }
}
