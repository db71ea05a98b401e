//! The answers of the admin interface, as bytes, to what they say.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    Cluster, Host, Limits, Listener, State,
    wire::{
        ClusterStatus, Clusters, Dump, HostStatus, ListenerStatus, Listeners, Runtime, Stats,
        Threshold,
    },
};
use crate::event::visible;

/// Most lists and objects of an answer: one of no more than [`endpoint::LONGEST`] that says something has fewer.
///
/// [`endpoint::LONGEST`]: crate::proxies::endpoint::LONGEST
const MOST_VALUES: usize = 250_000;

/// The bodies of what is asked.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// `/clusters?format=json`
    pub clusters: Vec<u8>,
    /// `/listeners?format=json`
    pub listeners: Vec<u8>,
    /// `/stats?format=json`, filtered.
    pub stats: Vec<u8>,
    /// `/runtime?format=json`
    pub runtime: Vec<u8>,
    /// `/config_dump`, of the bootstrap the version and the overload manager.
    pub bootstrap: Vec<u8>,
}

/// What an Envoy says by its answers. Fields that are unknown here are passed over.
///
/// # Errors
/// One is no such answer.
pub fn parse(answers: &Answers) -> Result<State> {
    let clusters: Clusters = json(&answers.clusters, "/clusters")?;
    let listeners: Listeners = json(&answers.listeners, "/listeners")?;
    let stats: Stats = json(&answers.stats, "/stats")?;
    let runtime: Runtime = json(&answers.runtime, "/runtime")?;
    let dump: Dump = json(&answers.bootstrap, "/config_dump")?;
    let counts: HashMap<&str, u64> =
        stats.stats.iter().filter_map(|it| Some((it.name.as_str(), it.value.0?))).collect();
    let bootstraps = || dump.configs.iter().map(|config| &config.bootstrap);
    let versions = bootstraps().filter_map(|it| it.node.user_agent_build_version.version.as_ref());
    let monitors = bootstraps().flat_map(|bootstrap| &bootstrap.overload_manager.resource_monitors);
    let monitor =
        monitors.filter_map(|it| it.typed_config.max_active_downstream_connections.0).min();
    let setting = |name: &str| runtime.entries.get(name).and_then(|entry| entry.final_value.0);
    Ok(State {
        version: versions
            .map(|it| format!("{}.{}.{}", it.major_number, it.minor_number, it.patch))
            .next()
            .unwrap_or_default(),
        clusters: clusters.cluster_statuses.iter().map(|it| cluster(it, &counts)).collect(),
        listeners: self::listeners(&listeners, &counts, setting),
        global_limit: monitor.or_else(|| setting("overload.global_downstream_max_connections")),
    })
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T> {
    let values = memchr::memchr2_iter(b'{', b'[', body).count();
    ensure!(values <= MOST_VALUES, "{what} has over {MOST_VALUES} lists and objects");
    serde_json::from_slice(body).with_context(|| format!("{what} is not as expected"))
}

/// The part of a count's name that stands for what has this name (`Stats::Utility::sanitizeStatsName`).
fn in_counts(name: &str) -> String {
    name.replace("://", "_").replace([':', '\0'], "_")
}

fn cluster(status: &ClusterStatus, counts: &HashMap<&str, u64>) -> Cluster {
    let named = &status.observability_name;
    let prefix = in_counts(if named.is_empty() { &status.name } else { named });
    let count = |name: &str| counts.get(format!("cluster.{prefix}.{name}").as_str()).copied();
    let thresholds = &status.circuit_breakers.thresholds;
    let default = |it: &&Threshold| matches!(it.priority.as_deref(), None | Some("DEFAULT"));
    let limits = thresholds.iter().find(default).map(|it| Limits {
        connections: it.max_connections.0,
        pending: it.max_pending_requests.0,
        requests: it.max_requests.0,
        retries: it.max_retries.0,
    });
    Cluster {
        name: visible(status.name.as_bytes()),
        limits: limits.unwrap_or_default(),
        active: count("upstream_cx_active"),
        connections: count("upstream_cx_total"),
        overflow: count("upstream_cx_overflow"),
        connect_failures: count("upstream_cx_connect_fail"),
        connect_timeouts: count("upstream_cx_connect_timeout"),
        pending: count("upstream_rq_pending_active"),
        pending_overflow: count("upstream_rq_pending_overflow"),
        requests: count("upstream_rq_active"),
        request_overflow: count("upstream_rq_active_overflow"),
        retry_overflow: count("upstream_rq_retry_overflow"),
        hosts: status.host_statuses.iter().map(host).collect(),
    }
}

fn host(status: &HostStatus) -> Host {
    let count = |name: &str| {
        status.stats.iter().find(|it| it.name == name).map(|it| it.value.0.unwrap_or(0))
    };
    Host {
        address: status.address.known(),
        active: count("cx_active"),
        connections: count("cx_total"),
        connect_failures: count("cx_connect_fail"),
        requests: count("rq_active"),
    }
}

/// Listeners as their counts name them: by address, or by a prefix of their own. Of the others those that have a
/// limit: their counts are not kept.
fn listeners(
    listed: &Listeners,
    counts: &HashMap<&str, u64>,
    setting: impl Fn(&str) -> Option<u64>,
) -> Vec<Listener> {
    let in_counts = |it: &ListenerStatus| Some(in_counts(&it.local_address.known()?.to_string()));
    let by_address: HashMap<String, &ListenerStatus> =
        listed.listener_statuses.iter().filter_map(|it| Some((in_counts(it)?, it))).collect();
    let own = |name: &&str| {
        // Beside `admin` and `X.worker_0`.
        let last = name.rsplit('.').next().unwrap_or_default();
        *name != "admin" && last != "main_thread" && !last.starts_with("worker_")
    };
    let listener = |prefix: &str, known: Option<&ListenerStatus>| {
        let count = |name: &str| counts.get(format!("listener.{prefix}.{name}").as_str()).copied();
        let name = known.map_or(prefix, |it| it.name.as_str());
        Listener {
            name: visible(name.as_bytes()),
            address: known.and_then(|it| it.local_address.known()),
            active: count("downstream_cx_active"),
            overflow: count("downstream_cx_overflow"),
            global_overflow: count("downstream_global_cx_overflow"),
            limit: setting(&format!("envoy.resource_limits.listener.{name}.connection_limit")),
        }
    };
    let active = counts
        .keys()
        .filter_map(|name| name.strip_prefix("listener.")?.strip_suffix(".downstream_cx_active"));
    let prefixes: BTreeSet<&str> = active.filter(own).collect();
    let counted = prefixes.iter().map(|prefix| listener(prefix, by_address.get(*prefix).copied()));
    let uncounted = listed.listener_statuses.iter().filter_map(|it| {
        let prefix = in_counts(it)?;
        // Where any has its counts, one with a prefix of its own has them by that.
        let found = prefixes.is_empty().then(|| listener(&prefix, Some(it)));
        found.filter(|it| it.limit.is_some())
    });
    counted.chain(uncounted).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxies::envoy::http;

    fn real() -> Answers {
        let body = |answer: &[u8]| http::body(answer).unwrap();
        Answers {
            clusters: body(include_bytes!("../../../fixtures/envoy/clusters.http")),
            listeners: body(include_bytes!("../../../fixtures/envoy/listeners.http")),
            stats: body(include_bytes!("../../../fixtures/envoy/stats.http")),
            runtime: body(include_bytes!("../../../fixtures/envoy/runtime.http")),
            bootstrap: body(include_bytes!("../../../fixtures/envoy/bootstrap.http")),
        }
    }

    #[test]
    fn a_real_answer_says_what_it_says() {
        let state = parse(&real()).unwrap();
        assert_eq!((state.version.as_str(), state.global_limit), ("1.40.0", Some(40)));
        let [app, shop] = state.clusters.as_slice() else { panic!("{:?}", state.clusters) };
        let limits = Limits {
            connections: Some(2),
            pending: Some(3),
            requests: Some(100),
            retries: Some(3),
        };
        assert_eq!((app.name.as_str(), app.limits), ("app", limits));
        assert_eq!((app.active, app.connections, app.overflow), (Some(2), Some(6), Some(5)));
        assert_eq!((app.connect_failures, app.connect_timeouts), (Some(4), Some(0)));
        assert_eq!((app.pending, app.pending_overflow, app.requests), (Some(2), Some(0), Some(2)));
        let host = Host {
            address: Some("127.0.0.1:9011".parse().unwrap()),
            active: Some(2),
            connections: Some(2),
            connect_failures: Some(0),
            requests: Some(2),
        };
        assert_eq!((app.hosts[0], app.hosts[1].connect_failures), (host, Some(4)));
        assert_eq!(
            (shop.name.as_str(), shop.limits.connections),
            ("outbound|80||shop.example:80", Some(1024))
        );
        let addresses: Vec<_> = shop.hosts.iter().map(|host| host.address).collect();
        assert_eq!(addresses, [Some("[::1]:9".parse().unwrap()), None]);
        let web = Listener {
            name: "web".to_owned(),
            address: Some("127.0.0.1:8080".parse().unwrap()),
            active: Some(4),
            overflow: Some(0),
            global_overflow: Some(0),
            limit: Some(30),
        };
        assert_eq!(state.listeners, [web]);
    }

    #[test]
    fn a_clusters_counts_are_found_under_the_name_they_have() {
        let mut answers = real();
        let stats = String::from_utf8(answers.stats).unwrap();
        let name = "cluster.outbound|80||shop.example_80.upstream_cx_active\",\"value\":";
        assert!(stats.contains(name));
        answers.stats = stats.replace(&format!("{name}0"), &format!("{name}7")).into_bytes();
        assert_eq!(parse(&answers).unwrap().clusters[1].active, Some(7));
    }

    #[test]
    fn counts_that_are_not_kept_are_not_zero() {
        let answers = Answers { stats: br#"{"stats":[]}"#.to_vec(), ..real() };
        let state = parse(&answers).unwrap();
        let app = &state.clusters[0];
        assert_eq!((app.active, app.pending, app.requests), (None, None, None));
        assert_eq!((app.active_or_of_hosts(), app.requests_or_of_hosts()), (Some(2), Some(2)));
        let [web] = state.listeners.as_slice() else { panic!("{:?}", state.listeners) };
        assert_eq!((web.name.as_str(), web.active, web.limit), ("web", None, Some(30)));
    }

    #[test]
    fn more_than_an_envoy_has_is_refused() {
        let mut answers = real();
        let values = |value: &str| format!(r#"{{"stats":[{}{value}]}}"#, "{},".repeat(250_000));
        answers.stats = values("{}").into_bytes();
        let error = parse(&answers).unwrap_err();
        assert!(error.to_string().contains("/stats has over 250000"), "{error}");
    }

    #[test]
    fn the_runtimes_limit_counts_where_there_is_no_monitor() {
        let answers = Answers {
            bootstrap: b"{}".to_vec(),
            runtime:
                br#"{"entries":{"overload.global_downstream_max_connections":{"final_value":"5"}}}"#
                    .to_vec(),
            ..real()
        };
        assert_eq!(parse(&answers).unwrap().global_limit, Some(5));
        let error = parse(&Answers { runtime: b"Bad Request".to_vec(), ..real() }).unwrap_err();
        assert!(error.to_string().contains("/runtime is not as expected"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(which in 0..5, noise in ".{0,20}", at: prop::sample::Index) {
            let mut answers = real();
            let body = match which {
                0 => &mut answers.clusters,
                1 => &mut answers.listeners,
                2 => &mut answers.stats,
                3 => &mut answers.runtime,
                _ => &mut answers.bootstrap,
            };
            let at = at.index(body.len());
            let end = (at + noise.len()).min(body.len());
            body.splice(at..end, noise.bytes());
            drop(parse(&answers));
        }
    }
}
