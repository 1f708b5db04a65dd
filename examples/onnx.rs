//! Models to ONNX files and from them.
//!
//! - `cargo run --release --features onnx --example onnx -- export FILE` trains a small network on the embedded digits for an epoch, and
//!   writes it; `--net transformer` writes another one, untrained. `--values FILE.json` has inputs and outputs of batches of 1, 3 and 64.
//! - `.. -- run FILE` shows what a model takes and gives, its parameters, and its outputs for drawn inputs.
//! - `.. -- finetune FILE` trains a model with one input and one output of classes on drawn inputs and labels.

#[path = "common/pipe.rs"]
mod pipe;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use kiln::nn::TransformerEncoderLayer;
use kiln::onnx::{ExportOptions, Model, export, load};
use kiln::prelude::*;
use serde_json::json;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write a network to a file.
    Export {
        file: PathBuf,
        #[arg(long, value_enum, default_value = "cnn")]
        net: Net,
        /// Write inputs and outputs here, too.
        #[arg(long)]
        values: Option<PathBuf>,
    },
    /// Run a model on drawn inputs.
    Run {
        file: PathBuf,
        /// The length of free axes.
        #[arg(long, default_value_t = 2)]
        batch: usize,
    },
    /// Train a model on drawn inputs.
    Finetune {
        file: PathBuf,
        #[arg(long, default_value_t = 8)]
        batch: usize,
        #[arg(long, default_value_t = 20)]
        steps: usize,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Net {
    Cnn,
    Transformer,
}

/// A network as a function, and an input of so many rows.
type Function = (Box<dyn Fn(&Tensor, Mode) -> Tensor>, Box<dyn Fn(usize) -> Tensor>);

fn network(net: Net, params: &ParamStore) -> Function {
    let (device, root) = (params.device().clone(), params.root());
    match net {
        Net::Cnn => {
            let net = Sequential::new()
                .add(Conv2d::new(&root.child("conv"), 1, 8, 3).padding(1))
                .add(BatchNorm2d::new(&root.child("norm"), 8))
                .add(Tensor::relu)
                .add(MaxPool2d::new(2))
                .add(Flatten)
                .add(Linear::new(&root.child("fc"), 8 * 4 * 4, 10));
            let images = move |batch: usize| device.uniform(&[batch, 1, 8, 8], 0.0, 1.0, 7);
            (Box::new(move |x, mode| net.forward(x, mode)), Box::new(images))
        }
        Net::Transformer => {
            let words = Embedding::new(&root.child("words"), 32, 16);
            let layer = TransformerEncoderLayer::new(&root.child("layer"), 16, 4);
            let fc = Linear::new(&root.child("fc"), 16, 4);
            let net = move |x: &Tensor, mode: Mode| fc.forward(&layer.forward(&words.forward(x), mode).mean(1), mode);
            let texts = move |batch: usize| {
                let words: Vec<u32> = (0..batch * 6).map(|i| (i * 11 % 32) as u32).collect();
                device.tensor(&words, &[batch, 6])
            };
            (Box::new(net), Box::new(texts))
        }
    }
}

fn write(file: &PathBuf, which: Net, values: Option<&PathBuf>) -> Result<()> {
    let device = Device::best()?;
    let params = ParamStore::new(&device, 42);
    let (net, input) = network(which, &params);
    if let Net::Cnn = which {
        let digits = kiln::data::digits();
        let mut adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..AdamWConfig::default() });
        for batch in digits.train.batches(64).shuffle(42) {
            let logits = net(&device.tensor(&batch.images, &batch.shape), Mode::Train);
            adamw.step(&logits.cross_entropy(&device.labels(&batch.labels)))?;
        }
    }
    let options = ExportOptions { outputs: vec!["logits".into()], ..ExportOptions::default() };
    export(|x| vec![net(&x[0], Mode::Eval)], &[input(2)], file, &options)?;
    println!("{}: {} parameters", file.display(), params.count());
    let Some(path) = values else { return Ok(()) };
    let mut cases = vec![];
    for batch in [1, 3, 64] {
        let x = input(batch);
        let (y, whole) = (net(&x, Mode::Eval), x.dtype()? != DType::F32);
        let (inputs, outputs) = (x.to_array()?, y.to_array()?);
        let numbers = |array: &kiln::Array, whole: bool| json!({ "shape": array.shape.to_vec(), "whole": whole, "values": array.data });
        cases.push(json!({ "inputs": [numbers(&inputs, whole)], "outputs": [numbers(&outputs, false)] }));
    }
    std::fs::write(path, serde_json::to_vec(&cases)?).with_context(|| path.display().to_string())
}

/// Inputs that a model takes, drawn; free axes have the length `batch`.
fn drawn(model: &Model, batch: usize) -> Vec<Tensor> {
    let device = model.params().device();
    let input = |(number, port): (usize, &kiln::onnx::Port)| {
        let dims: Vec<usize> = port.dims.iter().flatten().map(|dim| dim.clone().unwrap_or(batch)).collect();
        let numbers = device.uniform(&dims, 0.0, 1.0, number as u64);
        // Whole numbers are places in a table, whose length nobody says here: 0 and 1 are in most.
        match port.elem.map(|elem| elem.dtype()) {
            None | Some(DType::F32) => numbers,
            Some(DType::F16) => numbers.cast(DType::F16),
            Some(dtype) => (numbers * 2.0).floor().cast(dtype),
        }
    };
    model.inputs().iter().enumerate().map(input).collect()
}

fn run(file: &PathBuf, batch: usize) -> Result<()> {
    let model = load(file, &Device::best()?)?;
    let inputs = drawn(&model, batch);
    println!("{}", model.summary(&inputs)?);
    for (port, input) in model.inputs().iter().zip(&inputs) {
        println!("input   {} {:?} {}", port.name, input.shape()?, input.dtype()?);
    }
    for (port, output) in model.outputs().iter().zip(model.forward(&inputs, Mode::Eval)) {
        let values = output.to_vec::<f64>()?;
        let first = values.get(..values.len().min(6)).unwrap_or_default();
        println!("output  {} {:?} {}: {first:.4?} ..", port.name, output.shape()?, output.dtype()?);
    }
    Ok(())
}

fn finetune(file: &PathBuf, batch: usize, steps: usize) -> Result<()> {
    let device = Device::best()?;
    let model = load(file, &device)?;
    let inputs = drawn(&model, batch);
    let logits = model.forward(&inputs, Mode::Eval);
    let shape = logits.first().context("the model has no outputs")?.shape()?.to_vec();
    ensure!(shape.len() == 2, "an output of classes is wanted, [rows, classes], not {shape:?}");
    let labels: Vec<u32> = (0..shape[0]).map(|row| (row % shape[1]) as u32).collect();
    let labels = device.labels(&labels);
    let mut adamw = AdamW::new(model.params(), AdamWConfig::default());
    for step in 1..=steps {
        let logits = model.forward(&inputs, Mode::Train);
        let loss = logits.first().context("the model has no outputs")?.cross_entropy(&labels);
        adamw.step(&loss)?;
        println!("step {step:3}  loss {:.4}", loss.item()?);
    }
    Ok(())
}

fn main() -> Result<()> {
    pipe::end_with_reader();
    match Options::parse().what {
        What::Export { file, net, values } => write(&file, net, values.as_ref()),
        What::Run { file, batch } => run(&file, batch),
        What::Finetune { file, batch, steps } => finetune(&file, batch, steps),
    }
}
