//! Linear regression: finds y = 3 x1 + 2 x2 in noisy points, with SGD, Adam and AdamW side by side.
//!
//! `cargo run --release --example linear_regression`. The picture has the validation points in the order of their value,
//! and what each fit predicts for them.

#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::data::{DataLoader, Dataset, HostArray, Split, items, rows, split};
use kiln::optim::{Rule, Stepper};
use kiln::plot::Chart;
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;
use kiln::train::Trainer;
use serde_json::json;

/// Fits a plane through noisy points with three optimizers.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// The weights that the points are made with.
const TRUTH: [f32; 2] = [3.0, 2.0];

/// What a fit has found.
struct Fit {
    weights: Vec<f64>,
    loss: f64,
    predicted: Vec<f64>,
}

/// 320 points (x1, x2), and their values with noise of deviation 0.1.
fn points(seed: u64) -> Result<impl Dataset<Item = (HostArray<f32>, f32)> + Clone + 'static> {
    let mut random = Philox::new(seed, 0);
    let x: Vec<f32> = (0..640).map(|_| 2.0 * random.uniform() as f32 - 1.0).collect();
    let y = x.chunks(2).map(|x| TRUTH[0] * x[0] + TRUTH[1] * x[1] + 0.1 * random.normal() as f32);
    let y: Vec<f32> = y.collect();
    Ok(rows(HostArray::new([320, 2], x)?)?.zip(items(y))?)
}

fn fit<R: Rule>(device: &Device, args: &program::Common, rule: R, rate: f64) -> Result<Fit> {
    let parts = split(points(args.seed)?, Split::Random, &[0.8, 0.2], args.seed)?;
    let train = DataLoader::new(parts[0].clone(), 32).shuffle(args.seed);
    let mut validation = DataLoader::new(parts[1].clone(), 64);

    let params = ParamStore::new(device, args.seed);
    let line = Linear::with(&params.root(), 2, 1, LinearConfig { bias: false, ..Default::default() });
    let epochs = args.pick(40, 20);
    let steps = epochs * train.batches_per_epoch();
    let optimizer = Stepper::new(&params, rule).schedule(schedule::cosine(rate, steps));
    let predict = |x: &HostArray<f32>| line.forward(&device.tensor(&x.values, &x.shape), Mode::Eval).squeeze(1);
    let mut trainer = Trainer::new(&params).optimizer(optimizer).epochs(epochs);
    let history = trainer.fit(train, &mut validation, |step, (x, y)| {
        let actual = step.device().tensor(&y.values, &y.shape);
        step.minimise(&predict(&x).mse_loss(&actual))
    })?;

    // The validation points in the order of their value: what they are, and what the line says.
    let (x, y) = DataLoader::new(parts[1].clone(), 64).next().context("no points")??;
    let guesses = predict(&x).to_vec::<f32>()?;
    let mut pairs: Vec<(f32, f32)> = y.values.into_iter().zip(guesses).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(Fit {
        weights: line.weight.values()?,
        loss: history.get("val_loss").context("no validation")?,
        predicted: pairs.iter().map(|pair| f64::from(pair.1)).collect(),
    })
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let fits = [
        ("SGD", fit(&device, &args, SgdConfig::default(), 0.3)?),
        ("Adam", fit(&device, &args, AdamConfig::default(), 0.2)?),
        ("AdamW", fit(&device, &args, AdamWConfig::default(), 0.2)?),
    ];
    let mut chart = Chart::new("Actual and predicted").axes("validation point, by value", "y");
    let mut weights = serde_json::Map::new();
    for (name, fit) in &fits {
        println!("{name:6} w {:.3} {:.3}   validation loss {:.4}", fit.weights[0], fit.weights[1], fit.loss);
        weights.insert((*name).into(), json!(fit.weights));
        let points = fit.predicted.iter().enumerate();
        chart = chart.line(*name, points.map(|(place, &value)| (place as f64, value)));
    }
    args.keep("linear_regression.svg", chart.svg())?;
    args.finish(json!({ "w": weights }))?;
    for (name, fit) in &fits {
        let error = fit.weights.iter().zip(TRUTH).map(|(w, truth)| (w - f64::from(truth)).abs()).fold(0.0, f64::max);
        ensure!(error < 0.05, "{name} is {error:.3} away from the weights {TRUTH:?}");
    }
    Ok(())
}
