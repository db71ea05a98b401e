//! Entries in TIME-WAIT of a network namespace: `inet_twsk_alloc` (`net/ipv4/inet_timewait_sock.c`) makes
//! none when there are `tcp_max_tw_buckets` already.

use super::{Ceiling, Failed, Passing, Since, Subject, ephemeral_ports, remedy};
use crate::kernel::survey::Namespace;

/// The finding of a namespace.
#[must_use]
pub fn assess(namespace: &Namespace) -> Ceiling {
    let subject = Subject::TimeWait { netns: namespace.netns };
    let counters = &namespace.counters;
    let mut ceiling = Ceiling::new(subject, counters.time_wait, namespace.settings.max_tw_buckets);
    let ages_s = namespace.sockets.iter().filter_map(ephemeral_ports::age_s).collect();
    ceiling.passing = Passing { ages_s, hold_s: ephemeral_ports::TIME_WAIT_S };
    ceiling.failures.push(Failed {
        error: "TCPTimeWaitOverflow",
        count: counters.time_wait_overflow,
        per_s: None,
        since: Since::Boot,
        who: Vec::new(),
    });
    ceiling.evidence =
        "tw in /proc/net/sockstat, net.ipv4.tcp_max_tw_buckets, TCPTimeWaitOverflow in /proc/net/netstat".into();
    if ceiling.ratio() >= 0.8 {
        ceiling.notes.push(
            "when it is full no call fails, but sockets that close are forgotten at once"
                .to_owned(),
        );
    }
    ceiling.remedy = remedy::time_wait(namespace);
    ceiling
}
