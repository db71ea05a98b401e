//! Reports with realistic values: an Nginx host that first runs out of local ports, then out of open files.

use std::net::IpAddr;

use super::answers;
use crate::{
    capture::{
        Damage,
        content::{End, Header, NamespaceSysctls, Sysctls},
    },
    ceilings::{
        Ceiling, Failed, Since, Subject, User, ephemeral_ports::PortUse, thresholds::Status,
    },
    check::Judged,
    event::{Call, Comm, Errno, Loss},
    failures::{FailureKey, FailureRow},
    live::shot::{Hook, Latency, Sockets, UpstreamKey},
    reason::Reason,
    report::{self, Incident, Process, Report, SettingChange, Step, Timeline, Upstream},
};

/// What a foreign name may hold.
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'`><img src=x onerror=alert(2)> \
                                  javascript:alert(3) \u{202e}txt.\u{1b}[31m\u{7} &amp; </style></title>-->";

const OWN: u32 = 4_026_531_840;
const START_NS: u64 = 761_000_000_000;
const STEP_NS: u64 = 500_000_000;
const STEPS: u64 = 60;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn comm(bytes: &[u8]) -> Comm {
    let mut name = [0; 16];
    name[..bytes.len()].copy_from_slice(bytes);
    Comm::new(name)
}

/// Failures of a step: ports from the tenth on, files from the thirtieth on, a few refused all along.
fn failures(step: u64) -> Vec<(Option<Reason>, u64)> {
    let mut failures = vec![(Some(Reason::Refused), 3 + step % 4)];
    if (10..28).contains(&step) {
        failures.push((Some(Reason::PortRangeExhausted), 180 + step * 7 % 50));
    }
    if (32..50).contains(&step) {
        failures.push((Some(Reason::ProcessFileLimit), 60 + step * 11 % 40));
        failures.push((Some(Reason::TimedOut), 20));
    }
    failures
}

fn timeline() -> Timeline {
    let step = |step: u64| Step {
        opened: 240 + step * 13 % 40,
        closed: 230 + step * 17 % 40,
        time_waits: 210 + step * 5 % 30,
        failures: failures(step),
        lost: 0,
    };
    Timeline { start_ns: START_NS, step_ns: STEP_NS, steps: (0..STEPS).map(step).collect() }
}

fn total(wanted: Reason) -> u64 {
    let all = (0..STEPS).flat_map(failures);
    all.filter(|(why, _)| *why == Some(wanted)).map(|(_, count)| count).sum()
}

fn reasons() -> Vec<(Option<Reason>, u64)> {
    let named =
        [Reason::PortRangeExhausted, Reason::ProcessFileLimit, Reason::TimedOut, Reason::Refused];
    named.map(|why| (Some(why), total(why))).to_vec()
}

fn failed(error: u16, why: Reason, upstream: Option<(&str, u16)>) -> (FailureKey, FailureRow) {
    let key = FailureKey {
        call: upstream.is_none().then_some(Call::Descriptor),
        error: Some(Errno(error)),
        reason: Some(why),
        comm: Some(comm(b"nginx")),
        src: upstream.map(|_| ip("10.0.0.5")),
        sport: None,
        dst: upstream.map(|(dst, _)| ip(dst)),
        dport: upstream.map(|(_, port)| port),
        netns: Some(OWN),
    };
    let ports =
        (why == Reason::PortRangeExhausted).then_some(PortUse { used: 28_231, usable: 28_232 });
    let (first_ns, last_ns) = (START_NS + 5_000_000_000, START_NS + 14_000_000_000);
    let pids = (812..818).collect();
    (key, FailureRow { count: total(why), pids, first_ns, last_ns, ports })
}

fn ceiling(subject: Subject, used: u64, limit: u64, from: f32, to: f32) -> report::Ceiling {
    let mut worst = Ceiling::new(subject, used, limit);
    worst.evidence = "sock_diag; net.ipv4.ip_local_port_range = 32768 60999".into();
    worst.who = vec![User::Process(812, comm(b"nginx"), used / 2)];
    worst.remedy = vec![
        "keep connections to the upstream open (keepalive)".to_owned(),
        "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"".to_owned(),
    ];
    let last = Judged { ceiling: Ceiling { used: used / 3, ..worst.clone() }, status: Status::Ok };
    let status = if used >= limit { Status::Critical } else { Status::Warning };
    let ratio = |step: u64| {
        let share = f32::from(u8::try_from(step).unwrap()) / 59.0;
        step.is_multiple_of(4).then_some(from + (to - from) * share)
    };
    let worst_ns = START_NS + 12_000_000_000;
    let ratios = (0..STEPS).map(ratio).collect();
    report::Ceiling { worst: Judged { ceiling: worst, status }, worst_ns, last, ratios }
}

fn ceilings() -> Vec<report::Ceiling> {
    let ports = Subject::Upstream {
        netns: OWN,
        src: ip("10.0.0.5"),
        dst: ip("10.0.0.9"),
        dport: 9001,
        interface: 0,
        range: None,
    };
    let mut ports = ceiling(ports, 28_232, 28_232, 0.4, 1.0);
    ports.worst.ceiling.failures.push(Failed {
        error: "EADDRNOTAVAIL",
        count: 3_412,
        per_s: Some(412.3),
        since: Since::Interval,
        who: vec![(812, comm(b"nginx"), 3_412)],
    });
    let files = Subject::Process { pid: 812, comm: comm(b"nginx") };
    let listener = Subject::Listener { netns: OWN, src: ip("0.0.0.0"), sport: 80, cookie: 1 };
    let mut conntrack = ceiling(Subject::Conntrack { netns: OWN }, 214_000, 262_144, 0.5, 0.82);
    conntrack.worst.ceiling.inferred = true;
    vec![
        ports,
        ceiling(files, 1_024, 1_024, 1.0, 0.3),
        conntrack,
        ceiling(listener, 3, 511, 0.0, 0.01),
    ]
}

fn upstream(dst: &str, dport: u16, why: Reason, drawn: bool) -> Upstream {
    let by_step = |steps: &dyn Fn(u64) -> u64| (0..STEPS).map(steps).collect::<Vec<_>>();
    let of = |step| failures(step).iter().filter(|it| it.0 == Some(why)).map(|it| it.1).sum();
    Upstream {
        key: UpstreamKey { netns: Some(OWN), dst: ip(dst), dport },
        opened: 12_400,
        closed: 12_310,
        time_waits: 12_000,
        inferred: dport == 5432,
        closed_here: 12_011,
        closed_by_peer: 299,
        failures: vec![(Some(why), total(why))],
        latency: Some(Latency { p50_us: 340, p99_us: 2_100 }),
        most: Some(Sockets { established: 212, connecting: 3, time_wait: 28_017, other: 4 }),
        ports: Some((28_231, 28_232)),
        opened_by_step: if drawn { by_step(&|step| 100 + step * 13 % 40) } else { Vec::new() },
        failed_by_step: if drawn { by_step(&of) } else { Vec::new() },
    }
}

fn process(pid: u32, name: &[u8]) -> Process {
    let failures = vec![(Some(Reason::PortRangeExhausted), 1_712), (Some(Reason::Refused), 12)];
    Process {
        pid,
        comm: comm(name),
        opened: 6_200,
        served: 6_180,
        failures,
        files: Some((1_024, 1_024)),
    }
}

fn header() -> Header {
    let hook = |event: &'static str, rung: &'static str, inferred: bool| Hook {
        event: event.into(),
        rung: rung.into(),
        cost: "low: runs on TCP state changes only, typed reads".into(),
        inferred,
        notes: if inferred { vec!["sees no entry whose table is full".to_owned()] } else { vec![] },
    };
    Header {
        format: 1,
        abi: 6,
        record_size: 96,
        socklife: "0.1.0".to_owned(),
        host: "proxy-3".to_owned(),
        boot_id: "5d2c6c0e-6a0b-4d8e-9d5f-0c5a6f5f2f11".to_owned(),
        kernel: "6.12.9-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        cpus: 8,
        started: "2026-03-01T14:05:09Z".to_owned(),
        started_ns: START_NS,
        epoch_ns: 1_772_373_148_000_000_000,
        arguments: ["record", "-o", "incident.socklife", "--ring-size", "16M"]
            .map(str::to_owned)
            .to_vec(),
        own_netns: Some(OWN),
        hooks: vec![
            hook("state", "tp_btf/inet_sock_set_state", false),
            hook("timewait", "inferred from state changes", true),
        ],
        unseen: Vec::new(),
        part: 1,
        trigger: None,
        zone: "Europe/Berlin".to_owned(),
    }
}

fn settings() -> Sysctls {
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    Sysctls {
        at_ns: START_NS,
        host: map(&[("fs.file-max", "9223372036854775807"), ("fs.nr_open", "1048576")]),
        namespaces: vec![NamespaceSysctls {
            netns: OWN,
            path: None,
            sysctls: map(&[
                ("net.ipv4.ip_local_port_range", "32768\t60999"),
                ("net.ipv4.tcp_max_tw_buckets", "262144"),
                ("net.ipv4.tcp_tw_reuse", "2"),
            ]),
        }],
    }
}

fn incident(status: Status, from_s: u64, to_s: u64, peak_per_s: f64, sentence: &str) -> Incident {
    Incident {
        status,
        first_ns: START_NS + from_s * 1_000_000_000,
        last_ns: START_NS + to_s * 1_000_000_000,
        peak_per_s,
        sentence: sentence.to_owned(),
        remedy: vec![
            "keep connections to the upstream open (keepalive)".to_owned(),
            "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" (64,511 usable ports instead of 28,232; \
             look for UDP services in there first)"
                .to_owned(),
        ],
        doubt: None,
    }
}

/// Two incidents, nothing missing.
pub(super) fn full() -> Report {
    let end = End {
        at_ns: START_NS + 30_000_000_000,
        why: "Ctrl-C".to_owned(),
        events: 32_534,
        produced: Some(32_534),
        index: None,
    };
    Report {
        file: "incident.socklife".to_owned(),
        header: header(),
        end: Some(end),
        first_ns: START_NS,
        last_ns: START_NS + 30_000_000_000,
        events: 32_534,
        failed: reasons().iter().map(|it| it.1).sum(),
        reasons: reasons(),
        failures: vec![
            failed(99, Reason::PortRangeExhausted, Some(("10.0.0.9", 9001))),
            failed(24, Reason::ProcessFileLimit, None),
            failed(110, Reason::TimedOut, Some(("2001:db8:85a3::8a2e:370:7334", 8443))),
            failed(111, Reason::Refused, Some(("10.0.0.12", 8080))),
        ],
        incidents: vec![
            incident(
                Status::Critical,
                5,
                14,
                458.0,
                "nginx[812] and 3 more can't connect to 10.0.0.9:9001: no free local port (28,231 of 28,232 \
                 used; 28,017 TIME-WAIT)",
            ),
            incident(
                Status::Warning,
                16,
                25,
                196.0,
                "nginx[812] can't open more files: EMFILE (1,024 of 1,024 open)",
            ),
        ],
        ceilings: ceilings(),
        upstreams: vec![
            upstream("10.0.0.9", 9001, Reason::PortRangeExhausted, true),
            upstream("10.0.0.12", 8080, Reason::Refused, true),
            upstream("10.0.1.20", 5432, Reason::TimedOut, false),
        ],
        more_upstreams: 12,
        processes: vec![process(812, b"nginx"), process(2_210, b"php-fpm8.2")],
        timeline: timeline(),
        settings: Some(settings()),
        changes: vec![SettingChange {
            at_ns: START_NS + 15_000_000_000,
            netns: Some(OWN),
            name: "net.ipv4.ip_local_port_range".to_owned(),
            from: Some("32768\t60999".to_owned()),
            to: Some("1024\t65535".to_owned()),
        }],
        answers: Some(answers::answers()),
        ..Report::default()
    }
}

/// Cut off, damaged, and with lost events.
pub(super) fn lossy() -> Report {
    let mut report = full();
    report.end = None;
    report.lost =
        Loss { ts_ns: START_NS, states: 1_200, failures: 34, missed: 5, owners: 2, calls: 1 };
    let why = "a frame's checksum is wrong";
    report.damage = vec![Damage { bytes: 4_096, events: Some(500), frames: Some(1), why }];
    (report.damaged, report.missing) = (3, 740);
    report.timeline.steps[20].lost = 1_000;
    report.timeline.steps[21].lost = 234;
    report.incidents[0].doubt = Some("events were lost: there may be more failures");
    report
}

/// Every text that may come from somebody else is hostile.
pub(super) fn hostile() -> Report {
    let text = || HOSTILE.to_owned();
    let mut report = lossy();
    report.file = text();
    let header = &mut report.header;
    for field in [
        &mut header.socklife,
        &mut header.host,
        &mut header.boot_id,
        &mut header.kernel,
        &mut header.machine,
        &mut header.started,
    ] {
        *field = text();
    }
    header.arguments = vec![text(); 3];
    header.unseen = vec![text()];
    header.trigger = Some(text());
    for hook in &mut header.hooks {
        (hook.event, hook.rung, hook.cost) = (text().into(), text().into(), text().into());
        hook.notes = vec![text()];
    }
    report.end = Some(End { why: text(), ..End::default() });
    let hostile = comm(b"<b onclick=a>\x1b");
    report.failures[0].0.comm = Some(hostile);
    report.processes[0].comm = hostile;
    report.incidents[0].sentence = text();
    report.incidents[0].remedy = vec![text()];
    for it in &mut report.ceilings {
        let worst = &mut it.worst.ceiling;
        (worst.evidence, worst.remedy, worst.notes) = (text().into(), vec![text()], vec![text()]);
        worst.who = vec![User::Process(1, hostile, 1)];
    }
    report.ceilings[1].worst.ceiling.subject = Subject::Process { pid: 1, comm: hostile };
    let settings = report.settings.as_mut().unwrap();
    settings.host.insert(text(), text());
    settings.namespaces[0].path = Some(text());
    settings.namespaces[0].sysctls.insert(text(), text());
    report.changes[0] = SettingChange {
        name: text(),
        from: Some(text()),
        to: Some(text()),
        ..report.changes[0].clone()
    };
    report.unseen = vec![text()];
    report.answers = Some(answers::hostile(HOSTILE));
    report
}

/// Figures that no host has.
pub(super) fn absurd() -> Report {
    let mut report = full();
    let most = u64::MAX;
    (report.events, report.failed, report.unlisted) = (most, most, most);
    (report.first_ns, report.last_ns) = (most, 0);
    (report.more_upstreams, report.more_processes, report.damaged) = (most, most, most);
    report.lost =
        Loss { ts_ns: most, states: most, failures: most, missed: most, owners: most, calls: most };
    report.header.epoch_ns = most;
    report.timeline.start_ns = most;
    report.timeline.step_ns = most;
    for step in &mut report.timeline.steps {
        (step.opened, step.closed, step.time_waits, step.lost) = (most, most, most, most);
        step.failures = Reason::ALL.map(|why| (Some(why), most)).to_vec();
    }
    for incident in &mut report.incidents {
        incident.peak_per_s = f64::INFINITY;
        (incident.first_ns, incident.last_ns) = (most, 0);
    }
    report.incidents[1].peak_per_s = f64::NAN;
    let ratios = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1.0, 1e-40];
    for it in &mut report.ceilings {
        it.ratios = ratios.map(Some).to_vec();
        (it.worst.ceiling.used, it.worst.ceiling.limit) = (most, 0);
        it.worst.ceiling.entered_per_s = Some(f64::NAN);
    }
    for it in &mut report.upstreams {
        it.opened_by_step = vec![most; 5000];
        it.failed_by_step = vec![most];
        it.latency = Some(Latency { p50_us: most, p99_us: most });
        it.failures = vec![(None, most), (Some(Reason::Reset), most)];
    }
    report.answers = Some(answers::absurd());
    report
}

/// As busy as a report may be.
pub(super) fn busy() -> Report {
    let mut report = full();
    let step = |step: u64| Step {
        opened: step * 7919 % 5000,
        closed: step * 6101 % 5000,
        time_waits: step * 4507 % 5000,
        failures: Reason::ALL.map(|why| (Some(why), (step + why as u64) * 3571 % 400)).to_vec(),
        lost: step % 3,
    };
    report.timeline.steps = (0..600).map(step).collect();
    report.ceilings = (0..100)
        .map(|_| {
            let mut it = report.ceilings[0].clone();
            it.ratios = (0..600_u16).map(|step| Some(f32::from(step * 37 % 100) / 100.0)).collect();
            it
        })
        .collect();
    report.upstreams = (0..200)
        .map(|_| {
            let mut it = report.upstreams[0].clone();
            it.opened_by_step = (0..600).map(|step| step * 7919 % 900).collect();
            it.failed_by_step = (0..600).map(|step| step * 31 % 70).collect();
            it
        })
        .collect();
    report.failures = vec![report.failures[0].clone(); 1000];
    report
}
