//! Files as a process sees them: inside its root, wherever their names and links point.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, open, openat, openat2,
};

/// Longest file that is read.
pub const LONGEST: u64 = 16 << 20;
/// Most names of a directory.
const MOST_NAMES: usize = 65_536;

/// File systems whose files are the kernel's own words, by their numbers in include/uapi/linux/magic.h: to read one
/// may wait (`/proc/kmsg`), take away what others wait for, or do something.
const KERNELS_OWN: [u32; 17] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x6e73_6673, // nsfs
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x0765_5821, // resctrl
];

/// Opens for reading what was found with `O_PATH`, once it is known to be a regular file that is stored somewhere: to
/// open anything else may do something (a watchdog starts, a tape rewinds) or wait.
///
/// # Errors
/// It is something else, of [`io::ErrorKind::InvalidInput`], or may not be read.
pub fn open_found(found: &OwnedFd) -> io::Result<File> {
    let refused = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    match FileType::from_raw_mode(fstat(found)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(refused("a directory, no regular file")),
        FileType::Fifo => return Err(refused("a FIFO, no regular file")),
        FileType::Socket => return Err(refused("a socket, no regular file")),
        FileType::CharacterDevice | FileType::BlockDevice => {
            return Err(refused("a device, no regular file"));
        }
        _ => return Err(refused("no regular file")),
    }
    // The type of the number differs between architectures: it has 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits")]
    let system = fstatfs(found)?.f_type as u32;
    if KERNELS_OWN.contains(&system) {
        return Err(refused("a file of the kernel's own (procfs, sysfs and the like), not stored"));
    }
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(open(path, flags(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY), Mode::empty())?.into())
}

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
        let mut bytes = Vec::new();
        open_found(&self.find(path)?)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
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
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

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
        assert_eq!(files.cwd, std::env::current_dir().unwrap());
    }

    #[test]
    fn what_is_no_regular_file_is_not_even_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, socket) = (directory.path().join("pipe"), directory.path().join("socket"));
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&opened, &pipe, WatchFlags::OPEN).unwrap();
        let files = of_this_process();
        for (path, what) in [
            (pipe.as_path(), "a FIFO"),
            (directory.path(), "a directory"),
            (&socket, "a socket"),
            (Path::new("/dev/null"), "a device"),
            (Path::new("/proc/kmsg"), "a file of the kernel's own"),
            (Path::new("/sys/kernel/notes"), "a file of the kernel's own"),
        ] {
            let error = files.read(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().starts_with(what), "{error}");
        }
        let events = rustix::io::read(&opened, &mut [0; 4096]);
        assert_eq!(events, Err(rustix::io::Errno::AGAIN));
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
