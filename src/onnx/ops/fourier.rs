//! Fourier transforms as products with matrices of cosines and sines.

use std::f64::consts::PI;

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, place, sizes};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::{Data, Numbers};
use crate::onnx::ops::linear::times;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// Longest axis that is transformed: the matrices grow with its square.
const LONGEST: usize = 4096;

/// cos and sin of the angle of each pair of places: `[length, lines]`.
fn waves(call: &Call<'_>, length: usize, lines: usize) -> Result<[Tensor; 2], Trouble> {
    let angle = |i: usize, j: usize| 2.0 * PI * ((i * j) % length) as f64 / length as f64;
    let of = |wave: fn(f64) -> f64| {
        let values = (0..length).flat_map(|i| (0..lines).map(move |j| wave(angle(i, j))));
        Numbers::new(Elem::F32, vec![length, lines], Data::Real(values.collect())).tensor(call.device)
    };
    Ok([of(f64::cos)?, of(f64::sin)?])
}

/// The transform of rows `[rows, length, parts]` (parts: real, and imaginary if there is one) to `[rows, lines, 2]`.
fn transformed(call: &Call<'_>, x: &Tensor, lines: usize, inverse: bool) -> Result<Tensor, Trouble> {
    let &[rows, length, parts] = x.shape()? else { return wrong("rows of numbers are wanted") };
    if length > LONGEST {
        return unsupported(format!("a transform of {length} elements"));
    }
    let [cos, sin] = waves(call, length, lines)?;
    let part = |number: isize| x.slice_step(2, number, number + 1, 1).reshape(&[rows, length]);
    let real = part(0);
    // e^(-i angle) forward, e^(i angle) back.
    let turn = if inverse { 1.0 } else { -1.0 };
    let (mut a, mut b) = (times(&real, &cos), times(&real, &sin) * turn);
    if parts == 2 {
        let imaginary = part(1);
        a -= times(&imaginary, &sin) * turn;
        b += times(&imaginary, &cos);
    }
    let scale = if inverse { 1.0 / length as f64 } else { 1.0 };
    Ok(Tensor::stack(&[&(a * scale), &(b * scale)], 2))
}

fn dft(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?.cast(DType::F32), call.shape(0)?, call.elem(0)?);
    let rank = shape.len();
    let axis = match call.node.version {
        ..20 => call.int("axis", 1)?,
        _ if call.has(2) => call.number(2)? as i64,
        _ => -2,
    };
    let axis = place(axis, rank)?;
    let parts = shape.last().copied().unwrap_or(0);
    if axis + 1 >= rank || !(1..=2).contains(&parts) {
        return wrong(format!("axis {axis} of shape {shape:?}"));
    }
    let (inverse, onesided) = (call.flag("inverse", false)?, call.flag("onesided", false)?);
    if inverse && onesided {
        return unsupported("an inverse transform of one side");
    }
    let there = shape.get(axis).copied().unwrap_or(0);
    let length =
        if call.has(1) { sizes(&call.wholes(1)?, "dft_length")?.first().copied().unwrap_or(there) } else { there };
    if length == 0 {
        return wrong("a transform of no elements");
    }
    // The axis stands before the parts, cut or filled with zeros to its length.
    let mut order: Vec<usize> = (0..rank).filter(|&other| other != axis && other + 1 != rank).collect();
    order.extend([axis, rank - 1]);
    let moved = x.permute(&order);
    let moved = match length.cmp(&there) {
        std::cmp::Ordering::Less => moved.slice_step(rank - 2, 0, length as isize, 1),
        std::cmp::Ordering::Equal => moved,
        std::cmp::Ordering::Greater => {
            let mut pairs = vec![(0, 0); rank];
            if let Some(pair) = pairs.get_mut(rank - 2) {
                *pair = (0, length - there);
            }
            moved.pad(&pairs, 0.0)
        }
    };
    let front: Vec<usize> = order.iter().take(rank - 2).filter_map(|&axis| shape.get(axis).copied()).collect();
    let rows = front.iter().product();
    let lines = if onesided { length / 2 + 1 } else { length };
    let y = transformed(call, &moved.reshape(&[rows, length, parts]), lines, inverse)?;
    let y = y.reshape(&[&front[..], &[lines, 2]].concat());
    let mut back = vec![0; rank];
    for (number, &axis) in order.iter().enumerate() {
        if let Some(place) = back.get_mut(axis) {
            *place = number;
        }
    }
    one(y.permute(&back).cast(elem.dtype()), elem)
}

/// The spectra of windows that slide along a signal: `[batch, windows, lines, 2]`.
fn stft(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?.cast(DType::F32), call.shape(0)?, call.elem(0)?);
    let (batch, length, parts) = match shape[..] {
        [batch, length] => (batch, length, 1),
        [batch, length, parts] => (batch, length, parts),
        _ => return wrong(format!("a signal of shape {shape:?}")),
    };
    let step = sizes(&call.wholes(1)?, "frame_step")?.first().copied().unwrap_or(0);
    let window = call.optional(2)?;
    let frame = match (call.has(3), call.has(2)) {
        (true, _) => sizes(&call.wholes(3)?, "frame_length")?.first().copied().unwrap_or(0),
        (false, true) => call.shape(2)?.first().copied().unwrap_or(0),
        (false, false) => return wrong("it has neither a window nor a frame_length"),
    };
    if step == 0 || frame == 0 || frame > length.min(LONGEST) {
        return wrong(format!("frames of {frame}, {step} apart, of {length} elements"));
    }
    let frames = (length - frame) / step + 1;
    let index: Vec<u32> = (0..frames).flat_map(|number| (0..frame).map(move |i| (number * step + i) as u32)).collect();
    let cut = x.reshape(&[batch, length, parts]).index_select(1, &call.device.tensor(&index, &[index.len()]));
    let cut = cut.reshape(&[batch * frames, frame, parts]);
    let cut = match window {
        Some(window) => cut * window.cast(DType::F32).reshape(&[frame, 1]),
        None => cut,
    };
    let lines = if call.flag("onesided", true)? { frame / 2 + 1 } else { frame };
    let y = transformed(call, &cut, lines, false)?;
    one(y.reshape(&[batch, frames, lines, 2]).cast(elem.dtype()), elem)
}

/// Transforms.
pub const ROWS: &[Row] = &[
    Row::new("DFT", dft).with(&["axis", "inverse", "onesided"]).knows(&[1, 2]),
    Row::new("STFT", stft).with(&["onesided"]).knows(&[1, 3]),
];
