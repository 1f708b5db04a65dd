//! Every optimizer on two problems: 8x8 digits with a small convolutional network, and y = 3 x1 + 2 x2 + noise.
//!
//! `cargo run --release --example optimizers -- --json FILE --plot FILE.svg` says how each does at its own usual rate, and
//! draws the losses on the digits. It fails where one does not learn.

#[path = "common/pipe.rs"]
mod pipe;
#[path = "common/rules.rs"]
mod rules;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::data::Batch;
use kiln::plot::Chart;
use kiln::prelude::*;
use serde_json::json;

/// Trains the digits and a regression with every optimizer.
#[derive(Parser)]
struct Args {
    /// `auto`, `cpu`, a back end (vulkan, metal, dx12, gl) or part of an adapter's name.
    #[arg(long)]
    device: Option<String>,
    /// Seed of initial values, order and noise.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// A tenth of the steps: shows that all of them run, and does not judge what they have learnt by then.
    #[arg(long)]
    quick: bool,
    /// Write accuracies, weights and times.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the losses on the digits.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Minimises a loss of batches that come next, or the same one again where they are the whole data.
type Run<'a> = &'a dyn Fn(&ParamStore, &mut dyn FnMut() -> Result<Tensor>) -> Result<Vec<f64>>;

/// Losses on the digits by step, and the accuracy on those that were not trained on.
fn digits(params: &ParamStore, size: usize, run: Run<'_>) -> Result<(Vec<f64>, f64)> {
    let (device, root, data) = (params.device(), params.root(), kiln::data::digits());
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv"), 1, 16, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("fc"), 16 * 4 * 4, 10));
    let logits = |batch: &Batch| net.forward(&device.tensor(&batch.images, &batch.shape), Mode::Train);
    let mut loader = data.train.batches(size).shuffle(42);
    let losses = run(params, &mut || {
        // Behind the last batch of an epoch comes the first of the next.
        let batch = loader.next().or_else(|| loader.next()).context("there are no images")?;
        Ok(logits(&batch).cross_entropy(&device.labels(&batch.labels)))
    })?;
    let test = data.test.batches(0).next().context("there are no images")?;
    let right = no_grad(|| logits(&test)).argmax(1).eq(&device.labels(&test.labels));
    Ok((losses, right.cast(DType::F32).mean_all().item()?))
}

fn main() -> Result<()> {
    pipe::end_with_reader();
    let Args { device, seed, quick, json, plot } = Args::parse();
    let device = device.map_or_else(Device::best, |name| Device::named(&name))?;
    println!("device   {}", device.info());
    let mut chart = Chart::new("Losses on the digits").axes("step", "mean of ten losses").log();
    let (mut results, mut failed, mut lines) = (vec![], vec![], vec![]);
    let few = if quick { 10 } else { 1 };
    let store = || ParamStore::new(&device, seed);
    let mut tell = |name: &'static str, (losses, accuracy): (Vec<f64>, f64), w: Vec<f64>, seconds: f64| {
        println!("{name:20}  digits {:6.2} %   w {:.3} {:.3}   {seconds:.1} s", 100.0 * accuracy, w[0], w[1]);
        let mean = |(i, part): (usize, &[f64])| (10.0 * i as f64 + 5.0, part.iter().sum::<f64>() / part.len() as f64);
        let means: Vec<(f64, f64)> = losses.chunks(10).enumerate().map(mean).collect();
        if accuracy < 0.9 || (w[0] - 3.0).abs().max((w[1] - 2.0).abs()) > 0.05 {
            failed.push(name);
        }
        results.push(json!({ "optimizer": name, "digits_accuracy": accuracy, "regression_w": w, "seconds": seconds }));
        lines.push((name, means));
    };
    for &(name, [on_digits, on_line], make) in rules::ALL {
        let started = Instant::now();
        // Rprop wants the gradient of the whole data.
        let (size, steps) = if name == "Rprop" { (0, 60 / few) } else { (16, 180 / few) };
        let run: Run<'_> = &|params, next| rules::train(make(params, on_digits, steps), steps, next);
        let learnt = digits(&store(), size, run)?;
        let w = rules::regression(&store(), 300 / few, on_line, make)?;
        tell(name, learnt, w, started.elapsed().as_secs_f64());
    }
    // And so does L-BFGS, several times in each of its steps.
    let started = Instant::now();
    let learnt = digits(&store(), 0, &|params, next| {
        rules::lbfgs(params, 40 / few, || next().expect("the images are the same in every step"))
    })?;
    let line = store();
    let w = rules::regressed(&line, |loss| rules::lbfgs(&line, 10, loss).map(drop))?;
    tell("L-BFGS", learnt, w, started.elapsed().as_secs_f64());
    for (name, means) in lines {
        chart = chart.line(name, means);
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&json!({ "results": results }))?)?;
    }
    if let Some(path) = plot {
        std::fs::write(path, chart.svg())?;
    }
    ensure!(quick || failed.is_empty(), "these did not learn: {}", failed.join(", "));
    Ok(())
}
