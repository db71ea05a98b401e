//! Every check and every test, in stages that say their name and their time.

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};

use crate::{
    ebpf, packages,
    shell::{cargo, root, run},
    vm,
};

/// Runs all stages; the first that fails ends the run.
pub(crate) fn run_all(install: bool) -> Result<()> {
    stage("system packages", || packages::provide(install))?;
    stage("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    stage("clippy", || {
        let warnings = ["--", "--deny", "warnings"];
        let everything = ["clippy", "--quiet", "--workspace", "--all-targets"];
        run(cargo(&everything).args(warnings))
    })?;
    stage("clippy, kernel side", || {
        let kernel = ["clippy", "--quiet", "--package", "tracer-ebpf", "--features", "kernel"];
        // aya-ebpf names an unstable feature of the compiler.
        run(cargo(&kernel)
            .args(["--bin", "tracer-ebpf", "--target-dir", "target/ebpf-clippy"])
            .args(["--", "--deny", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1"))
    })?;
    stage("documentation", || {
        let docs = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
        run(cargo(&docs).env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    let fresh = stage("kernel-side object", || {
        ebpf::check()?;
        ebpf::fresh()
    })?;
    stage("release build", || {
        run(with_object(
            &mut cargo(&["build", "--quiet", "--release", "--package", "socklife"]),
            fresh.as_ref(),
        ))
    })?;
    stage("unit tests", || {
        run(&mut cargo(&["test", "--quiet", "--workspace", "--exclude", "socklife-tests"]))
    })?;
    stage("end-to-end tests", || {
        let tests = ["test", "--quiet", "--release", "--package", "socklife-tests"];
        let load = ["build", "--quiet", "--release", "--package", "socklife-tests", "--bins"];
        run(&mut cargo(&load))?;
        run(cargo(&tests)
            .env("SOCKLIFE_BIN", root().join("target/release/socklife"))
            .env("SOCKLIFE_LOAD_BIN", root().join("target/release/socklife-load")))
    })?;
    stage("other kernels (QEMU)", || vm::run_all(fresh.as_deref()))
}

/// The object to embed: a fresh one where it is not the committed one.
fn with_object<'a>(
    command: &'a mut std::process::Command,
    fresh: Option<&PathBuf>,
) -> &'a mut std::process::Command {
    match fresh {
        Some(object) => command.env("SOCKLIFE_OBJECT", object),
        None => command,
    }
}

fn stage<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let started = Instant::now();
    let outcome = work();
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(done) => {
            println!("== {name}: ok, {seconds:.1} s\n");
            Ok(done)
        }
        Err(error) => {
            println!("== {name}: FAILED, {seconds:.1} s\n");
            bail!("{name}: {error:#}")
        }
    }
}
