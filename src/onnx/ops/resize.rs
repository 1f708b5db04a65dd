//! Images in another size: along each axis a matrix of weights, made from ONNX's rules of where a result's element lies.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, places, sizes};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::{Data, Numbers, count};
use crate::onnx::ops::linear::times;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// How elements between others are found.
struct Rule {
    mode: String,
    place: String,
    nearest: String,
    cubic: f64,
    excludes: bool,
    antialias: bool,
    extrapolation: f64,
}

/// One axis: its lengths, the factor between them, and the part of the input that is shown.
#[derive(Clone, Copy)]
struct Line {
    input: usize,
    output: usize,
    scale: f64,
    roi: [f64; 2],
}

impl Rule {
    /// Where element `y` of the result lies on the input's axis.
    fn at(&self, y: usize, line: &Line) -> Result<f64, Trouble> {
        let (y, input) = (y as f64, line.input as f64);
        let whole = line.scale * input;
        let middle = (y + 0.5) / line.scale - 0.5;
        let [start, end] = line.roi;
        Ok(match self.place.as_str() {
            "half_pixel" => middle,
            "asymmetric" => y / line.scale,
            "align_corners" if whole == 1.0 => 0.0,
            "align_corners" => y * (input - 1.0) / (whole - 1.0),
            "pytorch_half_pixel" if whole == 1.0 => -0.5,
            "pytorch_half_pixel" => middle,
            "half_pixel_symmetric" => input / 2.0 * (1.0 - line.output as f64 / whole) + middle,
            "tf_crop_and_resize" if whole == 1.0 => (end - start) * (input - 1.0) / 2.0 + start * (input - 1.0),
            "tf_crop_and_resize" => start * (input - 1.0) + y * (end - start) * (input - 1.0) / (whole - 1.0),
            other => return wrong(format!("coordinate_transformation_mode is `{other}`")),
        })
    }

    /// The weight of an element at this distance.
    fn weight(&self, distance: f64) -> f64 {
        let (x, a) = (distance.abs(), self.cubic);
        match self.mode.as_str() {
            "cubic" if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            "cubic" if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            "cubic" => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }

    /// The element that is nearest to `x`.
    fn nearest(&self, x: f64, input: usize) -> Result<usize, Trouble> {
        let near = match self.nearest.as_str() {
            "round_prefer_floor" => (x - 0.5).ceil(),
            "round_prefer_ceil" => (x + 0.5).floor(),
            "floor" => x.floor(),
            "ceil" => x.ceil(),
            other => return wrong(format!("nearest_mode is `{other}`")),
        };
        Ok(near.clamp(0.0, input as f64 - 1.0) as usize)
    }

    /// What each element of the input weighs in element `y`, and what is added: the value outside, where it is.
    fn row(&self, y: usize, line: &Line) -> Result<(Vec<f64>, f64), Trouble> {
        let x = self.at(y, line)?;
        let last = line.input as f64 - 1.0;
        let mut row = vec![0.0; line.input];
        if self.place == "tf_crop_and_resize" && !(0.0..=last).contains(&x) {
            return Ok((row, self.extrapolation));
        }
        // Where a result has fewer elements, an antialiased one sees as many more of the input.
        let shrink = if self.antialias { line.scale.min(1.0) } else { 1.0 };
        let reach = (if self.mode == "cubic" { 2.0 } else { 1.0 }) / shrink;
        let mut sum = 0.0;
        for at in (x - reach).floor() as i64..=(x + reach).ceil() as i64 {
            let weight = self.weight((at as f64 - x) * shrink);
            let outside = at < 0 || at as f64 > last;
            if weight == 0.0 || outside && self.excludes {
                continue;
            }
            sum += weight;
            if let Some(place) = row.get_mut(at.clamp(0, last as i64) as usize) {
                *place += weight;
            }
        }
        row.iter_mut().for_each(|weight| *weight /= sum);
        Ok((row, 0.0))
    }
}

/// Axis `axis` of `x` in another length.
fn along(call: &Call<'_>, x: &Tensor, axis: usize, line: &Line, rule: &Rule) -> Result<Tensor, Trouble> {
    let shape = x.shape()?.to_vec();
    let weights = if rule.mode == "nearest" { 0 } else { line.output.saturating_mul(line.input) };
    if line.output > 1 << 16 || line.input > 1 << 16 || weights > 1 << 26 {
        return unsupported(format!("an axis of {} elements in {}", line.input, line.output));
    }
    if rule.mode == "nearest" {
        let mut index = vec![];
        let mut outside = vec![];
        for y in 0..line.output {
            let at = rule.at(y, line)?;
            outside.push(rule.place == "tf_crop_and_resize" && !(0.0..=line.input as f64 - 1.0).contains(&at));
            index.push(rule.nearest(at, line.input)? as u32);
        }
        let y = x.index_select(axis, &call.device.tensor(&index, &[index.len()]));
        if !outside.contains(&true) {
            return Ok(y);
        }
        let mut around = vec![1; shape.len()];
        if let Some(length) = around.get_mut(axis) {
            *length = line.output;
        }
        let mask = call.device.tensor(&outside, &around);
        return Ok(mask.where_(&call.device.full(&[], rule.extrapolation, DType::F32), &y));
    }
    let (mut weights, mut added) = (vec![], vec![]);
    for y in 0..line.output {
        let (row, more) = rule.row(y, line)?;
        weights.extend(row);
        added.push(more);
    }
    let matrix = Numbers::new(Elem::F32, vec![line.output, line.input], Data::Real(weights)).tensor(call.device)?;
    let (front, back) = (shape.get(..axis).unwrap_or_default(), shape.get(axis + 1..).unwrap_or_default());
    let (outer, inner) = (count(front)?, count(back)?);
    let y = match inner {
        1 => times(&x.reshape(&[outer, line.input]), &matrix.transpose(0, 1)),
        _ => times(&matrix, &x.reshape(&[outer, line.input, inner])),
    };
    let y = y.reshape(&[front, &[line.output], back].concat());
    if added.iter().all(|&more| more == 0.0) {
        return Ok(y);
    }
    let mut around = vec![1; shape.len()];
    if let Some(length) = around.get_mut(axis) {
        *length = line.output;
    }
    Ok(y + Numbers::new(Elem::F32, around, Data::Real(added)).tensor(call.device)?)
}

fn resized(call: &Call<'_>, lines: &[(usize, Line)], rule: &Rule) -> Outcome {
    let (x, elem) = (call.tensor(0)?, call.elem(0)?);
    let mut y = x.cast(DType::F32);
    for (axis, line) in lines {
        if line.output == 0 {
            return unsupported("a result without elements");
        }
        let is_same = line.output == line.input && line.scale == 1.0 && rule.place != "tf_crop_and_resize";
        if !is_same {
            y = along(call, &y, *axis, line, rule)?;
        }
    }
    one(y.cast(elem.dtype()), elem)
}

/// True for an input that is left out, or has no elements, which says the same.
fn is_empty(call: &Call<'_>, i: usize) -> Result<bool, Trouble> {
    Ok(!call.has(i) || count(&call.shape(i)?)? == 0)
}

fn resize(call: &Call<'_>) -> Outcome {
    let shape = call.shape(0)?;
    let axes = match call.ints("axes")? {
        Some(axes) => places(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let (roi, scales, wanted) = if call.node.version < 11 { (9, 1, 9) } else { (1, 2, 3) };
    let rule = Rule {
        mode: call.text("mode", "nearest")?,
        place: call
            .text("coordinate_transformation_mode", if call.node.version < 11 { "asymmetric" } else { "half_pixel" })?,
        nearest: call.text("nearest_mode", if call.node.version < 11 { "floor" } else { "round_prefer_floor" })?,
        cubic: call.float("cubic_coeff_a", -0.75)?,
        excludes: call.flag("exclude_outside", false)?,
        antialias: call.flag("antialias", false)?,
        extrapolation: call.float("extrapolation_value", 0.0)?,
    };
    let roi = if is_empty(call, roi)? { vec![] } else { call.known(roi)?.reals() };
    let input = |axis: &usize| shape.get(*axis).copied().unwrap_or(1);
    let lengths: Vec<(usize, f64)> = if is_empty(call, wanted)? {
        let scales = call.known(scales)?.reals();
        if scales.len() != axes.len() || scales.iter().any(|scale| !(1e-6..1e6).contains(scale)) {
            return wrong(format!("scales {scales:?} for {} axes", axes.len()));
        }
        axes.iter().zip(scales).map(|(axis, scale)| ((input(axis) as f64 * scale).floor() as usize, scale)).collect()
    } else {
        let wanted = sizes(&call.wholes(wanted)?, "sizes")?;
        if wanted.len() != axes.len() {
            return wrong(format!("sizes {wanted:?} for {} axes", axes.len()));
        }
        let scale = |(axis, &size): (&usize, &usize)| size as f64 / input(axis) as f64;
        let each: Vec<f64> = axes.iter().zip(&wanted).map(scale).collect();
        let shared = match call.text("keep_aspect_ratio_policy", "stretch")?.as_str() {
            "not_larger" => Some(each.iter().copied().fold(f64::INFINITY, f64::min)),
            "not_smaller" => Some(each.iter().copied().fold(0.0, f64::max)),
            _ => None,
        };
        let length = |((axis, &size), &own): ((&usize, &usize), &f64)| match shared {
            Some(scale) => ((scale * input(axis) as f64 + 0.5).floor() as usize, scale),
            None => (size, own),
        };
        axes.iter().zip(&wanted).zip(&each).map(length).collect()
    };
    let line = |(number, (&axis, &(output, scale))): (usize, (&usize, &(usize, f64)))| {
        let end = |half: usize, default: f64| roi.get(number + half * axes.len()).copied().unwrap_or(default);
        (axis, Line { input: input(&axis), output, scale, roi: [end(0, 0.0), end(1, 1.0)] })
    };
    let lines: Vec<(usize, Line)> = axes.iter().zip(&lengths).enumerate().map(line).collect();
    resized(call, &lines, &rule)
}

fn upsample(call: &Call<'_>) -> Outcome {
    use crate::onnx::call::Attribute;
    let shape = call.shape(0)?;
    let scales = match call.node.attributes.get("scales") {
        Some(Attribute::Floats(scales)) => scales.clone(),
        _ => call.known(1)?.reals(),
    };
    if scales.len() != shape.len() || scales.iter().any(|scale| !(1.0..1e6).contains(scale)) {
        return wrong(format!("scales {scales:?} for shape {shape:?}"));
    }
    let rule = Rule {
        mode: call.text("mode", "nearest")?,
        place: "asymmetric".into(),
        nearest: "floor".into(),
        cubic: -0.75,
        excludes: false,
        antialias: false,
        extrapolation: 0.0,
    };
    let line = |(axis, (&input, &scale)): (usize, (&usize, &f64))| {
        (axis, Line { input, output: (input as f64 * scale).floor() as usize, scale, roi: [0.0, 1.0] })
    };
    let lines: Vec<(usize, Line)> = shape.iter().zip(&scales).enumerate().map(line).collect();
    resized(call, &lines, &rule)
}

/// Sizes.
pub const ROWS: &[Row] = &[
    Row::new("Resize", resize)
        .with(&[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ])
        .knows(&[1, 2, 3]),
    Row::new("Upsample", upsample).with(&["mode", "scales"]).knows(&[1]),
];
