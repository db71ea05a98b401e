//! Connections that come and go as fast as they can.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{say, tcp};

/// Connects and closes; `close`: without a reset.
pub(crate) fn churn(connections: u64, close: bool) -> Result<()> {
    let listener = tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    listener.listen(4096)?;
    let port = listener.local_addr()?.as_socket().context("no address")?.port();
    // It never sleeps: in a virtual machine waking an idle CPU costs more than a connection.
    listener.set_nonblocking(true)?;
    let linger = (!close).then_some(Duration::ZERO);
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
        let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (index % 64) as u8), port));
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
