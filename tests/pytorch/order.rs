//! Sorting, indexing and what moves elements (`scripts/values/order.py`).

use kiln::ops::scatter::ScatterReduction;
use kiln::ops::sort::Interpolation;
use kiln::ops::walk::PadMode;
use kiln::{DType, Tensor};
use serde_json::Value;

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    let whole = |key: &str| attrs[key].as_i64().unwrap_or_else(|| panic!("{key} in {attrs}"));
    let size = |key: &str| whole(key) as usize;
    let number = |key: &str| attrs[key].as_f64().unwrap_or_else(|| panic!("{key} in {attrs}"));
    let holds = |key: &str| attrs[key] == true;
    let sizes = |key: &str| -> Vec<usize> {
        attrs[key].as_array().expect("a list").iter().map(|n| n.as_u64().expect("a size") as usize).collect()
    };
    let text = |key: &str| attrs[key].as_str().expect("a word").to_string();
    let result = match op {
        "sort" => x[0].sort(size("axis"), holds("descending")),
        "argsort" => x[0].argsort(size("axis"), holds("descending")),
        "topk" => x[0].topk(size("k"), size("axis"), holds("largest")).0,
        "kthvalue" => x[0].kthvalue(size("k"), size("axis")).0,
        "median" => x[0].median(size("axis")),
        "quantile" => {
            let between = match &*text("mode") {
                "linear" => Interpolation::Linear,
                "lower" => Interpolation::Lower,
                "higher" => Interpolation::Higher,
                "nearest" => Interpolation::Nearest,
                _ => Interpolation::Midpoint,
            };
            x[0].quantile(number("q"), size("axis"), between)
        }
        "scatter" => x[0].scatter(size("axis"), &x[1], &x[2]),
        "scatter_value" => x[0].scatter_value(size("axis"), &x[1], number("value")),
        "scatter_add" => x[0].scatter_add(size("axis"), &x[1], &x[2]),
        "scatter_reduce" => {
            let reduction = match &*text("reduction") {
                "sum" => ScatterReduction::Sum,
                "prod" => ScatterReduction::Product,
                "mean" => ScatterReduction::Mean,
                "amax" => ScatterReduction::Max,
                _ => ScatterReduction::Min,
            };
            x[0].scatter_reduce(size("axis"), &x[1], &x[2], reduction, holds("with_self"))
        }
        "index_add" => x[0].index_add(size("axis"), &x[1], &x[2]),
        "index_copy" => x[0].index_copy(size("axis"), &x[1], &x[2]),
        "index_fill" => x[0].index_fill(size("axis"), &x[1], number("value")),
        "masked_fill" => x[0].masked_fill(&x[1].cast(DType::Bool), number("value")),
        "bincount" => x[0].bincount(size("bins")).cast(DType::I32),
        "bincount_weighted" => x[0].bincount_weighted(size("bins"), &x[1]),
        "one_hot" => x[0].cast(DType::U32).one_hot(size("classes")).cast(DType::I32),
        "tril" => x[0].tril(whole("offset") as isize),
        "triu" => x[0].triu(whole("offset") as isize),
        "diagonal" => x[0].diagonal(whole("offset") as isize),
        "diag" => x[0].diag(whole("offset") as isize),
        "identity" => x[0].device().eye(size("rows"), size("columns"), DType::F32),
        "linspace" => x[0].device().linspace(number("first"), number("last"), size("count")),
        "flip" => x[0].flip(&sizes("axes")),
        "roll" => x[0].roll(size("axis"), whole("by") as isize),
        "tile" => x[0].tile(&sizes("times")),
        "repeat_interleave" => x[0].repeat_interleave(size("axis"), size("times")),
        "meshgrid" => return Some(Tensor::meshgrid(&[&x[0], &x[1]])),
        "outer" => x[0].outer(&x[1]),
        "slice_step" => {
            let [start, end, step] = ["start", "end", "step"].map(|key| whole(key) as isize);
            x[0].slice_step(size("axis"), start, end, step)
        }
        "pad_with" => {
            let mode = match &*text("mode") {
                "constant" => PadMode::Constant(1.5),
                "reflect" => PadMode::Reflect,
                "replicate" => PadMode::Replicate,
                _ => PadMode::Circular,
            };
            let pairs: Vec<(usize, usize)> = sizes("pairs").chunks(2).map(|pair| (pair[0], pair[1])).collect();
            x[0].pad_with(&pairs, mode)
        }
        _ => return None,
    };
    Some(vec![result])
}
