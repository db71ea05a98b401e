//! `socklife check`: every ceiling of this host, once or over an interval.

use std::{
    cmp::Ordering,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    ceilings::{
        Ceiling, Kind, assess,
        history::History,
        tally::Tally,
        thresholds::{Status, Thresholds},
        what_if::WhatIf,
    },
    event::Event,
    existing::Lister,
    filter::Filter,
    intake::Intake,
    kernel::{
        ladder::Hooks,
        loader::{Kernel, Options},
        netns,
        ring::boot_time_ns,
        snapshot::Which,
        survey::{Scope, Survey, Surveyor},
    },
    run::{Run, Schedule, Stop},
    sink::{Sink, Totals, output::Output},
    source::Live,
    table::{Change, Selection, Table},
};

/// What to check, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to look at.
    pub scope: Scope,
    /// What is how bad.
    pub thresholds: Thresholds,
    /// How long to watch; `None`: look once.
    pub interval: Option<Duration>,
    /// Which hooks may be used to count failures meanwhile.
    pub hooks: Hooks,
    /// Other settings to try.
    pub what_if: Option<WhatIf>,
}

/// A finding, and how bad it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The finding.
    pub ceiling: Ceiling,
    /// How bad.
    pub status: Status,
}

/// What is worse goes first; of what is as bad what fails most, then what may fail: ports before files, files
/// before the rest.
#[must_use]
pub fn worst_first(a: &Judged, b: &Judged) -> Ordering {
    let failed = |judged: &Judged| judged.ceiling.failed_now();
    let kind = |judged: &Judged| match judged.ceiling.subject.kind() {
        Kind::EphemeralPorts => 0,
        Kind::OpenFiles => 1,
        Kind::Conntrack => 2,
        Kind::ProxyConnections => 3,
        Kind::AcceptQueue => 4,
        Kind::TimeWait => 5,
    };
    (b.status.cmp(&a.status))
        .then(failed(b).cmp(&failed(a)))
        .then(kind(a).cmp(&kind(b)))
        .then(b.ceiling.ratio().total_cmp(&a.ceiling.ratio()))
}

/// All findings under some settings.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The worst of them.
    pub status: Status,
    /// By kind, the fullest first.
    pub list: Vec<Judged>,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// As it is.
    pub now: Findings,
    /// As it would be: the settings, and the findings.
    pub what_if: Option<(WhatIf, Findings)>,
    /// What could not be seen, and how to get it.
    pub unseen: Vec<String>,
    /// Our own network namespace.
    pub own_netns: Option<u32>,
}

/// Failures that nobody counts unless somebody watches.
pub const UNCOUNTED: &str = "failures of connect(), bind() and of open files: the kernel keeps no count of them; --interval 5s \
                         watches for as long and counts";

/// Checks. `say` is told when the failures are being counted.
///
/// # Errors
/// Nothing at all can be seen, or the watching breaks off.
pub fn run(plan: &Plan, say: impl FnOnce(&str)) -> Result<Report> {
    let surveyor = Surveyor::new(plan.scope.clone());
    let mut unseen = Vec::new();
    let (mut survey, mut history) = match plan.interval {
        None => {
            unseen.push(UNCOUNTED.to_owned());
            (surveyor.take(), History::default())
        }
        Some(interval) => watch(plan, interval, surveyor, &mut unseen, say)?,
    };
    unseen.append(&mut survey.unseen);
    if survey.namespaces.is_empty() {
        bail!("no network namespace can be looked at: {}", unseen.join("; "));
    }
    let mut now = assess(&survey, &mut history);
    // Since the last look, the hooks were taken away.
    let passed = Duration::from_nanos(boot_time_ns().saturating_sub(survey.at_ns));
    for forecast in now.iter_mut().filter_map(|ceiling| ceiling.forecast.as_mut()) {
        forecast.pass(passed);
    }
    let what_if = plan.what_if.clone().map(|what_if| {
        what_if.apply(&mut survey);
        let mut found = assess(&survey, &mut History::expecting(&now));
        for ceiling in &mut found {
            what_if.adjust(ceiling);
        }
        (what_if, Findings::judge(found, &plan.thresholds))
    });
    if history.left_out > 0 {
        unseen
            .push(format!("{} upstreams of a namespace with the fewest sockets", history.left_out));
    }
    let now = Findings::judge(now, &plan.thresholds);
    Ok(Report { now, what_if, unseen, own_netns: netns::own() })
}

impl Findings {
    fn judge(ceilings: Vec<Ceiling>, thresholds: &Thresholds) -> Self {
        let judged = ceilings.into_iter().map(|ceiling| {
            let status = thresholds.judge(&ceiling);
            Judged { ceiling, status }
        });
        let list: Vec<_> = judged.collect();
        let status = list.iter().map(|judged| judged.status).max();
        Self { status: status.unwrap_or(Status::Unknown), list }
    }
}

/// Samples of an interval: enough to tell growth from noise.
const SAMPLES: u32 = 20;
/// The shortest time between two of them.
const SHORTEST: Duration = Duration::from_millis(100);

/// Surveys until the time is up or `stop` says so; gives the last one, and what came before.
fn sample(
    surveyor: &Surveyor,
    mut history: History,
    interval: Duration,
    stop: &mpsc::Receiver<()>,
) -> (Survey, History) {
    let step = (interval / SAMPLES).max(SHORTEST);
    let mut due = Instant::now();
    let (end, mut cost) = (due + interval, Duration::ZERO);
    loop {
        // Half of the time at most is spent on looking.
        due = (due + step).max(Instant::now() + cost).min(end);
        let left = due.saturating_duration_since(Instant::now());
        let go_on = stop.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout);
        let began = Instant::now();
        let survey = surveyor.take();
        if !go_on || began >= end {
            return (survey, history);
        }
        // Only what it adds to the history is wanted.
        let _ = assess(&survey, &mut history);
        cost = began.elapsed();
    }
}

/// Counts what a ceiling caused.
#[derive(Default)]
struct Counting(Tally);

impl Sink for Counting {
    fn event(&mut self, event: &Event, change: &Change, _out: &mut Vec<u8>) {
        if let Some(failure) = change.failure() {
            self.0.note(event, *failure);
        }
    }

    fn totals(&mut self, _table: &Table, _totals: &Totals, _out: &mut Vec<u8>) {}
}

fn watch(
    plan: &Plan,
    interval: Duration,
    surveyor: Surveyor,
    unseen: &mut Vec<String>,
    say: impl FnOnce(&str),
) -> Result<(Survey, History)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let netns = match &plan.scope.namespaces {
        Which::All => Vec::new(),
        Which::Only(netns) => netns.clone(),
    };
    let filter = Filter { netns, ..Filter::default() };
    runtime.block_on(async {
        let stop = Stop::listen()?;
        let options = Options { ring_size: 8 << 20, hooks: plan.hooks, kernel_log: false };
        let kernel = Kernel::attach(&options, &filter);
        // The kernel's counters as they were before: what fails from now on is told apart from it.
        let mut history = History::default();
        let _ = assess(&surveyor.take(), &mut history);
        say(&format!("watching for {:.1} s", interval.as_secs_f64()));
        let (enough, stopped) = mpsc::channel();
        let sampling = std::thread::Builder::new()
            .name("survey".to_owned())
            .spawn(move || sample(&surveyor, history, interval, &stopped))
            .context("can't start a thread")?;
        let counted = match kernel {
            Ok(kernel) => Some(count(kernel, plan, interval, stop, unseen).await?),
            Err(error) => {
                unseen.push(format!("failures of connect(), bind() and of open files: {error:#}"));
                stop.asked_within(interval).await;
                None
            }
        };
        drop(enough);
        let (survey, mut history) =
            sampling.join().map_err(|_| anyhow::anyhow!("looking at the host broke off"))?;
        if let Some((tally, table)) = counted {
            history.counted(tally, table.ends());
        }
        Ok((survey, history))
    })
}

async fn count(
    kernel: Kernel,
    plan: &Plan,
    interval: Duration,
    stop: Stop,
    unseen: &mut Vec<String>,
) -> Result<(Tally, Table)> {
    for hook in kernel.unseen() {
        let what = hook.hooked.unseen();
        unseen.push(format!("{what}: no hook on this kernel (`socklife features` says why)"));
    }
    let mut counting = Counting::default();
    let lister = Lister::begin(plan.scope.namespaces.clone());
    let table = Table::new(Selection::All);
    let intake = Intake::new(Live::new(kernel), table, Some(lister));
    let run = Run::new(intake, &mut counting, None);
    let schedule = Schedule { duration: Some(interval), interval: None };
    let (table, _) = run.drive(schedule, stop, Output::stdout()?).await?;
    let tally = counting.0;
    if table.is_incomplete() {
        unseen.push(format!("{} events were lost: failures may be more", table.lost()));
    }
    if tally.unlisted() > 0 {
        unseen.push(format!("{} failures that found no room for their subject", tally.unlisted()));
    }
    Ok((tally, table))
}
