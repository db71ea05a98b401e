//! Ephemeral ports: how many local ports a (namespace, local address, upstream) has, and uses.
//!
//! A connect needs a port that is unique for its (local address, remote address, remote port), so
//! the same port serves many upstreams, and a figure for the whole host would mean nothing.

use std::{collections::BTreeSet, fs::File, io::Read, net::IpAddr, ops::RangeInclusive};

use anyhow::{Context, Result};
use tracer_ebpf::state;

use crate::kernel::{netns, sock_diag};

/// Local ports toward one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// Ports in use by sockets of this group, in any state, TIME_WAIT too.
    pub used: u32,
    /// Ports that `connect()` may choose from: the range, less reserved ports, less ports on which
    /// somebody listens or which are bound without a connection.
    pub usable: u32,
}

/// Measures the ports of one group inside its network namespace.
///
/// # Errors
/// The namespace can't be entered or read.
pub fn measure(netns: u32, src: IpAddr, dst: IpAddr, dport: u16) -> Result<PortUse> {
    netns::inside(netns, move || measure_here(src, dst, dport))
}

fn measure_here(src: IpAddr, dst: IpAddr, dport: u16) -> Result<PortUse> {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        read_at_once(&path).with_context(|| format!("can't read {path}"))
    };
    let range = parse_range(&read("ip_local_port_range")?).context("ip_local_port_range")?;
    let mut blocked = parse_list(&read("ip_local_reserved_ports")?);

    // Listeners, and (state 13, Linux 6.8 and later) sockets that are bound and no more.
    sock_diag::dump((1 << state::LISTEN) | (1 << 13), None, |socket| {
        blocked.insert(socket.sport);
    })?;
    let blocked = blocked.iter().filter(|&port| range.contains(port)).count();

    let mut used = BTreeSet::new();
    sock_diag::dump(!(1 << state::LISTEN), Some(dport), |socket| {
        if socket.src == src && socket.dst == dst && socket.dport == dport {
            used.insert(socket.sport);
        }
    })?;
    let used = used.iter().filter(|&port| range.contains(port)).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(PortUse { used: count(used), usable: count(range.len().saturating_sub(blocked)) })
}

/// A sysctl in one `read()`: a list that is read in pieces ends after the first of them
/// (`proc_do_large_bitmap` in `kernel/sysctl.c`).
fn read_at_once(path: &str) -> std::io::Result<String> {
    // 65,536 ports of up to five digits and a comma each.
    let mut buffer = vec![0; 400 << 10];
    let length = File::open(path)?.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Two numbers: first and last port.
fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
}

/// `8080,9148-9150`, as `proc_do_large_bitmap` (kernel/sysctl.c) prints it.
fn parse_list(text: &str) -> BTreeSet<u16> {
    let ranges = text.trim().split(',').filter_map(|item| match item.split_once('-') {
        Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
        None => item.parse().ok().map(|port| port..=port),
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sysctls() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("\n"), None);
        assert_eq!(parse_list("\n"), BTreeSet::new());
        assert_eq!(parse_list("8080,9148-9150\n"), BTreeSet::from([8080, 9148, 9149, 9150]));
    }
}
