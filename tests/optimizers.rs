//! Optimizers against PyTorch, the reference against the GPU, and what a step promises.

mod common;
#[path = "common/pytorch.rs"]
mod pytorch;

use kiln::Array;
use kiln::optim::GroupSettings;
use kiln::prelude::*;

/// y = tanh(x w1) w2 by products and sums, so that nothing but pointwise ops and reductions is needed.
struct Net {
    first: Param,
    second: Param,
    bias: Param,
}

impl Net {
    fn new(path: &Path) -> Net {
        Net {
            first: path.child("first").param("weight", &[8, 3], Init::FAN_IN_UNIFORM),
            second: path.child("second").param("weight", &[8], Init::Normal { mean: 0.0, deviation: 0.5 }),
            bias: path.param("bias", &[1], Init::Zeros),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = (x.reshape(&[16, 1, 3]) * self.first.tensor()).sum(&[2]).tanh();
        (hidden * self.second.tensor()).sum_keep(&[1]) + self.bias.tensor()
    }
}

fn train(device: &Device, steps: usize) -> Vec<f64> {
    let store = ParamStore::new(device, 3);
    let net = Net::new(&store.root());
    let mut adamw = AdamW::new(&store, AdamWConfig { lr: 0.02, ..Default::default() }).clip_norm(1.0);
    let x = common::normals(&[16, 3], 1);
    let y: Vec<f32> = x.data.chunks(3).map(|row| (row[0] * row[1] - row[2]) as f32).collect();
    let mut losses = vec![];
    for _ in 0..steps {
        let error = net.forward(&device.array(&x)) - device.tensor(&y, &[16, 1]);
        let loss = (&error * &error).mean_all();
        adamw.step(&loss).unwrap();
        losses.push(loss.item().unwrap());
    }
    losses
}

#[test]
fn training_lowers_the_loss_equally_on_gpu_and_reference() {
    let (gpu, cpu) = (train(&common::gpu(), 60), train(&Device::cpu(), 60));
    assert!(gpu[59] < 0.3 * gpu[0], "{gpu:?}");
    for (step, (a, b)) in gpu.iter().zip(&cpu).enumerate() {
        assert!((a / b - 1.0).abs() < 1e-4, "step {step}: {a} and {b}");
    }
}

/// A parameter and a loss whose gradient is what a tensor holds.
struct Prescribed {
    store: ParamStore,
    parameter: Param,
}

impl Prescribed {
    fn new(device: &Device, start: &[f64]) -> Prescribed {
        let store = ParamStore::new(device, 0);
        let parameter = store.root().param("p", &[start.len()], Init::Zeros);
        parameter.set(start).unwrap();
        Prescribed { store, parameter }
    }

    fn loss(&self, gradient: &[f64]) -> Tensor {
        linear(&self.parameter, gradient)
    }
}

/// sum(parameter * gradient)
fn linear(parameter: &Param, gradient: &[f64]) -> Tensor {
    let shape = parameter.shape().unwrap();
    let gradient = Array { shape, dtype: DType::F32, data: gradient.to_vec() };
    let tensor = parameter.tensor();
    let gradient = tensor.device().array(&gradient);
    (tensor * gradient).sum_all()
}

/// Norm of the difference over the norm.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(g, w)| g - w)) / norm(&mut want.iter().copied()).max(1e-300)
}

fn optimizer_of(case: &pytorch::Case, store: &ParamStore) -> Box<dyn Optimizer> {
    let number = |name: &str| case.attrs[name].as_f64().unwrap_or(1e-3);
    let (lr, weight_decay) = (number("lr"), number("weight_decay"));
    match case.op.as_str() {
        "sgd" => Box::new(Sgd::new(
            store,
            SgdConfig {
                lr,
                weight_decay,
                momentum: number("momentum"),
                dampening: number("dampening"),
                nesterov: case.attrs["nesterov"].as_bool().unwrap(),
            },
        )),
        _ => {
            let (betas, eps) = ((number("beta1"), number("beta2")), number("eps"));
            Box::new(AdamW::new(store, AdamWConfig { lr, weight_decay, betas, eps, ..Default::default() }))
        }
    }
}

/// Runs every optimizer case of PyTorch on `device`, with the gradients of a loss or with given ones.
fn follow_pytorch(device: &Device, tolerance: f64, given: bool) {
    let file = pytorch::File::open();
    let mut count = 0;
    for case in file.cases.iter().filter(|case| ["sgd", "adamw"].contains(&case.op.as_str())) {
        let start = file.values(&case.inputs[0]);
        let gradients = file.values(&case.inputs[1]);
        let rates = case.inputs.get(2).map(|name| file.values(name));
        let want = file.values(&case.outputs[0]);
        let net = Prescribed::new(device, &start);
        let mut optimizer = optimizer_of(case, &net.store);
        let mut kept = vec![];
        for step in 0..100 {
            if let Some(rates) = &rates {
                optimizer.set_lr(rates[step]).unwrap();
            }
            let gradient = &gradients[step * 7..][..7];
            if given {
                let shape = net.parameter.shape().unwrap();
                let gradient = device.array(&Array { shape, dtype: DType::F32, data: gradient.to_vec() });
                optimizer.step_with(vec![(net.parameter.clone(), gradient)]).unwrap();
            } else {
                optimizer.step(&net.loss(gradient)).unwrap();
            }
            if [1, 2, 10, 100].contains(&(step + 1)) {
                kept.push(net.parameter.values().unwrap());
            }
        }
        for (got, want) in kept.iter().zip(want.chunks(7)) {
            let error = distance(got, want);
            assert!(error < tolerance, "{}: {error:e}", case.name);
        }
        count += 1;
    }
    assert!(count >= 11, "only {count} cases");
}

#[test]
fn the_reference_follows_pytorch_for_a_hundred_steps() {
    follow_pytorch(&Device::cpu(), 1e-12, false);
    follow_pytorch(&Device::cpu(), 1e-12, true);
}

#[test]
fn a_gpu_follows_pytorch_for_a_hundred_steps() {
    follow_pytorch(&common::gpu(), 1e-6, false);
    follow_pytorch(&common::gpu(), 1e-6, true);
}

fn clip_as_pytorch(device: &Device, tolerance: f64) {
    let file = pytorch::File::open();
    for case in file.cases.iter().filter(|case| case.op == "clip_grad_norm") {
        let gradients: Vec<Vec<f64>> = case.inputs.iter().map(|name| file.values(name)).collect();
        let want: Vec<Vec<f64>> = case.outputs.iter().map(|name| file.values(name)).collect();
        let store = ParamStore::new(device, 0);
        // Two groups and three arenas: the norm is one for all.
        store.limit_arenas(64);
        let paths = [store.root(), store.root().group("second"), store.root()];
        let parameters: Vec<Param> =
            (0..3).map(|i| paths[i].param(format!("p{i}"), &[gradients[i].len()], Init::Zeros)).collect();
        let clip_norm = case.attrs["max_norm"].as_f64();
        let mut sgd = Sgd::new(&store, SgdConfig { lr: 1.0, ..Default::default() }).clip_norm(clip_norm);
        let loss = parameters.iter().zip(&gradients).map(|(p, g)| linear(p, g)).reduce(|a, b| a + b).unwrap();
        sgd.step(&loss).unwrap();
        assert!(distance(&[sgd.gradient_norm().unwrap()], &want[3]) < tolerance, "{}", case.name);
        for (parameter, want) in parameters.iter().zip(&want) {
            let step: Vec<f64> = parameter.values().unwrap().iter().map(|x| -x).collect();
            assert!(distance(&step, want) < tolerance, "{}: {step:?} {want:?}", case.name);
        }
    }
}

#[test]
fn clipping_is_pytorch_s_on_both_devices() {
    clip_as_pytorch(&Device::cpu(), 1e-12);
    clip_as_pytorch(&common::gpu(), 1e-6);
}

#[test]
fn sgd_with_dampening_takes_its_first_gradient_whole() {
    for device in [Device::cpu(), common::gpu()] {
        let net = Prescribed::new(&device, &[1.0]);
        let config = SgdConfig { lr: 0.5, momentum: 0.5, dampening: 0.25, ..Default::default() };
        let mut sgd = Sgd::new(&net.store, config);
        // u = 2, then 0.5 * 2 + 0.75 * 4 = 4.
        sgd.step(&net.loss(&[2.0])).unwrap();
        assert_eq!(net.parameter.values().unwrap(), [0.0]);
        sgd.step(&net.loss(&[4.0])).unwrap();
        assert_eq!(net.parameter.values().unwrap(), [-2.0]);
    }
}

#[test]
fn micro_batches_add_up_to_one_batch() {
    for device in [Device::cpu(), common::gpu()] {
        let run = |parts: &[&[f64]]| {
            let net = Prescribed::new(&device, &[1.0, -2.0, 3.0]);
            let other = net.store.root().param("other", &[1], Init::Ones);
            let mut adamw = AdamW::new(&net.store, AdamWConfig::default()).clip_norm(2.0);
            for _ in 0..3 {
                let (last, first) = parts.split_last().unwrap();
                // A parameter that only the first part reaches is updated too.
                let extra = other.tensor().sum_all();
                for (i, part) in first.iter().enumerate() {
                    let loss = net.loss(part);
                    adamw.accumulate(&if i == 0 { loss + &extra } else { loss }).unwrap();
                }
                let loss = net.loss(last);
                adamw.step(&if first.is_empty() { loss + extra } else { loss }).unwrap();
            }
            assert_eq!(adamw.steps(), 3);
            [net.parameter.values().unwrap(), other.values().unwrap()].concat()
        };
        let whole = run(&[&[1.0, 0.5, -4.0]]);
        let parts = run(&[&[0.25, 1.5, -3.0], &[0.5, -1.0, 1.0], &[0.25, 0.0, -2.0]]);
        assert_eq!(whole, parts);
        assert!(whole[3] < 1.0);
    }
}

#[test]
fn unreached_and_frozen_parameters_are_left_alone() {
    for device in [Device::cpu(), common::gpu()] {
        let store = ParamStore::new(&device, 0);
        let [a, b, c] = ["a", "b", "c"].map(|name| store.root().param(name, &[70], Init::Ones));
        let mut adamw = AdamW::new(&store, AdamWConfig { lr: 0.1, weight_decay: 0.5, ..Default::default() });
        c.freeze();
        for _ in 0..5 {
            adamw.step(&(a.tensor() * c.tensor()).sum_all()).unwrap();
        }
        assert!(a.values().unwrap().iter().all(|&x| x < 0.9));
        assert_eq!(b.values().unwrap(), [1.0; 70]);
        assert_eq!(c.values().unwrap(), [1.0; 70]);
        // Each counts its own updates: the first one of `b` has the size of the rate, whenever it comes.
        c.unfreeze();
        adamw.step(&(b.tensor() * 3.0 + c.tensor()).sum_all()).unwrap();
        for parameter in [&b, &c] {
            let x = parameter.values().unwrap()[69];
            assert!((x - (1.0 - 0.1 * 1.5)).abs() < 1e-6, "{x}");
        }
    }
}

#[test]
fn groups_have_their_own_rate_and_decay() {
    for device in [Device::cpu(), common::gpu()] {
        let store = ParamStore::new(&device, 0);
        let plain = store.root().param("plain", &[3], Init::Ones);
        let special = store.root().group("special").param("special", &[3], Init::Ones);
        let settings = GroupSettings { lr_scale: 0.5, weight_decay: Some(0.0) };
        let config = SgdConfig { lr: 0.5, weight_decay: 0.5, ..Default::default() };
        let mut sgd = Sgd::new(&store, config).group_settings("special", settings);
        sgd.step(&(plain.tensor() + special.tensor()).sum_all()).unwrap();
        assert_eq!(plain.values().unwrap(), [0.25; 3]);
        assert_eq!(special.values().unwrap(), [0.75; 3]);
        assert_eq!(store.arenas(), 2);
    }
}

#[test]
fn a_split_arena_shows_nowhere() {
    for device in [Device::cpu(), common::gpu()] {
        let run = |limit: usize| {
            let store = ParamStore::new(&device, 3);
            store.limit_arenas(limit);
            let net = Net::new(&store.root());
            let mut adamw = AdamW::new(&store, AdamWConfig::default()).clip_norm(0.5);
            let x = device.array(&common::normals(&[16, 3], 1));
            for _ in 0..5 {
                adamw.step(&net.forward(&x).square().mean_all()).unwrap();
            }
            (store.arenas(), net.first.values().unwrap(), net.bias.values().unwrap())
        };
        let (whole, split) = (run(1 << 20), run(64));
        assert_eq!((whole.0, split.0), (1, 3));
        assert!(distance(&split.1, &whole.1) < 1e-6 && distance(&split.2, &whole.2) < 1e-6);
    }
}

#[test]
fn a_parameter_larger_than_an_arena_may_be_is_an_error() {
    let store = ParamStore::new(&Device::cpu(), 0);
    store.limit_arenas(64);
    let large = store.root().param("large", &[65], Init::Zeros);
    assert!(matches!(large.tensor().to_vec::<f32>(), Err(Error::Limit { .. })));
    let mut sgd = Sgd::new(&store, SgdConfig::default());
    assert!(matches!(sgd.step(&large.tensor().sum_all()), Err(Error::Limit { .. })));
}

#[test]
fn two_parameters_of_one_name_are_an_error() {
    let store = ParamStore::new(&Device::cpu(), 0);
    let layer = store.root() / "layer";
    layer.param("weight", &[2], Init::Zeros);
    let second = layer.param("weight", &[3], Init::Zeros);
    let text = (second.tensor() + 1.0).to_vec::<f32>().unwrap_err().to_string();
    assert!(text.contains("layer.weight") && text.contains("optimizers.rs"), "{text}");
    assert_eq!(store.names(), ["layer.weight"]);
}

#[test]
fn a_schedule_makes_no_new_plan() {
    let device = Device::best().unwrap();
    let net = Prescribed::new(&device, &[1.0, 2.0]);
    let config = AdamWConfig { weight_decay: 0.1, ..Default::default() };
    let mut adamw = AdamW::new(&net.store, config).clip_norm(1.0);
    adamw.step(&net.loss(&[1.0, 2.0])).unwrap();
    let before = device.statistics().plans_made;
    for step in 1..10 {
        adamw.set_lr(1e-3 / f64::from(step)).unwrap();
        adamw.step(&net.loss(&[f64::from(step), 0.5])).unwrap();
    }
    assert_eq!(device.statistics().plans_made, before);
}

#[test]
fn an_update_is_one_dispatch_whatever_the_number_of_parameters() {
    // A device of its own: the last plan of a shared one may be another test's.
    let device = Device::best().unwrap();
    let store = ParamStore::new(&device, 0);
    let all: Vec<Param> = (0..20).map(|i| store.root().param(i, &[5], Init::Ones)).collect();
    let mut adamw = AdamW::new(&store, AdamWConfig::default());
    let loss = all.iter().map(|p| p.tensor().sum_all()).reduce(|a, b| a + b).unwrap();
    adamw.step(&loss).unwrap();
    let plan = device.statistics().last_plan;
    assert_eq!(
        plan.lines().filter(|line| line.contains(" adamw.eights ") || line.contains(" adamw ")).count(),
        1,
        "{plan}"
    );
    // The norm of a small arena takes one dispatch, else two.
    assert_eq!((plan.matches(" clip ").count(), plan.matches(" clip_").count()), (1, 0), "{plan}");
}

#[test]
fn a_gradient_that_is_not_finite_skips_the_update_and_is_reported_once() {
    for device in [Device::cpu(), Device::best().unwrap()] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let net = Prescribed::new(&device, &[1.0, 2.0]);
            let mut adamw = AdamW::new(&net.store, AdamWConfig::default());
            adamw.step(&net.loss(&[1.0, 1.0])).unwrap();
            let before = net.parameter.values().unwrap();
            adamw.step(&net.loss(&[1.0, bad])).unwrap();
            let error = device.synchronize().unwrap_err();
            assert!(matches!(error, Error::NonFinite { step: 2, .. }), "{error}");
            assert_eq!(net.parameter.values().unwrap(), before);
            adamw.step(&net.loss(&[1.0, 1.0])).unwrap();
            device.synchronize().unwrap();
            assert_ne!(net.parameter.values().unwrap(), before);
        }
    }
}

#[test]
fn a_tensor_read_after_the_update_has_its_old_value() {
    for device in [Device::cpu(), common::gpu()] {
        let net = Prescribed::new(&device, &[1.0, 2.0]);
        let mut sgd = Sgd::new(&net.store, SgdConfig { lr: 1.0, ..Default::default() });
        let (leaf, doubled) = (net.parameter.tensor(), net.parameter.tensor() * 2.0);
        sgd.step(&net.loss(&[1.0, 1.0])).unwrap();
        assert_eq!(net.parameter.values().unwrap(), [0.0, 1.0]);
        assert_eq!(leaf.to_vec::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(doubled.to_vec::<f32>().unwrap(), [2.0, 4.0]);
        let third = net.parameter.tensor() * 3.0;
        net.parameter.set(&[7.0, 8.0]).unwrap();
        assert_eq!(third.to_vec::<f32>().unwrap(), [0.0, 3.0]);
        assert_eq!(net.parameter.values().unwrap(), [7.0, 8.0]);
    }
}

#[test]
fn a_parameter_used_twice_is_tied() {
    for device in [Device::cpu(), common::gpu()] {
        let net = Prescribed::new(&device, &[3.0]);
        let tied = net.parameter.clone();
        let mut sgd = Sgd::new(&net.store, SgdConfig { lr: 0.1, ..Default::default() });
        sgd.step(&(net.parameter.tensor() * tied.tensor()).sum_all()).unwrap();
        assert!((tied.values().unwrap()[0] - 2.4).abs() < 1e-6);
    }
}

#[test]
fn a_value_that_reaches_the_loss_only_without_gradient_is_not_reached() {
    for device in [Device::cpu(), common::gpu()] {
        let store = ParamStore::new(&device, 0);
        let [a, b] = ["a", "b"].map(|name| store.root().param(name, &[2], Init::Ones));
        let mut adamw = AdamW::new(&store, AdamWConfig::default());
        for _ in 0..2 {
            // Held over the step, but no part of the loss.
            let _held = b.tensor() * 2.0;
            adamw.step(&(a.tensor() * b.tensor().detach()).sum_all()).unwrap();
        }
        assert_eq!(b.values().unwrap(), [1.0, 1.0]);
        let state = adamw.state().unwrap();
        assert_eq!(state.updates, [("a".to_string(), 2)]);
    }
}

#[test]
fn initial_values_do_not_depend_on_the_order_of_creation() {
    let values = |names: &[&str]| {
        let store = ParamStore::new(&Device::cpu(), 9);
        names.iter().for_each(|name| drop(store.root().param(name, &[4, 4], Init::HE)));
        store.get("b").unwrap().values().unwrap()
    };
    assert_eq!(values(&["a", "b"]), values(&["b", "c", "a"]));
}

#[test]
fn settings_that_cannot_be_used_are_reported_by_the_first_step() {
    let device = Device::cpu();
    let net = Prescribed::new(&device, &[1.0]);
    let bad = [AdamWConfig { lr: -1.0, ..Default::default() }, AdamWConfig { betas: (1.0, 0.9), ..Default::default() }];
    let of = |config: AdamWConfig| AdamW::new(&net.store, config);
    let plain = || of(AdamWConfig::default());
    let options = [
        plain().clip_norm(0.0),
        plain().clip_value(-1.0),
        plain().l1(f64::NAN),
        plain().group_settings("nowhere", GroupSettings::default()),
    ];
    for mut adamw in bad.map(of).into_iter().chain(options) {
        assert!(matches!(adamw.step(&net.loss(&[1.0])), Err(Error::Value { op: "adamw", .. })));
    }
    let mut sgd = Sgd::new(&net.store, SgdConfig { nesterov: true, ..Default::default() });
    assert!(sgd.step(&net.loss(&[1.0])).is_err());
    assert_eq!(net.parameter.values().unwrap(), [1.0]);
}

#[test]
fn the_gradient_norm_has_all_gradients_whatever_a_device_can_do() {
    let norm = |device: &Device, length: usize| {
        let params = ParamStore::new(device, 0);
        let w = params.root().param("w", &[length], Init::Zeros);
        let mut sgd = Sgd::new(&params, SgdConfig::default());
        sgd.step(&(w.tensor() * device.array(&common::normals(&[length], 5))).sum_all()).unwrap();
        sgd.gradient_norm().unwrap()
    };
    for (software, pairs) in [(false, true), (false, false), (true, true), (true, false)] {
        let device = Device::named_as_if("vulkan", |capabilities| {
            (capabilities.software, capabilities.pairs) = (software, capabilities.pairs && pairs);
        })
        .unwrap();
        for length in [37, 4_099, 40_004] {
            let (got, want) = (norm(&device, length), norm(&Device::cpu(), length));
            assert!((got / want - 1.0).abs() < 1e-5, "{software} {pairs} {length}: {got} {want}");
        }
    }
}
