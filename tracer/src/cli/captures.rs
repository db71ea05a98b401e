//! Options of the commands that make captures, or read them.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::{
    FilterArgs, Format, KernelArgs, LogArgs, ProxyArgs,
    values::{parse_duration, parse_rows, parse_size},
};
use crate::{export::To, logs::zone, recording::trigger::Trigger};

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
    /// How to print the totals at the end.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub kernel: KernelArgs,
    /// Record while this command runs, and exit as it does.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub proxies: ProxyArgs,
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
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it")]
    pub logs: LogArgs,
    /// Zone of times without one (Nginx's error log, HAProxy's), such as Europe/Berlin or +02:00. Unless given, that of
    /// the host that recorded.
    #[arg(long, value_name = "ZONE", value_parser = zone::of)]
    pub log_time_zone: Option<TimeZone>,
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
