//! Variances and normalisations keep their digits: in half precision, and far from zero.

mod common;

use kiln::Array;
use kiln::kernel::Capabilities;
use kiln::prelude::*;

/// Kinds of device whose kernels differ, all of them run by the Vulkan driver at hand.
fn devices() -> Vec<(&'static str, Device)> {
    let as_if = |change: fn(&mut Capabilities)| Device::named_as_if("vulkan", change).expect("a Vulkan driver");
    vec![
        ("software, pairs", common::backend("vulkan")),
        ("software, values", as_if(|c| c.pairs = false)),
        ("software, no subgroups", as_if(|c| (c.pairs, c.subgroup) = (false, None))),
        ("gpu, subgroups", as_if(|c| (c.pairs, c.software) = (false, false))),
        ("gpu, workgroups", as_if(|c| (c.pairs, c.software, c.subgroup) = (false, false, None))),
        ("gl", common::backend("gl")),
    ]
}

/// Normals around `mean`, rounded to f32.
fn around(shape: &[usize], mean: f64, seed: u64) -> Array {
    let mut array = common::normals(shape, seed);
    array.data.iter_mut().for_each(|x| *x = f64::from((mean + *x) as f32));
    array
}

#[derive(Debug, Clone, Copy)]
enum Norm {
    Batch,
    /// Over the last axis.
    Layer,
    /// Over groups of channels.
    Group(usize),
}

/// Result, gradients of x, weight and bias, and for batches the mean and the variance, of one normalisation.
fn normalised(device: &Device, norm: Norm, [x, weight, bias, dy]: [&Array; 4]) -> Vec<Array> {
    let [x, weight, bias] = [x, weight, bias].map(|array| device.array(array).variable());
    let y = match norm {
        Norm::Batch => x.batch_norm(Some(&weight), Some(&bias), 1e-5),
        Norm::Layer => x.layer_norm(1, Some(&weight), Some(&bias), 1e-5),
        Norm::Group(groups) => x.group_norm(groups, Some(&weight), Some(&bias), 1e-5),
    };
    let mut all = vec![y.clone()];
    all.extend((y * device.array(dy)).sum_all().gradients(&[&x, &weight, &bias]).unwrap());
    if matches!(norm, Norm::Batch) {
        all.extend(x.batch_statistics());
    }
    device.eval(&all.iter().collect::<Vec<_>>()).unwrap();
    all.iter().map(|tensor| tensor.to_array().unwrap()).collect()
}

/// The largest error, as a part of the largest value.
fn error(got: &Array, want: &Array) -> f64 {
    let largest = want.data.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
    got.data.iter().zip(&want.data).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max) / largest
}

/// What is normalised, around which mean, and the errors of PyTorch 2.15's f32 kernels on a CPU for these very numbers beside its
/// f64 ones: of y, the gradients of x, weight and bias, and the mean and the variance.
type Far = (Norm, &'static [usize], f64, &'static [f64]);

const FAR: &[Far] = &[
    (Norm::Batch, &[16, 3, 9, 9], 1e4, &[1.8e-4, 2.0e-5, 2.8e-4, 1.2e-7, 4.2e-8, 1.3e-7]),
    (Norm::Batch, &[16, 3, 9, 9], 1e5, &[9.3e-4, 1.7e-4, 2.4e-3, 1.2e-7, 3.6e-8, 1.2e-5]),
    (Norm::Batch, &[32, 3, 40, 40], 100.0, &[4.7e-7, 1.1e-7, 3.9e-6, 2.2e-7, 2.7e-8, 8.5e-8]),
    (Norm::Batch, &[131, 12], 1e5, &[2.9e-3, 8.2e-4, 1.1e-2, 1.4e-7, 1.5e-7, 1.8e-4]),
    (Norm::Layer, &[37, 131], 1e4, &[3.8e-4, 2.0e-4, 6.1e-4, 2.3e-7]),
    (Norm::Layer, &[67, 520], 1e5, &[3.2e-3, 1.3e-3, 5.0e-3, 1.5e-7]),
    (Norm::Layer, &[37, 12], 1e5, &[8.1e-3, 4.2e-3, 6.8e-3, 8.1e-8]),
    (Norm::Group(3), &[5, 6, 9, 7], 1e4, &[3.3e-4, 1.7e-4, 1.3e-3, 7.2e-8]),
];

/// As near as sums of rounded products are in f32: what is asked for where PyTorch's error is smaller than that.
const ROUNDING: f64 = 1e-6;

#[test]
fn far_from_zero_normalisations_are_nearer_to_f64_than_those_of_pytorch() {
    let devices = devices();
    for &(norm, shape, mean, pytorch) in FAR {
        let channels = if matches!(norm, Norm::Layer) { shape[1..].iter().product() } else { shape[1] };
        let x = around(shape, mean, 1);
        let [weight, bias] = [2, 3].map(|seed| common::normals(&[channels], seed));
        let inputs = [&x, &weight, &bias, &common::normals(shape, 4)];
        let want = normalised(&Device::cpu(), norm, inputs);
        for (name, device) in &devices {
            let got = normalised(device, norm, inputs);
            assert_eq!(got.len(), pytorch.len());
            for (k, (got, (want, pytorch))) in got.iter().zip(want.iter().zip(pytorch)).enumerate() {
                let (error, bound) = (error(got, want), pytorch.max(ROUNDING));
                assert!(
                    error <= bound,
                    "{norm:?} of {shape:?} around {mean} on {name}, number {k}: {error:e} {bound:e}"
                );
            }
        }
    }
}

/// The first element serves as the point from which the others are seen: it may be the worst of all.
#[test]
fn a_first_element_that_is_like_no_other_spoils_no_normalisation() {
    let (shape, devices) = ([5, 3, 9, 8], devices());
    let mut x = around(&shape, 1e4, 1);
    // The first of each channel, of each row and of each group.
    x.data.iter_mut().step_by(72).for_each(|x| *x = 0.0);
    let rows = Array { shape: kiln::Shape::new(&[15, 72]).unwrap(), ..x.clone() };
    for norm in [Norm::Batch, Norm::Layer, Norm::Group(3)] {
        let (x, channels) = if matches!(norm, Norm::Layer) { (&rows, 72) } else { (&x, 3) };
        let [weight, bias] = [2, 3].map(|seed| common::normals(&[channels], seed));
        let inputs = [x, &weight, &bias, &common::normals(&x.shape, 4)];
        let want = normalised(&Device::cpu(), norm, inputs);
        for (name, device) in &devices {
            for (k, (got, want)) in normalised(device, norm, inputs).iter().zip(&want).enumerate() {
                // The spread is a tenth of the mean: what f32 holds of the mean is 1e-6 of it.
                let error = error(got, want);
                assert!(error < 4e-6, "{norm:?} on {name}, number {k}: {error:e}");
            }
        }
    }
}

#[test]
fn running_statistics_of_a_large_mean_are_those_of_the_reference() {
    let run = |device: &Device| {
        let store = ParamStore::new(device, 7);
        let norm = BatchNorm2d::new(&store.root(), 3);
        let mut sgd = Sgd::new(&store, SgdConfig { lr: 0.1, ..Default::default() });
        for seed in 0..3 {
            let x = device.array(&around(&[16, 3, 9, 9], 1e5, seed));
            sgd.step(&norm.forward(&x, Mode::Train).square().mean_all()).unwrap();
        }
        let running = [&norm.running_mean, &norm.running_var].map(|state| state.get());
        let x = device.array(&around(&[2, 3, 4, 4], 27_100.0, 9));
        let judged = norm.forward(&x, Mode::Eval);
        [&running[0], &running[1], &judged].map(|tensor| tensor.to_array().unwrap())
    };
    let want = run(&Device::cpu());
    for (name, device) in devices() {
        for (k, (got, want)) in run(&device).iter().zip(&want).enumerate() {
            // f32 holds a running mean of 27,100 to 1e-3, and what is judged by it is that far off.
            let bound = if k == 2 { 4e-3 } else { 3e-7 };
            assert!(error(got, want) < bound, "{k} on {name}: {:e}", error(got, want));
        }
    }
}

#[test]
fn variances_far_from_zero_keep_their_digits() {
    let x = around(&[37, 131], 1e5, 1);
    let form = |device: &Device| {
        let x = device.array(&x).variable();
        let y = x.var(&[1], 1);
        let gradient = y.sum_all().gradients(&[&x]).unwrap().remove(0);
        [y, gradient].map(|tensor| tensor.to_array().unwrap())
    };
    let want = form(&Device::cpu());
    for (name, device) in devices() {
        for (got, want) in form(&device).iter().zip(&want) {
            assert!(error(got, want) < ROUNDING, "{name}: {:e}", error(got, want));
        }
    }
}

/// Devices that hold f16 as such, and as rounded f32.
fn half_devices() -> [(&'static str, Device); 4] {
    let without = Device::named_as_if("vulkan", |c| c.f16 = false).expect("a Vulkan driver");
    [("cpu", Device::cpu()), ("f16", common::gpu()), ("no f16", without), ("gl", common::backend("gl"))]
}

#[test]
fn the_spread_of_half_precision_is_formed_in_f32() {
    for (name, device) in half_devices() {
        let half = |data: &[f32]| device.tensor(data, &[data.len()]).cast(DType::F16);
        let item = |tensor: Tensor| tensor.item().unwrap();
        let hundreds: Vec<f32> = (0..37).map(|i| if i % 2 == 0 { 100.0 } else { -100.0 }).collect();
        let hundreds = half(&hundreds);
        let variance = hundreds.var(&[0], 1);
        assert_eq!(variance.dtype().unwrap(), DType::F16);
        assert_eq!(item(variance.clone()), 10272.0, "{name}");
        assert_eq!(item(variance.sqrt()), DType::F16.round(10272f64.sqrt()), "{name}");
        assert_eq!(item(hundreds.square().mean_all()), 10000.0, "{name}");
        let close = half(&[2048.0, 2050.0, 2052.0, 2054.0]);
        assert_eq!(item(close.var(&[0], 1)), DType::F16.round(20.0 / 3.0), "{name}");
        assert_eq!(item(close.var(&[0], 0)), 5.0, "{name}");
        // In mixed precision sums stay f32, so a norm may be written out.
        let norm = kiln::with_precision(Precision::Mixed, || hundreds.square().sum_all().sqrt());
        assert!((item(norm) - 370_000f64.sqrt()).abs() < 1e-3, "{name}");
        // One difference of 1000 among 37: its square is no f16.
        let mut far = vec![0f32; 37];
        far[5] = 1000.0;
        let far = half(&far);
        assert_eq!(item(far.mse_loss(&half(&[0.0; 37]))), DType::F16.round(1e6 / 37.0), "{name}");
        assert_eq!(
            item(far.huber_loss(&half(&[0.0; 37]), 900.0)),
            DType::F16.round((405_000.0 + 9e4) / 37.0),
            "{name}"
        );
    }
}

type Form = (&'static str, fn(&Tensor) -> Tensor);

/// Whatever reduces f16 on its way.
const REDUCING: &[Form] = &[
    ("sum", |x| x.sum(&[1])),
    ("mean", |x| x.mean(&[0])),
    ("var", |x| x.var(&[1], 1)),
    ("softmax", |x| x.scaled().softmax(1)),
    ("log_softmax", |x| x.scaled().log_softmax(0)),
    ("layer_norm", |x| x.layer_norm(1, None, None, 1e-3)),
    ("rms_norm", |x| x.rms_norm(1, None, 1e-3)),
    ("batch_norm", |x| x.batch_norm(None, None, 1e-3)),
    ("group_norm", |x| x.group_norm(4, Some(&x.detach().slice(0, 1, 1).reshape(&[12])), None, 1e-3)),
    ("avg_pool2d", |x| x.reshape(&[1, 37, 4, 3]).avg_pool2d([2, 2], [1, 1], [1, 1], false)),
    ("mse_loss", |x| x.mse_loss(&x.detach().slice(0, 1, 1).expand(&[37, 12]))),
    ("l1_loss", |x| x.l1_loss(&x.detach().slice(0, 1, 1).expand(&[37, 12]))),
    ("huber_loss", |x| x.huber_loss(&x.detach().slice(0, 1, 1).expand(&[37, 12]), 1.0)),
    ("cross_entropy_with_logits", |x| x.scaled().binary_cross_entropy_with_logits(&x.detach().scaled().sign().abs())),
];

trait Scaled {
    /// Divided by 64, which f16 bears without rounding.
    fn scaled(&self) -> Tensor;
}

impl Scaled for Tensor {
    fn scaled(&self) -> Tensor {
        self * (1.0 / 64.0)
    }
}

#[test]
fn what_is_formed_of_half_precision_is_rounded_once() {
    let noise = common::normals(&[37, 12], 1);
    let inputs = [(0.0, 100.0), (0.0, 1.0), (2051.0, 4.0)].map(|(mean, deviation)| {
        let data = noise.data.iter().map(|x| DType::F16.round(mean + deviation * x)).collect();
        Array { dtype: DType::F16, data, ..noise.clone() }
    });
    for (name, device) in half_devices() {
        for (input, x) in inputs.iter().enumerate() {
            for (op, form) in REDUCING {
                let half = device.array(x).variable();
                let got = form(&half);
                assert_eq!(got.dtype().unwrap(), DType::F16, "{op}");
                // Gradients of a half are halves: this seed is 1, 1/2, 1/4 and so on.
                let seed = |y: &Tensor| {
                    let halves = y.to_array().unwrap();
                    let data = (0..halves.data.len()).map(|i| 0.5f64.powi((i * 7 % 5) as i32)).collect();
                    Array { dtype: DType::F32, data, ..halves }
                };
                let cotangent = seed(&got);
                let slope = |x: &Tensor, y: &Tensor| {
                    let loss = (y.cast(DType::F32) * y.device().array(&cotangent)).sum_all();
                    loss.gradients(&[x]).unwrap().remove(0)
                };
                let exact = Device::cpu().array(&Array { dtype: DType::F32, ..x.clone() }).variable();
                let want = form(&exact);
                let pairs = [(got.clone(), want.clone()), (slope(&half, &got), slope(&exact, &want))];
                for (which, (got, want)) in pairs.into_iter().enumerate() {
                    let (got, want) = (got.to_array().unwrap(), want.to_array().unwrap());
                    let largest = want.data.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
                    for (g, w) in got.data.iter().zip(&want.data) {
                        // Half a unit of 11 bits, and what f32 sums may add to it.
                        let bound = 2f64.powi(-11) * w.abs() + 2e-6 * largest + 2f64.powi(-25);
                        let fits = (g - w).abs() <= bound || w.abs() > 65_519.0 && g.is_infinite();
                        assert!(fits, "{op} of input {input} on {name}, {which}: {g:e} instead of {w:e}");
                    }
                }
            }
        }
    }
}
