//! Trains a small network on a folder of PNG and JPEG files of any size, a folder a class.
//!
//! `cargo run --release --features images --example image_folder -- --make target/digits` writes the embedded digits as
//! such a folder; `-- --data-dir target/digits` trains on it.

#[path = "common/pipe.rs"]
mod pipe;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use kiln::data::{self, DataLoader, Dataset, Image, ImageFolder, ImageReader, Split, transforms};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule::{self, Goal};
use kiln::train::metrics::{Confusion, Metric};
use kiln::train::records::{CsvLog, JsonLines, Report, Settings, TensorBoard};
use kiln::train::{Every, Progress, Saves, Trainer};

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
    /// Keep checkpoints, tables, event files for TensorBoard and a report in this folder; a run that is there goes on.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
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
    let folder = ImageFolder::open(args.data_dir.as_ref().context("--data-dir says where the images are")?)?
        .reader(ImageReader::new().resize([SIDE, SIDE]));
    let (names, labels) = (folder.classes().to_vec(), folder.labels());
    println!("data     {} images in {} classes, {} files left out", folder.len(), names.len(), folder.left_out());
    let parts = data::split(folder, Split::Stratified(&labels), &[0.8, 0.2], args.seed)?;
    let centre = transforms::normalise(&[0.5; 3], &[0.5; 3]);
    let turned = transforms::random_affine(10.0, [0.06, 0.06], [0.9, 1.1], 5.0, 0.0);
    let augment = transforms::compose([turned, transforms::colour_jitter(0.2, 0.2, 0.0, 0.0), centre.clone()]);
    let batches = DataLoader::new(parts[0].clone(), args.batch_size)
        .shuffle(args.seed)
        .try_map(move |(image, class), random| Ok((augment.apply(image, random)?, class)))
        .workers(args.workers);
    let judge = DataLoader::new(parts[1].clone(), 256)
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
        .add(Linear::new(&root.child("fc"), 32 * (SIDE / 4) * (SIDE / 4), names.len()));
    let steps = epochs * batches.batches_per_epoch();
    let rate = schedule::cosine(4e-3, steps.max(1)).warm_up(steps / 20);
    let adamw = AdamW::new(&params, AdamWConfig { weight_decay: 0.01, ..Default::default() }).schedule(rate);
    let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(epochs).callback(Progress::on_stdout());
    if let Some(dir) = &args.run_dir {
        trainer = recorded(trainer, dir, &Settings::new(&device).with("seed", args.seed).with("epochs", epochs))?;
    }
    let confusion = Confusion::new(names.len())?.names(names)?;
    let history = trainer.fit(batches, judge, |step, (images, classes)| {
        let labels = step.device().labels(&classes.values);
        let logits = net.forward(&step.device().tensor(&images.values, &images.shape), step.mode());
        step.metric("accuracy", confusion.clone().of(&logits, &labels));
        step.minimise(&logits.cross_entropy(&labels))
    })?;
    let rate = trainer.items() as f64 / trainer.training_time().as_secs_f64().max(1e-9);
    let accuracy = history.get("val_accuracy").context("there was no validation")?;
    println!("test accuracy {:.2} %, {rate:.0} images/s with {} workers", 100.0 * accuracy, args.workers);
    if let Some(path) = &args.json {
        let figures = serde_json::json!({ "test_accuracy": accuracy, "images_per_s": rate, "workers": args.workers });
        std::fs::write(path, format!("{figures:#}"))?;
    }
    Ok(())
}

/// A trainer that keeps all of a run in a folder. Killed anywhere, it goes on from the last checkpoint.
fn recorded(trainer: Trainer, dir: &Path, settings: &Settings) -> Result<Trainer> {
    settings.write(dir)?;
    let saves = Saves::in_folder(dir.join("checkpoints")).resume().every(Every::Steps(5)).every(Every::Epochs(1));
    let report = Report::new("Images of a folder", dir.join("report.html"));
    report.settings(settings);
    Ok(trainer
        .saves(saves.best("val_loss", Goal::Min))
        .callback(TensorBoard::new(dir).settings(settings))
        .callback(CsvLog::new(dir.join("log.csv")))
        .callback(JsonLines::new(dir.join("log.jsonl")))
        .callback(report))
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
        let ending = if index % 2 == 0 { "png" } else { "jpg" };
        let folder = dir.join(class.to_string());
        std::fs::create_dir_all(&folder)?;
        grey.save(folder.join(format!("{index:04}.{ending}")))?;
    }
    println!("digits   {}", dir.display());
    Ok(())
}
