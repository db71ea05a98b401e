//! Bytes → [`Event`]: the one decoder, for what a ring delivers and what a capture holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use tracer_ebpf::{
    KIND_BIND, KIND_CONNECT, KIND_FD, KIND_STATE, KIND_TIMEWAIT, RAW_EVENT_SIZE, RawEvent, flag,
    owner,
};
use zerocopy::FromBytes;

use crate::event::{
    Call, CallFailed, Comm, Errno, Event, Known, Owner, State, StateChange, Subject, TimeWait,
};

/// Why a record was not understood. Counted, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The last record is torn.
    #[error("{0} bytes are not a whole record")]
    Torn(usize),
    /// The size in the record is not the size of its kind.
    #[error("a record says that it has {0} bytes")]
    Size(u16),
    /// A kind that this version does not know.
    #[error("a record of unknown kind {0}")]
    Kind(u16),
    /// A field holds a value that it can't have.
    #[error("a record with {0} {1}")]
    Value(&'static str, u8),
}

/// The events of a batch, in its order.
pub fn decode(batch: &Bytes) -> impl Iterator<Item = Result<Event, DecodeError>> + '_ {
    batch.chunks(RAW_EVENT_SIZE).map(|record| {
        let raw = RawEvent::read_from_bytes(record).map_err(|_| DecodeError::Torn(record.len()))?;
        if usize::from(raw.size) != RAW_EVENT_SIZE {
            return Err(DecodeError::Size(raw.size));
        }
        match raw.kind {
            KIND_STATE => state_change(&raw).map(Event::State),
            KIND_TIMEWAIT => time_wait(&raw).map(Event::TimeWait),
            KIND_CONNECT => call_failed(&raw, Call::Connect).map(Event::CallFailed),
            KIND_BIND => call_failed(&raw, Call::Bind).map(Event::CallFailed),
            KIND_FD => call_failed(&raw, Call::Descriptor).map(Event::CallFailed),
            kind => Err(DecodeError::Kind(kind)),
        }
    })
}

fn state(name: &'static str, value: u8) -> Result<State, DecodeError> {
    State::from_number(value).ok_or(DecodeError::Value(name, value))
}

fn subject(raw: &RawEvent) -> Result<Subject, DecodeError> {
    let address = |bytes: [u8; 16]| match raw.family {
        0 if raw.kind == KIND_FD => Ok(None),
        4 => Ok(Some(IpAddr::V4(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15])))),
        6 => Ok(Some(IpAddr::V6(Ipv6Addr::from(bytes)))),
        other => Err(DecodeError::Value("family", other)),
    };
    let made = raw.flags & flag::COOKIE_MADE != 0;
    let remote = !matches!(raw.kind, KIND_BIND | KIND_FD);
    Ok(Subject {
        ts_ns: raw.ts_ns,
        cookie: (raw.cookie != 0 && !made).then_some(raw.cookie),
        src: address(raw.saddr)?.filter(|src| raw.kind != KIND_CONNECT || !src.is_unspecified()),
        sport: (raw.sport != 0).then_some(raw.sport),
        dst: address(raw.daddr)?.filter(|_| remote),
        dport: remote.then_some(raw.dport),
        netns: (raw.netns != 0).then_some(raw.netns),
        cgroup: (raw.cgroup != 0).then_some(raw.cgroup),
        owner: owned(raw)?,
    })
}

fn state_change(raw: &RawEvent) -> Result<StateChange, DecodeError> {
    let has = |bit| raw.flags & bit != 0;
    let returned = has(flag::RETURNED);
    let sk_err = if returned { 0 } else { raw.error };
    Ok(StateChange {
        subject: subject(raw)?,
        old: state("old state", raw.old)?,
        new: state("new state", raw.new)?,
        age_ns: (raw.age_ns != 0).then_some(raw.age_ns),
        sk_err: (!has(flag::STABLE_FIELDS_ONLY)).then_some(sk_err),
        error_taken: has(flag::ERROR_TAKEN),
        returned: (returned && raw.error != 0).then_some(Errno(raw.error)),
        shut_down: raw.shutdown & 3 == 3,
        port_held: has(flag::PORT_HELD),
        sent: has(flag::SENT),
        passive: has(flag::PASSIVE),
    })
}

fn call_failed(raw: &RawEvent, call: Call) -> Result<CallFailed, DecodeError> {
    Ok(CallFailed { subject: subject(raw)?, call, errno: Errno(raw.error) })
}

fn time_wait(raw: &RawEvent) -> Result<TimeWait, DecodeError> {
    Ok(TimeWait {
        subject: subject(raw)?,
        old: state("old state", raw.old)?,
        substate: state("substate", raw.new)?,
        inferred: raw.flags & flag::INFERRED != 0,
        passive: raw.flags & flag::PASSIVE != 0,
    })
}

fn owned(raw: &RawEvent) -> Result<Option<Owner>, DecodeError> {
    let known = match raw.owner {
        owner::UNKNOWN => return Ok(None),
        owner::CURRENT => Known::Current,
        owner::STORED => Known::Stored,
        other => return Err(DecodeError::Value("owner", other)),
    };
    Ok(Some(Owner { pid: raw.tgid, tid: raw.pid, comm: Comm::new(raw.comm), known }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_ebpf::state;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;
    use crate::{
        event::Errno,
        reason::{Failure, Reason, classify},
    };

    /// A `SYN_SENT → CLOSE` of 10.0.0.1:40000 → 10.0.0.9:9001, and what a test changes in it.
    fn closed_while_connecting(change: impl FnOnce(&mut RawEvent)) -> RawEvent {
        let mut raw = RawEvent::new_zeroed();
        raw.kind = KIND_STATE;
        raw.size = 112;
        raw.family = 4;
        raw.saddr = *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01";
        raw.daddr = *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x09";
        (raw.sport, raw.dport) = (40000, 9001);
        (raw.old, raw.new) = (state::SYN_SENT, state::CLOSE);
        change(&mut raw);
        raw
    }

    fn decode_one(raw: &RawEvent) -> Result<Event, DecodeError> {
        decode(&Bytes::copy_from_slice(raw.as_bytes())).next().unwrap()
    }

    fn failure(change: impl FnOnce(&mut RawEvent)) -> Option<Failure> {
        match decode_one(&closed_while_connecting(change)).unwrap() {
            Event::State(change) => classify(&change),
            _ => unreachable!("a state record"),
        }
    }

    #[test]
    #[expect(clippy::type_complexity, reason = "a table of cases")]
    fn each_way_to_fail_has_its_reason() {
        let cases: [(fn(&mut RawEvent), Reason, Option<u16>); 14] = [
            (|r| r.sport = 0, Reason::PortRangeExhausted, Some(99)),
            (|r| r.flags = flag::PORT_HELD, Reason::TupleCollision, Some(99)),
            (|r| (r.error, r.flags) = (111, flag::SENT), Reason::Refused, Some(111)),
            (|r| (r.error, r.flags) = (110, flag::SENT), Reason::TimedOut, Some(110)),
            (|r| (r.error, r.flags) = (113, flag::SENT), Reason::Unreachable, Some(113)),
            (|r| r.error = 101, Reason::Unreachable, Some(101)),
            (|r| (r.old, r.error) = (state::ESTABLISHED, 104), Reason::Reset, Some(104)),
            (|r| (r.old, r.error) = (state::CLOSE_WAIT, 32), Reason::Reset, Some(32)),
            (|r| (r.old, r.error) = (state::ESTABLISHED, 110), Reason::TimedOut, Some(110)),
            // The application had closed it before: nobody sees the error.
            (|r| (r.old, r.error, r.shutdown) = (state::LAST_ACK, 104, 3), Reason::Reset, None),
            (|r| (r.shutdown, r.flags) = (3, flag::SENT), Reason::Abandoned, None),
            // Disconnected, or shut down, while connecting: nothing is shut at that moment.
            (|r| r.flags = flag::SENT | flag::PORT_HELD, Reason::Abandoned, None),
            (|_| (), Reason::LocalError, None),
            (|r| (r.error, r.flags) = (103, flag::SENT), Reason::LocalError, Some(103)),
        ];
        for (index, (change, reason, error)) in cases.into_iter().enumerate() {
            let expected = Failure { reason: Some(reason), error: error.map(Errno) };
            assert_eq!(failure(change), Some(expected), "case {index}");
        }
    }

    #[test]
    fn an_ordinary_close_is_no_failure() {
        assert_eq!(failure(|r| r.old = state::LAST_ACK), None);
        assert_eq!(failure(|r| (r.old, r.shutdown) = (state::ESTABLISHED, 3)), None);
        assert_eq!(failure(|r| r.new = state::ESTABLISHED), None);
    }

    #[test]
    fn without_type_information_only_exhaustion_is_named() {
        let named = failure(|r| (r.sport, r.flags) = (0, flag::STABLE_FIELDS_ONLY)).unwrap();
        assert_eq!(named.reason, Some(Reason::PortRangeExhausted));
        let unnamed = failure(|r| r.flags = flag::STABLE_FIELDS_ONLY).unwrap();
        assert_eq!(unnamed, Failure { reason: None, error: None });
    }

    #[test]
    fn bad_records_are_errors_that_say_what() {
        let wrong = |change: fn(&mut RawEvent)| decode_one(&closed_while_connecting(change));
        assert_eq!(wrong(|r| r.kind = 77).unwrap_err(), DecodeError::Kind(77));
        assert_eq!(wrong(|r| r.size = 96).unwrap_err(), DecodeError::Size(96));
        assert_eq!(wrong(|r| r.new = 13).unwrap_err(), DecodeError::Value("new state", 13));
        assert_eq!(wrong(|r| r.family = 5).unwrap_err(), DecodeError::Value("family", 5));
        assert_eq!(wrong(|r| r.owner = 9).unwrap_err(), DecodeError::Value("owner", 9));
        let torn = Bytes::from_static(&[1; 50]);
        assert_eq!(decode(&torn).next().unwrap().unwrap_err(), DecodeError::Torn(50));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let records = bytes.len().div_ceil(RAW_EVENT_SIZE);
            prop_assert_eq!(decode(&Bytes::from(bytes)).count(), records);
        }

        #[test]
        fn plausible_bytes_decode_to_what_they_say(
            mut bytes in proptest::array::uniform32(any::<u8>()), old in 1u8..=12, new in 1u8..=12,
        ) {
            bytes[0] &= 3;
            let raw = closed_while_connecting(|r| {
                (r.old, r.new, r.owner) = (old, new, bytes[0].min(2));
                r.comm.copy_from_slice(&bytes[..16]);
                r.error = u16::from(bytes[20]);
                r.flags = u16::from_le_bytes([bytes[21], bytes[22]]);
            });
            let Event::State(change) = decode_one(&raw).unwrap() else { unreachable!() };
            prop_assert_eq!((change.old.number(), change.new.number()), (old, new));
            let failure = classify(&change);
            prop_assert!(failure.is_none() || new == state::CLOSE);
            let shown = change.subject.owner.map_or(String::new(), |owner| owner.comm.to_string());
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
