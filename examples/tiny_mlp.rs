//! The smallest network that is one: 3 inputs, 2 hidden units with ReLU, 1 output with a sigmoid. It learns the function of a
//! fixed network of the same form from 256 points, and prints its weights beside those.
//!
//! `cargo run --release --example tiny_mlp`

#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::data::{DataLoader, Dataset, HostArray, rows};
use kiln::plot::Chart;
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::Trainer;
use serde_json::json;

/// Trains a network of three layers on what another one of its form says.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// The network and its two layers.
struct Mlp {
    hidden: Linear,
    out: Linear,
}

impl Mlp {
    fn new(root: &Path) -> Mlp {
        let config = LinearConfig { init: Init::HE, ..Default::default() };
        Mlp { hidden: Linear::with(&root.child("hidden"), 3, 2, config), out: Linear::new(&root.child("out"), 2, 1) }
    }

    fn print(&self) -> Result<()> {
        for param in [&self.hidden, &self.out].iter().flat_map(|layer| [Some(&layer.weight), layer.bias.as_ref()]) {
            let param = param.context("a layer without a bias")?;
            let values: Vec<String> = param.values()?.iter().map(|value| format!("{value:6.2}")).collect();
            println!("  {:14} {:?} {}", param.name(), param.shape()?.to_vec(), values.join(" "));
        }
        Ok(())
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.out.forward(&self.hidden.forward(x, mode).relu(), mode).sigmoid()
    }
}

/// The network that is imitated.
fn teacher(device: &Device) -> Result<(ParamStore, Mlp)> {
    let params = ParamStore::new(device, 0);
    let mlp = Mlp::new(&params.root());
    mlp.hidden.weight.set(&[1.5f32, -1.0, 0.5, -1.0, 1.2, 1.0])?;
    mlp.out.weight.set(&[1.6f32, -1.8])?;
    for (layer, bias) in [(&mlp.hidden, &[0.5f32, 0.3][..]), (&mlp.out, &[0.1])] {
        layer.bias.as_ref().context("a layer without a bias")?.set(bias)?;
    }
    Ok((params, mlp))
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let (_weights, teacher) = teacher(&device)?;
    let x = device.uniform(&[256, 3], -1.0, 1.0, args.seed);
    let y = no_grad(|| teacher.forward(&x, Mode::Eval));
    let spread = (&y - y.mean_all()).square().mean_all().item()?;
    println!("data     256 points; always saying their mean has an error of {spread:.4}");
    let points = rows(HostArray::new([256, 3], x.to_vec::<f32>()?)?)?
        .zip(rows(HostArray::new([256, 1], y.to_vec::<f32>()?)?)?)?;

    let params = ParamStore::new(&device, args.seed);
    let mlp = Mlp::new(&params.root());
    let loader = DataLoader::new(points, 64).shuffle(args.seed);
    let epochs = args.pick(200, 60);
    let rate = schedule::cosine(0.05, epochs * loader.batches_per_epoch());
    let adamw = AdamW::new(&params, AdamWConfig { weight_decay: 0.0, ..Default::default() }).schedule(rate);
    let history = Trainer::new(&params).optimizer(adamw).epochs(epochs).fit(loader, (), |step, (x, y)| {
        let [x, y] = [x, y].map(|array| step.device().tensor(&array.values, &array.shape));
        step.minimise(&mlp.forward(&x, step.mode()).mse_loss(&y))
    })?;

    println!("learnt");
    mlp.print()?;
    println!("imitated");
    teacher.print()?;
    let mse = no_grad(|| mlp.forward(&x, Mode::Eval)).mse_loss(&y).item()?;
    let losses = history.epochs.iter().filter_map(|record| Some((record.epoch as f64, record.get("loss")?)));
    let chart = Chart::new("Error of the smallest network").axes("epoch", "mean squared error").log();
    args.keep("tiny_mlp.svg", chart.line("training", losses).svg())?;
    let points = |batch: usize, _| vec![device.uniform(&[batch, 3], -1.0, 1.0, args.seed)];
    args.export(|x| vec![mlp.forward(&x[0], Mode::Eval)], points, &[])?;
    args.finish(json!({ "mse": mse, "variance": spread }))?;
    ensure!(mse.is_finite() && mse < spread, "it has learnt nothing: an error of {mse:.4}");
    Ok(())
}
