//! Envoy: what its admin interface says (Envoy's documentation, "Administration interface").

mod answer;
mod discovery;
pub mod http;
mod wire;

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use self::answer::{Answers, parse};
pub use self::discovery::{admin_of, configured};
use super::{
    Located,
    endpoint::{Endpoint, PATIENCE, some},
};

/// A running Envoy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envoy {
    /// Its process.
    pub process: Located,
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
    /// Connections now (`upstream_cx_active`), of all priorities.
    pub active: u64,
    /// Connections ever (`upstream_cx_total`).
    pub connections: u64,
    /// How often `max_connections` kept it from opening a connection (`upstream_cx_overflow`). Requests then wait:
    /// this is no count of requests.
    pub overflow: u64,
    /// Connections that failed, by a timeout too (`upstream_cx_connect_fail`).
    pub connect_failures: u64,
    /// Those of them that took longer than `connect_timeout` (`upstream_cx_connect_timeout`).
    pub connect_timeouts: u64,
    /// Requests that wait for a connection now (`upstream_rq_pending_active`).
    pub pending: u64,
    /// Requests refused since too many waited (`upstream_rq_pending_overflow`): 503 with `UO`.
    pub pending_overflow: u64,
    /// Requests now (`upstream_rq_active`).
    pub requests: u64,
    /// Requests refused by `max_requests` (`upstream_rq_active_overflow`): 503 with `UO`. An Envoy that doesn't have
    /// this count has them in `pending_overflow`.
    pub request_overflow: u64,
    /// Retries refused (`upstream_rq_retry_overflow`).
    pub retry_overflow: u64,
    /// Its hosts.
    pub hosts: Vec<Host>,
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
    /// Connections now (`cx_active`).
    pub active: u64,
    /// Connections ever (`cx_total`).
    pub connections: u64,
    /// Connections that failed (`cx_connect_fail`).
    pub connect_failures: u64,
}

/// A listener, without that of the admin interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name; of one whose counts have a prefix of their own (`stat_prefix`), that.
    pub name: String,
    /// Where; `None`: a Unix socket, or not known for the prefix.
    pub address: Option<SocketAddr>,
    /// Connections now (`downstream_cx_active`).
    pub active: u64,
    /// Connections closed at once for `limit` (`downstream_cx_overflow`): no line in the access log.
    pub overflow: u64,
    /// Likewise for [`State::global_limit`] (`downstream_global_cx_overflow`).
    pub global_overflow: u64,
    /// `envoy.resource_limits.listener.NAME.connection_limit` of the runtime; `None`: without.
    pub limit: Option<u64>,
}

/// Counts that are asked for.
const COUNTS: &str = "^(cluster|listener)[.].*[.](upstream_cx_(active|total|overflow|connect_fail|connect_timeout)|\
                      upstream_rq_(active|pending_active|pending_overflow|active_overflow|retry_overflow)|\
                      downstream_(cx_active|cx_overflow|global_cx_overflow))$";
/// Of the configuration: no more than this, for it holds all clusters and certificates.
const MASK: &str = "bootstrap.node.user_agent_build_version.version,bootstrap.overload_manager";

/// Reads an Envoy, by the endpoint that is given, else by that of its command line or bootstrap. While a hot restart
/// goes on, the old process is asked at the new one's interface.
///
/// # Errors
/// It can't be asked: in a person's words, with what to do.
pub fn read(process: Located, given: Option<&Endpoint>) -> Result<Envoy> {
    let pid = process.process.pid;
    asked(process, given).with_context(|| format!("Envoy (process {pid}) could not be read"))
}

/// Reads those Envoys; what could not be read is said in a person's words.
#[must_use]
pub fn read_all(processes: &[Located]) -> (Vec<Envoy>, Vec<String>) {
    let (mut envoys, mut unread) = (Vec::new(), Vec::new());
    for &process in processes {
        match read(process, None) {
            Ok(envoy) => envoys.push(envoy),
            Err(error) => unread.push(format!("{error:#}")),
        }
    }
    (envoys, unread)
}

fn asked(process: Located, given: Option<&Endpoint>) -> Result<Envoy> {
    let endpoint = match given {
        Some(endpoint) => endpoint.clone(),
        None => discovery::endpoint(process.process.pid)?,
    };
    let until = Instant::now() + PATIENCE;
    let get = |path: &str| -> Result<Vec<u8>> {
        let answer = endpoint.ask(process, http::get(path).as_bytes(), until)?;
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
    Ok(Envoy { process, endpoint: endpoint.to_string(), state })
}
