//! The gradient of what was picked.
//!
//! It is formed from the picked element's side: each place sums what picked it in a fixed order, without atomics, so it has the
//! same bits in every run. Where the axis of an index tensor is short, each element of the input reads the index along it. Else the
//! positions of the index are sorted by the place that they name, and each place sums its own run of them
//! (`gather/segments.rs`): the time is linear in the index and in the input.

use super::{Gather, axes, index_strides, picked_shape, store};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::gather::segments::Segments;
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders::gather::BACKWARD;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Elements of the index that each element of the input passes over, at most.
const MOST: usize = 8;
/// Comparisons that take no longer than sorting.
const FEW: usize = 1 << 18;
/// Iterations of a loop, at most.
const LONGEST: usize = 50_000;

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
    /// True to multiply instead, 1 where nothing was picked.
    pub product: bool,
}

params! {
    /// Sizes of a pass over an index tensor.
    struct Part {
        elements,
        /// Number of the axis in `axes`.
        axis,
        index_stride,
        grad_stride,
        /// Elements of the index along the axis.
        count,
        /// Innermost first: (length, length in the gradient, index stride, gradient stride).
        axes: [[u32; 4]; MAX_RANK],
    }
}

impl Op for GatherBackward {
    fn name(&self) -> &'static str {
        if self.vector { "index_select_backward" } else { "gather_backward" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.padding.map_or(0, |row| row as u64 + 1), u64::from(self.product)]);
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
        let gather = || Gather { axis: self.axis, vector: self.vector, padding: self.padding };
        let pick = |from: &Tensor| Tensor::apply(gather(), &[from, index]);
        let picked = match self.product {
            true => self.without_each(&backward.inputs[1], index, backward.grad, &pick),
            false => pick(backward.grad),
        };
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
        let mut data = vec![if self.product { 1.0 } else { 0.0 }; output.elements()];
        for (linear, gradient) in inputs[1].data.iter().enumerate() {
            let mut at = [0; MAX_RANK];
            Array::unravel(picked, linear, &mut at[..picked.rank()]);
            let index = inputs[0].data[(0..picked.rank()).map(|axis| at[axis] * places[axis]).sum::<usize>()];
            let padding = self.padding.is_some_and(|row| index == row as f64);
            if index >= 0.0 && index < output.shape[self.axis] as f64 && !padding {
                at[self.axis] = index as usize;
                let place = &mut data[(0..picked.rank()).map(|axis| at[axis] * strides[axis]).sum::<usize>()];
                *place = if self.product { *place * gradient } else { *place + gradient };
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let picked = inputs[1].shape;
        let (strides, places) = (picked.strides(), index_strides(self.axis, self.vector, &picked));
        let rank = output.shape.rank();
        let (elements, count) = (output.elements(), picked[self.axis]);
        let is_short = count <= MOST || count <= LONGEST && elements.saturating_mul(count) <= FEW;
        if self.vector || self.product || !is_short {
            return self.segments(&picked, output).lowering(capabilities);
        }
        let shader = each(Shader::of(&[&BACKWARD])).alias("V", "f32").item(store(true));
        let mut kernel = Kernel::own(self.name(), shader);
        kernel.bind(Binding::input(0), "index", "u32");
        kernel.bind(Binding::input(1), "grad", "f32");
        kernel.bind(Binding::output(), "result", "f32");
        kernel.uniform(Part {
            elements,
            axis: rank - 1 - self.axis,
            index_stride: places[self.axis],
            grad_stride: strides[self.axis],
            count,
            axes: axes(rank, |axis| [output.shape[axis], picked[axis], places[axis], strides[axis]]),
        });
        kernel.workgroups = (elements as u64).div_ceil(64);
        kernel.iterations = 8 + count as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let back =
            |name: &str, axis: usize, vector: bool, shape: &'static [usize], index: &[usize], picked: &[usize]| {
                let shape_of = move || Shape::new(shape).unwrap_or(Shape::SCALAR);
                let op = move || GatherBackward { axis, vector, shape: shape_of(), padding: None, product: false };
                // Indices run from -1 to one beyond the axis; those outside are left out.
                let case = Case::new(name, move |x| Tensor::apply(op(), &[&x[0].plus(-1), &x[1]]));
                let case = case.input(index, DType::I32, Draw::Below(shape[axis] as u32 + 2)).normal(picked);
                case.tolerance(Tolerance::Sum { terms: picked[axis] })
            };
        let select = |name, axis, shape, index, picked| back(name, axis, true, shape, index, picked);
        let gather = |name, axis, shape, index| back(name, axis, false, shape, index, index);
        // Of 0, 1 and 2 the product is exact, and some factors are the only 0 of theirs.
        let product = |x: &[Tensor]| x[0].picked_together(0, false, *x[2].dims(), &x[1], true);
        let product = Case::new("product", product)
            .input(&[67, 3], DType::F32, Draw::Values(&[1.0, 2.0, 0.5, 1.0, 0.0, 2.0, 1.0]))
            .input(&[67, 3], DType::U32, Draw::Below(37))
            .input(&[37, 3], DType::F32, Draw::Normal)
            .tolerance(Tolerance::Exact);
        vec![
            gather("gather", 1, &[5, 7, 3], &[2, 13, 2]),
            gather("gather_short", 1, &[5, 7, 3], &[2, 3, 2]),
            gather("gather_sorted", 1, &[37, 131], &[37, 67]),
            select("select", 0, &[37, 5], &[67], &[67, 5]),
            select("select_middle", 1, &[3, 37, 8], &[67], &[3, 67, 8]),
            select("select_last", 1, &[5, 131], &[259], &[5, 259]),
            select("select_many", 1, &[2, 37, 4], &[2053], &[2, 2053, 4]),
            select("select_wide_keys", 0, &[70_001, 1], &[1031], &[1031, 1]),
            // Several columns an invocation, where loads are dear.
            select("select_columns", 0, &[1031, 32], &[1027], &[1027, 32]),
            select("select_blocks", 1, &[2, 259, 64], &[131], &[2, 131, 64]),
            select("select_one", 0, &[1, 3], &[5003], &[5003, 3]),
            // Runs that are long, beside others that are not, of eights where there are such.
            select("select_few", 1, &[2, 3, 16], &[2053], &[2, 2053, 16]),
            select("select_some", 0, &[11, 16], &[1500], &[1500, 16]),
            // Longer than a loop may be.
            gather("long", 0, &[3, 2], &[100_007, 2]),
            product,
        ]
    }
}

impl GatherBackward {
    /// The sums by sorting.
    fn segments(&self, picked: &Shape, output: &Meta) -> Segments {
        let inner: usize = output.shape[self.axis + 1..].iter().product();
        let outer: usize = output.shape[..self.axis].iter().product();
        let (length, padding) = (output.shape[self.axis], self.padding.unwrap_or(u32::MAX as usize));
        let (strides, product) = (output.shape.strides(), self.product);
        if self.vector {
            let count = picked[self.axis];
            let axes = axes(1, |_| [count, 0, 0, 0]);
            return Segments { count, places: length, outer, inner, length, stride: 1, padding, axes, product };
        }
        let axes = axes(picked.rank(), |axis| [picked[axis], if axis == self.axis { 0 } else { strides[axis] }, 0, 0]);
        let (count, places, stride) = (picked.elements(), output.elements(), strides[self.axis]);
        Segments { count, places, outer: 1, inner: 1, length, stride, padding, axes, product }
    }

    /// For a product: what `grad`, that of the products, makes of each factor, which is the product of the others. A quotient
    /// where no factor is 0, and formed from the others where one is.
    fn without_each(
        &self,
        factors: &Tensor,
        index: &Tensor,
        grad: &Tensor,
        pick: &dyn Fn(&Tensor) -> Tensor,
    ) -> Tensor {
        let (zero, one) = (factors.scalar(0.0), factors.scalar(1.0));
        let is_zero = factors.eq(&zero);
        let filled = is_zero.where_(&one, factors);
        let together = |x: &Tensor, product: bool| {
            let &GatherBackward { axis, vector, shape, padding, .. } = self;
            Tensor::apply(GatherBackward { axis, vector, shape, padding, product }, &[index, x])
        };
        let zeros = pick(&together(&is_zero.cast(DType::F32), false));
        let others = pick(&(grad * together(&filled, true)));
        let is_alone = is_zero.logical_and(&zeros.eq(&one));
        zeros.eq(&zero).where_(&(&others / &filled), &is_alone.where_(&others, &zero))
    }
}

impl Tensor {
    /// These elements summed, or multiplied, at the places that `index` names on `axis` of a tensor of `shape`, as the gradient of
    /// picking them is: 0 or 1 where it names none. f32.
    #[track_caller]
    pub(crate) fn picked_together(
        &self,
        axis: usize,
        vector: bool,
        shape: Shape,
        index: &Tensor,
        product: bool,
    ) -> Tensor {
        Tensor::apply(GatherBackward { axis, vector, shape, padding: None, product }, &[index, self])
    }
}
