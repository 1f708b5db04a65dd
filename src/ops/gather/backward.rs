//! The gradient of what was picked.
//!
//! It is formed from the picked element's side: each sums what picked it in a fixed order, without atomics, so
//! it has the same bits in every run. For a whole index tensor each element of the input reads the index along the axis.
//! For a vector of n (embeddings) the positions are first sorted by what they pick: each counts the positions before it,
//! n^2 / 4 steps over vectors in all, whatever the length of the axis and of the slices; a slice then sums its own run of
//! the sorted positions.

use super::{Gather, axes, index_strides, picked_shape, store};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders::gather::{BACKWARD, SORT, STARTS, SUM};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Most elements of the index that one dispatch of the gradient passes over.
const RUN: usize = 50_000;

/// Gradient of [`Gather`]: input 1, the gradient of what was picked, summed at the places in input 0.
#[derive(Debug)]
pub struct GatherBackward {
    /// The axis.
    pub axis: usize,
    /// True if the index is a vector that all other coordinates share.
    pub vector: bool,
    /// Shape of the gather's input.
    pub shape: Shape,
    /// A place on the axis, of a vector's, that gets no gradient.
    pub padding: Option<usize>,
}

params! {
    /// Sizes of a pass over a part of an index tensor.
    struct Part {
        elements,
        /// Number of the axis in `axes`.
        axis,
        index_stride,
        grad_stride,
        first,
        last,
        /// 1: to what the result is already.
        add,
        /// Innermost first: (length, length in the gradient, index stride, gradient stride).
        axes: [[u32; 4]; MAX_RANK],
    }
}

params! {
    /// Sizes of a pass of the sort: elements of the index, and those that it is compared with.
    struct Sort {
        count,
        first,
        last,
    }
}

params! {
    /// Sizes of the kernel that finds the runs.
    struct Starts {
        /// Elements of the index.
        count,
        /// Of the axis.
        length,
        /// A place without a run.
        padding,
    }
}

params! {
    /// Sizes of a pass that sums runs.
    struct Sums {
        /// Invocations with work: elements, or quarters of them.
        units,
        /// Of the axis.
        length,
        /// Units of a slice.
        columns,
        /// Elements of a slice.
        inner,
        /// Elements of the index.
        count,
        first,
        last,
        /// 1: to what the result is already.
        add,
    }
}

impl Op for GatherBackward {
    fn name(&self) -> &'static str {
        if self.vector { "index_select_backward" } else { "gather_backward" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.padding.map_or(0, |row| row as u64 + 1)]);
        words.extend(self.shape.iter().map(|&dim| dim as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let picked = picked_shape(self.axis, self.vector, &self.shape, &inputs[0])?;
        if inputs[1] != (Meta { shape: picked, dtype: DType::F32 }) {
            let what = format!("a gradient of shape {} for results of shape {picked}", inputs[1].shape);
            return Err(Problem::Shape(what, "pass a gradient, f32, of the shape that the index picks"));
        }
        Ok(vec![Meta { shape: self.shape, dtype: DType::F32 }])
    }

    /// What the index picks from the gradient of this op's result; nothing where it leaves the axis.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let index = &backward.inputs[0];
        let gather = Gather { axis: self.axis, vector: self.vector, padding: self.padding };
        let picked = Tensor::apply(gather, &[backward.grad, index]);
        let mut dims = vec![1; self.shape.rank()];
        dims[self.axis] = index.dims().elements();
        let index = if self.vector { index.reshape(&dims) } else { index.clone() };
        // Negative numbers become 0 as u32, so both ends are compared as they are.
        let bound = |value: usize| index.device().fixed(&[], index.meta().dtype, value as f64);
        let mut inside = index.ge(&bound(0)).logical_and(&index.lt(&bound(self.shape[self.axis])));
        if let Some(row) = self.padding {
            inside = inside.logical_and(&index.ne(&bound(row)));
        }
        vec![None, Some(inside.where_(&picked, &picked.scalar(0.0)))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let picked = &inputs[1].shape;
        let (strides, places) = (output.shape.strides(), index_strides(self.axis, self.vector, picked));
        let mut data = vec![0.0; output.elements()];
        for (linear, gradient) in inputs[1].data.iter().enumerate() {
            let mut at = [0; MAX_RANK];
            Array::unravel(picked, linear, &mut at[..picked.rank()]);
            let index = inputs[0].data[(0..picked.rank()).map(|axis| at[axis] * places[axis]).sum::<usize>()];
            let padding = self.padding.is_some_and(|row| index == row as f64);
            if index >= 0.0 && index < output.shape[self.axis] as f64 && !padding {
                at[self.axis] = index as usize;
                data[(0..picked.rank()).map(|axis| at[axis] * strides[axis]).sum::<usize>()] += gradient;
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let picked = inputs[1].shape;
        if self.vector {
            return self.sorted(&picked, output);
        }
        let (strides, places) = (picked.strides(), index_strides(self.axis, self.vector, &picked));
        let rank = output.shape.rank();
        let (elements, count) = (output.elements(), picked[self.axis]);
        let runs = count.div_ceil(RUN);
        let run = |k: usize| {
            let (first, last) = (k * RUN, count.min((k + 1) * RUN));
            let shader = each(Shader::of(&[&BACKWARD])).alias("V", "f32").item(store(runs == 1));
            let mut kernel = Kernel::own(self.name(), shader);
            kernel.bind(Binding::input(0), "index", "u32");
            kernel.bind(Binding::input(1), "grad", "f32");
            kernel.bind(Binding::output(), "result", "f32");
            kernel.uniform(Part {
                elements,
                axis: rank - 1 - self.axis,
                index_stride: places[self.axis],
                grad_stride: strides[self.axis],
                first,
                last,
                add: usize::from(k > 0),
                axes: axes(rank, |axis| [output.shape[axis], picked[axis], places[axis], strides[axis]]),
            });
            kernel.workgroups = (elements as u64).div_ceil(64);
            kernel.iterations = 8 + (last - first) as u64;
            kernel.epilogue = runs == 1;
            kernel
        };
        Lowering::Kernels { kernels: (0..runs).map(run).collect(), temporaries: vec![] }
    }

    fn cases() -> Vec<Case> {
        let back =
            |name: &str, axis: usize, vector: bool, shape: &'static [usize], index: &[usize], picked: &[usize]| {
                let shape_of = move || Shape::new(shape).unwrap_or(Shape::SCALAR);
                let op = move || GatherBackward { axis, vector, shape: shape_of(), padding: None };
                // Indices run from -1 to one beyond the axis; those outside are left out.
                let case = Case::new(name, move |x| Tensor::apply(op(), &[&x[0].plus(-1), &x[1]]));
                let case = case.input(index, DType::I32, Draw::Below(shape[axis] as u32 + 2)).normal(picked);
                case.tolerance(Tolerance::Sum { terms: picked[axis] })
            };
        vec![
            back("gather", 1, false, &[5, 7, 3], &[2, 13, 2], &[2, 13, 2]),
            back("select", 0, true, &[37, 5], &[67], &[67, 5]),
            back("select_middle", 1, true, &[3, 37, 8], &[67], &[3, 67, 8]),
            back("select_last", 1, true, &[5, 131], &[259], &[5, 259]),
            // More than one dispatch may pass over.
            back("long", 0, false, &[3, 2], &[2 * RUN + 7, 2], &[2 * RUN + 7, 2]),
        ]
    }
}

impl GatherBackward {
    /// The gradient of a vector's slices: positions sorted by what they pick, where each slice's run begins, the sums.
    fn sorted(&self, picked: &Shape, output: &Meta) -> Lowering {
        let (count, length) = (picked[self.axis], output.shape[self.axis]);
        let inner: usize = output.shape[self.axis + 1..].iter().product();
        let wide = inner.is_multiple_of(4);
        let [rank, order, starts] = [0, 1, 2];
        let mut kernels = vec![];
        let kernel = |name: &'static str, shader: Shader, invocations: usize| {
            let mut kernel = Kernel::own(name, shader);
            kernel.workgroups = invocations.div_ceil(64) as u64;
            kernel
        };
        for first in (0..count).step_by(4 * RUN) {
            let last = count.min(first + 4 * RUN);
            let mut sort = kernel("gather_sort", each(Shader::of(&[&SORT])), count);
            sort.bind(Binding::input(0), "index", "u32");
            sort.bind(Binding::write(rank), "rank", "u32");
            sort.bind(Binding::write(order), "order", "u32");
            sort.uniform(Sort { count, first, last });
            sort.iterations = (last - first).div_ceil(4) as u64 + 4;
            kernels.push(sort);
        }
        let mut begin = kernel("gather_starts", each(Shader::of(&[&STARTS])), length);
        begin.bind(Binding::input(0), "index", "u32");
        begin.bind(Binding::read(order), "order", "u32");
        begin.bind(Binding::write(starts), "runs", "vec2<u32>");
        begin.uniform(Starts { count, length, padding: self.padding.unwrap_or(u32::MAX as usize) });
        begin.iterations = 64;
        kernels.push(begin);
        for first in (0..count).step_by(RUN) {
            let runs = count.div_ceil(RUN);
            let last = count.min(first + RUN);
            let columns = if wide { inner / 4 } else { inner };
            let units = output.elements() / inner * columns;
            let shader = each(Shader::of(&[&SUM])).constant("WIDE", wide).alias("V", "f32").item(store(runs == 1));
            let mut sum = kernel("gather_sum", shader, units);
            sum.bind(Binding::read(order), "order", "u32");
            sum.bind(Binding::read(starts), "runs", "vec2<u32>");
            sum.bind(Binding::input(1), "grad", "f32");
            sum.bind(Binding::output(), "result", "f32");
            sum.uniform(Sums { units, length, columns, inner, count, first, last, add: usize::from(first > 0) });
            sum.iterations = (last - first) as u64;
            sum.epilogue = runs == 1;
            kernels.push(sum);
        }
        Lowering::Kernels { kernels, temporaries: vec![count, count, 2 * length] }
    }
}
