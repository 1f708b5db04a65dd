//! Fine-tuning with few parameters: a network that reads digits learns to read them turned by a quarter, with low-rank adapters
//! beside its frozen layers (Hu et al. 2021). The adapters go into a file of their own, and are merged in the end.
//!
//! `cargo run --release --example lora`

#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::data::{Batch, Splits};
use kiln::nn::{Lora, LoraConfig};
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::Trainer;
use kiln::train::checkpoint::Load;
use serde_json::json;

/// Adapts a trained network by low-rank adapters, saves them alone, and merges them.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

const WIDTHS: [usize; 4] = [64, 512, 512, 10];
const RANK: usize = 4;

/// Linear layers with ReLU between them, whatever makes them.
struct Mlp<L>(Vec<L>);

impl<L: Module> Module for Mlp<L> {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let mut x = x.flatten(1);
        for (number, layer) in self.0.iter().enumerate() {
            x = if number == 0 { layer.forward(&x, mode) } else { layer.forward(&x.relu(), mode) };
        }
        x
    }
}

fn layers<L>(root: &Path, make: impl Fn(&Path, Linear) -> L) -> Mlp<L> {
    let layer = |(number, pair): (usize, &[usize])| {
        let path = root.child(number);
        make(&path, Linear::new(&path, pair[0], pair[1]))
    };
    Mlp(WIDTHS.windows(2).enumerate().map(layer).collect())
}

fn plain(root: &Path) -> Mlp<Linear> {
    layers(root, |_, layer| layer)
}

fn adapted(root: &Path) -> Mlp<Lora> {
    let config = LoraConfig { alpha: Some(8.0), ..Default::default() };
    layers(root, |path, layer| Lora::with(path, layer, RANK, config))
}

/// Trains what is not frozen, and returns the accuracy on the test images.
fn fit(params: &ParamStore, net: &impl Module, data: &Splits, turned: bool, epochs: u64, lr: f64) -> Result<f64> {
    let batches = data.train.batches(64).shuffle(7);
    let rate = schedule::cosine(lr, epochs * batches.batches_per_epoch());
    let adam = Adam::new(params, AdamConfig::default()).schedule(rate);
    let mut trainer = Trainer::new(params).optimizer(adam).epochs(epochs);
    let history = trainer.fit(batches, data.test.batches(120), |step, batch| {
        let logits = net.forward(&images(step.device(), &batch, turned), step.mode());
        let labels = step.device().labels(&batch.labels);
        step.metric("accuracy", logits.argmax(1).eq(&labels).cast(DType::F32).mean_all());
        step.minimise(&logits.cross_entropy(&labels))
    })?;
    history.get("val_accuracy").context("no validation")
}

/// The images of a batch, turned by a quarter or as they are.
fn images(device: &Device, batch: &Batch, turned: bool) -> Tensor {
    let x = device.tensor(&batch.images, &batch.shape);
    if turned { x.transpose(2, 3).flip(3) } else { x }
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let digits = kiln::data::digits();
    let test = digits.test.batches(0).next().context("there are no digits")?;
    let turned = images(&device, &test, true);
    let says = |net: &dyn Module| no_grad(|| net.forward(&turned, Mode::Eval));
    let accuracy = |net: &dyn Module| -> Result<f64> {
        Ok(says(net).argmax(1).eq(&device.labels(&test.labels)).cast(DType::F32).mean_all().item()?)
    };
    let [whole, own] = [args.file("lora-base.safetensors")?, args.file("lora-adapters.safetensors")?];

    // What somebody else has trained, for long, on something else.
    let params = ParamStore::new(&device, args.seed);
    let base = plain(&params.root());
    let reached = fit(&params, &base, &digits, false, args.pick(10, 3), 2e-3)?;
    params.save(&whole)?;
    let before = accuracy(&base)?;
    println!("base     {:.2} % of digits, {:.2} % of turned ones", 100.0 * reached, 100.0 * before);

    // Its weights with adapters beside them, which alone are trained and saved.
    let params = ParamStore::new(&device, args.seed + 1);
    let net = adapted(&params.root());
    let missing = Load { strict: false, ..Load::default() };
    params.load_with(&whole, &missing)?;
    let after = fit(&params, &net, &digits, true, args.pick(20, 4), 4e-3)?;
    params.save_where(&own, Lora::is_adapter)?;
    let share = std::fs::metadata(&own)?.len() as f64 / std::fs::metadata(&whole)?.len() as f64;
    println!("adapted  {:.2} % of turned ones, by a file of {:.2} % of the size", 100.0 * after, 100.0 * share);

    // Whoever has the base needs that file alone.
    let other = ParamStore::new(&device, 0);
    let again = adapted(&other.root());
    other.load_with(&whole, &missing)?;
    other.load_with(&own, &missing)?;
    ensure!(says(&again).to_vec::<f32>()? == says(&net).to_vec::<f32>()?, "the file has not all that was learnt");

    // Merged, the network is a plain one again.
    let wanted = says(&net);
    net.0.iter().try_for_each(Lora::merge)?;
    let merged = Mlp(net.0.iter().map(|layer| layer.base.clone()).collect());
    let difference = (says(&merged).softmax(1) - wanted.softmax(1)).abs().max_all().item()?;
    println!("merged   {:.2} % of turned ones, chances within {difference:.1e}", 100.0 * accuracy(&merged)?);

    let pictures = |batch: usize, _| vec![turned.slice(0, 0, batch)];
    args.export(|x| vec![net.forward(&x[0], Mode::Eval), merged.forward(&x[0], Mode::Eval)], pictures, &[])?;
    let figures =
        json!({ "base_accuracy": before, "adapted_accuracy": after, "share": share, "difference": difference });
    args.finish(figures)?;
    ensure!(after > before + 0.2, "the adapters have learnt nothing");
    ensure!(share < 0.05 && difference < 1e-5, "{share:.3} of the file, {difference:.1e} from the adapted network");
    Ok(())
}
