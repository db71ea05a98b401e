//! End-to-end tests: the real program on the real kernel. One at a time, for there is one kernel.
//!
//! Where a machine can't run a test it is skipped by name, with the reason, loudly.

#![expect(clippy::print_stdout, reason = "figures for who reads the test's output")]

mod answers;
mod answers_envoy;
mod answers_haproxy;
mod calls;
mod check_conntrack;
mod check_files;
mod check_misc;
mod check_ports;
mod check_queue;
mod check_time_wait;
mod demo;
mod errors;
mod export;
mod filters;
mod loss;
mod maps;
mod nginx;
mod nginx_conf;
mod proxies;
mod proxies_advice;
mod proxies_limits;
mod proxies_nginx;
mod reasons;
mod record;
mod record_trigger;
mod replay;
mod report_answers;
mod report_page;
mod signals;
mod styles;
mod tmux;
mod top_counts;
mod top_files;
mod top_incidents;
mod top_keys;
mod top_safety;
mod top_terminal;
mod view;
mod what_if;
mod what_if_rates;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use socklife_tests::{
    conntrack::{MAX as CONNTRACK_MAX, NFT},
    envoy,
    haproxy::HAPROXY,
    page::CHROMIUM,
    process::keep_inherited_files,
    python::interpreter,
    socklife::socklife,
    socklife_binary,
    tmux::TMUX,
};

/// What a test needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// eBPF programs may be loaded.
    Bpf,
    /// Network namespaces can be made: root and `ip`.
    Namespaces,
    /// tracefs can be mounted.
    Tracefs,
    /// Nginx and wrk.
    Nginx,
    /// HAProxy.
    HaProxy,
    /// Envoy, from PyPI.
    Envoy,
    /// A browser.
    Chromium,
    /// tmux, which is a terminal.
    Tmux,
    /// Python with what `python::interpreter` installs.
    Python,
    /// Connection tracking, whose size is the host's own.
    Conntrack,
}

/// A test before it is known whether it can run.
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) needs: Vec<Need>,
    pub(crate) run: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Test {
    pub(crate) fn new(
        name: impl Into<String>,
        needs: &[Need],
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), needs: needs.to_vec(), run: Box::new(run) }
    }
}

/// Why a need is not met on this machine.
struct Machine {
    unmet: Vec<(Need, String)>,
}

impl Machine {
    fn look() -> Self {
        let mut unmet = Vec::new();
        if let Some(why) = no_bpf() {
            unmet.push((Need::Bpf, why));
        }
        let root = nix_is_root();
        let missing = |programs: &[&str]| {
            let gone = programs.iter().find(|&&program| !Path::new(program).exists());
            gone.map(|program| format!("{program} is not installed"))
        };
        let ip =
            ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].iter().any(|ip| Path::new(ip).exists());
        if !root || !ip {
            let why = if root { "no `ip` (iproute2)" } else { "not root" };
            unmet.push((Need::Namespaces, format!("{why}: network namespaces can't be made")));
        }
        if !root {
            unmet.push((Need::Tracefs, "not root: tracefs can't be mounted".to_owned()));
        }
        if let Some(why) = missing(&["/usr/sbin/nginx", "/usr/bin/wrk"]) {
            unmet.push((Need::Nginx, why));
        }
        if let Some(why) = missing(&[HAPROXY]) {
            unmet.push((Need::HaProxy, why));
        }
        if let Err(why) = envoy::program() {
            unmet.push((Need::Envoy, format!("{why:#}")));
        }
        if let Some(why) = missing(&[CHROMIUM]) {
            unmet.push((Need::Chromium, why));
        }
        if let Some(why) = missing(&[TMUX]) {
            unmet.push((Need::Tmux, why));
        }
        if let Some(why) = no_conntrack(root) {
            unmet.push((Need::Conntrack, why));
        }
        if let Err(why) = interpreter() {
            unmet.push((Need::Python, format!("{why:#}")));
        }
        Self { unmet }
    }

    fn refuses(&self, test: &Test) -> Option<&str> {
        let unmet = self.unmet.iter().find(|(need, _)| test.needs.contains(need));
        unmet.map(|(_, why)| why.as_str())
    }
}

/// Why connection tracking can't be tested: no rules can be made, or its size is not ours to set.
fn no_conntrack(root: bool) -> Option<String> {
    if !Path::new(NFT).exists() {
        return Some(format!("{NFT} is not installed"));
    }
    if !root {
        return Some("not root: nf_conntrack_max can't be set".to_owned());
    }
    let writable = std::fs::File::options().write(true).open(CONNTRACK_MAX);
    // Where it is a module that is not loaded, the first rule loads it.
    writable
        .err()
        .filter(|error| error.kind() != std::io::ErrorKind::NotFound)
        .map(|error| format!("{CONNTRACK_MAX}: {error} (in a container it is the host's to set)"))
}

fn nix_is_root() -> bool {
    socklife_tests::process::run(std::process::Command::new("id").arg("-u"))
        .is_ok_and(|id| id.trim() == "0")
}

/// Why this machine doesn't let us load programs. A program that the verifier refuses is no reason:
/// then the tests run, and fail.
fn no_bpf() -> Option<String> {
    let end = socklife(&["features", "--format", "json"]).ok()?;
    let features: Value = serde_json::from_str(&end.stdout).ok()?;
    let state = &features["events"][0];
    let why = state["refused"][0]["why"].as_str().unwrap_or_default();
    let not_permitted = ["not enough privilege", "too old", "(EPERM)"];
    let permitted = state["rung"].is_string() || !not_permitted.iter().any(|p| why.contains(p));
    (!permitted).then(|| format!("eBPF programs can't be loaded here: {why}"))
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if !socklife_binary().exists() {
        eprintln!(
            "{} is missing: `cargo build --release` first, or run all by `cargo xtask test`",
            socklife_binary().display()
        );
        return ExitCode::FAILURE;
    }
    if let Err(error) = keep_inherited_files() {
        eprintln!("files that were inherited may be counted: {error:#}");
    }
    let machine = Machine::look();
    let tests = [
        answers_envoy::tests(),
        answers_haproxy::tests(),
        calls::tests(),
        check_conntrack::tests(),
        check_files::tests(),
        check_misc::tests(),
        check_ports::tests(),
        check_queue::tests(),
        check_time_wait::tests(),
        demo::tests(),
        errors::tests(),
        export::tests(),
        filters::tests(),
        loss::tests(),
        maps::tests(),
        nginx::tests(),
        proxies_nginx::tests(),
        proxies_advice::tests(),
        nginx_conf::tests(),
        proxies::tests(),
        proxies_limits::tests(),
        reasons::tests(),
        record::tests(),
        record_trigger::tests(),
        report_answers::tests(),
        report_page::tests(),
        replay::tests(),
        signals::tests(),
        tmux::tests(),
        top_counts::tests(),
        top_files::tests(),
        top_incidents::tests(),
        top_keys::tests(),
        top_safety::tests(),
        top_terminal::tests(),
        view::tests(),
        what_if::tests(),
        what_if_rates::tests(),
    ];
    let trials = tests.into_iter().flatten().map(|test| {
        let refused = machine.refuses(&test).map(str::to_owned);
        if let Some(why) = &refused {
            eprintln!("SKIPPED {}: {why}", test.name);
        }
        let run = test.run;
        Trial::test(test.name, move || run().map_err(|error| Failed::from(format!("{error:#}"))))
            .with_ignored_flag(refused.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
