//! Events of connections of a proxy: one that goes well, one that finds no port.

use super::build::{AT_NS, OWN, comm, ip};
use crate::{
    event::{
        Call, CallFailed, Errno, Event, Known, Loss, Owner, State, StateChange, Subject as Socket,
        TimeWait,
    },
    live::{tail::Tail, testing},
    reason::{Failure, Reason},
};

fn socket(ts_ns: u64, dst: &str, dport: u16, owner: Owner) -> Socket {
    Socket {
        ts_ns,
        cookie: Some(ts_ns),
        src: Some(ip("10.0.0.5")),
        sport: Some(41_234),
        dst: Some(ip(dst)),
        dport: Some(dport),
        netns: Some(OWN),
        cgroup: None,
        owner: Some(owner),
    }
}

fn owner(name: &[u8]) -> Owner {
    Owner { pid: 1234, tid: 1234, comm: comm(name), known: Known::Current }
}

fn change(subject: Socket, old: State, new: State) -> Event {
    Event::State(StateChange { sent: true, ..testing::change(subject, old, new, 340) })
}

/// Events of `count` rounds of connections by a process of that name, until [`AT_NS`].
pub(crate) fn tail(count: u64, name: &[u8]) -> Tail {
    let mut tail = Tail::default();
    for round in 0..count {
        let at = |micros: u64| AT_NS - (count - round) * 10_000_000 + micros * 1_000;
        let worker = owner(name);
        let good = socket(at(10), "10.0.0.10", 9001, worker);
        let opened = change(good, State::SYN_SENT, State::ESTABLISHED);
        tail.push(&opened, None);
        let closing = Socket { ts_ns: at(2_400), ..good };
        let (old, substate) = (State::FIN_WAIT2, State::TIME_WAIT);
        let entered = TimeWait { subject: closing, old, substate, inferred: true, passive: false };
        tail.push(&Event::TimeWait(entered), None);
        let bad = Socket { sport: None, ..socket(at(3_000), "10.0.0.9", 9001, worker) };
        let failure =
            Failure { reason: Some(Reason::PortRangeExhausted), error: Some(Errno::EADDRNOTAVAIL) };
        tail.push(&change(bad, State::SYN_SENT, State::CLOSE), Some(failure));
        if round % 4 == 2 {
            let stored = Owner { known: Known::Inferred, ..worker };
            let subject = socket(at(4_000), "2001:db8:85a3::8a2e:370:7334", 8443, stored);
            let errno = Errno::ECONNREFUSED;
            let failure = Failure { reason: Some(Reason::Refused), error: Some(errno) };
            let failed = CallFailed { subject, call: Call::Connect, errno };
            tail.push(&Event::CallFailed(failed), Some(failure));
        }
        if round % 8 == 5 {
            let lost = Loss { ts_ns: at(5_000), states: 3_000, failures: 204, ..Loss::default() };
            tail.push(&Event::Lost(lost), None);
        }
    }
    tail
}
