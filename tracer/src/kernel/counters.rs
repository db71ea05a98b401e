//! The kernel's own counters of a network namespace: `/proc/net/netstat`, `/proc/net/sockstat`.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Counters since the namespace was made, and a gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// TIME-WAIT entries that there are, those in FIN-WAIT-2 too (`TCP: … tw` in `/proc/net/sockstat`).
    pub time_wait: u64,
    /// TIME-WAIT entries that were made: `TW` and, of those that shall live for 4 s at most, `TWKilled`;
    /// despite their names both count beginnings since Linux 5.18 (`__inet_twsk_schedule` in
    /// `net/ipv4/inet_timewait_sock.c`), ends before.
    pub time_wait_made: u64,
    /// Entries that were not made since there was no room (`TCPTimeWaitOverflow`).
    pub time_wait_overflow: u64,
    /// Connections that found a listener's queue full (`ListenOverflows`).
    pub listen_overflows: u64,
    /// Connections and SYNs that a listener dropped, for that or another reason (`ListenDrops`).
    pub listen_drops: u64,
}

impl Counters {
    /// Reads those of the calling thread's network namespace.
    ///
    /// # Errors
    /// `/proc` isn't mounted.
    pub fn read_here() -> Result<Self> {
        let read =
            |path: &str| fs::read_to_string(path).with_context(|| format!("can't read {path}"));
        let netstat = read("/proc/thread-self/net/netstat")?;
        let sockstat = read("/proc/thread-self/net/sockstat")?;
        Ok(Self::parse(&netstat, &sockstat))
    }

    fn parse(netstat: &str, sockstat: &str) -> Self {
        let count = |name| counter(netstat, name).unwrap_or(0);
        Self {
            time_wait: gauge(sockstat).unwrap_or(0),
            time_wait_made: count("TW") + count("TWKilled"),
            time_wait_overflow: count("TCPTimeWaitOverflow"),
            listen_overflows: count("ListenOverflows"),
            listen_drops: count("ListenDrops"),
        }
    }
}

/// A counter of two lines that begin alike, names in the first and values in the second.
fn counter(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, value) = names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(candidate, _)| *candidate == name)?;
    value.parse().ok()
}

/// The number behind `tw` in the line `TCP:`.
fn gauge(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "tw");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_files() {
        let netstat = "TcpExt: SyncookiesSent TW TWRecycled TWKilled TCPTimeWaitOverflow ListenDrops\n\
                       TcpExt: 0 10 2 1 7 4\nIpExt: InNoRoutes TW\nIpExt: 5 99\n";
        let sockstat = "sockets: used 5\nTCP: inuse 1 orphan 0 tw 12 alloc 3 mem 1\nUDP: inuse 0\n";
        assert_eq!(
            Counters::parse(netstat, sockstat),
            Counters {
                time_wait: 12,
                time_wait_made: 11,
                time_wait_overflow: 7,
                listen_overflows: 0,
                listen_drops: 4,
            }
        );
        assert_eq!(Counters::parse("", ""), Counters::default());
        assert!(Counters::read_here().is_ok());
    }
}
