//! Recurrent layers and cells (`scripts/values/recurrent.py`): the layers as a program has them, with PyTorch's weights by name.
//! Values are those of a case's results, then those of its gradients.

use kiln::nn::{Gru, GruCell, Lstm, LstmCell, Mode, RecurrentConfig, Rnn, RnnCell, Sequences};
use kiln::{DType, Device, ParamStore, Tensor};
use serde_json::Value;

use super::{Case, cases, integer, integers, ordinary};

/// What is held to PyTorch here.
pub const OPS: &[&str] =
    &["lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"];

/// The results of a layer or cell with parameters in `params`, which it makes; inputs before these are in `x`. `load` gives them their values.
fn apply(op: &str, attrs: &Value, params: &ParamStore, x: &[Tensor], load: impl Fn()) -> Vec<Tensor> {
    let [inputs, hidden] = integers(attrs, "sizes")[..] else { panic!("two sizes") };
    let (root, bias) = (params.root(), attrs["bias"] == true);
    match op {
        "lstm_cell" => {
            let cell = LstmCell::new(&root, inputs, hidden, bias);
            load();
            let (h, c) = cell.step(&x[0], &x[1], &x[2]);
            return vec![h, c];
        }
        "gru_cell" => {
            let cell = GruCell::new(&root, inputs, hidden, bias);
            load();
            return vec![cell.step(&x[0], &x[1])];
        }
        "rnn_tanh_cell" | "rnn_relu_cell" => {
            let make = if op == "rnn_relu_cell" { RnnCell::relu } else { RnnCell::new };
            let cell = make(&root, inputs, hidden, bias);
            load();
            return vec![cell.step(&x[0], &x[1])];
        }
        _ => {}
    }
    let config = RecurrentConfig {
        layers: integer(attrs, "layers"),
        bias,
        batch_first: attrs["batch_first"] == true,
        dropout: 0.0,
        bidirectional: attrs["bidirectional"] == true,
    };
    let (has_start, has_lengths) = (attrs["start"] == true, attrs["lengths"] == true);
    let lengths = has_lengths.then(|| x[x.len() - 1].cast(DType::U32));
    let start = &x[1..x.len() - usize::from(has_lengths)];
    let sequences = Sequences { start: has_start.then_some(start), lengths: lengths.as_ref() };
    let given = match op {
        "lstm" => {
            let layer = Lstm::new(&root, inputs, hidden, config);
            load();
            layer.run(&x[0], &sequences, Mode::Train)
        }
        "gru" => {
            let layer = Gru::new(&root, inputs, hidden, config);
            load();
            layer.run(&x[0], &sequences, Mode::Train)
        }
        _ => {
            let make = if op == "rnn_relu" { Rnn::relu } else { Rnn::new };
            let layer = make(&root, inputs, hidden, config);
            load();
            layer.run(&x[0], &sequences, Mode::Train)
        }
    };
    std::iter::once(given.output).chain(given.states).collect()
}

/// Runs a case and compares results and gradients.
fn check(device: &Device, case: &Case, bound: f64) -> Result<(), String> {
    let text = |error: kiln::Error| error.to_string();
    let compare = ordinary(bound);
    let names: Vec<&str> =
        case.attrs["parameters"].as_array().expect("names").iter().map(|name| name.as_str().expect("a name")).collect();
    let (given, weights) = case.inputs.split_at(case.inputs.len() - names.len());
    let leaves = given.iter().zip(&case.gradients).map(|(array, gradient)| match gradient {
        Some(_) => device.array(array).variable(),
        None => device.array(array),
    });
    let mut inputs: Vec<Tensor> = leaves.collect();
    let params = ParamStore::new(device, 1);
    let load = || {
        for (name, values) in names.iter().zip(weights) {
            params.get(name).expect("PyTorch's name").set(&values.data).expect("PyTorch's shape");
        }
    };
    let results = apply(&case.op, &case.attrs, &params, &inputs, load);
    let product = |(result, cotangent): (&Tensor, &kiln::Array)| (result * device.array(cotangent)).sum_all();
    let loss = results.iter().zip(&case.cotangents).map(product).reduce(|a, b| a + b).ok_or("no result")?;
    inputs.extend(names.iter().map(|name| params.get(name).expect("a parameter").tensor()));
    let wanted: Vec<_> = inputs.iter().zip(&case.gradients).filter_map(|(x, want)| Some((x, want.as_ref()?))).collect();
    let gradients = loss.gradients(&wanted.iter().map(|(x, _)| *x).collect::<Vec<_>>()).map_err(text)?;
    device.eval(&results.iter().chain(&gradients).collect::<Vec<_>>()).map_err(text)?;
    let all = case.outputs.iter().chain(wanted.into_iter().map(|(_, want)| want));
    for (k, (got, want)) in results.iter().chain(&gradients).zip(all).enumerate() {
        compare(&got.to_array().map_err(text)?, want).map_err(|error| format!("value {k}: {error}"))?;
    }
    assert_eq!(results.len(), case.outputs.len());
    Ok(())
}

fn check_all(device: &Device, bound: f64) {
    let held: Vec<Case> = cases().into_iter().filter(|case| OPS.contains(&&*case.op)).collect();
    assert!(held.len() > 10, "{} cases", held.len());
    let broken: Vec<String> =
        held.iter().filter_map(|case| Some(format!("{}: {}", case.name, check(device, case, bound).err()?))).collect();
    assert!(broken.is_empty(), "{} cases failed:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn recurrent_layers_on_the_reference_are_pytorch_s() {
    check_all(&Device::cpu(), 1e-10);
}

#[test]
fn recurrent_layers_on_the_gpu_are_pytorch_s() {
    check_all(&super::common::gpu(), 1e-5);
}
