//! Models from ONNX files: whatever the bytes are, reading returns within a bound of memory, and so does recording what was read.

use kiln::onnx;
use kiln::prelude::*;
use kiln::{Array, Shape};

use super::memory;

/// What reading may take whatever the file says: constants that are folded are of a bounded size.
const ALWAYS: usize = 64 << 20;
/// Bytes for each byte of the file: a byte can be an empty message, which has some 200 here.
const A_BYTE: usize = 512;
/// Most elements of an input that is passed to a model.
const MOST: usize = 1 << 12;

/// Reads a model and records it on inputs of the shapes that it asks for. True if both were done.
pub fn onnx(bytes: &[u8]) -> bool {
    let device = Device::cpu();
    let (model, peak) = memory::peak(|| onnx::load_bytes(bytes, &device));
    assert!(peak <= ALWAYS + A_BYTE * bytes.len(), "{peak} bytes of memory for a file of {}", bytes.len());
    let model = match model {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let mut inputs = vec![];
    for port in model.inputs() {
        let dims: Vec<usize> = port.dims.iter().flatten().map(|dim| dim.clone().unwrap_or(2)).collect();
        let elements = dims.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        if elements.is_none_or(|elements| elements > MOST) {
            return false;
        }
        let dtype = port.elem.map_or(DType::F32, |elem| elem.dtype());
        let Some(shape) = Shape::new(&dims) else { return false };
        inputs.push(device.array(&Array { shape, dtype, data: vec![1.0; shape.elements()] }));
    }
    let outputs = model.forward(&inputs, Mode::Eval);
    for output in &outputs {
        if let Some(error) = output.error() {
            assert!(!error.to_string().is_empty());
        }
    }
    outputs.iter().all(|output| output.error().is_none())
}
