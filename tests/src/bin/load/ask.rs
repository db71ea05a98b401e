//! Clients of an HTTP server that are patient where they are turned away.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, bail};
use serde_json::json;

use crate::say;

/// Asks again and again, until killed: so many clients at once, each on a connection of its own for each
/// request, and after a time anew where that fails.
pub(crate) fn ask(to: SocketAddr, clients: u32, pause: Duration) -> Result<()> {
    let ask_on = move || {
        loop {
            if !matches!(answered(to), Ok(true)) {
                std::thread::sleep(pause);
            }
        }
    };
    let all: Vec<_> = (0..clients).map(|_| std::thread::spawn(ask_on)).collect();
    say(&json!({ "clients": clients }))?;
    for client in all {
        if client.join().is_err() {
            bail!("a client failed");
        }
    }
    Ok(())
}

/// Whether a request was answered well.
fn answered(to: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(to)?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: socklife\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
