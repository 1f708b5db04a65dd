//! Training steps of a convolutional network, a residual network and a transformer: on the device, and on one that computes
//! nothing, which tells the host's share.

use anyhow::Result;
use kiln::nn::{AdaptiveAvgPool2d, Residual, TransformerEncoder, TransformerEncoderLayer, TransformerLayerConfig};
use kiln::prelude::*;
use serde_json::json;

use crate::measure::Report;

/// A model on a device, as a function that does one step.
type Step = Box<dyn FnMut() -> Result<()>>;

fn floats(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>()).map(|i| (i * 7919 % 1013) as f32 / 1013.0).collect()
}

/// Steps of a classifier of ten classes; data goes up with each.
fn classifier(device: &Device, shape: Vec<usize>, build: fn(&Path) -> Sequential, precision: Precision) -> Step {
    let params = ParamStore::new(device, 1);
    params.set_precision(precision);
    let net = build(&params.root());
    let mut optimizer = AdamW::new(&params, AdamWConfig::default());
    let (images, labels) = (floats(&shape), (0..shape[0] as u32).map(|i| i % 10).collect::<Vec<_>>());
    let device = device.clone();
    Box::new(move || {
        let logits = net.forward(&device.tensor(&images, &shape), Mode::Train);
        optimizer.step(&logits.cross_entropy(&device.labels(&labels)))?;
        Ok(())
    })
}

fn small_network(root: &Path) -> Sequential {
    Sequential::new()
        .add(Conv2d::new(&root.child("c1"), 1, 32, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(&root.child("c2"), 32, 64, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("f1"), 3136, 128))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("f2"), 128, 10))
}

/// Two convolutions and the way around them, at half the size where channels grow.
fn block(path: &Path, from: usize, to: usize) -> Sequential {
    let stride = if from == to { 1 } else { 2 };
    let conv = |name: &str, from, kernel| Conv2d::new(&path.child(name), from, to, kernel);
    let branch = Sequential::new()
        .add(conv("conv1", from, 3).stride(stride).padding(1))
        .add(BatchNorm2d::new(&path.child("norm1"), to))
        .add(Tensor::relu)
        .add(conv("conv2", to, 3).padding(1))
        .add(BatchNorm2d::new(&path.child("norm2"), to));
    let residual = match from == to {
        true => Residual::new(branch),
        false => Residual::new(branch).shortcut(conv("around", from, 1).stride(stride)),
    };
    Sequential::new().add(residual).add(Tensor::relu)
}

/// ResNet-18's blocks for images of 32 x 32.
fn residual_network(root: &Path) -> Sequential {
    let mut net = Sequential::new()
        .add(Conv2d::new(&root.child("stem"), 3, 64, 3).padding(1))
        .add(BatchNorm2d::new(&root.child("norm"), 64))
        .add(Tensor::relu);
    for (i, (from, to)) in [(64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
        .into_iter()
        .enumerate()
    {
        net = net.add(block(&root.child(format!("block{i}")), from, to));
    }
    net.add(AdaptiveAvgPool2d::new(1)).add(Flatten).add(Linear::new(&root.child("fc"), 512, 10))
}

/// Steps of a transformer that learns which of 256 tokens comes next.
fn transformer(
    device: &Device,
    batch: usize,
    length: usize,
    width: usize,
    layers: usize,
    precision: Precision,
) -> Step {
    let params = ParamStore::new(device, 1);
    params.set_precision(precision);
    let root = params.root();
    let embedding = Embedding::new(&root.child("embedding"), 256, width);
    let config = TransformerLayerConfig { hidden: 4 * width, ..Default::default() };
    let blocks = TransformerEncoder::new(&root.child("blocks"), layers, |path| {
        let layer = TransformerEncoderLayer::with(path, width, width / 64, config);
        layer.norm_first().activation(Tensor::gelu).dropout(0.0).causal()
    });
    let head = Linear::new(&root.child("head"), width, 256);
    let mut optimizer = AdamW::new(&params, AdamWConfig::default());
    let tokens: Vec<u32> = (0..batch * length).map(|i| (i * 31 % 256) as u32).collect();
    let device = device.clone();
    Box::new(move || {
        let indices = device.labels(&tokens).reshape(&[batch, length]);
        let hidden = blocks.forward(&embedding.forward(&indices), Mode::Train);
        let logits = head.forward(&hidden, Mode::Train).reshape(&[batch * length, 256]);
        optimizer.step(&logits.cross_entropy(&device.labels(&tokens)))?;
        Ok(())
    })
}

/// A training step, named, with what it is a step of, and how many of that.
fn step(report: &mut Report, name: &str, unit: &str, units: f64, make: &dyn Fn(&Device) -> Step) -> Result<()> {
    if !report.has_time(name, 1.0) {
        return Ok(());
    }
    let mut step = make(&report.device);
    let times = report.time_steps(&mut step)?;
    // The same step where kernels take no time.
    let idle = Device::noop()?;
    let mut idle_step = make(&idle);
    let host = Report::new(&idle, report.quick, false).time_steps(&mut idle_step)?;
    let text = format!(
        "{:9.3} ms a step  {:9.0} {unit}/s  host {:.3} ms  first {:.2} s",
        1e3 * times.best,
        units / times.best,
        1e3 * host.median,
        times.first
    );
    let figures = json!({
        "best_s": times.best, "median_s": times.median, "first_s": times.first, "host_s": host.median, "unit": unit,
        "per_s": units / times.best,
    });
    report.line(name, &text, figures);
    Ok(())
}

pub fn all(report: &mut Report) -> Result<()> {
    let full = Precision::Full;
    let batch = if report.quick { 4 } else { 64 };
    step(report, "small CNN, 28^2", "images", batch as f64, &|device| {
        classifier(device, vec![batch, 1, 28, 28], small_network, full)
    })?;
    let (length, width, layers) = if report.quick { (16, 64, 1) } else { (256, 384, 4) };
    let sequences = if report.quick { 2 } else { 8 };
    let tokens = (sequences * length) as f64;
    step(report, "transformer", "tokens", tokens, &|device| {
        transformer(device, sequences, length, width, layers, full)
    })?;
    if report.quick {
        return Ok(());
    }
    step(report, "residual network, 32^2", "images", batch as f64, &|device| {
        classifier(device, vec![batch, 3, 32, 32], residual_network, full)
    })?;
    let mixed = Precision::Mixed;
    step(report, "transformer, mixed", "tokens", tokens, &|device| {
        transformer(device, sequences, length, width, layers, mixed)
    })?;
    step(report, "residual network, 32^2, mixed", "images", batch as f64, &|device| {
        classifier(device, vec![batch, 3, 32, 32], residual_network, mixed)
    })?;
    Ok(())
}
