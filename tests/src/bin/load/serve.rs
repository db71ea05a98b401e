//! Listeners, and what they do with connections.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::json;
use socket2::Socket;

use crate::{say, tcp};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Keep them open.
    Hold,
    /// Reset each as soon as its first byte comes.
    Reset,
    /// Close each at once.
    Close,
    /// Close each when its peer has closed.
    Follow,
    /// The same, all at once.
    FollowEach,
    /// Answer requests of HTTP, of all connections at once, until the peer closes.
    Answer,
    /// Accept none, and have the queue full: further SYNs are dropped.
    Full,
}

pub(crate) fn serve(listen: &[SocketAddr], mode: Mode, backlog: i32) -> Result<()> {
    if mode == Mode::Full {
        return serve_full(listen);
    }
    let mut threads = Vec::new();
    for &address in listen {
        let socket = tcp(address)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into()).with_context(|| format!("bind({address})"))?;
        socket.listen(backlog)?;
        threads.push(std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((connection, _)) = socket.accept() {
                match mode {
                    Mode::Hold => held.push(connection),
                    Mode::Reset => {
                        // A client that is gone already has nothing to be reset.
                        let _ = (&connection).read(&mut [0]);
                        let _ = connection.set_linger(Some(Duration::ZERO));
                    }
                    Mode::Close => drop(connection),
                    Mode::Follow => follow(&connection),
                    Mode::FollowEach => {
                        std::thread::spawn(move || follow(&connection));
                    }
                    Mode::Answer => {
                        std::thread::spawn(move || answer(&connection));
                    }
                    Mode::Full => {}
                }
            }
        }));
    }
    say(&json!({ "listening": listen.len() }))?;
    for thread in threads {
        if thread.join().is_err() {
            bail!("a listener failed");
        }
    }
    Ok(())
}

fn follow(mut connection: &Socket) {
    // Its end is all that matters, and an error is one.
    while connection.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
}

fn answer(mut connection: &Socket) {
    let mut request = [0; 4096];
    let mut length = 0;
    loop {
        // A client that goes away, or asks for too much, has asked for nothing.
        let Ok(more @ 1..) = connection.read(&mut request[length..]) else { return };
        length += more;
        if request[..length].ends_with(b"\r\n\r\n") {
            let response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
            if connection.write_all(response).is_err() {
                return;
            }
            length = 0;
        }
    }
}

/// With a backlog of 1 the queue is full with two connections, which are our own.
fn serve_full(listen: &[SocketAddr]) -> Result<()> {
    let mut held = Vec::new();
    for &address in listen {
        let fillers = [tcp(address)?, tcp(address)?];
        let listener = tcp(address)?;
        listener.set_reuse_address(true)?;
        listener.bind(&address.into()).with_context(|| format!("bind({address})"))?;
        listener.listen(1)?;
        for filler in &fillers {
            filler.connect(&address.into()).context("filling the queue")?;
        }
        wait_until_full(address)?;
        held.push((fillers, listener));
    }
    say(&json!({ "listening": listen.len() }))?;
    loop {
        std::thread::park();
    }
}

/// The kernel shows the length of a listener's queue where a connection has its unread bytes.
fn wait_until_full(listener: SocketAddr) -> Result<()> {
    let table = if listener.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let port = format!(":{:04X}", listener.port());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let sockets = std::fs::read_to_string(table).with_context(|| table.to_owned())?;
        let full = sockets.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.get(1).is_some_and(|local| local.ends_with(&port))
                && words.get(3) == Some(&"0A")
                && words.get(4).is_some_and(|queues| queues.ends_with(":00000002"))
        });
        if full {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the queue of {listener} does not fill up");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
