//! What the host says of a proxy's process, beside its sockets: `/proc`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{Located, files::Rooted};
use crate::{
    event::Comm,
    kernel::{netns, process::Process},
};

/// Longest command line that is read, as all else in `/proc`.
const LONGEST: u64 = 4 << 20;

fn read(pid: u32, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{name}"))?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The words of its command line, each ended by a zero byte, or the title that it gave itself.
///
/// # Errors
/// It is gone.
pub fn command_line(pid: u32) -> io::Result<Vec<u8>> {
    read(pid, "cmdline")
}

/// The words of its command line, its own name first.
///
/// # Errors
/// It is gone.
pub fn arguments(pid: u32) -> io::Result<Vec<OsString>> {
    let bytes = command_line(pid)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    Ok(bytes.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
}

/// A word of the line of `/proc/PID/status` that begins so, the first or the last one.
fn status(pid: u32, name: &str, last: bool) -> Option<u32> {
    let bytes = read(pid, "status").ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    (if last { words.next_back() } else { words.next() })?.parse().ok()
}

/// Its parent. `None`: outside of this pid namespace, or it is gone.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    status(pid, "PPid:", false).filter(|&parent| parent != 0)
}

/// The process id that it sees itself: that in the innermost pid namespace. `None`: it is gone.
#[must_use]
pub fn own_pid(pid: u32) -> Option<u32> {
    status(pid, "NSpid:", true)
}

/// Its mount namespace, as `/proc` names it. `None`: it is gone, or hidden.
#[must_use]
pub fn mounts(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// Whether its root is the same directory as this process's: it sees the same files, but for what is mounted for it
/// alone. Its file system is not asked anything (`AT_STATX_DONT_SYNC` of statx(2)).
#[must_use]
pub fn shares_root(pid: u32) -> bool {
    let root = |of: &str| {
        let path = format!("/proc/{of}/root");
        let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
        Some((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
    };
    root("self").is_some_and(|own| root(&pid.to_string()) == Some(own))
}

/// The inode number of the socket that listens there in a process's network namespace: `/proc/PID/net/tcp`, in which
/// listeners come first (`tcp4_seq_show` in `net/ipv4/tcp_ipv4.c`). `None`: none is found.
#[must_use]
pub fn listener(pid: u32, at: SocketAddr) -> Option<u32> {
    let find = |name: &str| {
        let bytes = read(pid, name).ok()?;
        let mut lines = bytes.split(|&byte| byte == b'\n').skip(1);
        lines.find_map(|line| {
            let words = std::str::from_utf8(line).ok()?.split_whitespace();
            let words: Vec<_> = words.take(10).collect();
            let &[_, local, _, "0A", .., inode] = words.as_slice() else { return None };
            let (ip, port) = local.split_once(':')?;
            let ip = address(ip)?;
            let same = u16::from_str_radix(port, 16).ok()? == at.port()
                && (ip.is_unspecified()
                    || at.ip().is_unspecified()
                    || ip == at.ip().to_canonical());
            if same { inode.parse().ok() } else { None }
        })
    };
    find("net/tcp").or_else(|| find("net/tcp6"))
}

/// An address as it stands there: words of 32 bits in the host's order.
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if text.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let mut bytes = [0; 16];
    for (to, at) in bytes.chunks_exact_mut(4).zip((0..32).step_by(8)) {
        to.copy_from_slice(&word(at)?);
    }
    Some(IpAddr::from(bytes).to_canonical())
}

/// Roots to look for its files in: its own, then, where they share its mount namespace, its parent's and this
/// program's. A proxy that has called chroot(2) was configured, and bound its sockets, outside of its root.
///
/// # Errors
/// It is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
pub fn places(pid: u32) -> io::Result<Vec<Rooted>> {
    let mut places = vec![Rooted::of(pid)?];
    let own = mounts(pid);
    // In its own root nothing changed: then there is nowhere else.
    let confined = std::fs::read_link(format!("/proc/{pid}/root"))? != Path::new("/");
    if confined && own.is_some() {
        let others = [parent(pid), Some(std::process::id())].into_iter().flatten();
        let others = others.filter(|&other| mounts(other) == own);
        places.extend(others.filter_map(|other| Rooted::of(other).ok()));
    }
    Ok(places)
}

/// A process, and where it is; without its cgroup and its start, which [`crate::kernel::owners`] knows. `None`: it is
/// gone.
#[must_use]
pub fn located(pid: u32) -> Option<Located> {
    let bytes = read(pid, "comm").ok()?;
    let mut comm = [0; tracer_ebpf::COMM_LEN];
    let name = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    comm.iter_mut().zip(name).for_each(|(to, &from)| *to = from);
    let process = Process { pid, comm: Comm::new(comm), cgroup: None, started_ns: 0 };
    Some(Located { process, netns: netns::of_process(pid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_as_it_is() {
        let pid = std::process::id();
        assert_eq!(arguments(pid).unwrap(), std::env::args_os().collect::<Vec<_>>());
        assert_eq!(parent(pid), Some(std::os::unix::process::parent_id()));
        assert!(own_pid(pid).is_some());
        assert_eq!(places(pid).unwrap().len(), 1);
        assert!(arguments(u32::MAX).is_err());
        assert_eq!(located(u32::MAX), None);
        assert!(shares_root(pid) && !shares_root(u32::MAX));
    }

    #[test]
    fn listeners_are_found() {
        let pid = std::process::id();
        for at in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let socket = std::net::TcpListener::bind(at).unwrap();
            let at = socket.local_addr().unwrap();
            let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
            assert_eq!(listener(pid, at).map(u64::from), Some(inode), "{at}");
            drop(socket);
            assert_eq!(listener(pid, at), None);
        }
    }
}
