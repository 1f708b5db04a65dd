//! Who says which point comes next.

use super::point::Point;
use super::record::{Goal, Record, State};
use super::space::Space;
use crate::error::{Error, Result};
use crate::rng::Philox;

/// Keeps the draws of a search apart from every other use of the same seed.
const SEARCH: u64 = 0x7365_6172_6368_2121;

/// What a sampler knows when it is asked.
#[derive(Debug)]
pub struct History<'a> {
    /// The space, which has been checked.
    pub space: &'a Space,
    /// Trials in the order of their points, without the killed ones that are to be repeated.
    pub records: &'a [&'a Record],
    /// What is a good value.
    pub goal: Goal,
    /// The seed of the study.
    pub seed: u64,
    /// How many points were drawn before.
    pub draw: u64,
}

impl History<'_> {
    /// Random numbers for this draw alone: they do not depend on what was drawn before, nor by which process.
    pub fn random(&self) -> Philox {
        Philox::new(self.seed ^ SEARCH, self.draw)
    }

    /// A point at random.
    pub fn random_point(&self) -> Point {
        let mut random = self.random();
        let units: Vec<f64> = self.space.parameters().iter().map(|_| random.uniform()).collect();
        self.space.at(&units)
    }

    /// How many trials have ended in a way that says something of their point.
    pub(super) fn ended(&self) -> usize {
        self.records.iter().filter(|record| record.state != State::Running).count()
    }
}

/// A way to search. It keeps nothing between two calls: the same history gives the same point, so that a study goes on
/// after a kill, and in another process, as if nothing had been.
pub trait Sampler: Send {
    /// The next point, or `None` once there is none left.
    ///
    /// # Errors
    /// What keeps this sampler from searching this space.
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>>;
}

/// Every point is drawn at random, alone from the seed and its number (Bergstra and Bengio, "Random search for
/// hyper-parameter optimization", JMLR 2012).
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Sampler for Random {
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>> {
        Ok(Some(history.random_point()))
    }
}

/// Points of your own first, then those of another sampler: with the settings in use among them, a search does not end
/// below them.
#[derive(Debug, Clone)]
pub struct First<S> {
    points: Vec<Point>,
    then: S,
}

impl<S: Sampler> First<S> {
    /// These points in their order, then those of `then`.
    pub fn new(points: impl IntoIterator<Item = Point>, then: S) -> First<S> {
        First { points: points.into_iter().collect(), then }
    }
}

impl<S: Sampler> Sampler for First<S> {
    fn suggest(&self, history: &History<'_>) -> Result<Option<Point>> {
        let given = usize::try_from(history.draw).ok().and_then(|draw| self.points.get(draw));
        let Some(point) = given else { return self.then.suggest(history) };
        match history.space.parse(&point.json()) {
            Ok(point) => Ok(Some(point)),
            Err(what) => Err(Error::Setting {
                name: "First::new".into(),
                value: point.to_string(),
                what,
                next: "give each parameter that is active there a value of its range, and no other",
            }),
        }
    }
}
