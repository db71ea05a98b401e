//! What the live view costs on a host with many sockets and upstreams, measured by `socklife-bench-top`.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    bench::{machine, median},
    shell::{capture, cargo, root, run},
};

/// The heading of what this writes into docs/benchmarks.md.
pub(crate) const HEADING: &str = "## `socklife top` on a busy host";

const MIB: f64 = 1024.0 * 1024.0;

/// Measures, and writes the section.
pub(crate) fn measure(connections: u64, rounds: usize) -> Result<String> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife"]))?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife-tests", "--bins"]))?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let built = |name: &str| root().join("target/release").join(name);
    let mut command = Command::new(built("socklife-bench-top"));
    command.args(["--connections", &connections.to_string(), "--rounds", &rounds.to_string()]);
    let printed = capture(command.env("SOCKLIFE_BIN", built("socklife")))?;
    let found: Value = serde_json::from_str(&printed).context("what the measurement prints")?;
    report(&found, load)
}

fn report(found: &Value, load: &str) -> Result<String> {
    let rounds = found["rounds"].as_array().context("no rounds")?;
    let all =
        |key: &str| -> Vec<f64> { rounds.iter().filter_map(|round| round[key].as_f64()).collect() };
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let keys: Vec<f64> = (rounds.iter())
        .flat_map(|round| round["keys_ms"].as_array().into_iter().flatten())
        .filter_map(Value::as_f64)
        .collect();
    let slowdown = median(all("under_s").iter().zip(all("plain_s")).map(|(u, p)| u / p).collect());
    let frame = most(&all("frame_longest_us")) / 1e3;
    let resident = most(&all("resident_most")) / MIB;
    let lossless = rounds.iter().all(|round| round["lost"] == false);
    let percent = |key: &str| format!("{:.0} % of a core", median(all(key)) * 100.0);
    let mib = |key: &str| format!("{:.0} MiB", median(all(key)) / MIB);
    let within = |kept: bool| if kept { "yes" } else { "no" };
    let mut text = format!(
        "{HEADING}\n\n\
         Made by `cargo xtask bench --only top`: {} established sockets to {} upstreams in a network namespace of their\n\
         own, the view of it in a terminal of 200x50, {} rounds. In each: a churn of {} connections without the view, the\n\
         view, keys that change the pane (the time includes that of tmux, which tells what is on the screen), the same\n\
         churn beside them under the view. The slowdown is the median of these pairs' ratios.\n\n\
         {}- load before: {load} (other work on this machine makes wall time longer, CPU time hardly)\n\n\
         | what | figure | budget | within the budget |\n|---|---|---|---|\n",
        found["sockets"],
        found["upstreams"],
        rounds.len(),
        found["connections"],
        machine()?
    );
    let rows = [
        ("longest frame", format!("{frame:.1} ms"), "5 ms", within(frame <= 5.0)),
        (
            "key until it is on the screen",
            format!("median {:.0} ms, longest {:.0} ms", median(keys.clone()), most(&keys)),
            "100 ms",
            within(most(&keys) <= 100.0),
        ),
        ("resident memory, most", format!("{resident:.0} MiB"), "96 MiB", within(resident <= 96.0)),
        (
            "resident memory, first and last",
            format!("{}, {}", mib("resident_begin"), mib("resident_end")),
            "",
            "",
        ),
        ("slowdown of the churn", format!("{slowdown:.2}x"), "1.10x", within(slowdown <= 1.1)),
        (
            "events lost",
            if lossless { "none" } else { "some" }.to_owned(),
            "none",
            within(lossless),
        ),
        ("CPU of the view, without churn", percent("cpu_quiet"), "", ""),
        ("CPU of the view, under the churn", percent("cpu_busy"), "", ""),
    ];
    for (what, figure, budget, kept) in rows {
        text += &format!("| {what} | {figure} | {budget} | {kept} |\n");
    }
    Ok(text)
}
