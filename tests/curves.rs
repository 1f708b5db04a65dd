//! Losses of whole runs, step by step, against PyTorch's from the same start (`scripts/curves.py` describes the file): SGD, Adam and
//! AdamW on a regression, a small net of sigmoids and the digits. And all optimizers of the example `optimizers` on its regression.

mod common;
#[path = "../examples/common/rules.rs"]
mod rules;

use kiln::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

const STEPS: usize = 100;

/// The file, in memory.
struct File {
    bytes: Vec<u8>,
    settings: Value,
}

impl File {
    fn open() -> File {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/curves.safetensors");
        let bytes = std::fs::read(path).expect("tests/data/curves.safetensors");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let settings = &header.metadata().as_ref().expect("metadata")["settings"];
        File { settings: serde_json::from_str(settings).expect("settings"), bytes }
    }

    /// Axis lengths and elements.
    fn get(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let values = match view.dtype() {
            safetensors::Dtype::F64 => {
                view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            _ => view.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
        };
        (view.shape().to_vec(), values)
    }

    fn tensor(&self, device: &Device, name: &str) -> Tensor {
        let (shape, values) = self.get(name);
        device.tensor(&values.iter().map(|&x| x as f32).collect::<Vec<f32>>(), &shape)
    }

    fn optimizer(&self, problem: &str, rule: &str, params: &ParamStore) -> Box<dyn Optimizer> {
        let settings = &self.settings[problem][rule];
        let number = |name: &str, default: f64| settings.get(name).map_or(default, |value| value.as_f64().unwrap());
        let beta = |i: usize, default: f64| settings.get("betas").map_or(default, |value| value[i].as_f64().unwrap());
        let (lr, betas) = (number("lr", f64::NAN), (beta(0, 0.9), beta(1, 0.999)));
        match rule {
            "sgd" => {
                let nesterov = settings.get("nesterov") == Some(&Value::Bool(true));
                let momentum = number("momentum", 0.0);
                Box::new(Sgd::new(params, SgdConfig { lr, momentum, nesterov, ..Default::default() }))
            }
            "adam" => {
                let weight_decay = number("weight_decay", 0.0);
                Box::new(Adam::new(params, AdamConfig { lr, betas, weight_decay, ..Default::default() }))
            }
            _ => {
                let weight_decay = number("weight_decay", 0.01);
                Box::new(AdamW::new(params, AdamWConfig { lr, betas, weight_decay, ..Default::default() }))
            }
        }
    }

    /// The losses of a run.
    fn run(&self, device: &Device, problem: &str, rule: &str) -> Vec<f64> {
        let params = ParamStore::new(device, 0);
        let root = params.root();
        let mut net = Sequential::new();
        let linear = |name: &str, inputs: usize, outputs: usize| Linear::new(&root.child(name), inputs, outputs);
        net = match problem {
            "regression" => net.add(linear("line", 2, 1)),
            "sigmoid" => {
                net.add(linear("hidden", 3, 2)).add(Tensor::sigmoid).add(linear("out", 2, 1)).add(Tensor::sigmoid)
            }
            _ => {
                let conv = Conv2d::new(&root.child("conv"), 1, 4, 3).padding(1);
                net.add(conv).add(Tensor::relu).add(MaxPool2d::new(2)).add(Flatten).add(linear("fc", 64, 10))
            }
        };
        for param in params.parameters() {
            param.set(&self.get(&format!("{problem}.start.{}", param.name())).1).unwrap();
        }
        let mut optimizer = self.optimizer(problem, rule, &params);
        let digits = kiln::data::digits().train;
        let mut loader = digits.batches(64).drop_last(true);
        let loss = |_| {
            let loss = if problem == "digits" {
                let batch = loader.next().or_else(|| loader.next()).unwrap();
                let images = device.tensor(&batch.images, &batch.shape);
                net.forward(&images, Mode::Train).cross_entropy(&device.labels(&batch.labels))
            } else {
                let [x, y] = ["x", "y"].map(|name| self.tensor(device, &format!("{problem}.{name}")));
                net.forward(&x, Mode::Train).mse_loss(&y)
            };
            optimizer.step(&loss).unwrap();
            loss
        };
        let losses: Vec<Tensor> = (0..STEPS).map(loss).collect();
        losses.iter().map(|loss| loss.item().unwrap()).collect()
    }
}

/// The curves of all problems and rules, `within` this of PyTorch's losses, as a share of them.
fn follows_pytorch(device: &Device, within: f64) {
    let file = File::open();
    for problem in ["regression", "sigmoid", "digits"] {
        for rule in ["sgd", "adam", "adamw"] {
            let (_, wanted) = file.get(&format!("{problem}.{rule}"));
            assert!(
                wanted.len() == STEPS && wanted[STEPS - 1] < 0.5 * wanted[0],
                "{problem} {rule}: nothing is learnt"
            );
            let found = file.run(device, problem, rule);
            let error = |(found, wanted): (&f64, &f64)| (found - wanted).abs() / wanted;
            let worst = found.iter().zip(&wanted).map(error).fold(0.0, f64::max);
            println!("{problem} {rule}: {worst:.1e}");
            assert!(worst < within, "{problem} {rule}: {worst:.1e}\n{found:?}\n{wanted:?}");
        }
    }
}

#[test]
fn losses_on_a_gpu_are_those_of_pytorch() {
    follows_pytorch(&common::gpu(), 1e-4);
}

#[test]
fn losses_of_the_reference_are_those_of_pytorch() {
    follows_pytorch(&Device::cpu(), 1e-12);
}

/// What the example promises of its smaller problem; the digits take it a minute.
#[test]
fn every_optimizer_finds_the_line() {
    for device in [Device::cpu(), common::gpu()] {
        let check = |name: &str, found: Vec<f64>| {
            let error = (found[0] - 3.0).abs().max((found[1] - 2.0).abs());
            assert!(error < 0.05, "{name} on {}: {found:?}", device.name());
        };
        for &(name, [_, lr], make) in rules::ALL {
            check(name, rules::regression(&ParamStore::new(&device, 42), 300, lr, make).unwrap());
        }
        let params = ParamStore::new(&device, 42);
        let found = rules::regressed(&params, |loss| rules::lbfgs(&params, 10, loss).map(drop));
        check("L-BFGS", found.unwrap());
    }
}
