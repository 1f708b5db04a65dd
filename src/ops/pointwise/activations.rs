//! Activation functions as methods: rows of the table, and what is composed of them.

use super::{Pointwise, number, table};
use crate::error::Problem;
use crate::ops::shared::check_axis;
use crate::shape::Axis;
use crate::tensor::Tensor;

unary! {
    /// max(x, 0); NaN stays NaN.
    relu = RELU;
    /// Gaussian error linear unit x * Phi(x) (Hendrycks and Gimpel 2016), exact form.
    gelu = GELU;
    /// GELU by the tanh approximation (`approximate="tanh"` in PyTorch).
    gelu_tanh = GELU_TANH;
    /// x * sigmoid(x).
    silu = SILU;
    /// 1 / (1 + exp(-x)).
    sigmoid = SIGMOID;
    /// log(1 + exp(x)).
    softplus = SOFTPLUS;
    /// The scaled exponential linear unit (Klambauer et al. 2017): 1.0507 x where x > 0, else 1.0507 * 1.6733 (exp(x) - 1).
    selu = SELU;
    /// x tanh(log(1 + exp(x))) (Misra 2019).
    mish = MISH;
    /// min(max(x + 3, 0), 6) / 6 (Howard et al. 2019). No gradient flows at -3 and 3, nor beyond.
    hardsigmoid = HARD_SIGMOID;
    /// x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019); its slope is 0 at -3 and 1 at 3, as in PyTorch.
    hardswish = HARD_SWISH;
    /// x / (1 + |x|).
    softsign = SOFTSIGN;
}

impl Tensor {
    /// x where x > 0, else `slope * x`.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        number::binary(&table::LEAKY_RELU, self, slope.into())
    }

    /// x where x > 0, else `alpha * (exp(x) - 1)` (Clevert et al. 2015).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        number::binary(&table::ELU, self, alpha.into())
    }

    /// min(max(x, 0), 6). No gradient flows at the bounds.
    #[track_caller]
    pub fn relu6(&self) -> Tensor {
        self.hardtanh(0.0, 6.0)
    }

    /// min(max(x, low), high): [`Tensor::clamp`] by PyTorch's other name, whose bounds are -1 and 1 by default there. No gradient
    /// flows at the bounds.
    ///
    /// # Errors
    /// Those of [`Tensor::clamp`].
    #[track_caller]
    pub fn hardtanh(&self, low: f64, high: f64) -> Tensor {
        self.clamp(low, high)
    }

    /// x where x > 0, else alpha (exp(x / alpha) - 1) (Barron 2017).
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] for an alpha of 0 or NaN, [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn celu(&self, alpha: f64) -> Tensor {
        if alpha == 0.0 || alpha.is_nan() {
            return self
                .problem("celu", Problem::Value(format!("alpha is {alpha}"), "pass a number other than 0, such as 1"));
        }
        number::binary(&table::CELU, self, alpha.into())
    }

    /// x where |x| > `bound`, else 0.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn hardshrink(&self, bound: f64) -> Tensor {
        number::binary(&table::HARDSHRINK, self, bound.into())
    }

    /// x - `bound` where x is above it, x + `bound` where x is below -`bound`, else 0.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for what is no float, [`crate::Error::Value`] for a bound below 0.
    #[track_caller]
    pub fn softshrink(&self, bound: f64) -> Tensor {
        if bound.is_nan() || bound < 0.0 {
            let problem = Problem::Value(format!("the bound is {bound}"), "pass a number from 0 on");
            return self.problem("softshrink", problem);
        }
        number::binary(&table::SOFTSHRINK, self, bound.into())
    }

    /// x - tanh(x).
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn tanhshrink(&self) -> Tensor {
        self.formed_wide(|x| x - x.tanh())
    }

    /// x where x is above `bound`, else `value`; NaN stays NaN.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn threshold(&self, bound: f64, value: f64) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let [bound, value] = [bound, value].map(|number| number::beside(&table::THRESHOLD, self, number));
        Tensor::apply(Pointwise(&table::THRESHOLD), &[self, &bound, &value])
    }

    /// log(sigmoid(x)).
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn log_sigmoid(&self) -> Tensor {
        // Not its negative, which is -0 where this is 0.
        self.scalar(0.0) - (-self).softplus()
    }

    /// log(1 + exp(beta x)) / beta, and x itself where beta x is above `threshold` (PyTorch's defaults are 1 and 20, where that changes
    /// the value by 2e-9).
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] for a beta of 0 or NaN, [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn softplus_with(&self, beta: f64, threshold: f64) -> Tensor {
        if beta == 0.0 || beta.is_nan() {
            let problem = Problem::Value(format!("beta is {beta}"), "pass a number other than 0, such as 1");
            return self.problem("softplus", problem);
        }
        self.formed_wide(|x| {
            let scaled = x * beta;
            scaled.gt(threshold).where_(x, &(scaled.softplus() / beta))
        })
    }

    /// x where x > 0, else `weight` x (He et al. 2015). `weight` has one element, or as many as axis 1 of a tensor with two axes or
    /// more, and gets a gradient. At 0 the slope is `weight`, as in PyTorch.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for a weight of another shape, [`crate::Error::DType`] unless both are floats of
    /// one dtype.
    #[track_caller]
    pub fn prelu(&self, weight: &Tensor) -> Tensor {
        if let Some(invalid) = [self, weight].into_iter().find(|tensor| tensor.error().is_some()) {
            return invalid.clone();
        }
        let (shape, given) = (*self.dims(), *weight.dims());
        let weight = match given.elements() {
            1 => weight.reshape(&[]),
            n if given.rank() == 1 && shape.get(1) == Some(&n) => {
                let mut spread = vec![1; shape.rank() - 1];
                spread[0] = n;
                weight.reshape(&spread)
            }
            _ => {
                let what = format!("a weight of shape {given} beside {shape}");
                return self.problem("prelu", Problem::Shape(what, "pass one element, or one for each of axis 1"));
            }
        };
        Tensor::apply(Pointwise(&table::PRELU), &[self, &weight])
    }

    /// The first half of `axis` times the sigmoid of the second (Dauphin et al. 2016): half as long.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::Shape`] for one of an odd length,
    /// [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn glu(&self, axis: impl Into<Axis>) -> Tensor {
        self.gated("glu", axis.into(), Tensor::sigmoid)
    }

    /// The first half of `axis` times the GELU of the second (Shazeer 2020): half as long.
    ///
    /// # Errors
    /// Those of [`Tensor::glu`].
    #[track_caller]
    pub fn geglu(&self, axis: impl Into<Axis>) -> Tensor {
        self.gated("geglu", axis.into(), Tensor::gelu)
    }

    /// The first half of `axis` times the SiLU of the second (Shazeer 2020): half as long.
    ///
    /// # Errors
    /// Those of [`Tensor::glu`].
    #[track_caller]
    pub fn swiglu(&self, axis: impl Into<Axis>) -> Tensor {
        self.gated("swiglu", axis.into(), Tensor::silu)
    }

    #[track_caller]
    fn gated(&self, op: &'static str, axis: Axis, gate: fn(&Tensor) -> Tensor) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let shape = *self.dims();
        let axis = axis.of(shape.rank());
        if let Err(problem) = check_axis(axis, shape.rank()) {
            return self.problem(op, problem);
        }
        let half = shape[axis] / 2;
        if half * 2 != shape[axis] {
            let what = format!("axis {axis} of shape {shape} has no halves");
            return self.problem(op, Problem::Shape(what, "pass an axis of an even length"));
        }
        self.slice(axis, 0, half) * gate(&self.slice(axis, half, half))
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Error};

    #[test]
    fn what_does_not_fit_is_an_error_of_the_activation() {
        let x = Device::cpu().zeros(&[2, 3]);
        assert!(matches!(x.glu(1).error(), Some(Error::Shape { op: "glu", .. })));
        assert!(matches!(x.swiglu(-3).error(), Some(Error::Axis { op: "swiglu", .. })));
        assert!(matches!(x.prelu(&x.device().zeros(&[2])).error(), Some(Error::Shape { op: "prelu", .. })));
        assert!(matches!(x.celu(0.0).error(), Some(Error::Value { op: "celu", .. })));
        assert!(matches!(x.softshrink(-1.0).error(), Some(Error::Value { op: "softshrink", .. })));
        assert!(matches!(x.softplus_with(0.0, 20.0).error(), Some(Error::Value { op: "softplus", .. })));
        assert!(matches!(x.cast(DType::I32).mish().error(), Some(Error::DType { op: "mish", .. })));
        assert!(matches!(x.relu6().shape(), Ok([2, 3])));
    }
}
