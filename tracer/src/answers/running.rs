//! What running proxies tell that helps to read their logs: where servers are that a log names, formats, and where the
//! proxy is that writes a log.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{kernel::Places, read::Log};
use crate::{
    kernel::owners::{Look, Owners},
    logs::{Product, nginx_access::Format},
    proxies::{
        Given, Reader,
        host::shares_root,
        nginx::settings::{AccessLog, Escape},
    },
};

/// What is told.
#[derive(Debug, Default)]
pub struct Running {
    /// Addresses of HAProxy's servers, by the names that its log has: `backend/server`.
    pub addresses: BTreeMap<String, String>,
    /// Formats of Nginx's access logs; `None`: one of several.
    formats: BTreeMap<PathBuf, Option<(String, Escape)>>,
    /// Network namespaces of the Nginxes that write a log; `None`: of one it is not known.
    writers: BTreeMap<PathBuf, Option<BTreeSet<u32>>>,
}

impl Running {
    /// Asks the proxies of this host, as they run now.
    #[must_use]
    pub fn find(given: Given) -> Self {
        // Without them nothing is known; it can be told by options.
        let owners = Owners::find(Look::All).unwrap_or_default();
        let running = Reader::new(given).read(&owners);
        let servers = running.haproxy.iter().flat_map(|haproxy| &haproxy.state.servers);
        let addresses = unambiguous(servers.filter_map(|server| {
            Some((format!("{}/{}", server.backend, server.name), server.address?.to_string()))
        }));
        // Paths of others mean other files.
        let ours: Vec<_> =
            running.nginx.iter().filter(|it| shares_root(it.master.process.pid)).collect();
        let formats = formats(ours.iter().flat_map(|nginx| &nginx.settings.access_logs));
        let writers = writers(ours.iter().flat_map(|nginx| {
            let settings = &nginx.settings;
            let access = settings.access_logs.iter().map(|log| &log.path);
            access.chain(&settings.error_logs).map(|path| (path, nginx.master.netns))
        }));
        Self { addresses, formats, writers }
    }

    /// Where the proxies are that write these logs, of each kind of which this is known of all.
    #[must_use]
    pub fn places(&self, logs: &[Log]) -> Places {
        let mut all: BTreeMap<Product, Option<BTreeSet<u32>>> = BTreeMap::new();
        for log in logs {
            let path = std::path::absolute(&log.path).ok();
            let here = path.and_then(|path| self.writers.get(&path)?.as_ref());
            let sum = all.entry(log.kind.proxy()).or_insert_with(|| Some(BTreeSet::new()));
            match (&mut *sum, here) {
                (Some(sum), Some(here)) => sum.extend(here),
                _ => *sum = None,
            }
        }
        all.into_iter().filter_map(|(proxy, places)| Some((proxy, places?))).collect()
    }

    /// The format of an access log, where all that write to it have the same.
    #[must_use]
    pub fn format(&self, path: &Path) -> Option<Format> {
        let whole = std::path::absolute(path).ok()?;
        let (text, escape) = self.formats.get(&whole)?.as_ref()?;
        Format::compile(text, *escape).ok()
    }
}

fn writers<'a>(
    logs: impl Iterator<Item = (&'a PathBuf, Option<u32>)>,
) -> BTreeMap<PathBuf, Option<BTreeSet<u32>>> {
    let mut found = BTreeMap::new();
    for (path, netns) in logs {
        let known = found.entry(path.clone()).or_insert_with(|| Some(BTreeSet::new()));
        match (&mut *known, netns) {
            (Some(known), Some(netns)) => {
                known.insert(netns);
            }
            _ => *known = None,
        }
    }
    found
}

fn formats<'a>(
    logs: impl Iterator<Item = &'a AccessLog>,
) -> BTreeMap<PathBuf, Option<(String, Escape)>> {
    let mut found = BTreeMap::new();
    for log in logs {
        let format = log.format.clone().map(|text| (text, log.escape));
        let known = found.entry(log.path.clone()).or_insert_with(|| format.clone());
        if *known != format {
            *known = None;
        }
    }
    found
}

/// Names with one address. Processes of the same names can have others: whose log it is is not known.
fn unambiguous(named: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, address) in named {
        let known = found.entry(name).or_insert_with(|| Some(address.clone()));
        if known.as_ref() != Some(&address) {
            *known = None;
        }
    }
    found.into_iter().filter_map(|(name, address)| Some((name, address?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Kind;

    #[test]
    fn a_name_of_several_addresses_has_none() {
        let named =
            [("a/s", "1:1"), ("b/s", "1:1"), ("a/s", "2:2"), ("a/s", "1:1"), ("b/s", "1:1")];
        let named = named.map(|(name, address)| (name.to_owned(), address.to_owned()));
        let found = unambiguous(named.into_iter());
        assert_eq!(found, BTreeMap::from([("b/s".to_owned(), "1:1".to_owned())]));
    }

    #[test]
    fn places_are_known_where_those_of_all_logs_are() {
        let (a, b, c) = (PathBuf::from("/l/a"), PathBuf::from("/l/b"), PathBuf::from("/l/c"));
        let writers =
            writers([(&a, Some(1)), (&b, Some(2)), (&a, Some(3)), (&c, None)].into_iter());
        let running = Running { writers, ..Running::default() };
        let log = |path: &str| Log { path: path.into(), kind: Kind::NginxError };
        let places = |paths: &[&str]| {
            let logs: Vec<_> = paths.iter().map(|path| log(path)).collect();
            let places = running.places(&logs).remove(&Product::Nginx);
            places.map(|places| places.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(places(&["/l/a"]), Some(vec![1, 3]));
        assert_eq!(places(&["/l/a", "/l/b"]), Some(vec![1, 2, 3]));
        assert_eq!((places(&["/l/a", "/l/c"]), places(&["/l/a", "/l/other"])), (None, None));
    }

    #[test]
    fn a_log_of_several_formats_has_none() {
        let log = |path: &str, format: Option<&str>| AccessLog {
            path: path.into(),
            format: format.map(str::to_owned),
            escape: Escape::Default,
        };
        let logs = [
            log("/l/a", Some("$status $msec")),
            log("/l/b", Some("$status")),
            log("/l/c", None),
            log("/l/b", Some("$status $msec")),
            log("/l/a", Some("$status $msec")),
        ];
        let running = Running { formats: formats(logs.iter()), ..Running::default() };
        let has = |path: &str| running.format(Path::new(path)).is_some();
        assert_eq!(
            (has("/l/a"), has("/l/b"), has("/l/c"), has("/l/d")),
            (true, false, false, false)
        );
    }
}
