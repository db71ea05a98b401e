//! The findings of surveys that are made up.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{tally::Tally, what_if::WhatIf, *};
use crate::{
    event::{Call, CallFailed, Errno, Event, Known, Owner, Subject as Ends},
    kernel::{
        conntrack::{Conntrack, Refused},
        counters::Counters,
        owners::{OpenFiles, Process},
        settings::Settings,
        sock_diag::Socket,
        survey::{BoundPorts, Namespace},
        tables::Tuple,
    },
    ports::PortSet,
    reason::{Failure, Reason},
};

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn socket(state: State, src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> Socket {
    Socket {
        cookie: Some(u64::from(sport)),
        state,
        src,
        sport,
        dst,
        dport,
        inode: 0,
        uid: 0,
        recv_queue: 0,
        send_queue: Some(0),
        time_left: None,
        interface: 0,
        cgroup: None,
    }
}

fn open(sport: u16) -> Socket {
    socket(State::ESTABLISHED, NEAR, sport, FAR, 80)
}

fn time_wait(sport: u16, age_s: u64) -> Socket {
    let time_left = Some(Duration::from_secs(60 - age_s));
    Socket { time_left, ..socket(State::TIME_WAIT, NEAR, sport, FAR, 80) }
}

fn listener(sport: u16, queue: u32, backlog: u32) -> Socket {
    let send_queue = Some(backlog);
    let free = socket(State::LISTEN, NEAR, sport, Ipv4Addr::UNSPECIFIED.into(), 0);
    Socket { recv_queue: queue, send_queue, ..free }
}

/// Ten ports, 40000 to 40009.
fn namespace(sockets: Vec<Socket>) -> Namespace {
    Namespace {
        netns: 7,
        path: None,
        settings: Settings {
            port_range: 40_000..=40_009,
            reserved: PortSet::default(),
            unprivileged_start: 1024,
            tw_reuse: 0,
            tw_reuse_delay_ms: 1000,
            timestamps: true,
            max_tw_buckets: 100,
            somaxconn: 4096,
        },
        counters: Counters::default(),
        conntrack: None,
        fillers: Vec::new(),
        sockets,
        drops: HashMap::new(),
        ports: BoundPorts { unstamped: Some([].into()), ..BoundPorts::default() },
    }
}

fn survey(namespace: Namespace, at_s: u64) -> Survey {
    let at_ns = at_s * 1_000_000_000;
    Survey { at_ns, namespaces: vec![namespace], ..Survey::default() }
}

fn once(namespace: Namespace) -> Vec<Ceiling> {
    assess(&survey(namespace, 1), &mut History::default())
}

fn upstreams(found: &[Ceiling]) -> Vec<(u64, u64)> {
    let upstreams = found.iter().filter(|c| c.subject.scope() == "upstream");
    upstreams.map(|ceiling| (ceiling.used, ceiling.limit)).collect()
}

fn of_kind(found: &[Ceiling], kind: Kind) -> &Ceiling {
    found.iter().find(|ceiling| ceiling.subject.kind() == kind).unwrap()
}

#[test]
fn ports_in_use_toward_one_upstream() {
    let mut there = namespace(vec![open(40_000), open(40_001), time_wait(40_002, 30)]);
    there.sockets.push(Socket { dport: 81, ..open(40_000) });
    there.sockets.push(open(50_000));
    let found = once(there.clone());
    assert_eq!(upstreams(&found), [(3, 10), (1, 10)]);

    there.settings.reserved = [40_001, 40_009].into_iter().collect();
    there.ports.bound = [40_003, 39_999].into_iter().collect();
    assert_eq!(upstreams(&once(there)), [(2, 7), (1, 7)]);
}

#[test]
fn entries_that_may_be_taken_over_are_not_in_use() {
    let mut there =
        namespace(vec![time_wait(40_000, 0), time_wait(40_001, 1), time_wait(40_002, 5)]);
    let used = |namespace: &Namespace| upstreams(&once(namespace.clone()))[0].0;
    assert_eq!(used(&there), 3);
    there.settings.tw_reuse = 2;
    assert_eq!(used(&there), 3, "not a loopback address");
    there.settings.tw_reuse = 1;
    assert_eq!(used(&there), 1);
    there.settings.tw_reuse_delay_ms = 3000;
    assert_eq!(used(&there), 2);
    let unstamped = Tuple { netns: 7, src: NEAR, sport: 40_002, dst: FAR, dport: 80 };
    there.ports.unstamped = Some([unstamped].into());
    assert_eq!(used(&there), 3);
    // Without the kernel's tables it goes by the setting.
    there.ports.unstamped = None;
    assert_eq!(used(&there), 2);
    there.settings.timestamps = false;
    assert_eq!(used(&there), 3);

    let mut there = namespace(vec![Socket { dst: LOOPBACK, ..time_wait(40_000, 5) }]);
    there.settings.tw_reuse = 2;
    let found = once(there);
    assert_eq!(upstreams(&found), [(0, 10)]);
    let traffic = found.iter().find_map(|ceiling| ceiling.traffic.as_ref()).unwrap();
    assert_eq!((traffic.reusable, traffic.sustainable_per_s), (1, Some(10.0)));
}

#[test]
fn sockets_on_an_interface_find_the_others_ports_taken() {
    let bound = Socket { interface: 3, ..open(40_005) };
    let found = once(namespace(vec![open(40_000), open(40_001), bound]));
    assert_eq!(upstreams(&found), [(3, 10), (2, 10)]);
}

#[test]
fn a_range_of_their_own() {
    let mut there = namespace(vec![open(40_000), open(40_004)]);
    let own = Tuple { netns: 7, src: NEAR, sport: 40_004, dst: FAR, dport: 80 };
    there.ports.ranged = [(own, 40_004..=50_000)].into();
    there.ports.bound.insert(40_005);
    let found = once(there);
    assert_eq!(upstreams(&found), [(2, 9), (1, 5)]);
    let ranges = found.iter().filter_map(|ceiling| match ceiling.subject {
        Subject::Upstream { range, .. } => range,
        _ => None,
    });
    assert_eq!(ranges.collect::<Vec<_>>(), [(40_004, 40_009)]);
}

#[test]
fn odd_ranges() {
    let mut there = namespace(vec![open(40_000)]);
    there.settings.port_range = 40_000..=40_002;
    assert_eq!(upstreams(&once(there.clone())), [(1, 2)]);
    there.settings.port_range = 40_000..=40_004;
    let found = once(there);
    assert_eq!(upstreams(&found), [(1, 5)]);
    assert!(found[0].notes[0].contains("one less"), "{:?}", found[0].notes);
}

#[test]
fn a_queue_holds_one_more_than_its_backlog() {
    let queue = |queue, backlog| {
        let found = once(namespace(vec![listener(80, queue, backlog)]));
        let ceiling = of_kind(&found, Kind::AcceptQueue);
        (ceiling.headroom(), ceiling.ratio())
    };
    assert_eq!(queue(0, 0), (1, 0.0));
    assert_eq!(queue(1, 0), (0, 1.0));
    assert_eq!(queue(4, 4), (1, 1.0));
    assert_eq!(queue(5, 4), (0, 1.25));
}

#[test]
fn counters_are_told_as_they_were_and_as_they_moved() {
    let mut there = namespace(vec![listener(80, 0, 4), listener(81, 0, 4)]);
    there.conntrack = Some(Conntrack {
        count: 5,
        max: 10,
        buckets: 10,
        refused: Some(Refused { drop: 3, early_drop: 0, insert_failed: 0 }),
    });
    there.drops = [(80, 2)].into();
    there.counters.listen_overflows = 2;
    let mut history = History::default();
    let first = assess(&survey(there.clone(), 1), &mut history);
    let told = |found: &[Ceiling]| -> Vec<(&str, u64, Since)> {
        let failures = found.iter().flat_map(|ceiling| &ceiling.failures);
        failures.map(|failed| (failed.error, failed.count, failed.since)).collect()
    };
    let before = [
        ("drop", 3, Since::Boot),
        ("sk_drops", 2, Since::Boot),
        ("ListenOverflows", 2, Since::Boot),
    ];
    assert_eq!(told(&first), before);
    assert!(!first.iter().any(Ceiling::fails_now));

    there.drops.insert(81, 6);
    there.counters.listen_overflows = 8;
    let second = assess(&survey(there, 3), &mut history);
    let moved: Vec<_> =
        told(&second).into_iter().filter(|(.., since)| *since == Since::Interval).collect();
    let interval = Since::Interval;
    assert_eq!(moved, [("sk_drops", 6, interval), ("ListenOverflows", 6, interval)]);
    let failing: Vec<_> = second.iter().filter(|ceiling| ceiling.fails_now()).collect();
    assert_eq!(failing.len(), 1);
    assert!(matches!(failing[0].subject, Subject::Listener { sport: 81, .. }));
    assert_eq!(failing[0].failures[0].per_s, Some(3.0));
}

fn no_descriptor(pid: u32) -> Event {
    let comm = Comm::new([b'a'; 16]);
    let owner = Some(Owner { pid, tid: pid, comm, known: Known::Current });
    let subject = Ends {
        ts_ns: 1,
        cookie: None,
        src: None,
        sport: None,
        dst: None,
        dport: None,
        netns: Some(7),
        cgroup: None,
        owner,
    };
    Event::CallFailed(CallFailed { subject, call: Call::Descriptor, errno: Errno(24) })
}

#[test]
fn failures_go_to_the_process_that_had_them() {
    let comm = Comm::new([b'm'; 16]);
    let process = |pid| Process { pid, comm, cgroup: None, started_ns: 0 };
    let files = |pid| OpenFiles {
        process: process(pid),
        open: 9,
        below_limit: 8,
        sockets: 1,
        alone: 1,
        alone_inferred: false,
        soft: 10,
        hard: 20,
    };
    let mut host = survey(namespace(Vec::new()), 1);
    host.owners.files = vec![files(1_000_001), files(1_000_002)];
    let mut tally = Tally::default();
    let failure = Failure { error: Some(Errno(24)), reason: Some(Reason::ProcessFileLimit) };
    for pid in [1_000_002, 1_000_002, 1_000_003] {
        tally.note(&no_descriptor(pid), failure);
    }
    let mut history = History::default();
    history.counted(tally, &crate::ends::Ends::default());
    let found = assess(&host, &mut history);
    let failing: Vec<_> = found
        .iter()
        .filter(|ceiling| ceiling.fails_now())
        .map(|ceiling| match ceiling.subject {
            Subject::Process { pid, .. } => (pid, ceiling.failures[0].count, ceiling.limit),
            _ => panic!("{ceiling:?}"),
        })
        .collect();
    // The second one has ended.
    assert_eq!(failing, [(1_000_003, 1, 0), (1_000_002, 2, 10)]);
    let whole = found.iter().find(|c| matches!(c.subject, Subject::Process { .. }) && c.used == 8);
    assert_eq!(whole.unwrap().headroom(), 2);
}

#[test]
fn other_settings() {
    let under = |what_if: &str| {
        let what_if: WhatIf = what_if.parse().unwrap();
        let there = namespace(vec![open(40_000), time_wait(40_001, 1), listener(80, 0, 4)]);
        let mut survey = survey(there, 1);
        what_if.apply(&mut survey);
        let mut found = assess(&survey, &mut History::default());
        for ceiling in &mut found {
            what_if.adjust(ceiling);
        }
        found
    };
    assert_eq!(upstreams(&under("range=40000-40019,reserved=40002;40005-40006")), [(2, 17)]);
    assert_eq!(upstreams(&under("sources=2,upstreams=3")), [(2, 60)]);
    assert_eq!(upstreams(&under("keepalive")), [(1, 10)]);
    assert_eq!(upstreams(&under("tw_reuse=1")), [(1, 10)]);
    assert_eq!(of_kind(&under("tw_buckets=50"), Kind::TimeWait).limit, 50);
    assert_eq!(of_kind(&under("backlog=9"), Kind::AcceptQueue).limit, 9);
}

#[test]
fn a_bind_pool_knows_which_addresses_block_each_other() {
    let (any4, any6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    let sockets = vec![
        socket(State::LISTEN, any4, 40_000, any4, 0),
        socket(State::LISTEN, any6, 40_001, any6, 0),
        socket(State::LISTEN, six, 40_002, any6, 0),
        socket(State::ESTABLISHED, six, 40_003, six, 80),
        socket(State::ESTABLISHED, NEAR, 40_004, FAR, 80),
        socket(State::ESTABLISHED, LOOPBACK, 40_005, FAR, 80),
    ];
    let pools = super::bind_pool::assess(&namespace(sockets), &[], None);
    let used = |src: IpAddr| {
        let of_it = |ceiling: &&Ceiling| ceiling.subject == Subject::BindPool { netns: 7, src };
        pools.iter().find(of_it).map(|ceiling| (ceiling.used, ceiling.notes.len()))
    };
    let certain = usize::from(pools.iter().any(|ceiling| ceiling.idle));
    assert_eq!(used(NEAR), Some((3, certain)), "0.0.0.0, :: and itself");
    assert_eq!(used(LOOPBACK), Some((3, certain)));
    assert_eq!(used(six), Some((3, certain)), "0.0.0.0 leaves it alone");
    assert_eq!(used(any4), Some((5, certain + 1)), "whether 40003 blocks it is told by nobody");
}

#[test]
fn a_namespaces_hostile_name_gets_into_no_command() {
    let mut there = namespace(vec![open(40_000)]);
    let remedy = |namespace: &Namespace| once(namespace.clone())[0].remedy.join("; or ");
    assert!(remedy(&there).contains("sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""));
    there.path = Some("/run/netns/web-1".into());
    assert!(remedy(&there).contains("nsenter --net=/run/netns/web-1 sysctl -w"));
    there.path = Some("/run/netns/$(reboot)\x1b[2J".into());
    let text = remedy(&there);
    assert!(text.contains("inside network namespace 7: sysctl -w"), "{text}");
    assert!(!text.contains("reboot") && !text.contains('\x1b'), "{text}");
}
