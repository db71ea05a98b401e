//! Connections that come and go as fast as they can.

use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::json;
use socket2::Socket;

use crate::{say, tcp};

/// How they end.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    /// With a reset from either end.
    #[default]
    Reset,
    /// Without; either end may be first, or both at once.
    Race,
    /// Without; the ends take turns in being first, and one waits for the other.
    Turns,
}

/// Connects and closes.
pub(crate) fn churn(connections: u64, end: End) -> Result<()> {
    let listener = tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    listener.listen(4096)?;
    let port = listener.local_addr()?.as_socket().context("no address")?.port();
    if end == End::Turns {
        let seconds = in_turn(&listener, port, connections)?;
        return say(&json!({ "connections": connections, "seconds": seconds }));
    }
    // It never sleeps: in a virtual machine waking an idle CPU costs more than a connection.
    listener.set_nonblocking(true)?;
    let linger = (end == End::Reset).then_some(Duration::ZERO);
    let acceptor = std::thread::spawn(move || -> Result<()> {
        let mut left = connections;
        while left > 0 {
            match listener.accept() {
                Ok((connection, _)) => connection.set_linger(linger)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("accept()"),
            }
            left -= 1;
        }
        Ok(())
    });
    let started = Instant::now();
    for index in 0..connections {
        let to = one_of_64(index, port);
        let socket = tcp(to)?;
        match socket.connect(&to.into()) {
            // The acceptor may be faster than this call's return.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            result => result.context("connect()")?,
        }
        socket.set_linger(linger)?;
    }
    let Ok(accepted) = acceptor.join() else { bail!("the acceptor failed") };
    accepted?;
    let seconds = started.elapsed().as_secs_f64();
    say(&json!({ "connections": connections, "seconds": seconds }))
}

fn one_of_64(index: u64, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (index % 64) as u8), port))
}

/// Seconds that they took.
pub(crate) fn in_turn(listener: &Socket, port: u16, connections: u64) -> Result<f64> {
    let started = Instant::now();
    for index in 0..connections {
        let to = one_of_64(index, port);
        let near = tcp(to)?;
        near.connect(&to.into()).context("connect()")?;
        let (far, _) = listener.accept().context("accept()")?;
        let (first, last) = if index % 2 == 0 { (near, far) } else { (far, near) };
        drop(first);
        // Its end has come here.
        ensure!((&last).read(&mut [0]).context("read()")? == 0, "a byte that nobody sent");
        drop(last);
    }
    Ok(started.elapsed().as_secs_f64())
}
