//! Searches the settings of a small network for 8x8 digits: 40 trials of the tree-structured Parzen estimator, each scored
//! by 5-fold cross-validation, those below the median stopped after two folds or more.
//!
//! `cargo run --release --example tune -- --study tune.jsonl --report tune.html` may be killed and goes on where it was;
//! the same command in another terminal shares the trials. The test images are not looked at before the search is over.

#[path = "common/pipe.rs"]
mod pipe;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use kiln::data::{self, DataLoader, Dataset, Images, Split};
use kiln::prelude::*;
use kiln::schedule;
use kiln::search::{First, Goal, Median, Point, Space, State, Study, StudyConfig, Tpe};
use serde_json::json;

/// Searches learning rate, optimizer, width and more by cross-validation.
#[derive(Parser)]
struct Args {
    /// `auto`, `cpu`, a back end (vulkan, metal, dx12, gl) or part of an adapter's name.
    #[arg(long)]
    device: Option<String>,
    /// Seed of the search, of folds, initial values and order.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Few trials of few images: shows that all of it runs.
    #[arg(long)]
    quick: bool,
    /// Keep the study here, and go on with it.
    #[arg(long, value_name = "FILE.jsonl")]
    study: Option<PathBuf>,
    /// Write a page with the table of trials and pictures.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write accuracies and the best settings.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Where to look: widely around what is usual.
fn space() -> Space {
    Space::new()
        .log_uniform("lr", 1e-4, 1.0)
        .log_uniform("weight_decay", 1e-5, 1e-1)
        .uniform("dropout", 0.0, 0.6)
        .choice("width", ["32", "64", "128"])
        .choice("optimizer", ["adamw", "sgd"])
        .when("optimizer", ["sgd"], |space| space.uniform("momentum", 0.0, 0.99))
}

/// The settings that one would take without a search: AdamW's defaults.
fn usual() -> Point {
    let adamw = Point::default().with("optimizer", "adamw").with("lr", 1e-3).with("weight_decay", 1e-2);
    adamw.with("dropout", 0.2).with("width", "64")
}

/// Trains on one part of the images with these settings, and returns the accuracy on the other.
fn accuracy<D>(device: &Device, at: &Point, seed: u64, epochs: u64, train: D, test: D) -> Result<f64>
where
    D: Dataset<Item = <Images as Dataset>::Item> + 'static,
{
    let params = ParamStore::new(device, seed);
    let (root, width): (_, usize) = (params.root(), at.choice("width")?.parse()?);
    let net = Sequential::new()
        .add(Flatten)
        .add(Linear::new(&root.child("hidden"), 64, width))
        .add(Tensor::relu)
        .add(Dropout::new(&root, at.float("dropout")?))
        .add(Linear::new(&root.child("out"), width, 10));
    let (lr, weight_decay) = (at.float("lr")?, at.float("weight_decay")?);
    let mut loader = DataLoader::new(train, 64).shuffle(seed).drop_last(true);
    let rate = schedule::cosine(lr, epochs * loader.batches_per_epoch());
    let mut optimizer: Box<dyn Optimizer> = match at.choice("optimizer")? {
        "sgd" => {
            let config = SgdConfig { momentum: at.float("momentum")?, weight_decay, ..Default::default() };
            Box::new(Sgd::new(&params, config).schedule(rate))
        }
        _ => Box::new(AdamW::new(&params, AdamWConfig { weight_decay, ..Default::default() }).schedule(rate)),
    };
    for _ in 0..epochs {
        for batch in &mut loader {
            let (images, labels) = batch?;
            let images = device.tensor(&images.values, &images.shape);
            optimizer.step(&net.forward(&images, Mode::Train).cross_entropy(&device.labels(&labels.values)))?;
        }
    }
    let all = test.len();
    let (images, labels) = DataLoader::new(test, all).next().context("nothing to test on")??;
    let images = device.tensor(&images.values, &images.shape);
    let right = no_grad(|| net.forward(&images, Mode::Eval)).argmax(1).eq(&device.labels(&labels.values));
    Ok(right.cast(DType::F32).mean_all().item()?)
}

fn main() -> Result<()> {
    pipe::end_with_reader();
    let args = Args::parse();
    let device = args.device.map_or_else(Device::best, |name| Device::named(&name))?;
    println!("device   {}", device.info());
    let (trials, epochs, limit) = if args.quick { (12, 3, 300) } else { (40, 15, usize::MAX) };
    let digits = data::digits();
    let (train, test) = (digits.train.limit(limit), digits.test);
    let labels = train.labels().to_vec();
    let config = StudyConfig { goal: Goal::Maximize, seed: args.seed, ..Default::default() };
    let sampler = First::new([usual()], Tpe::default());
    let study = match &args.study {
        Some(path) => Study::open(path, space(), sampler, config)?,
        None => Study::new(space(), sampler, config)?,
    };
    let mut study = study.pruner(Median { warmup: 2, ..Median::default() });
    let started = Instant::now();
    study.run(trials, |trial| {
        let (at, seed) = (trial.point().clone(), trial.seed());
        let scores =
            trial.cross_validate(train.clone(), Split::Stratified(&labels), 5, args.seed, |train, test, fold| {
                accuracy(&device, &at, seed.wrapping_add(fold as u64), epochs, train, test)
            })?;
        println!("trial {:3}  {scores} in {} folds   {at}", trial.number(), scores.values().len());
        anyhow::Ok(scores.mean())
    })?;

    let best = study.best().context("no trial is complete")?;
    let default = study.trials().iter().find(|trial| trial.point == usual()).and_then(|trial| trial.value);
    let (best_accuracy, default) = (best.value.unwrap_or_default(), default.context("the usual settings failed")?);
    let [complete, pruned] = [State::Complete, State::Pruned]
        .map(|state| study.trials().iter().filter(|trial| trial.state == state).count());
    println!("{complete} complete, {pruned} stopped early, {:.0} s", started.elapsed().as_secs_f64());
    // The folds chose the settings; only now come images that nothing was chosen by.
    let tested = |at: &Point| accuracy(&device, at, args.seed, epochs, train.clone(), test.clone());
    let (best_test, default_test) = (tested(&best.point)?, tested(&usual())?);
    println!("usual    {:.2} % in folds, {:.2} % on the test images", 100.0 * default, 100.0 * default_test);
    println!("best     {:.2} % in folds, {:.2} % on the test images", 100.0 * best_accuracy, 100.0 * best_test);
    println!("settings {}", best.point);
    if let Some(path) = &args.report {
        study.save_report(path, "Digits: settings of a small network")?;
    }
    if let Some(path) = args.json {
        let settings: serde_json::Map<_, _> =
            best.point.iter().map(|(name, value)| (name.into(), value.to_string().into())).collect();
        let figures = json!({ "best_accuracy": best_accuracy, "default_accuracy": default, "best": settings,
            "best_test_accuracy": best_test, "default_test_accuracy": default_test, "complete": complete,
            "pruned": pruned, "seconds": started.elapsed().as_secs_f64() });
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}
