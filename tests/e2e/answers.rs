//! What the tests of failed answers have in common for all proxies: how a proxy is made to fail, and what `count` says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    net::{Link, NEAR4},
    process::{Process, run},
    wait_for,
};

/// The upstream, of the far host.
pub(crate) const UPSTREAM: &str = "10.77.0.2:9001";
/// An address of the link that nobody has.
pub(crate) const NOBODY: &str = "10.77.0.9:9001";
/// Where each proxy listens.
const PORT: u16 = 8080;

/// Makes what a proxy is to fail at: `mode` is that of `socklife-load serve` (`None`: nobody listens), `ports` are the
/// local ports, where they are few.
pub(crate) fn upstream(
    link: &Link,
    address: &str,
    mode: Option<&str>,
    ports: Option<&str>,
) -> Result<Option<Process>> {
    if let Some(ports) = ports {
        link.near.sysctl("net.ipv4.ip_local_port_range", ports)?;
    }
    if address == NOBODY {
        link.blackhole("10.77.0.9")?;
    }
    mode.map(|mode| link.far.serve(mode, &[address.parse()?])).transpose()
}

/// So many clients, each with one request after the other, for two seconds.
pub(crate) fn load(link: &Link, clients: u32) -> Result<()> {
    let target = format!("http://{NEAR4}:{PORT}/");
    let clients = clients.to_string();
    run(link.far.command("wrk").args(["-t", "1", "-c", &clients, "-d", "2s", &target])).map(drop)
}

/// What a proxy answers to one request of the far host.
pub(crate) fn ask(link: &Link, path: &str) -> Result<String> {
    let ask = format!(
        "exec 3<>/dev/tcp/{NEAR4}/{PORT}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    );
    run(link.far.command("bash").args(["-c", &ask]))
}

/// Waits until what is looked at stays the same for as long as the longest of the timeouts that a test gives a proxy.
pub(crate) fn settled<T: PartialEq>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let mut before = None;
    wait_for("the end of the last requests", || {
        let now = look()?;
        std::thread::sleep(Duration::from_millis(400));
        let same = before.as_ref() == Some(&now);
        Ok(before.replace(now).filter(|_| same))
    })
}

/// Gives a process so many files, beside those that it has.
pub(crate) fn leave_files(pid: u32, more: u32) -> Result<()> {
    let has = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    let limit = has + u64::from(more);
    let limit = format!("--nofile={limit}:{limit}");
    run(std::process::Command::new("prlimit").args(["--pid", &pid.to_string(), &limit])).map(drop)
}

/// The explanations of a class toward upstreams that `toward` chooses.
pub(crate) fn by_class(
    answers: &Value,
    class: &str,
    toward: impl Fn(&str) -> bool,
) -> Result<Vec<Value>> {
    let upstreams = answers["upstreams"].as_array().context("upstreams")?;
    let upstreams = upstreams.iter().filter(|it| it["upstream"].as_str().is_some_and(&toward));
    let all = upstreams.flat_map(|row| row["by"].as_array().into_iter().flatten());
    Ok(all.filter(|by| by["class"] == class).cloned().collect())
}

/// All failed answers, which are so many, are explained, and by one class toward one upstream, whose figures are given.
pub(crate) fn all_explained(
    counted: &Value,
    failed: u64,
    class: &str,
    upstream: &str,
) -> Result<Value> {
    let answers = &counted["answers"];
    ensure!(failed > 10, "the load made only {failed} fail: {answers}");
    ensure!(answers["lines_unknown"] == 0, "lines that were not understood: {answers}");
    ensure!(answers.get("broken_off").is_none(), "{answers}");
    ensure!(answers["failed"] == failed, "the log has {failed} of them: {answers}");
    ensure!(answers["explained"] == failed, "not all are explained: {answers}");
    ensure!(answers["share"] == 1.0, "{answers}");
    ensure!(counted["lost"] == 0, "lost: {counted}");
    let mut by = by_class(answers, class, |it| it == upstream)?;
    ensure!(by.len() == 1, "one explanation toward {upstream}: {answers}");
    let by = by.remove(0);
    ensure!(by["answers"] == failed && by.get("inferred").is_none(), "{answers}");
    Ok(by)
}

/// How often the kernel saw calls of a process's name fail for a reason.
pub(crate) fn failed_calls(counted: &Value, reason: &str, comm: &str) -> u64 {
    let rows = counted["by"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["reason"] == reason && row["comm"] == comm);
    rows.filter_map(|row| row["count"].as_u64()).sum()
}
