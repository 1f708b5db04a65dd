//! Whole training runs of the example's network on the embedded digits: it learns, it follows the reference, it repeats,
//! and it goes on where it stopped.

mod common;

use kiln::data::{Dataset, Loader, digits};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

const EPOCHS: u64 = 8;
const BATCH: usize = 64;
/// Of the comparison of mixed precision with f32: one test image is 0.3 points.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// Two convolutions and two linear layers, as in `examples/train_cnn`.
struct Cnn {
    device: Device,
    params: ParamStore,
    layers: Sequential,
    adamw: AdamW,
    epochs: u64,
}

impl Cnn {
    fn new(device: &Device, seed: u64) -> Cnn {
        let params = ParamStore::new(device, seed);
        let root = params.root();
        let config = || Conv2dConfig { padding: [1, 1], ..Default::default() };
        let layers = Sequential::new()
            .add(Conv2d::new(&root.child("conv1"), 1, 16, [3, 3], config()))
            .add(Tensor::relu)
            .add(MaxPool2d::new([2, 2]))
            .add(Conv2d::new(&root.child("conv2"), 16, 32, [3, 3], config()))
            .add(Tensor::relu)
            .add(MaxPool2d::new([2, 2]))
            .add(Flatten)
            .add(Linear::new(&root.child("fc1"), 128, 64))
            .add(Tensor::relu)
            .add(Dropout::new(&root.child("dropout"), 0.2))
            .add(Linear::new(&root.child("fc2"), 64, 10));
        let adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..Default::default() });
        Cnn { device: device.clone(), params, layers, adamw, epochs: EPOCHS }
    }

    /// Trains on what `loader` gives next, at most `steps` batches and at most to the end of the epoch; the losses.
    fn train(&mut self, loader: &mut Loader<'_>, steps: usize) -> Vec<f64> {
        let all = (self.epochs * loader.batches_per_epoch()) as f64;
        let mut losses = vec![];
        for batch in loader.take(steps) {
            let x = self.device.tensor(&batch.images, &batch.shape);
            let loss = self.layers.forward(&x, Mode::Train).cross_entropy(&self.device.labels(&batch.labels));
            let progress = self.adamw.steps() as f64 / all;
            self.adamw.set_lr(3e-3 * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * progress).cos())));
            self.adamw.step(&loss).unwrap();
            losses.push(loss);
        }
        losses.iter().map(|loss| loss.item().unwrap()).collect()
    }

    fn accuracy(&self, data: &Dataset) -> f64 {
        let right = |batch: kiln::data::Batch| {
            let x = self.device.tensor(&batch.images, &batch.shape);
            let guesses = no_grad(|| self.layers.forward(&x, Mode::Eval).argmax(1)).to_vec::<u32>().unwrap();
            guesses.iter().zip(&batch.labels).filter(|(guess, label)| guess == label).count()
        };
        data.batches(256).map(right).sum::<usize>() as f64 / data.len() as f64
    }

    /// Every bit of every parameter.
    fn bits(&self) -> Vec<(String, Vec<u64>)> {
        let named = self.params.parameters();
        named.iter().map(|p| (p.name(), p.values().unwrap().into_iter().map(f64::to_bits).collect())).collect()
    }
}

#[test]
fn the_network_learns_the_digits() {
    let splits = digits();
    let mut net = Cnn::new(&common::gpu(), 42);
    assert!(net.accuracy(&splits.test) < 0.5);
    let mut loader = splits.train.batches(BATCH).shuffle(42);
    let losses: Vec<f64> = (0..EPOCHS).flat_map(|_| net.train(&mut loader, usize::MAX)).collect();
    assert_eq!(losses.len() as u64, EPOCHS * loader.batches_per_epoch());
    let accuracy = net.accuracy(&splits.test);
    assert!(accuracy >= 0.95, "{accuracy}: {losses:?}");
}

#[test]
fn mixed_precision_learns_the_digits_as_well_as_f32() {
    let splits = digits();
    let device = common::gpu();
    let run = |precision: Precision, seed: u64| {
        let mut net = Cnn::new(&device, seed);
        net.params.set_precision(precision);
        net.epochs = 2 * EPOCHS;
        let mut loader = splits.train.batches(BATCH).shuffle(seed);
        (0..net.epochs).for_each(|_| drop(net.train(&mut loader, usize::MAX)));
        assert_eq!(net.adamw.loss_scale().unwrap().is_some(), precision == Precision::Mixed);
        net.accuracy(&splits.test)
    };
    let mean = |precision: Precision| SEEDS.iter().map(|&seed| run(precision, seed)).sum::<f64>() / SEEDS.len() as f64;
    let (mixed, full) = (mean(Precision::Mixed), mean(Precision::Full));
    assert!(mixed >= full - 0.003 && mixed >= 0.95, "{mixed} in mixed precision, {full} in f32");
}

#[test]
fn a_gpu_follows_the_reference() {
    let splits = digits();
    let run = |device: &Device| {
        let mut loader = splits.train.batches(32).shuffle(3);
        Cnn::new(device, 3).train(&mut loader, 20)
    };
    let (gpu, cpu) = (run(&common::gpu()), run(&Device::cpu()));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&cpu[15..]) < mean(&cpu[..5]), "it does not learn: {cpu:?}");
    for (step, (got, want)) in gpu.iter().zip(&cpu).enumerate() {
        assert!((got - want).abs() < 1e-4, "step {step}: {got} {want}");
    }
}

#[test]
fn one_seed_gives_one_run_and_a_stopped_one_goes_on_to_the_same_bits() {
    let splits = digits();
    let loader = || splits.train.batches(BATCH).shuffle(9);
    let whole = |device: &Device| {
        let mut net = Cnn::new(device, 9);
        let mut loader = loader();
        // Into the second epoch, past the partial last batch of the first.
        let losses = [net.train(&mut loader, usize::MAX), net.train(&mut loader, 3)].concat();
        (losses, net.bits())
    };
    let device = common::gpu();
    let uninterrupted = whole(&device);
    assert_eq!(whole(&device), uninterrupted, "on one device");
    // Nothing cached: plans are made anew.
    let fresh = Device::best().unwrap();
    assert_eq!(whole(&fresh), uninterrupted, "on a device made later");

    let folder = std::env::temp_dir().join(format!("kiln-whole-runs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("run.safetensors");
    let mut losses = {
        let mut net = Cnn::new(&device, 9);
        let mut loader = loader();
        let losses = net.train(&mut loader, 7);
        Checkpoint::save(&path, &net.params, Some(&net.adamw), Some(loader.position())).unwrap();
        // What happens after the save is not in the file.
        net.train(&mut loader, 2);
        losses
    };
    // Another seed: everything must come from the file.
    let mut net = Cnn::new(&fresh, 10);
    let position = Checkpoint::load(&path, &net.params, Some(&mut net.adamw)).unwrap().position.unwrap();
    assert_eq!((position.epoch, position.batch, net.adamw.steps()), (0, 7, 7));
    let mut rest = loader();
    rest.seek(position).unwrap();
    losses.extend(net.train(&mut rest, usize::MAX));
    losses.extend(net.train(&mut rest, 3));
    assert_eq!((losses, net.bits()), uninterrupted, "resumed");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_step_of_the_digits_cnn_is_at_most_thirty_dispatches() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let splits = digits();
    let mut net = Cnn::new(&device, 1);
    net.train(&mut splits.train.batches(BATCH), 1);
    let statistics = device.statistics();
    assert!(statistics.dispatches <= 30, "{}", statistics.last_plan);
}

#[test]
fn a_partial_last_batch_of_the_digits_cnn_compiles_no_pipeline() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let splits = digits();
    let mut net = Cnn::new(&device, 1);
    net.train(&mut splits.train.batches(BATCH), 1);
    let [_, _, pipelines] = device.objects_made();
    for size in [29, 37, 61] {
        net.train(&mut splits.train.batches(size), 1);
        assert_eq!(device.objects_made()[2], pipelines, "at {size} images: {}", device.statistics().last_plan);
    }
}
