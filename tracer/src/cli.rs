//! The command line: words to values, no logic. `captures`: options of what makes captures or reads them; `logs`,
//! `shared`: what several commands have; `values`: how words are read.

mod captures;
mod logs;
mod shared;
mod values;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;
use tracer_ebpf::COMM_LEN;

use self::values::{parse_duration, parse_interval, parse_state};
pub use self::{
    captures::{DiffArgs, ExportArgs, RecordArgs, ReplayArgs, ReportArgs, ReportFormat},
    logs::LogArgs,
    shared::{KernelArgs, ProxyArgs},
    values::parse_errors,
};
use crate::{
    ceilings::{
        thresholds::{Threshold, Thresholds},
        what_if::{self, WhatIf},
    },
    check::Plan,
    event::State,
    filter::{self, Filter},
    kernel::{ladder::Hooks, snapshot::Which, survey::Scope},
};

/// Which connection ceiling did this host hit, who hit it, toward which upstream?
///
/// Traces the life of TCP sockets with eBPF: state changes, failed connects and their reasons, with
/// the process and the upstream. It changes nothing on the host. Without a command it opens the live view, and
/// takes the options of `top`.
#[derive(Debug, Parser)]
#[command(name = "socklife", version, override_usage = "socklife [OPTIONS] [COMMAND]")]
pub struct Cli {
    /// More of our own log on standard error; -vv adds the kernel side's debug messages.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The words of a command line, the program's name first, with the command that they leave out: `top`.
#[must_use]
pub fn with_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_verbose = |word: &str| {
        word == "--verbose"
            || word.strip_prefix('-').is_some_and(|it| it.trim_end_matches('v').is_empty())
    };
    let first = words.iter().skip(1).find(|word| !word.to_str().is_some_and(is_verbose));
    let of_top = first.is_none_or(|word| {
        let text = word.to_string_lossy();
        text.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&&*text)
    });
    if of_top {
        words.insert(words.len().min(1), "top".into());
    }
    words
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open the live view: what is failing, how full every ceiling is, until when, and what to do. The default.
    Top(TopArgs),
    /// Print events as they happen, until Ctrl-C.
    Trace(TraceArgs),
    /// Record events and what is found on the host into a file, to be looked at later and elsewhere.
    Record(RecordArgs),
    /// Convert captures into Parquet, JSON lines or CSV.
    Export(ExportArgs),
    /// Open the live view over a capture: play it, go back and forth in it, on to the next failure.
    Replay(ReplayArgs),
    /// Summarise captures: what failed, when and for whom, how full every ceiling got, who connected where.
    Report(ReportArgs),
    /// Put two captures side by side: before and after a fix.
    Diff(DiffArgs),
    /// Count failures by process and upstream (unless told otherwise: EADDRNOTAVAIL).
    Count(CountArgs),
    /// Look at every connection ceiling of this host: how full, who, until when, and what to do. Needs no
    /// eBPF; exit codes as monitoring plugins have them.
    Check(CheckArgs),
    /// Say what this kernel offers: which hook each event uses, and why not a better one.
    Features(FeaturesArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `socklife top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Stop after this long: 30s, 500ms, 2m.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How often figures are renewed.
    #[arg(long, default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Draw with ASCII characters only, as where the locale is no UTF-8.
    #[arg(long)]
    pub ascii: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub kernel: KernelArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub proxies: ProxyArgs,
}

/// `socklife trace`
#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub run: RunArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
}

/// `socklife count`
#[derive(Debug, Args)]
pub struct CountArgs {
    /// What to count: names of errors as in errno(3), or `all` failures. Unless given: EADDRNOTAVAIL; beside logs, all.
    #[arg(long, value_name = "LIST|all", value_delimiter = ',')]
    pub error: Vec<String>,
    /// Exit with 4 when the count is above N.
    #[arg(long, value_name = "N")]
    pub fail_over: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub run: RunArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub logs: LogArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub proxies: ProxyArgs,
}

/// `socklife check`
///
/// Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (a wrong command line too).
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// From how full on it is a warning: percent, for all ceilings or for one (time-wait=90).
    #[arg(long, value_name = "PCT|CEILING=PCT", value_delimiter = ',', default_value = "80")]
    pub warn: Vec<Threshold>,
    /// From how full on it is critical. What fails while it is watched always is.
    #[arg(long, value_name = "PCT|CEILING=PCT", value_delimiter = ',', default_value = "95")]
    pub fail: Vec<Threshold>,
    /// Only these network namespaces.
    #[arg(long, value_name = "PATH|INODE|PID")]
    pub netns: Vec<String>,
    /// Only these processes, and the network namespaces that they are in.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Watch for this long: gives rates, forecasts of all ceilings, and (with eBPF) counts failures.
    #[arg(long, value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// The same under other settings, changing nothing.
    #[arg(long, value_name = "LIST", help = format!("The same under other settings, changing nothing: {}", what_if::KNOWN))]
    pub what_if: Option<WhatIf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Which hooks may be used to count failures.
    #[arg(long, value_enum, default_value_t)]
    pub hooks: Hooks,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub proxies: ProxyArgs,
}

impl CheckArgs {
    /// Resolves names to what is looked at.
    ///
    /// # Errors
    /// A network namespace or a process that isn't there; a warning that would come after it is critical.
    pub fn resolve(&self) -> Result<Plan> {
        let named = self.netns.iter().map(|text| filter::resolve_netns(text));
        let of_pids = self.pid.iter().map(|pid| filter::resolve_netns(&pid.to_string()));
        let namespaces: Result<Vec<u32>> = named.chain(of_pids).collect();
        let namespaces = match namespaces? {
            none if none.is_empty() => Which::All,
            some => Which::Only(some),
        };
        Ok(Plan {
            scope: Scope { namespaces, pids: self.pid.clone(), given: self.proxies.given() },
            thresholds: Thresholds::new(self.warn.clone(), self.fail.clone())
                .map_err(anyhow::Error::msg)?,
            interval: self.interval,
            hooks: self.hooks,
            what_if: self.what_if.clone(),
        })
    }
}

/// `socklife features`
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Which hooks may be used.
    #[arg(long, value_enum, default_value_t)]
    pub hooks: Hooks,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which events; all filters are applied in the kernel, and an event must pass all of them. One that
/// takes several values passes any of these.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters (applied in the kernel)")]
pub struct FilterArgs {
    /// Process that opened the socket.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Name of the thread that opened the socket (as in /proc/PID/task/TID/comm).
    #[arg(long, value_parser = filter::parse_comm)]
    pub comm: Vec<[u8; COMM_LEN]>,
    /// Local or remote port.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Remote port.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub dport: Vec<u16>,
    /// Remote address or network.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = filter::parse_network)]
    pub dst: Vec<IpNet>,
    /// Local address or network.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = filter::parse_network)]
    pub src: Vec<IpNet>,
    /// Network namespace.
    #[arg(long, value_name = "PATH|INODE|PID")]
    pub netns: Vec<String>,
    /// Cgroup of the process that opened the socket, or one above it.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// New state, as ss names it: SYN-SENT, ESTAB, ...
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_state)]
    pub state: Vec<State>,
    /// Failures only.
    #[arg(long)]
    pub failures: bool,
    /// IPv4 only (IPv4 through an IPv6 socket too).
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6 only.
    #[arg(short = '6')]
    pub ipv6: bool,
}

impl FilterArgs {
    /// Resolves names to what the kernel compares.
    ///
    /// # Errors
    /// A network namespace or a cgroup that isn't there.
    pub fn resolve(&self) -> Result<Filter> {
        let netns: Result<Vec<u32>> =
            self.netns.iter().map(|text| filter::resolve_netns(text)).collect();
        Ok(Filter {
            pids: self.pid.clone(),
            comms: self.comm.clone(),
            ports: self.port.clone(),
            dports: self.dport.clone(),
            src: self.src.clone(),
            dst: self.dst.clone(),
            netns: netns?,
            cgroup: self.cgroup.as_deref().map(filter::resolve_cgroup).transpose()?,
            states: self.state.clone(),
            failures: self.failures,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Some(4),
                (_, true) => Some(6),
                _ => None,
            },
            errors: None,
        })
    }
}

/// How long, how often, how.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Stop after this long: 30s, 500ms, 2m.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Print totals this often.
    #[arg(long, value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub kernel: KernelArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_live_view_is_what_a_command_line_without_a_command_means() {
        let filled = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            with_command(words).join(&OsString::from(" ")).into_string().unwrap()
        };
        assert_eq!(filled("socklife"), "socklife top");
        assert_eq!(filled("socklife -vv"), "socklife top -vv");
        assert_eq!(filled("socklife --comm trace"), "socklife top --comm trace");
        for line in
            ["socklife -v trace", "socklife trace --pid 1", "socklife --help", "socklife help"]
        {
            assert_eq!(filled(line), line);
        }
    }

    #[test]
    fn a_report_is_printed_as_its_output_is_called() {
        let format = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::Report(args) = cli.command else { panic!("{line}") };
            args.format()
        };
        assert_eq!(format("socklife report a"), ReportFormat::Text);
        assert_eq!(format("socklife report a -o b.html"), ReportFormat::Html);
        assert_eq!(format("socklife report a -o b.json"), ReportFormat::Json);
        assert_eq!(format("socklife report a -o b.html --format text"), ReportFormat::Text);
        assert_eq!(format("socklife report a --format html"), ReportFormat::Html);
    }
}
