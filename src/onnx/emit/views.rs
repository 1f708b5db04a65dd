//! Views and constants, whose sizes may be free.

use super::{Site, input_of, lengths_of, op_of, scalar};
use crate::dtype::DType;
use crate::onnx::free::Length;
use crate::onnx::writer::{Also, Writer, type_of};
use crate::ops::constant::Fill;
use crate::ops::view::Reshape;

/// A reshape: 0 for an axis that stays, -1 for one that is left over, so that most files need no arithmetic with lengths.
pub fn reshape(writer: &mut Writer<'_>, site: &Site<'_>) -> Result<String, String> {
    let (from, to) = (site.input_lengths(0), site.lengths());
    let Some(input) = site.inputs.first() else { return Err("a reshape of nothing".into()) };
    // Back to the axes that a value had.
    if let Some(Also::Normal(normal)) = writer.also(input).cloned()
        && normal.lengths == to
    {
        if let Some(groups) = normal.groups {
            writer.is_also(site.node, Also::Groups(groups));
        }
        return Ok(normal.name);
    }
    if op_of::<Reshape>(input).is_some() {
        let first: Vec<_> = site.all_inputs(0).iter().filter_map(|node| input_of(node, 0)).collect();
        let name = first.first().and_then(|first| writer.known(first));
        if let Some(name) = name.filter(|_| lengths_of(first.iter()) == to) {
            return Ok(name);
        }
    }
    let is_fixed = |values: &[i64]| values.iter().all(|&value| value == values[0]);
    let stays = |axis: usize| from.get(axis) == to.get(axis);
    let open: Vec<usize> = (0..to.len()).filter(|&axis| !is_fixed(&to[axis]) && !stays(axis)).collect();
    let sizes: Vec<Vec<i64>> = to
        .iter()
        .enumerate()
        .map(|(axis, values)| match is_fixed(values) {
            false if open.last() == Some(&axis) => vec![-1],
            false if stays(axis) => vec![0],
            _ => values.clone(),
        })
        .collect();
    let to = writer.numbers(&sizes).map_err(|what| format!("a reshape to {what}"))?;
    Ok(writer.add("Reshape", &[site.name(0), &to], vec![]))
}

/// A stretched view: 1 for what stays as it is.
pub fn expand(writer: &mut Writer<'_>, site: &Site<'_>) -> Result<String, String> {
    let (from, to) = (site.input_lengths(0), site.lengths());
    let lead = to.len().saturating_sub(from.len());
    let size = |(axis, values): (usize, &Vec<i64>)| match axis.checked_sub(lead).and_then(|axis| from.get(axis)) {
        Some(same) if same == values => vec![1],
        _ => values.clone(),
    };
    let sizes: Vec<Vec<i64>> = to.iter().enumerate().map(size).collect();
    let to = writer.numbers(&sizes).map_err(|what| format!("a view stretched to {what}"))?;
    Ok(writer.add("Expand", &[site.name(0), &to], vec![]))
}

/// A part of an axis. Places that move with the axis' end are counted from there.
pub fn slice(writer: &mut Writer<'_>, site: &Site<'_>, axis: usize) -> Result<String, String> {
    let Some(starts) = site.numbers(1) else { return Err("a slice from a computed place".into()) };
    let starts: Vec<i64> = starts.iter().map(|&start| start as i64).collect();
    let lengths = site.lengths().get(axis).cloned().unwrap_or_default();
    let whole = site.input_lengths(0).get(axis).cloned().unwrap_or_default();
    if let Some(input) = site.inputs.first() {
        if let Some(Also::Ran(ran)) = writer.also(input)
            && axis == 0
            && let Some(name) = ran.slice(input, &starts, &lengths, &whole)
        {
            return Ok(name);
        }
        if let Some(why) = writer.lacks(input) {
            return Err(format!("a slice of {why}"));
        }
    }
    let ends: Vec<i64> = starts.iter().zip(&lengths).map(|(start, length)| start + length).collect();
    let is_fixed = |values: &[i64]| values.iter().all(|&value| value == values[0]);
    let from_end = |values: &[i64]| -> Option<i64> {
        let left: Vec<i64> = whole.iter().zip(values).map(|(whole, value)| whole - value).collect();
        is_fixed(&left).then(|| left[0])
    };
    let start = match from_end(&starts) {
        Some(left) if !is_fixed(&starts) && left > 0 => vec![-left],
        _ => starts.clone(),
    };
    let end = match from_end(&ends) {
        Some(0) => vec![i64::MAX],
        Some(left) if !is_fixed(&ends) => vec![-left],
        _ => ends,
    };
    let places = [start, end].map(|values| writer.numbers(&[values]).map_err(|what| format!("a slice at {what}")));
    let [start, end] = places;
    let (start, end) = (start?, end?);
    let axis = writer.wholes(&[axis as i64]);
    Ok(writer.add("Slice", &[site.name(0), &start, &end, &axis], vec![]))
}

/// One value everywhere, or the numbers from 0 on.
pub fn constant(writer: &mut Writer<'_>, site: &Site<'_>, dtype: DType, fill: Fill) -> Result<String, String> {
    let lengths = site.lengths();
    match fill {
        Fill::Value(value) => {
            let number = writer.constant(dtype, &[], &[value]);
            if lengths.is_empty() {
                return Ok(number);
            }
            let to = writer.numbers(&lengths).map_err(|what| format!("a constant of {what}"))?;
            Ok(writer.add("Expand", &[&number, &to], vec![]))
        }
        Fill::Index => {
            let values = lengths.first().cloned().unwrap_or_default();
            match writer.length(&values).map_err(|what| format!("numbers up to {what}"))? {
                Length::Fixed(length) => {
                    let numbers: Vec<f64> = (0..length).map(|i| i as f64).collect();
                    Ok(writer.constant(dtype, &[numbers.len()], &numbers))
                }
                length => {
                    let end = scalar(writer, &length, DType::U32);
                    let [start, step] = [0.0, 1.0].map(|value| writer.constant(DType::U32, &[], &[value]));
                    let numbers = writer.add("Range", &[&start, &end, &step], vec![]);
                    Ok(match dtype {
                        DType::U32 => numbers,
                        _ => writer.add("Cast", &[&numbers], vec![super::int("to", i64::from(type_of(dtype)))]),
                    })
                }
            }
        }
    }
}
