//! Which points samplers propose.

use std::collections::BTreeSet;

use kiln::Error;
use kiln::search::{
    First, GaussianProcess, Goal, Grid, Halton, Point, Random, Sampler, Space, State, Study, StudyConfig, Tpe,
};

use super::{loss, space, studied};

fn points(study: &Study) -> Vec<String> {
    study.trials().iter().map(|trial| trial.point.to_string()).collect()
}

#[test]
fn the_same_seed_gives_the_same_trials_and_another_gives_others() {
    fn check(sampler: impl Sampler + Copy + 'static) {
        let [one, same, other] = [1, 1, 2].map(|seed| points(&studied(sampler, seed, 20)));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert!(one.iter().collect::<BTreeSet<_>>().len() > 15, "{one:?}");
    }
    check(Random);
    check(Halton);
    check(Tpe::default());
    check(GaussianProcess::default());
}

#[test]
fn a_grid_has_every_combination_once_and_then_ends() {
    let study = studied(Grid::new(3), 0, 1000);
    // Three rates, adamw or sgd with three momenta, three widths.
    assert_eq!(study.trials().len(), 3 * (1 + 3) * 3);
    let all = points(&study);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    let first = &study.trials()[0].point;
    assert_eq!((first.float("lr").unwrap(), first.integer("width").unwrap()), (1e-4, 1));
    assert!(study.trials().iter().any(|trial| (trial.point.float("lr").unwrap() - 0.01).abs() < 1e-12));
    assert_eq!(study.trials().last().unwrap().point.integer("width").unwrap(), 8);
}

#[test]
fn a_grid_that_is_too_large_or_has_no_values_is_refused() {
    for grid in [Grid::new(0), Grid::new(u64::MAX), Grid::new(1000)] {
        let mut study = Study::new(space(), grid, StudyConfig::default()).unwrap();
        assert!(matches!(study.run(1, loss), Err(Error::Setting { name, .. }) if name == "Grid::new"));
    }
}

#[test]
fn halton_fills_a_square_more_evenly_than_random_points_do() {
    fn cells(sampler: impl Sampler + 'static) -> usize {
        let space = Space::new().uniform("x", 0.0, 1.0).uniform("y", 0.0, 1.0);
        let mut study = Study::new(space, sampler, StudyConfig::default()).unwrap();
        study.run(144, |_| Ok::<f64, Error>(0.0)).unwrap();
        // Eight by nine cells: powers of the bases 2 and 3.
        let cell = |unit: kiln::Result<f64>, cells: f64| (unit.unwrap() * cells) as u32;
        let trials = study.trials().iter().map(|trial| &trial.point);
        trials.map(|point| (cell(point.float("x"), 8.0), cell(point.float("y"), 9.0))).collect::<BTreeSet<_>>().len()
    }
    assert_eq!(cells(Halton), 72);
    assert!(cells(Random) < 70);
}

#[test]
fn tpe_and_the_gaussian_process_search_spaces_of_all_kinds() {
    fn check(sampler: impl Sampler + Copy + 'static) {
        // Random is off by 0.3 in the median; sgd is right, and its momentum is found too.
        let mut values: Vec<f64> =
            (0..5).map(|seed| studied(sampler, seed, 40).best().unwrap().value.unwrap()).collect();
        values.sort_by(f64::total_cmp);
        assert!(values[2] < 0.15, "{values:?}");
    }
    check(Tpe::default());
    check(GaussianProcess::default());
}

#[test]
fn maximising_is_minimising_the_negative() {
    fn check(sampler: impl Sampler + Copy + 'static) {
        let config = StudyConfig { goal: Goal::Maximize, seed: 1, ..Default::default() };
        let mut study = Study::new(space(), sampler, config).unwrap();
        study.run(15, |trial| loss(trial).map(|loss| -loss)).unwrap();
        let other = studied(sampler, 1, 15);
        assert_eq!(points(&study), points(&other));
        assert_eq!(study.best().unwrap().number, other.best().unwrap().number);
    }
    check(Tpe::default());
    check(GaussianProcess::default());
}

#[test]
fn failures_and_equal_values_do_not_stop_a_search() {
    fn check(sampler: impl Sampler + Copy + 'static) {
        let mut study = Study::new(space(), sampler, StudyConfig::default()).unwrap();
        study.run(15, |_| Err::<f64, _>("out of memory")).unwrap();
        study.run(30, |_| Ok::<f64, Error>(0.5)).unwrap();
        // Values as far apart as f64 goes.
        let extreme = [f64::MAX, f64::MIN, 1e-300, 0.0];
        study.run(42, |trial| Ok::<f64, Error>(extreme[trial.number() as usize % 4])).unwrap();
        assert_eq!(study.trials().iter().filter(|trial| trial.state == State::Complete).count(), 27);
    }
    check(Tpe::default());
    check(GaussianProcess::default());
}

#[test]
fn failed_settings_are_avoided() {
    // All above 0.1 diverge, and the best is just below.
    let space = Space::new().log_uniform("lr", 1e-4, 1e2);
    fn failed(sampler: impl Sampler + 'static, space: Space) -> usize {
        let mut study = Study::new(space, sampler, StudyConfig { seed: 3, ..Default::default() }).unwrap();
        study
            .run(60, |trial| {
                let lr = trial.float("lr")?;
                Ok::<f64, Error>(if lr > 0.1 { f64::NAN } else { (lr.log10() + 1.5).powi(2) })
            })
            .unwrap();
        study.trials().iter().filter(|trial| matches!(trial.state, State::Failed(_))).count()
    }
    let random = failed(Random, space.clone());
    assert!((20..40).contains(&random), "{random}");
    let (tpe, process) = (failed(Tpe::default(), space.clone()), failed(GaussianProcess::default(), space));
    assert!(tpe < random * 2 / 3 && process < random / 3, "{tpe} and {process} of 60 fail, {random} at random");
}

#[test]
fn points_of_one_s_own_come_first() {
    let own = Point::default().with("lr", 0.02).with("optimizer", "adamw").with("width", 3);
    let study = studied(First::new([own.clone()], Tpe::default()), 0, 15);
    assert_eq!(study.trials()[0].point, own);
    assert_eq!(points(&study)[1..10], points(&studied(Tpe::default(), 0, 10))[1..]);

    let wrong = [own.clone().with("lr", 2.0), own.clone().with("momentum", 0.5), own.with("optimizer", "sgd")];
    for point in wrong.into_iter().chain([Point::default()]) {
        let mut study = Study::new(space(), First::new([point], Random), StudyConfig::default()).unwrap();
        assert!(matches!(study.run(1, loss), Err(Error::Setting { name, .. }) if name == "First::new"));
        assert!(study.trials().is_empty());
    }
}
