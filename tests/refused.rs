//! What a step that is not done leaves behind: nothing. And who is told of it: those whose step it was.

mod common;

use std::sync::RwLock;

use kiln::optim::{LossScale, OptimizerState, Rule, Stepper};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;
use kiln::{Shape, State};

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

/// Parameters whose gradients a test prescribes: the loss is the sum of the products of each with its gradient.
struct Model {
    params: ParamStore,
    all: Vec<Param>,
}

impl Model {
    fn new(device: &Device) -> Model {
        let params = ParamStore::new(device, 7);
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let paths = [params.root(), params.root(), params.root().group("other")];
        let param = |i: usize, length: usize| paths[i].param(format!("p{i}"), &[length], init);
        let all = vec![param(0, 37), param(1, 131), param(2, 5)];
        Model { params, all }
    }

    /// Gradients of step `i`, one of them not finite if it is `bad`. The last parameter is reached by every other step.
    fn gradients(&self, i: u64, bad: bool) -> Vec<(Param, Tensor)> {
        let device = self.params.device();
        let count = if i.is_multiple_of(2) { 3 } else { 2 };
        let gradient = |(k, param): (usize, &Param)| {
            let mut array = common::normals(&param.shape().unwrap(), 10 * i + k as u64);
            if bad && k == 1 {
                array.data[130] = if i.is_multiple_of(2) { f64::NAN } else { f64::INFINITY };
            }
            (param.clone(), device.array(&array))
        };
        self.all[..count].iter().enumerate().map(gradient).collect()
    }

    fn loss(&self, i: u64, bad: bool) -> Tensor {
        let products =
            self.gradients(i, bad).into_iter().map(|(param, gradient)| (param.tensor() * gradient).sum_all());
        products.reduce(|a, b| a + b).unwrap()
    }
}

/// Devices are shared, and `synchronize` takes the failures of all stores on one: tests that call it run alone.
static DEVICES: RwLock<()> = RwLock::new(());

fn alone() -> impl Drop {
    DEVICES.write().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn beside() -> impl Drop {
    DEVICES.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How gradients reach the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Loss,
    MicroBatches,
    Given,
}

/// Calls until it is done; gives the number of refused steps that were reported on the way.
fn insist(mut call: impl FnMut() -> Result<()>) -> u64 {
    let mut reported = 0;
    loop {
        match call() {
            Ok(()) => return reported,
            Err(Error::NonFinite { later, .. }) => reported += 1 + later,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Ten good steps, with bad ones before three of them or without.
fn run<R: Rule + Clone>(
    device: &Device,
    (config, clip): (&R, Option<f64>),
    scale: Option<LossScale>,
    by: By,
    with_bad: bool,
) -> (Vec<Vec<f64>>, OptimizerState) {
    let model = Model::new(device);
    let mut optimizer = Stepper::new(&model.params, config.clone()).clip_norm(clip).loss_scaling(scale);
    let (mut reported, mut refused) = (0, 0);
    for i in 0..10 {
        let before: &[bool] = if with_bad && [0, 3, 4].contains(&i) { &[true, false] } else { &[false] };
        for &bad in before {
            refused += u64::from(bad);
            reported += match by {
                By::Loss => insist(|| optimizer.step(&model.loss(i, bad))),
                By::MicroBatches => {
                    // What is not finite is in the batch that is gathered first.
                    insist(|| optimizer.accumulate(&model.loss(i, bad)))
                        + insist(|| optimizer.step(&model.loss(i + 50, false)))
                }
                By::Given => insist(|| optimizer.step_with(model.gradients(i, bad))),
            };
        }
    }
    let mut state = None;
    reported += insist(|| optimizer.state().map(|known| state = Some(known)));
    if scale.is_none() {
        assert_eq!(reported, refused, "each refused step is reported");
    }
    (model.all.iter().map(|param| param.values().unwrap()).collect(), state.unwrap())
}

fn leaves_no_trace<R: Rule + Clone>(config: R, clip: Option<f64>) {
    for device in devices() {
        for by in [By::Loss, By::MicroBatches, By::Given] {
            for scale in [None, Some(LossScale { interval: 1000, ..LossScale::default() })] {
                let at = format!("{} {config} {by:?} {}", device.name(), scale.is_some(), config = config.name());
                let (want, mut state) = run(&device, (&config, clip), scale, by, false);
                let (got, mut known) = run(&device, (&config, clip), scale, by, true);
                assert_eq!(got, want, "{at}");
                if scale.is_some() {
                    // Skipped, not refused: the scale has sunk, and the calls are counted.
                    assert_eq!((state.steps, known.steps), (10, 13));
                    (state.loss_scale, state.steps) = (None, 0);
                    (known.loss_scale, known.steps) = (None, 0);
                }
                assert_eq!(known, state, "{at}");
            }
        }
    }
}

#[test]
fn a_refused_step_of_adamw_leaves_no_trace() {
    let _beside = beside();
    leaves_no_trace(AdamWConfig { lr: 0.1, ..Default::default() }, Some(3.0));
}

#[test]
fn a_refused_step_of_sgd_leaves_no_trace() {
    let _beside = beside();
    let momentum = SgdConfig { lr: 0.1, momentum: 0.9, ..Default::default() };
    leaves_no_trace(SgdConfig { dampening: 0.3, ..momentum.clone() }, None);
    leaves_no_trace(SgdConfig { nesterov: true, weight_decay: 0.1, ..momentum.clone() }, None);
    leaves_no_trace(SgdConfig { momentum: 0.0, ..momentum }, None);
}

#[test]
fn adamw_after_a_refused_first_step_takes_a_first_step() {
    let _alone = alone();
    for device in devices() {
        let params = ParamStore::new(&device, 0);
        let w = params.root().param("w", &[1], Init::Ones);
        let mut adamw = AdamW::new(&params, AdamWConfig { lr: 0.1, weight_decay: 0.0, ..Default::default() });
        adamw.step(&(w.tensor() * f64::NAN).sum_all()).unwrap();
        assert!(matches!(device.synchronize(), Err(Error::NonFinite { step: 1, .. })));
        assert_eq!(adamw.steps(), 0);
        adamw.step(&(w.tensor() * 3.0).sum_all()).unwrap();
        // The first step has the size of the rate.
        assert!((w.values().unwrap()[0] - 0.9).abs() < 1e-6);
        assert_eq!((adamw.steps(), adamw.state().unwrap().updates), (1, vec![("w".into(), 1)]));
    }
}

#[test]
fn bias_corrections_keep_their_digits_at_any_count() {
    let _beside = beside();
    let device = common::gpu();
    for betas in [(0.9, 0.999), (0.99, 0.9999), (0.5, 0.95), (0.0, 0.999_99)] {
        for before in [0, 1, 2, 6, 50, 1000, 4095, 4096, 100_002, 16_777_216] {
            let params = ParamStore::new(&device, 0);
            let w = params.root().param("w", &[3], Init::Zeros);
            let config = AdamWConfig { lr: 1.0, betas, eps: 0.0, weight_decay: 0.0, ..Default::default() };
            let mut adamw = AdamW::new(&params, config);
            let shape = Shape::new(&[3]).unwrap();
            let zeros = |name: &str| (name.to_string(), shape, vec![0.0; 3]);
            let mut state = OptimizerState {
                rule: "adamw".into(),
                lr: 1.0,
                steps: before,
                updates: vec![("w".into(), before)],
                tensors: vec![zeros("m.w"), zeros("v.w")],
                ..Default::default()
            };
            if before == 0 {
                (state.updates, state.tensors) = (vec![], vec![]);
            }
            adamw.set_state(&state).unwrap();
            adamw.step(&(w.tensor() * 2.0).sum_all()).unwrap();
            let t = (before + 1) as f64;
            let (first, second) = (1.0 - betas.0.powf(t), 1.0 - f64::powf(betas.1, t));
            let want = -(1.0 - betas.0) / first / ((1.0 - betas.1) / second).sqrt();
            let error = (w.values().unwrap()[0] / want - 1.0).abs();
            assert!(error < 4e-7, "betas {betas:?}, update {t}: {error:e}");
            assert_eq!(adamw.state().unwrap().updates, [("w".to_string(), before + 1)]);
        }
    }
}

/// A model with normalisation: its running statistics, and a parameter.
struct Normed {
    params: ParamStore,
    net: Sequential,
    states: Vec<State>,
}

impl Normed {
    fn new(device: &Device) -> Normed {
        let params = ParamStore::new(device, 3);
        let norms = [BatchNorm1d::new(&params.root().child("n0"), 5), BatchNorm1d::new(&params.root().child("n1"), 37)];
        let states = norms.iter().flat_map(|norm| [norm.running_mean.clone(), norm.running_var.clone()]).collect();
        let [first, second] = norms;
        let net = Sequential::new()
            .add(first)
            .add(Linear::new(&params.root().child("fc"), 5, 37))
            .add(second)
            .add(Linear::new(&params.root().child("out"), 37, 1));
        Normed { params, net, states }
    }

    fn loss(&self, i: u64, bad: bool) -> Tensor {
        let mut x = common::normals(&[11, 5], i);
        if bad {
            x.data[7] = f64::NAN;
        }
        self.net.forward(&self.params.device().array(&x), Mode::Train).square().mean_all()
    }

    fn values(&self) -> Vec<Vec<f64>> {
        let states = self.states.iter().map(|state| state.get().to_array().unwrap().data);
        states.chain(self.params.parameters().iter().map(|param| param.values().unwrap())).collect()
    }
}

#[test]
fn a_refused_step_leaves_running_statistics_as_they_were() {
    let _beside = beside();
    for device in devices() {
        for scale in [None, Some(LossScale::default())] {
            for micro in [false, true] {
                let train = |with_bad: bool| {
                    let model = Normed::new(&device);
                    let mut sgd = Sgd::new(&model.params, SgdConfig::default()).loss_scaling(scale);
                    for i in 0..7 {
                        let before: &[bool] = if with_bad && [0, 3].contains(&i) { &[true, false] } else { &[false] };
                        for &bad in before {
                            if micro {
                                insist(|| sgd.accumulate(&model.loss(20 + i, bad)));
                                insist(|| sgd.accumulate(&model.loss(30 + i, false)));
                            }
                            insist(|| sgd.step(&model.loss(i, bad && !micro)));
                        }
                    }
                    insist(|| sgd.state().map(drop));
                    device.poison_buffers().unwrap();
                    model.values()
                };
                assert_eq!(train(true), train(false), "{} {scale:?} {micro}", device.name());
            }
        }
    }
}

#[test]
fn a_state_read_after_a_refused_step_has_its_old_value() {
    let _beside = beside();
    for device in devices() {
        let params = ParamStore::new(&device, 0);
        let w = params.root().param("w", &[3], Init::Ones);
        let [count, other] = ["count", "other"].map(|name| params.root().state(name, &device.zeros(&[2])));
        let mut sgd = Sgd::new(&params, SgdConfig::default());
        let value = |state: &State| state.get().to_vec::<f32>().unwrap();
        count.assign(&(count.get() + 1.0));
        sgd.step(&w.tensor().sum_all()).unwrap();
        count.assign(&(count.get() + 10.0));
        other.assign(&(other.get() + 5.0));
        let held = count.get();
        sgd.step(&(w.tensor() * f64::NAN).sum_all()).unwrap();
        assert_eq!((value(&count), value(&other)), (vec![1.0; 2], vec![0.0; 2]));
        assert_eq!(held.to_vec::<f32>().unwrap(), [11.0; 2], "what was assigned before is a value");
        assert!(sgd.state().is_err());
        // One that was not assigned, and one in a step that is done.
        other.assign(&(other.get() + 7.0));
        sgd.step(&w.tensor().sum_all()).unwrap();
        assert_eq!((value(&count), value(&other)), (vec![1.0; 2], vec![7.0; 2]));
        // Read without a step, then dropped with one.
        count.assign(&(count.get() + 100.0));
        assert_eq!(value(&count), [101.0; 2]);
        sgd.step(&(w.tensor() * f64::INFINITY).sum_all()).unwrap();
        assert_eq!(value(&count), [1.0; 2]);
        assert!(sgd.state().is_err());
    }
}

#[test]
fn a_cached_step_with_states_makes_nothing_and_chooses_their_values_in_kernels_that_it_has_anyway() {
    let _alone = alone();
    let device = Device::best().unwrap();
    let model = Normed::new(&device);
    let mut sgd = Sgd::new(&model.params, SgdConfig::default());
    let mut steps = |from: u64, to: u64| {
        for i in from..to {
            sgd.step(&model.loss(i, false)).unwrap();
        }
        device.synchronize().unwrap();
        let counts = device.statistics();
        ((device.objects_made(), counts.plans_made), counts.dispatches)
    };
    // The first step has no old values to choose from.
    let (_, first) = steps(0, 1);
    let (made, dispatches) = steps(1, 6);
    assert_eq!(dispatches, first);
    assert_eq!(steps(6, 20), (made, first));
}

#[test]
fn a_failure_belongs_to_its_store() {
    let _alone = alone();
    for device in devices() {
        let [sick, well] = [Model::new(&device), Model::new(&device)];
        let config = || SgdConfig { lr: 0.5, ..Default::default() };
        let (mut first, mut second) = (Sgd::new(&sick.params, config()), Sgd::new(&well.params, config()));
        first.step(&sick.loss(0, true)).unwrap();
        let unrelated = device.ones(&[3]) * 2.0;
        for i in 0..6 {
            second.step(&well.loss(i, false)).unwrap();
            assert!(well.loss(i, false).item().unwrap().is_finite());
            assert_eq!((&unrelated * 2.0).to_vec::<f32>().unwrap(), [4.0; 3]);
        }
        assert_eq!((second.steps(), second.state().unwrap().steps), (6, 6));
        well.params.save(std::env::temp_dir().join(format!("kiln-refused-{}", std::process::id()))).unwrap();
        let error = first.step(&sick.loss(0, false)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NonFinite { step: 1, .. }), "{text}");
        assert!(text.contains("`p0` and 2 others") && text.contains("sgd made at tests/refused.rs"), "{text}");
        first.step(&sick.loss(0, false)).unwrap();
        device.synchronize().unwrap();
    }
}

#[test]
fn a_failure_reaches_whoever_asks_next() {
    let _alone = alone();
    for device in devices() {
        let path = std::env::temp_dir().join(format!("kiln-refused-save-{}", std::process::id()));
        let other = Model::new(&device);
        type Ask = fn(&Model, &mut Sgd, &std::path::Path) -> Result<()>;
        let asks: [Ask; 7] = [
            |model, sgd, _| sgd.step(&model.loss(0, false)),
            |model, sgd, _| sgd.accumulate(&model.loss(0, false)),
            |_, sgd, _| sgd.state().map(drop),
            |model, _, path| model.params.save(path),
            |model, sgd, path| Checkpoint::save(path, &model.params, Some(sgd), None),
            |model, _, _| model.all[2].values().map(drop),
            |model, _, _| (model.all[0].tensor() * 2.0).sum_all().item().map(drop),
        ];
        for (number, ask) in asks.into_iter().enumerate() {
            let model = Model::new(&device);
            let mut sgd = Sgd::new(&model.params, SgdConfig::default());
            sgd.step(&model.loss(0, true)).unwrap();
            other.all[0].values().unwrap();
            // The step is over, and nobody has been told.
            std::thread::sleep(std::time::Duration::from_millis(1));
            other.loss(3, false).item().unwrap();
            assert!(matches!(ask(&model, &mut sgd, &path), Err(Error::NonFinite { .. })), "{number}");
            ask(&model, &mut sgd, &path).unwrap();
        }
        // A dropped optimizer takes nothing with it; a dropped model does.
        let model = Model::new(&device);
        Sgd::new(&model.params, SgdConfig::default()).step(&model.loss(0, true)).unwrap();
        assert!(matches!(device.synchronize(), Err(Error::NonFinite { .. })));
        Sgd::new(&model.params, SgdConfig::default()).step(&model.loss(0, true)).unwrap();
        drop(model);
        device.synchronize().unwrap();
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn a_loss_that_reaches_no_parameter_is_an_error_that_says_why() {
    let _beside = beside();
    for device in devices() {
        let model = Model::new(&device);
        let foreign = Model::new(&device);
        let frozen = Model::new(&device);
        frozen.all.iter().for_each(Param::freeze);
        let partly = Model::new(&device);
        partly.all[0].freeze();
        let [w, x] = [&model.all[0], &partly.all[0]];
        let cases: [(&Model, Tensor, &str); 7] = [
            (&model, no_grad(|| w.tensor().sum_all()), "no_grad"),
            (&model, w.tensor().sum_all().detach(), "detach"),
            (&model, w.tensor().argmax(0).cast(DType::F32).sum_all(), "without a gradient"),
            (&model, device.ones(&[3]).sum_all(), "constant"),
            (&model, foreign.all[0].tensor().sum_all(), "another store"),
            (&frozen, frozen.all[0].tensor().sum_all(), "none of which may change"),
            (&partly, x.tensor().sum_all(), "frozen"),
        ];
        for (model, loss, why) in cases {
            let before: Vec<_> = model.all.iter().map(|param| param.values().unwrap()).collect();
            let mut adamw = AdamW::new(&model.params, AdamWConfig::default());
            for result in [adamw.step(&loss), adamw.accumulate(&loss), adamw.step(&loss)] {
                let error = result.unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, Error::Value { op: "step", .. }), "{text}");
                assert!(text.contains(why) && text.contains("tests/refused.rs"), "{why}: {text}");
            }
            assert_eq!(adamw.steps(), 0);
            let after: Vec<_> = model.all.iter().map(|param| param.values().unwrap()).collect();
            assert_eq!(before, after);
        }
        let mut sgd = Sgd::new(&model.params, SgdConfig::default());
        assert!(sgd.step_with(vec![]).unwrap_err().to_string().contains("no gradient is given"));
        // What was gathered may be all there is.
        sgd.accumulate(&model.loss(0, false)).unwrap();
        assert!(sgd.step(&device.ones(&[]).sum_all()).is_err());
        sgd.step_with(vec![]).unwrap();
        assert_eq!(sgd.steps(), 1);
    }
}

#[test]
fn state_that_an_optimizer_does_not_keep_is_refused_by_name() {
    let _beside = beside();
    for device in devices() {
        let model = Model::new(&device);
        let with = |momentum: f64| Sgd::new(&model.params, SgdConfig { momentum, ..Default::default() });
        let mut sgd = with(0.9);
        sgd.step(&model.loss(1, false)).unwrap();
        let state = sgd.state().unwrap();
        let mut plain = with(0.0);
        let error = plain.set_state(&state).unwrap_err().to_string();
        assert!(error.contains("`momentum.p0`"), "{error}");
        assert_eq!(plain.state().unwrap().updates, []);
        // One for a parameter that has had no update, or of no parameter.
        for name in ["momentum.p2", "momentum.p9", "m.p0"] {
            let mut more = state.clone();
            more.tensors.push((name.into(), Shape::new(&[5]).unwrap(), vec![0.0; 5]));
            let error = with(0.9).set_state(&more).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
        with(0.9).set_state(&state).unwrap();
    }
}

/// What check mode says of a step on this loss of a parameter `[4]`.
fn found(device: &Device, loss: impl Fn(&Tensor) -> Tensor) -> String {
    let params = ParamStore::new(device, 0);
    let w = params.root().param("w", &[4], Init::Ones);
    let mut sgd = Sgd::new(&params, SgdConfig::default());
    sgd.step(&loss(&w.tensor())).unwrap();
    match sgd.state() {
        Err(Error::NonFinite { found: Some(found), .. }) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn check_mode_blames_the_op_that_went_wrong_and_no_mask() {
    let _beside = beside();
    let gpu = Device::best().unwrap();
    for device in [Device::cpu(), gpu] {
        device.set_check(true);
        let infinite = f32::NEG_INFINITY;
        let sees = device.tensor(&[true, true, false, true], &[4]);
        let mask = device.tensor(&[0.0, 0.0, infinite, 0.0], &[4]);
        let masked: [&dyn Fn(&Tensor) -> Tensor; 3] = [
            &|w| sees.where_(w, &device.full(&[4], f64::from(infinite), DType::F32)),
            &|w| sees.where_(w, &device.tensor(&[infinite], &[1])),
            &|w| w + &mask,
        ];
        for mask in masked {
            let text = found(&device, |w| (mask(w).softmax(0) * 0.0).log().sum_all());
            assert!(text.starts_with("first in log at tests/refused.rs"), "{text}");
        }
        let attention = |w: &Tensor| {
            let q = w.reshape(&[1, 1, 2, 2]);
            let options = kiln::ops::attention::AttentionOptions { causal: true, ..Default::default() };
            (q.scaled_dot_product_attention(&q, &q, &options) * 0.0).log().sum_all()
        };
        let text = found(&device, attention);
        assert!(text.starts_with("first in log at tests/refused.rs"), "{text}");
        // A row that sees nothing, an upload that is not a number, and a backward pass.
        let blind = device.full(&[4], f64::from(infinite), DType::F32);
        let text = found(&device, |w| ((w + &blind).softmax(0) * w).sum_all());
        assert!(text.starts_with("first in softmax at tests/refused.rs"), "{text}");
        let broken = device.tensor(&[1.0, f32::NAN, 0.0, 0.0], &[4]);
        let text = found(&device, |w| ((w + &mask).softmax(0) + w * &broken).sum_all());
        assert!(text.starts_with("first in upload at tests/refused.rs"), "{text}");
        let text = found(&device, |w| (w + &mask).softmax(0).sum_all() + (w * 0.0).sqrt().sum_all());
        assert!(text.contains("in the backward pass"), "{text}");
        device.set_check(false);
    }
}
