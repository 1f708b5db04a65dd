//! Index of the largest or smallest element along axes; the first of equal ones, and of NaNs, or the last.

use crate::array::{Array, offsets};
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::{check_axis, each};
use crate::shader::{File, Item, params};
use crate::shaders;
use crate::shape::{Axis, MAX_RANK};
use crate::tensor::Tensor;

/// Linear index, among the reduced elements, of the largest; the axes stay with length 1.
#[derive(Debug, Clone)]
pub struct Argmax {
    /// The axes, ascending.
    pub axes: Vec<usize>,
    /// True for the smallest.
    pub least: bool,
    /// True for the last of equal ones.
    pub last: bool,
}

impl Tensor {
    /// Index of the largest element along `axis`, which is removed; u32. Of equal elements the first counts, and NaN
    /// counts as largest, as in PyTorch.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range.
    #[track_caller]
    pub fn argmax(&self, axis: impl Into<Axis>) -> Tensor {
        self.place_of(axis.into(), false, false)
    }

    /// Index of the smallest element along `axis`, which is removed; u32. Of equal elements the first counts, and NaN counts as
    /// smallest, as in PyTorch.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range.
    #[track_caller]
    pub fn argmin(&self, axis: impl Into<Axis>) -> Tensor {
        self.place_of(axis.into(), true, false)
    }

    /// As [`Tensor::argmax`], but of equal elements, and of NaNs, the last counts.
    #[track_caller]
    pub fn argmax_last(&self, axis: impl Into<Axis>) -> Tensor {
        self.place_of(axis.into(), false, true)
    }

    /// As [`Tensor::argmin`], but of equal elements, and of NaNs, the last counts.
    #[track_caller]
    pub fn argmin_last(&self, axis: impl Into<Axis>) -> Tensor {
        self.place_of(axis.into(), true, true)
    }

    #[track_caller]
    fn place_of(&self, axis: Axis, least: bool, last: bool) -> Tensor {
        let axis = axis.of(self.dims().rank());
        let index = self.places_of(Argmax { axes: vec![axis], least, last });
        if index.error().is_some() {
            return index;
        }
        let mut shape = self.dims().to_vec();
        shape.remove(axis);
        index.reshape(&shape)
    }

    #[track_caller]
    pub(crate) fn argmax_axes(&self, axes: &[usize]) -> Tensor {
        self.places_of(Argmax { axes: axes.to_vec(), least: false, last: false })
    }

    #[track_caller]
    fn places_of(&self, op: Argmax) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let shape = *self.dims();
        if let Some(&axis) = op.axes.iter().find(|&&axis| axis >= shape.rank()) {
            return self.problem(op.name(), Problem::Axis(axis, shape.rank()));
        }
        // Integers as they are: f32 has not their digits.
        let comparable = match self.meta().dtype {
            DType::F16 => self.cast(DType::F32),
            DType::Bool => self.cast(DType::U32),
            DType::F32 | DType::I32 | DType::U32 => self.clone(),
        };
        Tensor::apply(op, &[&comparable])
    }
}

params! {
    struct Sizes {
        outputs,
        reduced,
        run,
        runs,
        /// (length, stride) of the kept axes, two a vector, innermost first.
        kept: [[u32; 4]; MAX_RANK / 2],
        /// Of the reduced ones.
        within: [[u32; 4]; MAX_RANK / 2],
    }
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        if self.least { "argmin" } else { "argmax" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(u64::from(self.last));
        words.extend(self.axes.iter().map(|&axis| axis as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        self.axes.iter().try_for_each(|&axis| check_axis(axis, inputs[0].shape.rank()))?;
        if !matches!(inputs[0].dtype, DType::F32 | DType::I32 | DType::U32) {
            return Err(Problem::DType(format!("it takes f32, i32 and u32, not {}", inputs[0].dtype)));
        }
        Ok(vec![Meta { shape: inputs[0].shape.keep(&self.axes), dtype: DType::U32 }])
    }

    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let (kept, reduced) = offsets(&inputs[0].shape, &self.axes);
        vec![Array::build(output.shape, output.dtype, |o| {
            let value = |r: usize| inputs[0].data[kept[o] + reduced[r]];
            let mut best = 0;
            for r in 1..reduced.len() {
                let (x, before) = (value(r), value(best));
                let better = if self.least { x < before } else { x > before } || self.last && x == before;
                if x.is_nan() && (self.last || !before.is_nan()) || !before.is_nan() && better {
                    best = r;
                }
            }
            best as f64
        })]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let shape = inputs[0].shape;
        let strides = shape.strides();
        let outputs = output.elements();
        let reduced = inputs[0].elements() / outputs;
        // An invocation takes a run of at most this many elements; runs are compared in a second pass.
        let run = 40_000.min(reduced);
        let runs = reduced.div_ceil(run);
        // (length, stride) of the kept or the reduced axes, innermost first, padded with (1, 0).
        let axes = |wanted: bool| {
            let mut pairs = [[1, 0, 1, 0]; MAX_RANK / 2];
            let own = (0..shape.rank()).rev().filter(|axis| self.axes.contains(axis) == wanted);
            for (k, axis) in own.enumerate() {
                pairs[k / 2][k % 2 * 2..][..2].copy_from_slice(&[shape[axis] as u32, strides[axis] as u32]);
            }
            pairs
        };
        let sizes = Sizes { outputs, reduced, run, runs, kept: axes(false), within: axes(true) };
        let (element, is_nan) = match inputs[0].dtype {
            DType::I32 => ("i32", "false"),
            DType::U32 | DType::Bool => ("u32", "false"),
            DType::F32 | DType::F16 => ("f32", "(bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u"),
        };
        let kernel = |name: &'static str, pass: &'static File, units: usize, rounds: usize| {
            let is_nan = format!("fn $is_nan$(x: {element}) -> bool {{\n    return {is_nan};\n}}\n");
            let shader = each(Shader::of(&[&shaders::argmax::ARGMAX, pass]));
            let shader = shader.constant("LEAST", self.least).constant("LAST", self.last);
            let mut kernel = Kernel::own(name, shader.alias("S", element).item(Item::new("is_nan", is_nan)));
            kernel.uniform(sizes);
            kernel.bind(Binding::input(0), "input", element);
            kernel.workgroups = (units as u64).div_ceil(64);
            kernel.iterations = rounds as u64 + 16;
            kernel
        };
        let mut first = kernel("argmax", &shaders::argmax::FIRST, outputs * runs, run);
        first.bind(if runs == 1 { Binding::output() } else { Binding::write(0) }, "result", "u32");
        if runs == 1 {
            return Lowering::kernel(first);
        }
        let mut second = kernel("argmax.runs", &shaders::argmax::SECOND, outputs, runs);
        second.bind(Binding::read(0), "partial", "u32");
        second.bind(Binding::output(), "result", "u32");
        Lowering::Kernels { kernels: vec![first, second], temporaries: vec![outputs * runs] }
    }

    fn cases() -> Vec<Case> {
        let exact = |case: Case| case.tolerance(Tolerance::Exact).not_differentiable();
        let ties = Draw::Values(&[1.0, 3.0, 3.0, -2.0, 3.0]);
        let nan = Draw::Values(&[1.0, f64::NAN, 7.0, f64::NAN, 3.0]);
        vec![
            exact(Case::new("last", |x| x[0].argmax(1)).normal(&[37, 10])),
            exact(Case::new("middle", |x| x[0].argmax(1)).normal(&[5, 37, 3])),
            exact(Case::new("ties", |x| x[0].argmax(1)).input(&[3, 5], DType::F32, ties.clone())),
            exact(Case::new("nan", |x| x[0].argmax(1)).input(&[3, 5], DType::F32, nan.clone())),
            exact(Case::new("last_ties", |x| x[0].argmax_last(1)).input(&[3, 5], DType::F32, ties.clone())),
            exact(Case::new("last_nan", |x| x[0].argmax_last(1)).input(&[3, 5], DType::F32, nan.clone())),
            exact(Case::new("least", |x| x[0].argmin(1)).normal(&[5, 37, 3])),
            exact(Case::new("least_nan", |x| x[0].argmin(1)).input(&[3, 5], DType::F32, nan)),
            exact(Case::new("least_last_long", |x| x[0].round().argmin_last(1)).normal(&[2, 100_003])),
            exact(Case::new("least_i32", |x| x[0].argmin(0)).input(&[37, 5], DType::I32, Draw::Uniform(-2e9, 2e9))),
            exact(Case::new("i32", |x| (x[0].negative() - 7).argmax(0)).input(&[37, 5], DType::I32, Draw::Below(9))),
            exact(Case::new("u32", |x| x[0].argmax(1)).input(&[37, 5], DType::U32, Draw::Below(u32::MAX))),
            exact(Case::new("bool", |x| x[0].argmax(1)).input(&[37, 5], DType::Bool, Draw::Below(2))),
            exact(Case::new("long", |x| x[0].argmax(1)).normal(&[2, 100_003])),
        ]
    }
}
