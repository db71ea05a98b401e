//! How connections ended, by upstream: which side closed first, and how many TIME-WAIT entries that left
//! here. Part of the table's fold.

use std::{collections::HashMap, net::IpAddr};

use tracer_ebpf::state;

use crate::event::{State, StateChange, Subject, TimeWait};

/// Most upstreams that are kept apart; what ends beyond them is counted in [`Ends::unlisted`].
pub const MAX_UPSTREAMS: usize = 65_536;

/// The other end of connections, as far as it is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// An upstream of this host: where it connected to.
    Upstream {
        /// Network namespace.
        netns: Option<u32>,
        /// Its address.
        dst: IpAddr,
        /// Its port.
        dport: u16,
    },
    /// The clients of a listener of this host.
    Clients {
        /// Network namespace.
        netns: Option<u32>,
        /// The listener's port.
        sport: u16,
    },
}

impl Peer {
    fn of(subject: &Subject, passive: bool) -> Option<Self> {
        let netns = subject.netns;
        if passive {
            return Some(Self::Clients { netns, sport: subject.sport? });
        }
        // Of a socket whose beginning was not seen, which side connected is not known.
        subject.owner?;
        Some(Self::Upstream { netns, dst: subject.dst?, dport: subject.dport? })
    }
}

/// How connections with one peer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// This host closed first: ESTAB to FIN-WAIT-1.
    pub closed_here: u64,
    /// The peer closed first: ESTAB to CLOSE-WAIT.
    pub closed_by_peer: u64,
    /// TIME-WAIT entries that were seen to be made.
    pub time_waits: u64,
    /// TIME-WAIT entries that were concluded from state changes.
    pub inferred: u64,
}

/// How connections ended, by peer.
#[derive(Debug, Default)]
pub struct Ends {
    peers: HashMap<Peer, Ended>,
    unlisted: u64,
    total: Ended,
}

impl Ends {
    /// Folds a state change in.
    pub fn note(&mut self, change: &StateChange) {
        if change.old != State::ESTABLISHED {
            return;
        }
        match change.new.number() {
            state::FIN_WAIT1 => self.add(&change.subject, change.passive, |e| e.closed_here += 1),
            state::CLOSE_WAIT => {
                self.add(&change.subject, change.passive, |e| e.closed_by_peer += 1);
            }
            _ => {}
        }
    }

    /// Folds a TIME-WAIT entry in.
    pub fn note_time_wait(&mut self, entered: &TimeWait) {
        self.add(&entered.subject, entered.passive, |ended| {
            if entered.inferred {
                ended.inferred += 1;
            } else {
                ended.time_waits += 1;
            }
        });
    }

    fn add(&mut self, subject: &Subject, passive: bool, add: impl Fn(&mut Ended)) {
        add(&mut self.total);
        let Some(peer) = Peer::of(subject, passive) else {
            self.unlisted += 1;
            return;
        };
        let full = self.peers.len() >= MAX_UPSTREAMS;
        match self.peers.get_mut(&peer) {
            Some(ended) => add(ended),
            None if full => self.unlisted += 1,
            None => add(self.peers.entry(peer).or_default()),
        }
    }

    /// The peers, most TIME-WAIT entries first, then most connections that ended.
    #[must_use]
    pub fn peers(&self) -> Vec<(&Peer, &Ended)> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        let weight = |e: &Ended| (e.time_waits + e.inferred, e.closed_here + e.closed_by_peer);
        peers.sort_by(|(a, x), (b, y)| weight(y).cmp(&weight(x)).then_with(|| a.cmp(b)));
        peers
    }

    /// All peers together, and what is in no peer's row.
    #[must_use]
    pub fn total(&self) -> Ended {
        self.total
    }

    /// Closes and TIME-WAIT entries of sockets whose beginning was not seen, and those that found no room
    /// for a peer of their own.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }
}
