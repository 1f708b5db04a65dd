//! What a layer is, and what layers share.

use std::panic::Location;

use crate::init::Init;
use crate::params::Param;
use crate::tensor::Tensor;

/// Whether a forward pass is for learning or for judging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Dropout drops, statistics are those of the batch.
    Train,
    /// Nothing is random, statistics are those that were learned.
    Eval,
}

/// A layer, or a network of them.
pub trait Module: Send + Sync {
    /// What comes out for `x`; recorded, not run.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor;
}

impl<F: Fn(&Tensor) -> Tensor + Send + Sync> Module for F {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        self(x)
    }
}

/// Axes from 1 on merged into one: images to rows of features.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatten;

impl Module for Flatten {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.flatten(1)
    }
}

/// A bias as it is added to `product`: in half precision where the product is, as `torch.nn` layers have it. The cast runs
/// inside the kernel that adds.
#[track_caller]
pub(super) fn bias_like(bias: Tensor, product: &Tensor) -> Tensor {
    match product.dtype() {
        Ok(dtype) => bias.cast(dtype),
        Err(_) => bias,
    }
}

/// PyTorch's initial values of a bias: within `1 / sqrt(fan in)` of the weight beside it.
pub(super) fn bias_init(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { low: -bound, high: bound }
}

/// `y`; an error that neither `x` nor the parameter brought says in which layer it arose: the one of `param`, and `what` it is.
#[track_caller]
pub(super) fn placed(x: &Tensor, y: Tensor, param: &Param, what: impl FnOnce() -> String) -> Tensor {
    let (None, Some(error), Ok(_)) = (x.error(), y.error(), param.shape()) else { return y };
    let name = param.name();
    let layer = name.rsplit_once('.').map_or("the root".into(), |(path, _)| format!("`{path}`"));
    Tensor::invalid(y.device(), error.clone().within(&format!("{layer}, {}", what())), Location::caller())
}
