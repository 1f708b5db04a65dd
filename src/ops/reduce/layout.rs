//! Where the terms of a reduction lie: kept and reduced axes, and the text of a walk over them.

use crate::shader::Item;
use crate::shape::{MAX_RANK, Shape};

/// Vectors of lengths and strides: three words an axis at most.
pub const VECTORS: usize = (3 * MAX_RANK).div_ceil(4);

/// Lengths and strides, and how many there are.
#[derive(Default)]
pub struct Words {
    pub values: [[u32; 4]; VECTORS],
    count: usize,
}

impl Words {
    /// The text that reads another one.
    fn add(&mut self, value: usize) -> String {
        let (vector, lane) = (self.count / 4, self.count % 4);
        self.values[vector][lane] = value as u32;
        self.count += 1;
        format!("$p$.words[{vector}].{}", ["x", "y", "z", "w"][lane])
    }
}

/// Text of the index of value `name` of some axes.
pub fn index(axes: &[(usize, usize)], name: &str, words: &mut Words) -> String {
    let mut terms = vec![];
    let mut below = 1;
    for (place, &(dim, stride)) in axes.iter().enumerate().rev() {
        let mut term = name.to_string();
        if below > 1 {
            term = format!("{term} / {}", words.add(below));
        }
        if place > 0 {
            term = format!("({term}) % {}", words.add(dim));
        }
        if stride != 1 {
            term = format!("({term}) * {}", words.add(stride));
        }
        terms.push(term);
        below *= dim;
    }
    if terms.is_empty() { "0u".to_string() } else { terms.join(" + ") }
}

/// Functions of a walk over the reduced axes in steps of `step`: a division a walk, not one a value. A spot is where one is on
/// the axes but the last, and on the last.
pub fn walk(axes: &[(usize, usize)], step: usize, four: bool, words: &mut Words) -> [Item; 3] {
    let (outer, &(dim, stride)) = match axes.split_last() {
        Some((last, outer)) => (outer, last),
        None => (&[][..], &(1, 1)),
    };
    let within = match stride {
        1 => "spot.y".to_string(),
        // Values of four; of one element, the number may depend on the batch.
        4 if four => "spot.y * 4u".to_string(),
        _ => format!("spot.y * {}", words.add(stride)),
    };
    let (first, next, at) = match outer {
        [] => ("vec2<u32>(0u, r)".to_string(), format!("spot + vec2<u32>(0u, {})", words.add(step)), String::new()),
        _ => {
            let (length, rows, rest) = (words.add(dim), words.add(step / dim), words.add(step % dim));
            let next = format!(
                "select(vec2<u32>(spot.x + {rows}, spot.y + {rest}), vec2<u32>(spot.x + {rows} + 1u, spot.y + {rest} - {length}), \
                 spot.y + {rest} >= {length})"
            );
            let at = format!("{} + ", index(outer, "spot.x", words));
            (format!("vec2<u32>(r / {length}, r % {length})"), next, at)
        }
    };
    [
        ("first_spot", "r: u32", "vec2<u32>", first),
        ("next_spot", "spot: vec2<u32>", "vec2<u32>", next),
        ("spot_index", "spot: vec2<u32>", "u32", at + &within),
    ]
    .map(|(name, takes, gives, value)| {
        Item::new(name, format!("fn ${name}$({takes}) -> {gives} {{\n    return {value};\n}}\n"))
    })
}

/// What the four elements of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// A value is one element.
    One,
    /// Four terms of one output.
    Along,
    /// A term each of four outputs.
    Across,
}

/// Kept and reduced axes as (length, stride), neighbours merged. Where a value has four elements, the last axis counts
/// values.
pub struct Layout {
    pub kept: Vec<(usize, usize)>,
    pub reduced: Vec<(usize, usize)>,
    pub lanes: Lanes,
}

impl Layout {
    /// Of a tensor; `four` allows values of four elements.
    pub fn new(shape: &Shape, axes: &[usize], four: bool) -> Layout {
        let strides = shape.strides();
        let side = |wanted: bool| {
            let mut merged: Vec<(usize, usize)> = vec![];
            for axis in (0..shape.rank()).filter(|axis| axes.contains(axis) == wanted && shape[*axis] > 1) {
                match merged.last_mut() {
                    Some(last) if last.1 == shape[axis] * strides[axis] => {
                        *last = (last.0 * shape[axis], strides[axis])
                    }
                    _ => merged.push((shape[axis], strides[axis])),
                }
            }
            merged
        };
        let mut layout = Layout { kept: side(false), reduced: side(true), lanes: Lanes::One };
        // As for pointwise kernels: the choice does not depend on the first axis, the batch.
        let elements = shape.elements();
        let row = match shape.rank() {
            _ if !four => 1,
            0 | 1 if elements < LONG => 1,
            0 | 1 => elements,
            _ => elements / shape[0],
        };
        for (side, lanes) in [(&mut layout.kept, Lanes::Across), (&mut layout.reduced, Lanes::Along)] {
            if let Some(last) = side.last_mut().filter(|last| last.1 == 1) {
                let is_whole = last.0 == elements;
                if (if is_whole { row } else { last.0 }).is_multiple_of(4) && (is_whole || row >= last.0) {
                    *last = (last.0 / 4, 4);
                    layout.lanes = lanes;
                }
            }
        }
        layout
    }
}

/// A single axis of at least this many elements is taken for data, not for a batch of numbers.
const LONG: usize = 4096;
