//! Two hosts: network namespaces joined by a veth pair.

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::process::{Process, run};

/// A network namespace of the test's own; deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A host with nothing but a loopback device.
    ///
    /// # Errors
    /// The kernel or this user's rights don't allow it.
    pub fn alone() -> Result<Self> {
        sweep()?;
        Self::new(format!("slt-{}-alone", std::process::id()))
    }

    fn new(name: String) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A command that runs inside.
    #[must_use]
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.into());
        command
    }

    /// `ip …` inside.
    ///
    /// # Errors
    /// It fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// Sets a sysctl inside; it goes with the namespace.
    ///
    /// # Errors
    /// It fails.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        run(self.command("sysctl").args(["-q", "-w", &format!("{name}={value}")])).map(drop)
    }

    /// Its name, as `ip netns` has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// `socklife-load serve`, listening when this returns.
    ///
    /// # Errors
    /// It can't listen.
    pub fn serve(&self, mode: &str, listen: &[SocketAddr]) -> Result<Process> {
        let mut command = self.command(load_binary());
        command.args(["serve", "--mode", mode]);
        for address in listen {
            command.args(["--listen", &address.to_string()]);
        }
        Process::start_ready(&mut command)
    }

    /// `socklife-load fail`: what it printed.
    ///
    /// # Errors
    /// It fails to fail.
    pub fn fail<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Value> {
        let printed = run(self.command(load_binary()).arg("fail").args(arguments))?;
        serde_json::from_str(&printed).context("what socklife-load printed")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("network namespace {} is left behind: {error:#}", self.name);
        }
    }
}

/// The load generator: `SOCKLIFE_LOAD_BIN`, else [`beside`] this binary.
#[must_use]
pub fn load_binary() -> PathBuf {
    let named = std::env::var_os("SOCKLIFE_LOAD_BIN");
    named.map_or_else(|| beside("socklife-load"), PathBuf::from)
}

/// A program beside this binary, or above it as Cargo places tests.
#[must_use]
pub fn beside(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let places = own.ancestors().skip(1).take(2).map(|place| place.join(program));
    places.filter(|place| place.is_file()).last().unwrap_or_else(|| program.into())
}

/// Two hosts, `near` and `far`, with addresses of both families on the link between them.
#[derive(Debug)]
pub struct Link {
    /// `10.77.0.1`, `fd77::1`.
    pub near: Namespace,
    /// `10.77.0.2`, `fd77::2`.
    pub far: Namespace,
}

/// Addresses of the two hosts.
pub const NEAR4: &str = "10.77.0.1";
/// Addresses of the two hosts.
pub const FAR4: &str = "10.77.0.2";
/// Addresses of the two hosts.
pub const FAR6: &str = "fd77::2";

impl Link {
    /// Makes them.
    ///
    /// # Errors
    /// The kernel or this user's rights don't allow it.
    pub fn new() -> Result<Self> {
        sweep()?;
        let own = std::process::id();
        let near = Namespace::new(format!("slt-{own}-near"))?;
        let far = Namespace::new(format!("slt-{own}-far"))?;
        near.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", &far.name])?;
        for (namespace, v4, v6) in [(&near, NEAR4, "fd77::1"), (&far, FAR4, FAR6)] {
            namespace.ip(&["addr", "add", &format!("{v4}/24"), "dev", "v0"])?;
            namespace.ip(&["addr", "add", &format!("{v6}/64"), "dev", "v0", "nodad"])?;
            namespace.ip(&["link", "set", "v0", "up"])?;
        }
        Ok(Self { near, far })
    }

    /// Makes each entry in TIME-WAIT stay for its time, so that a test can count them. On a veth pair two
    /// CPUs may swap packets; what then comes to a socket that is gone is answered by a reset, which would
    /// end the entry (RFC 1337).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keep_time_wait(&self) -> Result<()> {
        self.near.sysctl("net.ipv4.tcp_rfc1337", "1")?;
        self.far.sysctl("net.ipv4.tcp_rfc1337", "1")
    }

    /// Makes the near host send to an address of the link that nobody answers at: packets get
    /// there, and nothing comes back.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn blackhole(&self, address: &str) -> Result<()> {
        let link: Value = serde_json::from_str(&self.far.ip(&["-j", "link", "show", "v0"])?)?;
        let mac = link[0]["address"].as_str().context("no address of the far end")?;
        self.near.ip(&["neigh", "replace", address, "lladdr", mac, "dev", "v0"]).map(drop)
    }
}

/// Deletes namespaces that a killed run of these tests left behind, and ends what is left in them.
fn sweep() -> Result<()> {
    for line in run(Command::new("ip").args(["netns", "list"]))?.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let pid = name.strip_prefix("slt-").and_then(|rest| rest.split('-').next());
        if let Some(pid) = pid
            && !PathBuf::from(format!("/proc/{pid}")).exists()
        {
            let pids = run(Command::new("ip").args(["netns", "pids", name]))?;
            for pid in pids.split_whitespace() {
                // One that has ended meanwhile is what is wanted.
                let _ = kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL);
            }
            run(Command::new("ip").args(["netns", "del", name]))?;
        }
    }
    Ok(())
}
