//! The model, the fit, and what is left of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use kiln::data::{Batch, Images, Splits};
use kiln::distributed::World;
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::metrics::{Confusion, Metric};
use kiln::train::{Callback, Event, Every, Progress, Run, Saves, Step, Stopped, Trainer};
use serde_json::json;

use crate::args::Args;
use crate::signals;

/// Where a run that is asked to stop leaves its checkpoint if it keeps none.
const INTERRUPTED: &str = "train_cnn-interrupted.safetensors";

/// conv 3x3 - ReLU - pool - conv 3x3 - ReLU - pool - linear - ReLU - dropout - linear.
fn network(root: &kiln::Path, data: &Images, args: &Args) -> Sequential {
    let [channels, height, width] = data.shape();
    let convolution = ConvConfig { init: args.init, ..Default::default() };
    let linear = LinearConfig { init: args.init, ..Default::default() };
    let features = 32 * (height / 4) * (width / 4);
    Sequential::new()
        .add(Conv2d::with(&root.child("conv1"), channels, 16, 3, convolution).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::with(&root.child("conv2"), 16, 32, 3, convolution).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::with(&root.child("fc1"), features, 64, linear))
        .add(Tensor::relu)
        .add(Dropout::new(&root.child("dropout"), args.dropout))
        .add(Linear::new(&root.child("fc2"), 64, data.classes()))
}

/// Its rate falls to a tenth along a half cosine in `steps` steps.
fn optimizer(args: &Args, params: &ParamStore, steps: u64) -> Box<dyn Optimizer + Send> {
    let (lr, weight_decay, momentum) = (args.lr, args.weight_decay, args.momentum);
    let rate = schedule::cosine_to(lr, 0.1 * lr, steps.max(1));
    if args.optimizer == "sgd" {
        let config = SgdConfig { lr, momentum, weight_decay, ..Default::default() };
        return Box::new(Sgd::new(params, config).clip_norm(args.clip).schedule(rate));
    }
    let config = AdamWConfig { lr, weight_decay, ..Default::default() };
    Box::new(AdamW::new(params, config).clip_norm(args.clip).schedule(rate))
}

pub fn train(args: &Args, device: &Device, splits: &Splits, world: &World) -> Result<()> {
    let params = ParamStore::new(device, args.seed);
    params.set_precision(args.precision);
    let net = network(&params.root(), &splits.train, args);
    let batches = splits.train.batches(args.batch_size).shuffle(args.seed);
    let a_step = if args.accumulate <= 1 { world.size() as u64 } else { args.accumulate };
    let steps = batches.batches_per_epoch().div_ceil(a_step) * args.epochs();
    let first = Arc::new(Mutex::new(None));
    let stop = signals::stop_flag()?;
    say!(world, "model    {} parameters", params.count());

    let [c, h, w] = splits.train.shape();
    let mut trainer = Trainer::new(&params)
        .optimizer_named("model", optimizer(args, &params, steps))
        .epochs(args.epochs())
        .stop_flag(stop)
        .accumulate(args.accumulate)
        .setting("data set", format!("{} of {c}x{h}x{w}", args.data))
        .setting("seed", args.seed)
        .setting("optimizer", &args.optimizer)
        .noted("epochs", args.epochs())
        .noted("learning rate", args.lr)
        .noted("weight decay", args.weight_decay)
        .noted("momentum", args.momentum)
        .noted("clip", args.clip.map_or("none".into(), |clip| clip.to_string()))
        .noted("dropout", args.dropout)
        .callback(Progress::on_stdout())
        .callback(first_step(args, device, world, &first));
    trainer = [Some(&args.out), args.json.as_ref(), args.logits.as_ref(), args.trace.as_ref()]
        .into_iter()
        .flatten()
        .fold(trainer, |trainer, path| trainer.output(path));
    if let Some(path) = &args.checkpoint {
        let saves = Saves::to_file(path).replace().every(Every::Epochs(1));
        trainer = trainer.saves(args.checkpoint_every.into_iter().fold(saves, Saves::every));
    }
    if let Some(steps) = args.max_steps {
        trainer = trainer.steps(steps);
    }
    if let Some(path) = &args.resume {
        trainer = trainer.resume_from(path);
    }
    if args.distributed {
        trainer = trainer.distributed(world);
    }
    let confusion = Confusion::new(splits.test.classes())?;
    let mut step = |step: &mut Step<'_>, batch: Batch| {
        let labels = device.labels(&batch.labels);
        let logits = net.forward(&device.tensor(&batch.images, &batch.shape), step.mode());
        match step.is_training() {
            true => step.metric("accuracy", logits.argmax(1).eq(&labels).cast(DType::F32).mean_all()),
            false => step.metric("accuracy", confusion.clone().of(&logits, &labels)),
        }
        step.minimise(&logits.cross_entropy(&labels))
    };
    let fitted = trainer.fit(batches, splits.test.batches(256), &mut step);
    let history = trainer.history().clone();
    // A run that has done all it should, and could not save its last checkpoint, still gives its weights.
    let unsaved = match fitted {
        Err(error) if history.stopped.is_none() => return Err(error.into()),
        fitted => fitted.map(drop).context("the last checkpoint was not saved"),
    };
    if history.stopped == Some(Stopped::Flag) {
        unsaved?;
        let path = args.checkpoint.as_deref().unwrap_or(Path::new(INTERRUPTED));
        if args.checkpoint.is_none() {
            trainer.save(path)?;
        }
        let (steps, path) = (trainer.step(), path.display());
        say!(world, "stopped after {steps} steps; go on with: train_cnn --resume {path} and the same options");
        return Ok(());
    }

    let (last, figures) = trainer.evaluate(splits.test.batches(256), step)?;
    let matrix = figures.matrix().context("the test recorded no confusion matrix")?;
    let test_loss = last.get("loss").unwrap_or(f64::NAN);
    say!(world, "\n{}\n{matrix}", matrix.report());
    say!(world, "test accuracy {:.2} %, loss {test_loss:.4}", 100.0 * matrix.accuracy());
    if !world.is_first() {
        return unsaved;
    }
    params.save(&args.out)?;
    println!("weights  {}", args.out.display());
    #[cfg(feature = "onnx")]
    if let Some(path) = &args.onnx {
        let images = |batch: usize, _| vec![device.uniform(&[batch, c, h, w], 0.0, 1.0, args.seed)];
        crate::onnx_file::write(path, |x| vec![net.forward(&x[0], Mode::Eval)], images, &[])?;
    }
    if let Some(path) = &args.logits {
        save_logits(path, &net, device, &splits.test)?;
    }
    if let Some(path) = &args.json {
        let mut before = 0.0;
        let epochs = history.epochs.iter().chain(&history.unfinished).map(|record| {
            let seconds = record.seconds - std::mem::replace(&mut before, record.seconds);
            json!({
                "epoch": record.epoch + 1, "train_loss": record.get("loss"), "train_accuracy": record.get("accuracy"),
                "test_loss": record.get("val_loss"), "test_accuracy": record.get("val_accuracy"), "seconds": seconds,
            })
        });
        let (first_step, dispatches) = first.lock().unwrap_or_else(PoisonError::into_inner).unzip();
        let trained = trainer.training_time().as_secs_f64();
        let value = json!({
            "settings": {
                "data": args.data, "epochs": args.epochs(), "batch_size": args.batch_size,
                "optimizer": args.optimizer, "lr": args.lr, "precision": args.precision.to_string(),
                "weight_decay": args.weight_decay, "clip": args.clip, "dropout": args.dropout, "seed": args.seed,
            },
            "adapter": device.info().to_string(),
            "epochs": epochs.collect::<Vec<_>>(),
            "test_accuracy": matrix.accuracy(),
            "test_loss": test_loss,
            "images_per_s": trainer.items() as f64 / trained.max(1e-9),
            "train_s": trained,
            "first_step_s": first_step,
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_device_bytes": device.memory().1,
            "dispatches_per_step": dispatches,
        });
        std::fs::write(path, serde_json::to_string_pretty(&value)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    unsaved
}

/// Seconds and dispatches of the first step; it is waited for, and its plan shown if it was asked for.
fn first_step(
    args: &Args,
    device: &Device,
    world: &World,
    first: &Arc<Mutex<Option<(f64, usize)>>>,
) -> impl Callback + 'static {
    let plan = args.plan.clone().filter(|_| world.is_first());
    let (device, first, mut began) = (device.clone(), first.clone(), Instant::now());
    move |event: Event<'_>, _: &mut Run<'_>| {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepStart => began = Instant::now(),
            Event::StepEnd if first.is_none() => {
                device.synchronize()?;
                *first = Some((began.elapsed().as_secs_f64(), device.statistics().dispatches));
                match (&plan, device.last_plan()) {
                    (None, _) => {}
                    (_, None) => println!("plan     none: the reference runs no kernels"),
                    (Some(folder), Some(plan)) => {
                        folder.as_ref().map_or(Ok(()), |folder| plan.write(folder))?;
                        println!("{plan}");
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The first test images and what the network says of them.
fn save_logits(path: &Path, net: &Sequential, device: &Device, data: &Images) -> Result<()> {
    let batch = data.clone().limit(64).batches(64).next().context("there are no test images")?;
    let images = device.tensor(&batch.images, &batch.shape);
    let both = ParamStore::new(device, 0);
    both.root().state("logits", &no_grad(|| net.forward(&images, Mode::Eval)));
    both.root().state("images", &images);
    Ok(both.save(path)?)
}

/// Largest resident size of this process, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
