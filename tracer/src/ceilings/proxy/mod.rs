//! Connections that a proxy allows itself: what its configuration or its own interface says.

pub(in crate::ceilings) mod advice;
mod envoy;
mod haproxy;
mod nginx;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use super::{Ceiling, Subject};
use crate::{event::visible, kernel::survey::Survey, proxies::Located};

/// Longest name that is kept, in bytes.
const LONGEST_NAME: usize = 200;

/// A name out of a proxy's configuration, made visible and not too long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Name(Arc<str>);

impl Name {
    /// From what a configuration has.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let end = name.floor_char_boundary(LONGEST_NAME);
        Self(visible(&name.as_bytes()[..end]).into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        // What was made visible already stays as it is.
        let end = name.floor_char_boundary(2 * LONGEST_NAME);
        Ok(Self(crate::event::made_visible(&name[..end]).into()))
    }
}

/// What a proxy bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// All connections of an Nginx worker, to clients and upstreams: `worker_connections`.
    Worker,
    /// Connections to a server of an Nginx upstream: `max_conns`.
    MaxConns(Name),
    /// All connections of clients to a HAProxy: `maxconn` of `global`.
    Global,
    /// Those to one of its frontends.
    Frontend(Name),
    /// Connections of a HAProxy to a server: `maxconn` of its line.
    Server(Name),
    /// Connections of an Envoy to a cluster: circuit breaker `max_connections`.
    Cluster(Name),
    /// Requests that wait for a connection to it: circuit breaker `max_pending_requests`.
    Pending(Name),
    /// Requests to it at once: circuit breaker `max_requests`.
    Requests(Name),
    /// Connections of clients to a listener of an Envoy.
    Listener(Name),
    /// Connections of clients to all of its listeners: the overload manager's limit.
    AllListeners,
}

impl Bound {
    /// The name as JSON has it.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::MaxConns(_) | Self::Server(_) => "server",
            Self::Global => "proxy",
            Self::Frontend(_) => "frontend",
            Self::Cluster(_) => "cluster",
            Self::Pending(_) => "pending",
            Self::Requests(_) => "requests",
            Self::Listener(_) => "proxy-listener",
            Self::AllListeners => "proxy-listeners",
        }
    }

    /// What it is called in the proxy's configuration.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::MaxConns(name)
            | Self::Frontend(name)
            | Self::Server(name)
            | Self::Cluster(name)
            | Self::Pending(name)
            | Self::Requests(name)
            | Self::Listener(name) => Some(name),
            Self::Worker | Self::Global | Self::AllListeners => None,
        }
    }

    /// Of what it bounds, in a word or two.
    #[must_use]
    pub fn units(&self) -> &'static str {
        match self {
            Self::Pending(_) => "waiting requests",
            Self::Requests(_) => "requests",
            _ => "connections",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker => f.write_str("worker_connections"),
            Self::MaxConns(name) => write!(f, "max_conns of {name}"),
            Self::Global => f.write_str("maxconn"),
            Self::Frontend(name) => write!(f, "maxconn of frontend {name}"),
            Self::Server(name) => write!(f, "maxconn of server {name}"),
            Self::Cluster(name) => write!(f, "max_connections of cluster {name}"),
            Self::Pending(name) => write!(f, "max_pending_requests of cluster {name}"),
            Self::Requests(name) => write!(f, "max_requests of cluster {name}"),
            Self::Listener(name) => write!(f, "connection limit of listener {name}"),
            Self::AllListeners => f.write_str("connection limit of all listeners"),
        }
    }
}

/// The findings of a survey.
#[must_use]
pub fn assess(survey: &Survey) -> Vec<Ceiling> {
    let proxies = &survey.proxies;
    let mut found = Vec::new();
    for one in &proxies.nginx {
        found.extend(nginx::assess(one, survey));
    }
    found.extend(proxies.haproxy.iter().flat_map(haproxy::assess));
    found.extend(proxies.envoy.iter().flat_map(envoy::assess));
    found
}

fn subject(of: &Located, bound: Bound) -> Subject {
    Subject::Proxy { pid: of.process.pid, comm: of.process.comm, netns: of.netns, bound }
}
