//! What the proxies of this host say of themselves: Nginx by its configuration, HAProxy by its runtime socket, Envoy
//! by its admin interface. It is read, and nothing is concluded here. What is read comes from other
//! tenants too: paths, names and sizes are hostile.

mod asking;
pub mod endpoint;
pub mod envoy;
pub mod files;
pub mod haproxy;
mod helpers;
pub mod host;
pub mod nginx;
mod turns;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::{asking::Asking, endpoint::Endpoint};
use crate::{
    event::made_visible,
    kernel::{owners::Owners, process::Process},
};

/// Most lines that say what could not be read.
const MOST_UNREAD: usize = 100;

/// Where to read from instead of where a proxy's process says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Nginx's main configuration file, as this process sees it: of each Nginx that has the same root, or of the only
    /// one, where its own can't be read.
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
    asking: Asking,
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
        let (haproxy, envoy, of_asking) = self.asking.ask(owners, &self.given);
        unread.extend(of_asking);
        let more = unread.len().saturating_sub(MOST_UNREAD);
        unread.truncate(MOST_UNREAD);
        for why in &mut unread {
            *why = made_visible(why).into_owned();
        }
        if more > 0 {
            unread.push(format!("proxies that could not be read, beside these: {more}"));
        }
        Proxies { nginx, haproxy, envoy, unread }
    }
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
