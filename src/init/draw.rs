//! What is drawn for a shape, once the rules of an initialiser have been checked and its fans are known.

use crate::dtype::DType;
use crate::rng::{Philox, below};

/// How the elements of one parameter come about. The shape has elements, and fits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// All the same.
    Fill(f64),
    /// Uniform in `[low, high)`.
    Uniform { low: f64, high: f64 },
    /// Uniform in `[-bound, bound)`.
    Within(f64),
    /// Normal.
    Normal { mean: f64, deviation: f64 },
    /// Normal, at most `bound` standard deviations from the mean.
    Truncated { mean: f64, deviation: f64, bound: f64 },
    /// Normal, within `[low, high]`.
    Between { mean: f64, deviation: f64, low: f64, high: f64 },
    /// An orthonormal matrix `[out, rest]`, times this.
    Orthogonal(f64),
    /// An orthonormal matrix `[out, in]` at the middle of the kernel, times this; 0 elsewhere.
    DeltaOrthogonal(f64),
    /// This on the diagonal of a matrix.
    Diagonal(f64),
    /// 1 where a channel of a group meets the one of its number, at the middle of the kernel.
    Dirac { groups: usize },
    /// Normal, but for so many zeros in each column.
    Sparse { zeros: usize, deviation: f64 },
    /// This in the second quarter of a vector.
    SecondQuarter(f64),
}

impl Rule {
    /// The elements, row-major.
    pub fn draw(self, shape: &[usize], rng: &mut Philox) -> Vec<f64> {
        let count: usize = shape.iter().product();
        let mut each = |draw: &mut dyn FnMut(&mut Philox) -> f64| (0..count).map(|_| draw(rng)).collect();
        match self {
            Rule::Fill(value) => vec![value; count],
            Rule::Uniform { low, high } => {
                each(&mut |rng| below(low + (high - low) * rng.uniform(), [low, high], DType::F32))
            }
            Rule::Within(bound) => {
                each(&mut |rng| below(bound * (2.0 * rng.uniform() - 1.0), [-bound, bound], DType::F32))
            }
            Rule::Normal { mean, deviation } => each(&mut |rng| mean + deviation * rng.normal()),
            Rule::Truncated { mean, deviation, bound } => each(&mut |rng| {
                loop {
                    let draw = rng.normal();
                    if draw.abs() <= bound {
                        return mean + deviation * draw;
                    }
                }
            }),
            Rule::Between { mean, deviation, low, high } => {
                let bounds = [low, high].map(|x| (x - mean) / deviation);
                each(&mut |rng| (mean + deviation * normal_between(bounds, rng)).clamp(low, high))
            }
            Rule::Orthogonal(gain) => {
                orthogonal(shape[0], count / shape[0], rng).into_iter().map(|x| gain * x).collect()
            }
            Rule::DeltaOrthogonal(gain) => {
                let [field, middle] = kernel(shape);
                let mut values = vec![0.0; count];
                for (pair, x) in orthogonal(shape[0], shape[1], rng).into_iter().enumerate() {
                    values[pair * field + middle] = gain * x;
                }
                values
            }
            Rule::Diagonal(value) => {
                let mut values = vec![0.0; count];
                (0..shape[0].min(shape[1])).for_each(|i| values[i * shape[1] + i] = value);
                values
            }
            Rule::Dirac { groups } => {
                let [field, middle] = kernel(shape);
                let outputs = shape[0] / groups;
                let mut values = vec![0.0; count];
                for group in 0..groups {
                    for channel in 0..outputs.min(shape[1]) {
                        let output = group * outputs + channel;
                        values[(output * shape[1] + channel) * field + middle] = 1.0;
                    }
                }
                values
            }
            Rule::Sparse { zeros, deviation } => {
                let mut values: Vec<f64> = each(&mut |rng| deviation * rng.normal());
                let [rows, columns] = [shape[0], shape[1]];
                let mut order: Vec<usize> = (0..rows).collect();
                for column in 0..columns {
                    // The first steps of a shuffle: any rows, all different.
                    for k in 0..zeros {
                        order.swap(k, k + rng.below((rows - k) as u32) as usize);
                        values[order[k] * columns + column] = 0.0;
                    }
                }
                values
            }
            Rule::SecondQuarter(value) => {
                let mut values = vec![0.0; count];
                values[count / 4..count / 2].fill(value);
                values
            }
        }
    }
}

/// Elements of a kernel `[out, in, kernel..]`, and the place of its middle one: at half of each side, rounded down.
fn kernel(shape: &[usize]) -> [usize; 2] {
    shape[2..].iter().fold([1, 0], |[field, middle], side| [field * side, middle * side + side / 2])
}

/// A standard normal within `[low, high]`, wherever that lies: by rejection, from a proposal that fits well enough to take
/// some two tries (Robert 1995, "Simulation of truncated normal variables").
fn normal_between([low, high]: [f64; 2], rng: &mut Philox) -> f64 {
    if high < 0.0 {
        return -normal_between([-high, -low], rng);
    }
    if low > 0.0 {
        return low + beyond(low, high - low, rng);
    }
    // The width at which both ways accept alike: sqrt(2 pi).
    let is_wide = high - low > std::f64::consts::TAU.sqrt();
    loop {
        let (draw, is_taken) = match is_wide {
            true => {
                let draw = rng.normal();
                (draw, (low..=high).contains(&draw))
            }
            false => {
                let draw = low + (high - low) * rng.uniform();
                (draw, rng.uniform() < (-0.5 * draw * draw).exp())
            }
        };
        if is_taken {
            return draw;
        }
    }
}

/// How far beyond `low`, which is above 0, a standard normal within `[low, low + width]` lies: an exponential of the best
/// rate r, cut at the width. With r (r - low) = 1, and so without a difference of large numbers, the density of z over
/// that of the exponential is exp(-(z - low - 1/r)^2 / 2), up to a factor.
fn beyond(low: f64, width: f64, rng: &mut Philox) -> f64 {
    let rate = 0.5 * (low + low.hypot(2.0));
    // The share of the exponential that is not cut off.
    let share = -(-rate * width).exp_m1();
    let nearest = (1.0 / rate).min(width) - 1.0 / rate;
    loop {
        let distance = (-(-rng.uniform() * share).ln_1p() / rate).min(width);
        let off = distance - 1.0 / rate;
        if rng.uniform() < (0.5 * (nearest * nearest - off * off)).exp() {
            return distance;
        }
    }
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
