//! Normalisations. Rows were made of a value's axes by a reshape; where ONNX's op says the same of the axes, they leave without it.

use std::sync::Arc;

use super::{Site, beneath_views, float, input_of, int, lengths_of, op_of, reduced};
use crate::dtype::DType;
use crate::graph::Node;
use crate::onnx::writer::{Also, Writer};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::concat::Concat;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::view::{Detach, Expand, Reshape};

/// A normalised value with the axes that it had before it was reshaped to rows.
#[derive(Debug, Clone)]
pub struct Normal {
    /// Its name.
    pub name: String,
    /// For each axis its lengths in the recordings.
    pub lengths: Vec<Vec<i64>>,
    /// What it is of groups of channels.
    pub groups: Option<Groups>,
}

/// A normalisation over groups of channels.
#[derive(Debug, Clone)]
pub struct Groups {
    x: String,
    rank: usize,
    channels: usize,
    groups: usize,
    epsilon: f64,
    scale: Option<String>,
    bias: Option<String>,
}

impl Groups {
    /// True if the version has an op for it.
    fn fits(&self, opset: i64) -> bool {
        opset >= 21 || self.groups == self.channels
    }

    fn write(&self, writer: &mut Writer<'_>) -> String {
        let mut side = |given: &Option<String>, value: f64| match given {
            Some(name) => name.clone(),
            None => writer.constant(DType::F32, &[self.channels], &vec![value; self.channels]),
        };
        let (scale, bias) = (side(&self.scale, 1.0), side(&self.bias, 0.0));
        let inputs = [self.x.as_str(), &scale, &bias];
        let epsilon = float("epsilon", self.epsilon);
        match self.groups == self.channels {
            true => writer.add("InstanceNormalization", &inputs, vec![epsilon]),
            false => writer.add("GroupNormalization", &inputs, vec![epsilon, int("num_groups", self.groups as i64)]),
        }
    }

    /// The name of a value for each channel: what `node` is a view of, if it has an element for each and lies along their axis.
    fn side(&self, writer: &Writer<'_>, node: &Arc<Node>) -> Option<String> {
        let mut view = node.clone();
        while op_of::<Expand>(&view).is_some() {
            view = input_of(&view, 0)?;
        }
        let (dims, leaf) = (view.meta.shape.to_vec(), beneath_views(&view));
        let is_along = dims.len().checked_sub(self.rank - 1).and_then(|axis| dims.get(axis)) == Some(&self.channels);
        let is_one = dims.iter().product::<usize>() == self.channels;
        (is_along && is_one && leaf.meta.shape[..] == [self.channels]).then(|| writer.known(&leaf)).flatten()
    }
}

/// A weight or a bias behind a normalisation of groups, as a part of it.
pub fn moved(writer: &mut Writer<'_>, site: &Site<'_>, op: &str) -> Option<String> {
    if op != "mul" && op != "add" {
        return None;
    }
    for (value, side) in [(0, 1), (1, 0)] {
        let (Some(value), Some(side)) = (site.inputs.get(value), site.inputs.get(side)) else { continue };
        let Some(Also::Groups(groups)) = writer.also(value).cloned() else { continue };
        let Some(name) = groups.side(writer, side) else { continue };
        let groups = match op {
            "mul" if groups.scale.is_none() && groups.bias.is_none() => Groups { scale: Some(name), ..groups },
            "add" if groups.bias.is_none() => Groups { bias: Some(name), ..groups },
            _ => continue,
        };
        if !groups.fits(writer.opset) {
            continue;
        }
        let name = groups.write(writer);
        writer.is_also(site.node, Also::Groups(groups));
        return Some(name);
    }
    None
}

/// Normalisations of rows and of channels.
pub fn op(writer: &mut Writer<'_>, site: &Site<'_>) -> Option<Result<String, String>> {
    if let Some(norm) = site.is::<LayerNorm>() {
        return Some(Ok(rows(writer, site, norm)));
    }
    site.is::<BatchNorm>().map(|norm| channels(writer, site, norm))
}

/// What rows are rows of: a value, and its axes from `axis` on.
struct Rows {
    x: String,
    lengths: Vec<Vec<i64>>,
    /// The first axis of a row, and the lengths from there on.
    inner: Option<(usize, Vec<usize>)>,
    groups: Option<Groups>,
    is_reshaped: bool,
}

fn beneath(writer: &Writer<'_>, site: &Site<'_>, norm: &LayerNorm) -> Rows {
    let own = site.input_lengths(0);
    let [count, length] = [0, 1].map(|axis| own.get(axis).cloned().unwrap_or_default());
    let first = site.inputs.first().filter(|input| op_of::<Reshape>(input).is_some());
    let before: Vec<_> = match first {
        Some(_) => site.all_inputs(0).iter().filter_map(|node| input_of(node, 0)).collect(),
        None => vec![],
    };
    let (x, lengths, is_reshaped) = match before.first().and_then(|first| writer.known(first)) {
        Some(name) => (name, lengths_of(before.iter()), true),
        None => (site.name(0).to_string(), own, false),
    };
    let fixed = |values: &Vec<i64>| values.iter().all(|&value| value == values[0]).then(|| values[0] as usize);
    let product = |axes: &[Vec<i64>], number: usize| -> i64 { axes.iter().map(|values| values[number]).product() };
    let weight =
        if norm.weight { site.inputs.get(1).map(|weight| beneath_views(weight).meta.shape.to_vec()) } else { None };
    let inner = (1..lengths.len()).rev().find_map(|axis| {
        let axes = &lengths[axis..];
        let is_whole = length.iter().enumerate().all(|(number, &length)| product(axes, number) == length);
        let inner: Vec<usize> = axes.iter().map(fixed).collect::<Option<_>>()?;
        (is_whole && weight.as_ref().is_none_or(|weight| *weight == inner)).then_some((axis, inner))
    });
    let groups = || {
        let (rank, channels) = (lengths.len(), fixed(lengths.get(1)?)?);
        let times: Vec<i64> = count.iter().zip(&lengths[0]).map(|(rows, batch)| rows / batch.max(&1)).collect();
        let groups = fixed(&times)?;
        let is_whole = count.iter().zip(&lengths[0]).all(|(rows, batch)| *rows == groups as i64 * batch);
        let is_plain = norm.centred && !norm.weight && !norm.bias && rank > 2 && is_reshaped;
        let fits = is_plain && is_whole && groups > 0 && channels % groups == 0;
        let (x, epsilon) = (x.clone(), norm.epsilon);
        fits.then_some(Groups { x, rank, channels, groups, epsilon, scale: None, bias: None })
    };
    let groups = groups();
    Rows { x, lengths, inner, groups, is_reshaped }
}

/// `[rows, n]`, normalised along each row.
fn rows(writer: &mut Writer<'_>, site: &Site<'_>, norm: &LayerNorm) -> String {
    let rows = beneath(writer, site, norm);
    let op = match norm.centred {
        true => ("LayerNormalization", writer.opset >= 17),
        false => ("RMSNormalization", writer.opset >= 23),
    };
    let name = match (&rows.inner, &rows.groups) {
        (Some((axis, inner)), _) if op.1 => {
            whole(writer, site, norm, op.0, &rows.x, (*axis, inner, rows.lengths.len()))
        }
        (_, Some(groups)) if groups.fits(writer.opset) => groups.write(writer),
        _ => return composed(writer, site, norm),
    };
    if !rows.is_reshaped {
        return name;
    }
    let sizes = site.lengths();
    writer.is_also(site.node, Also::Normal(Normal { name: name.clone(), lengths: rows.lengths, groups: rows.groups }));
    // Rows again, for whoever wants them.
    let first = vec![-1];
    match writer.numbers(&[vec![first], sizes.into_iter().skip(1).collect()].concat()) {
        Ok(sizes) => writer.add("Reshape", &[&name, &sizes], vec![]),
        Err(_) => composed(writer, site, norm),
    }
}

/// ONNX's own op, over the axes from `axis` on, whose lengths are `inner`.
fn whole(
    writer: &mut Writer<'_>,
    site: &Site<'_>,
    norm: &LayerNorm,
    op: &str,
    x: &str,
    (axis, inner, rank): (usize, &[usize], usize),
) -> String {
    let side = |number: usize| {
        let node = site.inputs.get(number)?;
        let leaf = beneath_views(node);
        let name = (leaf.meta.shape[..] == *inner).then(|| writer.known(&leaf)).flatten();
        name.or_else(|| (inner.len() == 1).then(|| site.name(number).to_string()))
    };
    let (weight, bias) =
        (norm.weight.then(|| side(1)).flatten(), norm.bias.then(|| side(1 + usize::from(norm.weight))).flatten());
    let scale = weight.unwrap_or_else(|| writer.constant(DType::F32, inner, &vec![1.0; inner.iter().product()]));
    let attributes = vec![int("axis", axis as i64 - rank as i64), float("epsilon", norm.epsilon)];
    match (bias, norm.centred) {
        (Some(bias), true) => writer.add(op, &[x, &scale, &bias], attributes),
        (Some(bias), false) => {
            let y = writer.add(op, &[x, &scale], attributes);
            writer.add("Add", &[&y, &bias], vec![])
        }
        (None, _) => writer.add(op, &[x, &scale], attributes),
    }
}

/// Of other ops.
fn composed(writer: &mut Writer<'_>, site: &Site<'_>, norm: &LayerNorm) -> String {
    let mut y = site.name(0).to_string();
    if norm.centred {
        let mean = reduced(writer, "ReduceMean", &y, &[1]);
        y = writer.add("Sub", &[&y, &mean], vec![]);
    }
    let square = writer.add("Mul", &[&y, &y], vec![]);
    let variance = reduced(writer, "ReduceMean", &square, &[1]);
    let epsilon = writer.constant(DType::F32, &[], &[norm.epsilon]);
    let sum = writer.add("Add", &[&variance, &epsilon], vec![]);
    let root = writer.add("Sqrt", &[&sum], vec![]);
    y = writer.add("Div", &[&y, &root], vec![]);
    if norm.weight {
        y = writer.add("Mul", &[&y, site.name(1)], vec![]);
    }
    if norm.bias {
        y = writer.add("Add", &[&y, site.name(1 + usize::from(norm.weight))], vec![]);
    }
    y
}

/// Channels by statistics that are given.
fn channels(writer: &mut Writer<'_>, site: &Site<'_>, norm: &BatchNorm) -> Result<String, String> {
    let &BatchNorm { epsilon, of_batch, weight, bias } = norm;
    if of_batch {
        return Err("a normalisation by the batch's own statistics: record the network for evaluation".into());
    }
    let channels = site.shape(0).get(1).copied().unwrap_or(1);
    let side = |writer: &mut Writer<'_>, number: Option<usize>, value: f64| match number {
        Some(number) => site.name(number).to_string(),
        None => writer.constant(DType::F32, &[channels], &vec![value; channels]),
    };
    let scale = side(writer, weight.then_some(2), 1.0);
    let shift = side(writer, bias.then_some(2 + usize::from(weight)), 0.0);
    let [mean, variance] = statistics(writer, site).unwrap_or_else(|| {
        [0, 1].map(|row| {
            let row = writer.constant(DType::U32, &[], &[f64::from(row)]);
            writer.add("Gather", &[site.name(1), &row], vec![int("axis", 0)])
        })
    });
    let inputs = [site.name(0), &scale, &shift, &mean, &variance];
    Ok(writer.add("BatchNormalization", &inputs, vec![float("epsilon", epsilon)]))
}

/// Mean and variance as they were before a layer put them into one tensor.
fn statistics(writer: &Writer<'_>, site: &Site<'_>) -> Option<[String; 2]> {
    let given = site.inputs.get(1)?;
    let joint = match op_of::<Detach>(given) {
        Some(_) => input_of(given, 0)?,
        None => given.clone(),
    };
    op_of::<Concat>(&joint)?;
    let of_row = |row: usize| {
        let row = input_of(&joint, row)?;
        op_of::<Reshape>(&row)?;
        writer.known(&input_of(&row, 0)?)
    };
    Some([of_row(0)?, of_row(1)?])
}
