//! What a step promises, of every rule: counts, states, refused steps, gradients that lie elsewhere.

mod common;

use std::collections::BTreeMap;

use common::rules::{RULES, every_rule};
use kiln::optim::{LambConfig, LarsConfig, OptimizerState, RmsProp, RmsPropConfig, Rule, Stepper};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

/// Three parameters in two groups, whose gradients a test prescribes.
struct Model {
    params: ParamStore,
    all: Vec<Param>,
}

impl Model {
    fn new(device: &Device, seed: u64) -> Model {
        let params = ParamStore::new(device, seed);
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let paths = [params.root(), params.root(), params.root().group("other")];
        let param = |i: usize, length: usize| paths[i].param(format!("p{i}"), &[length], init);
        let all = vec![param(0, 37), param(1, 131), param(2, 5)];
        Model { params, all }
    }

    /// The gradient of parameter `k` in step `i`.
    fn gradient(&self, k: usize, i: u64) -> Tensor {
        self.params.device().array(&common::normals(&self.all[k].shape().unwrap(), 10 * i + k as u64))
    }

    /// Those of step `i`: the last parameter is reached by every other step, the second from the third on.
    fn gradients(&self, i: u64) -> Vec<(Param, Tensor)> {
        let is_reached = |k: &usize| [true, i >= 2, i.is_multiple_of(2)][*k];
        (0..3).filter(is_reached).map(|k| (self.all[k].clone(), self.gradient(k, i))).collect()
    }

    fn step(&self, optimizer: &mut dyn Optimizer, i: u64) {
        optimizer.step_with(self.gradients(i)).unwrap();
    }

    fn bits(&self) -> Vec<u64> {
        self.all.iter().flat_map(|param| param.values().unwrap()).map(f64::to_bits).collect()
    }
}

#[test]
fn every_rule_resumes_to_equal_bits() {
    for device in devices() {
        every_rule(|name, make| {
            let at = format!("{name} on {}", device.name());
            let path = std::env::temp_dir().join(format!("kiln-every-rule-{}", std::process::id()));
            let model = Model::new(&device, 1);
            let mut optimizer = make(&model.params);
            (0..5).for_each(|i| model.step(&mut optimizer, i));
            let saved = optimizer.state().unwrap();
            let before: Vec<Vec<f64>> = model.all.iter().map(|param| param.values().unwrap()).collect();
            Checkpoint::save(&path, &model.params, Some(&optimizer), None).unwrap();
            (5..9).for_each(|i| model.step(&mut optimizer, i));
            let counts: BTreeMap<_, _> = optimizer.state().unwrap().updates.into_iter().collect();
            assert_eq!(counts.into_values().collect::<Vec<u64>>(), [9, 7, 5], "{at}");

            // From a state on the host, into an optimizer that has done something else.
            let other = Model::new(&device, 2);
            let mut again = make(&other.params);
            (2..4).for_each(|i| other.step(&mut again, i));
            again.set_state(&saved).unwrap();
            other.all.iter().zip(&before).for_each(|(param, values)| param.set(values).unwrap());
            assert_eq!(again.state().unwrap(), saved, "{at}");
            (5..9).for_each(|i| other.step(&mut again, i));
            assert_eq!(other.bits(), model.bits(), "{at}");
            assert_eq!(again.state().unwrap(), optimizer.state().unwrap(), "{at}");

            // From a file.
            let other = Model::new(&device, 3);
            let mut again = make(&other.params);
            Checkpoint::load(&path, &other.params, Some(&mut again)).unwrap();
            (5..9).for_each(|i| other.step(&mut again, i));
            assert_eq!(other.bits(), model.bits(), "{at}, from a file");
        });
    }
}

#[test]
fn every_rule_goes_on_from_wherever_it_was_killed() {
    let path = std::env::temp_dir().join(format!("kiln-killed-rule-{}", std::process::id()));
    for device in devices() {
        every_rule(|name, make| {
            let run = |killed: Option<u64>| {
                let mut model = Model::new(&device, 1);
                let mut optimizer = make(&model.params);
                for i in 0..9 {
                    if killed == Some(i) {
                        Checkpoint::save(&path, &model.params, Some(&optimizer), None).unwrap();
                        model = Model::new(&device, 2);
                        optimizer = make(&model.params);
                        Checkpoint::load(&path, &model.params, Some(&mut optimizer)).unwrap();
                    }
                    model.step(&mut optimizer, i);
                }
                (model.bits(), optimizer.state().unwrap())
            };
            // Another step for each rule, the first one among them.
            let step = name.bytes().map(u64::from).sum::<u64>() % 9;
            assert!(run(Some(step)) == run(None), "{name} on {}, killed before step {step}", device.name());
        });
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_refused_step_of_every_rule_leaves_no_trace() {
    let run = |device: &Device, make: common::rules::Make, with_bad: bool| -> (Vec<u64>, OptimizerState) {
        let model = Model::new(device, 1);
        let mut optimizer = make(&model.params).clip_norm(3.0);
        for i in 0..6 {
            if with_bad && [0, 3].contains(&i) {
                let mut bad = common::normals(&[131], i);
                bad.data[130] = f64::NAN;
                let mut gradients = model.gradients(i);
                gradients.retain(|(param, _)| param.name() != "p1");
                gradients.push((model.all[1].clone(), device.array(&bad)));
                optimizer.step_with(gradients).unwrap();
                assert!(matches!(device.synchronize(), Err(Error::NonFinite { .. })));
            }
            model.step(&mut optimizer, i);
        }
        (model.bits(), optimizer.state().unwrap())
    };
    // Devices of their own: the next call reports what was found.
    for device in [Device::cpu(), Device::best().unwrap()] {
        every_rule(|name, make| {
            assert_eq!(run(&device, make, true), run(&device, make, false), "{name} on {}", device.name());
        });
    }
}

#[test]
fn a_parameter_that_was_frozen_goes_on_where_it_was_with_every_rule() {
    for device in devices() {
        every_rule(|name, make| {
            let at = format!("{name} on {}", device.name());
            let model = Model::new(&device, 1);
            let mut optimizer = make(&model.params);
            for i in 0..8 {
                if (2..5).contains(&i) {
                    model.all[0].freeze()
                } else {
                    model.all[0].unfreeze()
                }
                // Frozen ones may be given gradients: they are left alone.
                optimizer.step_with((0..2).map(|k| (model.all[k].clone(), model.gradient(k, i))).collect()).unwrap();
            }
            // The same parameter alone, with the gradients that it took.
            let alone = Model::new(&device, 1);
            let mut other = make(&alone.params);
            for i in [0, 1, 5, 6, 7] {
                other.step_with(vec![(alone.all[0].clone(), alone.gradient(0, i))]).unwrap();
            }
            assert_eq!(model.all[0].values().unwrap(), alone.all[0].values().unwrap(), "{at}");
            let (state, known) = (optimizer.state().unwrap(), other.state().unwrap());
            let of = |state: &OptimizerState| state.kept.iter().find(|(name, _)| name == "p0").cloned();
            assert_eq!(of(&state), of(&known), "{at}");
            let counts: Vec<u64> = state.updates.iter().map(|(_, count)| *count).collect();
            assert_eq!(counts, [5, 8], "{at}");
        });
    }
}

#[test]
fn parameters_of_equal_counts_but_other_histories_stay_apart_when_they_are_resumed() {
    for device in devices() {
        // What they keep depends on the momentum and the rate of the steps that have updated them.
        for name in ["nadam", "asgd", "schedule_free_sgd"] {
            let make = RULES.iter().find(|(own, _)| *own == name).unwrap().1;
            let of = |params: &ParamStore| {
                let falling = kiln::schedule::linear(0.3, 0.0, 100);
                make(params).schedule(falling.clone()).momentum_schedule(falling)
            };
            let model = Model::new(&device, 1);
            let mut optimizer = of(&model.params);
            let step = |model: &Model, optimizer: &mut dyn Optimizer, i: u64| {
                let own = if i < 40 { vec![(i / 20) as usize] } else { vec![0, 1] };
                let gradients = own.into_iter().map(|k| (model.all[k].clone(), model.gradient(k, i))).collect();
                optimizer.step_with(gradients).unwrap();
            };
            (0..40).for_each(|i| step(&model, &mut optimizer, i));
            let saved = optimizer.state().unwrap();
            assert_ne!(saved.kept[0].1, saved.kept[1].1, "{name}");
            let other = Model::new(&device, 1);
            let mut again = of(&other.params);
            again.set_state(&saved).unwrap();
            for (param, own) in other.all.iter().zip(&model.all) {
                param.set(&own.values().unwrap()).unwrap();
            }
            for i in 40..44 {
                step(&model, &mut optimizer, i);
                step(&other, &mut again, i);
            }
            assert_eq!(other.bits(), model.bits(), "{name} on {}", device.name());
        }
    }
}

/// Three steps with gradients of which the long ones are read where they are, the others from the arena between them.
fn with_long_gradients(device: &Device, rule: impl Rule, hardware: bool) -> Vec<Vec<f64>> {
    let params = ParamStore::new(device, 7);
    let init = Init::Normal { mean: 0.0, deviation: 1.0 };
    let lengths = [37, 40_004, 3, 131, 33_000, 70, 1];
    let all: Vec<Param> = lengths.iter().map(|n| params.root().param(format!("p{n}"), &[*n], init)).collect();
    let mut optimizer = Stepper::new(&params, rule).clip_norm(30.0).l1(1e-3);
    if hardware {
        optimizer.as_on_hardware();
    }
    for step in 0..4 {
        let gradient = |(k, param): (usize, &Param)| {
            let gradient = device.array(&common::normals(&[lengths[k]], 10 * step + k as u64)) * 1.0;
            (param.clone(), gradient)
        };
        // One of the short and one of the long are left out now and then.
        let is_given = |(k, _): &(usize, &Param)| ![(1, 3), (2, 4)].contains(&(step, *k));
        let given: Vec<(Param, Tensor)> = all.iter().enumerate().filter(is_given).map(gradient).collect();
        let stored: Vec<Tensor> = given.iter().map(|(_, gradient)| gradient.clone()).collect();
        device.eval(&stored.iter().collect::<Vec<_>>()).unwrap();
        optimizer.step_with(given).unwrap();
        device.poison_buffers().unwrap();
    }
    all.iter().map(|param| param.values().unwrap()).collect()
}

fn sees_parameters_whole(rule: impl Rule + Clone) {
    let want = with_long_gradients(&Device::cpu(), rule.clone(), false);
    for hardware in [false, true] {
        let got = with_long_gradients(&common::gpu(), rule.clone(), hardware);
        for (k, (got, want)) in got.iter().zip(&want).enumerate() {
            let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs() / w.abs().max(1.0)).fold(0.0, f64::max);
            assert!(worst < 4e-6, "{} {hardware}: parameter {k} by {worst:e}", rule.name());
        }
    }
}

#[test]
fn rules_that_measure_see_each_parameter_whole() {
    sees_parameters_whole(LambConfig { lr: 0.1, ..Default::default() });
    sees_parameters_whole(LarsConfig { trust: 0.1, weight_decay: 0.1, ..Default::default() });
}

#[test]
fn what_lies_behind_a_parameter_is_not_measured() {
    let run = |device: &Device| {
        let params = ParamStore::new(device, 1);
        let w = params.root().param("w", &[5], Init::Ones);
        let gradient = || vec![(w.clone(), device.tensor(&[1.0f32, -2.0, 3.0, 4.0, -5.0], &[5]))];
        // Without eps what lies behind becomes NaN: 0 / 0.
        let mut adamw = AdamW::new(&params, AdamWConfig { lr: 0.1, eps: 0.0, ..Default::default() });
        adamw.step_with(gradient()).unwrap();
        let mut lamb = Stepper::new(&params, LambConfig { lr: 0.1, ..Default::default() });
        let mut lars = Stepper::new(&params, LarsConfig { trust: 0.1, ..Default::default() });
        for _ in 0..3 {
            lamb.step_with(gradient()).unwrap();
            lars.step_with(gradient()).unwrap();
        }
        w.values().unwrap()
    };
    let (gpu, cpu) = (run(&common::gpu()), run(&Device::cpu()));
    for (got, want) in gpu.iter().zip(&cpu) {
        assert!((got - want).abs() < 1e-5, "{gpu:?} {cpu:?}");
    }
}

#[test]
fn a_centred_rule_keeps_the_spread_of_gradients_that_hardly_change() {
    let run = |device: &Device| {
        let params = ParamStore::new(device, 1);
        let w = params.root().param("w", &[37], Init::Zeros);
        let config = RmsPropConfig { lr: 1e-4, centered: true, alpha: 0.9, ..Default::default() };
        let mut rule = RmsProp::new(&params, config);
        for i in 0..150 {
            let mut gradient = common::normals(&[37], i);
            gradient.data.iter_mut().for_each(|x| *x = f64::from((1.0 + 3e-4 * *x) as f32));
            rule.step_with(vec![(w.clone(), device.array(&gradient))]).unwrap();
        }
        w.values().unwrap()
    };
    // A mean of squares less the square of the mean would have one digit left in f32.
    let (gpu, cpu) = (run(&common::gpu()), run(&Device::cpu()));
    for (got, want) in gpu.iter().zip(&cpu) {
        assert!((got / want - 1.0).abs() < 1e-3, "{got} {want}");
    }
}
