//! The ladder: which hook each event uses on this kernel, and why not a better one.

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{btf::Btf, privilege, tracefs};

/// Ways to hook an event, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// A BTF-typed tracepoint: typed reads, socket storage, the kernel's cookies.
    BtfTracepoint,
    /// A plain tracepoint: needs tracefs; fields beyond its record are read where BTF tells where.
    Tracepoint,
}

impl Rung {
    /// The hook for state changes on this rung.
    #[must_use]
    pub fn state_hook(self) -> &'static str {
        match self {
            Self::BtfTracepoint => "tp_btf/inet_sock_set_state",
            Self::Tracepoint => "tracepoint/sock/inet_sock_set_state",
        }
    }

    /// What this rung can't do on a kernel.
    #[must_use]
    pub fn notes(self, kernel: &str, btf: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let before = |release| version(kernel).is_some_and(|version| version < release);
        if self == Self::Tracepoint {
            notes.push("no kernel cookie of the socket".to_owned());
            if !btf {
                notes.push(
                    "no errno and no network namespace: of failures only port-range-exhausted is told"
                        .to_owned(),
                );
            }
            notes.push(format!(
                "it is skipped while another eBPF program runs on the same CPU; {}",
                if before((6, 7)) { "this kernel does not count that" } else { "counted as lost" },
            ));
        }
        notes
    }

    /// What an event costs on this rung.
    #[must_use]
    pub fn cost(self) -> &'static str {
        match self {
            Self::BtfTracepoint => "low: runs on TCP state changes only, typed reads",
            Self::Tracepoint => {
                "moderate: runs on TCP state changes only, copied reads, a hash map"
            }
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.state_hook())
    }
}

/// `--hooks`: which rungs may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hooks {
    /// The best that loads.
    #[default]
    Auto,
    /// BTF-typed programs only: `tp_btf`, fentry, fexit.
    Fentry,
    /// kprobes where an event has one; state changes from the plain tracepoint.
    Kprobe,
    /// Plain tracepoints only.
    Tracepoint,
}

impl Hooks {
    /// The rungs to try for state changes, best first.
    #[must_use]
    pub fn state_rungs(self) -> &'static [Rung] {
        match self {
            Self::Auto => &[Rung::BtfTracepoint, Rung::Tracepoint],
            Self::Fentry => &[Rung::BtfTracepoint],
            Self::Kprobe | Self::Tracepoint => &[Rung::Tracepoint],
        }
    }
}

/// One event of the ladder as `features` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Feature {
    /// The event: `state`.
    pub event: &'static str,
    /// The hook in use; `None`: no rung loads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rung: Option<&'static str>,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<&'static str>,
    /// What this rung can't do on this kernel.
    pub notes: Vec<String>,
    /// The better rungs, and why each is not in use.
    pub refused: Vec<Refusal>,
}

/// A rung that is not in use.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// The hook.
    pub rung: &'static str,
    /// Why, in a person's terms.
    pub why: String,
}

/// What this kernel and this process offer, before anything is loaded.
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
        let word = |result: Result<()>| result.map_or_else(|e| format!("{e:#}"), |()| "yes".into());
        Self {
            kernel: release(),
            btf: word(Btf::of_this_kernel().map(drop).map_err(Into::into)),
            tracefs: word(tracefs::state_tracepoint().map(drop)),
            missing_capabilities: privilege::missing_for_bpf(),
        }
    }
}

/// `uname -r`.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Fails on a kernel before 5.8, which has no ring buffer.
///
/// # Errors
/// A message with this kernel's version.
pub fn require_ring_buffer() -> Result<()> {
    let release = release();
    match version(&release) {
        Some(version) if version < (5, 8) => bail!(
            "kernel {release} is too old: the eBPF ring buffer came with Linux 5.8 (tested from 5.10)"
        ),
        _ => Ok(()),
    }
}

/// Major and minor number of a release such as `6.1.0-44-cloud-amd64`.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
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

    #[test]
    fn what_can_not_be_counted_is_said() {
        assert!(Rung::BtfTracepoint.notes("6.1.0", true).is_empty());
        let notes = |kernel| Rung::Tracepoint.notes(kernel, false).concat();
        assert!(notes("6.1.0").contains("does not count"));
        assert!(notes("6.18.0").contains("counted as lost"));
    }
}
