//! What the host says of a proxy's process, beside its sockets: `/proc`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStringExt,
    path::Path,
};

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

/// Roots to look for its files in: its own, then, where they share its mount namespace, its parent's and this
/// program's. A proxy that has called chroot(2) was configured, and bound its sockets, outside of its root.
///
/// # Errors
/// It is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
pub fn places(pid: u32) -> io::Result<Vec<Rooted>> {
    let mut places = vec![Rooted::of(pid)?];
    let mounts = |pid| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
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
    }
}
