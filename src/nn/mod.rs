//! Layers: what holds parameters and maps a tensor to a tensor.
//!
//! A layer takes its [`Path`](crate::Path) when it is made and adds its parameters there; names and layouts are PyTorch's.
//! Shapes are checked by the ops, so a layer never fails: an input that does not fit gives a tensor that carries the
//! error. Any function of a tensor is a module too: `Sequential::new().add(Tensor::relu)`.

mod attention;
mod conv;
mod conv_transpose;
mod dropout;
mod embedding;
mod linear;
mod module;
mod norm;
mod pool;
mod pool_any;
mod recompute;
mod resize;
mod sequential;
mod summary;

pub use crate::ops::random::StochasticDepthMode;
pub use attention::{MultiHeadAttention, MultiHeadAttentionConfig};
pub use conv::{Conv, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvConfig};
pub use conv_transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, ConvTransposeConfig};
pub use dropout::{Dropout, StochasticDepth};
pub use embedding::{Embedding, EmbeddingConfig};
pub use linear::{Linear, LinearConfig};
pub use module::{Flatten, Mode, Module};
pub use norm::{BatchNorm, BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, RmsNorm};
pub use pool::{AvgPool2d, MaxPool2d};
pub use pool_any::{
    AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, AvgPool1d, AvgPool3d, LpPool, MaxPool, MaxPool1d, MaxPool3d,
};
pub use recompute::Recompute;
pub use resize::{ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample};
pub use sequential::Sequential;
pub use summary::{Summary, SummaryRow, summary};
