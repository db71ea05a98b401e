//! Nginx: its processes, and what its configuration says.

pub mod address;
pub mod cmdline;
mod collect;
pub mod glob;
mod include;
pub mod leads;
pub mod lexer;
pub mod lua;
mod processes;
pub mod program;
pub mod read;
mod reading;
mod scope;
pub mod settings;
pub mod statements;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(super) use self::reading::Reader;
use self::settings::Settings;
use super::Located;

/// A running Nginx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nginx {
    /// Its master process.
    pub master: Located,
    /// Its workers.
    pub workers: Vec<Worker>,
    /// Inode numbers of the sockets that the master has open: listeners, which each worker has too, and channels.
    pub listening: Vec<u32>,
    /// What its configuration says.
    pub settings: Arc<Settings>,
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
    /// Sockets that no other process has: its connections to clients and upstreams.
    pub sockets: u64,
    /// That was concluded from its open files.
    pub inferred: bool,
    /// Its open files below its soft limit, and that limit.
    pub files: (u64, u64),
}
