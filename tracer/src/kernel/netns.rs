//! Network namespaces: naming one, and reading from inside it.

use std::{
    collections::HashMap,
    fs::File,
    io,
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

/// This thread's own: a thread that is started inherits it.
const OWN: &str = "/proc/thread-self/ns/net";

/// The entries of a directory; none when it can't be read.
fn entries(directory: &str) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// What stands for the namespaces there are: this thread's own, named ones, those of processes.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.first().is_some_and(u8::is_ascii_digit)
    };
    let processes = entries("/proc").filter(is_process).map(|path| path.join("ns/net"));
    std::iter::once(PathBuf::from(OWN)).chain(NAMED.into_iter().flat_map(entries)).chain(processes)
}

/// A file that stands for the namespace with this inode number: this thread's, a named one's, or
/// any process's. `None`: gone, or hidden from this user.
#[must_use]
pub fn find(wanted: u32) -> Option<PathBuf> {
    candidates()
        .find(|path| std::fs::metadata(path).is_ok_and(|found| found.ino() == u64::from(wanted)))
}

/// The network namespaces that can be found.
#[derive(Debug, Default)]
pub struct All {
    /// A file for each, by inode number.
    pub namespaces: HashMap<u32, PathBuf>,
    /// What could not be looked at, in a person's words.
    pub unreadable: Vec<String>,
}

/// Every network namespace that has a name or a process in it. One that only an open file, a
/// socket or a single thread keeps alive isn't found.
#[must_use]
pub fn all() -> All {
    let mut all = All::default();
    let mut processes = 0_usize;
    for path in candidates() {
        let own_kind = path.starts_with("/proc");
        let inode = if own_kind { link(&path) } else { named(&path) };
        match inode {
            Ok(Some(inode)) => {
                all.namespaces.entry(inode).or_insert(path);
            }
            // A process that is gone, or a name that was given up.
            Ok(None) => {}
            Err(error) if gone(&error) => {}
            Err(_) if own_kind => processes += 1,
            Err(error) => all.unreadable.push(format!("can't look at {}: {error}", path.display())),
        }
    }
    if processes > 0 {
        all.unreadable.push(format!(
            "processes whose network namespace is hidden from this user (needs CAP_SYS_PTRACE): \
             {processes}"
        ));
    }
    all
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
}

/// This thread's own network namespace. `None`: `/proc` isn't mounted.
#[must_use]
pub fn own() -> Option<u32> {
    link(Path::new(OWN)).ok()?
}

/// The network namespace of a process. `None`: it is gone, or hidden.
#[must_use]
pub fn of_process(pid: u32) -> Option<u32> {
    link(Path::new(&format!("/proc/{pid}/ns/net"))).ok()?
}

/// The number in `net:[4026531840]`.
fn link(path: &Path) -> io::Result<Option<u32>> {
    let target = std::fs::read_link(path)?;
    let digits = target.to_str().and_then(|target| target.strip_prefix("net:[")?.strip_suffix(']'));
    Ok(digits.and_then(|digits| digits.parse().ok()))
}

/// The inode number of a named namespace; `None`: a file that isn't one.
fn named(path: &Path) -> io::Result<Option<u32>> {
    let file = File::open(path)?;
    let is_namespace = fstatfs(&file)?.f_type == NSFS_MAGIC;
    Ok(if is_namespace { u32::try_from(file.metadata()?.ino()).ok() } else { None })
}

/// Runs `work` inside a network namespace, on a thread of its own, so that no other thread's view
/// changes. Needs `CAP_SYS_ADMIN` unless the namespace is this thread's own.
///
/// # Errors
/// The namespace is gone, entering it isn't allowed, or `work` failed.
pub fn inside<T: Send + 'static>(
    netns: u32,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = find(netns).with_context(|| format!("network namespace {netns} is gone"))?;
    inside_at(netns, path, work)
}

/// Likewise, with a file that is known to stand for the namespace, as [`all`] gives it.
///
/// # Errors
/// The file stands for another one meanwhile, entering it isn't allowed, or `work` failed.
pub fn inside_at<T: Send + 'static>(
    netns: u32,
    path: PathBuf,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        let is_it = |inode: u64| inode == u64::from(netns);
        if !std::fs::metadata(OWN).is_ok_and(|own| is_it(own.ino())) {
            let shown = path.display();
            let file = File::open(&path).with_context(|| format!("can't open {shown}"))?;
            // The process id in it may be another process's by now.
            if !file.metadata().is_ok_and(|found| is_it(found.ino())) {
                bail!("{shown} is network namespace {netns} no more");
            }
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
        assert_eq!(find(own), Some(PathBuf::from(OWN)));
        assert!(inside(own, || Ok(())).is_ok());
        assert!(all().namespaces.contains_key(&own));
    }

    #[test]
    fn a_process_id_that_is_used_again_does_not_mislead() {
        let wrong = inside_at(1, PathBuf::from(OWN), || Ok(()));
        assert!(wrong.unwrap_err().to_string().contains("is network namespace 1 no more"));
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
