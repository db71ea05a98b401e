//! Incidents to look at in the live view: `socklife-demo` stages them in network namespaces of its own.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::shell::{cargo, is_root, root, run};

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Only these: ports, time-wait, files, conntrack, worker-connections.
    #[arg(long)]
    only: Option<String>,
    /// How long each incident lasts.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Draw the live view into an SVG file instead.
    #[arg(long)]
    picture: Option<PathBuf>,
}

pub(crate) fn show(demo: &Demo) -> Result<()> {
    ensure!(
        is_root(),
        "the demonstration makes network namespaces, which needs root: run it as root"
    );
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife"]))?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "socklife-tests", "--bins"]))?;
    let mut command = Command::new(built("socklife-demo"));
    command.env("SOCKLIFE_BIN", built("socklife"));
    if let Some(picture) = &demo.picture {
        command.arg("picture").arg(picture);
        if let Some(only) = &demo.only {
            command.args(["--only", only]);
        }
        return run(&mut command);
    }
    let lines = root().join("target/demo.ndjson");
    command.args(["stage", "--repeat", "--seconds", &demo.seconds.to_string()]);
    if let Some(only) = &demo.only {
        command.args(["--only", only]);
    }
    let staging = Staging::start(&mut command, &lines)?;
    let mut view = Command::new("setpriv");
    // It ends with us, whatever ends us.
    view.args(["--pdeathsig", "TERM"]).arg(built("socklife")).arg("top");
    for path in &staging.paths {
        view.args(["--netns", path]);
    }
    let shown = run(&mut view);
    staging.end()?;
    println!("staged in network namespaces that are gone again:");
    for line in fs::read_to_string(&lines)?.lines() {
        let facts: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if let Some(words) = words(&facts) {
            println!("- {words}");
        }
    }
    shown
}

fn built(name: &str) -> PathBuf {
    root().join("target/release").join(name)
}

/// The demonstration in the background, which ends, and cleans up, when its standard input does.
struct Staging {
    child: Child,
    paths: Vec<String>,
}

impl Staging {
    /// Starts it, and waits until its namespaces are there.
    fn start(command: &mut Command, lines: &Path) -> Result<Self> {
        let log = root().join("target/demo.log");
        let child = command
            .stdin(Stdio::piped())
            .stdout(File::create(lines)?)
            .stderr(File::create(&log)?)
            // The terminal's Ctrl-C and Ctrl-Z are the view's.
            .process_group(0)
            .spawn()
            .context("can't run socklife-demo")?;
        let mut staging = Self { child, paths: Vec::new() };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let said = fs::read_to_string(lines)?;
            if let Some((ready, _)) = said.split_once('\n') {
                let ready: Value = serde_json::from_str(ready)?;
                let paths = ready["paths"].as_array().into_iter().flatten();
                staging.paths = paths.filter_map(|path| path.as_str().map(str::to_owned)).collect();
                return Ok(staging);
            }
            let ended = staging.child.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                bail!("nothing can be staged: {}", fs::read_to_string(&log)?.trim());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it, and waits until nothing of it is left.
    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "socklife-demo failed, see target/demo.log: {status}");
        Ok(())
    }
}

/// What an incident was, once it is over; or why there was none.
fn words(facts: &Value) -> Option<String> {
    let incident = facts["incident"].as_str()?;
    if let Some(why) = facts["skipped"].as_str() {
        return Some(format!("{incident}: skipped: {}", why.trim()));
    }
    facts.get("ended")?;
    let text = |key: &str| facts[key].as_str().unwrap_or_default();
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let errors = |errno: &str| -> u64 {
        let by_worker = facts["errors"][errno].as_object();
        by_worker.into_iter().flatten().map(|(_, lines)| count(lines)).sum()
    };
    let pids: Vec<String> =
        facts["pids"].as_array().into_iter().flatten().map(Value::to_string).collect();
    let who = format!("Nginx (processes {})", pids.join(" and "));
    let (range, upstream) = (text("port_range").replace(' ', "-"), text("upstream"));
    Some(match incident {
        "ports" => format!(
            "{incident}: {who} had the local ports {range} toward {upstream}: {} lines with \
             EADDRNOTAVAIL in its error log, {} responses 502",
            errors("99"),
            count(&facts["statuses"]["502"])
        ),
        "time-wait" => format!(
            "{incident}: {who} made {} connections a second to {upstream}, and closed them first: {} \
             entries in TIME-WAIT at the end, on the local ports {range}",
            facts["rate"], facts["time_wait"]
        ),
        "files" => format!(
            "{incident}: {who} might have {} files open: {} lines with EMFILE in its error log",
            facts["files"],
            errors("24")
        ),
        "conntrack" => format!(
            "{incident}: {who} connected to {upstream} with a full connection tracking table: {} \
             packets were dropped, {} connects timed out",
            facts["dropped"],
            errors("110")
        ),
        _ => format!(
            "{incident}: {who} had {} connections each: {} times that was not enough",
            facts["worker_connections"], facts["not_enough"]
        ),
    })
}
