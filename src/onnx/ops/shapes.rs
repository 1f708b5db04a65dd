//! Ops that move elements without looking at them. What is known stays known.

use std::sync::Arc;

use crate::onnx::call::{Call, Outcome, Row, Value, known, one, place, places, sizes};
use crate::onnx::numbers::{MOST, Numbers, count, strides};
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// Input 0 in another shape.
fn reshaped(call: &Call<'_>, shape: Vec<usize>) -> Outcome {
    match call.value(0) {
        Value::Known(numbers) => known(numbers.reshaped(shape)?),
        _ => one(call.tensor(0)?.reshape(&shape), call.elem(0)?),
    }
}

fn identity(call: &Call<'_>) -> Outcome {
    match call.value(0) {
        Value::Absent => wrong("input 0 is missing"),
        value => Ok(vec![value.clone()]),
    }
}

/// Axes from an input, or before version `since` from an attribute.
pub fn axes(call: &Call<'_>, input: usize, name: &str) -> Result<Option<Vec<i64>>, Trouble> {
    if call.has(input) { call.wholes(input).map(Some) } else { call.ints(name) }
}

fn shape(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let rank = shape.len() as i64;
    let bound = |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize;
    let (start, end) = (bound(call.int("start", 0)?), bound(call.int("end", i64::MAX)?));
    let lengths = shape.get(start..end.max(start)).unwrap_or_default();
    known(Numbers::vector(lengths.iter().map(|&length| length as i64).collect()))
}

fn size(call: &Call<'_>) -> Outcome {
    let count = count(&call.shape(0)?)?;
    known(Numbers::vector(vec![count as i64]).reshaped(vec![])?)
}

fn reshape(call: &Call<'_>) -> Outcome {
    let from = call.shape(0)?;
    let wanted = if call.has(1) { call.wholes(1)? } else { call.ints("shape")?.unwrap_or_default() };
    let keeps_zeros = call.flag("allowzero", false)?;
    let mut shape = vec![];
    let mut free = None;
    for (axis, &length) in wanted.iter().enumerate() {
        match length {
            0 if !keeps_zeros => match from.get(axis) {
                Some(&length) => shape.push(length),
                None => return wrong(format!("shape {wanted:?} keeps axis {axis}, which {from:?} has not")),
            },
            -1 if free.is_none() => {
                free = Some(axis);
                shape.push(1);
            }
            length => shape.extend(sizes(&[length], "the shape")?),
        }
    }
    if let Some(axis) = free {
        let (all, rest) = (count(&from)?, count(&shape)?);
        if rest == 0 || !all.is_multiple_of(rest) {
            return wrong(format!("shape {from:?} cannot become {wanted:?}"));
        }
        if let Some(length) = shape.get_mut(axis) {
            *length = all / rest;
        }
    }
    reshaped(call, shape)
}

fn flatten(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axis = call.int("axis", 1)?;
    let rank = shape.len();
    let axis = if axis == rank as i64 { rank } else { place(axis, rank)? };
    let (front, back) = shape.split_at(axis);
    reshaped(call, vec![count(front)?, count(back)?])
}

fn squeeze(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let gone = match axes(call, 1, "axes")? {
        Some(axes) => places(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&axis| shape.get(axis) == Some(&1)).collect(),
    };
    if let Some(axis) = gone.iter().find(|&&axis| shape.get(axis) != Some(&1)) {
        return wrong(format!("axis {axis} of shape {shape:?} is not 1"));
    }
    let rest = shape.iter().enumerate().filter(|(axis, _)| !gone.contains(axis)).map(|(_, &length)| length);
    reshaped(call, rest.collect())
}

fn unsqueeze(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let Some(axes) = axes(call, 1, "axes")? else { return wrong("it names no axes") };
    let rank = shape.len() + axes.len();
    let mut new = places(&axes, rank)?;
    new.sort_unstable();
    new.dedup();
    if new.len() != axes.len() {
        return wrong(format!("axes {axes:?} name one twice"));
    }
    let mut old = shape.iter();
    let length = |axis| if new.contains(&axis) { Some(1) } else { old.next().copied() };
    reshaped(call, (0..rank).filter_map(length).collect())
}

fn transpose(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let rank = shape.len();
    let order = match call.ints("perm")? {
        Some(order) => places(&order, rank)?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return wrong(format!("perm {order:?} is no order of {rank} axes"));
    }
    match call.value(0) {
        Value::Known(numbers) if numbers.len() <= MOST => {
            let from = strides(&shape);
            let lengths = order.iter().filter_map(|&axis| shape.get(axis).copied()).collect();
            let along: Vec<usize> = order.iter().filter_map(|&axis| from.get(axis).copied()).collect();
            known(numbers.built(lengths, |index| index.iter().zip(&along).map(|(i, stride)| i * stride).sum())?)
        }
        _ => one(call.tensor(0)?.permute(&order), call.elem(0)?),
    }
}

/// The shape that two stretch to.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Trouble> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape.get(axis).copied().unwrap_or(1),
        None => 1,
    };
    let length = |axis| match (at(a, axis), at(b, axis)) {
        (1, length) | (length, 1) => Ok(length),
        (one, other) if one == other => Ok(one),
        _ => wrong(format!("shapes {a:?} and {b:?} do not stretch to one")),
    };
    (0..rank).map(length).collect()
}

fn expand(call: &Call<'_>) -> Outcome {
    let from = call.shape(0)?;
    let to = broadcast(&from, &sizes(&call.wholes(1)?, "the shape")?)?;
    count(&to)?;
    match call.value(0) {
        Value::Known(numbers) if count(&to)? <= 1 << 16 => {
            let lead = to.len() - from.len();
            let along: Vec<usize> = strides(&from)
                .iter()
                .zip(&from)
                .map(|(&stride, &length)| if length == 1 { 0 } else { stride })
                .collect();
            known(numbers.built(to, |index| index.iter().skip(lead).zip(&along).map(|(i, stride)| i * stride).sum())?)
        }
        _ => one(call.tensor(0)?.expand(&to), call.elem(0)?),
    }
}

fn concat(call: &Call<'_>) -> Outcome {
    let first = call.shape(0)?;
    let axis = call.axis("axis", 1, first.len())?;
    let parts: Option<Vec<&Arc<Numbers>>> = call
        .inputs
        .iter()
        .map(|value| match value {
            Value::Known(numbers) => Some(numbers),
            _ => None,
        })
        .collect();
    if let Some(parts) = parts.filter(|parts| parts.iter().map(|part| part.len()).sum::<usize>() <= MOST) {
        return known(joined(&parts, axis)?);
    }
    let mut tensors = vec![];
    for i in 0..call.inputs.len() {
        // Parts without elements add nothing.
        if count(&call.shape(i)?)? > 0 {
            tensors.push(call.tensor(i)?);
        }
    }
    one(Tensor::concat(&tensors.iter().collect::<Vec<_>>(), axis), call.elem(0)?)
}

/// Known arrays behind one another along `axis`.
fn joined(parts: &[&Arc<Numbers>], axis: usize) -> Result<Numbers, Trouble> {
    let Some(first) = parts.first() else { return wrong("it has no inputs") };
    let mut shape = first.shape.clone();
    let mut total = 0usize;
    for part in parts {
        let same = part.shape.len() == shape.len()
            && part.shape.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !same || part.elem != first.elem {
            return wrong(format!("shapes {:?} and {:?} cannot stand behind one another", first.shape, part.shape));
        }
        total = total.saturating_add(part.shape.get(axis).copied().unwrap_or(0));
    }
    if let Some(length) = shape.get_mut(axis) {
        *length = total;
    }
    let inner = count(shape.get(axis + 1..).unwrap_or_default())?;
    let outer = count(shape.get(..axis).unwrap_or_default())?;
    fn weave<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
        let rows = |row: usize| {
            parts.iter().flat_map(move |(values, run)| values.get(row * run..(row + 1) * run).unwrap_or_default())
        };
        (0..outer).flat_map(rows).copied().collect()
    }
    use crate::onnx::numbers::Data;
    let run = |part: &Numbers| part.shape.get(axis).copied().unwrap_or(0) * inner;
    let data = match &first.data {
        Data::Whole(_) => {
            let parts: Vec<(&[i64], usize)> = parts
                .iter()
                .filter_map(|part| match &part.data {
                    Data::Whole(values) => Some((&values[..], run(part))),
                    Data::Real(_) => None,
                })
                .collect();
            Data::Whole(weave(&parts, outer))
        }
        Data::Real(_) => {
            let parts: Vec<(&[f64], usize)> = parts
                .iter()
                .filter_map(|part| match &part.data {
                    Data::Real(values) => Some((&values[..], run(part))),
                    Data::Whole(_) => None,
                })
                .collect();
            Data::Real(weave(&parts, outer))
        }
    };
    Ok(Numbers::new(first.elem, shape, data))
}

fn split(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    let length = shape.get(axis).copied().unwrap_or(0);
    let lengths = match axes(call, 1, "split")? {
        Some(lengths) => sizes(&lengths, "split")?,
        None => {
            let outputs = call.node.outputs.len();
            let parts = usize::try_from(call.int("num_outputs", outputs as i64)?).unwrap_or(0);
            if parts == 0 || parts > length.max(1) {
                return wrong(format!("axis {axis} of shape {shape:?} has no {parts} parts"));
            }
            let each = length.div_ceil(parts);
            (0..parts).map(|part| each.min(length.saturating_sub(part * each))).collect()
        }
    };
    if lengths.iter().try_fold(0usize, |sum, &part| sum.checked_add(part)) != Some(length) {
        return wrong(format!("parts {lengths:?} are not axis {axis} of shape {shape:?}"));
    }
    let mut start = 0;
    let mut parts = vec![];
    for part in lengths {
        parts.push(cut(call.value(0), &shape, axis, start, part)?);
        start += part;
    }
    Ok(parts)
}

/// `length` elements of `axis` from `start` on.
fn cut(value: &Value, shape: &[usize], axis: usize, start: usize, length: usize) -> Result<Value, Trouble> {
    match value {
        Value::Known(numbers) => {
            let along = strides(shape);
            let mut to = shape.to_vec();
            if let Some(to) = to.get_mut(axis) {
                *to = length;
            }
            let skip = start * along.get(axis).copied().unwrap_or(0);
            let cut = numbers
                .built(to, |index| skip + index.iter().zip(&along).map(|(i, stride)| i * stride).sum::<usize>())?;
            Ok(Value::Known(Arc::new(cut)))
        }
        Value::Tensor(tensor, elem) if length > 0 => {
            let end = start + length;
            Ok(Value::Tensor(tensor.slice_step(axis, start as isize, end as isize, 1), *elem))
        }
        Value::Tensor(..) => unsupported("a part without elements"),
        Value::Absent => wrong("input 0 is missing"),
    }
}

fn tile(call: &Call<'_>) -> Outcome {
    let times = sizes(&call.wholes(1)?, "repeats")?;
    let shape = call.shape(0)?;
    if times.len() != shape.len() {
        return wrong(format!("{} repeats for shape {shape:?}", times.len()));
    }
    one(call.tensor(0)?.tile(&times), call.elem(0)?)
}

fn depth_to_space(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let block = usize::try_from(call.int("blocksize", 0)?).unwrap_or(0);
    let &[n, c, h, w] = &shape[..] else { return wrong(format!("shape {shape:?} is no [N, C, H, W]")) };
    let square = block.saturating_mul(block);
    if square == 0 || !c.is_multiple_of(square) {
        return wrong(format!("{c} channels have no blocks of {block}"));
    }
    let deep = c / square;
    let y = match call.text("mode", "DCR")?.as_str() {
        "CRD" => x.reshape(&[n, deep, block, block, h, w]).permute(&[0, 1, 4, 2, 5, 3]),
        _ => x.reshape(&[n, block, block, deep, h, w]).permute(&[0, 3, 4, 1, 5, 2]),
    };
    one(y.reshape(&[n, deep, h * block, w * block]), elem)
}

fn space_to_depth(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let block = usize::try_from(call.int("blocksize", 0)?).unwrap_or(0);
    let &[n, c, h, w] = &shape[..] else { return wrong(format!("shape {shape:?} is no [N, C, H, W]")) };
    if block == 0 || !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return wrong(format!("shape {shape:?} has no blocks of {block}"));
    }
    let blocks = x.reshape(&[n, c, h / block, block, w / block, block]);
    let y = match call.text("mode", "DCR")?.as_str() {
        "CRD" => blocks.permute(&[0, 1, 3, 5, 2, 4]),
        _ => blocks.permute(&[0, 3, 5, 1, 2, 4]),
    };
    one(y.reshape(&[n, c * block * block, h / block, w / block]), elem)
}

/// Views, and what copies elements.
pub const ROWS: &[Row] = &[
    Row::new("Identity", identity).native(),
    Row::new("Shape", shape).with(&["start", "end"]).native(),
    Row::new("Size", size).native(),
    Row::new("Reshape", reshape).with(&["allowzero", "shape"]).knows(&[1]).native(),
    Row::new("Flatten", flatten).with(&["axis"]).native(),
    Row::new("Squeeze", squeeze).with(&["axes"]).knows(&[1]).native(),
    Row::new("Unsqueeze", unsqueeze).with(&["axes"]).knows(&[1]).native(),
    Row::new("Transpose", transpose).with(&["perm"]).native(),
    Row::new("Expand", expand).knows(&[1]).native(),
    Row::new("Concat", concat).with(&["axis"]).native(),
    Row::new("Split", split).with(&["axis", "split", "num_outputs"]).knows(&[1]).native(),
    Row::new("Tile", tile).knows(&[1]),
    Row::new("DepthToSpace", depth_to_space).with(&["blocksize", "mode"]),
    Row::new("SpaceToDepth", space_to_depth).with(&["blocksize", "mode"]),
];
