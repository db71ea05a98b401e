//! Network namespaces: naming one, and reading from inside it.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::fstatfs,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// `NSFS_MAGIC` of include/uapi/linux/magic.h: the file system that namespace files live on.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Process ids end here (`PID_MAX_LIMIT`); inode numbers of namespaces start far above
/// (`PROC_DYNAMIC_FIRST`, 0xF0000000).
const PID_MAX: u32 = 4_194_304;

/// Directories that hold a file for each named namespace (ip-netns(8), Docker).
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Resolves a path, an inode number or a process id to the inode number of a network namespace.
///
/// # Errors
/// Nothing there, or it is not a network namespace.
pub fn resolve(text: &str) -> Result<u32> {
    match text.parse::<u32>() {
        Ok(pid) if pid <= PID_MAX => {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            inode(&path).with_context(|| {
                format!("--netns {text}: can't find the network namespace of process {pid}")
            })
        }
        Ok(wanted) => match find(wanted) {
            Some(_) => Ok(wanted),
            None => bail!(
                "--netns {text}: no process and no file in {} has a network namespace of this inode \
                 number; `lsns -t net` lists those there are",
                NAMED.join(" or "),
            ),
        },
        Err(_) => inode(Path::new(text)).with_context(|| {
            format!(
                "--netns {text}: give a path such as /run/netns/NAME or /proc/PID/ns/net, an inode \
                 number, or a process id"
            )
        }),
    }
}

/// The inode number of a namespace file.
fn inode(path: &Path) -> Result<u32> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("can't open {shown}"))?;
    let kind = fstatfs(&file).with_context(|| format!("can't look at {shown}"))?.f_type;
    if kind != NSFS_MAGIC {
        bail!("{shown} is not a namespace");
    }
    let inode = file.metadata().with_context(|| format!("can't look at {shown}"))?.ino();
    u32::try_from(inode).with_context(|| format!("{shown} has an inode number beyond 32 bits"))
}

/// A file that stands for the namespace with this inode number: this process's, a named one's, or
/// any process's. `None`: gone, or hidden from this user.
#[must_use]
pub fn find(wanted: u32) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.ino() == u64::from(wanted))
    };
    let own = PathBuf::from("/proc/self/ns/net");
    if is_it(&own) {
        return Some(own);
    }
    let entries = |directory: &str| {
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    let named = NAMED.into_iter().flat_map(entries);
    let processes = entries("/proc").filter(|path| path.join("ns").exists());
    named.chain(processes.map(|path| path.join("ns/net"))).find(is_it)
}

/// Runs `work` inside a network namespace, on a thread of its own, so that no other thread's view
/// changes. Needs `CAP_SYS_ADMIN` unless the namespace is this process's own.
///
/// # Errors
/// The namespace is gone, entering it isn't allowed, or `work` failed.
pub fn inside<T: Send + 'static>(
    netns: u32,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = find(netns).with_context(|| format!("network namespace {netns} is gone"))?;
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        if path != Path::new("/proc/self/ns/net") {
            let file =
                File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("can't enter network namespace {netns}"))?;
        }
        work()
    });
    match thread.context("can't start a thread")?.join() {
        Ok(result) => result,
        Err(_) => bail!("reading network namespace {netns} failed unexpectedly"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_processs_own_namespace() {
        let path = "/proc/self/ns/net";
        let own = resolve(path).unwrap();
        assert_eq!(resolve(&std::process::id().to_string()).unwrap(), own);
        assert_eq!(resolve(&own.to_string()).unwrap(), own);
        assert_eq!(find(own), Some(PathBuf::from(path)));
        assert!(inside(own, || Ok(())).is_ok());
    }

    #[test]
    fn what_is_not_there_is_an_error_that_says_so() {
        let message = |text: &str| format!("{:#}", resolve(text).unwrap_err());
        assert!(message("/run/netns/no-such-name").contains("No such file"));
        assert!(message("/proc/self/status").contains("is not a namespace"));
        assert!(message("4294967295").contains("lsns -t net"));
        assert!(message("4194304").contains("process 4194304"));
    }
}
