//! A real Nginx: its own limit as `check` tells it, and the failed answers that its logs and the kernel explain.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, remedy_number},
    net::{FAR4, Link, NEAR4},
    nginx::{Blocks, Logs, Nginx},
    process::{Process, run},
    socklife::{Socklife, last_line, lines},
    wait_for,
};

use crate::{
    Need, Test,
    answers::{NOBODY, UPSTREAM, all_explained, ask, by_class, load, settled, upstream},
    report_answers::next_second,
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces, Need::Nginx];
    let check = [Need::Namespaces, Need::Nginx];
    vec![
        Test::new("proxies::nginx_worker_connections", &check, worker_connections),
        Test::new("proxies::nginx_old_workers", &check, old_workers),
        Test::new("proxies::nginx_conf_is_not_there", &check, conf_is_not_there),
        Test::new("answers::nginx_ports", &needs, || explained(&PORTS)),
        Test::new("answers::nginx_refused", &needs, || explained(&REFUSED)),
        Test::new("answers::nginx_reset", &needs, || explained(&RESET)),
        Test::new("answers::nginx_connect_timeout", &needs, || explained(&CONNECT_TIMEOUT)),
        Test::new("answers::nginx_worker_connections", &needs, || explained(&OWN_LIMIT)),
        Test::new("answers::nginx_open_files", &needs, || explained(&OPEN_FILES)),
        Test::new("answers::nginx_of_another_namespace", &needs, one_of_another_namespace),
        Test::new("answers::nginx_lines_without_answers", &needs, lines_without_answers),
    ]
}

/// Slots that a worker has for itself: a listener and the channel to its master.
const OWN: u64 = 2;

/// Requests that are under way until dropped.
fn requests(link: &Link, clients: u64) -> Result<Process> {
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    let clients = clients.to_string();
    let mut wrk = link.far.command("wrk");
    Process::start(wrk.args(["-t", "1", "-c", &clients, "-d", "60s", &target]))
}

/// `Active connections` of `stub_status`, the one that asks among them.
fn active(link: &Link) -> Result<u64> {
    let said = ask(link, "/status")?;
    let (_, rest) = said.split_once("Active connections: ").context("no stub_status")?;
    rest.split_whitespace().next().context("no number")?.parse().context("no number")
}

/// What `check` finds of the only worker.
fn worker(link: &Link, nginx: &Nginx) -> Result<Value> {
    let pid = nginx.workers()?[0];
    let check = Check::of_namespace(&link.near, &[])?;
    check.one("proxy-connections", "worker", &[("pid", pid.into())]).cloned()
}

/// Starts an Nginx with one worker that has so many connections.
fn limited(link: &Link, upstream: &str, connections: u64) -> Result<Nginx> {
    let events = format!("worker_connections {connections};");
    let blocks = Blocks {
        events: Some(&events),
        server: "location = /status { stub_status; }",
        workers: Some(1),
        ..Blocks::default()
    };
    Nginx::start_with(&link.near, upstream, blocks)
}

/// With as many requests as there is room for by what `check` says no connection is refused; with one more there is;
/// with the printed remedy there is none again.
fn worker_connections() -> Result<()> {
    const LIMIT: u64 = 64;
    const FIT: u64 = (LIMIT - OWN) / 2;
    let link = Link::new()?;
    let upstream = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[upstream.parse()?])?;
    let nginx = limited(&link, &upstream, LIMIT)?;
    let found = worker(&link, &nginx)?;
    println!("{found:#}");
    expect(&found, &[("used", OWN.into()), ("limit", LIMIT.into()), ("status", "OK".into())])?;

    let some = requests(&link, 20)?;
    wait_for("20 requests", || Ok((worker(&link, &nginx)?["used"] == OWN + 40).then_some(())))?;
    ensure!(active(&link)? == 21, "Nginx says {} clients, with the one that asks", active(&link)?);
    drop(some);
    wait_for("their end", || Ok((worker(&link, &nginx)?["used"] == OWN).then_some(())))?;

    let all = requests(&link, FIT)?;
    let full = wait_for("a full worker", || {
        let found = worker(&link, &nginx)?;
        Ok((found["used"] == LIMIT).then_some(found))
    })?;
    println!("{full:#}");
    expect(&full, &[("status", "CRITICAL".into()), ("headroom", 0.into())])?;
    ensure!(nginx.logs()?.not_enough == 0, "refused before it was full: {:?}", nginx.logs()?);
    let one_more = requests(&link, 1)?;
    wait_for("a refusal", || Ok((nginx.logs()?.not_enough > 0).then_some(())))?;
    drop((all, one_more));
    nginx.stop()?;

    let value = remedy_number(&full, &["worker_connections "])?;
    let nginx = limited(&link, &upstream, value)?;
    let _more = requests(&link, FIT + 1)?;
    let used = OWN + 2 * (FIT + 1);
    wait_for("all of them", || Ok((worker(&link, &nginx)?["used"] == used).then_some(())))?;
    ensure!(nginx.stop()?.not_enough == 0, "with worker_connections {value}");
    Ok(())
}

/// After a reload a worker that still has connections is told of apart.
fn old_workers() -> Result<()> {
    let link = Link::new()?;
    let upstream = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[upstream.parse()?])?;
    let nginx = limited(&link, &upstream, 64)?;
    let _requests = requests(&link, 5)?;
    wait_for("5 requests", || Ok((worker(&link, &nginx)?["used"] == OWN + 10).then_some(())))?;
    let old = nginx.workers()?[0];
    nginx.reload()?;
    let new =
        wait_for("a new worker", || Ok(nginx.workers()?.into_iter().find(|&pid| pid != old)))?;
    let check = wait_for("the old worker to shut down", || {
        let check = Check::of_namespace(&link.near, &[])?;
        let workers = check.all("proxy-connections", "worker");
        Ok((workers.len() == 1 && workers[0]["pid"] == new).then_some(check))
    })?;
    let found = check.one("proxy-connections", "worker", &[("pid", new.into())])?;
    println!("{found:#}");
    let notes = found["notes"].to_string();
    ensure!(notes.contains("a worker from before a reload is shutting down, with 10 "), "{notes}");
    Ok(())
}

/// A proxy that can't be read is named, with the reason, and the rest is checked.
fn conf_is_not_there() -> Result<()> {
    let link = Link::new()?;
    let nginx = limited(&link, &format!("{FAR4}:9001"), 64)?;
    let check = Check::of_namespace(&link.near, &["--nginx-conf", "/no/such/nginx.conf"])?;
    let unseen = check.found["unseen"].to_string();
    ensure!(unseen.contains("can't read /no/such/nginx.conf"), "{unseen}");
    ensure!(check.all("proxy-connections", "worker").is_empty(), "{}", check.found);
    drop(nginx);
    Ok(())
}

/// A way to have Nginx fail.
struct Failing {
    /// `--mode` of the upstream; `None`: nobody listens there.
    upstream: Option<&'static str>,
    /// Where it is.
    address: &'static str,
    /// Local ports, where they are few.
    ports: Option<&'static str>,
    main: &'static str,
    events: &'static str,
    server: &'static str,
    /// What explains the answers.
    class: &'static str,
    /// The answers' status.
    status: &'static str,
    /// The kernel sees each failed try.
    in_kernel: bool,
    /// Clients at once.
    clients: u32,
    workers: Option<usize>,
}

const FINE: Failing = Failing {
    upstream: Some("hold"),
    address: UPSTREAM,
    ports: None,
    main: "",
    events: "worker_connections 4096;",
    server: "",
    class: "",
    status: "502",
    in_kernel: true,
    clients: 128,
    workers: None,
};
const PORTS: Failing = Failing { ports: Some("40000 40063"), class: "ports-exhausted", ..FINE };
const REFUSED: Failing = Failing { upstream: None, class: "refused", ..FINE };
const RESET: Failing = Failing { upstream: Some("reset"), class: "reset", ..FINE };
const CONNECT_TIMEOUT: Failing = Failing {
    upstream: None,
    address: NOBODY,
    server: "proxy_connect_timeout 300ms;",
    class: "connect-timeout",
    status: "504",
    ..FINE
};
/// Beside its own two there is room for 30 clients with their upstreams, and for one more client.
const OWN_LIMIT: Failing = Failing {
    events: "worker_connections 63;",
    clients: 31,
    workers: Some(1),
    class: "own-limit",
    status: "500",
    in_kernel: false,
    ..FINE
};
/// Connections come and go: a worker that has no file for accept(2) rests for a while.
const OPEN_FILES: Failing = Failing {
    upstream: Some("answer"),
    main: "worker_rlimit_nofile 24;",
    class: "open-files",
    status: "500",
    in_kernel: false,
    ..FINE
};

/// The failed answers are those of Nginx's access log, whose format is taken from its configuration; all are explained, by
/// the class that was made; lines are those of its error log, and so are the kernel's failures. The intervals
/// add up to the total.
fn explained(failing: &Failing) -> Result<()> {
    let link = Link::new()?;
    let _upstream = upstream(&link, failing.address, failing.upstream, failing.ports)?;
    let blocks = Blocks {
        main: failing.main,
        events: Some(failing.events),
        server: failing.server,
        workers: failing.workers,
        ..Blocks::default()
    };
    let nginx = Nginx::start_with(&link.near, failing.address, blocks)?;
    let (error, access) = (nginx.error_log(), nginx.access_log());
    let path = link.near.path();
    let (error, access) = (error.display().to_string(), access.display().to_string());
    let arguments = ["count", "--format=json", "--netns", &path, "--nginx-error-log", &error];
    let logs = ["--nginx-access-log", &access, "--interval=700ms"];
    let count = Socklife::start(&[&arguments[..], &logs].concat())?;
    load(&link, failing.clients)?;
    settled(|| nginx.logs())?;
    let printed = lines(&count.interrupt()?.stdout)?;
    let counted = printed.last().context("nothing was printed")?;
    let logs = nginx.logs()?;
    println!("{counted:#}\n{logs:?}");
    for key in ["failed", "succeeded"] {
        let of = |line: &Value| line["answers"]["interval"][key].as_u64();
        let new: Option<u64> = printed.iter().map(of).sum();
        ensure!(new.is_some() && new == counted["answers"][key].as_u64(), "{key} came to {new:?}");
    }
    agree(counted, &logs, failing)
}

fn agree(counted: &Value, logs: &Logs, failing: &Failing) -> Result<()> {
    let answers = &counted["answers"];
    let status: u32 = failing.status.parse()?;
    let failed = logs.statuses.get(&status).copied().unwrap_or(0);
    let by = all_explained(counted, failed, failing.class, failing.address)?;
    if failing.in_kernel {
        // A client that leaves ends its request (499): the kernel sees that connection fail, the error log has no line.
        let count = |key| by[key].as_u64().unwrap_or(0);
        let left = logs.statuses.get(&499).copied().unwrap_or(0);
        let seen = count("lines")..=count("lines") + left;
        ensure!(seen.contains(&count("kernel")), "beside {left} 499s: {by}");
    }
    let lines = by_class(answers, failing.class, |_| true)?;
    let lines: u64 = lines.iter().filter_map(|by| by["lines"].as_u64()).sum();
    let errno = match failing.class {
        "ports-exhausted" => 99,
        "refused" => 111,
        "reset" => 104,
        "connect-timeout" => 110,
        "open-files" => 24,
        _ => 0,
    };
    let of_log = if errno == 0 { logs.not_enough } else { logs.with(errno) };
    ensure!(lines == of_log, "the error log has {of_log} such lines: {answers}");
    Ok(())
}

/// Lines of requests that are not logged, and of subrequests, explain no answer that comes after; answers of the
/// configuration's own are no failures, and take no line.
fn lines_without_answers() -> Result<()> {
    const REQUESTS: u64 = 5;
    let link = Link::new()?;
    let server = format!(
        "location = /quiet {{ access_log off; proxy_pass http://{UPSTREAM}; }} \
         location = /sub {{ internal; proxy_pass http://{UPSTREAM}; }} \
         location = /auth {{ auth_request /sub; }} location = /own {{ return 503; }}"
    );
    let blocks = Blocks { server: &server, ..Blocks::default() };
    let nginx = Nginx::start_with(&link.near, UPSTREAM, blocks)?;
    let (error, access) = (nginx.error_log(), nginx.access_log());
    let path = link.near.path();
    let (error, access) = (error.display().to_string(), access.display().to_string());
    let arguments = ["count", "--format=json", "--netns", &path, "--nginx-error-log", &error];
    let logs = ["--nginx-access-log", &access, "--nginx-log-format", Nginx::LOG_FORMAT];
    let count = Socklife::start(&[&arguments[..], &logs].concat())?;
    // Nobody listens: refused.
    for _ in 0..REQUESTS {
        for (path, status) in [("/quiet", "502"), ("/auth", "500"), ("/own", "503")] {
            let answer = ask(&link, path)?;
            ensure!(answer.contains(&format!(" {status} ")), "{path}: {answer}");
        }
    }
    next_second()?;
    let _reset = link.far.serve("reset", &[UPSTREAM.parse()?])?;
    load(&link, 32)?;
    settled(|| nginx.logs())?;
    let counted = last_line(&count.interrupt()?.stdout)?;
    let logs = nginx.logs()?;
    println!("{counted:#}\n{logs:?}");
    let failed = logs.statuses.get(&502).copied().unwrap_or(0);
    let by = all_explained(&counted, failed, "reset", UPSTREAM)?;
    ensure!(by["lines"] == logs.with(104), "{by} {logs:?}");
    let refused = by_class(&counted["answers"], "refused", |it| it == UPSTREAM)?;
    ensure!(refused.len() == 1 && refused[0]["answers"] == 0, "{refused:?}");
    ensure!(refused[0]["lines"] == 2 * REQUESTS && logs.with(111) == 2 * REQUESTS, "{refused:?}");
    Ok(())
}

/// Another Nginx, in another network namespace, that fails toward the same address is in no figure: where the Nginx is
/// that writes the logs, its configuration says.
fn one_of_another_namespace() -> Result<()> {
    let link = Link::new()?;
    let nginx = Nginx::start_with(&link.near, UPSTREAM, Blocks::default())?;
    link.far.ip(&["link", "set", "lo", "up"])?;
    let other = Nginx::start_with(&link.far, UPSTREAM, Blocks::default())?;
    let (error, access) = (nginx.error_log(), nginx.access_log());
    let (error, access) = (error.display().to_string(), access.display().to_string());
    let logs = ["--nginx-error-log", &error, "--nginx-access-log", &access];
    let count = Socklife::start(&[&["count", "--format=json"][..], &logs].concat())?;
    load(&link, 8)?;
    let target = format!("http://{FAR4}:{}/", Nginx::PORT);
    run(link.near.command("wrk").args(["-t", "1", "-c", "4", "-d", "1s", &target]))?;
    settled(|| Ok((nginx.logs()?, other.logs()?)))?;
    let counted = last_line(&count.interrupt()?.stdout)?;
    let (logs, others) = (nginx.logs()?, other.logs()?);
    println!("{counted:#}\n{logs:?}\n{others:?}");
    ensure!(others.with(111) > 10, "the other one does not fail: {others:?}");
    let failed = logs.statuses.get(&502).copied().unwrap_or(0);
    let by = all_explained(&counted, failed, "refused", UPSTREAM)?;
    ensure!(by.get("kernel_shared").is_none(), "{by}");
    let left = logs.statuses.get(&499).copied().unwrap_or(0);
    let seen = by["kernel"].as_u64().context("no figure of the kernel")?;
    ensure!((logs.with(111)..=logs.with(111) + left).contains(&seen), "beside {left} 499s: {by}");
    Ok(())
}
