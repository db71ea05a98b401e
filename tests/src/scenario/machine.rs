//! The place that the scenario runs in: a virtual machine of its own, or namespaces of its own.

use std::{
    ffi::CStr,
    fs::{self, File},
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpListener},
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

/// `uname -r`
pub(crate) fn kernel() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    Ok(fs::read_to_string(path).context(path)?.trim().to_owned())
}

/// The first two numbers of that.
pub(crate) fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
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
        let back = Self(Self::here()?);
        unshare(CloneFlags::CLONE_NEWNET).context("can't make a network namespace")?;
        loopback_up()?;
        Ok(back)
    }

    /// Goes back into one that [`Self::here`] gave.
    pub(crate) fn again(netns: &File) -> Result<Self> {
        let back = Self(Self::here()?);
        setns(netns, CloneFlags::CLONE_NEWNET).context("can't enter a network namespace")?;
        Ok(back)
    }

    /// This thread's own, which lives as long as this.
    pub(crate) fn here() -> Result<File> {
        let path = "/proc/thread-self/ns/net";
        File::open(path).context(path)
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

/// Gives `lo` one more address, and with it all of that class-A network (netdevice(7)).
pub(crate) fn add_to_loopback(address: Ipv4Addr) -> Result<()> {
    let mut request = request(c"lo:1");
    let address = socket2::SockAddr::from(SocketAddrV4::new(address, 0));
    // SAFETY: an address of IPv4 is as long as a `sockaddr`.
    request.ifr_ifru.ifru_addr = unsafe { address.as_ptr().cast::<libc::sockaddr>().read() };
    configure(libc::SIOCSIFADDR, &request).context("can't add an address to lo")
}

/// About an interface.
fn request(name: &CStr) -> libc::ifreq {
    // SAFETY: all zeros is a valid request: no name, no flags.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn configure(what: libc::Ioctl, request: &libc::ifreq) -> Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("a socket")?;
    // SAFETY: these requests read an `ifreq`, which lives through the call.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const *request) };
    ensure!(outcome == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

fn loopback_up() -> Result<()> {
    let mut request = request(c"lo");
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
    configure(libc::SIOCSIFFLAGS, &request).context("can't bring lo up")?;
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
