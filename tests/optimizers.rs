//! Optimizers against PyTorch, the reference against the GPU, and what a step promises.

mod common;

use kiln::prelude::*;

/// y = tanh(x w1) w2 by products and sums, so that nothing but pointwise ops and reductions is needed.
struct Net {
    first: Param,
    second: Param,
    bias: Param,
}

impl Net {
    fn new(path: &Path) -> Net {
        Net {
            first: path.child("first").param("weight", &[8, 3], Init::FAN_IN_UNIFORM),
            second: path.child("second").param("weight", &[8], Init::Normal { mean: 0.0, deviation: 0.5 }),
            bias: path.param("bias", &[1], Init::Zeros),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = (x.reshape(&[16, 1, 3]) * self.first.tensor()).sum(&[2]).tanh();
        (hidden * self.second.tensor()).sum_keep(&[1]) + self.bias.tensor()
    }
}

fn train(device: &Device, steps: usize) -> Vec<f64> {
    let store = ParamStore::new(device, 3);
    let net = Net::new(&store.root());
    let mut adamw = AdamW::new(&store, AdamWConfig { lr: 0.02, clip_norm: Some(1.0), ..Default::default() });
    let x = common::normals(&[16, 3], 1);
    let y: Vec<f32> = x.data.chunks(3).map(|row| (row[0] * row[1] - row[2]) as f32).collect();
    let mut losses = vec![];
    for _ in 0..steps {
        let error = net.forward(&device.array(&x)) - device.tensor(&y, &[16, 1]);
        let loss = (&error * &error).mean_all();
        adamw.step(&loss).unwrap();
        losses.push(loss.item().unwrap());
    }
    losses
}

#[test]
fn training_lowers_the_loss_equally_on_gpu_and_reference() {
    let (gpu, cpu) = (train(&common::gpu(), 60), train(&Device::cpu(), 60));
    assert!(gpu[59] < 0.3 * gpu[0], "{gpu:?}");
    for (step, (a, b)) in gpu.iter().zip(&cpu).enumerate() {
        assert!((a / b - 1.0).abs() < 1e-4, "step {step}: {a} and {b}");
    }
}
