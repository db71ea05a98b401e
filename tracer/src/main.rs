//! Parse, run, exit code.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser, error::ErrorKind};
use jiff::tz::TimeZone;
use socklife::{
    answers::{captured, running::Running, watch::Watch},
    ceilings::thresholds::Status,
    check,
    cli::{
        CheckArgs, Cli, Command, CountArgs, DiffArgs, ExportArgs, FeaturesArgs, Format, RecordArgs,
        ReplayArgs, ReportArgs, ReportFormat, RunArgs, TopArgs, TraceArgs, parse_errors,
        with_command,
    },
    existing::Lister,
    export,
    filter::Filter,
    intake::Intake,
    kernel::{
        features,
        ground::Ground,
        loader::Kernel,
        ring::boot_epoch_ns,
        time_wait::{Account, Made},
    },
    record::{self, NotStarted, Recorded},
    recording::{place::Place, scribe::Keeping},
    replay,
    report::{diff, fold},
    run::{Run, Schedule, Stop, runtime},
    sampler::PortSampler,
    sink::{
        Sink, Totals, check_json, check_text,
        clock::Clock,
        diff_json, diff_text, json,
        output::{self, Output},
        report_html, report_json,
        report_text::{self, Style},
        summary, text,
    },
    source::Live,
    table::{Selection, Table},
    top,
    tui::theme::Look,
};
use tracing::Level;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// `count --fail-over N`: the count is above N.
const ABOVE: u8 = 4;

fn main() -> ExitCode {
    let is_check = std::env::args_os().nth(1).is_some_and(|word| word == "check");
    let cli = match Cli::try_parse_from(with_command(std::env::args_os().collect())) {
        Ok(cli) => cli,
        // A monitor takes clap's 2 for CRITICAL.
        Err(error) if is_check && error.use_stderr() => {
            let _ = error.print();
            return ExitCode::from(Status::Unknown.code());
        }
        Err(error) => error.exit(),
    };
    let on_screen = matches!(cli.command, Command::Top(_) | Command::Replay(_));
    log_to_stderr(cli.verbose, on_screen && stderr().is_terminal());
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("socklife: {error:#}"));
            if let Some(not_started) = error.downcast_ref::<NotStarted>() {
                return ExitCode::from(not_started.code());
            }
            if is_check { ExitCode::from(Status::Unknown.code()) } else { ExitCode::FAILURE }
        }
    }
}

/// A line on standard error; nobody may be there to read it.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// -v: our own debug messages; -vv: the kernel side's too; -vvv: everybody's. None of them where they would fall
/// onto the live view.
fn log_to_stderr(verbose: u8, onto_screen: bool) {
    if onto_screen {
        return;
    }
    let levels = Targets::new().with_default(Level::WARN);
    let levels = match verbose {
        0 => levels,
        1 => levels.with_target("socklife", Level::DEBUG),
        2 => levels.with_targets([("socklife", Level::DEBUG), ("tracer_ebpf", Level::DEBUG)]),
        _ => Targets::new().with_default(Level::DEBUG),
    };
    let print = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(print.with_filter(levels)).init();
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Top(args) => top(args, cli.verbose),
        Command::Trace(args) => trace(args, cli.verbose),
        Command::Record(args) => record(args, cli.verbose),
        Command::Export(args) => export(args),
        Command::Replay(args) => replay(args),
        Command::Report(args) => report(args),
        Command::Diff(args) => diff(args),
        Command::Count(args) => count(args, cli.verbose),
        Command::Check(args) => check(args),
        Command::Features(args) => Ok(features(args)),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "socklife", &mut stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn top(args: &TopArgs, verbose: u8) -> Result<ExitCode> {
    let plan = top::Plan {
        filter: args.filter.resolve()?,
        options: args.kernel.options(verbose),
        given: args.proxies.given(),
        duration: args.duration,
        interval: args.interval,
        look: look(args.ascii),
    };
    for line in top::run(&plan)? {
        say(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &ReplayArgs) -> Result<ExitCode> {
    if args.file.as_os_str() == "-" {
        let why = "a replay goes back and forth, which standard input can't: store it in a file";
        Cli::command().error(ErrorKind::ValueValidation, why).exit()
    }
    let plan = replay::Plan { file: args.file.clone(), look: look(args.ascii) };
    for line in replay::run(&plan)? {
        say(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn look(ascii: bool) -> Look {
    Look { colour: text::colour(), utf8: !ascii && is_utf8() }
}

/// Whether the locale's characters are UTF-8: the first of these variables that is set decides (locale(7)).
fn is_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn trace(args: &TraceArgs, verbose: u8) -> Result<ExitCode> {
    let clock = Clock::new(boot_epoch_ns(), TimeZone::system());
    let mut sink: Box<dyn Sink> = match args.run.format {
        Format::Text => Box::new(text::Trace::new(clock, text::colour())),
        Format::Json => Box::new(json::Trace::new(clock)),
    };
    let table = Table::new(Selection::All);
    let filter = args.filter.resolve()?;
    let (table, totals, made) =
        to_the_end(&args.run, verbose, &filter, table, sink.as_mut(), None)?;
    say(&summary::trace(&table, &totals, made));
    Ok(ExitCode::SUCCESS)
}

fn record(args: &RecordArgs, verbose: u8) -> Result<ExitCode> {
    if args.rotate.is_some() && args.max_size.is_none() && args.trigger.is_none() {
        let why = "--rotate needs --max-size SIZE, or --trigger: when shall the next file begin?";
        Cli::command().error(ErrorKind::MissingRequiredArgument, why).exit()
    }
    let place = Place {
        path: (args.output.as_os_str() != "-").then(|| args.output.clone()),
        force: args.force,
        files: args.rotate.unwrap_or(1),
    };
    if place.path.is_none() && (args.rotate.is_some() || args.format == Format::Json) {
        let why = "standard output takes the capture (-o -): no --rotate, and no --format json";
        Cli::command().error(ErrorKind::ArgumentConflict, why).exit()
    }
    let memory = usize::try_from(args.memory).unwrap_or(usize::MAX);
    let plan = record::Plan {
        filter: args.filter.resolve()?,
        options: args.kernel.options(verbose),
        given: args.proxies.given(),
        duration: args.duration,
        keeping: Keeping {
            place,
            max_size: args.max_size,
            window: args.trigger.map(|_| (args.before, memory)),
        },
        trigger: args.trigger.map(|trigger| (trigger, args.after)),
        command: args.command.clone(),
    };
    let recorded = runtime()?.block_on(record::run(&plan, say))?;
    if args.format == Format::Json {
        let mut out = Vec::new();
        // The same dates as a report of the recording has.
        let clock = Clock::new(recorded.epoch_ns, TimeZone::UTC);
        json::Count::new(clock).end(&recorded.table, &recorded.totals, &mut out);
        // A closed pipe is not ours to report.
        let _ = stdout().write_all(&out);
    } else {
        say(&summary::trace(&recorded.table, &recorded.totals, None));
    }
    for note in &recorded.notes {
        say(note);
    }
    say(&summary::recorded(&recorded, args.output.as_path()));
    match recorded {
        Recorded { failed: Some(error), .. } => Err(error),
        Recorded { exit: Some(code), .. } => Ok(ExitCode::from(code)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn export(args: &ExportArgs) -> Result<ExitCode> {
    let place = export::output::Place {
        path: (args.output.as_os_str() != "-").then(|| args.output.clone()),
        force: args.force,
    };
    let plan = export::Plan {
        captures: args.captures.clone(),
        to: args.to,
        place: place.clone(),
        failures: args.failures,
    };
    let exported = runtime()?.block_on(export::run(plan))?;
    say(&export::summary(&exported, &place));
    Ok(ExitCode::SUCCESS)
}

fn report(args: &ReportArgs) -> Result<ExitCode> {
    let usage = |kind, why: &str| -> ! { Cli::command().error(kind, why).exit() };
    let logs =
        args.logs.logs(|_| None).unwrap_or_else(|why| usage(ErrorKind::ValueValidation, &why));
    if !logs.is_empty() && args.files.len() > 1 {
        usage(ErrorKind::ArgumentConflict, "logs go with one capture: report each with its own")
    }
    if logs.is_empty() && args.log_time_zone.is_some() {
        let why = "--log-time-zone needs a log, such as --nginx-error-log";
        usage(ErrorKind::MissingRequiredArgument, why)
    }
    if let Some(path) = &args.output {
        output::check(path, args.force)?;
    }
    let reports: Result<Vec<_>> = args.files.iter().map(|path| fold::of(path)).collect();
    let mut reports = reports?;
    if !logs.is_empty() {
        for report in &mut reports {
            report.answers = Some(captured::of(report, &logs, args.log_time_zone.as_ref())?);
        }
    }
    let mut out = Vec::new();
    match args.format() {
        ReportFormat::Text => {
            let colour = args.output.is_none() && text::colour();
            report_text::print(&reports, &style(colour, args.top), &mut out);
        }
        ReportFormat::Json => report_json::print(&reports, &mut out),
        ReportFormat::Html => out = report_html::page(&reports).into_bytes(),
    }
    match &args.output {
        Some(path) => output::write(path, args.force, &out)?,
        // A closed pipe is not ours to report.
        None => drop(stdout().write_all(&out)),
    }
    Ok(ExitCode::SUCCESS)
}

fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let (before, after) = (fold::of(&args.before)?, fold::of(&args.after)?);
    let found = diff::of(&before, &after);
    let mut out = Vec::new();
    match args.format {
        Format::Text => {
            let style = style(text::colour(), args.top);
            diff_text::print(&before, &after, &found, &style, &mut out);
        }
        Format::Json => diff_json::print(&before, &after, &found, &mut out),
    }
    // A closed pipe is not ours to report.
    let _ = stdout().write_all(&out);
    Ok(ExitCode::SUCCESS)
}

fn style(colour: bool, top: usize) -> Style {
    Style { zone: TimeZone::system(), colour, top }
}

fn count(args: &CountArgs, verbose: u8) -> Result<ExitCode> {
    let usage = |why: String| -> ! { Cli::command().error(ErrorKind::ValueValidation, why).exit() };
    let running =
        if args.logs.is_empty() { Running::default() } else { Running::find(args.proxies.given()) };
    let logs = args.logs.logs(|path| running.format(path)).unwrap_or_else(|why| usage(why));
    let unless_given = [if logs.is_empty() { "EADDRNOTAVAIL" } else { "all" }.to_owned()];
    let errors = if args.error.is_empty() { &unless_given[..] } else { &args.error };
    let wanted = parse_errors(errors).unwrap_or_else(|why| usage(format!("--error: {why}")));
    let mut filter = args.filter.resolve()?;
    filter.failures = true;
    filter.errors = Some(wanted.clone());
    let clock = Clock::new(boot_epoch_ns(), TimeZone::system());
    let answers = match logs {
        none if none.is_empty() => None,
        logs => {
            let by_interval = args.run.interval.is_some();
            Some(Watch::begin(&logs, &TimeZone::system(), running, by_interval)?)
        }
    };
    let mut sink: Box<dyn Sink> = match args.run.format {
        Format::Text => Box::new(text::Count::new(clock, text::colour()).with_answers(answers)),
        Format::Json => Box::new(json::Count::new(clock).with_answers(answers)),
    };
    let sampler = Some(PortSampler::default());
    let (table, ..) =
        to_the_end(&args.run, verbose, &filter, Table::new(wanted), sink.as_mut(), sampler)?;
    match args.fail_over {
        Some(most) if table.failures() > most => Ok(ExitCode::from(ABOVE)),
        Some(most) if table.is_incomplete() => {
            bail!("--fail-over {most}: events were lost, so the count may be above it")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let report = check::run(&args.resolve()?, say)?;
    let mut out = Vec::new();
    match args.format {
        Format::Text => check_text::print(&report, text::colour(), &mut out),
        Format::Json => check_json::print(&report, &mut out),
    }
    // A closed pipe is not ours to report.
    let _ = stdout().write_all(&out);
    Ok(ExitCode::from(report.now.status.code()))
}

fn to_the_end(
    args: &RunArgs,
    verbose: u8,
    filter: &Filter,
    table: Table,
    sink: &mut dyn Sink,
    sampler: Option<PortSampler>,
) -> Result<(Table, Totals, Option<Made>)> {
    runtime()?.block_on(async {
        let stop = Stop::listen()?;
        let kernel = Kernel::attach(&args.kernel.options(verbose), filter)?;
        for hook in kernel.hooks() {
            tracing::debug!("{} from {}", hook.hooked.name(), hook.rung);
        }
        for unseen in kernel.unseen() {
            let what = unseen.hooked.unseen();
            say(&format!("not seen on this kernel: {what} (`socklife features` says why)"));
        }
        say(&match args.duration {
            Some(duration) => format!("watching for {:.1} s", duration.as_secs_f64()),
            None => "watching; Ctrl-C ends and prints totals".to_owned(),
        });
        let schedule = Schedule { duration: args.duration, interval: args.interval };
        let netns = &filter.netns;
        // While only connecting sockets are followed, every owner is in a call of its own.
        let lister = (!filter.connects_only()).then(|| Lister::begin(filter.which()));
        let run = Run::new(Intake::new(Live::new(kernel), table, lister), sink, sampler);
        let account = filter.all_time_waits().then(|| Account::open(netns)).flatten();
        let (table, totals) = run.drive(schedule, stop, Output::stdout()?).await?;
        Ok((table, totals, account.and_then(Account::close)))
    })
}

fn features(args: &FeaturesArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let features = match runtime {
        Ok(runtime) => runtime.block_on(async { features::features(args.hooks) }),
        Err(_) => Vec::new(),
    };
    let ground = Ground::survey();
    match args.format {
        Format::Text => text::features(&ground, &features, &mut stdout()),
        Format::Json => json::features(&ground, &features, &mut stdout()),
    }
    ExitCode::SUCCESS
}
