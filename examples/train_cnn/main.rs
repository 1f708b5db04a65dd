//! Trains a two-convolution network on images of digits and reports how well it reads those it has not seen.
//!
//! `cargo run --release --example train_cnn -- --help` lists the options.

mod args;
#[path = "../common/pipe.rs"]
mod pipe;
mod report;
mod run;
mod saves;
mod signals;

use anyhow::{Context, Result, bail};
use args::{Args, Data};
use clap::Parser;
use kiln::data::{self, Splits};
use kiln::prelude::*;

fn main() -> Result<()> {
    pipe::end_with_reader();
    let args = Args::parse();
    if args.list_devices {
        for device in Device::list() {
            println!("{device}");
        }
        return Ok(());
    }
    let splits = load(&args)?;
    saves::try_outputs(&args)?;
    let device = match &args.device {
        Some(name) => Device::named(name)?,
        None => Device::best()?,
    };
    println!("device   {}", device.info());
    if device.is_cpu() {
        println!(
            "         the f64 reference: right, and slow; a Vulkan driver, even a software one, is many times faster"
        );
    }
    let [c, h, w] = splits.train.shape();
    println!(
        "data     {}: {} images to train, {} to test, {c}x{h}x{w}, {} classes",
        args.data_name(),
        splits.train.len(),
        splits.test.len(),
        splits.train.classes()
    );
    if args.trace.is_some() {
        device.set_profiling(true)?;
    }
    run::train(&args, &device, &splits)?;
    if let Some(path) = &args.trace {
        device.profile()?.write_trace(path)?;
        println!("trace    {}: open it at ui.perfetto.dev", path.display());
    }
    Ok(())
}

fn load(args: &Args) -> Result<Splits> {
    if args.batch_size == 0 {
        bail!("--batch-size 0: a step needs at least one image");
    }
    let mut splits = match args.data {
        Data::Digits => data::digits(),
        Data::Mnist | Data::FashionMnist => {
            let folder =
                data::directory(args.data_dir.as_deref()).context("--data-dir says where the IDX files are")?;
            if args.data == Data::Mnist { data::mnist(folder)? } else { data::fashion_mnist(folder)? }
        }
    };
    if let Some(limit) = args.limit {
        splits.train = splits.train.limit(limit);
    }
    Ok(splits)
}
