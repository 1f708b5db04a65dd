//! Matrix products and convolutions.

use anyhow::Result;
use kiln::Tensor;
use kiln::ops::conv2d::Conv2dOptions;
use serde_json::Value;

use crate::suite::{Bench, Suite};

pub fn run(suite: &mut Suite) {
    for size in [256, 512, 1024, 2048] {
        suite.run(&format!("gemm_f32_{size}"), |bench| product(bench, [size; 3]));
    }
    suite.run("gemm_mlp", |bench| product(bench, [64, 784, 1024]));
    suite.run("conv_fwd", |bench| convolution(bench, false));
    suite.run("conv_fwd_bwd", |bench| convolution(bench, true));
}

fn product(bench: &Bench, [m, k, n]: [usize; 3]) -> Result<Value> {
    let (a, b) = (bench.random(&[m, k], 1)?, bench.random(&[k, n], 2)?);
    bench.op("GFLOP/s", 2e-9 * (m * n * k) as f64, || Ok(vec![a.matmul(&b)]))
}

/// 64 images of 28 x 28, 32 to 64 channels, 3 x 3.
fn convolution(bench: &Bench, gradients: bool) -> Result<Value> {
    let work = 2e-9 * (64 * 64 * 28 * 28 * 32 * 9) as f64;
    let options = Conv2dOptions { padding: [1, 1], ..Conv2dOptions::default() };
    let [x, w, b] = [bench.random(&[64, 32, 28, 28], 1)?, bench.random(&[64, 32, 3, 3], 2)?, bench.random(&[64], 3)?];
    let forward = |x: &Tensor, w: &Tensor, b: &Tensor| x.conv2d(w, &options) + b.reshape(&[1, 64, 1, 1]);
    if !gradients {
        return bench.op("GFLOP/s", work, || Ok(vec![forward(&x, &w, &b)]));
    }
    bench.op("GFLOP/s", 3.0 * work, || {
        let [x, w, b] = [&x, &w, &b].map(Tensor::variable);
        let y = forward(&x, &w, &b);
        let mut results = y.sum_all().gradients(&[&x, &w, &b])?;
        results.push(y);
        Ok(results)
    })
}
