//! Whole networks from PyTorch's exporter (`scripts/onnx_models.py`): its outputs, and its losses while they are trained.

use std::path::Path;

use kiln::onnx::{Model, load};
use kiln::prelude::*;
use serde_json::Value;

struct Case {
    model: Model,
    input: Tensor,
    labels: Tensor,
    outputs: Vec<f64>,
    losses: Vec<f64>,
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn case(name: &str) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/models");
    let device = Device::cpu();
    let model = load(folder.join(format!("{name}.onnx")), &device).unwrap();
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).expect("the case");
    let case: Value = serde_json::from_str(&text).expect("JSON");
    let shape: Vec<usize> = numbers(&case["input"]["shape"]).iter().map(|&length| length as usize).collect();
    let values = numbers(&case["input"]["values"]);
    let input = match model.inputs()[0].elem {
        Some(kiln::onnx::Elem::F32) => device.tensor(&values, &shape),
        _ => device.tensor(&values.iter().map(|&value| value as i64).collect::<Vec<_>>(), &shape),
    };
    let labels: Vec<u32> = numbers(&case["labels"]).iter().map(|&label| label as u32).collect();
    let labels = device.labels(&labels);
    Case { model, input, labels, outputs: numbers(&case["outputs"]["values"]), losses: numbers(&case["losses"]) }
}

/// Outputs within 1e-4 of PyTorch's, then twenty steps with losses within 1e-3.
fn is_as_in_pytorch(name: &str) {
    let Case { model, input, labels, outputs, losses } = case(name);
    let inputs = [input];
    let logits = model.forward(&inputs, Mode::Eval)[0].to_vec::<f64>().unwrap();
    let far = logits.iter().zip(&outputs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert_eq!(logits.len(), outputs.len(), "{name}");
    assert!(far < 1e-4, "{name}: outputs are off by {far}");
    let mut sgd = Sgd::new(model.params(), SgdConfig { lr: 0.05, ..SgdConfig::default() });
    for (step, wanted) in losses.iter().enumerate() {
        let loss = model.forward(&inputs, Mode::Train)[0].cross_entropy(&labels);
        sgd.step(&loss).unwrap();
        let loss = loss.item().unwrap();
        assert!((loss - wanted).abs() < 1e-3, "{name}: the loss of step {step} is {loss}, not {wanted}");
    }
    let summary = model.summary(&inputs).unwrap();
    assert!(summary.parameters > 0, "{name}");
}

#[test]
fn a_residual_network_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("resnet");
    let Case { model, input, .. } = case("resnet");
    assert!(model.params().names().iter().any(|name| name == "block.norm_a.weight"), "{:?}", model.params().names());
    // Running statistics move in training, and only there.
    let eval = |model: &Model| model.forward(std::slice::from_ref(&input), Mode::Eval)[0].to_vec::<f64>().unwrap();
    let before = eval(&model);
    assert_eq!(before, eval(&model));
    model.forward(std::slice::from_ref(&input), Mode::Train)[0].to_vec::<f64>().unwrap();
    assert_ne!(before, eval(&model));
}

#[test]
fn a_network_for_small_devices_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("mobilenet");
}

#[test]
fn a_network_that_labels_each_pixel_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("unet");
}

#[test]
fn a_causal_text_model_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("gpt2");
    // One table for words going in and out.
    let Case { model, .. } = case("gpt2");
    assert_eq!(model.params().names().iter().filter(|name| name.starts_with("wte")).count(), 1);
}

#[test]
fn a_vision_transformer_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("vit");
}

#[test]
fn a_text_encoder_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("bert");
}

#[test]
fn a_tagger_of_two_directions_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("tagger");
}

#[test]
fn a_recommender_is_run_and_trained_as_in_pytorch() {
    is_as_in_pytorch("recommender");
}

#[test]
fn a_frozen_parameter_stays_and_weights_go_through_a_file() {
    let Case { model, input, labels, .. } = case("recommender");
    let frozen = model.params().get("users.weight").expect("the table of users");
    frozen.freeze();
    let before = (frozen.values().unwrap(), model.params().get("deep.0.weight").unwrap().values().unwrap());
    let mut adamw = AdamW::new(model.params(), AdamWConfig::default());
    adamw.step(&model.forward(&[input], Mode::Train)[0].cross_entropy(&labels)).unwrap();
    assert_eq!(frozen.values().unwrap(), before.0);
    assert_ne!(model.params().get("deep.0.weight").unwrap().values().unwrap(), before.1);
}
