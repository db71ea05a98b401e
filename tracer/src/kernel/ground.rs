//! What this kernel and this process offer, before anything is loaded.

use anyhow::{Result, bail};
use serde::Serialize;

use super::{btf::Btf, privilege, tracefs};

/// What this kernel and this process offer.
#[derive(Clone, Debug, Serialize)]
pub struct Ground {
    /// `uname -r`.
    pub kernel: String,
    /// Whether the kernel's own type information can be read, or why not.
    pub btf: String,
    /// Whether tracefs is mounted, or what to do.
    pub tracefs: String,
    /// Capabilities that are missing to load eBPF programs.
    pub missing_capabilities: Vec<&'static str>,
}

impl Ground {
    /// Looks.
    #[must_use]
    pub fn survey() -> Self {
        let word = |result: Result<String>| result.unwrap_or_else(|error| format!("{error:#}"));
        Self {
            kernel: release(),
            btf: word(Btf::of_this_kernel().map(|_| "yes".into()).map_err(Into::into)),
            tracefs: tracefs::state().to_owned(),
            missing_capabilities: privilege::missing_for_bpf(),
        }
    }
}

/// `uname -r`.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether this kernel is older than a version. Not known: no.
#[must_use]
pub fn before(wanted: (u32, u32)) -> bool {
    version(&release()).is_some_and(|version| version < wanted)
}

/// Fails on a kernel before 5.8, which has no ring buffer.
///
/// # Errors
/// A message with this kernel's version.
pub fn require_ring_buffer() -> Result<()> {
    if before((5, 8)) {
        bail!(
            "kernel {} is too old: the eBPF ring buffer came with Linux 5.8 (tested from 5.10)",
            release()
        );
    }
    Ok(())
}

/// Major and minor number of a release such as `6.1.0-44-cloud-amd64`.
#[must_use]
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_release_numbers() {
        assert_eq!(version("6.1.0-44-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("7.2+deb14-amd64"), Some((7, 2)));
        assert_eq!(version("linux"), None);
        assert!(version("5.4.0") < Some((5, 8)));
    }
}
