//! What this process may do, said before the kernel says only EPERM.

use anyhow::{Result, bail};
use rustix::thread::{CapabilitySet, capabilities};

/// Fails with the names of the capabilities that loading and attaching need and this process lacks.
///
/// Since Linux 5.8 `CAP_BPF` and `CAP_PERFMON` are enough; `CAP_SYS_ADMIN` stands for both.
///
/// # Errors
/// A message that names what is missing and how to get it.
pub fn require_bpf() -> Result<()> {
    let missing = missing_for_bpf();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "not enough privilege to load eBPF programs: {} missing. Run socklife as root (sudo), or give \
         the binary what it needs: setcap cap_bpf,cap_perfmon+ep $(command -v socklife)",
        missing.join(" and "),
    )
}

/// The names of the missing capabilities; empty when all are there.
#[must_use]
pub fn missing_for_bpf() -> Vec<&'static str> {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if held.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|&(capability, _)| !held.contains(capability))
        .map(|(_, name)| name)
        .collect()
}
