//! The workloads that other engines are measured on, one JSON line each: shapes, metric and names are those of their
//! benchmarks, so that the lines of several engines can be put in one table.
//!
//! `cargo bench --bench peers -- --only cnn,mlp --samples 7`; `KILN_DEVICE` chooses the device.
//!
//! A training step uploads a fresh batch, runs forward, backward and AdamW (lr 1e-3, decay 1e-2); the loss is read every
//! 10 steps. A sample lasts at least 0.15 s. Floating point operations: gemm 2 m n k; convolution 2 n c_out h w c_in 9, three
//! times that with gradients; AdamW 28 bytes a parameter; the pointwise chain 8 bytes an element; softmax forward and
//! backward 20 bytes an element.

use std::time::Instant;

use kiln::nn::{Conv2d, Conv2dConfig, Linear, Mode, Module};
use kiln::ops::conv2d::Conv2dOptions;
use kiln::prelude::*;
use serde_json::json;

struct Bench {
    device: Device,
    only: Vec<String>,
    samples: usize,
}

impl Bench {
    fn wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    fn emit(&self, name: &str, metric: &str, mut values: Vec<f64>, first: f64) {
        values.sort_by(f64::total_cmp);
        let line = json!({
            "peer": "kiln", "device": self.device.name(), "workload": name, "metric": metric,
            "median": values[values.len() / 2], "min": values[0], "max": values[values.len() - 1], "n": values.len(),
            "first_step_s": first, "dispatches": self.device.statistics().dispatches,
            "peak_device_mib": self.device.memory().1 >> 20, "peak_rss_mib": peak_rss_mib(),
        });
        println!("{line}");
    }

    fn synchronize(&self) {
        self.device.synchronize().expect("the device");
    }

    /// `units` of work are done by one call of `run`.
    fn time(&self, name: &str, metric: &str, units: f64, mut run: impl FnMut()) {
        if !self.wanted(name) {
            return;
        }
        let started = Instant::now();
        run();
        self.synchronize();
        let first = started.elapsed().as_secs_f64();
        (0..3).for_each(|_| run());
        self.synchronize();
        let started = Instant::now();
        run();
        self.synchronize();
        let calls = ((0.15 / started.elapsed().as_secs_f64()).ceil() as usize).clamp(1, 1000);
        let values = (0..self.samples).map(|_| {
            let started = Instant::now();
            (0..calls).for_each(|_| run());
            self.synchronize();
            units * calls as f64 / started.elapsed().as_secs_f64()
        });
        self.emit(name, metric, values.collect(), first);
    }

    /// `units` a step; the loss is read every tenth.
    fn train(
        &self,
        name: &str,
        metric: &str,
        units: f64,
        params: &ParamStore,
        batches: &[(Vec<f32>, Vec<u32>)],
        loss: impl Fn(&[f32], &[u32]) -> Tensor,
    ) {
        let config = AdamWConfig { lr: 1e-3, weight_decay: 1e-2, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(params, config);
        let mut count = 0;
        let step = || {
            let (x, y) = &batches[count % batches.len()];
            let loss = loss(x, y);
            optimizer.step(&loss).expect("a step");
            count += 1;
            if count % 10 == 0 {
                assert!(loss.item().expect("a loss").is_finite());
            }
        };
        self.time(name, metric, units, step);
    }

    fn random(&self, shape: &[usize], seed: u64) -> Tensor {
        let tensor = self.device.uniform(shape, -1.0, 1.0, seed);
        // Used by many runs, an upload gets a buffer of its own.
        for _ in 0..10 {
            self.device.eval(&[&(&tensor * 1.0).sum_all()]).expect("a run");
        }
        tensor
    }
}

fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Four batches of uniform inputs and labels.
fn batches(rows: usize, features: usize, classes: u32) -> Vec<(Vec<f32>, Vec<u32>)> {
    let mut rng = kiln::rng::Philox::new(1, 2);
    (0..4)
        .map(|_| {
            let x = (0..rows * features).map(|_| rng.uniform() as f32).collect();
            (x, (0..rows).map(|_| rng.below(classes)).collect())
        })
        .collect()
}

fn products(bench: &Bench) {
    let device = &bench.device;
    let product = |name: &str, [m, k, n]: [usize; 3]| {
        if bench.wanted(name) {
            let (a, b) = (bench.random(&[m, k], 1), bench.random(&[k, n], 2));
            let work = 2.0 * (m * n * k) as f64 / 1e9;
            bench.time(name, "GFLOP/s", work, || device.eval(&[&a.matmul(&b)]).expect("a product"));
        }
    };
    for size in [256, 512, 1024, 2048] {
        product(&format!("gemm_f32_{size}"), [size; 3]);
    }
    product("gemm_mlp", [64, 784, 1024]);
}

fn convolutions(bench: &Bench) {
    if !bench.wanted("conv_fwd") && !bench.wanted("conv_fwd_bwd") {
        return;
    }
    let device = &bench.device;
    let work = (2 * 64 * 64 * 28 * 28 * 32 * 9) as f64 / 1e9;
    let options = Conv2dOptions { padding: [1, 1], ..Conv2dOptions::default() };
    let [x, w, b] = [bench.random(&[64, 32, 28, 28], 1), bench.random(&[64, 32, 3, 3], 2), bench.random(&[64], 3)];
    let forward = |x: &Tensor, w: &Tensor, b: &Tensor| x.conv2d(w, &options) + b.reshape(&[1, 64, 1, 1]);
    bench.time("conv_fwd", "GFLOP/s", work, || device.eval(&[&forward(&x, &w, &b)]).expect("a convolution"));
    bench.time("conv_fwd_bwd", "GFLOP/s", 3.0 * work, || {
        let [x, w, b] = [&x, &w, &b].map(Tensor::variable);
        let y = forward(&x, &w, &b);
        let gradients = y.sum_all().gradients(&[&x, &w, &b]).expect("gradients");
        device.eval(&[&y, &gradients[0], &gradients[1], &gradients[2]]).expect("a convolution");
    });
}

fn networks(bench: &Bench) {
    let device = &bench.device;
    for rows in [64, 256] {
        let name = format!("cnn_mnist_step_b{rows}");
        if !bench.wanted(&name) {
            continue;
        }
        let params = ParamStore::new(device, 1);
        let root = params.root();
        let config = Conv2dConfig { padding: [1, 1], ..Conv2dConfig::default() };
        let c1 = Conv2d::new(&root.child("c1"), 1, 32, [3, 3], config);
        let c2 = Conv2d::new(&root.child("c2"), 32, 64, [3, 3], config);
        let (f1, f2) = (Linear::new(&root.child("f1"), 3136, 128), Linear::new(&root.child("f2"), 128, 10));
        let loss = |x: &[f32], y: &[u32]| {
            let x = device.tensor(x, &[rows, 1, 28, 28]);
            let x = c1.forward(&x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
            let x = c2.forward(&x, Mode::Train).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
            let x = f1.forward(&x.flatten(1), Mode::Train).relu();
            f2.forward(&x, Mode::Train).cross_entropy(&device.labels(y))
        };
        bench.train(&name, "images/s", rows as f64, &params, &batches(rows, 784, 10), loss);
    }
    if bench.wanted("mlp_tiny_step") {
        let params = ParamStore::new(device, 1);
        let sizes = [16, 32, 32, 4];
        let layers = layers(&params, &sizes);
        let targets = device.uniform(&[8, 4], -1.0, 1.0, 5);
        let loss = |x: &[f32], _: &[u32]| mlp(&layers, device.tensor(x, &[8, 16])).mse_loss(&targets);
        bench.train("mlp_tiny_step", "steps/s", 1.0, &params, &batches(8, 16, 4), loss);
    }
    if bench.wanted("mlp_step") {
        let params = ParamStore::new(device, 1);
        let layers = layers(&params, &[784, 512, 512, 10]);
        let loss = |x: &[f32], y: &[u32]| mlp(&layers, device.tensor(x, &[128, 784])).cross_entropy(&device.labels(y));
        bench.train("mlp_step", "images/s", 128.0, &params, &batches(128, 784, 10), loss);
    }
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

fn bandwidth(bench: &Bench) {
    let device = &bench.device;
    if bench.wanted("adamw_10M") {
        let params = ParamStore::new(device, 1);
        let all: Vec<Param> =
            (0..20).map(|i| params.root().param(i, &[500, 1000], Init::Normal { mean: 0.0, deviation: 0.1 })).collect();
        let mut optimizer = AdamW::new(&params, AdamWConfig { lr: 1e-3, weight_decay: 1e-2, ..Default::default() });
        // The gradient of a sum is a constant: writing it costs one write a parameter beside the update.
        let run = || {
            let loss = all.iter().map(|param| param.tensor().sum_all()).reduce(|a, b| a + b).expect("parameters");
            optimizer.step(&loss).expect("a step");
        };
        bench.time("adamw_10M_with_gradients", "GB/s", 28.0 * 10e6 / 1e9, run);
    }
    let elements = 16 << 20;
    if bench.wanted("elementwise_chain") {
        let [x, a, b] = [1, 2, 3].map(|seed| bench.random(&[elements], seed));
        let _ = (&a, &b);
        let run = || {
            let y = (&x * 1.5 + 0.5).gelu() * x.sigmoid() + &x;
            device.eval(&[&y]).expect("a chain");
        };
        bench.time("elementwise_chain", "GB/s", 8.0 * elements as f64 / 1e9, run);
    }
    if bench.wanted("softmax_fwd_bwd") {
        let x = bench.random(&[8192, 1024], 1);
        let run = || {
            let x = x.variable();
            let y = x.softmax(1);
            let gradient = y.sum_all().gradients(&[&x]).expect("gradients").remove(0);
            device.eval(&[&y, &gradient]).expect("a softmax");
        };
        bench.time("softmax_fwd_bwd", "GB/s", 20.0 * (8192 * 1024) as f64 / 1e9, run);
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|i| args.get(i + 1));
    let only = value("--only").map_or_else(Vec::new, |list| list.split(',').map(str::to_string).collect());
    let samples = value("--samples").and_then(|n| n.parse().ok()).unwrap_or(7);
    let bench = Bench { device: Device::best().expect("a device"), only, samples };
    products(&bench);
    convolutions(&bench);
    networks(&bench);
    bandwidth(&bench);
}
