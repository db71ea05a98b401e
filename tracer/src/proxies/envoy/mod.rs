//! Envoy: what its admin interface says (Envoy's documentation, "Administration interface").

mod answer;
mod discovery;
pub mod http;
mod missing;
mod several;
mod wire;

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use self::answer::{Answers, parse};
pub use self::discovery::{admin_of, configured};
pub(super) use self::several::{Asked, Claims, sorted};
use super::{
    Located,
    endpoint::{Endpoint, PATIENCE, some},
};

/// A running Envoy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envoy {
    /// Its process.
    pub process: Located,
    /// That it is this one is concluded: several may be meant, and which of them answered isn't known.
    #[serde(default)]
    pub inferred: bool,
    /// Where it was asked.
    pub endpoint: String,
    /// What it said.
    pub state: State,
}

/// What an Envoy says of itself. Counts are since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Such as `1.40.0`; empty: not said.
    pub version: String,
    /// Toward upstreams.
    pub clusters: Vec<Cluster>,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// Most clients' connections of all listeners together: the overload manager's resource monitor
    /// `envoy.resource_monitors.global_downstream_max_connections`, else the runtime's
    /// `overload.global_downstream_max_connections`, which counts connections to the admin interface too (once it is
    /// reached, this can't be asked either). `None`: without.
    pub global_limit: Option<u64>,
}

/// A cluster of upstream hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its circuit breakers, of default priority.
    pub limits: Limits,
    /// Connections now (`upstream_cx_active`), of all priorities. Here and below, `None`: it doesn't keep this count
    /// (`stats_matcher`), or its version has none.
    pub active: Option<u64>,
    /// Connections ever (`upstream_cx_total`).
    pub connections: Option<u64>,
    /// How often `max_connections` kept it from opening a connection (`upstream_cx_overflow`). Requests then wait:
    /// this is no count of requests.
    pub overflow: Option<u64>,
    /// Connections that failed, by a timeout too (`upstream_cx_connect_fail`).
    pub connect_failures: Option<u64>,
    /// Those of them that took longer than `connect_timeout` (`upstream_cx_connect_timeout`).
    pub connect_timeouts: Option<u64>,
    /// Requests that wait for a connection now (`upstream_rq_pending_active`).
    pub pending: Option<u64>,
    /// Requests refused since too many waited (`upstream_rq_pending_overflow`): 503 with `UO`.
    pub pending_overflow: Option<u64>,
    /// Requests now (`upstream_rq_active`).
    pub requests: Option<u64>,
    /// Requests refused by `max_requests` (`upstream_rq_active_overflow`): 503 with `UO`. An Envoy that doesn't have
    /// this count has them in `pending_overflow`.
    pub request_overflow: Option<u64>,
    /// Retries refused (`upstream_rq_retry_overflow`).
    pub retry_overflow: Option<u64>,
    /// Its hosts.
    pub hosts: Vec<Host>,
}

impl Cluster {
    /// Connections now, else those of its hosts. `None`: neither is known.
    #[must_use]
    pub fn active_or_of_hosts(&self) -> Option<u64> {
        self.active.or_else(|| self.of_hosts(|host| host.active))
    }

    /// Requests now, else those of its hosts. `None`: neither is known.
    #[must_use]
    pub fn requests_or_of_hosts(&self) -> Option<u64> {
        self.requests.or_else(|| self.of_hosts(|host| host.requests))
    }

    fn of_hosts(&self, count: impl Fn(&Host) -> Option<u64>) -> Option<u64> {
        let known = |sum: u64, host| Some(sum.saturating_add(count(host)?));
        self.hosts.iter().try_fold(0, known)
    }
}

impl State {
    /// How much it is.
    pub(super) fn parts(&self) -> usize {
        let hosts: usize = self.clusters.iter().map(|cluster| cluster.hosts.len()).sum();
        self.clusters.len() + hosts + self.listeners.len()
    }
}

/// `circuit_breakers.thresholds`; `None`: not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Connections at once (`max_connections`). An HTTP/1.1 request beyond it waits.
    pub connections: Option<u64>,
    /// Requests that wait for a connection (`max_pending_requests`).
    pub pending: Option<u64>,
    /// Requests at once (`max_requests`).
    pub requests: Option<u64>,
    /// Retries at once (`max_retries`).
    pub retries: Option<u64>,
}

/// An upstream host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Where; `None`: a Unix socket, or an internal listener.
    pub address: Option<SocketAddr>,
    /// Connections now (`cx_active`). A host has its counts whatever `stats_matcher` says.
    pub active: Option<u64>,
    /// Connections ever (`cx_total`).
    pub connections: Option<u64>,
    /// Connections that failed (`cx_connect_fail`).
    pub connect_failures: Option<u64>,
    /// Requests now (`rq_active`).
    pub requests: Option<u64>,
}

/// A listener, without that of the admin interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name; of one whose counts have a prefix of their own (`stat_prefix`), that.
    pub name: String,
    /// Where; `None`: a Unix socket, or not known for the prefix.
    pub address: Option<SocketAddr>,
    /// Connections now (`downstream_cx_active`); here and below, `None`: it doesn't keep this count.
    pub active: Option<u64>,
    /// Connections closed at once for `limit` (`downstream_cx_overflow`): no line in the access log.
    pub overflow: Option<u64>,
    /// Likewise for [`State::global_limit`] (`downstream_global_cx_overflow`).
    pub global_overflow: Option<u64>,
    /// `envoy.resource_limits.listener.NAME.connection_limit` of the runtime; `None`: without.
    pub limit: Option<u64>,
}

/// Counts that are asked for.
const COUNTS: &str = "^(cluster|listener)[.].*[.](upstream_cx_(active|total|overflow|connect_fail|connect_timeout)|\
                      upstream_rq_(active|pending_active|pending_overflow|active_overflow|retry_overflow)|\
                      downstream_(cx_active|cx_overflow|global_cx_overflow))$";
/// Of the configuration: no more than this, for it holds all clusters and certificates.
const MASK: &str = "bootstrap.node.user_agent_build_version.version,bootstrap.overload_manager";

/// Longest of all answers of one Envoy together.
const LONGEST: usize = 32 << 20;

/// Reads an Envoy, by the endpoint that is given, else by that of its command line or bootstrap. While a hot restart
/// goes on, the old process is asked at the new one's interface.
///
/// # Errors
/// It can't be asked: in a person's words, with what to do.
pub fn read(process: Located, given: Option<&Endpoint>) -> Result<Envoy> {
    let name = || format!("Envoy (process {}) could not be read", process.process.pid);
    let until = || Instant::now() + PATIENCE;
    match ask(process, given, &Claims::default(), until).with_context(name)? {
        Asked::Answered(envoy) => Ok(envoy),
        Asked::Same(..) => bail!("{}: it is asked already", name()),
    }
}

/// Asks an Envoy, unless another one is asked at the same place. `until`: when its time ends, once it is known where to
/// ask.
pub(super) fn ask(
    process: Located,
    given: Option<&Endpoint>,
    claims: &Claims,
    until: impl Fn() -> Instant,
) -> Result<Asked> {
    let endpoint = match given {
        Some(endpoint) => endpoint.clone(),
        None => discovery::endpoint(process.process.pid)?,
    };
    let first = claims.first(process, &endpoint);
    if first != process {
        return Ok(Asked::Same(first, endpoint));
    }
    let (until, mut left) = (until(), LONGEST);
    let mut get = |path: &str| -> Result<Vec<u8>> {
        let answer = endpoint.ask(process, http::get(path).as_bytes(), until)?;
        left = left
            .checked_sub(answer.len())
            .with_context(|| format!("over {} MiB of answers", LONGEST >> 20))?;
        some(&answer)
            .and_then(|()| http::body(&answer))
            .with_context(|| format!("what {endpoint} answers to {path}"))
    };
    let answers = Answers {
        clusters: get("/clusters?format=json")?,
        listeners: get("/listeners?format=json")?,
        stats: get(&format!("/stats?format=json&filter={}", http::escaped(COUNTS)))?,
        runtime: get("/runtime?format=json")?,
        bootstrap: get(&format!("/config_dump?mask={MASK}"))?,
    };
    let state = parse(&answers).with_context(|| format!("what {endpoint} answers"))?;
    let envoy = Envoy { process, inferred: false, endpoint: endpoint.to_string(), state };
    Ok(Asked::Answered(envoy))
}
