//! Normalisation of each image's channels, and over neighbouring channels.

use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Tolerance};
use crate::tensor::Tensor;

impl Tensor {
    /// Each channel of each image of `[n, channels, ..]` with mean 0 and variance 1 (`epsilon` is added to the variance),
    /// times `weight` plus `bias`, both `[channels]`: as `torch.nn.functional.instance_norm`. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are several elements a channel and the weights have one for
    /// each channel; else as [`Tensor::layer_norm`].
    #[track_caller]
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        if dims.rank() < 3 || dims.iter().skip(2).product::<usize>() < 2 {
            let what = format!("input of shape {dims}");
            let problem = Problem::Shape(what, "pass [n, channels, ..] with several elements a channel");
            return self.problem("instance_norm", problem);
        }
        if let Some(wrong) =
            [weight, bias].into_iter().flatten().find(|x| x.error().is_none() && x.dims()[..] != dims[1..2])
        {
            let what = format!("a weight or bias of shape {} for {} channels", wrong.dims(), dims[1]);
            return self.problem("instance_norm", Problem::Shape(what, "give it one element a channel"));
        }
        self.group_norm(dims[1], weight, bias, epsilon)
    }

    /// x / (k + alpha m)^beta with the mean m of x^2 over `size` neighbouring channels of `[batch, channels, ..]`, zeros beyond
    /// the first and the last: as `torch.nn.functional.local_response_norm` (Krizhevsky, Sutskever and Hinton 2012), whose
    /// defaults are alpha 1e-4, beta 0.75, k 1. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are channels, [`crate::Error::DType`] for integers,
    /// [`crate::Error::Value`] for a size of 0.
    #[track_caller]
    pub fn local_response_norm(&self, size: usize, alpha: f64, beta: f64, k: f64) -> Tensor {
        const OP: &str = "local_response_norm";
        if self.error().is_some() {
            return self.clone();
        }
        if self.dims().rank() < 2 {
            let what = format!("input of shape {}", self.dims());
            return self.problem(OP, Problem::Shape(what, "pass [batch, channels, ..]"));
        }
        if !self.meta().dtype.is_float() {
            return self.problem(OP, Problem::DType(format!("it takes floats, not {}", self.meta().dtype)));
        }
        self.formed_wide(|x| {
            let means = x.square().channel_means(OP, size);
            let base = means.scale(alpha).offset(k);
            x / base.pow(&base.scalar(beta))
        })
    }
}

pub(super) fn cases() -> Vec<Case> {
    let bound = Tolerance::Pointwise { absolute: 2e-5, relative: 2e-5 };
    vec![
        Case::new("instance_norm", |x| x[0].instance_norm(Some(&x[1]), Some(&x[2]), 1e-5))
            .normal(&[2, 3, 5, 7])
            .normal(&[3])
            .normal(&[3])
            .tolerance(Tolerance::Pointwise { absolute: 2e-4, relative: 2e-5 }),
        Case::new("local_response_norm", |x| x[0].local_response_norm(4, 0.5, 0.75, 1.0))
            .normal(&[2, 7, 3, 5])
            .tolerance(bound),
        Case::new("local_response_norm_half", |x| {
            x[0].cast(DType::F16).local_response_norm(3, 0.5, 0.75, 1.0).cast(DType::F32)
        })
        .normal(&[2, 7, 11])
        .tolerance(Tolerance::Pointwise { absolute: 2e-3, relative: 2e-3 })
        .not_differentiable(),
    ]
}
