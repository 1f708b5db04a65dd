//! Trains a two-convolution network on images of digits and reports how well it reads those it has not seen.
//!
//! `cargo run --release --example train_cnn -- --help` lists the options.

/// Prints a line, by one rank of several.
macro_rules! say {
    ($world:expr, $($line:tt)*) => {
        if $world.is_first() {
            println!($($line)*);
        }
    };
}

mod args;
#[cfg(feature = "onnx")]
#[path = "../common/onnx_file.rs"]
mod onnx_file;
#[path = "../common/pipe.rs"]
mod pipe;
mod run;
#[path = "../common/signals.rs"]
mod signals;

use anyhow::{Context, Result, bail};
use args::Args;
use clap::Parser;
use kiln::data::{self, Splits};
use kiln::distributed::World;
use kiln::prelude::*;

fn main() -> Result<()> {
    pipe::end_with_reader();
    let args = Args::parse();
    if args.list_devices {
        Device::list().iter().for_each(|device| println!("{device}"));
        return Ok(());
    }
    if cfg!(not(feature = "onnx")) && args.onnx.is_some() {
        bail!("an ONNX file is written with the feature `onnx` alone");
    }
    let world = if args.distributed { World::start()? } else { World::alone() };
    let splits = load(&args)?;
    let device = world.device(args.device.as_deref())?;
    if !world.is_alone() {
        say!(world, "ranks    {}, each with a device of its own", world.size());
    }
    say!(world, "device   {}", device.info());
    if device.is_cpu() {
        say!(world, "         the f64 reference: right, and slow; any Vulkan driver, even a software one, is faster");
    }
    let [c, h, w] = splits.train.shape();
    let (train, test, classes) = (splits.train.len(), splits.test.len(), splits.train.classes());
    say!(world, "data     {}: {train} images to train, {test} to test, {c}x{h}x{w}, {classes} classes", args.data);
    if args.trace.is_some() {
        device.set_profiling(true)?;
    }
    run::train(&args, &device, &splits, &world)?;
    if let Some(path) = args.trace.as_ref().filter(|_| world.is_first()) {
        device.profile()?.write_trace(path)?;
        println!("trace    {}: open it at ui.perfetto.dev", path.display());
    }
    Ok(())
}

fn load(args: &Args) -> Result<Splits> {
    if args.batch_size == 0 {
        bail!("--batch-size 0: a step needs at least one image");
    }
    let dir = || data::directory(args.data_dir.as_deref()).context("--data-dir says where the files are");
    let mut splits = match args.data.as_str() {
        "mnist" => data::mnist(dir()?)?,
        "fashion-mnist" => data::fashion_mnist(dir()?)?,
        // Four in five images to train, always the same ones.
        #[cfg(feature = "images")]
        "folder" => data::ImageFolder::open(dir()?)?.splits([28, 28], 0.8, 0)?,
        #[cfg(not(feature = "images"))]
        "folder" => bail!("--data folder reads PNG and JPEG files: build with `--features images`"),
        _ => data::digits(),
    };
    if let Some(limit) = args.limit {
        splits.train = splits.train.limit(limit);
    }
    Ok(splits)
}
