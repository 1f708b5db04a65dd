//! Layers: what holds parameters and maps a tensor to a tensor.
//!
//! A layer takes its [`Path`](crate::Path) when it is made and adds its parameters there; names and layouts are PyTorch's.
//! Shapes are checked by the ops, so a layer never fails: an input that does not fit gives a tensor that carries the
//! error. Any function of a tensor is a module too: `Sequential::new().add(Tensor::relu)`.

mod attention;
mod conv;
mod dropout;
mod embedding;
mod linear;
mod norm;
mod pool;
mod recompute;
mod sequential;

pub use attention::{MultiHeadAttention, MultiHeadAttentionConfig};
pub use conv::{Conv2d, Conv2dConfig};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{BatchNorm, BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RmsNorm};
pub use pool::{AvgPool2d, MaxPool2d};
pub use recompute::Recompute;
pub use sequential::Sequential;

use crate::init::Init;
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
fn bias_like(bias: Tensor, product: &Tensor) -> Tensor {
    match product.dtype() {
        Ok(dtype) => bias.cast(dtype),
        Err(_) => bias,
    }
}

/// PyTorch's initial values of a bias: within `1 / sqrt(fan in)` of the weight beside it.
fn bias_init(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { low: -bound, high: bound }
}
