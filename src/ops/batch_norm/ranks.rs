//! Batch normalisation with the statistics of a batch that is spread over ranks.
//!
//! Forward it is [`BatchNorm`] with given numbers. Backward each rank has its part of the two sums; once these are joined
//! the gradient is that of [`BatchNormBackward`]. So a backward pass stops here until the ranks have met, which an
//! optimizer of several ranks lets it do; the op's own rule cannot.

use std::any::Any;

use super::backward::{BatchNormBackward, BatchNormSums};
use super::statistics::BatchNormStatistics;
use super::{BatchNorm, bound};
use crate::array::Array;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Role};
use crate::tensor::{Tensor, in_rule};

/// The channels of input 0, `[n, channels, ..]`, normalised with the statistics in input 1, `[3, channels]` as those of
/// [`BatchNormStatistics`] but of all ranks' batches; times input 2 plus input 3, `[channels]`.
#[derive(Debug)]
pub struct BatchNormOfRanks {
    /// Added to the variance.
    pub epsilon: f64,
}

impl Tensor {
    /// First element, biased variance, and mean less the first element of each channel: `[3, channels]`. One element a channel
    /// will do, since other ranks may have more.
    #[track_caller]
    pub(crate) fn statistics_of_rank(&self) -> Tensor {
        let x = self.widen();
        let dims = *x.dims();
        if x.error().is_none() && dims.rank() >= 2 && dims.elements() == dims[1] {
            let [own, none] = [x.reshape(&[dims[1]]).detach(), x.device().zeros(&[dims[1]])];
            return Tensor::stack(&[&own, &none, &none], 0);
        }
        Tensor::apply(BatchNormStatistics, &[&x]).detach()
    }

    /// [`Tensor::batch_norm`] with the statistics of all ranks, `[3, channels]`.
    #[track_caller]
    pub(crate) fn batch_norm_of_ranks(
        &self,
        statistics: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f64,
    ) -> Tensor {
        if epsilon.is_nan() || epsilon < 0.0 {
            let what = format!("epsilon is {epsilon}");
            return self.problem("batch_norm", Problem::Value(what, "pass a number from 0 on, such as 1e-5"));
        }
        let inputs = [&self.widen(), statistics, &weight.widen(), &bias.widen()];
        Tensor::apply(BatchNormOfRanks { epsilon }, &inputs).cast(self.meta().dtype)
    }
}

impl BatchNormOfRanks {
    /// The op, if it is this one.
    pub(crate) fn of(op: &dyn Op) -> Option<&BatchNormOfRanks> {
        (op as &dyn Any).downcast_ref()
    }

    /// This rank's sums of dy h and of dy, `[2, channels]`: its part of the gradients of weight and bias.
    pub(crate) fn sums(&self, backward: &Backward<'_>) -> Tensor {
        let inputs = [backward.grad, &backward.inputs[0], &backward.inputs[1]];
        in_rule(|| Tensor::apply(BatchNormSums { epsilon: self.epsilon, of_batch: true }, &inputs))
    }

    /// The gradients of all inputs, from this rank's sums and those of all ranks, these times this rank's share of the
    /// elements: [`BatchNormBackward`] divides by their number on this rank.
    pub(crate) fn gradients(&self, backward: &Backward<'_>, own: &Tensor, joined: &Tensor) -> Vec<Option<Tensor>> {
        let [x, statistics, weight] = [0, 1, 2].map(|input| &backward.inputs[input]);
        in_rule(|| {
            let op = BatchNormBackward { epsilon: self.epsilon, weight: true };
            let from_x = Tensor::apply(op, &[backward.grad, x, statistics, joined, weight]);
            let row = |k: usize| own.slice_fixed(0, k, 1).reshape(weight.dims());
            vec![Some(from_x), None, Some(row(0)), Some(row(1))]
        })
    }

    fn forward(&self) -> BatchNorm {
        BatchNorm { epsilon: self.epsilon, of_batch: true, weight: true, bias: true }
    }
}

impl Op for BatchNormOfRanks {
    fn name(&self) -> &'static str {
        "batch_norm_of_ranks"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.epsilon.to_bits());
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        self.forward().shape(inputs)
    }

    /// None without the other ranks.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let what = "a gradient through batch normalisation over ranks".into();
        let next = "step with an optimizer that is distributed over the same world, by Optimizer::step or accumulate";
        let refused = backward.inputs[0].problem(self.name(), Problem::Value(what, next));
        backward.needs.iter().map(|needed| needed.then(|| refused.clone())).collect()
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        self.forward().reference(inputs, output)
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        self.forward().lowering(inputs, output, capabilities)
    }

    fn role(&self) -> Role {
        Role::OfRanks
    }

    fn cases() -> Vec<Case> {
        let case = |(name, shape): (&str, &'static [usize])| {
            let case = Case::new(name, |x| {
                let statistics = Tensor::apply(BatchNormStatistics, &[&x[3]]);
                x[0].batch_norm_of_ranks(&statistics, &x[1], &x[2], 0.1)
            });
            let case = case.normal(shape).normal(&[shape[1]]).normal(&[shape[1]]).normal(shape);
            case.tolerance(bound(shape)).not_differentiable()
        };
        super::SHAPES.into_iter().map(case).collect()
    }
}
