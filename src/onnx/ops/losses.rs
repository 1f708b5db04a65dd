//! Losses of classes.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value};
use crate::onnx::elem::Elem;
use crate::onnx::trouble::{Trouble, wrong};
use crate::tensor::Tensor;

/// Minus the logarithm of the right class's probability, weighted and reduced. `logs` is `[N, C, ..]`.
fn of_logs(call: &Call<'_>, logs: &Tensor) -> Result<Tensor, Trouble> {
    let shape = call.shape(0)?;
    let classes = shape.get(1).copied().unwrap_or(0);
    let labels = call.tensor(1)?.cast(DType::I32);
    let ignored = if call.says("ignore_index") { Some(call.int("ignore_index", 0)?) } else { None };
    let zero = call.device.full(&[], 0.0, DType::F32);
    let counts = ignored.map(|ignored| labels.ne(ignored));
    let labels = match &counts {
        Some(counts) => counts.where_(&labels, &call.device.full(&[], 0.0, DType::I32)),
        None => labels,
    };
    let right = logs.gather(1, &labels.unsqueeze(1)).squeeze(1);
    let weight = match call.optional(2)? {
        Some(weights) => {
            if call.shape(2)? != [classes] {
                return wrong(format!("weights of shape {:?} for {classes} classes", call.shape(2)?));
            }
            let dims = labels.shape()?.to_vec();
            let flat = labels.reshape(&[dims.iter().product()]);
            Some(weights.cast(DType::F32).index_select(0, &flat).reshape(&dims))
        }
        None => None,
    };
    let weight = match (weight, &counts) {
        (Some(weight), Some(counts)) => Some(counts.where_(&weight, &zero)),
        (None, Some(counts)) => Some(counts.cast(DType::F32)),
        (weight, None) => weight,
    };
    let losses = match &weight {
        Some(weight) => -(right * weight),
        None => -right,
    };
    Ok(match call.text("reduction", "mean")?.as_str() {
        "none" => losses,
        "sum" => losses.sum_all(),
        "mean" => match weight {
            Some(weight) => losses.sum_all() / weight.sum_all(),
            None => losses.mean_all(),
        },
        other => return wrong(format!("reduction is `{other}`")),
    })
}

fn value(x: Tensor, elem: Elem) -> Value {
    Value::Tensor(x.cast(elem.dtype()), elem)
}

fn negative_log_likelihood(call: &Call<'_>) -> Outcome {
    let elem = call.elem(0)?;
    Ok(vec![value(of_logs(call, &call.tensor(0)?.cast(DType::F32))?, elem)])
}

fn cross_entropy(call: &Call<'_>) -> Outcome {
    let elem = call.elem(0)?;
    let logs = call.tensor(0)?.cast(DType::F32).log_softmax(1);
    Ok(vec![value(of_logs(call, &logs)?, elem), value(logs, elem)])
}

/// Losses.
pub const ROWS: &[Row] = &[
    Row::new("NegativeLogLikelihoodLoss", negative_log_likelihood).with(&["ignore_index", "reduction"]),
    Row::new("SoftmaxCrossEntropyLoss", cross_entropy).with(&["ignore_index", "reduction"]),
];
