//! What a ceiling is of, and of which kind.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::proxy::Bound;
use crate::event::Comm;

/// The kinds, as output names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Local ports that `connect()` and `bind()` choose from.
    EphemeralPorts,
    /// Entries in TIME-WAIT of a network namespace.
    TimeWait,
    /// Open files of a process, or of the host.
    OpenFiles,
    /// Entries of a conntrack table.
    Conntrack,
    /// Connections that wait for `accept()` at a listener.
    AcceptQueue,
    /// Connections that a proxy allows itself.
    ProxyConnections,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::EphemeralPorts,
        Self::TimeWait,
        Self::OpenFiles,
        Self::Conntrack,
        Self::AcceptQueue,
        Self::ProxyConnections,
    ];

    /// The name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EphemeralPorts => "ephemeral-ports",
            Self::TimeWait => "time-wait",
            Self::OpenFiles => "open-files",
            Self::Conntrack => "conntrack",
            Self::AcceptQueue => "accept-queue",
            Self::ProxyConnections => "proxy-connections",
        }
    }
}

/// What a ceiling is of. The same subject in two surveys is equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Local ports from one or several source addresses toward one upstream.
    Upstream {
        /// Network namespace.
        netns: u32,
        /// Source address.
        src: IpAddr,
        /// Address of the upstream.
        dst: IpAddr,
        /// Port of the upstream.
        dport: u16,
        /// Interface that the sockets are bound to, by index; 0: none.
        interface: u32,
        /// Port range of the sockets' own (`IP_LOCAL_PORT_RANGE`): first and last.
        range: Option<(u16, u16)>,
    },
    /// Ports for `bind()` to port 0 of an address: one pool for all destinations.
    BindPool {
        /// Network namespace.
        netns: u32,
        /// The address.
        src: IpAddr,
    },
    /// Entries in TIME-WAIT.
    TimeWait {
        /// Network namespace.
        netns: u32,
    },
    /// Open files of a process.
    Process {
        /// Process id.
        pid: u32,
        /// Its name.
        comm: Comm,
    },
    /// Open files of the host.
    Host,
    /// The conntrack table.
    Conntrack {
        /// Network namespace.
        netns: u32,
    },
    /// The queue of a listener.
    Listener {
        /// Network namespace.
        netns: u32,
        /// Its address.
        src: IpAddr,
        /// Its port.
        sport: u16,
        /// Its cookie: several may share an address (`SO_REUSEPORT`).
        cookie: u64,
    },
    /// Connections that a proxy allows itself.
    Proxy {
        /// Process id.
        pid: u32,
        /// Its name.
        comm: Comm,
        /// Its network namespace.
        netns: Option<u32>,
        /// Which.
        bound: Bound,
    },
}

impl Subject {
    /// Of which kind its ceiling is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Upstream { .. } | Self::BindPool { .. } => Kind::EphemeralPorts,
            Self::TimeWait { .. } => Kind::TimeWait,
            Self::Process { .. } | Self::Host => Kind::OpenFiles,
            Self::Conntrack { .. } => Kind::Conntrack,
            Self::Listener { .. } => Kind::AcceptQueue,
            Self::Proxy { .. } => Kind::ProxyConnections,
        }
    }

    /// What it is of, as JSON has it.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        match self {
            Self::Upstream { .. } => "upstream",
            Self::BindPool { .. } => "bind",
            Self::TimeWait { .. } | Self::Conntrack { .. } => "netns",
            Self::Process { .. } => "process",
            Self::Host => "host",
            Self::Listener { .. } => "listener",
            Self::Proxy { bound, .. } => bound.scope(),
        }
    }

    /// Its network namespace, where it has one.
    #[must_use]
    pub fn netns(&self) -> Option<u32> {
        match *self {
            Self::Upstream { netns, .. }
            | Self::BindPool { netns, .. }
            | Self::TimeWait { netns }
            | Self::Conntrack { netns }
            | Self::Listener { netns, .. } => Some(netns),
            Self::Proxy { netns, .. } => netns,
            Self::Process { .. } | Self::Host => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream { src, dst, dport, interface, range, .. } => {
                write!(f, "{src} to {}", SocketAddr::new(*dst, *dport))?;
                if *interface != 0 {
                    write!(f, " by interface {interface}")?;
                }
                if let Some((first, last)) = range {
                    write!(f, ", sockets with ports {first}-{last} of their own")?;
                }
                Ok(())
            }
            Self::BindPool { src, .. } => write!(f, "bind() to port 0 of {src}"),
            Self::TimeWait { .. } => f.write_str("entries in TIME-WAIT"),
            Self::Process { pid, comm } => write!(f, "{comm}[{pid}]"),
            Self::Host => f.write_str("all processes"),
            Self::Conntrack { .. } => f.write_str("conntrack table"),
            Self::Listener { src, sport, .. } => write!(f, "{}", SocketAddr::new(*src, *sport)),
            Self::Proxy { pid, comm, bound, .. } => write!(f, "{comm}[{pid}] {bound}"),
        }
    }
}
