//! The kernel's failures, as answers are joined to them: of proxies alone, by upstream and class.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::{
    failures::{FailureKey, FailureRow},
    logs::{Class, Product},
    reason::Reason,
};

/// What failed: whose calls, toward where (its address; `None`: of calls that know none, as of open files), and why.
pub type What = (Product, Option<String>, Class);

/// How often, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Failures.
    pub count: u64,
    /// Network namespaces of the processes. More than one: which the log's proxy is in can't be told.
    pub netns: BTreeSet<Option<u32>>,
    /// Whose some of them are is not known: they may be the proxy's.
    pub unowned: bool,
}

/// Failures of proxies in the kernel.
pub type Kernel = BTreeMap<What, Seen>;

/// What the kernel saw of a class of failures toward an upstream.
#[must_use]
pub fn class_of(reason: Reason) -> Class {
    match reason {
        Reason::PortRangeExhausted | Reason::TupleCollision | Reason::NoSourceAddress => {
            Class::PortsExhausted
        }
        Reason::Refused => Class::Refused,
        Reason::Reset => Class::Reset,
        Reason::TimedOut | Reason::Abandoned | Reason::ErrorTaken => Class::ConnectTimeout,
        Reason::Unreachable => Class::Unreachable,
        Reason::ProcessFileLimit | Reason::SystemFileLimit => Class::OpenFiles,
        Reason::LocalError
        | Reason::AddressNotLocal
        | Reason::AddressInUse
        | Reason::NotPermitted => Class::Other,
    }
}

/// Network namespaces of the proxies that write the logs, of kinds where all of these are known.
pub type Places = BTreeMap<Product, BTreeSet<u32>>;

/// The failures of these kinds of proxies, by the names of the threads, and in their `places` where those are known. Any
/// tenant can name a process so: it is in a network namespace of its own then.
#[must_use]
pub fn in_the_kernel<'a>(
    proxies: &BTreeSet<Product>,
    places: &Places,
    rows: impl IntoIterator<Item = (&'a FailureKey, &'a FailureRow)>,
) -> Kernel {
    let mut found = Kernel::new();
    for (key, row) in rows {
        let FailureKey { call, reason: Some(reason), comm, dst, dport, netns, .. } = *key else {
            continue;
        };
        let upstream = dst.zip(dport).map(|(dst, dport)| SocketAddr::new(dst, dport).to_string());
        // Connections of clients, and those that may be.
        if call.is_none() && upstream.is_none() {
            continue;
        }
        for &proxy in proxies {
            let elsewhere = |netns| places.get(&proxy).is_some_and(|here| !here.contains(&netns));
            if comm.is_some_and(|comm| !proxy.has_thread(comm.bytes()))
                || netns.is_some_and(elsewhere)
            {
                continue;
            }
            let seen: &mut Seen =
                found.entry((proxy, upstream.clone(), class_of(reason))).or_default();
            seen.count += row.count;
            seen.netns.insert(netns);
            seen.unowned |= comm.is_none();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Call, Comm};

    fn row(comm: &[u8], netns: u32, dst: Option<&str>, reason: Reason) -> (FailureKey, FailureRow) {
        let mut name = [0; 16];
        name[..comm.len()].copy_from_slice(comm);
        let key = FailureKey {
            call: Some(if dst.is_some() { Call::Connect } else { Call::Descriptor }),
            error: None,
            reason: Some(reason),
            comm: Some(Comm::new(name)).filter(|_| !comm.is_empty()),
            src: None,
            sport: None,
            dst: dst.map(|dst| dst.parse().unwrap()),
            dport: dst.map(|_| 80),
            netns: Some(netns),
        };
        let (pids, first_ns, last_ns) = (BTreeSet::new(), 0, 0);
        (key, FailureRow { count: 2, pids, first_ns, last_ns, ports: None })
    }

    /// What one kind of proxy has failed at: where, how often, in how many namespaces, and whether owners are missing.
    fn found(proxy: Product, rows: &[(FailureKey, FailureRow)]) -> Vec<(String, u64, usize, bool)> {
        let rows = rows.iter().map(|(key, row)| (key, row));
        let found = in_the_kernel(&BTreeSet::from([proxy]), &Places::new(), rows);
        let of = |((_, upstream, _), seen): (What, Seen)| {
            (upstream.unwrap_or_default(), seen.count, seen.netns.len(), seen.unowned)
        };
        found.into_iter().map(of).collect()
    }

    #[test]
    fn failures_of_others_are_none_of_a_proxy() {
        let (dst, refused) = (Some("10.0.0.9"), Reason::Refused);
        let rows = [
            row(b"nginx", 1, dst, refused),
            row(b"curl", 1, dst, refused),
            row(b"curl", 2, None, Reason::ProcessFileLimit),
            row(b"wrk:worker_0", 1, None, Reason::ProcessFileLimit),
        ];
        assert_eq!(found(Product::Nginx, &rows), [("10.0.0.9:80".to_owned(), 2, 1, false)]);
        assert_eq!(found(Product::HaProxy, &rows), []);
        assert_eq!(found(Product::Envoy, &rows), [(String::new(), 2, 1, false)]);
    }

    #[test]
    fn where_the_proxy_is_known_others_of_its_name_are_none_of_it() {
        let (dst, refused) = (Some("10.0.0.9"), Reason::Refused);
        let rows = [row(b"nginx", 1, dst, refused), row(b"nginx", 2, dst, refused)];
        let places = Places::from([(Product::Nginx, BTreeSet::from([2]))]);
        let rows = rows.iter().map(|(key, row)| (key, row));
        let found = in_the_kernel(&BTreeSet::from([Product::Nginx]), &places, rows);
        let seen: Vec<_> = found.into_values().collect();
        assert_eq!((seen.len(), seen[0].count), (1, 2));
        assert_eq!(seen[0].netns, BTreeSet::from([Some(2)]));
    }

    #[test]
    fn namespaces_are_kept_apart_and_unknown_owners_marked() {
        let (dst, refused) = (Some("10.0.0.9"), Reason::Refused);
        let two = [row(b"nginx", 1, dst, refused), row(b"nginx", 2, dst, refused)];
        assert_eq!(found(Product::Nginx, &two), [("10.0.0.9:80".to_owned(), 4, 2, false)]);
        let unowned = [row(b"", 1, dst, refused)];
        assert_eq!(found(Product::Nginx, &unowned), [("10.0.0.9:80".to_owned(), 2, 1, true)]);
    }
}
