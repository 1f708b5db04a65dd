//! A small network that several tests train.

use kiln::Draws;
use kiln::prelude::*;

/// A two-layer network on 16 features.
pub struct Net {
    pub params: ParamStore,
    pub weights: [Param; 4],
    draws: Draws,
}

impl Net {
    pub fn new(device: &Device) -> Net {
        let params = ParamStore::new(device, 5);
        let root = params.root();
        let uniform = || Init::Uniform { low: -0.3, high: 0.3 };
        let weights = [
            root.param("fc1.weight", &[32, 16], uniform()),
            root.param("fc1.bias", &[32], Init::Zeros),
            root.param("fc2.weight", &[5, 32], uniform()),
            root.param("fc2.bias", &[5], Init::Zeros),
        ];
        let draws = params.draws().clone();
        Net { params, weights, draws }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let [w1, b1, w2, b2] = self.weights.each_ref().map(Param::tensor);
        let hidden = (x.matmul(&w1.transpose(0, 1)) + b1).relu().dropout(0.1, &self.draws);
        hidden.matmul(&w2.transpose(0, 1)) + b2
    }
}

/// Batch number `i` of `rows` rows.
pub fn batch(device: &Device, rows: usize, i: u64) -> (Tensor, Tensor) {
    let x: Vec<f32> = super::normals(&[rows, 16], i).data.iter().map(|&v| v as f32).collect();
    let labels: Vec<u32> = (0..rows).map(|r| ((r as u64 * 7 + i) % 5) as u32).collect();
    (device.tensor(&x, &[rows, 16]), device.labels(&labels))
}

/// One step.
pub fn train(device: &Device, net: &Net, optimizer: &mut AdamW, rows: usize, step: u64) -> Tensor {
    let (x, labels) = batch(device, rows, step % 50);
    let loss = net.forward(&x).cross_entropy(&labels);
    optimizer.set_lr(1e-3 / (1.0 + step as f64)).expect("a rate");
    optimizer.step(&loss).expect("a step");
    loss
}

pub fn adamw(net: &Net) -> AdamW {
    AdamW::new(&net.params, AdamWConfig { weight_decay: 1e-2, ..Default::default() }).clip_norm(1.0)
}
