//! Whole numbers that stand for floats: a scale, and the number that stands for 0.

use super::convolution::{centred, channels, convolved};
use super::linear::times;
use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value, one, place};
use crate::onnx::elem::Elem;
use crate::onnx::ops::types::named;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// Input `i` (a scale or a zero point) as it stands beside a tensor of `shape`: a number, one for each place on an axis, or one for each block.
fn beside(call: &Call<'_>, i: usize, shape: &[usize]) -> Result<Option<Tensor>, Trouble> {
    let Some(side) = call.optional(i)? else { return Ok(None) };
    let side = side.cast(DType::F32);
    let (own, rank) = (call.shape(i)?, shape.len());
    let block = usize::try_from(call.int("block_size", 0)?).unwrap_or(0);
    Ok(Some(match own[..] {
        [] | [1] => side.reshape(&[]),
        [length] if block == 0 => {
            let axis = place(call.int("axis", 1)?, rank)?;
            let mut around = vec![1; rank];
            if let Some(place) = around.get_mut(axis) {
                *place = length;
            }
            side.reshape(&around)
        }
        _ if block > 0 && own.len() == rank => {
            let axis = place(call.int("axis", 1)?, rank)?;
            let length = shape.get(axis).copied().unwrap_or(0);
            side.repeat_interleave(axis, block).slice_step(axis, 0, length as isize, 1)
        }
        _ => return wrong(format!("a scale of shape {own:?} beside shape {shape:?}")),
    }))
}

/// `x` in whole numbers of a type, the ones outside at its ends.
fn saturated(x: &Tensor, elem: Elem) -> Tensor {
    let (least, most) = elem.range();
    x.clamp(least as f64, most as f64).cast(DType::I32).cast(elem.dtype())
}

fn whole_type(elem: Elem) -> Result<Elem, Trouble> {
    match elem.narrow() {
        Some(_) => Ok(elem),
        None => unsupported(format!("a result of {elem}")),
    }
}

fn quantize(call: &Call<'_>) -> Outcome {
    let (x, shape) = (call.tensor(0)?.cast(DType::F32), call.shape(0)?);
    let said = named(call, "output_dtype")?;
    let elem = if call.has(2) { call.elem(2)? } else { said.unwrap_or(Elem::U8) };
    let elem = whole_type(elem)?;
    let Some(scale) = beside(call, 1, &shape)? else { return wrong("it has no scale") };
    let y = (x / scale).round();
    let y = match beside(call, 2, &shape)? {
        Some(zero) => y + zero,
        None => y,
    };
    one(saturated(&y, elem), elem)
}

fn dequantize(call: &Call<'_>) -> Outcome {
    let (x, shape) = (call.tensor(0)?.cast(DType::F32), call.shape(0)?);
    let elem = named(call, "output_dtype")?.unwrap_or(call.elem(1)?);
    let Some(scale) = beside(call, 1, &shape)? else { return wrong("it has no scale") };
    let x = match beside(call, 2, &shape)? {
        Some(zero) => x - zero,
        None => x,
    };
    one((x * scale).cast(elem.dtype()), elem)
}

/// To bytes, by the range of the numbers themselves.
fn dynamic(call: &Call<'_>) -> Outcome {
    let x = call.tensor(0)?;
    let zero = call.device.full(&[], 0.0, DType::F32);
    let (least, most) = (x.min_all().minimum(&zero), x.max_all().maximum(&zero));
    let scale = (&most - &least) / 255.0;
    let point = (-(&least / &scale)).round().clamp(0.0, 255.0);
    let y = saturated(&((&x / &scale).round() + &point), Elem::U8);
    Ok(vec![
        Value::Tensor(y, Elem::U8),
        Value::Tensor(scale, Elem::F32),
        Value::Tensor(saturated(&point, Elem::U8), Elem::U8),
    ])
}

fn matmul_integer(call: &Call<'_>) -> Outcome {
    let product = times(&centred(call, 0, 2)?, &centred(call, 1, 3)?);
    one(product.round().cast(DType::I32), Elem::I32)
}

/// A sum of products of whole numbers, in other ones: `scales` are the inputs of the scales of both, and of the result with its zero point.
fn requantized(call: &Call<'_>, sum: Tensor, scales: [usize; 3], zero: usize) -> Outcome {
    let elem = whole_type(call.elem(zero)?)?;
    let scale = |i: usize| Ok::<_, Trouble>(call.tensor(i)?.cast(DType::F32));
    let [a, b, y] = scales;
    let b = match call.shape(b)?[..] {
        [length] if length > 1 => channels(&scale(b)?, sum.shape()?.len().saturating_sub(2))?,
        _ => scale(b)?,
    };
    let y = (sum * (scale(a)? * b / scale(y)?)).round() + call.tensor(zero)?.cast(DType::F32);
    one(saturated(&y, elem), elem)
}

fn q_matmul(call: &Call<'_>) -> Outcome {
    let scalar = |i: usize| call.shape(i).map(|shape| shape.iter().product::<usize>() == 1);
    if ![1, 2, 4, 5, 6, 7].into_iter().map(scalar).collect::<Result<Vec<_>, _>>()?.iter().all(|&is| is) {
        return unsupported("a scale or zero point for each row or column");
    }
    let product = times(&centred(call, 0, 2)?, &centred(call, 3, 5)?);
    requantized(call, product, [1, 4, 6], 7)
}

fn q_conv(call: &Call<'_>) -> Outcome {
    let y = convolved(call, &centred(call, 0, 2)?, &centred(call, 3, 5)?)?;
    let axes = call.shape(0)?.len().saturating_sub(2);
    let y = match call.optional(8)? {
        Some(bias) => y + channels(&bias.cast(DType::F32), axes)?,
        None => y,
    };
    requantized(call, y, [1, 4, 6], 7)
}

const WINDOWS: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// Quantised ops.
pub const ROWS: &[Row] = &[
    Row::new("QuantizeLinear", quantize).with(&["axis", "block_size", "output_dtype", "saturate"]),
    Row::new("DequantizeLinear", dequantize).with(&["axis", "block_size", "output_dtype"]),
    Row::new("DynamicQuantizeLinear", dynamic),
    Row::new("MatMulInteger", matmul_integer),
    Row::new("QLinearMatMul", q_matmul),
    Row::new("QLinearConv", q_conv).with(WINDOWS),
];
