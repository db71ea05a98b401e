//! The harness of the end-to-end tests: network namespaces, processes, proxies, and socklife itself.
//!
//! Everything made here goes away when its guard is dropped, on a failing test too.

pub mod check;
pub mod conntrack;
pub mod course;
pub mod envoy;
pub mod haproxy;
pub mod net;
pub mod nginx;
pub mod page;
pub mod process;
pub mod python;
pub mod socklife;
pub mod tmux;
pub mod truth;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

static PATIENCE_S: AtomicU64 = AtomicU64::new(30);

/// How long a test waits for what must happen: half a minute, unless set otherwise.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_secs(PATIENCE_S.load(Ordering::Relaxed))
}

/// For a machine that is slower than most.
pub fn set_patience(seconds: u64) {
    PATIENCE_S.store(seconds, Ordering::Relaxed);
}

/// Waits until `ready` gives something.
///
/// # Errors
/// It didn't within [`patience`], or `ready` failed.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience();
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", patience().as_secs());
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
