//! What a step of a fit takes beside the same loop written by hand, in the same run: with a metric alone, and with a bar,
//! tables, event files and a report as well.
//!
//! `cargo bench --features progress --bench trainer` prints the ratios of the times of pairs of runs on the best device; the bar
//! is drawn where stderr is a terminal.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kiln::prelude::*;
use kiln::train::records::{CsvLog, JsonLines, Report, TensorBoard};
use kiln::train::{Progress, Trainer};

const PAIRS: usize = 15;
const EPOCHS: u64 = 3;

fn accuracy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1).eq(labels).cast(DType::F32).mean_all()
}

/// The convolutional network of `examples/train_cnn`.
fn cnn(device: &Device) -> (ParamStore, Sequential, AdamW) {
    let params = ParamStore::new(device, 42);
    let root = params.root();
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv1"), 1, 16, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(&root.child("conv2"), 16, 32, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("fc1"), 128, 64))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("fc2"), 64, 10));
    let adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..Default::default() });
    (params, net, adamw)
}

/// What watches a fit besides its metric.
#[derive(Debug, Clone, Copy)]
enum Watched {
    Alone,
    Recorded,
}

/// Trains for some epochs by a trainer, with a metric beside the loss.
fn by_trainer(device: &Device, epochs: u64, watched: Watched) -> Duration {
    let (params, net, adamw) = cnn(device);
    let digits = kiln::data::digits().train;
    let folder = std::env::temp_dir().join(format!("kiln-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let started = Instant::now();
    let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(epochs);
    if let Watched::Recorded = watched {
        trainer = trainer
            .callback(Progress::new())
            .callback(TensorBoard::new(&folder))
            .callback(CsvLog::new(folder.join("log.csv")))
            .callback(JsonLines::new(folder.join("log.jsonl")))
            .callback(Report::new("Digits", folder.join("report.html")));
    }
    let history = trainer.fit(digits.batches(64).shuffle(42).drop_last(true), (), |step, batch| {
        let (images, labels) = (step.device().tensor(&batch.images, &batch.shape), step.device().labels(&batch.labels));
        let logits = net.forward(&images, step.mode());
        step.metric("accuracy", accuracy(&logits, &labels));
        step.minimise(&logits.cross_entropy(&labels))
    });
    assert!(history.unwrap().get("accuracy").unwrap() > 0.0);
    let elapsed = started.elapsed();
    let _ = std::fs::remove_dir_all(&folder);
    elapsed
}

/// The same by hand, as `examples/train_cnn` does it: values are read three steps late.
fn by_hand(device: &Device, epochs: u64) -> Duration {
    let (_params, net, mut adamw) = cnn(device);
    let digits = kiln::data::digits().train;
    let mut loader = digits.batches(64).shuffle(42).drop_last(true);
    let started = Instant::now();
    let (mut loss_sum, mut right) = (0.0, 0.0);
    for _ in 0..epochs {
        let mut pending = VecDeque::new();
        let mut read = |(loss, accuracy): (Tensor, Tensor)| {
            loss_sum += loss.item().unwrap();
            right += accuracy.item().unwrap();
        };
        for batch in loader.by_ref() {
            let (images, labels) = (device.tensor(&batch.images, &batch.shape), device.labels(&batch.labels));
            let logits = net.forward(&images, Mode::Train);
            let accuracy = accuracy(&logits.detach(), &labels);
            let loss = logits.cross_entropy(&labels);
            drop(logits);
            adamw.step(&loss).unwrap();
            pending.push_back((loss, accuracy));
            if pending.len() > 3 {
                read(pending.pop_front().unwrap());
            }
        }
        pending.into_iter().for_each(&mut read);
    }
    assert!(loss_sum > 0.0 && right > 0.0);
    started.elapsed()
}

/// Prints how many times as long a step takes under a fit.
fn compare(device: &Device, watched: Watched) {
    by_trainer(device, 1, watched);
    by_hand(device, 1);
    let pair = |number: usize| {
        // Whoever is second has no advantage.
        let (fit, hand) = match number % 2 {
            0 => (by_trainer(device, EPOCHS, watched), by_hand(device, EPOCHS)),
            _ => {
                let hand = by_hand(device, EPOCHS);
                (by_trainer(device, EPOCHS, watched), hand)
            }
        };
        (fit.as_secs_f64() / hand.as_secs_f64(), hand.as_secs_f64() / (22 * EPOCHS) as f64)
    };
    let mut pairs: Vec<(f64, f64)> = (0..PAIRS).map(pair).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: Vec<String> = pairs.iter().map(|(ratio, _)| format!("{ratio:.3}")).collect();
    let (ratio, step) = pairs[PAIRS / 2];
    println!(
        "{watched:?}: a step by hand {:.2} ms; under fit {ratio:.3} times as long (median of {PAIRS}: {})",
        1e3 * step,
        all.join(" ")
    );
}

fn main() {
    let device = Device::best().expect("a device");
    compare(&device, Watched::Alone);
    compare(&device, Watched::Recorded);
}
