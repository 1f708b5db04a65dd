//! A trained network as it is deployed: loads weights, and says what it sees on the images that are named.
//!
//! `cargo run --release --features images --example serve -- photo.png folder/*.jpg`; `-` takes names from standard input,
//! one a line, as long as there are any. An image that is broken costs an answer, not the program. Where the name of a
//! file's folder is a class, answers are counted as right or wrong.
//!
//! Without `--weights` it trains a small network on the embedded digits first; without images it makes some.

#[path = "common/digit_files.rs"]
mod digit_files;
#[path = "common/program.rs"]
mod program;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use kiln::data::{self, DataLoader, Image, ImageReader};
use kiln::prelude::{
    Adam, AdamConfig, Conv2d, Device, Flatten, Linear, MaxPool2d, Mode, Module, ParamStore, Sequential, Tensor, no_grad,
};
use kiln::schedule;
use kiln::train::Trainer;
use kiln::train::checkpoint::{FileInfo, Save};
use serde_json::json;

/// Classifies images with weights from a file.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
    /// Weights that this program has saved.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// PNG and JPEG files, or `-`.
    images: Vec<PathBuf>,
}

/// Pixels of a side, once an image has been resized.
const SIDE: usize = 16;
/// Under this name the classes' names travel with the weights.
const CLASSES: &str = "classes";

struct Classifier {
    params: ParamStore,
    net: Sequential,
    classes: Vec<String>,
}

impl Classifier {
    fn new(device: &Device, seed: u64, classes: Vec<String>) -> Classifier {
        let params = ParamStore::new(device, seed);
        let root = params.root();
        let net = Sequential::new()
            .add(Conv2d::new(&root.child("conv1"), 1, 16, 3).padding(1))
            .add(Tensor::relu)
            .add(MaxPool2d::new(2))
            .add(Conv2d::new(&root.child("conv2"), 16, 32, 3).padding(1))
            .add(Tensor::relu)
            .add(MaxPool2d::new(2))
            .add(Flatten)
            .add(Linear::new(&root.child("fc"), 32 * (SIDE / 4) * (SIDE / 4), classes.len()));
        Classifier { params, net, classes }
    }

    /// Trains on the embedded digits, and saves the weights with the names.
    fn train(device: &Device, args: &program::Common, path: &Path) -> Result<()> {
        let own = Classifier::new(device, args.seed, (0..10).map(|digit| digit.to_string()).collect());
        let batches = DataLoader::new(data::digits().train, 64)
            .shuffle(args.seed)
            .try_map(|(digit, label), _| Ok((Image::new(1, 8, 8, digit.values)?.resize([SIDE, SIDE])?, label)));
        let epochs = args.pick(15, 4);
        let rate = schedule::cosine(4e-3, epochs * batches.batches_per_epoch());
        let adam = Adam::new(&own.params, AdamConfig::default()).schedule(rate);
        Trainer::new(&own.params).optimizer(adam).epochs(epochs).fit(batches, (), |step, (images, labels)| {
            let logits = own.net.forward(&step.device().tensor(&images.values, &images.shape), step.mode());
            step.minimise(&logits.cross_entropy(&step.device().labels(&labels.values)))
        })?;
        let names = own.classes.join("\n");
        own.params.save_with(path, &Save { metadata: &[(CLASSES, &names)], ..Save::default() })?;
        println!("trained  {}", path.display());
        Ok(())
    }

    fn load(device: &Device, path: &Path) -> Result<Classifier> {
        let info = FileInfo::read(path)?;
        let names = info.metadata.get(CLASSES).with_context(|| format!("{} names no classes", path.display()))?;
        let own = Classifier::new(device, 0, names.lines().map(String::from).collect());
        own.params.load(path)?;
        Ok(own)
    }

    /// The class of an image and the share that the network gives it.
    fn classify(&self, image: &Image) -> Result<(&str, f64)> {
        let x = self.params.device().tensor(&image.values, &[1, image.channels, image.height, image.width]);
        let shares = no_grad(|| self.net.forward(&x, Mode::Eval)).softmax(1).to_vec::<f32>()?;
        let best =
            shares.iter().zip(&self.classes).max_by(|a, b| a.0.total_cmp(b.0)).context("there are no classes")?;
        Ok((best.1, f64::from(*best.0)))
    }
}

fn main() -> Result<()> {
    let Args { common: args, weights, images } = Args::parse();
    let device = args.start()?;
    let path = match weights {
        Some(path) if path.exists() => path,
        Some(path) => bail!("there is no file {}: leave `--weights` out, and a network is trained", path.display()),
        None => args.file("serve.safetensors").and_then(|path| {
            Classifier::train(&device, &args, &path)?;
            Ok(path)
        })?,
    };
    let classifier = Classifier::load(&device, &path)?;
    let reader = ImageReader::new().grey().resize([SIDE, SIDE]);
    let (mut answers, mut broken, mut judged, mut right) = (0u32, 0u32, 0u32, 0u32);
    let mut answer = |path: &Path| -> Result<()> {
        let image = match reader.read(path) {
            Ok(image) => image,
            Err(error) => {
                broken += 1;
                eprintln!("{error}");
                return Ok(());
            }
        };
        let (class, share) = classifier.classify(&image)?;
        answers += 1;
        println!("{}  {class}  {:.1} %", path.display(), 100.0 * share);
        let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
        if let Some(wanted) = folder.filter(|folder| classifier.classes.iter().any(|class| class == folder)) {
            judged += 1;
            right += u32::from(wanted == class);
        }
        Ok(())
    };
    let images =
        if images.is_empty() { digit_files::make(&args.out.join("serve"), args.pick(360, 40))? } else { images };
    for path in images {
        if path == Path::new("-") {
            std::io::stdin().lock().lines().try_for_each(|name| answer(Path::new(&name?)))?;
        } else {
            answer(&path)?;
        }
    }
    let accuracy = (judged > 0).then(|| f64::from(right) / f64::from(judged));
    args.finish(json!({ "answers": answers, "broken": broken, "accuracy": accuracy }))?;
    ensure!(answers > 0, "none of {broken} images could be read");
    Ok(())
}
