//! Entries for the connection tracking table, which stay.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{errno::Errno, libc};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{crowd::all_files, say};

/// Sockets at the far end of the pairs.
const FAR: u64 = 512;
/// More entries than that would take too much of a host's memory (320 bytes each).
const MOST: u64 = 600_000;
/// The kernel takes a flow for a stream, which it doesn't drop for a newer one, when it has seen both
/// directions and a packet this long after the first.
const STREAM: Duration = Duration::from_millis(2_100);
/// A stream is forgotten after 120 s without a packet.
const REFRESH: Duration = Duration::from_secs(40);

fn table(name: &str) -> Result<u64> {
    let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    text.trim().parse().with_context(|| path)
}

/// Fills the table of this network namespace, which must track connections on its loopback device; says
/// so, and keeps it full until standard input ends. Empties it then.
pub(crate) fn track() -> Result<()> {
    let started = Instant::now();
    let (max, count) = (table("max")?, table("count")?);
    ensure!(max <= MOST, "nf_conntrack_max is {max}, more than the {MOST} that this fills");
    all_files()?;
    let pairs = Pairs::open(max.saturating_sub(count))?;
    pairs.send(false)?;
    let first = Instant::now();
    pairs.send(true)?;
    std::thread::sleep(STREAM.saturating_sub(first.elapsed()));
    pairs.send(false)?;
    let count = table("count")?;
    ensure!(count >= max, "{count} of {max} entries: something else forgets them");
    say(&json!({ "tracked": count, "max": max, "seconds": started.elapsed().as_secs_f64() }))?;

    let (ends, ended) = channel::<()>();
    std::thread::spawn(move || {
        // Input that can't be read has ended.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ends);
    });
    while ended.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
        pairs.send(false)?;
    }
    empty()
}

/// Sockets, each of which at one end sends to each at the other.
struct Pairs {
    near: Vec<(UdpSocket, SocketAddr)>,
    far: Vec<(UdpSocket, SocketAddr)>,
    many: u64,
}

impl Pairs {
    fn open(many: u64) -> Result<Self> {
        let open = |count: u64| -> Result<Vec<(UdpSocket, SocketAddr)>> {
            let one = |_| -> Result<(UdpSocket, SocketAddr)> {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind()")?;
                let address = socket.local_addr()?;
                Ok((socket, address))
            };
            (0..count).map(one).collect()
        };
        Ok(Self { near: open(many.div_ceil(FAR))?, far: open(FAR)?, many })
    }

    /// A datagram from each near one to each far one, or back. Nobody reads them: those for which a
    /// socket has no room are dropped by it, after they were tracked.
    fn send(&self, back: bool) -> Result<()> {
        let all = self.near.iter().flat_map(|near| self.far.iter().map(move |far| (near, far)));
        for (near, far) in all.take(usize::try_from(self.many)?) {
            let (from, to) = if back { (far, near) } else { (near, far) };
            match from.0.send_to(b"x", to.1) {
                // Full already: this one is among those that are dropped.
                Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {}
                sent => drop(sent.context("send()")?),
            }
        }
        Ok(())
    }
}

/// Deletes all entries of this network namespace, by a message of nfnetlink.
fn empty() -> Result<()> {
    // IPCTNL_MSG_CT_DELETE
    let delete = (u16::try_from(libc::NFNL_SUBSYS_CTNETLINK)? << 8) | 2;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK)?;
    let netlink = Protocol::from(libc::NETLINK_NETFILTER);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(netlink))
        .context("socket(AF_NETLINK)")?;
    let mut message = Vec::new();
    message.extend(20_u32.to_ne_bytes());
    message.extend(delete.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port; family, version and resource: any.
    message.extend([0; 12]);
    socket.send(&message).context("nfnetlink")?;
    let mut answer = [0_u8; 64];
    std::io::Read::read_exact(&mut &socket, &mut answer[..20]).context("nfnetlink")?;
    let error = i32::from_ne_bytes(answer[16..20].try_into()?);
    ensure!(error == 0, "deleting entries: {}", std::io::Error::from_raw_os_error(-error));
    Ok(())
}
