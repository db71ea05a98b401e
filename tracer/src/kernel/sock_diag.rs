//! The kernel's own table of TCP sockets, over netlink (`sock_diag(7)`).

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context, Result};
use netlink_bindings::{
    inet_diag::{IterableReplyAttrs, Msg, OpTcpDiagDump, ReplyAttrs, ReqV2, Request, Sockid},
    traits::{NetlinkRequest, Protocol},
};
use serde::{Deserialize, Serialize};

pub use super::netlink::Coverage;
use super::netlink::Netlink;
use crate::event::State;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
// include/uapi/linux/netlink.h and inet_diag.h
const NETLINK_SOCK_DIAG: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const TCPDIAG_GETSOCK: u16 = 18;

/// All states that `inet_diag` can be asked for, as bits by the kernel's number: those of
/// `tcp_states.h` and, from Linux 6.8, sockets that are bound and no more (13).
pub const ALL_STATES: u32 = 0x3ffe;

/// `idiag_timer` of a minisock (`inet_twsk_diag_fill` in `net/ipv4/inet_diag.c`).
const TIMER_TIME_WAIT: u8 = 3;

/// How often a list that the kernel calls interrupted is asked for.
const ATTEMPTS: usize = 3;

/// One socket as the kernel lists it. A v4-mapped address is given as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The kernel's socket cookie, as `SO_COOKIE` gives it; `None`: `/proc/net/tcp` has none.
    pub cookie: Option<u64>,
    /// The state. A socket that is bound and no more is in [`State::CLOSE`]; one whose handshake
    /// as a server isn't over in SYN-RECV.
    pub state: State,
    /// Local address.
    pub src: IpAddr,
    /// Local port.
    pub sport: u16,
    /// Remote address.
    pub dst: IpAddr,
    /// Remote port; 0 for a listener.
    pub dport: u16,
    /// Inode number, as in `socket:[…]` of `/proc/PID/fd`; 0: no process has it open.
    pub inode: u32,
    /// User id of who opened it; 0 for a minisock too.
    pub uid: u32,
    /// Bytes not yet read; for a listener, connections not yet accepted.
    pub recv_queue: u32,
    /// Bytes not yet acknowledged; for a listener the backlog, which `/proc/net/tcp` doesn't tell.
    pub send_queue: Option<u32>,
    /// What is left until the kernel forgets it: only in TIME-WAIT, and in FIN-WAIT-2 once the
    /// socket has given way to a minisock. Such a socket has no owner, and a cookie of its own.
    pub time_left: Option<Duration>,
    /// Interface that it is bound to (`SO_BINDTODEVICE`), by index; 0: none.
    pub interface: u32,
    /// Id of the cgroup in which it was opened (inode of its directory in the cgroup2 hierarchy).
    /// `None`: a minisock, or a kernel before 5.8.
    pub cgroup: Option<u64>,
}

impl Socket {
    /// Whether it has both ends.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        self.dport != 0 && ![State::LISTEN, State::CLOSE].contains(&self.state)
    }
}

/// Gives every TCP socket of the calling thread's network namespace that is in one of `states`
/// (bits by the kernel's number) and goes to `dport` (`None`: any) to `each`, once.
///
/// The list isn't taken at one instant: a socket that comes or goes meanwhile may be missed. When
/// the kernel itself calls it interrupted it is asked for again, and what is new is given too.
///
/// # Errors
/// The kernel has no `inet_diag`/`tcp_diag`, or refused.
pub fn dump(states: u32, dport: Option<u16>, mut each: impl FnMut(Socket)) -> Result<Coverage> {
    let mut sockid = Sockid::default();
    sockid.set_dport(dport.unwrap_or(0));
    let mut seen = HashSet::new();
    let mut each = |socket: Socket| {
        if seen.insert(socket.cookie) {
            each(socket);
        }
    };
    if let Ok(coverage) = ask(&BothFamilies::new(states, &sockid, 0), &mut each) {
        return Ok(coverage);
    }
    by_family(states, &sockid, &mut each)
}

/// `INET_DIAG_SKMEMINFO` as a bit of a request, and where drops are among its words
/// (`include/uapi/linux/inet_diag.h`, `sock_diag.h`).
const SKMEMINFO: (u8, usize) = (1 << 6, 8);

/// What each listener of the calling thread's network namespace has dropped since it began
/// (`sk_drops`), by cookie.
///
/// # Errors
/// As [`dump`].
pub fn drops() -> Result<HashMap<u64, u32>> {
    let (extension, word) = SKMEMINFO;
    let listen = 1 << tracer_ebpf::state::LISTEN;
    let request = BothFamilies::new(listen, &Sockid::default(), extension);
    let mut netlink =
        Netlink::open(&request).context("can't ask the kernel for its sockets (sock_diag)")?;
    let mut drops = HashMap::new();
    netlink
        .dump(&request, |(message, attributes)| {
            for attribute in attributes.flatten() {
                if let ReplyAttrs::Skmeminfo(words) = attribute
                    && let Some(bytes) = words.get(word * 4..).and_then(<[u8]>::first_chunk)
                {
                    let cookie = u64::from_ne_bytes(message.sockid.cookie);
                    drops.insert(cookie, u32::from_ne_bytes(*bytes));
                }
            }
        })
        .context("can't list the kernel's listeners (sock_diag)")?;
    Ok(drops)
}

fn by_family(states: u32, sockid: &Sockid, each: &mut impl FnMut(Socket)) -> Result<Coverage> {
    let mut coverage = Coverage::Whole;
    for family in [AF_INET, AF_INET6] {
        let sockid = sockid.clone();
        let header = ReqV2 { family, protocol: IPPROTO_TCP, states, sockid, ..Default::default() };
        if ask(&Request::new().op_tcp_diag_dump(&header), each)? == Coverage::Interrupted {
            coverage = Coverage::Interrupted;
        }
    }
    Ok(coverage)
}

fn ask<R>(request: &R, each: &mut impl FnMut(Socket)) -> Result<Coverage>
where
    R: for<'a> NetlinkRequest<ReplyType<'a> = (Msg, IterableReplyAttrs<'a>)>,
{
    let mut netlink =
        Netlink::open(request).context("can't ask the kernel for its sockets (sock_diag)")?;
    for _ in 0..ATTEMPTS {
        let coverage = netlink
            .dump(request, |(message, attributes)| {
                if let Some(socket) = socket(&message, attributes) {
                    each(socket);
                }
            })
            .context("can't list the kernel's sockets (sock_diag)")?;
        if coverage == Coverage::Whole {
            return Ok(coverage);
        }
    }
    Ok(Coverage::Interrupted)
}

/// `struct inet_diag_req`, the request of old, for which the kernel goes through its table once
/// for both families (`inet_diag_dump_compat` in `net/ipv4/inet_diag.c`): half the time.
struct BothFamilies(Vec<u8>);

impl BothFamilies {
    /// `extensions`: bits of what else is to be told.
    fn new(states: u32, sockid: &Sockid, extensions: u8) -> Self {
        // Family and lengths of prefixes before; tables after: none is looked at.
        let (before, after) = ([0, 0, 0, extensions], [0; 4]);
        Self([&before[..], sockid.as_slice(), &states.to_ne_bytes(), &after].concat())
    }
}

impl NetlinkRequest for BothFamilies {
    fn protocol(&self) -> Protocol {
        Protocol::Raw { protonum: NETLINK_SOCK_DIAG, request_type: TCPDIAG_GETSOCK }
    }

    fn flags(&self) -> u16 {
        NLM_F_DUMP
    }

    fn payload(&self) -> &[u8] {
        &self.0
    }

    type ReplyType<'buf> = (Msg, IterableReplyAttrs<'buf>);

    fn decode_reply(buf: &[u8]) -> Self::ReplyType<'_> {
        OpTcpDiagDump::decode_reply(buf)
    }
}

/// `None`: in a state that this program doesn't know.
fn socket(message: &Msg, attributes: IterableReplyAttrs<'_>) -> Option<Socket> {
    let cgroup = attributes.flatten().find_map(|attribute| match attribute {
        ReplyAttrs::CgroupId(id) => Some(id),
        _ => None,
    });
    let id = &message.sockid;
    let expires = Duration::from_millis(message.expires.into());
    Some(Socket {
        cookie: Some(u64::from_ne_bytes(id.cookie)),
        state: State::from_number(message.state)?,
        src: address(message.family, id.src),
        sport: id.sport(),
        dst: address(message.family, id.dst),
        dport: id.dport(),
        inode: message.inode,
        uid: message.uid,
        recv_queue: message.rqueue,
        send_queue: Some(message.wqueue),
        time_left: (message.timer == TIMER_TIME_WAIT).then_some(expires),
        interface: id.r#if,
        cgroup,
    })
}

fn address(family: u8, bytes: [u8; 16]) -> IpAddr {
    if family == AF_INET {
        return Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into();
    }
    Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ways_of_asking_give_the_same() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let client = TcpStream::connect(address).unwrap();
            let port = Some(address.port());
            let mut sockid = Sockid::default();
            sockid.set_dport(address.port());

            let mut once = Vec::new();
            assert_eq!(dump(ALL_STATES, port, |found| once.push(found)).unwrap(), Coverage::Whole);
            let mut twice = Vec::new();
            by_family(ALL_STATES, &sockid, &mut |found| twice.push(found)).unwrap();
            once.retain(|found| found.src == address.ip());
            twice.retain(|found| found.src == address.ip());
            assert_eq!(once, twice);
            assert_eq!(once.len(), 1, "{once:?}");
            assert_eq!(once[0].sport, client.local_addr().unwrap().port());
            let none = dump(1 << tracer_ebpf::state::LISTEN, port, |found| panic!("{found:?}"));
            assert_eq!(none.unwrap(), Coverage::Whole);
        }
    }
}
