//! A residual network for 32x32 colour images (He et al. 2016) with batch normalisation, crops and flips, MixUp, an
//! exponential average of the weights, and mixed precision.
//!
//! `cargo run --release --example cifar_resnet -- --data-dir DIR` reads the binary files of CIFAR-10; without a folder it makes
//! images of ten coloured shapes.

#[path = "common/program.rs"]
mod program;
#[path = "common/shapes.rs"]
mod shapes;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::data::{self, DataLoader, HostArray, Image, transforms};
use kiln::nn::{AdaptiveAvgPool2d, Residual};
use kiln::ops::cross_entropy::CrossEntropyOptions;
use kiln::optim::{Ema, LossScale};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;
use kiln::train::mix::mix_up;
use kiln::train::{Progress, Trainer};
use serde_json::json;

/// Trains a small residual network on CIFAR-10, or on shapes that it draws.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
    /// Folder with `data_batch_1.bin` and its kin, and `test_batch.bin`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Passes over the training images.
    #[arg(long, default_value_t = 2)]
    epochs: u64,
    /// Compute in f32 alone.
    #[arg(long)]
    full_precision: bool,
}

/// Two convolutions and the way around them, at half the size where `stride` is 2.
fn block(path: &Path, inputs: usize, outputs: usize, stride: usize) -> Sequential {
    let config = ConvConfig { bias: false, ..Default::default() };
    let conv = |name: &str, inputs: usize, size: usize| Conv2d::with(&path.child(name), inputs, outputs, size, config);
    let branch = Sequential::new()
        .add(conv("conv1", inputs, 3).stride(stride).padding(1))
        .add(BatchNorm2d::new(&path.child("norm1"), outputs))
        .add(Tensor::relu)
        .add(conv("conv2", outputs, 3).padding(1))
        .add(BatchNorm2d::new(&path.child("norm2"), outputs));
    let mut residual = Residual::new(branch);
    if stride != 1 || inputs != outputs {
        let around = Sequential::new()
            .add(conv("around", inputs, 1).stride(stride))
            .add(BatchNorm2d::new(&path.child("norm3"), outputs));
        residual = residual.shortcut(around);
    }
    Sequential::new().add(residual).add(Tensor::relu)
}

fn network(root: &Path, classes: usize) -> Sequential {
    let config = ConvConfig { bias: false, ..Default::default() };
    Sequential::new()
        .add(Conv2d::with(&root.child("stem"), 3, 16, 3, config).padding(1))
        .add(BatchNorm2d::new(&root.child("norm"), 16))
        .add(Tensor::relu)
        .add(block(&root.child("block1"), 16, 16, 1))
        .add(block(&root.child("block2"), 16, 32, 2))
        .add(block(&root.child("block3"), 32, 64, 2))
        .add(AdaptiveAvgPool2d::new(1))
        .add(Flatten)
        .add(Linear::new(&root.child("fc"), 64, classes))
}

/// An item of the data as what transforms take.
fn image_of(pixels: HostArray<f32>) -> kiln::Result<Image> {
    Image::new(3, 32, 32, pixels.values)
}

fn main() -> Result<()> {
    let Args { common: args, data_dir, epochs, full_precision } = Args::parse();
    let device = args.start()?;
    let splits = match &data_dir {
        Some(dir) => data::cifar10(dir)?,
        None => {
            println!("data     no `--data-dir` with the binary files of CIFAR-10, so coloured shapes are made");
            shapes::shapes(args.pick(4000, 128), args.pick(500, 64), args.seed)?
        }
    };
    let (train, test) = (splits.train.limit(args.pick(usize::MAX, 128)), splits.test.limit(args.pick(usize::MAX, 64)));
    println!("data     {}: {} images to train, {} to test", train.name(), train.len(), test.len());

    let params = ParamStore::new(&device, args.seed);
    if !full_precision {
        params.set_precision(Precision::Mixed);
    }
    let classes = train.classes();
    let net = network(&params.root(), classes);
    println!("model    {} parameters", params.count());

    let normal = transforms::normalise(&[0.491, 0.482, 0.447], &[0.247, 0.243, 0.262]);
    let augment = transforms::compose([
        normal.clone(),
        transforms::pad(4, 0.0),
        transforms::random_crop([32, 32]),
        transforms::flip_horizontal(0.5),
    ]);
    let train = DataLoader::new(train, 64)
        .shuffle(args.seed)
        .try_map(move |(image, label), random| Ok((augment.apply(image_of(image)?, random)?, label)))
        .workers(1);
    let test = DataLoader::new(test, 250)
        .try_map(move |(image, label), random| Ok((normal.apply(image_of(image)?, random)?, label)));

    let epochs = args.pick(epochs, 1);
    let steps = epochs * train.batches_per_epoch();
    let ema = Ema::new(&params, 0.98).warm_up();
    let sgd = SgdConfig { momentum: 0.9, nesterov: true, weight_decay: 5e-4, ..Default::default() };
    let sgd = Sgd::new(&params, sgd)
        .schedule(schedule::cosine(0.1, steps).warm_up(steps / 5))
        .loss_scaling((!full_precision).then(LossScale::default))
        .average(&ema);
    let mut trainer = Trainer::new(&params).optimizer(sgd).average(&ema).epochs(epochs).callback(Progress::on_stdout());
    let history = trainer.fit(train, test, |step, (images, labels)| {
        let (mut images, labels) =
            (step.device().tensor(&images.values, &images.shape), step.device().labels(&labels.values));
        let mut targets = labels.one_hot(classes);
        if step.is_training() {
            let mixed = mix_up(&images, &targets, 0.2, &mut Philox::new(args.seed, step.number()));
            (images, targets) = (mixed.images, mixed.targets);
        }
        let logits = net.forward(&images, step.mode());
        step.metric("accuracy", logits.argmax(1).eq(&labels).cast(DType::F32).mean_all());
        step.minimise(&logits.cross_entropy_with(&targets, &CrossEntropyOptions::default()))
    })?;

    let pictures = |batch: usize, _| vec![device.uniform(&[batch, 3, 32, 32], -1.0, 1.0, args.seed)];
    args.export(|x| vec![net.forward(&x[0], Mode::Eval)], pictures, &[])?;
    let accuracy = history.get("val_accuracy").context("no test")?;
    let loss = history.get("val_loss").context("no test")?;
    args.finish(json!({ "test_accuracy": accuracy, "loss": loss, "parameters": params.count() }))?;
    // A network that knows nothing has ln 10 = 2.303.
    ensure!(loss < args.pick(2.0, 2.5), "the loss on the test images is {loss:.3}");
    Ok(())
}
