//! Layers: what holds parameters and maps a tensor to a tensor.
//!
//! A layer takes its [`Path`](crate::Path) when it is made and adds its parameters there; names and layouts are PyTorch's.
//! Shapes are checked by the ops, so a layer never fails: an input that does not fit gives a tensor that carries the
//! error. Any function of a tensor is a module too: `Sequential::new().add(Tensor::relu)`.
//!
//! Layers are made in one way. `new` takes the defaults: `Conv2d::new(&path, 3, 16, 3)`, where a window is `3` or `[3, 5]`.
//! Methods change what concerns the computation alone: `.padding(1).stride(2)`. What shapes or draws parameters goes through
//! `with` and a configuration: `Conv2d::with(&path, 3, 16, 3, ConvConfig { groups: 3, ..Default::default() })`.

mod attention;
mod cells;
mod combine;
mod conv;
mod conv_transpose;
mod dropout;
mod embedding;
mod key_values;
mod linear;
mod lora;
mod module;
mod norm;
mod normed_weight;
mod pool;
mod positions;
mod projected;
mod recompute;
mod recurrent;
mod resize;
mod sequential;
mod sizes;
mod summary;
mod transformer;

pub use crate::ops::random::StochasticDepthMode;
pub use attention::{AttentionMask, InProjection, MultiHeadAttention, MultiHeadAttentionConfig};
pub use cells::{GruCell, LstmCell, RnnCell};
pub use combine::{Bag, Bilinear, EmbeddingBag, Prelu, Residual, Rrelu};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, ConvConfig};
pub use conv_transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use dropout::{AlphaDropout, ChannelDropout, Dropout, GaussianNoise, StochasticDepth};
pub use embedding::{Embedding, EmbeddingConfig};
pub use key_values::KeyValueCache;
pub use linear::{Linear, LinearConfig};
pub use lora::{Lora, LoraConfig};
pub use module::{Flatten, Mode, Module};
pub use norm::{
    BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, RmsNorm,
};
pub use normed_weight::{SpectralNorm, WeightNorm};
pub use pool::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool, AdaptiveMaxPool1d,
    AdaptiveMaxPool2d, AdaptiveMaxPool3d, AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, LpPool, LpPool1d, LpPool2d,
    LpPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d,
};
pub use positions::{LearnedPositions, RotaryConfig, RotaryEmbedding, RotaryPairs, SinusoidalPositions};
pub use recompute::Recompute;
pub use recurrent::{Gru, Lstm, RecurrentConfig, RecurrentOutput, RecurrentWeights, Rnn, Sequences};
pub use resize::{ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample};
pub use sequential::Sequential;
pub use sizes::Sizes;
pub use summary::{Summary, SummaryRow, summary};
pub use transformer::{
    DecoderMask, Transformer, TransformerConfig, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder,
    TransformerEncoderLayer, TransformerLayerConfig, TransformerMask,
};
