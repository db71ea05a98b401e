//! What can be staged, and with which settings.

use clap::ValueEnum;

/// Something that goes wrong on hosts with many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Incident {
    /// No local port is left toward an upstream.
    Ports,
    /// Local ports fill with TIME-WAIT, and will be full soon.
    TimeWait,
    /// Nginx's workers can't open more files.
    Files,
    /// The connection tracking table is full.
    Conntrack,
    /// Nginx's own limit of connections.
    WorkerConnections,
}

/// How one is staged.
pub(crate) struct Plan {
    pub(crate) incident: Incident,
    /// The upstream's port; each incident has its own.
    pub(crate) port: u16,
    /// What the upstream does: `socklife-load serve --mode`.
    pub(crate) upstream: &'static str,
    /// `net.ipv4.ip_local_port_range` of Nginx's host.
    pub(crate) port_range: (u16, u16),
    /// Of each worker of Nginx, where it is given.
    pub(crate) files: Option<u32>,
    /// Of each worker of Nginx, where it is given.
    pub(crate) worker_connections: Option<u32>,
    /// Requests a second that Nginx lets pass.
    pub(crate) rate: u32,
    /// Connections of the clients.
    pub(crate) clients: u32,
}

/// Requests a second of which each leaves an entry in TIME-WAIT.
const TIME_WAIT_RATE: u32 = 400;

impl Incident {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::TimeWait => "time-wait",
            Self::Files => "files",
            Self::Conntrack => "conntrack",
            Self::WorkerConnections => "worker-connections",
        }
    }

    /// How it is staged where it lasts so long.
    pub(crate) fn plan(self, seconds: u32) -> Plan {
        let usual = Plan {
            incident: self,
            port: 9001,
            upstream: "answer",
            port_range: (32768, 60999),
            files: None,
            worker_connections: None,
            rate: 500,
            clients: 64,
        };
        match self {
            Self::Ports => Plan { port_range: (40000, 40063), rate: 2000, ..usual },
            Self::TimeWait => Plan {
                port: 9002,
                port_range: (20000, 19999 + soon_full(seconds)),
                rate: TIME_WAIT_RATE,
                clients: 16,
                ..usual
            },
            // What the upstream never answers keeps its file.
            Self::Files => Plan { port: 9003, upstream: "hold", files: Some(24), ..usual },
            Self::Conntrack => Plan { port: 9004, rate: 200, ..usual },
            Self::WorkerConnections => {
                Plan { port: 9005, upstream: "hold", worker_connections: Some(32), ..usual }
            }
        }
    }
}

/// Ports, so many that they would be full ten seconds later. An entry in TIME-WAIT goes after a minute: where
/// that is sooner, they are never full.
fn soon_full(seconds: u32) -> u16 {
    let ports = (seconds.clamp(5, 52) + 10) * TIME_WAIT_RATE;
    u16::try_from(ports).unwrap_or(u16::MAX)
}
