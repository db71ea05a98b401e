//! Makes known numbers of TCP connections and failures, and says which errno each call saw: the
//! truth that the tests and the benchmark check against.

mod churn;
mod fail;
mod hold;
mod serve;

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    churn::{End, churn},
    fail::{How, fail},
    hold::{Then, hold},
    serve::{Mode, serve},
};

/// Makes known numbers of TCP connections and failures.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

/// How many connections, and through which kind of socket.
#[derive(clap::Args)]
struct Many {
    /// Go to an IPv4 address through an IPv6 socket.
    #[arg(long)]
    mapped: bool,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: u32,
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
    /// Connect and close, as fast as one thread can, to 64 loopback addresses, with one acceptor that
    /// does the same.
    Churn {
        /// How many connections.
        #[arg(long)]
        connections: u64,
        /// How they end.
        #[arg(long, value_enum, default_value_t)]
        end: End,
    },
    /// Begin connections, print a line, and hold them until `SIGTERM`.
    Hold {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        many: Many,
        /// How to end them.
        #[arg(long, value_enum)]
        then: Then,
    },
    /// Make connects that fail, and print how each ended.
    Fail {
        /// How.
        #[arg(value_enum)]
        how: How,
        /// Where to; for failures of `bind()`, what to bind to.
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        many: Many,
        /// The local port for a collision, or to bind to.
        #[arg(long, default_value_t = 0)]
        sport: u16,
    },
}

fn main() -> Result<()> {
    match Cli::parse().load {
        Load::Serve { listen, mode } => serve(&listen, mode),
        Load::Churn { connections, end } => churn(connections, end),
        Load::Hold { to, many, then } => hold(target(to, many.mapped)?, many.count, then),
        Load::Fail { how, to, many, sport } => {
            fail(how, target(to, many.mapped)?, many.count, sport)
        }
    }
}

fn target(to: SocketAddr, mapped: bool) -> Result<SocketAddr> {
    if !mapped {
        return Ok(to);
    }
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
