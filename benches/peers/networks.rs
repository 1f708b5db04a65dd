//! Training steps: a convolutional network, two multilayer perceptrons.

use anyhow::Result;
use kiln::nn::{Conv2d, Linear, Mode, Module};
use kiln::prelude::*;
use kiln::rng::Philox;
use serde_json::Value;

use crate::suite::{Bench, Suite};

/// Host batches that a workload goes round.
const BATCHES: usize = 8;

pub fn run(suite: &mut Suite) {
    for rows in [64, 256] {
        suite.run(&format!("cnn_mnist_step_b{rows}"), |bench| {
            let params = ParamStore::new(&bench.device, 1);
            let root = params.root();
            let c1 = Conv2d::new(&root.child("c1"), 1, 32, 3).padding(1);
            let c2 = Conv2d::new(&root.child("c2"), 32, 64, 3).padding(1);
            let (f1, f2) = (Linear::new(&root.child("f1"), 3136, 128), Linear::new(&root.child("f2"), 128, 10));
            classify(bench, &params, &[rows, 1, 28, 28], |x| {
                let x = c1.forward(&x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
                let x = c2.forward(&x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
                let x = f1.forward(&x.flatten(1), Mode::Train).relu();
                f2.forward(&x, Mode::Train)
            })
        });
    }
    suite.run("mlp_tiny_step", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let layers = layers(&params, &[16, 32, 32, 4]);
        regress(bench, &params, ("steps/s", 1.0), &[8, 16], &[8, 4], |x| mlp(&layers, x))
    });
    suite.run("mlp_step", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let layers = layers(&params, &[784, 512, 512, 10]);
        classify(bench, &params, &[128, 784], |x| mlp(&layers, x))
    });
}

fn layers(params: &ParamStore, sizes: &[usize]) -> Vec<Linear> {
    let layer = |(i, pair): (usize, &[usize])| Linear::new(&params.root().child(i), pair[0], pair[1]);
    sizes.windows(2).enumerate().map(layer).collect()
}

fn mlp(layers: &[Linear], mut x: Tensor) -> Tensor {
    for (i, layer) in layers.iter().enumerate() {
        x = layer.forward(&x, Mode::Train);
        if i + 1 < layers.len() {
            x = x.relu();
        }
    }
    x
}

fn adamw(params: &ParamStore) -> AdamW {
    AdamW::new(params, AdamWConfig { lr: 1e-3, weight_decay: 1e-2, ..AdamWConfig::default() })
}

fn floats(rng: &mut Philox, shape: &[usize], low: f32) -> Vec<f32> {
    (0..shape.iter().product()).map(|_| low + (1.0 - low) * rng.uniform() as f32).collect()
}

/// Trains `logits` of inputs of `shape` on ten classes, images a second.
pub fn classify(
    bench: &Bench,
    params: &ParamStore,
    shape: &[usize],
    logits: impl Fn(Tensor) -> Tensor,
) -> Result<Value> {
    let mut rng = Philox::new(1, 2);
    let batches: Vec<(Vec<f32>, Vec<u32>)> =
        (0..BATCHES).map(|_| (floats(&mut rng, shape, 0.0), (0..shape[0]).map(|_| rng.below(10)).collect())).collect();
    let (mut optimizer, mut turn) = (adamw(params), batches.iter().cycle());
    bench.train("images/s", shape[0] as f64, || {
        let (x, y) = turn.next().expect("batches");
        let loss = logits(bench.device.tensor(x, shape)).cross_entropy(&bench.device.labels(y));
        optimizer.step(&loss)?;
        Ok(loss)
    })
}

/// Trains `predict` of inputs of `shape` on targets of shape `targets` with the mean square error; a step is so many units
/// of the metric.
pub fn regress(
    bench: &Bench,
    params: &ParamStore,
    (metric, units): (&str, f64),
    shape: &[usize],
    targets: &[usize],
    predict: impl Fn(Tensor) -> Tensor,
) -> Result<Value> {
    let mut rng = Philox::new(1, 2);
    let batches: Vec<[Vec<f32>; 2]> =
        (0..BATCHES).map(|_| [shape, targets].map(|shape| floats(&mut rng, shape, -1.0))).collect();
    let (mut optimizer, mut turn) = (adamw(params), batches.iter().cycle());
    bench.train(metric, units, || {
        let [x, y] = turn.next().expect("batches");
        let loss = predict(bench.device.tensor(x, shape)).mse_loss(&bench.device.tensor(y, targets));
        optimizer.step(&loss)?;
        Ok(loss)
    })
}
