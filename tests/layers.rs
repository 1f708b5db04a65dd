//! Layers: names and layouts, modes, and a whole training run against PyTorch.

mod common;
#[path = "common/pytorch.rs"]
mod pytorch;

use kiln::prelude::*;
use kiln::{Array, Shape};

/// The network of the `cnn_losses` case.
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc: Linear,
}

impl Cnn {
    fn new(root: &Path) -> Cnn {
        let config = Conv2dConfig { padding: [1, 1], ..Default::default() };
        Cnn {
            conv1: Conv2d::new(&(root / "conv1"), 1, 8, [3, 3], config),
            conv2: Conv2d::new(&(root / "conv2"), 8, 16, [3, 3], config),
            fc: Linear::new(&(root / "fc"), 64, 10),
        }
    }
}

impl Module for Cnn {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let pool = MaxPool2d::new([2, 2]);
        let x = pool.forward(&self.conv1.forward(x, mode).relu(), mode);
        let x = pool.forward(&self.conv2.forward(&x, mode).relu(), mode);
        self.fc.forward(&Flatten.forward(&x, mode), mode)
    }
}

fn train_as_pytorch(device: &Device, tolerance: f64) {
    let file = pytorch::File::open();
    let case = file.cases.iter().find(|case| case.op == "cnn_losses").unwrap();
    let store = ParamStore::new(device, 0);
    let net = Cnn::new(&store.root());
    for name in &case.inputs[2..] {
        store.get(name).unwrap().set(&file.values(name)).unwrap();
    }
    let (images, labels) = (file.values(&case.inputs[0]), file.values(&case.inputs[1]));
    let mut adamw = AdamW::new(&store, AdamWConfig::default());
    let mut losses = vec![];
    for step in 0..20 {
        let rows = 16 * (step % 5);
        let data = images[rows * 64..(rows + 16) * 64].to_vec();
        let x = device.array(&Array { shape: Shape::new(&[16, 1, 8, 8]).unwrap(), dtype: DType::F32, data });
        let y: Vec<u32> = labels[rows..rows + 16].iter().map(|&label| label as u32).collect();
        let loss = net.forward(&x, Mode::Train).cross_entropy(&device.labels(&y));
        adamw.step(&loss).unwrap();
        losses.push(loss);
    }
    let close = |got: f64, want: f64| (got - want).abs() < tolerance * want.abs().max(1.0);
    for (step, (loss, want)) in losses.iter().zip(file.values(&case.outputs[0])).enumerate() {
        let got = loss.item().unwrap();
        assert!(close(got, want), "step {step}: {got} and {want}");
    }
    for (name, output) in case.inputs[2..].iter().zip(&case.outputs[2..]) {
        let got = store.get(name).unwrap().values().unwrap();
        for (got, want) in got.iter().zip(file.values(output)) {
            assert!(close(*got, want), "{name}: {got} and {want}");
        }
    }
}

#[test]
fn the_reference_trains_a_network_to_pytorch_s_weights() {
    train_as_pytorch(&Device::cpu(), 1e-9);
}

#[test]
fn a_gpu_trains_a_network_to_pytorch_s_weights() {
    train_as_pytorch(&common::gpu(), 1e-4);
}

#[test]
fn parameters_have_pytorch_s_names_shapes_and_bounds() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let net = Cnn::new(&store.root());
    let names = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"];
    assert_eq!(store.names(), names);
    assert_eq!(net.conv2.weight.shape().unwrap()[..], [16, 8, 3, 3]);
    assert_eq!(net.fc.weight.shape().unwrap()[..], [10, 64]);
    assert_eq!(store.count(), 80 + 16 * 72 + 16 + 650);
    for (prefix, fan_in) in [("conv1", 9f64), ("conv2", 72.0), ("fc", 64.0)] {
        for suffix in ["weight", "bias"] {
            let values = store.get(&format!("{prefix}.{suffix}")).unwrap().values().unwrap();
            let largest = values.iter().fold(0f64, |m, x| m.max(x.abs()));
            assert!(largest <= 1.0 / fan_in.sqrt() + 1e-6 && largest > 0.5 / fan_in.sqrt(), "{prefix}.{suffix}");
        }
    }
}

#[test]
fn dropout_drops_only_while_training_and_never_the_same_twice() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let dropout = Dropout::new(&store.root(), 0.5);
    let x = Device::cpu().ones(&[1000]);
    assert_eq!(dropout.forward(&x, Mode::Eval).to_vec::<f32>().unwrap(), [1.0; 1000]);
    let [a, b] = [0, 1].map(|_| dropout.forward(&x, Mode::Train).to_vec::<f32>().unwrap());
    assert_ne!(a, b);
    let kept = a.iter().filter(|&&x| x == 2.0).count();
    assert!(a.iter().all(|&x| x == 0.0 || x == 2.0) && (400..600).contains(&kept));
}

#[test]
fn functions_are_layers_of_a_sequence() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let root = store.root();
    let net = Sequential::new()
        .add(Linear::new(&root.child(0), 3, 4))
        .add(Tensor::relu)
        .add(|x: &Tensor| x.leaky_relu(0.1))
        .add(Linear::with(&root.child(3), 4, 2, false, Init::Ones));
    let x = Device::cpu().array(&common::normals(&[5, 3], 1));
    assert_eq!(net.forward(&x, Mode::Train).shape().unwrap(), [5, 2]);
    assert_eq!(store.names(), ["0.weight", "0.bias", "3.weight"]);
}

#[test]
fn an_input_that_does_not_fit_is_an_error_that_names_the_op() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let net = Cnn::new(&store.root());
    let y = net.forward(&Device::cpu().zeros(&[2, 3, 8, 8]), Mode::Train);
    let text = y.shape().unwrap_err().to_string();
    assert!(text.contains("conv2d"), "{text}");
    let mut sgd = Sgd::new(&store, SgdConfig::default());
    assert!(sgd.step(&y.sum_all()).is_err());
}
