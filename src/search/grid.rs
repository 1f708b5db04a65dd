//! Every combination of a few values of each parameter.

use super::point::Point;
use super::sampler::{History, Sampler};
use super::space::Space;
use crate::error::{Error, Result};

/// Combinations that a grid may have.
const MOST: u64 = 1_000_000;

/// Every combination, the last parameter first: all options of a choice, and of a number's range as many values, at equal
/// distances from one end to the other (in their logarithm for a logarithmic range), as were asked for.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    values: u64,
}

impl Grid {
    /// A grid of so many values for each number; fewer for an integer that has fewer, and the middle alone for 1.
    pub fn new(values: u64) -> Grid {
        Grid { values }
    }

    /// How many values each parameter takes.
    fn counts(&self, space: &Space) -> Result<Vec<u64>> {
        let wrong = |what: String, next| {
            Err(Error::Setting { name: "Grid::new".into(), value: self.values.to_string(), what, next })
        };
        if self.values == 0 {
            return wrong("a grid without values".into(), "pass at least 1");
        }
        let count = |parameter: &super::space::Parameter| match parameter.range.count() {
            Some(count) if parameter.range.is_choice() => count,
            count => count.unwrap_or(u64::MAX).min(self.values),
        };
        let counts: Vec<u64> = space.parameters().iter().map(count).collect();
        let all = counts.iter().try_fold(1u64, |all, &count| all.checked_mul(count));
        if all.is_none_or(|all| all > MOST) {
            return wrong(format!("its combinations are more than {MOST}"), "pass fewer, or search by Halton or Tpe");
        }
        Ok(counts)
    }
}

impl Sampler for Grid {
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>> {
        let space = history.space;
        let counts = self.counts(space)?;
        let all: u64 = counts.iter().product();
        let point = |mut index: u64| {
            let mut places = vec![0; counts.len()];
            for (place, &count) in places.iter_mut().zip(&counts).rev() {
                (*place, index) = (index % count, index / count);
            }
            let unit = |(parameter, (&place, &count)): (&super::space::Parameter, (&u64, &u64))| {
                // Options take up equal parts of the way: the middle of each. Numbers go from end to end.
                if parameter.range.is_choice() || count == 1 {
                    return (place as f64 + 0.5) / count as f64;
                }
                place as f64 / (count - 1) as f64
            };
            let units: Vec<f64> = space.parameters().iter().zip(places.iter().zip(&counts)).map(unit).collect();
            let point = space.at(&units);
            // Combinations that differ only in what is not active are one point: that with zeros there.
            let mut parameters = space.parameters().iter().zip(&places);
            parameters.all(|(parameter, &place)| place == 0 || point.get(&parameter.name).is_some()).then_some(point)
        };
        if space.parameters().iter().all(|parameter| parameter.conditions.is_empty()) {
            return Ok(if history.draw < all { point(history.draw) } else { None });
        }
        let Ok(draw) = usize::try_from(history.draw) else { return Ok(None) };
        Ok((0..all).filter_map(point).nth(draw))
    }
}
