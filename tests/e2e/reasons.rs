//! Each reason for a failure, made in known numbers, over IPv4, IPv6 and IPv4 through an IPv6 socket,
//! on each rung: the same number is seen, with the same errno, upstream, and process, while other
//! processes keep both CPUs busy so that softirqs interrupt a bystander.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    process::Command,
};

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use socklife_tests::{
    net::{FAR4, FAR6, Link, load_binary},
    process::{Process, run},
    socklife::{Rung, Socklife, last_line, lines, lost},
    wait_for,
};

use crate::{Need, Test};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Mapped,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
            Self::Mapped => "v4_mapped",
        }
    }

    fn far(self) -> &'static str {
        if self == Self::V6 { FAR6 } else { FAR4 }
    }

    /// The far host's link has no such address, but its network card.
    fn silent(self) -> &'static str {
        if self == Self::V6 { "fd77::77" } else { "10.77.0.77" }
    }

    /// Nobody has this address, and nobody says so.
    fn nobody(self) -> &'static str {
        if self == Self::V6 { "fd77::99" } else { "10.77.0.99" }
    }
}

const HOLD: u16 = 9001;
const CLOSED: u16 = 9002;
const RESET: u16 = 9003;

/// What is expected of a case: (reason, errno of the event, how many).
type Expected<'a> = &'a [(&'static str, Option<&'static str>, u64)];

/// One way to fail.
struct Case {
    name: &'static str,
    how: &'static str,
    count: u32,
    to: fn(Family) -> (&'static str, u16),
    /// What the caller saw: (errno, how often).
    seen: &'static [(&'static str, u64)],
    events: Expected<'static>,
    families: &'static [Family],
}

const ALL: &[Family] = &[Family::V4, Family::V6, Family::Mapped];

const CASES: &[Case] = &[
    Case {
        name: "port_range_exhausted",
        how: "exhaust",
        count: 51,
        to: |family| (family.far(), HOLD),
        seen: &[("ok", 64), ("EADDRNOTAVAIL", 51)],
        events: &[("port-range-exhausted", Some("EADDRNOTAVAIL"), 51)],
        families: ALL,
    },
    Case {
        name: "port_range_exhausted_on_a_socket_used_before",
        how: "reuse",
        count: 7,
        to: |family| (family.far(), HOLD),
        seen: &[("ok", 64), ("ECONNREFUSED", 65), ("EADDRNOTAVAIL", 7)],
        events: &[
            ("port-range-exhausted", Some("EADDRNOTAVAIL"), 7),
            ("refused", Some("ECONNREFUSED"), 65),
        ],
        families: ALL,
    },
    Case {
        name: "tuple_collision",
        how: "collide",
        count: 11,
        to: |family| (family.far(), HOLD),
        seen: &[("EADDRNOTAVAIL", 11)],
        events: &[("tuple-collision", Some("EADDRNOTAVAIL"), 11)],
        families: ALL,
    },
    Case {
        name: "tuple_collision_of_a_port_that_bind_chose",
        how: "collide-auto",
        count: 5,
        to: |family| (family.far(), HOLD),
        seen: &[("EADDRNOTAVAIL", 5)],
        events: &[("tuple-collision", Some("EADDRNOTAVAIL"), 5)],
        families: ALL,
    },
    Case {
        name: "refused",
        how: "plain",
        count: 60,
        to: |family| (family.far(), CLOSED),
        seen: &[("ECONNREFUSED", 60)],
        events: &[("refused", Some("ECONNREFUSED"), 60)],
        families: ALL,
    },
    Case {
        name: "timed_out",
        how: "wait",
        count: 9,
        to: |family| (family.silent(), HOLD),
        seen: &[("ETIMEDOUT", 9)],
        events: &[("timed-out", Some("ETIMEDOUT"), 9)],
        families: ALL,
    },
    Case {
        name: "unreachable",
        how: "wait",
        count: 4,
        to: |family| (family.nobody(), HOLD),
        seen: &[("EHOSTUNREACH", 4)],
        events: &[("unreachable", Some("EHOSTUNREACH"), 4)],
        families: ALL,
    },
    Case {
        name: "reset",
        how: "reset",
        count: 30,
        to: |family| (family.far(), RESET),
        seen: &[("ECONNRESET", 30)],
        events: &[("reset", Some("ECONNRESET"), 30)],
        families: ALL,
    },
    Case {
        name: "abandoned_by_close",
        how: "abandon",
        count: 25,
        to: |family| (family.silent(), HOLD),
        seen: &[("ok", 25)],
        events: &[("abandoned", None, 25)],
        families: ALL,
    },
    Case {
        name: "abandoned_by_disconnect",
        how: "disconnect",
        count: 6,
        to: |family| (family.silent(), HOLD),
        seen: &[("ok", 6)],
        events: &[("abandoned", None, 6)],
        families: ALL,
    },
    Case {
        name: "local_error_by_a_rule_on_the_chosen_port",
        how: "plain",
        count: 8,
        to: |_| (FAR4, PROHIBITED),
        seen: &[("EACCES", 8)],
        events: &[("local-error", Some("EACCES"), 8)],
        // tcp_v6_connect() asks for a route once, before the port is chosen.
        families: &[Family::V4, Family::Mapped],
    },
];

/// A rule forbids to go there from a port of the range: only after a port was chosen.
const PROHIBITED: u16 = 9005;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (rung, rung_name) in [(Rung::Auto, "best_hook"), (Rung::Tracepoint, "tracepoint")] {
        let mut needs = vec![Need::Bpf, Need::Namespaces];
        if rung == Rung::Tracepoint {
            needs.push(Need::Tracefs);
        }
        for &family in ALL {
            for case in CASES.iter().filter(|case| case.families.contains(&family)) {
                let name = format!("reasons::{rung_name}::{}::{}", family.name(), case.name);
                tests.push(Test::new(name, &needs, move || check(rung, family, case)));
            }
            let name = format!("reasons::{rung_name}::{}::local_error_by_ss_kill", family.name());
            tests.push(Test::new(name, &needs, move || killed(rung, family)));
        }
    }
    tests
}

/// Two hosts, ready for every case, and two bystanders.
struct Stage {
    link: Link,
    _servers: Vec<Process>,
    _bystanders: Vec<Process>,
}

impl Stage {
    fn new() -> Result<Self> {
        let link = Link::new()?;
        let near = &link.near;
        near.sysctl("net.ipv4.ip_local_port_range", "40000 40063")?;
        near.sysctl("net.ipv4.tcp_syn_retries", "1")?;
        for family in ["ipv4", "ipv6"] {
            near.sysctl(&format!("net.{family}.neigh.v0.mcast_solicit"), "1")?;
            near.sysctl(&format!("net.{family}.neigh.v0.retrans_time_ms"), "100")?;
        }
        for address in [Family::V4.silent(), Family::V6.silent()] {
            link.blackhole(address)?;
        }
        let port = PROHIBITED.to_string();
        let rule = ["rule", "add", "pref", "10", "to", FAR4, "ipproto", "tcp", "dport", &port];
        near.ip(&[&rule[..], &["sport", "40000-40063", "prohibit"]].concat())?;
        let listen = |port: u16| -> Result<Vec<_>> {
            Ok(vec![format!("{FAR4}:{port}").parse()?, format!("[{FAR6}]:{port}").parse()?])
        };
        let servers = vec![
            link.far.serve("hold", &listen(HOLD)?)?,
            link.far.serve("reset", &listen(RESET)?)?,
        ];
        let spin = || Process::start(Command::new("sh").args(["-c", "while :; do :; done"]));
        Ok(Self { link, _servers: servers, _bystanders: vec![spin()?, spin()?] })
    }
}

/// `trace` and `count` of the near host, both at once.
struct Watch {
    trace: Socklife,
    count: Socklife,
    netns: u64,
}

impl Watch {
    fn start(rung: Rung, stage: &Stage) -> Result<Self> {
        let path = stage.link.near.path();
        let filter = ["--netns", path.as_str(), "--format=json"];
        let trace = [&["trace", "--failures"], &filter[..]].concat();
        let count = [&["count", "--error=all"], &filter[..]].concat();
        Ok(Self {
            trace: Socklife::start_on(rung, &trace)?,
            count: Socklife::start_on(rung, &count)?,
            netns: std::fs::metadata(&path)?.ino(),
        })
    }

    /// Ends both, and checks what they saw.
    fn check(
        self,
        family: Family,
        made: &Value,
        to: (&str, u16),
        expected: Expected<'_>,
    ) -> Result<()> {
        let traced = self.trace.interrupt()?;
        ensure!(traced.code == Some(0), "trace ended with {:?}: {}", traced.code, traced.stderr);
        let events = lines(&traced.stdout)?;
        ensure!(lost(&events) == 0, "events were lost");
        for (reason, error, count) in expected {
            let of_it = |event: &&Value| event["reason"] == *reason;
            let found: Vec<_> = events.iter().filter(of_it).collect();
            ensure!(
                found.len() as u64 == *count,
                "{} events with reason {reason} instead of {count}:\n{}",
                found.len(),
                traced.stdout
            );
            for event in found {
                ensure!(event["error"].as_str() == *error, "another errno: {event}");
                check_event(event, family, made, to, self.netns)?;
            }
        }
        let total: u64 = expected.iter().map(|(_, _, count)| count).sum();
        ensure!(events.len() as u64 == total, "other events too:\n{}", traced.stdout);

        let counted = self.count.interrupt()?;
        let counted = last_line(&counted.stdout)?;
        ensure!(counted["total"] == total && counted["lost"] == 0, "count says {counted}");
        let rows = counted["by"].as_array().map_or(&[][..], Vec::as_slice);
        for row in rows {
            ensure!(
                row["comm"] == "socklife-load" && row["pids"] == serde_json::json!([made["pid"]])
            );
            if row["reason"] == "port-range-exhausted" {
                ensure!(row["ports_usable"] == 64, "ports usable: {row}");
                ensure!(row["ports_used"].as_u64() <= Some(64), "ports used: {row}");
            }
        }
        Ok(())
    }
}

/// Process, upstream, namespace, family and age of one event.
fn check_event(
    event: &Value,
    family: Family,
    made: &Value,
    to: (&str, u16),
    netns: u64,
) -> Result<()> {
    ensure!(event["event"] == "state" && event["new"] == "UNCONN", "another event: {event}");
    ensure!(
        event["comm"] == "socklife-load" && event["pid"] == made["pid"],
        "another owner: {event}"
    );
    ensure!(event["dst"] == to.0, "another upstream: {event}");
    ensure!(event["family"] == if family == Family::V6 { 6 } else { 4 }, "another family: {event}");
    ensure!(event["netns"] == netns, "another namespace: {event}");
    ensure!(event["age_us"].is_u64(), "no age: {event}");
    let port = event["sport"].as_u64();
    match event["reason"].as_str() {
        Some("port-range-exhausted") => ensure!(port.is_none(), "a port: {event}"),
        Some("tuple-collision") => ensure!(port.is_some(), "no port: {event}"),
        _ => ensure!(port.is_some_and(|port| (40_000..=40_063).contains(&port)), "port: {event}"),
    }
    Ok(())
}

fn check(rung: Rung, family: Family, case: &Case) -> Result<()> {
    let stage = Stage::new()?;
    let watch = Watch::start(rung, &stage)?;
    let to = (case.to)(family);
    let made = stage.link.near.fail(&arguments(family, case.how, to, case.count))?;
    for (error, count) in case.seen {
        ensure!(made["outcomes"][error] == *count, "the caller saw something else: {made}");
    }
    watch.check(family, &made, to, case.events)
}

fn arguments(family: Family, how: &str, to: (&str, u16), count: u32) -> Vec<String> {
    let (address, port) = to;
    let to = SocketAddr::new(address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port);
    let to = format!("--to={to}");
    let mut arguments =
        vec![how.to_owned(), to, format!("--count={count}"), "--sport=45000".into()];
    if family == Family::Mapped {
        arguments.push("--mapped".to_owned());
    }
    arguments
}

/// `ss -K` aborts connects that are under way: `ECONNABORTED`.
fn killed(rung: Rung, family: Family) -> Result<()> {
    const COUNT: u32 = 3;
    let stage = Stage::new()?;
    let watch = Watch::start(rung, &stage)?;
    let near = &stage.link.near;
    let to = (family.silent(), HOLD);
    let arguments = arguments(family, "wait", to, COUNT);
    let victim = Process::start(near.command(load_binary()).arg("fail").args(arguments))?;
    let connecting = || -> Result<usize> {
        let listed = run(near.command("ss").args(["-Htn", "state", "syn-sent"]))?;
        Ok(listed.lines().count())
    };
    wait_for("connects under way", || Ok((connecting()? == COUNT as usize).then_some(())))?;
    run(near.command("ss").args(["-K", "-tn", "state", "syn-sent"]))?;
    let end = victim.finish()?;
    let made: Value = match serde_json::from_str(&end.stdout) {
        Ok(made) => made,
        Err(_) => bail!("the victim failed: {}", end.stderr),
    };
    ensure!(made["outcomes"]["ECONNABORTED"] == COUNT, "the caller saw something else: {made}");
    watch.check(family, &made, to, &[("local-error", Some("ECONNABORTED"), u64::from(COUNT))])
}
