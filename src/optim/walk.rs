//! How teams of neighbours on software drivers go over the matrices of a range, for a rule that knows rows and columns: loads are what
//! costs there (`docs/software-drivers.md`), and what columns have is loaded once for four rows. What is no such matrix, as a bias, goes through a loop
//! of its own: lanes pay for loads that they do not make.

use std::sync::Arc;

use super::factors::{self, ACROSS, Form, Own};
use super::shapes::matrices;
use super::spans::{SPAN, TEAM};
use crate::arena::Arena;
use crate::engine::ArenaKernel;
use crate::params::{BLOCK, Placed};
use crate::shaders::optim::WALK;

/// Rows of a part.
const ROWS: usize = 32;
/// Words of a team.
const WORDS: usize = 8;

/// The matrices of a parameter, if teams go over it by rows and columns: if it has rows of whole vectors, and most of a team has enough to do.
fn walked(shape: &[usize], width: usize) -> Option<[usize; 3]> {
    let is_large =
        |[_, rows, columns]: &[usize; 3]| rows * columns >= 512 && *rows >= 4 && *columns >= TEAM / 2 * width;
    matrices(shape).filter(is_large).filter(|[.., columns]| columns.is_multiple_of(width))
}

/// How many teams a parameter needs, at most.
pub(super) fn most(place: &Placed) -> usize {
    let parts = |[count, rows, columns]: [usize; 3]| count * rows.div_ceil(ROWS) * columns.div_ceil(ACROSS);
    // What is of whole vectors of eight is of such of four.
    place.shape.elements().div_ceil(SPAN * BLOCK).max(walked(&place.shape, 4).map_or(0, parts))
}

/// Which teams go over a range.
#[derive(Clone)]
pub(super) struct Walk {
    /// The table `sites` of `shaders/optim/adafactor.wgsl`, and behind it the words of the teams (`shaders/optim/walk.wgsl`).
    sites: Vec<u32>,
    /// Where these begin.
    pub at: usize,
    /// How many teams there are.
    pub teams: usize,
    /// Of each parameter its number and how many teams it has, in their order.
    pub parameters: Vec<(u32, usize)>,
    width: usize,
    some_walks: bool,
    some_spans: bool,
    /// Of what spans are of.
    form: Form,
}

impl Walk {
    /// Over these parameters of a range that begins at element `start`, with these sites, in vectors of so many elements.
    pub fn of(own: &[Own<'_>], start: usize, mut sites: Vec<u32>, width: usize) -> Walk {
        let at = sites.len();
        let others: Vec<&Own<'_>> = own.iter().filter(|own| walked(&own.place.shape, width).is_none()).collect();
        let mut parameters = vec![];
        for Own { number, place, .. } in own {
            let (first, elements) = (place.offset - start, place.shape.elements());
            let site = sites[first / BLOCK] as usize;
            let [row, column, mean] = [4, 5, 6].map(|word| sites[site + word] as usize);
            let before = sites.len();
            let mut team = |words: [usize; 7]| {
                sites.push(site as u32);
                sites.extend(words.map(|word| word as u32));
            };
            match walked(&place.shape, width) {
                Some([count, rows, columns]) => {
                    let all = (0..count).flat_map(|b| {
                        let down = (0..rows).step_by(ROWS);
                        down.flat_map(move |r| (0..columns).step_by(ACROSS).map(move |k| (b, r, k)))
                    });
                    for (b, r, k) in all {
                        let line = b * rows + r;
                        let vector = (first + line * columns + k) / width;
                        let (here, across) = (ROWS.min(rows - r), ACROSS.min(columns - k) / width);
                        team([here, vector, across, columns / width, row + line, column + b * columns + k, mean + b]);
                    }
                }
                None => {
                    for from in (first..first + elements).step_by(SPAN * BLOCK) {
                        let end = (from + SPAN * BLOCK).min(first + elements);
                        team([0, from / width, end.div_ceil(width), 0, 0, 0, 0]);
                    }
                }
            }
            parameters.push((*number as u32, (sites.len() - before) / WORDS));
        }
        let teams = (sites.len() - at) / WORDS;
        let (some_walks, some_spans) = (others.len() < own.len(), !others.is_empty());
        Walk { at, teams, parameters, width, some_walks, some_spans, form: Form::of(others, width), sites }
    }

    /// Gives a kernel of the rule what both forms of `shaders/optim/walk.wgsl` ask for, and binds all but the table of sites, which is returned.
    pub fn bind(self, kernel: &mut ArenaKernel, moments: &[Arc<Arena>], scratch: &Arc<Arena>) -> Vec<u32> {
        let shader = std::mem::take(&mut kernel.kernel.shader);
        kernel.kernel.shader =
            shader.file(&WALK).constant("SOME_WALKS", self.some_walks).constant("SOME_SPANS", self.some_spans);
        factors::bind(kernel, moments, scratch, self.form, true);
        kernel.kernel.workgroups = self.teams.div_ceil(64 / TEAM) as u64;
        let rounds = |vectors: usize| vectors.div_ceil(TEAM * self.width);
        kernel.kernel.iterations = (ROWS / 4 * rounds(ACROSS)).max(rounds(SPAN * BLOCK)) as u64;
        self.sites
    }
}
