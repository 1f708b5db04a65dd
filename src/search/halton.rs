//! Points that fill the space evenly.

use super::point::Point;
use super::sampler::{History, Sampler};
use crate::error::Result;
use crate::rng::Philox;

/// Keeps the permutations apart from every other use of the same seed.
const DIGITS: u64 = 0x6861_6c74_6f6e_2121;

/// The Halton sequence with digits permuted at random (Owen, "A randomized Halton algorithm in R", 2017): the first n
/// points lie more evenly than n random ones, for every n. Each parameter has a prime as its base.
#[derive(Debug, Clone, Copy, Default)]
pub struct Halton;

impl Sampler for Halton {
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>> {
        let bases = primes().take(history.space.parameters().len());
        let unit = |(dimension, base)| scrambled(history.seed, dimension, base, history.draw);
        let units: Vec<f64> = (0..).zip(bases).map(unit).collect();
        Ok(Some(history.space.at(&units)))
    }
}

fn primes() -> impl Iterator<Item = u32> {
    (2u32..).filter(|&n| (2..).take_while(|d| d * d <= n).all(|d| n % d != 0))
}

/// The digits of `index` in base `base`, mirrored at the point. Each place has a permutation of its own; zeros behind the
/// last digit are permuted too, down to the last bit of an f64.
fn scrambled(seed: u64, dimension: u32, base: u32, mut index: u64) -> f64 {
    let (mut unit, mut weight, mut place) = (0.0, 1.0 / f64::from(base), 0u64);
    while weight > f64::EPSILON / 2.0 {
        let mut random = Philox::new(seed ^ DIGITS, u64::from(dimension) << 32 | place);
        let mut digits: Vec<u32> = (0..base).collect();
        for last in (1..base).rev() {
            digits.swap(last as usize, random.below(last + 1) as usize);
        }
        unit += f64::from(digits[(index % u64::from(base)) as usize]) * weight;
        (index, weight, place) = (index / u64::from(base), weight / f64::from(base), place + 1);
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_to_the_power_of_k_points_fill_as_many_cells() {
        for (dimension, base) in (0..).zip(primes().take(6)) {
            let cells = u64::from(base * base);
            let mut seen: Vec<u64> =
                (0..cells).map(|index| (scrambled(3, dimension, base, index) * cells as f64) as u64).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..cells).collect::<Vec<_>>(), "base {base}");
        }
    }

    #[test]
    fn bases_are_primes() {
        assert_eq!(primes().take(8).collect::<Vec<_>>(), [2, 3, 5, 7, 11, 13, 17, 19]);
    }
}
