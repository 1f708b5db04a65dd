//! What `kiln::train::Trainer` does, written by hand from public pieces, for a program whose loop is another: metrics that
//! are summed on the device, validation, a checkpoint after each epoch from which the run goes on to the same bits, the best
//! weights, early stopping.
//!
//! `cargo run --release --example by_hand -- --epochs 10`, then `-- --epochs 20`, and it goes on.

#[path = "common/program.rs"]
mod program;

use anyhow::{Result, ensure};
use clap::Parser;
use kiln::data::Batch;
use kiln::prelude::{
    AdamW, AdamWConfig, Conv2d, DType, Flatten, Linear, MaxPool2d, Mode, Module, Optimizer, ParamStore, Sequential,
    Tensor, no_grad,
};
use kiln::train::checkpoint::Checkpoint;
use serde_json::json;

/// Trains on the embedded digits by a loop of the program's own, which can be stopped and goes on.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
    /// Passes over the training images, those before a stop included.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
}

/// Epochs in a row that may be no better than the best.
const PATIENCE: u64 = 5;

fn main() -> Result<()> {
    let Args { common: args, epochs } = Args::parse();
    let (device, epochs) = (args.start()?, args.pick(epochs, 2));
    let digits = kiln::data::digits();
    let params = ParamStore::new(&device, args.seed);
    let net = Sequential::new()
        .add(Conv2d::new(&params.root().child("conv"), 1, 16, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&params.root().child("fc"), 16 * 4 * 4, 10));
    let mut adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..Default::default() }).clip_norm(1.0);
    let mut loader = digits.train.batches(64).shuffle(args.seed);
    // Loss and right answers of a batch, both summed over its images.
    let forward = |batch: &Batch, mode: Mode| {
        let (images, labels) = (device.tensor(&batch.images, &batch.shape), device.labels(&batch.labels));
        let logits = net.forward(&images, mode);
        let right = logits.detach().argmax(1).eq(&labels).cast(DType::F32).sum_all();
        (logits.cross_entropy(&labels), right)
    };

    // The loop, in about thirty lines.
    let (path, mut state) =
        (args.file("by_hand-last.safetensors")?, json!({ "best": null, "worse": 0, "accuracy": null }));
    // A quick run is a whole one, whatever another has left.
    if path.exists() && !args.quick {
        let file = Checkpoint::open(&path)?;
        let load = file.load().store("model", &params).optimizer("model", &mut adamw);
        load.part("train", &mut loader).value("state", &mut state).finish()?;
    }
    while loader.position().epoch < epochs && state["worse"].as_u64() < Some(PATIENCE) {
        let epoch = loader.position().epoch;
        let mut train = [device.zeros(&[]), device.zeros(&[])];
        for batch in loader.by_ref() {
            let (loss, right) = forward(&batch, Mode::Train);
            train = [&train[0] + loss.detach() * batch.len() as f64, &train[1] + right];
            adamw.step(&loss)?; // the sums are computed in its submission, and nobody waits
        }
        let mut test = [device.zeros(&[]), device.zeros(&[])];
        for batch in digits.test.batches(120) {
            let (loss, right) = no_grad(|| forward(&batch, Mode::Eval));
            test = [&test[0] + loss * batch.len() as f64, &test[1] + right];
            device.eval(&[&test[0], &test[1]])?;
        }
        let mean = |sum: &Tensor, items: usize| anyhow::Ok(sum.item()? / items as f64);
        let (loss, val_loss) = (mean(&train[0], digits.train.len())?, mean(&test[0], digits.test.len())?);
        let (right, val_right) = (mean(&train[1], digits.train.len())?, mean(&test[1], digits.test.len())?);
        println!("epoch {epoch:2}  loss {loss:.4} / {val_loss:.4}  accuracy {right:.4} / {val_right:.4}");
        state["accuracy"] = json!(val_right);
        let is_better = state["best"].as_f64().is_none_or(|best| val_loss < best);
        state["worse"] = json!(if is_better { 0 } else { state["worse"].as_u64().unwrap_or(0) + 1 });
        if is_better {
            state["best"] = json!(val_loss);
            params.save(args.file("by_hand-best.safetensors")?)?;
        }
        let parts = Checkpoint::parts().store("model", &params).optimizer("model", &adamw);
        parts.position("train", loader.position()).value("state", state.clone()).save(&path)?;
    }
    args.finish(json!({ "test_accuracy": state["accuracy"], "best_loss": state["best"] }))?;
    ensure!(state["accuracy"].as_f64() > Some(0.8), "it has not learnt the digits");
    Ok(())
}
