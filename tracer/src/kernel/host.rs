//! What this host is called.

use jiff::tz::TimeZone;

use crate::{event::visible, logs::zone};

/// Its name (`uname -n`), inert.
#[must_use]
pub fn name() -> String {
    visible(rustix::system::uname().nodename().to_bytes())
}

/// `uname -m`.
#[must_use]
pub fn machine() -> String {
    visible(rustix::system::uname().machine().to_bytes())
}

/// Its time zone, or the one that this process was given (`TZ`); inert.
#[must_use]
pub fn zone() -> String {
    visible(zone::name(&TimeZone::system()).as_bytes())
}

/// Id of this boot; empty: `/proc` isn't there.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Processors that this process may use.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
