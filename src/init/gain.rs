//! The factor that a nonlinearity asks of the weights before it.

use std::panic::Location;

use crate::error::{Problem, Result};

/// The nonlinearity after a layer, for its gain.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Nonlinearity {
    /// None: gain 1.
    Linear,
    /// Gain 1, as PyTorch has it.
    Sigmoid,
    /// Gain 5/3.
    Tanh,
    /// Gain sqrt(2).
    #[default]
    Relu,
    /// Gain sqrt(2 / (1 + slope^2)), by its slope below 0.
    LeakyRelu(f64),
    /// Gain 3/4.
    Selu,
}

impl Nonlinearity {
    /// The factor that keeps variances through a layer (`torch.nn.init.calculate_gain`).
    pub fn gain(self) -> f64 {
        match self {
            Nonlinearity::Linear | Nonlinearity::Sigmoid => 1.0,
            Nonlinearity::Tanh => 5.0 / 3.0,
            Nonlinearity::Relu => 2f64.sqrt(),
            Nonlinearity::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
            Nonlinearity::Selu => 0.75,
        }
    }
}

/// [`Nonlinearity::gain`] by the names of `torch.nn.init.calculate_gain`: `linear`, `conv1d`, `conv2d`, `conv3d`,
/// `conv_transpose1d`, `conv_transpose2d`, `conv_transpose3d`, `sigmoid`, `tanh`, `relu`, `leaky_relu` and `selu`.
/// `slope` is that of `leaky_relu` below 0, 0.01 if it is `None`; the others have none and take no notice of it.
///
/// # Errors
/// [`crate::Error::Value`] for another name, and for a slope of `leaky_relu` that is not finite.
#[track_caller]
pub fn calculate_gain(nonlinearity: &str, slope: Option<f64>) -> Result<f64> {
    let refuse = |what: String, next| Err(Problem::Value(what, next).at("calculate_gain", Location::caller()));
    let found = match nonlinearity {
        "linear" | "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d" => {
            Nonlinearity::Linear
        }
        "sigmoid" => Nonlinearity::Sigmoid,
        "tanh" => Nonlinearity::Tanh,
        "relu" => Nonlinearity::Relu,
        "leaky_relu" => match slope.unwrap_or(0.01) {
            slope if slope.is_finite() => Nonlinearity::LeakyRelu(slope),
            slope => return refuse(format!("a slope of {slope}"), "pass a finite slope, or None for 0.01"),
        },
        "selu" => Nonlinearity::Selu,
        other => {
            let next =
                "name one of PyTorch's: linear, conv1d to conv_transpose3d, sigmoid, tanh, relu, leaky_relu, selu";
            return refuse(format!("there is no gain for `{other}`"), next);
        }
    };
    Ok(found.gain())
}
