//! Recognises spoken-like words: one-dimensional convolutions over the mel spectrogram of half a second of sound. The sounds,
//! tones and chirps with overtones in noise, are made by the program, each at a pitch, a moment and a loudness of its own.
//!
//! `cargo run --release --example keywords`

#[path = "common/program.rs"]
mod program;

use std::f64::consts::TAU;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::data::{DataLoader, Dataset, HostArray, mask_frequency, mask_time, mel, spectrogram};
use kiln::nn::{AdaptiveAvgPool1d, Conv1d, MaxPool1d};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;
use kiln::train::metrics::ConfusionMatrix;
use kiln::train::{Progress, Trainer};
use serde_json::json;

/// Trains a network that tells eight made words apart.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

const WORDS: [&str; 8] = ["low", "high", "rising", "falling", "hill", "valley", "twice", "warble"];
/// Samples a second.
const RATE: u32 = 8000;
/// Rows of a picture.
const BANDS: usize = 32;

/// So many sounds of a seed, each made when it is asked for.
struct Sounds {
    seed: u64,
    count: usize,
}

impl Dataset for Sounds {
    /// The logarithm of the power in each band over time, `[BANDS, 51]`, and the number of the word.
    type Item = (HostArray<f32>, u32);

    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> kiln::Result<Self::Item> {
        let word = index % WORDS.len();
        let samples = sound(word, &mut Philox::new(self.seed, index as u64));
        let mut picture = mel(&spectrogram(&samples, 256, 80)?, RATE, BANDS)?;
        picture.values.iter_mut().for_each(|power| *power = (*power + 1e-3).ln() / 4.0);
        Ok((picture, word as u32))
    }
}

/// Half a second with a word in it.
fn sound(word: usize, random: &mut Philox) -> Vec<f32> {
    let mut between = |low: f64, high: f64| low + (high - low) * random.uniform();
    let base = match word {
        0 => between(200.0, 400.0),
        1 => between(900.0, 1500.0),
        _ => between(350.0, 800.0),
    };
    let (start, length, loudness) = (between(0.0, 0.15), between(0.25, 0.35), between(0.3, 1.0));
    let (overtones, noise, width) = ([between(0.2, 0.7), between(0.0, 0.4)], between(0.02, 0.3), between(1.8, 2.5));
    let mut phase = 0.0;
    let mut samples = vec![];
    for number in 0..RATE / 2 {
        let at = (f64::from(number) / f64::from(RATE) - start) / length; // 0 to 1 within the word
        let pitch = match word {
            2 => at,
            3 => 1.0 - at,
            4 => 1.0 - (2.0 * at - 1.0).abs(),
            5 => (2.0 * at - 1.0).abs(),
            7 => 0.5 + 0.4 * (TAU * 6.0 * at).sin(),
            _ => 0.0,
        };
        phase += TAU * base * width.powf(pitch) / f64::from(RATE);
        let is_silent = !(0.0..1.0).contains(&at) || (word == 6 && (0.4..0.6).contains(&at));
        let envelope = if is_silent { 0.0 } else { (20.0 * at.min(1.0 - at)).min(1.0) };
        let voice = phase.sin() + overtones[0] * (2.0 * phase).sin() + overtones[1] * (3.0 * phase).sin();
        samples.push((loudness * envelope * voice + noise * random.normal()) as f32);
    }
    samples
}

/// Convolutions along time; bands are channels.
fn network(root: &Path) -> Sequential {
    let layer = |name: &str, inputs: usize, outputs: usize| {
        let path = root.child(name);
        Sequential::new()
            .add(Conv1d::new(&path.child("conv"), inputs, outputs, 5).padding(2))
            .add(BatchNorm1d::new(&path.child("norm"), outputs))
            .add(Tensor::relu)
    };
    Sequential::new()
        .add(layer("first", BANDS, 32))
        .add(MaxPool1d::new(2))
        .add(layer("second", 32, 64))
        .add(MaxPool1d::new(2))
        .add(layer("third", 64, 64))
        .add(AdaptiveAvgPool1d::new(1))
        .add(Flatten)
        .add(Linear::new(&root.child("words"), 64, WORDS.len()))
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let sounds = |seed: u64, count: usize| Sounds { seed, count }.cache();
    let train = DataLoader::new(sounds(args.seed, args.pick(2400, 240)), 64)
        .shuffle(args.seed)
        .map(|(picture, word), random| {
            // Parts that are left out make it look at all of a word (Park et al. 2019).
            let picture = mask_time(mask_frequency(picture, 4, 0.0, random), 6, 0.0, random);
            (picture, word)
        })
        .workers(2);
    let test = || DataLoader::new(sounds(args.seed + 1, args.pick(800, 80)), 200).workers(2);

    let params = ParamStore::new(&device, args.seed);
    let net = network(&params.root());
    let epochs = args.pick(8, 4);
    let rate = schedule::cosine(5e-3, epochs * train.batches_per_epoch());
    let adamw = AdamW::new(&params, AdamWConfig::default()).schedule(rate);
    let logits = |x: &HostArray<f32>, mode: Mode| net.forward(&device.tensor(&x.values, &x.shape), mode);
    let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(epochs).callback(Progress::on_stdout());
    let history = trainer.fit(train, test(), |step, (x, words)| {
        let (logits, words) = (logits(&x, step.mode()), step.device().labels(&words.values));
        step.metric("accuracy", logits.argmax(1).eq(&words).cast(DType::F32).mean_all());
        step.minimise(&logits.cross_entropy(&words))
    })?;

    let mut matrix = ConfusionMatrix::new(WORDS.len())?;
    for batch in test() {
        let (x, words) = batch?;
        matrix.record_all(&words.values, &no_grad(|| logits(&x, Mode::Eval)).argmax(1).to_vec::<u32>()?)?;
    }
    println!("words {WORDS:?}\n{matrix}");
    let pictures = |batch: usize, _| vec![device.uniform(&[batch, BANDS, 51], -2.0, 1.0, args.seed)];
    args.export(|x| vec![net.forward(&x[0], Mode::Eval)], pictures, &[])?;
    let accuracy = history.get("val_accuracy").context("no test")?;
    args.finish(json!({ "test_accuracy": accuracy, "parameters": params.count() }))?;
    ensure!(accuracy > args.pick(0.97, 0.2), "only {:.2} % of the test words are recognised", 100.0 * accuracy);
    Ok(())
}
