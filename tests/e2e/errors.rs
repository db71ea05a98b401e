//! What goes wrong is said so that a person can act on it, with the right exit code.

use std::process::Command;

use anyhow::{Result, ensure};
use socklife_tests::{
    net::Link,
    process::{Finished, Process},
    socklife::{Socklife, socklife},
    socklife_binary,
};

use crate::{Need, Test};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("errors::usage", &[], usage),
        Test::new("errors::what_is_not_there", &[], what_is_not_there),
        Test::new(
            "errors::not_enough_privilege",
            &[Need::Bpf, Need::Namespaces],
            not_enough_privilege,
        ),
        Test::new("errors::no_tracefs", &[Need::Bpf, Need::Tracefs], no_tracefs),
        Test::new("errors::no_type_information", &[Need::Bpf, Need::Tracefs], no_type_information),
        Test::new("errors::features", &[], features),
        Test::new("errors::best_hook_is_in_use", &[Need::Bpf], best_hook_is_in_use),
        Test::new("errors::kernel_log", &[Need::Bpf, Need::Namespaces], kernel_log),
    ]
}

/// The command failed with this code, said this, and did not panic.
fn says(end: &Finished, code: i32, words: &[&str]) -> Result<()> {
    ensure!(end.code == Some(code), "exit code {:?}: {}", end.code, end.stderr);
    ensure!(!end.stderr.contains("panicked"), "{}", end.stderr);
    ensure!(end.stdout.is_empty(), "on standard output: {}", end.stdout);
    for word in words {
        ensure!(end.stderr.contains(word), "no {word:?} in: {}", end.stderr);
    }
    Ok(())
}

fn usage() -> Result<()> {
    let cases: [(&[&str], &str); 16] = [
        (&["--interval", "0.1s"], "from 200ms"),
        (&["explode"], "unrecognized subcommand"),
        (&["trace", "--pid", "0"], "--pid"),
        (&["trace", "--pid", "nginx"], "--pid"),
        (&["trace", "--port", "65536"], "--port"),
        (&["trace", "--dport", "http"], "--dport"),
        (&["trace", "--dst", "10.0.0.0/33"], "10.0.0.0/8"),
        (&["trace", "--src", "upstream"], "10.0.0.0/8"),
        (&["trace", "--comm", "a-name-beyond-fifteen-bytes"], "15 bytes"),
        (&["trace", "--state", "OPEN"], "SYN-SENT"),
        (&["trace", "-4", "-6"], "cannot be used with"),
        (&["trace", "--ring-size", "3M"], "power of two"),
        (&["trace", "--ring-size", "1"], "out of range"),
        (&["trace", "--duration", "soon"], "30s"),
        (&["trace", "--hooks", "magic"], "possible values"),
        (&["count", "--error", "EWHAT"], "EWHAT"),
    ];
    for (arguments, word) in cases {
        says(&socklife(arguments)?, 2, &[word])?;
    }
    Ok(())
}

fn what_is_not_there() -> Result<()> {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["trace", "--netns", "/run/netns/no-such"], &["--netns", "No such file"]),
        (&["trace", "--netns", "/etc/hostname"], &["is not a namespace"]),
        (&["trace", "--netns", "4194303"], &["process 4194303"]),
        (&["trace", "--netns", "4294967295"], &["lsns -t net"]),
        (&["trace", "--cgroup", "/no-such.slice"], &["--cgroup"]),
        (&["count", "--cgroup", "/../../etc"], &["--cgroup"]),
    ];
    for (arguments, words) in cases {
        says(&socklife(arguments)?, 1, words)?;
    }
    Ok(())
}

fn not_enough_privilege() -> Result<()> {
    let without = |capabilities: &str, arguments: &[&str]| -> Result<Finished> {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", capabilities, "--inh-caps", capabilities]);
        Process::start(command.arg(socklife_binary()).args(arguments))?.finish()
    };
    let end = without("-sys_admin,-bpf,-perfmon", &["count"])?;
    says(&end, 1, &["CAP_BPF and CAP_PERFMON", "setcap", "root"])?;
    let end = without("-sys_admin,-perfmon", &["trace"])?;
    says(&end, 1, &["privilege to load eBPF programs: CAP_PERFMON missing"])?;
    let end = without("-sys_admin,-bpf,-perfmon", &["features"])?;
    ensure!(end.code == Some(0) && end.stdout.contains("CAP_BPF, CAP_PERFMON missing"), "{end:?}");
    Ok(())
}

/// Runs socklife with an empty directory mounted over what is taken away, and without the right to
/// mount anything itself.
fn with_empty(paths: &[&str], arguments: &[&str]) -> Result<Finished> {
    let script: String = paths
        .iter()
        .map(|path| format!("mount -t tmpfs none {path} && "))
        .chain([format!("exec {WITHOUT_MOUNT} \"$0\" \"$@\"")])
        .collect();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(socklife_binary());
    Process::start(command.args(arguments))?.finish()
}

const WITHOUT_MOUNT: &str = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin";

/// It mounts tracefs for itself alone where it may, and leaves nothing of it behind.
fn no_tracefs() -> Result<()> {
    let mounts = || Ok::<_, anyhow::Error>(std::fs::read_to_string("/proc/self/mounts")?);
    let before = mounts()?;
    let end = socklife(&["trace", "--hooks=tracepoint", "--duration=100ms", "--format=json"])?;
    ensure!(end.code == Some(0), "{}", end.stderr);
    ensure!(mounts()? == before, "the machine's mounts changed");
    // State changes do without it; what does not says what to do.
    let end = with_empty(&["/sys/kernel/tracing"], &["features", "--hooks=tracepoint"])?;
    for words in
        ["raw_tracepoint/inet_sock_set_state", "mount -t tracefs tracefs /sys/kernel/tracing"]
    {
        ensure!(end.stdout.contains(words), "no {words:?} in {}", end.stdout);
    }
    let arguments = ["trace", "--hooks=tracepoint", "--duration=100ms"];
    let end = with_empty(&["/sys/kernel/tracing"], &arguments)?;
    ensure!(end.code == Some(0) && end.stderr.contains("not seen on this kernel"), "{end:?}");
    Ok(())
}

fn no_type_information() -> Result<()> {
    let gone = ["/sys/kernel/btf", "/sys/kernel/tracing"];
    let end = with_empty(&gone, &["count"])?;
    says(&end, 1, &["BTF", "/sys/kernel/btf/vmlinux", "tracefs is not mounted"])?;
    // With tracefs the plain tracepoint still counts exhaustion; what it can't filter it refuses.
    let script = "mount -t tmpfs none /sys/kernel/btf && \
                  mount -t tracefs tracefs /sys/kernel/tracing && exec \"$0\" \"$@\"";
    let run = |arguments: &[&str]| -> Result<Finished> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(socklife_binary());
        Process::start(command.args(arguments))?.finish()
    };
    let end = run(&["count", "--duration=100ms", "--format=json"])?;
    ensure!(end.code == Some(0), "count without BTF: {}", end.stderr);
    says(&run(&["trace", "--netns=/proc/self/ns/net"])?, 1, &["--netns can't be applied"])?;
    says(&run(&["count", "--error=ECONNRESET"])?, 1, &["without BTF"])?;
    let end = run(&["features"])?;
    ensure!(end.stdout.contains("tracepoint/sock/inet_sock_set_state"), "{}", end.stdout);
    ensure!(end.stdout.contains("not used  tp_btf/inet_sock_set_state"), "{}", end.stdout);
    Ok(())
}

fn features() -> Result<()> {
    let end = socklife(&["features"])?;
    ensure!(end.code == Some(0) && end.stdout.contains("\nEVENT           HOOK IN USE"), "{end:?}");
    let end = socklife(&["features", "--format=json"])?;
    let features: serde_json::Value = serde_json::from_str(&end.stdout)?;
    ensure!(features["events"][0]["event"] == "state", "{features}");
    ensure!(features["host"]["kernel"].is_string(), "{features}");
    Ok(())
}

/// A kernel with type information takes the BTF-typed program, unless it permits none of that kind.
fn best_hook_is_in_use() -> Result<()> {
    let features: serde_json::Value =
        serde_json::from_str(&socklife(&["features", "--format=json"])?.stdout)?;
    let state = &features["events"][0];
    let not_permitted = state["refused"][0]["why"].as_str().is_some_and(|w| w.contains("(EPERM)"));
    let best = state["rung"] == "tp_btf/inet_sock_set_state";
    ensure!(best || features["host"]["btf"] != "yes" || not_permitted, "{features}");
    Ok(())
}

/// The kernel side's own messages come with -vv, and only then.
fn kernel_log() -> Result<()> {
    let link = Link::new()?;
    let path = link.near.path();
    for (verbose, expected) in [("-vv", true), ("-v", false)] {
        let tracing = Socklife::start(&[verbose, "trace", "--failures", "--netns", &path])?;
        link.near.fail(&["plain", "--to", "10.77.0.2:9101"])?;
        let end = tracing.interrupt()?;
        ensure!(end.stderr.contains("sk_err 111") == expected, "{verbose}: {}", end.stderr);
    }
    Ok(())
}
