//! The same scripted load on any kernel, on each rung of hooks that socklife has, and what socklife
//! must say about it. As process 1 it is all that runs in a virtual machine, see `cargo xtask vm`;
//! `socklife-scenario run` does the same on this host, in a network namespace of its own.
//!
//! One line a test: `SCENARIO {"kernel", "rung", "test", "outcome", "detail", "seconds"}`. Outcome
//! `unseen`: this rung can't see it on this kernel, and nothing false was said about it. One line a rung
//! and event of `socklife features`: `FEATURE {"kernel", "hooks", "event", "rung", "inferred", "why"}`.

#![expect(clippy::print_stdout, reason = "results are what it is for")]

mod calls;
mod case;
mod closes;
mod failures;
mod machine;
mod owners;
mod ports;
mod round;
mod timewait;
mod watch;

use std::{fs::File, io::Write, process::ExitCode, time::Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::{
    case::Case,
    round::{CaseResult, Round, RoundResult},
    watch::Features,
};

/// Runs the scenario.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run on this host, as root, in a network namespace of its own.
    Run {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        random: ports::Random,
    },
    /// Hold `socklife check` against the kernel in random cases of used ports, on this host, as root.
    Ports(ports::Random),
    /// Name all tests.
    List,
}

/// What to run; empty: all.
#[derive(clap::Args, Default)]
struct Selection {
    /// Only this rung: a value of `--hooks`, or `check` for what depends on none.
    #[arg(long = "rung")]
    rungs: Vec<String>,
    /// Only tests with this in their name.
    #[arg(long = "test")]
    tests: Vec<String>,
}

/// Values of `--hooks`.
const RUNGS: [&str; 4] = ["auto", "fentry", "kprobe", "tracepoint"];

fn cases() -> Vec<Case> {
    // Sockets that are older than the tracers are the last: those list them only once they are attached.
    [failures::cases(), calls::cases(), closes::cases(), owners::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// Where results go: standard output, and in a virtual machine its second serial line.
struct Report {
    line: Option<File>,
    tests: usize,
    failed: usize,
}

impl Report {
    fn new(line: Option<File>) -> Self {
        Self { line, tests: 0, failed: 0 }
    }

    fn results(&mut self, kernel: &str, rung: &str, results: Vec<CaseResult>) {
        for result in results {
            self.tests += 1;
            self.failed += usize::from(result.outcome == round::Outcome::Fail);
            let line = json!({
                "kernel": kernel,
                "rung": rung,
                "test": result.test,
                "outcome": result.outcome.name(),
                "detail": result.detail,
                "seconds": (result.seconds * 1000.0).round() / 1000.0,
            });
            self.say(&format!("SCENARIO {line}"));
        }
    }

    fn say(&mut self, text: &str) {
        // Results that nobody can read are missed by who waits for them.
        if let Some(line) = &mut self.line {
            let _ = writeln!(line, "{text}");
            let _ = nix::sys::termios::tcdrain(&*line);
        }
        println!("{text}");
    }
}

fn run(selection: &Selection, random: &ports::Random, report: &mut Report) -> Result<()> {
    let started = Instant::now();
    let kernel = &machine::kernel()?;
    let wanted = |name: &str| {
        selection.tests.is_empty() || selection.tests.iter().any(|part| name.contains(part))
    };
    let known = |rung: &String| RUNGS.contains(&rung.as_str()) || rung == ports::RUNG;
    if let Some(rung) = selection.rungs.iter().find(|rung| !known(rung)) {
        bail!("no rung {rung}; there are {} {}", RUNGS.join(" "), ports::RUNG);
    }
    let on = |rung: &str| {
        selection.rungs.is_empty() || selection.rungs.iter().any(|wanted| wanted == rung)
    };
    let mut ground = case::Ground::prepare(report.line.is_some())?;
    for rung in RUNGS.into_iter().filter(|rung| on(rung)) {
        let round = Round {
            rung,
            kernel: kernel.clone(),
            cases: cases().into_iter().filter(|case| wanted(&case.name)).collect(),
            time_wait: timewait::TESTS.into_iter().filter(|name| wanted(name)).collect(),
        };
        let RoundResult { cases, features } = round::run(round, &mut ground);
        for feature in features.iter().flat_map(Features::events) {
            let line = json!({
                "kernel": kernel,
                "hooks": rung,
                "event": feature["event"],
                "rung": feature["rung"],
                "inferred": feature["inferred"],
                "why": watch::why(feature),
            });
            report.say(&format!("FEATURE {line}"));
        }
        report.results(kernel, rung, cases);
    }
    let tests: Vec<_> = ports::TESTS.into_iter().filter(|name| wanted(name)).collect();
    if on(ports::RUNG) && !tests.is_empty() {
        report.results(kernel, ports::RUNG, ports::run(random, &tests)?);
    }
    let end = json!({
        "kernel": kernel,
        "tests": report.tests,
        "failed": report.failed,
        "seconds": started.elapsed().as_secs(),
    });
    report.say(&format!("SCENARIO-END {end}"));
    Ok(())
}

fn as_init() -> Result<()> {
    machine::set_up().context("setting up the virtual machine")?;
    // An emulated CPU is some thirty times slower.
    socklife_tests::set_patience(60);
    let line = File::options().write(true).open(machine::RESULTS).context(machine::RESULTS)?;
    let selection = Selection {
        rungs: machine::asked("socklife.rungs")?,
        tests: machine::asked("socklife.tests")?,
    };
    let number = |name: &str, usual: u64| -> Result<u64> {
        machine::asked(name)?.first().map_or(Ok(usual), |value| Ok(value.parse()?))
    };
    let random = ports::Random {
        cases: number("socklife.cases", ports::EMULATED_CASES)?,
        from_seed: number("socklife.seed", 1)?,
        seed: None,
    };
    run(&selection, &random, &mut Report::new(Some(line)))
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        machine::power_off_on_panic();
        if let Err(error) = as_init() {
            println!("socklife-scenario: {error:#}");
        }
        machine::power_off();
    }
    let outcome = match Cli::parse().task {
        Task::List => {
            for case in cases() {
                println!("{}", case.name);
            }
            for name in timewait::TESTS.into_iter().chain(ports::TESTS) {
                println!("{name}");
            }
            return ExitCode::SUCCESS;
        }
        Task::Run { selection, random } => machine::step_aside().and_then(|()| {
            let mut report = Report::new(None);
            run(&selection, &random, &mut report).map(|()| report.failed)
        }),
        Task::Ports(random) => machine::step_aside().and_then(|()| {
            let mut report = Report::new(None);
            report.results(&machine::kernel()?, ports::RUNG, ports::run(&random, &ports::TESTS)?);
            Ok(report.failed)
        }),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("socklife-scenario: {error:#}");
            ExitCode::FAILURE
        }
    }
}
