//! Calls that fail, and connections that end, each in a known number.

use std::{
    collections::BTreeMap,
    io::Read,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use io_uring::{IoUring, opcode, types::Fd};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, setrlimit},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{say, tcp};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
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
    /// Connect without waiting; when that is refused, connect again without asking for the error.
    Again,
    /// Bind to `to`.
    Bind,
    /// Bind to port 0 of `to` and hold until no port is free, then `count` more.
    BindAll,
    /// Open sockets until no descriptor is free, then `count` more.
    Descriptors,
    /// Accept at a listener, with no descriptor free.
    Accept,
    /// In a process each: connect; fails at once.
    Processes,
    /// Connect by `io_uring`; fails at once.
    Uring,
}

/// How often each errno came, by name; "ok" for none.
#[derive(Default)]
pub(crate) struct Outcomes(pub(crate) BTreeMap<String, u32>);

impl Outcomes {
    pub(crate) fn note(&mut self, result: &std::io::Result<()>) {
        let name = match result {
            Ok(()) => "ok".to_owned(),
            Err(error) => error
                .raw_os_error()
                .map_or_else(|| error.to_string(), |raw| format!("{:?}", Errno::from_raw(raw))),
        };
        *self.0.entry(name).or_default() += 1;
    }
}

/// Makes them and prints how they ended.
pub(crate) fn fail(how: How, to: SocketAddr, count: u32, sport: u16) -> Result<()> {
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
        How::Again => again(to, count, &mut outcomes)?,
        How::Bind => {
            for _ in 0..count {
                outcomes.note(&tcp(to)?.bind(&to.into()));
            }
        }
        How::BindAll => {
            until_failed(count, &mut outcomes, || {
                let socket = tcp(to).map_err(std::io::Error::other)?;
                socket.bind(&SocketAddr::new(to.ip(), 0).into()).map(|()| socket)
            });
        }
        How::Descriptors => {
            few_descriptors()?;
            until_failed(count, &mut outcomes, || {
                Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
            });
        }
        How::Accept => {
            let listener = tcp(to)?;
            listener.bind(&to.into()).context("bind()")?;
            listener.listen(16)?;
            let client = tcp(to)?;
            client.connect(&to.into()).context("connect()")?;
            let limit = few_descriptors()?;
            let mut files = Vec::new();
            // The lowest free number comes first. None is asked for in vain, which would count.
            while files.last().map_or(0, AsRawFd::as_raw_fd) + 1 < limit {
                files.push(client.try_clone().context("dup()")?);
            }
            for _ in 0..count {
                outcomes.note(&listener.accept().map(drop));
            }
            // What nobody has accepted would be reset.
            drop((files, client));
            listener.accept().context("accept()")?;
        }
        How::Processes => return processes(to, count),
        How::Uring => uring(to, count, &mut outcomes)?,
    }
    say(&json!({ "pid": std::process::id(), "outcomes": outcomes.0 }))
}

fn exhaust(to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    // A socket that can't be had would count as a failed connect.
    drop(tcp(to)?);
    until_failed(count, outcomes, || {
        let socket = tcp(to).map_err(std::io::Error::other)?;
        socket.connect(&to.into()).map(|()| socket)
    });
    Ok(())
}

/// Holds what it gets, until one errno has come `count` times.
fn until_failed(
    count: u32,
    outcomes: &mut Outcomes,
    mut get: impl FnMut() -> std::io::Result<Socket>,
) {
    let mut held = Vec::new();
    while !outcomes.0.iter().any(|(name, n)| name != "ok" && *n >= count) {
        let got = get();
        outcomes.note(&got.as_ref().map(drop).map_err(copy));
        held.extend(got);
    }
}

fn copy(error: &std::io::Error) -> std::io::Error {
    error
        .raw_os_error()
        .map_or_else(|| std::io::Error::other(error.to_string()), std::io::Error::from_raw_os_error)
}

/// Hardly more descriptors than those that are open: how many there may be.
fn few_descriptors() -> Result<i32> {
    let limit = 32;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).context("RLIMIT_NOFILE")?;
    Ok(limit.try_into()?)
}

/// The first call is under way when it returns; the second one returns how it ended.
fn again(to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    for _ in 0..count {
        let socket = tcp(to)?;
        socket.set_nonblocking(true)?;
        outcomes.note(&socket.connect(&to.into()));
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::from(60_000_u16))?;
        outcomes.note(&socket.connect(&to.into()));
    }
    Ok(())
}

/// One after the other, waiting for each.
fn uring(to: SocketAddr, count: u32, outcomes: &mut Outcomes) -> Result<()> {
    let mut ring = IoUring::new(2).context("io_uring_setup()")?;
    let address = socket2::SockAddr::from(to);
    for _ in 0..count {
        let socket = tcp(to)?;
        let connect =
            opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len());
        // SAFETY: socket and address outlive the call, whose end is waited for.
        unsafe { ring.submission().push(&connect.build()) }.context("a full queue")?;
        ring.submit_and_wait(1).context("io_uring_enter()")?;
        let result = ring.completion().next().context("no completion")?.result();
        let error = std::io::Error::from_raw_os_error(-result);
        outcomes.note(&if result < 0 { Err(error) } else { Ok(()) });
    }
    Ok(())
}

/// One process after the other; each ends before the next begins.
fn processes(to: SocketAddr, count: u32) -> Result<()> {
    let mut pids = Vec::new();
    for _ in 0..count {
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("fork()")? {
            ForkResult::Child => {
                let refused = tcp(to).is_ok_and(|socket| {
                    socket.connect(&to.into()).is_err_and(|error| is_refused(&error))
                });
                std::process::exit(i32::from(!refused));
            }
            ForkResult::Parent { child } => {
                let end = waitpid(child, None)?;
                ensure!(end == WaitStatus::Exited(child, 0), "a process ended with {end:?}");
                pids.push(child.as_raw());
            }
        }
    }
    let outcomes = json!({ "ECONNREFUSED": pids.len() });
    say(&json!({ "pid": std::process::id(), "outcomes": outcomes, "pids": pids }))
}

fn is_refused(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
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
