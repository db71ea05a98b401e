//! Which process has a socket open, from `/proc/*/fd`.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ffi::CStr,
    io,
};

use anyhow::{Context, Result};
use rustix::{
    fs::{AtFlags, OFlags, readlinkat_raw, statat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

pub use super::process::Process;
use super::process::{Proc, directory, each_number, number};

#[cfg(test)]
pub(super) mod tests;

/// Most sockets whose holders are remembered.
const MAX_SOCKETS: usize = 4_000_000;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// Every socket of every process.
    All,
    /// Every socket of these processes; whether others have it open too isn't known.
    Pids(&'a [u32]),
    /// The sockets with these inode numbers, in every process.
    Inodes(&'a HashSet<u32>),
    /// Likewise, but only until each has been found once: whether several processes have one of
    /// them open isn't known.
    AnyHolder(&'a HashSet<u32>),
}

/// Who has a socket open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// This process alone.
    One(&'a Process),
    /// Several: passed on across `fork()`, or over a Unix socket.
    Several {
        /// The cgroup, when all of them are in the same.
        cgroup: Option<u64>,
    },
}

/// The open files of a process that has sockets open, or was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFiles {
    /// Who.
    pub process: Process,
    /// How many descriptors are open.
    pub open: u64,
    /// How many of these have numbers below the soft limit: the others are left from before it was
    /// lowered, and take no number that could be given out.
    pub below_limit: u64,
    /// How many of these are sockets, of any kind.
    pub sockets: u64,
    /// How many of the sockets no other process has open that was looked at. After [`Owners::recount`]: as many more
    /// or fewer as files are open since.
    #[serde(skip)]
    pub alone: u64,
    /// That was concluded so.
    #[serde(skip)]
    pub alone_inferred: bool,
    /// Soft `RLIMIT_NOFILE`: numbers of descriptors stay below.
    pub soft: u64,
    /// Hard `RLIMIT_NOFILE`.
    pub hard: u64,
}

/// Sockets and who has them open.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Owners {
    processes: Vec<Process>,
    /// The open files of the processes, with [`Look::All`] and [`Look::Pids`].
    pub files: Vec<OpenFiles>,
    held: HashMap<u32, Held>,
    /// Processes whose open files this user may not see.
    pub denied: usize,
    /// Sockets that there was no room for.
    pub unlisted: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Held {
    /// Index of the first one found.
    process: usize,
    shared: bool,
    cgroup: Option<u64>,
}

impl Owners {
    /// One pass over the processes. A process that ends, or a file that is closed, meanwhile is
    /// skipped, and so is what a process gets that was passed already.
    ///
    /// # Errors
    /// `/proc` isn't mounted or can't be listed.
    pub fn find(look: Look<'_>) -> Result<Self> {
        let mut proc = Proc::open().context("can't open /proc")?;
        let pids = match look {
            Look::Pids(pids) => pids.to_vec(),
            _ => proc.pids().context("can't list /proc")?,
        };
        let mut owners = Self::default();
        let mut inodes = Vec::new();
        for pid in pids {
            if matches!(look, Look::AnyHolder(wanted) if owners.held.len() == wanted.len()) {
                break;
            }
            inodes.clear();
            let Ok(at) = proc.directory(pid) else { continue };
            let counted = matches!(look, Look::All | Look::Pids(_));
            let limits = if counted { proc.file_limits(&at) } else { None };
            let (mut open, mut below_limit) = (0, 0);
            let each = |number: u32| {
                open += 1;
                below_limit += u64::from(limits.is_some_and(|(soft, _)| u64::from(number) < soft));
            };
            let read = directory(&at, c"fd", OFlags::RDONLY)
                .and_then(|files| sockets(&files, look, &mut inodes, each));
            if read.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                owners.denied += 1;
            }
            // Who is asked for by name is told of, whatever he has open.
            if (!inodes.is_empty() || matches!(look, Look::Pids(_)))
                && let Some(process) = proc.process(pid, &at)
            {
                if let Some((soft, hard)) = limits {
                    let sockets = inodes.len() as u64;
                    owners.files.push(OpenFiles {
                        process,
                        open,
                        below_limit,
                        sockets,
                        alone: 0,
                        alone_inferred: false,
                        soft,
                        hard,
                    });
                }
                owners.add(process, &inodes);
            }
        }
        owners.count_alone();
        Ok(owners)
    }

    fn count_alone(&mut self) {
        let mut alone = vec![0; self.processes.len()];
        for held in self.held.values().filter(|held| !held.shared) {
            alone[held.process] += 1;
        }
        let by_pid: HashMap<u32, u64> =
            self.processes.iter().map(|process| process.pid).zip(alone).collect();
        for files in &mut self.files {
            files.alone = by_pid.get(&files.process.pid).copied().unwrap_or(0);
        }
    }

    /// Forgets the other processes.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let kept: Vec<bool> = self.processes.iter().map(|process| keep(process.pid)).collect();
        self.files.retain(|files| keep(files.process.pid));
        self.held.retain(|_, held| kept[held.process]);
        let mut index = 0;
        let places: Vec<usize> = kept
            .iter()
            .map(|&kept| {
                index += usize::from(kept);
                index.saturating_sub(1)
            })
            .collect();
        for held in self.held.values_mut() {
            held.process = places[held.process];
        }
        let mut kept = kept.into_iter();
        self.processes.retain(|_| kept.next().unwrap_or(false));
    }

    /// Counts the open files of the same processes again, and forgets those that have ended. Who has which
    /// socket open stays as it was found: that costs some 3 µs for each open file, this hardly anything.
    ///
    /// # Errors
    /// `/proc` isn't mounted.
    pub fn recount(&mut self) -> Result<()> {
        let mut proc = Proc::open().context("can't open /proc")?;
        self.files.retain_mut(|files| {
            let Ok(at) = proc.directory(files.process.pid) else { return false };
            let same = proc.process(files.process.pid, &at);
            if same.is_none_or(|now| now.started_ns != files.process.started_ns) {
                return false;
            }
            let Some((soft, hard)) = proc.file_limits(&at) else { return true };
            // Since Linux 6.2 the directory's size says how many there are (`proc_fd_getattr` in fs/proc/fd.c).
            let told = (files.open == files.below_limit && soft >= files.soft)
                .then(|| statat(&at, c"fd", AtFlags::empty()).ok())
                .flatten()
                .and_then(|fd| u64::try_from(fd.st_size).ok())
                .filter(|&size| size > 0);
            let (mut open, mut below_limit) = (0, 0);
            if let Some(told) = told {
                (open, below_limit) = (told, told);
            } else {
                let listed = directory(&at, c"fd", OFlags::RDONLY).and_then(|fd| {
                    let count = |number, _: &CStr| {
                        open += 1;
                        below_limit += u64::from(u64::from(number) < soft);
                    };
                    Ok(each_number(&fd, count)?)
                });
                if listed.is_err() {
                    return true;
                }
            }
            files.alone = (files.alone + open).saturating_sub(files.open);
            files.alone_inferred |= files.open != open;
            (files.open, files.below_limit) = (open, below_limit);
            (files.soft, files.hard) = (soft, hard);
            true
        });
        Ok(())
    }

    /// Who has the socket with this inode number open. `None`: nobody that was seen.
    #[must_use]
    pub fn of(&self, inode: u32) -> Option<Holder<'_>> {
        let held = self.held.get(&inode)?;
        Some(if held.shared {
            Holder::Several { cgroup: held.cgroup }
        } else {
            Holder::One(self.processes.get(held.process)?)
        })
    }

    /// How many sockets were found.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.held.len()
    }

    fn add(&mut self, process: Process, inodes: &[u32]) {
        let index = self.processes.len();
        self.processes.push(process);
        for &inode in inodes {
            let full = self.held.len() >= MAX_SOCKETS;
            match self.held.entry(inode) {
                Entry::Vacant(_) if full => self.unlisted += 1,
                Entry::Vacant(entry) => {
                    let cgroup = process.cgroup;
                    entry.insert(Held { process: index, shared: false, cgroup });
                }
                Entry::Occupied(mut entry) => {
                    let held = entry.get_mut();
                    if held.process != index {
                        held.shared = true;
                        held.cgroup = held.cgroup.filter(|_| held.cgroup == process.cgroup);
                    }
                }
            }
        }
    }
}

/// The inode numbers of the sockets that a process has open; none where it is gone or hidden.
#[must_use]
pub fn socket_inodes(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let files =
        Proc::open().and_then(|proc| directory(&proc.directory(pid)?, c"fd", OFlags::RDONLY));
    if let Ok(files) = files {
        // What was found until it ended is all that there is.
        let _ = sockets(&files, Look::All, &mut found, |_| ());
    }
    found
}

/// Appends the inode numbers of the sockets among a process's open files.
/// Gives the number of each open file to `each`.
fn sockets(
    files: &std::os::fd::OwnedFd,
    look: Look<'_>,
    found: &mut Vec<u32>,
    mut each: impl FnMut(u32),
) -> io::Result<()> {
    let mut denied = false;
    let mut target = [0; 64];
    each_number(files, |number, name| {
        each(number);
        match readlinkat_raw(files, name, &mut target) {
            Ok(length) => {
                let wanted = |inode: &u32| match look {
                    Look::All | Look::Pids(_) => true,
                    Look::Inodes(wanted) | Look::AnyHolder(wanted) => wanted.contains(inode),
                };
                found.extend(inode(&target[..length]).filter(wanted));
            }
            Err(error) => denied |= error == Errno::ACCESS,
        }
    })?;
    if denied { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

/// The number in `socket:[4711]`.
fn inode(target: &[u8]) -> Option<u32> {
    number(target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}
