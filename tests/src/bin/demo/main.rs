//! Stages real incidents for the live view, in network namespaces of its own: real Nginx, an upstream, and
//! load. Says in JSON lines what the truth is. Nothing stays behind. See `cargo xtask demo`.

mod inbox;
mod incident;
mod picture;
mod staged;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use socklife_tests::net::Link;

use crate::{
    inbox::{Inbox, Word},
    incident::Incident,
    staged::{Ready, Staged},
};

/// Stages real incidents for the live view, as root, in network namespaces of its own.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Stage incidents in turn, and print a line when there are namespaces, when one begins, when its first
    /// failure is there, and when it ends.
    Stage(Stage),
    /// Draw the live view of an incident: SVG of a terminal.
    Picture {
        /// The file to write.
        into: PathBuf,
        /// Which incident.
        #[arg(long, value_enum, default_value_t = Incident::Ports)]
        only: Incident,
    },
}

/// What to stage, and how long.
#[derive(clap::Args)]
struct Stage {
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Incident>,
    /// How long each lasts.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Begin each at a line of standard input, and end it at the next; end all with the input.
    #[arg(long)]
    ordered: bool,
    /// Again and again, until standard input ends.
    #[arg(long, conflicts_with = "ordered")]
    repeat: bool,
}

/// How often the truth is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let outcome = match Cli::parse().what {
        What::Stage(stage) => run(&stage),
        What::Picture { into, only } => picture::draw(&into, only),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("socklife-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(stage: &Stage) -> Result<()> {
    let inbox = Inbox::open(stage.ordered || stage.repeat)?;
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root: sudo");
    for (program, package) in [("/usr/sbin/nginx", "nginx-light"), ("/usr/bin/wrk", "wrk")] {
        ensure!(Path::new(program).exists(), "no {program}: `apt-get install {package}`");
    }
    let link = Link::new()?;
    let namespaces = json!({
        "namespaces": [link.near.inode()?, link.far.inode()?],
        "paths": [link.near.path(), link.far.path()],
    });
    say(&namespaces, &json!({ "ready": now() }))?;
    loop {
        for &incident in Incident::value_variants() {
            if !stage.only.is_empty() && !stage.only.contains(&incident) {
                continue;
            }
            let on = show(stage, incident, &link, &inbox, &namespaces);
            if !on.with_context(|| incident.name())? {
                return Ok(());
            }
        }
        if !stage.repeat {
            return Ok(());
        }
    }
}

/// Stages one; whether to go on behind it.
fn show(
    stage: &Stage,
    incident: Incident,
    link: &Link,
    inbox: &Inbox,
    namespaces: &Value,
) -> Result<bool> {
    if stage.ordered && inbox.next() == Word::End {
        return Ok(false);
    }
    let plan = incident.plan(stage.seconds);
    let mut staged = match Staged::begin(link, &plan)? {
        Ok(staged) => staged,
        Err(why) => {
            return say(&json!({ "incident": incident.name() }), &json!({ "skipped": why }))
                .map(|()| true);
        }
    };
    loop {
        match staged.ready()? {
            Ready::Yes => break,
            Ready::Never(why) => {
                say(&json!({ "incident": incident.name() }), &json!({ "skipped": why }))?;
                return staged.end().map(|_| true);
            }
            Ready::NotYet if inbox.within(LOOK) == Some(Word::End) => return Ok(false),
            Ready::NotYet => {}
        }
    }
    let mut facts = staged.facts()?;
    merge(&mut facts, namespaces);
    say(&facts, &json!({ "begun": now() }))?;
    staged.load()?;
    let end = (!stage.ordered).then(|| Instant::now() + Duration::from_secs(stage.seconds.into()));
    let mut failing = false;
    let word = loop {
        if !failing && staged.failing()? {
            failing = true;
            say(&json!({ "incident": incident.name() }), &json!({ "failing": now() }))?;
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let look = if failing { Duration::from_millis(200) } else { LOOK };
        match inbox.within(left.map_or(look, |left| look.min(left))) {
            None if left == Some(Duration::ZERO) => break Word::Next,
            // Without orders a line means nothing.
            Some(Word::Next) if !stage.ordered => {}
            None => {}
            Some(word) => break word,
        }
    };
    let truth = staged.end()?;
    merge(&mut facts, &truth);
    say(&facts, &json!({ "ended": now() }))?;
    Ok(word == Word::Next)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.clone());
    }
}

/// A line on standard output.
fn say(facts: &Value, more: &Value) -> Result<()> {
    let mut line = facts.clone();
    merge(&mut line, more);
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output")
}
