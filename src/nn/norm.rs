//! Normalising layers. Names and initial values are PyTorch's: weight 1, bias 0, running mean 0, running variance 1.

use super::module::{Mode, Module, placed};
use crate::init::Init;
use crate::params::{Param, Path};
use crate::state::State;
use crate::tensor::Tensor;

/// Added to a variance before its root is taken, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// How errors call a layer with this weight.
fn of(layer: &str, weight: &Param) -> String {
    match weight.shape() {
        Ok(shape) => format!("{layer} over {shape}"),
        Err(_) => layer.into(),
    }
}

/// Layer normalisation over the last axes (Ba, Kiros and Hinton 2016), as `torch.nn.LayerNorm`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// Of the shape that is normalised over.
    pub weight: Option<Param>,
    /// Of the same shape.
    pub bias: Option<Param>,
    /// Added to the variance.
    pub epsilon: f64,
    dims: usize,
}

impl LayerNorm {
    /// Over the last axes, which have the lengths `shape`, with weight and bias.
    #[track_caller]
    pub fn new(path: &Path, shape: &[usize]) -> LayerNorm {
        LayerNorm {
            weight: Some(path.param("weight", shape, Init::Ones)),
            bias: Some(path.param("bias", shape, Init::Zeros)),
            ..LayerNorm::plain(shape.len())
        }
    }

    /// Over the last `dims` axes, without weight and bias.
    pub fn plain(dims: usize) -> LayerNorm {
        LayerNorm { weight: None, bias: None, epsilon: EPSILON, dims }
    }
}

impl Module for LayerNorm {
    /// Same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let [weight, bias] = [&self.weight, &self.bias].map(|param| param.as_ref().map(Param::tensor));
        let y = x.layer_norm(self.dims, weight.as_ref(), bias.as_ref(), self.epsilon);
        match &self.weight {
            Some(weight) => placed(x, y, weight, || of("LayerNorm", weight)),
            None => y,
        }
    }
}

/// Root-mean-square normalisation over the last axes (Zhang and Sennrich 2019), as `torch.nn.RMSNorm`.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// Of the shape that is normalised over.
    pub weight: Param,
    /// Added to the mean square.
    pub epsilon: f64,
    dims: usize,
}

impl RmsNorm {
    /// Over the last axes, which have the lengths `shape`. `epsilon` is 1e-5; PyTorch's default is f32's, 1.19e-7.
    #[track_caller]
    pub fn new(path: &Path, shape: &[usize]) -> RmsNorm {
        let weight = path.param("weight", shape, Init::Ones);
        RmsNorm { weight, epsilon: EPSILON, dims: shape.len() }
    }
}

impl Module for RmsNorm {
    /// Same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let y = x.rms_norm(self.dims, Some(&self.weight.tensor()), self.epsilon);
        placed(x, y, &self.weight, || of("RmsNorm", &self.weight))
    }
}

/// Normalisation over groups of channels (Wu and He 2018), as `torch.nn.GroupNorm`.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// `[channels]`.
    pub weight: Param,
    /// `[channels]`.
    pub bias: Param,
    /// Added to the variance.
    pub epsilon: f64,
    groups: usize,
}

impl GroupNorm {
    /// `groups` groups of `channels` channels.
    #[track_caller]
    pub fn new(path: &Path, groups: usize, channels: usize) -> GroupNorm {
        GroupNorm {
            weight: path.param("weight", &[channels], Init::Ones),
            bias: path.param("bias", &[channels], Init::Zeros),
            epsilon: EPSILON,
            groups,
        }
    }
}

impl Module for GroupNorm {
    /// `[n, channels, ..]`: same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let y = x.group_norm(self.groups, Some(&self.weight.tensor()), Some(&self.bias.tensor()), self.epsilon);
        placed(x, y, &self.weight, || of(&format!("GroupNorm of {} groups", self.groups), &self.weight))
    }
}

/// Batch normalisation (Ioffe and Szegedy 2015) of `[n, channels]` or `[n, channels, length]`, as `torch.nn.BatchNorm1d`.
pub type BatchNorm1d = BatchNorm;
/// Batch normalisation (Ioffe and Szegedy 2015) of images `[n, channels, height, width]`, as `torch.nn.BatchNorm2d`.
pub type BatchNorm2d = BatchNorm;
/// Batch normalisation (Ioffe and Szegedy 2015) of volumes `[n, channels, depth, height, width]`, as `torch.nn.BatchNorm3d`.
pub type BatchNorm3d = BatchNorm;

/// Batch normalisation of channels, whatever axes follow them: [`BatchNorm1d`] to [`BatchNorm3d`].
///
/// While training, the statistics are the batch's, and the running ones move towards them: the mean, and the variance with
/// one degree of freedom taken off. They are states of the store: the next step of an optimizer carries the move out,
/// exactly once a forward pass, and checkpoints keep them. PyTorch's `num_batches_tracked` is not kept: it serves only
/// averages without a momentum.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// `[channels]`.
    pub weight: Param,
    /// `[channels]`.
    pub bias: Param,
    /// `[channels]`.
    pub running_mean: State,
    /// `[channels]`.
    pub running_var: State,
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of a batch's statistics in the running ones.
    pub momentum: f64,
}

impl BatchNorm {
    /// For `channels` channels, with PyTorch's momentum of 0.1.
    #[track_caller]
    pub fn new(path: &Path, channels: usize) -> BatchNorm {
        let device = path.store().device();
        BatchNorm {
            weight: path.param("weight", &[channels], Init::Ones),
            bias: path.param("bias", &[channels], Init::Zeros),
            running_mean: path.state("running_mean", &device.zeros(&[channels])),
            running_var: path.state("running_var", &device.ones(&[channels])),
            epsilon: EPSILON,
            momentum: 0.1,
        }
    }
}

impl Module for BatchNorm {
    /// `[n, channels, ..]`: same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        if mode == Mode::Eval {
            let (mean, variance) = (self.running_mean.get(), self.running_var.get());
            let y = x.batch_norm_with(&mean, &variance, Some(&weight), Some(&bias), self.epsilon);
            return placed(x, y, &self.weight, || of("BatchNorm", &self.weight));
        }
        let y = x.batch_norm(Some(&weight), Some(&bias), self.epsilon);
        if let (Ok(shape), Ok(&[channels])) = (y.shape(), weight.shape()) {
            let count = (shape.iter().product::<usize>() / channels) as f64;
            let [mean, variance] = x.batch_statistics();
            let moved = |old: &State, new: Tensor| old.get() * (1.0 - self.momentum) + new * self.momentum;
            self.running_mean.assign(&moved(&self.running_mean, mean));
            self.running_var.assign(&moved(&self.running_var, variance.scale(count / (count - 1.0))));
        }
        placed(x, y, &self.weight, || of("BatchNorm", &self.weight))
    }
}

/// Normalisation of each channel of each image (Ulyanov, Vedaldi and Lempitsky 2016), as `torch.nn.InstanceNorm1d` to `3d`
/// without running statistics.
#[derive(Debug, Clone)]
pub struct InstanceNorm {
    /// `[channels]`.
    pub weight: Option<Param>,
    /// `[channels]`.
    pub bias: Option<Param>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl InstanceNorm {
    /// With a weight and a bias for each of `channels` channels: PyTorch's `affine=True`.
    #[track_caller]
    pub fn new(path: &Path, channels: usize) -> InstanceNorm {
        InstanceNorm {
            weight: Some(path.param("weight", &[channels], Init::Ones)),
            bias: Some(path.param("bias", &[channels], Init::Zeros)),
            epsilon: EPSILON,
        }
    }

    /// Without weight and bias: PyTorch's default.
    pub fn plain() -> InstanceNorm {
        InstanceNorm { weight: None, bias: None, epsilon: EPSILON }
    }
}

impl Module for InstanceNorm {
    /// `[n, channels, ..]`: same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let [weight, bias] = [&self.weight, &self.bias].map(|param| param.as_ref().map(Param::tensor));
        let y = x.instance_norm(weight.as_ref(), bias.as_ref(), self.epsilon);
        match &self.weight {
            Some(weight) => placed(x, y, weight, || of("InstanceNorm", weight)),
            None => y,
        }
    }
}

/// Normalisation over neighbouring channels, as `torch.nn.LocalResponseNorm`: [`Tensor::local_response_norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalResponseNorm {
    /// Channels of a neighbourhood.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f64,
    /// The power.
    pub beta: f64,
    /// Added to the mean square.
    pub k: f64,
}

impl LocalResponseNorm {
    /// Over `size` channels, with PyTorch's alpha 1e-4, beta 0.75, k 1.
    pub fn new(size: usize) -> LocalResponseNorm {
        LocalResponseNorm { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }
}

impl Module for LocalResponseNorm {
    /// `[n, channels, ..]`: same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.local_response_norm(self.size, self.alpha, self.beta, self.k)
    }
}
