//! Trains a small network on a folder of PNG and JPEG files of any size, a folder a class.
//!
//! `cargo run --release --features images --example image_folder -- --make target/digits` writes the embedded digits as
//! such a folder; `-- --data-dir target/digits` trains on it.

#[path = "common/pipe.rs"]
mod pipe;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use image::ImageFormat;
use kiln::data::{self, DataLoader, Dataset, Image, ImageFolder, ImageReader, Split, transforms};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;

/// Pixels of a side, once an image has been resized.
const SIDE: usize = 16;

/// Trains a small network on a folder of images.
#[derive(Debug, Parser)]
struct Args {
    /// Folder with a folder of PNG and JPEG files for each class.
    #[arg(long, value_name = "DIR", required_unless_present = "make")]
    data_dir: Option<PathBuf>,
    /// Write the embedded digits as PNG and JPEG files of mixed sizes into this folder, and stop.
    #[arg(long, value_name = "DIR")]
    make: Option<PathBuf>,
    /// `auto`, `cpu`, a back end or part of an adapter's name.
    #[arg(long)]
    device: Option<String>,
    /// Passes over the training images.
    #[arg(long, default_value_t = 15)]
    epochs: u64,
    /// Images a step.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Threads that load.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Seed of initial values, split, order and augmentation.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Two passes, whatever `--epochs` says: enough to see that all works.
    #[arg(long)]
    quick: bool,
    /// Write the accuracy on the test part, and images a second while training.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    pipe::end_with_reader();
    let args = Args::parse();
    if let Some(dir) = &args.make {
        return make(dir, args.seed);
    }
    let epochs = if args.quick { 2 } else { args.epochs };
    let folder = ImageFolder::open(args.data_dir.as_ref().context("--data-dir says where the images are")?)?;
    let folder = folder.reader(ImageReader::new().resize([SIDE, SIDE]));
    let (classes, labels) = (folder.classes().len(), folder.labels());
    println!("data     {} images in {classes} classes, {} files left out", folder.len(), folder.left_out());
    let parts = data::split(folder, Split::Stratified(&labels), &[0.8, 0.2], args.seed)?;

    let centre = transforms::normalise(&[0.5; 3], &[0.5; 3]);
    let augment = transforms::compose([
        transforms::random_affine(10.0, [0.06, 0.06], [0.9, 1.1], 5.0, 0.0),
        transforms::colour_jitter(0.2, 0.2, 0.0, 0.0),
        centre.clone(),
    ]);
    let mut batches = DataLoader::new(parts[0].clone(), args.batch_size)
        .shuffle(args.seed)
        .try_map(move |(image, class), random| Ok((augment.apply(image, random)?, class)))
        .workers(args.workers);
    let mut judge = DataLoader::new(parts[1].clone(), 256)
        .try_map(move |(image, class), random| Ok((centre.apply(image, random)?, class)))
        .workers(args.workers);

    let device = args.device.as_ref().map_or_else(Device::best, |name| Device::named(name))?;
    println!("device   {}", device.info());
    let params = ParamStore::new(&device, args.seed);
    let root = params.root();
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv1"), 3, 16, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(&root.child("conv2"), 16, 32, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("fc"), 32 * (SIDE / 4) * (SIDE / 4), classes));
    let steps = epochs * batches.batches_per_epoch();
    let rate = schedule::cosine(4e-3, steps.max(1)).warm_up(steps / 20);
    let mut adamw = AdamW::new(&params, AdamWConfig { weight_decay: 0.01, ..Default::default() }).schedule(rate);

    let (mut images, mut seconds, mut accuracy) = (0, 0.0, 0.0);
    for epoch in 1..=epochs {
        let (started, mut losses) = (Instant::now(), vec![]);
        for batch in batches.by_ref() {
            let (inputs, labels) = batch?;
            let logits = net.forward(&device.tensor(&inputs.values, &inputs.shape), Mode::Train);
            let loss = logits.cross_entropy(&device.labels(&labels.values));
            adamw.step(&loss)?;
            losses.push(loss);
            images += labels.values.len();
        }
        let total = losses.iter().map(Tensor::item).sum::<Result<f64, Error>>()?;
        seconds += started.elapsed().as_secs_f64();
        let (mut right, mut count) = (0, 0);
        for batch in judge.by_ref() {
            let (inputs, labels) = batch?;
            let logits = no_grad(|| net.forward(&device.tensor(&inputs.values, &inputs.shape), Mode::Eval));
            let guesses = logits.argmax(1).to_vec::<u32>()?;
            right += guesses.iter().zip(&labels.values).filter(|(guess, label)| guess == label).count();
            count += guesses.len();
        }
        accuracy = right as f64 / count.max(1) as f64;
        println!("epoch {epoch:3}  loss {:.4}  test accuracy {:.2} %", total / losses.len() as f64, 100.0 * accuracy);
    }
    let rate = images as f64 / f64::max(seconds, 1e-9);
    println!("{rate:.0} images/s with {} workers", args.workers);
    if let Some(path) = &args.json {
        let figures = serde_json::json!({ "test_accuracy": accuracy, "images_per_s": rate, "workers": args.workers });
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// The digits as files: half of them PNG, half JPEG, with sides of 20 to 60 pixels.
fn make(dir: &Path, seed: u64) -> Result<()> {
    let (digits, mut random) = (data::digits(), Philox::new(seed, 0));
    let digits = digits.train.concat(digits.test);
    for index in 0..digits.len() {
        let (digit, class) = digits.get(index)?;
        let size = [20 + random.below(41) as usize, 20 + random.below(41) as usize];
        let large = Image::new(1, 8, 8, digit.values)?.resize(size)?;
        let bytes: Vec<u8> = large.values.iter().map(|value| (255.0 * value).round() as u8).collect();
        let grey = image::GrayImage::from_raw(size[1] as u32, size[0] as u32, bytes).context("an image")?;
        let (format, ending) = if index % 2 == 0 { (ImageFormat::Png, "png") } else { (ImageFormat::Jpeg, "jpg") };
        let folder = dir.join(class.to_string());
        std::fs::create_dir_all(&folder)?;
        grey.save_with_format(folder.join(format!("{index:04}.{ending}")), format)?;
    }
    println!("digits   {}", dir.display());
    Ok(())
}
