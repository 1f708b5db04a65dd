//! Formulas of other ops, and pieces of tensors (`scripts/values/formulas.py`).

use kiln::Tensor;
use serde_json::Value;

use super::{integer, integers, number};

fn signed(attrs: &Value, key: &str) -> i64 {
    attrs[key].as_i64().unwrap_or_else(|| panic!("{key} in {attrs}"))
}

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    let axis = || signed(attrs, "axis");
    let result = match op {
        "chunk" => return Some(x[0].chunk(axis(), integer(attrs, "count"))),
        "unbind" => return Some(x[0].unbind(axis())),
        "select" => x[0].select(axis(), signed(attrs, "index")),
        "unflatten" => x[0].unflatten(axis(), &integers(attrs, "sizes")),
        "movedim" => x[0].movedim(signed(attrs, "from"), signed(attrs, "to")),
        "diff" => x[0].diff(axis()),
        "cov" => x[0].cov(integer(attrs, "correction")),
        "corrcoef" => x[0].corrcoef(),
        "xlogy" => x[0].xlogy(&x[1]),
        "logit" => x[0].logit(number(attrs, "epsilon")),
        "heaviside" => x[0].heaviside(number(attrs, "at_zero")),
        "is_close" => x[0].is_close(&x[1], number(attrs, "relative"), number(attrs, "absolute")),
        "count_nonzero" => x[0].count_nonzero(axis()),
        _ => return None,
    };
    Some(vec![result])
}
