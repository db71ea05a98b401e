//! Events for tests.

use std::net::Ipv4Addr;

use tracer_ebpf::{COMM_LEN, state};

use crate::{
    event::{Comm, Errno, Event, Known, Owner, State, StateChange, Subject, TimeWait},
    reason::{Failure, Reason},
};

pub(crate) fn comm(name: &str) -> Comm {
    let mut bytes = [0; COMM_LEN];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Comm::new(bytes)
}

fn subject(pid: u32, dport: u16) -> Subject {
    let owner = Owner { pid, tid: pid, comm: comm("nginx"), known: Known::Stored };
    Subject {
        ts_ns: 1,
        cookie: Some(1),
        src: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
        sport: None,
        dst: Some(Ipv4Addr::new(10, 0, 0, 9).into()),
        dport: Some(dport),
        netns: Some(7),
        cgroup: None,
        owner: Some(owner),
    }
}

/// A change of state that is no failure.
pub(crate) fn change(subject: Subject, old: State, new: State, age_us: u64) -> StateChange {
    StateChange {
        subject,
        old,
        new,
        age_ns: Some(age_us * 1000),
        sk_err: Some(0),
        returned: None,
        error_taken: false,
        shut_down: false,
        port_held: false,
        sent: false,
        passive: false,
    }
}

/// A connect that found no port.
pub(crate) fn exhausted(pid: u32, dport: u16) -> (Event, Failure) {
    let change = change(subject(pid, dport), State::SYN_SENT, State::CLOSE, 10);
    let reason = Some(Reason::PortRangeExhausted);
    (Event::State(change), Failure { reason, error: Some(Errno::EADDRNOTAVAIL) })
}

/// The same toward one of many upstreams.
pub(crate) fn exhausted_to(address: u32) -> (Event, Failure) {
    let (event, failure) = exhausted(812, 9001);
    let Event::State(mut change) = event else { unreachable!() };
    change.subject.dst = Some(Ipv4Addr::from(address).into());
    (Event::State(change), failure)
}

/// A connection that this side closes first.
pub(crate) fn connection(pid: u32, dport: u16, connect_us: u64) -> Vec<Event> {
    let subject = Subject { sport: Some(40_000), ..subject(pid, dport) };
    let closing = State::from_number(state::FIN_WAIT1).unwrap();
    let entered = TimeWait {
        subject,
        old: State::FIN_WAIT2,
        substate: State::TIME_WAIT,
        inferred: false,
        passive: false,
    };
    vec![
        Event::State(change(subject, State::CLOSE, State::SYN_SENT, 0)),
        Event::State(change(subject, State::SYN_SENT, State::ESTABLISHED, connect_us)),
        Event::State(change(subject, State::ESTABLISHED, closing, 10)),
        Event::State(change(subject, closing, State::FIN_WAIT2, 10)),
        Event::TimeWait(entered),
        Event::State(change(subject, State::FIN_WAIT2, State::CLOSE, 10)),
    ]
}
