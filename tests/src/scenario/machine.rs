//! The place that the scenario runs in: a virtual machine of its own, or namespaces of its own.

use std::{
    fs::{self, File},
    mem,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        reboot::{RebootMode, reboot},
        resource::{Resource, setrlimit},
    },
};
use socklife_tests::wait_for;

/// The second serial line: results alone, no word of the kernel.
pub(crate) const RESULTS: &str = "/dev/ttyS1";

const MOUNTS: [(&str, &str); 7] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];

/// What an init does, as far as it is needed here.
pub(crate) fn set_up() -> Result<()> {
    for (kind, at) in MOUNTS {
        if !Path::new(at).is_dir() {
            fs::create_dir(at).with_context(|| at.to_owned())?;
        }
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("can't mount {kind} at {at}"))?;
    }
    for module in fs::read_to_string("/modules/order").context("/modules/order")?.lines() {
        let file = File::open(format!("/modules/{module}")).with_context(|| module.to_owned())?;
        finit_module(file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("can't load module {module}"))?;
    }
    let open_files = 65_536;
    setrlimit(Resource::RLIMIT_NOFILE, open_files, open_files).context("RLIMIT_NOFILE")?;
    loopback_up()
}

/// Values of a word of the kernel's command line, such as `name=a,b`.
pub(crate) fn asked(name: &str) -> Result<Vec<String>> {
    let line = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let values = value.unwrap_or_default().split(',').filter(|value| !value.is_empty());
    Ok(values.map(str::to_owned).collect())
}

/// Network and mount namespaces of our own, so that sysctls, ports and mounts are nobody else's.
pub(crate) fn step_aside() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("can't make namespaces; this needs root")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
    let tracing = "/sys/kernel/tracing";
    if !Path::new(tracing).join("events").is_dir() {
        mount(Some("tracefs"), tracing, Some("tracefs"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("can't mount tracefs at {tracing}"))?;
    }
    loopback_up()
}

/// Sets a sysctl below `net.ipv4` in this thread's network namespace.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    fs::write(&path, value).with_context(|| format!("can't write {value} to {path}"))
}

/// This thread's network namespace.
pub(crate) fn netns() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    Ok(fs::metadata(path).context(path)?.ino())
}

/// A network namespace for a while: until this is dropped.
pub(crate) struct Elsewhere(File);

impl Elsewhere {
    /// Enters a new one, with an `lo` that is up.
    pub(crate) fn new() -> Result<Self> {
        let back = Self(File::open("/proc/thread-self/ns/net").context("/proc/thread-self")?);
        unshare(CloneFlags::CLONE_NEWNET).context("can't make a network namespace")?;
        loopback_up()?;
        Ok(back)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            // All that follows would run in the wrong place.
            println!("can't go back to the network namespace: {error}");
            std::process::exit(1);
        }
    }
}

fn loopback_up() -> Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("a socket")?;
    // SAFETY: all zeros is a valid request: no name, no flags.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
    // SAFETY: this request reads an `ifreq`, which lives through the call.
    let outcome =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    ensure!(outcome == 0, "can't bring lo up: {}", std::io::Error::last_os_error());
    wait_for("the addresses of lo", || {
        let both = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()
            && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        Ok(both.then_some(()))
    })
}

/// Says what went wrong and powers off: a process 1 that just ends would panic the kernel.
pub(crate) fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        println!("socklife-scenario: {panic}");
        power_off();
    }));
}

/// Ends the virtual machine.
pub(crate) fn power_off() -> ! {
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    println!("can't power off: {error}");
    std::process::exit(1)
}

/// Waits until every softirq that runs now has ended: a grace period of RCU (membarrier(2)).
pub(crate) fn wait_for_softirqs() -> Result<()> {
    const GLOBAL: libc::c_long = 1;
    // SAFETY: takes plain numbers.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    ensure!(outcome == 0, "membarrier: {}", std::io::Error::last_os_error());
    Ok(())
}
