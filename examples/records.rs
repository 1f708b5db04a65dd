//! Trains on the embedded digits with everything on record: figures added up on the device, event files for TensorBoard,
//! tables, and a report on one page. Several runs are compared on another.
//!
//! `cargo run --release --example records -- target/records` writes a folder for each of two learning rates.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kiln::data::{self, Batch};
use kiln::prelude::*;
use kiln::train::Record;
use kiln::train::metrics::{Accuracy, Auroc, Average, CalibrationError, Confusion, Metrics, Score};
use kiln::train::records::{Comparison, CsvLog, JsonLines, Picture, Report, Sample, Settings, TensorBoard};

const EPOCHS: u64 = 12;
const SEED: u64 = 42;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/records".into()));
    let mut comparison = Comparison::new("Learning rates of AdamW on the digits");
    for lr in [3e-3, 3e-4] {
        let run = folder.join(format!("lr-{lr}"));
        if run.exists() {
            anyhow::bail!("{} is there already: remove it, or name another folder", run.display());
        }
        train(lr, &run)?;
        comparison = comparison.folder(&run)?;
    }
    comparison.write(folder.join("compare.html"))?;
    println!("{}", folder.join("compare.html").display());
    Ok(())
}

fn train(lr: f64, folder: &Path) -> anyhow::Result<()> {
    let device = Device::best()?;
    let digits = data::digits();
    let params = ParamStore::new(&device, SEED);
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

    let settings = Settings::new(&device)
        .with("seed", SEED)
        .with("data", "digits")
        .with("epochs", EPOCHS)
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
    let started = Instant::now();
    for epoch in 0..EPOCHS {
        let mut loss_sum = device.zeros(&[]);
        training.reset();
        for batch in digits.train.batches(64).shuffle(SEED + epoch) {
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
        report.status(format!("running, epoch {} of {EPOCHS}", epoch + 1));
        if let Some(matrix) = figures.matrix() {
            report.matrix("Validation", matrix);
        }
        report.write()?;
    }

    report.profile(&device.profile()?);
    samples(&net, &device, &digits.test, &report, &mut board, adamw.steps())?;
    report.status("ended: all epochs are done");
    report.write()?;
    params.save(folder.join("weights.safetensors"))?;
    println!("{}", report.path().display());
    Ok(())
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
