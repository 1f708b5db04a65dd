//! Views: reshape, permute, expand, slice, detach. The planner turns them into index arithmetic of their consumer.

use std::panic::Location;
use std::sync::Arc;

mod axes;
mod pieces;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::{Node, Source};
use crate::history::Flow;
use crate::kernel::Capabilities;
use crate::layout::{Meta, ViewKind};
use crate::op::{Backward, Case, Casting, Lowering, Op, Role, Tolerance};
use crate::ops::shared::check_axis;
use crate::shape::{Axes, Axis, MAX_RANK, Shape};
use crate::tensor::{Tensor, no_grad};

/// The same elements in another shape.
#[derive(Debug)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

/// Axes in another order.
#[derive(Debug)]
pub struct Permute {
    /// Output axis `i` is input axis `axes[i]`.
    pub axes: Vec<usize>,
}

/// Axes of length 1 stretched, new axes in front.
#[derive(Debug)]
pub struct Expand {
    /// The new shape.
    pub shape: Shape,
}

/// A run of elements along one axis, from the host number in input 1.
#[derive(Debug)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// Number of elements.
    pub length: usize,
}

/// The same value, through which no gradient flows.
#[derive(Debug)]
pub struct Detach;

impl Tensor {
    /// The same elements, row-major, in `shape`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] if the number of elements differs.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Tensor {
        if self.error().is_none() && **self.dims() == *shape {
            return self.clone();
        }
        match Shape::new(shape) {
            Some(shape) => Tensor::apply(Reshape { shape }, &[self]),
            None => self.problem("reshape", too_large(shape)),
        }
    }

    /// Axes in the order `axes`: output axis `i` is this tensor's axis `axes[i]`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] or [`crate::Error::Shape`] unless `axes` is a permutation.
    #[track_caller]
    pub fn permute(&self, axes: impl Axes) -> Tensor {
        Tensor::apply(Permute { axes: axes.of(self.dims().rank()) }, &[self])
    }

    /// Broadcast to `shape`: axes of length 1 are stretched and new ones put in front, without copying.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] if another axis differs.
    #[track_caller]
    pub fn expand(&self, shape: &[usize]) -> Tensor {
        match Shape::new(shape) {
            Some(shape) if self.error().is_none() && shape == *self.dims() => self.clone(),
            Some(shape) => Tensor::apply(Expand { shape }, &[self]),
            None => self.problem("expand", too_large(shape)),
        }
    }

    /// `length` elements of `axis` from `start` on. The start travels as a host number.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] or [`crate::Error::Value`] if that leaves the axis.
    #[track_caller]
    pub fn slice(&self, axis: impl Into<Axis>, start: usize, length: usize) -> Tensor {
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        if self.error().is_none() {
            if let Err(problem) = check_axis(axis, dims.rank()) {
                return self.problem("slice", problem);
            }
            if start.checked_add(length).is_none_or(|end| end > dims[axis]) || length == 0 {
                let what = format!("{length} elements from {start} leave axis {axis} of shape {dims}, or are none");
                return self.problem("slice", Problem::Value(what, "keep start + length within the axis"));
            }
        }
        let start = Tensor::operand(self.device(), DType::U32, start as f64, "slice");
        Tensor::apply(Slice { axis, length }, &[self, &start])
    }

    /// A slice whose start is part of the graph's structure (for gradient rules).
    #[track_caller]
    pub(crate) fn slice_fixed(&self, axis: usize, start: usize, length: usize) -> Tensor {
        let start = self.device().fixed(&[], DType::U32, start as f64);
        self.slice_at(axis, &start, length)
    }

    /// A slice from the number in `start`, which the caller has checked.
    #[track_caller]
    pub(crate) fn slice_at(&self, axis: usize, start: &Tensor, length: usize) -> Tensor {
        Tensor::apply(Slice { axis, length }, &[self, start])
    }

    /// Pieces of `sizes` elements along `axis`, in order; as `torch.split`. Where the pieces begin is part of the graph's
    /// structure, so that kernels read them where they are.
    ///
    /// # Errors
    /// Every piece carries [`crate::Error::Axis`], or [`crate::Error::Shape`] unless the sizes add up to the axis.
    #[track_caller]
    pub fn split(&self, axis: impl Into<Axis>, sizes: &[usize]) -> Vec<Tensor> {
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if self.error().is_none() && axis >= dims.rank() {
            return vec![self.problem("split", Problem::Axis(axis, dims.rank())); sizes.len().max(1)];
        }
        if self.error().is_none() && total != Some(dims[axis]) {
            let what = format!("sizes {sizes:?} do not add up to axis {axis} of shape {dims}");
            let bad = self.problem("split", Problem::Shape(what, "pass sizes that add up to the axis"));
            return vec![bad; sizes.len().max(1)];
        }
        let mut start = 0;
        let mut piece = |&size: &usize| {
            start += size;
            if self.error().is_some() { self.clone() } else { self.slice_fixed(axis, start - size, size) }
        };
        sizes.iter().map(&mut piece).collect()
    }

    /// The same value, through which no gradient flows. It stays what it is when parameters are updated (`old.detach()` in a
    /// loss of many steps).
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        let at = Location::caller();
        no_grad(|| Tensor::record(self.device(), Arc::new(Detach), &[self], at))
    }

    /// The same value as a new leaf that gradients can be asked for; history ends here.
    ///
    /// For parameters of a model use [`crate::ParamStore`]; this is for gradients with respect to inputs.
    #[track_caller]
    pub fn variable(&self) -> Tensor {
        let detached = self.detach();
        if detached.error().is_some() {
            return detached;
        }
        let node = detached.node();
        let source = Source::Op(Arc::new(Detach));
        let new =
            Node::new(&node.device, node.meta, source, smallvec::smallvec![self.node().clone()], Flow::Ends, node.at);
        let variable = Tensor::from_node(Arc::new(new));
        for store in &variable.node().stores {
            store.remember(variable.node());
        }
        variable
    }
}

fn too_large(shape: &[usize]) -> Problem {
    Problem::Shape(format!("shape {shape:?} is too large"), "use at most 8 axes and 2^32 - 1 elements")
}

/// Elements of `input` picked by a function from output to input multi-index.
fn pick(input: &Array, output: &Meta, at: impl Fn(&[usize], &mut [usize]) + Sync) -> Array {
    let strides = input.shape.strides();
    Array::build(output.shape, output.dtype, |linear| {
        let (mut to, mut from) = ([0; MAX_RANK], [0; MAX_RANK]);
        let (to, from) = (&mut to[..output.shape.rank()], &mut from[..strides.len()]);
        Array::unravel(&output.shape, linear, to);
        at(to, from);
        input.data[from.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>()]
    })
}

fn exact(name: &str, shape: &[usize], build: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
    Case::new(name, build).normal(shape).tolerance(Tolerance::Exact)
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn role(&self) -> Role {
        Role::View
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend(self.shape.iter().map(|&dim| dim as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let from = inputs[0].shape;
        if from.elements() != self.shape.elements() {
            let what =
                format!("shape {from} has {} elements, {} has {}", from.elements(), self.shape, self.shape.elements());
            return Err(Problem::Shape(what, "keep the number of elements"));
        }
        Ok(vec![Meta { shape: self.shape, dtype: inputs[0].dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(backward.grad.reshape(backward.inputs[0].dims()))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![Array { shape: output.shape, ..inputs[0].clone() }]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::Reshape)
    }

    fn cases() -> Vec<Case> {
        vec![
            exact("plain", &[3, 4, 5], |x| x[0].reshape(&[5, 12])),
            exact("of_transposed", &[7, 5], |x| x[0].permute(&[1, 0]).reshape(&[35])),
        ]
    }
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn role(&self) -> Role {
        Role::Permutation
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend(self.axes.iter().map(|&axis| axis as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let from = inputs[0].shape;
        let mut seen = [false; MAX_RANK];
        for &axis in &self.axes {
            check_axis(axis, from.rank())?;
            seen[axis] = true;
        }
        if self.axes.len() != from.rank() || seen.iter().filter(|&&s| s).count() != from.rank() {
            let what = format!("axes {:?} are no permutation of the {} axes of shape {from}", self.axes, from.rank());
            return Err(Problem::Shape(what, "name every axis once"));
        }
        let dims: Vec<usize> = self.axes.iter().map(|&axis| from[axis]).collect();
        Ok(vec![Meta { shape: Shape::new(&dims).unwrap_or(from), dtype: inputs[0].dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let mut inverse = vec![0; self.axes.len()];
        self.axes.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        vec![Some(backward.grad.permute(&inverse))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![pick(inputs[0], output, |to, from| self.axes.iter().zip(to).for_each(|(&axis, &i)| from[axis] = i))]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::Permute(self.axes.clone()))
    }

    fn cases() -> Vec<Case> {
        vec![
            exact("three_axes", &[3, 37, 5], |x| x[0].permute(&[2, 0, 1])),
            exact("fours", &[4, 8, 12], |x| x[0].permute(&[1, 0, 2])),
        ]
    }
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn role(&self) -> Role {
        Role::View
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend(self.shape.iter().map(|&dim| dim as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let from = inputs[0].shape;
        if from.broadcast(&self.shape) != Some(self.shape) {
            let what = format!("shape {from} does not stretch to {}", self.shape);
            return Err(Problem::Shape(what, "only axes of length 1 stretch, counted from the last"));
        }
        Ok(vec![Meta { shape: self.shape, dtype: inputs[0].dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(backward.grad.sum_to(backward.inputs[0].dims()))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let shape = inputs[0].shape;
        vec![pick(inputs[0], output, |to, from| {
            let lead = to.len() - from.len();
            for axis in 0..from.len() {
                from[axis] = if shape[axis] == 1 { 0 } else { to[lead + axis] };
            }
        })]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::Expand)
    }

    fn cases() -> Vec<Case> {
        let sum = Tolerance::Sum { terms: 37 * 3 };
        vec![
            exact("rows", &[37, 1], |x| x[0].expand(&[3, 37, 5])).gradient_tolerance(sum),
            exact("scalar", &[], |x| x[0].expand(&[3, 37])).gradient_tolerance(sum),
        ]
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn role(&self) -> Role {
        Role::View
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.length as u64]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let from = inputs[0].shape;
        check_axis(self.axis, from.rank())?;
        let mut dims = from.to_vec();
        if self.length > dims[self.axis] {
            let what = format!("{} elements of axis {} of shape {from}", self.length, self.axis);
            return Err(Problem::Value(what, "keep start + length within the axis"));
        }
        dims[self.axis] = self.length;
        Ok(vec![Meta { shape: Shape::new(&dims).unwrap_or(from), dtype: inputs[0].dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (input, start) = (&backward.inputs[0], &backward.inputs[1]);
        vec![Some(backward.grad.place(self.axis, start, input.dims()[self.axis])), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let start = inputs[1].data[0] as usize;
        vec![pick(inputs[0], output, |to, from| {
            from.copy_from_slice(to);
            from[self.axis] += start;
        })]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::Slice { axis: self.axis })
    }

    fn cases() -> Vec<Case> {
        vec![
            exact("middle", &[5, 37, 3], |x| x[0].slice(1, 11, 13)),
            exact("last_axis", &[5, 37], |x| x[0].slice(1, 30, 7)),
            exact("of_fours", &[8, 12], |x| x[0].slice(0, 3, 4)),
        ]
    }
}

impl Op for Detach {
    fn name(&self) -> &'static str {
        "detach"
    }

    fn role(&self) -> Role {
        Role::View
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![inputs[0]])
    }

    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None]
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        vec![inputs[0].clone()]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::Reshape)
    }

    fn cases() -> Vec<Case> {
        vec![exact("plain", &[37], |x| x[0].detach()).not_differentiable()]
    }
}
