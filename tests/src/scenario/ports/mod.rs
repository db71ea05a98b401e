//! The property of ephemeral ports: the headroom that `socklife check` states is exactly the number of
//! further calls that succeed, whatever has happened in the network namespace before. Once per kernel.

mod measure;
mod rng;
mod sockets;
mod steps;
mod world;

use std::time::Instant;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::{measure::Measured, world::World};
use crate::round::{CaseResult, Outcome};

/// Connects to an upstream.
const CONNECTS: &str = "connects_until_no_port_is_free";
/// `bind()` with port 0.
const BINDS: &str = "binds_until_no_port_is_free";
/// All tests in here.
pub(crate) const TESTS: [&str; 2] = [CONNECTS, BINDS];

/// What stands for a rung in the results: these don't depend on hooks.
pub(crate) const RUNG: &str = "check";

/// Which random cases.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Random {
    /// How many.
    #[arg(long, default_value_t = 100)]
    pub(crate) cases: u64,
    /// The first seed; the next ones follow.
    #[arg(long, default_value_t = 1)]
    pub(crate) from_seed: u64,
    /// This one case, with all that it does.
    #[arg(long, conflicts_with_all = ["cases", "from_seed"])]
    pub(crate) seed: Option<u64>,
}

/// Cases that are there at the same time.
const AT_ONCE: usize = 5;

/// An emulated CPU takes its time.
pub(crate) const EMULATED_CASES: u64 = 20;

impl Random {
    fn seeds(&self) -> std::ops::Range<u64> {
        self.seed.map_or(self.from_seed..self.from_seed + self.cases, |seed| seed..seed + 1)
    }
}

/// What came of one test on all seeds.
#[derive(Default)]
struct Tally {
    cases: u64,
    measured: u64,
    unused: u64,
    own_range: u64,
    reusable: u64,
    inferred: u64,
    odd: u64,
    one_less: u64,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: &Result<Vec<Measured>>) {
        self.cases += 1;
        let all = match outcome {
            Ok(all) => all,
            Err(error) => {
                self.failures.push(format!("seed {seed}: {error:#}"));
                return;
            }
        };
        for measured in all {
            self.measured += 1;
            self.unused += u64::from(measured.unused);
            self.own_range += u64::from(measured.is_own_range());
            self.reusable += u64::from(measured.has_reusable());
            self.inferred += u64::from(measured.is_inferred());
            self.odd += u64::from(measured.odd);
            self.one_less += u64::from(measured.odd && measured.is_one_less());
            if !measured.is_right() {
                self.failures.push(format!("seed {seed}: {measured}: {}", measured.finding));
            }
        }
    }

    fn result(self, test: &str, seconds: f64) -> CaseResult {
        let Self {
            cases,
            measured,
            unused,
            own_range,
            reusable,
            inferred,
            odd,
            one_less,
            failures,
        } = self;
        let figures = if test == CONNECTS {
            format!(
                "{measured} upstreams in {cases} random cases, {unused} of them unused, {reusable} with \
                 TIME-WAIT to reuse, {own_range} with a range of their own"
            )
        } else {
            format!(
                "{measured} addresses in {cases} random cases, {inferred} of them told with what is not known"
            )
        };
        let mut detail =
            format!("{figures}; of {odd} with an odd range {one_less} reached one less");
        let mut outcome = Outcome::Pass;
        if !failures.is_empty() || measured == 0 {
            outcome = Outcome::Fail;
            detail = format!("{} wrong: {detail}", failures.len());
            for failure in failures.iter().take(10) {
                detail += &format!("\n    {failure}");
            }
        }
        CaseResult { test: test.to_owned(), outcome, detail, seconds }
    }
}

/// Runs them; `wanted`: of [`TESTS`].
pub(crate) fn run(random: &Random, wanted: &[&str]) -> Result<Vec<CaseResult>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut results = Vec::new();
    for test in TESTS.into_iter().filter(|test| wanted.contains(test)) {
        println!("{RUNG}: {test}");
        let started = Instant::now();
        let mut tally = Tally::default();
        let seeds: Vec<_> = random.seeds().collect();
        for seeds in seeds.chunks(AT_ONCE) {
            // Entries in TIME-WAIT of all of them get old at the same time.
            let worlds: Vec<_> = seeds.iter().map(|&seed| (seed, World::new(seed))).collect();
            for (seed, world) in worlds {
                one(test, seed, world, random.seed.is_some(), &mut tally);
            }
        }
        results.push(tally.result(test, started.elapsed().as_secs_f64()));
    }
    Ok(results)
}

/// One case; what was done in it is shown when something is wrong, or when it is asked for.
fn one(test: &str, seed: u64, world: Result<World>, shown: bool, tally: &mut Tally) {
    let (outcome, story) = match world {
        Ok(mut world) => {
            let measured =
                if test == CONNECTS { world.measure_connects() } else { world.measure_binds() };
            (measured, world.told())
        }
        Err(error) => (Err(error), String::new()),
    };
    let known = tally.failures.len();
    tally.add(seed, &outcome);
    let failures = &tally.failures[known..];
    if shown || !failures.is_empty() {
        println!("{test}, seed {seed}:{story}");
        for measured in outcome.iter().flatten() {
            println!("    {measured}");
        }
        for failure in failures {
            println!("    WRONG {failure}");
        }
    }
}
