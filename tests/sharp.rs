//! Sharpness-aware minimisation: two passes, one update, and no trace of a pass that is refused.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kiln::State;
use kiln::optim::{Ema, LossScale, OptimizerState, Sam};
use kiln::prelude::*;

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

const LENGTHS: [usize; 5] = [37, 131, 15, 70, 9];
/// The parameter that is frozen, and the one that the loss does not reach.
const FROZEN: usize = 3;
const UNREACHED: usize = 4;

/// A loss sum(c x^2 / 2 + b x), whose gradient is c x + b.
struct Model {
    params: ParamStore,
    all: Vec<Param>,
    c: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
}

impl Model {
    fn new(device: &Device, limit: Option<usize>) -> Model {
        let params = ParamStore::new(device, 3);
        limit.into_iter().for_each(|limit| params.limit_arenas(limit));
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let all: Vec<Param> = (0..5).map(|i| params.root().param(format!("p{i}"), &[LENGTHS[i]], init)).collect();
        all[FROZEN].freeze();
        let draws = |seed: u64| (0..5).map(|i| common::normals(&[LENGTHS[i]], seed + i as u64).data).collect();
        Model { params, all, c: draws(10), b: draws(20) }
    }

    fn loss(&self) -> Tensor {
        let device = self.params.device();
        let upload =
            |values: &[f64]| device.tensor(&values.iter().map(|&x| x as f32).collect::<Vec<_>>(), &[values.len()]);
        let term = |i: usize| {
            let x = self.all[i].tensor();
            (x.square() * upload(&self.c[i]) * 0.5 + x * upload(&self.b[i])).sum_all()
        };
        (0..UNREACHED).map(term).reduce(|a, b| a + b).unwrap()
    }

    fn gradient(&self, i: usize, x: &[f64]) -> Vec<f64> {
        x.iter().zip(self.c[i].iter().zip(&self.b[i])).map(|(x, (c, b))| c * x + b).collect()
    }

    fn weights(&self) -> Vec<Vec<f64>> {
        self.all.iter().map(|param| param.values().unwrap()).collect()
    }

    fn adamw(&self) -> AdamW {
        AdamW::new(&self.params, AdamWConfig { lr: 0.05, ..Default::default() })
    }
}

fn close(got: &[Vec<f64>], want: &[Vec<f64>], at: &str) {
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() <= 4e-6 * want.abs().max(1.0), "{at}: {got} instead of {want}");
    }
}

/// Weights behind a step of SGD with rate 0.1, by the formulas of the papers.
fn by_hand(model: &Model, x: &[Vec<f64>], rho: f64, eta: Option<f64>) -> Vec<Vec<f64>> {
    let trained = |i: &usize| ![FROZEN, UNREACHED].contains(i);
    let stretch = |x: f64| eta.map_or(1.0, |eta| x.abs() + eta);
    let gradients: Vec<Vec<f64>> = (0..5).map(|i| model.gradient(i, &x[i])).collect();
    let squares = |i: usize| x[i].iter().zip(&gradients[i]).map(|(x, g)| (stretch(*x) * g).powi(2)).sum::<f64>();
    let norm = (0..5).filter(trained).map(squares).sum::<f64>().sqrt();
    let step = |i: usize| {
        if !trained(&i) {
            return x[i].clone();
        }
        let away = x[i].iter().zip(&gradients[i]).map(|(x, g)| x + rho * stretch(*x).powi(2) * g / norm);
        let second = model.gradient(i, &away.collect::<Vec<_>>());
        x[i].iter().zip(second).map(|(x, g)| x - 0.1 * g).collect()
    };
    (0..5).map(step).collect()
}

#[test]
fn a_step_is_what_the_papers_say() {
    for device in devices() {
        for (limit, hardware) in [(None, false), (Some(192), true)] {
            for eta in [None, Some(0.01)] {
                let model = Model::new(&device, limit);
                let mut sgd = Sgd::new(&model.params, SgdConfig { lr: 0.1, ..Default::default() });
                if hardware {
                    sgd.as_on_hardware();
                }
                let mut sam = Sam::new(sgd, 0.5);
                if let Some(eta) = eta {
                    sam = sam.adaptive(eta);
                }
                for _ in 0..3 {
                    let want = by_hand(&model, &model.weights(), 0.5, eta);
                    let loss = model.loss().item().unwrap();
                    let first = sam.step(|| model.loss()).unwrap();
                    assert!((first.item().unwrap() - loss).abs() < 1e-4 * loss.abs());
                    close(&model.weights(), &want, &format!("{eta:?} on {}", device.name()));
                    device.poison_buffers().unwrap();
                }
                assert_eq!(sam.optimizer().steps(), 3);
                assert_eq!(sam.optimizer().state().unwrap().updates.len(), 3);
            }
        }
    }
}

#[test]
fn weights_come_back_bit_for_bit() {
    for device in devices() {
        let model = Model::new(&device, Some(192));
        let before = model.weights();
        let held = model.all[0].tensor() * 2.0;
        let mut sam = Sam::new(Sgd::new(&model.params, SgdConfig { lr: 0.0, ..Default::default() }), 0.7);
        let mut seen = vec![];
        sam.step(|| {
            seen.push(model.all[0].tensor() * 2.0);
            model.loss()
        })
        .unwrap();
        assert!(model.weights() == before);
        // Each recorded tensor has the value of its time.
        let value = |tensor: &Tensor| tensor.to_array().unwrap().data;
        let doubled: Vec<f64> = before[0].iter().map(|x| 2.0 * x).collect();
        assert_eq!(value(&held), doubled);
        assert_eq!(value(&seen[0]), doubled);
        assert_ne!(value(&seen[1]), doubled);
    }
}

#[test]
fn the_loss_scale_changes_nothing() {
    for device in devices() {
        let run = |scale: Option<LossScale>| {
            let model = Model::new(&device, None);
            let mut sam = Sam::new(model.adamw().clip_norm(1.0).loss_scaling(scale), 0.5).adaptive(0.1);
            (0..4).for_each(|_| drop(sam.step(|| model.loss()).unwrap()));
            model.weights()
        };
        let scale = LossScale { initial: 1024.0, interval: 2, ..LossScale::default() };
        close(&run(Some(scale)), &run(None), device.name());
    }
}

/// What goes wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bad {
    /// Nothing: there is no such step.
    None,
    /// The loss of a pass, 0 or 1, is not finite.
    Nan(u32),
    /// That of a pass carries an error.
    Error(u32),
    /// The program panics in a pass.
    Panic(u32),
}

/// Five good steps, with a bad one among them. Everything that a step changes, at the end.
fn run(device: &Device, bad: Bad, scale: Option<LossScale>) -> (Vec<Vec<f64>>, OptimizerState, Vec<f64>, f64) {
    let model = Model::new(device, Some(192));
    let state: State = model.params.root().state("calls", &device.zeros(&[]));
    let ema = Ema::new(&model.params, 0.5);
    let mut sam = Sam::new(model.adamw().loss_scaling(scale).average(&ema), 0.3);
    let count = || state.assign(&(state.get() + 1.0));
    for step in 0..5 {
        if step == 2 && bad != Bad::None {
            let call = Cell::new(0);
            let spoilt = || {
                count();
                let loss = model.loss();
                match bad {
                    Bad::Nan(at) if at == call.replace(call.get() + 1) => loss * f64::NAN,
                    Bad::Error(at) if at == call.replace(call.get() + 1) => {
                        loss + device.zeros(&[2]) + device.zeros(&[3])
                    }
                    Bad::Panic(at) if at == call.replace(call.get() + 1) => panic!("a program's own"),
                    _ => loss,
                }
            };
            let result = catch_unwind(AssertUnwindSafe(|| sam.step(spoilt)));
            match bad {
                Bad::Panic(_) => assert!(result.is_err()),
                Bad::Error(_) => assert!(matches!(result.unwrap(), Err(Error::Shape { .. }))),
                _ => drop(result.unwrap().unwrap()),
            }
        }
        let mut refused = 0;
        loop {
            let result = sam.step(|| {
                count();
                model.loss()
            });
            match result {
                Ok(_) => break,
                Err(Error::NonFinite { step, .. }) => assert_eq!(step, 3),
                Err(error) => panic!("{error}"),
            }
            refused += 1;
            assert_eq!(refused, 1);
        }
    }
    let state = loop {
        match sam.optimizer().state() {
            Ok(found) => break (found, state.get().item().unwrap()),
            Err(error) => assert!(matches!(error, Error::NonFinite { .. }), "{error}"),
        }
    };
    let kept = ema.swap_in().unwrap();
    let averaged = model.weights().concat();
    drop(kept);
    (model.weights(), state.0, averaged, state.1)
}

#[test]
fn a_pass_that_is_refused_leaves_no_trace() {
    for device in devices() {
        let want = run(&device, Bad::None, None);
        assert_eq!(want.3, 10.0);
        for pass in [0, 1] {
            for bad in [Bad::Nan(pass), Bad::Error(pass), Bad::Panic(pass)] {
                let got = run(&device, bad, None);
                assert!(got == want, "{bad:?} on {}: {} calls", device.name(), got.3);
            }
        }
    }
}

#[test]
fn a_pass_that_is_skipped_lowers_the_scale_alone() {
    let scale = LossScale { initial: 64.0, interval: 1000, ..LossScale::default() };
    for device in devices() {
        let want = run(&device, Bad::None, Some(scale));
        for pass in [0, 1] {
            let mut got = run(&device, Bad::Nan(pass), Some(scale));
            assert_eq!(got.1.loss_scale, Some((32.0, 3)));
            assert_eq!((got.1.steps, want.1.steps), (6, 5));
            (got.1.steps, got.1.loss_scale) = (want.1.steps, want.1.loss_scale);
            assert!(got == want, "pass {pass} on {}", device.name());
        }
    }
}

#[test]
fn an_error_names_the_step_and_the_next_one_is_sound() {
    for device in devices() {
        let model = Model::new(&device, None);
        let before = model.weights();
        let mut sam = Sam::new(model.adamw(), 0.3);
        // Not finite at the weights alone: the second pass sees nothing wrong.
        let first = Cell::new(true);
        sam.step(|| if first.replace(false) { model.loss() * f64::INFINITY } else { model.loss() }).unwrap();
        let error = loop {
            match model.all[0].tensor().to_vec::<f32>() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NonFinite { step: 1, later: 0, .. }), "{error}");
        assert!(model.weights() == before);
        assert_eq!(sam.optimizer().steps(), 0);
        sam.step(|| model.loss()).unwrap();
        assert!(model.weights() != before);
    }
}

#[test]
fn steps_that_cannot_be_are_refused() {
    let device = Device::cpu();
    let model = Model::new(&device, None);
    let before = model.weights();
    for (rho, eta) in [(0.0, None), (-1.0, None), (f64::NAN, None), (0.5, Some(f64::INFINITY)), (0.5, Some(-0.1))] {
        let mut sam = Sam::new(model.adamw(), rho);
        if let Some(eta) = eta {
            sam = sam.adaptive(eta);
        }
        assert!(matches!(sam.step(|| model.loss()), Err(Error::Value { op: "sam", .. })));
    }
    let mut sam = Sam::new(model.adamw(), 0.5);
    sam.optimizer_mut().accumulate(&model.loss()).unwrap();
    assert!(matches!(sam.step(|| model.loss()), Err(Error::Value { op: "sam", .. })));
    sam.optimizer_mut().set_lr(0.0).unwrap();
    sam.optimizer_mut().step(&model.loss()).unwrap();
    // A loss from before the weights were moved is of the past.
    let stale = model.loss();
    assert!(sam.step(|| stale.clone()).is_err());
    let ema = Ema::new(&model.params, 0.5);
    let kept = ema.swap_in().unwrap();
    assert!(matches!(sam.step(|| model.loss()), Err(Error::Value { op: "step", .. })));
    drop(kept);
    assert!(model.weights() == before);
    sam.step(|| model.loss()).unwrap();
}

#[test]
fn a_step_that_has_been_seen_is_not_planned_again() {
    // Of its own: what other tests plan is not counted.
    let device = Device::best().unwrap();
    let model = Model::new(&device, None);
    let mut sam = Sam::new(model.adamw(), 0.5);
    (0..2).for_each(|_| drop(sam.step(|| model.loss()).unwrap()));
    let (statistics, objects) = (device.statistics(), device.objects_made());
    sam.step(|| model.loss()).unwrap();
    assert_eq!(device.statistics().plans_made, statistics.plans_made);
    assert_eq!(device.statistics().runs, statistics.runs + 2);
    assert_eq!(device.objects_made(), objects);
}
