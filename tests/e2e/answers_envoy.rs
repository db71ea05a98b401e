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
        NOBODY, UPSTREAM, all_explained, by_class, failed_calls, leave_files, load, settled,
        upstream,
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

/// What a run came to.
struct Ran {
    /// What `count` printed.
    counted: Value,
    log: String,
    own: Own,
}

impl Ran {
    /// Lines of the log with this.
    fn lines(&self, with: &str) -> u64 {
        self.log.lines().filter(|line| line.contains(with)).count() as u64
    }
}

/// `then_gone`: after a while the upstream ends.
fn run(failing: &Failing, then_gone: bool) -> Result<Ran> {
    let link = Link::new()?;
    let upstream = upstream(&link, failing.address, failing.upstream, failing.ports)?;
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
    let quiet = || {
        settled(|| {
            let waiting = envoy.count("cluster.app.upstream_rq_pending_active")?;
            let active = envoy.count("cluster.app.upstream_cx_active")?;
            Ok((waiting, active, fs::read(envoy.log())?.len()))
        })
    };
    quiet()?;
    if then_gone {
        drop(upstream);
        load(&link, failing.clients)?;
        quiet()?;
    }
    let own = Own::of(&envoy)?;
    let counted = last_line(&count.interrupt()?.stdout)?;
    let log = fs::read_to_string(envoy.log())?;
    println!("{counted:#}\n{own:#?}");
    Ok(Ran { counted, log, own })
}

/// Its worker thread, which is named after the number that it has.
const WORKER: &str = "wrk:worker_0";

fn explained(failing: &Failing) -> Result<()> {
    let ran = run(failing, false)?;
    let failed = ran.lines(&format!("\" 503 {} ", failing.flags));
    let by = all_explained(&ran.counted, failed, failing.class, failing.toward)?;
    let (own, kernel) = (&ran.own, by["kernel"].as_u64());
    let ejected = own.get("upstream_rq_pending_failure_eject");
    let no_connection = own.get("upstream_cx_connect_fail");
    match failing.class {
        "own-limit" => {
            ensure!(own.get("upstream_rq_pending_overflow") == failed, "{failed} {own:?}");
            ensure!(kernel.is_none(), "{by}");
        }
        "reset" => {
            let reset = own.get("upstream_cx_destroy_remote_with_active_rq");
            ensure!(reset == failed, "{failed} {own:?}");
            // Where the client left Envoy closes the connection, before or after its reset.
            let left = own.get("upstream_cx_destroy_local_with_active_rq");
            let seen = reset..=reset + left;
            ensure!(kernel.is_some_and(|kernel| seen.contains(&kernel)), "{by} {own:?}");
        }
        // Requests that wait fail with the connection that was to be theirs: answers are requests, of which one
        // connection may have several.
        "open-files" => {
            ensure!(ejected == failed, "{failed} {own:?}");
            let calls = failed_calls(&ran.counted, "process-file-limit", WORKER);
            ensure!(calls == no_connection, "{calls} in the kernel: {own:?}");
            ensure!(kernel.is_none(), "{by}");
        }
        class => {
            ensure!(ejected == failed, "{failed} {own:?}");
            // With those whose client left meanwhile.
            ensure!(kernel == Some(no_connection), "{by} {own:?}");
            if class == "connect-timeout" {
                ensure!(own.get("upstream_cx_connect_timeout") == no_connection, "{own:?}");
            }
        }
    }
    Ok(())
}

/// With the details of the response in its log Envoy says why there was no connection, of each answer; without them
/// answers are divided between two causes, and that is said.
fn says_why_itself() -> Result<()> {
    const DETAILED: &str = "{\"start_time\":\"%START_TIME%\",\"response_code\":%RESPONSE_CODE%,\
        \"response_flags\":\"%RESPONSE_FLAGS%\",\"upstream_host\":\"%UPSTREAM_HOST%\",\
        \"response_code_details\":\"%RESPONSE_CODE_DETAILS%\"}";
    let answers = |ran: &Ran, class| -> Result<(u64, bool)> {
        let by = by_class(&ran.counted["answers"], class, |it| it == UPSTREAM)?;
        ensure!(by.len() == 1, "{class}: {by:?}");
        let inferred = by[0].get("inferred").is_some();
        Ok((by[0]["answers"].as_u64().context("answers")?, inferred))
    };
    for log_format in [Some(DETAILED), None] {
        let ran = run(&Failing { log_format, ..PORTS }, true)?;
        let (ports, refused) = (answers(&ran, "ports-exhausted")?, answers(&ran, "refused")?);
        let ejected = ran.own.get("upstream_rq_pending_failure_eject");
        ensure!(ports.0 + refused.0 == ejected, "{ports:?} {refused:?} {ejected}");
        if log_format.is_some() {
            ensure!(ports == (ran.lines(":_Cannot_assign_requested_address"), false), "{ports:?}");
            ensure!(refused == (ran.lines(":_Connection_refused"), false), "{refused:?}");
        } else {
            ensure!(ports.1 && refused.1, "{ports:?} {refused:?}");
        }
        ensure!(ran.counted["answers"]["share"] == 1.0, "{}", ran.counted["answers"]);
    }
    Ok(())
}
