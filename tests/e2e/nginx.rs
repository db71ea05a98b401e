//! The main job: the EADDRNOTAVAIL behind a real Nginx's 502s, exactly.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use anyhow::{Result, ensure};
use serde_json::Value;
use socklife_tests::{
    net::{FAR4, Link, NEAR4},
    nginx::Nginx,
    process::run,
    socklife::{Socklife, last_line, lines, lost},
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx];
    vec![
        Test::new("nginx::count_equals_the_502s", &needs, count_equals_the_502s),
        Test::new("nginx::bind_to_a_foreign_address", &needs, bind_to_a_foreign_address),
        Test::new("nginx::too_many_open_files", &needs, too_many_open_files),
    ]
}

/// Local ports that Nginx has toward its upstream.
const PORTS: u64 = 64;

fn count_equals_the_502s() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl("net.ipv4.ip_local_port_range", "40000 40063")?;
    let upstream = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[upstream.parse()?])?;
    let nginx = Nginx::start(&link.near, &upstream, "", "")?;

    let events = tempfile::NamedTempFile::new()?;
    let trace = Socklife::start_into(events.path(), &["trace", "--failures", "--format=json"])?;
    let count = Socklife::start(&["count", "--format=json", "--interval=1s"])?;

    // 64 of its connections wait for the upstream that never answers; the others get 502 at once.
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    let load = ["-t", "1", "-c", "128", "-d", "5s", &target];
    let said = run(link.far.command("wrk").args(load))?;

    let logs = nginx.stop()?;
    let counted = count.interrupt()?;
    ensure!(counted.code == Some(0), "count ended with {:?}: {}", counted.code, counted.stderr);
    let counts = lines(&counted.stdout)?;
    ensure!(counts.len() >= 5, "an object every interval: {}", counted.stdout);
    let counted = last_line(&counted.stdout)?;
    let traced = trace.interrupt()?;
    let traced_events = lines(&std::fs::read_to_string(events.path())?)?;

    let (exhausted, workers) = (logs.with(99), logs.by_worker(99));
    println!("error-log lines (99: ...): {exhausted}; statuses: {:?}", logs.statuses);
    println!("count: {counted}\ntrace: {}wrk: {said}", traced.stderr);
    ensure!(exhausted > 1000, "the load did not exhaust the ports: {said}");
    ensure!(workers.len() == 2, "both workers failed: {logs:?}");
    ensure!(logs.statuses.get(&502) == Some(&exhausted), "Nginx's own logs disagree: {logs:?}");
    ensure!(counted["total"] == exhausted, "count says {}", counted["total"]);
    ensure!(counted["lost"] == 0 && counted["produced"] == counted["seen"], "lost: {counted}");
    check_rows(&counted, &workers, std::fs::metadata(link.near.path())?.ino())?;
    check_trace(&traced_events, &workers)
}

/// One row: Nginx's two workers, toward the upstream, in its namespace, with all ports in use.
fn check_rows(counted: &Value, workers: &BTreeMap<u32, u64>, netns: u64) -> Result<()> {
    let rows = counted["by"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(rows.len() == 1, "one row: {counted}");
    let expected = serde_json::json!({
        "error": "EADDRNOTAVAIL", "reason": "port-range-exhausted", "comm": "nginx",
        "pids": workers.keys().collect::<Vec<_>>(), "src": NEAR4, "dst": FAR4, "dport": 9001,
        "netns": netns, "count": counted["total"], "ports_used": PORTS, "ports_usable": PORTS,
    });
    for (key, value) in expected.as_object().into_iter().flatten() {
        ensure!(rows[0][key] == *value, "{key} is {} instead of {value}", rows[0][key]);
    }
    ensure!(rows[0]["first"].as_str() <= rows[0]["last"].as_str(), "times: {}", rows[0]);
    Ok(())
}

/// Every event has the worker that logged the line, and the upstream.
fn check_trace(events: &[Value], workers: &BTreeMap<u32, u64>) -> Result<()> {
    ensure!(lost(events) == 0, "trace lost events");
    let mut by_worker = BTreeMap::new();
    for event in events.iter().filter(|event| event["reason"] == "port-range-exhausted") {
        ensure!(
            event["comm"] == "nginx" && event["dst"] == FAR4 && event["dport"] == 9001,
            "{event}"
        );
        ensure!(event["src"] == NEAR4 && event.get("sport").is_none(), "{event}");
        let pid = event["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        *by_worker.entry(pid.unwrap_or(0)).or_insert(0) += 1;
    }
    ensure!(by_worker == *workers, "by worker: trace {by_worker:?}, error log {workers:?}");
    Ok(())
}

/// `wrk` against Nginx, while `count` counts an error; the rows, and Nginx's lines with its errno.
fn counted(
    (main, server): (&str, &str),
    (error, errno): (&str, u32),
) -> Result<(Value, BTreeMap<u32, u64>)> {
    let link = Link::new()?;
    let upstream = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[upstream.parse()?])?;
    let nginx = Nginx::start(&link.near, &upstream, main, server)?;
    let path = link.near.path();
    let arguments = ["count", "--error", error, "--format=json", "--netns", &path];
    let count = Socklife::start(&arguments)?;
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    run(link.far.command("wrk").args(["-t", "1", "-c", "64", "-d", "3s", &target]))?;
    let logs = nginx.stop()?;
    let counted = last_line(&count.interrupt()?.stdout)?;
    println!("error-log lines ({errno}: ...): {:?}; count: {counted}", logs.by_worker(errno));
    ensure!(logs.with(errno) > 10, "the load did not make the error: {logs:?}");
    ensure!(counted["lost"] == 0, "lost: {counted}");
    ensure!(counted.get("unseen").is_none(), "not seen: {counted}");
    Ok((counted, logs.by_worker(errno)))
}

/// `proxy_bind` to an address that this host doesn't have.
fn bind_to_a_foreign_address() -> Result<()> {
    let (counted, workers) = counted(("", "proxy_bind 192.0.2.7;"), ("EADDRNOTAVAIL", 99))?;
    ensure!(counted["total"] == workers.values().sum::<u64>(), "{counted}");
    let rows = counted["by"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(rows.len() == 1, "one row: {counted}");
    ensure!(
        rows[0]["reason"] == "address-not-local"
            && rows[0]["src"] == "192.0.2.7"
            && rows[0].get("dst").is_none()
            && rows[0]["comm"] == "nginx"
            && rows[0]["pids"] == serde_json::json!(workers.keys().collect::<Vec<_>>()),
        "another row: {}",
        rows[0]
    );
    Ok(())
}

/// Each worker may have 24 files open, and needs two for each client.
fn too_many_open_files() -> Result<()> {
    let (counted, workers) = counted(("worker_rlimit_nofile 24;", ""), ("EMFILE,ENFILE", 24))?;
    ensure!(counted["total"] == workers.values().sum::<u64>(), "{counted}");
    for row in counted["by"].as_array().into_iter().flatten() {
        ensure!(
            row["reason"] == "process-file-limit"
                && row["comm"] == "nginx"
                && row["pids"] == serde_json::json!(workers.keys().collect::<Vec<_>>()),
            "another row: {row}"
        );
    }
    Ok(())
}
