//! Weights scaled by what a batch makes of them: layer-sequential unit variance, LSUV (Mishkin and Matas 2016, "All you
//! need is a good init").

use std::panic::Location;

use super::Param;
use crate::error::{Problem, Result};
use crate::init::Init;
use crate::tensor::{Tensor, no_grad};

const OP: &str = "lsuv";

/// Settings of [`lsuv`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LsuvConfig {
    /// What weights start from; `None`: from what they are. The default is an orthogonal matrix, the paper's.
    pub start: Option<Init>,
    /// The variance of each layer's output that is sought: 1 by default.
    pub variance: f64,
    /// Distance from it, as a share of it, at which a layer is left: 0.1 by default.
    pub tolerance: f64,
    /// Times that a layer's weight is scaled, at most: 10 by default.
    pub tries: usize,
}

impl Default for LsuvConfig {
    fn default() -> Self {
        LsuvConfig { start: Some(Init::Orthogonal { gain: 1.0 }), variance: 1.0, tolerance: 0.1, tries: 10 }
    }
}

/// Scales the weight of each layer so that its output on a batch has unit variance, over all elements of the output;
/// returns the variances reached, in the same order (Mishkin and Matas 2016, algorithm 1).
///
/// A layer is its weight and a function that runs the model on the batch up to this layer's output, which is taken before
/// the nonlinearity in the paper. Layers come in the order of the model: each is scaled with those before it as they are
/// then. For a layer without a bias one try is enough; a bias adds a part that does not scale. A layer that is not within
/// the tolerance after the tries is left as it is, and the result shows it. One forward pass is run for each try and one
/// more, without gradients. Running statistics change in training mode as they do in any forward pass.
///
/// ```
/// use kiln::params::{LsuvConfig, lsuv};
/// use kiln::prelude::*;
///
/// let device = Device::cpu();
/// let params = ParamStore::new(&device, 42);
/// let [first, second] = ["a", "b"].map(|name| Linear::new(&params.root().child(name), 16, 16));
/// let x = device.normal(&[64, 16], 0.0, 3.0, 1);
/// let hidden = || first.forward(&x, Mode::Eval);
/// let output = || second.forward(&hidden().relu(), Mode::Eval);
/// let variances = lsuv(&[(&first.weight, &hidden), (&second.weight, &output)], &LsuvConfig::default())?;
/// assert!(variances.iter().all(|variance| (variance - 1.0).abs() < 0.1));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Value`] for settings that cannot be used, and for an output whose variance is 0 or not finite: the
/// layers before it have been scaled then. [`crate::Error::Shape`] if the start does not fit a weight (orthogonal matrices
/// need two axes); no weight has changed then. Else what an output carries, and as [`Param::set`].
#[track_caller]
pub fn lsuv(layers: &[(&Param, &dyn Fn() -> Tensor)], config: &LsuvConfig) -> Result<Vec<f64>> {
    let at = Location::caller();
    let refuse = |what: String, next| Err(Problem::Value(what, next).at(OP, at));
    for (name, value) in [("variance", config.variance), ("tolerance", config.tolerance)] {
        if value.is_nan() || value <= 0.0 || value.is_infinite() {
            return refuse(format!("{name} is {value}"), "pass a finite number above 0");
        }
    }
    if let Some(start) = config.start {
        for (weight, _) in layers {
            start.check(&weight.shape()?).map_err(|problem| problem.at(OP, at))?;
        }
        for (weight, _) in layers {
            weight.reinit(start)?;
        }
    }
    let mut reached = vec![];
    for (weight, output) in layers {
        let mut tries = 0;
        let variance = loop {
            let variance = variance_of(output)?;
            if !variance.is_finite() || variance <= 0.0 {
                let what = format!("the output of the layer with weight `{}` has variance {variance}", weight.name());
                let next = "pass a batch whose samples differ and are finite, and the output of this layer";
                return refuse(what, next);
            }
            let share = variance / config.variance;
            if (share - 1.0).abs() <= config.tolerance || tries == config.tries {
                break variance;
            }
            let values: Vec<f64> = weight.values()?.iter().map(|x| x / share.sqrt()).collect();
            weight.set(&values)?;
            tries += 1;
        };
        reached.push(variance);
    }
    Ok(reached)
}

/// The variance over all elements of what `output` gives.
fn variance_of(output: &dyn Fn() -> Tensor) -> Result<f64> {
    no_grad(|| {
        let output = output();
        let axes: Vec<usize> = (0..output.shape()?.len()).collect();
        // A variance of f16 would overflow.
        output.widen().var(&axes, 0).item()
    })
}
