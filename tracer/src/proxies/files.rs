//! Files as a process sees them: inside its root, wherever their names and links point.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

/// Longest file that is read.
pub const LONGEST: u64 = 16 << 20;
/// Most names of a directory.
const MOST_NAMES: usize = 65_536;

/// Where files are read from.
pub trait Files {
    /// The content of a regular file, by its absolute path.
    ///
    /// # Errors
    /// It isn't there, is no regular file, is longer than [`LONGEST`], or may not be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// It isn't there, is no directory, or may not be read.
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>>;
}

/// The files of a process. Links are followed inside its root only (`RESOLVE_IN_ROOT` of openat2(2)): what a
/// container's link points to is read in the container, never on the host.
#[derive(Debug)]
pub struct Rooted {
    root: OwnedFd,
    /// The process's current directory, as it sees it.
    pub cwd: PathBuf,
}

impl Rooted {
    /// Those of a process.
    ///
    /// # Errors
    /// It is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
    pub fn of(pid: u32) -> io::Result<Self> {
        let path = |name| format!("/proc/{pid}/{name}");
        let root =
            openat(CWD, path("root"), flags(OFlags::PATH | OFlags::DIRECTORY), Mode::empty())?;
        let (cwd, seen) = (std::fs::read_link(path("cwd"))?, std::fs::read_link(path("root"))?);
        // Of a chroot the link shows where it is outside.
        let inside = cwd.strip_prefix(&seen).unwrap_or(&cwd);
        Ok(Self { root, cwd: Path::new("/").join(inside) })
    }

    /// When a file was changed last.
    ///
    /// # Errors
    /// It isn't there, or may not be reached.
    pub fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        File::from(self.find(path)?).metadata()?.modified()
    }

    /// Opens what is there without reading it, such as a socket.
    ///
    /// # Errors
    /// It isn't there, or may not be reached.
    pub fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH)
    }

    fn open(&self, path: &Path, how: OFlags) -> io::Result<OwnedFd> {
        let path = self.cwd.join(path);
        Ok(openat2(&self.root, &path, flags(how), Mode::empty(), ResolveFlags::IN_ROOT)?)
    }
}

fn flags(how: OFlags) -> OFlags {
    how | OFlags::CLOEXEC
}

impl Files for Rooted {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Opening a pipe would wait for a writer.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("no regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(LONGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LONGEST {
            return Err(io::Error::other(format!("longer than {} MiB", LONGEST >> 20)));
        }
        Ok(bytes)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let entries = Dir::new(self.open(directory, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
        let mut names = Vec::new();
        for entry in entries.take(MOST_NAMES) {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(std::ffi::OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_this_process() -> Rooted {
        Rooted::of(std::process::id()).unwrap()
    }

    #[test]
    fn reads_as_the_process_would() {
        let directory = tempfile::tempdir().unwrap();
        let (b, a) = (directory.path().join("b"), directory.path().join("a"));
        std::fs::write(&b, "text").unwrap();
        std::os::unix::fs::symlink(&b, &a).unwrap();
        let files = of_this_process();
        assert_eq!(files.read(&a).unwrap(), b"text");
        assert_eq!(files.names(directory.path()).unwrap(), ["a", "b"]);
        assert!(files.read(directory.path()).is_err());
        assert_eq!(files.cwd, std::env::current_dir().unwrap());
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(files.read(&pipe).unwrap_err().to_string(), "no regular file");
    }

    #[test]
    fn a_link_does_not_lead_outside() {
        let directory = tempfile::tempdir().unwrap();
        let root = openat(CWD, directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let inside = Rooted { root: root.unwrap(), cwd: PathBuf::from("/") };
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("up")).unwrap();
        std::os::unix::fs::symlink("../../../etc/passwd", directory.path().join("dots")).unwrap();
        for path in ["/up", "/dots", "/../../etc/passwd"] {
            let error = inside.read(Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
        }
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("etc/passwd"), "own").unwrap();
        assert_eq!(inside.read(Path::new("up")).unwrap(), b"own");
    }
}
