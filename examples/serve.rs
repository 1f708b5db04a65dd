//! A trained network as it is deployed: loads weights, and says what it sees on the images that are named.
//!
//! `cargo run --release --features images --example serve -- photo.png folder/*.jpg`; `-` takes names from standard input,
//! one a line, as long as there are any. An image that is broken costs an answer, not the program. Where the name of a
//! file's folder is a class, answers are counted as right or wrong.
//!
//! Without `--weights` it trains a small network on the embedded digits first; without images it makes some.

#[path = "common/program.rs"]
mod program;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use kiln::data::{self, Image, ImageReader};
use kiln::prelude::{
    Adam, AdamConfig, Conv2d, Device, Flatten, Linear, MaxPool2d, Mode, Module, ParamStore, Sequential, Tensor, no_grad,
};
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

/// What travels with the weights: the classes' names.
const CLASSES: &str = "classes";

/// The network, its weights, and the names of its classes.
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
            .add(Conv2d::new(&root.child("conv"), 1, 16, 3).padding(1))
            .add(Tensor::relu)
            .add(MaxPool2d::new(2))
            .add(Flatten)
            .add(Linear::new(&root.child("fc"), 16 * 4 * 4, classes.len()));
        Classifier { params, net, classes }
    }

    /// Trains on the embedded digits, and saves the weights with the names.
    fn train(device: &Device, args: &program::Common, path: &Path) -> Result<()> {
        let own = Classifier::new(device, args.seed, (0..10).map(|digit| digit.to_string()).collect());
        let batches = data::digits().train;
        let adam = Adam::new(&own.params, AdamConfig { lr: 5e-3, ..Default::default() });
        let mut trainer = Trainer::new(&own.params).optimizer(adam).epochs(args.pick(15, 5));
        trainer.fit(batches.batches(64).shuffle(args.seed), (), |step, batch| {
            let logits = own.net.forward(&step.device().tensor(&batch.images, &batch.shape), step.mode());
            step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
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

/// The digits that the network was not trained on as PNG files of mixed sizes, a folder a class, and one that is broken.
fn make(folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let digits = data::digits().test.limit(count);
    let mut paths = vec![folder.join("broken.png")];
    for (number, (pixels, class)) in digits.images().chunks(64).zip(digits.labels()).enumerate() {
        let large = Image::new(1, 8, 8, pixels.to_vec())?.resize([20 + number % 41, 20 + number * 7 % 41])?;
        let bytes = large.values.iter().map(|value| (255.0 * value).round() as u8).collect();
        let grey = image::GrayImage::from_raw(large.width as u32, large.height as u32, bytes).context("no image")?;
        let class = folder.join(class.to_string());
        std::fs::create_dir_all(&class)?;
        paths.push(class.join(format!("{number:03}.png")));
        grey.save(&paths[paths.len() - 1])?;
    }
    std::fs::write(&paths[0], "this is no image")?;
    println!("made     {} images in {}", paths.len(), folder.display());
    Ok(paths)
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
    let reader = ImageReader::new().grey().resize([8, 8]);
    let (mut answers, mut broken, mut judged, mut right) = (0, 0, 0, 0);
    let mut answer = |path: &Path| -> Result<()> {
        let image = match reader.read(path) {
            Ok(image) => image,
            Err(error) => {
                broken += 1;
                eprintln!("{}  {error}", path.display());
                return Ok(());
            }
        };
        let (class, share) = classifier.classify(&image)?;
        answers += 1;
        println!("{}  {class}  {:.1} %", path.display(), 100.0 * share);
        let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
        if let Some(wanted) = folder.filter(|folder| classifier.classes.iter().any(|class| class == folder)) {
            judged += 1;
            right += usize::from(wanted == class);
        }
        Ok(())
    };
    let images = if images.is_empty() { make(&args.out.join("serve"), args.pick(360, 40))? } else { images };
    for path in images {
        if path == Path::new("-") {
            std::io::stdin().lock().lines().try_for_each(|name| answer(Path::new(&name?)))?;
        } else {
            answer(&path)?;
        }
    }
    let accuracy = (judged > 0).then(|| right as f64 / f64::from(judged));
    args.finish(json!({ "answers": answers, "broken": broken, "accuracy": accuracy }))?;
    ensure!(answers > 0, "none of {broken} images could be read");
    Ok(())
}
