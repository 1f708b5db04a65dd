//! Regions that the backward pass computes again: the same numbers, less memory.

mod common;

use std::time::Instant;

use kiln::nn::{Conv2d, Recompute, Sequential};
use kiln::prelude::*;
use kiln::{Draws, State, recompute};

fn gpu() -> Device {
    Device::named("vulkan").expect("a Vulkan driver: `make test` installs one")
}

/// Runs `body` as a recomputed region, or as it is.
fn marked<R>(mark: bool, body: impl FnOnce() -> R) -> R {
    if mark { recompute(body) } else { body() }
}

/// Two regions in a row and one tensor that skips both; dropout, a slice, a reduction and a constant inside.
fn gradients(device: &Device, mark: bool) -> Vec<Vec<f32>> {
    let input = |shape: &[usize], seed| {
        let values: Vec<f32> = common::normals(shape, seed).data.iter().map(|&v| v as f32).collect();
        device.tensor(&values, shape).variable()
    };
    let (x, w, b) = (input(&[37, 13], 1), input(&[13, 13], 2), input(&[13], 3));
    let draws = Draws::new(7);
    let first = marked(mark, || {
        let hidden = (x.matmul(&w) + &b).gelu();
        (&hidden * hidden.sum_keep(&[1]).tanh()).dropout(0.3, &draws) * 0.7
    });
    let second = marked(mark, || {
        let part = first.matmul(&w).slice(1, 2, 7).softmax(1);
        part.tanh() + first.slice(1, 0, 7).exp()
    });
    let loss = (&second * &second).sum_all() + (&first * &x).sum_all();
    let gradients = loss.gradients(&[&x, &w, &b]).unwrap();
    gradients.iter().chain([&loss]).map(|tensor| tensor.to_vec().unwrap()).collect()
}

#[test]
fn the_reference_gives_the_same_bits_with_and_without_the_mark() {
    let device = Device::cpu();
    assert_eq!(gradients(&device, true), gradients(&device, false));
}

#[test]
fn a_gpu_gives_the_same_gradients_with_and_without_the_mark() {
    let device = gpu();
    for (marked, plain) in gradients(&device, true).iter().zip(gradients(&device, false)) {
        assert_eq!(marked.len(), plain.len());
        for (a, b) in marked.iter().zip(&plain) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} against {b}");
        }
    }
}

#[test]
fn gradients_of_gradients_pass_through_a_region() {
    let device = Device::cpu();
    let second = |mark| {
        let x = device.tensor(&[0.3_f32, -1.2, 2.0], &[3]).variable();
        let y = marked(mark, || (&x * x.exp()).tanh().exp());
        let first = y.sum_all().gradients(&[&x]).unwrap().remove(0);
        (&first * &first).sum_all().gradients(&[&x]).unwrap()[0].to_vec::<f32>().unwrap()
    };
    assert_eq!(second(true), second(false));
}

#[test]
fn a_state_assigned_in_a_region_is_assigned_once() {
    for device in [Device::cpu(), gpu()] {
        let params = ParamStore::new(&device, 1);
        let weight = params.root().param("weight", &[4], Init::Ones);
        let count: State = params.root().state("count", &device.tensor(&[0.0_f32], &[1]));
        let mut optimizer = Sgd::new(&params, SgdConfig { lr: 0.1, ..SgdConfig::default() });
        for _ in 0..3 {
            let loss = recompute(|| {
                count.assign(&(count.get() + 1.0));
                weight.tensor().exp().tanh().sum_all()
            });
            optimizer.step(&loss).unwrap();
        }
        assert_eq!(count.get().to_vec::<f32>().unwrap(), [3.0]);
    }
}

/// Twenty convolutions in blocks of five; with `mark`, all blocks but the last are marked (its backward pass comes at
/// once, while what it keeps would be alive anyway).
fn deep(params: &ParamStore, mark: bool) -> Sequential {
    let mut net = Sequential::new();
    for first in (0..20).step_by(5) {
        let mut layers = Sequential::new();
        for layer in first..first + 5 {
            layers = layers.add(Conv2d::new(&params.root().child(layer), 8, 8, 3).padding(1)).add(Tensor::gelu);
        }
        net = if mark && first < 15 { net.add(Recompute(layers)) } else { net.add(layers) };
    }
    net
}

/// Peak device bytes, seconds of a step (the best of several) and the losses of a few steps.
fn train(mark: bool) -> (u64, f64, Vec<f64>) {
    let device = gpu();
    let params = ParamStore::new(&device, 3);
    let net = deep(&params, mark);
    let mut optimizer = AdamW::new(&params, AdamWConfig::default());
    let x: Vec<f32> = common::normals(&[16, 8, 24, 24], 5).data.iter().map(|&v| v as f32).collect();
    let mut losses = vec![];
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let started = Instant::now();
        let x = device.tensor(&x, &[16, 8, 24, 24]);
        let loss = (net.forward(&x, Mode::Train) - &x).square().mean_all();
        optimizer.step(&loss).unwrap();
        losses.push(loss.item().unwrap());
        best = best.min(started.elapsed().as_secs_f64());
    }
    assert_eq!(device.statistics().plans_made, 1, "a marked step must find its plan again");
    if std::env::var("SHOW").is_ok() {
        println!("{}", device.statistics().last_plan);
    }
    (device.memory().1, best, losses)
}

#[test]
fn twenty_layers_train_alike_in_half_the_memory() {
    let (plain_bytes, plain_seconds, plain) = train(false);
    let (marked_bytes, marked_seconds, marked) = train(true);
    println!(
        "peak {plain_bytes} -> {marked_bytes} bytes ({:.2}), step {:.3} -> {:.3} s ({:.2})",
        marked_bytes as f64 / plain_bytes as f64,
        plain_seconds,
        marked_seconds,
        marked_seconds / plain_seconds,
    );
    for (a, b) in marked.iter().zip(&plain) {
        assert!((a - b).abs() <= 1e-4 * b.abs(), "{a} against {b}");
    }
    assert!(marked_bytes * 2 <= plain_bytes, "{marked_bytes} bytes of {plain_bytes}");
}

/// The first gradient that reaches a region is what its copies wait for. Where that gradient is also read by a sum, it may
/// not become part of the sum's kernel, which needs the copies.
#[test]
fn a_gradient_that_a_region_waits_for_is_formed_before_the_sum_that_needs_the_region() {
    let run = |device: &Device, mark: bool| -> Vec<Vec<f32>> {
        let x = device.tensor(&[0.5f32, -1.25, 2.0, 0.25, -0.75, 1.5], &[6]);
        let v = device.tensor(&[1.0f32, 0.5, -0.25, 0.75, 1.25, -1.5], &[6]).variable();
        let distance = x.mse_loss(&v);
        let powers = marked(mark, || (x.abs() + 0.8).pow(&distance.elu(0.75).tanh()));
        let loss = powers.relu().mean_all();
        let gradients = loss.gradients(&[&v]).unwrap();
        [&gradients[0], &loss].map(|tensor| tensor.to_vec().unwrap()).into()
    };
    let want = run(&Device::cpu(), false);
    for device in [Device::cpu(), gpu()] {
        for (got, want) in run(&device, true).iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{got} against {want}");
        }
    }
}
