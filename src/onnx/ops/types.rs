//! Casts between element types.

use crate::onnx::call::{Call, Outcome, Row, Value, cast, known, one};
use crate::onnx::elem::Elem;
use crate::onnx::trouble::{Trouble, unsupported};

fn to_type(call: &Call<'_>, to: Elem) -> Outcome {
    if let Value::Known(numbers) = call.value(0) {
        return known(numbers.cast(to));
    }
    one(cast(&call.tensor(0)?, call.elem(0)?, to), to)
}

/// The type that attribute `name` says.
pub fn named(call: &Call<'_>, name: &str) -> Result<Option<Elem>, Trouble> {
    match call.int(name, 0)? {
        0 => Ok(None),
        number => match Elem::of(i32::try_from(number).unwrap_or(-1)) {
            Ok(elem) => Ok(Some(elem)),
            Err(name) => unsupported(format!("a result of {name}")),
        },
    }
}

fn cast_to(call: &Call<'_>) -> Outcome {
    match named(call, "to")? {
        Some(to) => to_type(call, to),
        None => unsupported("a cast to no type"),
    }
}

fn cast_like(call: &Call<'_>) -> Outcome {
    to_type(call, call.elem(1)?)
}

/// Casts.
pub const ROWS: &[Row] = &[
    Row::new("Cast", cast_to).with(&["to", "saturate", "round_mode"]).native(),
    Row::new("CastLike", cast_like).with(&["saturate", "round_mode"]).native(),
];
