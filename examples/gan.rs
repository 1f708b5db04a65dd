//! A generative adversarial network: one network draws digits from noise, another tells them from real ones, each with an
//! optimizer of its own (Goodfellow et al. 2014; layers as by Radford, Metz and Chintala 2016).
//!
//! `cargo run --release --example gan`. A classifier that was trained on real digits judges what is drawn.

#[path = "common/course.rs"]
mod course;
#[path = "common/picture.rs"]
mod picture;
#[path = "common/program.rs"]
mod program;

use anyhow::{Result, ensure};
use clap::Parser;
use kiln::data::Splits;
use kiln::nn::ConvTranspose2d;
use kiln::prelude::*;
use kiln::train::{Progress, Trainer};
use serde_json::json;

/// Trains a network that draws digits against one that tells them from real ones.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// Numbers of noise that a digit is drawn from.
const NOISE: usize = 32;

/// `[n, NOISE]` to digits `[n, 1, 8, 8]`.
fn generator(path: &Path) -> Sequential {
    Sequential::new()
        .add(Linear::new(&path.child("fc"), NOISE, 64 * 2 * 2))
        .add(|x: &Tensor| x.unflatten(1, &[64, 2, 2]))
        .add(BatchNorm2d::new(&path.child("norm1"), 64))
        .add(Tensor::relu)
        .add(ConvTranspose2d::new(&path.child("up1"), 64, 32, 4).stride(2).padding(1))
        .add(BatchNorm2d::new(&path.child("norm2"), 32))
        .add(Tensor::relu)
        .add(ConvTranspose2d::new(&path.child("up2"), 32, 1, 4).stride(2).padding(1))
        .add(Tensor::sigmoid)
}

/// Digits to one number each: how real it looks.
fn critic(path: &Path) -> Sequential {
    Sequential::new()
        .add(Conv2d::new(&path.child("conv1"), 1, 32, 3).stride(2).padding(1))
        .add(|x: &Tensor| x.leaky_relu(0.2))
        .add(Conv2d::new(&path.child("conv2"), 32, 64, 3).stride(2).padding(1))
        .add(|x: &Tensor| x.leaky_relu(0.2))
        .add(Flatten)
        .add(Dropout::new(&path.child("dropout"), 0.3))
        .add(Linear::new(&path.child("score"), 64 * 2 * 2, 1))
}

/// A classifier of real digits.
fn judge(device: &Device, digits: &Splits, args: &program::Common) -> Result<Sequential> {
    let params = ParamStore::new(device, args.seed);
    let root = params.root();
    let net = Sequential::new()
        .add(Flatten)
        .add(Linear::new(&root.child("hidden"), 64, 64))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("out"), 64, 10));
    let adam = Adam::new(&params, AdamConfig { lr: 3e-3, ..Default::default() });
    let batches = digits.train.batches(64).shuffle(args.seed);
    Trainer::new(&params).optimizer(adam).epochs(args.pick(10, 3)).fit(batches, (), |step, batch| {
        let logits = net.forward(&step.device().tensor(&batch.images, &batch.shape), step.mode());
        step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
    })?;
    Ok(net)
}

/// How sure the judge is of pictures on average, and the share of each of its classes.
fn judged(net: &Sequential, pictures: &Tensor) -> Result<(f64, Vec<f64>)> {
    let chances = no_grad(|| net.forward(pictures, Mode::Eval)).softmax(1);
    let shares = chances.argmax(1).one_hot(10).mean(0).to_array()?.data;
    Ok((chances.max(1).mean_all().item()?, shares))
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let digits = kiln::data::digits();
    let judge = judge(&device, &digits, &args)?;

    let [drawing, judging] = [args.seed, args.seed + 1].map(|seed| ParamStore::new(&device, seed));
    let (generator, critic) = (generator(&drawing.root()), critic(&judging.root()));
    let adam = |params: &ParamStore| {
        Box::new(Adam::new(params, AdamConfig { lr: 2e-3, betas: (0.5, 0.999), ..Default::default() }))
    };
    let batches = digits.train.batches(64).shuffle(args.seed).drop_last(true);
    let mut trainer = Trainer::new(&drawing)
        .store("critic", &judging)
        .optimizer_named("generator", adam(&drawing))
        .optimizer_named("critic", adam(&judging))
        .epochs(args.pick(30, 1))
        .callback(Progress::on_stdout());
    let history = trainer.fit(batches, (), |step, batch| {
        let real = step.device().tensor(&batch.images, &batch.shape);
        let noise = step.device().randn(&[batch.len(), NOISE], drawing.draws());
        let drawn = generator.forward(&noise, Mode::Train);
        let says = |x: &Tensor, wanted: f64| {
            let scores = critic.forward(x, Mode::Train);
            scores.binary_cross_entropy_with_logits(&(scores.ones_like() * wanted))
        };
        // 0.9 instead of 1 for what is real keeps the critic from being too sure (Salimans et al. 2016).
        step.minimise_with("critic", &(says(&real, 0.9) + says(&drawn.detach(), 0.0)))?;
        step.minimise_with("generator", &says(&drawn, 1.0))
    })?;

    let noise = device.normal(&[500, NOISE], 0.0, 1.0, args.seed + 2);
    let drawn = no_grad(|| generator.forward(&noise, Mode::Eval));
    let real = device.tensor(digits.test.images(), &[digits.test.len(), 1, 8, 8]);
    let ((sure, shares), (sure_of_real, _)) = (judged(&judge, &drawn)?, judged(&judge, &real)?);
    let classes = shares.iter().filter(|&&share| share >= 0.02).count();
    println!("a classifier is {:.1} % sure of drawn digits, {:.1} % of real ones", 100.0 * sure, 100.0 * sure_of_real);
    println!("shares of the ten digits among 500: {shares:.3?}");
    args.keep("gan.png", picture::sheet(&drawn.slice(0, 0, 96).to_vec()?, 8, 16, 4)?)?;
    let title = "Losses of two networks that play against each other";
    let curves = course::curves(&history, title, "loss", &["generator_loss", "critic_loss"]);
    args.keep("gan.svg", curves)?;
    // What is drawn of noise, and what the critic says to it.
    let whole = |x: &[Tensor]| {
        let drawn = generator.forward(&x[0], Mode::Eval);
        vec![drawn.clone(), critic.forward(&drawn, Mode::Eval)]
    };
    args.export(whole, |batch, _| vec![device.normal(&[batch, NOISE], 0.0, 1.0, args.seed)], &[])?;
    args.finish(json!({ "classes": classes, "certainty": sure, "certainty_of_real": sure_of_real }))?;
    ensure!(sure_of_real > 0.4 && sure.is_finite(), "the classifier has learnt nothing: {sure_of_real:.2} certain");
    ensure!(args.quick || (classes == 10 && sure > 0.55), "{classes} of ten digits are drawn, {sure:.2} certain");
    Ok(())
}
