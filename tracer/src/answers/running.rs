//! What running proxies tell that helps to read their logs: where servers are that a log names, and log formats.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    kernel::owners::{Look, Owners},
    logs::nginx_access::Format,
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
        let ours = running.nginx.iter().filter(|nginx| shares_root(nginx.master.process.pid));
        let formats = formats(ours.flat_map(|nginx| &nginx.settings.access_logs));
        Self { addresses, formats }
    }

    /// The format of an access log, where all that write to it have the same.
    #[must_use]
    pub fn format(&self, path: &Path) -> Option<Format> {
        let whole = std::path::absolute(path).ok()?;
        let (text, escape) = self.formats.get(&whole)?.as_ref()?;
        Format::compile(text, *escape).ok()
    }
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

    #[test]
    fn a_name_of_several_addresses_has_none() {
        let named =
            [("a/s", "1:1"), ("b/s", "1:1"), ("a/s", "2:2"), ("a/s", "1:1"), ("b/s", "1:1")];
        let named = named.map(|(name, address)| (name.to_owned(), address.to_owned()));
        let found = unambiguous(named.into_iter());
        assert_eq!(found, BTreeMap::from([("b/s".to_owned(), "1:1".to_owned())]));
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
