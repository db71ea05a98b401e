//! A real HAProxy that fails in each way: its failed answers are explained, as its log and its counters have them.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    haproxy::{HaProxy, Sections},
    net::Link,
    socklife::{Socklife, last_line},
    wait_for,
};

use crate::{
    Need, Test,
    answers::{
        NOBODY, UPSTREAM, all_explained, ask, by_class, failed_calls, leave_files, load, settled,
        upstream,
    },
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx, Need::HaProxy];
    vec![
        Test::new("answers::haproxy_ports", &needs, || explained(&PORTS)),
        Test::new("answers::haproxy_refused", &needs, || explained(&REFUSED)),
        Test::new("answers::haproxy_reset", &needs, || explained(&RESET)),
        Test::new("answers::haproxy_connect_timeout", &needs, || explained(&CONNECT_TIMEOUT)),
        Test::new("answers::haproxy_own_limit", &needs, || explained(&OWN_LIMIT)),
        Test::new("answers::haproxy_open_files", &needs, || explained(&OPEN_FILES)),
        Test::new("answers::haproxy_two_causes", &needs, two_causes),
    ]
}

/// A way to have HAProxy fail.
struct Failing {
    /// `--mode` of the upstream; `None`: nobody listens there.
    upstream: Option<&'static str>,
    /// Where it is.
    address: &'static str,
    /// Local ports, where they are few.
    ports: Option<&'static str>,
    defaults: &'static str,
    server: &'static str,
    /// Files beside those that it has at first.
    files: Option<u32>,
    clients: u32,
    /// What explains the answers.
    class: &'static str,
    /// Toward whom, as the log has it.
    toward: &'static str,
    /// The state of their sessions.
    state: &'static str,
}

const FINE: Failing = Failing {
    upstream: Some("hold"),
    address: UPSTREAM,
    ports: None,
    defaults: "",
    server: "",
    files: None,
    clients: 64,
    class: "",
    toward: "app/s1",
    state: "SC",
};
const PORTS: Failing = Failing { ports: Some("40000 40015"), class: "ports-exhausted", ..FINE };
const REFUSED: Failing =
    Failing { upstream: None, defaults: "retries 1", class: "refused", ..FINE };
const RESET: Failing = Failing { upstream: Some("reset"), class: "reset", state: "SH", ..FINE };
const CONNECT_TIMEOUT: Failing = Failing {
    upstream: None,
    address: NOBODY,
    defaults: "timeout connect 300ms\nretries 1",
    class: "connect-timeout",
    state: "sC",
    ..FINE
};
const OWN_LIMIT: Failing = Failing {
    defaults: "timeout queue 300ms",
    server: "maxconn 2",
    class: "own-limit",
    toward: "-",
    state: "sQ",
    ..FINE
};
const OPEN_FILES: Failing = Failing {
    upstream: Some("answer"),
    defaults: "retries 1",
    files: Some(16),
    clients: 15,
    class: "open-files",
    ..FINE
};

/// What HAProxy says of itself.
#[derive(Debug)]
struct Own {
    /// `econ` of the server, and of the backend: that has also those that waited in vain.
    connect: u64,
    backend_connect: u64,
    /// `eresp`, `wretr`, `connect` of the server.
    response: u64,
    retries: u64,
    connects: u64,
    dropped_logs: u64,
}

impl Own {
    fn of(haproxy: &HaProxy) -> Result<Self> {
        let info = haproxy.ask("show info")?;
        let dropped = info.lines().find_map(|line| line.strip_prefix("DroppedLogs: "));
        Ok(Self {
            connect: haproxy.count("app", "s1", "econ")?,
            backend_connect: haproxy.count("app", "BACKEND", "econ")?,
            response: haproxy.count("app", "s1", "eresp")?,
            retries: haproxy.count("app", "s1", "wretr")?,
            connects: haproxy.count("app", "s1", "connect")?,
            dropped_logs: dropped.context("DroppedLogs")?.trim().parse()?,
        })
    }
}

/// What a run came to: what `count` printed, the log, and what HAProxy says of itself. `then_gone`: after a while the
/// upstream ends.
fn run(failing: &Failing, then_gone: bool) -> Result<(Value, String, Own)> {
    let link = Link::new()?;
    let upstream = upstream(&link, failing.address, failing.upstream, failing.ports)?;
    let defaults = format!("option httpclose\n{}", failing.defaults);
    let sections = Sections {
        global: "nbthread 1",
        defaults: &defaults,
        // Its log loses lines that come too fast.
        frontend: "rate-limit sessions 1000",
        server: failing.server,
        ..Sections::default()
    };
    let haproxy = HaProxy::start(&link.near, failing.address, sections)?;
    if let Some(files) = failing.files {
        // It opens its log's socket with the first line, and without one no line says what failed.
        ask(&link, "/")?;
        wait_for("its line", || {
            Ok(fs::read_to_string(haproxy.log())?.ends_with('\n').then_some(()))
        })?;
        leave_files(haproxy.pid(), files)?;
    }
    let (path, log) = (link.near.path(), haproxy.log().display().to_string());
    let arguments = ["count", "--format=json", "--netns", &path, "--haproxy-log", &log];
    let count = Socklife::start(&arguments)?;
    load(&link, failing.clients)?;
    let quiet = || {
        settled(|| {
            let current = haproxy.count("app", "BACKEND", "scur")?;
            let queued = haproxy.count("app", "BACKEND", "qcur")?;
            Ok((current, queued, fs::read(haproxy.log())?.len()))
        })
    };
    quiet()?;
    if then_gone {
        drop(upstream);
        load(&link, failing.clients)?;
        quiet()?;
    }
    let own = Own::of(&haproxy)?;
    let counted = last_line(&count.interrupt()?.stdout)?;
    let log = fs::read_to_string(haproxy.log())?;
    println!("{counted:#}\n{own:?}");
    Ok((counted, log, own))
}

const NO_PORTS: &str = "Connect() failed for backend app: no free ports.";

fn lines_with(log: &str, text: &str) -> u64 {
    log.lines().filter(|line| line.contains(text)).count() as u64
}

/// Of two causes that look alike (`SC`) its other lines say which it was.
fn two_causes() -> Result<()> {
    let (counted, log, own) = run(&Failing { defaults: "retries 0", ..PORTS }, true)?;
    let (no_ports, all) = (lines_with(&log, NO_PORTS), lines_with(&log, " - - SC-- "));
    ensure!(own.dropped_logs == 0 && own.connect == all, "{all} {own:?}");
    for (class, wanted) in [("ports-exhausted", no_ports), ("refused", all - no_ports)] {
        let by = by_class(&counted["answers"], class, |it| it == "app/s1")?;
        ensure!(wanted > 10 && by.len() == 1, "{class} {wanted}: {by:?}");
        ensure!(by[0]["answers"] == wanted && by[0]["kernel"] == wanted, "{wanted}: {}", by[0]);
        ensure!(by[0].get("inferred").is_none(), "{}", by[0]);
    }
    ensure!(counted["answers"]["share"] == 1.0, "{}", counted["answers"]);
    Ok(())
}

fn explained(failing: &Failing) -> Result<()> {
    let (counted, log, own) = run(failing, false)?;
    agree(&counted, &log, &own, failing)
}

fn agree(counted: &Value, log: &str, own: &Own, failing: &Failing) -> Result<()> {
    let of = |text: &str| lines_with(log, text);
    let failed = of(&format!(" - - {}-- ", failing.state));
    let by = all_explained(counted, failed, failing.class, failing.toward)?;
    // A line that its log had no room for is in its counters alone.
    let logged = |what: &str, lines: u64, count: u64| {
        let most = lines + own.dropped_logs;
        ensure!((lines..=most).contains(&count), "{what}: {lines} lines, but {count}: {own:?}");
        Ok(())
    };
    let tries = own.connect + own.retries;
    let no_ports = of(NO_PORTS);
    let no_files = |proxy| of(&format!(" Proxy {proxy} reached process FD limit "));
    let lines = |upstream: &str| -> Result<u64> {
        let by = by_class(&counted["answers"], failing.class, |it| it == upstream)?;
        Ok(by.iter().filter_map(|by| by["lines"].as_u64()).sum())
    };
    let kernel = by["kernel"].as_u64();
    match failing.class {
        "own-limit" => {
            logged("econ of the backend", failed, own.backend_connect)?;
            ensure!(own.connect == 0 && kernel.is_none(), "{own:?} {by}");
        }
        "reset" => {
            // Each connection that is reset counts, and so does each answer.
            logged(
                "eresp, but for the resets",
                failed,
                own.response.saturating_sub(kernel.unwrap_or(0)),
            )?;
            ensure!(kernel == Some(own.connects), "all connections were reset: {own:?} {by}");
        }
        "open-files" => {
            logged("econ", failed, own.connect)?;
            logged("tries", no_files("app"), tries)?;
            // It was accept() that had no file.
            let accepts = no_files("web");
            let calls = failed_calls(counted, "process-file-limit", "haproxy");
            logged("the kernel's", tries + accepts, calls)?;
            ensure!(lines("-")? == no_files("app") + accepts && kernel.is_none(), "{counted}");
        }
        class => {
            logged("econ", failed, own.connect)?;
            ensure!(kernel == Some(tries), "a failure in the kernel for each try: {own:?} {by}");
            if class == "ports-exhausted" {
                logged("tries", no_ports, tries)?;
                ensure!(lines("app")? == no_ports, "{no_ports} lines: {counted}");
            }
        }
    }
    Ok(())
}
