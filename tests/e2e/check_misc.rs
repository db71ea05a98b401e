//! `check` as a whole: who may run it, what it refuses, what it narrows to, and hostile names.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Result, ensure};
use serde_json::Value;
use socklife_tests::{
    check::{Check, expect, who},
    net::{FAR4, Link, Namespace, load_binary},
    process::{Finished, Process},
    socklife::socklife,
    socklife_binary,
};

use crate::{
    Need, Test,
    check_ports::{PORTS, RANGE},
};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Namespaces];
    vec![
        Test::new("check::quiet_is_ok", &needs, quiet_is_ok),
        Test::new("check::thresholds", &needs, thresholds),
        Test::new("check::bad_input", &[], bad_input),
        Test::new("check::ordinary_user", &needs, ordinary_user),
        Test::new("check::narrowed", &needs, narrowed),
        Test::new("check::hostile_names", &needs, hostile_names),
        Test::new("check::busy_host", &needs, busy_host),
    ]
}

/// A namespace with some connections and nothing near a limit.
fn quiet_is_ok() -> Result<()> {
    let link = Link::new()?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    grower.take(3)?;
    let check = Check::of_namespace(&link.near, &[])?;
    ensure!(check.code == 0, "{}", check.found);
    let text = socklife(&["check", "--netns", &link.near.path()])?;
    println!("{}", text.stdout);
    ensure!(text.code == Some(0) && text.stdout.contains("OK"), "{text:?}");
    Ok(())
}

/// One ceiling's thresholds, and those of all.
fn thresholds() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl("net.ipv4.ip_local_port_range", RANGE)?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    grower.take(10)?;
    let cases: [(&[&str], &str); 6] = [
        (&[], "OK"),
        (&["--warn=50"], "WARNING"),
        (&["--warn=51"], "OK"),
        (&["--warn=ephemeral-ports=40"], "WARNING"),
        (&["--warn=time-wait=10"], "OK"),
        (&["--warn=40", "--fail=ephemeral-ports=50"], "CRITICAL"),
    ];
    for (arguments, status) in cases {
        let check = Check::of_namespace(&link.near, arguments)?;
        expect(check.upstream(FAR4, 9001)?, &[("status", status.into()), ("used", 10.into())])?;
    }
    Ok(())
}

/// What can't be meant is refused, by name, before anything is looked at. A monitor must not take it for
/// a finding.
fn bad_input() -> Result<()> {
    let cases: [(&[&str], &str); 9] = [
        (&["--warn=120"], "120"),
        (&["--warn=nonsense=5"], "nonsense"),
        (&["--warn=90", "--fail=80"], "90"),
        (&["--what-if=nonsense"], "nonsense"),
        (&["--what-if=range=9-1"], "9-1"),
        (&["--what-if=sources=0"], "sources"),
        (&["--netns=/nope"], "/nope"),
        (&["--pid=0"], "0"),
        (&["--interval=0s"], "0s"),
    ];
    for (arguments, named) in cases {
        let end = socklife(&[&["check"], arguments].concat())?;
        println!("{arguments:?}: {:?} {}", end.code, end.stderr.trim());
        ensure!(end.code == Some(3), "{arguments:?}: {end:?}");
        ensure!(end.stdout.is_empty() && end.stderr.contains(named), "{arguments:?}: {end:?}");
        ensure!(!end.stderr.contains("panicked"), "{arguments:?}: {end:?}");
    }
    Ok(())
}

/// `socklife check` by a user who may do nothing.
fn as_nobody(namespace: &Namespace, program: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut command = namespace.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    Process::start(command.arg("check").args(arguments))?.finish()
}

/// The figures are there; whose sockets they are is not, and it says so and how to get it.
fn ordinary_user() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl("net.ipv4.ip_local_port_range", RANGE)?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let mut grower = link.near.grow(&["connection", "--to", &target])?;
    grower.take(u32::try_from(PORTS)?)?;
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let program = directory.path().join("socklife");
    fs::copy(socklife_binary(), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;

    for more in [&[][..], &["--interval=1s"]] {
        let end = as_nobody(&link.near, &program, &[&["--format=json"], more].concat())?;
        let check = Check::of(&end)?;
        println!("{:#}\n{}", check.found["unseen"], end.stderr);
        expect(
            check.upstream(FAR4, 9001)?,
            &[
                ("status", "CRITICAL".into()),
                ("used", PORTS.into()),
                ("limit", PORTS.into()),
                ("netns", link.near.inode()?.into()),
            ],
        )?;
        ensure!(check.code == 2, "exit code {}", check.code);
        ensure!(who(check.upstream(FAR4, 9001)?).is_empty(), "whose they are can't be known");
        let unseen: Vec<&str> = check.found["unseen"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        ensure!(
            unseen.iter().any(|line| line.contains("root") || line.contains("CAP_")),
            "{unseen:?}"
        );
        ensure!(more.is_empty() || unseen.iter().any(|line| line.contains("eBPF")), "{unseen:?}");
    }
    let text = as_nobody(&link.near, &program, &[])?;
    println!("{}{}", text.stdout, text.stderr);
    ensure!(text.code == Some(2) && text.stdout.contains("CRITICAL"), "{text:?}");
    ensure!(text.stdout.contains("root") || text.stdout.contains("CAP_"), "{text:?}");
    // Another namespace is not his to look into.
    let end = as_nobody(&link.near, &program, &["--netns", &link.far.path()])?;
    println!("{:?} {}{}", end.code, end.stdout, end.stderr);
    ensure!(end.code == Some(3), "{end:?}");
    ensure!(end.stderr.contains("root") || end.stderr.contains("CAP_"), "{end:?}");
    Ok(())
}

/// To a process: its open files and its namespace. To a namespace: what is in there.
fn narrowed() -> Result<()> {
    let link = Link::new()?;
    let target = format!("{FAR4}:9001");
    let held = link.far.serve("hold", &[target.parse()?])?;
    let mut growers = [
        link.near.grow(&["connection", "--to", &target])?,
        link.near.grow(&["connection", "--to", &target])?,
    ];
    for grower in &mut growers {
        grower.take(3)?;
    }
    let (near, far) = (link.near.inode()?, link.far.inode()?);
    let namespaces = |check: &Check| -> Vec<u64> {
        let all = check.found["ceilings"].as_array().into_iter().flatten();
        let mut inodes: Vec<u64> = all.filter_map(|found| found["netns"].as_u64()).collect();
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    };
    let [one, _] = &growers;
    let check = Check::once(&["--pid", &one.pid().to_string()])?;
    let pids: Vec<&Value> =
        check.all("open-files", "process").into_iter().map(|found| &found["pid"]).collect();
    ensure!(pids == [&Value::from(one.pid())], "open files of {pids:?}");
    ensure!(namespaces(&check) == [near], "{:?}, near is {near}", namespaces(&check));
    for (argument, expected) in
        [(link.near.path(), near), (far.to_string(), far), (held.pid().to_string(), far)]
    {
        let check = Check::once(&["--netns", &argument])?;
        ensure!(namespaces(&check) == [expected], "{argument}: {:?}", namespaces(&check));
    }
    let check = Check::once(&["--netns", &link.near.path(), "--netns", &link.far.path()])?;
    ensure!(namespaces(&check).len() == 2, "{:?}", namespaces(&check));
    let check = Check::once(&[])?;
    let all = namespaces(&check);
    ensure!(all.contains(&near) && all.contains(&far), "{all:?} without {near} or {far}");
    Ok(())
}

/// A process whose name is made to write to a terminal.
fn hostile_names() -> Result<()> {
    const NAME: &str = "x\u{1b}[31m\ny\"<&\u{9b}";
    let link = Link::new()?;
    link.near.sysctl("net.ipv4.ip_local_port_range", RANGE)?;
    let target = format!("{FAR4}:9001");
    let _held = link.far.serve("hold", &[target.parse()?])?;
    let directory = tempfile::tempdir()?;
    let program = directory.path().join(NAME);
    std::os::unix::fs::symlink(load_binary(), &program)?;
    let mut grower = link.near.grow_as(&program, &["connection", "--to", &target])?;
    grower.take(u32::try_from(PORTS)?)?;
    let comm = fs::read_to_string(format!("/proc/{}/comm", grower.pid()))?;
    ensure!(comm.trim_end_matches('\n') == NAME, "the kernel has {comm:?}");

    let check = Check::of_namespace(&link.near, &[])?;
    let found = check.upstream(FAR4, 9001)?;
    let said = found["who"][0]["comm"].as_str().unwrap_or_default();
    println!("{:?}", found["who"]);
    ensure!(said.starts_with('x') && said.contains("y\"<&"), "who: {found}");
    for format in ["text", "json"] {
        let format = format!("--format={format}");
        let end = socklife(&["check", "--netns", &link.near.path(), &format])?;
        println!("{}", end.stdout);
        let inert = end.stdout.chars().all(|c| c == '\n' || !c.is_control());
        ensure!(inert, "control characters: {:?}", end.stdout);
        ensure!(!end.stdout.lines().any(|line| line.starts_with("y\"")), "a line of its own");
        ensure!(end.stdout.contains("[31m"), "the process is not named: {}", end.stdout);
    }
    Ok(())
}

/// Ten thousand established sockets and about sixty thousand in TIME-WAIT are counted exactly.
fn busy_host() -> Result<()> {
    const ESTABLISHED: u64 = 10_000;
    const TIME_WAIT: u64 = 60_000;
    let host = Namespace::alone()?;
    host.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
    host.sysctl("net.ipv4.tcp_tw_reuse", "0")?;
    host.sysctl("net.ipv4.tcp_max_tw_buckets", "262144")?;
    let many = [format!("--established={ESTABLISHED}"), format!("--time-wait={TIME_WAIT}")];
    let mut crowd = Process::start_ordered(host.command(load_binary()).arg("crowd").args(many))?;
    socklife_tests::wait_for("the crowd", || {
        ensure!(!crowd.ended()?, "it ended: {}", crowd.stderr_so_far());
        Ok(crowd.stdout_so_far().contains('\n').then_some(()))
    })?;
    let time_wait = host.time_wait()?;
    let check = Check::of_namespace(&host, &[])?;
    // A new connection may take a server's entry over, where the client's port comes again (RFC 1122, 4.2.2.13).
    ensure!(time_wait > TIME_WAIT - TIME_WAIT / 100, "the kernel has {time_wait}");
    ensure!(host.time_wait()? == time_wait, "the kernel has {} then", host.time_wait()?);
    let found = check.one("time-wait", "netns", &[("netns", host.inode()?.into())])?;
    expect(found, &[("used", time_wait.into()), ("limit", 262_144.into())])?;
    // An upstream is what the near end of a connection sees.
    let of = |state: &str| -> u64 {
        let all = check.all("ephemeral-ports", "upstream").into_iter();
        all.filter_map(|found| found["states"][state].as_u64()).sum()
    };
    println!("upstreams: {} ESTAB, {} TIME-WAIT", of("ESTAB"), of("TIME-WAIT"));
    let there = host.ss(&["-t", "state", "established"])?.len() as u64;
    ensure!(there == ESTABLISHED, "ss has {there}");
    Ok(())
}
