//! What the live view costs on a host with many sockets and upstreams: one JSON object; see
//! `cargo xtask bench --only top`.

#![expect(clippy::print_stdout, reason = "results are what it is for")]

mod watched;

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};
use socklife_tests::{
    net::{Namespace, load_binary},
    process::{Process, run},
    socklife_binary, wait_for,
};

use crate::watched::{Usage, Watched};

/// Measures the live view, as root, in a network namespace of its own.
#[derive(Parser)]
struct Cli {
    /// Established sockets: both ends of half as many connections.
    #[arg(long, default_value_t = 100_000)]
    sockets: u32,
    /// Where the connections go.
    #[arg(long, default_value_t = 10_000)]
    upstreams: u32,
    /// Connections of each churn.
    #[arg(long, default_value_t = 200_000)]
    connections: u64,
    /// Pairs of churns, without the view and under it.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Keys of which each is timed.
    #[arg(long, default_value_t = 40)]
    keys: u32,
}

/// A process may have 20,000 files open where nobody raises that.
const PROCESSES: u32 = 8;

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("socklife-bench-top: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: &Cli) -> Result<()> {
    socklife_tests::set_patience(60);
    let namespace = Namespace::alone()?;
    namespace.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
    let mut crowd = namespace.command(load_binary());
    crowd.args(["crowd", "--established", &cli.sockets.to_string()]);
    crowd.args(["--upstreams", &cli.upstreams.to_string()]);
    crowd.args(["--processes", &PROCESSES.to_string()]);
    let mut crowd = Process::start_ordered(&mut crowd)?;
    let made = wait_for("the sockets", || {
        anyhow::ensure!(!crowd.ended()?, "{}", crowd.stderr_so_far());
        Ok(crowd.stdout_so_far().lines().next().map(str::to_owned))
    })?;
    let made: Value = serde_json::from_str(&made).context("the crowd")?;

    churn(&namespace, cli.connections / 10)?;
    let mut rounds = Vec::new();
    for _ in 0..cli.rounds {
        let plain = churn(&namespace, cli.connections)?;
        let view = Watched::open(&namespace, &socklife_binary())?;
        let begun = (view.usage()?, Instant::now());
        let quiet_ms = view.keys(cli.keys)?;
        let idle = between(&begun.0, &view.usage()?, begun.1.elapsed());
        let before = (view.usage()?, Instant::now());
        let under = churn(&namespace, cli.connections)?;
        let after = view.usage()?;
        let busy = between(&before.0, &after, before.1.elapsed());
        // The last figures of the churn are shown a second later at the latest.
        let kernel = view.kernel()?;
        rounds.push(json!({
            "plain_s": plain,
            "under_s": under,
            "keys_ms": quiet_ms,
            "cpu_quiet": idle,
            "cpu_busy": busy,
            "resident_begin": begun.0.resident,
            "resident_end": after.resident,
            "resident_most": after.resident_most,
            "frame_us": kernel.frame_us,
            "frame_longest_us": kernel.longest_us,
            "lost": kernel.lost,
        }));
        view.quit()?;
    }
    crowd.close_input();
    crowd.end()?;
    println!(
        "{}",
        json!({
            "sockets": cli.sockets,
            "upstreams": cli.upstreams,
            "connections": cli.connections,
            "crowd_s": made["seconds"],
            "rounds": rounds,
        })
    );
    Ok(())
}

/// Part of one processor.
fn between(before: &Usage, after: &Usage, time: Duration) -> f64 {
    (after.cpu_s - before.cpu_s) / time.as_secs_f64()
}

/// Seconds that the churn takes.
fn churn(namespace: &Namespace, connections: u64) -> Result<f64> {
    let mut command: Command = namespace.command(load_binary());
    command.args(["churn", "--connections", &connections.to_string()]);
    let said: Value = serde_json::from_str(&run(&mut command)?).context("the churn")?;
    said["seconds"].as_f64().context("the churn says no time")
}
