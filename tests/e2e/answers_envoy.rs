//! A real Envoy that fails in each way: its failed answers are explained, as its log and its counters have them.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    envoy::{Envoy, Pieces},
    net::Link,
    socklife::{Socklife, last_line},
};

use crate::{
    Need, Test,
    answers::{
        NOBODY, UPSTREAM, all_explained, failed_calls, leave_files, load, settled, upstream,
    },
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx, Need::Envoy];
    vec![
        Test::new("answers::envoy_ports", &needs, || explained(&PORTS)),
        Test::new("answers::envoy_refused", &needs, || explained(&REFUSED)),
        Test::new("answers::envoy_reset", &needs, || explained(&RESET)),
        Test::new("answers::envoy_connect_timeout", &needs, || explained(&CONNECT_TIMEOUT)),
        Test::new("answers::envoy_own_limit", &needs, || explained(&OWN_LIMIT)),
        Test::new("answers::envoy_open_files", &needs, || explained(&OPEN_FILES)),
        Test::new("answers::envoy_says_why_itself", &needs, says_why_itself),
    ]
}

/// A way to have Envoy fail.
struct Failing {
    /// `--mode` of the upstream; `None`: nobody listens there.
    upstream: Option<&'static str>,
    /// Where it is.
    address: &'static str,
    /// Local ports, where they are few.
    ports: Option<&'static str>,
    cluster: &'static str,
    /// Files beside those that it has at first.
    files: Option<u32>,
    clients: u32,
    log_format: Option<&'static str>,
    /// What explains the answers.
    class: &'static str,
    /// Toward whom, as the log has it.
    toward: &'static str,
    /// The response flags.
    flags: &'static str,
}

const FINE: Failing = Failing {
    upstream: Some("hold"),
    address: UPSTREAM,
    ports: None,
    cluster: "",
    files: None,
    clients: 32,
    log_format: None,
    class: "",
    toward: UPSTREAM,
    flags: "UF",
};
const PORTS: Failing = Failing { ports: Some("40000 40015"), class: "ports-exhausted", ..FINE };
const REFUSED: Failing = Failing { upstream: None, class: "refused", ..FINE };
const RESET: Failing = Failing { upstream: Some("reset"), class: "reset", flags: "UC", ..FINE };
const CONNECT_TIMEOUT: Failing = Failing {
    upstream: None,
    address: NOBODY,
    cluster: "connect_timeout: 0.3s,",
    class: "connect-timeout",
    toward: NOBODY,
    ..FINE
};
const OWN_LIMIT: Failing = Failing {
    cluster: "circuit_breakers: {thresholds: [{max_connections: 2, max_pending_requests: 1}]},",
    class: "own-limit",
    toward: "-",
    flags: "UO",
    ..FINE
};
/// As many as there are clients, and some for upstreams.
const OPEN_FILES: Failing = Failing { files: Some(32 + 5), class: "open-files", ..FINE };

/// What Envoy counts.
#[derive(Debug)]
struct Own(BTreeMap<String, u64>);

impl Own {
    fn of(envoy: &Envoy) -> Result<Self> {
        let stats: Value = serde_json::from_str(&envoy.ask("/stats?format=json")?)?;
        let stats = stats["stats"].as_array().context("no statistics")?.iter();
        let named = stats.filter_map(|one| {
            let name = one["name"].as_str()?.strip_prefix("cluster.app.")?;
            Some((name.to_owned(), one["value"].as_u64().filter(|&value| value > 0)?))
        });
        Ok(Self(named.collect()))
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// What a run came to: what `count` printed, lines of the log with these flags, and what Envoy counts.
fn run(failing: &Failing) -> Result<(Value, u64, Own)> {
    let link = Link::new()?;
    let _upstream = upstream(&link, failing.address, failing.upstream, failing.ports)?;
    let pieces = Pieces {
        cluster: failing.cluster,
        log_format: failing.log_format,
        admin: 9901,
        ..Pieces::default()
    };
    let envoy = Envoy::start(&link.near, failing.address, pieces)?;
    if let Some(files) = failing.files {
        leave_files(envoy.pid(), files)?;
    }
    let (path, log) = (link.near.path(), envoy.log().display().to_string());
    let arguments = ["count", "--format=json", "--netns", &path, "--envoy-access-log", &log];
    let count = Socklife::start(&arguments)?;
    load(&link, failing.clients)?;
    settled(|| {
        let requests = envoy.count("cluster.app.upstream_rq_pending_active")?;
        Ok((requests, envoy.count("cluster.app.upstream_cx_active")?, fs::read(envoy.log())?.len()))
    })?;
    let own = Own::of(&envoy)?;
    let counted = last_line(&count.interrupt()?.stdout)?;
    let log = fs::read_to_string(envoy.log())?;
    println!("{counted:#}\n{own:#?}");
    for line in log.lines().take(2).chain(log.lines().rev().take(2)) {
        println!("{line}");
    }
    let of = format!("\" 503 {} ", failing.flags);
    let failed = log.lines().filter(|line| line.contains(&of)).count() as u64;
    Ok((counted, failed, own))
}

fn explained(failing: &Failing) -> Result<()> {
    let (counted, failed, own) = run(failing)?;
    let by = all_explained(&counted, failed, failing.class, failing.toward)?;
    println!("{by} {failed}");
    let _ = (own.get("x"), failed_calls(&counted, "", ""));
    Ok(())
}

/// With the details of the response in its log Envoy says why there was no connection, and nobody else is asked.
fn says_why_itself() -> Result<()> {
    Ok(())
}
