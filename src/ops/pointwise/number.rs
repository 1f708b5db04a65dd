//! Host numbers beside tensors: the one rule by which they enter a graph, and their comparison with integers.
//!
//! A number travels as an operand, so changing it makes no new plan. Beside a float it is rounded once to the dtype in
//! which the op takes the tensor ([`DType::hold`]), on every device. Beside integers and booleans
//!
//! - arithmetic (`full`, `clamp`, `where` of numbers too) takes a number that the dtype holds and refuses any other;
//! - a comparison is one of real numbers: `x < 0.5` of integers is `x <= 0`, and nothing equals 1.5 or NaN.

use super::Pointwise;
use super::table::{self, Kind, Row};
use crate::dtype::DType;
use crate::op::{Casting, Op};
use crate::tensor::{Tensor, is_mixed};

/// The second operand of a binary op: a tensor or a number.
pub enum Argument<'a> {
    /// A tensor.
    Tensor(&'a Tensor),
    /// A number; it travels with each step as an operand. Beside a float tensor it is rounded once to the tensor's dtype;
    /// integers are compared with it as with a real number, and take it in arithmetic if they hold it ([`DType::hold`]).
    Number(f64),
}

impl<'a> From<&'a Tensor> for Argument<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Argument::Tensor(tensor)
    }
}

macro_rules! number {
    ($($kind:ty)+) => { $(
        impl From<$kind> for Argument<'_> {
            fn from(number: $kind) -> Self {
                Argument::Number(f64::from(number))
            }
        }
    )+ };
}

number!(f64 f32 half::f16 half::bf16 i8 i16 i32 u8 u16 u32);

/// Wider than f64 has digits for: what is rounded no dtype tells apart.
macro_rules! wide {
    ($($kind:ty)+) => { $(
        impl From<$kind> for Argument<'_> {
            fn from(number: $kind) -> Self {
                Argument::Number(number as f64)
            }
        }
    )+ };
}

wide!(i64 u64 isize usize);

/// `row` of a tensor and an argument.
#[track_caller]
pub(super) fn binary(row: &'static Row, x: &Tensor, other: Argument<'_>) -> Tensor {
    let number = match other {
        Argument::Tensor(other) => return Tensor::apply(Pointwise(row), &[x, other]),
        Argument::Number(number) => number,
    };
    if x.error().is_some() {
        return x.clone();
    }
    if row.kind == Kind::Comparison && !x.meta().dtype.is_float() {
        return compare(row, x, number);
    }
    let x = as_taken(row, x);
    Tensor::apply(Pointwise(row), &[&x, &beside(row, &x, number)])
}

/// `row` of a number and a tensor.
#[track_caller]
pub(super) fn reversed(row: &'static Row, number: f64, x: &Tensor) -> Tensor {
    if x.error().is_some() {
        return x.clone();
    }
    let x = as_taken(row, x);
    Tensor::apply(Pointwise(row), &[&beside(row, &x, number), &x])
}

/// `number` in the dtype of `x`, for `row`.
#[track_caller]
pub(super) fn beside(row: &'static Row, x: &Tensor, number: f64) -> Tensor {
    Tensor::operand(x.device(), x.meta().dtype, number, row.name)
}

/// What mixed precision would widen is widened before the number is rounded.
#[track_caller]
pub(super) fn as_taken(row: &'static Row, x: &Tensor) -> Tensor {
    if Pointwise(row).casting() == Casting::Full && is_mixed(&[x]) { x.widen() } else { x.clone() }
}

/// Integers (or booleans, as 0 and 1) compared with a real number. Those for which a comparison holds are a range, whose
/// ends are integers: these travel, so the graph is the same whatever the number is.
#[track_caller]
fn compare(row: &'static Row, x: &Tensor, number: f64) -> Tensor {
    let x = if x.meta().dtype == DType::Bool { x.cast(DType::U32) } else { x.clone() };
    let (least, most) = limits(x.meta().dtype);
    let (floor, ceil) = (number.floor(), number.ceil());
    let (low, high) = match row.name {
        "lt" => (least, ceil - 1.0),
        "le" => (least, floor),
        "gt" => (floor + 1.0, most),
        "ge" => (ceil, most),
        _ => (ceil, floor),
    };
    let is_some = low <= high && low <= most && high >= least;
    // A range with its ends exchanged holds nothing.
    let ends = if is_some { [low.max(least), high.min(most)] } else { [most, least] };
    let [low, high] = [beside(row, &x, ends[0]), beside(row, &x, ends[1])];
    let inside = Tensor::apply(Pointwise(&table::WITHIN), &[&x, &low, &high]);
    if row.name == "ne" { inside.logical_not() } else { inside }
}

/// The bounds of a clamp, as `x` holds them. An infinite one is none, for integers too.
#[track_caller]
pub(super) fn bounds(x: &Tensor, low: f64, high: f64) -> [Tensor; 2] {
    let dtype = x.meta().dtype;
    let (least, most) = limits(dtype);
    let low = if dtype.is_integer() && low == f64::NEG_INFINITY { least } else { low };
    let high = if dtype.is_integer() && high == f64::INFINITY { most } else { high };
    [beside(&table::CLAMP, x, low), beside(&table::CLAMP, x, high)]
}

/// Least and largest number of an integer type.
fn limits(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (0.0, f64::from(u32::MAX)),
    }
}
