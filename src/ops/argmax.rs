//! Index of the largest element along axes; the first of equal ones, and of NaNs.

use crate::array::{Array, offsets};
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::{EACH, check_axis};
use crate::tensor::Tensor;

/// Linear index, among the reduced elements, of the largest; the axes stay with length 1.
#[derive(Debug)]
pub struct Argmax {
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

impl Tensor {
    /// Index of the largest element along `axis`, which is removed; u32. Of equal elements the first counts, and NaN
    /// counts as largest, as in PyTorch.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range.
    #[track_caller]
    pub fn argmax(&self, axis: usize) -> Tensor {
        let index = self.argmax_axes(&[axis]);
        if index.error().is_some() {
            return index;
        }
        let mut shape = self.dims().to_vec();
        shape.remove(axis);
        index.reshape(&shape)
    }

    #[track_caller]
    pub(crate) fn argmax_axes(&self, axes: &[usize]) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let shape = *self.dims();
        if let Some(&axis) = axes.iter().find(|&&axis| axis >= shape.rank()) {
            return self.problem("argmax", Problem::Axis(axis, shape.rank()));
        }
        // Integers as they are: f32 has not their digits.
        let comparable = match self.meta().dtype {
            DType::F16 => self.cast(DType::F32),
            DType::Bool => self.cast(DType::U32),
            DType::F32 | DType::I32 | DType::U32 => self.clone(),
        };
        Tensor::apply(Argmax { axes: axes.to_vec() }, &[&comparable])
    }
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
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
                if !value(best).is_nan() && (value(r).is_nan() || value(r) > value(best)) {
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
        let mut words = vec![outputs as u32, reduced as u32, run as u32, runs as u32];
        // Eight (length, stride) pairs each for kept and reduced axes, innermost first, padded with (1, 0).
        for wanted in [false, true] {
            let mut axes: Vec<[u32; 2]> = (0..shape.rank())
                .rev()
                .filter(|axis| self.axes.contains(axis) == wanted)
                .map(|axis| [shape[axis] as u32, strides[axis] as u32])
                .collect();
            axes.resize(8, [1, 0]);
            words.extend(axes.into_iter().flatten());
        }
        let shared = include_str!("../../shaders/argmax/argmax.wgsl");
        let (element, is_nan) = match inputs[0].dtype {
            DType::I32 => ("i32", "false"),
            DType::U32 | DType::Bool => ("u32", "false"),
            DType::F32 | DType::F16 => ("f32", "(bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u"),
        };
        let text = |pass: &str| {
            format!("alias S = {element};\nfn is_nan(x: S) -> bool {{\n    return {is_nan};\n}}\n{EACH}{shared}{pass}")
        };
        let mut first = Kernel::own("argmax", text(include_str!("../../shaders/argmax/first.wgsl")));
        first.params = words.clone();
        first.workgroups = ((outputs * runs) as u64).div_ceil(64);
        first.iterations = run as u64 + 16;
        if runs == 1 {
            first.bindings = vec![Binding::input(0), Binding::output()];
            return Lowering::kernel(first);
        }
        first.bindings = vec![Binding::input(0), Binding::write(0)];
        let mut second = Kernel::own("argmax.runs", text(include_str!("../../shaders/argmax/second.wgsl")));
        second.bindings = vec![Binding::input(0), Binding::read(0), Binding::output()];
        second.params = words;
        second.workgroups = (outputs as u64).div_ceil(64);
        second.iterations = runs as u64 + 16;
        Lowering::Kernels { kernels: vec![first, second], temporaries: vec![outputs * runs] }
    }

    fn cases() -> Vec<Case> {
        let exact = |case: Case| case.tolerance(Tolerance::Exact).not_differentiable();
        let ties = Draw::Values(&[1.0, 3.0, 3.0, -2.0, 3.0]);
        let nan = Draw::Values(&[1.0, f64::NAN, 7.0, f64::NAN, 3.0]);
        vec![
            exact(Case::new("last", |x| x[0].argmax(1)).normal(&[37, 10])),
            exact(Case::new("middle", |x| x[0].argmax(1)).normal(&[5, 37, 3])),
            exact(Case::new("ties", |x| x[0].argmax(1)).input(&[3, 5], DType::F32, ties)),
            exact(Case::new("nan", |x| x[0].argmax(1)).input(&[3, 5], DType::F32, nan)),
            exact(Case::new("i32", |x| (x[0].negative() - 7).argmax(0)).input(&[37, 5], DType::I32, Draw::Below(9))),
            exact(Case::new("u32", |x| x[0].argmax(1)).input(&[37, 5], DType::U32, Draw::Below(u32::MAX))),
            exact(Case::new("bool", |x| x[0].argmax(1)).input(&[37, 5], DType::Bool, Draw::Below(2))),
            exact(Case::new("long", |x| x[0].argmax(1)).normal(&[2, 100_003])),
        ]
    }
}
