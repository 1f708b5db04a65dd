//! Where the moments of parameters are.

use super::rule::Rule;
use crate::params::{BLOCK, Placed};
use crate::shape::Shape;

/// Where a moment of a parameter is: its first element, and its shape.
pub(super) type MomentPlace = (usize, Shape);

/// For each of these parameters of a chunk where its moments are, and how long the arena of each moment is. Where all moments
/// have their parameter's shape they lie as the parameters do.
pub(super) fn moment_places(
    rule: &dyn Rule,
    own: &[usize],
    layout: &[Placed],
    elements: usize,
) -> (Vec<Vec<Option<MomentPlace>>>, Vec<usize>) {
    let count = rule.moments().len();
    let shape = |number: usize, moment: usize| rule.moment_shape(moment, layout[number].shape);
    let mut places = vec![vec![None; count]; own.len()];
    let mut lengths = vec![elements; count];
    for moment in 0..count {
        if own.iter().all(|&number| shape(number, moment) == Some(layout[number].shape)) {
            for (places, &number) in places.iter_mut().zip(own) {
                places[moment] = Some((layout[number].offset, layout[number].shape));
            }
            continue;
        }
        let mut next = 0;
        for (places, &number) in places.iter_mut().zip(own) {
            if let Some(shape) = shape(number, moment) {
                places[moment] = Some((next, shape));
                next += shape.elements().next_multiple_of(BLOCK);
            }
        }
        lengths[moment] = next.max(BLOCK);
    }
    (places, lengths)
}
