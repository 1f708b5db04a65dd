//! Convolutions over one to three axes.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value, one, sizes};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::count;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::onnx::windows::Windows;
use crate::ops::conv2d::{ConvOptions, Padding, TransposeOptions};
use crate::ops::unfold::UnfoldOptions;
use crate::tensor::Tensor;

/// A vector that stands for the channels, beside an image with `axes` axes behind them.
pub fn channels(vector: &Tensor, axes: usize) -> Result<Tensor, Trouble> {
    let length = vector.shape()?.iter().product();
    Ok(vector.reshape(&[&[length][..], &vec![1; axes]].concat()))
}

/// The convolution of a node, of these tensors.
pub fn convolved(call: &Call<'_>, x: &Tensor, weight: &Tensor) -> Result<Tensor, Trouble> {
    let (shape, filters) = (x.shape()?.to_vec(), weight.shape()?.to_vec());
    let (Some(size), Some(kernel)) = (shape.get(2..), filters.get(2..)) else {
        return wrong(format!("an image of shape {shape:?} and a weight of shape {filters:?}"));
    };
    let windows = Windows::of(call, size, Some(kernel))?;
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    fn of<const D: usize>(x: &Tensor, weight: &Tensor, windows: &Windows, groups: usize) -> Tensor {
        let options = ConvOptions::<D> {
            stride: Windows::array(&windows.stride),
            padding: [0; D],
            dilation: Windows::array(&windows.dilation),
            groups,
        };
        let sides = std::array::from_fn(|axis| windows.pads.get(axis).copied().unwrap_or([0, 0]));
        x.conv_padded(weight, &options, &Padding::Sides(sides))
    }
    Ok(match size.len() {
        1 => of::<1>(x, weight, &windows, groups),
        2 => of::<2>(x, weight, &windows, groups),
        _ => of::<3>(x, weight, &windows, groups),
    })
}

fn conv(call: &Call<'_>) -> Outcome {
    let (x, weight, elem) = (call.tensor(0)?, call.tensor(1)?, call.elem(0)?);
    let axes = call.shape(0)?.len().saturating_sub(2);
    let y = convolved(call, &x, &weight)?;
    one(
        match call.optional(2)? {
            Some(bias) => y + channels(&bias, axes)?,
            None => y,
        },
        elem,
    )
}

/// The whole of a transposed convolution; what pads cut is cut from it.
fn conv_transpose(call: &Call<'_>) -> Outcome {
    let (x, weight, elem) = (call.tensor(0)?, call.tensor(1)?, call.elem(0)?);
    let (shape, filters) = (call.shape(0)?, call.shape(1)?);
    let axes = shape.len().saturating_sub(2);
    if !(1..=3).contains(&axes) || filters.len() != shape.len() {
        return unsupported(format!("an image of shape {shape:?} and a weight of shape {filters:?}"));
    }
    let kernel = filters.get(2..).unwrap_or_default().to_vec();
    let listed = |name: &str, default: usize| -> Result<Vec<usize>, Trouble> {
        let list = call.sizes(name)?.unwrap_or_else(|| vec![default; axes]);
        if list.len() == axes { Ok(list) } else { wrong(format!("{name} {list:?} for {axes} axes")) }
    };
    let (stride, dilation, more) = (listed("strides", 1)?, listed("dilations", 1)?, listed("output_padding", 0)?);
    let auto = call.text("auto_pad", "NOTSET")?;
    let wanted = call.sizes("output_shape")?;
    let given = call.sizes("pads")?.unwrap_or_else(|| vec![0; axes * 2]);
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    fn of<const D: usize>(x: &Tensor, weight: &Tensor, stride: &[usize], dilation: &[usize], groups: usize) -> Tensor {
        x.conv_transpose(
            weight,
            &TransposeOptions::<D> {
                stride: Windows::array(stride),
                dilation: Windows::array(dilation),
                groups,
                ..TransposeOptions::default()
            },
        )
    }
    let mut y = match axes {
        1 => of::<1>(&x, &weight, &stride, &dilation, groups),
        2 => of::<2>(&x, &weight, &stride, &dilation, groups),
        _ => of::<3>(&x, &weight, &stride, &dilation, groups),
    };
    for axis in 0..axes {
        let at = |list: &[usize], i: usize| list.get(i).copied().unwrap_or(0);
        let length = at(&shape, axis + 2);
        let whole = (length - 1) * at(&stride, axis) + (at(&kernel, axis).max(1) - 1) * at(&dilation, axis) + 1;
        let there = whole + at(&more, axis);
        let size = match (&wanted, auto.as_str()) {
            (Some(wanted), _) => Some(wanted.get(wanted.len() - axes.min(wanted.len()) + axis).copied().unwrap_or(0)),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some(length * at(&stride, axis)),
            _ => None,
        };
        let (before, size) = match size {
            Some(size) => {
                let all = there.saturating_sub(size);
                let before = if auto == "SAME_UPPER" { all / 2 } else { all - all / 2 };
                (before, size)
            }
            None => {
                let (before, after) = (at(&given, axis), at(&given, axis + axes));
                match there.checked_sub(before + after).filter(|&size| size > 0) {
                    Some(size) => (before, size),
                    None => return wrong(format!("pads {given:?} leave nothing of axis {axis}")),
                }
            }
        };
        let end = before + size;
        if end > whole {
            let mut pairs = vec![(0, 0); axes + 2];
            if let Some(pair) = pairs.get_mut(axis + 2) {
                *pair = (0, end - whole);
            }
            y = y.pad(&pairs, 0.0);
        }
        if (before, end) != (0, whole) {
            y = y.slice_step(axis + 2, before as isize, end as isize, 1);
        }
    }
    one(
        match call.optional(2)? {
            Some(bias) => y + channels(&bias, axes)?,
            None => y,
        },
        elem,
    )
}

/// Columns added up where windows take them from.
fn col2im(call: &Call<'_>) -> Outcome {
    let (x, elem, shape) = (call.tensor(0)?, call.elem(0)?, call.shape(0)?);
    let (image, block) = (sizes(&call.wholes(1)?, "image_shape")?, sizes(&call.wholes(2)?, "block_shape")?);
    let axes = image.len();
    let &[_, rows, _] = &shape[..] else { return wrong(format!("columns of shape {shape:?}")) };
    if !(1..=3).contains(&axes) || block.len() != axes || rows % count(&block)?.max(1) != 0 {
        return unsupported(format!("blocks {block:?} of an image {image:?}"));
    }
    let listed = |name: &str, default: usize, length: usize| -> Result<Vec<usize>, Trouble> {
        let list = call.sizes(name)?.unwrap_or_else(|| vec![default; length]);
        if list.len() == length { Ok(list) } else { wrong(format!("{name} {list:?} for {axes} axes")) }
    };
    let (stride, dilation, pads) =
        (listed("strides", 1, axes)?, listed("dilations", 1, axes)?, listed("pads", 0, axes * 2)?);
    let padded: Vec<usize> = (0..axes)
        .map(|axis| {
            [axis, axis + axes].iter().filter_map(|&i| pads.get(i)).sum::<usize>()
                + image.get(axis).copied().unwrap_or(0)
        })
        .collect();
    fn of<const D: usize>(x: &Tensor, size: &[usize], block: &[usize], stride: &[usize], dilation: &[usize]) -> Tensor {
        let options = UnfoldOptions::<D> {
            stride: Windows::array(stride),
            dilation: Windows::array(dilation),
            ..UnfoldOptions::new(Windows::array(block))
        };
        x.fold(Windows::array(size), &options)
    }
    let mut y = match axes {
        1 => of::<1>(&x, &padded, &block, &stride, &dilation),
        2 => of::<2>(&x, &padded, &block, &stride, &dilation),
        _ => of::<3>(&x, &padded, &block, &stride, &dilation),
    };
    for axis in 0..axes {
        let before = pads.get(axis).copied().unwrap_or(0);
        let end = before + image.get(axis).copied().unwrap_or(0);
        y = y.slice_step(axis + 2, before as isize, end as isize, 1);
    }
    one(y, elem)
}

/// A convolution along the last axis that sees what is past alone, and hands on what the next one needs of it: `[N, C, L]`.
fn causal(call: &Call<'_>) -> Outcome {
    let (x, weight, elem) = (call.tensor(0)?, call.tensor(1)?, call.elem(0)?);
    let (shape, filters) = (call.shape(0)?, call.shape(1)?);
    let (&[batch, deep, _], &[_, _, kernel]) = (&shape[..], &filters[..]) else {
        return wrong(format!("an image of shape {shape:?} and a weight of shape {filters:?}"));
    };
    let past = match call.optional(3)? {
        Some(past) => Some(past),
        None if kernel > 1 => Some(call.filled(&[batch, deep, kernel - 1], 0.0, elem)),
        None => None,
    };
    let all = match &past {
        Some(past) => Tensor::concat(&[past, &x], 2),
        None => x.clone(),
    };
    let groups = deep / filters.get(1).copied().unwrap_or(1).max(1);
    let wide = |x: &Tensor| x.cast(DType::F32);
    let options = ConvOptions::<1> { stride: [1], padding: [0], dilation: [1], groups };
    let y = wide(&all).conv(&wide(&weight), &options);
    let y = match call.optional(2)? {
        Some(bias) => y + channels(&wide(&bias), 1)?,
        None => y,
    };
    let y = match call.text("activation", "none")?.as_str() {
        "silu" | "swish" => y.silu(),
        "none" | "" => y,
        other => return unsupported(format!("activation `{other}`")),
    };
    let length = all.shape()?.get(2).copied().unwrap_or(0);
    let state = match kernel {
        1 if call.wants(1) => return unsupported("a state without elements"),
        1 => Value::Absent,
        _ => Value::Tensor(all.slice_step(2, (length - (kernel - 1)) as isize, length as isize, 1), elem),
    };
    Ok(vec![Value::Tensor(y.cast(elem.dtype()), elem), state])
}

/// Whole numbers less their zero point, as floats that hold them exactly. A vector of zero points is one for each row.
pub fn centred(call: &Call<'_>, i: usize, zero: usize) -> Result<Tensor, Trouble> {
    let x = call.tensor(i)?.cast(DType::F32);
    let Some(point) = call.optional(zero)? else { return Ok(x) };
    let (shape, points) = (call.shape(i)?, call.shape(zero)?);
    let point = match points[..] {
        [length] if length > 1 && shape.first() == Some(&length) => channels(&point, shape.len() - 1)?,
        [1] => point.reshape(&[]),
        _ => point,
    };
    Ok(x - point.cast(DType::F32))
}

const WINDOWS: &[&str] =
    &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "output_padding", "output_shape"];

/// Convolutions.
pub const ROWS: &[Row] = &[
    Row::new("Conv", conv).with(WINDOWS),
    Row::new("ConvTranspose", conv_transpose).with(WINDOWS),
    Row::new("Col2Im", col2im).with(&["dilations", "pads", "strides"]).knows(&[1, 2]),
    Row::new("CausalConvWithState", causal).with(&["activation"]),
    Row::new("ConvInteger", |call| {
        let y = convolved(call, &centred(call, 0, 2)?, &centred(call, 1, 3)?)?;
        one(y.round().cast(DType::I32), Elem::I32)
    })
    .with(WINDOWS),
];
