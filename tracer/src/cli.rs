//! The command line: words to values, no logic.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;
use tracer_ebpf::COMM_LEN;

use crate::{
    ceilings::{
        thresholds::{Threshold, Thresholds},
        what_if::{self, WhatIf},
    },
    check::Plan,
    event::{Errno, State},
    export::To,
    filter::{self, Filter},
    kernel::{ladder::Hooks, snapshot::Which, survey::Scope},
    recording::trigger::Trigger,
    table::Selection,
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
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    /// Stop after this long: 30s, 500ms, 2m.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How often figures are renewed.
    #[arg(long, default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Draw with ASCII characters only, as where the locale is no UTF-8.
    #[arg(long)]
    pub ascii: bool,
    /// Which hooks may be used.
    #[arg(long, value_enum, default_value_t)]
    pub hooks: Hooks,
    /// Size of each of the two rings between kernel and userspace: a power of two, such as 16M.
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_size)]
    pub ring_size: u32,
}

/// `socklife trace`
#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub run: RunArgs,
}

/// `socklife record`
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The file; `-` for standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Overwrite what is there.
    #[arg(long)]
    pub force: bool,
    /// Stop after this long: 30s, 500ms, 2m.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Largest size of a file, such as 100M: then recording ends, or goes on in the next file (--rotate).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Keep this many files: the newest is FILE, older ones are FILE.1, FILE.2, ...
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub rotate: Option<u32>,
    /// Write only what happens around this: 'EADDRNOTAVAIL>100/s', 'failures>50/s', 'ephemeral-ports>90%'. With
    /// --rotate it goes on waiting afterwards.
    #[arg(long, value_name = "WHAT>N/s|CEILING>P%")]
    pub trigger: Option<Trigger>,
    /// How much of the time before the trigger is written.
    #[arg(long, requires = "trigger", default_value = "30s", value_parser = parse_duration)]
    pub before: Duration,
    /// How much of the time after it.
    #[arg(long, requires = "trigger", default_value = "30s", value_parser = parse_duration)]
    pub after: Duration,
    /// How much memory the time before may take.
    #[arg(long, requires = "trigger", value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    pub memory: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    /// How to print the totals at the end.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Which hooks may be used.
    #[arg(long, value_enum, default_value_t)]
    pub hooks: Hooks,
    /// Size of each of the two rings between kernel and userspace: a power of two, such as 16M.
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_size)]
    pub ring_size: u32,
    /// Record while this command runs, and exit as it does.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `socklife export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Captures of `socklife record`; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub captures: Vec<PathBuf>,
    /// Into what.
    #[arg(long, value_enum)]
    pub to: To,
    /// Where to; `-` for standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Overwrite what is there.
    #[arg(long)]
    pub force: bool,
    /// Failures only; what was lost is told all the same.
    #[arg(long)]
    pub failures: bool,
}

/// `socklife replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The capture, as `socklife record` made it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Draw with ASCII characters only, as where the locale is no UTF-8.
    #[arg(long)]
    pub ascii: bool,
}

/// `socklife report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Captures, as `socklife record` makes them; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print; if not said, as the name of the output ends: .html, .json, else text.
    #[arg(long, value_enum)]
    pub format: Option<ReportFormat>,
    /// Where to, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite what is there.
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Most rows of each kind in text.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = parse_rows)]
    pub top: usize,
}

impl ReportArgs {
    /// How to print: as is said, or as the output's name ends.
    #[must_use]
    pub fn format(&self) -> ReportFormat {
        let named = self.output.as_ref().and_then(|path| path.extension()?.to_str());
        self.format.unwrap_or(match named {
            Some("html" | "htm") => ReportFormat::Html,
            Some("json") => ReportFormat::Json,
            _ => ReportFormat::Text,
        })
    }
}

/// How to print a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// One page that needs nothing but itself.
    Html,
}

/// `socklife diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The capture before.
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The capture after.
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Most rows of each kind in text.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = parse_rows)]
    pub top: usize,
}

/// `socklife count`
#[derive(Debug, Args)]
pub struct CountArgs {
    /// What to count: names of errors as in errno(3), or `all` failures.
    #[arg(long, value_name = "LIST|all", default_value = "EADDRNOTAVAIL", value_delimiter = ',')]
    pub error: Vec<String>,
    /// Exit with 4 when the count is above N.
    #[arg(long, value_name = "N")]
    pub fail_over: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub run: RunArgs,
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
            scope: Scope { namespaces, pids: self.pid.clone() },
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
    /// Which hooks may be used.
    #[arg(long, value_enum, default_value_t)]
    pub hooks: Hooks,
    /// Size of each of the two rings between kernel and userspace: a power of two, such as 16M.
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_size)]
    pub ring_size: u32,
}

fn parse_rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if rows > 0 => Ok(rows),
        _ => Err("give a number of rows from 1 on".to_owned()),
    }
}

fn parse_state(text: &str) -> Result<State, String> {
    text.parse()
}

/// Parses `--error`.
///
/// # Errors
/// A name that errno(3) does not have.
pub fn parse_errors(list: &[String]) -> Result<Selection, String> {
    if list.iter().any(|item| item == "all") {
        return Ok(Selection::All);
    }
    let errors: Result<_, String> = list.iter().map(|item| item.parse::<Errno>()).collect();
    errors.map(Selection::Errors)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let parsed = seconds.or_else(|| text.parse::<jiff::SignedDuration>().ok()?.try_into().ok());
    match parsed {
        Some(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        Some(_) => Err("it must be at least 1ms".to_owned()),
        None => Err("give a number and a unit, such as 30s, 500ms or 2m".to_owned()),
    }
}

/// How often the live view may be renewed.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_mins(1);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if INTERVALS.contains(&interval) {
        Ok(interval)
    } else {
        Err("it must be from 200ms to 60s".to_owned())
    }
}

/// Smallest and largest ring, bytes.
const RING_SIZES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

/// Smallest file that has room for anything, bytes.
const MIN_SIZE: u64 = 64 << 10;

fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes < MIN_SIZE { Err("it must be at least 64K".to_owned()) } else { Ok(bytes) }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        other => return Err(format!("no unit {other:?}; give bytes, or K, M, G")),
    };
    let number = digits.parse::<u64>().map_err(|_| "give a size such as 8M".to_owned())?;
    Ok(number.saturating_mul(unit))
}

fn parse_ring_size(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if !RING_SIZES.contains(&bytes) || bytes < page {
        return Err(format!("out of range: it must be from {}K to 1G", page.max(4096) >> 10));
    }
    if !bytes.is_power_of_two() {
        let below = 1u64 << bytes.ilog2();
        return Err(format!("not a power of two: take {below} or {} bytes", below * 2));
    }
    u32::try_from(bytes).map_err(|_| "out of range".to_owned())
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

    #[test]
    fn ring_sizes() {
        assert_eq!(parse_ring_size("8M"), Ok(8 << 20));
        assert_eq!(parse_ring_size("4096"), Ok(4096));
        assert_eq!(parse_ring_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_ring_size("1G"), Ok(1 << 30));
        assert!(parse_ring_size("2G").unwrap_err().contains("from 4K to 1G"));
        assert!(parse_ring_size("1024").unwrap_err().contains("out of range"));
        assert!(parse_ring_size("99999999999999G").unwrap_err().contains("out of range"));
        assert_eq!(
            parse_ring_size("3M").unwrap_err(),
            "not a power of two: take 2097152 or 4194304 bytes"
        );
        assert!(parse_ring_size("8 parsecs").is_err());
        assert!(parse_ring_size("").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("0").is_err());
        assert!(parse_duration("soon").unwrap_err().contains("30s"));
        assert!(parse_duration("1e300").is_err());
    }

    #[test]
    fn errors_to_count() {
        let parse = |list: &[&str]| {
            parse_errors(&list.iter().map(|&item| item.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&["all"]), Ok(Selection::All));
        let two = parse(&["EADDRNOTAVAIL", "econnrefused"]).unwrap();
        assert_eq!(two, Selection::Errors([Errno(99), Errno(111)].into()));
        assert!(parse(&["EWHAT"]).unwrap_err().contains("EWHAT"));
    }
}
