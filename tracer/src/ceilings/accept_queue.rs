//! Connections that wait for `accept()`: a listener drops those that find its queue longer than its
//! backlog (`sk_acceptq_is_full` in `include/net/sock.h`, `tcp_v4_syn_recv_sock`).

use super::{Ceiling, Failed, Since, Subject, User, remedy};
use crate::{
    event::State,
    kernel::{
        owners::{Holder, Owners},
        survey::Namespace,
    },
};

/// A few connections at once fill up a backlog of this size.
const SMALL: u32 = 5;

/// The findings of a namespace: one for each listener.
#[must_use]
pub fn assess(namespace: &Namespace, owners: &Owners) -> Vec<Ceiling> {
    let listeners = namespace.sockets.iter().filter(|socket| socket.state == State::LISTEN);
    let findings = listeners.filter_map(|socket| {
        // `/proc/net/tcp` doesn't tell it.
        let backlog = socket.send_queue?;
        let cookie = socket.cookie.unwrap_or(0);
        let subject = Subject::Listener {
            netns: namespace.netns,
            src: socket.src,
            sport: socket.sport,
            cookie,
        };
        let mut ceiling = Ceiling::new(subject, socket.recv_queue.into(), backlog.into());
        let drops = u64::from(namespace.drops.get(&cookie).copied().unwrap_or(0));
        // The latter are those of all listeners of the namespace.
        let counters = [
            ("sk_drops", drops),
            ("ListenOverflows", namespace.counters.listen_overflows),
            ("ListenDrops", namespace.counters.listen_drops),
        ];
        let since = Since::Boot;
        ceiling.failures.extend(counters.map(|(error, count)| Failed {
            error,
            count,
            per_s: None,
            since,
            who: Vec::new(),
        }));
        if backlog <= SMALL {
            ceiling.idle = true;
            ceiling.notes.push(
                "so small a backlog is full at times: no finding unless it overflows".to_owned(),
            );
        }
        match owners.of(socket.inode) {
            Some(Holder::One(process)) => {
                ceiling.who.push(User::Process(process.pid, process.comm, 1));
            }
            Some(Holder::Several { .. }) => {
                ceiling.notes.push("several processes have this listener open".to_owned());
            }
            None => {}
        }
        ceiling.evidence =
            "Recv-Q and Send-Q of the listener (sock_diag), its sk_drops; ListenOverflows \
                            and ListenDrops of its namespace (/proc/net/netstat)"
                .into();
        ceiling.remedy = remedy::accept_queue(namespace, u64::from(backlog));
        Some(ceiling)
    });
    findings.collect()
}
