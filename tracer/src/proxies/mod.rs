//! What the proxies of this host say of themselves: Nginx by its configuration, HAProxy by its runtime socket, Envoy
//! by its admin interface. It is read, and nothing is concluded here. What is read comes from other
//! tenants too: paths, names and sizes are hostile.

pub mod endpoint;
pub mod envoy;
pub mod files;
pub mod haproxy;
pub mod host;
pub mod nginx;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::endpoint::Endpoint;
use crate::{
    event::made_visible,
    kernel::{netns, owners::Owners, process::Process},
};

/// Where to read from instead of where a proxy's process says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Nginx's main configuration file, as this process sees it.
    pub nginx_conf: Option<PathBuf>,
    /// HAProxy's runtime socket.
    pub haproxy_socket: Option<Endpoint>,
    /// Envoy's admin interface.
    pub envoy_admin: Option<Endpoint>,
}

/// Reads what proxies say, again and again.
#[derive(Debug, Default)]
pub struct Reader {
    given: Given,
    nginx: nginx::Reader,
}

impl Reader {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new(given: Given) -> Self {
        Self { given, ..Self::default() }
    }

    /// What the proxies among these processes say now.
    #[must_use]
    pub fn read(&mut self, owners: &Owners) -> Proxies {
        let (nginx, mut unread) = self.nginx.read(owners, self.given.nginx_conf.as_deref());
        let of = |name: &'static [u8]| -> Vec<Located> {
            let files = owners.files.iter();
            let named = files.filter(|files| files.process.comm.bytes().starts_with(name));
            let located =
                |process: Process| Located { process, netns: netns::of_process(process.pid) };
            named.map(|files| located(files.process)).collect()
        };
        let haproxy = match &self.given.haproxy_socket {
            None => haproxy::read_all(&of(b"haproxy")),
            Some(at) => each(&of(b"haproxy"), |it| haproxy::read(it, Some(at))),
        };
        let envoy = match &self.given.envoy_admin {
            None => envoy::read_all(&of(b"envoy")),
            Some(at) => each(&of(b"envoy"), |it| envoy::read(it, Some(at))),
        };
        unread.extend(haproxy.1.into_iter().chain(envoy.1));
        for why in &mut unread {
            *why = made_visible(why).into_owned();
        }
        Proxies { nginx, haproxy: haproxy.0, envoy: envoy.0, unread }
    }
}

/// Those of some processes that answer; where none does, why.
fn each<T>(
    processes: &[Located],
    read: impl Fn(Located) -> anyhow::Result<T>,
) -> (Vec<T>, Vec<String>) {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for &process in processes {
        match read(process) {
            Ok(proxy) => found.push(proxy),
            Err(error) => unread.push(format!("{error:#}")),
        }
    }
    // The others are its master, and workers from before a reload.
    if !found.is_empty() {
        unread.clear();
    }
    (found, unread)
}

/// The proxies of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxies {
    /// Each running Nginx.
    pub nginx: Vec<nginx::Nginx>,
    /// Each running HAProxy.
    pub haproxy: Vec<haproxy::HaProxy>,
    /// Each running Envoy.
    pub envoy: Vec<envoy::Envoy>,
    /// Proxies that could not be read, in a person's words: which, why, and what to do.
    pub unread: Vec<String>,
}

/// A process of a proxy, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The process.
    pub process: Process,
    /// Its network namespace.
    pub netns: Option<u32>,
}
