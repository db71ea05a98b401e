//! What the proxies' logs say: lines to [`Entry`]s. A line is hostile: it holds what clients sent. What a client
//! could have made up is not believed; where that can't be told, the line is [`Parsed::Unknown`].
//!
//! - [`follow`]: whole lines of a file that grows and is rotated.
//! - [`nginx_error`], [`nginx_access`], [`haproxy`], [`envoy`]: a line each. `fields`: what lines have in common.
//! - [`zone`]: the zone of times that are without one.

pub mod envoy;
mod fields;
pub mod follow;
pub mod haproxy;
pub mod nginx_access;
pub mod nginx_error;
pub mod zone;

use std::net::SocketAddr;

use jiff::{Timestamp, tz::TimeZone};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A client got an answer (or none).
    Answer(Answer),
    /// Something went wrong.
    Trouble(Trouble),
}

/// Why a try at an upstream failed, or a request did, as far as the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// No free local port: `EADDRNOTAVAIL`.
    PortsExhausted,
    /// The upstream refused the connection: `ECONNREFUSED`.
    Refused,
    /// The upstream reset it: `ECONNRESET`, `EPIPE`.
    Reset,
    /// The upstream closed it before it had answered.
    ClosedEarly,
    /// No connection in time.
    ConnectTimeout,
    /// A connection, but no answer in time.
    ReadTimeout,
    /// No route, no neighbour, or an ICMP error.
    Unreachable,
    /// The proxy has no free file: `EMFILE`, `ENFILE`.
    OpenFiles,
    /// The proxy's own limit: `worker_connections`, `maxconn`, a circuit breaker.
    OwnLimit,
    /// All servers were taken out of use, for failures before.
    NoServer,
    /// The upstream's answer could not be understood.
    BadAnswer,
    /// The connection to the upstream failed, and the log does not say why: the kernel does.
    Connect,
    /// The connection to the upstream ended before its answer did, and the log does not say whether it was reset or
    /// closed: the kernel does.
    Ended,
    /// Something else.
    Other,
}

/// A line of an access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// When the request was done, where that is said; of a time without a zone: in the zone that was given.
    pub at: Option<Timestamp>,
    /// The status that the client got; `None`: none (a TCP proxy, or a client that had gone).
    pub status: Option<u16>,
    /// The tries at upstreams, in order; the last one's outcome is the answer's. Empty: none, or the log does not say.
    pub tries: Vec<Try>,
    /// The log's format tells of tries: where there are none, nothing was tried.
    pub tells_tries: bool,
    /// Tries beyond those listed, whose upstream is not said (HAProxy's `retries`).
    pub retries: u32,
    /// Why the proxy itself ended it; `None`: it did not, or the log does not say.
    pub class: Option<Class>,
    /// The key that the log's format would need to say why it failed.
    pub lacks: Option<&'static str>,
}

/// A try at an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Try {
    /// Where to, as the log has it: `10.0.0.9:9001`, `unix:/run/app`, `backend/server`, a cluster's name; empty: nobody
    /// was chosen, or no socket could be had.
    pub upstream: String,
    /// Its address, where it is one.
    pub address: Option<SocketAddr>,
    /// The upstream's status, or the one that stands for its failure; `None`: not said.
    pub status: Option<u16>,
}

/// A line of an error log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When.
    pub at: Option<Timestamp>,
    /// The process.
    pub pid: Option<u32>,
    /// What.
    pub class: Class,
    /// The errno in it.
    pub errno: Option<u16>,
    /// The status that an access log has for the try: 502, 504; 500: of a request of which none could be made. `None`: no
    /// line of an access log says that it failed.
    pub status: Option<u16>,
    /// Where to: as [`Try::upstream`], without scheme and path; `None`: not toward an upstream, or not said.
    pub upstream: Option<String>,
    /// That, where it is an address.
    pub address: Option<SocketAddr>,
}

/// What a line came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It says something of interest.
    Entry(Entry),
    /// It was understood, and is of no interest.
    Nothing,
    /// It was not understood, or can be read in more than one way.
    Unknown,
}

/// A kind of proxy. Each has its own account: what one passes on may be another's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// Nginx, and what is built from it.
    Nginx,
    /// `HAProxy`.
    HaProxy,
    /// Envoy.
    Envoy,
}

impl Product {
    /// The stable name, as output has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// Whether its threads are named so: Envoy's that connect are `wrk:worker_0` and so on (`WorkerImpl::start` in
    /// `source/server/worker_impl.cc`), those of the others are named as their program. Anybody can give itself such a name.
    #[must_use]
    pub fn has_thread(self, name: &[u8]) -> bool {
        let names: &[&[u8]] = match self {
            Self::Nginx => &[b"nginx", b"openresty", b"angie", b"tengine"],
            Self::HaProxy => &[b"haproxy"],
            Self::Envoy => &[b"wrk:", b"envoy"],
        };
        names.iter().any(|begin| name.starts_with(begin))
    }
}

/// Whose log it is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nginx's error log.
    NginxError,
    /// Nginx's access log.
    NginxAccess(nginx_access::Format),
    /// `HAProxy`'s log.
    HaProxy,
    /// Envoy's access log.
    Envoy,
}

impl Kind {
    /// Whose it is.
    #[must_use]
    pub fn proxy(&self) -> Product {
        match self {
            Self::NginxError | Self::NginxAccess(_) => Product::Nginx,
            Self::HaProxy => Product::HaProxy,
            Self::Envoy => Product::Envoy,
        }
    }

    /// Whether its lines tell of answers, and not only of what went wrong.
    #[must_use]
    pub fn tells_answers(&self) -> bool {
        !matches!(self, Self::NginxError)
    }

    /// Whether its lines have times without a zone.
    #[must_use]
    pub fn is_without_zone(&self) -> bool {
        matches!(self, Self::NginxError | Self::HaProxy)
    }

    /// What a line, given without its end, says. Times without a zone are in the given one.
    #[must_use]
    pub fn parse(&self, line: &[u8], zone: &TimeZone) -> Parsed {
        match self {
            Self::NginxError => nginx_error::parse(line, zone),
            Self::NginxAccess(format) => format.parse(line),
            Self::HaProxy => haproxy::parse(line, zone),
            Self::Envoy => envoy::parse(line),
        }
    }
}

impl Entry {
    /// When: an answer was done, or something went wrong.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Answer(answer) => answer.at,
            Self::Trouble(trouble) => trouble.at,
        }
    }
}

#[cfg(test)]
mod tests;

impl Class {
    /// The causes of a connection that did not come about.
    pub const OF_CONNECT: [Self; 5] = [
        Self::PortsExhausted,
        Self::Refused,
        Self::ConnectTimeout,
        Self::Unreachable,
        Self::OpenFiles,
    ];

    /// The stable name, as output has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PortsExhausted => "ports-exhausted",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed-early",
            Self::ConnectTimeout => "connect-timeout",
            Self::ReadTimeout => "read-timeout",
            Self::Unreachable => "unreachable",
            Self::OpenFiles => "open-files",
            Self::OwnLimit => "own-limit",
            Self::NoServer => "no-server",
            Self::BadAnswer => "bad-answer",
            Self::Connect => "no-connection",
            Self::Ended => "connection-ended",
            Self::Other => "other",
        }
    }
}
