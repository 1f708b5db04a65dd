//! Mixed precision: which ops are f16, what is stored, and loss scaling on the device.

mod common;

use common::net::{Net, batch};
use kiln::kernel::Capabilities;
use kiln::ops::{Backward, Case, Casting, Lowering, Meta, Op, Problem};
use kiln::optim::{LossScale, Rule, Stepper};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;
use kiln::{Array, Shape, with_precision};

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

fn mixed(device: &Device) -> Net {
    let net = Net::new(device);
    net.params.set_precision(Precision::Mixed);
    net
}

/// One parameter whose gradient a test prescribes: the loss is sum(parameter * gradient).
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
        let shape = Shape::new(&[gradient.len()]).unwrap();
        let gradient = Array { shape, dtype: DType::F32, data: gradient.to_vec() };
        (self.parameter.tensor() * self.store.device().array(&gradient)).sum_all()
    }
}

/// What PyTorch 2.x gives for `AdamW(lr=0.1)` under `torch.amp.GradScaler("cpu", init_scale=1024, growth_interval=3)` in
/// f64, with an infinite gradient at steps 2, 3 and 9: scale and parameter after each step.
const PYTORCH: [(f64, [f64; 3]); 12] = [
    (1024.0, [0.3995000133333315, -1.1487500057142854, 1.8980000399999841]),
    (1024.0, [0.30258231887572895, -1.0510830566140692, 1.799583861791526]),
    (512.0, [0.30258231887572895, -1.0510830566140692, 1.799583861791526]),
    (256.0, [0.30258231887572895, -1.0510830566140692, 1.799583861791526]),
    (256.0, [0.21351477062791868, -0.9612670054907134, 1.709019319483124]),
    (256.0, [0.12136477576888705, -0.868369256673208, 1.6153738261078756]),
    (512.0, [0.02677126785180961, -0.7730287427752001, 1.5192863143905506]),
    (512.0, [-0.06973551904476157, -0.6757756970587512, 1.421287017154781]),
    (512.0, [-0.16783752316618483, -0.5769281804948336, 1.3216939947895254]),
    (256.0, [-0.16783752316618483, -0.5769281804948336, 1.3216939947895254]),
    (256.0, [-0.2670960088478788, -0.4769249280127517, 1.2209459814284198]),
    (256.0, [-0.3676146604304609, -0.3756622544889201, 1.118939291370922]),
];

#[test]
fn scale_and_updates_follow_those_of_pytorch() {
    for device in devices() {
        let bound = if device.is_cpu() { 1e-12 } else { 1e-6 };
        let model = Prescribed::new(&device, &[0.5, -1.25, 2.0]);
        let scale = LossScale { initial: 1024.0, interval: 3, ..Default::default() };
        let mut adamw =
            AdamW::new(&model.store, AdamWConfig { lr: 0.1, ..Default::default() }).loss_scaling(Some(scale));
        for (step, (scale, want)) in PYTORCH.into_iter().enumerate() {
            let mut gradient = [0.3, -0.7, 0.1].map(|g| g * (step + 1) as f64 / 4.0);
            if [2, 3, 9].contains(&step) {
                gradient[1] = f64::INFINITY;
            }
            adamw.step(&model.loss(&gradient)).unwrap();
            assert_eq!(adamw.loss_scale().unwrap(), Some(scale), "step {step} on {}", device.name());
            for (got, want) in model.parameter.values().unwrap().into_iter().zip(want) {
                assert!((got - want).abs() <= bound * want.abs().max(1.0), "step {step}: {got} {want}");
            }
        }
        assert_eq!(adamw.state().unwrap().updates, [("p".to_string(), 9)], "skipped steps are no updates");
    }
}

/// Steps of one rule with and without scaling, over many updates: the device's bias corrections are those of the host.
fn same_as_unscaled<R: Rule + Clone>(config: R, clip: Option<f64>) {
    for device in devices() {
        let run = |scale: Option<LossScale>| {
            let model = Prescribed::new(&device, &[0.5, -1.25, 2.0]);
            let mut optimizer = Stepper::new(&model.store, config.clone()).clip_norm(clip).loss_scaling(scale);
            for step in 0..60 {
                let gradient = [0.3, -0.7, 0.1].map(|g| g * (step as f64 * 0.7).sin());
                optimizer.step(&model.loss(&gradient)).unwrap();
            }
            (model.parameter.values().unwrap(), optimizer.gradient_norm().unwrap())
        };
        let ((scaled, norm), (plain, want)) = (run(Some(LossScale::default())), run(None));
        assert!((norm / want - 1.0).abs() < 1e-6, "the norm is of unscaled gradients: {norm} {want}");
        for (scaled, plain) in scaled.iter().zip(&plain) {
            assert!((scaled - plain).abs() <= 1e-6 * plain.abs().max(1.0), "{scaled} {plain} on {}", device.name());
        }
    }
}

#[test]
fn scaling_changes_no_update() {
    same_as_unscaled(AdamWConfig { lr: 0.01, ..Default::default() }, Some(0.5));
    same_as_unscaled(SgdConfig { lr: 0.01, momentum: 0.9, dampening: 0.3, ..Default::default() }, None);
    same_as_unscaled(SgdConfig { lr: 0.01, weight_decay: 0.1, ..Default::default() }, None);
}

#[test]
fn overflow_skips_halves_and_recovers() {
    for device in devices() {
        let net = mixed(&device);
        let scale = LossScale { initial: 2f64.powi(30), ..Default::default() };
        let mut adamw = common::net::adamw(&net).loss_scaling(Some(scale));
        let bits = || net.weights.each_ref().map(|weight| weight.values().unwrap());
        let start = bits();
        let (x, labels) = batch(&device, 37, 0);
        let mut first_update = None;
        for step in 0..30 {
            adamw.step(&net.forward(&x).cross_entropy(&labels)).unwrap();
            if first_update.is_none() && bits() != start {
                first_update = Some(step);
            }
        }
        let skipped = first_update.expect("it recovers");
        assert!(skipped > 5, "gradients of about 1e-2 overflow f16 until the scale is near 2^20: {skipped}");
        assert_eq!(adamw.loss_scale().unwrap(), Some(2f64.powi(30 - skipped)));
        assert_eq!(adamw.state().unwrap().updates[0].1, 30 - skipped as u64);
        device.synchronize().unwrap();
    }
}

#[test]
fn a_floor_that_the_device_s_numbers_cannot_hold_is_refused() {
    let model = Prescribed::new(&Device::cpu(), &[1.0]);
    for floor in [1e-300, 1e-40, 0.0, f64::NAN] {
        let scale = LossScale { floor, ..Default::default() };
        let mut sgd = Sgd::new(&model.store, SgdConfig::default()).loss_scaling(Some(scale));
        let error = sgd.step(&model.loss(&[1.0])).unwrap_err();
        assert!(matches!(error, Error::Value { .. }), "{error}");
    }
}

#[test]
fn a_scale_at_its_floor_is_an_error_that_names_the_op_in_check_mode() {
    // A device of its own: its failures are not for other tests.
    let device = Device::best().unwrap();
    let net = mixed(&device);
    let scale = LossScale { initial: 8.0, floor: 2.0, ..Default::default() };
    let mut adamw = common::net::adamw(&net).loss_scaling(Some(scale));
    device.set_check(true);
    let (x, labels) = batch(&device, 5, 0);
    let mut step = || {
        let wrong = (net.forward(&x) * 0.0).log();
        adamw.step(&wrong.cross_entropy(&labels))
    };
    // 8, 4, 2, and the floor is reached.
    (0..3).for_each(|_| step().unwrap());
    let error = step().unwrap_err();
    device.set_check(false);
    assert!(matches!(error, Error::LossScale { step: 3, floor: 2.0, found: Some(_), .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("first in log at tests/precision.rs:"), "{text}");
}

#[test]
fn without_scaling_check_mode_names_the_op_and_the_update_is_an_error() {
    // A device of its own: its failures are not for other tests.
    let device = Device::best().unwrap();
    let net = Net::new(&device);
    let mut adamw = common::net::adamw(&net);
    device.set_check(true);
    let (x, labels) = batch(&device, 5, 0);
    // The slope of a root is infinite at 0, whose value is fine.
    adamw.step(&(net.forward(&x) * 0.0).sqrt().mean_all()).unwrap();
    let error = adamw.step(&net.forward(&x).cross_entropy(&labels)).unwrap_err();
    device.set_check(false);
    assert!(matches!(error, Error::NonFinite { step: 1, found: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("in the backward pass"), "{error}");
}

#[test]
fn ops_have_the_dtypes_of_autocast() {
    let device = Device::cpu();
    let store = ParamStore::new(&device, 0);
    store.set_precision(Precision::Mixed);
    let weight = store.root().param("w", &[4, 4], Init::Ones).tensor();
    let kernel = store.root().param("k", &[2, 3, 3, 3], Init::Ones).tensor();
    let x = device.ones(&[4, 4]);
    let images = device.ones(&[1, 3, 8, 8]);
    let y = x.matmul(&weight);
    let dtype = |tensor: &Tensor| tensor.dtype().unwrap();
    let half = [
        y.clone(),
        y.matmul(&weight),
        (x.exp() + &weight).matmul(&weight),
        images.conv2d(&kernel, &Default::default()),
        y.relu(),
        y.gelu(),
        &y + &y,
        &y * 2.0,
        y.transpose(0, 1),
        y.max(&[0]),
        images.conv2d(&kernel, &Default::default()).max_pool2d([2, 2], [2, 2], [0, 0]),
        images.conv2d(&kernel, &Default::default()).avg_pool2d([2, 2], [2, 2], [0, 0], true),
    ];
    for (i, tensor) in half.iter().enumerate() {
        assert_eq!(dtype(tensor), DType::F16, "{i}: {tensor:?}");
    }
    let full = [
        y.softmax(1),
        y.log_softmax(1),
        y.sum(&[0]),
        y.mean_all(),
        y.exp(),
        y.log(),
        y.pow(2.0),
        y.mse_loss(&y),
        y.cross_entropy(&device.labels(&[0, 1, 2, 3])),
        &y + &x,
        &weight * 2.0,
        weight.clone(),
    ];
    for (i, tensor) in full.iter().enumerate() {
        assert_eq!(dtype(tensor), DType::F32, "{i}: {tensor:?}");
    }
    let scoped = with_precision(Precision::Full, || x.matmul(&weight));
    assert_eq!(dtype(&scoped), DType::F32);
    assert_eq!(dtype(&with_precision(Precision::Mixed, || x.matmul(&x))), DType::F16);
    assert_eq!(dtype(&x.matmul(&x)), DType::F32, "it does not depend on the store");
}

#[test]
fn a_gpu_follows_the_reference_in_mixed_precision() {
    let run = |device: &Device| {
        let net = mixed(device);
        let mut sgd = Sgd::new(&net.params, SgdConfig { lr: 0.1, momentum: 0.9, ..Default::default() });
        let mut losses = vec![];
        for step in 0..12 {
            let (x, labels) = batch(device, 37, step % 3);
            let loss = net.forward(&x).cross_entropy(&labels);
            sgd.step(&loss).unwrap();
            losses.push(loss);
        }
        let losses: Vec<f64> = losses.iter().map(|loss| loss.item().unwrap()).collect();
        (losses, net.weights[0].values().unwrap())
    };
    let (cpu, weights) = run(&Device::cpu());
    assert!(cpu[11] < cpu[0], "it learns: {cpu:?}");
    let (gpu, got) = run(&common::gpu());
    for (got, want) in gpu.iter().zip(&cpu).chain(got.iter().zip(&weights)) {
        // Roundings to 11 bits that fall the other way.
        assert!((got - want).abs() < 2e-3, "{got} {want}");
    }
}

/// A tower of convolutions, and the bytes that a step of it keeps at once.
fn tower(precision: Precision) -> (u64, String) {
    let device = Device::cpu();
    let store = ParamStore::new(&device, 0);
    store.set_precision(precision);
    let mut net = Sequential::new();
    for i in 0..8 {
        let path = store.root().child(format!("conv{i}"));
        net = net.add(Conv2d::new(&path, if i == 0 { 3 } else { 16 }, 16, 3).padding(1)).add(Tensor::relu);
    }
    net = net.add(Flatten).add(Linear::new(&store.root().child("fc"), 16 * 32 * 32, 10));
    let mut sgd = Sgd::new(&store, SgdConfig::default());
    let x = device.ones(&[32, 3, 32, 32]);
    let loss = net.forward(&x, Mode::Train).cross_entropy(&device.labels(&[0; 32]));
    let capabilities = Capabilities { f16: true, ..Capabilities::default() };
    let plan = sgd.plan_for(&loss, true, &capabilities, true).unwrap();
    (plan.peak_bytes(), plan.to_string())
}

#[test]
fn activations_take_half_the_memory_and_weights_no_cast_of_their_own() {
    let ((full, _), (half, plan)) = (tower(Precision::Full), tower(Precision::Mixed));
    // Half of the activations; partial sums of weight gradients are f32.
    assert!((half as f64) < 0.6 * full as f64, "{half} of {full} bytes\n{plan}");
    let kernels = |text: &str| plan.lines().filter(|line| line.contains(text)).count();
    assert!(kernels("cast") <= 3, "casts of the logits and of their gradient at most\n{plan}");
}

#[test]
fn a_resumed_mixed_run_ends_in_the_same_bits() {
    for (name, device) in [("cpu", Device::cpu()), ("gpu", common::gpu())] {
        let folder = std::env::temp_dir().join(format!("kiln-precision-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("run.safetensors");
        let scaled = |net: &Net| {
            // Skips at first, grows later: the scale and its counter matter.
            let scale = LossScale { initial: 2f64.powi(26), interval: 4, ..Default::default() };
            common::net::adamw(net).loss_scaling(Some(scale))
        };
        let train = |net: &Net, adamw: &mut AdamW, steps: std::ops::Range<u64>| {
            for step in steps {
                common::net::train(&device, net, adamw, 37, step);
            }
            (net.weights.each_ref().map(|weight| weight.values().unwrap()), adamw.loss_scale().unwrap())
        };
        let net = mixed(&device);
        let mut adamw = scaled(&net);
        train(&net, &mut adamw, 0..13);
        Checkpoint::save(&path, &net.params, Some(&adamw), None).unwrap();
        let whole = train(&net, &mut adamw, 13..30);
        let net = mixed(&device);
        let mut adamw = scaled(&net);
        Checkpoint::load(&path, &net.params, Some(&mut adamw)).unwrap();
        assert_eq!(train(&net, &mut adamw, 13..30), whole, "{name}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn accumulated_and_given_gradients_are_scaled_alike() {
    for device in devices() {
        let run = |scale: Option<LossScale>| {
            let model = Prescribed::new(&device, &[0.5, -1.25]);
            let mut sgd = Sgd::new(&model.store, SgdConfig { lr: 0.5, ..Default::default() }).loss_scaling(scale);
            sgd.accumulate(&model.loss(&[1.0, 2.0])).unwrap();
            sgd.step_with(vec![(model.parameter.clone(), device.tensor(&[3.0f32, -1.0], &[2]))]).unwrap();
            model.parameter.values().unwrap()
        };
        assert_eq!(run(Some(LossScale::default())), run(None));
        assert_eq!(run(None), [-1.5, -1.75]);
    }
}

#[test]
fn a_cached_mixed_step_plans_and_makes_nothing() {
    let device = Device::best().unwrap();
    let net = mixed(&device);
    let mut adamw = common::net::adamw(&net);
    (0..4).for_each(|step| drop(common::net::train(&device, &net, &mut adamw, 37, step)));
    device.synchronize().unwrap();
    let (made, plans) = (device.objects_made(), device.statistics().plans_made);
    (4..12).for_each(|step| drop(common::net::train(&device, &net, &mut adamw, 37, step)));
    assert_eq!(device.statistics().plans_made, plans);
    assert_eq!(device.objects_made(), made);
}

/// Twice its input, as f32; `name` is of an op of the library.
#[derive(Debug)]
struct Twice(&'static str);

impl Op for Twice {
    fn name(&self) -> &'static str {
        self.0
    }
    fn attributes(&self, _: &mut Vec<u64>) {}
    fn casting(&self) -> Casting {
        Casting::Own
    }
    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![Meta { shape: inputs[0].shape, dtype: DType::F32 }])
    }
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        // More than f16 holds until it is summed.
        vec![Some(backward.grad * 2.0)]
    }
    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![Array::build(output.shape, output.dtype, |i| 2.0 * inputs[0].data[i])]
    }
    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::Pointwise { expression: "a * F(2.0)", helpers: "", constants: vec![] }
    }
    fn cases() -> Vec<Case> {
        vec![]
    }
}

#[test]
fn an_op_of_a_user_may_have_any_name() {
    for device in [Device::cpu(), common::gpu()] {
        for name in ["cast", "permute", "place", "constant", "detach", "reshape", "after", "matmul", "parameter"] {
            let x = device.tensor(&[1.5f32, -2.25, 3.0, 0.5], &[2, 2]).cast(DType::F16).variable();
            let twice = |x: &Tensor| Tensor::apply(Twice(name), &[x]);
            let y = twice(&x).cast(DType::F16);
            assert_eq!(y.cast(DType::F32).to_vec::<f32>().unwrap(), [3.0, -4.5, 6.0, 1.0], "{name}");
            // As an operand of a product, and as the gradients of pieces, which may be joined.
            let product = twice(&x).matmul(&twice(&x).transpose(0, 1));
            assert_eq!(product.to_vec::<f32>().unwrap(), [29.25, 13.5, 13.5, 37.0], "{name}");
            let pieces = y.split(1, &[1, 1]);
            let loss = (twice(&pieces[0]) * 3.0 + twice(&pieces[1])).sum_all() + product.sum_all();
            let gradient = loss.gradients(&[&x]).unwrap().remove(0);
            let got = gradient.cast(DType::F32).to_vec::<f32>().unwrap();
            // d(sum of 4 x x^T) / dx is 8 times the sum of each column.
            let columns = [4.5, -1.75].map(|sum| 8.0 * sum);
            let expected = [12.0 + columns[0], 4.0 + columns[1], 12.0 + columns[0], 4.0 + columns[1]];
            assert_eq!(got, expected, "{name}");
        }
    }
}
