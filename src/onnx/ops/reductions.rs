//! Sums, means, extremes and norms along axes.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, places, settled};
use crate::onnx::elem::Elem;
use crate::onnx::ops::shapes::axes;
use crate::tensor::Tensor;

/// Reduces the axes that the node names with what keeps them at length 1.
fn reduced(call: &Call<'_>, of: impl Fn(&Tensor, &[usize]) -> Tensor) -> Outcome {
    let (x, elem, rank) = (call.tensor(0)?, call.elem(0)?, call.shape(0)?.len());
    let named = axes(call, 1, "axes")?.unwrap_or_default();
    let axes = match named.is_empty() {
        true if call.flag("noop_with_empty_axes", false)? => vec![],
        true => (0..rank).collect(),
        false => places(&named, rank)?,
    };
    let kept = of(&x, &axes);
    let y = match call.flag("keepdims", true)? {
        true => kept,
        false => {
            let dims = kept.shape()?.to_vec();
            let rest = dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &length)| length);
            kept.reshape(&rest.collect::<Vec<_>>())
        }
    };
    one(settled(y, elem), elem)
}

/// The same of floats, in f32 and rounded once.
fn wide(call: &Call<'_>, of: impl Fn(&Tensor, &[usize]) -> Tensor) -> Outcome {
    let dtype = call.elem(0)?.dtype();
    match dtype.is_float() {
        true => reduced(call, |x, axes| of(&x.cast(DType::F32), axes).cast(dtype)),
        false => reduced(call, |x, axes| of(&x.cast(DType::F32), axes).round().cast(dtype)),
    }
}

/// A sum of what is made of each element; whole numbers stay whole.
fn summed(call: &Call<'_>, of: impl Fn(&Tensor) -> Tensor) -> Outcome {
    match call.elem(0)?.is_float() {
        true => wide(call, |x, axes| of(x).sum_keep(axes)),
        false => reduced(call, |x, axes| of(x).sum_keep(axes)),
    }
}

fn product(call: &Call<'_>) -> Outcome {
    match call.elem(0)?.is_float() {
        true => wide(call, |x, axes| x.prod_keep(axes)),
        false => reduced(call, |x, axes| x.prod_keep(axes)),
    }
}

fn max(call: &Call<'_>) -> Outcome {
    match call.elem(0)? {
        Elem::Bool => reduced(call, |x, axes| x.any_keep(axes)),
        _ => reduced(call, |x, axes| x.max_keep(axes)),
    }
}

fn min(call: &Call<'_>) -> Outcome {
    match call.elem(0)? {
        Elem::Bool => reduced(call, |x, axes| x.all_keep(axes)),
        _ => reduced(call, |x, axes| x.min_keep(axes)),
    }
}

fn magnitude(x: &Tensor) -> Tensor {
    if x.dtype().is_ok_and(|dtype| dtype == DType::U32) { x.clone() } else { x.abs() }
}

const ATTRIBUTES: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];

const fn row(name: &'static str, run: fn(&Call<'_>) -> Outcome) -> Row {
    Row::new(name, run).with(ATTRIBUTES).knows(&[1])
}

/// Reductions.
pub const ROWS: &[Row] = &[
    row("ReduceSum", |call| summed(call, Tensor::clone)),
    row("ReduceL1", |call| summed(call, magnitude)),
    row("ReduceSumSquare", |call| summed(call, Tensor::square)),
    row("ReduceL2", |call| wide(call, |x, axes| x.square().sum_keep(axes).sqrt())),
    row("ReduceLogSum", |call| wide(call, |x, axes| x.sum_keep(axes).log())),
    row("ReduceLogSumExp", |call| wide(call, |x, axes| x.log_sum_exp_keep(axes))),
    row("ReduceMean", |call| wide(call, |x, axes| x.mean_keep(axes))),
    row("ReduceProd", product),
    row("ReduceMax", max),
    row("ReduceMin", min),
];
