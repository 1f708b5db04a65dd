//! Sorting, indexing and what moves elements (`scripts/values/order.py`).

use kiln::Tensor;
use serde_json::Value;

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(_op: &str, _attrs: &Value, _x: &[Tensor]) -> Option<Vec<Tensor>> {
    None
}
