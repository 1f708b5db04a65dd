//! Ops and their gradients against values that PyTorch computed: `scripts/pytorch_values.py` describes the files, of which
//! `tests/data/values/` has one for each script in `scripts/values/`. The ops of each stand in a file of `tests/pytorch/`.
//!
//! The reference device computes in f64, as PyTorch did: 1e-10. A GPU computes in f32: 1e-5. The special values (NaN,
//! infinities, signed zeros) were computed by PyTorch in f32, and must come out in the same class on both.

mod common;
#[path = "pytorch/formulas.rs"]
mod formulas;
#[path = "pytorch/layers.rs"]
mod layers;
#[path = "pytorch/losses.rs"]
mod losses;
#[path = "pytorch/order.rs"]
mod order;
#[path = "pytorch/pointwise.rs"]
mod pointwise;
#[path = "pytorch/products.rs"]
mod products;
#[path = "pytorch/recurrent.rs"]
mod recurrent;
#[path = "pytorch/spatial.rs"]
mod spatial;
#[path = "pytorch/transformer.rs"]
mod transformer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kiln::ops::cross_entropy::{CrossEntropyOptions, Reduction};
use kiln::{Array, DType, Device, Shape, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Held to PyTorch elsewhere: these are steps of training, layers and initial values, not ops.
const ELSEWHERE: &[&str] =
    &["sgd", "adamw", "clip_grad_norm", "cnn_losses", "multi_head_attention", "eye", "dirac", "calculate_gain"];

fn is_held_elsewhere(op: &str) -> bool {
    [ELSEWHERE, recurrent::OPS, transformer::OPS].iter().any(|held| held.contains(&op))
}

/// A case of the file.
struct Case {
    name: String,
    op: String,
    attrs: Value,
    inputs: Vec<Array>,
    outputs: Vec<Array>,
    cotangents: Vec<Array>,
    gradients: Vec<Option<Array>>,
}

impl Case {
    /// Values beyond the ordinary: compared by class, see [`special`].
    fn is_special(&self) -> bool {
        self.attrs["special"] == true
    }
}

fn cases() -> Vec<Case> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let more = std::fs::read_dir(data.join("values")).expect("tests/data/values");
    let mut files: Vec<PathBuf> = more.map(|entry| entry.expect("a file").path()).collect();
    files.push(data.join("pytorch.safetensors"));
    files.sort();
    files.iter().flat_map(|path| cases_of(path)).collect()
}

fn cases_of(path: &Path) -> Vec<Case> {
    let bytes = std::fs::read(path).expect("a file of values");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("its header");
    let list = &header.metadata().as_ref().expect("metadata")["cases"];
    let list: Vec<Value> = serde_json::from_str(list).expect("a list of cases");
    let load = |name: &Value| array(&file, name.as_str().expect("a name"));
    let all = |names: &Value| names.as_array().expect("names").iter().map(load).collect();
    list.into_iter()
        .map(|case| Case {
            name: case["name"].as_str().expect("a name").into(),
            op: case["op"].as_str().expect("an op").into(),
            inputs: all(&case["inputs"]),
            outputs: all(&case["outputs"]),
            cotangents: all(&case["cotangents"]),
            gradients: {
                let names = case["gradients"].as_array().expect("gradients");
                names.iter().map(|name| (!name.is_null()).then(|| load(name))).collect()
            },
            attrs: case["attrs"].clone(),
        })
        .collect()
}

fn array(file: &SafeTensors<'_>, name: &str) -> Array {
    let view = file.tensor(name).expect("a tensor that the case names");
    let bytes = view.data();
    let (dtype, data) = match view.dtype() {
        Dtype::F64 => (DType::F32, bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()),
        Dtype::F32 => {
            (DType::F32, bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect())
        }
        Dtype::I32 => {
            (DType::I32, bytes.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect())
        }
        other => panic!("{name} holds {other:?}"),
    };
    Array { shape: Shape::new(view.shape()).expect("a shape"), dtype, data }
}

fn number(attrs: &Value, key: &str) -> f64 {
    attrs[key].as_f64().unwrap_or_else(|| panic!("{key} in {attrs}"))
}

fn integer(attrs: &Value, key: &str) -> usize {
    attrs[key].as_u64().unwrap_or_else(|| panic!("{key} in {attrs}")) as usize
}

fn integers(attrs: &Value, key: &str) -> Vec<usize> {
    let list = attrs[key].as_array().unwrap_or_else(|| panic!("{key} in {attrs}"));
    list.iter().map(|x| x.as_u64().expect("a whole number") as usize).collect()
}

type Unary = fn(&Tensor) -> Tensor;
type Binary = fn(&Tensor, &Tensor) -> Tensor;
type Fold = fn(&Tensor, &[usize]) -> Tensor;

const UNARY: &[(&str, Unary)] = &[
    ("exp", Tensor::exp),
    ("log", Tensor::log),
    ("sqrt", Tensor::sqrt),
    ("abs", Tensor::abs),
    ("neg", Tensor::negative),
    ("recip", Tensor::recip),
    ("expm1", Tensor::expm1),
    ("log1p", Tensor::log1p),
    ("relu", Tensor::relu),
    ("gelu", Tensor::gelu),
    ("gelu_tanh", Tensor::gelu_tanh),
    ("silu", Tensor::silu),
    ("sigmoid", Tensor::sigmoid),
    ("tanh", Tensor::tanh),
    ("softplus", Tensor::softplus),
];

const BINARY: &[(&str, Binary)] = &[
    ("add", |a, b| a.plus(b)),
    ("sub", |a, b| a.minus(b)),
    ("mul", |a, b| a.times(b)),
    ("div", |a, b| a.over(b)),
    ("pow", |a, b| a.pow(b)),
    ("minimum", |a, b| a.minimum(b)),
    ("maximum", |a, b| a.maximum(b)),
    ("eq", |a, b| a.eq(b)),
    ("ne", |a, b| a.ne(b)),
    ("lt", |a, b| a.lt(b)),
    ("le", |a, b| a.le(b)),
    ("gt", |a, b| a.gt(b)),
    ("ge", |a, b| a.ge(b)),
    ("mse_loss", Tensor::mse_loss),
];

/// Name, without and with the reduced axes kept.
const REDUCTIONS: &[(&str, Fold, Fold)] = &[
    ("sum", |x, axes| x.sum(axes), |x, axes| x.sum_keep(axes)),
    ("mean", |x, axes| x.mean(axes), |x, axes| x.mean_keep(axes)),
    ("max", |x, axes| x.max(axes), |x, axes| x.max_keep(axes)),
    ("min", |x, axes| x.min(axes), |x, axes| x.min_keep(axes)),
];

/// The results of an op, or `None` for one that is not known.
fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    if let Some((_, function)) = UNARY.iter().find(|(name, _)| *name == op) {
        return Some(vec![function(&x[0])]);
    }
    if let Some((_, function)) = BINARY.iter().find(|(name, _)| *name == op) {
        return Some(vec![function(&x[0], &x[1])]);
    }
    let keep = attrs["keepdim"] == true;
    if let Some((_, plain, kept)) = REDUCTIONS.iter().find(|(name, ..)| *name == op) {
        let axes = integers(attrs, "axes");
        return Some(vec![if keep { kept(&x[0], &axes) } else { plain(&x[0], &axes) }]);
    }
    let list: Vec<&Tensor> = x.iter().collect();
    let result = match op {
        "leaky_relu" => x[0].leaky_relu(number(attrs, "slope")),
        "elu" => x[0].elu(number(attrs, "alpha")),
        "clamp" => x[0].clamp(number(attrs, "low"), number(attrs, "high")),
        "where" => x[0].cast(DType::Bool).where_(&x[1], &x[2]),
        "argmax" => {
            let axis = integers(attrs, "axes")[0];
            let index = x[0].argmax(axis);
            if keep { index.unsqueeze(axis) } else { index }
        }
        "var" => {
            let axes = integers(attrs, "axes");
            let variance = x[0].var(&axes, integer(attrs, "correction"));
            // Axes come back in ascending order, each where it was.
            if keep { axes.iter().fold(variance, |v, &axis| v.unsqueeze(axis)) } else { variance }
        }
        "expand" => x[0].expand(&integers(attrs, "shape")),
        "reshape" => x[0].reshape(&integers(attrs, "shape")),
        "permute" => x[0].permute(&integers(attrs, "axes")),
        "slice" => x[0].slice(integer(attrs, "axis"), integer(attrs, "start"), integer(attrs, "len")),
        "concat" => Tensor::concat(&list, integer(attrs, "axis")),
        "stack" => Tensor::stack(&list, integer(attrs, "axis")),
        "split" => return Some(x[0].split(integer(attrs, "axis"), &integers(attrs, "sizes"))),
        "pad" => {
            let pair = |pair: &Value| {
                let at = |k: usize| pair[k].as_u64().expect("a number of elements") as usize;
                (at(0), at(1))
            };
            let pairs: Vec<(usize, usize)> = attrs["pads"].as_array().expect("pads").iter().map(pair).collect();
            x[0].pad(&pairs, number(attrs, "value"))
        }
        "gather" => x[0].gather(integer(attrs, "axis"), &x[1]),
        "index_select" => x[0].index_select(integer(attrs, "axis"), &x[1]),
        "softmax" => x[0].softmax(integer(attrs, "axis")),
        "log_softmax" => x[0].log_softmax(integer(attrs, "axis")),
        "cross_entropy" if attrs["reduction"] == "sum" => x[0].cross_entropy_sum(&x[1]),
        "cross_entropy" => x[0].cross_entropy(&x[1]),
        "cross_entropy_with" => {
            let reduction = match attrs["reduction"].as_str() {
                Some("none") => Reduction::None,
                Some("sum") => Reduction::Sum,
                _ => Reduction::Mean,
            };
            let (label_smoothing, ignore) = (number(attrs, "label_smoothing"), attrs["ignore"].as_i64());
            let options = CrossEntropyOptions { label_smoothing, class_weights: x.get(2), ignore, reduction };
            x[0].cross_entropy_with(&x[1], &options)
        }
        _ => {
            let areas = [
                normalised,
                products,
                formulas::apply,
                losses::apply,
                order::apply,
                pointwise::apply,
                products::apply,
                spatial::apply,
            ];
            return areas.into_iter().find_map(|area| area(op, attrs, x));
        }
    };
    Some(vec![result])
}

/// Normalisations.
fn normalised(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    let epsilon = attrs["eps"].as_f64().unwrap_or(1e-5);
    let result = match op {
        "layer_norm" => x[0].layer_norm(integer(attrs, "dims"), x.get(1), x.get(2), epsilon),
        "rms_norm" => x[0].rms_norm(integer(attrs, "dims"), x.get(1), epsilon),
        "group_norm" => x[0].group_norm(integer(attrs, "groups"), x.get(1), x.get(2), epsilon),
        "batch_norm" => x[0].batch_norm(x.get(1), x.get(2), epsilon),
        "batch_norm_with" => x[0].batch_norm_with(&x[1], &x[2], x.get(3), x.get(4), epsilon),
        "batch_norm_running" => return Some(running(number(attrs, "momentum"), x)),
        _ => return None,
    };
    Some(vec![result])
}

/// Running statistics of a layer after one forward pass in training.
fn running(momentum: f64, x: &[Tensor]) -> Vec<Tensor> {
    use kiln::nn::{BatchNorm, Mode, Module};
    let params = kiln::ParamStore::new(x[0].device(), 1);
    let channels = x[1].shape().expect("a valid input")[0];
    let mut norm = BatchNorm::new(&params.root(), channels);
    norm.momentum = momentum;
    norm.running_mean.assign(&x[1]);
    norm.running_var.assign(&x[2]);
    norm.forward(&x[0], Mode::Train);
    vec![norm.running_mean.get(), norm.running_var.get()]
}

/// Products, poolings and what transformers are made of.
fn products(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    use kiln::ops::attention::AttentionOptions;
    use kiln::ops::conv2d::Conv2dOptions;
    let pair = |key: &str| -> [usize; 2] { integers(attrs, key).try_into().expect("a pair") };
    let turned = |x: &Tensor, key: &str| {
        let rank = x.shape().expect("a valid input").len();
        if attrs[key] == true { x.transpose(rank - 2, rank - 1) } else { x.clone() }
    };
    let result = match op {
        "matmul" => turned(&x[0], "transpose_a").matmul(&turned(&x[1], "transpose_b")),
        "linear" => {
            let product = x[0].matmul(&x[1].transpose(0, 1));
            x.get(2).map_or(product.clone(), |bias| &product + bias)
        }
        "conv2d" => {
            let options = Conv2dOptions {
                stride: pair("stride"),
                padding: pair("padding"),
                dilation: pair("dilation"),
                groups: integer(attrs, "groups"),
            };
            let product = x[0].conv2d(&x[1], &options);
            // One bias a channel, the second axis.
            x.get(2).map_or(product.clone(), |bias| &product + bias.unsqueeze(1).unsqueeze(2))
        }
        "max_pool2d" => x[0].max_pool2d(pair("kernel"), pair("stride"), pair("padding")),
        "embedding" => x[0].embedding(&x[1], attrs["padding"].as_u64().map(|row| row as usize)),
        "attention" => {
            // A mask of whole numbers stands for bools.
            let mask = x.get(3).map(|mask| match mask.dtype() {
                Ok(DType::I32) => mask.cast(DType::Bool),
                _ => mask.clone(),
            });
            let (causal, scale) = (attrs["causal"] == true, attrs["scale"].as_f64());
            let options = AttentionOptions { causal, scale, mask: mask.as_ref(), ..AttentionOptions::default() };
            x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
        }
        "avg_pool2d" => {
            x[0].avg_pool2d(pair("kernel"), pair("stride"), pair("padding"), attrs["count_include_pad"] == true)
        }
        _ => return None,
    };
    Some(vec![result])
}

/// Runs a case and compares its results and gradients.
fn check(device: &Device, case: &Case, compare: impl Fn(&Array, &Array) -> Result<(), String>) -> Result<(), String> {
    let text = |error: kiln::Error| error.to_string();
    let inputs: Vec<Tensor> = case
        .inputs
        .iter()
        .zip(&case.gradients)
        .map(|(array, gradient)| match gradient {
            Some(_) => device.array(array).variable(),
            None => device.array(array),
        })
        .collect();
    let results = apply(&case.op, &case.attrs, &inputs).ok_or("the op is not known")?;
    if results.len() != case.outputs.len() {
        return Err(format!("{} results instead of {}", results.len(), case.outputs.len()));
    }
    for (k, (result, want)) in results.iter().zip(&case.outputs).enumerate() {
        compare(&result.to_array().map_err(text)?, want).map_err(|error| format!("result {k}: {error}"))?;
    }
    if case.cotangents.is_empty() {
        return Ok(());
    }
    let product = |(result, cotangent): (&Tensor, &Array)| (result * device.array(cotangent)).sum_all();
    let loss = results.iter().zip(&case.cotangents).map(product).reduce(|a, b| a + b).ok_or("no result")?;
    let wanted: Vec<(&Tensor, &Array)> =
        inputs.iter().zip(&case.gradients).filter_map(|(input, gradient)| Some((input, gradient.as_ref()?))).collect();
    let gradients = loss.gradients(&wanted.iter().map(|(input, _)| *input).collect::<Vec<_>>()).map_err(text)?;
    for (k, (gradient, (_, want))) in gradients.iter().zip(wanted).enumerate() {
        compare(&gradient.to_array().map_err(text)?, want).map_err(|error| format!("gradient {k}: {error}"))?;
    }
    Ok(())
}

/// `Err` unless every element is within `bound * (1 + |want|)`.
fn ordinary(bound: f64) -> impl Fn(&Array, &Array) -> Result<(), String> {
    move |got, want| {
        same_shape(got, want)?;
        match got.data.iter().zip(&want.data).position(|(g, w)| (g - w).abs() > bound * (1.0 + w.abs()) || g.is_nan()) {
            Some(i) => Err(format!("element {i}: {:e} instead of {:e}", got.data[i], want.data[i])),
            None => Ok(()),
        }
    }
}

fn same_shape(got: &Array, want: &Array) -> Result<(), String> {
    if got.shape == want.shape { Ok(()) } else { Err(format!("shape {} instead of {}", got.shape, want.shape)) }
}

/// Smallest normal f32.
const NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// Compares the special values of a pointwise op: NaN for NaN, infinities and zeros with their signs, and others within
/// 1e-5. `exact` is the reference device, which computes in f64: its results are rounded to f32 first, and it keeps
/// denormal numbers.
///
/// Elsewhere one thing is allowed to differ: WGSL lets a GPU flush denormal numbers to zero (of either sign), in what an
/// op reads and in what it writes. So where an input is denormal, the result for that input flushed counts as right too.
fn special(case: &Case, device: &Device, exact: bool) -> Result<(), String> {
    let text = |error: kiln::Error| error.to_string();
    let run = |device: &Device, inputs: &[Array]| -> Result<Array, String> {
        let inputs: Vec<Tensor> = inputs.iter().map(|array| device.array(array)).collect();
        let results = apply(&case.op, &case.attrs, &inputs).ok_or("the op is not known")?;
        results[0].to_array().map_err(text)
    };
    let got = run(device, &case.inputs)?;
    let want = &case.outputs[0];
    same_shape(&got, want)?;
    let flush = |x: f64| if x.abs() < NORMAL { 0.0f64.copysign(x) } else { x };
    let mut allowed = vec![want.data.clone()];
    if !exact {
        // What the reference, which agrees with PyTorch, gives for inputs flushed to +0 and to -0.
        for sign in [1.0, -1.0] {
            let flushed: Vec<Array> = case
                .inputs
                .iter()
                .map(|array| {
                    let flushed = |&x: &f64| if x != 0.0 && flush(x) == 0.0 { 0.0f64.copysign(sign * x) } else { x };
                    Array { data: array.data.iter().map(flushed).collect(), ..array.clone() }
                })
                .collect();
            allowed.push(run(&Device::cpu(), &flushed)?.data);
        }
    }
    let mut wrong = vec![];
    for (i, &g) in got.data.iter().enumerate() {
        let near = |w: f64| {
            let (g, w) = (f64::from(g as f32), f64::from(w as f32));
            let close = (g - w).abs() <= 1e-5 * w.abs() && g.is_sign_negative() == w.is_sign_negative();
            let flushed = !exact && flush(w) == 0.0 && w != 0.0 && flush(g) == 0.0;
            (g.is_nan() && w.is_nan()) || g.to_bits() == w.to_bits() || close || flushed
        };
        if !allowed.iter().any(|data| near(data[i])) {
            let of: Vec<f64> = case.inputs.iter().map(|array| array.data[i]).collect();
            wrong.push(format!("{:?}: {g:e} instead of {:e}", of, want.data[i]));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Ops that take a host number beside a tensor which f32 rounds; PyTorch's own sixth is one of f32 in the gradient of the
/// last.
const ROUNDED: &[&str] = &["leaky_relu", "batch_norm_running", "hardsigmoid"];

fn every_case(device: impl Fn() -> Device + Sync, bound: f64) {
    let held = cases().into_iter().filter(|case| !is_held_elsewhere(&case.op)).collect();
    let cases = common::choose::chosen(held, |case| &case.name);
    let failures = common::shared(&cases, device, |device, _, case| {
        let outcome = match case.is_special() {
            true => special(case, device, device.is_cpu()),
            // A host number beside f32 is rounded to f32, on the reference too; PyTorch's was f64 here.
            false if ROUNDED.contains(&&*case.op) => check(device, case, ordinary(bound.max(1e-7))),
            false => check(device, case, ordinary(bound)),
        };
        outcome.err().map(|error| format!("{}: {error}", case.name))
    });
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_reference_agrees_with_pytorch() {
    every_case(Device::cpu, 1e-10);
}

#[test]
fn the_gpu_agrees_with_pytorch() {
    every_case(common::own_gpu, 1e-5);
}

#[test]
fn every_op_of_the_file_is_held_here_or_listed() {
    let cpu = Device::cpu();
    let mut seen = HashSet::new();
    for case in cases() {
        if seen.insert(case.op.clone()) {
            let inputs: Vec<Tensor> = case.inputs.iter().map(|array| cpu.array(array)).collect();
            let listed = is_held_elsewhere(&case.op);
            assert!(listed || apply(&case.op, &case.attrs, &inputs).is_some(), "{} is not held to PyTorch", case.op);
        }
    }
    for op in ELSEWHERE {
        assert!(seen.contains(*op), "{op} is listed but not in the file");
    }
}
