//! Values and first and second derivatives of every pointwise op at hard points, against closed forms in f64, and what else
//! must not lose digits, infinities or NaN.

mod common;

#[path = "accuracy/forms.rs"]
mod forms;
#[path = "accuracy/identities.rs"]
mod identities;
#[path = "accuracy/sweep.rs"]
mod sweep;

use std::f64::consts::LN_2;

use kiln::prelude::*;

use sweep::sigmoid;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x as f32)).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_array().unwrap().data
}

/// One unit in the last place of an f32 near `x`.
fn unit(x: f64) -> f64 {
    2f64.powi(((x.abs() as f32).to_bits() >> 23).max(1) as i32 - 150)
}

/// True if `got` is `want` as an f32, give or take `units` and `absolute`; denormal numbers may be 0.
fn close(got: f64, want: f64, units: f64, absolute: f64) -> bool {
    if want.is_nan() || got.is_nan() {
        return want.is_nan() && got.is_nan();
    }
    // The reference holds more than an f32 does.
    if f64::from(got as f32) == f64::from(want as f32) {
        return true;
    }
    let error = (got - want).abs();
    got.is_finite() && want.is_finite() && error <= units * unit(want) + absolute + 1.2e-38
        // At the very end of the range.
        || got.is_infinite() && got.signum() == want.signum() && want.abs() > 3.402e38
}

/// Gradients of the sum of `y(inputs)`.
fn gradients(device: &Device, inputs: &[&[f64]], y: impl Fn(&[Tensor]) -> Tensor) -> Vec<Vec<f64>> {
    let upload = |values: &&[f64]| {
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        device.tensor(&values, &[values.len()]).variable()
    };
    let inputs: Vec<Tensor> = inputs.iter().map(upload).collect();
    let wrt: Vec<&Tensor> = inputs.iter().collect();
    let gradients = y(&inputs).sum_all().gradients(&wrt).unwrap();
    gradients.iter().map(values).collect()
}

fn assert_close(got: &[f64], want: &[f64], units: f64, what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(close(g, w, units, 0.0), "{what}, element {i}: {g:e} instead of {w:e}");
    }
}

#[test]
fn the_gradient_of_a_quotient_squares_no_divisor() {
    let b = [1e20, -1e20, 1e-30, -1e-30, 1e20, 1e-30, 3.0, 1e30];
    let a = [1e20, 1e20, 1e-30, 1e-30, 0.0, 0.0, -7.0, 1e-5];
    let (b32, a32) = (rounded(&b), rounded(&a));
    let of_a: Vec<f64> = b32.iter().map(|b| 1.0 / b).collect();
    let of_b: Vec<f64> = a32.iter().zip(&b32).map(|(a, b)| -a / b / b).collect();
    for device in devices() {
        let got = gradients(&device, &[&a, &b], |x| &x[0] / &x[1]);
        assert_close(&got[0], &of_a, 2.0, "of a in a / b");
        assert_close(&got[1], &of_b, 4.0, "of b in a / b");
        // The gradient that arrives makes up for what 1 / x^2 alone has no number for.
        let x = [1e20, -1e20, 1e-30, 1e-25, 4.0];
        let by = [1e20, 1e15, 1e-30, 1e-20, 2.0];
        let (x32, by32) = (rounded(&x), rounded(&by));
        let want: Vec<f64> = x32.iter().zip(&by32).map(|(x, by)| -by / x / x).collect();
        let got = gradients(&device, &[&x, &by], |x| x[0].recip() * x[1].detach());
        assert_close(&got[0], &want, 4.0, "of 1 / x");
    }
}

#[test]
fn the_gradient_of_shares_of_large_numbers_vanishes() {
    for device in devices() {
        for size in [1e20, 1e-20, 1.0] {
            let x: Vec<f64> = (0..37).map(|i| size * (1.0 + f64::from(i) / 100.0)).collect();
            let got = gradients(&device, &[&x], |x| &x[0] / &x[0].sum_keep(&[0]));
            // The sum of the shares is 1, whatever x.
            for g in &got[0] {
                assert!((g * size).abs() < 1e-8, "{g:e} at {size:e}");
            }
            // That of the first share is (1 - share) / sum, then -share / sum.
            let sum: f64 = rounded(&x).iter().sum();
            let want: Vec<f64> = (0..37).map(|i| (f64::from(u8::from(i == 0)) - x[0] / sum) / sum).collect();
            let first = gradients(&device, &[&x], |x| (&x[0] / &x[0].sum_keep(&[0])).slice(0, 0, 1));
            assert_close(&first[0], &want, 16.0, "of the first share");
        }
    }
}

#[test]
fn powers_are_exact_where_floats_hold_them() {
    let mut cases: Vec<(f64, f64)> =
        vec![(5.0, 2.0), (2.0, 100.0), (-2.0, 3.0), (2.0, -126.0), (2.0, 127.0), (10.0, 10.0)];
    for base in 1..60 {
        for exponent in [0.0f64, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 0.5, 1.5, 2.5, -1.0, -2.0, -3.0] {
            for scale in [1.0, 0.25, 1024.0] {
                let root = f64::from(base) * scale;
                let base = if exponent == exponent.trunc() { root } else { root * root };
                cases.push((base, exponent));
                if exponent == exponent.trunc() {
                    cases.push((-base, exponent));
                }
            }
        }
    }
    let exact = |&(a, b): &(f64, f64)| {
        let value = a.powf(b);
        f64::from(a as f32) == a && f64::from(value as f32) == value && value.abs() >= 1.2e-38
    };
    cases.retain(exact);
    assert!(cases.len() > 1000, "{}", cases.len());
    let bases: Vec<f32> = cases.iter().map(|case| case.0 as f32).collect();
    let exponents: Vec<f32> = cases.iter().map(|case| case.1 as f32).collect();
    for device in devices() {
        let tensor = |values: &[f32]| device.tensor(values, &[values.len()]);
        let got = values(&tensor(&bases).pow(&tensor(&exponents)));
        for (&(a, b), g) in cases.iter().zip(&got) {
            assert_eq!(*g, a.powf(b), "{a}^{b} on {}", device.name());
        }
        // The exponent as a host number.
        for exponent in [2.0, 3.0, 0.5, 1.5, -1.0, -2.0, 7.0] {
            let mine: Vec<f64> = cases.iter().filter(|case| case.1 == exponent).map(|case| case.0).collect();
            let bases: Vec<f32> = mine.iter().map(|&a| a as f32).collect();
            let got = values(&tensor(&bases).pow(exponent));
            for (a, g) in mine.iter().zip(&got) {
                assert_eq!(*g, a.powf(exponent), "{a}^{exponent} on {}", device.name());
            }
        }
        // Half precision rounds what f32 has; all of these fit.
        let half = device.tensor(&[5.0f32, -2.0, 3.0, 2.0, 9.0, 2.25], &[6]).cast(DType::F16);
        let by = device.tensor(&[2.0f32, 3.0, 6.0, 15.0, 0.5, 1.5], &[6]).cast(DType::F16);
        assert_eq!(values(&half.pow(&by)), [25.0, -8.0, 729.0, 32768.0, 3.0, 3.375]);
        assert_eq!(values(&half.pow(2.0)), [25.0, 4.0, 9.0, 4.0, 81.0, 5.0625]);
    }
}

#[test]
fn powers_are_within_a_unit_in_the_last_place() {
    let mut rng = kiln::rng::Philox::new(9, 0);
    let (mut a, mut b) = (vec![], vec![]);
    for _ in 0..4099 {
        let base = ((rng.uniform() - 0.5) * 80.0).exp2() as f32;
        let exponent = ((rng.uniform() - 0.5) * 250.0 / f64::from(base).log2()).clamp(-1e6, 1e6) as f32;
        a.push(base);
        b.push(exponent);
    }
    let device = common::gpu();
    let got = values(&device.tensor(&a, &[a.len()]).pow(&device.tensor(&b, &[b.len()])));
    for ((&a, &b), &g) in a.iter().zip(&b).zip(&got) {
        let want = f64::from(a).powf(f64::from(b));
        assert!(close(g, want, 1.0, 0.0), "{a:e}^{b:e}: {g:e} instead of {want:e}");
    }
}

#[test]
fn gradients_of_powers_are_pytorch_s() {
    // PyTorch: 0 where the exponent is 0; for the exponent 0 where the base is 0 and the exponent is not negative.
    let a = [0.0, 0.0, 0.0, 2.0, -2.0, 3.0, 1e20, 0.0];
    let b = [0.0, 1.0, 2.0, 0.0, 3.0, -1.0, 0.0, -1.0];
    let of_a = [0.0, 1.0, 0.0, 0.0, 12.0, -1.0 / 9.0, 0.0, -INF];
    let of_b = [0.0, 0.0, 0.0, LN_2, NAN, 3f64.ln() / 3.0, f64::from(1e20f32).ln(), -INF];
    for device in devices() {
        let got = gradients(&device, &[&a, &b], |x| x[0].pow(&x[1]));
        assert_close(&got[0], &of_a, 2.0, "of the base");
        assert_close(&got[1], &of_b, 4.0, "of the exponent");
        let got = gradients(&device, &[&a], |x| x[0].pow(0.0));
        assert_eq!(got[0], [0.0; 8]);
        // What is masked does not come back from the second derivative.
        let x = device.tensor(&[0.0f32, 0.0, 0.0, 0.0], &[4]).variable();
        let p = device.tensor(&[0.0f32, 1.0, 2.0, 3.0], &[4]).variable();
        let first = x.pow(&p).sum_all().gradients(&[&x, &p]).unwrap();
        let second = first[0].sum_all().gradients(&[&x]).unwrap().remove(0);
        assert_eq!(values(&second), [0.0, 0.0, 2.0, 0.0]);
        let second = first[1].sum_all().gradients(&[&p]).unwrap().remove(0);
        assert_eq!(values(&second), [0.0; 4]);
    }
}

#[test]
fn losses_of_confident_predictions_keep_their_gradients() {
    let x = [-15.0, -20.0, -60.0, 15.0, 20.0, 60.0, 0.0, 1e20, -1e20];
    for device in devices() {
        for target in [0.0, 1.0, 0.25] {
            let targets = [target; 9];
            let got = gradients(&device, &[&x, &targets], |x| x[0].binary_cross_entropy_with_logits(&x[1]) * 9.0);
            let want = x.map(|x: f64| (1.0 - target) * sigmoid(x) - target * sigmoid(-x));
            assert_close(&got[0], &want, 8.0, "of logits");
            let want = rounded(&x).iter().map(|x| -x).collect::<Vec<_>>();
            assert_close(&got[1], &want, 4.0, "of targets");
        }
        let got =
            gradients(&device, &[&[-15.0, -20.0], &[0.0, 0.0]], |x| x[0].binary_cross_entropy_with_logits(&x[1]) * 2.0);
        assert!((got[0][0] - 3.059_022e-7).abs() < 1e-12 && (got[0][1] - 2.061_153_6e-9).abs() < 1e-14, "{got:?}");
        // Small differences beside a large bound.
        let d = [1e-3, -1e-5, 1e-10, 0.5, -3.0, 2.0, 0.0];
        let got = gradients(&device, &[&d, &[0.0; 7]], |x| x[0].huber_loss(&x[1], 1.0) * 7.0);
        assert_close(
            &got[0],
            &rounded(&d).iter().map(|d| d.clamp(-1.0, 1.0)).collect::<Vec<_>>(),
            4.0,
            "of Huber's loss",
        );
    }
}

#[test]
fn the_padding_row_of_an_embedding_starts_and_stays_as_zeros() {
    for device in devices() {
        let params = ParamStore::new(&device, 7);
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let padded = Embedding::with(&params.root().child("padded"), 37, 5, EmbeddingConfig { padding: Some(3), init });
        let first = Embedding::with(
            &params.root().child("first"),
            4,
            3,
            EmbeddingConfig { padding: Some(0), init: Init::Ones },
        );
        let weight = padded.weight.values().unwrap();
        assert_eq!(weight[15..20], [0.0; 5]);
        assert!(weight[..15].iter().chain(&weight[20..]).all(|&x| x != 0.0));
        assert_eq!(first.weight.values().unwrap(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let mut optimizer = AdamW::new(&params, AdamWConfig { lr: 0.1, ..Default::default() });
        for _ in 0..2 {
            let picked = padded.forward(&device.tensor(&[3u32, 1, 3, 36], &[4]));
            optimizer.step(&(picked + 1.0).square().sum_all()).unwrap();
        }
        let after = padded.weight.values().unwrap();
        assert_eq!(after[15..20], [0.0; 5]);
        assert_ne!(after[5..10], weight[5..10]);
    }
}
