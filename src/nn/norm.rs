//! Normalising layers. Names and initial values are PyTorch's: weight 1, bias 0, running mean 0, running variance 1.

use std::panic::Location;

use super::module::{Mode, Module, placed};
use crate::distributed::{Moments, World};
use crate::engine;
use crate::error::Result;
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
///
/// Of several ranks each normalises its own batch, unless [`BatchNorm::sync`] says otherwise.
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
    /// Whose batches are one.
    world: Option<World>,
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
            world: None,
        }
    }

    /// While training, takes the statistics of the batches of all ranks of `world` as one batch, forward and backward, as
    /// `torch.nn.SyncBatchNorm`. With one rank it changes nothing.
    ///
    /// Outputs, gradients and running statistics are those of one rank with the whole batch but for rounding: sums are formed
    /// in another order. Statistics have the same bits on all ranks, and a run repeats to the bit. They are not those of one rank
    /// that [accumulates](crate::optim::Optimizer::accumulate), which sees one micro-batch at a time: of several micro-batches a
    /// rank, those of one number are one batch. A rank may have no batch, or a shorter one.
    ///
    /// Each such layer waits for the device and for the other ranks once forward and once backward, with a message of 16 bytes
    /// a channel to each; a step has one short exchange more. So a step takes that many times longer to begin with: many
    /// small layers on a slow network are better off without. All ranks must run the same layers in the same order
    /// while training. Gradients are formed by `step` and `accumulate` of an [optimizer](crate::optim::Optimizer) that takes its
    /// steps with this world; [`Tensor::gradients`] through such a layer, or a step of another optimizer, is an error that says so.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// use kiln::distributed::World;
    ///
    /// # let params = ParamStore::new(&Device::cpu(), 1);
    /// let world = World::start()?;
    /// let norm = BatchNorm2d::new(&params.root().child("norm"), 16).sync(&world);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn sync(mut self, world: &World) -> BatchNorm {
        world.set_joins();
        self.world = Some(world.clone());
        self
    }

    /// The output with the statistics of all ranks' batches, these, `[3, channels]`, and how many elements a channel they are of.
    fn over_ranks(&self, world: &World, x: &Tensor) -> Result<(Tensor, Tensor, f64)> {
        let own = x.statistics_of_rank();
        let channels = own.shape()?.get(1).copied().unwrap_or(1);
        // What this layer cannot take is refused before anything is run.
        let y = x.batch_norm_of_ranks(&own, &self.weight.tensor(), &self.bias.tensor(), self.epsilon);
        let count = y.shape()?.iter().product::<usize>() as f64 / channels as f64;
        // `x` is held, so its value is kept for the way back.
        x.device().compute(&[own.node().clone()])?;
        let values = engine::computed(own.node())?.to_f64();
        // What became of earlier steps is from here on known on every rank.
        engine::hear(x.device())?;
        let row = |k: usize| values.iter().skip(k * channels).take(channels);
        let mean = row(0).zip(row(2)).map(|(first, rest)| first + rest).collect();
        let all = world.join_moments(&Moments { count, mean, variance: row(1).copied().collect() })?;
        // Two numbers hold the mean, as in the statistics of one rank.
        let near = all.mean.iter().map(|&mean| mean as f32);
        let rest = all.mean.iter().map(|&mean| (mean - f64::from(mean as f32)) as f32);
        let rows: Vec<f32> = near.chain(all.variance.iter().map(|&variance| variance as f32)).chain(rest).collect();
        let statistics = x.device().tensor(&rows, &[3, channels]);
        let y = x.batch_norm_of_ranks(&statistics, &self.weight.tensor(), &self.bias.tensor(), self.epsilon);
        Ok((y, statistics, all.count))
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
        let joined = self.world.as_ref().filter(|world| !world.is_alone()).map(|world| self.over_ranks(world, x));
        let (y, statistics) = match joined {
            Some(Ok((y, statistics, count))) => {
                let row = |k: usize| statistics.slice_fixed(0, k, 1).reshape(weight.dims());
                (y, Some(([row(0) + row(2), row(1)], count)))
            }
            Some(Err(error)) => (Tensor::invalid(x.device(), error, Location::caller()), None),
            None => {
                let y = x.batch_norm(Some(&weight), Some(&bias), self.epsilon);
                let statistics = match (y.shape(), weight.shape()) {
                    (Ok(shape), Ok(&[channels])) => {
                        let count = (shape.iter().product::<usize>() / channels) as f64;
                        Some((x.batch_statistics(), count))
                    }
                    _ => None,
                };
                (y, statistics)
            }
        };
        if let Some(([mean, variance], count)) = statistics {
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
