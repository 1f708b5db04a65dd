//! Learning-rate schedules: the values of PyTorch's and Keras' classes (`scripts/schedules.py` describes the file),
//! what composing means, and what cannot be used.

use std::collections::BTreeSet;

use kiln::ops::Problem;
use kiln::schedule::{self, Goal, Plateau, PlateauConfig, RestartsConfig, Schedule, Threshold};
use serde_json::Value;

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schedules.json");
    serde_json::from_slice(&std::fs::read(path).expect("tests/data/schedules.json")).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn restarts(growth: f64, decay: f64, min: f64) -> RestartsConfig {
    RestartsConfig { growth, decay, min }
}

/// The schedule of each case, with a momentum where the class has one.
fn ours(case: &str) -> (Schedule, Option<Schedule>) {
    use schedule::*;
    let cycle = match case {
        "one_cycle" => one_cycle(0.5, 1001, OneCycleConfig::default()),
        "one_cycle_linear" => {
            let (rise, div_factor, final_div_factor) = (0.21, 10.0, 100.0);
            let config = OneCycleConfig { rise, div_factor, final_div_factor, linear: true, ..Default::default() };
            one_cycle(0.5, 1003, config)
        }
        "one_cycle_three" => {
            let (base_momentum, max_momentum) = (0.7, 0.99);
            let config =
                OneCycleConfig { rise: 0.37, three_phase: true, base_momentum, max_momentum, ..Default::default() };
            one_cycle(0.5, 1017, config)
        }
        "one_cycle_fall" => one_cycle(0.5, 1001, OneCycleConfig { rise: 0.0, ..Default::default() }),
        "cyclic" => cyclic(0.01, 0.1, 60, CyclicConfig::default()),
        "cyclic_2" => {
            let config = CyclicConfig { down: Some(80), mode: CyclicMode::Triangular2, ..Default::default() };
            cyclic(0.01, 0.1, 50, config)
        }
        "cyclic_exp" => {
            let mode = CyclicMode::ExpRange(0.997);
            let config = CyclicConfig { down: Some(30), mode, base_momentum: 0.6, max_momentum: 0.95 };
            cyclic(0.01, 0.1, 50, config)
        }
        _ => return (ours_alone(case), None),
    };
    (cycle.rate, Some(cycle.momentum))
}

fn ours_alone(case: &str) -> Schedule {
    use schedule::*;
    match case {
        "step" => step(0.1, 90, 0.5),
        "multi_step" => multi_step(0.1, &[100, 350, 350, 800], 0.3),
        "constant" => constant(0.1 * 0.25).then(40, constant(0.1)),
        "linear" => linear(0.1 * 0.2, 0.1 * 0.7, 613),
        "exponential" => exponential(0.1, 0.993),
        "polynomial" => polynomial(0.1, 0.0, 611, 0.9),
        "polynomial_2" => polynomial(0.1, 0.0, 1200, 2.0),
        "cosine" => cosine_to(0.1, 1e-3, 1000),
        "cosine_to_0" => cosine(0.1, 1000),
        "cosine_wave" => cosine_wave(0.1, 1e-3, 150),
        "restarts" => cosine_restarts(0.1, 130, restarts(1.0, 1.0, 1e-3)),
        "restarts_2" => cosine_restarts(0.1, 30, restarts(2.0, 1.0, 1e-3)),
        "restarts_3" => cosine_restarts(0.1, 25, restarts(3.0, 1.0, 0.0)),
        "lambda" => lambda(|t| 1.0 / (1.0 + (t % 17) as f64)).scaled(0.1),
        "noam" => noam(512, 400),
        "inverse_sqrt" => inverse_sqrt(0.1, 100).warm_up_from(100, 0.0),
        "multiplicative" => multiplicative(0.1, 1000, |t| if t % 3 == 0 { 1.01 } else { 0.99 }),
        "sequential" => linear(0.1 * 0.25, 0.1, 100).then(100, exponential(0.1, 0.995).then(500, step(0.1, 50, 0.5))),
        "chained" => constant(0.1).then(20, constant(1.0)).times(exponential(0.1, 0.995)).times(step(1.0, 300, 0.5)),
        "warm_up" => linear(0.1, 0.0, 1200).warm_up(50),
        "keras_exponential" => exponential_decay(0.1, 300, 0.5),
        "keras_staircase" => step(0.1, 90, 0.7),
        "keras_piecewise" => piecewise_constant(&[100, 350, 800], &[0.1, 0.03, 0.05, 0.001]),
        "keras_polynomial" => polynomial(0.1, 0.001, 611, 0.5),
        "keras_polynomial_cycle" => polynomial_cycle(0.1, 0.001, 130, 2.0),
        "keras_inverse_time" => inverse_time(0.1, 70, 0.5),
        "keras_inverse_time_staircase" => inverse_time(0.1, 1, 0.5).every(70),
        "keras_cosine" => cosine_to(0.1, 0.05 * 0.1, 900),
        "keras_cosine_warm" => linear(0.01, 0.1, 90).then(90, cosine_to(0.1, 0.05 * 0.1, 800)),
        "keras_restarts" => cosine_restarts(0.1, 30, restarts(2.0, 0.8, 0.05 * 0.1)),
        "keras_restarts_equal" => cosine_restarts(0.1, 130, restarts(1.0, 0.9, 0.05 * 0.1)),
        "keras_restarts_1.5" => cosine_restarts(0.1, 52, restarts(1.5, 1.0, 0.02 * 0.1)),
        other => panic!("no schedule for the case {other}"),
    }
}

#[test]
fn values_are_pytorchs_and_keras() {
    let file = file();
    let (steps, stride) = (file["steps"].as_u64().unwrap(), file["stride"].as_u64().unwrap());
    for case in list(&file["cases"]) {
        let name = case["name"].as_str().unwrap();
        let (rate, momentum) = ours(name);
        assert_eq!(momentum.is_some(), case["momenta"].is_array(), "{name}");
        let further = list(&case["at"]).iter().map(|step| step.as_u64().unwrap());
        let at: Vec<u64> = (0..=steps).step_by(stride as usize).chain(further).collect();
        for (schedule, values) in [(Some(rate), &case["rates"]), (momentum, &case["momenta"])] {
            let Some(schedule) = schedule else { continue };
            schedule.check().unwrap();
            let values: Vec<f64> = list(values).iter().map(|value| value.as_f64().unwrap()).collect();
            assert_eq!(values.len(), at.len(), "{name}");
            let peak = values.iter().copied().fold(0.0, f64::max);
            for (&step, &value) in at.iter().zip(&values) {
                let ours = schedule.at(step);
                // A cosine that ends at 0 loses digits of its last values in (1 + cos) / 2, as PyTorch forms it: some
                // roundings of the peak.
                let bound = 1e-12 * value.abs() + 1e-15 * peak;
                assert!((ours - value).abs() <= bound, "{name} at {step}: {ours:e}, not {value:e}");
            }
        }
    }
}

#[test]
fn every_class_of_pytorch_and_keras_has_a_case() {
    let file = file();
    let classes = |library: &str| list(&file["classes"][library]).iter().map(|name| name.as_str().unwrap().to_string());
    let mut covered: BTreeSet<String> =
        list(&file["cases"]).iter().map(|case| case["class"].as_str().unwrap().into()).collect();
    assert!(!list(&file["plateaus"]).is_empty() && covered.insert("ReduceLROnPlateau".into()));
    assert!(classes("torch").count() >= 15 && classes("keras").count() >= 6);
    for class in classes("torch").chain(classes("keras")) {
        assert!(covered.contains(&class), "{class} has no case");
    }
}

#[test]
fn plateaus_are_pytorchs() {
    for case in list(&file()["plateaus"]) {
        let name = case["name"].as_str().unwrap();
        let config = match name {
            "default" => PlateauConfig::default(),
            "relative" => PlateauConfig {
                factor: 0.5,
                patience: 4,
                threshold: Threshold::Relative(0.01),
                cooldown: 3,
                min_lr: 1e-4,
                ..Default::default()
            },
            "absolute" => PlateauConfig {
                factor: 0.7,
                patience: 7,
                threshold: Threshold::Absolute(0.02),
                eps: 1e-3,
                ..Default::default()
            },
            "max" => PlateauConfig {
                goal: Goal::Max,
                factor: 0.9,
                patience: 60,
                threshold: Threshold::Relative(0.01),
                cooldown: 20,
                ..Default::default()
            },
            "max_absolute" => PlateauConfig {
                goal: Goal::Max,
                factor: 0.8,
                patience: 30,
                threshold: Threshold::Absolute(0.1),
                ..Default::default()
            },
            other => panic!("no settings for the plateau {other}"),
        };
        let mut plateau = Plateau::new(0.1, config);
        let mut changes: Vec<(u64, f64)> = list(&case["changes"])
            .iter()
            .map(|change| (change[0].as_u64().unwrap(), change[1].as_f64().unwrap()))
            .collect();
        changes.reverse();
        let mut rate = 0.1;
        for (index, metric) in (0u64..).zip(list(&case["metrics"])) {
            if let Some((_, lower)) = changes.pop_if(|change| change.0 == index) {
                rate = lower;
            }
            // Half of the way through, another goes on from the state as a checkpoint has it.
            if index == 500 {
                let text = plateau.state().to_string();
                plateau = Plateau::new(1.0, config);
                plateau.set_state(&serde_json::from_str(&text).unwrap()).unwrap();
            }
            let ours = plateau.observe(metric.as_f64().unwrap_or(f64::NAN));
            assert!((ours - rate).abs() <= 1e-12 * rate, "{name} at {index}: {ours:e}, not {rate:e}");
        }
        assert!(changes.is_empty());
    }
}

/// Numbers that look random.
fn scattered(count: u64, below: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) % below)
}

#[test]
fn composing_is_what_it_would_be_by_hand() {
    let (a, b) = (schedule::cosine_to(0.3, 0.01, 700), schedule::step(0.2, 33, 0.9));
    for t in scattered(2000, 1500) {
        let (at, bt) = (a.at(t), b.at(t));
        assert_eq!(a.clone().times(b.clone()).at(t), at * bt);
        assert_eq!(a.clone().scaled(0.37).at(t), 0.37 * at);
        assert_eq!(a.clone().floor(0.1).at(t), if at < 0.1 { 0.1 } else { at });
        assert_eq!(a.clone().delayed(123).at(t), a.at(t.saturating_sub(123)));
        assert_eq!(a.clone().every(37).at(t), a.at(t / 37));
        assert_eq!(a.clone().then(321, b.clone()).at(t), if t < 321 { at } else { b.at(t - 321) });
        let left = 77u64.saturating_sub(t) as f64 / 77.0;
        let warm = |from: f64| from * left + (1.0 - left);
        assert_eq!(a.clone().warm_up_from(77, 0.2).at(t), warm(0.2) * at);
        let even = if t < 77 { (t + 1) as f64 / 78.0 } else { 1.0 };
        let ours = a.clone().warm_up(77).at(t);
        assert!((ours - even * at).abs() <= 1e-15 * at, "{t}: {ours}");
    }
    let delayed = schedule::cosine(1e-3, 900).delayed(100).warm_up(100);
    assert_eq!([100, 550, 1000].map(|t| delayed.at(t)), [1e-3, schedule::cosine(1e-3, 900).at(450), 0.0]);
}

#[test]
fn a_warm_up_rises_without_a_jump_and_leaves_what_follows_alone() {
    for base in [schedule::constant(0.1), schedule::cosine(0.1, 3000), schedule::linear(0.1, 0.02, 1000)] {
        for steps in [1, 2, 7, 100, 999] {
            let even = 1.0 / (steps + 1) as f64;
            let warmed = [
                (base.clone().warm_up(steps), even, 1.0),
                (base.clone().warm_up_from(steps, 0.25), 0.25, 1.0),
                // The steepest place of half a cosine.
                (base.clone().warm_up_cosine(steps), even, std::f64::consts::FRAC_PI_2),
            ];
            for (schedule, from, slope) in warmed {
                assert!((schedule.at(0) - from * base.at(0)).abs() < 1e-17, "{schedule:?}");
                for t in 0..steps + 50 {
                    let (now, next) = (schedule.at(t), schedule.at(t + 1));
                    let most = 0.1 * slope * (1.0 - from) / steps as f64 + (base.at(t) - base.at(t + 1)).abs();
                    assert!((next - now).abs() <= most * (1.0 + 1e-9), "{schedule:?} at {t}: {now} then {next}");
                    assert!(t < steps || now == base.at(t), "{schedule:?} at {t}");
                    assert!(now > 0.0 && now <= base.at(t), "{schedule:?} at {t}: {now}");
                }
            }
        }
        assert_eq!(base.clone().warm_up(0), base);
    }
}

/// One of each, with settings at the ends of what is possible.
fn extremes() -> Vec<Schedule> {
    use schedule::*;
    let most = u64::MAX;
    let cycles = [
        one_cycle(1.0, 1, OneCycleConfig::default()),
        one_cycle(1.0, most, OneCycleConfig { three_phase: true, rise: 0.5, ..Default::default() }),
        one_cycle(1.0, 3, OneCycleConfig { rise: 0.0, linear: true, ..Default::default() }),
        cyclic(0.1, 1.0, most, CyclicConfig { down: Some(1), ..Default::default() }),
        cyclic(1.0, 0.1, 1, CyclicConfig { mode: CyclicMode::Triangular2, ..Default::default() }),
        cyclic(0.1, 1.0, 1, CyclicConfig { mode: CyclicMode::ExpRange(0.0), ..Default::default() }),
    ];
    let mut all: Vec<Schedule> = cycles.into_iter().flat_map(|cycle| [cycle.rate, cycle.momentum]).collect();
    for n in [1, 2, 3, most - 1, most] {
        all.extend([step(1.0, n, 0.5), multi_step(1.0, &[0, n, n], 0.1), piecewise_constant(&[n], &[1.0, 0.5])]);
        all.extend([exponential_decay(1.0, n, 0.5), inverse_time(1.0, n, 2.0), inverse_sqrt(1.0, n), noam(n, n)]);
        all.extend([linear(0.0, 1.0, n), polynomial(1.0, 0.0, n, 0.1), polynomial_cycle(1.0, 0.0, n, 3.0)]);
        all.extend([cosine(1.0, n), cosine_to(0.0, 1.0, n), cosine_wave(1.0, 0.1, n)]);
        for growth in [1.0, 1.0 + 1e-12, 1.001, 1.5, 2.0, 1000.0] {
            all.push(cosine_restarts(1.0, n, restarts(growth, 0.9, 0.1)));
        }
        let one = constant(1.0);
        all.extend([one.clone().warm_up(n), one.clone().warm_up_cosine(n), one.clone().warm_up_from(n, 2.0)]);
        all.extend([cosine(1.0, 3).delayed(n), cosine(1.0, 3).every(n), cosine(1.0, n).then(n, one.clone())]);
    }
    all.extend([exponential(1.0, 0.0), lambda(|t| 1.0 / t.max(1) as f64), multiplicative(1.0, 600, |_| 0.99)]);
    all.extend([multi_step(1.0, &[], 0.1), piecewise_constant(&[], &[0.3]), multiplicative(1.0, 0, |_| f64::NAN)]);
    all
}

#[test]
fn every_step_has_a_rate() {
    let steps = [0, 1, 2, 3, 4, 299, 300, 1 << 32, (1 << 53) + 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for schedule in extremes() {
        schedule.check().unwrap();
        for step in steps {
            let rate = schedule.at(step);
            // The highest is the factor 2 of a warm-up.
            assert!((0.0..=2.0).contains(&rate), "{schedule:?} at {step}: {rate}");
        }
        assert_eq!(schedule.points(u64::MAX).len(), 4097);
    }
}

#[test]
fn restarts_start_at_the_top_however_many_there_were() {
    for growth in [1.0, 2.0, 3.0, 7.0] {
        let schedule = schedule::cosine_restarts(1.0, 10, restarts(growth, 1.0, 0.0));
        let (mut start, mut length) = (0, 10);
        // Up to the whole numbers that f64 holds.
        while start + length < 1 << 53 && start < 1_000_000_000_000_000 {
            assert_eq!(schedule.at(start), 1.0, "growth {growth}, restart at {start}");
            let end = schedule.at(start + length - 1);
            assert!(end < 0.03, "growth {growth}, {end} before {}", start + length);
            let periods = if growth == 1.0 { 1_000_000_007 } else { 1 };
            start += length * periods;
            length *= growth as u64;
        }
    }
}

#[test]
fn the_last_steps_of_a_cosine_have_all_digits() {
    let steps = 10_000_000;
    let schedule = schedule::cosine(1.0, steps);
    for left in [1, 2, 3] {
        // sin(x)^2 = x^2 - x^4 / 3 + ..
        let x = std::f64::consts::FRAC_PI_2 * left as f64 / steps as f64;
        let rate = schedule.at(steps - left);
        assert!((rate / (x * x) - 1.0 + x * x / 3.0).abs() < 1e-15, "{rate:e}");
    }
}

/// What is wrong with it.
fn problem(schedule: &Schedule) -> String {
    match schedule.check().expect_err("settings that cannot be used") {
        Problem::Value(what, next) => format!("{what}; {next}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_cannot_be_used_are_named_with_their_line() {
    use schedule::*;
    let fine = || constant(0.1);
    let cycle = |config| one_cycle(0.1, 10, config);
    let refused = [
        (constant(f64::NAN), "lr is NaN in schedule::constant"),
        (Schedule::from(-1.0), "lr is -1 in Schedule::from"),
        (step(0.1, 0, 0.5), "every is 0 in schedule::step"),
        (step(0.1, 1, f64::INFINITY), "factor is inf"),
        (multi_step(0.1, &[5, 3], 0.5), "milestones go from 5 back to 3"),
        (piecewise_constant(&[1], &[0.1]), "1 rates for 1 boundaries"),
        (piecewise_constant(&[1, 0], &[0.1, 0.1, 0.1]), "boundaries go from 1 back to 0"),
        (piecewise_constant(&[1], &[0.1, -0.1]), "a rate is -0.1"),
        (exponential(-0.1, 0.5), "lr is -0.1"),
        (exponential_decay(0.1, 0, 0.5), "steps is 0"),
        (inverse_time(0.1, 1, -1.0), "rate is -1"),
        (inverse_sqrt(0.1, 0), "steps is 0"),
        (noam(0, 1), "model_size is 0"),
        (linear(0.1, f64::NAN, 10), "the last rate is NaN"),
        (polynomial(0.1, 0.0, 10, 0.0), "power is 0"),
        (polynomial_cycle(0.1, 0.0, 0, 1.0), "steps is 0"),
        (cosine(0.1, 0), "steps is 0 in schedule::cosine"),
        (cosine_to(f64::INFINITY, 0.0, 1), "the first rate is inf"),
        (cosine_wave(0.1, 0.0, 0), "steps is 0"),
        (cosine_restarts(0.1, 0, restarts(1.0, 1.0, 0.0)), "first is 0"),
        (cosine_restarts(0.1, 1, restarts(0.5, 1.0, 0.0)), "growth is 0.5"),
        (multiplicative(0.1, u64::MAX, |_| 1.0), "steps is 18446744073709551615"),
        (one_cycle(0.1, 0, OneCycleConfig::default()).rate, "steps is 0"),
        (cycle(OneCycleConfig { div_factor: 0.0, ..Default::default() }).rate, "div_factor is 0"),
        (cycle(OneCycleConfig { rise: 1.0, ..Default::default() }).momentum, "rise is 1"),
        (cycle(OneCycleConfig { rise: 0.6, three_phase: true, ..Default::default() }).rate, "rise of three phases"),
        (cycle(OneCycleConfig { max_momentum: 1.0, ..Default::default() }).momentum, "max_momentum is 1"),
        (cyclic(0.1, 0.2, 0, CyclicConfig::default()).rate, "up is 0"),
        (cyclic(0.1, 0.2, 1, CyclicConfig { down: Some(0), ..Default::default() }).momentum, "down is 0"),
        (fine().scaled(-2.0), "factor is -2 in Schedule::scaled"),
        (fine().floor(f64::NAN), "min is NaN in Schedule::floor"),
        (fine().every(0), "steps is 0 in Schedule::every"),
        (fine().warm_up_from(0, -1.0), "factor is -1 in Schedule::warm_up_from"),
        // The first of several is told, from whichever part.
        (fine().then(5, cosine(0.1, 0)).times(constant(-1.0)).warm_up(5), "steps is 0 in schedule::cosine"),
    ];
    for (schedule, words) in refused {
        let text = problem(&schedule);
        assert!(text.contains(words) && text.contains("tests/schedules.rs:") && text.contains("; "), "{text}");
        assert!(schedule.at(0).is_nan() && schedule.at(u64::MAX).is_nan(), "{text}");
        assert!(schedule.plot(100).ends_with("</svg>\n"));
    }
}

#[test]
fn schedules_nest_only_so_deep_that_no_stack_runs_over() {
    let nested = |depth: u32| (0..depth).fold(schedule::constant(1.0), |schedule, _| schedule.scaled(1.0));
    assert_eq!(nested(499).at(3), 1.0);
    assert!(problem(&nested(100_000)).contains("501 schedules"));
}

#[test]
fn a_function_that_gives_no_rate_is_not_hidden() {
    let odd = schedule::lambda(|step| if step == 3 { f64::NAN } else { 0.1 });
    assert!(odd.clone().floor(0.2).warm_up(5).at(3).is_nan());
    assert_eq!(odd.floor(0.2).at(4), 0.2);
}

#[test]
fn a_schedule_is_a_value() {
    fn is_value<T: Clone + Send + Sync + std::fmt::Debug + PartialEq + 'static>(_: &T) {}
    let schedule = schedule::lambda(|_| 0.1).warm_up(3);
    is_value(&schedule);
    assert_eq!(schedule, schedule.clone());
    assert_ne!(schedule::cosine(0.1, 3), schedule::cosine(0.1, 4));
    assert_eq!(schedule::constant(0.1), 0.1.into());
    assert!(format!("{schedule:?}").contains("a closure"));
    let other = schedule.clone();
    assert_eq!(std::thread::spawn(move || other.at(1)).join().unwrap(), schedule.at(1));
}

#[test]
fn a_plateau_counts_nan_as_worse_and_negative_metrics_by_their_size() {
    let config = PlateauConfig { patience: 2, factor: 0.5, ..Default::default() };
    let mut plateau = Plateau::new(1.0, config);
    assert_eq!([f64::NAN; 4].map(|metric| plateau.observe(metric)), [1.0, 1.0, 0.5, 0.5]);
    assert_eq!(plateau.observe(3.0), 0.5);
    assert_eq!([f64::INFINITY, f64::NAN, 3.0].map(|metric| plateau.observe(metric)), [0.5, 0.5, 0.25]);
    // A log-likelihood that stays the same gets no better.
    let mut plateau = Plateau::new(1.0, config);
    assert_eq!([-10.0; 4].map(|metric| plateau.observe(metric)), [1.0, 1.0, 1.0, 0.5]);
}

#[test]
fn a_plateaus_state_keeps_every_bit_and_is_taken_whole_or_not() {
    let mut plateau = Plateau::new(0.1, PlateauConfig { factor: 0.7, patience: 0, ..Default::default() });
    let fresh = plateau.state();
    assert_eq!(fresh["best"], "inf");
    (0..20).for_each(|n| _ = plateau.observe(1.0 / 3.0 + f64::from(n % 4)));
    let state = plateau.state();
    let mut other = Plateau::new(5.0, PlateauConfig { factor: 0.7, patience: 0, ..Default::default() });
    other.set_state(&serde_json::from_str(&state.to_string()).unwrap()).unwrap();
    assert_eq!((other.lr().to_bits(), other.state()), (plateau.lr().to_bits(), state.clone()));
    for (part, value) in
        [("lr", "\"-1\""), ("lr", "0.1"), ("best", "\"NaN\""), ("worse", "-1"), ("cooling", "null"), ("x", "1")]
    {
        let mut damaged = state.clone();
        damaged[part] = serde_json::from_str(value).unwrap();
        let error = other.set_state(&damaged).unwrap_err().to_string();
        assert!(error.contains(&format!("`{part}`")) && error.contains("schedules.rs"), "{error}");
        assert_eq!(other.state(), state);
    }
    assert!(other.set_state(&Value::Null).is_err());
    other.set_state(&fresh).unwrap();
    assert_eq!(other.lr(), 0.1);
}

#[test]
fn a_plateau_with_settings_that_cannot_be_used_says_so() {
    let with = |config| Plateau::new(0.1, config);
    let refused = [
        (Plateau::new(f64::NAN, PlateauConfig::default()), "lr is NaN"),
        (with(PlateauConfig { factor: 1.0, ..Default::default() }), "factor is 1"),
        (with(PlateauConfig { threshold: Threshold::Absolute(-1.0), ..Default::default() }), "threshold is -1"),
        (with(PlateauConfig { min_lr: -1.0, ..Default::default() }), "min_lr is -1"),
        (with(PlateauConfig { eps: f64::NAN, ..Default::default() }), "eps is NaN"),
    ];
    for (mut plateau, words) in refused {
        let Err(Problem::Value(what, _)) = plateau.check() else { panic!("{plateau:?}") };
        assert!(what.contains(words) && what.contains("Plateau::new at tests/schedules.rs:"), "{what}");
        assert!(plateau.observe(1.0).is_nan() && plateau.lr().is_nan());
    }
}
