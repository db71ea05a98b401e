//! Loading and attaching the kernel-side programs on the best rung that this kernel gives.

use std::{
    any::Any,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie::Key},
    programs::{BtfTracePoint, ProgramError, TracePoint},
};
use aya_log::EbpfLogger;
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};
use tracer_ebpf::{Counters, globals};
use zerocopy::transmute;

use super::{
    btf::Btf,
    ladder::{Feature, Hooks, Refusal, Rung, release, require_ring_buffer, version},
    privilege,
    ring::Rings,
    tracefs,
};
use crate::filter::{self, Filter};

/// The compiled kernel-side programs; `cargo xtask ebpf` makes them from `tracer-ebpf/`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SOCKLIFE_OBJECT"));

/// The object's counters as an array, as aya reads it.
type RawCounters = [u64; size_of::<Counters>() / 8];

/// Buckets of 8 sockets each that the kernel side remembers: 131,072 sockets in 8 MiB.
const LIFE_BUCKETS: u32 = 16_384;
/// The same where only connecting sockets are followed: 8,192 of them in 512 KiB.
const CONNECTING_BUCKETS: u32 = 1024;

/// What a run asks of the kernel side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of each of the two rings in bytes: a power of two and a multiple of the page size.
    pub ring_size: u32,
    /// Which rungs may be used.
    pub hooks: Hooks,
    /// Pass the kernel side's own debug messages to our log.
    pub kernel_log: bool,
}

/// The kernel side of a run: attached until dropped.
pub struct Kernel {
    rings: Rings,
    counters: PerCpuArray<MapData, RawCounters>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Detaches the program when dropped.
    link: Option<Box<dyn Any>>,
    program: OwnedFd,
    /// Keeps the programs and the other maps.
    _ebpf: Ebpf,
    rung: Rung,
    refused: Vec<Refusal>,
}

impl Kernel {
    /// Loads and attaches, trying the rungs that `options` allows, best first.
    ///
    /// # Errors
    /// Not enough privilege, a kernel that is too old, or no rung loads: the message says why for
    /// each. A filter that the remaining rung can't apply in the kernel.
    pub fn attach(options: &Options, filter: &Filter) -> Result<Self> {
        require_ring_buffer()?;
        privilege::require_bpf()?;
        lift_memlock();
        let mut refused = Vec::new();
        for &rung in options.hooks.state_rungs() {
            match Self::attach_rung(rung, options, filter) {
                Ok(mut kernel) => {
                    kernel.refused = refused;
                    return Ok(kernel);
                }
                Err(error) => {
                    tracing::debug!("{rung}: {error:?}");
                    refused.push(Refusal { rung: rung.state_hook(), why: explain(&error) });
                }
            }
        }
        let reasons: Vec<_> =
            refused.iter().map(|r| format!("\n  {}: {}", r.rung, r.why)).collect();
        bail!(
            "no hook for TCP state changes can be used on this kernel ({}):{}",
            release(),
            reasons.concat()
        )
    }

    fn attach_rung(rung: Rung, options: &Options, filter: &Filter) -> Result<Self> {
        let mut globals = Globals::new(options, filter);
        match Btf::of_this_kernel() {
            Ok(btf) => globals.offsets(&btf)?,
            Err(error) if rung == Rung::BtfTracepoint => return Err(error.into()),
            Err(error) => refuse_blind_filters(filter).context(error)?,
        }
        if rung == Rung::Tracepoint {
            globals.fields = tracefs::state_fields()?;
        }
        let mut loader = EbpfLoader::new();
        globals.set(&mut loader);
        loader
            .map_max_entries("RING_STATE", options.ring_size)
            .map_max_entries("RING_FAILURE", options.ring_size);
        // The other rung's map stays as small as can be.
        match rung {
            Rung::BtfTracepoint => loader
                .map_max_entries("LIVES", globals.life_buckets)
                .map_max_entries("LIVES_BY_ADDR", 1),
            Rung::Tracepoint => loader.map_max_entries("LIVES", 1),
        };
        let mut ebpf = loader.load(OBJECT).context("can't create the maps")?;
        fill_filters(&mut ebpf, filter)?;
        let counters = ebpf.take_map("COUNTERS").context("the object has no map COUNTERS")?;
        let counters = PerCpuArray::try_from(counters)?;
        let rings = Rings::take(&mut ebpf)?;
        let logger = options
            .kernel_log
            .then(|| EbpfLogger::init(&mut ebpf))
            .transpose()
            .context("aya-log")?;
        let (link, program): (Box<dyn Any>, _) = match rung {
            Rung::BtfTracepoint => {
                let btf = aya::Btf::from_sys_fs()?;
                // The second takes what the kernel skips the first for. Both are loaded before one
                // is attached, so that they begin together.
                for name in ["state_tp_btf", "state_tp_btf_2"] {
                    let program: &mut BtfTracePoint = program(&mut ebpf, name)?.try_into()?;
                    program.load("inet_sock_set_state", &btf)?;
                }
                let mut attach = |name| -> Result<_> {
                    let program: &mut BtfTracePoint = program(&mut ebpf, name)?.try_into()?;
                    let id = program.attach()?;
                    Ok((program.take_link(id)?, program.fd()?.try_clone()?))
                };
                let (first, program) = attach("state_tp_btf")?;
                let (second, _) = attach("state_tp_btf_2")?;
                (Box::new((first, second)), program)
            }
            Rung::Tracepoint => {
                let program: &mut TracePoint =
                    program(&mut ebpf, "state_tracepoint")?.try_into()?;
                program.load()?;
                let id = program.attach("sock", "inet_sock_set_state")?;
                (Box::new(program.take_link(id)?), program.fd()?.try_clone()?)
            }
        };
        let program = program.as_fd().try_clone_to_owned()?;
        let (link, refused) = (Some(link), Vec::new());
        Ok(Self { rings, counters, logger, link, program, _ebpf: ebpf, rung, refused })
    }

    /// The rung in use for state changes.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Waits until a ring fills up faster than the timer empties it.
    pub async fn filling_up(&self) {
        self.rings.filling_up().await;
    }

    /// Takes what happened up to a moment ago, in the order of time, and whether there is more.
    pub fn drain(&mut self) -> (Bytes, bool) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.rings.drain()
    }

    /// Detaches the programs. What they left in the rings stays for [`Self::drain_rest`].
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Takes what the rings still hold after [`Self::detach`]; empty when there is no more.
    pub fn drain_rest(&mut self) -> Bytes {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.rings.drain_rest()
    }

    /// How often the kernel skipped the program: since Linux 6.1 when the same CPU was in the middle of
    /// it already (`__bpf_trace_run`: a softirq that came while it ran for a task's own transition), the
    /// plain tracepoint's also while another eBPF program ran (`trace_call_bpf`, counted since 6.7). Less
    /// what the second program took, each is a state change that nobody saw.
    ///
    /// # Errors
    /// The program's descriptor can't be asked.
    pub fn missed(&self) -> Result<u64> {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let info = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
        let skipped: u64 = misses.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        // Asked for afterwards: a skipped run may be on its way to the second program.
        Ok(skipped.saturating_sub(self.counters()?.rescued))
    }

    /// What the kernel side has produced and dropped so far, all CPUs together.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub fn counters(&self) -> Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).context("can't read the kernel side's counters")?;
        Ok(per_cpu.iter().map(|&raw| transmute!(raw)).fold(
            Counters::default(),
            |sum, cpu: Counters| Counters {
                state_produced: sum.state_produced + cpu.state_produced,
                state_dropped: sum.state_dropped + cpu.state_dropped,
                failure_produced: sum.failure_produced + cpu.failure_produced,
                failure_dropped: sum.failure_dropped + cpu.failure_dropped,
                owner_dropped: sum.owner_dropped + cpu.owner_dropped,
                rescued: sum.rescued + cpu.rescued,
                ..sum
            },
        ))
    }
}

/// Which hook each event would use, found by attaching it for a moment.
///
/// # Errors
/// None for a rung that can't be used: that is the answer.
#[must_use]
pub fn features(hooks: Hooks) -> Vec<Feature> {
    let options = Options { ring_size: 64 << 10, hooks, kernel_log: false };
    let state = match Kernel::attach(&options, &Filter::default()) {
        Ok(kernel) => Feature {
            event: "state",
            rung: Some(kernel.rung.state_hook()),
            cost: Some(kernel.rung.cost()),
            notes: kernel.rung.notes(&release(), Btf::of_this_kernel().is_ok()),
            refused: kernel.refused,
        },
        Err(error) => Feature {
            event: "state",
            rung: None,
            cost: None,
            notes: Vec::new(),
            refused: vec![Refusal { rung: "any", why: explain(&error) }],
        },
    };
    vec![state]
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))
}

/// Before Linux 5.11 maps count against `RLIMIT_MEMLOCK`, 64 KiB by default.
fn lift_memlock() {
    if version(&release()).is_some_and(|version| version < (5, 11)) {
        let unlimited = Rlimit { current: None, maximum: None };
        if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
            tracing::warn!("can't lift RLIMIT_MEMLOCK, maps may not fit: {error}");
        }
    }
}

/// Without BTF neither the errno nor the namespace of a socket can be read.
fn refuse_blind_filters(filter: &Filter) -> Result<()> {
    if !filter.netns.is_empty() {
        bail!("--netns can't be applied in this kernel: it has no type information (BTF)");
    }
    if filter.failures && !filter.connects_only() {
        bail!("only failed connects for want of a port can be told apart without BTF");
    }
    Ok(())
}

/// The kernel's word about a rung, in one line.
fn explain(error: &anyhow::Error) -> String {
    let refused = error.chain().find_map(|cause| match cause.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError { io_error, .. }) => Some(io_error),
        _ => None,
    });
    match refused {
        Some(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            "the kernel refuses to load this kind of program (EPERM)".to_owned()
        }
        Some(io) => format!("the kernel's verifier refuses the program ({io}); -v shows its log"),
        None => format!("{error:#}"),
    }
}

/// Values of the kernel side's read-only globals, see `tracer_ebpf::globals`.
struct Globals {
    life_buckets: u32,
    offsets: Vec<(&'static str, u32)>,
    fields: Vec<(&'static str, u32)>,
    bytes: Vec<(&'static str, u8)>,
    words: Vec<(&'static str, u32)>,
    longs: Vec<(&'static str, u64)>,
}

impl Globals {
    fn new(options: &Options, filter: &Filter) -> Self {
        let some = |list: bool| u8::from(!list);
        let errors = filter.error_bits();
        let cgroup = filter.cgroup.map_or((0, 0), |cgroup| (cgroup.id, cgroup.level));
        let log_level = if options.kernel_log { aya_log::Level::Debug as u8 } else { 0 };
        let life_buckets = if filter.connects_only() { CONNECTING_BUCKETS } else { LIFE_BUCKETS };
        Self {
            life_buckets,
            offsets: Vec::new(),
            fields: Vec::new(),
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

    fn offsets(&mut self, btf: &Btf) -> Result<()> {
        for &(global, of, path) in globals::OFFSETS {
            self.offsets.push((global, btf.offset(of, path)?));
        }
        self.bytes.push((globals::HAVE_OFFSETS, 1));
        Ok(())
    }

    fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in self.offsets.iter().chain(&self.fields).chain(&self.words) {
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

/// Puts the values of the filters into their maps.
fn fill_filters(ebpf: &mut Ebpf, filter: &Filter) -> Result<()> {
    fill(ebpf, "PIDS", &filter.pids)?;
    fill(ebpf, "COMMS", &filter.comms)?;
    fill(ebpf, "PORTS", &filter.ports)?;
    fill(ebpf, "DPORTS", &filter.dports)?;
    fill(ebpf, "NETNS", &filter.netns)?;
    for (name, networks) in [("SRC", &filter.src), ("DST", &filter.dst)] {
        let map = ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no map {name}"))?;
        let mut trie = LpmTrie::<_, [u8; 16], u8>::try_from(map)?;
        for network in networks {
            let (prefix, address) = filter::trie_key(network);
            trie.insert(&Key::new(prefix, address), 1, 0).with_context(|| too_many(name))?;
        }
    }
    Ok(())
}

fn fill<K: aya::Pod>(ebpf: &mut Ebpf, name: &str, values: &[K]) -> Result<()> {
    let map = ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no map {name}"))?;
    let mut map = HashMap::<_, K, u8>::try_from(map)?;
    for value in values {
        map.insert(value, 1, 0).with_context(|| too_many(name))?;
    }
    Ok(())
}

fn too_many(name: &str) -> String {
    format!("can't put a filter's value into map {name} (at most {} values)", filter::MAX_VALUES)
}
