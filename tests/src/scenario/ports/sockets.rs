//! Plain sockets as applications have them, all in this process.

use std::{
    fmt, io,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::{errno::Errno, libc};
use socket2::{Domain, Protocol, Socket, Type};

/// The numbers of `include/uapi/linux/in.h`.
const IP_BIND_ADDRESS_NO_PORT: libc::c_int = 24;
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// First and last port.
pub(crate) type Range = (u16, u16);

/// `SO_REUSEADDR` and `SO_REUSEPORT`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reuse {
    #[default]
    Neither,
    Address,
    Port,
    Both,
}

/// What an application sets on a socket before it connects or binds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// How it shares its port.
    pub(crate) reuse: Reuse,
    /// `SO_BINDTODEVICE` lo
    pub(crate) lo: bool,
    /// `IP_LOCAL_PORT_RANGE`
    pub(crate) range: Option<Range>,
    /// An IPv6 socket for an IPv4 address.
    pub(crate) mapped: bool,
}

impl fmt::Display for Options {
    /// Those that are set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = Vec::new();
        if self.reuse != Reuse::Neither {
            set.push(format!("reuse {:?}", self.reuse));
        }
        set.extend(self.lo.then(|| "device lo".to_owned()));
        set.extend(self.mapped.then(|| "mapped".to_owned()));
        set.extend(self.range.map(|(low, high)| format!("range {low}-{high}")));
        write!(f, "[{}]", set.join(", "))
    }
}

impl Options {
    /// A socket for this address that has these.
    pub(crate) fn socket(&self, address: IpAddr) -> io::Result<Socket> {
        let v6 = address.is_ipv6() || self.mapped;
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if matches!(self.reuse, Reuse::Address | Reuse::Both) {
            socket.set_reuse_address(true)?;
        }
        if matches!(self.reuse, Reuse::Port | Reuse::Both) {
            socket.set_reuse_port(true)?;
        }
        if self.lo {
            socket.bind_device(Some(b"lo"))?;
        }
        if let Some((low, high)) = self.range {
            set(&socket, IP_LOCAL_PORT_RANGE, u32::from(high) << 16 | u32::from(low))?;
        }
        Ok(socket)
    }

    /// The same with a source address of its own, and no port yet.
    pub(crate) fn socket_from(&self, source: Option<IpAddr>, to: IpAddr) -> io::Result<Socket> {
        let socket = self.socket(to)?;
        if let Some(source) = source {
            set(&socket, IP_BIND_ADDRESS_NO_PORT, 1)?;
            socket.bind(&self.address(SocketAddr::new(source, 0)).into())?;
        }
        Ok(socket)
    }

    /// An address as such a socket takes it.
    pub(crate) fn address(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(v4) if self.mapped => {
                SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }
}

fn set(socket: &Socket, name: libc::c_int, value: u32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<u32>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads a 32-bit number, which lives through the call.
    let outcome = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, name, value, length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this kernel has ranges of single sockets.
pub(crate) fn has_own_ranges() -> bool {
    let with = Options { range: Some((1, 2)), ..Options::default() };
    with.socket(Ipv4Addr::LOCALHOST.into()).is_ok()
}

/// A server that lives as long as the case.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    listener: Socket,
}

impl Upstream {
    /// Listens, with room for all that may come.
    pub(crate) fn listen(at: SocketAddr) -> io::Result<Self> {
        let with = Options { reuse: Reuse::Address, ..Options::default() };
        let listener = with.socket(at.ip())?;
        if at.is_ipv6() {
            listener.set_only_v6(true)?;
        }
        listener.bind(&at.into())?;
        listener.listen(4096)?;
        Ok(Self { at, listener })
    }

    /// Both ends of a new connection.
    pub(crate) fn join(&self, client: Socket, with: &Options) -> io::Result<Pair> {
        client.connect(&with.address(self.at).into())?;
        let (server, _) = self.listener.accept()?;
        Ok(Pair { client, server: Some(server) })
    }
}

/// Both ends of a connection.
pub(crate) struct Pair {
    /// Who connected.
    pub(crate) client: Socket,
    /// Who accepted.
    pub(crate) server: Option<Socket>,
}

impl Pair {
    /// The local address of the client.
    pub(crate) fn from(&self) -> io::Result<SocketAddr> {
        let address = self.client.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("no address"))?;
        Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The client closes first: TIME-WAIT; without the peer's end, FIN-WAIT-2.
    pub(crate) fn close(self) -> Option<Socket> {
        drop(self.client);
        self.server
    }

    /// The peer closes first.
    pub(crate) fn close_last(self) {
        drop(self.server);
        drop(self.client);
    }

    /// A reset leaves nothing on either side.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.client.set_linger(Some(Duration::ZERO))
    }
}

/// Whether a call failed with this.
pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
