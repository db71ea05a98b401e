//! The kernel's own account of TIME-WAIT entries: what events are reconciled with.

use anyhow::Result;

use super::{counters::Counters, ground::before, netns};

/// TIME-WAIT entries that were made in some network namespaces, as the kernel counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Entries that were made ([`Counters::time_wait_made`]).
    pub made: u64,
    /// Entries that were not made since the table was full (`TCPTimeWaitOverflow`).
    pub overflow: u64,
}

impl Made {
    /// Reads the counters of each of these network namespaces, from inside.
    fn read(namespaces: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for &netns in namespaces {
            let one = netns::inside(netns, Counters::read_here)?;
            sum.made += one.time_wait_made;
            sum.overflow += one.time_wait_overflow;
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
