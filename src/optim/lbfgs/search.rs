//! The line search: a step length that satisfies the strong Wolfe conditions (Nocedal and Wright 2006, "Numerical
//! optimization", algorithms 3.5 and 3.6), by cubic interpolation.
//!
//! It sees the loss along a line as a function of one number, so that it does not matter where that is computed.

use crate::error::Result;

/// Enough decrease: loss <= loss_0 + ENOUGH t slope_0.
const ENOUGH: f64 = 1e-4;
/// Flat enough: |slope| <= FLAT |slope_0|.
const FLAT: f64 = 0.9;

/// A point on the line.
#[derive(Debug, Clone)]
pub(super) struct Point<T> {
    /// How far it is from the start, in directions.
    pub length: f64,
    pub loss: f64,
    /// The derivative of the loss along the line.
    pub slope: f64,
    /// What else is known there.
    pub rest: T,
}

impl<T> Point<T> {
    fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.slope.is_finite()
    }
}

/// What a search begins with.
pub(super) struct Start<T> {
    /// The point at length 0, of a negative slope.
    pub origin: Point<T>,
    /// The first length that is tried.
    pub first: f64,
    /// The largest element of the direction, by its magnitude.
    pub largest: f64,
    /// Moves of all elements below this end the search.
    pub least_move: f64,
    /// How many lengths are tried behind the first at most.
    pub trials: u64,
}

/// The best point that was found, and how many were looked at. A loss that is not finite counts as too large.
pub(super) async fn search<T: Clone>(
    start: Start<T>,
    mut look: impl AsyncFnMut(f64) -> Result<Point<T>>,
) -> Result<(Point<T>, u64)> {
    let Start { origin, first, largest, least_move, trials: most_trials } = start;
    let too_high =
        |point: &Point<T>| !point.is_finite() || point.loss > origin.loss + ENOUGH * point.length * origin.slope;
    let is_flat = |point: &Point<T>| point.slope.abs() <= -FLAT * origin.slope;
    let (mut before, mut now) = (origin.clone(), look(first).await?);
    let mut trials = 0;
    // Two points with a length between them that will do.
    let mut bracket = loop {
        if trials == most_trials {
            break [origin.clone(), now];
        }
        if too_high(&now) || (trials > 1 && now.loss >= before.loss) {
            break [before, now];
        }
        if is_flat(&now) {
            return Ok((now, trials + 1));
        }
        if now.slope >= 0.0 {
            break [before, now];
        }
        let bounds = (now.length + 0.01 * (now.length - before.length), 10.0 * now.length);
        let length = lowest(&before, &now, bounds);
        before = now;
        now = look(length).await?;
        trials += 1;
    };
    let mut is_stuck = false;
    let mut low = lower(&bracket);
    while trials < most_trials {
        let lengths = [bracket[0].length, bracket[1].length];
        if (lengths[1] - lengths[0]).abs() * largest < least_move {
            break;
        }
        let (least, most) = (lengths[0].min(lengths[1]), lengths[0].max(lengths[1]));
        let mut length = lowest(&bracket[0], &bracket[1], (least, most));
        // Close to an end twice, or at one: a tenth of the bracket away from it.
        let tenth = 0.1 * (most - least);
        if (most - length).min(length - least) < tenth {
            is_stuck = if is_stuck || length >= most || length <= least {
                let is_above = (length - most).abs() < (length - least).abs();
                length = if is_above { most - tenth } else { least + tenth };
                false
            } else {
                true
            };
        } else {
            is_stuck = false;
        }
        let now = look(length).await?;
        trials += 1;
        if too_high(&now) || now.loss >= bracket[low].loss {
            bracket[1 - low] = now;
            low = lower(&bracket);
            continue;
        }
        let is_done = is_flat(&now);
        if !is_done && now.slope * (bracket[1 - low].length - bracket[low].length) >= 0.0 {
            bracket[1 - low] = bracket[low].clone();
        }
        bracket[low] = now;
        if is_done {
            break;
        }
    }
    let [first, second] = bracket;
    Ok((if low == 0 { first } else { second }, trials + 1))
}

/// The number of the lower point; one whose loss is no number is never it.
fn lower<T>(bracket: &[Point<T>; 2]) -> usize {
    let is_first = bracket[0].loss <= bracket[1].loss;
    usize::from(!is_first && bracket[1].is_finite())
}

/// Where the cubic through two points with these slopes is lowest, within `bounds`; their middle where it is nowhere.
fn lowest<T>(first: &Point<T>, second: &Point<T>, bounds: (f64, f64)) -> f64 {
    let (low, high) = bounds;
    let (left, right) = if first.length <= second.length { (first, second) } else { (second, first) };
    let d1 = first.slope + second.slope - 3.0 * (first.loss - second.loss) / (first.length - second.length);
    let square = d1 * d1 - first.slope * second.slope;
    if !(square >= 0.0 && first.is_finite() && second.is_finite()) {
        return (low + high) / 2.0;
    }
    let d2 = square.sqrt();
    let share = (right.slope + d2 - d1) / (right.slope - left.slope + 2.0 * d2);
    let length = right.length - (right.length - left.length) * share;
    // Two points in one make no cubic.
    if length.is_nan() { (low + high) / 2.0 } else { length.max(low).min(high) }
}

#[cfg(test)]
mod tests {
    use super::{Point, Start, search};

    /// Searches along a function of one number from 0 on; the length, and how many were tried.
    fn found(first: f64, line: impl Fn(f64) -> (f64, f64)) -> (f64, u64) {
        let point = |length: f64| {
            let (loss, slope) = line(length);
            Point { length, loss, slope, rest: () }
        };
        let start = Start { origin: point(0.0), first, largest: 1.0, least_move: 1e-9, trials: 25 };
        let (point, trials) = pollster::block_on(search(start, async |length| Ok(point(length)))).unwrap();
        (point.length, trials)
    }

    #[test]
    fn a_length_that_will_do_is_taken_at_once() {
        assert_eq!(found(1.0, |t| ((t - 1.5).powi(2), 2.0 * (t - 1.5))), (1.0, 1));
    }

    #[test]
    fn a_parabola_is_met_at_its_foot() {
        let (length, _) = found(100.0, |t| ((t - 3.0).powi(2), 2.0 * (t - 3.0)));
        assert!((length - 3.0).abs() < 1.0, "{length}");
        let (length, _) = found(1e-3, |t| ((t - 3.0).powi(2), 2.0 * (t - 3.0)));
        assert!(length > 0.1 && length < 6.0, "{length}");
    }

    #[test]
    fn a_loss_that_is_not_finite_is_too_large() {
        // -ln(1 - t) - 3 t: nothing beyond 1, lowest at 2 / 3.
        let (length, _) = found(10.0, |t| (-(1.0 - t).ln() - 3.0 * t, 1.0 / (1.0 - t) - 3.0));
        assert!(length > 0.1 && length < 0.95, "{length}");
    }
}
