//! What becomes of trials: values, failures, stops, folds.

use kiln::Error;
use kiln::data::{self, Dataset, Split};
use kiln::search::{
    Goal, Halton, Median, Pruner, Random, Record, Scores, Space, State, Study, StudyConfig, SuccessiveHalving, Verdict,
    cross_validate,
};

use super::{loss, space, studied};

fn study() -> Study {
    Study::new(Space::new().uniform("x", 0.0, 1.0), Halton, StudyConfig::default()).unwrap()
}

#[test]
fn a_trial_that_errors_or_has_no_finite_value_is_recorded_and_the_next_begins() {
    let mut study = study();
    study
        .run(4, |trial| match trial.number() {
            0 => Err("the device was lost".to_string()),
            1 => Ok(f64::NAN),
            2 => Ok(f64::INFINITY),
            _ => Ok(1.0),
        })
        .unwrap();
    let state = |number: usize| study.trials()[number].state.clone();
    assert_eq!(state(0), State::Failed("the device was lost".into()));
    assert_eq!(state(1), State::Failed("its value is NaN".into()));
    assert_eq!(state(2), State::Failed("its value is inf".into()));
    assert_eq!(study.best().unwrap().number, 3);
    // None is tried again.
    study.run(4, |_| -> Result<f64, Error> { unreachable!("four trials are enough") }).unwrap();
}

#[test]
fn a_trial_that_panics_or_is_dropped_is_recorded_as_failed() {
    let mut study = study();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        study.run(1, |_| -> Result<f64, Error> { panic!("a bug of the objective") })
    }));
    assert!(panicked.is_err());
    drop(study.ask().unwrap());
    let states: Vec<&State> = study.trials().iter().map(|trial| &trial.state).collect();
    assert!(matches!(states[..], [State::Failed(_), State::Failed(_)]), "{states:?}");
}

#[test]
fn a_value_on_the_way_that_is_not_finite_stops_the_trial() {
    let mut study = study();
    study
        .run(1, |trial| {
            assert_eq!(trial.report(1, 0.5)?, Verdict::Continue);
            assert_eq!(trial.report(2, f64::NAN)?, Verdict::Prune);
            Ok::<f64, Error>(0.5)
        })
        .unwrap();
    assert_eq!(study.trials()[0].state, State::Failed("it reported NaN".into()));
}

#[test]
fn steps_that_do_not_grow_are_refused() {
    let mut study = study();
    let mut trial = study.ask().unwrap().unwrap();
    assert_eq!(trial.report(3, 0.5).unwrap(), Verdict::Continue);
    for step in [0, 3] {
        assert!(matches!(trial.report(step, 0.4), Err(Error::Setting { name, .. }) if name == "step"));
    }
    trial.finish(Ok::<f64, Error>(0.5)).unwrap();
}

#[test]
fn a_trial_has_a_seed_of_its_own() {
    let mut study = study();
    let mut seeds = vec![];
    for _ in 0..3 {
        let trial = study.ask().unwrap().unwrap();
        seeds.push(trial.seed());
        trial.finish(Ok::<f64, Error>(0.0)).unwrap();
    }
    seeds.dedup();
    assert_eq!(seeds.len(), 3);
}

/// Runs trials whose loss at each of 16 steps is this, and says how many steps each did.
fn steps(pruner: impl Pruner + 'static, goal: Goal, losses: &[f64]) -> Vec<usize> {
    let space = Space::new().uniform("x", 0.0, 1.0);
    let config = StudyConfig { goal, ..Default::default() };
    let mut study = Study::new(space, Halton, config).unwrap().pruner(pruner);
    study
        .run(losses.len() as u64, |trial| {
            let value = goal.loss(losses[trial.number() as usize]);
            for step in 1..=16 {
                if trial.report(step, value)? == Verdict::Prune {
                    break;
                }
            }
            Ok::<f64, Error>(value)
        })
        .unwrap();
    for trial in study.trials() {
        let state = if trial.reports.len() < 16 { State::Pruned } else { State::Complete };
        assert_eq!((&trial.state, trial.value), (&state, Some(goal.loss(losses[trial.number as usize]))));
    }
    study.trials().iter().map(|trial| trial.reports.len()).collect()
}

#[test]
fn the_median_stops_what_is_worse_than_half_of_the_complete_trials() {
    for goal in [Goal::Minimize, Goal::Maximize] {
        let losses = [5.0, 4.0, 3.0, 2.0, 1.0, 3.5, 2.5, 2.9, 9.0];
        // The median of the first five is 3; with 2.5 it is 2.75.
        assert_eq!(steps(Median::default(), goal, &losses), [16, 16, 16, 16, 16, 1, 16, 1, 1]);
        let late = Median { startup: 2, warmup: 7 };
        assert_eq!(steps(late, goal, &[1.0, 2.0, 3.0, 1.4]), [16, 16, 7, 16]);
    }
}

#[test]
fn successive_halving_lets_the_best_quarter_of_a_rung_go_on() {
    for goal in [Goal::Minimize, Goal::Maximize] {
        // Rungs at 1, 4 and 16. The first goes through; then the best so far, and from eight on the best two of a rung.
        let losses = [5.0, 6.0, 4.0, 7.0, 8.0, 9.0, 10.0, 4.5, 3.0];
        assert_eq!(steps(SuccessiveHalving::default(), goal, &losses), [16, 1, 16, 1, 1, 1, 1, 4, 16]);
        let later = SuccessiveHalving { first: 3, reduction: 2 };
        assert_eq!(steps(later, goal, &[1.0, 2.0]), [16, 3]);
    }
}

#[test]
fn a_step_that_passes_several_rungs_is_judged_at_each() {
    let any = studied(Random, 0, 1).trials()[0].clone();
    let trial = |reports: &[(u64, f64)]| -> Record {
        let mut trial = any.clone();
        trial.reports = reports.to_vec();
        trial
    };
    let others = [trial(&[(1, 5.0), (4, 1.0)]), trial(&[(1, 5.0)])];
    let others: Vec<&Record> = others.iter().collect();
    let halving = SuccessiveHalving::default();
    let prunes = |reports: &[(u64, f64)]| halving.prunes(&trial(reports), &others, Goal::Minimize);
    assert!(!prunes(&[(1, 4.0)]) && prunes(&[(4, 4.0)]) && prunes(&[(1, 4.0), (5, 4.0)]));
    // Between two rungs nobody is judged.
    assert!(!prunes(&[(4, 0.5), (5, 9.0)]));
    assert!(!halving.prunes(&trial(&[]), &others, Goal::Minimize));
}

#[test]
fn folds_have_a_mean_and_a_deviation() {
    let items = data::items((0..10u32).map(f64::from).collect::<Vec<_>>());
    let sum = |part: &dyn Dataset<Item = f64>| (0..part.len()).map(|item| part.get(item).unwrap()).sum::<f64>();
    let mut folds = vec![];
    let scores = cross_validate(items.clone(), Split::Random, 5, 1, |train, test, fold| {
        folds.push(fold);
        assert_eq!((train.len(), test.len()), (8, 2));
        assert_eq!(sum(&train) + sum(&test), 45.0);
        Ok::<f64, Error>(sum(&test))
    });
    assert_eq!((scores.unwrap().mean(), folds), (9.0, vec![0, 1, 2, 3, 4]));

    let mut scores = Scores::default();
    assert!(scores.mean().is_nan() && scores.deviation().is_none());
    [2.0, 4.0, 4.0, 6.0].into_iter().for_each(|score| scores.push(score));
    // Squares of 2, 0, 0 and 2, over 3.
    assert_eq!((scores.mean(), scores.deviation()), (4.0, Some((8.0f64 / 3.0).sqrt())));
    assert_eq!(scores.to_string(), "4.0000 ± 1.6330");
    assert!(cross_validate(items, Split::Random, 1, 1, |_, _, _| Ok::<f64, Error>(0.0)).is_err());
}

#[test]
fn a_study_stops_folds_that_are_not_worth_their_time() {
    let items = data::items((0..20u32).collect::<Vec<_>>());
    let mut study = study().pruner(Median { startup: 2, warmup: 2 });
    let mut fits = [0; 3];
    study
        .run(3, |trial| {
            let number = trial.number() as usize;
            let scores = trial.cross_validate(items.clone(), Split::Random, 4, 1, |_, _, fold| {
                fits[number] += 1;
                Ok::<f64, Error>(number as f64 + 0.1 * fold as f64)
            })?;
            Ok::<f64, Error>(scores.mean())
        })
        .unwrap();
    assert_eq!(fits, [4, 4, 2]);
    let first = &study.trials()[0];
    assert_eq!(first.reports.iter().map(|report| report.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!((first.value.unwrap() - 0.15).abs() < 1e-12 && (first.notes["deviation"] - 0.129_099).abs() < 1e-5);
    assert_eq!(study.trials()[2].state, State::Pruned);
}

#[test]
fn importance_finds_what_matters() {
    let space = Space::new().uniform("great", 0.0, 1.0).integer("small", 0, 9).choice("none", ["a", "b"]);
    let mut study = Study::new(space, Random, StudyConfig::default()).unwrap();
    assert!(study.importance().is_empty());
    study
        .run(200, |trial| Ok::<f64, Error>((trial.float("great")? - 0.3).abs() + 0.02 * trial.integer("small")? as f64))
        .unwrap();
    let shares = study.importance();
    let names: Vec<&str> = shares.iter().map(|share| share.0).collect();
    assert_eq!(names, ["great", "small", "none"]);
    assert!((shares.iter().map(|share| share.1).sum::<f64>() - 1.0).abs() < 1e-12 && shares[0].1 > 0.5, "{shares:?}");
}

#[test]
fn a_report_stands_alone_and_keeps_hostile_names_text() {
    let space = space().choice("<script>alert(\"1\")</script>&", ["</td><img src=x>", "b"]);
    let mut study = Study::new(space, Random, StudyConfig::default()).unwrap();
    let empty = study.report("nothing yet");
    assert!(empty.contains("Trials: none") && empty.ends_with("</html>\n"));
    study
        .run(30, |trial| {
            trial.note("</table>", 1.0)?;
            if trial.number() == 7 {
                Err(Error::NoDevice { wanted: "<b>".into(), available: "".into() })
            } else {
                loss(trial)
            }
        })
        .unwrap();
    let page = study.report("a <title> & more");
    for hostile in ["<script", "<img", "<b>", "</table></th>", "a <title>", "url(", "http://", "https://"] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(hostile), "{hostile}");
    }
    let best = study.best().unwrap();
    assert!(page.contains(&format!("<tr class=\"best\"><td class=\"number\">{}</td>", best.number)));
    assert!(page.contains("29 complete, 1 failed") && !page.contains("NaN"));
    // Three charts; a line a complete trial; a row a trial and one for the names.
    assert_eq!((page.matches("<svg").count(), page.matches("<tr").count()), (3, 31));
    assert_eq!(page.matches("class=\"trial\"").count() + page.matches("<path class=\"best\"").count(), 29);
    for element in ["table", "div", "svg", "td", "th", "tr", "text", "title", "path", "style", "p", "h2"] {
        let with = format!("<{element} ");
        let opened = page.matches(&format!("<{element}>")).count() + page.matches(&with).count();
        let closed = page.matches(&format!("</{element}>")).count();
        let is_alone = |rest: &&str| rest.split_once('>').is_some_and(|(tag, _)| tag.ends_with('/'));
        let alone = page.split(&with).skip(1).filter(is_alone);
        assert_eq!(opened, closed + alone.count(), "{element}");
    }
}
