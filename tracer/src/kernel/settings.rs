//! The settings (sysctls) of a network namespace that decide its ceilings. Only ever read.

use std::{fs::File, io::Read, ops::RangeInclusive, str::FromStr};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::ports::PortSet;

/// Settings of one network namespace; Documentation/networking/ip-sysctl.rst describes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `net.ipv4.ip_local_port_range`: where `connect()` and `bind()` to port 0 choose from.
    pub port_range: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`: what they never choose.
    pub reserved: PortSet,
    /// `net.ipv4.ip_unprivileged_port_start`: the range may not begin below.
    pub unprivileged_start: u16,
    /// `net.ipv4.tcp_tw_reuse`: 0 off, 1 on, 2 for connections of the loopback interface.
    pub tw_reuse: u8,
    /// `net.ipv4.tcp_tw_reuse_delay` (Linux 6.14): milliseconds from which on an entry may be reused;
    /// before, a second.
    pub tw_reuse_delay_ms: u32,
    /// `net.ipv4.tcp_timestamps` is not 0.
    pub timestamps: bool,
    /// `net.ipv4.tcp_max_tw_buckets`.
    pub max_tw_buckets: u64,
    /// `net.core.somaxconn`: the largest backlog of a listener.
    pub somaxconn: u64,
}

impl Settings {
    /// Names and values, as `sysctl` prints them.
    #[must_use]
    pub fn by_name(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "net.ipv4.ip_local_port_range",
                format!("{} {}", self.port_range.start(), self.port_range.end()),
            ),
            ("net.ipv4.ip_local_reserved_ports", self.reserved.to_string()),
            ("net.ipv4.ip_unprivileged_port_start", self.unprivileged_start.to_string()),
            ("net.ipv4.tcp_tw_reuse", self.tw_reuse.to_string()),
            ("net.ipv4.tcp_tw_reuse_delay", self.tw_reuse_delay_ms.to_string()),
            ("net.ipv4.tcp_timestamps", u8::from(self.timestamps).to_string()),
            ("net.ipv4.tcp_max_tw_buckets", self.max_tw_buckets.to_string()),
            ("net.core.somaxconn", self.somaxconn.to_string()),
        ]
    }

    /// Reads those of the calling thread's network namespace.
    ///
    /// # Errors
    /// `/proc/sys` isn't there, or holds something unknown.
    pub fn read_here() -> Result<Self> {
        let ipv4 = |name: &str| read(&format!("net/ipv4/{name}"));
        Ok(Self {
            port_range: parse_range(&ipv4("ip_local_port_range")?)
                .context("net.ipv4.ip_local_port_range makes no sense")?,
            reserved: parse_ports(&ipv4("ip_local_reserved_ports")?),
            unprivileged_start: number(&ipv4("ip_unprivileged_port_start")?).unwrap_or(1024),
            tw_reuse: number(&ipv4("tcp_tw_reuse")?).unwrap_or(0),
            tw_reuse_delay_ms: ipv4("tcp_tw_reuse_delay")
                .ok()
                .and_then(|text| number(&text))
                .unwrap_or(1000),
            timestamps: number::<u8>(&ipv4("tcp_timestamps")?) != Some(0),
            max_tw_buckets: number(&ipv4("tcp_max_tw_buckets")?)
                .context("net.ipv4.tcp_max_tw_buckets makes no sense")?,
            somaxconn: number(&read("net/core/somaxconn")?)
                .context("net.core.somaxconn makes no sense")?,
        })
    }
}

/// The first word, as a number.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.split_whitespace().next()?.parse().ok()
}

/// A file below `/proc/sys` in one `read()`: a list that is read in pieces ends after the first of them
/// (`proc_do_large_bitmap` in `kernel/sysctl.c`).
pub(super) fn read(name: &str) -> Result<String> {
    // 65,536 ports of up to five digits and a comma each; nothing else is near that.
    let mut buffer = vec![0; if name.ends_with("reserved_ports") { 400 << 10 } else { 4096 }];
    let path = format!("/proc/sys/{name}");
    let length = File::open(&path)
        .and_then(|mut file| file.read(&mut buffer))
        .with_context(|| format!("can't read {path}"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Two numbers: first and last port.
pub(super) fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
}

/// `8080,9148-9150`, as `proc_do_large_bitmap` (`kernel/sysctl.c`) prints it.
#[must_use]
pub fn parse_ports(text: &str) -> PortSet {
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
    fn reads_the_kernels_files() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("\n"), None);
        assert!(parse_ports("\n").is_empty());
        assert_eq!(
            parse_ports("8080,9148-9150\n").iter().collect::<Vec<_>>(),
            [8080, 9148, 9149, 9150]
        );
        let settings = Settings::read_here().unwrap();
        assert!(settings.port_range.start() < settings.port_range.end(), "{settings:?}");
    }
}
