//! Initial values of parameters, drawn on the host in f64: the same on every device.
//!
//! Fans and gains are PyTorch's (`torch.nn.init`): for a weight `[out, in, kernel..]`, fan in is `in * kernel` and fan
//! out is `out * kernel`. What Keras has is here too, and what it calls Glorot is called Xavier, as in PyTorch: the
//! author of "Understanding the difficulty of training deep feedforward neural networks" is Xavier Glorot. The page
//! `docs/initialisation.md` says which one to take, and has a table of both libraries' names.
//!
//! A layer takes an [`Init`] where it is made; [`crate::Param::reinit`], [`crate::ParamStore::reinit`] and
//! [`crate::ParamStore::reinit_with`] choose for one parameter, by a pattern of names, and for a whole model.
//! [`crate::params::lsuv`] scales weights by what a batch makes of them.

mod draw;
mod gain;

use crate::error::Problem;
use crate::rng::Philox;
use crate::shape::Shape;
use draw::Rule;
pub use gain::{Nonlinearity, calculate_gain};

/// How the initial values of a parameter are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All the same.
    Constant(f64),
    /// Uniform in `[low, high)`, also once rounded to f32.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation, before any truncation.
        deviation: f64,
    },
    /// Normal, drawn again until within `bound` standard deviations of the mean (2 is usual, and Keras').
    TruncatedNormal {
        /// Mean.
        mean: f64,
        /// Standard deviation of the untruncated normal.
        deviation: f64,
        /// Largest distance from the mean, in standard deviations; at least 0.01.
        bound: f64,
    },
    /// Normal, kept within `[low, high]`, wherever that lies; either may be infinite. As
    /// `torch.nn.init.trunc_normal_`, whose `a` and `b` these are: not counted in standard deviations.
    TruncatedNormalBetween {
        /// Mean.
        mean: f64,
        /// Standard deviation of the untruncated normal, above 0.
        deviation: f64,
        /// Least value.
        low: f64,
        /// Largest value, above `low`.
        high: f64,
    },
    /// Uniform with deviation `gain * sqrt(2 / (fan in + fan out))` (Glorot and Bengio 2010; `glorot_uniform` in Keras).
    XavierUniform {
        /// Factor for the nonlinearity that follows.
        gain: f64,
    },
    /// Normal with deviation `gain * sqrt(2 / (fan in + fan out))` (Glorot and Bengio 2010; Keras' `glorot_normal` is
    /// truncated: [`Init::VarianceScaling`] with the average fan).
    XavierNormal {
        /// Factor for the nonlinearity that follows.
        gain: f64,
    },
    /// Uniform with deviation `gain / sqrt(fan)` (He, Zhang, Ren and Sun 2015).
    KaimingUniform {
        /// Which fan keeps its variance.
        fan: Fan,
        /// The nonlinearity that follows.
        nonlinearity: Nonlinearity,
    },
    /// Normal with deviation `gain / sqrt(fan)` (He, Zhang, Ren and Sun 2015).
    KaimingNormal {
        /// Which fan keeps its variance.
        fan: Fan,
        /// The nonlinearity that follows.
        nonlinearity: Nonlinearity,
    },
    /// Variance `scale / fan`, as Keras' `VarianceScaling`, of which He's, LeCun's and Glorot's are cases.
    VarianceScaling {
        /// Variance times fan, above 0.
        scale: f64,
        /// Which fan keeps its variance.
        fan: Fan,
        /// What is drawn.
        distribution: Distribution,
    },
    /// Orthonormal rows or columns, whichever are fewer, of the matrix `[out, rest]` (Saxe, McClelland and Ganguli 2014),
    /// uniform over all such matrices.
    Orthogonal {
        /// Factor for the nonlinearity that follows.
        gain: f64,
    },
    /// Orthonormal columns of the matrix `[out, in]` at the middle of the kernel and 0 elsewhere, for kernels
    /// `[out, in, kernel..]` of one to three sides and no more inputs than outputs (Xiao, Bahri, Sohl-Dickstein,
    /// Schoenholz and Pennington 2018): the convolution keeps the norm of each place of an image. The middle of a side k
    /// is k / 2, rounded down.
    DeltaOrthogonal {
        /// Factor for the nonlinearity that follows.
        gain: f64,
    },
    /// `gain` on the diagonal of a matrix and 0 elsewhere (`torch.nn.init.eye_`, Keras' `Identity`).
    Identity {
        /// What is on the diagonal.
        gain: f64,
    },
    /// A kernel `[out, in, kernel..]` of one to three sides that passes channels on: within each group of outputs, channel
    /// i is input i as far as there are inputs, and the rest is 0 (`torch.nn.init.dirac_`). The one 1 is at k / 2 of each
    /// side k, rounded down.
    Dirac {
        /// Groups that the outputs are split into; 1 for a plain convolution.
        groups: usize,
    },
    /// A matrix of normals with `ceil(sparsity * rows)` zeros in each column, at places of their own (Martens 2010;
    /// `torch.nn.init.sparse_`).
    Sparse {
        /// Share of the elements of a column that are 0, in `[0, 1)`.
        sparsity: f64,
        /// Standard deviation of the others; 0.01 is PyTorch's.
        deviation: f64,
    },
    /// `bias` in the second quarter of a vector and 0 elsewhere: the bias `[4 hidden]` of an LSTM's gates in PyTorch's
    /// and Keras' order (input, forget, cell, output), so that it starts by remembering (Gers, Schmidhuber and Cummins
    /// 2000; 1 is usual, and Keras' `unit_forget_bias`). PyTorch adds two biases: one of them should get [`Init::Zeros`].
    ForgetGate {
        /// What the forget gate starts with.
        bias: f64,
    },
}

/// Which side of a layer keeps its variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fan {
    /// Activations, in the forward pass.
    #[default]
    In,
    /// Gradients, in the backward pass.
    Out,
    /// Half of each: (fan in + fan out) / 2, `fan_avg` in Keras.
    Average,
}

/// What [`Init::VarianceScaling`] draws, with mean 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distribution {
    /// Normal (`untruncated_normal` in Keras).
    Normal,
    /// Normal, drawn again until within two standard deviations, which are widened so that the variance after it is the
    /// one asked for.
    #[default]
    TruncatedNormal,
    /// Uniform.
    Uniform,
}

/// Standard deviation of a standard normal within [-2, 2], with Keras' digits.
const TRUNCATED: f64 = 0.879_625_661_034_239_8;

impl Init {
    /// PyTorch's default for the weights of linear and convolutional layers: uniform within `1 / sqrt(fan in)`.
    pub const FAN_IN_UNIFORM: Init =
        Init::KaimingUniform { fan: Fan::In, nonlinearity: Nonlinearity::LeakyRelu(2.236_067_977_499_79) };

    /// He's normal for layers before a ReLU.
    pub const HE: Init = Init::KaimingNormal { fan: Fan::In, nonlinearity: Nonlinearity::Relu };

    /// Uniform with variance 1 / fan in (LeCun, Bottou, Orr and Mueller 1998), as Keras' `lecun_uniform`.
    pub const LECUN_UNIFORM: Init = Init::lecun(Distribution::Uniform);

    /// Truncated normal with variance 1 / fan in (LeCun, Bottou, Orr and Mueller 1998), as Keras' `lecun_normal`: for
    /// layers before a SELU (Klambauer, Unterthiner, Mayr and Hochreiter 2017).
    pub const LECUN_NORMAL: Init = Init::lecun(Distribution::TruncatedNormal);

    const fn lecun(distribution: Distribution) -> Init {
        Init::VarianceScaling { scale: 1.0, fan: Fan::In, distribution }
    }

    /// Values for a parameter of `shape`, row-major.
    ///
    /// # Errors
    /// The rule that the setting or the shape breaks.
    pub fn draw(&self, shape: &[usize], rng: &mut Philox) -> Result<Vec<f64>, Problem> {
        Ok(self.rule(shape)?.draw(shape, rng))
    }

    /// `Ok` if [`Init::draw`] gives values for a parameter of `shape`; nothing is drawn.
    ///
    /// # Errors
    /// The rule that the setting or the shape breaks.
    pub fn check(&self, shape: &[usize]) -> Result<(), Problem> {
        self.rule(shape).map(drop)
    }

    /// What is drawn for `shape`.
    fn rule(&self, shape: &[usize]) -> Result<Rule, Problem> {
        if Shape::new(shape).is_none_or(|shape| shape.elements() == 0) {
            let what = format!("a parameter of shape {shape:?} is empty, or has too many axes or elements");
            return Err(Problem::Shape(what, "pass one to eight axes, with 1 to 2^32 - 1 elements in all"));
        }
        let normal = |deviation: f64| Rule::Normal { mean: 0.0, deviation };
        let xavier = |gain: f64| {
            let [fan_in, fan_out] = fans(shape)?;
            Ok(finite("gain", gain)? * (2.0 / (fan_in + fan_out)).sqrt())
        };
        let kaiming = |fan: Fan, nonlinearity: Nonlinearity| {
            Ok(finite("gain", nonlinearity.gain())? / fan.of(fans(shape)?).sqrt())
        };
        Ok(match *self {
            Init::Zeros => Rule::Fill(0.0),
            Init::Ones => Rule::Fill(1.0),
            Init::Constant(value) => Rule::Fill(value),
            Init::Uniform { low, high } => {
                if !(low <= high && low.is_finite() && high.is_finite()) {
                    let what = format!("a uniform from {low} to {high}");
                    return Err(Problem::Value(what, "pass finite bounds, the lower first"));
                }
                Rule::Uniform { low, high }
            }
            Init::Normal { mean, deviation } => {
                Rule::Normal { mean: finite("mean", mean)?, deviation: finite("deviation", deviation)? }
            }
            Init::TruncatedNormal { mean, deviation, bound } => {
                if bound.is_nan() || bound < 0.01 {
                    let what = format!("a normal cut at {bound} standard deviations");
                    return Err(Problem::Value(what, "cut at 0.01 or more; 2 is usual"));
                }
                Rule::Truncated { mean: finite("mean", mean)?, deviation: finite("deviation", deviation)?, bound }
            }
            Init::TruncatedNormalBetween { mean, deviation, low, high } => {
                let [mean, deviation] = [finite("mean", mean)?, positive("deviation", deviation)?];
                let in_reach = (low - mean) / deviation < FARTHEST && (high - mean) / deviation > -FARTHEST;
                if !(low < high && in_reach) {
                    let what = format!("a normal with mean {mean} and deviation {deviation}, from {low} to {high}");
                    return Err(Problem::Value(what, "pass bounds that it reaches, the lower first"));
                }
                Rule::Between { mean, deviation, low, high }
            }
            Init::XavierUniform { gain } => Rule::Within(3f64.sqrt() * xavier(gain)?),
            Init::XavierNormal { gain } => normal(xavier(gain)?),
            Init::KaimingUniform { fan, nonlinearity } => Rule::Within(3f64.sqrt() * kaiming(fan, nonlinearity)?),
            Init::KaimingNormal { fan, nonlinearity } => normal(kaiming(fan, nonlinearity)?),
            Init::VarianceScaling { scale, fan, distribution } => {
                let variance = positive("scale", scale)? / fan.of(fans(shape)?);
                match distribution {
                    Distribution::Normal => normal(variance.sqrt()),
                    Distribution::TruncatedNormal => {
                        Rule::Truncated { mean: 0.0, deviation: variance.sqrt() / TRUNCATED, bound: 2.0 }
                    }
                    Distribution::Uniform => Rule::Within((3.0 * variance).sqrt()),
                }
            }
            Init::Orthogonal { gain } => {
                fans(shape)?;
                Rule::Orthogonal(finite("gain", gain)?)
            }
            Init::DeltaOrthogonal { gain } => {
                check_kernel(shape)?;
                if shape[1] > shape[0] {
                    let what = format!("a kernel of shape {shape:?} has more inputs than outputs");
                    return Err(Problem::Shape(what, "use Orthogonal, or as many outputs as inputs"));
                }
                Rule::DeltaOrthogonal(finite("gain", gain)?)
            }
            Init::Identity { gain } => {
                check_matrix(shape)?;
                Rule::Diagonal(finite("gain", gain)?)
            }
            Init::Dirac { groups } => {
                check_kernel(shape)?;
                if groups == 0 || !shape[0].is_multiple_of(groups) {
                    let what = format!("the {} outputs of a kernel in {groups} groups", shape[0]);
                    return Err(Problem::Value(what, "pass a number of groups that divides the outputs"));
                }
                Rule::Dirac { groups }
            }
            Init::Sparse { sparsity, deviation } => {
                check_matrix(shape)?;
                if !(0.0..1.0).contains(&sparsity) {
                    let what = format!("sparsity {sparsity} is not in [0, 1)");
                    return Err(Problem::Value(what, "pass the share of zeros in a column"));
                }
                let zeros = (sparsity * shape[0] as f64).ceil() as usize;
                Rule::Sparse { zeros, deviation: finite("deviation", deviation)? }
            }
            Init::ForgetGate { bias } => {
                if shape.len() != 1 || !shape[0].is_multiple_of(4) {
                    let what = format!("a parameter of shape {shape:?} is no bias of four gates");
                    return Err(Problem::Shape(what, "use it for the bias [4 hidden] of an LSTM"));
                }
                Rule::SecondQuarter(bias)
            }
        })
    }
}

/// Standard deviations to the nearer bound of a truncated normal, at most: beyond there is nothing left to draw.
const FARTHEST: f64 = 1e9;

impl Fan {
    /// This one of fan in and fan out.
    fn of(self, [fan_in, fan_out]: [f64; 2]) -> f64 {
        match self {
            Fan::In => fan_in,
            Fan::Out => fan_out,
            Fan::Average => 0.5 * (fan_in + fan_out),
        }
    }
}

/// Fan in and fan out.
fn fans(shape: &[usize]) -> Result<[f64; 2], Problem> {
    let [out, inputs, kernel @ ..] = shape else {
        let what = format!("a parameter of shape {shape:?} has no fans: they need two axes or more");
        return Err(Problem::Shape(what, "use an init without fans for biases and scales (Zeros, Ones, Uniform)"));
    };
    let field: f64 = kernel.iter().map(|&side| side as f64).product();
    Ok([*inputs as f64 * field, *out as f64 * field])
}

fn check_matrix(shape: &[usize]) -> Result<(), Problem> {
    if shape.len() == 2 {
        return Ok(());
    }
    Err(Problem::Shape(format!("a parameter of shape {shape:?} is no matrix"), "use it for weights [out, in]"))
}

fn check_kernel(shape: &[usize]) -> Result<(), Problem> {
    if (3..=5).contains(&shape.len()) {
        return Ok(());
    }
    let what = format!("a parameter of shape {shape:?} is no kernel of a convolution");
    Err(Problem::Shape(what, "use it for weights [out, in, kernel..] with one to three sides"))
}

fn finite(name: &str, value: f64) -> Result<f64, Problem> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Problem::Value(format!("a {name} of {value}"), "pass a finite number"))
    }
}

fn positive(name: &str, value: f64) -> Result<f64, Problem> {
    let what = || Problem::Value(format!("a {name} of {value}"), "pass a finite number above 0");
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err(what()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: Init, shape: &[usize]) -> Vec<f64> {
        init.draw(shape, &mut Philox::new(5, 1)).unwrap()
    }

    /// Mean, standard deviation and largest magnitude.
    fn moments(values: &[f64]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt(), values.iter().fold(0.0, |m, x| x.abs().max(m)))
    }

    #[test]
    fn every_distribution_has_its_deviation_and_bound() {
        // Fan in 60 * 9, fan out 40 * 9; 21,600 draws.
        let shape = [40, 60, 3, 3];
        let (fan_in, fan_out) = (540.0f64, 360.0f64);
        let xavier = (2.0 / (fan_in + fan_out)).sqrt();
        let infinity = f64::INFINITY;
        let cases = [
            (Init::Uniform { low: -0.5, high: 0.5 }, 12f64.sqrt().recip(), 0.5),
            (Init::Normal { mean: 0.0, deviation: 0.3 }, 0.3, infinity),
            // The deviation of a normal cut at 2.
            (Init::TruncatedNormal { mean: 0.0, deviation: 0.5, bound: 2.0 }, 0.5 * 0.879_625_66, 1.0),
            (Init::XavierUniform { gain: 1.5 }, 1.5 * xavier, 1.5 * xavier * 3f64.sqrt()),
            (Init::XavierNormal { gain: 1.0 }, xavier, infinity),
            (Init::FAN_IN_UNIFORM, 1.0 / (3.0 * fan_in).sqrt(), 1.0 / fan_in.sqrt()),
            (Init::HE, (2.0 / fan_in).sqrt(), infinity),
            (
                Init::KaimingUniform { fan: Fan::Out, nonlinearity: Nonlinearity::Relu },
                (2.0 / fan_out).sqrt(),
                (6.0 / fan_out).sqrt(),
            ),
            (
                Init::KaimingNormal { fan: Fan::Out, nonlinearity: Nonlinearity::Tanh },
                5.0 / 3.0 / fan_out.sqrt(),
                infinity,
            ),
        ];
        for (init, deviation, bound) in cases {
            let (mean, found, largest) = moments(&draw(init, &shape));
            assert!(mean.abs() < 4.0 * deviation / 21_600f64.sqrt(), "{init:?}: mean {mean}");
            assert!((found / deviation - 1.0).abs() < 0.02, "{init:?}: deviation {found}, not {deviation}");
            assert!(largest <= bound * (1.0 + 1e-12), "{init:?}: {largest} is beyond {bound}");
            assert!(bound.is_infinite() || largest > 0.99 * bound, "{init:?}: {largest} stays away from {bound}");
        }
    }

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for (shape, rows, columns) in [([20, 50], 20, 50), ([50, 20], 50, 20), ([32, 32], 32, 32)] {
            let q = draw(Init::Orthogonal { gain: 1.0 }, &shape);
            let count = rows.min(columns);
            for i in 0..count {
                for j in 0..count {
                    let dot: f64 = match rows <= columns {
                        true => (0..columns).map(|k| q[i * columns + k] * q[j * columns + k]).sum(),
                        false => (0..rows).map(|k| q[k * columns + i] * q[k * columns + j]).sum(),
                    };
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12, "{shape:?} {i} {j}: {dot}");
                }
            }
        }
        let doubled = draw(Init::Orthogonal { gain: 2.0 }, &[8, 2, 3, 3]);
        assert!((doubled[..18].iter().map(|x| x * x).sum::<f64>() - 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_vector_has_no_fans() {
        assert!(Init::HE.draw(&[10], &mut Philox::new(0, 0)).is_err());
        assert!(Init::Orthogonal { gain: 1.0 }.draw(&[10], &mut Philox::new(0, 0)).is_err());
        assert_eq!(draw(Init::Constant(2.5), &[3]), [2.5; 3]);
    }
}
