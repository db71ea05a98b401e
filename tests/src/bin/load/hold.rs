//! Connections that are there until somebody says otherwise.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal},
};
use serde_json::json;

use crate::{say, tcp};

/// How they end.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Then {
    /// With a close.
    Close,
    /// With a reset.
    Reset,
    /// They don't even begin: connects under way.
    Hang,
}

/// Begins them, says so, and ends them at `SIGTERM`.
pub(crate) fn hold(to: SocketAddr, count: u32, then: Then) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = tcp(to)?;
        socket.set_nonblocking(then == Then::Hang)?;
        match socket.connect(&to.into()) {
            Ok(()) if then != Then::Hang => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            other => bail!("connect(): {other:?}"),
        }
        sockets.push(socket);
    }
    say(&json!({ "pid": std::process::id() }))?;
    signals.wait().context("SIGTERM")?;
    for socket in sockets {
        if then == Then::Reset {
            socket.set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}
