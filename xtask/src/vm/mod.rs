//! `cargo xtask vm`: the scenario of `socklife-scenario` on real kernels, old and new, under QEMU.

mod boot;
mod docs;
mod initramfs;
mod kernels;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use self::{
    boot::{Boot, Booted, QEMU},
    kernels::{KERNELS, Kernel},
    table::Results,
};
use crate::shell::{self, capture, cargo, have, is_root, root};

/// What to run; empty: all.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Selection {
    /// Only this kernel, such as 6.1; `host` for this machine's own.
    #[arg(long)]
    kernel: Vec<String>,
    /// Only this rung: a value of `--hooks`, or `check` for what depends on none.
    #[arg(long)]
    rung: Vec<String>,
    /// Only tests with this in their name.
    #[arg(long)]
    test: Vec<String>,
    /// Random cases of used ports; unless told otherwise 20 in a virtual machine, 100 on this host.
    #[arg(long)]
    cases: Option<u64>,
    /// The seed of the first one; unless told otherwise 1.
    #[arg(long)]
    from_seed: Option<u64>,
}

/// `cargo xtask vm`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct VmArgs {
    #[command(flatten)]
    selection: Selection,
    /// Write docs/kernels.md from the results.
    #[arg(long, conflicts_with_all = ["kernel", "rung", "test", "cases", "from_seed"])]
    write_docs: bool,
}

/// Runs it.
pub(crate) fn run(arguments: &VmArgs) -> Result<()> {
    let results = run_kernels(&arguments.selection, None)?;
    if let (true, Some(results)) = (arguments.write_docs, &results) {
        if results.sum().skipped > 0 {
            bail!("docs/kernels.md is as it was: not all kernels were run");
        }
        let path = root().join("docs/kernels.md");
        fs::write(&path, docs::page(results)).with_context(|| path.display().to_string())?;
        println!("docs/kernels.md is written");
    }
    results.map_or(Ok(()), |results| judge(&results))
}

/// Runs all of it; `object`: the kernel-side object to embed, where it is not the committed one.
pub(crate) fn run_all(object: Option<&Path>) -> Result<()> {
    let results = run_kernels(&Selection::default(), object)?;
    results.map_or(Ok(()), |results| judge(&results))
}

fn judge(results: &Results) -> Result<()> {
    let failed = results.sum().failed;
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

/// How long a kernel may take from start to end.
const DEADLINE: Duration = Duration::from_mins(8);
/// Kernels that run at the same time, of two CPUs each.
const AT_ONCE: usize = 2;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAMS: [(&str, &str); 3] = [
    ("socklife-scenario", "init"),
    ("socklife", "bin/socklife"),
    ("socklife-load", "bin/socklife-load"),
];

/// Where kernels and results are kept.
fn directory() -> PathBuf {
    root().join("target/vm")
}

/// The results; `None`: none can be had on this machine.
fn run_kernels(selection: &Selection, object: Option<&Path>) -> Result<Option<Results>> {
    let missing: Vec<_> = [QEMU, "apt-get", "apt-cache", "dpkg", "xz"]
        .into_iter()
        .filter(|tool| !have(tool))
        .collect();
    if !missing.is_empty() {
        println!("SKIPPED all kernels: not installed: {}", missing.join(" "));
        println!("0 passed, 0 failed, {} skipped", KERNELS.len());
        return Ok(None);
    }
    let wanted = |kernel: &&Kernel| {
        selection.kernel.is_empty() || selection.kernel.iter().any(|name| name == kernel.name)
    };
    let kernels: Vec<Kernel> = KERNELS.iter().filter(wanted).copied().collect();
    let host = selection.kernel.is_empty() || selection.kernel.iter().any(|name| name == HOST);
    if kernels.is_empty() && !host {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no such kernel; there are {}", known.join(" "));
    }
    let programs = build(object)?;
    let results = Mutex::new(Results::default());
    if host {
        this_host(selection, &programs, &mut lock(&results));
    }
    let queue = Mutex::new(kernels.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(kernel) = { lock(&queue).next() } {
                    one(*kernel, selection, &programs, &results);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let path = directory().join("results.json");
    fs::write(&path, results.json()).with_context(|| path.display().to_string())?;
    let mut names: Vec<_> = kernels.iter().map(|kernel| kernel.name).collect();
    names.extend(host.then_some(HOST));
    println!("\n{}", results.table(&names));
    let sum = results.sum();
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    Ok(Some(results))
}

/// This machine's own kernel, among the others.
const HOST: &str = "host";

/// The same scenario on this machine's kernel, in namespaces of its own.
fn this_host(selection: &Selection, programs: &[(PathBuf, &str)], results: &mut Results) {
    let started = Instant::now();
    match run_here(selection, programs) {
        Ok(Ok(printed)) => {
            println!("this host's kernel: {:.0} s", started.elapsed().as_secs_f64());
            results.read(HOST, &printed);
        }
        Ok(Err(why)) => {
            println!("SKIPPED this host's kernel: {why}");
            results.add_boot(HOST, "skip", &why);
        }
        Err(error) => results.add_boot(HOST, "fail", &format!("{error:#}")),
    }
}

/// What the scenario printed, or why it can't be run here.
fn run_here(selection: &Selection, programs: &[(PathBuf, &str)]) -> Result<Result<String, String>> {
    if !is_root() {
        return Ok(Err("not root".to_owned()));
    }
    let program = |wanted: &str| {
        let found = programs.iter().find(|(path, _)| path.ends_with(wanted));
        found.map(|(path, _)| path).context("a program that was not built")
    };
    let features = capture(Command::new(program("socklife")?).args(["features", "--format=json"]))?;
    let features: serde_json::Value = serde_json::from_str(&features)?;
    let state = &features["events"][0];
    let why = state["refused"][0]["why"].as_str().unwrap_or_default();
    // A program that the verifier refuses is no reason to skip: then the scenario runs, and fails.
    let forbidden = ["not enough privilege", "too old", "(EPERM)"];
    if state["rung"].is_null() && forbidden.iter().any(|word| why.contains(word)) {
        return Ok(Err(format!("eBPF programs can't be loaded: {why}")));
    }
    let mut scenario = Command::new(program("socklife-scenario")?);
    scenario.arg("run");
    scenario.env("SOCKLIFE_BIN", program("socklife")?);
    scenario.env("SOCKLIFE_LOAD_BIN", program("socklife-load")?);
    for rung in &selection.rung {
        scenario.args(["--rung", rung]);
    }
    for test in &selection.test {
        scenario.args(["--test", test]);
    }
    for (option, value) in [("--cases", selection.cases), ("--from-seed", selection.from_seed)] {
        if let Some(value) = value {
            scenario.args([option, &value.to_string()]);
        }
    }
    let output = scenario.output().context("socklife-scenario")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        printed.contains("SCENARIO-END"),
        "the scenario broke off: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Ok(printed))
}

/// A lock is only ever held for a moment; who panicked meanwhile has said so.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Static, so that they run with no other file around.
fn build(object: Option<&Path>) -> Result<Vec<(PathBuf, &'static str)>> {
    let to = directory().join("build");
    let mut build = cargo(&["build", "--quiet", "--release", "--target", TARGET, "--bins"]);
    build.args(["--package", "socklife", "--package", "socklife-tests", "--target-dir"]).arg(&to);
    if let Some(object) = object {
        build.env("SOCKLIFE_OBJECT", object);
    }
    shell::run(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let built = to.join(TARGET).join("release");
    Ok(PROGRAMS.map(|(name, inside)| (built.join(name), inside)).to_vec())
}

/// One kernel, from fetching it to its results.
fn one(
    kernel: Kernel,
    selection: &Selection,
    programs: &[(PathBuf, &str)],
    results: &Mutex<Results>,
) {
    let unpacked = match kernel.get() {
        Ok(unpacked) => unpacked,
        Err(error) => {
            println!("SKIPPED kernel {}: {error:#}", kernel.name);
            lock(results).add_boot(kernel.name, "skip", &format!("{error:#}"));
            return;
        }
    };
    let booted = boot(kernel, &unpacked, selection, programs);
    let mut results = lock(results);
    let booted = match booted {
        Ok(booted) => booted,
        Err(error) => {
            results.add_boot(kernel.name, "fail", &format!("{error:#}"));
            return;
        }
    };
    println!("kernel {}: {} ran for {:.0} s", kernel.name, unpacked.release(), booted.seconds);
    results.read(kernel.name, &booted.results);
    match booted.failure {
        Some(why) => results.add_boot(kernel.name, "fail", &why),
        None => results.add_boot(kernel.name, "pass", &unpacked.release()),
    }
}

fn boot(
    kernel: Kernel,
    unpacked: &kernels::Unpacked,
    selection: &Selection,
    programs: &[(PathBuf, &str)],
) -> Result<Booted> {
    let at = directory().join("runs").join(kernel.name);
    fs::create_dir_all(&at)?;
    let initramfs = at.join("initramfs.cpio");
    initramfs::write(&initramfs, unpacked, programs)?;
    let or_empty = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    // What has no dot goes into the environment of process 1.
    let arguments = format!(
        "SOCKLIFE_BIN=/bin/socklife SOCKLIFE_LOAD_BIN=/bin/socklife-load socklife.rungs={} \
         socklife.tests={} socklife.cases={} socklife.seed={}",
        selection.rung.join(","),
        selection.test.join(","),
        or_empty(selection.cases),
        or_empty(selection.from_seed),
    );
    let boot = Boot {
        image: &unpacked.image,
        initramfs: &initramfs,
        arguments: &arguments,
        directory: &at,
        deadline: DEADLINE,
    };
    boot.run()
}
