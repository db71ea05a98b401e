//! All cases on one rung. Attaching costs more than a case on an emulated CPU, so one pair of tracers
//! watches all; each case is told apart by the time in which it was made.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use socklife_tests::process::Finished;

use crate::{
    case::{Case, Check, Done, Ground},
    machine::version,
    timewait,
    watch::{Features, Fewer, Watch, Watched},
};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should.
    Pass,
    /// Not as it should.
    Fail,
    /// This rung can't see it here, and nothing false was said.
    Unseen,
}

impl Outcome {
    /// As the results have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unseen => "unseen",
        }
    }
}

/// The result of a case on a rung.
pub(crate) struct CaseResult {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
    pub(crate) seconds: f64,
}

/// The test that stands for the round itself.
const ROUND: &str = "nothing_lost_and_totals_equal";

/// Kernels that have a rung, by what its users are told (docs/events.md): below, it may be refused.
fn may_be_refused(rung: &str, kernel: &str) -> bool {
    rung == "fentry" && version(kernel) < (5, 12)
}

/// A case that was made, and when.
struct Made {
    name: String,
    event: &'static str,
    through_uring: bool,
    window: (Timestamp, Timestamp),
    seconds: f64,
    check: Result<(Check, Check)>,
}

/// What runs on a rung.
pub(crate) struct Round {
    /// A value of `--hooks`.
    pub(crate) rung: &'static str,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Under one pair of tracers.
    pub(crate) cases: Vec<Case>,
    /// Of [`timewait::TESTS`].
    pub(crate) time_wait: Vec<&'static str>,
}

/// What came of it.
pub(crate) struct RoundResult {
    /// The round's own is the last.
    pub(crate) cases: Vec<CaseResult>,
    /// What `socklife features` says, where it can be asked.
    pub(crate) features: Option<Features>,
}

/// Runs all.
pub(crate) fn run(round: Round, ground: &mut Ground) -> RoundResult {
    let started = Instant::now();
    let Round { rung, kernel, cases, time_wait } = round;
    let mut names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    let all = |names: &[String], outcome, detail: &str| -> Vec<CaseResult> {
        let result = |test: &String| CaseResult {
            test: test.clone(),
            outcome,
            detail: detail.to_owned(),
            seconds: 0.0,
        };
        names.iter().map(result).collect()
    };
    let features = match Features::ask(rung) {
        Ok(features) => features,
        Err(error) => {
            names.extend(time_wait.into_iter().map(str::to_owned));
            let cases = all(&names, Outcome::Fail, &format!("{error:#}"));
            return RoundResult { cases, features: None };
        }
    };
    println!("{rung}: features in {:.1} s", started.elapsed().as_secs_f64());
    let cases = match watched(rung, &kernel, &features, ground, cases) {
        Ok(Ok(mut results)) => {
            results.extend(timewait::run_all(rung, &features, ground, &time_wait));
            results.sort_by_key(|result| result.test == ROUND);
            results
        }
        Ok(Err(refusal)) => {
            names.extend(time_wait.into_iter().map(str::to_owned));
            all(&names, Outcome::Unseen, &refusal)
        }
        Err(error) => {
            let mut results = all(&names, Outcome::Fail, &format!("{error:#}"));
            results.extend(timewait::run_all(rung, &features, ground, &time_wait));
            results
        }
    };
    println!("{rung}: {:.1} s", started.elapsed().as_secs_f64());
    RoundResult { cases, features: Some(features) }
}

/// The results, or why this rung can't be had on this kernel.
fn watched(
    rung: &str,
    kernel: &str,
    features: &Features,
    ground: &mut Ground,
    mut cases: Vec<Case>,
) -> Result<Result<Vec<CaseResult>, String>> {
    let refusal = features.refusal("state");
    if let Some(why) = &refusal
        && !may_be_refused(rung, kernel)
    {
        bail!("this kernel should have this rung, but: {why}");
    }
    let programs = features.refused_programs();
    ensure!(programs.is_empty(), "programs that the verifier refuses: {}", programs.concat());
    if cases.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    for case in &mut cases {
        if let Some(before) = case.before.take() {
            before(ground).with_context(|| case.name.clone())?;
        }
    }
    let started = Instant::now();
    let watch = match Watch::start(rung, ground.netns)? {
        Ok(watch) => watch,
        Err(end) => return refused(refusal, &end).map(Err),
    };
    println!("{rung}: attached in {:.1} s", started.elapsed().as_secs_f64());
    if let Some(why) = refusal {
        bail!("`features` says that it can't be attached, and it was: {why}");
    }
    let made: Vec<_> = cases.into_iter().map(|case| make(rung, ground, case)).collect();
    let ended = Instant::now();
    let watched = watch.end()?;
    let mut results = vec![CaseResult {
        test: ROUND.to_owned(),
        outcome: Outcome::Pass,
        detail: String::new(),
        seconds: ended.elapsed().as_secs_f64(),
    }];
    let skipped = features.may_be_skipped(watched.skipped_calls())?;
    if let Err(error) = watched.check() {
        let excused = skipped && error.is::<Fewer>();
        results[0].outcome = if excused { Outcome::Pass } else { Outcome::Fail };
        results[0].detail = format!("{error:#}");
    }
    for done in made {
        let Made { name: test, event, through_uring, window, seconds, check } = done;
        let refusal =
            if through_uring { features.refusal_of_uring(event) } else { features.refusal(event) };
        let judged = judge(&watched, features, (refusal, window, check), ground.netns);
        let (outcome, detail) = match judged {
            Ok(None) => (Outcome::Pass, String::new()),
            Ok(Some(why)) => (Outcome::Unseen, why),
            Err(error) if skipped && error.is::<Fewer>() => {
                (Outcome::Pass, format!("the kernel skipped a program: {error}"))
            }
            Err(error) => (Outcome::Fail, format!("{error:#}")),
        };
        results.push(CaseResult { test, outcome, detail, seconds });
    }
    Ok(Ok(results))
}

fn make(rung: &str, ground: &mut Ground, case: Case) -> Made {
    println!("{rung}: {}", case.name);
    let (started, from) = (Instant::now(), Timestamp::now());
    let done = (case.make)(ground);
    let window = (from, Timestamp::now());
    let seconds = started.elapsed().as_secs_f64();
    let check = done.and_then(|Done { servers, check, unseen }| {
        drop(servers);
        ground.quiet()?;
        Ok((check, unseen))
    });
    let (name, event, through_uring) = (case.name, case.event, case.through_uring);
    Made { name, event, through_uring, window, seconds, check }
}

/// From when to when a case was made.
type Window = (Timestamp, Timestamp);

/// `Some`: not seen, for this reason, and nothing false was said.
fn judge(
    watched: &Watched,
    features: &Features,
    (refusal, window, check): (Option<String>, Window, Result<(Check, Check)>),
    netns: u64,
) -> Result<Option<String>> {
    let (check, unseen) = check.context("it could not be made")?;
    let seen = watched.between(window, features, netns)?;
    if let Some(why) = refusal {
        unseen(&seen).context("it should not be seen")?;
        return Ok(Some(why));
    }
    check(&seen)?;
    Ok(None)
}

/// It didn't attach: it must say so, say why, and print nothing else.
fn refused(refusal: Option<String>, end: &Finished) -> Result<String> {
    let why = refusal.with_context(|| {
        format!("`features` has a hook for state changes, and socklife says: {}", end.stderr)
    })?;
    ensure!(end.code == Some(1), "it ended with {:?} instead of 1", end.code);
    ensure!(end.stdout.is_empty(), "it printed results without a hook: {}", end.stdout);
    ensure!(!end.stderr.is_empty(), "it doesn't say why");
    Ok(why)
}
