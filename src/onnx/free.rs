//! Lengths that are free in an exported model.
//!
//! A network is recorded for the example, then once with each free length one longer, then with all of them more than twice as long.
//! What a length of the graph is of these is read off the first recordings, and held to the last: a length that is cut off somewhere, or
//! divided and rounded down, may be the same for a length as for the next two, and is not for twice as much.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// An axis of an input whose length a user of the exported model chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeAxis {
    /// The input's number.
    pub input: usize,
    /// The axis.
    pub axis: usize,
    /// The length's name in the file. Axes of one name have one length.
    pub name: String,
}

impl FreeAxis {
    /// Axis `axis` of input `input`, whose length is called `name`.
    pub fn new(input: usize, axis: usize, name: impl Into<String>) -> FreeAxis {
        FreeAxis { input, axis, name: name.into() }
    }
}

/// A length that is free.
#[derive(Debug)]
pub struct Free {
    /// Its name.
    pub name: String,
    /// The axes that have it, by the numbers of their inputs.
    pub axes: Vec<(usize, usize)>,
    /// What it is in each recording.
    pub lengths: Vec<usize>,
}

/// A whole number of the graph, by the free lengths, which are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Length {
    /// The same always.
    Fixed(i64),
    /// So many times the product of these.
    Product(i64, Vec<usize>),
    /// A number, and each of these so many times.
    Sum(i64, Vec<(usize, i64)>),
}

/// The free lengths for these examples: axis 0 of all inputs, with `batch`, and the axes that are named.
///
/// # Errors
/// [`Error::Onnx`] for an axis that no input has, one that is named twice, and axes of one name that have different lengths.
pub fn of(examples: &[Tensor], batch: bool, named: &[FreeAxis]) -> Result<Vec<Free>> {
    let mut all: Vec<(usize, usize, &str)> = vec![];
    if batch {
        let is_array = |x: &Tensor| x.shape().is_ok_and(|shape| !shape.is_empty());
        let is_free = |input: usize| !named.iter().any(|free| free.input == input && free.axis == 0);
        all.extend((0..examples.len()).filter(|&i| is_free(i) && is_array(&examples[i])).map(|i| (i, 0, "batch")));
    }
    all.extend(named.iter().map(|free| (free.input, free.axis, free.name.as_str())));
    let mut free: Vec<Free> = vec![];
    for (number, &(input, axis, name)) in all.iter().enumerate() {
        let wrong = |what: String| Error::Onnx { what, next: "name axes of the example, each once" };
        let shape = match examples.get(input) {
            Some(example) => example.shape()?,
            None => return Err(wrong(format!("`{name}` is axis {axis} of input {input}, which is not there"))),
        };
        let Some(&length) = shape.get(axis) else {
            return Err(wrong(format!("`{name}` is axis {axis} of input {input}, whose shape is {shape:?}")));
        };
        if all.iter().take(number).any(|other| (other.0, other.1) == (input, axis)) {
            return Err(wrong(format!("axis {axis} of input {input} is named twice")));
        }
        match free.iter_mut().find(|free| free.name == name) {
            None => free.push(Free { name: name.into(), axes: vec![(input, axis)], lengths: vec![length] }),
            Some(known) if known.lengths != [length] => {
                return Err(wrong(format!("axes called `{name}` have the lengths {} and {length}", known.lengths[0])));
            }
            Some(known) => known.axes.push((input, axis)),
        }
    }
    let count = free.len();
    for (number, free) in free.iter_mut().enumerate() {
        let length = free.lengths[0];
        free.lengths.extend((0..count).map(|other| length + usize::from(other == number)));
        if count > 0 {
            free.lengths.push(2 * length + 3 + number);
        }
    }
    Ok(free)
}

/// The examples as recording `number` has them: what is longer goes on with what it begins with.
pub fn inputs(examples: &[Tensor], free: &[Free], number: usize) -> Vec<Tensor> {
    let longer = |(input, x): (usize, &Tensor)| {
        let axes = free.iter().flat_map(|free| free.axes.iter().map(move |axis| (free, axis)));
        axes.filter(|(_, axis)| axis.0 == input).fold(x.clone(), |x, (free, &(_, axis))| {
            let Some(more) = free.lengths.get(number).map(|length| length - free.lengths[0]) else { return x };
            if more == 0 {
                return x;
            }
            let mut shape = x.dims().to_vec();
            if let Some(length) = shape.get_mut(axis) {
                *length = more;
            }
            Tensor::concat(&[&x, &x.slice(axis, 0, 1).expand(&shape)], axis)
        })
    };
    examples.iter().enumerate().map(longer).collect()
}

/// The error of a network that refuses the lengths of recording `number`.
pub fn refused(free: &[Free], number: usize, error: &Error) -> Error {
    let length = |free: &Free| format!("{} {}", free.name, free.lengths.get(number).copied().unwrap_or_default());
    let lengths: Vec<String> = free.iter().map(length).collect();
    let what =
        format!("the network is recorded for longer free axes, too, and refuses {}: {error}", lengths.join(", "));
    Error::Onnx { what, next: "pass an example that is less than half as long as the longest input that it takes" }
}

/// What a number of the graph is, by its values in the recordings; `None` for what is neither a product nor a sum.
pub fn length(free: &[Free], values: &[i64]) -> Option<Length> {
    let (&base, rest) = values.split_first()?;
    if rest.iter().all(|&value| value == base) {
        return Some(Length::Fixed(base));
    }
    let steps = rest.iter().take(free.len()).map(|value| value - base).enumerate();
    let moved: Vec<(usize, i64)> = steps.filter(|(_, step)| *step != 0).collect();
    let places: Vec<usize> = moved.iter().map(|(k, _)| *k).collect();
    let whole = at(free, &Length::Product(1, places.clone()), 0);
    let steps = at(free, &Length::Sum(0, moved.clone()), 0);
    let product = (whole > 0 && base % whole == 0).then(|| Length::Product(base / whole, places));
    let candidates = [product, Some(Length::Sum(base - steps, moved))];
    let fits = |length: &Length| values.iter().enumerate().all(|(number, &value)| at(free, length, number) == value);
    candidates.into_iter().flatten().find(fits)
}

/// A length in recording `number`.
fn at(free: &[Free], length: &Length, number: usize) -> i64 {
    let of = |k: usize| free.get(k).and_then(|free| free.lengths.get(number)).map_or(0, |&length| length as i64);
    match length {
        Length::Fixed(value) => *value,
        Length::Product(factor, places) => places.iter().map(|&k| of(k)).product::<i64>() * factor,
        Length::Sum(rest, places) => rest + places.iter().map(|&(k, times)| of(k) * times).sum::<i64>(),
    }
}
