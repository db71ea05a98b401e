//! The kernel's own tables of local ports and of sockets, read by programs of ours that userspace runs
//! itself (`BPF_PROG_TEST_RUN`): what `connect()` looks at, and no other interface shows.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    ops::RangeInclusive,
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, RingBuf},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun},
};
use serde::{Deserialize, Serialize};
use tracer_ebpf::{
    globals,
    tables::{Entry, kind},
};
use zerocopy::FromBytes;

use super::{btf::Btf, ground::require_ring_buffer, loader, privilege};
use crate::ports::PortSet;

/// The smallest ring there can be.
const SMALL: u32 = 64 << 10;

/// Local and remote end of a socket, in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Local address.
    pub src: IpAddr,
    /// Local port.
    pub sport: u16,
    /// Remote address.
    pub dst: IpAddr,
    /// Remote port.
    pub dport: u16,
}

/// What was read, of all network namespaces that share the tables.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Ports that `connect()` passes over since somebody has them by `bind()`, by network namespace.
    pub bound: HashMap<u32, PortSet>,
    /// TIME-WAIT entries that saw no timestamps, so that `connect()` never takes them over; by network namespace.
    pub unstamped: HashMap<u32, HashSet<Tuple>>,
    /// Sockets with a port range of their own (`IP_LOCAL_PORT_RANGE`), as they asked for it;
    /// by network namespace.
    pub ranged: HashMap<u32, HashMap<Tuple, RangeInclusive<u16>>>,
    /// Something was skipped: a bucket with too many entries.
    pub incomplete: bool,
}

/// The loaded programs.
pub struct Tables {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    seen: HashSet<u64>,
    held: Held,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Tables {
    /// Loads the programs.
    ///
    /// # Errors
    /// Not enough privilege, a kernel before 5.10, or one whose tables are made in another way.
    pub fn load() -> Result<Self> {
        require_ring_buffer()?;
        privilege::require_bpf()?;
        loader::lift_memlock();
        let btf = Btf::of_this_kernel()?;
        let mut words = Vec::new();
        for &(global, of, path) in globals::TABLE_OFFSETS {
            words.push((global, btf.offset(of, path)?));
        }
        words.push((globals::SIZE_BIND_HEAD, btf.size("inet_bind_hashbucket")?));
        // Linux 6.3 and later.
        if let Ok(offset) = btf.offset("inet_sock", "local_port_range") {
            words.push((globals::OFF_PORT_RANGE, offset));
        }
        let pointer = u8::from(btf.is_pointer("net", "ipv4.tcp_death_row")?);
        let mut loader = EbpfLoader::new();
        for (name, value) in &words {
            loader.override_global(name, value, true);
        }
        loader
            .override_global(globals::DEATH_ROW_POINTER, &pointer, true)
            .btf(None)
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .map_max_entries("RING_STATE", SMALL)
            .map_max_entries("RING_FAILURE", SMALL)
            .map_max_entries("LIVES", 1)
            .map_max_entries("LIVES_BY_ADDR", 1);
        let mut ebpf = loader.load(loader::OBJECT).context("can't create the maps")?;
        let ring = ebpf.take_map("RING_TABLES").context("the object has no map RING_TABLES")?;
        let ring = RingBuf::try_from(ring).context("RING_TABLES is no ring")?;
        for name in ["walk_describe", "walk_binds", "walk_sockets"] {
            let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
            let program: &mut RawTracePoint = program.try_into()?;
            program.load().with_context(|| format!("the kernel refuses program {name}"))?;
        }
        Ok(Self { ebpf, ring, seen: HashSet::new(), held: Held::default() })
    }

    /// Reads the tables that the calling thread's network namespace uses, unless they were read before.
    ///
    /// # Errors
    /// The kernel doesn't run the programs.
    pub fn read(&mut self) -> Result<()> {
        self.run("walk_describe", 0)?;
        let described = self.entries();
        let Some(tables) = described.first().filter(|entry| entry.table != 0) else {
            bail!("the kernel's tables of ports can't be found");
        };
        if !self.seen.insert(tables.table) {
            return Ok(());
        }
        let walks = [("walk_binds", tables.bind_buckets), ("walk_sockets", tables.socket_buckets)];
        for (program, buckets) in walks {
            let mut first = 0;
            while first < u64::from(buckets) {
                self.run(program, first)?;
                let mut done = 0;
                for entry in self.entries() {
                    self.held.note(&entry);
                    done = done.max(u64::from(entry.buckets_done));
                }
                // A bucket with more entries than a run reads would hold up the rest.
                self.held.incomplete |= done == 0;
                first += done.max(1);
            }
        }
        Ok(())
    }

    /// What was read since the last time.
    pub fn take(&mut self) -> Held {
        self.seen.clear();
        std::mem::take(&mut self.held)
    }

    fn run(&mut self, name: &str, argument: u64) -> Result<()> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        let program: &mut RawTracePoint = program.try_into()?;
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = argument;
        let run = program.test_run(options);
        run.map(drop).with_context(|| format!("the kernel doesn't run program {name}"))
    }

    fn entries(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        while let Some(item) = self.ring.next() {
            entries.extend(Entry::read_from_bytes(&item));
        }
        entries
    }
}

impl Held {
    fn note(&mut self, entry: &Entry) {
        let tuple = Tuple {
            netns: entry.netns,
            src: address(entry.saddr),
            sport: entry.sport,
            dst: address(entry.daddr),
            dport: entry.dport,
        };
        match entry.kind {
            kind::BOUND => self.bound.entry(entry.netns).or_default().insert(entry.sport),
            kind::UNSTAMPED => {
                self.unstamped.entry(entry.netns).or_default().insert(tuple);
            }
            kind::RANGED => {
                let bytes = entry.range.to_le_bytes();
                let [first, last] = [[bytes[0], bytes[1]], [bytes[2], bytes[3]]];
                let range = u16::from_le_bytes(first)..=u16::from_le_bytes(last);
                self.ranged.entry(entry.netns).or_default().insert(tuple, range);
            }
            _ => {}
        }
    }
}

/// Two words in network order.
fn address(words: [u64; 2]) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
    Ipv6Addr::from(bytes).to_canonical()
}
