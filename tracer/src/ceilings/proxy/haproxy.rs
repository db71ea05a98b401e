//! HAProxy, by what its runtime socket says. Clients beyond `maxconn` of the process or of a frontend wait in the kernel's accept
//! queue, requests beyond that of a server in a queue of HAProxy's (configuration manual, `maxconn`).

use super::{Bound, Name, subject};
use crate::{
    ceilings::Ceiling,
    human::thousands,
    proxies::haproxy::{Backend, HaProxy},
};

/// The findings of one HAProxy.
pub(super) fn assess(haproxy: &HaProxy) -> Vec<Ceiling> {
    let state = &haproxy.state;
    let finding = |bound, used, limit, keys: &str| {
        let mut ceiling = Ceiling::new(subject(&haproxy.process, bound), used, limit);
        ceiling.evidence = format!("{keys} at {}", Name::new(&haproxy.endpoint)).into();
        ceiling
    };
    let mut global =
        finding(Bound::Global, state.current, state.maxconn, "CurrConns and Maxconn of show info");
    let value = state.maxconn.saturating_mul(2);
    global.remedy.push(format!(
        "maxconn {value} in its global section, and LimitNOFILE={} in its unit: each client takes two files",
        value.saturating_mul(2).saturating_add(100)
    ));
    if let Some(hard) = state.hard_maxconn.filter(|&hard| hard > state.maxconn) {
        global.remedy.push(format!("now: set maxconn global {hard}, on its runtime socket"));
    }
    global.notes.extend(finishing(haproxy));
    let mut found = vec![global];
    for frontend in &state.frontends {
        // Without one of its own it has the process's.
        let Some(limit) = frontend.limit.filter(|&limit| limit != state.maxconn) else { continue };
        let bound = Bound::Frontend(Name::new(&frontend.name));
        let mut ceiling = finding(bound, frontend.current, limit, "scur and slim of show stat");
        let value = limit.saturating_mul(2);
        ceiling.remedy.push(format!("maxconn {value} in frontend {}", Name::new(&frontend.name)));
        ceiling.notes.push(
            "clients beyond it wait in the accept queue: no line in the log, no counter".to_owned(),
        );
        found.push(ceiling);
    }
    for server in &state.servers {
        let Some(limit) = server.limit else { continue };
        let name = Name::new(&format!("{}/{}", server.backend, server.name));
        let bound = Bound::Server(name.clone());
        let mut ceiling = finding(bound, server.current, limit, "scur and slim of show stat");
        ceiling
            .remedy
            .push(format!("maxconn {} on the line of server {name}", limit.saturating_mul(2)));
        let waiting = |backend: &&Backend| backend.name == server.backend;
        let queued = server.queued + state.backends.iter().find(waiting).map_or(0, |it| it.queued);
        if queued > 0 {
            ceiling.notes.push(format!(
                "{} requests wait in its queue and its backend's; after `timeout queue` they are answered 503 (sQ)",
                thousands(queued)
            ));
        }
        found.push(ceiling);
    }
    found
}

fn finishing(haproxy: &HaProxy) -> Option<String> {
    let pids: Vec<_> = haproxy.finishing.iter().map(|it| it.process.pid.to_string()).collect();
    (!pids.is_empty()).then(|| {
        format!(
            "from before a reload, finishing their connections, not in here: {}",
            pids.join(", ")
        )
    })
}
