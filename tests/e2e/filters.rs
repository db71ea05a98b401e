//! Every filter, applied in the kernel: of two groups of events that differ in one thing, exactly
//! the wanted one is produced.

use std::{os::unix::fs::MetadataExt, process::Command};

use anyhow::{Context, Result, ensure};
use socklife_tests::{
    net::{FAR4, FAR6, Link, load_binary},
    process::run,
    socklife::{Rung, Socklife, lines},
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Namespaces];
    let traced = [Need::Bpf, Need::Namespaces, Need::Tracefs];
    vec![
        Test::new("filters::best_hook", &needs, || filters(Rung::Auto)),
        Test::new("filters::tracepoint", &traced, || filters(Rung::Tracepoint)),
        Test::new("filters::pid_and_comm", &needs, pid_and_comm),
        Test::new("filters::cgroup", &needs, cgroup),
        Test::new("names::hostile", &needs, hostile_name),
        Test::new("ports::reserved", &needs, reserved_ports),
    ]
}

/// What the near host does: refused connects to four upstreams.
const MADE: [(&str, u32); 4] =
    [("10.77.0.2:9101", 3), ("10.77.0.2:9102", 5), ("[fd77::2]:9101", 7), ("127.0.0.1:9101", 11)];

fn make(link: &Link) -> Result<()> {
    for (to, count) in MADE {
        let count = count.to_string();
        let made = link.near.fail(&["plain", "--to", to, "--count", &count])?;
        ensure!(made["outcomes"]["ECONNREFUSED"].as_u64() == count.parse().ok(), "{made}");
    }
    Ok(())
}

/// Each filter alone and with others, and how many of the events above pass it. A refused connect
/// makes two: to SYN-SENT, and to UNCONN.
fn filters(rung: Rung) -> Result<()> {
    let link = Link::new()?;
    let cases: &[(&[&str], u32)] = &[
        (&[], 2 * 26),
        (&["--failures"], 26),
        (&["--state=syn-sent"], 26),
        (&["--state=SYN-SENT,UNCONN"], 2 * 26),
        (&["--state=established"], 0),
        (&["-4"], 2 * 19),
        (&["-6"], 2 * 7),
        (&["--dport=9102"], 2 * 5),
        (&["--dport=9101,9102"], 2 * 26),
        (&["--port=9101"], 2 * 21),
        (&["--port=40000"], 0),
        (&["--dst", FAR4], 2 * 8),
        (&["--dst=10.0.0.0/8"], 2 * 8),
        (&["--dst=10.77.0.0/31"], 0),
        (&["--dst", FAR6], 2 * 7),
        (&["--dst=fd77::/64,127.0.0.0/8"], 2 * 18),
        (&["--dst=::/0"], 2 * 26),
        (&["--src=10.77.0.1"], 2 * 8),
        (&["--src=::ffff:10.77.0.0/120"], 2 * 8),
        (&["--src=192.0.2.0/24"], 0),
        (&["--failures", "--dst=10.0.0.0/8", "--dport=9102", "-4"], 5),
    ];
    for (filter, expected) in cases {
        let path = link.near.path();
        let always = ["trace", "--format=json", "--netns", &path];
        let socklife = Socklife::start_on(rung, &[&always[..], filter].concat())?;
        make(&link)?;
        let end = socklife.interrupt()?;
        let seen = lines(&end.stdout)?.len();
        ensure!(seen == *expected as usize, "{filter:?}: {seen} events instead of {expected}");
        let produced = format!("({expected} produced)");
        ensure!(
            end.stderr.contains(&produced),
            "{filter:?} is not applied in the kernel: {}",
            end.stderr
        );
    }
    // By inode number and by the id of a process inside.
    let inode = std::fs::metadata(link.near.path())?.ino().to_string();
    let inside = link.near.serve("hold", &["127.0.0.1:9200".parse()?])?;
    for netns in [inode, inside.pid().to_string()] {
        let socklife = Socklife::start_on(rung, &["trace", "--format=json", "--netns", &netns])?;
        make(&link)?;
        let seen = lines(&socklife.interrupt()?.stdout)?.len();
        ensure!(seen == 52, "--netns {netns}: {seen} events");
    }
    Ok(())
}

fn pid_and_comm() -> Result<()> {
    let link = Link::new()?;
    let path = link.near.path();
    let always = ["trace", "--format=json", "--failures", "--netns", &path];
    for (filter, expected) in
        [("--comm=socklife-load", 26), ("--comm=nginx", 0), ("--pid=4194303", 0)]
    {
        let socklife = Socklife::start(&[&always[..], &[filter]].concat())?;
        make(&link)?;
        let seen = lines(&socklife.interrupt()?.stdout)?.len();
        ensure!(seen == expected, "{filter}: {seen} events instead of {expected}");
    }
    // A shell that waits for a line, then becomes the load: its process id is known before.
    let gate = tempfile::tempdir()?;
    let fifo = gate.path().join("go");
    run(Command::new("mkfifo").arg(&fifo))?;
    let mut command = link.near.command("sh");
    command
        .args(["-c", "read go < \"$FIFO\"; exec \"$0\" fail plain --to 10.77.0.2:9101 --count 4"]);
    command.arg(load_binary()).env("FIFO", &fifo);
    let child = socklife_tests::process::Process::start(&mut command)?;
    let pid = child.pid().to_string();
    let socklife = Socklife::start(&[&always[..], &["--pid", &pid]].concat())?;
    make(&link)?;
    std::fs::write(&fifo, "go\n")?;
    child.finish()?;
    let events = lines(&socklife.interrupt()?.stdout)?;
    ensure!(events.len() == 4, "--pid {pid}: {} events", events.len());
    ensure!(
        events.iter().all(|event| event["pid"].as_u64() == pid.parse().ok()),
        "another process: {events:?}"
    );
    Ok(())
}

/// Tasks of a cgroup and of one below it, not those of another.
fn cgroup() -> Result<()> {
    let link = Link::new()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let root = mount.and_then(|line| line.split(' ').nth(1)).context("no cgroup2 hierarchy")?;
    let name = format!("slt-{}", std::process::id());
    let top = std::path::Path::new(root).join(&name);
    let below = top.join("below");
    let beside = std::path::Path::new(root).join(format!("{name}-beside"));
    let guard = Cgroups(vec![below.clone(), top.clone(), beside.clone()]);
    for cgroup in guard.0.iter().rev() {
        if !cgroup.exists() {
            std::fs::create_dir_all(cgroup)?;
        }
    }
    let path = link.near.path();
    let wanted = format!("/{name}");
    let always = ["trace", "--format=json", "--failures", "--netns", &path, "--cgroup", &wanted];
    let socklife = Socklife::start(&always)?;
    for (cgroup, count) in [(&top, "2"), (&below, "3"), (&beside, "5")] {
        // First into the cgroup: `ip netns exec` hides the hierarchy behind a sysfs of its own.
        let mut command = Command::new("sh");
        let enter = "echo $$ > \"$GROUP/cgroup.procs\" && exec ip netns exec \"$1\" \"$0\"";
        let script = format!("{enter} fail plain --to 10.77.0.2:9101 --count {count}");
        command.args(["-c", &script]).arg(load_binary()).arg(link.near.name());
        run(command.env("GROUP", cgroup))?;
    }
    let events = lines(&socklife.interrupt()?.stdout)?;
    let of = |path: &str| events.iter().filter(|event| event["cgroup"] == *path).count();
    let (at, deeper) = (of(&wanted), of(&format!("{wanted}/below")));
    ensure!(events.len() == 5 && at == 2 && deeper == 3, "{} events: {events:?}", events.len());
    Ok(())
}

/// Cgroups that go when dropped.
struct Cgroups(Vec<std::path::PathBuf>);

impl Drop for Cgroups {
    fn drop(&mut self) {
        for cgroup in &self.0 {
            if let Err(error) = std::fs::remove_dir(cgroup) {
                eprintln!("cgroup {} is left behind: {error}", cgroup.display());
            }
        }
    }
}

/// A process whose name is a terminal command: it reaches neither the terminal nor breaks JSON.
fn hostile_name() -> Result<()> {
    let link = Link::new()?;
    let path = link.near.path();
    let run_hostile = || -> Result<()> {
        let script = "printf '\\033[2J\\xff\"<b>' > /proc/$$/comm; exec 3<>/dev/tcp/10.77.0.2/9101";
        let mut command = link.near.command("bash");
        let end =
            socklife_tests::process::Process::start(command.args(["-c", script]))?.finish()?;
        ensure!(end.stderr.contains("refused"), "it should be refused: {}", end.stderr);
        Ok(())
    };
    for arguments in [&["trace"][..], &["count", "--error=all"], &["trace", "--format=json"]] {
        let socklife = Socklife::start(&[arguments, &["--netns", &path]].concat())?;
        run_hostile()?;
        let end = socklife.interrupt()?;
        ensure!(end.stdout.contains("[2J"), "its name is not shown: {}", end.stdout);
        let raw = end.stdout.chars().any(|c| c.is_control() && c != '\n');
        ensure!(!raw && !end.stdout.contains('\u{fffd}'), "raw bytes: {:?}", end.stdout);
        if arguments.contains(&"--format=json") {
            let shown = &lines(&end.stdout)?[0]["comm"];
            ensure!(shown == "\\u{1b}[2J\\xff\"<b>", "shown as {shown}");
        }
    }
    Ok(())
}

/// Usable ports leave out the reserved ones, also when their list is long.
fn reserved_ports() -> Result<()> {
    let link = Link::new()?;
    link.near.sysctl("net.ipv4.ip_local_port_range", "40000 40063")?;
    let reserved: Vec<String> = (0..21).map(|index| (40_001 + 2 * index).to_string()).collect();
    link.near.sysctl("net.ipv4.ip_local_reserved_ports", &reserved.join(","))?;
    let _held = link.far.serve("hold", &["10.77.0.2:9001".parse()?])?;
    let path = link.near.path();
    let count = Socklife::start(&["count", "--format=json", "--netns", &path])?;
    let made = link.near.fail(&["exhaust", "--to", "10.77.0.2:9001", "--count", "20000"])?;
    ensure!(made["outcomes"]["ok"] == 43, "connects that found a port: {made}");
    let counted = socklife_tests::socklife::last_line(&count.interrupt()?.stdout)?;
    ensure!(counted["total"] == 20_000, "{counted}");
    ensure!(counted["by"][0]["ports_usable"] == 43, "usable: {counted}");
    ensure!(counted["by"][0]["ports_used"] == 43, "used: {counted}");
    Ok(())
}
