//! Padding with a constant, and its relative: a slice's gradient put back where it came from.

use std::any::Any;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::Source;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Role, Tolerance};
use crate::ops::shared::each;
use crate::shader::{Item, params};
use crate::shaders;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Elements of `value` before and after each axis.
#[derive(Debug)]
pub struct Pad {
    /// (before, after) for each axis.
    pub pairs: Vec<(usize, usize)>,
    /// What the new elements hold.
    pub value: f64,
}

/// Zeros, with input 0 along `axis` from the host number in input 1.
#[derive(Debug)]
pub struct Place {
    /// The axis.
    pub axis: usize,
    /// Its length in the result.
    pub total: usize,
}

impl Tensor {
    /// `value` put around: (before, after) elements for each axis, as `torch.nn.functional.pad` in constant mode. f32.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there is a pair for each axis.
    #[track_caller]
    pub fn pad(&self, pairs: &[(usize, usize)], value: f64) -> Tensor {
        // A host number beside f32, as any other.
        let value = DType::F32.hold(value).unwrap_or(value);
        Tensor::apply(Pad { pairs: pairs.to_vec(), value }, &[self])
    }

    #[track_caller]
    pub(crate) fn place(&self, axis: usize, start: &Tensor, total: usize) -> Tensor {
        let half = self.meta().dtype == DType::F16;
        let placed = Tensor::apply(Place { axis, total }, &[&self.cast(DType::F32), start]);
        if half { placed.cast(DType::F16) } else { placed }
    }
}

impl Tensor {
    /// The sum of a tensor's gradients, formed in this order. Those of the pieces of a split, which cover it without
    /// overlapping, are joined instead.
    pub(crate) fn sum_of_parts(parts: Vec<Tensor>) -> Tensor {
        if let Some(joined) = joined(&parts) {
            return joined;
        }
        let add = |sum: Tensor, part: Tensor| match sum.meta().dtype == part.meta().dtype {
            true => sum + part,
            false => sum.widen() + part.widen(),
        };
        parts.into_iter().reduce(add).unwrap_or_else(|| Tensor::concat(&[], 0))
    }
}

/// The join of parts that were all put into zeros along one axis, each behind the one before; nothing for other parts.
fn joined(parts: &[Tensor]) -> Option<Tensor> {
    let mut pieces = vec![];
    let mut place = None;
    let dtype = parts.first()?.meta().dtype;
    for part in parts {
        let mut node = part.node().clone();
        // Half precision is put into zeros by way of f32.
        if part.meta().dtype == DType::F16 && node.role() == Some(Role::Cast) {
            node = node.with_inputs(|inputs| inputs.first().cloned())?;
        }
        let Source::Op(op) = &node.source else { return None };
        let &Place { axis, total } = (&**op as &dyn Any).downcast_ref()?;
        let inputs = node.inputs();
        let [input, start] = &inputs[..] else { return None };
        let Some(Role::Constant(start)) = start.role() else { return None };
        if *place.get_or_insert((axis, total)) != (axis, total) {
            return None;
        }
        pieces.push((start as usize, Tensor::from_node(input.clone())));
    }
    let (axis, total) = place?;
    pieces.sort_by_key(|(start, _)| *start);
    let mut end = 0;
    for (start, piece) in &pieces {
        if *start != end {
            return None;
        }
        end += piece.dims()[axis];
    }
    let pieces: Vec<&Tensor> = pieces.iter().map(|(_, piece)| piece).collect();
    (end == total).then(|| Tensor::concat(&pieces, axis).cast(dtype))
}

params! {
    struct Sizes {
        elements,
        value: f32,
        /// The axis, counted from the innermost, that the start moves along; 8 for none.
        dynamic,
        /// (length, input length, input stride, before) of each axis, innermost first.
        axes: [[u32; 4]; MAX_RANK],
    }
}

fn kernel(
    name: &'static str,
    from: &Shape,
    to: &Shape,
    before: &[usize],
    value: f64,
    dynamic: Option<usize>,
) -> Kernel {
    let strides = from.strides();
    let mut axes = [[1, 1, 0, 0]; MAX_RANK];
    for (words, axis) in axes.iter_mut().zip((0..to.rank()).rev()) {
        *words = [to[axis], from[axis], strides[axis], before[axis]].map(|x| x as u32);
    }
    let moved = match dynamic {
        Some(_) => "fn $moved$() -> u32 {\n    return $start$[0];\n}\n",
        None => "fn $moved$() -> u32 {\n    return 0u;\n}\n",
    };
    let mut kernel = Kernel::own(name, each(Shader::of(&[&shaders::PAD])).item(Item::new("moved", moved)));
    kernel.bind(Binding::input(0), "input", "f32");
    if dynamic.is_some() {
        kernel.bind(Binding::input(1), "start", "u32");
    }
    kernel.bind(Binding::output(), "result", "f32");
    let dynamic = dynamic.map_or(MAX_RANK, |axis| to.rank() - 1 - axis);
    kernel.uniform(Sizes { elements: to.elements(), value: value as f32, dynamic, axes });
    kernel.workgroups = (to.elements() as u64).div_ceil(64);
    kernel.iterations = 8;
    kernel.epilogue = true;
    kernel
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.value.to_bits());
        words.extend(self.pairs.iter().flat_map(|&(before, after)| [before as u64, after as u64]));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if self.pairs.len() != shape.rank() {
            let what = format!("{} pairs for the {} axes of shape {shape}", self.pairs.len(), shape.rank());
            return Err(Problem::Shape(what, "pass (before, after) for each axis"));
        }
        if dtype != DType::F32 {
            return Err(Problem::DType(format!("it takes f32, not {dtype}")));
        }
        let dims: Vec<usize> =
            shape.iter().zip(&self.pairs).map(|(&n, &(b, a))| n.saturating_add(b).saturating_add(a)).collect();
        let shape = Shape::new(&dims);
        shape.map(|shape| vec![Meta { shape, dtype }]).ok_or_else(|| {
            Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements")
        })
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let input = backward.inputs[0].dims();
        let mut gradient = backward.grad.clone();
        for (axis, &(before, after)) in self.pairs.iter().enumerate() {
            if before + after > 0 {
                gradient = gradient.slice_fixed(axis, before, input[axis]);
            }
        }
        vec![Some(gradient)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![place(inputs[0], output, |axis| self.pairs[axis].0, self.value)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let before: Vec<usize> = self.pairs.iter().map(|pair| pair.0).collect();
        Lowering::kernel(kernel("pad", &inputs[0].shape, &output.shape, &before, self.value, None))
    }

    fn cases() -> Vec<Case> {
        let exact = |case: Case| case.tolerance(Tolerance::Exact);
        vec![
            exact(Case::new("zeros", |x| x[0].pad(&[(0, 0), (1, 2), (3, 0)], 0.0)).normal(&[3, 5, 37])),
            exact(Case::new("value", |x| x[0].pad(&[(2, 1)], -1.5)).normal(&[131])),
        ]
    }
}

impl Op for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.total as u64]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let mut dims = inputs[0].shape.to_vec();
        crate::ops::shared::check_axis(self.axis, dims.len())?;
        dims[self.axis] = self.total;
        Ok(vec![Meta { shape: Shape::new(&dims).unwrap_or(inputs[0].shape), dtype: DType::F32 }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let length = backward.inputs[0].dims()[self.axis];
        vec![Some(backward.grad.slice_at(self.axis, &backward.inputs[1], length)), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let start = inputs[1].data[0] as usize;
        vec![place(inputs[0], output, |axis| if axis == self.axis { start } else { 0 }, 0.0)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let before = vec![0; output.shape.rank()];
        Lowering::kernel(kernel("place", &inputs[0].shape, &output.shape, &before, 0.0, Some(self.axis)))
    }

    fn cases() -> Vec<Case> {
        let place = |x: &[Tensor]| {
            let start = Tensor::operand(x[0].device(), DType::U32, 3.0, "place");
            x[0].place(1, &start, 11)
        };
        vec![Case::new("middle", place).normal(&[5, 7, 3]).tolerance(Tolerance::Exact)]
    }
}

fn place(input: &Array, output: &Meta, before: impl Fn(usize) -> usize + Sync, value: f64) -> Array {
    let rank = output.shape.rank();
    let strides = input.shape.strides();
    Array::build(output.shape, output.dtype, |linear| {
        let mut index = [0; MAX_RANK];
        Array::unravel(&output.shape, linear, &mut index[..rank]);
        let mut at = 0;
        for axis in 0..rank {
            match index[axis].checked_sub(before(axis)) {
                Some(i) if i < input.shape[axis] => at += i * strides[axis],
                _ => return value,
            }
        }
        input.data[at]
    })
}
