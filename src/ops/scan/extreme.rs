//! Running maxima and minima along an axis, and where they are.

use super::{Program, check, kernels, positions};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::Rows;
use crate::shader::Item;
use crate::shaders::scan::EXTREMES;
use crate::shape::Axis;
use crate::tensor::Tensor;

/// The largest, or smallest, element up to each one along an axis, and its index, u32.
#[derive(Debug)]
pub struct Cumextreme {
    /// The axis.
    pub axis: usize,
    /// True for the smallest.
    pub least: bool,
}

impl Tensor {
    /// The largest element up to each one along `axis`, and its index on that axis, u32: both of this shape, as `torch.cummax`. Of
    /// equal elements the last counts, and NaN is larger than any number. The gradient goes to the elements that the indices name.
    ///
    /// # Errors
    /// The results carry [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::DType`] for booleans.
    #[track_caller]
    pub fn cummax(&self, axis: impl Into<Axis>) -> [Tensor; 2] {
        self.running(axis.into().of(self.dims().rank()), false)
    }

    /// The smallest element up to each one along `axis`, and its index: else as [`Tensor::cummax`]; NaN is smaller than any number.
    ///
    /// # Errors
    /// Those of [`Tensor::cummax`].
    #[track_caller]
    pub fn cummin(&self, axis: impl Into<Axis>) -> [Tensor; 2] {
        self.running(axis.into().of(self.dims().rank()), true)
    }

    #[track_caller]
    fn running(&self, axis: usize, least: bool) -> [Tensor; 2] {
        let [values, indices] = Tensor::apply_many(Cumextreme { axis, least }, &[&self.widen()]);
        let values = if self.error().is_some() { values } else { values.cast(self.meta().dtype) };
        [values, indices]
    }
}

impl Op for Cumextreme {
    fn name(&self) -> &'static str {
        if self.least { "cummin" } else { "cummax" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(self.axis, &inputs[0])?;
        match inputs[0].dtype {
            DType::F32 | DType::I32 | DType::U32 => Ok(vec![inputs[0], Meta { dtype: DType::U32, ..inputs[0] }]),
            other => Err(Problem::DType(format!("it takes numbers, not {other}"))),
        }
    }

    /// An element that enters a row is its own index; r_j = g_j, and r_{j+1} where the index stays, gathers what it is named for.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let index = &backward.outputs[1];
        let length = index.dims()[self.axis];
        let mut spread = vec![1; index.dims().rank()];
        spread[self.axis] = length;
        let places = index.device().arange(length, DType::U32).reshape(&spread);
        // Index 0 is behind none, so that what is moved in matches only where it is multiplied with nothing.
        let stays = if length == 1 {
            backward.grad.scale(0.0)
        } else {
            let next = index.slice(self.axis, 1, length - 1);
            let same = next.eq(&index.slice(self.axis, 0, length - 1)).cast(DType::F32);
            let mut around = vec![(0, 0); index.dims().rank()];
            around[self.axis] = (0, 1);
            same.pad(&around, 0.0)
        };
        let gathered = backward.grad.linear_recurrence(&stays, self.axis, true);
        vec![Some(index.eq(&places).where_(&gathered, &backward.grad.scalar(0.0)))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let x = &inputs[0].data;
        let (mut values, mut indices) = (x.clone(), vec![0.0; x.len()]);
        for row in 0..rows.rows {
            let mut best: Option<(f64, usize)> = None;
            for (j, at) in positions(&rows, row, false).into_iter().enumerate() {
                let further = |a: f64| if self.least { x[at] <= a } else { x[at] >= a };
                let wins = best.is_none_or(|(a, _)| x[at].is_nan() || (!a.is_nan() && further(a)));
                let (value, place) = best.filter(|_| !wins).unwrap_or((x[at], j));
                best = Some((value, place));
                (values[at], indices[at]) = (value, place as f64);
            }
        }
        let shape = output.shape;
        vec![Array { shape, dtype: output.dtype, data: values }, Array { shape, dtype: DType::U32, data: indices }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let (element, out, test) = match output.dtype {
            DType::I32 => ("i32", "i32", "false"),
            DType::U32 | DType::Bool => ("u32", "u32", "false"),
            DType::F32 | DType::F16 => ("f32", "$OUT$", "(bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u"),
        };
        let test = format!("fn $is_no_number$(x: {element}) -> bool {{\n    return {test};\n}}\n");
        let shader = Shader::of(&[&EXTREMES]).alias("S", element).constant("LEAST", self.least);
        let program = Program {
            name: self.name(),
            shader: shader.item(Item::new("is_no_number", test)),
            words: 3,
            reverse: false,
            reads: vec![],
            writes: vec![(Binding::output(), "result", out), (Binding::result(1), "indices", "u32")],
        };
        kernels(&Rows::along(&output.shape, self.axis), &program)
    }

    fn cases() -> Vec<Case> {
        let exact = |case: Case| case.tolerance(Tolerance::Exact);
        // Gradients are sums.
        let bound = Tolerance::Pointwise { absolute: 2e-5, relative: 2e-6 };
        let summed = |case: Case| exact(case).gradient_tolerance(bound);
        let max = |axis: usize| move |x: &[Tensor]| x[0].cummax(axis)[0].clone();
        let ties = Draw::Values(&[1.0, 3.0, 3.0, -2.0, 3.0, 4.0]);
        let nan = Draw::Values(&[1.0, 7.0, f64::NAN, 9.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        let indices = |x: &[Tensor]| x[0].cummax(1)[1].clone();
        vec![
            summed(Case::new("max_last", max(1)).normal(&[37, 131])),
            summed(Case::new("max_middle", max(1)).normal(&[3, 37, 5])),
            summed(Case::new("max_runs", max(1)).input(&[3, 1031], DType::F32, Draw::Distinct)),
            summed(Case::new("min_first", |x| x[0].cummin(0)[0].clone()).input(&[131, 5], DType::F32, Draw::Distinct)),
            exact(Case::new("of_one", max(1)).normal(&[5, 1])),
            exact(Case::new("ties", indices).input(&[3, 6], DType::F32, ties.clone())).not_differentiable(),
            exact(Case::new("not_finite", max(1)).input(&[3, 7], DType::F32, nan.clone())).not_differentiable(),
            exact(Case::new("nan_indices", indices).input(&[3, 7], DType::F32, nan)).not_differentiable(),
            exact(Case::new("indices_runs", indices).input(&[2, 1031], DType::F32, ties)).not_differentiable(),
            exact(Case::new("i32", |x| x[0].cummin(1)[0].clone()).input(
                &[5, 37],
                DType::I32,
                Draw::Uniform(-2e9, 2e9),
            ))
            .not_differentiable(),
            exact(Case::new("half", max(1)).input(&[5, 37], DType::F16, Draw::Normal)).not_differentiable(),
            Case::new("between", |x| x[0].transpose(0, 1).tanh().cummax(0)[0].negative())
                .normal(&[37, 5])
                .tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 })
                .gradient_tolerance(bound),
        ]
    }
}
