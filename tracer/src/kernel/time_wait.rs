//! The kernel's own account of TIME-WAIT entries: what events are reconciled with.

use anyhow::{Context, Result};

use super::{ground::before, netns};

/// TIME-WAIT entries that were made in some network namespaces, as the kernel counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Entries that were made: `TW` and, of those that shall live for 4 s at most, `TWKilled` in
    /// `/proc/net/netstat`; despite their names both count beginnings (`__inet_twsk_schedule` in
    /// `net/ipv4/inet_timewait_sock.c`).
    pub made: u64,
    /// Entries that were not made since the table was full (`TCPTimeWaitOverflow`).
    pub overflow: u64,
}

impl Made {
    /// Reads the counters of each of these network namespaces, from inside.
    fn read(namespaces: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for &netns in namespaces {
            let one = netns::inside(netns, read_here)?;
            sum.made += one.made;
            sum.overflow += one.overflow;
        }
        Ok(sum)
    }
}

/// Most network namespaces whose counters are read: each takes a thread.
const MAX_NAMESPACES: usize = 64;

/// The kernel's account of a run.
#[derive(Debug)]
pub struct Account {
    namespaces: Vec<u32>,
    before: Made,
}

impl Account {
    /// Opens it; `wanted`: network namespaces, empty for all. `None`: too many, they can't be read, or this
    /// kernel doesn't count beginnings.
    #[must_use]
    pub fn open(wanted: &[u32]) -> Option<Self> {
        // Before, the counters counted ends (`tw_timer_handler`), and not those that a reset made.
        if before((5, 18)) {
            return None;
        }
        let namespaces: Vec<u32> = if wanted.is_empty() {
            netns::all().namespaces.into_keys().collect()
        } else {
            wanted.to_vec()
        };
        if namespaces.len() > MAX_NAMESPACES {
            return None;
        }
        let before = Made::read(&namespaces);
        let before =
            before.map_err(|error| tracing::debug!("TIME-WAIT counters: {error:#}")).ok()?;
        Some(Self { namespaces, before })
    }

    /// Closes it. `None`: a namespace is gone.
    #[must_use]
    pub fn close(self) -> Option<Made> {
        let after = Made::read(&self.namespaces);
        let after = after.map_err(|error| tracing::debug!("TIME-WAIT counters: {error:#}")).ok()?;
        Some(Made {
            made: after.made.saturating_sub(self.before.made),
            overflow: after.overflow.saturating_sub(self.before.overflow),
        })
    }
}

/// The calling thread's namespace.
fn read_here() -> Result<Made> {
    let path = "/proc/thread-self/net/netstat";
    let netstat = std::fs::read_to_string(path).with_context(|| format!("can't read {path}"))?;
    Ok(parse(&netstat))
}

fn parse(netstat: &str) -> Made {
    let count = |name| counter(netstat, name).unwrap_or(0);
    Made { made: count("TW") + count("TWKilled"), overflow: count("TCPTimeWaitOverflow") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_file() {
        let netstat = "TcpExt: SyncookiesSent TW TWRecycled TWKilled TCPTimeWaitOverflow\n\
                       TcpExt: 0 10 2 1 7\nIpExt: InNoRoutes TW\nIpExt: 5 99\n";
        assert_eq!(parse(netstat), Made { made: 11, overflow: 7 });
        assert_eq!(parse(""), Made::default());
        assert!(read_here().is_ok());
    }
}
