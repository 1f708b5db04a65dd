//! Search by a Gaussian process: what is expected to improve most on the best comes next (Jones, Schonlau and Welch,
//! "Efficient global optimization of expensive black-box functions", 1998).

use super::halton::Halton;
use super::parzen::{log_normal, normal_cdf};
use super::point::Point;
use super::process::{Place, Process};
use super::record::{Record, State};
use super::sampler::{History, Sampler};
use crate::error::Result;
use crate::rng::Philox;

/// Trials that the process goes through at most, for its time grows with their cube.
const MOST: usize = 200;
/// Points at random of which the search for the next one starts.
const SPREAD: usize = 512;
/// Points that are followed uphill, in so many rounds of so many steps aside.
const FOLLOWED: usize = 4;
const ROUNDS: usize = 6;
const ASIDE: usize = 32;

/// A model of the whole space, asked for the greatest expected improvement: the fewest trials, for those that take long.
/// Of six parameters a suggestion took a tenth of a second after 60 trials, and two seconds after 200, on a busy core.
///
/// Two options of a choice are as far apart as both ends of a range. A trial that runs in another process counts as if its
/// value were the mean, so that two processes do not try the same; a failed one as if it were the worst, and a pruned
/// one has its last value. Of more than 200 trials, the best and the latest 100 are taken.
#[derive(Debug, Clone, Copy)]
pub struct GaussianProcess {
    /// Trials that end before the model is asked; until then points of [`Halton`].
    pub startup: usize,
}

impl Default for GaussianProcess {
    fn default() -> GaussianProcess {
        GaussianProcess { startup: 10 }
    }
}

impl Sampler for GaussianProcess {
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>> {
        let seen = if history.ended() < self.startup.max(2) { None } else { seen(history) };
        let Some((places, values)) = seen else { return Halton.suggest(history) };
        let is_choice: Vec<bool> = history.space.parameters().iter().map(|p| p.range.is_choice()).collect();
        let Some(process) = Process::fit(is_choice, places.clone(), &values) else { return Halton.suggest(history) };
        // The best of what the process believes: a noisy value may have been lucky.
        let best = places.iter().map(|place| process.predict(place).0).fold(f64::INFINITY, f64::min);
        let hill = Hill { history, process: &process, best };
        Ok(Some(hill.top(&places, &values)))
    }
}

/// Points and losses (mean 0, deviation 1) of the trials; `None` where losses do not differ.
fn seen(history: &History<'_>) -> Option<(Vec<Place>, Vec<f64>)> {
    let loss = |record: &Record| match record.state {
        State::Complete | State::Pruned => {
            record.value.map(|value| history.goal.loss(value)).filter(|loss| loss.is_finite())
        }
        _ => None,
    };
    let mut taken: Vec<&Record> = history.records.to_vec();
    if taken.len() > MOST {
        taken.sort_by_key(|record| std::cmp::Reverse(record.draw));
        let or_last = |record: &Record| loss(record).unwrap_or(f64::INFINITY);
        taken[MOST / 2..].sort_by(|one, other| or_last(one).total_cmp(&or_last(other)));
        taken.truncate(MOST);
    }
    let known: Vec<f64> = taken.iter().filter_map(|record| loss(record)).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let deviation = (known.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / known.len() as f64).sqrt();
    if !deviation.is_finite() || deviation <= 0.0 {
        return None;
    }
    let worst = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let value = |record: &&Record| {
        let missing = if record.is_lost() { worst } else { mean };
        (loss(record).unwrap_or(missing) - mean) / deviation
    };
    let places = taken.iter().map(|record| history.space.units(&record.point)).collect();
    Some((places, taken.iter().map(value).collect()))
}

/// The expected improvement over the space.
struct Hill<'a> {
    history: &'a History<'a>,
    process: &'a Process,
    /// What is to be improved on.
    best: f64,
}

impl Hill<'_> {
    /// A point with its height; settings that are no settings there do not count.
    fn rated(&self, units: Vec<f64>) -> (f64, Vec<f64>) {
        let place = self.history.space.units(&self.history.space.at(&units));
        let (mean, deviation) = self.process.predict(&place);
        (log_improvement((self.best - mean) / deviation) + deviation.ln(), units)
    }

    /// About the highest point: from random ones and the best trials, by random steps aside that grow shorter.
    fn top(&self, places: &[Place], values: &[f64]) -> Point {
        let mut random = self.history.random();
        let parameters = self.history.space.parameters();
        let mut rated: Vec<(f64, Vec<f64>)> =
            (0..SPREAD).map(|_| self.rated(parameters.iter().map(|_| random.uniform()).collect())).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
        for &trial in order.iter().take(FOLLOWED) {
            rated.push(self.rated(places[trial].iter().map(|unit| unit.unwrap_or(0.5)).collect()));
        }
        rated.sort_by(|one, other| other.0.total_cmp(&one.0));
        rated.truncate(FOLLOWED);
        for top in &mut rated {
            let mut width = 0.1;
            for _ in 0..ROUNDS {
                for _ in 0..ASIDE {
                    let other = self.rated(self.aside(&top.1, width, &mut random));
                    if other.0 > top.0 {
                        *top = other;
                    }
                }
                width *= 0.4;
            }
        }
        let highest = rated.into_iter().reduce(|best, other| if other.0 > best.0 { other } else { best });
        highest.map_or_else(|| self.history.random_point(), |(_, units)| self.history.space.at(&units))
    }

    /// A step from a point: all numbers a little, or one of them; a choice now and then to any option.
    fn aside(&self, units: &[f64], width: f64, random: &mut Philox) -> Vec<f64> {
        let only = match random.below(2) {
            0 => Some(random.below(units.len() as u32) as usize),
            _ => None,
        };
        let step = |(place, (&unit, parameter)): (usize, (&f64, &super::space::Parameter))| {
            if only.is_some_and(|only| only != place) {
                return unit;
            }
            match parameter.range.count() {
                Some(_) if parameter.range.is_choice() => {
                    if only.is_some() || random.below(8) == 0 {
                        random.uniform()
                    } else {
                        unit
                    }
                }
                // At least to the next integer, now and then.
                Some(count) => (unit + random.normal() * width.max(0.7 / count as f64)).clamp(0.0, 1.0),
                None => (unit + random.normal() * width).clamp(0.0, 1.0),
            }
        };
        units.iter().zip(self.history.space.parameters()).enumerate().map(step).collect()
    }
}

/// The logarithm of φ(z) + z Φ(z), the expected improvement in deviations, which is below any f64 where z is far below 0
/// (Ament et al., "Unexpected improvements to expected improvement for Bayesian optimization", NeurIPS 2023).
fn log_improvement(z: f64) -> f64 {
    if z > -20.0 { (log_normal(z).exp() + z * normal_cdf(z)).ln() } else { log_normal(z) - 2.0 * (-z).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn improvement_falls_smoothly_where_it_is_tiny() {
        assert!((log_improvement(0.0) - (-0.918_938_533_204_672_7)).abs() < 1e-12);
        let steps: Vec<f64> = (0..80).map(|k| log_improvement(-f64::from(k) / 2.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[1] < pair[0]), "{steps:?}");
        // The two forms meet: the error of the second is 3 / z².
        assert!((log_improvement(-19.999_999) - log_improvement(-20.000_001)).abs() < 0.01);
    }
}
