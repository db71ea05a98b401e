//! The harness of the end-to-end tests: network namespaces, processes, Nginx, and socklife itself.
//!
//! Everything made here goes away when its guard is dropped, on a failing test too.

pub mod net;
pub mod nginx;
pub mod process;
pub mod socklife;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `ready` gives something.
///
/// # Errors
/// It didn't within [`PATIENCE`], or `ready` failed.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The socklife under test: `SOCKLIFE_BIN`, else the release build of this workspace.
#[must_use]
pub fn socklife_binary() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/socklife");
    std::env::var_os("SOCKLIFE_BIN").map_or_else(built, PathBuf::from)
}
