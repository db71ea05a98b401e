//! A busy host's sockets: many that are established, of several processes, and more in TIME-WAIT.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::{ForkResult, fork, getppid},
};
use serde_json::json;

use crate::{churn::in_turn, say, tcp};

/// Makes them on the loopback device, says so, and holds them until standard input ends.
pub(crate) fn crowd(established: u32, time_wait: u64, processes: u32) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    ensure!(
        processes > 0 && established.is_multiple_of(2 * processes),
        "each of {processes} processes has both ends of as many connections"
    );
    let mut ready = Vec::new();
    for _ in 0..processes {
        let (ours, theirs) = UnixStream::pair()?;
        let parent = std::process::id();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("fork()")? {
            ForkResult::Child => {
                // It ends with its parent, which may be gone already.
                set_pdeathsig(Signal::SIGKILL)?;
                ensure!(u32::try_from(getppid().as_raw()) == Ok(parent), "no parent");
                drop(ours);
                return both_ends(established / processes / 2, theirs);
            }
            ForkResult::Parent { .. } => ready.push(ours),
        }
    }
    for mut process in ready {
        process.read_exact(&mut [0]).context("a process could not make its connections")?;
    }
    let (listener, port) = listen()?;
    let seconds = in_turn(&listener, port, time_wait)?;
    say(&json!({ "established": established, "time_wait": time_wait, "seconds": seconds }))?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("standard input")?;
    Ok(())
}

fn listen() -> Result<(socket2::Socket, u16)> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listener = tcp(any)?;
    listener.bind(&any.into())?;
    listener.listen(4096)?;
    let port = listener.local_addr()?.as_socket().context("no address")?.port();
    Ok((listener, port))
}

fn both_ends(connections: u32, mut ready: UnixStream) -> Result<()> {
    let (listener, port) = listen()?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut held = Vec::new();
    for _ in 0..connections {
        let near = tcp(to)?;
        near.connect(&to.into()).context("connect()")?;
        held.push((near, listener.accept().context("accept()")?.0));
    }
    ready.write_all(&[1])?;
    loop {
        std::thread::park();
        if held.is_empty() {
            bail!("nothing is held");
        }
    }
}
