//! Poolings over one to three axes.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value, one};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::{Data, Numbers, count};
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::onnx::windows::Windows;
use crate::ops::max_pool::MaxPoolOptions;
use crate::ops::resample::AvgPoolOptions;
use crate::ops::unfold::UnfoldOptions;
use crate::tensor::Tensor;

/// The image of a node as floats, its shape, and its windows.
fn image(call: &Call<'_>) -> Result<(Tensor, Vec<usize>, Windows), Trouble> {
    let shape = call.shape(0)?;
    let Some(size) = shape.get(2..).filter(|size| !size.is_empty()) else {
        return wrong(format!("an image of shape {shape:?}"));
    };
    let windows = Windows::of(call, size, None)?;
    Ok((call.tensor(0)?.cast(DType::F32), shape, windows))
}

/// All windows of `x`, with `edge` where they leave it: `[N, C, elements of a window, windows]`.
fn unfolded(x: &Tensor, shape: &[usize], windows: &Windows, edge: f64) -> Result<Tensor, Trouble> {
    fn of<const D: usize>(x: &Tensor, windows: &Windows) -> Tensor {
        x.unfold(&UnfoldOptions::<D> {
            stride: Windows::array(&windows.stride),
            dilation: Windows::array(&windows.dilation),
            ..UnfoldOptions::new(Windows::array(&windows.kernel))
        })
    }
    let size = shape.get(2..).unwrap_or_default();
    let pairs: Vec<(usize, usize)> = [(0, 0); 2].into_iter().chain(windows.around(size)).collect();
    let padded = if pairs.iter().all(|&pair| pair == (0, 0)) { x.clone() } else { x.pad(&pairs, edge) };
    let padded = crop(&padded, size, windows);
    let columns = match size.len() {
        1 => of::<1>(&padded, windows),
        2 => of::<2>(&padded, windows),
        _ => of::<3>(&padded, windows),
    };
    let (batch, channels) = (shape.first().copied().unwrap_or(1), shape.get(1).copied().unwrap_or(1));
    // Refused here, before anything is set aside for windows that there cannot be.
    if let Some(error) = columns.error() {
        return Err(error.clone().into());
    }
    Ok(columns.reshape(&[batch, channels, count(&windows.kernel)?, count(&windows.output)?]))
}

/// Without what lies behind the last window, so that there are no windows more.
fn crop(x: &Tensor, size: &[usize], windows: &Windows) -> Tensor {
    let mut x = x.clone();
    for (axis, &length) in size.iter().enumerate() {
        let stride = windows.stride.get(axis).copied().unwrap_or(1);
        let outputs = windows.output.get(axis).copied().unwrap_or(1).max(1);
        let end = (outputs - 1) * stride + windows.reach(axis);
        let [before, after] = windows.pads.get(axis).copied().unwrap_or([0, 0]);
        if end < length + before + after {
            x = x.slice_step(axis + 2, 0, end as isize, 1);
        }
    }
    x
}

fn result_shape(shape: &[usize], windows: &Windows) -> Vec<usize> {
    shape.iter().take(2).chain(&windows.output).copied().collect()
}

/// True for windows that Kiln's own poolings have: the same padding on both sides, of half a window at most.
fn is_plain(call: &Call<'_>, windows: &Windows) -> Result<bool, Trouble> {
    let even = |(pads, &kernel): (&[usize; 2], &usize)| pads[0] == pads[1] && pads[0] <= kernel / 2;
    Ok(!call.flag("ceil_mode", false)? && windows.pads.iter().zip(&windows.kernel).all(even))
}

fn average(call: &Call<'_>) -> Outcome {
    let (x, shape, windows) = image(call)?;
    let elem = call.elem(0)?;
    let counts_pads = call.flag("count_include_pad", false)?;
    if is_plain(call, &windows)? && windows.dilation.iter().all(|&dilation| dilation == 1) {
        fn of<const D: usize>(x: &Tensor, windows: &Windows, count_include_pad: bool) -> Tensor {
            x.avg_pool(&AvgPoolOptions::<D> {
                kernel: Windows::array(&windows.kernel),
                stride: Windows::array(&windows.stride),
                padding: std::array::from_fn(|axis| windows.pads.get(axis).map_or(0, |pads| pads[0])),
                ceil: false,
                count_include_pad,
            })
        }
        let y = match windows.kernel.len() {
            1 => of::<1>(&x, &windows, counts_pads),
            2 => of::<2>(&x, &windows, counts_pads),
            _ => of::<3>(&x, &windows, counts_pads),
        };
        return one(y.cast(elem.dtype()), elem);
    }
    let sum = unfolded(&x, &shape, &windows, 0.0)?.sum(2);
    // What a window divides by: its elements that are of the image, or of the pads too, but never those behind them.
    let counted = |axis: usize| -> Vec<f64> {
        let length = shape.get(axis + 2).copied().unwrap_or(0);
        let [before, after] = windows.pads.get(axis).copied().unwrap_or([0, 0]);
        let (first, end) = if counts_pads { (0, before + length + after) } else { (before, before + length) };
        let at = |list: &[usize]| list.get(axis).copied().unwrap_or(1);
        (0..at(&windows.output))
            .map(|window| {
                let taps =
                    (0..at(&windows.kernel)).map(|tap| window * at(&windows.stride) + tap * at(&windows.dilation));
                taps.filter(|place| (first..end).contains(place)).count() as f64
            })
            .collect()
    };
    let mut counts = vec![1.0];
    for axis in 0..windows.kernel.len() {
        let along = counted(axis);
        counts = counts.iter().flat_map(|count| along.iter().map(move |more| count * more)).collect();
    }
    let counts = Numbers::new(Elem::F32, vec![1, 1, counts.len()], Data::Real(counts)).tensor(call.device)?;
    one((sum / counts).reshape(&result_shape(&shape, &windows)).cast(elem.dtype()), elem)
}

fn max(call: &Call<'_>) -> Outcome {
    let (x, shape, windows) = image(call)?;
    let elem = call.elem(0)?;
    if is_plain(call, &windows)? && !call.wants(1) {
        fn of<const D: usize>(x: &Tensor, windows: &Windows) -> Tensor {
            x.max_pool(&MaxPoolOptions::<D> {
                kernel: Windows::array(&windows.kernel),
                stride: Windows::array(&windows.stride),
                padding: std::array::from_fn(|axis| windows.pads.get(axis).map_or(0, |pads| pads[0])),
                dilation: Windows::array(&windows.dilation),
                ceil: false,
            })
        }
        let y = match windows.kernel.len() {
            1 => of::<1>(&x, &windows),
            2 => of::<2>(&x, &windows),
            _ => of::<3>(&x, &windows),
        };
        return one(y.cast(elem.dtype()), elem);
    }
    let columns = unfolded(&x, &shape, &windows, f64::NEG_INFINITY)?;
    let to = result_shape(&shape, &windows);
    let y = columns.max(2).reshape(&to).cast(elem.dtype());
    if !call.wants(1) {
        return one(y, elem);
    }
    // Where each element of each window is in its image, and which images it is of.
    let size = shape.get(2..).unwrap_or_default();
    let row_major = call.int("storage_order", 0)? == 0;
    let mut along = vec![1usize; size.len()];
    let order: Vec<usize> = if row_major { (0..size.len()).rev().collect() } else { (0..size.len()).collect() };
    let mut stride = 1usize;
    for axis in order {
        if let Some(along) = along.get_mut(axis) {
            *along = stride;
        }
        stride = stride.saturating_mul(size.get(axis).copied().unwrap_or(1));
    }
    let grid: Vec<usize> = windows.kernel.iter().chain(&windows.output).copied().collect();
    let axes = size.len();
    let mut places = vec![];
    let mut index = vec![0usize; grid.len()];
    for _ in 0..count(&grid)? {
        let at = |axis: usize| {
            let tap = index.get(axis).copied().unwrap_or(0) * windows.dilation.get(axis).copied().unwrap_or(1);
            let window = index.get(axis + axes).copied().unwrap_or(0) * windows.stride.get(axis).copied().unwrap_or(1);
            let before = windows.pads.get(axis).map_or(0, |pads| pads[0]);
            (tap + window) as i64 - before as i64
        };
        places.push((0..axes).map(|axis| at(axis) * along.get(axis).copied().unwrap_or(1) as i64).sum::<i64>());
        for axis in (0..grid.len()).rev() {
            if let (Some(index), Some(length)) = (index.get_mut(axis), grid.get(axis)) {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
            }
        }
    }
    let (elements, outputs) = (count(&windows.kernel)?, count(&windows.output)?);
    let places = Numbers::new(Elem::I64, vec![1, 1, elements, outputs], Data::Whole(places)).tensor(call.device)?;
    let (batch, channels) = (to.first().copied().unwrap_or(1), to.get(1).copied().unwrap_or(1));
    let best = columns.argmax(2).unsqueeze(2);
    let found = places.expand(&[batch, channels, elements, outputs]).gather(2, &best).reshape(&to);
    let images = call.device.arange(batch * channels, DType::I32) * stride;
    let first = images.reshape(&[&[batch, channels][..], &vec![1; axes]].concat());
    Ok(vec![Value::Tensor(y, elem), Value::Tensor(found + first, Elem::I64)])
}

fn lp(call: &Call<'_>) -> Outcome {
    let (x, shape, windows) = image(call)?;
    let (p, elem) = (call.int("p", 2)? as f64, call.elem(0)?);
    let y = unfolded(&x, &shape, &windows, 0.0)?.norm(p, 2);
    one(y.reshape(&result_shape(&shape, &windows)).cast(elem.dtype()), elem)
}

fn over_all(call: &Call<'_>, of: impl Fn(&Tensor, &[usize]) -> Tensor) -> Outcome {
    let (x, elem, rank) = (call.tensor(0)?, call.elem(0)?, call.shape(0)?.len());
    let axes: Vec<usize> = (2..rank).collect();
    one(of(&x.cast(DType::F32), &axes).cast(elem.dtype()), elem)
}

/// Elements back where a pooling took them from, zeros elsewhere.
fn max_unpool(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axes = shape.len().saturating_sub(2);
    let listed = |name: &str, default: usize, length: usize| -> Result<Vec<usize>, Trouble> {
        let list = call.sizes(name)?.unwrap_or_else(|| vec![default; length]);
        if list.len() == length { Ok(list) } else { wrong(format!("{name} {list:?} for {axes} axes")) }
    };
    let (kernel, stride, pads) =
        (listed("kernel_shape", 1, axes)?, listed("strides", 1, axes)?, listed("pads", 0, axes * 2)?);
    let at = |list: &[usize], axis: usize| list.get(axis).copied().unwrap_or(0);
    let size: Vec<usize> = (0..axes)
        .map(|axis| {
            let whole = (at(&shape, axis + 2) - 1) * at(&stride, axis) + at(&kernel, axis);
            whole.saturating_sub(at(&pads, axis) + at(&pads, axis + axes))
        })
        .collect();
    let (batch, channels) = (at(&shape, 0), at(&shape, 1));
    let whole = [&[batch, channels][..], &size].concat();
    let to = match call.has(2) {
        true => crate::onnx::call::sizes(&call.wholes(2)?, "output_shape")?,
        false => whole.clone(),
    };
    if to.len() != whole.len() || to.iter().zip(&whole).any(|(to, whole)| to < whole) {
        return unsupported(format!("a result of shape {to:?} for images of {whole:?}"));
    }
    let all = count(&whole)?;
    let flat = call.filled(&[all], 0.0, elem);
    let elements = count(&shape)?;
    let index = call.tensor(1)?.reshape(&[elements]);
    let put = flat.scatter(0, &index, &x.reshape(&[elements])).reshape(&whole);
    let pairs: Vec<(usize, usize)> = to.iter().zip(&whole).map(|(to, whole)| (0, to - whole)).collect();
    one(put.pad(&pairs, 0.0), elem)
}

const WINDOWS: &[&str] = &[
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "kernel_shape",
    "p",
    "pads",
    "storage_order",
    "strides",
];

/// Poolings.
pub const ROWS: &[Row] = &[
    Row::new("AveragePool", average).with(WINDOWS),
    Row::new("MaxPool", max).with(WINDOWS),
    Row::new("LpPool", lp).with(WINDOWS),
    Row::new("MaxUnpool", max_unpool).with(&["kernel_shape", "pads", "strides"]).knows(&[2]),
    Row::new("GlobalAveragePool", |call| over_all(call, |x, axes| x.mean_keep(axes))),
    Row::new("GlobalMaxPool", |call| over_all(call, |x, axes| x.max_keep(axes))),
    Row::new("GlobalLpPool", |call| {
        let p = call.int("p", 2)? as f64;
        over_all(call, |x, axes| x.norm_keep(p, axes))
    })
    .with(&["p"]),
];
