//! Lists over netlink (`netlink(7)`): one request, many datagrams in reply.

use std::{io, num::NonZeroU32, os::fd::OwnedFd};

use netlink_bindings::{
    builtin::Nlmsghdr,
    traits::{NetlinkRequest, Protocol},
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// The largest datagram of a list, given room (`netlink_dump` in `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 32 << 10;
/// Length of `struct nlmsghdr`.
const HEADER: usize = Nlmsghdr::len();

// include/uapi/linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Types below are netlink's own (`NLMSG_MIN_TYPE`).
const FIRST_TYPE: u16 = 0x10;

/// Whether a list is all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// The kernel saw no change that made it skip or repeat something.
    Whole,
    /// The kernel says that what it lists changed meanwhile (`NLM_F_DUMP_INTR`).
    Interrupted,
}

/// A socket for one protocol of netlink.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket for the protocol that a request belongs to.
    ///
    /// # Errors
    /// The kernel hasn't this protocol (`EPROTONOSUPPORT`), or refuses.
    pub fn open(request: &impl NetlinkRequest) -> io::Result<Self> {
        let Protocol::Raw { protonum, .. } = request.protocol() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "generic netlink"));
        };
        let protocol = NonZeroU32::new(protonum.into()).map(rustix::net::Protocol::from_raw);
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM], sequence: 0 })
    }

    /// Gives every message of the reply to `each`.
    ///
    /// # Errors
    /// The kernel refuses (`ENOENT`: it hasn't what the request asks for), or its reply makes no
    /// sense.
    pub fn dump<R: NetlinkRequest>(
        &mut self,
        request: &R,
        mut each: impl FnMut(R::ReplyType<'_>),
    ) -> io::Result<Coverage> {
        self.send(request)?;
        let mut coverage = Coverage::Whole;
        loop {
            let flags = RecvFlags::TRUNC;
            let received = match recv(&self.socket, self.buffer.as_mut_slice(), flags) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?.1,
            };
            let mut rest = self.buffer.get(..received).ok_or_else(broken)?;
            while !rest.is_empty() {
                let header = Nlmsghdr::new_from_slice(rest.get(..HEADER).ok_or_else(broken)?);
                let header = header.ok_or_else(broken)?;
                let length = usize::try_from(header.len).map_err(|_| broken())?;
                let body = rest.get(HEADER..length).ok_or_else(broken)?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if header.seq != self.sequence {
                    continue;
                }
                if header.flags & NLM_F_DUMP_INTR != 0 {
                    coverage = Coverage::Interrupted;
                }
                match header.r#type {
                    NLMSG_DONE | NLMSG_ERROR => return ended(body).map(|()| coverage),
                    FIRST_TYPE.. => each(R::decode_reply(body)),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, request: &impl NetlinkRequest) -> io::Result<()> {
        let Protocol::Raw { request_type, .. } = request.protocol() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "generic netlink"));
        };
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + request.payload().len();
        let header = Nlmsghdr {
            len: u32::try_from(length).map_err(|_| broken())?,
            r#type: request_type,
            flags: request.flags() | NLM_F_REQUEST,
            seq: self.sequence,
            pid: 0,
        };
        let message = [header.as_slice(), request.payload()].concat();
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }
}

/// The last message's number: 0, or an errno below it.
fn ended(body: &[u8]) -> io::Result<()> {
    let number = body.first_chunk().copied().map(i32::from_ne_bytes).ok_or_else(broken)?;
    if number < 0 { Err(io::Error::from_raw_os_error(-number)) } else { Ok(()) }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's reply makes no sense")
}
