//! Averages of weights: what they are, that they leave no trace of themselves in the weights, and that they resume.

mod common;
#[path = "averages/saved.rs"]
mod saved;

use kiln::optim::{
    Asgd, AsgdConfig, Average, AverageState, Ema, LastN, LossScale, Rule, ScheduleFreeAdamW, ScheduleFreeAdamWConfig,
    ScheduleFreeSgd, ScheduleFreeSgdConfig, Stepper, Swa,
};
use kiln::params::Kept;
use kiln::prelude::*;

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

/// Parameters of three arenas, one of them frozen, with prescribed gradients.
struct Model {
    params: ParamStore,
    all: Vec<Param>,
}

impl Model {
    fn new(device: &Device, limit: Option<usize>) -> Model {
        let params = ParamStore::new(device, 7);
        limit.into_iter().for_each(|limit| params.limit_arenas(limit));
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let paths = [params.root(), params.root(), params.root().group("other"), params.root()];
        let shapes = [&[37][..], &[131], &[5, 3], &[70]];
        let all: Vec<Param> = (0..4).map(|i| paths[i].param(format!("p{i}"), shapes[i], init)).collect();
        all[3].freeze();
        Model { params, all }
    }

    fn loss(&self, step: u64, bad: bool) -> Tensor {
        let product = |(k, param): (usize, &Param)| {
            let mut array = common::normals(&param.shape().unwrap(), 10 * step + k as u64);
            if bad && k == 1 {
                array.data[130] = f64::NAN;
            }
            (param.tensor() * self.params.device().array(&array)).sum_all()
        };
        self.all.iter().enumerate().map(product).reduce(|a, b| a + b).unwrap()
    }

    fn sgd(&self) -> Sgd {
        Sgd::new(&self.params, SgdConfig { lr: 0.05, momentum: 0.5, ..Default::default() })
    }

    /// All weights, one parameter after the other.
    fn weights(&self) -> Vec<f64> {
        self.all.iter().flat_map(|param| param.values().unwrap()).collect()
    }

    /// The weights while `average` is in their place, which then are what they were.
    fn averaged(&self, average: &Average) -> Vec<f64> {
        let before = self.weights();
        let kept = average.swap_in().unwrap();
        let averaged = self.weights();
        kept.put_back().unwrap();
        assert_eq!(self.weights(), before);
        averaged
    }
}

fn close(got: &[f64], want: &[f64], at: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 2e-6 * want.abs().max(1.0), "{at}, element {i}: {got} instead of {want}");
    }
}

/// Runs `steps` steps and gives the weights behind each, as f64.
fn run(model: &Model, sgd: &mut Sgd, steps: std::ops::Range<u64>) -> Vec<Vec<f64>> {
    let step = |i| {
        sgd.step(&model.loss(i, false)).unwrap();
        model.weights()
    };
    steps.map(step).collect()
}

/// The sum of weights, each times its share.
fn mix(weights: &[(f64, &Vec<f64>)]) -> Vec<f64> {
    (0..weights[0].1.len()).map(|i| weights.iter().map(|(share, weights)| share * weights[i]).sum()).collect()
}

#[test]
fn averages_are_what_their_formulas_say() {
    for device in devices() {
        for limit in [None, Some(192)] {
            let model = Model::new(&device, limit);
            let [plain, warm, late] = [
                Ema::new(&model.params, 0.75),
                Ema::new(&model.params, 0.5).warm_up(),
                Ema::new(&model.params, 0.5).after(3).every(2),
            ];
            let swa = Swa::new(&model.params, 2, 3);
            let [last, later] = [LastN::new(&model.params, 3, 1), LastN::new(&model.params, 2, 2).after(1)];
            let all: [&Average; 6] = [&plain, &warm, &late, &swa, &last, &later];
            let mut sgd = all.iter().fold(model.sgd(), |sgd, average| sgd.average(average));
            if limit.is_some() {
                sgd.as_on_hardware();
            }
            device.poison_buffers().unwrap();
            let behind = run(&model, &mut sgd, 0..9);
            let w = |step: usize| &behind[step - 1];
            let folded = |steps: &[usize], decay: &dyn Fn(usize) -> f64| {
                let first = w(steps[0]).clone();
                let rest = steps[1..].iter().enumerate();
                rest.fold(first, |a, (n, &step)| mix(&[(decay(n + 1), &a), (1.0 - decay(n + 1), w(step))]))
            };
            let every: Vec<usize> = (1..=9).collect();
            let mean = |steps: &[usize]| {
                mix(&steps.iter().map(|&step| (1.0 / steps.len() as f64, w(step))).collect::<Vec<_>>())
            };
            let want = [
                folded(&every, &|_| 0.75),
                folded(&every, &|n| f64::min(0.5, (1 + n) as f64 / (10 + n) as f64)),
                folded(&[4, 6, 8], &|_| 0.5),
                mean(&[2, 5, 8]),
                mean(&[7, 8, 9]),
                mean(&[7, 9]),
            ];
            for (average, want) in all.iter().zip(&want) {
                let at = format!("{average:?} on {}", device.name());
                close(&model.averaged(average), want, &at);
                // Once more, from the same copies and counts.
                close(&model.averaged(average), want, &at);
            }
            assert!(limit.is_none() || model.params.arenas() == 4);
        }
    }
}

#[test]
fn an_average_that_has_not_begun_is_the_weights() {
    for device in devices() {
        let model = Model::new(&device, None);
        let averages = [Ema::new(&model.params, 0.5).after(2)];
        let last = LastN::new(&model.params, 5, 1).after(2);
        let mut sgd = model.sgd().average(&averages[0]).average(&last);
        let start = model.weights();
        assert_eq!(model.averaged(&averages[0]), start);
        run(&model, &mut sgd, 0..2);
        assert_eq!(model.averaged(&averages[0]), model.weights());
        assert_eq!(model.averaged(&last), model.weights());
        // One that was in place meanwhile begins with the weights all the same.
        run(&model, &mut sgd, 2..3);
        assert_eq!(model.averaged(&averages[0]), model.weights());
        assert_eq!(model.averaged(&last), model.weights());
    }
}

#[test]
fn refused_and_skipped_steps_are_not_averaged() {
    for device in devices() {
        for scale in [None, Some(LossScale { initial: 64.0, ..LossScale::default() })] {
            let states = [false, true].map(|with_bad| {
                let model = Model::new(&device, None);
                let ema = Ema::new(&model.params, 0.75).warm_up().every(2);
                let last = LastN::new(&model.params, 2, 1);
                let mut sgd = model.sgd().loss_scaling(scale).average(&ema).average(&last);
                for step in 0..6 {
                    if with_bad && [0, 3, 4].contains(&step) {
                        while sgd.step(&model.loss(step, true)).is_err() {}
                    }
                    while let Err(error) = sgd.step(&model.loss(step, false)) {
                        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
                    }
                }
                let states = [&*ema, &*last].map(|average| {
                    loop {
                        match average.state() {
                            Ok(state) => break state,
                            Err(Error::NonFinite { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
                (model.weights(), states)
            });
            assert_eq!(states[0], states[1], "{} {scale:?}", device.name());
            assert_eq!(states[0].1[0].steps, 6);
        }
    }
}

#[test]
fn recorded_tensors_keep_their_values_over_an_exchange() {
    for device in devices() {
        let model = Model::new(&device, None);
        let ema = Ema::new(&model.params, 0.5);
        let mut sgd = model.sgd().average(&ema);
        run(&model, &mut sgd, 0..3);
        let (before, weights) = (model.all[0].tensor() * 2.0, model.all[0].values().unwrap());
        let kept = ema.swap_in().unwrap();
        let (meanwhile, averaged) = (model.all[0].tensor() * 2.0, model.all[0].values().unwrap());
        drop(kept);
        let behind = model.all[0].tensor() * 2.0;
        let doubled = |values: &[f64]| values.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
        let value = |tensor: &Tensor| tensor.to_array().unwrap().data;
        assert_ne!(weights, averaged);
        assert_eq!(value(&before), doubled(&weights));
        assert_eq!(value(&meanwhile), doubled(&averaged));
        assert_eq!(value(&behind), doubled(&weights));
        // A gradient through weights that have been away is one through weights that have changed.
        assert!(matches!(before.sum_all().gradients(&[&model.all[0].tensor()]), Ok(_) | Err(Error::History { .. })));
    }
}

#[test]
fn an_exchange_is_as_if_it_had_not_been() {
    for device in devices() {
        let runs = [false, true].map(|looks| {
            let model = Model::new(&device, Some(192));
            let (ema, last) = (Ema::new(&model.params, 0.5), LastN::new(&model.params, 2, 1));
            let mut sgd = model.sgd().average(&ema).average(&last);
            for step in 0..6 {
                run(&model, &mut sgd, step..step + 1);
                if looks {
                    drop(ema.swap_in().unwrap());
                    drop(last.swap_in().unwrap());
                }
            }
            (model.weights(), ema.state().unwrap(), last.state().unwrap(), sgd.state().unwrap())
        });
        assert_eq!(runs[0], runs[1], "{}", device.name());
    }
}

#[test]
fn weights_that_are_away_cannot_be_changed() {
    for device in devices() {
        let model = Model::new(&device, None);
        let (ema, swa) = (Ema::new(&model.params, 0.5), Swa::new(&model.params, 1, 1));
        let mut sgd = model.sgd().average(&ema).average(&swa);
        run(&model, &mut sgd, 0..2);
        let (weights, state) = (model.weights(), sgd.state().unwrap());
        let kept = ema.swap_in().unwrap();
        let is_refused = |result: Result<()>| match result {
            Err(Error::Value { what, .. }) => assert!(what.contains("tests/averages.rs"), "{what}"),
            other => panic!("{other:?}"),
        };
        is_refused(sgd.step(&model.loss(2, false)));
        is_refused(sgd.accumulate(&model.loss(2, false)));
        is_refused(sgd.step_with(vec![(model.all[0].clone(), device.ones(&[37]))]));
        is_refused(sgd.state().map(drop));
        is_refused(model.all[0].set(&[0.0; 37]));
        is_refused(model.params.copy_from(&Model::new(&device, None).params, 0.5));
        is_refused(ema.swap_in().map(drop));
        is_refused(swa.swap_in().map(drop));
        is_refused(ema.state().map(drop));
        is_refused(swa.set_state(&AverageState::default()));
        // The guard goes where it likes.
        std::thread::spawn(move || drop(kept)).join().unwrap();
        assert_eq!(model.weights(), weights);
        assert_eq!(sgd.state().unwrap(), state);
        run(&model, &mut sgd, 2..3);
        assert_eq!(sgd.steps(), 3);
    }
}

#[test]
fn a_guard_may_be_sent() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Kept>();
    is_send::<Ema>();
}

#[test]
fn what_cannot_be_used_is_refused_by_the_first_step() {
    let device = Device::cpu();
    let model = Model::new(&device, None);
    let foreign = Ema::new(&Model::new(&device, None).params, 0.5);
    let params = &model.params;
    let wrong: [Box<dyn Fn() -> Average>; 6] = [
        Box::new(|| (*Ema::new(params, 1.0)).clone()),
        Box::new(|| (*Ema::new(params, f64::NAN)).clone()),
        Box::new(|| (*Ema::new(params, 0.5).every(0)).clone()),
        Box::new(|| (*Swa::new(params, u64::MAX, 1)).clone()),
        Box::new(|| (*LastN::new(params, 0, 1)).clone()),
        Box::new(|| (*foreign).clone()),
    ];
    let before = model.weights();
    for wrong in &wrong {
        let mut sgd = model.sgd().average(&wrong());
        let error = sgd.step(&model.loss(0, false)).unwrap_err();
        assert!(matches!(error, Error::Value { op: "average", .. }), "{error}");
    }
    assert!(wrong[4]().swap_in().is_err());
    assert_eq!(model.weights(), before);
}

/// Five steps, then the average that the rule keeps: theta + share (moment - theta), and theta where there was no update.
/// Gives the moments behind each step.
fn keeps<R: Rule>(model: &Model, mut optimizer: Stepper<R>, name: &str, share: f64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let start = model.weights();
    drop(optimizer.averaged().unwrap());
    assert_eq!(model.weights(), start);
    let moments = |optimizer: &Stepper<R>| {
        let state = optimizer.state().unwrap();
        let moment = |param: &Param| {
            let name = format!("{name}.{}", param.name());
            let kept = state.tensors.iter().find(|tensor| tensor.0 == name).map(|tensor| tensor.2.clone());
            kept.unwrap_or_else(|| param.values().unwrap())
        };
        model.all.iter().flat_map(moment).collect::<Vec<f64>>()
    };
    let mut behind = vec![];
    for step in 0..5 {
        optimizer.step(&model.loss(step, false)).unwrap();
        behind.push(moments(&optimizer));
    }
    let (weights, state) = (model.weights(), optimizer.state().unwrap());
    let mixed = weights.iter().zip(&behind[4]).map(|(x, m)| x + share * (m - x)).collect::<Vec<f64>>();
    let kept = optimizer.averaged().unwrap();
    let got = model.weights();
    assert!(optimizer.step(&model.loss(5, false)).is_err());
    drop(kept);
    close(&got, &mixed, name);
    assert_ne!(got, weights);
    assert_eq!(model.weights(), weights);
    assert_eq!(optimizer.state().unwrap(), state);
    (behind, got)
}

#[test]
fn averages_that_rules_keep_come_in_the_weights_place() {
    for device in devices() {
        let model = Model::new(&device, Some(192));
        let config = ScheduleFreeSgdConfig { lr: 0.1, ..Default::default() };
        let sgd = ScheduleFreeSgd::new(&model.params, config);
        let (z, x) = keeps(&model, sgd, "z", 1.0 - 1.0 / 0.9);
        // With a constant rate x is the mean of all z.
        close(&x, &mix(&z.iter().map(|z| (0.2, z)).collect::<Vec<_>>()), "the mean of z");
        let model = Model::new(&device, None);
        let config = ScheduleFreeAdamWConfig { lr: 0.1, ..Default::default() };
        keeps(&model, ScheduleFreeAdamW::new(&model.params, config), "z", 1.0 - 1.0 / 0.9);
        let model = Model::new(&device, None);
        let config = AsgdConfig { lr: 0.1, t0: 2.0, ..Default::default() };
        keeps(&model, Asgd::new(&model.params, config), "average", 1.0);
    }
}

#[test]
fn only_rules_that_keep_an_average_have_one() {
    for device in devices() {
        let model = Model::new(&device, None);
        assert!(matches!(model.sgd().averaged(), Err(Error::Value { op: "averaged", .. })));
        let config = ScheduleFreeSgdConfig { momentum: 0.0, ..Default::default() };
        let mut flat = ScheduleFreeSgd::new(&model.params, config);
        assert!(matches!(flat.averaged(), Err(Error::Value { op: "averaged", .. })));
        // Of several rules one is enough: the others' parameters stay.
        let mut both = Optimizers::of(&model.params)
            .group("other", AsgdConfig { lr: 0.1, t0: 0.0, ..Default::default() })
            .rest(SgdConfig { lr: 0.1, ..Default::default() });
        for step in 0..4 {
            both.step(&model.loss(step, false)).unwrap();
        }
        let weights: Vec<Vec<f64>> = model.all.iter().map(|param| param.values().unwrap()).collect();
        let kept = both.averaged().unwrap();
        let averaged: Vec<Vec<f64>> = model.all.iter().map(|param| param.values().unwrap()).collect();
        drop(kept);
        assert_ne!(averaged[2], weights[2]);
        assert_eq!([&averaged[0], &averaged[1], &averaged[3]], [&weights[0], &weights[1], &weights[3]]);
    }
}

#[test]
fn a_target_follows() {
    for device in devices() {
        for limits in [[None, None], [Some(192), None], [None, Some(256)]] {
            let [online, target] = limits.map(|limit| Model::new(&device, limit));
            let mut sgd = online.sgd();
            run(&online, &mut sgd, 0..2);
            let (from, to) = (online.weights(), target.weights());
            let held = target.all[1].tensor() * 3.0;
            target.params.copy_from(&online.params, 0.25).unwrap();
            close(&target.weights(), &mix(&[(0.75, &to), (0.25, &from)]), &format!("{limits:?}"));
            let before: Vec<f64> = to[37..][..131].iter().map(|x| x * 3.0).collect();
            close(&held.to_array().unwrap().data, &before, "held");
            let next = target.weights();
            target.params.copy_from(&online.params, 0.0).unwrap();
            assert_eq!(target.weights(), next);
            target.params.copy_from(&online.params, 1.0).unwrap();
            let bits = |weights: &[f64]| weights.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&target.weights()), bits(&from));
            // The other way nothing has changed, and a step goes on from the copy.
            assert_eq!(online.weights(), from);
            let mut following = target.sgd();
            following.step(&target.loss(2, false)).unwrap();
            assert_ne!(target.weights(), from);
            online.params.copy_from(&online.params, 0.5).unwrap();
            assert_eq!(online.weights(), from);
        }
    }
}

#[test]
fn stores_that_do_not_fit_are_refused() {
    let device = Device::cpu();
    let [model, other] = [0, 1].map(|_| Model::new(&device, None));
    let before = model.weights();
    let refused = |other: &ParamStore, tau: f64| model.params.copy_from(other, tau).unwrap_err();
    for tau in [-0.5, 1.5, f64::NAN] {
        assert!(matches!(refused(&other.params, tau), Error::Value { op: "copy_from", .. }));
    }
    let more = Model::new(&device, None);
    more.params.root().param("more", &[2], Init::Ones);
    assert!(matches!(refused(&more.params, 0.5), Error::Value { op: "copy_from", .. }));
    assert!(matches!(more.params.copy_from(&model.params, 0.5), Err(Error::Value { op: "copy_from", .. })));
    let shaped = ParamStore::new(&device, 0);
    (0..4).for_each(|i| drop(shaped.root().param(format!("p{i}"), &[37], Init::Ones)));
    assert!(matches!(refused(&shaped, 0.5), Error::Shape { op: "copy_from", .. }));
    let elsewhere = Model::new(&common::gpu(), None);
    assert!(matches!(refused(&elsewhere.params, 0.5), Error::Device { op: "copy_from", .. }));
    assert_eq!(model.weights(), before);
}
