//! Forecasts against truth: raises a usage at a planned rate, asks `socklife check` on the way how long
//! there is, and notes when the first failure came. One JSON line an answer; see `cargo xtask forecast`.

#![expect(clippy::print_stdout, reason = "results are what it is for")]

mod loads;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};
use socklife_tests::{
    net::{FAR4, Link, load_binary},
    process::Process,
    socklife::last_line,
    socklife_binary,
};

use crate::loads::{LOADS, Load, Subject};

/// Measures forecasts against truth, as root, in network namespaces of its own.
#[derive(Parser)]
struct Cli {
    /// How often each load is run.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Only loads with this in their name.
    #[arg(long)]
    only: Option<String>,
}

/// Parts of the limit that are used when it is asked.
const FILLS: [f64; 3] = [0.3, 0.5, 0.7];
/// `--interval`, in seconds.
const INTERVAL_S: f64 = 2.0;
/// The load keeps to its course within so many seconds, or it is run again, so many times.
const LATE_S: f64 = 0.2;
const TRIES: u32 = 4;
/// Where the upstream listens.
const PORT: u16 = 9000;

/// What one call of `check` is to say.
#[derive(Clone, Copy)]
struct Question {
    fill: f64,
    /// Seconds after the load's beginning when the answer is due.
    due_s: f64,
    /// `--interval`, else one sample.
    interval: bool,
}

/// What it said.
struct Answer {
    question: Question,
    /// Seconds after the load's beginning when it was there.
    came_s: f64,
    finding: Option<Value>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("socklife-forecast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    socklife_tests::set_patience(90);
    for round in 1..=cli.rounds {
        for load in &LOADS {
            if cli.only.as_ref().is_none_or(|part| load.name.contains(part.as_str())) {
                measure_in_pace(load, round).with_context(|| load.name)?;
            }
        }
    }
    Ok(())
}

/// Runs in which the load itself could not keep to its course say nothing about forecasts.
fn measure_in_pace(load: &Load, round: u32) -> Result<()> {
    for _ in 0..TRIES {
        let (answers, end) = measure(load)?;
        let late_s = end["late_s"].as_f64().unwrap_or(f64::INFINITY);
        if late_s <= LATE_S {
            for answer in &answers {
                report(load, round, answer, &end);
            }
            return Ok(());
        }
        eprintln!("{}: the load was {late_s:.2} s late: again", load.name);
    }
    eprintln!("{}: left out, this machine is too busy", load.name);
    Ok(())
}

/// One run of a load: the answers, and how the load ended.
fn measure(load: &Load) -> Result<(Vec<Answer>, Value)> {
    let link = Link::new()?;
    link.near.sysctl("net.ipv4.ip_local_port_range", &load.port_range())?;
    if load.subject == Subject::TimeWait {
        link.near.sysctl("net.ipv4.tcp_max_tw_buckets", &load.limit.to_string())?;
    }
    let upstream: SocketAddr = SocketAddr::new(FAR4.parse()?, PORT);
    let mode = if load.subject == Subject::PortsHeld { "hold" } else { "follow" };
    let _serve = link.far.serve(mode, &[upstream])?;

    let mut command = link.near.command(load_binary());
    command.arg("ramp").args(load.arguments());
    let mut ramp = Process::start_ready(command.args(["--to", &upstream.to_string()]))?;
    let started = Instant::now();
    let scope = if load.subject == Subject::Files {
        format!("--pid={}", ramp.pid())
    } else {
        format!("--netns={}", link.near.path())
    };
    let answers = std::thread::scope(|threads| {
        let asked: Vec<_> = questions(load)
            .map(|question| {
                let scope = &scope;
                threads.spawn(move || ask(load, question, started, scope))
            })
            .collect();
        let answers = asked.into_iter().map(|thread| match thread.join() {
            Ok(answer) => answer,
            Err(_) => anyhow::bail!("asking failed"),
        });
        answers.collect::<Result<Vec<_>>>()
    })?;
    let end = ramp.end()?;
    let last = last_line(&end.stdout).with_context(|| end.stderr)?;
    Ok((answers, last))
}

/// When to ask, and how. What only samples tell has no forecast without an interval.
fn questions(load: &Load) -> impl Iterator<Item = Question> {
    let ways: &[bool] = if load.closes() { &[true, false] } else { &[true] };
    ways.iter().flat_map(move |&interval| {
        FILLS.into_iter().map(move |fill| {
            let due_s = load.course.when(fill * f64::from(load.limit));
            Question { fill, due_s: due_s.min(load.bound_s() - 5.0), interval }
        })
    })
}

fn ask(load: &Load, question: Question, started: Instant, scope: &str) -> Result<Answer> {
    let begin_s = question.due_s - if question.interval { INTERVAL_S } else { 0.0 };
    let begin = Duration::from_secs_f64(begin_s.max(0.0));
    std::thread::sleep(begin.saturating_sub(started.elapsed()));
    // An ordinary process, unlike the load.
    let mut command = Command::new("chrt");
    command.args(["--other", "0", "timeout", "30"]).arg(socklife_binary()).args([
        "check",
        "--format=json",
        scope,
    ]);
    if question.interval {
        command.arg(format!("--interval={INTERVAL_S}s"));
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    let came_s = started.elapsed().as_secs_f64();
    child.wait()?;
    let said: Value = serde_json::from_str(&line).context("what check said")?;
    let ceilings = said["ceilings"].as_array().context("no ceilings")?;
    let finding = ceilings.iter().find(|finding| load.is_about(finding)).cloned();
    Ok(Answer { question, came_s, finding })
}

fn report(load: &Load, round: u32, answer: &Answer, end: &Value) {
    let Answer { question, came_s, finding } = answer;
    let finding = finding.as_ref().unwrap_or(&Value::Null);
    let failed_s = end["failed_after_s"].as_f64();
    println!(
        "{}",
        json!({
            "load": load.name,
            "ceiling": load.subject.ceiling(),
            "rate": load.rate(),
            "limit": load.limit,
            "round": round,
            "interval": question.interval,
            "fill": question.fill,
            "used": finding["used"],
            "stated_s": finding["forecast"]["seconds"],
            "basis": finding["forecast"]["basis"],
            "observed_s": failed_s.map(|failed_s| failed_s - came_s),
            "late_s": end["late_s"],
        })
    );
}
