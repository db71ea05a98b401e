//! Envoy, by what its admin interface says: circuit breakers of clusters, limits of listeners.

use super::{Bound, Name, subject};
use crate::{
    ceilings::{Ceiling, ErrorName, Failed, Since},
    proxies::envoy::Envoy,
};

/// Most clusters that are findings, the fullest: a service mesh has thousands.
const MAX_CLUSTERS: usize = 200;

/// The findings of one Envoy.
pub(super) fn assess(envoy: &Envoy) -> Vec<Ceiling> {
    let state = &envoy.state;
    let finding = |bound, (used, limit), keys: &str, failures: &[(ErrorName, u64)]| {
        let mut ceiling = Ceiling::new(subject(&envoy.process, bound), used, limit);
        ceiling.evidence = format!("{keys} at {}", Name::new(&envoy.endpoint)).into();
        let (since, per_s) = (Since::Boot, None);
        let failed = failures.iter().map(|&(error, count)| Failed {
            error,
            count,
            per_s,
            since,
            who: Vec::new(),
        });
        ceiling.failures.extend(failed);
        ceiling
    };
    let mut clusters = Vec::new();
    for cluster in &state.clusters {
        let name = Name::new(&cluster.name);
        if let Some(limit) = cluster.limits.connections {
            let keys = "upstream_cx_active of /stats, max_connections of /clusters";
            let overflow = [("upstream_cx_overflow", cluster.overflow)];
            let bound = Bound::Cluster(name.clone());
            let mut ceiling = finding(bound, (cluster.active, limit), keys, &overflow);
            let value = limit.saturating_mul(2);
            ceiling.remedy.push(format!(
                "circuit_breakers.thresholds.max_connections: {value} in cluster {name}"
            ));
            clusters.push(ceiling);
        }
        if let Some(limit) = cluster.limits.pending {
            let keys = "upstream_rq_pending_active of /stats, max_pending_requests of /clusters";
            let overflow = [("upstream_rq_pending_overflow", cluster.pending_overflow)];
            let bound = Bound::Pending(name.clone());
            let mut ceiling = finding(bound, (cluster.pending, limit), keys, &overflow);
            ceiling.remedy.push(format!(
                "circuit_breakers.thresholds.max_pending_requests: {} in cluster {name}, or more connections",
                limit.saturating_mul(2).max(1)
            ));
            clusters.push(ceiling);
        }
    }
    clusters.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    clusters.truncate(MAX_CLUSTERS);
    let mut found = clusters;
    for listener in &state.listeners {
        let Some(limit) = listener.limit else { continue };
        let name = Name::new(&listener.name);
        let keys = "downstream_cx_active of /stats, connection_limit of /runtime";
        let overflow = [("downstream_cx_overflow", listener.overflow)];
        let bound = Bound::Listener(name.clone());
        let mut ceiling = finding(bound, (listener.active, limit), keys, &overflow);
        ceiling.remedy.push(format!(
            "envoy.resource_limits.listener.{name}.connection_limit: {} in its runtime",
            limit.saturating_mul(2)
        ));
        found.push(ceiling);
    }
    if let Some(limit) = state.global_limit {
        let active = state.listeners.iter().map(|listener| listener.active).sum();
        let refused = state.listeners.iter().map(|listener| listener.global_overflow).sum();
        let keys = "downstream_cx_active of /stats, the overload manager's limit";
        let overflow = [("downstream_global_cx_overflow", refused)];
        let mut ceiling = finding(Bound::AllListeners, (active, limit), keys, &overflow);
        ceiling.remedy.push(format!(
            "max_active_downstream_connections: {} in its overload_manager",
            limit.saturating_mul(2)
        ));
        found.push(ceiling);
    }
    found
}
