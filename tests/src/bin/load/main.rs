//! Makes known numbers of TCP connections and failures, and says which errno each call saw: the
//! truth that the tests and the benchmark check against.

mod ask;
mod churn;
mod crowd;
mod fail;
mod grow;
mod hold;
mod ramp;
mod serve;
mod track;

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    ask::ask,
    churn::{End, churn},
    crowd::{Crowd, crowd},
    fail::{How, fail},
    grow::{Thing, grow, retry},
    hold::{Then, hold},
    ramp::{Ramp, ramp},
    serve::{Mode, serve},
    track::track,
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
        /// How many may wait to be accepted.
        #[arg(long, default_value_t = 4096)]
        backlog: i32,
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
    /// Make many sockets on the loopback device, print a line, and hold them until standard input ends.
    Crowd(Crowd),
    /// Fill the connection tracking table of this network namespace, print a line, and keep it full until
    /// standard input ends.
    Track,
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
    /// Take and keep as many as each line of standard input says, and print how each try ended.
    Grow {
        /// Of what.
        #[arg(value_enum)]
        thing: Thing,
        /// Where to; for ports, what to bind to.
        #[arg(long)]
        to: SocketAddr,
        /// The local address of connections, whose port comes with the connect.
        #[arg(long)]
        from: Option<IpAddr>,
    },
    /// Connect and close for a time, again and again; where a connect fails, soon anew.
    Retry {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Ask an HTTP server again and again, until killed.
    Ask {
        /// Whom.
        #[arg(long)]
        to: SocketAddr,
        /// How many clients at once.
        #[arg(long)]
        clients: u32,
        /// Milliseconds after which one that was turned away asks anew.
        #[arg(long, default_value_t = 100)]
        pause: u64,
    },
    /// Raise a usage at a rate that stays or doubles, until the first failure: a line when it begins,
    /// a line when it failed.
    Ramp(Ramp),
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
        Load::Serve { listen, mode, backlog } => serve(&listen, mode, backlog),
        Load::Churn { connections, end } => churn(connections, end),
        Load::Crowd(many) => crowd(&many),
        Load::Track => track(),
        Load::Hold { to, many, then } => hold(target(to, many.mapped)?, many.count, then),
        Load::Grow { thing, to, from } => grow(thing, to, from),
        Load::Retry { to, seconds } => retry(to, seconds),
        Load::Ask { to, clients, pause } => ask(to, clients, Duration::from_millis(pause)),
        Load::Ramp(plan) => ramp(&plan),
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
