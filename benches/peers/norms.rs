//! Normalisation: layer and batch, forward and backward, and a residual block.

use anyhow::Result;
use kiln::nn::{BatchNorm2d, Conv2d, LayerNorm, Mode, Module};
use kiln::prelude::*;
use serde_json::Value;

use crate::networks::regress;
use crate::suite::{Bench, Suite};

pub fn run(suite: &mut Suite) {
    suite.run("layernorm_fwd_bwd", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let norm = LayerNorm::new(&params.root(), &[1024]);
        forward_and_backward(bench, &params, &[4096, 1024], &norm, Vec::new)
    });
    suite.run("batchnorm2d_fwd_bwd", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let norm = BatchNorm2d::new(&params.root(), 64);
        let states = || vec![norm.running_mean.get(), norm.running_var.get()];
        forward_and_backward(bench, &params, &[64, 64, 28, 28], &norm, states)
    });
    suite.run("resnet_block_step", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let root = params.root();
        let convolution = |name: &str| Conv2d::new(&root.child(name), 64, 64, 3).padding(1);
        let (c1, b1) = (convolution("c1"), BatchNorm2d::new(&root.child("b1"), 64));
        let (c2, b2) = (convolution("c2"), BatchNorm2d::new(&root.child("b2"), 64));
        let shape = [32, 64, 32, 32];
        regress(bench, &params, ("images/s", 32.0), &shape, &shape, |x| {
            let y = b1.forward(&c1.forward(&x, Mode::Train), Mode::Train).relu();
            (b2.forward(&c2.forward(&y, Mode::Train), Mode::Train) + x).relu()
        })
    });
}

/// A layer's result, its new states, and the gradients of its input and parameters, ones coming in: 20 bytes an element.
fn forward_and_backward(
    bench: &Bench,
    params: &ParamStore,
    shape: &[usize],
    layer: &impl Module,
    states: impl Fn() -> Vec<Tensor>,
) -> Result<Value> {
    let x = bench.random(shape, 1)?;
    let elements: usize = shape.iter().product();
    bench.op("GB/s", 20e-9 * elements as f64, || {
        let x = x.variable();
        let y = layer.forward(&x, Mode::Train);
        let weights: Vec<Tensor> = params.parameters().iter().map(Param::tensor).collect();
        let wrt: Vec<&Tensor> = [&x].into_iter().chain(&weights).collect();
        let mut results = y.sum_all().gradients(&wrt)?;
        results.push(y);
        results.extend(states());
        Ok(results)
    })
}
