//! Nginx: its processes, and what its configuration says.

pub mod address;
pub mod cmdline;
mod collect;
pub mod glob;
mod include;
pub mod lexer;
pub mod lua;
pub mod read;
mod scope;
pub mod settings;
pub mod statements;

use serde::{Deserialize, Serialize};

use self::settings::Settings;
use super::Located;

/// A running Nginx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nginx {
    /// Its master process.
    pub master: Located,
    /// Its workers.
    pub workers: Vec<Worker>,
    /// What its configuration says.
    pub settings: Settings,
    /// The configuration was changed after the workers had started: they may run by an older one.
    pub changed_since: bool,
}

/// A worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Which.
    pub located: Located,
    /// It finishes its connections and takes no new ones: left from before a reload.
    pub shutting_down: bool,
    /// Sockets that count against `worker_connections`, but for the listeners and the channel to its master.
    pub sockets: u64,
}
