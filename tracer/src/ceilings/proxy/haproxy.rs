//! HAProxy, by what its runtime socket says. Clients beyond `maxconn` of the process or of a frontend wait in the kernel's accept
//! queue, requests beyond that of a server in a queue of HAProxy's (configuration manual, `maxconn`).

use std::collections::HashMap;

use super::{Bound, Name, subject};
use crate::{ceilings::Ceiling, human::thousands, proxies::haproxy::HaProxy};

/// Most limits of frontends and servers that are findings, the fullest.
const MAX_FOUND: usize = 200;

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
    let mut found = Vec::new();
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
    let mut waiting: HashMap<&str, u64> = HashMap::new();
    for backend in &state.backends {
        let queued = waiting.entry(&backend.name).or_default();
        *queued = queued.saturating_add(backend.queued);
    }
    for server in &state.servers {
        let Some(limit) = server.limit else { continue };
        let name = Name::new(&format!("{}/{}", server.backend, server.name));
        let bound = Bound::Server(name.clone());
        let mut ceiling = finding(bound, server.current, limit, "scur and slim of show stat");
        ceiling
            .remedy
            .push(format!("maxconn {} on the line of server {name}", limit.saturating_mul(2)));
        let of_backend = waiting.get(server.backend.as_str()).copied().unwrap_or(0);
        let queued = server.queued.saturating_add(of_backend);
        if queued > 0 {
            ceiling.notes.push(format!(
                "{} requests wait in its queue and its backend's; after `timeout queue` they are answered 503 (sQ)",
                thousands(queued)
            ));
        }
        found.push(ceiling);
    }
    found.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    found.truncate(MAX_FOUND);
    found.insert(0, global);
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

#[cfg(test)]
mod tests {
    use std::{fmt::Write, time::Instant};

    use super::*;
    use crate::proxies::{haproxy::parse, host::located};

    #[test]
    fn many_servers_cost_little_and_the_fullest_are_found() {
        let mut answer =
            "Maxconn: 9\nCurrConns: 1\n\n# type,pxname,svname,scur,slim,qcur\n".to_owned();
        for at in 0..40_000 {
            let queued = if at == 7 { u64::MAX } else { 3 };
            writeln!(answer, "1,b{at},BACKEND,1,,{queued}\n2,b{at},s,{at},40000,1").unwrap();
        }
        let haproxy = HaProxy {
            process: located(std::process::id()).unwrap(),
            finishing: Vec::new(),
            endpoint: "/run/x".to_owned(),
            state: parse(answer.as_bytes()).unwrap(),
        };
        let started = Instant::now();
        let found = assess(&haproxy);
        assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
        assert_eq!(found.len(), 1 + MAX_FOUND);
        assert_eq!((found[0].subject.scope(), found[0].limit), ("proxy", 9));
        assert_eq!((found[1].used, found[MAX_FOUND].used), (39_999, 39_800));
        assert!(found[1].notes[0].starts_with("4 requests wait"), "{:?}", found[1].notes);
    }
}
