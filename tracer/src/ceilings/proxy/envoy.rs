//! Envoy, by what its admin interface says: circuit breakers of clusters, limits of listeners.

use super::{Bound, Name, subject};
use crate::{
    ceilings::{Ceiling, ErrorName, Failed, Since},
    proxies::envoy::{Cluster, Envoy},
};

/// Most clusters' limits that are findings, the fullest: a service mesh has thousands of clusters.
const MAX_CLUSTERS: usize = 200;

/// The findings of one Envoy. There are none of limits whose usage it doesn't tell.
pub(super) fn assess(envoy: &Envoy) -> Vec<Ceiling> {
    let state = &envoy.state;
    let mut found: Vec<_> =
        state.clusters.iter().flat_map(|cluster| of_cluster(envoy, cluster)).collect();
    found.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    found.truncate(MAX_CLUSTERS);
    for listener in &state.listeners {
        let (Some(limit), Some(active)) = (listener.limit, listener.active) else { continue };
        let name = Name::new(&listener.name);
        let keys = "downstream_cx_active of /stats, connection_limit of /runtime";
        let overflow = ("downstream_cx_overflow", listener.overflow);
        let bound = Bound::Listener(name.clone());
        let mut ceiling = finding(envoy, bound, (active, limit), keys, overflow);
        ceiling.remedy.push(format!(
            "envoy.resource_limits.listener.{name}.connection_limit: {} in its runtime",
            limit.saturating_mul(2)
        ));
        found.push(ceiling);
    }
    let sum = |counts: Vec<Option<u64>>| {
        let known: Option<Vec<u64>> = counts.into_iter().collect();
        known
            .filter(|known| !known.is_empty())
            .map(|known| known.into_iter().fold(0, u64::saturating_add))
    };
    let active = sum(state.listeners.iter().map(|listener| listener.active).collect());
    if let (Some(limit), Some(active)) = (state.global_limit, active) {
        let refused =
            sum(state.listeners.iter().map(|listener| listener.global_overflow).collect());
        let keys = "downstream_cx_active of /stats, the overload manager's limit";
        let overflow = ("downstream_global_cx_overflow", refused);
        let mut ceiling = finding(envoy, Bound::AllListeners, (active, limit), keys, overflow);
        ceiling.remedy.push(format!(
            "max_active_downstream_connections: {} in its overload_manager",
            limit.saturating_mul(2)
        ));
        found.push(ceiling);
    }
    found
}

/// Its circuit breakers.
fn of_cluster(envoy: &Envoy, cluster: &Cluster) -> Vec<Ceiling> {
    let (name, limits) = (Name::new(&cluster.name), &cluster.limits);
    let mut found = Vec::new();
    if let (Some(limit), Some(active)) = (limits.connections, cluster.active_or_of_hosts()) {
        let keys = match cluster.active {
            Some(_) => "upstream_cx_active of /stats, max_connections of /clusters",
            None => "cx_active of its hosts and max_connections of /clusters",
        };
        let overflow = ("upstream_cx_overflow", cluster.overflow);
        let bound = Bound::Cluster(name.clone());
        let mut ceiling = finding(envoy, bound, (active, limit), keys, overflow);
        ceiling.remedy.push(format!(
            "circuit_breakers.thresholds.max_connections: {} in cluster {name}",
            limit.saturating_mul(2)
        ));
        found.push(ceiling);
    }
    if let (Some(limit), Some(pending)) = (limits.pending, cluster.pending) {
        let keys = "upstream_rq_pending_active of /stats, max_pending_requests of /clusters";
        let overflow = ("upstream_rq_pending_overflow", cluster.pending_overflow);
        let bound = Bound::Pending(name.clone());
        let mut ceiling = finding(envoy, bound, (pending, limit), keys, overflow);
        ceiling.remedy.push(format!(
            "circuit_breakers.thresholds.max_pending_requests: {} in cluster {name}, or more connections",
            limit.saturating_mul(2).max(1)
        ));
        found.push(ceiling);
    }
    if let (Some(limit), Some(requests)) = (limits.requests, cluster.requests_or_of_hosts()) {
        let keys = match cluster.requests {
            Some(_) => "upstream_rq_active of /stats, max_requests of /clusters",
            None => "rq_active of its hosts and max_requests of /clusters",
        };
        // Where an Envoy hasn't the first, it counts those in the second.
        let overflow = match (cluster.request_overflow, cluster.pending_overflow) {
            (None, Some(both)) => ("upstream_rq_pending_overflow", Some(both)),
            (own, _) => ("upstream_rq_active_overflow", own),
        };
        let bound = Bound::Requests(name.clone());
        let mut ceiling = finding(envoy, bound, (requests, limit), keys, overflow);
        if cluster.request_overflow.is_none() && cluster.pending_overflow.is_some() {
            ceiling.notes.push(
                "upstream_rq_pending_overflow counts requests refused by max_pending_requests too"
                    .to_owned(),
            );
        }
        ceiling.remedy.push(format!(
            "circuit_breakers.thresholds.max_requests: {} in cluster {name}",
            limit.saturating_mul(2).max(1)
        ));
        found.push(ceiling);
    }
    found
}

fn finding(
    envoy: &Envoy,
    bound: Bound,
    (used, limit): (u64, u64),
    keys: &str,
    (error, refused): (ErrorName, Option<u64>),
) -> Ceiling {
    let mut ceiling = Ceiling::new(subject(&envoy.process, bound), used, limit);
    ceiling.evidence = format!("{keys} at {}", Name::new(&envoy.endpoint)).into();
    let failed = refused.map(|count| Failed {
        error,
        count,
        per_s: None,
        since: Since::Boot,
        who: Vec::new(),
    });
    ceiling.failures.extend(failed);
    if envoy.inferred {
        ceiling.inferred = true;
        ceiling.notes.push(
            "several Envoys would be asked there: which of them answered is not known".to_owned(),
        );
    }
    ceiling
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::{
        envoy::{Answers, http, parse},
        host::located,
    };

    fn with(stats: &[u8]) -> Envoy {
        let body = |answer: &[u8]| http::body(answer).unwrap();
        let answers = Answers {
            clusters: body(include_bytes!("../../../fixtures/envoy/clusters.http")),
            listeners: body(include_bytes!("../../../fixtures/envoy/listeners.http")),
            stats: stats.to_vec(),
            runtime: body(include_bytes!("../../../fixtures/envoy/runtime.http")),
            bootstrap: body(include_bytes!("../../../fixtures/envoy/bootstrap.http")),
        };
        Envoy {
            process: located(std::process::id()).unwrap(),
            inferred: false,
            endpoint: "127.0.0.1:9901".to_owned(),
            state: parse(&answers).unwrap(),
        }
    }

    fn found(envoy: &Envoy) -> Vec<(String, u64, u64)> {
        let bound = |it: &Ceiling| match &it.subject {
            crate::ceilings::Subject::Proxy { bound, .. } => bound.to_string(),
            other => other.to_string(),
        };
        let mut found: Vec<_> =
            assess(envoy).iter().map(|it| (bound(it), it.used, it.limit)).collect();
        found.retain(|(name, ..)| !name.contains("shop"));
        found
    }

    #[test]
    fn requests_have_a_limit_of_their_own() {
        let stats = http::body(include_bytes!("../../../fixtures/envoy/stats.http")).unwrap();
        let envoy = with(&stats);
        let requests = ("max_requests of cluster app".to_owned(), 2, 100);
        assert!(found(&envoy).contains(&requests), "{:?}", found(&envoy));
        let all = assess(&envoy);
        let finding = |scope| {
            let of = |it: &&Ceiling| {
                it.subject.scope() == scope && it.subject.to_string().contains("app")
            };
            all.iter().find(of).unwrap()
        };
        assert_eq!(finding("requests").failures[0].error, "upstream_rq_active_overflow");
        let mut older = envoy.clone();
        older.state.clusters[0].request_overflow = None;
        older.state.clusters[0].pending_overflow = Some(9);
        let failed = of_cluster(&older, &older.state.clusters[0]).pop().unwrap().failures;
        assert_eq!((failed[0].error, failed[0].count), ("upstream_rq_pending_overflow", 9));
    }

    #[test]
    fn what_is_not_counted_is_no_finding_of_nothing() {
        let envoy = with(br#"{"stats":[]}"#);
        let known = [
            ("max_connections of cluster app".to_owned(), 2, 2),
            ("max_requests of cluster app".to_owned(), 2, 100),
        ];
        assert_eq!(found(&envoy), known);
        assert!(assess(&envoy).iter().all(|it| it.failures.is_empty()));
    }
}
