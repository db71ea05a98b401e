//! Processes, read from `/proc`.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat, stat},
    io::{Errno, read},
};
use serde::{Deserialize, Serialize};
use tracer_ebpf::COMM_LEN;

use super::cgroup;
use crate::event::Comm;

/// Bytes of a directory read at a time.
const DIRECTORY: usize = 16 << 10;
/// Longest file that is read here: `/proc/PID/cgroup`, a path for each hierarchy.
const LONGEST: usize = 64 << 10;
/// Most cgroups whose ids are remembered during a pass.
const MAX_CGROUPS: usize = 65_536;

/// A process, as far as sockets are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id, in the pid namespace that `/proc` shows.
    pub pid: u32,
    /// Name of its main thread.
    pub comm: Comm,
    /// Cgroup id (inode of its directory in the cgroup2 hierarchy). `None`: no such hierarchy is
    /// mounted, or the cgroup is outside of what is visible here.
    pub cgroup: Option<u64>,
    /// When it started: nanoseconds since boot (`CLOCK_BOOTTIME`), to the hundredth of a second.
    pub started_ns: u64,
}

/// `/proc`, opened, with what is remembered while going through it.
#[derive(Debug)]
pub(super) struct Proc {
    root: OwnedFd,
    cgroup_root: Option<PathBuf>,
    cgroup_ids: HashMap<Vec<u8>, Option<u64>>,
    tick_ns: u64,
    text: Vec<u8>,
}

impl Proc {
    /// # Errors
    /// `/proc` isn't mounted.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            root: directory(CWD, c"/proc", OFlags::RDONLY)?,
            cgroup_root: cgroup::mount_point(),
            cgroup_ids: HashMap::new(),
            tick_ns: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1),
            text: Vec::new(),
        })
    }

    /// Ids of all processes that are visible, in order.
    ///
    /// # Errors
    /// `/proc` can't be listed.
    pub(super) fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        each_number(&self.root, |pid, _| pids.push(pid))?;
        Ok(pids)
    }

    /// The directory of a process: all that is opened in it later is of this process, even when
    /// its id is given to another one.
    pub(super) fn directory(&self, pid: u32) -> io::Result<OwnedFd> {
        directory(&self.root, pid.to_string().as_str(), OFlags::PATH)
    }

    /// Reads what is to be known of a process. `None`: it is gone.
    pub(super) fn process(&mut self, pid: u32, at: &OwnedFd) -> Option<Process> {
        let comm = comm(self.read(at, c"comm")?);
        let ticks = start_time(self.read(at, c"stat")?)?;
        let path = cgroup_path(self.read(at, c"cgroup").unwrap_or_default()).map(<[u8]>::to_vec);
        let cgroup = path.and_then(|path| self.cgroup_id(path));
        Some(Process { pid, comm, cgroup, started_ns: ticks.saturating_mul(self.tick_ns) })
    }

    /// Soft and hard `RLIMIT_NOFILE` of a process. `None`: it is gone, or hidden.
    pub(super) fn file_limits(&mut self, at: &OwnedFd) -> Option<(u64, u64)> {
        file_limits(self.read(at, c"limits")?)
    }

    fn cgroup_id(&mut self, path: Vec<u8>) -> Option<u64> {
        if let Some(&id) = self.cgroup_ids.get(&path) {
            return id;
        }
        let below = OsStr::from_bytes(path.strip_prefix(b"/")?);
        let id = stat(self.cgroup_root.as_ref()?.join(below)).ok().map(|found| found.st_ino);
        if self.cgroup_ids.len() < MAX_CGROUPS {
            self.cgroup_ids.insert(path, id);
        }
        id
    }

    fn read(&mut self, at: &OwnedFd, name: &CStr) -> Option<&[u8]> {
        let file = openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        self.text.resize(LONGEST, 0);
        let mut length = 0;
        loop {
            match read(&file, &mut self.text[length..]) {
                Ok(0) => return Some(&self.text[..length]),
                Ok(more) => length += more,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Opens a directory.
pub(super) fn directory(
    at: impl AsFd,
    name: impl rustix::path::Arg,
    access: OFlags,
) -> io::Result<OwnedFd> {
    Ok(openat(at, name, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Gives every entry of a directory that is a number to `each`, with its name.
pub(super) fn each_number(
    directory: &OwnedFd,
    mut each: impl FnMut(u32, &CStr),
) -> rustix::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); DIRECTORY];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if let Some(number) = number(entry.file_name().to_bytes()) {
            each(number, entry.file_name());
        }
    }
    Ok(())
}

/// A number in decimal digits.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    // `parse` would take a sign.
    let plain = digits.first().is_some_and(u8::is_ascii_digit);
    if plain { str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

fn comm(text: &[u8]) -> Comm {
    let name = text.strip_suffix(b"\n").unwrap_or(text);
    let mut padded = [0; COMM_LEN];
    let length = name.len().min(COMM_LEN - 1);
    padded[..length].copy_from_slice(&name[..length]);
    Comm::new(padded)
}

/// Field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`). The name before may hold anything.
fn start_time(text: &[u8]) -> Option<u64> {
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let mut fields = text[name_end + 1..].split(u8::is_ascii_whitespace).skip(1);
    // The first field after the name is the third of all.
    str::from_utf8(fields.nth(22 - 3)?).ok()?.parse().ok()
}

/// The line `Max open files  1024  4096  files` (`proc_pid_limits` in `fs/proc/base.c`).
fn file_limits(text: &[u8]) -> Option<(u64, u64)> {
    let line = str::from_utf8(text).ok()?.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let mut words = line.split_whitespace();
    Some((number(words.next()?)?, number(words.next()?)?))
}

/// The path in the cgroup2 hierarchy. `None`: in none, or outside of what is visible here, which
/// the kernel shows as `/..`.
fn cgroup_path(text: &[u8]) -> Option<&[u8]> {
    let path = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    (!path.starts_with(b"/..")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ring::boot_time_ns;

    #[test]
    fn reads_this_process() {
        let mut proc = Proc::open().unwrap();
        let pid = std::process::id();
        assert!(proc.pids().unwrap().contains(&pid));
        let directory = proc.directory(pid).unwrap();
        let own = proc.process(pid, &directory).unwrap();
        let name = std::fs::read("/proc/self/comm").unwrap();
        assert_eq!((own.pid, own.comm.bytes()), (pid, name.trim_ascii_end()));
        assert!(own.started_ns > 0 && own.started_ns < boot_time_ns(), "{own:?}");
    }

    #[test]
    fn hostile_names_and_odd_cgroups() {
        let stat = b"7 (a) b) (c\n) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20\n";
        assert_eq!(start_time(stat), Some(4711));
        assert_eq!(start_time(b"7 (a) S 1"), None);
        assert_eq!(start_time(b""), None);
        assert_eq!(comm(b"a\nb\n").bytes(), b"a\nb");
        assert_eq!(comm(&[b'x'; 64]).bytes(), [b'x'; 15]);
        assert_eq!(cgroup_path(b"1:cpu:/x\n0::/a/b\n"), Some(&b"/a/b"[..]));
        assert_eq!(cgroup_path(b"0::/../other\n"), None);
        assert_eq!(cgroup_path(b"1:cpu:/x\n"), None);
        let limits = b"Limit     Soft   Hard  Units\nMax open files   1024  unlimited  files\n";
        assert_eq!(file_limits(limits), Some((1024, u64::MAX)));
        assert_eq!(file_limits(b"Max open files\n"), None);
        assert_eq!(number(b"17"), Some(17));
        assert_eq!((number(b"+17"), number(b"-1"), number(b"."), number(b"")), Default::default());
    }
}
