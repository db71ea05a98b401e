//! Fuzzing on the stable compiler: libFuzzer with the coverage that LLVM's own pass counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::shell::{capture, cargo, root, run};

/// What cargo-fuzz passes, but for what takes a nightly compiler.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];

/// Targets, and the file or directory of fixtures that each begins from.
const TARGETS: &[(&str, &str)] = &[("capture", "incidents-v1.socklife"), ("nginx_conf", "nginx")];

/// Fuzzes each reader for so long. It ends at the first input that makes one panic, and keeps that.
pub(crate) fn run_all(seconds: u64) -> Result<()> {
    let host = capture(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("no host")?;
    let target = root().join("target/fuzz");
    // With a target named, what runs while building is not compiled for the fuzzer.
    run(cargo(&["build", "--quiet", "--release", "--manifest-path", "tracer/fuzz/Cargo.toml"])
        .args(["--target", host, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", FLAGS.join(" ")))?;
    for (name, fixtures) in TARGETS {
        println!("== {name}");
        let corpus = target.join("corpus").join(name);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        seed(&root().join("tracer/fixtures").join(fixtures), &corpus)?;
        let mut fuzz = Command::new(target.join(host).join("release").join(name));
        fuzz.arg(format!("-max_total_time={seconds}")).args(["-max_len=65536", "-timeout=20"]);
        fuzz.arg(format!("-artifact_prefix={}/", target.display())).arg(&corpus);
        run(&mut fuzz)?;
    }
    Ok(())
}

/// Copies a file, or the files of a directory, to where a target begins from.
fn seed(fixtures: &Path, corpus: &Path) -> Result<()> {
    let files: Vec<PathBuf> = if fixtures.is_dir() {
        fs::read_dir(fixtures)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?
    } else {
        vec![fixtures.to_owned()]
    };
    for file in files.iter().filter(|file| file.is_file()) {
        let content = fs::read(file).with_context(|| file.display().to_string())?;
        let name = file.file_name().context("a file without a name")?;
        // The headers and what comes first: the whole would take the fuzzer's time.
        fs::write(corpus.join(name), &content[..content.len().min(60_000)])?;
    }
    Ok(())
}
