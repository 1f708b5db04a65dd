//! What memory bounds: the optimizer, a pointwise chain, softmax.

use anyhow::Result;
use kiln::Tensor;
use kiln::prelude::*;
use serde_json::Value;

use crate::suite::{Bench, Suite};

pub fn run(suite: &mut Suite) {
    suite.run("adamw_10M", |bench| adamw(bench, [500, 1000]));
    suite.run("elementwise_chain", |bench| chain(bench, 16 << 20));
    // Lengths that divide by nothing, in both.
    suite.run("adamw_odd", |bench| adamw(bench, [300, 700]));
    suite.run("elementwise_odd", |bench| chain(bench, (3 << 20) + 7));
    suite.run("softmax_fwd_bwd", |bench| {
        let x = bench.random(&[4096, 1024], 1)?;
        forward_and_backward(bench, &x, |x| x.softmax(1))
    });
}

/// `function` of `x` and its gradient with respect to `x`, ones coming in: 20 bytes an element.
pub fn forward_and_backward(bench: &Bench, x: &Tensor, function: impl Fn(&Tensor) -> Tensor) -> Result<Value> {
    let elements: usize = x.shape()?.iter().product();
    bench.op("GB/s", 20e-9 * elements as f64, || {
        let x = x.variable();
        let y = function(&x);
        let gradient = y.sum_all().gradients(&[&x])?.remove(0);
        Ok(vec![y, gradient])
    })
}

/// A pointwise chain: 8 bytes an element.
fn chain(bench: &Bench, elements: usize) -> Result<Value> {
    let x = bench.random(&[elements], 1)?;
    bench.op("GB/s", 8e-9 * elements as f64, || Ok(vec![(&x * 1.1 + 0.1).gelu() * x.sigmoid() + &x]))
}

/// 20 parameters of this shape: 28 bytes a scalar.
fn adamw(bench: &Bench, shape: [usize; 2]) -> Result<Value> {
    let params = ParamStore::new(&bench.device, 1);
    let init = Init::Uniform { low: -1.0, high: 1.0 };
    let all: Vec<Param> = (0..20).map(|i| params.root().param(i, &shape, init)).collect();
    let gradients: Vec<Tensor> = (0..20).map(|i| bench.random(&shape, i)).collect::<Result<_>>()?;
    let config = AdamWConfig { lr: 1e-3, weight_decay: 1e-2, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(&params, config);
    bench.op("GB/s", 28e-9 * 20.0 * shape.iter().product::<usize>() as f64, || {
        optimizer.step_with(all.iter().cloned().zip(gradients.iter().cloned()).collect())?;
        Ok(vec![])
    })
}
