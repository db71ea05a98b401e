//! Loading the programs of a rung and attaching them.

use std::{
    any::Any,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint,
    },
};

use super::{
    features::Refusal,
    ladder::{Attach, Hooked, Hooks, Level, Rung},
    tracefs,
};

/// What the rungs stand on.
pub struct Footing {
    /// The kernel's type information, or why there is none.
    pub btf: Result<Btf, String>,
    /// The same as we read it, with the functions that there are.
    pub types: Option<super::btf::Btf>,
    /// Why the fields that hooks other than that of state changes need are not known.
    pub no_fields: Option<String>,
}

impl Footing {
    /// The first of these functions that this kernel has; else the last, for the kernel's own word.
    fn first<'a>(&self, functions: &'a [&str]) -> Result<&'a str> {
        let types = self.types.as_ref();
        let is_there =
            |function: &&&str| types.is_some_and(|types| types.arguments(function).is_some());
        let function = functions.iter().find(is_there).or(functions.last());
        function.copied().context("no function to hook")
    }

    /// Why a rung can't be tried at all.
    fn refuses(&self, hooked: Hooked, level: Level) -> Option<String> {
        if level == Level::Inferred || hooked == Hooked::State {
            return None;
        }
        self.no_fields.clone()
    }
}

/// An event whose hooks are attached until this is dropped.
pub struct Hook {
    /// What is hooked.
    pub hooked: Hooked,
    /// On which rung.
    pub rung: &'static Rung,
    /// The better rungs, and why each is not in use.
    pub refused: Vec<Refusal>,
    programs: Vec<OwnedFd>,
    _links: Vec<Box<dyn Any>>,
}

impl Hook {
    /// Attaches an event's hooks on the best rung that `hooks` allows and this kernel takes.
    ///
    /// # Errors
    /// Every rung, and why it can't be used.
    pub fn attach(
        ebpf: &mut Ebpf,
        hooked: Hooked,
        hooks: Hooks,
        footing: &Footing,
    ) -> Result<Self, Vec<Refusal>> {
        let mut refused = Vec::new();
        for rung in hooked.rungs() {
            let outcome = if !hooks.allow(hooked, rung.level) {
                Err(format!("left out by --hooks {}", hooks.name()))
            } else if let Some(why) = footing.refuses(hooked, rung.level) {
                Err(why)
            } else {
                attach_all(ebpf, rung, footing).map_err(|error| {
                    tracing::debug!("{rung}: {error:#}");
                    explain(&error)
                })
            };
            match outcome {
                Ok((programs, links)) => {
                    return Ok(Self { hooked, rung, refused, programs, _links: links });
                }
                Err(why) => refused.push(Refusal { rung: rung.name, why }),
            }
        }
        Err(refused)
    }

    /// Loads the programs of a rung, for [`Self::attach_loaded`].
    ///
    /// # Errors
    /// The rung can't be used.
    pub fn load(ebpf: &mut Ebpf, rung: &Rung, footing: &Footing) -> Result<()> {
        rung.attach.iter().try_for_each(|attach| load(ebpf, attach, footing))
    }

    /// Attaches an event's hooks on one rung, whose programs are loaded.
    ///
    /// # Errors
    /// The rung can't be used.
    pub fn attach_loaded(ebpf: &mut Ebpf, hooked: Hooked, rung: &'static Rung) -> Result<Self> {
        let (programs, links) = link_all(ebpf, rung)?;
        Ok(Self { hooked, rung, refused: Vec::new(), programs, _links: links })
    }

    /// How often the kernel skipped one of the programs, see `Kernel::missed`.
    ///
    /// # Errors
    /// A program's descriptor can't be asked.
    pub fn skipped(&self) -> Result<u64> {
        // Of the two programs for state changes the second has nobody behind it.
        let watched = if self.hooked == Hooked::State { 1 } else { self.programs.len() };
        self.programs.iter().take(watched).map(skipped_runs).sum()
    }
}

type Attached = (Vec<OwnedFd>, Vec<Box<dyn Any>>);

/// All are loaded before one is attached, so that they begin together.
fn attach_all(ebpf: &mut Ebpf, rung: &Rung, footing: &Footing) -> Result<Attached> {
    Hook::load(ebpf, rung, footing)?;
    link_all(ebpf, rung)
}

fn link_all(ebpf: &mut Ebpf, rung: &Rung) -> Result<Attached> {
    let (mut programs, mut links) = (Vec::new(), Vec::new());
    for attach in rung.attach {
        let (program, link) = link(ebpf, attach)?;
        programs.push(program);
        links.push(link);
    }
    Ok((programs, links))
}

fn named<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))
}

fn load(ebpf: &mut Ebpf, attach: &Attach, footing: &Footing) -> Result<()> {
    let btf = || footing.btf.as_ref().map_err(|why| anyhow!("{why}"));
    match *attach {
        Attach::TpBtf(name, tracepoint) => {
            let program: &mut BtfTracePoint = named(ebpf, name)?.try_into()?;
            program.load(tracepoint, btf()?)?;
        }
        Attach::FEntry(name, functions) => {
            let program: &mut FEntry = named(ebpf, name)?.try_into()?;
            program.load(footing.first(functions)?, btf()?)?;
        }
        Attach::FExit(name, functions) => {
            let program: &mut FExit = named(ebpf, name)?.try_into()?;
            program.load(footing.first(functions)?, btf()?)?;
        }
        Attach::KProbe(name, _) => {
            let program: &mut KProbe = named(ebpf, name)?.try_into()?;
            unless_loaded(program.load())?;
        }
        Attach::RawTp(name, _) => {
            let program: &mut RawTracePoint = named(ebpf, name)?.try_into()?;
            program.load()?;
        }
        Attach::Tracepoint(name, ..) => {
            tracefs::provide()?;
            let program: &mut TracePoint = named(ebpf, name)?.try_into()?;
            unless_loaded(program.load())?;
        }
    }
    Ok(())
}

/// One program may be attached to several functions.
fn unless_loaded(outcome: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match outcome {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

fn link(ebpf: &mut Ebpf, attach: &Attach) -> Result<(OwnedFd, Box<dyn Any>)> {
    let (fd, link): (_, Box<dyn Any>) = match *attach {
        Attach::TpBtf(name, _) => {
            let program: &mut BtfTracePoint = named(ebpf, name)?.try_into()?;
            let id = program.attach()?;
            (program.fd()?.try_clone()?, Box::new(program.take_link(id)?))
        }
        Attach::FEntry(name, _) => {
            let program: &mut FEntry = named(ebpf, name)?.try_into()?;
            let id = program.attach()?;
            (program.fd()?.try_clone()?, Box::new(program.take_link(id)?))
        }
        Attach::FExit(name, _) => {
            let program: &mut FExit = named(ebpf, name)?.try_into()?;
            let id = program.attach()?;
            (program.fd()?.try_clone()?, Box::new(program.take_link(id)?))
        }
        Attach::KProbe(name, functions) => {
            let program: &mut KProbe = named(ebpf, name)?.try_into()?;
            let id = first(functions, |function| {
                let attached = program.attach(function, 0);
                attached.with_context(|| format!("can't put a kprobe on {function}"))
            })?;
            (program.fd()?.try_clone()?, Box::new(program.take_link(id)?))
        }
        Attach::RawTp(name, tracepoint) => {
            let program: &mut RawTracePoint = named(ebpf, name)?.try_into()?;
            let id = program.attach(tracepoint)?;
            (program.fd()?.try_clone()?, Box::new(program.take_link(id)?))
        }
        Attach::Tracepoint(name, category, tracepoint) => {
            let program: &mut TracePoint = named(ebpf, name)?.try_into()?;
            let attached = program.attach(category, tracepoint);
            let id = attached.with_context(|| format!("tracepoint {category}:{tracepoint}"))?;
            (program.fd()?.try_clone()?, Box::new(program.take_link(id)?))
        }
    };
    Ok((fd.as_fd().try_clone_to_owned()?, link))
}

/// The outcome for the first function that there is; the last error if there is none.
fn first<T>(functions: &[&str], mut attempt: impl FnMut(&str) -> Result<T>) -> Result<T> {
    let mut outcome = Err(anyhow!("no function to hook"));
    for function in functions {
        outcome = attempt(function);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// How often the kernel skipped a program.
fn skipped_runs(program: &OwnedFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let info = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    Ok(misses.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
}

/// Where the kernel offers kprobes to `perf_event_open(2)`.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// The kernel's word about a rung, in one line.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let program = error.chain().find_map(|cause| cause.downcast_ref::<ProgramError>());
    match program {
        Some(ProgramError::LoadError { io_error, .. })
            if io_error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            "the kernel refuses to load this kind of program (EPERM)".to_owned()
        }
        Some(ProgramError::LoadError { io_error, .. })
            if io_error.kind() == std::io::ErrorKind::WouldBlock =>
        {
            "a signal came while the kernel checked the program".to_owned()
        }
        Some(ProgramError::LoadError { io_error, .. }) => {
            format!("the kernel's verifier refuses the program ({io_error}); -v shows its log")
        }
        Some(ProgramError::KProbeError(_)) if !Path::new(KPROBES).exists() => {
            "this kernel has no kprobes (CONFIG_KPROBES is off)".to_owned()
        }
        Some(ProgramError::Btf(error)) => format!("{error}"),
        _ => format!("{error:#}"),
    }
}
