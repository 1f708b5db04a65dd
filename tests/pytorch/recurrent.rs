//! Recurrent layers and cells (`scripts/values/recurrent.py`): the layers as a program has them, with PyTorch's weights by name.
//! Values are those of a case's results, then those of its gradients.

use kiln::nn::{Gru, GruCell, Lstm, LstmCell, Mode, RecurrentConfig, Rnn, RnnCell, Sequences};
use kiln::{DType, Device, ParamStore, Tensor};
use serde_json::Value;

use super::{integer, integers, layers};

/// What is held to PyTorch here.
pub const OPS: &[&str] =
    &["lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"];

/// The results of a layer or cell with parameters in `params`, which it makes; inputs before these are in `x`. `load` gives them their values.
fn apply(op: &str, attrs: &Value, params: &ParamStore, x: &[Tensor], load: &dyn Fn()) -> Vec<Tensor> {
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
            let layer = match attrs["projection"].as_u64() {
                Some(width) => Lstm::projected(&root, inputs, hidden, width as usize, config),
                None => Lstm::new(&root, inputs, hidden, config),
            };
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

fn check_all(device: &Device, bound: f64) {
    layers::check_all(device, bound, OPS, &apply);
}

#[test]
fn recurrent_layers_on_the_reference_are_pytorch_s() {
    check_all(&Device::cpu(), 1e-10);
}

#[test]
fn recurrent_layers_on_the_gpu_are_pytorch_s() {
    check_all(&super::common::gpu(), 1e-5);
}
