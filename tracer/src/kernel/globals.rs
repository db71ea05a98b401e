//! Values of the kernel side's read-only globals, see `tracer_ebpf::globals`.

use anyhow::Result;
use aya::EbpfLoader;
use tracer_ebpf::globals;

use super::{btf::Btf, loader::Options};
use crate::filter::Filter;

/// Buckets of 8 sockets each that the kernel side remembers: 131,072 sockets in 8 MiB.
const LIFE_BUCKETS: u32 = 16_384;
/// The same where only connecting sockets are followed: 8,192 of them in 512 KiB.
const CONNECTING_BUCKETS: u32 = 1024;

/// What is set before the programs are loaded.
pub struct Globals {
    /// Of the map `LIVES`.
    pub life_buckets: u32,
    bytes: Vec<(&'static str, u8)>,
    words: Vec<(&'static str, u32)>,
    longs: Vec<(&'static str, u64)>,
}

impl Globals {
    /// What the user asked for.
    #[must_use]
    pub fn new(options: &Options, filter: &Filter) -> Self {
        let some = |list: bool| u8::from(!list);
        let errors = filter.error_bits();
        let cgroup = filter.cgroup.map_or((0, 0), |cgroup| (cgroup.id, cgroup.level));
        let log_level = if options.kernel_log { aya_log::Level::Debug as u8 } else { 0 };
        let life_buckets = if filter.connects_only() { CONNECTING_BUCKETS } else { LIFE_BUCKETS };
        Self {
            life_buckets,
            bytes: vec![
                (aya_log::LEVEL, log_level),
                (globals::TRACK_ALL, u8::from(!filter.connects_only())),
                (globals::FILTER_FAILURES, u8::from(filter.failures)),
                (globals::FILTER_FAMILY, filter.family.unwrap_or(0)),
                (globals::FILTER_PIDS, some(filter.pids.is_empty())),
                (globals::FILTER_COMMS, some(filter.comms.is_empty())),
                (globals::FILTER_PORTS, some(filter.ports.is_empty())),
                (globals::FILTER_DPORTS, some(filter.dports.is_empty())),
                (globals::FILTER_SRC, some(filter.src.is_empty())),
                (globals::FILTER_DST, some(filter.dst.is_empty())),
                (globals::FILTER_NETNS, some(filter.netns.is_empty())),
            ],
            words: vec![
                (globals::LIFE_BUCKETS, life_buckets),
                (globals::WAKE_BYTES, options.ring_size / 4),
                (globals::FILTER_STATES, filter.state_bits()),
                (globals::FILTER_CGROUP_LEVEL, cgroup.1),
            ],
            longs: vec![
                (globals::FILTER_ERRORS[0], errors[0]),
                (globals::FILTER_ERRORS[1], errors[1]),
                (globals::FILTER_ERRORS[2], errors[2]),
                (globals::FILTER_CGROUP, cgroup.0),
            ],
        }
    }

    /// One more word.
    pub fn word(&mut self, name: &'static str, value: u32) {
        self.words.push((name, value));
    }

    /// One more byte.
    pub fn byte(&mut self, name: &'static str, value: u8) {
        self.bytes.push((name, value));
    }

    /// Field offsets that the hooks of state changes need.
    ///
    /// # Errors
    /// The kernel's type information lacks a field: its name.
    pub fn offsets(&mut self, btf: &Btf) -> Result<()> {
        self.resolve(btf, globals::OFFSETS)?;
        self.byte(globals::HAVE_OFFSETS, 1);
        Ok(())
    }

    /// Field offsets that the other hooks need.
    ///
    /// # Errors
    /// The kernel's type information lacks a field: its name.
    pub fn hook_offsets(&mut self, btf: &Btf) -> Result<()> {
        self.resolve(btf, globals::HOOK_OFFSETS)?;
        if let Some(arguments) = btf.arguments("inet_csk_accept") {
            self.word(globals::ACCEPT_ARGUMENTS, arguments);
        }
        let alloc_fd = globals::ALLOC_FD.iter().find_map(|function| btf.arguments(function));
        if let Some(arguments) = alloc_fd {
            self.word(globals::FD_ARGUMENTS, arguments);
        }
        Ok(())
    }

    fn resolve(&mut self, btf: &Btf, offsets: &[(&'static str, &str, &str)]) -> Result<()> {
        for &(global, of, path) in offsets {
            self.words.push((global, btf.offset(of, path)?));
        }
        Ok(())
    }

    /// Hands all to the loader.
    pub fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in &self.words {
            loader.override_global(name, value, true);
        }
        for (name, value) in &self.bytes {
            loader.override_global(name, value, true);
        }
        for (name, value) in &self.longs {
            loader.override_global(name, value, true);
        }
    }
}
