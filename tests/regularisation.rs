//! What keeps a model from learning its data by heart: options of the loss, branches and units that are left out, mixed
//! samples, and two passes that must agree. Values of the options are held to PyTorch's in `tests/pytorch.rs`.

mod common;

use kiln::nn::{StochasticDepth, StochasticDepthMode};
use kiln::ops::cross_entropy::{CrossEntropyOptions, Reduction};
use kiln::prelude::*;

fn devices() -> [Device; 2] {
    [common::gpu(), Device::cpu()]
}

/// Each of `got` within 1e-5 of `want`, relative to 1 and to it.
#[track_caller]
fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 1e-5 * (1.0 + want.abs()), "element {i}: {got} instead of {want}");
    }
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_array().unwrap().data
}

#[test]
fn a_row_that_is_ignored_has_no_loss_and_no_gradient() {
    for device in devices() {
        let logits = device.normal(&[5, 7], 0.0, 2.0, 1).variable();
        let labels = device.tensor(&[3i32, -100, 0, -100, 6], &[5]);
        for label_smoothing in [0.0, 0.1] {
            let options = CrossEntropyOptions { label_smoothing, ignore: Some(-100), ..Default::default() };
            let rows = CrossEntropyOptions { reduction: Reduction::None, ..options };
            let of_rows = values(&logits.cross_entropy_with(&labels, &rows));
            assert!(of_rows[1] == 0.0 && of_rows[3] == 0.0 && of_rows[0] > 0.0, "{of_rows:?}");
            let loss = logits.cross_entropy_with(&labels, &options);
            assert_close(&values(&loss), &[of_rows.iter().sum::<f64>() / 3.0]);
            let gradient = values(&loss.gradients(&[&logits]).unwrap()[0]);
            assert!(gradient[7..14].iter().chain(&gradient[21..28]).all(|&g| g == 0.0), "{gradient:?}");
            // As if the ignored rows were not there.
            let kept = logits.index_select(0, &device.tensor(&[0u32, 2, 4], &[3]));
            let plain = CrossEntropyOptions { label_smoothing, ..Default::default() };
            let want = kept.cross_entropy_with(&device.labels(&[3, 0, 6]), &plain);
            assert_close(&values(&loss), &values(&want));
            assert_close(&gradient, &values(&want.gradients(&[&logits]).unwrap()[0]));
        }
    }
}

#[test]
fn a_mean_over_no_row_is_not_a_number_as_pytorch_s() {
    for device in devices() {
        let ignoring = CrossEntropyOptions { ignore: Some(i64::from(u32::MAX)), ..Default::default() };
        let labels = device.labels(&[u32::MAX, u32::MAX]);
        assert!(device.ones(&[2, 3]).cross_entropy_with(&labels, &ignoring).item().unwrap().is_nan());
        let sum = CrossEntropyOptions { reduction: Reduction::Sum, ..ignoring };
        assert_eq!(device.ones(&[2, 3]).cross_entropy_with(&labels, &sum).item().unwrap(), 0.0);
    }
}

#[test]
fn what_does_not_fit_is_an_error_when_it_is_recorded() {
    let device = Device::cpu();
    let logits = device.zeros(&[2, 10]);
    let labels = device.labels(&[3, 9]);
    let error = |target: &Tensor, options: &CrossEntropyOptions<'_>| {
        logits.cross_entropy_with(target, options).error().expect("an error").clone()
    };
    let plain = CrossEntropyOptions::default();
    let is_value = |error: Error, word: &str| match &error {
        Error::Value { op: "cross_entropy_with", what, .. } => assert!(what.contains(word), "{what}"),
        other => panic!("{other:?}"),
    };
    for label_smoothing in [-0.1, 1.5, f64::NAN] {
        is_value(error(&labels, &CrossEntropyOptions { label_smoothing, ..plain }), "smoothing");
    }
    is_value(error(&device.labels(&[3, 10]), &plain), "label 10 ");
    let ignoring = CrossEntropyOptions { ignore: Some(-100), ..plain };
    is_value(error(&device.tensor(&[-100i32, -99], &[2]), &ignoring), "label -99 ");
    is_value(error(&device.tensor(&[-100i32, 10], &[2]), &ignoring), "label 10 ");
    is_value(error(&device.zeros(&[2, 10]), &ignoring), "ignored");
    let (short, whole) = (device.ones(&[9]), device.tensor(&[1u32; 10], &[10]));
    for (weights, is_shape) in [(&short, true), (&whole, false)] {
        let error = error(&labels, &CrossEntropyOptions { class_weights: Some(weights), ..plain });
        assert!(matches!(error, Error::Shape { .. }) == is_shape, "{error}");
        assert!(is_shape || matches!(error, Error::DType { .. }), "{error}");
    }
    for target in [device.zeros(&[2, 9]), device.zeros(&[20]), device.labels(&[1, 2, 3])] {
        assert!(matches!(error(&target, &plain), Error::Shape { .. }));
    }
    assert!(matches!(error(&labels.cast(DType::Bool), &plain), Error::DType { .. }));
    // An error of an input goes its own way.
    let broken = device.zeros(&[3]) + device.zeros(&[4]);
    let weighted = CrossEntropyOptions { class_weights: Some(&broken), ..plain };
    assert!(matches!(error(&labels, &weighted), Error::Shape { op: "add", .. }));
}

#[test]
fn half_precision_gives_the_loss_of_its_logits_in_f32() {
    for device in devices() {
        let half = device.normal(&[37, 12], 0.0, 3.0, 1).cast(DType::F16);
        let labels = device.labels(&(0..37).map(|i| i % 12).collect::<Vec<_>>());
        let weights = device.uniform(&[12], 0.5, 1.5, 2).cast(DType::F16);
        let options = CrossEntropyOptions { label_smoothing: 0.1, class_weights: Some(&weights), ..Default::default() };
        let loss = half.cross_entropy_with(&labels, &options);
        let wide = weights.cast(DType::F32);
        let want = CrossEntropyOptions { class_weights: Some(&wide), ..options };
        let want = half.cast(DType::F32).cross_entropy_with(&labels, &want);
        assert_eq!(loss.dtype().unwrap(), DType::F32);
        assert_close(&values(&loss), &values(&want));
    }
}

/// Mix-up (Zhang, Cisse, Dauphin and Lopez-Paz 2018): two samples and their targets in the same proportion.
#[test]
fn a_mixed_target_is_the_mixed_loss() {
    for device in devices() {
        let store = ParamStore::new(&device, 3);
        let net = Linear::new(&store.root(), 6, 5);
        let [a, b] = [1, 2].map(|seed| device.normal(&[8, 6], 0.0, 1.0, seed));
        let [of_a, of_b] = [[0, 1, 2, 3, 4, 0, 1, 2], [4, 4, 3, 3, 2, 2, 1, 1]].map(|labels| device.labels(&labels));
        let share = 0.3;
        let mixed = &a * share + &b * (1.0 - share);
        let target = of_a.one_hot(5) * share + of_b.one_hot(5) * (1.0 - share);
        let logits = net.forward(&mixed, Mode::Train);
        let loss = logits.cross_entropy_with(&target, &CrossEntropyOptions::default());
        let want = logits.cross_entropy(&of_a) * share + logits.cross_entropy(&of_b) * (1.0 - share);
        let weight = net.weight.tensor();
        assert_close(&values(&loss), &values(&want));
        let [got, want] = [&loss, &want].map(|loss| values(&loss.gradients(&[&weight]).unwrap()[0]));
        assert_close(&got, &want);
        Sgd::new(&store, SgdConfig::default()).step(&loss).unwrap();
    }
}

/// Kullback-Leibler divergence of the softmax of `q` from that of `p`, mean over the rows.
fn divergence(p: &Tensor, q: &Tensor) -> Tensor {
    (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(&[1]).mean_all()
}

/// The divergence of two passes under different dropout masks, after 40 steps on some labels with `weight` times it in the
/// loss: R-drop (Liang et al. 2021).
fn divergence_after_training(device: &Device, weight: f64) -> f64 {
    let store = ParamStore::new(device, 3);
    let root = store.root();
    let net = Sequential::new()
        .add(Linear::new(&root.child("first"), 6, 32))
        .add(Tensor::relu)
        .add(Dropout::new(&root, 0.5))
        .add(Linear::new(&root.child("second"), 32, 5));
    let x = device.normal(&[16, 6], 0.0, 1.0, 1);
    let labels = device.labels(&(0..16).map(|i| i % 5).collect::<Vec<_>>());
    let mut sgd = Sgd::new(&store, SgdConfig { lr: 0.3, ..Default::default() });
    let mut apart = vec![];
    for _ in 0..40 {
        let [p, q] = [0, 1].map(|_| net.forward(&x, Mode::Train));
        let penalty = (divergence(&p, &q) + divergence(&q, &p)) * 0.5;
        let loss = (p.cross_entropy(&labels) + q.cross_entropy(&labels)) * 0.5 + &penalty * weight;
        sgd.step(&loss).unwrap();
        apart.push(penalty.item().unwrap());
    }
    apart[30..].iter().sum::<f64>() / 10.0
}

#[test]
fn two_passes_under_dropout_are_pulled_together() {
    for device in devices() {
        let [free, pulled] = [0.0, 5.0].map(|weight| divergence_after_training(&device, weight));
        assert!(pulled > 0.0 && pulled < 0.3 * free, "{pulled} with the penalty, {free} without");
    }
}

#[test]
fn the_divergence_is_a_cross_entropy_with_soft_targets_less_an_entropy() {
    for device in devices() {
        let [p, q] = [1, 2].map(|seed| device.normal(&[16, 5], 0.0, 2.0, seed).variable());
        let of = |logits: &Tensor| logits.cross_entropy_with(&p.softmax(1), &CrossEntropyOptions::default());
        let [got, want] = [of(&q) - of(&p), divergence(&p, &q)];
        assert_close(&values(&got), &values(&want));
        // To both sides: the shares have a gradient too.
        let [got, want] = [got, want].map(|loss| loss.gradients(&[&p, &q]).unwrap());
        got.iter().zip(&want).for_each(|(got, want)| assert_close(&values(got), &values(want)));
    }
}

#[test]
fn stochastic_depth_keeps_or_zeros_whole_samples() {
    for device in devices() {
        let draws = ParamStore::new(&device, 5).draws().clone();
        let x = device.uniform(&[2003, 3, 5], 0.5, 1.5, 1);
        let before = values(&x);
        let y = values(&x.stochastic_depth(0.25, StochasticDepthMode::Row, &draws));
        let mut kept = 0;
        for (sample, x) in y.chunks(15).zip(before.chunks(15)) {
            let is_kept = sample[0] != 0.0;
            kept += usize::from(is_kept);
            let want: Vec<f64> = x.iter().map(|x| if is_kept { x / 0.75 } else { 0.0 }).collect();
            assert_close(sample, &want);
        }
        // 2003 draws with deviation 19: five of these.
        assert!((1405..=1600).contains(&kept), "{kept} of 2003 samples kept");
        let mut whole = [0, 0];
        for _ in 0..64 {
            let y = values(&x.stochastic_depth(0.25, StochasticDepthMode::Batch, &draws));
            let is_kept = y[0] != 0.0;
            assert!(y.iter().all(|&y| (y != 0.0) == is_kept));
            whole[usize::from(is_kept)] += 1;
        }
        // 64 draws with deviation 3.5.
        assert!(whole[1] > 30 && whole[0] > 2, "{whole:?}");
    }
}

#[test]
fn a_branch_is_left_out_only_while_training() {
    let device = Device::cpu();
    let store = ParamStore::new(&device, 4);
    let depth = StochasticDepth::new(&store.root(), 0.5, StochasticDepthMode::Row);
    let x = device.ones(&[64, 3]);
    assert_eq!(values(&depth.forward(&x, Mode::Eval)), [1.0; 192]);
    let [a, b] = [0, 1].map(|_| values(&depth.forward(&x, Mode::Train)));
    assert!(a != b && a.iter().all(|&y| y == 0.0 || y == 2.0), "{a:?}");
}

#[test]
fn a_probability_of_one_gives_zeros_and_no_gradient() {
    for device in devices() {
        let draws = ParamStore::new(&device, 5).draws().clone();
        let odd = [1.0f32, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0];
        for dtype in [DType::F32, DType::F16] {
            let x = device.tensor(&odd, &[2, 3]).cast(dtype).variable();
            for y in [
                x.dropout(1.0, &draws),
                x.stochastic_depth(1.0, StochasticDepthMode::Row, &draws),
                x.stochastic_depth(1.0, StochasticDepthMode::Batch, &draws),
            ] {
                let gradient = (&y * 3.0).sum_all().gradients(&[&x]).unwrap();
                assert_eq!(values(&y), [0.0; 6]);
                assert_eq!(values(&gradient[0]), [0.0; 6]);
            }
        }
        // Just below 1 there is a factor, and it is finite.
        let y = values(&device.ones(&[100]).dropout(1.0 - 2f64.powi(-32), &draws));
        assert!(y.iter().all(|y| y.is_finite()));
        for p in [-0.1, 1.1, f64::NAN] {
            let x = device.ones(&[3]);
            assert!(matches!(x.dropout(p, &draws).error(), Some(Error::Value { op: "dropout", .. })));
            let y = x.stochastic_depth(p, StochasticDepthMode::Row, &draws);
            assert!(matches!(y.error(), Some(Error::Value { op: "stochastic_depth", .. })));
        }
        let scalar = device.ones(&[1]).sum_all();
        let y = scalar.stochastic_depth(0.5, StochasticDepthMode::Row, &draws);
        assert!(matches!(y.error(), Some(Error::Shape { op: "stochastic_depth", .. })));
        assert!(scalar.stochastic_depth(0.5, StochasticDepthMode::Batch, &draws).error().is_none());
    }
}
