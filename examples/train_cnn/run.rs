//! The model and the loop.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use kiln::data::{Batch, Images, Loader, Splits};
use kiln::prelude::{
    AdamW, AdamWConfig, Conv2d, ConvConfig, DType, Device, Dropout, Linear, LinearConfig, Mode, Module, Optimizer,
    ParamStore, Precision, Sgd, SgdConfig, Tensor, no_grad,
};
use kiln::schedule;
use kiln::train::metrics::ConfusionMatrix;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use crate::args::{Args, Mix, Rule};
use crate::report::{Epoch, Progress, peak_rss_bytes, write_plan};
use crate::saves::{self, Saves};
use crate::signals;

/// conv 3x3 - ReLU - pool - conv 3x3 - ReLU - pool - linear - ReLU - dropout - linear.
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
}

impl Cnn {
    fn new(root: &kiln::Path, shape: [usize; 3], classes: usize, args: &Args) -> Cnn {
        let [channels, height, width] = shape;
        let config = ConvConfig { init: args.init.init(), ..Default::default() };
        let features = 32 * (height / 4) * (width / 4);
        Cnn {
            conv1: Conv2d::with(&root.child("conv1"), channels, 16, 3, config).padding(1),
            conv2: Conv2d::with(&root.child("conv2"), 16, 32, 3, config).padding(1),
            fc1: Linear::with(
                &root.child("fc1"),
                features,
                64,
                LinearConfig { init: args.init.init(), ..Default::default() },
            ),
            dropout: Dropout::new(&root.child("dropout"), args.dropout),
            fc2: Linear::new(&root.child("fc2"), 64, classes),
        }
    }
}

impl Module for Cnn {
    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        let x = self.conv1.forward(images, mode).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
        let x = self.conv2.forward(&x, mode).relu().max_pool2d([2, 2], [2, 2], [0, 0]);
        let x = self.fc1.forward(&x.flatten(1), mode).relu();
        self.fc2.forward(&self.dropout.forward(&x, mode), mode)
    }
}

/// Its rate falls to a tenth along a half cosine in `steps` steps.
fn optimizer(args: &Args, params: &ParamStore, steps: u64) -> Box<dyn Optimizer> {
    let (lr, weight_decay) = (args.lr, args.weight_decay);
    let rate = schedule::cosine_to(lr, 0.1 * lr, steps.max(1));
    match args.optimizer {
        Rule::Adamw => {
            let config = AdamWConfig { lr, weight_decay, ..Default::default() };
            Box::new(AdamW::new(params, config).clip_norm(args.clip).schedule(rate))
        }
        Rule::Sgd => {
            let momentum = args.momentum;
            let config = SgdConfig { lr, momentum, weight_decay, ..Default::default() };
            Box::new(Sgd::new(params, config).clip_norm(args.clip).schedule(rate))
        }
    }
}

/// Loss and right answers of a step whose values are still on their way.
struct Pending {
    loss: Tensor,
    right: Tensor,
    images: usize,
}

/// Sums over an epoch.
#[derive(Default)]
struct Sums {
    loss: f64,
    right: f64,
    images: f64,
}

impl Sums {
    fn add(&mut self, pending: &Pending) -> Result<(f64, f64)> {
        let (loss, right, images) = (pending.loss.item()?, pending.right.item()?, pending.images as f64);
        self.loss += loss * images;
        self.right += right;
        self.images += images;
        Ok((loss, right / images))
    }

    fn means(&self) -> (f64, f64) {
        (self.loss / self.images.max(1.0), self.right / self.images.max(1.0))
    }
}

fn inputs(device: &Device, batch: &Batch) -> (Tensor, Tensor) {
    (device.tensor(&batch.images, &batch.shape), device.labels(&batch.labels))
}

/// Number of rows of `logits` whose largest entry is the label's.
fn count_right(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1).eq(labels).cast(DType::F32).sum_all()
}

fn evaluate(net: &Cnn, device: &Device, data: &Images) -> Result<(f64, ConfusionMatrix)> {
    let mut matrix = ConfusionMatrix::new(data.classes())?;
    let mut total = 0.0;
    for batch in data.batches(256) {
        let (images, labels) = inputs(device, &batch);
        let (loss, guess) = no_grad(|| {
            let logits = net.forward(&images, Mode::Eval);
            (logits.cross_entropy(&labels), logits.argmax(1))
        });
        device.eval(&[&loss, &guess])?;
        total += loss.item()? * batch.len() as f64;
        matrix.record_all(&batch.labels, &guess.to_vec::<u32>()?)?;
    }
    Ok((total / data.len() as f64, matrix))
}

/// The first test images and what the network says of them.
fn save_logits(path: &Path, net: &Cnn, device: &Device, data: &Images) -> Result<()> {
    let batch = data.clone().limit(64).batches(64).next().context("there are no test images")?;
    let images = device.tensor(&batch.images, &batch.shape);
    let logits = no_grad(|| net.forward(&images, Mode::Eval));
    let shape = logits.shape()?.to_vec();
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (images, logits) = (bytes(&batch.images), bytes(&logits.to_vec::<f32>()?));
    let views = [
        ("images", TensorView::new(Dtype::F32, batch.shape.to_vec(), &images)?),
        ("logits", TensorView::new(Dtype::F32, shape, &logits)?),
    ];
    let whole = safetensors::serialize(views, None)?;
    std::fs::write(path, whole).with_context(|| format!("{} cannot be written", path.display()))
}

pub fn train(args: &Args, device: &Device, splits: &Splits) -> Result<()> {
    let params = ParamStore::new(device, args.seed);
    if args.precision == Mix::Mixed {
        params.set_precision(Precision::Mixed);
    }
    let net = Cnn::new(&params.root(), splits.train.shape(), splits.train.classes(), args);
    let mut loader = splits.train.batches(args.batch_size).shuffle(args.seed);
    let per_epoch = loader.batches_per_epoch();
    let steps = per_epoch * args.epochs();
    let mut optimizer = optimizer(args, &params, steps);
    if let Some(path) = &args.resume {
        loader.seek(saves::resume(path, args, splits, &params, optimizer.as_mut())?)?;
    }
    let last = args.max_steps.unwrap_or(u64::MAX).min(steps);

    let stop = signals::stop_flag()?;
    println!("model    {} parameters", params.count());
    let mut saves = Saves::new(args, splits, optimizer.steps());
    let mut progress = Progress::new(last, optimizer.steps());
    let mut history: Vec<Epoch> = vec![];
    let (mut first_step, mut trained, mut images_seen) = (None, 0.0, 0u64);
    let mut dispatches = 0;
    while optimizer.steps() < last && !stop.load(Ordering::Relaxed) {
        let number = loader.position().epoch;
        let started = Instant::now();
        let mut sums = Sums::default();
        let mut pending: VecDeque<Pending> = VecDeque::new();
        while let Some(batch) = loader.next() {
            let step_started = Instant::now();
            let (images, labels) = inputs(device, &batch);
            let logits = net.forward(&images, Mode::Train);
            let loss = logits.cross_entropy(&labels);
            let right = count_right(&logits.detach(), &labels);
            drop(logits);
            optimizer.step(&loss)?;
            dispatches = device.statistics().dispatches;
            pending.push_back(Pending { loss, right, images: batch.len() });
            images_seen += batch.len() as u64;
            if first_step.is_none() {
                device.synchronize()?;
                first_step = Some(step_started.elapsed().as_secs_f64());
                if let Some(folder) = &args.plan {
                    match device.last_plan() {
                        Some(plan) => {
                            folder.as_ref().map_or(Ok(()), |folder| write_plan(folder, &plan))?;
                            progress.line(&plan.to_string());
                        }
                        None => progress.line("plan     none: the reference runs no kernels"),
                    }
                }
            }
            // A value is read when the step three later has been queued: the queue never runs dry.
            if pending.len() > 3
                && let Some(oldest) = pending.pop_front()
            {
                let (loss, accuracy) = sums.add(&oldest)?;
                progress.step(oldest.images, loss, accuracy);
            }
            if stop.load(Ordering::Relaxed) {
                progress.finish();
                return stopped(args, &saves, &params, optimizer.as_ref(), &loader);
            }
            if optimizer.steps() >= last {
                break;
            }
            if saves.are_due(optimizer.steps()) {
                saves.save(&params, optimizer.as_ref(), &loader)?;
            }
        }
        for rest in pending {
            let (loss, accuracy) = sums.add(&rest)?;
            progress.step(rest.images, loss, accuracy);
        }
        if sums.images == 0.0 {
            // Resumed behind the last batch of an epoch.
            continue;
        }
        trained += started.elapsed().as_secs_f64();
        let (train_loss, train_accuracy) = sums.means();
        let (test_loss, matrix) = evaluate(&net, device, &splits.test)?;
        let epoch = Epoch {
            number: number + 1,
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy: matrix.accuracy(),
            seconds: started.elapsed().as_secs_f64(),
        };
        progress.line(&format!(
            "epoch {:3}  train loss {:.4} accuracy {:5.2} %   test loss {:.4} accuracy {:5.2} %   {:.1} s",
            epoch.number,
            train_loss,
            100.0 * train_accuracy,
            test_loss,
            100.0 * epoch.test_accuracy,
            epoch.seconds
        ));
        history.push(epoch);
        saves.save(&params, optimizer.as_ref(), &loader)?;
    }
    progress.finish();
    if stop.load(Ordering::Relaxed) {
        return stopped(args, &saves, &params, optimizer.as_ref(), &loader);
    }

    let (test_loss, matrix) = evaluate(&net, device, &splits.test)?;
    println!("\n{}\n{matrix}", matrix.report());
    println!("test accuracy {:.2} %, loss {test_loss:.4}", 100.0 * matrix.accuracy());
    params.save(&args.out)?;
    println!("weights  {}", args.out.display());
    if let Some(path) = &args.logits {
        save_logits(path, &net, device, &splits.test)?;
    }
    if let Some(path) = &args.json {
        let value = json!({
            "settings": {
                "data": args.data_name(), "epochs": args.epochs(), "batch_size": args.batch_size,
                "optimizer": args.optimizer_name(), "lr": args.lr,
                "precision": args.precision_name(), "weight_decay": args.weight_decay, "clip": args.clip, "dropout": args.dropout, "seed": args.seed,
            },
            "adapter": device.info().to_string(),
            "epochs": history.iter().map(Epoch::json).collect::<Vec<_>>(),
            "test_accuracy": matrix.accuracy(),
            "test_loss": test_loss,
            "images_per_s": images_seen as f64 / trained.max(1e-9),
            "train_s": trained,
            "first_step_s": first_step,
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_device_bytes": device.memory().1,
            "dispatches_per_step": dispatches,
        });
        std::fs::write(path, serde_json::to_string_pretty(&value)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    saves.finish()
}

/// Saves at once what a run that is asked to end has done, whatever it has not read or shown yet.
fn stopped(
    args: &Args,
    saves: &Saves<'_>,
    params: &ParamStore,
    optimizer: &dyn Optimizer,
    loader: &Loader<'_>,
) -> Result<()> {
    let path = args.checkpoint.clone().unwrap_or_else(|| PathBuf::from("train_cnn-interrupted.safetensors"));
    saves.save_to(&path, params, optimizer, loader)?;
    println!(
        "stopped after {} steps; go on with: train_cnn --resume {} and the same options",
        optimizer.steps(),
        path.display()
    );
    Ok(())
}
