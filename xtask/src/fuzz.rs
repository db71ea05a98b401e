//! Fuzzing on the stable compiler: libFuzzer with the coverage that LLVM's own pass counts.

use std::{fs, process::Command};

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

/// A file to begin with, and the byte that is put before it.
type Seed = (Option<u8>, &'static str);

/// Targets, and what each begins with.
const TARGETS: &[(&str, &[Seed])] = &[
    ("capture", &[(None, "incidents-v1.socklife")]),
    (
        "nginx_conf",
        &[
            (None, "nginx/tls_proxy.conf"),
            (None, "nginx/ingress.conf"),
            (None, "nginx/quoting.conf"),
            (None, "nginx/lua.conf"),
        ],
    ),
    (
        "proxy_answers",
        &[
            (Some(0), "haproxy/operator.txt"),
            (Some(4), "envoy/clusters.http"),
            (Some(4), "envoy/stats.http"),
            (Some(6), "envoy/bootstrap.http"),
        ],
    ),
    (
        "logs",
        &[
            (Some(0), "logs/nginx-error.log"),
            (Some(1), "logs/haproxy.log"),
            (Some(2), "logs/envoy.log"),
            (Some(2), "logs/envoy-json.log"),
            (Some(3), "logs/nginx-access-combined.log"),
            (Some(6), "logs/nginx-access-json.log"),
            (Some(4), "logs/nginx-access-upstream.log"),
            (Some(7), "logs/nginx-access-spaces.log"),
        ],
    ),
];

/// Fuzzes each target for so long. It ends at the first input that makes one panic, and keeps that.
pub(crate) fn run_all(seconds: u64) -> Result<()> {
    let host = capture(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("no host")?;
    let target = root().join("target/fuzz");
    // With a target named, what runs while building is not compiled for the fuzzer.
    run(cargo(&["build", "--quiet", "--release", "--manifest-path", "tracer/fuzz/Cargo.toml"])
        .args(["--target", host, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", FLAGS.join(" ")))?;
    for &(name, seeds) in TARGETS {
        let corpus = target.join("corpus").join(name);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        for (at, &(kind, seed)) in seeds.iter().enumerate() {
            let fixture = root().join("tracer/fixtures").join(seed);
            let bytes = fs::read(&fixture).with_context(|| fixture.display().to_string())?;
            // The headers and what comes first: the whole would take the fuzzer's time.
            let begin = &bytes[..bytes.len().min(60_000)];
            fs::write(corpus.join(format!("seed-{at}")), [kind.as_slice(), begin].concat())?;
        }
        let mut fuzz = Command::new(target.join(host).join("release").join(name));
        fuzz.arg(format!("-max_total_time={seconds}")).args(["-max_len=65536", "-timeout=20"]);
        fuzz.arg(format!("-artifact_prefix={}/{name}-", target.display())).arg(&corpus);
        run(&mut fuzz)?;
    }
    Ok(())
}
