//! Arrays of the f64 reference: plain host memory, row-major, every dtype held as f64 (32-bit words are exact in it).

use crate::dtype::DType;
use crate::shape::{MAX_RANK, Shape};

/// A host array. `Bool` holds 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Axis lengths.
    pub shape: Shape,
    /// Element type that the values stand for.
    pub dtype: DType,
    /// The elements, row-major.
    pub data: Vec<f64>,
}

impl Array {
    /// An array of `shape` filled by `value(linear index)`, computed on all cores.
    pub fn build(shape: Shape, dtype: DType, value: impl Fn(usize) -> f64 + Sync) -> Array {
        let mut data = vec![0.0; shape.elements()];
        parallel(&mut data, |first, chunk| {
            for (i, out) in chunk.iter_mut().enumerate() {
                *out = value(first + i);
            }
        });
        Array { shape, dtype, data }
    }

    /// Multi-index of element `linear`.
    pub fn unravel(shape: &[usize], mut linear: usize, index: &mut [usize]) {
        for axis in (0..shape.len()).rev() {
            index[axis] = linear % shape[axis];
            linear /= shape[axis];
        }
    }
}

/// Splits `out` in one run a core and calls `work(first index, run)` on each; small outputs stay on this thread.
/// The values cannot depend on the number of cores, because each is computed by one call of `work`'s inner loop.
pub fn parallel(out: &mut [f64], work: impl Fn(usize, &mut [f64]) + Sync) {
    spread(out, &work);
}

// What starts threads is compiled once, not for each caller: only `work` is.
fn spread(out: &mut [f64], work: &(dyn Fn(usize, &mut [f64]) + Sync)) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    if out.len() < 256 || cores == 1 {
        return work(0, out);
    }
    let run = out.len().div_ceil(cores);
    std::thread::scope(|scope| {
        for (i, chunk) in out.chunks_mut(run).enumerate() {
            scope.spawn(move || work(i * run, chunk));
        }
    });
}

/// Offsets of every kept index, and of every reduced one, both in row-major order.
pub fn offsets(shape: &Shape, axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let strides = shape.strides();
    let list = |wanted: bool| {
        let mine: Vec<usize> = (0..shape.rank()).filter(|axis| axes.contains(axis) == wanted).collect();
        let dims: Vec<usize> = mine.iter().map(|&axis| shape[axis]).collect();
        let count: usize = dims.iter().product();
        let mut index = [0; MAX_RANK];
        let offset = |i| {
            Array::unravel(&dims, i, &mut index[..dims.len()]);
            mine.iter().zip(&index).map(|(&axis, i)| i * strides[axis]).sum()
        };
        (0..count).map(offset).collect()
    };
    (list(false), list(true))
}
