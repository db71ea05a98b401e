//! What HAProxy and Envoy say of themselves is read as it is.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use socklife::{
    kernel::owners::{Look, Owners},
    proxies::{Given, Proxies, Reader, endpoint::Endpoint, envoy, haproxy, host::located},
};
use socklife_tests::{
    envoy::{Envoy, Pieces},
    haproxy::{HaProxy, Sections},
    net::{FAR4, Link, NEAR4, load_binary},
    process::Process,
    wait_for,
};

use crate::{Need, Test};

/// Connections of clients.
const HELD: u64 = 7;

pub(crate) fn tests() -> Vec<Test> {
    let haproxy = [Need::Namespaces, Need::HaProxy];
    vec![
        Test::new("proxies::haproxy_is_read", &haproxy, haproxy_is_read),
        Test::new("proxies::haproxy_behind_a_master_and_a_chroot", &haproxy, behind_a_master),
        Test::new("proxies::haproxy_without_a_socket_says_what_to_do", &haproxy, without_a_socket),
        Test::new("proxies::envoy_is_read", &[Need::Namespaces, Need::Envoy], envoy_is_read),
    ]
}

/// Holds connections of the far host to the near one's port.
fn hold(link: &Link, port: u16) -> Result<Process> {
    let mut command = link.far.command(load_binary());
    command.args([
        "hold",
        "--to",
        &format!("{NEAR4}:{port}"),
        "--count",
        &HELD.to_string(),
        "--then",
        "close",
    ]);
    Process::start_ready(&mut command)
}

/// What these processes say, as `check` reads it.
fn read_again(pids: &[u32], given: Given) -> Result<Proxies> {
    Ok(Reader::new(given).read(&Owners::find(Look::Pids(pids))?))
}

fn haproxy_is_read() -> Result<()> {
    let link = Link::new()?;
    let upstream = format!("{FAR4}:9001");
    let _upstream = link.far.serve("hold", &[upstream.parse()?])?;
    let sections = Sections {
        global: "maxconn 100",
        defaults: "mode tcp\noption tcplog\ntimeout queue 20s\ntimeout server-fin 100ms",
        frontend: "maxconn 30",
        backend: "fullconn 9",
        server: "maxconn 5",
        ..Sections::default()
    };
    let proxy = HaProxy::start(&link.near, &upstream, sections)?;
    let held = hold(&link, HaProxy::PORT)?;
    wait_for("the connections", || {
        let (all, queued) =
            (proxy.count("web", "FRONTEND", "scur")?, proxy.count("app", "BACKEND", "qcur")?);
        Ok(((all, queued) == (HELD, 2)).then_some(()))
    })?;
    let process = located(proxy.pid()).context("it is gone")?;
    let started = Instant::now();
    let read = haproxy::read(process, None)?;
    println!("read in {:?}: {read:?}", started.elapsed());
    let state = &read.state;
    ensure!(read.process == process && read.endpoint == proxy.runtime().display().to_string());
    ensure!((state.current, state.maxconn, state.pid) == (HELD, 100, Some(proxy.pid())));
    let web = &state.frontends[0];
    ensure!((web.current, web.limit, web.most) == (HELD, Some(30), HELD), "{web:?}");
    let (app, s1) = (&state.backends[0], &state.servers[0]);
    ensure!((app.current, app.queued, app.fullconn) == (HELD, 2, Some(9)), "{app:?}");
    ensure!((s1.current, s1.limit, s1.queued) == (5, Some(5), 0), "{s1:?}");
    ensure!(s1.address == Some(upstream.parse()?), "{s1:?}");

    drop(held);
    wait_for("a line for each connection", || {
        let lines = std::fs::read_to_string(proxy.log())?.lines().count();
        Ok((lines as u64 >= HELD).then_some(()))
    })?;
    let log = proxy.stop()?;
    let of = |text: &str| log.lines().filter(|line| line.contains(text)).count() as u64;
    // Of those that waited the client went first.
    ensure!((of(" host haproxy["), of(" app/s1 "), of(" CQ ")) == (HELD, 5, 2), "the log: {log}");
    Ok(())
}

fn behind_a_master() -> Result<()> {
    let link = Link::new()?;
    let empty = tempfile::tempdir()?;
    let global = format!("chroot {}\nmaxconn 50", empty.path().display());
    let sections = Sections { global: &global, master: true, ..Sections::default() };
    let proxy = HaProxy::start(&link.near, "127.0.0.1:9", sections)?;
    let workers = proxy.workers()?;
    let all: Vec<_> = workers.iter().copied().chain([proxy.pid()]).collect();
    ensure!(all.len() == 2, "{workers:?}");
    let socket = Endpoint::Unix(proxy.runtime());
    let given = Given { haproxy_socket: Some(socket), ..Given::default() };
    for given in [Given::default(), given] {
        let Proxies { haproxy, unread, .. } = read_again(&all, given)?;
        ensure!(unread.is_empty() && haproxy.len() == 1, "{haproxy:?} {unread:?}");
    }
    let read = read_again(&all, Given::default())?.haproxy;
    ensure!(Some(&read[0].process.process.pid) == workers.first(), "{read:?}");
    ensure!(read[0].state.maxconn == 50 && read[0].finishing.is_empty(), "{read:?}");
    // The master is no worker, though its configuration is the same.
    let master = haproxy::read(located(proxy.pid()).context("gone")?, None)
        .map_err(|error| format!("{error:#}"));
    ensure!(
        master.as_ref().is_err_and(|why| why.contains("another process answers")),
        "{master:?}"
    );
    Ok(())
}

fn without_a_socket() -> Result<()> {
    let link = Link::new()?;
    let sections = Sections { mute: true, ..Sections::default() };
    let proxy = HaProxy::start(&link.near, "127.0.0.1:9", sections)?;
    let Proxies { haproxy: read, unread, .. } = read_again(&[proxy.pid()], Given::default())?;
    println!("{unread:?}");
    let named = format!("HAProxy (process {})", proxy.pid());
    ensure!(read.is_empty() && unread.len() == 1, "{read:?} {unread:?}");
    ensure!(unread[0].starts_with(&named) && unread[0].contains("add `stats socket"), "{unread:?}");
    Ok(())
}

fn envoy_is_read() -> Result<()> {
    let link = Link::new()?;
    let upstream = format!("{FAR4}:9001");
    let _upstream = link.far.serve("hold", &[upstream.parse()?])?;
    let pieces = Pieces {
        bootstrap: "layered_runtime: {layers: [{name: fixed, static_layer: {envoy: {resource_limits: \
                    {listener: {web: {connection_limit: 30}}}}}}]},",
        cluster: "circuit_breakers: {thresholds: [{max_connections: 20}]},",
        tcp: true,
        ..Pieces::default()
    };
    // In its bootstrap; told in a file.
    for admin in [9901, 0] {
        let proxy = Envoy::start(&link.near, &upstream, Pieces { admin, ..pieces })?;
        let _held = hold(&link, Envoy::PORT)?;
        wait_for("the connections", || {
            Ok((proxy.count("cluster.app.upstream_cx_active")? == HELD).then_some(()))
        })?;
        let process = located(proxy.pid()).context("it is gone")?;
        let started = Instant::now();
        let read = envoy::read(process, None)?;
        println!("read in {:?}: {read:?}", started.elapsed());
        let state = &read.state;
        ensure!(state.version == "1.40.0" && state.global_limit.is_none(), "{state:?}");
        let (app, web) = (&state.clusters[0], &state.listeners[0]);
        ensure!((app.active, app.limits.connections) == (Some(HELD), Some(20)), "{app:?}");
        ensure!(app.hosts[0].active == Some(HELD), "{app:?}");
        ensure!(app.hosts[0].address == Some(upstream.parse()?), "{app:?}");
        ensure!(
            (web.name.as_str(), web.active, web.limit) == ("web", Some(HELD), Some(30)),
            "{web:?}"
        );
    }
    Ok(())
}
