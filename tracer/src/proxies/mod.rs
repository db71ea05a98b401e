//! What the proxies of this host say of themselves: Nginx by its configuration, HAProxy by its runtime socket, Envoy
//! by its admin interface. It is read, and nothing is concluded here. What is read comes from other
//! tenants too: paths, names and sizes are hostile.

pub mod endpoint;
pub mod envoy;
pub mod files;
pub mod haproxy;
pub mod host;
pub mod nginx;

use serde::{Deserialize, Serialize};

use crate::kernel::process::Process;

/// The proxies of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxies {
    /// Each running Nginx.
    pub nginx: Vec<nginx::Nginx>,
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
