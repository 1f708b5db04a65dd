//! How fast images of a folder are decoded and augmented: in a plain loop, by a loader's workers, and by workers beside a
//! training step.
//!
//! `cargo bench --features images --bench loading` writes 500 JPEG files of 300 x 400 pixels, and takes them to 64 x 64 in
//! all three ways, in turn; the best turn of each counts, for others disturb and never help.

use std::time::Instant;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use kiln::data::transforms::{self, Transform};
use kiln::data::{DataLoader, Dataset, HostArray, Image, ImageFolder};
use kiln::prelude::*;
use kiln::rng::Philox;

const FILES: usize = 500;
/// Different pictures among them.
const DRAWN: usize = 20;
const SIDE: usize = 64;
const BATCH: usize = 25;
const TURNS: usize = 6;

/// A photograph's share of detail: waves of several lengths, and noise.
fn write(path: &std::path::Path, number: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (width, height) = (400usize, 300usize);
    let mut random = Philox::new(7, number as u64);
    let waves: Vec<[f64; 4]> = (0..8).map(|_| [(); 4].map(|()| random.uniform())).collect();
    let mut pixels = Vec::with_capacity(3 * width * height);
    for place in 0..width * height {
        let (x, y) = ((place % width) as f64, (place / width) as f64);
        for channel in 0..3 {
            let wave = |[a, b, c, d]: &[f64; 4]| (0.2 * (a - 0.5) * x + 0.2 * (b - 0.5) * y + 6.0 * c).sin() * d;
            let sum: f64 = waves.iter().skip(channel).map(wave).sum();
            pixels.push((128.0 + 25.0 * sum + 8.0 * (random.uniform() - 0.5)) as u8);
        }
    }
    let encoder = JpegEncoder::new_with_quality(std::fs::File::create(path)?, 90);
    Ok(encoder.write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)?)
}

fn augment() -> Transform {
    transforms::compose([
        transforms::random_resized_crop([SIDE, SIDE], [0.3, 1.0], [0.75, 1.33]),
        transforms::flip_horizontal(0.5),
        transforms::colour_jitter(0.4, 0.4, 0.4, 0.1),
    ])
}

fn loader(folder: &ImageFolder, workers: usize) -> DataLoader<(Image, u32)> {
    let augment = augment();
    DataLoader::new(folder.clone(), BATCH)
        .shuffle(1)
        .try_map(move |(image, class), random| Ok((augment.apply(image, random)?, class)))
        .workers(workers)
}

/// Seconds an epoch of the plain loop.
fn alone(folder: &ImageFolder) -> Result<f64> {
    let (augment, started) = (augment(), Instant::now());
    for index in 0..folder.len() {
        let (image, _) = folder.get(index)?;
        std::hint::black_box(augment.apply(image, &mut Philox::new(1, index as u64))?);
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds an epoch takes where `with` is done with each batch, and those that each batch was waited for.
fn waits(
    mut loader: DataLoader<(Image, u32)>,
    mut with: impl FnMut(&HostArray<f32>, &[u32]) -> Result<()>,
) -> Result<(f64, Vec<f64>)> {
    let (started, mut waits) = (Instant::now(), vec![]);
    loop {
        let asked = Instant::now();
        let Some(batch) = loader.next() else { break };
        let (images, labels) = batch?;
        waits.push(asked.elapsed().as_secs_f64());
        with(&images, &labels.values)?;
    }
    Ok((started.elapsed().as_secs_f64(), waits))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("kiln-loading-{}", std::process::id()));
    for class in ["even", "odd"] {
        std::fs::create_dir_all(dir.join(class))?;
    }
    for number in 0..FILES {
        let path = |number: usize| dir.join(["even", "odd"][number % 2]).join(format!("{number:03}.jpg"));
        match number.checked_sub(DRAWN) {
            None => write(&path(number), number)?,
            Some(_) => drop(std::fs::copy(path(number % DRAWN), path(number))?),
        }
    }
    let measured = measure(&ImageFolder::open(&dir)?);
    std::fs::remove_dir_all(&dir)?;
    Ok(measured?)
}

/// Seconds: an epoch of the plain loop, of two workers, of two workers beside a step; how long a step waited for its batch.
struct Turn {
    alone: f64,
    workers: f64,
    beside: f64,
    median: f64,
    longest: f64,
}

impl Turn {
    fn print(&self, name: &str) {
        let rate = |seconds: f64| FILES as f64 / seconds;
        let Turn { alone, workers, beside, median, longest } = self;
        let batch = 1e3 * alone * BATCH as f64 / FILES as f64;
        println!(
            "{name}: {:.0} images/s in a loop, {:.0} by two workers ({:.2} times), {:.0} beside a step",
            rate(*alone),
            rate(*workers),
            alone / workers,
            rate(*beside)
        );
        println!(
            "  {batch:.1} ms a batch in the loop; a step waits {:.1} ms (median), {:.1} ms (longest)",
            1e3 * median,
            1e3 * longest
        );
    }
}

fn measure(folder: &ImageFolder) -> Result<()> {
    let device = Device::best()?;
    println!("device {}", device.info());
    let params = ParamStore::new(&device, 1);
    let root = params.root();
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv1"), 3, 8, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(4))
        .add(Flatten)
        .add(Linear::new(&root.child("fc"), 8 * (SIDE / 4) * (SIDE / 4), 2));
    let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.01, ..Default::default() });
    let mut step = |images: &HostArray<f32>, labels: &[u32]| -> Result<()> {
        let logits = net.forward(&device.tensor(&images.values, &images.shape), Mode::Train);
        let loss = logits.cross_entropy(&device.labels(labels));
        sgd.step(&loss)?;
        // Read at once: the step is over when the next batch is asked for.
        loss.item().map(drop)
    };
    let mut best = Turn { alone: f64::MAX, workers: f64::MAX, beside: f64::MAX, median: f64::MAX, longest: f64::MAX };
    for number in 1..=TURNS {
        let alone = alone(folder)?;
        let (workers, _) = waits(loader(folder, 2), |_, _| Ok(()))?;
        let (beside, mut waited) = waits(loader(folder, 2), &mut step)?;
        waited.sort_by(f64::total_cmp);
        let turn = Turn { alone, workers, beside, median: waited[waited.len() / 2], longest: waited[waited.len() - 1] };
        turn.print(&format!("turn {number}"));
        best = Turn {
            alone: best.alone.min(turn.alone),
            workers: best.workers.min(turn.workers),
            beside: best.beside.min(turn.beside),
            median: best.median.min(turn.median),
            longest: best.longest.min(turn.longest),
        };
    }
    best.print("best of each");
    Ok(())
}
