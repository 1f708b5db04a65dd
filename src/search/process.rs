//! A Gaussian process: a distribution of functions through values that were seen (Rasmussen and Williams, "Gaussian
//! processes for machine learning", 2006, chapters 2, 4 and 5).
//!
//! The kernel is a Matérn of 5/2 with a length for each parameter; values have the mean 0 and the deviation 1. Lengths and
//! noise are those of the greatest posterior density, by Rprop on the logarithm of the marginal likelihood (Blum and
//! Riedmiller, "Optimization of Gaussian process hyperparameters using Rprop", 2013).

use super::cholesky::{Cholesky, dot};

/// A point: a number from 0 to 1 for each parameter, or `None` where it is not active.
pub(super) type Place = Vec<Option<f64>>;

/// Steps of Rprop.
const STEPS: usize = 60;
/// Logarithms of the lengths, of the scale and of the noise stay within these.
const LENGTHS: [f64; 2] = [-5.0, 7.0];
const SCALES: [f64; 2] = [-5.0, 5.0];
const NOISES: [f64; 2] = [-14.0, 0.0];

/// A Gaussian process, given what was seen.
pub(super) struct Process {
    /// Which parameters are choices: two options are as far apart as both ends of a range.
    is_choice: Vec<bool>,
    places: Vec<Place>,
    /// Inverse squares of the lengths.
    precisions: Vec<f64>,
    /// The variance of the function.
    scale: f64,
    factor: Cholesky,
    /// The inverse of the covariance, times the values.
    solved: Vec<f64>,
}

/// What does not change while lengths are fitted.
struct Seen<'a> {
    values: &'a [f64],
    /// For each parameter, the squared distances of all pairs.
    distances: Vec<Vec<f64>>,
}

impl Process {
    /// `None` where there is no value, or no lengths for which the covariance is positive definite.
    pub(super) fn fit(is_choice: Vec<bool>, places: Vec<Place>, values: &[f64]) -> Option<Process> {
        let count = places.len();
        if count == 0 {
            return None;
        }
        let along = |parameter: usize| {
            let pairs = (0..count * count).map(|pair| (&places[pair / count], &places[pair % count]));
            pairs.map(|(a, b)| distance(is_choice[parameter], a[parameter], b[parameter])).collect()
        };
        let seen = Seen { values, distances: (0..is_choice.len()).map(along).collect() };
        let logs = seen.fitted();
        let [precisions @ .., scale, noise] = &logs[..] else { return None };
        let precisions: Vec<f64> = precisions.iter().map(|log| (-2.0 * log).exp()).collect();
        let covariance = seen.covariance(&precisions, scale.exp(), noise.exp());
        let factor = Cholesky::new(covariance, count)?;
        let solved = factor.backward(factor.forward(values.to_vec()));
        Some(Process { is_choice, places, precisions, scale: scale.exp(), factor, solved })
    }

    /// Mean and deviation of the function at a point.
    pub(super) fn predict(&self, place: &Place) -> (f64, f64) {
        let covariance = |seen: &Place| {
            let parameters = self.precisions.iter().zip(&self.is_choice).zip(seen.iter().zip(place));
            let squared: f64 =
                parameters.map(|((precision, &is_choice), (a, b))| precision * distance(is_choice, *a, *b)).sum();
            self.scale * matern(squared).0
        };
        let covariances: Vec<f64> = self.places.iter().map(covariance).collect();
        let mean = dot(&covariances, &self.solved);
        let explained = self.factor.forward(covariances);
        (mean, (self.scale - dot(&explained, &explained)).max(1e-12).sqrt())
    }
}

impl Seen<'_> {
    /// Logarithms of the lengths, of the scale and of the noise.
    fn fitted(&self) -> Vec<f64> {
        let parameters = self.distances.len();
        let mut logs = vec![expected_length(parameters); parameters];
        logs.extend([0.0, -7.0]);
        let bounds = |place: usize| match place.checked_sub(parameters) {
            None => LENGTHS,
            Some(0) => SCALES,
            Some(_) => NOISES,
        };
        let (mut steps, mut before) = (vec![0.2; logs.len()], vec![0.0; logs.len()]);
        let mut best = (f64::NEG_INFINITY, logs.clone());
        for _ in 0..STEPS {
            let Some((density, mut slopes)) = self.density(&logs) else { break };
            if density > best.0 {
                best = (density, logs.clone());
            }
            for place in 0..logs.len() {
                // Faster while the slope keeps its sign; once it turns, slower, and a step of rest.
                let turn = slopes[place] * before[place];
                if turn > 0.0 {
                    steps[place] = f64::min(steps[place] * 1.2, 1.0);
                } else if turn < 0.0 {
                    steps[place] *= 0.5;
                    slopes[place] = 0.0;
                }
                let step = if slopes[place] == 0.0 { 0.0 } else { steps[place] * slopes[place].signum() };
                let [low, high] = bounds(place);
                logs[place] = (logs[place] + step).clamp(low, high);
            }
            before = slopes;
        }
        best.1
    }

    /// The logarithm of the posterior density, but for a constant, and its slopes.
    fn density(&self, logs: &[f64]) -> Option<(f64, Vec<f64>)> {
        let (count, parameters) = (self.values.len(), self.distances.len());
        let precisions: Vec<f64> = logs[..parameters].iter().map(|log| (-2.0 * log).exp()).collect();
        let (scale, noise) = (logs[parameters].exp(), logs[parameters + 1].exp());
        let factor = Cholesky::new(self.covariance(&precisions, scale, noise), count)?;
        let solved = factor.backward(factor.forward(self.values.to_vec()));
        let mut density = -0.5 * dot(self.values, &solved) - factor.log_root();
        // d density / d covariance, and through it: equation 5.9.
        let mut slopes = vec![0.0; logs.len()];
        for (pair, inverse) in factor.inverse().into_iter().enumerate() {
            let (row, column) = (pair / count, pair % count);
            let slope = 0.5 * (solved[row] * solved[column] - inverse);
            let (value, by_squared) = matern(self.squared(&precisions, pair));
            for (parameter, precision) in precisions.iter().enumerate() {
                slopes[parameter] -= slope * scale * by_squared * 2.0 * precision * self.distances[parameter][pair];
            }
            slopes[parameters] += slope * scale * value;
            if row == column {
                slopes[parameters + 1] += slope * noise;
            }
        }
        for (place, (mean, deviation)) in priors(parameters).enumerate() {
            let score = (logs[place] - mean) / deviation;
            density -= 0.5 * score * score;
            slopes[place] -= score / deviation;
        }
        density.is_finite().then_some((density, slopes))
    }

    fn covariance(&self, precisions: &[f64], scale: f64, noise: f64) -> Vec<f64> {
        let count = self.values.len();
        let entry = |pair: usize| {
            let value = scale * matern(self.squared(precisions, pair)).0;
            if pair / count == pair % count { value + noise } else { value }
        };
        (0..count * count).map(entry).collect()
    }

    /// The squared distance of a pair, in lengths.
    fn squared(&self, precisions: &[f64], pair: usize) -> f64 {
        precisions.iter().zip(&self.distances).map(|(precision, along)| precision * along[pair]).sum()
    }
}

/// The logarithm of the length that is expected for so many parameters: it grows with the diagonal of the cube (Hvarfner,
/// Hellsten and Nardi, "Vanilla Bayesian optimization performs great in high dimensions", ICML 2024).
fn expected_length(parameters: usize) -> f64 {
    std::f64::consts::SQRT_2 + 0.5 * (parameters as f64).ln() - 1.0
}

/// Means and deviations of the normals that the logarithms of lengths, scale and noise have before any value is seen.
fn priors(parameters: usize) -> impl Iterator<Item = (f64, f64)> {
    let lengths = std::iter::repeat_n((expected_length(parameters), 3f64.sqrt()), parameters);
    lengths.chain([(0.0, 1.0), (-8.0, 3.0)])
}

/// The squared distance along a parameter; what is active is far from what is not.
fn distance(is_choice: bool, a: Option<f64>, b: Option<f64>) -> f64 {
    match (a, b) {
        (Some(a), Some(b)) if is_choice => f64::from(u8::from(a != b)),
        (Some(a), Some(b)) => (a - b) * (a - b),
        (None, None) => 0.0,
        _ => 1.0,
    }
}

/// The Matérn kernel of 5/2 at a squared distance, and its derivative by that.
fn matern(squared: f64) -> (f64, f64) {
    let root = (5.0 * squared).sqrt();
    let fall = (-root).exp();
    ((1.0 + root + root * root / 3.0) * fall, -5.0 / 6.0 * (1.0 + root) * fall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(count: usize) -> (Vec<Place>, Vec<f64>) {
        let mut random = crate::rng::Philox::new(5, 0);
        let places: Vec<Place> = (0..count).map(|_| (0..3).map(|_| Some(random.uniform())).collect()).collect();
        let value = |place: &Place| (6.0 * place[0].unwrap()).sin() + if place[2].unwrap() > 0.5 { 0.5 } else { 0.0 };
        let values = places.iter().map(value).collect();
        (places, values)
    }

    #[test]
    fn slopes_are_differences_of_the_density() {
        let (places, values) = seen(12);
        let pairs = |parameter: usize| {
            let pairs = (0..144).map(|pair| (&places[pair / 12], &places[pair % 12]));
            pairs.map(|(a, b)| distance(parameter == 1, a[parameter], b[parameter])).collect()
        };
        let seen = Seen { values: &values, distances: (0..3).map(pairs).collect() };
        let logs = [-0.5, 0.2, 0.4, 0.3, -3.0];
        let (_, slopes) = seen.density(&logs).unwrap();
        for place in 0..logs.len() {
            let at = |shift: f64| {
                let mut logs = logs;
                logs[place] += shift;
                seen.density(&logs).unwrap().0
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((difference - slopes[place]).abs() < 1e-5 * (1.0 + difference.abs()), "{place}: {difference}");
        }
    }

    #[test]
    fn it_goes_through_what_was_seen_and_doubts_what_is_far() {
        let (places, values) = seen(40);
        let process = Process::fit(vec![false; 3], places.clone(), &values).unwrap();
        for (place, value) in places.iter().zip(&values) {
            assert!((process.predict(place).0 - value).abs() < 0.1, "{place:?}");
        }
        let deviation = |place: &Place| process.predict(place).1;
        assert!(deviation(&vec![Some(-3.0); 3]) > 3.0 * deviation(&places[0]));
        assert!(Process::fit(vec![], vec![], &[]).is_none());
    }
}
