//! What an imported model takes beside the same network written in Kiln: time of a training step, dispatches, memory.
//!
//! `cargo bench --features onnx --bench imported` compares a ResNet-18 for images of 3x32x32 with what comes back of its export, and
//! with the file that `KILN_ONNX_RESNET` names, from PyTorch's exporter. `KILN_ONNX_MODEL=FILE` loads that file instead, records,
//! plans and runs it once, and prints the seconds and the program's peak memory. `KILN_BATCH` is the batch.

use std::time::Instant;

use kiln::nn::{AdaptiveAvgPool2d, Residual};
use kiln::onnx::{ExportOptions, Model, export_bytes, load, load_bytes};
use kiln::prelude::*;

/// Steps of a round, and rounds of each network in turn.
const STEPS: usize = 3;
const ROUNDS: usize = 7;

fn block(path: &Path, inputs: usize, outputs: usize, stride: usize) -> Sequential {
    let config = ConvConfig { bias: false, ..Default::default() };
    let conv = |name: &str, inputs: usize, size: usize| Conv2d::with(&path.child(name), inputs, outputs, size, config);
    let branch = Sequential::new()
        .add(conv("conv1", inputs, 3).stride(stride).padding(1))
        .add(BatchNorm2d::new(&path.child("bn1"), outputs))
        .add(Tensor::relu)
        .add(conv("conv2", outputs, 3).padding(1))
        .add(BatchNorm2d::new(&path.child("bn2"), outputs));
    let mut residual = Residual::new(branch);
    if stride != 1 || inputs != outputs {
        let around = Sequential::new()
            .add(conv("down", inputs, 1).stride(stride))
            .add(BatchNorm2d::new(&path.child("bn3"), outputs));
        residual = residual.shortcut(around);
    }
    Sequential::new().add(residual).add(Tensor::relu)
}

/// ResNet-18 (He et al. 2016), with the stem that small images have.
fn resnet(root: &Path) -> Sequential {
    let config = ConvConfig { bias: false, ..Default::default() };
    let mut net = Sequential::new()
        .add(Conv2d::with(&root.child("stem"), 3, 64, 3, config).padding(1))
        .add(BatchNorm2d::new(&root.child("norm"), 64))
        .add(Tensor::relu);
    let mut inputs = 64;
    for (stage, outputs) in [64, 128, 256, 512].into_iter().enumerate() {
        for number in 0..2 {
            let stride = if stage > 0 && number == 0 { 2 } else { 1 };
            net = net.add(block(&root.child(format!("block{stage}{number}")), inputs, outputs, stride));
            inputs = outputs;
        }
    }
    net.add(AdaptiveAvgPool2d::new(1)).add(Flatten).add(Linear::new(&root.child("fc"), 512, 10))
}

/// A network while it is trained.
struct Trained {
    name: String,
    net: Box<dyn Fn(&Tensor) -> Tensor>,
    sgd: Sgd,
    seconds: Vec<f64>,
    dispatches: usize,
    memory: u64,
}

impl Trained {
    fn new(name: &str, params: &ParamStore, net: impl Fn(&Tensor) -> Tensor + 'static) -> Trained {
        let sgd = Sgd::new(params, SgdConfig { lr: 0.01, momentum: 0.9, ..SgdConfig::default() });
        Trained { name: name.into(), net: Box::new(net), sgd, seconds: vec![], dispatches: 0, memory: 0 }
    }

    fn round(&mut self, device: &Device, images: &[f32], shape: &[usize], labels: &[u32]) {
        let began = Instant::now();
        let mut last = 0.0;
        for _ in 0..STEPS {
            let loss = (self.net)(&device.tensor(images, shape)).cross_entropy(&device.labels(labels));
            self.sgd.step(&loss).unwrap();
            last = loss.item().unwrap();
        }
        assert!(last.is_finite());
        self.seconds.push(began.elapsed().as_secs_f64() / STEPS as f64);
        self.dispatches = device.statistics().dispatches;
        self.memory = device.last_plan().map_or(0, |plan| plan.peak_bytes());
    }

    fn median(&self) -> f64 {
        let mut seconds = self.seconds[1..].to_vec();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

/// Most memory that the program has had, in MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1e3
}

/// Zeros for the first input of a model, free axes of length 1.
fn input(model: &Model, device: &Device) -> Tensor {
    let first = &model.inputs()[0];
    let dims: Vec<usize> = first.dims.iter().flatten().map(|dim| dim.clone().unwrap_or(1)).collect();
    device.zeros(&dims).cast(first.elem.map_or(DType::F32, |elem| elem.dtype()))
}

fn run_once(file: &str, device: &Device) {
    let before = peak();
    let began = Instant::now();
    let model = load(file, device).unwrap();
    let loaded = began.elapsed().as_secs_f64();
    println!("{model:?}\nloaded    {loaded:6.2} s   peak {:.0} MB ({before:.0} MB before)", peak());
    // On a device that computes nothing: what recording and planning take.
    let noop = Device::noop().unwrap();
    let other = load(file, &noop).unwrap();
    let began = Instant::now();
    let y = other.forward(&[input(&other, &noop)], Mode::Eval);
    noop.eval(&[&y[0]]).unwrap();
    let dispatches = noop.statistics().dispatches;
    println!("planned   {:6.2} s   {dispatches} dispatches", began.elapsed().as_secs_f64());
    drop((y, other));
    let x = input(&model, device);
    for pass in ["first", "second"] {
        let began = Instant::now();
        let y = model.forward(std::slice::from_ref(&x), Mode::Eval);
        let recorded = began.elapsed().as_secs_f64();
        let sum = y[0].abs().max_all().item().unwrap();
        let seconds = began.elapsed().as_secs_f64();
        println!("{pass:6} run {seconds:5.2} s   of which recording {recorded:.2} s   peak {:.0} MB   {sum}", peak());
    }
}

fn main() {
    let device = Device::best().unwrap();
    println!("device    {}", device.info());
    if let Ok(file) = std::env::var("KILN_ONNX_MODEL") {
        return run_once(&file, &device);
    }
    let batch = std::env::var("KILN_BATCH").ok().and_then(|batch| batch.parse().ok()).unwrap_or(4);
    let params = ParamStore::new(&device, 42);
    let net = resnet(&params.root());
    let x = device.zeros(&[2, 3, 32, 32]);
    let bytes = export_bytes(|x| vec![net.forward(&x[0], Mode::Eval)], &[x], &ExportOptions::default()).unwrap();
    let mut all = vec![Trained::new("written", &params, move |x| net.forward(x, Mode::Train))];
    let back = load_bytes(&bytes, &device).unwrap();
    let store = back.params().clone();
    all.push(Trained::new("imported", &store, move |x| back.forward(std::slice::from_ref(x), Mode::Train)[0].clone()));
    if let Ok(file) = std::env::var("KILN_ONNX_RESNET") {
        let model = load(file, &device).unwrap();
        let store = model.params().clone();
        let forward = move |x: &Tensor| model.forward(std::slice::from_ref(x), Mode::Train)[0].clone();
        all.push(Trained::new("by PyTorch", &store, forward));
    }
    let images: Vec<f32> = (0..batch * 3072).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let labels: Vec<u32> = (0..batch).map(|i| (i % 10) as u32).collect();
    for _ in 0..ROUNDS {
        all.iter_mut().for_each(|trained| trained.round(&device, &images, &[batch, 3, 32, 32], &labels));
    }
    let first = all[0].median();
    for trained in &all {
        let (seconds, ratio) = (trained.median(), trained.median() / first);
        let (dispatches, megabytes) = (trained.dispatches, trained.memory as f64 / 1e6);
        println!(
            "{:11} {seconds:7.3} s a step  {ratio:5.3}  {dispatches:4} dispatches  {megabytes:7.1} MB",
            trained.name
        );
    }
}
