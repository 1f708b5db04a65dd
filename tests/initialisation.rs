//! Initial values: distributions, what they do to a signal on its way through 30 layers, PyTorch's fixed patterns, other
//! values by name, and weights scaled by a batch.

mod common;
#[path = "initialisation/depth.rs"]
mod depth;
#[path = "initialisation/lsuv.rs"]
mod lsuv;
#[path = "common/pytorch.rs"]
mod pytorch;

use kiln::init::{Distribution, Fan, Nonlinearity, calculate_gain};
use kiln::nn::Embedding;
use kiln::ops::pointwise::table::libm_erf;
use kiln::prelude::*;
use kiln::rng::Philox;

fn draw(init: Init, shape: &[usize]) -> Vec<f64> {
    init.draw(shape, &mut Philox::new(5, 1)).unwrap()
}

/// The largest distance between the distribution of some draws and `cdf` (Kolmogorov and Smirnov).
fn distance(mut draws: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    draws.sort_by(f64::total_cmp);
    let n = draws.len() as f64;
    let apart = |(i, x): (usize, &f64)| {
        let (below, share) = (i as f64 / n, cdf(*x));
        (share - below).max(below + 1.0 / n - share)
    };
    draws.iter().enumerate().map(apart).fold(0.0, f64::max)
}

/// What a million draws of the right distribution pass once in 10,000 times: sqrt(ln(2 / 1e-4) / 2 / 1e6).
const CRITICAL: f64 = 2.2253e-3;

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + libm_erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn normal(mean: f64, deviation: f64) -> Box<dyn Fn(f64) -> f64> {
    Box::new(move |x| normal_cdf((x - mean) / deviation))
}

fn uniform(low: f64, high: f64) -> Box<dyn Fn(f64) -> f64> {
    Box::new(move |x| ((x - low) / (high - low)).clamp(0.0, 1.0))
}

/// A normal within `[low, high]`; the shares are those of the upper tail where that is shorter, which keeps their digits.
fn between(mean: f64, deviation: f64, low: f64, high: f64) -> Box<dyn Fn(f64) -> f64> {
    let side = if low > mean { -1.0 } else { 1.0 };
    let share = move |x: f64| side * normal_cdf(side * (x - mean) / deviation);
    Box::new(move |x| (share(x.clamp(low, high)) - share(low)) / (share(high) - share(low)))
}

#[test]
fn a_million_draws_have_the_distribution_that_is_said() {
    // Fan in 2000, fan out 500.
    let shape = [500, 2000];
    let (tanh, relu) = (Nonlinearity::Tanh, Nonlinearity::Relu);
    let infinity = f64::INFINITY;
    let cut = |low, high| Init::TruncatedNormalBetween { mean: 0.1, deviation: 0.5, low, high };
    let scaled = |scale, fan, distribution| Init::VarianceScaling { scale, fan, distribution };
    let xavier = (2.0 / 2500f64).sqrt();
    let within = |deviation: f64| uniform(-(3f64.sqrt() * deviation), 3f64.sqrt() * deviation);
    // Keras widens by the deviation of what is cut.
    let twice = |variance: f64| {
        let wide = variance.sqrt() / 0.879_625_661_034_239_8;
        between(0.0, wide, -2.0 * wide, 2.0 * wide)
    };
    let cases = [
        (Init::Uniform { low: -0.5, high: 1.5 }, uniform(-0.5, 1.5)),
        (Init::Normal { mean: 0.3, deviation: 0.7 }, normal(0.3, 0.7)),
        (Init::TruncatedNormal { mean: 0.1, deviation: 0.5, bound: 2.0 }, between(0.1, 0.5, -0.9, 1.1)),
        (cut(-1.0, 2.0), between(0.1, 0.5, -1.0, 2.0)),
        (cut(0.0, 0.3), between(0.1, 0.5, 0.0, 0.3)),
        (cut(0.15, 0.2), between(0.1, 0.5, 0.15, 0.2)),
        (cut(0.2, infinity), between(0.1, 0.5, 0.2, infinity)),
        (cut(2.1, infinity), between(0.1, 0.5, 2.1, infinity)),
        (cut(-infinity, -1.4), between(0.1, 0.5, -infinity, -1.4)),
        (Init::XavierUniform { gain: 1.5 }, within(1.5 * xavier)),
        (Init::XavierNormal { gain: 1.0 }, normal(0.0, xavier)),
        (Init::KaimingUniform { fan: Fan::Out, nonlinearity: tanh }, within(5.0 / 3.0 / 500f64.sqrt())),
        (Init::KaimingUniform { fan: Fan::Average, nonlinearity: relu }, within((2.0 / 1250f64).sqrt())),
        (Init::HE, normal(0.0, (2.0 / 2000f64).sqrt())),
        (Init::FAN_IN_UNIFORM, uniform(-1.0 / 2000f64.sqrt(), 1.0 / 2000f64.sqrt())),
        (Init::LECUN_UNIFORM, within((1.0 / 2000f64).sqrt())),
        (Init::LECUN_NORMAL, twice(1.0 / 2000.0)),
        (scaled(0.7, Fan::Out, Distribution::Normal), normal(0.0, (0.7 / 500f64).sqrt())),
        (scaled(2.0, Fan::Average, Distribution::TruncatedNormal), twice(2.0 / 1250.0)),
        (scaled(1.0, Fan::Average, Distribution::Uniform), within(xavier)),
    ];
    for (init, cdf) in cases {
        let distance = distance(draw(init, &shape), cdf);
        assert!(distance < CRITICAL, "{init:?}: a distance of {distance:e}");
    }
    // A deviation that is wrong by 2 % is found.
    let wrong = distance(draw(Init::Normal { mean: 0.0, deviation: 1.02 }, &shape), normal_cdf);
    assert!(wrong > CRITICAL, "{wrong:e}");
}

#[test]
fn a_truncated_normal_has_the_variance_that_was_asked_for() {
    let init = Init::VarianceScaling { scale: 2.0, fan: Fan::In, distribution: Distribution::TruncatedNormal };
    let draws = draw(init, &[1000, 1000]);
    let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1e6;
    // A million squares of deviation 1.2 times their mean.
    assert!((variance / 2e-3 - 1.0).abs() < 5e-3, "{variance}");
}

/// One of each.
fn all_inits() -> Vec<(Init, Vec<usize>)> {
    let scaling = |distribution| Init::VarianceScaling { scale: 1.5, fan: Fan::Average, distribution };
    let kernel = vec![8, 6, 3, 3];
    vec![
        (Init::Zeros, vec![37]),
        (Init::Ones, vec![37]),
        (Init::Constant(0.1), vec![37]),
        (Init::Uniform { low: -0.3, high: 0.7 }, vec![131]),
        (Init::Normal { mean: 0.1, deviation: 0.7 }, vec![131]),
        (Init::TruncatedNormal { mean: 0.1, deviation: 0.7, bound: 2.0 }, vec![131]),
        (Init::TruncatedNormalBetween { mean: 0.1, deviation: 0.7, low: 1.0, high: 2.0 }, vec![131]),
        (Init::XavierUniform { gain: 1.0 }, kernel.clone()),
        (Init::XavierNormal { gain: 1.0 }, kernel.clone()),
        (Init::FAN_IN_UNIFORM, kernel.clone()),
        (Init::HE, kernel.clone()),
        (scaling(Distribution::Normal), kernel.clone()),
        (scaling(Distribution::TruncatedNormal), kernel.clone()),
        (scaling(Distribution::Uniform), kernel.clone()),
        (Init::Orthogonal { gain: 1.4 }, vec![37, 20]),
        (Init::DeltaOrthogonal { gain: 1.4 }, kernel.clone()),
        (Init::Identity { gain: 0.1 }, vec![7, 5]),
        (Init::Dirac { groups: 2 }, kernel),
        (Init::Sparse { sparsity: 0.3, deviation: 0.01 }, vec![37, 5]),
        (Init::ForgetGate { bias: 1.1 }, vec![28]),
    ]
}

#[test]
fn every_device_starts_from_the_same_bits() {
    for (number, (init, shape)) in all_inits().into_iter().enumerate() {
        let of = |device: &Device| {
            let values = ParamStore::new(device, 7).root().param(number, &shape, init).values().unwrap();
            values.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(of(&common::gpu()), of(&Device::cpu()), "{init:?}");
    }
}

#[test]
fn patterns_and_gains_are_pytorch_s() {
    let file = pytorch::File::open();
    let mut seen = [0; 3];
    for case in &file.cases {
        let list = |key: &str| -> Vec<usize> {
            case.attrs[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let (kind, got) = match case.op.as_str() {
            "eye" => (0, draw(Init::Identity { gain: 1.0 }, &list("shape"))),
            "dirac" => {
                let groups = case.attrs["groups"].as_u64().unwrap() as usize;
                (1, draw(Init::Dirac { groups }, &list("shape")))
            }
            "calculate_gain" => {
                let name = case.attrs["nonlinearity"].as_str().unwrap();
                (2, vec![calculate_gain(name, case.attrs["slope"].as_f64()).unwrap()])
            }
            _ => continue,
        };
        seen[kind] += 1;
        let want = file.values(&case.outputs[0]);
        assert_eq!(got.len(), want.len(), "{}", case.name);
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-15), "{}: {got:?}", case.name);
    }
    assert!(seen.iter().all(|&count| count >= 3), "{seen:?}");
    for (name, slope) in [("swish", None), ("", None), ("leaky_relu", Some(f64::NAN))] {
        assert!(matches!(calculate_gain(name, slope), Err(Error::Value { op: "calculate_gain", .. })), "{name}");
    }
}

#[test]
fn sparse_columns_have_their_zeros_in_places_of_their_own() {
    let values = draw(Init::Sparse { sparsity: 0.31, deviation: 0.01 }, &[37, 200]);
    // ceil(0.31 * 37).
    let zeros = 12;
    let mut of_rows = [0; 37];
    for column in 0..200 {
        let rows: Vec<usize> = (0..37).filter(|row| values[row * 200 + column] == 0.0).collect();
        assert_eq!(rows.len(), zeros);
        rows.into_iter().for_each(|row| of_rows[row] += 1);
    }
    // 200 columns, a third of which have a zero in a row: 65, with deviation 6.6.
    assert!(of_rows.iter().all(|count| (32..=98).contains(count)), "{of_rows:?}");
    let others: Vec<f64> = values.into_iter().filter(|x| *x != 0.0).map(|x| x / 0.01).collect();
    let n = others.len() as f64;
    // The critical value of so many draws.
    assert!(distance(others, normal_cdf) < CRITICAL * (1e6 / n).sqrt());
    assert!(draw(Init::Sparse { sparsity: 0.0, deviation: 0.01 }, &[7, 5]).iter().all(|x| *x != 0.0));
}

#[test]
fn a_delta_orthogonal_kernel_keeps_the_norm_of_every_place() {
    for device in [common::gpu(), Device::cpu()] {
        let params = ParamStore::new(&device, 3);
        let config = ConvConfig { bias: false, init: Init::DeltaOrthogonal { gain: 1.0 }, ..Default::default() };
        let conv = Conv2d::with(&params.root(), 5, 8, [3, 5], config).padding([1, 2]);
        let x = device.normal(&[2, 5, 6, 7], 0.0, 1.0, 1);
        let norms = |x: &Tensor| x.square().sum(&[1]).to_array().unwrap().data;
        for (before, after) in norms(&x).iter().zip(norms(&conv.forward(&x, Mode::Eval))) {
            assert!((after / before - 1.0).abs() < 1e-5, "{before} becomes {after}");
        }
    }
}

#[test]
fn a_forget_gate_starts_open() {
    let bias = draw(Init::ForgetGate { bias: 1.5 }, &[12]);
    assert_eq!(bias, [0.0, 0.0, 0.0, 1.5, 1.5, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let nan = f64::NAN;
    let cut = |deviation, low, high| Init::TruncatedNormalBetween { mean: 0.0, deviation, low, high };
    let scaling = |scale| Init::VarianceScaling { scale, fan: Fan::In, distribution: Distribution::Normal };
    let sparse = |sparsity| Init::Sparse { sparsity, deviation: 0.01 };
    let kernel = [6, 4, 3, 3];
    let refused: Vec<(Init, &[usize])> = vec![
        (Init::LECUN_NORMAL, &[10]),
        (Init::Orthogonal { gain: 1.0 }, &[]),
        (Init::Identity { gain: 1.0 }, &[3]),
        (Init::Identity { gain: 1.0 }, &kernel),
        (Init::Identity { gain: nan }, &[3, 3]),
        (Init::Dirac { groups: 1 }, &[3, 3]),
        (Init::Dirac { groups: 1 }, &[1; 6]),
        (Init::Dirac { groups: 0 }, &kernel),
        (Init::Dirac { groups: 4 }, &kernel),
        (Init::DeltaOrthogonal { gain: 1.0 }, &[3, 3]),
        (Init::DeltaOrthogonal { gain: 1.0 }, &[4, 6, 3, 3]),
        (sparse(1.0), &[3, 3]),
        (sparse(-0.1), &[3, 3]),
        (sparse(nan), &[3, 3]),
        (sparse(0.5), &[9]),
        (Init::ForgetGate { bias: 1.0 }, &[10]),
        (Init::ForgetGate { bias: 1.0 }, &[4, 4]),
        (scaling(0.0), &[3, 3]),
        (scaling(-1.0), &[3, 3]),
        (scaling(f64::INFINITY), &[3, 3]),
        (cut(0.0, -1.0, 1.0), &[3]),
        (cut(1.0, 1.0, 1.0), &[3]),
        (cut(1.0, 2.0, 1.0), &[3]),
        (cut(1.0, nan, 1.0), &[3]),
        (cut(1.0, f64::INFINITY, f64::INFINITY), &[3]),
        (cut(1e-300, 1.0, 2.0), &[3]),
        (Init::Normal { mean: nan, deviation: 1.0 }, &[3]),
        (Init::XavierNormal { gain: f64::INFINITY }, &[3, 3]),
    ];
    for (init, shape) in refused {
        assert!(init.check(shape).is_err() && init.draw(shape, &mut Philox::new(0, 0)).is_err(), "{init:?} {shape:?}");
    }
    // Sizes of 0, and more than can be counted: no init has values for them, and none panics.
    let none: [&[usize]; 6] = [&[0], &[0, 4], &[4, 0], &[4, 4, 0, 3], &[usize::MAX, 4], &[1 << 16, 1 << 16]];
    for (init, _) in all_inits() {
        for shape in none {
            assert!(init.check(shape).is_err(), "{init:?} {shape:?}");
        }
    }
}

fn model(store: &ParamStore) -> Sequential {
    let root = store.root();
    Sequential::new().add(Linear::new(&root.child("first"), 6, 8)).add(Tensor::relu).add(Linear::new(
        &root.child("second"),
        8,
        4,
    ))
}

fn all_values(store: &ParamStore) -> Vec<Vec<f64>> {
    store.parameters().iter().map(|parameter| parameter.values().unwrap()).collect()
}

#[test]
fn other_initial_values_are_those_of_a_model_made_with_them() {
    for device in [common::gpu(), Device::cpu()] {
        let made = ParamStore::new(&device, 3);
        let want = made.root().child("first").param("weight", &[8, 6], Init::LECUN_NORMAL).values().unwrap();
        for is_used in [false, true] {
            let store = ParamStore::new(&device, 3);
            model(&store);
            let first = store.get("first.weight").unwrap();
            let before = is_used.then(|| (all_values(&store), first.tensor() * 2.0));
            assert_eq!(store.reinit("first.w*", Init::LECUN_NORMAL).unwrap(), 1);
            assert_eq!(first.values().unwrap(), want);
            if let Some((values, doubled)) = before {
                // What was recorded before keeps the values from before; the others are untouched.
                let twice: Vec<f64> = values[0].iter().map(|x| 2.0 * x).collect();
                assert_eq!(doubled.to_array().unwrap().data, twice);
                assert_eq!(all_values(&store)[1..], values[1..]);
            }
            assert_eq!(store.reinit("*.bias", Init::Constant(0.5)).unwrap(), 2);
            assert_eq!(all_values(&store)[3], [0.5; 4]);
            store.get("second.weight").unwrap().reinit(Init::Identity { gain: 2.0 }).unwrap();
            assert_eq!(all_values(&store)[2][..9], [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        }
    }
}

#[test]
fn a_whole_model_is_initialised_by_a_function_of_names_and_shapes() {
    for device in [common::gpu(), Device::cpu()] {
        let store = ParamStore::new(&device, 3);
        let net = model(&store);
        let mut sgd = Sgd::new(&store, SgdConfig::default());
        let x = device.normal(&[16, 6], 0.0, 1.0, 1);
        sgd.step(&net.forward(&x, Mode::Train).square().mean_all()).unwrap();
        let count = store.reinit_with(|name, shape| {
            // The store may be asked meanwhile.
            assert!(store.names().iter().any(|other| other == name));
            (shape.len() == 2).then_some(Init::Orthogonal { gain: 1.0 })
        });
        assert_eq!(count.unwrap(), 2);
        let weight = &all_values(&store)[2];
        let norm = weight[..8].iter().map(|x| x * x).sum::<f64>();
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
        sgd.step(&net.forward(&x, Mode::Train).square().mean_all()).unwrap();
        assert_ne!(&all_values(&store)[2], weight);
        assert_eq!(store.reinit_with(|_, _| None).unwrap(), 0);
    }
}

#[test]
fn the_row_of_padding_stays_zeros() {
    let store = ParamStore::new(&Device::cpu(), 3);
    let table = Embedding::with(&store.root(), 5, 3, EmbeddingConfig { padding: Some(2), init: Init::Ones });
    for _ in 0..2 {
        table.weight.reinit(Init::Constant(0.5)).unwrap();
        let values = table.weight.values().unwrap();
        assert!(values[6..9] == [0.0; 3] && values[..6] == [0.5; 6], "{values:?}");
    }
}

#[test]
fn an_init_that_fits_not_all_changes_none() {
    for device in [common::gpu(), Device::cpu()] {
        for is_used in [false, true] {
            let store = ParamStore::new(&device, 3);
            model(&store);
            let untouched = ParamStore::new(&device, 3);
            model(&untouched);
            if is_used {
                all_values(&store);
            }
            let error = store.reinit("*", Init::HE).unwrap_err();
            assert!(
                matches!(&error, Error::Shape { op: "reinit", what, .. } if what.contains("first.bias")),
                "{error}"
            );
            let error = store.reinit("*.weights", Init::HE).unwrap_err();
            assert!(matches!(&error, Error::Value { op: "reinit", .. }), "{error}");
            assert!(store.get("first.bias").unwrap().reinit(Init::HE).is_err());
            assert_eq!(all_values(&store), all_values(&untouched));
        }
    }
}
