//! The TCP sockets there are, and who has them open: what events alone don't tell of sockets that
//! existed before the tracer, or while it lost events.

use std::{collections::HashSet, path::PathBuf};

use anyhow::Result;

use super::{
    netns,
    owners::{Holder, Look, Owners},
    proc_net,
    ring::boot_time_ns,
    sock_diag::{self, ALL_STATES, Coverage, Socket},
};
use crate::event::{Known, Owner};

/// Most sockets in a snapshot: bounds its memory to some 600 MB.
const MAX_SOCKETS: usize = 4_000_000;

/// Which network namespaces to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one that can be found, see [`netns::all`].
    All,
    /// Those with these inode numbers.
    Only(Vec<u32>),
}

/// A socket that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Network namespace, as `readlink /proc/PID/ns/net` shows it.
    pub netns: u32,
    /// What the kernel says of it.
    pub socket: Socket,
    /// The only process that has it open ([`Known::Inferred`]; its id as `/proc` here shows it,
    /// its main thread). `None`: none, several, hidden, closed meanwhile, or not looked for.
    pub owner: Option<Owner>,
    /// Several processes have it open.
    pub shared: bool,
    /// Cgroup id of the owner, of all processes that share it, else of who opened the socket.
    pub cgroup: Option<u64>,
}

/// The sockets of some network namespaces. Not taken at one instant: what changed between
/// `started_ns` and `ended_ns` may be in it or not, and events decide.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) before the first socket was listed.
    pub started_ns: u64,
    /// Nanoseconds since boot after the last one was; owners are looked up after that.
    pub ended_ns: u64,
    /// Each socket once, unless it has no cookie.
    pub sockets: Vec<Listed>,
    /// What could not be read, in a person's words. Empty: this is all.
    pub incomplete: Vec<String>,
}

/// Lists the sockets, and looks up who has them open. Failures are told in
/// [`Snapshot::incomplete`]. Takes a thread and, outside its own namespace, `CAP_SYS_ADMIN`; to see
/// other users' owners, `CAP_SYS_PTRACE`.
#[must_use]
pub fn take(which: Which) -> Snapshot {
    let mut snapshot = list(which);
    snapshot.look_up_owners();
    snapshot
}

/// Lists the sockets without looking up who has them open, which costs about 3 µs for each open
/// file of the host. Each namespace costs a pass over the kernel's table, which is the host's.
#[must_use]
pub fn list(which: Which) -> Snapshot {
    let mut snapshot = Snapshot { started_ns: boot_time_ns(), ..Snapshot::default() };
    let namespaces: Vec<(u32, Option<PathBuf>)> = match which {
        Which::All => {
            let all = netns::all();
            snapshot.incomplete.extend(all.unreadable);
            all.namespaces.into_iter().map(|(netns, path)| (netns, Some(path))).collect()
        }
        Which::Only(mut wanted) => {
            wanted.sort_unstable();
            wanted.dedup();
            wanted.into_iter().map(|netns| (netns, netns::find(netns))).collect()
        }
    };
    let mut beyond = 0;
    for (netns, path) in namespaces {
        let Some(path) = path else {
            snapshot.incomplete.push(format!("network namespace {netns} is gone, or hidden"));
            continue;
        };
        let room = MAX_SOCKETS - snapshot.sockets.len();
        match list_inside(netns, path, room) {
            Ok(Some(listing)) => snapshot.add(netns, listing, &mut beyond),
            Ok(None) => {}
            Err(error) => snapshot
                .incomplete
                .push(format!("the sockets of network namespace {netns} are missing: {error:#}")),
        }
    }
    if beyond > 0 {
        let most = MAX_SOCKETS;
        snapshot.incomplete.push(format!("{beyond} sockets beyond the first {most} are left out"));
    }
    snapshot.ended_ns = boot_time_ns();
    snapshot
}

impl Snapshot {
    /// Looks up who has the sockets open: one pass over `/proc/*/fd`.
    pub fn look_up_owners(&mut self) {
        let inodes = self.sockets.iter().map(|listed| listed.socket.inode);
        let inodes: HashSet<u32> = inodes.filter(|&inode| inode != 0).collect();
        if inodes.is_empty() {
            return;
        }
        let owners = match Owners::find(Look::Inodes(&inodes)) {
            Ok(owners) => owners,
            Err(error) => {
                self.incomplete.push(format!("no socket's owner is known: {error:#}"));
                return;
            }
        };
        for listed in &mut self.sockets {
            match owners.of(listed.socket.inode) {
                Some(Holder::One(process)) => {
                    let (pid, comm) = (process.pid, process.comm);
                    listed.owner = Some(Owner { pid, tid: pid, comm, known: Known::Inferred });
                    listed.cgroup = process.cgroup.or(listed.cgroup);
                }
                Some(Holder::Several { cgroup }) => {
                    listed.shared = true;
                    listed.cgroup = cgroup.or(listed.cgroup);
                }
                None => {}
            }
        }
        if owners.denied > 0 {
            self.incomplete.push(format!(
                "processes whose open files are hidden from this user (needs CAP_SYS_PTRACE), so \
                 that sockets may lack their owner or have more than shown: {}",
                owners.denied
            ));
        }
    }

    fn add(&mut self, netns: u32, listing: Listing, beyond: &mut usize) {
        *beyond += listing.beyond;
        self.incomplete.extend(
            listing.remarks.into_iter().map(|what| format!("network namespace {netns}: {what}")),
        );
        if self.sockets.is_empty() {
            self.sockets = listing.sockets;
        } else {
            self.sockets.extend(listing.sockets);
        }
    }
}

/// The sockets of one namespace.
#[derive(Debug, Default)]
struct Listing {
    sockets: Vec<Listed>,
    /// Sockets that there was no room for.
    beyond: usize,
    remarks: Vec<String>,
}

impl Listing {
    fn push(&mut self, netns: u32, room: usize, socket: Socket) {
        if self.sockets.len() < room {
            let cgroup = socket.cgroup;
            self.sockets.push(Listed { netns, socket, owner: None, shared: false, cgroup });
        } else {
            self.beyond += 1;
        }
    }
}

/// `None`: the namespace went away meanwhile.
fn list_inside(netns: u32, path: PathBuf, room: usize) -> Result<Option<Listing>> {
    let first = netns::inside_at(netns, path, move || list_here(netns, room));
    if first.is_ok() {
        return first.map(Some);
    }
    // The process that stood for it may be gone, and another one still be there.
    let path = netns::find(netns);
    path.map(|path| netns::inside_at(netns, path, move || list_here(netns, room))).transpose()
}

/// Lists the sockets of the calling thread's namespace.
fn list_here(netns: u32, room: usize) -> Result<Listing> {
    let mut listing = Listing::default();
    match sock_diag::dump(ALL_STATES, None, |socket| listing.push(netns, room, socket)) {
        Ok(Coverage::Whole) => {}
        Ok(Coverage::Interrupted) => listing
            .remarks
            .push("sockets came and went while they were listed, some may be missing".to_owned()),
        Err(error) => {
            listing = Listing::default();
            proc_net::list(|socket| listing.push(netns, room, socket))?;
            listing.remarks.push(format!(
                "read from /proc/net/tcp, without cookies and bound sockets: {error:#}"
            ));
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
        os::fd::AsFd,
        time::Duration,
    };

    use rustix::net::{
        AddressFamily, SocketType, bind, getsockname, socket, sockopt::socket_cookie,
    };

    use super::*;
    use crate::{
        event::State,
        kernel::owners::tests::{Heir, eventually},
    };

    fn own_netns() -> u32 {
        netns::resolve("/proc/thread-self/ns/net").unwrap()
    }

    fn here() -> Snapshot {
        take(Which::Only(vec![own_netns()]))
    }

    /// The one entry of a socket of this process.
    fn entry(snapshot: &Snapshot, of: impl AsFd) -> Option<Listed> {
        let cookie = socket_cookie(of).unwrap();
        let mut found = snapshot.sockets.iter().filter(|l| l.socket.cookie == Some(cookie));
        let first = found.next().copied();
        assert_eq!(found.next(), None, "listed twice");
        first
    }

    fn between(source: SocketAddr, destination: SocketAddr) -> impl Fn(&&Listed) -> bool {
        move |listed| {
            let socket = listed.socket;
            let ends = (socket.src, socket.sport, socket.dst, socket.dport);
            ends == (source.ip(), source.port(), destination.ip(), destination.port())
        }
    }

    /// A listener, and both ends of a connection to it.
    fn connection(listen: &str, connect: IpAddr) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        let server = listener.accept().unwrap().0;
        (listener, client, server)
    }

    #[test]
    fn lists_this_processs_sockets_once_with_their_owner() {
        let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        for (listen, connect) in [("127.0.0.1:0", v4), ("[::1]:0", v6), ("[::]:0", v4)] {
            let (listener, client, server) = connection(listen, connect);
            let local = client.local_addr().unwrap();
            let peer = client.peer_addr().unwrap();
            let found = eventually(|| {
                let snapshot = here();
                assert!(snapshot.started_ns < snapshot.ended_ns);
                let all = [listener.as_fd(), client.as_fd(), server.as_fd()];
                let all = all.map(|socket| entry(&snapshot, socket).unwrap());
                all.iter().all(|listed| listed.owner.is_some()).then_some(all)
            });
            for listed in found {
                let owner = listed.owner.unwrap();
                let pid = std::process::id();
                assert_eq!((owner.pid, owner.tid, owner.known), (pid, pid, Known::Inferred));
                assert_eq!((listed.netns, listed.shared), (own_netns(), false));
                assert_eq!(listed.socket.uid, rustix::process::getuid().as_raw());
                assert_eq!(listed.socket.time_left, None);
            }
            let states = found.map(|listed| listed.socket.state);
            assert_eq!(states, [State::LISTEN, State::ESTABLISHED, State::ESTABLISHED]);
            assert!(between(local, peer)(&&found[1]), "{:?}", found[1]);
            assert!(between(peer, local)(&&found[2]), "{:?}", found[2]);
        }
    }

    #[test]
    fn shows_queues() {
        use std::io::Write;
        let (listener, mut client, server) = connection("127.0.0.1:0", Ipv4Addr::LOCALHOST.into());
        let _waits = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        let wanted = list(Which::Only(vec![own_netns()]));
        let listens = entry(&wanted, &listener).unwrap().socket;
        assert_eq!(listens.recv_queue, 1);
        assert!(listens.send_queue.unwrap() > 0);
        eventually(|| (entry(&here(), &server)?.socket.recv_queue == 5).then_some(()));
    }

    #[test]
    fn what_several_processes_have_open_has_no_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let heir = Heir::of(listener.try_clone().unwrap().into());
        let listed = entry(&here(), &listener).unwrap();
        assert_eq!((listed.owner, listed.shared), (None, true));
        drop(heir);
        let alone = eventually(|| entry(&here(), &listener).filter(|listed| !listed.shared));
        assert!(alone.owner.is_some());
    }

    #[test]
    fn minisocks_show_the_time_they_have_left() {
        let (_listener, client, server) = connection("127.0.0.1:0", Ipv4Addr::LOCALHOST.into());
        let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let minisock = |state: State| {
            eventually(|| {
                let snapshot = here();
                let found: Vec<_> = snapshot.sockets.iter().filter(between(local, peer)).collect();
                assert!(found.len() <= 1, "{found:?}");
                let found = **found.first()?;
                (found.socket.state == state && found.socket.time_left.is_some()).then_some(found)
            })
        };
        drop(client);
        let half_closed = minisock(State::FIN_WAIT2);
        server.shutdown(Shutdown::Write).unwrap();
        drop(server);
        let waits = minisock(State::TIME_WAIT);
        for listed in [half_closed, waits] {
            let left = listed.socket.time_left.unwrap();
            assert!(left > Duration::ZERO && left <= Duration::from_mins(1), "{left:?}");
            assert_eq!((listed.owner, listed.shared, listed.socket.inode), (None, false, 0));
        }
    }

    /// Before Linux 6.8 such a socket isn't listed.
    #[test]
    fn a_bound_socket_is_closed() {
        let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&bound, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&bound).unwrap()).unwrap();
        if let Some(listed) = entry(&here(), &bound) {
            assert_eq!(listed.socket.state, State::CLOSE);
            assert_eq!(listed.socket.sport, address.port());
        }
    }

    #[test]
    fn says_what_is_missing() {
        let snapshot = list(Which::Only(vec![1]));
        assert_eq!(snapshot.sockets, []);
        assert_eq!(snapshot.incomplete, ["network namespace 1 is gone, or hidden"]);
        assert!(list(Which::Only(vec![])).incomplete.is_empty());
    }

    #[test]
    fn all_namespaces_include_this_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(entry(&list(Which::All), &listener).unwrap().netns, own_netns());
        let twice = list(Which::Only(vec![own_netns(), own_netns()]));
        assert!(entry(&twice, &listener).is_some());
    }
}
