//! Shots with realistic values: an Nginx host whose keepalive to one upstream is missing.

use std::{net::IpAddr, sync::Arc};

use crate::{
    ceilings::{
        Ceiling, Failed, Since, Subject, Traffic, User,
        forecast::Forecast,
        thresholds::{Status, Thresholds},
    },
    check::Judged,
    event::{Comm, Loss, State},
    live::shot::{
        About, Gauge, Ground, Hook, Incident, Latency, Ports, Process, Shot, Sockets, Source,
        Upstream, UpstreamKey,
    },
    reason::Reason,
};

pub(crate) const OWN: u32 = 4_026_531_840;
pub(crate) const OTHER: u32 = 4_026_532_611;
/// Twelve minutes and 41 seconds after boot.
pub(crate) const AT_NS: u64 = 761_000_000_000;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn comm(bytes: &[u8]) -> Comm {
    let mut name = [0; 16];
    name[..bytes.len()].copy_from_slice(bytes);
    Comm::new(name)
}

pub(crate) fn key(dst: &str, dport: u16) -> UpstreamKey {
    UpstreamKey { netns: Some(OWN), dst: ip(dst), dport }
}

fn exhausted() -> Subject {
    Subject::Upstream {
        netns: OWN,
        src: ip("10.0.0.5"),
        dst: ip("10.0.0.9"),
        dport: 9001,
        interface: 0,
        range: None,
    }
}

fn gauge(ceiling: Ceiling, trend: impl Iterator<Item = f32>, fails_per_s: f64) -> Gauge {
    let status = Thresholds::default().judge(&ceiling);
    Gauge { judged: Arc::new(Judged { ceiling, status }), trend: trend.collect(), fails_per_s }
}

fn ports(used: u64, failed: u64) -> Ceiling {
    let mut ceiling = Ceiling::new(exhausted(), used, 28_232);
    if failed > 0 {
        ceiling.failures.push(Failed {
            error: "EADDRNOTAVAIL",
            count: failed,
            per_s: Some(412.3),
            since: Since::Interval,
            who: vec![(1234, comm(b"nginx"), failed - 1_000), (1235, comm(b"nginx"), 1_000)],
        });
    } else {
        let basis = "15.1/s over the last 60 s".to_owned();
        ceiling.forecast = Some(Forecast { seconds: 1_083.0, basis });
    }
    ceiling.who = vec![User::Process(1234, comm(b"nginx"), 212)];
    ceiling.traffic = Some(Traffic {
        states: [(State::ESTABLISHED, 212), (State::TIME_WAIT, used - 212)].into(),
        reusable: 0,
        entered_per_s: Some(470.2),
        sustainable_per_s: Some(470.5),
        closed: Some((28_411, 12)),
    });
    ceiling.evidence = "sock_diag; net.ipv4.ip_local_port_range = 32768 60999".into();
    ceiling.remedy = vec![
        "keep connections to the upstream open (keepalive)".to_owned(),
        "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" (64,512 usable ports instead of 28,232; look \
         for UDP services, NodePorts and stopped services in there first)"
            .to_owned(),
        "sysctl -w net.ipv4.tcp_tw_reuse=1 (connect() takes over entries that are older than a second)"
            .to_owned(),
        "a second source IPv4 address beside 10.0.0.5 (proxy_bind), or another address or port of the \
         upstream beside 10.0.0.9: each has 28,232 ports of its own"
            .to_owned(),
    ];
    ceiling
}

fn files(used: u64) -> Ceiling {
    let subject = Subject::Process { pid: 1234, comm: comm(b"nginx") };
    let mut ceiling = Ceiling::new(subject, used, 65_536);
    ceiling.evidence = "/proc/1234/limits, /proc/1234/fd".into();
    ceiling.remedy = vec![
        "LimitNOFILE=131072 in the unit, and worker_rlimit_nofile 131072 in Nginx's configuration"
            .to_owned(),
    ];
    ceiling
}

fn queue(used: u64, sport: u16) -> Ceiling {
    let subject =
        Subject::Listener { netns: OWN, src: ip("0.0.0.0"), sport, cookie: u64::from(sport) };
    let mut ceiling = Ceiling::new(subject, used, 511);
    ceiling.evidence = "sock_diag".into();
    ceiling
}

fn table(used: u64) -> Ceiling {
    let mut ceiling = Ceiling::new(Subject::Conntrack { netns: OWN }, used, 262_144);
    ceiling.evidence = "nf_conntrack_count, nf_conntrack_max".into();
    ceiling
}

fn rising(from: f32, to: f32) -> impl Iterator<Item = f32> {
    (0_u16..60).map(move |second| from + (to - from) * f32::from(second) / 59.0)
}

fn gauges(used: u64, failed: u64, per_s: f64) -> Vec<Gauge> {
    let flat = |level: f32| std::iter::repeat_n(level, 60);
    let mut conntrack = table(31_870);
    conntrack.inferred = true;
    let mut entered = Ceiling::new(Subject::TimeWait { netns: OWN }, used, 262_144);
    entered.entered_per_s = Some(470.2);
    entered.evidence = "sock_diag; net.ipv4.tcp_max_tw_buckets = 262144".into();
    vec![
        gauge(ports(used, failed), rising(0.2, if failed > 0 { 1.0 } else { 0.4 }), per_s),
        gauge(files(29_112), flat(0.44), 0.0),
        gauge(conntrack, flat(0.12), 0.0),
        gauge(entered, rising(0.02, 0.1), 0.0),
        gauge(queue(3, 80), flat(0.01), 0.0),
        gauge(queue(0, 443), flat(0.0), 0.0),
    ]
}

fn upstream(dst: &str, dport: u16, established: u64) -> Upstream {
    Upstream {
        key: key(dst, dport),
        sockets: Some(Sockets { established, connecting: 1, time_wait: established / 3, other: 2 }),
        ports: Some(Ports { used: established + established / 3, usable: 28_232, inferred: false }),
        opened_per_s: 12.4,
        closed_per_s: 12.1,
        time_wait_per_s: Some(12.0),
        time_wait_inferred: false,
        closed_here: 7_230,
        closed_by_peer: 410,
        failures: Vec::new(),
        fails_per_s: 0.0,
        latency: Some(Latency { p50_us: 340, p99_us: 2_100 }),
        sources: [Source {
            src: ip("10.0.0.5"),
            ports: Ports { used: established, usable: 28_232, inferred: false },
        }]
        .into(),
        processes: [(1234, comm(b"nginx"), established)].into(),
    }
}

fn upstreams(failing: bool) -> Vec<Upstream> {
    let mut worst = upstream("10.0.0.9", 9001, 212);
    worst.sockets = Some(Sockets { established: 212, connecting: 3, time_wait: 28_017, other: 4 });
    worst.ports = Some(Ports { used: 28_231, usable: 28_232, inferred: false });
    worst.opened_per_s = 470.4;
    worst.closed_per_s = 470.1;
    worst.time_wait_per_s = Some(470.2);
    (worst.closed_here, worst.closed_by_peer) = (28_411, 12);
    if failing {
        worst.failures =
            vec![(Some(Reason::PortRangeExhausted), 12_403), (Some(Reason::TimedOut), 17)];
        worst.fails_per_s = 412.3;
    } else {
        worst.ports = Some(Ports { used: 11_920, usable: 28_232, inferred: false });
    }
    worst.processes = [(1234, comm(b"nginx"), 120), (1235, comm(b"nginx"), 92)].into();
    let mut refused = upstream("10.0.0.12", 8080, 31);
    refused.failures = vec![(Some(Reason::Refused), 214)];
    refused.fails_per_s = if failing { 3.5 } else { 0.0 };
    let mut inferred = upstream("10.0.1.20", 5432, 1_840);
    inferred.ports = Some(Ports { used: 2_100, usable: 28_232, inferred: true });
    inferred.time_wait_inferred = true;
    inferred.processes = [(2210, comm(b"php-fpm8.2"), 1_840)].into();
    let mut elsewhere = upstream("10.244.3.17", 6379, 402);
    elsewhere.key.netns = Some(OTHER);
    elsewhere.processes = [(3301, comm(b"sidekiq"), 402)].into();
    let mut unlisted = upstream("192.0.2.80", 443, 0);
    (unlisted.sockets, unlisted.ports, unlisted.latency) = (None, None, None);
    (unlisted.opened_per_s, unlisted.closed_per_s, unlisted.time_wait_per_s) = (0.0, 0.0, None);
    (unlisted.closed_here, unlisted.closed_by_peer) = (0, 0);
    vec![
        upstream("10.0.0.10", 9001, 3_120),
        refused,
        worst,
        upstream("10.0.0.11", 9001, 2_980),
        upstream("2001:db8:85a3::8a2e:370:7334", 8443, 77),
        inferred,
        elsewhere,
        unlisted,
    ]
}

fn process(pid: u32, name: &[u8], files: u64, accepted: u64, made: u64) -> Process {
    Process {
        pid,
        comm: comm(name),
        files: Some((files, 65_536)),
        connections: Some((accepted, made)),
        served_per_s: 212.0,
        opened_per_s: 240.5,
        failed: 0,
        fails_per_s: 0.0,
        worst: None,
    }
}

fn processes(failing: bool) -> Vec<Process> {
    let mut worker = process(1234, b"nginx", 29_112, 18_200, 3_411);
    if failing {
        (worker.failed, worker.fails_per_s, worker.worst) =
            (11_403, 380.2, Some(Reason::PortRangeExhausted));
    }
    let mut ended = process(4_100_417, b"curl", 0, 0, 0);
    (ended.files, ended.connections) = (None, None);
    vec![
        process(2210, b"php-fpm8.2", 412, 0, 1_840),
        process(1235, b"nginx", 12_040, 9_900, 2_905),
        worker,
        process(3301, b"sidekiq", 77, 0, 402),
        ended,
    ]
}

fn ground() -> Ground {
    let hook = |event: &'static str, rung: &'static str, cost: &'static str| Hook {
        event: event.into(),
        rung: rung.into(),
        cost: cost.into(),
        inferred: false,
        notes: Vec::new(),
    };
    let mut inferred = hook("timewait", "inferred from state changes", "none");
    inferred.inferred = true;
    inferred.notes = vec!["entries whose last segment was lost are missing".to_owned()];
    Ground {
        blind: None,
        hooks: Arc::new(vec![
            hook(
                "state",
                "tp_btf/inet_sock_set_state",
                "low: runs on TCP state changes only, typed reads",
            ),
            hook("connect_failed", "fexit/__sys_connect", "low: runs on connect(), typed reads"),
            inferred,
        ]),
        unhooked: Arc::new(vec![(
            crate::kernel::ladder::Hooked::Accept.unseen().into(),
            "fexit/inet_csk_accept: no such function in this kernel's BTF".to_owned(),
        )]),
        events_per_s: 3_412.0,
        events: 2_104_551,
        lost: Loss::default(),
        losing: false,
        unlisted: 0,
        cpu_percent: 1.4,
        resident: 31_400_000,
        listing_ms: 48.2,
        listing_every_s: 2.0,
        frame_us: (1_240, 3_960),
        recorded: None,
    }
}

/// Nothing is wrong.
pub(crate) fn calm() -> Shot {
    Shot {
        at_ns: AT_NS,
        rates_s: 1.0,
        listed_ns: Some(AT_NS - 600_000_000),
        incidents: Vec::new(),
        gauges: gauges(11_920, 0, 0.0),
        upstreams: Arc::new(upstreams(false)),
        processes: Arc::new(processes(false)),
        ground: ground(),
        unseen: Arc::new(vec![
            "network namespaces of containers of other users: run as root".to_owned(),
        ]),
        own_netns: Some(OWN),
        ..Shot::default()
    }
}

/// One upstream has no ports left.
pub(crate) fn incident() -> Shot {
    let gauges = gauges(28_232, 12_403, 412.3);
    let remedy = gauges[0].judged.ceiling.remedy.clone();
    let sentence = "nginx[1234] and 1 more can't connect to 10.0.0.9:9001: no free local port (28,232 of 28,232 used; \
                    28,020 TIME-WAIT); 412 failures/s";
    Shot {
        incidents: vec![Incident {
            status: Status::Critical,
            about: About::Ceiling(exhausted()),
            sentence: sentence.to_owned(),
            remedy,
            per_s: 412.3,
            doubt: None,
        }],
        gauges,
        upstreams: Arc::new(upstreams(true)),
        processes: Arc::new(processes(true)),
        ..calm()
    }
}

/// That, and more.
pub(crate) fn several() -> Shot {
    let mut shot = incident();
    shot.incidents.push(Incident {
        status: Status::Warning,
        about: About::Upstream(key("10.0.0.12", 8080)),
        sentence:
            "nginx[1235] can't connect to 10.0.0.12:8080: refused (ECONNREFUSED); 3.50 failures/s"
                .to_owned(),
        remedy: vec!["see whether the service at 10.0.0.12:8080 runs".to_owned()],
        per_s: 3.5,
        doubt: None,
    });
    let full = Ceiling { remedy: files(0).remedy, ..files(57_100) };
    shot.incidents.push(Incident {
        status: Status::Warning,
        about: About::Ceiling(full.subject.clone()),
        sentence: "nginx[1234]: 57,100 of 65,536 files open (87.1 %)".to_owned(),
        remedy: full.remedy.clone(),
        per_s: 0.0,
        doubt: Some("events were lost: there may be more failures"),
    });
    shot.gauges[1] = gauge(full, rising(0.5, 0.87), 0.0);
    shot.gauges.push(gauge(queue(505, 8443), rising(0.1, 0.98), 0.0));
    shot.gauges.push(gauge(queue(470, 8444), rising(0.1, 0.92), 0.0));
    shot.gauges.sort_by_key(|gauge| std::cmp::Reverse(gauge.judged.status));
    shot
}

/// A shot so many seconds later.
pub(crate) fn later(mut shot: Shot, seconds: u64) -> Shot {
    shot.at_ns += seconds * 1_000_000_000;
    shot
}

/// Without events.
pub(crate) fn blind() -> Shot {
    let mut shot = calm();
    for upstream in Arc::make_mut(&mut shot.upstreams) {
        upstream.failures.clear();
    }
    shot.ground.blind = Some(
        "loading the programs needs CAP_BPF and CAP_PERFMON; run as root, or: setcap \
         cap_bpf,cap_perfmon,cap_net_admin,cap_sys_ptrace+ep /usr/bin/socklife"
            .into(),
    );
    shot.ground.hooks = Arc::default();
    shot
}

/// With lost events.
pub(crate) fn lossy() -> Shot {
    let mut shot = incident();
    shot.incidents[0].doubt = Some("events were lost: there may be more failures");
    shot.ground.lost = Loss { ts_ns: AT_NS, states: 3_000, failures: 204, ..Loss::default() };
    shot.ground.losing = true;
    shot
}

/// So many upstreams.
pub(crate) fn many(count: u32) -> Shot {
    let mut shot = incident();
    let of = |index: u32| {
        let [_, b, c, d] = index.to_be_bytes();
        let mut upstream = upstream(&format!("10.{b}.{c}.{d}"), 9001, u64::from(index % 997));
        upstream.failures = vec![(Some(Reason::Refused), u64::from(index % 13))];
        upstream
    };
    shot.upstreams = Arc::new((0..count).map(of).collect());
    shot
}
