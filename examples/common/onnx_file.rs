//! A trained network as an ONNX file, with what it makes of some inputs beside it: for `scripts/check_onnx.py`, or for a look.

use std::path::Path;

use anyhow::{Context, Result};
use kiln::onnx::{ExportOptions, FreeAxis, export};
use kiln::prelude::*;
use serde_json::{Value, json};

/// Batches whose outputs are written, and lengths of what has a length.
const BATCHES: [usize; 3] = [1, 3, 64];
const LENGTHS: [usize; 2] = [4, 9];

fn numbers(tensor: &Tensor) -> Result<Value> {
    let (whole, array) = (!tensor.dtype()?.is_float(), tensor.to_array()?);
    Ok(json!({ "shape": array.shape.to_vec(), "whole": whole, "values": array.data }))
}

/// Writes `path`, and beside it `path` with `.json` behind. `inputs` are for a batch and a length, `lengths` the axes that have
/// the length: input and axis.
pub fn write(
    path: &Path,
    net: impl Fn(&[Tensor]) -> Vec<Tensor>,
    inputs: impl Fn(usize, usize) -> Vec<Tensor>,
    lengths: &[(usize, usize)],
) -> Result<()> {
    // Whatever it was trained in.
    let net = |x: &[Tensor]| no_grad(|| kiln::with_precision(Precision::Full, || net(x)));
    let free = lengths.iter().map(|&(input, axis)| FreeAxis::new(input, axis, "length")).collect();
    // A free length is recorded at more than twice the example's, too: sentences here may be no longer than 11.
    export(net, &inputs(2, 3), path, &ExportOptions { free, ..ExportOptions::default() })?;
    let mut cases = vec![];
    for batch in BATCHES {
        for length in LENGTHS.into_iter().take(if lengths.is_empty() { 1 } else { 2 }) {
            let x = inputs(batch, length);
            let all = |tensors: &[Tensor]| tensors.iter().map(numbers).collect::<Result<Vec<_>>>();
            cases.push(json!({ "inputs": all(&x)?, "outputs": all(&net(&x))? }));
        }
    }
    let mut values = path.as_os_str().to_os_string();
    values.push(".json");
    std::fs::write(&values, serde_json::to_vec(&cases)?).with_context(|| format!("{values:?} cannot be written"))?;
    println!("wrote    {}", path.display());
    Ok(())
}
