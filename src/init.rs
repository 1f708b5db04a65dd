//! Initial values of parameters, drawn on the host in f64: the same on every device.
//!
//! Fans and gains are PyTorch's (`torch.nn.init`): for a weight `[out, in, kernel..]`, fan in is `in * kernel` and fan
//! out is `out * kernel`.

use crate::dtype::DType;
use crate::error::Problem;
use crate::rng::{Philox, below};
use crate::shape::Shape;

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
    /// Normal, drawn again until within `bound` standard deviations of the mean (2 is usual).
    TruncatedNormal {
        /// Mean.
        mean: f64,
        /// Standard deviation of the untruncated normal.
        deviation: f64,
        /// Largest distance from the mean, in standard deviations; at least 0.01.
        bound: f64,
    },
    /// Uniform with deviation `gain * sqrt(2 / (fan in + fan out))` (Glorot and Bengio 2010).
    XavierUniform {
        /// Factor for the nonlinearity that follows.
        gain: f64,
    },
    /// Normal with deviation `gain * sqrt(2 / (fan in + fan out))` (Glorot and Bengio 2010).
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
    /// Orthonormal rows or columns, whichever are fewer, of the matrix `[out, rest]` (Saxe, McClelland and Ganguli 2014),
    /// uniform over all such matrices.
    Orthogonal {
        /// Factor for the nonlinearity that follows.
        gain: f64,
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
}

/// The nonlinearity after a layer, for its gain.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Nonlinearity {
    /// None, or a sigmoid: gain 1.
    Linear,
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
            Nonlinearity::Linear => 1.0,
            Nonlinearity::Tanh => 5.0 / 3.0,
            Nonlinearity::Relu => 2f64.sqrt(),
            Nonlinearity::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
            Nonlinearity::Selu => 0.75,
        }
    }
}

impl Init {
    /// PyTorch's default for the weights of linear and convolutional layers: uniform within `1 / sqrt(fan in)`.
    pub const FAN_IN_UNIFORM: Init =
        Init::KaimingUniform { fan: Fan::In, nonlinearity: Nonlinearity::LeakyRelu(2.236_067_977_499_79) };

    /// He's normal for layers before a ReLU.
    pub const HE: Init = Init::KaimingNormal { fan: Fan::In, nonlinearity: Nonlinearity::Relu };

    /// Values for a parameter of `shape`, row-major.
    ///
    /// # Errors
    /// The rule that the setting or the shape breaks.
    pub fn draw(&self, shape: &[usize], rng: &mut Philox) -> Result<Vec<f64>, Problem> {
        let count = Shape::new(shape).map_or(0, |shape| shape.elements());
        let mut fill = |draw: &mut dyn FnMut(&mut Philox) -> f64| (0..count).map(|_| draw(rng)).collect();
        let uniform = |deviation: f64| {
            let bound = 3f64.sqrt() * deviation;
            move |rng: &mut Philox| below(bound * (2.0 * rng.uniform() - 1.0), [-bound, bound], DType::F32)
        };
        let normal = |deviation: f64| move |rng: &mut Philox| deviation * rng.normal();
        let xavier = |gain: f64| fans(shape).map(|[fan_in, fan_out]| gain * (2.0 / (fan_in + fan_out)).sqrt());
        let kaiming = |fan: Fan, nonlinearity: Nonlinearity| {
            fans(shape).map(|fans| nonlinearity.gain() / fans[usize::from(fan == Fan::Out)].sqrt())
        };
        Ok(match *self {
            Init::Zeros => vec![0.0; count],
            Init::Ones => vec![1.0; count],
            Init::Constant(value) => vec![value; count],
            Init::Uniform { low, high } => {
                if !(low <= high && low.is_finite() && high.is_finite()) {
                    let what = format!("a uniform from {low} to {high}");
                    return Err(Problem::Value(what, "pass finite bounds, the lower first"));
                }
                fill(&mut |rng| below(low + (high - low) * rng.uniform(), [low, high], DType::F32))
            }
            Init::Normal { mean, deviation } => fill(&mut |rng| mean + deviation * rng.normal()),
            Init::TruncatedNormal { mean, deviation, bound } => {
                if bound.is_nan() || bound < 0.01 {
                    let what = format!("a normal cut at {bound} standard deviations");
                    return Err(Problem::Value(what, "cut at 0.01 or more; 2 is usual"));
                }
                fill(&mut |rng| {
                    loop {
                        let draw = rng.normal();
                        if draw.abs() <= bound {
                            return mean + deviation * draw;
                        }
                    }
                })
            }
            Init::XavierUniform { gain } => fill(&mut uniform(xavier(gain)?)),
            Init::XavierNormal { gain } => fill(&mut normal(xavier(gain)?)),
            Init::KaimingUniform { fan, nonlinearity } => fill(&mut uniform(kaiming(fan, nonlinearity)?)),
            Init::KaimingNormal { fan, nonlinearity } => fill(&mut normal(kaiming(fan, nonlinearity)?)),
            Init::Orthogonal { gain } => {
                fans(shape)?;
                let rows = shape[0];
                orthogonal(rows, count / rows.max(1), rng).into_iter().map(|x| gain * x).collect()
            }
        })
    }
}

/// Fan in and fan out.
fn fans(shape: &[usize]) -> Result<[f64; 2], Problem> {
    let [out, rest @ ..] = shape else { return Err(no_fans(shape)) };
    let [inputs, kernel @ ..] = rest else { return Err(no_fans(shape)) };
    let field: f64 = kernel.iter().map(|&side| side as f64).product();
    Ok([*inputs as f64 * field, *out as f64 * field])
}

fn no_fans(shape: &[usize]) -> Problem {
    Problem::Shape(
        format!("a parameter of shape {shape:?} has no fans: they need two axes or more"),
        "use an init without fans for biases and scales (Zeros, Ones, Uniform)",
    )
}

/// A `rows` x `columns` matrix whose rows or columns, whichever are fewer, are orthonormal: Gram-Schmidt of normals, done
/// twice against rounding. The diagonal of R is positive, which makes the distribution uniform (Mezzadri 2007).
fn orthogonal(rows: usize, columns: usize, rng: &mut Philox) -> Vec<f64> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = vec![];
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for other in &vectors {
                let overlap: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= overlap * b);
            }
        }
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Dependent by chance: draw again.
        if norm > 1e-6 {
            vector.iter_mut().for_each(|x| *x /= norm);
            vectors.push(vector);
        }
    }
    if rows <= columns {
        vectors.concat()
    } else {
        (0..rows * columns).map(|i| vectors[i % columns][i / columns]).collect()
    }
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
