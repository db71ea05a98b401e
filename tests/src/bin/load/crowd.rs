//! A busy host's sockets: many that are established, of several processes, to many upstreams, and more in
//! TIME-WAIT.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    time::Instant,
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

/// How many.
#[derive(clap::Args)]
pub(crate) struct Crowd {
    /// How many sockets are established.
    #[arg(long)]
    established: u32,
    /// How many are in TIME-WAIT.
    #[arg(long, default_value_t = 0)]
    time_wait: u64,
    /// How many processes have those that are established.
    #[arg(long, default_value_t = 4)]
    processes: u32,
    /// How many upstreams the established ones go to; each process has its own port.
    #[arg(long, default_value_t = 4)]
    upstreams: u32,
}

/// Makes them on the loopback device, says so, and holds them until standard input ends.
pub(crate) fn crowd(crowd: &Crowd) -> Result<()> {
    let &Crowd { established, time_wait, processes, upstreams } = crowd;
    let started = Instant::now();
    all_files()?;
    ensure!(
        processes > 0 && established.is_multiple_of(2 * processes),
        "each of {processes} processes has both ends of as many connections"
    );
    ensure!(
        upstreams >= processes && upstreams.is_multiple_of(processes),
        "each of {processes} processes has as many upstreams"
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
                return both_ends(established / processes / 2, upstreams / processes, theirs);
            }
            ForkResult::Parent { .. } => ready.push(ours),
        }
    }
    for mut process in ready {
        process.read_exact(&mut [0]).context("a process could not make its connections")?;
    }
    let (listener, port) = listen()?;
    in_turn(&listener, port, time_wait)?;
    let seconds = started.elapsed().as_secs_f64();
    say(&json!({ "established": established, "time_wait": time_wait, "seconds": seconds }))?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("standard input")?;
    Ok(())
}

/// As many files as this process may have.
pub(crate) fn all_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("RLIMIT_NOFILE")
}

fn listen() -> Result<(socket2::Socket, u16)> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listener = tcp(any)?;
    listener.bind(&any.into())?;
    listener.listen(4096)?;
    let port = listener.local_addr()?.as_socket().context("no address")?.port();
    Ok((listener, port))
}

fn both_ends(connections: u32, upstreams: u32, mut ready: UnixStream) -> Result<()> {
    let (listener, port) = listen()?;
    let mut held = Vec::new();
    for index in 0..connections {
        let address = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + index % upstreams);
        let to = SocketAddr::from((address, port));
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
