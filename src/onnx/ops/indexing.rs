//! Ops that pick and put elements by their places.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value, known, one, place, places, sizes};
use crate::onnx::numbers::{Data, MOST, Numbers, count, strides};
use crate::onnx::ops::shapes::axes;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::ops::scatter::ScatterReduction;
use crate::ops::walk::PadMode;
use crate::tensor::Tensor;

/// The index that input `i` is, counted from the front: negative ones count from the end of `length` elements.
pub fn index(call: &Call<'_>, i: usize, length: usize) -> Result<Tensor, Trouble> {
    let Value::Known(numbers) = call.value(i) else {
        let index = call.tensor(i)?;
        return Ok(match index.dtype()? {
            DType::I32 => index.lt(0).where_(&(&index + length), &index),
            _ => index,
        });
    };
    let wholes = numbers.wholes()?;
    let from_front: Vec<i64> = wholes.iter().map(|&at| if at < 0 { at + length as i64 } else { at }).collect();
    if let Some(at) = from_front.iter().find(|&&at| at < 0 || at >= length as i64) {
        return wrong(format!("index {at} leaves an axis of {length} elements"));
    }
    // Uploaded once, not in each pass.
    if from_front == wholes {
        return numbers.tensor(call.device);
    }
    Numbers::new(numbers.elem, numbers.shape.clone(), Data::Whole(from_front)).tensor(call.device)
}

/// The elements of input 0 at these places among all of them, as `shape`.
pub fn picked(call: &Call<'_>, from: &[usize], shape: &[usize]) -> Outcome {
    let x = call.tensor(0)?;
    let all = count(&call.shape(0)?)?;
    let places: Vec<u32> = from.iter().map(|&at| u32::try_from(at).unwrap_or(u32::MAX)).collect();
    let places = call.device.tensor(&places, &[places.len()]);
    one(x.reshape(&[all]).index_select(0, &places).reshape(shape), call.elem(0)?)
}

fn gather(call: &Call<'_>) -> Outcome {
    let (shape, at) = (call.shape(0)?, call.shape(1)?);
    let axis = call.axis("axis", 0, shape.len())?;
    let length = shape.get(axis).copied().unwrap_or(0);
    let (front, back) = (shape.get(..axis).unwrap_or_default(), shape.get(axis + 1..).unwrap_or_default());
    let to = [front, &at, back].concat();
    if let (Value::Known(numbers), Value::Known(index), true) = (call.value(0), call.value(1), count(&to)? <= MOST) {
        let (outer, inner) = (count(front)?, count(back)?);
        let (mut places, wholes) = (vec![], index.wholes()?);
        for row in 0..outer {
            for &at in &wholes {
                let at = place(at, length)?;
                let first = (row * length + at) * inner;
                places.extend(first..first + inner);
            }
        }
        return known(numbers.pick(&places, to)?);
    }
    let index = index(call, 1, length)?;
    let flat = index.reshape(&[count(&at)?]);
    one(call.tensor(0)?.index_select(axis, &flat).reshape(&to), call.elem(0)?)
}

fn gather_elements(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    let index = index(call, 1, shape.get(axis).copied().unwrap_or(0))?;
    one(call.tensor(0)?.gather(axis, &index), call.elem(0)?)
}

/// Tuples of indices, the last axis of input 1, as places among the first axes of input 0 behind `batch` shared ones: a vector.
fn linear(call: &Call<'_>, batch: usize) -> Result<(Tensor, usize), Trouble> {
    let (shape, at) = (call.shape(0)?, call.shape(1)?);
    let Some((&length, rows)) = at.split_last() else { return wrong("its indices have no axes") };
    if batch + length > shape.len() || batch > rows.len() || length == 0 {
        return wrong(format!("indices of shape {at:?} for shape {shape:?}"));
    }
    let all = call.tensor(1)?.cast(DType::I32);
    let count_rows = count(rows)?;
    let axes = shape.get(batch..batch + length).unwrap_or_default();
    let mut place: Option<Tensor> = None;
    for (number, &along) in axes.iter().enumerate() {
        let part = all.slice_step(rows.len(), number as isize, number as isize + 1, 1).reshape(&[count_rows]);
        let part = part.lt(0).where_(&(&part + along), &part);
        place = Some(match place {
            None => part,
            Some(before) => before * along + part,
        });
    }
    let Some(mut place) = place else { return wrong("its indices are empty") };
    let (shared, inner) = (rows.get(..batch).unwrap_or_default(), count(axes)?);
    if batch > 0 {
        let groups = count(shared)?;
        let each = count_rows / groups.max(1);
        let first = call.device.arange(groups, DType::I32).repeat_interleave(0, each) * inner;
        place += first;
    }
    Ok((place, batch + length))
}

fn gather_nd(call: &Call<'_>) -> Outcome {
    let batch = usize::try_from(call.int("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (shape, at) = (call.shape(0)?, call.shape(1)?);
    if batch > shape.len().min(at.len()) {
        return wrong(format!("batch_dims is {batch}"));
    }
    let (place, taken) = linear(call, batch)?;
    let back = shape.get(taken..).unwrap_or_default();
    let front = at.get(..at.len().saturating_sub(1)).unwrap_or_default();
    let table = call.tensor(0)?.reshape(&[count(shape.get(..taken).unwrap_or_default())?, count(back)?]);
    one(table.index_select(0, &place).reshape(&[front, back].concat()), call.elem(0)?)
}

/// How elements that meet become one; `None` for the last one.
fn reduction(call: &Call<'_>) -> Result<Option<ScatterReduction>, Trouble> {
    Ok(match call.text("reduction", "none")?.as_str() {
        "none" => None,
        "add" => Some(ScatterReduction::Sum),
        "mul" => Some(ScatterReduction::Product),
        "max" => Some(ScatterReduction::Max),
        "min" => Some(ScatterReduction::Min),
        other => return unsupported(format!("reduction `{other}`")),
    })
}

fn scatter_elements(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    let index = index(call, 1, shape.get(axis).copied().unwrap_or(0))?;
    let (x, source, elem) = (call.tensor(0)?, call.tensor(2)?, call.elem(0)?);
    match reduction(call)? {
        None => one(x.scatter(axis, &index, &source), elem),
        Some(by) => one(x.scatter_reduce(axis, &index, &source, by, true), elem),
    }
}

fn scatter_nd(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let (place, taken) = linear(call, 0)?;
    let rows = place.shape()?.first().copied().unwrap_or(0);
    let (front, back) = (shape.get(..taken).unwrap_or_default(), shape.get(taken..).unwrap_or_default());
    let inner = count(back)?;
    let (table, elem) = (call.tensor(0)?.reshape(&[count(front)?, inner]), call.elem(0)?);
    let source = call.tensor(2)?.reshape(&[rows, inner]);
    let index = place.reshape(&[rows, 1]).expand(&[rows, inner]);
    let put = match reduction(call)? {
        None => table.scatter(0, &index, &source),
        Some(by) => table.scatter_reduce(0, &index, &source, by, true),
    };
    one(put.reshape(&shape), elem)
}

/// Starts, ends, axes and steps are inputs, and before version 10 attributes.
fn slice(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let rank = shape.len();
    let (starts, ends) = match (call.ints("starts")?, call.ints("ends")?) {
        (Some(starts), Some(ends)) => (starts, ends),
        _ => (call.wholes(1)?, call.wholes(2)?),
    };
    let named = axes(call, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let named = places(&named, rank)?;
    let steps = if call.has(4) { call.wholes(4)? } else { vec![1; starts.len()] };
    if ends.len() != starts.len() || named.len() != starts.len() || steps.len() != starts.len() {
        return wrong("starts, ends, axes and steps are of different lengths");
    }
    if let Value::Known(numbers) = call.value(0)
        && numbers.len() <= MOST
    {
        let mut rule: Vec<(i64, i64)> = vec![(0, 1); rank];
        let mut to = shape.clone();
        for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&named).zip(&steps) {
            let length = shape.get(axis).copied().unwrap_or(0) as i64;
            if step == 0 {
                return wrong("a step is 0");
            }
            let (low, high) = if step < 0 { (-1, length - 1) } else { (0, length) };
            let within = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
            let (first, last) = (within(start), within(end));
            let span = if step > 0 { last - first } else { first - last };
            let size = span.max(0).unsigned_abs().div_ceil(step.unsigned_abs()) as usize;
            if let (Some(rule), Some(to)) = (rule.get_mut(axis), to.get_mut(axis)) {
                (*rule, *to) = ((first, step), size);
            }
        }
        let along = strides(&shape);
        return known(numbers.built(to, |index| {
            index
                .iter()
                .zip(&rule)
                .zip(&along)
                .map(|((&i, (first, step)), stride)| {
                    usize::try_from(first + step * i as i64).unwrap_or(usize::MAX).saturating_mul(*stride)
                })
                .fold(0, usize::saturating_add)
        })?);
    }
    let mut x = call.tensor(0)?;
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&named).zip(&steps) {
        x = x.slice_step(axis, start as isize, end as isize, step as isize);
    }
    one(x, call.elem(0)?)
}

/// Pairs around each axis, as inputs or before version 11 as attributes; negative ones cut.
fn pad(call: &Call<'_>) -> Outcome {
    let (shape, elem) = (call.shape(0)?, call.elem(0)?);
    let rank = shape.len();
    let given = match call.ints("pads")? {
        Some(pads) => pads,
        None => call.wholes(1)?,
    };
    let axes: Vec<usize> = if call.has(3) { places(&call.wholes(3)?, rank)? } else { (0..rank).collect() };
    if given.len() != axes.len() * 2 {
        return wrong(format!("{} pads for {} axes", given.len(), axes.len()));
    }
    let mut x = call.tensor(0)?;
    let mut pairs = vec![(0, 0); rank];
    for (number, &axis) in axes.iter().enumerate() {
        let before = given.get(number).copied().unwrap_or(0);
        let after = given.get(number + axes.len()).copied().unwrap_or(0);
        let length = shape.get(axis).copied().unwrap_or(0) as i64;
        if before < 0 || after < 0 {
            let (start, end) = (before.min(0).saturating_neg(), length.saturating_add(after.min(0)));
            x = x.slice_step(axis, start as isize, end.max(0) as isize, 1);
        }
        if let Some(pair) = pairs.get_mut(axis) {
            *pair = (before.max(0) as usize, after.max(0) as usize);
        }
    }
    let value = if call.has(2) { call.number(2)? } else { call.float("value", 0.0)? };
    let mode = match call.text("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Replicate,
        "wrap" => PadMode::Circular,
        other => return unsupported(format!("mode `{other}`")),
    };
    one(x.pad_with(&pairs, mode), elem)
}

fn trilu(call: &Call<'_>) -> Outcome {
    let offset = if call.has(1) { call.number(1)? as isize } else { 0 };
    let (x, elem) = (call.tensor(0)?, call.elem(0)?);
    one(if call.flag("upper", true)? { x.triu(offset) } else { x.tril(offset) }, elem)
}

fn one_hot(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let depth = sizes(&call.wholes(1)?, "the depth")?.first().copied().unwrap_or(0);
    let axis = place(call.int("axis", -1)?, shape.len() + 1)?;
    let (values, elem) = (call.tensor(2)?, call.elem(2)?);
    if call.shape(2)? != [2] {
        return wrong("its values are not two: off and on");
    }
    let index = call.tensor(0)?.cast(DType::I32);
    let index = index.lt(0).where_(&(&index + depth), &index).unsqueeze(axis);
    let mut around = vec![1; shape.len() + 1];
    if let Some(length) = around.get_mut(axis) {
        *length = depth;
    }
    let classes = call.device.arange(depth, DType::I32).reshape(&around);
    let side = |number: isize| values.slice_step(0, number, number + 1, 1).reshape(&[]);
    one(index.eq(&classes).where_(&side(1), &side(0)), elem)
}

fn compress(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let kept: Vec<u32> =
        (0u32..).zip(call.wholes(1)?).filter(|(_, keep)| *keep != 0).map(|(number, _)| number).collect();
    let index = call.device.tensor(&kept, &[kept.len()]);
    let x = call.tensor(0)?;
    if call.says("axis") {
        let axis = call.axis("axis", 0, shape.len())?;
        return one(x.index_select(axis, &index), call.elem(0)?);
    }
    one(x.reshape(&[count(&shape)?]).index_select(0, &index), call.elem(0)?)
}

fn reverse_sequence(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let (time, batch) = (call.axis("time_axis", 0, shape.len())?, call.axis("batch_axis", 1, shape.len())?);
    let lengths = sizes(&call.wholes(1)?, "the lengths")?;
    let steps = shape.get(time).copied().unwrap_or(0);
    if Some(&lengths.len()) != shape.get(batch) || lengths.iter().any(|&length| length > steps) {
        return wrong(format!("lengths {lengths:?} for shape {shape:?}"));
    }
    let along = strides(&shape);
    let all: Vec<i64> = (0..count(&shape)? as i64).collect();
    let of = |index: &[usize]| {
        let mut from = index.to_vec();
        let length = index.get(batch).and_then(|&row| lengths.get(row)).copied().unwrap_or(0);
        if let Some(step) = from.get_mut(time).filter(|step| **step < length) {
            *step = length - 1 - *step;
        }
        from.iter().zip(&along).map(|(i, stride)| i * stride).sum()
    };
    let places = Numbers::vector(all).built(shape.clone(), of)?;
    picked(call, &sizes(&places.wholes()?, "places")?, &shape)
}

/// A window of `shape` in the middle of input 0, zeros where it is larger.
fn center_crop_pad(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axes = match call.ints("axes")? {
        Some(axes) => places(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let wanted = sizes(&call.wholes(1)?, "the shape")?;
    if wanted.len() != axes.len() {
        return wrong(format!("shape {wanted:?} for {} axes", axes.len()));
    }
    let mut x = call.tensor(0)?;
    let mut pairs = vec![(0, 0); shape.len()];
    for (&axis, &length) in axes.iter().zip(&wanted) {
        let there = shape.get(axis).copied().unwrap_or(0);
        if length < there {
            let start = (there - length) / 2;
            x = x.slice_step(axis, start as isize, (start + length) as isize, 1);
        } else if let Some(pair) = pairs.get_mut(axis) {
            let more = length - there;
            *pair = (more / 2, more - more / 2);
        }
    }
    one(x.pad(&pairs, 0.0), call.elem(0)?)
}

/// Picking and putting.
pub const ROWS: &[Row] = &[
    Row::new("Gather", gather).with(&["axis"]).native(),
    Row::new("GatherElements", gather_elements).with(&["axis"]),
    Row::new("GatherND", gather_nd).with(&["batch_dims"]),
    Row::new("Scatter", scatter_elements).with(&["axis"]),
    Row::new("ScatterElements", scatter_elements).with(&["axis", "reduction"]),
    Row::new("ScatterND", scatter_nd).with(&["reduction"]),
    Row::new("Slice", slice).with(&["starts", "ends", "axes"]).knows(&[1, 2, 3, 4]).native(),
    Row::new("Pad", pad).with(&["mode", "pads", "value"]).knows(&[1, 2, 3]),
    Row::new("Trilu", trilu).with(&["upper"]).knows(&[1]),
    Row::new("OneHot", one_hot).with(&["axis"]).knows(&[1]),
    Row::new("Compress", compress).with(&["axis"]).knows(&[1]),
    Row::new("ReverseSequence", reverse_sequence).with(&["batch_axis", "time_axis"]).knows(&[1]),
    Row::new("CenterCropPad", center_crop_pad).with(&["axes"]).knows(&[1]),
];
