//! What a developer of socklife does by hand, as code: `cargo xtask --help`.

#![expect(clippy::print_stdout, reason = "these tasks talk to a person")]

mod bench;
mod bench_check;
mod bench_top;
mod demo;
mod ebpf;
mod forecast;
mod fuzz;
mod packages;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a developer of socklife does by hand, as code.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the kernel-side object and put it beside its loader.
    Ebpf {
        /// Change nothing: fail when the committed object is not what the sources make.
        #[arg(long)]
        check: bool,
    },
    /// Run every check and every test.
    Test {
        /// Install nothing, even as root.
        #[arg(long)]
        no_install: bool,
    },
    /// Measure what tracing costs, side by side with its peers, how long `check` takes, and what the live view
    /// costs; writes docs/benchmarks.md.
    Bench {
        /// Measure a part, and leave the others as they are written there.
        #[arg(long, value_enum)]
        only: Option<bench::Part>,
        /// Connections in each measurement.
        #[arg(long, default_value_t = 300_000)]
        connections: u64,
        /// Measurements of each kind; the median counts.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Look at real incidents in the live view, as root: port exhaustion, TIME-WAIT, open files, conntrack,
    /// Nginx's own limit, in turn, in network namespaces that go with it.
    Demo(demo::Demo),
    /// Measure forecasts against truth, as root: loads run into their ceilings in namespaces of their own.
    Forecast {
        /// How often each load is run.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Only loads with this in their name.
        #[arg(long)]
        only: Option<String>,
        /// Write docs/forecast.md.
        #[arg(long)]
        write_docs: bool,
    },
    /// Fuzz the readers of foreign input: captures, configurations, answers and logs of proxies.
    Fuzz {
        /// For how long each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Run the scenario on other kernels, from Debian's archive, under QEMU.
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Ebpf { check: false } => ebpf::build_and_commit(),
        Task::Ebpf { check: true } => ebpf::check(),
        Task::Test { no_install } => test::run_all(!no_install),
        Task::Bench { only, connections, rounds } => bench::run_all(only, connections, rounds),
        Task::Demo(demo) => demo::show(&demo),
        Task::Forecast { rounds, only, write_docs } => {
            forecast::run_all(rounds, only.as_deref(), write_docs)
        }
        Task::Fuzz { seconds } => fuzz::run_all(seconds),
        Task::Vm(arguments) => vm::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
