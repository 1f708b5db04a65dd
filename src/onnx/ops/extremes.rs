//! Where the largest elements are, and sums and products that run along an axis.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, place, settled};
use crate::onnx::elem::Elem;
use crate::onnx::trouble::{Trouble, wrong};
use crate::tensor::Tensor;

fn arg(call: &Call<'_>, first: fn(&Tensor, usize) -> Tensor, last: fn(&Tensor, usize) -> Tensor) -> Outcome {
    let (x, shape) = (call.tensor(0)?, call.shape(0)?);
    let axis = call.axis("axis", 0, shape.len())?;
    let found = if call.flag("select_last_index", false)? { last(&x, axis) } else { first(&x, axis) };
    let found = found.cast(DType::I32);
    one(if call.flag("keepdims", true)? { found.unsqueeze(axis) } else { found }, Elem::I64)
}

/// 1 at the first of the largest elements, else 0. Before version 13 all axes from `axis` on count as one.
fn hardmax(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axis = call.axis("axis", if call.node.version < 13 { 1 } else { -1 }, shape.len())?;
    let mut around = vec![1; shape.len()];
    let length = shape.get(axis).copied().unwrap_or(1);
    if let Some(around) = around.get_mut(axis) {
        *around = length;
    }
    let places = call.device.arange(length, DType::U32).reshape(&around);
    one(x.argmax(axis).unsqueeze(axis).eq(&places).cast(elem.dtype()), elem)
}

/// A running fold along an axis, forward or in reverse, with each element or up to it.
fn running(call: &Call<'_>, neutral: f64, of: fn(&Tensor, usize) -> Tensor) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axis = axis(call, shape.len())?;
    let (exclusive, reverse) = (call.flag("exclusive", false)?, call.flag("reverse", false)?);
    let x = if reverse { x.flip(axis) } else { x };
    let x = match exclusive {
        false => x,
        true => {
            let length = shape.get(axis).copied().unwrap_or(0);
            let mut pairs = vec![(0, 0); shape.len()];
            if let Some(pair) = pairs.get_mut(axis) {
                *pair = (1, 0);
            }
            x.pad(&pairs, neutral).slice_step(axis, 0, length as isize, 1)
        }
    };
    // Whole numbers below 2^24 keep their digits as floats.
    let y = match elem.is_float() {
        true => of(&x.cast(DType::F32), axis).cast(elem.dtype()),
        false => of(&x.cast(DType::F32), axis).round().cast(elem.dtype()),
    };
    one(settled(if reverse { y.flip(axis) } else { y }, elem), elem)
}

fn axis(call: &Call<'_>, rank: usize) -> Result<usize, Trouble> {
    match call.wholes(1)?[..] {
        [axis] => place(axis, rank),
        ref others => wrong(format!("{} axes where one is wanted", others.len())),
    }
}

/// Places and running folds.
pub const ROWS: &[Row] = &[
    Row::new("ArgMax", |call| arg(call, |x, axis| x.argmax(axis), |x, axis| x.argmax_last(axis))).with(&[
        "axis",
        "keepdims",
        "select_last_index",
    ]),
    Row::new("ArgMin", |call| arg(call, |x, axis| x.argmin(axis), |x, axis| x.argmin_last(axis))).with(&[
        "axis",
        "keepdims",
        "select_last_index",
    ]),
    Row::new("Hardmax", hardmax).with(&["axis"]),
    Row::new("CumSum", |call| running(call, 0.0, |x, axis| x.cumsum(axis))).with(&["exclusive", "reverse"]).knows(&[1]),
    Row::new("CumProd", |call| running(call, 1.0, |x, axis| x.cumprod(axis)))
        .with(&["exclusive", "reverse"])
        .knows(&[1]),
];
