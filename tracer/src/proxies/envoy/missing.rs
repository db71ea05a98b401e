//! Counts that an Envoy doesn't have, for it was told not to: what they would tell is not taken for zero.

use std::collections::BTreeMap;

use super::Envoy;

/// Limits from there on are none: of unsigned 32 bits, all set, as Istio has it.
const NONE: u64 = u32::MAX as u64;

/// Which limits of an Envoy can't be looked at for want of counts, in a person's words.
pub(super) fn of(envoy: &Envoy) -> Option<String> {
    let (state, mut missing) = (&envoy.state, BTreeMap::<_, u64>::new());
    let bounded = |limit: Option<u64>| limit.is_some_and(|limit| limit < NONE);
    let mut note = |limit, count: Option<u64>, name: &'static str| {
        if bounded(limit) && count.is_none() {
            *missing.entry(name).or_default() += 1;
        }
    };
    for cluster in &state.clusters {
        let limits = &cluster.limits;
        note(limits.connections, cluster.active_or_of_hosts(), "upstream_cx_active");
        note(limits.pending, cluster.pending, "upstream_rq_pending_active");
        note(limits.requests, cluster.requests_or_of_hosts(), "upstream_rq_active");
    }
    for listener in &state.listeners {
        note(listener.limit.or(state.global_limit), listener.active, "downstream_cx_active");
    }
    if state.listeners.is_empty() {
        note(state.global_limit, None, "downstream_cx_active");
    }
    let first = *missing.keys().next()?;
    let names: Vec<_> = missing.into_iter().map(|(name, of)| format!("{name} (of {of})")).collect();
    Some(format!(
        "Envoy (process {}) has no counts of its clusters or listeners for some limits, which are not told of: {}. \
         Have it keep them: `stats_config.stats_matcher` of its bootstrap; with Istio `proxyStatsMatcher`, such as \
         `inclusionSuffixes: [{first}]`",
        envoy.process.process.pid,
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::{
        envoy::{Cluster, Limits, Listener, State},
        host::located,
    };

    #[test]
    fn what_is_not_counted_is_named_where_it_is_bounded() {
        let limits = |limit| Limits {
            connections: Some(limit),
            pending: Some(limit),
            requests: Some(limit),
            retries: Some(limit),
        };
        let cluster = |limit| Cluster { limits: limits(limit), ..Cluster::default() };
        let listener = Listener {
            name: String::new(),
            address: None,
            active: None,
            overflow: None,
            global_overflow: None,
            limit: None,
        };
        let mut envoy = Envoy {
            process: located(std::process::id()).unwrap(),
            inferred: false,
            endpoint: String::new(),
            state: State {
                clusters: vec![cluster(NONE), cluster(3), cluster(1024)],
                listeners: vec![listener],
                ..State::default()
            },
        };
        let why = of(&envoy).unwrap();
        assert!(why.contains("told of: upstream_rq_pending_active (of 2). Have"), "{why}");
        assert!(why.contains("proxyStatsMatcher") && why.contains("stats_config"), "{why}");
        envoy.state.global_limit = Some(9);
        envoy.state.clusters.truncate(1);
        let why = of(&envoy).unwrap();
        assert!(why.contains("told of: downstream_cx_active (of 1). Have"), "{why}");
        envoy.state.listeners[0].active = Some(0);
        assert_eq!(of(&envoy), None);
    }
}
