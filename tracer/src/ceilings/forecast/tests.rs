#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of a test, small and not negative"
)]

use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// A rate that stays (`doubling_s` infinite) or doubles.
#[derive(Clone, Copy, Debug)]
struct Load {
    rate: f64,
    doubling_s: f64,
    random: Option<u64>,
    /// Now and then nothing comes for a while, and what should have come comes at once then.
    stalls: bool,
}

impl Load {
    /// When each arrival comes, until `end_s`; random ones by xorshift.
    fn arrivals(self, end_s: f64) -> Vec<f64> {
        let growth = 2_f64.ln() / self.doubling_s;
        let mut state = self.random.unwrap_or(1);
        let mut number = 0.0;
        let mut times = Vec::new();
        loop {
            number += if self.random.is_some() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                -(((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64).ln()
            } else {
                1.0
            };
            let time = if growth == 0.0 {
                number / self.rate
            } else {
                (growth * number / self.rate).ln_1p() / growth
            };
            if time > end_s || times.len() > 60_000 {
                return times;
            }
            let (stall_s, at_s) = (0.1 + (time / 2.7).floor() % 3.0 / 10.0, time % 2.7);
            times.push(if self.stalls && at_s < stall_s { time - at_s + stall_s } else { time });
        }
    }
}

/// When the entries of the last `hold_s` reach `limit`.
fn truth(times: &[f64], hold_s: f64, limit: usize) -> Option<f64> {
    (limit - 1..times.len())
        .find(|&last| times[last] - times[last + 1 - limit] < hold_s)
        .map(|last| times[last])
}

fn ages(times: &[f64], now_s: f64) -> Vec<f64> {
    times.iter().map(|time| now_s - time).filter(|age| *age >= 0.0).collect()
}

/// Asked when `fill` of the limit is used: stated and true seconds.
fn entries_at(load: Load, limit: usize, fill: f64) -> Option<(f64, f64, usize, f64)> {
    let times = load.arrivals(200.0);
    let end = truth(&times, 60.0, limit)?;
    let asked = truth(&times, 60.0, (fill * limit as f64) as usize)?;
    let ages = ages(&times, asked);
    let stated = of_entries(&ages, 60.0, &[], limit as u64);
    Some((stated.map_or(f64::NAN, |f| f.seconds), end - asked, ages.len(), asked))
}

fn samples_at(load: Load, limit: usize, fill: f64, base: u64) -> Option<(f64, f64, usize, f64)> {
    let times = load.arrivals(200.0);
    let end = *times.get(limit - 1)?;
    let asked = times[(fill * limit as f64) as usize];
    let samples: Vec<Sample> = (0..=20)
        .map(|index| asked - 2.0 + 0.1 * f64::from(index))
        .map(|at_s| Sample { at_s, used: base + times.partition_point(|t| *t <= at_s) as u64 })
        .collect();
    let stated = of_samples(&samples, base + limit as u64);
    let new = times.partition_point(|t| *t <= asked) - times.partition_point(|t| *t <= asked - 2.0);
    Some((stated.map_or(f64::NAN, |f| f.seconds), end - asked, new, asked))
}

fn steady(samples: &[(f64, u64)]) -> Vec<Sample> {
    samples.iter().map(|&(at_s, used)| Sample { at_s, used }).collect()
}

#[test]
fn a_few_samples_are_a_constant_rate() {
    let forecast = of_samples(&steady(&[(10.0, 100), (12.0, 300)]), 1000).unwrap();
    assert!((forecast.seconds - 7.0).abs() < 1e-9);
    assert_eq!(forecast.basis, "100/s over the last 2.0 s");
}

#[test]
fn flat_falling_and_full_have_no_forecast() {
    assert_eq!(of_samples(&[], 10), None);
    assert_eq!(of_samples(&steady(&[(0.0, 5)]), 10), None);
    assert_eq!(of_samples(&steady(&[(0.0, 500), (2.0, 500)]), 1000), None);
    assert_eq!(of_samples(&steady(&[(0.0, 500), (2.0, 300)]), 1000), None);
    assert_eq!(of_samples(&steady(&[(0.0, 500), (2.0, 1000)]), 1000), None);
    // What comes and goes.
    assert_eq!(of_samples(&steady(&[(0.0, 95), (2.0, 105)]), 1000), None);
    let noise: Vec<_> = (0_u32..30).map(|n| (f64::from(n), 500 + u64::from(n * 37 % 23))).collect();
    assert_eq!(of_samples(&steady(&noise), 1000), None);
    // Too slow to matter.
    assert_eq!(of_samples(&steady(&[(0.0, 100), (100.0, 200)]), 1_000_000), None);
}

#[test]
fn an_incident_is_told_from_the_calm_before_it() {
    for seconds in [1.5, 2.0, 2.8, 4.0, 10.0] {
        for calm_rate in [5.0, 20.0, 100.0, 200.0] {
            let calm = (1..(60.0 * calm_rate) as u32).map(|n| seconds + f64::from(n) / calm_rate);
            let incident = (0..(seconds * 500.0) as u32).map(|n| f64::from(n) / 500.0);
            let ages: Vec<f64> = incident.chain(calm).collect();
            let forecast = of_entries(&ages, 60.0, &[], 16_500).unwrap();
            let known = ages.iter().filter(|age| **age <= 60.0).count() as f64;
            // 500/s come, as many as in the calm go.
            let expected = (16_500.0 - known) / (500.0 - calm_rate);
            let off = (forecast.seconds / expected - 1.0).abs();
            assert!(off < 0.05, "{seconds} s after {calm_rate}/s: {expected} s, {forecast:?}");
        }
    }
}

#[test]
fn a_load_that_began_lately_does_not_grow() {
    let ages: Vec<f64> = (0..3000).map(|n| f64::from(n) / 300.0).collect();
    let forecast = of_entries(&ages, 60.0, &[], 15_000).unwrap();
    assert!((forecast.seconds - 40.0).abs() < 2.0, "{forecast:?}");
    assert!(!forecast.basis.contains("grow"), "{}", forecast.basis);
    assert!((entry_rate(&ages, 60.0).unwrap() - 300.0).abs() < 6.0);
}

#[test]
fn bursts_are_their_mean_rate() {
    // 1000 within 0.5 s, every 10 s.
    let ages: Vec<f64> = (0..6000)
        .map(|n| 3.0 + 10.0 * f64::from(n / 1000) + 0.5 * f64::from(n % 1000) / 1000.0)
        .collect();
    let rate = entry_rate(&ages, 60.0).unwrap();
    assert!((70.0..150.0).contains(&rate), "{rate}");
    assert_eq!(of_entries(&ages, 60.0, &[], 28_000), None);
    // A single one that is over.
    let ages: Vec<f64> = (0..5000).map(|n| 7.0 + f64::from(n) / 5000.0).collect();
    assert_eq!(of_entries(&ages, 60.0, &[], 28_000), None);
}

#[test]
fn what_drains_into_time_wait_is_counted_once() {
    // 400/s become entries and are no longer others.
    let ages: Vec<f64> = (0..8000).map(|n| f64::from(n) / 400.0).collect();
    let others: Vec<_> =
        (0_u32..=20).map(|n| (0.1 * f64::from(n), 20_000 - 40 * u64::from(n))).collect();
    assert_eq!(of_entries(&ages, 60.0, &steady(&others), 30_000), None);
    assert!(of_entries(&ages, 60.0, &steady(&others[20..]), 30_000).is_some());
}

#[test]
fn others_count_too() {
    let ages: Vec<f64> = (0..6000).map(|n| f64::from(n) / 100.0).collect();
    let others = steady(&[(0.0, 1000), (2.0, 1600)]);
    // 100/s come and go; others grow by 300/s.
    let forecast = of_entries(&ages, 60.0, &others, 10_600).unwrap();
    assert!((forecast.seconds - 10.0).abs() < 0.2, "{forecast:?}");
    assert!(forecast.basis.contains("; others 300/s over the last 2.0 s"), "{}", forecast.basis);
}

#[test]
fn is_quick() {
    let mut ages: Vec<f64> = (0..60_000).map(|n| f64::from(n * 7919 % 60_000) / 1000.0).collect();
    ages.push(f64::NAN);
    let started = Instant::now();
    assert!(of_entries(&ages, 60.0, &[], 100_000).is_none());
    let took = started.elapsed();
    assert!(took.as_millis() < 200, "{took:?}");
}

fn junk() -> impl Strategy<Value = f64> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0, 1e300, 1e-300, 60.0];
    prop_oneof![0.0..60.0, 0.0..1.0, any::<f64>(), proptest::sample::select(odd.to_vec())]
}

fn junk_samples() -> impl Strategy<Value = Vec<Sample>> {
    let used = prop_oneof![0_u64..1000, any::<u64>()];
    let sample = (junk(), used).prop_map(|(at_s, used)| Sample { at_s, used });
    proptest::collection::vec(sample, 0..40)
}

fn makes_sense(forecast: Option<Forecast>) -> bool {
    forecast.is_none_or(|f| (0.0..=HORIZON_S).contains(&f.seconds) && !f.basis.contains("NaN"))
}

fn near(stated: f64, real: f64, share: f64) -> bool {
    // A tenth of a second is no error that anybody minds.
    (stated - real).abs() <= (share * real).max(0.1)
}

proptest! {
    #[test]
    fn junk_is_borne(
        mut ages in proptest::collection::vec(junk(), 0..60),
        copies in 1..40_usize,
        hold_s in prop_oneof![Just(60.0), Just(1.0), junk()],
        others in junk_samples(),
        limit in prop_oneof![0_u64..2000, any::<u64>()],
    ) {
        ages = ages.repeat(copies);
        prop_assert!(makes_sense(of_samples(&others, limit)));
        prop_assert!(makes_sense(of_entries(&ages, hold_s, &others, limit)));
        prop_assert!(entry_rate(&ages, hold_s).is_none_or(|rate| rate > 0.0 && rate.is_finite()));
    }

    #[test]
    fn regular_entries_are_foretold(
        rate in 50.0..1500.0_f64,
        doubling_s in prop_oneof![Just(f64::INFINITY), 2.0..20.0_f64],
        limit in 1000..28_000_usize,
        fill in 0.3..0.8_f64,
    ) {
        let load = Load { rate, doubling_s, random: None, stalls: false };
        if let Some((stated, real, new, age)) = entries_at(load, limit, fill)
            && age > 2.0 && new >= 200
            // One per cent of the limit decides whether these are ever there.
            && (doubling_s.is_finite() || rate * 60.0 > 1.05 * limit as f64)
        {
            prop_assert!(near(stated, real, 0.2), "stated {stated}, real {real}, {new} in {age} s");
        }
    }

    #[test]
    fn random_entries_are_foretold(
        rate in 100.0..1500.0_f64,
        doubling_s in prop_oneof![Just(f64::INFINITY), 2.0..20.0_f64],
        limit in 10_000..28_000_usize,
        fill in 0.4..0.8_f64,
        seed in 1..u64::MAX,
    ) {
        let load = Load { rate, doubling_s, random: Some(seed), stalls: false };
        if let Some((stated, real, new, age)) = entries_at(load, limit, fill)
            && age > 2.0 && new >= 2000
            && (doubling_s.is_finite() || rate * 60.0 > 1.1 * limit as f64)
        {
            prop_assert!(near(stated, real, 0.3), "stated {stated}, real {real}, {new} in {age} s");
        }
    }

    #[test]
    fn what_levels_off_has_no_forecast(rate in 10.0..1500.0_f64, seed in 1..u64::MAX, asked in 5.0..150.0_f64) {
        for random in [None, Some(seed)] {
            let load = Load { rate, doubling_s: f64::INFINITY, random, stalls: false };
            let limit = rate * 60.0 * if random.is_some() { 2.0 } else { 1.1 };
            let ages = ages(&load.arrivals(asked), asked);
            let forecast = of_entries(&ages, 60.0, &[], limit as u64);
            prop_assert_eq!(forecast, None);
        }
    }

    #[test]
    fn regular_samples_are_foretold(
        rate in 200.0..1500.0_f64,
        doubling_s in prop_oneof![Just(f64::INFINITY), 2.0..10.0_f64],
        limit in 4000..28_000_usize,
        fill in 0.3..0.8_f64,
        base in 0..5000_u64,
    ) {
        let load = Load { rate, doubling_s, random: None, stalls: false };
        if let Some((stated, real, new, age)) = samples_at(load, limit, fill, base)
            && age > 2.0 && new >= 200
        {
            prop_assert!(near(stated, real, 0.25), "stated {stated}, real {real}, {new} in {age} s");
        }
    }
}

/// A table of errors, for whoever changes the model: `cargo test -- --ignored --nocapture errors`.
#[test]
#[ignore = "prints a table"]
fn errors() {
    type Case = fn(Load, usize, f64) -> Option<(f64, f64, usize, f64)>;
    let cases: [(&str, Case); 2] = [
        ("entries", entries_at),
        ("samples", |load, limit, fill| samples_at(load, limit, fill, 0)),
    ];
    for (what, case) in cases {
        for (regular, stalls) in [(true, false), (true, true), (false, false), (false, true)] {
            for doubling_s in [f64::INFINITY, 20.0, 10.0, 5.0, 2.0] {
                let mut errors: Vec<f64> = Vec::new();
                for seed in if regular { 0..1 } else { 0..8 } {
                    for rate in [50.0, 300.0, 1500.0] {
                        for limit in [1000, 4000, 28_000] {
                            for fill in [0.3, 0.5, 0.7] {
                                let random = (!regular).then_some(
                                    0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(2 * seed + 1),
                                );
                                let load = Load { rate, doubling_s, random, stalls };
                                let Some((stated, real, new, age)) = case(load, limit, fill) else {
                                    continue;
                                };
                                if age < 2.0 || new < 200 {
                                    continue;
                                }
                                errors.push((stated / real).ln().abs());
                            }
                        }
                    }
                }
                errors.sort_by(f64::total_cmp);
                let good = errors.iter().filter(|error| **error < 0.18).count();
                eprintln!(
                    "{what} regular {regular} stalls {stalls} doubling {doubling_s}: {good} of {} within 20 %, median {:.3}, 90 % {:.3}, worst {:.3}",
                    errors.len(),
                    errors[errors.len() / 2],
                    errors[errors.len() * 9 / 10],
                    errors[errors.len() - 1]
                );
            }
        }
    }
}
