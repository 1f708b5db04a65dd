//! Tensors from nothing but sizes and numbers.

use std::f64::consts::PI;

use crate::onnx::call::{Attribute, Call, Outcome, Row, Value, known, one, sizes};
use crate::onnx::elem::Elem;
use crate::onnx::graph::numbers_of;
use crate::onnx::numbers::{Data, MOST, Numbers, count, rounded};
use crate::onnx::ops::types::named;
use crate::onnx::trouble::{unsupported, wrong};

fn constant(call: &Call<'_>) -> Outcome {
    let floats = |values: &[f64], shape| Numbers::new(Elem::F32, shape, Data::Real(values.to_vec()));
    let Some((name, attribute)) = call.node.attributes.first_key_value() else { return wrong("it has no value") };
    match (name.as_str(), attribute) {
        ("value", Attribute::Numbers(numbers)) => Ok(vec![Value::Known(numbers.clone())]),
        ("value_int", Attribute::Int(value)) => known(Numbers::new(Elem::I64, vec![], Data::Whole(vec![*value]))),
        ("value_ints", Attribute::Ints(values)) => known(Numbers::vector(values.clone())),
        ("value_float", Attribute::Float(value)) => known(floats(&[*value], vec![])),
        ("value_floats", Attribute::Floats(values)) => known(floats(values, vec![values.len()])),
        (name, _) => unsupported(format!("a constant by `{name}`")),
    }
}

/// Numbers as known ones where they are few, else as a tensor.
fn filled(call: &Call<'_>, shape: Vec<usize>, value: f64, elem: Elem) -> Outcome {
    let elements = count(&shape)?;
    if elements > 1 << 16 {
        return one(call.filled(&shape, value, elem), elem);
    }
    let data =
        if elem.is_float() { Data::Real(vec![value; elements]) } else { Data::Whole(vec![value as i64; elements]) };
    known(Numbers::new(elem, shape, data))
}

fn constant_of_shape(call: &Call<'_>) -> Outcome {
    let shape = sizes(&call.wholes(0)?, "the shape")?;
    let (value, elem) = match numbers_of(call.node.attributes.get("value")) {
        Some(numbers) => (numbers.reals().first().copied().unwrap_or(0.0), numbers.elem),
        None => (0.0, Elem::F32),
    };
    filled(call, shape, value, elem)
}

fn range(call: &Call<'_>) -> Outcome {
    let (start, limit, step) = (call.number(0)?, call.number(1)?, call.number(2)?);
    let elem = call.elem(0)?;
    let length = ((limit - start) / step).ceil().max(0.0);
    if !length.is_finite() || length > MOST as f64 {
        return wrong(format!("from {start} to {limit} by {step} there are {length} numbers"));
    }
    let at = |i: usize| start + step * i as f64;
    let data = match elem.is_float() {
        true => Data::Real((0..length as usize).map(|i| rounded(at(i), elem)).collect()),
        false => Data::Whole((0..length as usize).map(|i| at(i) as i64).collect()),
    };
    known(Numbers::new(elem, vec![length as usize], data))
}

fn eye_like(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let &[rows, columns] = &shape[..] else { return wrong(format!("shape {shape:?} is no matrix")) };
    let elem = named(call, "dtype")?.unwrap_or(call.elem(0)?);
    let offset = call.int("k", 0)?;
    if count(&shape)? > MOST {
        return unsupported(format!("a matrix of shape {shape:?}"));
    }
    let is_on = |row: usize, column: usize| column as i64 - row as i64 == offset;
    let ones = (0..rows).flat_map(|row| (0..columns).map(move |column| i64::from(is_on(row, column))));
    known(Numbers::new(Elem::I64, shape.clone(), Data::Whole(ones.collect())).cast(elem))
}

/// A window of cosines with these weights.
fn window(call: &Call<'_>, weights: [f64; 3]) -> Outcome {
    let size = sizes(&call.wholes(0)?, "the size")?.first().copied().unwrap_or(0);
    let elem = named(call, "output_datatype")?.unwrap_or(Elem::F32);
    if size > MOST {
        return wrong(format!("a window of {size} elements"));
    }
    let around = if call.flag("periodic", true)? { size } else { size.max(2) - 1 } as f64;
    let at = |i: usize| {
        let angle = 2.0 * PI * i as f64 / around;
        let [a, b, c] = weights;
        a - b * angle.cos() + c * (2.0 * angle).cos()
    };
    known(Numbers::new(Elem::F64, vec![size], Data::Real((0..size).map(at).collect())).cast(elem))
}

/// Triangles that gather the lines of a spectrum into bands of equal width as the ear hears them.
fn mel(call: &Call<'_>) -> Outcome {
    let one = |i: usize| call.number(i);
    let (bands, length, rate, low, high) = (one(0)?, one(1)?, one(2)?, one(3)?, one(4)?);
    let elem = named(call, "output_datatype")?.unwrap_or(Elem::F32);
    if !(1.0..=65_536.0).contains(&bands) || !(1.0..=1_048_576.0).contains(&length) {
        return wrong(format!("{bands} bands of {length} lines"));
    }
    let lines = (length / 2.0).floor() as usize + 1;
    let to_mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (least, most) = (to_mel(low), to_mel(high));
    let step = (most - least) / (bands + 2.0);
    let bins: Vec<i64> = (0..bands as usize + 2)
        .map(|i| {
            let hertz = 700.0 * (10f64.powf((i as f64 * step + least) / 2595.0) - 1.0);
            ((length + 1.0) * hertz / rate).floor().clamp(-1e9, 1e9) as i64
        })
        .collect();
    let bands = bands as usize;
    if count(&[lines, bands])? > MOST {
        return wrong(format!("{bands} bands of {lines} lines"));
    }
    let mut weights = vec![0.0; count(&[lines, bands])?];
    for band in 0..bands {
        let &[left, centre, right] = bins.get(band..band + 3).unwrap_or_default() else { continue };
        for line in left.max(0)..=right.min(lines as i64 - 1) {
            let weight = match line {
                _ if line == centre => 1.0,
                _ if line < centre => (line - left) as f64 / (centre - left) as f64,
                _ => (right - line) as f64 / (right - centre) as f64,
            };
            if let Some(place) = weights.get_mut(line as usize * bands + band) {
                *place = weight;
            }
        }
    }
    known(Numbers::new(Elem::F64, vec![lines, bands], Data::Real(weights)).cast(elem))
}

/// Numbers that are drawn anew in each pass, of the shape that input 0 has or attribute `shape` says.
fn drawn(call: &Call<'_>, is_like: bool, is_normal: bool) -> Outcome {
    let shape = if is_like { call.shape(0)? } else { call.sizes("shape")?.unwrap_or_default() };
    let like = if is_like { Some(call.elem(0)?) } else { None };
    let elem = named(call, "dtype")?.or(like).unwrap_or(Elem::F32);
    let numbers = match is_normal {
        true => call.device.randn(&shape, call.draws) * call.float("scale", 1.0)? + call.float("mean", 0.0)?,
        false => {
            let (low, high) = (call.float("low", 0.0)?, call.float("high", 1.0)?);
            call.device.rand(&shape, call.draws) * (high - low) + low
        }
    };
    one(numbers.cast(elem.dtype()), elem)
}

fn bernoulli(call: &Call<'_>) -> Outcome {
    let elem = named(call, "dtype")?.unwrap_or(call.elem(0)?);
    one(call.tensor(0)?.cast(crate::dtype::DType::F32).bernoulli(call.draws).cast(elem.dtype()), elem)
}

/// Constants and draws.
pub const ROWS: &[Row] = &[
    Row::new("Constant", constant).with(&["value", "value_int", "value_ints", "value_float", "value_floats"]).native(),
    Row::new("ConstantOfShape", constant_of_shape).with(&["value"]).knows(&[0]).native(),
    Row::new("Range", range).knows(&[0, 1, 2]).native(),
    Row::new("EyeLike", eye_like).with(&["dtype", "k"]).native(),
    Row::new("HannWindow", |call| window(call, [0.5, 0.5, 0.0])).with(&["output_datatype", "periodic"]).native(),
    Row::new("HammingWindow", |call| window(call, [25.0 / 46.0, 21.0 / 46.0, 0.0]))
        .with(&["output_datatype", "periodic"])
        .native(),
    Row::new("BlackmanWindow", |call| window(call, [0.42, 0.5, 0.08])).with(&["output_datatype", "periodic"]).native(),
    Row::new("MelWeightMatrix", mel).with(&["output_datatype"]).native(),
    Row::new("RandomNormal", |call| drawn(call, false, true))
        .with(&["dtype", "mean", "scale", "seed", "shape"])
        .random(),
    Row::new("RandomNormalLike", |call| drawn(call, true, true)).with(&["dtype", "mean", "scale", "seed"]).random(),
    Row::new("RandomUniform", |call| drawn(call, false, false))
        .with(&["dtype", "high", "low", "seed", "shape"])
        .random(),
    Row::new("RandomUniformLike", |call| drawn(call, true, false)).with(&["dtype", "high", "low", "seed"]).random(),
    Row::new("Bernoulli", bernoulli).with(&["dtype", "seed"]).random(),
];
