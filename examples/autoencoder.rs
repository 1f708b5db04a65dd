//! An autoencoder: convolutions press 8x8 digits into 16 numbers, transposed convolutions draw them again from those.
//!
//! `cargo run --release --example autoencoder`. The sheet has digits that it was not trained on in the first row, what came
//! back in the second, and the way from one digit to another, through the 16 numbers, in the others.

#[path = "common/picture.rs"]
mod picture;
#[path = "common/program.rs"]
mod program;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::nn::ConvTranspose2d;
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::{Progress, Trainer};
use serde_json::json;

/// Trains an autoencoder of digits, and draws what it keeps of them.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// Numbers that a digit is pressed into.
const CODE: usize = 16;
/// Pictures in a row of the sheet.
const COLUMNS: usize = 12;

/// `[n, 1, 8, 8]` to `[n, CODE]`.
fn encoder(path: &Path) -> Sequential {
    Sequential::new()
        .add(Conv2d::new(&path.child("conv1"), 1, 16, 3).stride(2).padding(1))
        .add(Tensor::relu)
        .add(Conv2d::new(&path.child("conv2"), 16, 32, 3).stride(2).padding(1))
        .add(Tensor::relu)
        .add(Flatten)
        .add(Linear::new(&path.child("code"), 32 * 2 * 2, CODE))
}

/// `[n, CODE]` to `[n, 1, 8, 8]`, with pixels from 0 to 1.
fn decoder(path: &Path) -> Sequential {
    Sequential::new()
        .add(Linear::new(&path.child("fc"), CODE, 32 * 2 * 2))
        .add(Tensor::relu)
        .add(|x: &Tensor| x.unflatten(1, &[32, 2, 2]))
        .add(ConvTranspose2d::new(&path.child("up1"), 32, 16, 4).stride(2).padding(1))
        .add(Tensor::relu)
        .add(ConvTranspose2d::new(&path.child("up2"), 16, 1, 4).stride(2).padding(1))
        .add(Tensor::sigmoid)
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let digits = kiln::data::digits();
    let params = ParamStore::new(&device, args.seed);
    let (encoder, decoder) = (encoder(&params.root().child("encoder")), decoder(&params.root().child("decoder")));

    let epochs = args.pick(60, 8);
    let train = digits.train.batches(64).shuffle(args.seed);
    let rate = schedule::cosine(4e-3, epochs * train.batches_per_epoch());
    let adam = Adam::new(&params, AdamConfig::default()).schedule(rate);
    let mut trainer = Trainer::new(&params).optimizer(adam).epochs(epochs).callback(Progress::on_stdout());
    let history = trainer.fit(train, digits.test.batches(120), |step, batch| {
        let images = step.device().tensor(&batch.images, &batch.shape);
        let drawn = decoder.forward(&encoder.forward(&images, step.mode()), step.mode());
        step.minimise(&drawn.mse_loss(&images))
    })?;
    let mse = history.get("val_loss").context("no validation")?;

    let sheet = no_grad(|| -> Result<Vec<u8>> {
        let batch = digits.test.batches(COLUMNS).next().context("there are no digits")?;
        let images = device.tensor(&batch.images, &batch.shape);
        let codes = encoder.forward(&images, Mode::Eval);
        // From the code of each digit to that of the next but two, in four steps.
        let others = Tensor::concat(&[&codes.slice(0, 3, COLUMNS - 3), &codes.slice(0, 0, 3)], 0);
        let mut pictures = batch.images;
        for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
            pictures.extend(decoder.forward(&codes.lerp(&others, share), Mode::Eval).to_vec::<f32>()?);
        }
        picture::sheet(&pictures, 8, COLUMNS, 4)
    })?;
    args.keep("autoencoder.png", sheet)?;
    let whole = |x: &[Tensor]| {
        let codes = encoder.forward(&x[0], Mode::Eval);
        vec![decoder.forward(&codes, Mode::Eval), codes]
    };
    args.export(whole, |batch, _| vec![device.uniform(&[batch, 1, 8, 8], 0.0, 1.0, args.seed)], &[])?;
    args.finish(json!({ "reconstruction_mse": mse, "parameters": params.count() }))?;
    let most = args.pick(0.02, 0.065); // the mean of all digits has 0.071
    ensure!(mse < most, "digits that it has not seen come back with an error of {mse:.4}, not below {most}");
    Ok(())
}
