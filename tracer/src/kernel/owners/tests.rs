use std::{
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::fstat;

use super::*;

/// A child that has a socket open, until dropped.
pub(in crate::kernel) struct Heir(Child);

impl Heir {
    pub(in crate::kernel) fn of(socket: OwnedFd) -> Self {
        Self(Command::new("sleep").arg("60").stdin(Stdio::from(socket)).spawn().unwrap())
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `check` gives, waited for: between its `fork()` and its `exec()` a child of a test that
/// runs beside has this process's sockets too.
pub(in crate::kernel) fn eventually<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn only_holder(look: Look<'_>, inode: u32) -> Process {
    eventually(|| match Owners::find(look).unwrap().of(inode) {
        Some(Holder::One(&owner)) => Some(owner),
        _ => None,
    })
}

#[test]
fn forgets_the_others() {
    let process = |pid| Process {
        pid,
        comm: crate::event::Comm::new([b'a'; 16]),
        cgroup: None,
        started_ns: 0,
    };
    let mut owners = Owners::default();
    for pid in [10, 20, 30] {
        owners.add(process(pid), &[pid]);
    }
    owners.retain(|pid| pid != 20);
    assert_eq!(owners.of(10), Some(Holder::One(&process(10))));
    assert_eq!(owners.of(20), None);
    assert_eq!(owners.of(30), Some(Holder::One(&process(30))));
}

#[test]
fn counts_anew_without_a_new_look() {
    let own = std::process::id();
    let mut owners = Owners::find(Look::Pids(&[own])).unwrap();
    let before = owners.files[0];
    let more: Vec<_> = (0..5).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    owners.recount().unwrap();
    // Other tests open files meanwhile.
    assert!(owners.files[0].open >= before.open, "{before:?} {:?}", owners.files[0]);
    let listed = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    assert!(listed.abs_diff(owners.files[0].open) < 20, "{listed} {:?}", owners.files[0]);
    drop(more);
    owners.files[0].process.started_ns += 1;
    owners.recount().unwrap();
    assert!(owners.files.is_empty(), "another process of the same id");
}

fn inode_of(socket: &impl std::os::fd::AsFd) -> u32 {
    u32::try_from(fstat(socket).unwrap().st_ino).unwrap()
}

#[test]
fn finds_this_process() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let twice = socket.try_clone().unwrap();
    let inode = inode_of(&twice);
    let pid = std::process::id();
    let wanted = HashSet::from([inode]);
    for look in [Look::All, Look::Pids(&[pid]), Look::Inodes(&wanted), Look::AnyHolder(&wanted)] {
        assert_eq!(only_holder(look, inode).pid, pid);
    }
    assert_eq!(Owners::find(Look::Inodes(&wanted)).unwrap().sockets(), 1);
    assert_eq!(Owners::find(Look::Pids(&[])).unwrap().sockets(), 0);
    assert_eq!(Owners::find(Look::Pids(&[u32::MAX])).unwrap().of(inode), None);
}

#[test]
fn a_socket_of_several_processes_has_no_owner() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let inode = inode_of(&socket);
    let heir = Heir::of(socket.try_clone().unwrap().into());
    let wanted = HashSet::from([inode]);
    let owners = Owners::find(Look::Inodes(&wanted)).unwrap();
    assert!(matches!(owners.of(inode), Some(Holder::Several { .. })), "{:?}", owners.of(inode));

    drop(socket);
    let owner = only_holder(Look::Inodes(&wanted), inode);
    assert_eq!(owner.pid, heir.0.id());
    assert_eq!(owner.comm.bytes(), b"sleep");
}

#[test]
fn cgroups_of_several_must_agree() {
    let process = |pid, cgroup| Process {
        pid,
        comm: crate::event::Comm::new([0; tracer_ebpf::COMM_LEN]),
        cgroup,
        started_ns: 0,
    };
    let mut owners = Owners::default();
    owners.add(process(1, Some(5)), &[10, 11, 12, 12]);
    owners.add(process(2, Some(5)), &[10, 11]);
    owners.add(process(3, Some(6)), &[11]);
    owners.add(process(4, Some(5)), &[11]);
    assert_eq!(owners.of(10), Some(Holder::Several { cgroup: Some(5) }));
    assert_eq!(owners.of(11), Some(Holder::Several { cgroup: None }));
    assert!(matches!(owners.of(12), Some(Holder::One(owner)) if owner.pid == 1));
}

#[test]
fn only_sockets_have_such_links() {
    assert_eq!(inode(b"socket:[4711]"), Some(4711));
    for other in [&b"socket:[]"[..], b"socket:[+1]", b"pipe:[4711]", b"/socket:[1]", b"socket:[1"] {
        assert_eq!(inode(other), None);
    }
}
