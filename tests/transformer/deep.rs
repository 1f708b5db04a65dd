//! Networks as deep as people train: everything that a program does with one works, and planning takes no time to speak of.

use std::time::Instant;

use kiln::nn::{
    AdaptiveAvgPool2d, Conv2d, ConvConfig, Residual, TransformerEncoder, TransformerEncoderLayer,
    TransformerLayerConfig, summary,
};
use kiln::prelude::*;
use kiln::train::checkpoint::{Checkpoint, Load};

use super::common;

/// A convolution without a bias, then its norm.
fn conv(path: &Path, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Sequential {
    let config = ConvConfig { bias: false, ..Default::default() };
    let conv = Conv2d::with(&path.child("conv"), inputs, outputs, kernel, config).stride(stride).padding(kernel / 2);
    Sequential::new().add(conv).add(BatchNorm2d::new(&path.child("norm"), outputs))
}

/// The 50 layers of He et al. 2016 (blocks of three, 3 + 4 + 6 + 3 of them), narrower.
fn residual(root: &Path, width: usize, classes: usize) -> Sequential {
    let mut net = Sequential::new().add(conv(&root.child("stem"), 3, width, 3, 1)).add(Tensor::relu);
    let mut inputs = width;
    for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
        let inner = width << stage;
        for block in 0..blocks {
            let path = root.child(format!("stage{stage}.{block}"));
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let branch = Sequential::new()
                .add(conv(&path.child(1), inputs, inner, 1, 1))
                .add(Tensor::relu)
                .add(conv(&path.child(2), inner, inner, 3, stride))
                .add(Tensor::relu)
                .add(conv(&path.child(3), inner, 4 * inner, 1, 1));
            let branch = Residual::new(branch);
            net = net.add(match block {
                0 => branch.shortcut(conv(&path.child("shortcut"), inputs, 4 * inner, 1, stride)),
                _ => branch,
            });
            net = net.add(Tensor::relu);
            inputs = 4 * inner;
        }
    }
    net.add(AdaptiveAvgPool2d::new(1)).add(Flatten).add(Linear::new(&root.child("head"), inputs, classes))
}

/// 24 blocks and a head.
fn transformer(root: &Path, width: usize, classes: usize) -> Sequential {
    let path = root.child("blocks");
    let config = TransformerLayerConfig { hidden: 4 * width, ..Default::default() };
    let blocks = TransformerEncoder::new(&path, 24, |path| {
        TransformerEncoderLayer::with(path, width, 4, config).norm_first().activation(Tensor::gelu).causal()
    });
    let blocks = blocks.norm(LayerNorm::new(&path.child("norm"), &[width]));
    Sequential::new().add(blocks).add(|x: &Tensor| x.mean(1)).add(Linear::new(&root.child("head"), width, classes))
}

/// Summary, plan, step, checkpoint and partial load of a network.
fn goes_round(device: &Device, name: &str, make: &dyn Fn(&Path, usize) -> Sequential, shape: &[usize]) {
    let params = ParamStore::new(device, 1);
    let net = make(&params.root(), 10);
    let summary = summary(&params, &net, shape).unwrap();
    assert_eq!((summary.parameters, summary.trainable), (params.count(), params.count()));
    let x = device.normal(shape, 0.0, 1.0, 1);
    let labels = device.labels(&vec![3; shape[0]]);
    let loss = |net: &Sequential, x: &Tensor, labels: &Tensor| net.forward(x, Mode::Train).cross_entropy(labels);

    // Planned on a device of its own, so that nothing is compiled.
    let cpu = Device::cpu();
    let planned = ParamStore::new(&cpu, 1);
    let other = make(&planned.root(), 10);
    let of_plan = loss(&other, &cpu.normal(shape, 0.0, 1.0, 1), &cpu.labels(&vec![3; shape[0]]));
    let mut optimizer = AdamW::new(&planned, AdamWConfig::default());
    let started = Instant::now();
    let plan = optimizer.plan_for(&of_plan, true, &Default::default(), true).unwrap();
    let planning = started.elapsed().as_secs_f64();

    let mut adamw = AdamW::new(&params, AdamWConfig::default());
    let started = Instant::now();
    let first = loss(&net, &x, &labels);
    adamw.step(&first).unwrap();
    assert!(first.item().unwrap().is_finite());
    let step = started.elapsed().as_secs_f64();
    println!(
        "{name}: {} parameters in {} rows, {} dispatches, planned in {planning:.2} s, first step {step:.1} s",
        params.count(),
        summary.rows.len(),
        plan.dispatches.len()
    );
    assert!(planning < 3.0, "{planning} s to plan {name}");

    let file = std::env::temp_dir().join(format!("kiln-deep-{name}-{}.safetensors", std::process::id()));
    Checkpoint::save(&file, &params, Some(&adamw), None).unwrap();
    let again = ParamStore::new(device, 2);
    make(&again.root(), 10);
    let mut resumed = AdamW::new(&again, AdamWConfig::default());
    Checkpoint::load(&file, &again, Some(&mut resumed)).unwrap();
    let bits = |store: &ParamStore| store.parameters().iter().map(|param| param.values().unwrap()).collect::<Vec<_>>();
    assert!(bits(&again) == bits(&params) && resumed.steps() == 1);
    // All but a head of other classes.
    let other = ParamStore::new(device, 3);
    make(&other.root(), 7);
    let loaded = other.load_with(&file, &Load { strict: false, skip_mismatched: true, ..Load::default() }).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!((loaded.mismatched.len(), loaded.missing.len()), (2, 0));
    assert_eq!(bits(&other)[0], bits(&params)[0]);
}

fn all_go_round(device: &Device) {
    goes_round(device, "resnet50", &|root, classes| residual(root, 4, classes), &[2, 3, 16, 16]);
    goes_round(device, "transformer24", &|root, classes| transformer(root, 16, classes), &[2, 12, 16]);
}

#[test]
fn a_residual_net_of_50_layers_and_a_transformer_of_24_go_round() {
    all_go_round(&Device::cpu());
}

#[test]
#[ignore = "compiles for a minute; prints what a first step takes"]
fn the_same_on_a_gpu() {
    all_go_round(&common::gpu());
}
