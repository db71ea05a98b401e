//! Why a connection failed: a function of the record alone, so that a later version classifies an
//! old capture better.

use std::fmt;

use nix::errno::Errno as E;

use crate::event::{Call, CallFailed, Errno, State, StateChange};

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// `connect()` found no free local port: `EADDRNOTAVAIL`.
    PortRangeExhausted,
    /// The local port came from `bind()`, and its 4-tuple was taken: `EADDRNOTAVAIL`.
    TupleCollision,
    /// The peer, or a firewall on the way, refused: `ECONNREFUSED`.
    Refused,
    /// No answer in time: `ETIMEDOUT`.
    TimedOut,
    /// No route, no neighbour, or an ICMP error.
    Unreachable,
    /// Reset by the peer after it was established: `ECONNRESET`, `EPIPE`.
    Reset,
    /// The application closed the socket while it was connecting.
    Abandoned,
    /// This host gave up for another cause.
    LocalError,
    /// The kernel gave the connection up (timed out, or an ICMP error), and the application had fetched the
    /// errno before it was seen.
    ErrorTaken,
    /// `connect()` found no local address to send from: `EADDRNOTAVAIL` before a port is looked for.
    NoSourceAddress,
    /// `bind()` to an address that this host doesn't have: `EADDRNOTAVAIL`.
    AddressNotLocal,
    /// `bind()` to an address and port that are taken: `EADDRINUSE`.
    AddressInUse,
    /// A routing rule, a firewall or a missing privilege forbade it: `EACCES`, `EPERM`.
    NotPermitted,
    /// The process has no free file descriptor: `EMFILE`.
    ProcessFileLimit,
    /// The system has no free file: `ENFILE`.
    SystemFileLimit,
}

impl Reason {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 15] = [
        Self::PortRangeExhausted,
        Self::TupleCollision,
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Reset,
        Self::Abandoned,
        Self::LocalError,
        Self::ErrorTaken,
        Self::NoSourceAddress,
        Self::AddressNotLocal,
        Self::AddressInUse,
        Self::NotPermitted,
        Self::ProcessFileLimit,
        Self::SystemFileLimit,
    ];

    /// The stable name, as JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PortRangeExhausted => "port-range-exhausted",
            Self::TupleCollision => "tuple-collision",
            Self::Refused => "refused",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Abandoned => "abandoned",
            Self::LocalError => "local-error",
            Self::ErrorTaken => "error-taken",
            Self::NoSourceAddress => "no-source-address",
            Self::AddressNotLocal => "address-not-local",
            Self::AddressInUse => "address-in-use",
            Self::NotPermitted => "not-permitted",
            Self::ProcessFileLimit => "process-file-limit",
            Self::SystemFileLimit => "system-file-limit",
        }
    }
}

impl Reason {
    /// What happened, in a line; docs/events.md says how it is told.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::PortRangeExhausted => {
                "no free local port was left toward this upstream, or for bind() to port 0"
            }
            Self::TupleCollision => {
                "the local port came from bind(), and the same connection was there already"
            }
            Self::Refused => {
                "the peer answered with a reset, or a firewall on the way with an ICMP error"
            }
            Self::TimedOut => "no answer in time",
            Self::Unreachable => "no route, no neighbour, or an ICMP error came",
            Self::Reset => "the peer reset the connection after it was established",
            Self::Abandoned => "the application closed the socket while it was connecting",
            Self::LocalError => "this host gave up after a local port was chosen",
            Self::ErrorTaken => {
                "the kernel gave the connection up, and the application had fetched the errno before it was seen"
            }
            Self::NoSourceAddress => "the host has no address to send from",
            Self::AddressNotLocal => "bind() to an address that this host doesn't have",
            Self::AddressInUse => "bind() to an address and port that are taken",
            Self::NotPermitted => {
                "a route or rule forbids it, or a port below 1024 without the privilege"
            }
            Self::ProcessFileLimit => "the process has no free file descriptor",
            Self::SystemFileLimit => "the host has no free file",
        }
    }

    /// What to do about it, in a line; docs/events.md says more.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::PortRangeExhausted => {
                "keepalive to the upstream; a wider net.ipv4.ip_local_port_range; more source addresses \
                 (proxy_bind); more upstream addresses or ports"
            }
            Self::TupleCollision => {
                "don't bind() to a fixed port before connect(); IP_BIND_ADDRESS_NO_PORT"
            }
            Self::NoSourceAddress => {
                "give the interface an address; keep the upstream's name from resolving to IPv6"
            }
            Self::AddressNotLocal => "correct the address (Nginx: proxy_bind), or add it",
            Self::AddressInUse => "ss -ltnp says who has that port",
            Self::NotPermitted => {
                "see ip route and ip rule; a port below 1024 takes CAP_NET_BIND_SERVICE"
            }
            Self::Refused => "start the upstream; see its backlog and its firewall",
            Self::TimedOut => {
                "see the path, the peer, and whether a conntrack table on the way is full"
            }
            Self::Unreachable => "see routing, the neighbour, and firewalls that reject",
            Self::Reset => "the upstream's log: a crash, a restart, an idle timeout",
            Self::Abandoned => {
                "a slow upstream: the proxy's own connect timeout ran out (Nginx: proxy_connect_timeout)"
            }
            Self::ProcessFileLimit => {
                "LimitNOFILE= in its unit, worker_rlimit_nofile for Nginx; prlimit --nofile for now"
            }
            Self::SystemFileLimit => "a larger fs.file-max",
            Self::ErrorTaken => "as of a timeout: see the path and the peer",
            Self::LocalError => "the errno says what this host lacks: a route, memory",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A failure: its reason, and the errno that the application saw where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why; `None`: this rung can't tell.
    pub reason: Option<Reason>,
    /// The errno of `connect()` or of the next call on the socket.
    pub error: Option<Errno>,
}

/// Classifies a state change; `None`: not a failure.
///
/// How each kind of failure reads was observed with known numbers of each made, see docs/events.md.
/// The order of the questions matters: an errno on the socket is the kernel's own verdict; without
/// one, `connect()` itself failed (nothing was sent) or the application gave up.
#[must_use]
pub fn classify(change: &StateChange) -> Option<Failure> {
    if change.new != State::CLOSE {
        return None;
    }
    let connecting = change.old == State::SYN_SENT;
    let Some(sk_err) = change.sk_err else {
        // The plain tracepoint without type information: only a missing port speaks for itself.
        let exhausted = connecting && change.subject.sport.is_none();
        return connecting.then_some(Failure {
            reason: exhausted.then_some(Reason::PortRangeExhausted),
            error: exhausted.then_some(Errno::EADDRNOTAVAIL),
        });
    };
    if sk_err != 0 {
        let reason = Some(by_errno(sk_err));
        // The application had closed the socket before: nobody sees this error.
        let error = (!change.is_orphan()).then_some(Errno(sk_err));
        return Some(Failure { reason, error });
    }
    if change.error_taken {
        return Some(Failure { reason: Some(Reason::ErrorTaken), error: None });
    }
    if !connecting {
        return None;
    }
    let (reason, error) = if change.sent || change.shut_down {
        (Reason::Abandoned, None)
    } else if change.subject.sport.is_none() {
        (Reason::PortRangeExhausted, Some(Errno::EADDRNOTAVAIL))
    } else if change.port_held {
        (Reason::TupleCollision, Some(Errno::EADDRNOTAVAIL))
    } else {
        // A port was chosen and then something else failed; what, only connect()'s caller saw, and the
        // hook on its return.
        (Reason::LocalError, change.returned)
    };
    Some(Failure { reason: Some(reason), error })
}

/// Classifies a call that failed: by what it returned, and for `bind()` by the port that it asked for.
#[must_use]
pub fn classify_call(failed: &CallFailed) -> Failure {
    let errno = E::from_raw(i32::from(failed.errno.0));
    let reason = match (failed.call, errno) {
        (Call::Descriptor, E::ENFILE) => Reason::SystemFileLimit,
        (Call::Descriptor, _) => Reason::ProcessFileLimit,
        (_, E::EACCES | E::EPERM) => Reason::NotPermitted,
        (Call::Connect, E::EADDRNOTAVAIL) => Reason::NoSourceAddress,
        (Call::Connect, _) => by_errno(failed.errno.0),
        (Call::Bind, E::EADDRINUSE) if failed.subject.sport.is_none() => Reason::PortRangeExhausted,
        (Call::Bind, E::EADDRINUSE) => Reason::AddressInUse,
        (Call::Bind, E::EADDRNOTAVAIL) => Reason::AddressNotLocal,
        (Call::Bind, _) => Reason::LocalError,
    };
    Failure { reason: Some(reason), error: Some(failed.errno) }
}

fn by_errno(sk_err: u16) -> Reason {
    match E::from_raw(i32::from(sk_err)) {
        E::ECONNREFUSED => Reason::Refused,
        E::ETIMEDOUT => Reason::TimedOut,
        E::ECONNRESET | E::EPIPE => Reason::Reset,
        // What an ICMP error turns into (net/ipv4/icmp.c, icmp_err_convert) and a failed neighbour.
        E::EHOSTUNREACH
        | E::ENETUNREACH
        | E::EHOSTDOWN
        | E::ENONET
        | E::ENOPROTOOPT
        | E::EACCES
        | E::EPROTO => Reason::Unreachable,
        _ => Reason::LocalError,
    }
}
