//! Dropout (Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014) and stochastic depth (Huang, Sun, Liu, Sedra
//! and Weinberger 2016), and noise that is added.

use super::module::{Mode, Module};
use crate::error::Problem;
use crate::ops::random::StochasticDepthMode;
use crate::params::Path;
use crate::rng::Draws;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Zeros a share of the elements at random while training and scales the others so that the mean stays; passes
/// everything on otherwise.
#[derive(Debug, Clone)]
pub struct Dropout {
    p: f64,
    draws: Draws,
}

impl Dropout {
    /// Zeros each element with probability `p`; masks come from the store's counter, which checkpoints keep.
    pub fn new(path: &Path, p: f64) -> Dropout {
        Dropout { p, draws: path.draws().clone() }
    }
}

impl Module for Dropout {
    /// Same shape. The result carries [`crate::Error::Value`] while training unless `0 <= p <= 1`.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if mode == Mode::Eval || self.p == 0.0 { x.clone() } else { x.dropout(self.p, &self.draws) }
    }
}

/// Zeros whole channels, axis 1, at random while training and scales the others so that the mean stays (Tompson et al. 2015), as
/// `torch.nn.Dropout1d`, `Dropout2d` and `Dropout3d`.
#[derive(Debug, Clone)]
pub struct ChannelDropout {
    p: f64,
    draws: Draws,
}

impl ChannelDropout {
    /// Zeros each channel of each sample with probability `p`; masks as those of [`Dropout`].
    pub fn new(path: &Path, p: f64) -> ChannelDropout {
        ChannelDropout { p, draws: path.draws().clone() }
    }
}

impl Module for ChannelDropout {
    /// `[batch, channels, ..]`: same shape. The result carries [`crate::Error::Value`] while training unless `0 <= p <= 1`.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let channels = leading(x, 2);
        match mode == Mode::Eval || self.p == 0.0 {
            true => x.clone(),
            false => x.kept_with("channel_dropout", self.p, channels, &self.draws),
        }
    }
}

/// The shape of `x` with a length of 1 from axis `axes` on.
fn leading(x: &Tensor, axes: usize) -> Shape {
    let rest: Vec<usize> = (axes..x.dims().rank()).collect();
    x.dims().keep(&rest)
}

/// Dropout for self-normalising networks (Klambauer, Unterthiner, Mayr and Hochreiter 2017): what is dropped takes the value
/// that SELU tends to, and mean and variance of what is standard normal stay. As `torch.nn.AlphaDropout`; with
/// [`AlphaDropout::channels`] as `FeatureAlphaDropout`.
#[derive(Debug, Clone)]
pub struct AlphaDropout {
    p: f64,
    channels: bool,
    draws: Draws,
}

impl AlphaDropout {
    /// Drops each element with probability `p`; masks as those of [`Dropout`].
    pub fn new(path: &Path, p: f64) -> AlphaDropout {
        AlphaDropout { p, channels: false, draws: path.draws().clone() }
    }

    /// Drops whole channels, axis 1.
    #[must_use]
    pub fn channels(self) -> AlphaDropout {
        AlphaDropout { channels: true, ..self }
    }
}

impl Module for AlphaDropout {
    /// Same shape. The result carries [`crate::Error::Value`] while training unless `0 <= p < 1`.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        /// -scale times alpha of SELU.
        const LOW: f64 = -1.758_099_340_847_376_8;
        if mode == Mode::Eval || self.p == 0.0 {
            return x.clone();
        }
        if self.p == 1.0 {
            let what = "a share of 1 leaves nothing to keep the variance of".to_string();
            return x.problem("alpha_dropout", Problem::Value(what, "pass a probability below 1"));
        }
        let kept = 1.0 - self.p;
        let scale = (kept + LOW * LOW * kept * self.p).sqrt().recip();
        let shift = -scale * self.p * LOW;
        let drawn = if self.channels { leading(x, 2) } else { *x.dims() };
        // Without dropout's factor: true where kept.
        let is_kept = x.ones_like().kept_with("alpha_dropout", self.p, drawn, &self.draws).ne(0.0);
        is_kept.where_(x, &x.filled_like(LOW)) * scale + shift
    }
}

/// Zeros whole samples, or the whole batch, at random while training and scales the others so that the mean stays; passes
/// everything on otherwise. It stands at the end of a residual branch: `x + depth(branch(x))`, as `torchvision.ops.StochasticDepth`.
#[derive(Debug, Clone)]
pub struct StochasticDepth {
    p: f64,
    mode: StochasticDepthMode,
    draws: Draws,
}

impl StochasticDepth {
    /// Zeros with probability `p`, each sample by itself or all together; masks come from the store's counter, which
    /// checkpoints keep. The paper lets `p` grow with the depth, from 0 at the first branch to 0.5 at the last.
    pub fn new(path: &Path, p: f64, mode: StochasticDepthMode) -> StochasticDepth {
        StochasticDepth { p, mode, draws: path.draws().clone() }
    }
}

impl Module for StochasticDepth {
    /// Same shape. The result carries what [`Tensor::stochastic_depth`] refuses, while training.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        match mode {
            Mode::Train if self.p != 0.0 => x.stochastic_depth(self.p, self.mode, &self.draws),
            _ => x.clone(),
        }
    }
}

/// Adds normal noise while training (Bishop 1995, "Training with noise is equivalent to Tikhonov regularization"); passes everything on
/// otherwise. As Keras' `GaussianNoise`.
#[derive(Debug, Clone)]
pub struct GaussianNoise {
    deviation: f64,
    draws: Draws,
}

impl GaussianNoise {
    /// Noise of this standard deviation, drawn anew in each forward pass from the store's counter.
    pub fn new(path: &Path, deviation: f64) -> GaussianNoise {
        GaussianNoise { deviation, draws: path.draws().clone() }
    }
}

impl Module for GaussianNoise {
    /// Same shape and dtype. The result carries [`crate::Error::Value`] while training unless the deviation is finite and not negative.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if mode == Mode::Eval || self.deviation == 0.0 || x.error().is_some() {
            return x.clone();
        }
        if !(self.deviation.is_finite() && self.deviation > 0.0) {
            let what = format!("a standard deviation of {}", self.deviation);
            return x.problem("gaussian_noise", Problem::Value(what, "pass a finite number from 0 on"));
        }
        let noise = x.device().randn(x.dims(), &self.draws) * self.deviation;
        (x.widen() + noise).cast(x.meta().dtype)
    }
}
