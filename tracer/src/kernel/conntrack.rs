//! The connection tracking table (conntrack) of a network namespace.

use std::{collections::HashMap, fs, io, net::IpAddr};

use anyhow::{Context, Result};
use netlink_bindings::conntrack::{
    ConntrackAttrs, ConntrackStatsAttrs, Nfgenmsg, Request, TupleAttrs, TupleIpAttrs,
};
use serde::{Deserialize, Serialize};

use super::{
    netlink::{Coverage, Netlink},
    settings,
};

/// How full it is, and what it refused since the namespace was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// Entries (`nf_conntrack_count`).
    pub count: u64,
    /// Room (`nf_conntrack_max`): one setting for the host; 0: no bound.
    pub max: u64,
    /// Buckets of its hash table (`nf_conntrack_buckets`).
    pub buckets: u64,
    /// What it refused; `None`: this kernel doesn't tell this user.
    pub refused: Option<Refused>,
}

/// Counters of all CPUs together (`struct ip_conntrack_stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Packets dropped: no room for their connection; also, rarely, one that lost a race with its like
    /// (`nf_ct_resolve_clash`).
    pub drop: u64,
    /// Entries given up early to make room.
    pub early_drop: u64,
    /// Entries that could not be put in, also since an equal one was there.
    pub insert_failed: u64,
}

impl Conntrack {
    /// Reads that of the calling thread's network namespace. `None`: this kernel tracks no connections.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn read_here() -> Result<Option<Self>> {
        let Ok(count) = settings::read("net/netfilter/nf_conntrack_count") else {
            return Ok(None);
        };
        let max = settings::read("net/netfilter/nf_conntrack_max")?;
        let buckets = settings::read("net/netfilter/nf_conntrack_buckets");
        let buckets = buckets.ok().and_then(|text| settings::number(&text)).unwrap_or(0);
        let number = |text: &str| {
            settings::number(text).context("the conntrack table's size makes no sense")
        };
        let refused = match fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack") {
            Ok(text) => Some(parse(&text)),
            // A kernel without this file (CONFIG_NF_CONNTRACK_PROCFS) may have it over netlink.
            Err(_) => ask().ok(),
        };
        Ok(Some(Self { count: number(&count)?, max: number(&max)?, buckets, refused }))
    }
}

/// A line of names, then a line of hexadecimal numbers for each CPU (`ct_cpu_seq_show` in
/// `net/netfilter/nf_conntrack_standalone.c`).
fn parse(text: &str) -> Refused {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut refused = Refused::default();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            let value = u64::from_str_radix(value, 16).unwrap_or(0);
            match *name {
                "drop" => refused.drop += value,
                "early_drop" => refused.early_drop += value,
                "insert_failed" => refused.insert_failed += value,
                _ => {}
            }
        }
    }
    refused
}

fn ask() -> io::Result<Refused> {
    let request = Request::new().op_get_stats_dump(&Nfgenmsg::new());
    let mut refused = Refused::default();
    Netlink::open(&request)?.dump(&request, |(_, attributes)| {
        for attribute in attributes.flatten() {
            match attribute {
                ConntrackStatsAttrs::Drop(count) => refused.drop += u64::from(count),
                ConntrackStatsAttrs::EarlyDrop(count) => refused.early_drop += u64::from(count),
                ConntrackStatsAttrs::InsertFailed(count) => {
                    refused.insert_failed += u64::from(count);
                }
                _ => {}
            }
        }
    })?;
    Ok(refused)
}

/// Most addresses that are kept apart.
const MAX_ADDRESSES: usize = 65_536;

/// Who fills the table of the calling thread's network namespace: entries by the address that the
/// connection goes to or, where that is one of `own`, comes from; most first. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// The kernel refuses, or has no `nf_conntrack_netlink`.
pub fn fillers(own: &[IpAddr]) -> io::Result<(Vec<(IpAddr, u64)>, Coverage)> {
    let request = Request::new().op_get_dump(&Nfgenmsg::new());
    let mut entries: HashMap<IpAddr, u64> = HashMap::new();
    let coverage = Netlink::open(&request)?.dump(&request, |(_, attributes)| {
        let original = attributes.flatten().find_map(|attribute| match attribute {
            ConntrackAttrs::TupleOrig(tuple) => Some(tuple),
            _ => None,
        });
        let ends = original.and_then(|tuple| {
            tuple.flatten().find_map(|attribute| match attribute {
                TupleAttrs::TupleIp(ends) => Some(ends),
                _ => None,
            })
        });
        let (mut from, mut to) = (None, None);
        for end in ends.into_iter().flatten().flatten() {
            match end {
                TupleIpAttrs::IpV4Src(address) => from = Some(IpAddr::V4(address)),
                TupleIpAttrs::IpV4Dst(address) => to = Some(IpAddr::V4(address)),
                TupleIpAttrs::IpV6Src(address) => from = Some(IpAddr::V6(address)),
                TupleIpAttrs::IpV6Dst(address) => to = Some(IpAddr::V6(address)),
            }
        }
        let remote = if to.is_some_and(|to| own.contains(&to)) { from.or(to) } else { to };
        if let Some(remote) = remote
            && (entries.len() < MAX_ADDRESSES || entries.contains_key(&remote))
        {
            *entries.entry(remote).or_default() += 1;
        }
    })?;
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    Ok((entries, coverage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_file() {
        let text = "entries  clashres found new invalid ignore delete chainlength insert insert_failed \
                    drop early_drop icmp_error\n\
                    0000000a 0 0 0 0 0 0 0 00 00000001 0000000f 00000002 0\n\
                    0000000a 0 0 0 0 0 0 0 00 00000000 00000001 00000000 0\n";
        assert_eq!(parse(text), Refused { drop: 16, early_drop: 2, insert_failed: 1 });
        assert_eq!(parse(""), Refused::default());
    }
}
