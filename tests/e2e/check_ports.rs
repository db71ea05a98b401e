//! `check` of the ephemeral ports: a pool that fills, the failures it makes, and the remedy.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, fails, failures, remedy, who, who_failed},
    net::{FAR4, Link, NEAR4},
    nginx::Nginx,
    process::run,
    truth::Grower,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    let nginx = [Need::Bpf, Need::Namespaces, Need::Nginx];
    vec![
        Test::new("check_ports::pool_fills", &needs, pool_fills),
        Test::new("check_ports::nginx_runs_out", &nginx, nginx_runs_out),
        Test::new("check_ports::bind_pool", &needs, bind_pool),
        Test::new("check_ports::ports_that_others_hold", &needs[1..], ports_that_others_hold),
    ]
}

/// The local ports of a test.
pub(crate) const RANGE: &str = "40000 40019";
/// How many these are.
pub(crate) const PORTS: u64 = 20;
const NAME: &str = "net.ipv4.ip_local_port_range";

/// The upstream's finding, held against `ss` and the process that has the connections.
fn upstream(link: &Link, grower: &Grower, used: u64, status: &str) -> Result<Value> {
    let check = Check::of_namespace(&link.near, &[])?;
    let found = check.upstream(FAR4, 9001)?;
    let there = link.near.ss(&["-ta", "dst", &format!("{FAR4}:9001")])?.len() as u64;
    ensure!(there == used, "ss sees {there} sockets");
    expect(
        found,
        &[
            ("status", status.into()),
            ("used", used.into()),
            ("limit", PORTS.into()),
            ("headroom", (PORTS - used).into()),
            ("src", NEAR4.into()),
            ("netns", link.near.inode()?.into()),
            ("states", serde_json::json!({ "ESTAB": used })),
        ],
    )?;
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = used as f64 / PORTS as f64;
    let said = found["ratio"].as_f64().unwrap_or(f64::NAN);
    ensure!((said - ratio).abs() < 0.001, "ratio: {found}");
    ensure!(who(found) == BTreeMap::from([(grower.pid(), used)]), "who: {found}");
    ensure!(found["who"][0]["comm"] == "socklife-load", "who: {found}");
    ensure!(check.found["status"] == status, "all together: {}", check.found);
    Ok(found.clone())
}

/// As many failures as the process saw, and all of them its own.
fn failed_in(found: &Value, error: &str, failed: u64, grower: &Grower) -> Result<()> {
    ensure!(failures(found, error) == failed, "{failed} calls failed: {found}");
    let own = BTreeMap::from([(grower.pid(), failed)]);
    ensure!(who_failed(found, error) == own, "who failed: {found}");
    Ok(())
}

/// What a check sees of eight more once the range is that of the remedy.
fn after_remedy(link: &Link, found: &Value, grower: &mut Grower) -> Result<Check> {
    link.near.sysctl(NAME, &remedy(found, NAME)?)?;
    let watch = Check::watch(&link.near, &["--interval=2s"])?;
    grower.take(8)?;
    watch.end()
}

/// From half full to full, then failures, then the remedy.
fn pool_fills() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl(NAME, RANGE)?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    for (more, used, status) in [(10, 10, "OK"), (6, 16, "WARNING"), (3, 19, "CRITICAL")] {
        grower.take(more)?;
        upstream(&link, &grower, used, status)?;
    }

    let watch = Check::watch(&link.near, &["--interval=3s"])?;
    let (ok, failed) = grower.overrun(8, "EADDRNOTAVAIL")?;
    ensure!(ok == 1, "one port was left, {ok} connects found one");
    let check = watch.end()?;
    let found = check.upstream(FAR4, 9001)?;
    println!("{found:#}");
    expect(
        found,
        &[("status", "CRITICAL".into()), ("used", PORTS.into()), ("headroom", 0.into())],
    )?;
    failed_in(found, "EADDRNOTAVAIL", failed, &grower)?;
    let check = after_remedy(&link, found, &mut grower)?;
    let found = check.upstream(FAR4, 9001)?;
    expect(found, &[("status", "OK".into()), ("used", (PORTS + 8).into())])?;
    ensure!(!fails(found) && check.code == 0, "after the remedy: {found}");
    Ok(())
}

/// A real Nginx, whose own log says how often it failed; and again with the remedy.
fn nginx_runs_out() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl(NAME, RANGE)?;
    let upstream = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[upstream.parse()?])?;
    let target = format!("http://{NEAR4}:{}/", Nginx::PORT);
    let under_load = || -> Result<_> {
        let nginx = Nginx::start(&link.near, &upstream, "", "")?;
        let watch = Check::watch(&link.near, &["--interval=5s"])?;
        run(link.far.command("wrk").args(["-t", "1", "-c", "64", "-d", "2s", &target]))?;
        let check = watch.end()?;
        let logs = nginx.stop()?;
        Ok((check, logs))
    };
    let (check, logs) = under_load()?;
    let found = check.upstream(FAR4, 9001)?;
    println!("{found:#}");
    let workers = logs.by_worker(99).into_iter().map(|(pid, count)| (pid.into(), count));
    ensure!(logs.with(99) > 100, "the load did not exhaust the ports: {logs:?}");
    ensure!(failures(found, "EADDRNOTAVAIL") == logs.with(99), "{}: {found}", logs.with(99));
    ensure!(who_failed(found, "EADDRNOTAVAIL") == workers.collect(), "{logs:?}: {found}");
    expect(found, &[("status", "CRITICAL".into()), ("limit", PORTS.into())])?;

    link.near.sysctl(NAME, &remedy(found, NAME)?)?;
    let (check, logs) = under_load()?;
    ensure!(logs.with(99) == 0, "the remedy does not help: {logs:?}");
    let failed = check.all("ephemeral-ports", "upstream").into_iter();
    let failed: u64 = failed.map(|found| failures(found, "EADDRNOTAVAIL")).sum();
    ensure!(failed == 0, "failures that were none: {}", check.found);
    Ok(())
}

/// `bind()` with port 0 draws from one pool, whatever the destination.
fn bind_pool() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl(NAME, RANGE)?;
    let mut grower = link.near.grow(&["port", "--to", &format!("{NEAR4}:0")])?;
    for (more, used, status) in [(10, 10, "OK"), (6, 16, "WARNING"), (3, 19, "CRITICAL")] {
        grower.take(more)?;
        let check = Check::of_namespace(&link.near, &[])?;
        let found = check.one("ephemeral-ports", "bind", &[("src", NEAR4.into())])?;
        expect(
            found,
            &[
                ("status", status.into()),
                ("used", used.into()),
                ("limit", PORTS.into()),
                ("headroom", (PORTS - used).into()),
                ("netns", link.near.inode()?.into()),
            ],
        )?;
    }
    let watch = Check::watch(&link.near, &["--interval=3s"])?;
    let (ok, failed) = grower.overrun(8, "EADDRINUSE")?;
    ensure!(ok == 1, "one port was left, {ok} binds found one");
    let check = watch.end()?;
    let found = check.one("ephemeral-ports", "bind", &[("src", NEAR4.into())])?;
    println!("{found:#}");
    expect(found, &[("status", "CRITICAL".into()), ("headroom", 0.into())])?;
    failed_in(found, "EADDRINUSE", failed, &grower)?;
    let check = after_remedy(&link, found, &mut grower)?;
    let failed = check.all("ephemeral-ports", "bind").into_iter();
    let failed: u64 = failed.map(|found| failures(found, "EADDRINUSE")).sum();
    ensure!(failed == 0 && check.code == 0, "after the remedy: {}", check.found);
    Ok(())
}

/// Reserved ports, listeners and explicit binds are no ports of a connect; sockets to another
/// destination cost nothing. Exactly as many connects succeed as the headroom says.
fn ports_that_others_hold() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl(NAME, RANGE)?;
    link.near.sysctl("net.ipv4.ip_local_reserved_ports", "40002,40010-40012,50000")?;
    let listener: [std::net::SocketAddr; 2] =
        [format!("{NEAR4}:40005").parse()?, "127.0.0.1:40006".parse()?];
    let _listening = link.near.serve("hold", &listener)?;
    let targets = [format!("{FAR4}:9001"), format!("{FAR4}:9002")];
    let _held = link.far.serve("hold", &[targets[0].parse()?, targets[1].parse()?])?;
    let mut other = link.near.grow(&["connection", "--to", &targets[1]])?;
    other.take(7)?;
    let mut grower = link.near.grow(&["connection", "--to", &targets[0]])?;
    grower.take(3)?;
    let check = Check::of_namespace(&link.near, &[])?;
    let found = check.upstream(FAR4, 9001)?;
    println!("{found:#}");
    let limit = PORTS - 4 - 2;
    expect(
        found,
        &[("used", 3.into()), ("limit", limit.into()), ("headroom", (limit - 3).into())],
    )?;
    let (ok, _) = grower.overrun(25, "EADDRNOTAVAIL")?;
    ensure!(ok == limit - 3, "{ok} connects succeeded: {found}");
    let check = Check::of_namespace(&link.near, &[])?;
    expect(check.upstream(FAR4, 9001)?, &[("used", limit.into()), ("headroom", 0.into())])?;
    expect(check.upstream(FAR4, 9002)?, &[("used", 7.into()), ("limit", limit.into())])
}
