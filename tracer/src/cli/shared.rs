//! Options that several commands share.

use std::path::PathBuf;

use clap::Args;

use super::values::parse_ring_size;
use crate::{
    kernel::{ladder::Hooks, loader::Options},
    proxies::{Given, endpoint::Endpoint},
};

/// How the kernel side is attached.
#[derive(Debug, Args)]
pub struct KernelArgs {
    /// Which hooks may be used.
    #[arg(long, value_enum, default_value_t)]
    pub hooks: Hooks,
    /// Size of each of the two rings between kernel and userspace: a power of two, such as 16M.
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_size)]
    pub ring_size: u32,
}

impl KernelArgs {
    /// The same, with the kernel side's own messages from `-vv` on.
    #[must_use]
    pub fn options(&self, verbose: u8) -> Options {
        Options { ring_size: self.ring_size, hooks: self.hooks, kernel_log: verbose >= 2 }
    }
}

/// Where proxies say what they are limited to.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Proxies (found by themselves where they say where)")]
pub struct ProxyArgs {
    /// Nginx's main configuration file, instead of the one that its master process names, of each Nginx with this root.
    #[arg(long, value_name = "PATH")]
    pub nginx_conf: Option<PathBuf>,
    /// HAProxy's runtime socket, instead of the one of its configuration.
    #[arg(long, value_name = "PATH|ADDRESS:PORT")]
    pub haproxy_socket: Option<Endpoint>,
    /// Envoy's admin interface, instead of the one of its bootstrap.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub envoy_admin: Option<Endpoint>,
}

impl ProxyArgs {
    /// What was given.
    #[must_use]
    pub fn given(&self) -> Given {
        Given {
            nginx_conf: self.nginx_conf.clone(),
            haproxy_socket: self.haproxy_socket.clone(),
            envoy_admin: self.envoy_admin.clone(),
        }
    }
}
