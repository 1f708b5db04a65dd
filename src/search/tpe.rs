//! The tree-structured Parzen estimator (Bergstra, Bardenet, Bengio and Kégl, "Algorithms for hyper-parameter
//! optimization", NIPS 2011).

use super::parzen::Parzen;
use super::point::Point;
use super::range::Range;
use super::record::{Record, State};
use super::sampler::{History, Sampler};
use super::space::Parameter;
use crate::error::Result;
use crate::rng::Philox;

/// Good trials at most.
const MOST_GOOD: usize = 25;

/// Draws from the density of the good trials what is most likely among the good and least among the others.
///
/// As Optuna's default has it: the best tenth of trials is good (rounded up, 25 at most), and a density is one of all
/// parameters together. Parameters with conditions of their own have a density of their own, of the trials that had
/// them. Trials that run, in another process, count as bad, so that two processes do not try the same; so do failed ones.
#[derive(Debug, Clone, Copy)]
pub struct Tpe {
    /// Trials that end before the first one is drawn by the densities; random until then.
    pub startup: usize,
    /// Points from the density of the good, of which the most promising is taken.
    pub candidates: usize,
}

impl Default for Tpe {
    fn default() -> Tpe {
        Tpe { startup: 10, candidates: 24 }
    }
}

impl Sampler for Tpe {
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>> {
        if history.ended() < self.startup.max(1) {
            return Ok(Some(history.random_point()));
        }
        let (good, bad) = split(history);
        let parameters = history.space.parameters();
        let mut units = vec![0.5; parameters.len()];
        let mut random = history.random();
        for group in groups(parameters) {
            let ranges: Vec<&Range> = group.iter().map(|&place| &parameters[place].range).collect();
            let within = |records: &[&Record]| -> Vec<Vec<f64>> {
                let units = records.iter().map(|record| history.space.units(&record.point));
                units.filter_map(|units| group.iter().map(|&place| units[place]).collect()).collect()
            };
            let densities = [&good, &bad].map(|records| Parzen::new(&ranges, &within(records)));
            let chosen = self.most_promising(&densities, &mut random);
            group.iter().zip(chosen).for_each(|(&place, unit)| units[place] = unit);
        }
        Ok(Some(history.space.at(&units)))
    }
}

impl Tpe {
    fn most_promising(&self, [good, bad]: &[Parzen<'_>; 2], random: &mut Philox) -> Vec<f64> {
        let drawn = (0..self.candidates.max(1)).map(|_| good.sample(random));
        let rated = drawn.map(|point| (good.log_density(&point) - bad.log_density(&point), point));
        // The first of equals.
        let best = rated.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map(|(_, point)| point).unwrap_or_default()
    }
}

/// Parameters that are active together, by their places.
fn groups(parameters: &[Parameter]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![];
    for (place, parameter) in parameters.iter().enumerate() {
        let own = groups.iter_mut().find(|group| parameters[group[0]].conditions == parameter.conditions);
        match own {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
}

/// The good trials and the others, each in the order of their points. Complete ones are better than pruned ones; of those
/// the better the further they came.
fn split<'a>(history: &History<'a>) -> (Vec<&'a Record>, Vec<&'a Record>) {
    let ended = history.ended();
    let good = ended.div_ceil(10).min(MOST_GOOD);
    let rank = |record: &Record| {
        let loss = record.value.map_or(f64::INFINITY, |value| history.goal.loss(value));
        match record.state {
            State::Complete => (0, 0, loss),
            State::Pruned => {
                let furthest = record.reports.iter().map(|report| report.0).max().unwrap_or(0);
                (1, u64::MAX - furthest, if loss.is_nan() { f64::INFINITY } else { loss })
            }
            _ => (2, 0, 0.0),
        }
    };
    let mut order: Vec<usize> = (0..history.records.len()).collect();
    order.sort_by(|&one, &other| {
        let (one, other) = (rank(history.records[one]), rank(history.records[other]));
        (one.0, one.1).cmp(&(other.0, other.1)).then(one.2.total_cmp(&other.2))
    });
    // What has no value is never good.
    let scored = order.iter().take_while(|&&place| rank(history.records[place]).0 < 2).count();
    let (mut good, mut bad) = (order[..good.min(scored)].to_vec(), order[good.min(scored)..].to_vec());
    [&mut good, &mut bad].into_iter().for_each(|places| places.sort_unstable());
    let records = |places: Vec<usize>| places.into_iter().map(|place| history.records[place]).collect();
    (records(good), records(bad))
}
