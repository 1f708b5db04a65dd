//! Which parameters matter.

use super::parzen::Parzen;
use super::range::Range;
use super::study::Study;

/// The best of this share are compared with all.
const SHARE: f64 = 0.1;
/// Complete trials below which nothing is said.
const LEAST: usize = 10;
/// Places along a range where densities are compared.
const PLACES: u64 = 64;

impl Study {
    /// How much each parameter decides whether a trial is among the best tenth: shares that sum to 1, the greatest first.
    /// Nothing while fewer than ten trials are complete.
    ///
    /// A share grows with the distance between where the best trials lie along the parameter and where all do: Pearson's
    /// divergence of the two densities (PED-ANOVA: Watanabe, Bansal and Hutter, IJCAI 2023). It says nothing of
    /// parameters that matter only together, and little where a sampler has hardly tried anything but the best.
    pub fn importance(&self) -> Vec<(&str, f64)> {
        let goal = self.config.goal;
        let mut complete: Vec<_> = self.trials().iter().filter_map(|trial| Some((trial.loss(goal)?, trial))).collect();
        complete.sort_by(|one, other| one.0.total_cmp(&other.0));
        if complete.len() < LEAST {
            return vec![];
        }
        let units: Vec<Vec<Option<f64>>> = complete.iter().map(|(_, trial)| self.space.units(&trial.point)).collect();
        let along = |(place, parameter): (usize, &'_ super::space::Parameter)| {
            // Of the trials that had it, best first.
            let had: Vec<Vec<f64>> = units.iter().filter_map(|units| units[place].map(|unit| vec![unit])).collect();
            divergence(&parameter.range, &had)
        };
        let parameters = self.space.parameters();
        let divergences: Vec<f64> = parameters.iter().enumerate().map(along).collect();
        let sum: f64 = divergences.iter().sum();
        let share = |divergence: &f64| if sum > 0.0 { divergence / sum } else { 0.0 };
        let mut shares: Vec<(&str, f64)> =
            parameters.iter().zip(&divergences).map(|(parameter, own)| (parameter.name.as_str(), share(own))).collect();
        shares.sort_by(|one, other| other.1.total_cmp(&one.1));
        shares
    }
}

/// The mean of (p / q - 1)² over q, for the densities p of the best and q of all; 0 where too few had the parameter.
fn divergence(range: &Range, best_first: &[Vec<f64>]) -> f64 {
    let best = (best_first.len() as f64 * SHARE).ceil() as usize;
    if best_first.len() < LEAST {
        return 0.0;
    }
    let density = |points: &[Vec<f64>]| Parzen::weighted(&[range], points, vec![1.0; points.len()]);
    let (best, all) = (density(&best_first[..best]), density(best_first));
    let places = range.count().unwrap_or(PLACES).min(PLACES);
    let (mut sum, mut weight) = (0.0, 0.0);
    for place in 0..places {
        let unit = [(place as f64 + 0.5) / places as f64];
        let (p, q) = (best.log_density(&unit), all.log_density(&unit));
        weight += q.exp();
        sum += q.exp() * ((p - q).exp() - 1.0).powi(2);
    }
    sum / weight
}
