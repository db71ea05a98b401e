//! Takes and keeps what a ceiling limits, as many as it is asked for, and says which errno each call saw.

use std::{
    io::{BufRead, ErrorKind, Read},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::libc;
use serde_json::json;
use socket2::Socket;

use crate::{fail::Outcomes, say, tcp};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thing {
    /// Connections to `to`.
    Connection,
    /// Sockets bound to port 0 of `to`.
    Port,
    /// Sockets, unconnected.
    File,
}

/// For each line of standard input, a number: takes so many more, keeps what it got, and prints how
/// each try ended. Ends with the input.
pub(crate) fn grow(thing: Thing, to: SocketAddr, from: Option<IpAddr>) -> Result<()> {
    let pid = std::process::id();
    say(&json!({ "pid": pid }))?;
    let mut held = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("standard input")?;
        let more: u32 = line.trim().parse().with_context(|| format!("not a number: {line}"))?;
        let mut outcomes = Outcomes::default();
        for _ in 0..more {
            match take(thing, to, from) {
                Ok(socket) => {
                    outcomes.note(&Ok(()));
                    held.push(socket);
                }
                Err(error) => outcomes.note(&Err(error)),
            }
        }
        say(&json!({ "pid": pid, "outcomes": outcomes.0, "held": held.len() }))?;
    }
    Ok(())
}

fn take(thing: Thing, to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<Socket> {
    let socket = tcp(to).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => error,
        Err(other) => std::io::Error::other(other.to_string()),
    })?;
    match thing {
        Thing::Connection => {
            if let Some(from) = from {
                port_comes_with_connect(&socket)?;
                socket.bind(&SocketAddr::new(from, 0).into())?;
            }
            socket.connect(&to.into())?;
        }
        Thing::Port => socket.bind(&SocketAddr::new(to.ip(), 0).into())?,
        Thing::File => {}
    }
    Ok(socket)
}

/// `IP_BIND_ADDRESS_NO_PORT`.
fn port_comes_with_connect(socket: &Socket) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    let (value, length) = (std::ptr::from_ref(&on).cast(), size_of_val(&on));
    // SAFETY: the value lives and is as long as said; the socket is open.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, value, length.try_into().unwrap_or(0))
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Connects and closes, again and again, for a time; where a connect fails, a millisecond later anew.
/// Prints how each ended, and when, in milliseconds, each that succeeded did.
pub(crate) fn retry(to: SocketAddr, seconds: f64) -> Result<()> {
    let mut outcomes = Outcomes::default();
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < seconds {
        let socket = tcp(to)?;
        let result = socket.connect(&to.into());
        outcomes.note(&result);
        if result.is_err() {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        times.push(u64::try_from(started.elapsed().as_millis())?);
        socket.shutdown(std::net::Shutdown::Write)?;
        // Until the peer has closed: then this end is in TIME-WAIT, whose time begins.
        match (&socket).read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            read => drop(read.context("read()")?),
        }
    }
    say(&json!({ "pid": std::process::id(), "outcomes": outcomes.0, "ok_ms": times }))
}
