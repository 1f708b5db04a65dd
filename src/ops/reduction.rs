//! What becomes of the single losses that a loss is made of.

use crate::tensor::Tensor;

/// What becomes of the losses of single elements or rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their mean: a scalar. Of labels it is over those that count, weighted by their classes' weights.
    #[default]
    Mean,
    /// Their sum: a scalar.
    Sum,
    /// They stay as they are.
    None,
}

impl Reduction {
    /// What it makes of losses that all count alike.
    #[track_caller]
    pub(crate) fn of(self, losses: &Tensor) -> Tensor {
        match self {
            Reduction::Mean => losses.mean_all(),
            Reduction::Sum => losses.sum_all(),
            Reduction::None => losses.clone(),
        }
    }
}
