//! Layers without parameters that give images another size or order.

use super::module::{Mode, Module};
use crate::ops::resample::Interpolation;
use crate::tensor::Tensor;

/// To what size.
#[derive(Debug, Clone, PartialEq)]
enum Target {
    Size(Vec<usize>),
    Factors(Vec<f64>),
}

/// Sequences, images or volumes in another size, as `torch.nn.Upsample`.
#[derive(Debug, Clone, PartialEq)]
pub struct Upsample {
    target: Target,
    mode: Interpolation,
}

impl Upsample {
    /// To `size` elements along the axes behind the channels.
    pub fn to(size: &[usize], mode: Interpolation) -> Upsample {
        Upsample { target: Target::Size(size.to_vec()), mode }
    }

    /// By a factor for each axis behind the channels.
    pub fn by(factors: &[f64], mode: Interpolation) -> Upsample {
        Upsample { target: Target::Factors(factors.to_vec()), mode }
    }
}

impl Module for Upsample {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        match &self.target {
            Target::Size(size) => x.interpolate(size, self.mode),
            Target::Factors(factors) => x.interpolate_by(factors, self.mode),
        }
    }
}

macro_rules! exchanges {
    ($($(#[$doc:meta])* $layer:ident = $method:ident;)+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $layer(pub usize);

        impl Module for $layer {
            #[track_caller]
            fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
                x.$method(self.0)
            }
        }
    )+ };
}

exchanges! {
    /// Blocks of so many x so many pixels from channels, as `torch.nn.PixelShuffle`.
    PixelShuffle = pixel_shuffle;
    /// Channels from blocks of so many x so many pixels, as `torch.nn.PixelUnshuffle`.
    PixelUnshuffle = pixel_unshuffle;
    /// Channels dealt out in turn from so many groups, as `torch.nn.ChannelShuffle`.
    ChannelShuffle = channel_shuffle;
}
