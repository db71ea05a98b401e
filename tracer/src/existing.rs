//! Sockets that existed before the run, or whose beginning was lost: listed at the start, and again after
//! loss, so that their events have an owner.
//!
//! Hooks come first, the list second: what happens in between is held back until the list is there.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    event::{Event, Owner, State, Subject},
    kernel::{
        ring::boot_time_ns,
        snapshot::{self, Listed, Snapshot, Which},
    },
};

/// How long events wait for the first list.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// How soon after a list the next may be made for loss: it costs about 3 µs for each open file of the
/// host.
const EVERY: Duration = Duration::from_secs(5);

/// Owners of sockets by cookie; part of the table's fold.
#[derive(Debug, Default)]
pub struct Existing {
    owners: HashMap<u64, MetSocket>,
}

/// A socket that existed before, whose owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetSocket {
    /// The kernel's cookie.
    pub cookie: u64,
    /// Who has it open.
    #[serde(flatten)]
    pub owner: Owner,
    /// Cgroup id of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<u64>,
    /// It has a listener's port: this host is the server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passive: bool,
}

/// Sockets that existed before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// More of the list before; else a new one: what is not in it has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// Those whose owner is known.
    pub sockets: Vec<MetSocket>,
}

impl Met {
    /// Those of a list.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let listens = |listed: &&Listed| listed.socket.state == State::LISTEN;
        let port = |listed: &Listed| (listed.netns, listed.socket.sport);
        let listening: HashSet<_> = snapshot.sockets.iter().filter(listens).map(port).collect();
        let known = snapshot.sockets.iter().filter_map(|listed| {
            Some(MetSocket {
                cookie: listed.socket.cookie?,
                owner: listed.owner?,
                cgroup: listed.cgroup,
                passive: listening.contains(&port(listed)),
            })
        });
        Self { continued: false, sockets: known.collect() }
    }
}

impl Existing {
    /// Those that haven't ended.
    #[must_use]
    pub fn met(&self) -> Met {
        let mut sockets: Vec<_> = self.owners.values().copied().collect();
        sockets.sort_unstable_by_key(|socket| socket.cookie);
        Met { continued: false, sockets }
    }

    /// Takes a list.
    pub fn meet(&mut self, met: &Met) {
        if !met.continued {
            self.owners.clear();
        }
        self.owners.extend(met.sockets.iter().map(|socket| (socket.cookie, *socket)));
    }

    /// Completes an event of a socket whose owner the kernel side doesn't know, and forgets the socket
    /// when it has ended.
    pub fn complete(&mut self, event: &mut Event) {
        if self.owners.is_empty() {
            return;
        }
        match event {
            Event::State(change) => {
                change.passive |= self.own(&mut change.subject);
                if change.new == State::CLOSE
                    && let Some(cookie) = change.subject.cookie
                {
                    self.owners.remove(&cookie);
                }
            }
            Event::TimeWait(entered) => entered.passive |= self.own(&mut entered.subject),
            Event::CallFailed(_) | Event::Lost(_) => {}
        }
    }

    /// Whether this host is known to be the server.
    fn own(&self, subject: &mut Subject) -> bool {
        if subject.owner.is_some() {
            return false;
        }
        let known = subject.cookie.and_then(|cookie| self.owners.get(&cookie));
        let Some(known) = known else { return false };
        subject.owner = Some(known.owner);
        subject.cgroup = subject.cgroup.or(known.cgroup);
        known.passive
    }
}

/// Makes lists, on a thread of its own.
#[derive(Debug)]
pub struct Lister {
    which: Which,
    under_way: Option<oneshot::Receiver<Snapshot>>,
    /// When the last list was begun.
    begun: Instant,
    /// The first list is not there yet.
    first: bool,
    /// Something was lost since the last list was begun.
    stale: bool,
}

impl Lister {
    /// Begins the first list. To be called once the hooks are attached.
    #[must_use]
    pub fn begin(which: Which) -> Self {
        let mut lister =
            Self { which, under_way: None, begun: Instant::now(), first: true, stale: false };
        lister.start();
        lister
    }

    fn start(&mut self) {
        self.begun = Instant::now();
        self.stale = false;
        let (answer, result) = oneshot::channel();
        let which = self.which.clone();
        let list = move || {
            // Nobody waits any more: the run has ended.
            let _ = answer.send(snapshot::take(which));
        };
        match std::thread::Builder::new().name("sockets".to_owned()).spawn(list) {
            Ok(_) => self.under_way = Some(result),
            Err(error) => {
                tracing::warn!("can't start a thread to list the sockets there are: {error}");
                self.first = false;
            }
        }
    }

    /// Whether events should wait for the first list.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.first && self.begun.elapsed() < FIRST_WAIT
    }

    /// Something was lost: what is known of existing sockets may be wrong.
    pub fn lost(&mut self) {
        self.stale = true;
    }

    /// A list that is ready. Begins the next where something was lost.
    pub fn poll(&mut self) -> Option<Snapshot> {
        let ready = match self.under_way.as_mut()?.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            ready => ready.ok(),
        };
        self.ready(ready)
    }

    /// Begins a list for loss, when it is time.
    pub fn refresh(&mut self) {
        if self.stale && self.under_way.is_none() && self.begun.elapsed() >= EVERY {
            self.start();
        }
    }

    /// Waits for the first list; not for later ones.
    pub async fn finish(&mut self) -> Option<Snapshot> {
        if !self.first {
            return None;
        }
        let left = FIRST_WAIT.saturating_sub(self.begun.elapsed());
        let ready = tokio::time::timeout(left, self.under_way.as_mut()?).await.ok()?;
        self.ready(ready.ok())
    }

    fn ready(&mut self, snapshot: Option<Snapshot>) -> Option<Snapshot> {
        self.under_way = None;
        self.first = false;
        if let Some(snapshot) = &snapshot {
            let ms = boot_time_ns().saturating_sub(snapshot.started_ns) / 1_000_000;
            tracing::debug!("{} sockets listed in {ms} ms", snapshot.sockets.len());
            for what in &snapshot.incomplete {
                tracing::debug!("of existing sockets: {what}");
            }
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        event::{Comm, Known, TimeWait},
        kernel::sock_diag::Socket,
    };

    fn listed(cookie: u64, pid: u32) -> Listed {
        let owner = Owner { pid, tid: pid, comm: Comm::new([b'a'; 16]), known: Known::Inferred };
        let address = Ipv4Addr::LOCALHOST.into();
        Listed {
            netns: 1,
            socket: Socket {
                cookie: Some(cookie),
                state: State::ESTABLISHED,
                src: address,
                sport: 1,
                dst: address,
                dport: 2,
                inode: 3,
                uid: 0,
                recv_queue: 0,
                send_queue: None,
                time_left: None,
                interface: 0,
                cgroup: None,
            },
            owner: Some(owner),
            shared: false,
            cgroup: Some(7),
        }
    }

    fn event(cookie: u64, owner: Option<Owner>) -> Event {
        let subject = Subject {
            ts_ns: 1,
            cookie: Some(cookie),
            src: None,
            sport: None,
            dst: None,
            dport: None,
            netns: None,
            cgroup: None,
            owner,
        };
        let (old, substate) = (State::FIN_WAIT2, State::TIME_WAIT);
        Event::TimeWait(TimeWait { subject, old, substate, inferred: false, passive: false })
    }

    fn completed(existing: &mut Existing, mut event: Event) -> Option<u32> {
        existing.complete(&mut event);
        let Event::TimeWait(entered) = event else { unreachable!() };
        entered.subject.owner.map(|owner| owner.pid)
    }

    #[test]
    fn an_owner_comes_from_the_list_only_where_none_is_known() {
        let mut existing = Existing::default();
        let snapshot = Snapshot { sockets: vec![listed(5, 50)], ..Snapshot::default() };
        existing.meet(&Met::of(&snapshot));
        assert_eq!(completed(&mut existing, event(5, None)), Some(50));
        assert_eq!(completed(&mut existing, event(6, None)), None);
        let known = listed(5, 77).owner;
        assert_eq!(completed(&mut existing, event(5, known)), Some(77));
    }

    #[test]
    fn who_has_a_listeners_port_is_the_server() {
        let mut existing = Existing::default();
        let mut listener = listed(4, 50);
        listener.socket.state = State::LISTEN;
        let mut elsewhere = listed(6, 50);
        elsewhere.netns = 2;
        let sockets = vec![listener, listed(5, 50), elsewhere];
        existing.meet(&Met::of(&Snapshot { sockets, ..Snapshot::default() }));
        let passive = |existing: &mut Existing, cookie| {
            let mut event = event(cookie, None);
            existing.complete(&mut event);
            let Event::TimeWait(entered) = event else { unreachable!() };
            entered.passive
        };
        assert!(passive(&mut existing, 5));
        assert!(!passive(&mut existing, 6), "the listener is in another network namespace");
    }

    #[test]
    fn a_new_list_replaces_the_old_one() {
        let mut existing = Existing::default();
        let list = |sockets| Met::of(&Snapshot { sockets, ..Snapshot::default() });
        existing.meet(&list(vec![listed(5, 50)]));
        existing.meet(&list(vec![listed(6, 60)]));
        assert_eq!(completed(&mut existing, event(5, None)), None);
        assert_eq!(completed(&mut existing, event(6, None)), Some(60));
    }
}
