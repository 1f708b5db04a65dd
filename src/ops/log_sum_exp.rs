//! The logarithm of a sum of exponentials along an axis, y = log(sum exp(x)), in one pass over it.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{EXP_DOWN, LOG_SUM_EXP, MAX_LENGTH, Program, Rows};
use crate::ops::shared::check_axis;
use crate::shaders;
use crate::shape::Axes;
use crate::tensor::Tensor;

/// The logarithm of the sum of exponentials along an axis, which stays with length 1.
#[derive(Debug)]
pub struct LogSumExp {
    /// The axis.
    pub axis: usize,
}

impl Tensor {
    /// log(sum exp(x)) along `axes`, which are removed, without leaving the range, as `torch.logsumexp`: -inf where all elements are
    /// -inf, infinity where one is, NaN where one is that. Half precision is summed in f32 and rounded once. The gradient is the
    /// softmax; that of elements that are all -inf is 0, where PyTorch has NaN.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::Shape`] for one that is named twice,
    /// [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn log_sum_exp(&self, axes: impl Axes) -> Tensor {
        let axes = axes.of(self.dims().rank());
        let kept = self.kept_log_sum_exp(&axes);
        if kept.error().is_some() {
            return kept;
        }
        let shape = *self.dims();
        let left: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
        kept.reshape(&left)
    }

    /// As [`Tensor::log_sum_exp`], but `axes` stay with length 1.
    #[track_caller]
    pub fn log_sum_exp_keep(&self, axes: impl Axes) -> Tensor {
        self.kept_log_sum_exp(&axes.of(self.dims().rank()))
    }

    #[track_caller]
    fn kept_log_sum_exp(&self, axes: &[usize]) -> Tensor {
        self.formed_wide(|x| match axes {
            &[axis] => x.log_of_sum(axis),
            axes => x.with_axes_last(axes, |rows| rows.log_of_sum(1)),
        })
    }

    /// As [`Tensor::log_sum_exp`] over all axes: a scalar.
    #[track_caller]
    pub fn log_sum_exp_all(&self) -> Tensor {
        self.log_sum_exp(&(0..self.dims().rank()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn log_of_sum(&self, axis: usize) -> Tensor {
        // Longer rows than a kernel folds.
        if self.error().is_none() && self.dims().get(axis).is_some_and(|&length| length > MAX_LENGTH) {
            let top = self.max_keep(&[axis]).detach();
            let top = top.is_finite().where_(&top, &self.scalar(0.0));
            return (self - &top).exp().sum_keep(&[axis]).log() + top;
        }
        Tensor::apply(LogSumExp { axis }, &[self])
    }

    /// What `form` makes of a matrix of rows, whose elements are those along `axes`, with the axes where they were: as long as before, or
    /// of length 1 if it makes one of a row.
    #[track_caller]
    pub(crate) fn with_axes_last(&self, axes: &[usize], form: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let shape = *self.dims();
        let rank = shape.rank();
        if let Some(&axis) = axes.iter().find(|&&axis| axis >= rank) {
            return self.problem("permute", Problem::Axis(axis, rank));
        }
        let kept = (0..rank).filter(|axis| !axes.contains(axis));
        let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
        if order.len() != rank || (0..rank).any(|axis| !order.contains(&axis)) {
            let what = format!("an axis is named twice in {axes:?}");
            return self.problem("permute", Problem::Shape(what, "name each axis once"));
        }
        let length: usize = axes.iter().map(|&axis| shape[axis]).product();
        let rows = self.permute(&order).reshape(&[shape.elements() / length, length]);
        let formed = form(&rows);
        if formed.error().is_some() {
            return formed;
        }
        let is_whole = formed.dims()[1] == length;
        let lengths: Vec<usize> =
            order.iter().map(|&axis| if is_whole || !axes.contains(&axis) { shape[axis] } else { 1 }).collect();
        let back: Vec<usize> =
            (0..rank).map(|axis| order.iter().position(|&own| own == axis).unwrap_or(axis)).collect();
        formed.reshape(&lengths).permute(&back)
    }
}

impl Op for LogSumExp {
    fn name(&self) -> &'static str {
        "log_sum_exp"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check_axis(self.axis, inputs[0].shape.rank())?;
        match inputs[0].dtype {
            DType::F32 => Ok(vec![Meta { shape: inputs[0].shape.keep(&[self.axis]), dtype: DType::F32 }]),
            other => Err(Problem::DType(format!("it takes floats, not {other}"))),
        }
    }

    /// g exp(x - y); a finite y in place of -inf leaves the shares 0.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some((&backward.inputs[0] - backward.output.maximum(-1e38)).exp() * backward.grad)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&inputs[0].shape, self.axis);
        vec![Array::build(output.shape, output.dtype, |row| {
            let values = rows.positions(row).map(|at| inputs[0].data[at]);
            let top = values.clone().fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b < a { a } else { b });
            if top.is_finite() { top + values.map(|x| (x - top).exp()).sum::<f64>().ln() } else { top }
        })]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let program = Program {
            name: "log_sum_exp",
            shader: Shader::of(&[&shaders::log_sum_exp::FORWARD, LOG_SUM_EXP, EXP_DOWN]),
            state: &["top", "sum", "bad"],
            bound: vec![(Binding::output(), "result", "f32")],
            results: 1,
            number: 0.0,
            first_of_row: false,
        };
        Lowering::kernel(Rows::along(&inputs[0].shape, self.axis).kernel(program, capabilities))
    }

    fn cases() -> Vec<Case> {
        let bound = Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 };
        let case = |name: &str, shape: &[usize], axes: &'static [usize]| {
            Case::new(name, move |x| x[0].log_sum_exp(axes)).normal(shape).tolerance(bound)
        };
        let masked = Draw::Values(&[f64::NEG_INFINITY, 1.0, -2.0, f64::NEG_INFINITY, 3.0]);
        let broken = Draw::Values(&[
            f64::NAN,
            1.0,
            2.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NEG_INFINITY,
            f64::INFINITY,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::INFINITY,
        ]);
        let odd = |name: &str, shape: &[usize], draw: Draw| {
            Case::new(name, |x| x[0].log_sum_exp_keep(&[1])).input(shape, DType::F32, draw).not_differentiable()
        };
        vec![
            case("last", &[37, 10], &[1]),
            case("first", &[131, 5], &[0]),
            case("middle", &[3, 37, 8], &[1]),
            case("long", &[3, 1031], &[1]),
            case("four_long", &[2, 2052], &[1]),
            case("ends", &[3, 5, 7], &[0, 2]),
            case("all", &[37, 5], &[0, 1]),
            case("of_one", &[5, 1], &[1]),
            Case::new("large", |x| (&x[0] * 300.0).log_sum_exp(&[1]).scale(0.01))
                .normal(&[37, 10])
                .tolerance(bound)
                .gradient_tolerance(Tolerance::Pointwise { absolute: 1e-4, relative: 2e-6 }),
            Case::new("half", |x| x[0].log_sum_exp(&[1]))
                .input(&[5, 37], DType::F16, Draw::Normal)
                .tolerance(Tolerance::HalfSum { terms: 37 })
                .not_differentiable(),
            odd("masked", &[3, 5], masked),
            odd("not_finite", &[5, 2], broken.clone()),
            odd("not_finite_four", &[3, 4], broken),
        ]
    }
}
