//! Weights that are made of others in each forward pass.

use super::module::Mode;
use crate::error::Result;
use crate::init::Init;
use crate::params::{Param, Path};
use crate::state::State;
use crate::tensor::Tensor;

/// A weight as a length for each row times the row's direction, w = g v / |v| (Salimans and Kingma 2016), as
/// `torch.nn.utils.parametrizations.weight_norm` with `dim=0`. Rows are the first axis.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::WeightNorm;
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// # let x = params.device().ones(&[5, 3]);
/// let weight = WeightNorm::new(&params.root().child("fc"), &[2, 3], Init::FAN_IN_UNIFORM);
/// let y = x.matmul(&weight.tensor().transpose(0, 1));
/// # assert_eq!(y.shape()?, [5, 2]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WeightNorm {
    /// The length of each row: `[rows, 1, ..]`, 1 to begin with.
    pub length: Param,
    /// The directions, of the weight's shape.
    pub direction: Param,
}

impl WeightNorm {
    /// A weight of `shape`. Parameters `weight_g` and `weight_v`; lengths begin at 1: use [`WeightNorm::keep_weight`] for the
    /// weight that `init` draws.
    #[track_caller]
    pub fn new(path: &Path, shape: &[usize], init: Init) -> WeightNorm {
        let rows: Vec<usize> = (0..shape.len()).map(|axis| if axis == 0 { shape[0] } else { 1 }).collect();
        WeightNorm { length: path.param("weight_g", &rows, Init::Ones), direction: path.param("weight_v", shape, init) }
    }

    /// Gives each row the length that its direction has now, so that the weight is what was drawn, as in PyTorch. Waits for
    /// the device.
    ///
    /// # Errors
    /// As [`Param::assign`].
    #[track_caller]
    pub fn keep_weight(&self) -> Result<()> {
        self.length.assign(&length_of(&self.direction.tensor()))
    }

    /// The weight.
    #[track_caller]
    pub fn tensor(&self) -> Tensor {
        let direction = self.direction.tensor();
        let length = length_of(&direction);
        direction * (self.length.tensor() / length)
    }
}

/// Of each row.
#[track_caller]
fn length_of(rows: &Tensor) -> Tensor {
    let axes: Vec<usize> = (1..rows.dims().rank()).collect();
    rows.square().sum_keep(&axes).sqrt()
}

/// A weight divided by an estimate of its largest singular value, so that a layer never stretches more than by 1 (Miyato,
/// Kataoka, Koyama and Yoshida 2018), as `torch.nn.utils.parametrizations.spectral_norm`. The weight counts as a matrix of its
/// first axis and all others; each forward pass in training does a round of power iteration, carried out by the next step.
#[derive(Debug, Clone)]
pub struct SpectralNorm {
    /// Before the division.
    pub weight: Param,
    /// The singular vectors so far: `[rows]` and `[columns]`.
    pub vectors: [State; 2],
}

impl SpectralNorm {
    /// A weight of `shape`, drawn by `init`; the first vectors are drawn from `seed`.
    #[track_caller]
    pub fn new(path: &Path, shape: &[usize], init: Init, seed: u64) -> SpectralNorm {
        let rows = shape.first().copied().unwrap_or(1);
        // One that is too large stays so, and is the store's error.
        let columns = shape.iter().skip(1).fold(1usize, |product, &size| product.saturating_mul(size));
        let device = path.store().device();
        let vector =
            |name: &str, length: usize, seed: u64| path.state(name, &unit(&device.normal(&[length], 0.0, 1.0, seed)));
        let vectors = [vector("u", rows, seed), vector("v", columns, seed.wrapping_add(1))];
        SpectralNorm { weight: path.param("weight", shape, init), vectors }
    }

    /// The weight, divided. In training the singular vectors move on by a round.
    #[track_caller]
    pub fn tensor(&self, mode: Mode) -> Tensor {
        let weight = self.weight.tensor();
        let rows = weight.shape().map_or(1, |shape| shape.first().copied().unwrap_or(1));
        let matrix = weight.reshape(&[rows, weight.dims().elements() / rows.max(1)]);
        let [mut u, mut v] = self.vectors.each_ref().map(State::get);
        if mode == Mode::Train {
            let fixed = matrix.detach();
            v = unit(&u.unsqueeze(0).matmul(&fixed).flatten(0));
            u = unit(&fixed.matmul(&v.unsqueeze(1)).flatten(0));
            self.vectors[0].assign(&u);
            self.vectors[1].assign(&v);
        }
        let (u, v) = (u.detach(), v.detach());
        let largest = (u * matrix.matmul(&v.unsqueeze(1)).flatten(0)).sum_all();
        weight / largest
    }
}

/// A vector of length 1.
#[track_caller]
fn unit(vector: &Tensor) -> Tensor {
    vector / vector.square().sum_all().sqrt().maximum(1e-12)
}
