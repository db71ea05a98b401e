//! What the user asked for, resolved to what the kernel compares. Nothing here is applied in
//! userspace: a filter that the kernel side can't apply is an error.

use std::{collections::BTreeSet, net::IpAddr, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use nix::errno::Errno as E;
use tracer_ebpf::COMM_LEN;

use crate::{
    event::{Errno, State},
    kernel::{cgroup, ladder::Hooked, netns, snapshot::Which},
    table::Selection,
};

/// Id of the root cgroup (`kernfs_create_root` numbers from 1).
const ROOT_CGROUP: u64 = 1;

/// Most values of one filter (`FILTER_ENTRIES` on the kernel side).
pub const MAX_VALUES: usize = 1024;

/// The filters of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Owners' process ids.
    pub pids: Vec<u32>,
    /// Owners' task names, zero-padded.
    pub comms: Vec<[u8; COMM_LEN]>,
    /// Ports on either side.
    pub ports: Vec<u16>,
    /// Remote ports.
    pub dports: Vec<u16>,
    /// Local networks.
    pub src: Vec<IpNet>,
    /// Remote networks.
    pub dst: Vec<IpNet>,
    /// Network namespaces, by inode number.
    pub netns: Vec<u32>,
    /// The cgroup whose tasks, and those below it, are wanted.
    pub cgroup: Option<Cgroup>,
    /// New states; empty: all.
    pub states: Vec<State>,
    /// Failures only.
    pub failures: bool,
    /// 4 or 6; `None`: both.
    pub family: Option<u8>,
    /// Failures to report.
    pub errors: Option<Selection>,
}

/// A cgroup as the kernel side compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id: the inode number of its directory.
    pub id: u64,
    /// Its depth below the root of the hierarchy, which has depth 0.
    pub level: u32,
}

impl Filter {
    /// The network namespaces that are wanted.
    #[must_use]
    pub fn which(&self) -> Which {
        if self.netns.is_empty() { Which::All } else { Which::Only(self.netns.clone()) }
    }

    /// Whether it chooses among the events of a network namespace.
    #[must_use]
    pub fn is_of_events(&self) -> bool {
        *self != Self { netns: self.netns.clone(), ..Self::default() }
    }

    /// Whether connections to an upstream pass, by its address and port; other filters don't speak of those.
    #[must_use]
    pub fn wants_upstream(&self, dst: IpAddr, dport: u16) -> bool {
        let any = |list: &[u16]| list.is_empty() || list.contains(&dport);
        let family = if dst.is_ipv4() { 4 } else { 6 };
        any(&self.dports)
            && any(&self.ports)
            && (self.dst.is_empty() || self.dst.iter().any(|network| network.contains(&dst)))
            && self.family.is_none_or(|wanted| wanted == family)
    }

    /// Whether an event is wanted or not by who owns its socket.
    #[must_use]
    pub fn by_owner(&self) -> bool {
        !self.pids.is_empty() || !self.comms.is_empty() || self.cgroup.is_some()
    }

    /// Whether all that is wanted are failures inside `connect()`, so that sockets need not be followed
    /// after they are established. `EADDRNOTAVAIL` alone is sure to be one: even `ECONNREFUSED` comes
    /// later too, where an ICMP error was kept (`tcp_v4_err`, `tcp_write_err`).
    #[must_use]
    pub fn connects_only(&self) -> bool {
        let early = BTreeSet::from([Errno::EADDRNOTAVAIL]);
        match &self.errors {
            Some(Selection::Errors(errors)) => self.failures && errors.is_subset(&early),
            _ => false,
        }
    }

    /// Whether an event can pass these filters, or is needed for one that can: only then it is hooked.
    #[must_use]
    pub fn needs(&self, hooked: Hooked) -> bool {
        let any_of = |errors: &[E]| match &self.errors {
            Some(Selection::Errors(wanted)) => {
                errors.iter().any(|&errno| wanted.contains(&Errno(errno as u16)))
            }
            _ => true,
        };
        let stateless = self.states.is_empty();
        match hooked {
            Hooked::State => true,
            Hooked::Connect => stateless,
            Hooked::TimeWait => {
                !self.failures && (stateless || self.states.contains(&State::TIME_WAIT))
            }
            Hooked::Bind => {
                // A socket that is bound has no remote end yet.
                let local_only = self.dst.is_empty() && self.dports.is_empty();
                stateless
                    && local_only
                    && any_of(&[E::EADDRINUSE, E::EADDRNOTAVAIL, E::EACCES, E::EPERM, E::EINVAL])
            }
            Hooked::Descriptor => {
                let anywhere = self.family.is_none()
                    && self.ports.is_empty()
                    && self.dports.is_empty()
                    && self.src.is_empty()
                    && self.dst.is_empty();
                stateless && anywhere && any_of(&[E::EMFILE, E::ENFILE])
            }
            Hooked::Accept => !self.connects_only(),
        }
    }

    /// Whether every TIME-WAIT entry of the wanted namespaces passes.
    #[must_use]
    pub fn all_time_waits(&self) -> bool {
        let rest = Self { netns: Vec::new(), states: Vec::new(), ..self.clone() };
        self.needs(Hooked::TimeWait) && rest == Self::default()
    }

    /// The errors wanted as bits by number, bit 0 for failures that leave no errno on the socket
    /// (among them `EADDRNOTAVAIL`).
    #[must_use]
    pub fn error_bits(&self) -> [u64; 3] {
        let Some(Selection::Errors(errors)) = &self.errors else {
            return [u64::MAX; 3];
        };
        let mut bits = [0; 3];
        for errno in errors {
            bits[usize::from(errno.0 / 64)] |= 1 << (errno.0 % 64);
        }
        if errors.contains(&Errno::EADDRNOTAVAIL) {
            bits[0] |= 1;
        }
        bits
    }

    /// The new states wanted as bits by number.
    #[must_use]
    pub fn state_bits(&self) -> u32 {
        if self.states.is_empty() {
            return u32::MAX;
        }
        self.states.iter().fold(0, |bits, state| bits | (1 << state.number()))
    }
}

/// Checks a task name: the kernel keeps 15 bytes of it.
///
/// # Errors
/// The name is empty or longer.
pub fn parse_comm(name: &str) -> Result<[u8; COMM_LEN], String> {
    let bytes = name.as_bytes();
    let most = COMM_LEN - 1;
    if bytes.is_empty() {
        return Err("a process name can't be empty".to_owned());
    }
    if bytes.len() > most {
        let cut = String::from_utf8_lossy(&bytes[..most]);
        return Err(format!("the kernel keeps {most} bytes of a process name: use {cut:?}"));
    }
    let mut padded = [0; COMM_LEN];
    padded[..bytes.len()].copy_from_slice(bytes);
    Ok(padded)
}

/// Parses `10.0.0.0/8`, `::1`, `10.1.2.3`. A v4-mapped address or network is taken as IPv4.
///
/// # Errors
/// Neither an address nor a network.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => text.parse::<std::net::IpAddr>().map(IpNet::from).map_err(|_| {
            format!("{text:?} is not an address or a network such as 10.0.0.0/8 or fd00::/8")
        })?,
    };
    let IpNet::V6(v6) = network else {
        return Ok(network.trunc());
    };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    let narrowed = mapped.and_then(|v4| IpNet::new(v4.into(), v6.prefix_len() - 96).ok());
    Ok(narrowed.unwrap_or(network).trunc())
}

/// A network as the kernel side's trie wants it: prefix length out of 128 and the address, IPv4 as
/// `::ffff:a.b.c.d`.
#[must_use]
pub fn trie_key(network: &IpNet) -> (u32, [u8; 16]) {
    let prefix = u32::from(network.prefix_len());
    match network {
        IpNet::V4(v4) => (96 + prefix, v4.addr().to_ipv6_mapped().octets()),
        IpNet::V6(v6) => (prefix, v6.addr().octets()),
    }
}

/// Resolves `--netns PATH|INODE|PID` to the namespace's inode number.
///
/// # Errors
/// Nothing there, or it is not a network namespace.
pub fn resolve_netns(text: &str) -> Result<u32> {
    netns::resolve(text)
}

/// Resolves `--cgroup PATH`: a directory of the cgroup2 hierarchy, absolute, or relative to where
/// that is mounted.
///
/// # Errors
/// No cgroup2 hierarchy is mounted, there is no such cgroup, or it lies elsewhere.
pub fn resolve_cgroup(path: &Path) -> Result<Cgroup> {
    let root = cgroup::mount_point()
        .context("--cgroup: no cgroup2 hierarchy is mounted here (mount -t cgroup2)")?;
    // A container may see a part of the hierarchy only; depths count from the real root.
    let top = root.metadata().with_context(|| format!("can't read {}", root.display()))?.ino();
    if top != ROOT_CGROUP {
        bail!(
            "--cgroup: {} is not the root of the hierarchy but what a cgroup namespace shows of it; run \
             socklife outside of that namespace, or filter by --pid or --comm",
            root.display()
        );
    }
    let full = if path.starts_with(&root) {
        path.to_owned()
    } else {
        root.join(path.strip_prefix("/").unwrap_or(path))
    };
    let found = full.canonicalize().with_context(|| {
        format!("--cgroup {}: there is no such cgroup below {}", path.display(), root.display())
    })?;
    let Ok(below) = found.strip_prefix(&root) else {
        bail!("--cgroup {}: it is not below {}", path.display(), root.display());
    };
    let id = found.metadata().with_context(|| format!("can't read {}", found.display()))?.ino();
    let level = u32::try_from(below.components().count()).unwrap_or(u32::MAX);
    Ok(Cgroup { id, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_cut_are_refused() {
        assert_eq!(&parse_comm("nginx").unwrap()[..6], b"nginx\0");
        assert!(parse_comm("").is_err());
        assert!(parse_comm("123456789012345").is_ok());
        let message = parse_comm("1234567890123456").unwrap_err();
        assert!(message.ends_with("use \"123456789012345\""), "{message}");
    }

    #[test]
    fn networks_become_keys_of_the_trie() {
        let key = |text| trie_key(&parse_network(text).unwrap());
        let mapped = |a, b, c, d| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d];
        assert_eq!(key("10.1.2.3/8"), (104, mapped(10, 0, 0, 0)));
        assert_eq!(key("10.1.2.3"), (128, mapped(10, 1, 2, 3)));
        assert_eq!(key("::ffff:10.1.2.3"), (128, mapped(10, 1, 2, 3)));
        assert_eq!(key("::ffff:10.0.0.0/104"), (104, mapped(10, 0, 0, 0)));
        assert_eq!(key("0.0.0.0/0"), (96, mapped(0, 0, 0, 0)));
        assert_eq!(key("::/0"), (0, [0; 16]));
        assert!(parse_network("10.0.0.0/40").is_err());
        assert!(parse_network("upstream").unwrap_err().contains("10.0.0.0/8"));
    }

    #[test]
    fn errors_become_bits() {
        let errors = |list: &[Errno]| Filter {
            errors: Some(Selection::Errors(list.iter().copied().collect())),
            failures: true,
            ..Filter::default()
        };
        let exhaustion = errors(&[Errno::EADDRNOTAVAIL]);
        assert_eq!(exhaustion.error_bits(), [1, 1 << 35, 0]);
        assert!(exhaustion.connects_only());
        let reset = errors(&[Errno(104)]);
        assert_eq!(reset.error_bits(), [0, 1 << 40, 0]);
        assert!(!reset.connects_only());
        assert_eq!(Filter::default().error_bits(), [u64::MAX; 3]);
        assert!(!Filter::default().connects_only());
    }

    #[test]
    fn states_become_bits() {
        let states = vec![State::CLOSE, State::SYN_SENT, State::CLOSE];
        let filter = Filter { states, ..Filter::default() };
        assert_eq!(filter.state_bits(), (1 << 7) | (1 << 2));
        assert_eq!(Filter::default().state_bits(), u32::MAX);
    }
}
