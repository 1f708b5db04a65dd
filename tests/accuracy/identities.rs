//! What shader compilers like to simplify, and may not: values that meet themselves.
#![allow(clippy::eq_op)]

use kiln::prelude::*;

use crate::{INF, NAN, close, common, devices, values};

/// What compilers take for a constant or for one of its operands, and what it is at 1.5, infinity, NaN and -2.
type Identity = (&'static str, fn(&Tensor) -> Tensor, [f64; 4]);

const IDENTITIES: &[Identity] = &[
    ("x - x", |x| x - x, [0.0, NAN, NAN, 0.0]),
    ("x + (-x)", |x| x + -x, [0.0, NAN, NAN, 0.0]),
    ("-x + x", |x| -x + x, [0.0, NAN, NAN, 0.0]),
    ("(x + 1) - x", |x| (x + 1.0) - x, [1.0, NAN, NAN, 1.0]),
    ("(x - 1) - x", |x| (x - 1.0) - x, [-1.0, NAN, NAN, -1.0]),
    ("x - (x - 1)", |x| x - (x - 1.0), [1.0, NAN, NAN, 1.0]),
    ("(1 - x) + x", |x| (1.0 - x) + x, [1.0, NAN, NAN, 1.0]),
    ("2 x - x", |x| x * 2.0 - x, [1.5, NAN, NAN, -2.0]),
    ("(x + x) - 2 x", |x| (x + x) - x * 2.0, [0.0, NAN, NAN, 0.0]),
    ("x y - x y'", |x| x * (x + 1.0) - x * (x + 2.0), [-1.5, NAN, NAN, 2.0]),
    ("0 x", |x| x * 0.0, [0.0, NAN, NAN, 0.0]),
    ("x zeros", |x| x * x.device().zeros(&[4]), [0.0, NAN, NAN, 0.0]),
    ("x / x", |x| x / x, [1.0, NAN, NAN, 1.0]),
    ("0 / x", |x| 0.0 / x, [0.0, 0.0, NAN, 0.0]),
    ("x recip(x)", |x| x * x.recip(), [1.0, NAN, NAN, 1.0]),
    ("x (1 / x)", |x| x * (1.0 / x), [1.0, NAN, NAN, 1.0]),
    ("(x x) / x", |x| (x * x) / x, [1.5, NAN, NAN, -2.0]),
    ("(2 / x) x", |x| (2.0 / x) * x, [2.0, NAN, NAN, 2.0]),
    ("sqrt(x)^2", |x| x.sqrt().square(), [1.5, INF, NAN, NAN]),
    ("sqrt(x) sqrt(x) / x", |x| x.sqrt() * x.sqrt() / x, [1.0, NAN, NAN, NAN]),
    ("sqrt(x^2)", |x| x.square().sqrt(), [1.5, INF, NAN, 2.0]),
    ("exp(log(x))", |x| x.log().exp(), [1.5, INF, NAN, NAN]),
    ("log(exp(x)) - x", |x| x.exp().log() - x, [0.0, NAN, NAN, 0.0]),
    ("max(x, x)", |x| x.maximum(x), [1.5, INF, NAN, -2.0]),
    ("min(x, x) - x", |x| x.minimum(x) - x, [0.0, NAN, NAN, 0.0]),
    ("|x| - |x|", |x| x.abs() - x.abs(), [0.0, NAN, NAN, 0.0]),
    ("x == x", |x| x.eq(x).cast(DType::F32), [1.0, 1.0, 0.0, 1.0]),
    ("x != x", |x| x.ne(x).cast(DType::F32), [0.0, 0.0, 1.0, 0.0]),
    ("x <= x", |x| x.le(x).cast(DType::F32), [1.0, 1.0, 0.0, 1.0]),
    ("x < x", |x| x.lt(x).cast(DType::F32), [0.0; 4]),
    ("!(x < 1)", |x| x.lt(1.0).logical_not().cast(DType::F32), [1.0, 1.0, 1.0, 0.0]),
    ("x < 1 ? x : 1", |x| x.lt(1.0).where_(x, &x.ones_like()), [1.0, 1.0, 1.0, -2.0]),
    ("x > 1 ? 1 : x", |x| x.gt(1.0).where_(&x.ones_like(), x), [1.0, 1.0, NAN, -2.0]),
    ("x - detached x", |x| x - x.detach(), [0.0, NAN, NAN, 0.0]),
    ("clamp(x) - x", |x| x.clamp(-1e3, 1e3) - x, [0.0, -INF, NAN, 0.0]),
    ("relu(x) - x", |x| x.relu() - x, [0.0, NAN, NAN, 2.0]),
];

#[test]
fn what_is_not_a_number_is_not_simplified_away() {
    let inputs = [1.5f32, f32::INFINITY, f32::NAN, -2.0];
    let mut failures = vec![];
    for device in devices() {
        for fusion in [true, false] {
            device.set_fusion(fusion);
            for (name, build, want) in IDENTITIES {
                let x = device.tensor(&inputs, &[4]);
                // As it is uploaded, computed in the same kernel, four at a time, and before a sum.
                let wide = device.tensor(&inputs, &[4, 1]).expand(&[4, 8]).permute(&[1, 0]);
                let scaled = device.tensor(&inputs, &[4]) * 2.0 * 0.5;
                let rows = build(&(wide * 1.0)).sum(&[0]) * 0.125;
                let results = [("plain", build(&x)), ("computed", build(&scaled)), ("summed", rows)];
                device.eval(&results.iter().map(|(_, result)| result).collect::<Vec<_>>()).unwrap();
                for (way, result) in &results {
                    let got = values(result);
                    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
                        if !close(g, w, 8.0, 1e-6) {
                            failures.push(format!(
                                "{name}, {way}, fusion {fusion}, at {} on {}: {g} instead of {w}",
                                inputs[i],
                                device.name()
                            ));
                        }
                    }
                }
            }
            device.set_fusion(true);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_loss_of_differences_of_infinities_is_refused() {
    // Devices of its own: other tests read while its step fails.
    for device in [Device::cpu(), common::backend("vulkan")] {
        let params = ParamStore::new(&device, 1);
        let w = params.root().param("w", &[3], Init::Ones);
        let mut optimizer = Sgd::new(&params, SgdConfig { lr: 0.5, ..SgdConfig::default() });
        let infinite = w.tensor() * f64::INFINITY;
        optimizer.step(&(&infinite - &infinite).sum_all()).unwrap();
        let error = device.synchronize().err().or_else(|| w.tensor().to_vec::<f32>().err());
        assert!(matches!(error, Some(kiln::Error::NonFinite { .. })), "{error:?} on {}", device.name());
        assert_eq!(values(&w.tensor()), [1.0; 3]);
    }
}

#[test]
fn sums_are_rounded_in_the_order_that_is_written() {
    // (x + y) - x is what is left of y, by which compensated sums work; no compiler may take it for y.
    let device = common::gpu();
    let x = device.tensor(&[1e8f32, 1.0, 3e7], &[3]);
    let y = device.tensor(&[1.0f32, 1e-9, 2.5], &[3]);
    let left = (&x + &y) - &x;
    assert_eq!(values(&left), [0.0, 0.0, 2.0], "{}", device.name());
}

#[test]
fn what_meets_itself_after_a_product_or_in_long_rows_is_kept_too() {
    for device in devices() {
        let infinite = device.full(&[5, 4], INF, DType::F32).matmul(&device.ones(&[4, 8]));
        for y in [&infinite - &infinite, &infinite / &infinite, (&infinite + 1.0) - &infinite] {
            assert!(values(&y).iter().all(|y| y.is_nan()), "{y:?} on {}", device.name());
        }
    }
    // Rows that some drivers take eight elements at a time.
    let device = common::gpu();
    let x = device.full(&[2, 1 << 18], INF, DType::F32).permute(&[1, 0]).permute(&[1, 0]) * device.ones(&[1 << 18]);
    let [differences, shares] = [(&x + 1.0) - &x, &x / &x];
    device.eval(&[&differences, &shares]).unwrap();
    for y in [differences, shares] {
        assert!(values(&y).iter().all(|y| y.is_nan()), "on {}", device.name());
    }
}

#[test]
fn an_ordinary_network_pays_nothing_for_kept_infinities() {
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let root = params.root();
    let (first, second) = (Linear::new(&root.child("a"), 8, 12), Linear::new(&root.child("b"), 12, 8));
    let x = cpu.normal(&[6, 8], 0.0, 1.0, 1);
    let activations: [fn(&Tensor) -> Tensor; 6] =
        [Tensor::relu, Tensor::gelu, Tensor::tanh, Tensor::sigmoid, Tensor::softplus, |x| x.leaky_relu(0.1)];
    for activation in activations {
        let y = &x + second.forward(&activation(&first.forward(&x, Mode::Train)), Mode::Train);
        let loss = y.softmax(1).square().mean_all() + y.mse_loss(&x);
        let leaves: Vec<Tensor> = params.parameters().iter().map(Param::tensor).collect();
        let mut roots = loss.gradients(&leaves.iter().collect::<Vec<_>>()).unwrap();
        roots.push(loss);
        let plan = cpu.plan_for(&roots.iter().collect::<Vec<_>>(), &Default::default(), true).unwrap();
        for dispatch in &plan.dispatches {
            assert!(!dispatch.source().contains("| U(f["), "{}:\n{}", dispatch.name(), dispatch.source());
        }
    }
    // What it would have paid.
    let plan = cpu.plan_for(&[&(&x - &x)], &Default::default(), true).unwrap();
    assert!(plan.dispatches[0].source().contains("| U(f["), "{}", plan.dispatches[0].source());
}

#[test]
fn a_loss_that_is_not_finite_is_refused_though_its_gradients_are_finite() {
    for device in devices() {
        for (dtype, read) in [(DType::F32, false), (DType::F32, true), (DType::F16, false), (DType::F16, true)] {
            for bad in [f32::NAN, f32::INFINITY] {
                let params = ParamStore::new(&device, 1);
                let w = params.root().param("w", &[3], Init::Ones);
                let mut optimizer = AdamW::new(&params, AdamWConfig { lr: 0.1, ..Default::default() });
                let mut step = |offset: f32, read: bool| {
                    let x = w.tensor() + device.tensor(&[0.0f32, offset, 1.0], &[3]);
                    // Its gradients are 1 - 1 = 0 for the first part, 1 for the second.
                    let loss = ((&x - &x).sum_all() + w.tensor().sum_all()).cast(dtype);
                    if read {
                        assert_eq!(loss.item().unwrap().is_finite(), offset.is_finite());
                    }
                    optimizer.step(&loss).unwrap();
                    device.synchronize()
                };
                step(1.0, read).unwrap();
                let before = w.values().unwrap();
                let error = step(bad, read).unwrap_err();
                assert!(matches!(error, kiln::Error::NonFinite { step: 2, .. }), "{error}");
                assert!(error.to_string().contains("its loss or a gradient"), "{error}");
                assert_eq!(w.values().unwrap(), before);
                step(1.0, read).unwrap();
                assert_ne!(w.values().unwrap(), before);
            }
        }
    }
}
