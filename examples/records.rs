//! Trains on the embedded digits with everything on record: figures added up on the device, event files for TensorBoard,
//! tables, and a report on one page. Several runs are compared on another.
//!
//! `cargo run --release --example records -- --out target/programs` writes a folder `records` there, with one for each of two
//! learning rates.

#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::time::Instant;

use clap::Parser;
use kiln::data::{self, Batch};
use kiln::prelude::*;
use kiln::train::Record;
use kiln::train::metrics::{Accuracy, Auroc, Average, CalibrationError, Confusion, Metrics, Score};
use kiln::train::records::{Comparison, CsvLog, JsonLines, Picture, Report, Sample, Settings, TensorBoard};
use serde_json::json;

/// Trains with two learning rates, and keeps all that is known of it.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let folder = args.out.join(args.pick("records", "records-quick"));
    if args.quick && folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let mut comparison = Comparison::new("Learning rates of AdamW on the digits");
    let mut accuracies = vec![];
    for lr in [3e-3, 3e-4] {
        let run = folder.join(format!("lr-{lr}"));
        if run.exists() {
            anyhow::bail!("{} is there already: remove it, or name another folder by `--out`", run.display());
        }
        accuracies.push(train(&device, &args, lr, &run)?);
        comparison = comparison.folder(&run)?;
    }
    comparison.write(folder.join("compare.html"))?;
    println!("wrote    {}", folder.join("compare.html").display());
    args.finish(json!({ "test_accuracy": accuracies[0], "test_accuracy_at_a_tenth": accuracies[1] }))?;
    anyhow::ensure!(accuracies[0] > args.pick(0.95, 0.7), "the digits are not learnt: {:.3}", accuracies[0]);
    Ok(())
}

/// Returns the accuracy on the test images.
fn train(device: &Device, args: &program::Common, lr: f64, folder: &Path) -> anyhow::Result<f64> {
    let (epochs, seed) = (args.pick(12, 2), args.seed);
    let digits = data::digits();
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
        .add(Dropout::new(&root.child("dropout"), 0.2))
        .add(Linear::new(&root.child("fc"), 32 * 2 * 2, 10));
    let mut adamw = AdamW::new(&params, AdamWConfig { lr, ..AdamWConfig::default() });

    let settings = Settings::new(device)
        .with("seed", seed)
        .with("data", "digits")
        .with("epochs", epochs)
        .with("batch_size", 64)
        .with("optimizer", "adamw")
        .with("lr", lr);
    settings.write(folder)?;
    let mut board = TensorBoard::new(folder);
    board.hyperparameters(settings.entries(), &["validation/accuracy"])?;
    board.text("settings", 0, &format!("```\n{:#}\n```", settings.to_json()))?;
    let mut table = CsvLog::new(folder.join("log.csv"));
    let mut lines = JsonLines::new(folder.join("log.jsonl"));
    lines.settings(&settings)?;
    let report = Report::new(format!("Digits, learning rate {lr}"), folder.join("report.html"));
    report.settings(&settings);

    let mut training = Metrics::new().add(Accuracy::new());
    let mut validation = Metrics::new()
        .add(Accuracy::new())
        .add(Confusion::new(10)?.score(Score::FBeta(1.0, Average::Macro)))
        .add(CalibrationError::new(15))
        .add(Auroc);
    let forward = |batch: &Batch, mode: Mode| net.forward(&device.tensor(&batch.images, &batch.shape), mode);
    device.set_profiling(true)?;
    let (started, mut accuracy) = (Instant::now(), 0.0);
    for epoch in 0..epochs {
        let mut loss_sum = device.zeros(&[]);
        training.reset();
        for batch in digits.train.batches(64).shuffle(seed + epoch) {
            let labels = device.labels(&batch.labels);
            let logits = forward(&batch, Mode::Train);
            let loss = logits.cross_entropy(&labels);
            training.update(&logits, &labels)?;
            adamw.step(&loss)?;
            loss_sum += loss.detach() * batch.len() as f64;
        }
        let mut val_loss_sum = device.zeros(&[]);
        validation.reset();
        for batch in digits.test.batches(90) {
            let labels = device.labels(&batch.labels);
            let logits = no_grad(|| forward(&batch, Mode::Eval));
            val_loss_sum += logits.cross_entropy_sum(&labels);
            validation.update(&logits, &labels)?;
        }
        // Read once an epoch.
        let figures = validation.compute()?;
        accuracy = figures.value("accuracy").unwrap_or(f64::NAN);
        let mut values = std::collections::BTreeMap::from([
            ("loss".to_string(), loss_sum.item()? / digits.train.len() as f64),
            ("val_loss".to_string(), val_loss_sum.item()? / digits.test.len() as f64),
            ("accuracy".to_string(), training.compute()?.value("accuracy").unwrap_or(f64::NAN)),
        ]);
        values.extend(figures.iter().map(|figure| (format!("val_{}", figure.name), figure.value)));

        let record = Record { epoch, step: adamw.steps(), values, seconds: started.elapsed().as_secs_f64() };
        for (name, value) in &record.values {
            let tag = name.strip_prefix("val_").map_or(format!("epoch/{name}"), |name| format!("validation/{name}"));
            board.scalar(&tag, record.step, *value)?;
        }
        for param in params.parameters() {
            board.histogram(&param.name(), record.step, &param.values()?)?;
        }
        table.write(&record)?;
        lines.write("epoch", &record)?;
        report.record(&record);
        report.status(format!("running, epoch {} of {epochs}", epoch + 1));
        if let Some(matrix) = figures.matrix() {
            report.matrix("Validation", matrix);
        }
        report.write()?;
    }

    report.profile(&device.profile()?);
    samples(&net, device, &digits.test, &report, &mut board, adamw.steps())?;
    report.status("ended: all epochs are done");
    report.write()?;
    params.save(folder.join("weights.safetensors"))?;
    println!("wrote    {}", report.path().display());
    Ok(accuracy)
}

/// The first images of the test set that are taken for another digit, and some that are not.
fn samples(
    net: &Sequential,
    device: &Device,
    images: &data::Images,
    report: &Report,
    board: &mut TensorBoard,
    step: u64,
) -> anyhow::Result<()> {
    let [channels, height, width] = images.shape();
    let shape = [images.len(), channels, height, width];
    let shares = no_grad(|| net.forward(&device.tensor(images.images(), &shape), Mode::Eval)).softmax(1);
    let (shares, predicted) = (shares.max(1).to_vec::<f32>()?, shares.argmax(1).to_vec::<u32>()?);
    let is_wrong = |item: &usize| predicted[*item] != images.labels()[*item];
    let wrong = (0..images.len()).filter(is_wrong).take(12);
    let right = (0..images.len()).filter(|item| !is_wrong(item)).take(8);
    for item in wrong.chain(right) {
        let pixels = &images.images()[item * height * width..][..height * width];
        let picture = Picture::new(pixels, [1, height, width], 0.0, 1.0)?;
        board.image(&format!("samples/{item}"), step, &picture)?;
        report.sample(Sample {
            picture: Some(picture),
            input: format!("test image {item}"),
            target: images.labels()[item].to_string(),
            prediction: predicted[item].to_string(),
            confidence: Some(f64::from(shares[item])),
        });
    }
    Ok(())
}
