//! The kernel's own table of TCP sockets, over netlink (`sock_diag(7)`).

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result, anyhow};
use netlink_bindings::inet_diag::{ReqV2, Request, Sockid};
use netlink_socket2::NetlinkSocket;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// One socket as the kernel lists it. A v4-mapped address is given as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Local address.
    pub src: IpAddr,
    /// Local port.
    pub sport: u16,
    /// Remote address.
    pub dst: IpAddr,
    /// Remote port.
    pub dport: u16,
}

/// Gives every TCP socket of the calling thread's network namespace that is in one of `states`
/// (bits by the kernel's number) and goes to `dport` (`None`: any) to `each`, once.
///
/// # Errors
/// The kernel has no `inet_diag`/`tcp_diag`, or refused.
pub fn dump(states: u32, dport: Option<u16>, mut each: impl FnMut(Socket)) -> Result<()> {
    let mut seen = HashSet::new();
    let mut netlink = NetlinkSocket::new();
    for family in [AF_INET, AF_INET6] {
        let mut sockid = Sockid::default();
        sockid.set_dport(dport.unwrap_or(0));
        let header = ReqV2 { family, protocol: IPPROTO_TCP, states, sockid, ..Default::default() };
        let request = Request::new().op_tcp_diag_dump(&header);
        let mut replies = netlink
            .request(&request)
            .context("can't ask the kernel for its sockets (sock_diag)")?;
        while let Some(reply) = replies.recv() {
            let (message, _attributes) = reply
                .map_err(|error| anyhow!("the kernel's list of sockets broke off: {error}"))?;
            let id = &message.sockid;
            if !seen.insert((id.cookie, id.sport())) {
                continue;
            }
            each(Socket {
                src: address(message.family, id.src),
                sport: id.sport(),
                dst: address(message.family, id.dst),
                dport: id.dport(),
            });
        }
    }
    Ok(())
}

fn address(family: u8, bytes: [u8; 16]) -> IpAddr {
    if family == AF_INET {
        return Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into();
    }
    Ipv6Addr::from(bytes).to_canonical()
}
