//! Loading and attaching the kernel-side programs, each event on the best rung that this kernel gives.

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie::Key},
};
use aya_log::EbpfLogger;
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};
use tracer_ebpf::{Counters, Settings, connect_return, globals as names};
use zerocopy::transmute;

use super::{
    btf::Btf,
    features::Refusal,
    globals::Globals,
    ground::{before, release, require_ring_buffer},
    hooks::{Footing, Hook},
    ladder::{Hooked, Hooks, Level, Rung},
    privilege,
    ring::Rings,
    tracefs,
};
use crate::filter::{self, Filter};

/// The compiled kernel-side programs; `cargo xtask ebpf` makes them from `tracer-ebpf/`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SOCKLIFE_OBJECT"));

/// The object's counters as an array, as aya reads it.
type RawCounters = [u64; size_of::<Counters>() / 8];

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

/// An event that can't be seen on this kernel.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// Which.
    pub hooked: Hooked,
    /// Why each rung can't be used.
    pub refused: Vec<Refusal>,
}

/// How often the kernel skipped a program: since Linux 6.1 when the same CPU was in the middle of it
/// already (`__bpf_trace_run`: a softirq that came while it ran for a task's own transition), that of a
/// plain tracepoint or a kprobe also while another eBPF program ran (`trace_call_bpf`, counted since 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// State changes that nobody saw.
    pub states: u64,
    /// Calls that nobody looked at; few of them will have failed.
    pub calls: u64,
}

/// The kernel side of a run: attached until dropped.
pub struct Kernel {
    rings: Rings,
    counters: PerCpuArray<MapData, RawCounters>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// State changes first: detached in this order, so that no other hook misses a failure that the
    /// state hook leaves to it.
    hooks: Vec<Hook>,
    unseen: Vec<Unseen>,
    /// What the kernel skipped by the time the hooks were detached.
    skipped: Skipped,
    /// Keeps the programs and the other maps.
    _ebpf: Ebpf,
}

impl Kernel {
    /// Loads and attaches what a run with these filters needs, each event on the best rung that `options`
    /// allows. State changes can't be done without; another event that can't be had is in
    /// [`Self::unseen`].
    ///
    /// # Errors
    /// Not enough privilege, a kernel that is too old, or no rung for state changes loads: the message
    /// says why for each. A filter that the remaining rung can't apply in the kernel.
    pub fn attach(options: &Options, filter: &Filter) -> Result<Self> {
        require_ring_buffer()?;
        privilege::require_bpf()?;
        lift_memlock();
        let mut refused = Vec::new();
        for rung in Hooked::State.rungs() {
            if !options.hooks.allow(Hooked::State, rung.level) {
                let why = format!("left out by --hooks {}", options.hooks.name());
                refused.push(Refusal { rung: rung.name, why });
                continue;
            }
            match Self::attach_rung(rung, options, filter) {
                Ok(mut kernel) => {
                    kernel.hooks[0].refused = refused;
                    return Ok(kernel);
                }
                Err(error) => {
                    tracing::debug!("{rung}: {error:#}");
                    refused.push(Refusal { rung: rung.name, why: super::hooks::explain(&error) });
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

    fn attach_rung(rung: &'static Rung, options: &Options, filter: &Filter) -> Result<Self> {
        let mut globals = Globals::new(options, filter);
        let (types, no_fields) = match Btf::of_this_kernel() {
            Ok(btf) => {
                globals.offsets(&btf)?;
                let no_fields = globals.hook_offsets(&btf).err().map(|error| error.to_string());
                (Some(btf), no_fields)
            }
            Err(error) if !rung.is_plain() => return Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                refuse_blind_filters(filter).context(error)?;
                (None, Some(why))
            }
        };
        if rung.is_plain() {
            for (name, offset) in tracefs::state_fields()? {
                globals.word(name, offset);
            }
        }
        let in_table = rung.level == Level::Typed && !before((5, 12));
        globals.byte(names::LIFE_TABLE, u8::from(in_table));
        let mut loader = EbpfLoader::new();
        globals.set(&mut loader);
        // For its log the verifier runs once more, and again for a longer one.
        let verbose = tracing::enabled!(tracing::Level::DEBUG);
        let log = if verbose { VerifierLogLevel::default() } else { VerifierLogLevel::DISABLE };
        loader
            // For relocations, which the object has none of; it takes some 30 MB.
            .btf(None)
            .verifier_log_level(log)
            .map_max_entries("RING_STATE", options.ring_size)
            .map_max_entries("RING_FAILURE", options.ring_size);
        // The other rungs' map stays as small as can be.
        if in_table {
            loader
                .map_max_entries("LIVES", globals.life_buckets)
                .map_max_entries("LIVES_BY_ADDR", 1);
        } else {
            loader.map_max_entries("LIVES", 1);
        }
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
        let btf = aya::Btf::from_sys_fs().map_err(|error| error.to_string());
        let footing = Footing { btf, types, no_fields };

        let (mut hooks, mut unseen) = (Vec::new(), Vec::new());
        // A connect that fails between its hook and that of state changes looks as if it had no state: of these
        // two the one is attached right after the other, when all is loaded.
        Hook::load(&mut ebpf, rung, &footing)?;
        let before = Hooked::ALL.into_iter().filter(|&it| it != Hooked::Connect);
        for hooked in before.chain([Hooked::Connect]) {
            if hooked == Hooked::State || !filter.needs(hooked) {
                continue;
            }
            match Hook::attach(&mut ebpf, hooked, options.hooks, &footing) {
                Ok(hook) => hooks.push(hook),
                Err(refused) => unseen.push(Unseen { hooked, refused }),
            }
        }
        write_settings(&mut ebpf, &hooks)?;
        hooks.insert(0, Hook::attach_loaded(&mut ebpf, Hooked::State, rung)?);
        Ok(Self {
            rings,
            counters,
            logger,
            hooks,
            unseen,
            skipped: Skipped::default(),
            _ebpf: ebpf,
        })
    }

    /// The hooks in use, that of state changes first.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// What the filters ask for and this kernel can't show.
    #[must_use]
    pub fn unseen(&self) -> &[Unseen] {
        &self.unseen
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
    ///
    /// # Errors
    /// A program's descriptor can't be asked.
    pub fn detach(&mut self) -> Result<()> {
        self.skipped = self.skipped_so_far()?;
        self.hooks.clear();
        Ok(())
    }

    /// Takes what the rings still hold after [`Self::detach`]; empty when there is no more.
    pub fn drain_rest(&mut self) -> Bytes {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.rings.drain_rest()
    }

    /// What the kernel skipped and no second program took.
    ///
    /// # Errors
    /// A program's descriptor can't be asked.
    pub fn skipped(&self) -> Result<Skipped> {
        let Skipped { states, calls } = self.skipped_so_far()?;
        // Asked for afterwards: a skipped run may be on its way to the second program.
        Ok(Skipped { states: states.saturating_sub(self.counters()?.rescued), calls })
    }

    fn skipped_so_far(&self) -> Result<Skipped> {
        let mut skipped = self.skipped;
        for hook in &self.hooks {
            let kind =
                if hook.hooked == Hooked::State { &mut skipped.states } else { &mut skipped.calls };
            *kind += hook.skipped()?;
        }
        Ok(skipped)
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
            },
        ))
    }
}

/// Tells the state hook, before it is attached, what the other hooks are.
fn write_settings(ebpf: &mut Ebpf, hooks: &[Hook]) -> Result<()> {
    let level =
        |hooked| hooks.iter().find(|hook| hook.hooked == hooked).map(|hook| hook.rung.level);
    let settings = Settings {
        connect_return: match level(Hooked::Connect) {
            None | Some(Level::Inferred) => connect_return::NONE,
            Some(Level::Typed | Level::Kprobe) => connect_return::FUNCTION,
            Some(Level::Tracepoint) => connect_return::SYSCALL,
        },
        timewait_inferred: u8::from(level(Hooked::TimeWait) == Some(Level::Inferred)),
        ..Settings::default()
    };
    let map = ebpf.map_mut("SETTINGS").context("the object has no map SETTINGS")?;
    let mut map = Array::<_, [u8; size_of::<Settings>()]>::try_from(map)?;
    let settings: [u8; size_of::<Settings>()] = transmute!(settings);
    map.set(0, settings, 0).context("can't write the map SETTINGS")
}

/// Before Linux 5.11 maps count against `RLIMIT_MEMLOCK`, 64 KiB by default.
pub(super) fn lift_memlock() {
    if before((5, 11)) {
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
