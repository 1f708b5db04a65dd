//! The density of a few points: a mixture of kernels, one around each, and a flat one.
//!
//! A kernel is a product over the parameters: for numbers a normal that is cut off at 0 and 1, for choices a table. Widths
//! and weights are those of Optuna's `TPESampler`, whose paper explains them (Watanabe, "Tree-structured Parzen estimator:
//! understanding its algorithm components and their roles", 2023): a normal is as wide as the greater distance to its
//! neighbours, at least a share of the range that shrinks with the number of points, and later points weigh more.

use super::range::Range;
use crate::rng::Philox;

/// The latest points, which have the full weight.
const LATEST: usize = 25;
/// The narrowest normal is this part of the range.
const NARROWEST: f64 = 0.01;

/// A mixture of kernels over some parameters.
pub(super) struct Parzen<'a> {
    /// They sum to 1; the flat kernel is the last.
    weights: Vec<f64>,
    factors: Vec<Factor<'a>>,
}

/// The kernels along one parameter.
enum Factor<'a> {
    Normals(&'a Range, Vec<Normal>),
    /// A probability for each option, for each kernel.
    Tables(Vec<Vec<f64>>),
}

/// A normal that is cut off at 0 and 1.
struct Normal {
    mean: f64,
    deviation: f64,
    /// What of it lies between 0 and 1.
    mass: f64,
}

impl<'a> Parzen<'a> {
    /// Around `points`, oldest first: a number from 0 to 1 for each of `ranges`.
    pub(super) fn new(ranges: &[&'a Range], points: &[Vec<f64>]) -> Parzen<'a> {
        Parzen::weighted(ranges, points, weights(points.len()))
    }

    /// Around `points` of these weights, before a flat kernel of the weight 1.
    pub(super) fn weighted(ranges: &[&'a Range], points: &[Vec<f64>], mut weights: Vec<f64>) -> Parzen<'a> {
        weights.push(1.0);
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let factor = |(dimension, &range): (usize, &&'a Range)| {
            let along: Vec<f64> = points.iter().map(|point| point[dimension]).collect();
            match range {
                Range::Choice { options } => Factor::Tables(tables(options.len(), &along)),
                _ => Factor::Normals(range, normals(&along)),
            }
        };
        Parzen { weights, factors: ranges.iter().enumerate().map(factor).collect() }
    }

    /// A point of this density.
    pub(super) fn sample(&self, random: &mut Philox) -> Vec<f64> {
        let kernel = drawn(&self.weights, random);
        let along = |factor: &Factor<'_>| match factor {
            Factor::Normals(range, normals) => {
                let unit = normals[kernel].sample(random);
                // An integer lies in the middle of its part.
                if range.count().is_some() { range.unit(&range.at(unit)) } else { unit }
            }
            Factor::Tables(tables) => {
                let table = &tables[kernel];
                (drawn(table, random) as f64 + 0.5) / table.len() as f64
            }
        };
        self.factors.iter().map(along).collect()
    }

    /// The logarithm of the density at a point, or of the probability along integers and choices.
    pub(super) fn log_density(&self, point: &[f64]) -> f64 {
        let mut logs: Vec<f64> = self.weights.iter().map(|weight| weight.ln()).collect();
        for (factor, &unit) in self.factors.iter().zip(point) {
            match factor {
                Factor::Normals(range, normals) => {
                    let cell = range.cell(unit);
                    logs.iter_mut().zip(normals).for_each(|(log, normal)| *log += normal.log_density(unit, cell));
                }
                Factor::Tables(tables) => {
                    let option = |table: &[f64]| ((unit * table.len() as f64) as usize).min(table.len() - 1);
                    logs.iter_mut().zip(tables).for_each(|(log, table)| *log += table[option(table)].ln());
                }
            }
        }
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
    }
}

/// Of points, oldest first: the latest have 1, those before them less, the older the less.
fn weights(count: usize) -> Vec<f64> {
    let older = count.saturating_sub(LATEST);
    let least = 1.0 / count.max(1) as f64;
    let weight = |place: usize| match place {
        place if place >= older => 1.0,
        _ if older == 1 => least,
        place => least + (1.0 - least) * place as f64 / (older - 1) as f64,
    };
    (0..count).map(weight).collect()
}

fn normals(means: &[f64]) -> Vec<Normal> {
    let mut order: Vec<usize> = (0..means.len()).collect();
    order.sort_by(|&one, &other| means[one].total_cmp(&means[other]));
    let narrowest = NARROWEST.max(1.0 / (means.len() + 2) as f64);
    let mut deviations = vec![1.0; means.len()];
    for (place, &point) in order.iter().enumerate() {
        let neighbour = |place: Option<usize>| place.and_then(|place| order.get(place)).map(|&other| means[other]);
        let below = neighbour(place.checked_sub(1)).map(|other| means[point] - other);
        let above = neighbour(Some(place + 1)).map(|other| other - means[point]);
        // The ends of the range are neighbours only of a point that stands alone.
        let widest = match (below, above) {
            (None, None) => means[point].max(1.0 - means[point]),
            (below, above) => below.unwrap_or(0.0).max(above.unwrap_or(0.0)),
        };
        deviations[point] = widest.clamp(narrowest, 1.0);
    }
    let normal = |(&mean, &deviation): (&f64, &f64)| Normal::new(mean, deviation);
    means.iter().zip(&deviations).map(normal).chain([Normal::new(0.5, 1.0)]).collect()
}

/// Each kernel has a weight of 1 for its own option, and together they have another 1 for every option.
fn tables(options: usize, along: &[f64]) -> Vec<Vec<f64>> {
    let flat = vec![1.0 / options as f64; options];
    let prior = 1.0 / (along.len() + 1) as f64;
    let table = |unit: &f64| {
        let own = ((unit * options as f64) as usize).min(options - 1);
        let sum = 1.0 + prior * options as f64;
        (0..options).map(|option| (prior + f64::from(u8::from(option == own))) / sum).collect()
    };
    along.iter().map(table).chain([flat]).collect()
}

/// A place by these probabilities.
fn drawn(probabilities: &[f64], random: &mut Philox) -> usize {
    let mut left = random.uniform();
    for (place, probability) in probabilities.iter().enumerate() {
        left -= probability;
        if left < 0.0 {
            return place;
        }
    }
    probabilities.len() - 1
}

impl Normal {
    fn new(mean: f64, deviation: f64) -> Normal {
        let mass = normal_cdf((1.0 - mean) / deviation) - normal_cdf(-mean / deviation);
        Normal { mean, deviation, mass }
    }

    /// Means lie between 0 and 1 and no deviation is above 1, so that at least a third of the draws is taken.
    fn sample(&self, random: &mut Philox) -> f64 {
        loop {
            let unit = self.mean + self.deviation * random.normal();
            if (0.0..=1.0).contains(&unit) {
                return unit;
            }
        }
    }

    fn log_density(&self, unit: f64, cell: Option<[f64; 2]>) -> f64 {
        let score = |unit: f64| (unit - self.mean) / self.deviation;
        let Some([low, high]) = cell else {
            return log_normal(score(unit)) - (self.deviation * self.mass).ln();
        };
        let within = normal_cdf(score(high)) - normal_cdf(score(low));
        (within.max(f64::MIN_POSITIVE) / self.mass).ln()
    }
}

/// The probability that a standard normal is below `x`.
pub(super) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The logarithm of the density of a standard normal.
pub(super) fn log_normal(x: f64) -> f64 {
    -0.5 * (x * x + std::f64::consts::TAU.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_integrate_to_one() {
        let range = Range::Float { low: 0.0, high: 1.0, log: false };
        for points in [vec![], vec![0.2], vec![0.0, 0.3, 0.31, 1.0]] {
            let points: Vec<Vec<f64>> = points.into_iter().map(|unit| vec![unit]).collect();
            let parzen = Parzen::new(&[&range], &points);
            let sum: f64 = (0..10_000).map(|k| parzen.log_density(&[(f64::from(k) + 0.5) / 1e4]).exp()).sum();
            assert!((sum / 1e4 - 1.0).abs() < 1e-6, "{sum}");
        }
    }

    #[test]
    fn probabilities_of_integers_and_options_sum_to_one() {
        let integer = Range::Integer { low: 1, high: 40, log: true };
        let choice = Range::Choice { options: ["a", "b", "c"].map(String::from).to_vec() };
        let parzen = Parzen::new(&[&integer, &choice], &[vec![0.1, 0.2], vec![0.9, 0.5], vec![0.5, 0.5]]);
        let (mut sum, mut random) = (0.0, Philox::new(1, 2));
        for number in 1..=40 {
            let unit = integer.unit(&super::super::point::Value::Integer(number));
            sum += (0..3).map(|option| parzen.log_density(&[unit, (f64::from(option) + 0.5) / 3.0]).exp()).sum::<f64>();
        }
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let often = (0..1000).filter(|_| (0.4..0.6).contains(&parzen.sample(&mut random)[1])).count();
        assert!((400..650).contains(&often), "{often} of 1000 are the option of two of three points");
    }

    #[test]
    fn late_points_weigh_more() {
        assert_eq!(weights(25), vec![1.0; 25]);
        let many = weights(60);
        assert_eq!((many[0], many[34], many[35], many[59]), (1.0 / 60.0, 1.0, 1.0, 1.0));
        assert_eq!((weights(26)[0], weights(26)[1]), (1.0 / 26.0, 1.0));
    }
}
