//! HAProxy and Envoy begin to queue or to refuse at exactly the limit that `check` prints, and with its remedy they
//! don't.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, remedy_number},
    envoy::{Envoy, Pieces},
    haproxy::{HaProxy, Sections},
    net::{FAR4, Link, NEAR4, load_binary},
    process::{Process, run},
    wait_for,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let (haproxy, envoy) = ([Need::Namespaces, Need::HaProxy], [Need::Namespaces, Need::Envoy]);
    vec![
        Test::new("proxies::haproxy_server_maxconn", &haproxy, server_maxconn),
        Test::new("proxies::haproxy_frontend_maxconn", &haproxy, frontend_maxconn),
        Test::new("proxies::envoy_max_connections", &envoy, max_connections),
        Test::new("proxies::envoy_listener_limit", &envoy, listener_limit),
        Test::new("proxies::envoy_max_requests", &envoy, max_requests),
        Test::new("proxies::envoy_that_keeps_no_counts", &envoy, no_counts),
    ]
}

/// What each of the limits is set to first.
const LIMIT: u64 = 7;
/// Where both proxies listen.
const PORT: u16 = 8080;

/// Two hosts, and on the far one an upstream that holds what it gets.
struct Hosts {
    link: Link,
    upstream: String,
    _holding: Process,
}

impl Hosts {
    fn new() -> Result<Self> {
        let link = Link::new()?;
        let upstream = format!("{FAR4}:9001");
        let holding = link.far.serve("hold", &[upstream.parse()?])?;
        Ok(Self { link, upstream, _holding: holding })
    }

    /// So many connections of clients, until dropped.
    fn hold(&self, count: u64) -> Result<Process> {
        let mut command = self.link.far.command(load_binary());
        let (to, count) = (format!("{NEAR4}:{PORT}"), count.to_string());
        command.args(["hold", "--to", &to, "--count", &count, "--then", "close"]);
        Process::start_ready(&mut command)
    }

    /// What `check` finds now.
    fn found(&self, scope: &str, pid: u32) -> Result<Value> {
        let check = Check::of_namespace(&self.link.near, &[])?;
        check.one("proxy-connections", scope, &[("pid", pid.into())]).cloned()
    }

    /// The same, once so much is in use.
    fn with(&self, used: u64, scope: &str, pid: u32) -> Result<Value> {
        wait_for("the connections", || {
            let found = self.found(scope, pid)?;
            Ok((found["used"] == used).then_some(found))
        })
    }

    fn haproxy(&self, server: &str, frontend: &str) -> Result<HaProxy> {
        let sections = Sections {
            global: "maxconn 100",
            defaults: "mode tcp\noption tcplog\ntimeout queue 30s",
            frontend,
            server,
            ..Sections::default()
        };
        HaProxy::start(&self.link.near, &self.upstream, sections)
    }

    fn envoy(&self, bootstrap: &str, cluster: &str) -> Result<Envoy> {
        let pieces = Pieces { bootstrap, cluster, tcp: true, admin: 9901, ..Pieces::default() };
        Envoy::start(&self.link.near, &self.upstream, pieces)
    }

    /// Connections that wait to be accepted by the proxy.
    fn waiting(&self) -> Result<u64> {
        let port = format!("sport = :{PORT}");
        let listener = run(self.link.near.command("ss").args(["-Hltn", &port]))?;
        listener.split_whitespace().nth(1).context("no listener")?.parse().context("Recv-Q")
    }
}

/// Nothing is left of it.
fn is_full(found: &Value) -> Result<()> {
    println!("{found:#}");
    let full = [("limit", LIMIT.into()), ("headroom", 0.into()), ("status", "CRITICAL".into())];
    expect(found, &full)
}

/// With as many connections as `check` has for the limit none waits in HAProxy; one more does.
fn server_maxconn() -> Result<()> {
    let hosts = Hosts::new()?;
    let haproxy = hosts.haproxy(&format!("maxconn {LIMIT}"), "")?;
    let queued = |haproxy: &HaProxy| {
        Ok::<_, anyhow::Error>(
            haproxy.count("app", "BACKEND", "qcur")? + haproxy.count("app", "s1", "qcur")?,
        )
    };
    let all = hosts.hold(LIMIT)?;
    let full = hosts.with(LIMIT, "server", haproxy.pid())?;
    is_full(&full)?;
    let current = haproxy.count("app", "s1", "scur")?;
    ensure!((current, queued(&haproxy)?) == (LIMIT, 0), "{current} {}", queued(&haproxy)?);
    let one_more = hosts.hold(1)?;
    wait_for("one that waits", || Ok((queued(&haproxy)? == 1).then_some(())))?;
    let found = hosts.found("server", haproxy.pid())?;
    ensure!(found["used"] == haproxy.count("app", "s1", "scur")?, "{found}");
    ensure!(found["notes"].to_string().contains("1 requests wait in its queue"), "{found}");
    drop((all, one_more));
    drop(haproxy);

    let value = remedy_number(&full, &["maxconn "])?;
    let haproxy = hosts.haproxy(&format!("maxconn {value}"), "")?;
    let _more = hosts.hold(LIMIT + 1)?;
    hosts.with(LIMIT + 1, "server", haproxy.pid())?;
    ensure!(queued(&haproxy)? == 0, "with maxconn {value}");
    Ok(())
}

/// One more than a frontend's limit is not accepted: it waits in the kernel.
fn frontend_maxconn() -> Result<()> {
    let hosts = Hosts::new()?;
    let haproxy = hosts.haproxy("", &format!("maxconn {LIMIT}"))?;
    let all = hosts.hold(LIMIT)?;
    let full = hosts.with(LIMIT, "frontend", haproxy.pid())?;
    is_full(&full)?;
    let own = |haproxy: &HaProxy, column| haproxy.count("web", "FRONTEND", column);
    ensure!((own(&haproxy, "scur")?, own(&haproxy, "slim")?) == (LIMIT, LIMIT), "{full}");
    ensure!(hosts.waiting()? == 0, "one waits before the limit is exceeded");
    let one_more = hosts.hold(1)?;
    ensure!(hosts.waiting()? == 1, "one more does not wait");
    ensure!(
        (own(&haproxy, "scur")?, own(&haproxy, "conn_tot")?) == (LIMIT, LIMIT),
        "it was accepted"
    );
    drop((all, one_more));
    drop(haproxy);

    let value = remedy_number(&full, &["maxconn "])?;
    let haproxy = hosts.haproxy("", &format!("maxconn {value}"))?;
    let _more = hosts.hold(LIMIT + 1)?;
    hosts.with(LIMIT + 1, "frontend", haproxy.pid())?;
    ensure!(hosts.waiting()? == 0, "with maxconn {value}");
    Ok(())
}

/// One more than a cluster's circuit breaker has no connection.
fn max_connections() -> Result<()> {
    const OVERFLOW: &str = "cluster.app.upstream_cx_overflow";
    let breaker =
        |value| format!("circuit_breakers: {{thresholds: [{{max_connections: {value}}}]}},");
    let hosts = Hosts::new()?;
    let envoy = hosts.envoy("", &breaker(LIMIT))?;
    let all = hosts.hold(LIMIT)?;
    let full = hosts.with(LIMIT, "cluster", envoy.pid())?;
    is_full(&full)?;
    ensure!(envoy.count("cluster.app.upstream_cx_active")? == LIMIT, "{full}");
    ensure!(envoy.count(OVERFLOW)? == 0, "it overflowed before it was full");
    let one_more = hosts.hold(1)?;
    wait_for("the one that is too many", || Ok((envoy.count(OVERFLOW)? == 1).then_some(())))?;
    ensure!(envoy.count("cluster.app.upstream_cx_active")? == LIMIT, "it has a connection");
    drop((all, one_more));
    drop(envoy);

    let value = remedy_number(&full, &["max_connections"])?;
    let envoy = hosts.envoy("", &breaker(value))?;
    let _more = hosts.hold(LIMIT + 1)?;
    hosts.with(LIMIT + 1, "cluster", envoy.pid())?;
    ensure!(envoy.count(OVERFLOW)? == 0, "with max_connections {value}");
    Ok(())
}

/// One request more than a cluster's circuit breaker is refused.
fn max_requests() -> Result<()> {
    const OVERFLOW: &str = "cluster.app.upstream_rq_active_overflow";
    let hosts = Hosts::new()?;
    let start = |value| {
        let breaker = format!("circuit_breakers: {{thresholds: [{{max_requests: {value}}}]}},");
        let pieces = Pieces { cluster: &breaker, admin: 9901, ..Pieces::default() };
        Envoy::start(&hosts.link.near, &hosts.upstream, pieces)
    };
    let requests = |count: u64| {
        let mut wrk = hosts.link.far.command("wrk");
        let (count, to) = (count.to_string(), format!("http://{NEAR4}:{PORT}/"));
        Process::start(wrk.args(["-t", "1", "-c", &count, "-d", "60s", "--timeout", "60s", &to]))
    };
    let envoy = start(LIMIT)?;
    let all = requests(LIMIT)?;
    let full = hosts.with(LIMIT, "requests", envoy.pid())?;
    is_full(&full)?;
    ensure!(envoy.count("cluster.app.upstream_rq_active")? == LIMIT, "{full}");
    ensure!(envoy.count(OVERFLOW)? == 0, "it overflowed before it was full");
    let one_more = requests(1)?;
    wait_for("the one that is too many", || Ok((envoy.count(OVERFLOW)? >= 1).then_some(())))?;
    let found = hosts.found("requests", envoy.pid())?;
    ensure!(found["failures"].to_string().contains("upstream_rq_active_overflow"), "{found}");
    drop((all, one_more));
    drop(envoy);

    let value = remedy_number(&full, &["max_requests"])?;
    let envoy = start(value)?;
    let _more = requests(LIMIT + 1)?;
    hosts.with(LIMIT + 1, "requests", envoy.pid())?;
    ensure!(envoy.count(OVERFLOW)? == 0, "with max_requests {value}");
    Ok(())
}

/// As Istio has it: the counts of clusters are not kept, and a full circuit breaker is found full none the less.
fn no_counts() -> Result<()> {
    let hosts = Hosts::new()?;
    let breaker = format!("circuit_breakers: {{thresholds: [{{max_connections: {LIMIT}}}]}},");
    let envoy = hosts.envoy("stats_config: {stats_matcher: {reject_all: true}},", &breaker)?;
    let _all = hosts.hold(LIMIT)?;
    is_full(&hosts.with(LIMIT, "cluster", envoy.pid())?)?;
    let check = Check::of_namespace(&hosts.link.near, &[])?;
    let unseen = check.found["unseen"].to_string();
    println!("{unseen}");
    ensure!(unseen.contains("upstream_rq_pending_active (of 1)"), "{unseen}");
    ensure!(!unseen.contains("upstream_cx_active"), "{unseen}");
    let pending = check.one("proxy-connections", "pending", &[("pid", envoy.pid().into())]);
    ensure!(pending.is_err(), "{pending:?}");
    Ok(())
}

/// One more than a listener's limit is closed.
fn listener_limit() -> Result<()> {
    const OVERFLOW: &str = "listener.0.0.0.0_8080.downstream_cx_overflow";
    let runtime = |value| {
        format!(
            "layered_runtime: {{layers: [{{name: fixed, static_layer: {{envoy: {{resource_limits: \
             {{listener: {{web: {{connection_limit: {value}}}}}}}}}}}}}]}},"
        )
    };
    let hosts = Hosts::new()?;
    let envoy = hosts.envoy(&runtime(LIMIT), "")?;
    let all = hosts.hold(LIMIT)?;
    let full = hosts.with(LIMIT, "proxy-listener", envoy.pid())?;
    is_full(&full)?;
    let active = |envoy: &Envoy| envoy.count("listener.0.0.0.0_8080.downstream_cx_active");
    ensure!((active(&envoy)?, envoy.count(OVERFLOW)?) == (LIMIT, 0), "{full}");
    let one_more = hosts.hold(1)?;
    wait_for("the one that is too many", || Ok((envoy.count(OVERFLOW)? == 1).then_some(())))?;
    ensure!(active(&envoy)? == LIMIT, "it was not closed");
    drop((all, one_more));
    drop(envoy);

    let value = remedy_number(&full, &["connection_limit"])?;
    let envoy = hosts.envoy(&runtime(value), "")?;
    let _more = hosts.hold(LIMIT + 1)?;
    hosts.with(LIMIT + 1, "proxy-listener", envoy.pid())?;
    ensure!(envoy.count(OVERFLOW)? == 0, "with connection_limit {value}");
    Ok(())
}
