//! Spans: runs of blocks of one parameter, which a workgroup, or on a software driver a team of neighbours, goes over.

use super::clip::Classes;
use super::measure::Owner;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::params::BLOCK;
use crate::shader::Item;
use crate::shaders::optim::SPANS;

/// Blocks of 64 elements of a span, at most.
pub(super) const SPAN: usize = 64;
/// Words of a span.
const WORDS: usize = 5;
/// Invocations of a team.
pub(super) const TEAM: usize = 8;

/// The spans of a range.
pub(super) struct Spans {
    /// [`WORDS`] each: its first vector, the one behind its last, the element behind the last of its parameter, the number of that, and
    /// its class.
    words: Vec<u32>,
    /// Of each parameter its number and how many spans it has, in their order.
    pub parameters: Vec<(u32, usize)>,
}

impl Spans {
    /// Of a range of so many vectors of so many elements, whose blocks have these owners and classes.
    pub fn of(owners: &[Option<Owner>], classes: &Classes, vectors: usize, width: usize) -> Spans {
        let (mut words, mut parameters, mut start) = (vec![], vec![], 0);
        // Parameters begin at blocks, so runs of equal owners are whole parameters.
        for run in owners.chunk_by(|left, right| left == right) {
            if let Some(owner) = run[0] {
                let vector = |block: usize| (block * BLOCK / width).min(vectors) as u32;
                let ends = (0..run.len()).step_by(SPAN).map(|at| (start + at, start + (at + SPAN).min(run.len())));
                let class = classes.class(start);
                words
                    .extend(ends.flat_map(|(begin, end)| [vector(begin), vector(end), owner.end, owner.number, class]));
                parameters.push((owner.number, run.len().div_ceil(SPAN)));
            }
            start += run.len();
        }
        Spans { words, parameters }
    }

    /// How many so many parameters of so many blocks have, at most.
    pub fn most(blocks: usize, parameters: usize) -> usize {
        blocks / SPAN + parameters.max(1)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.words.len() / WORDS
    }

    /// Loop rounds of an invocation, if so many go over a span together.
    pub fn rounds(invocations: usize, width: usize) -> u64 {
        (SPAN * BLOCK / width).div_ceil(invocations) as u64
    }

    /// Gives a kernel `span_word(at)`, five words for each span, and returns where they begin: behind these words of the table `sites`, if
    /// the kernel has one, for bindings are few; else in a table of their own.
    pub fn bind(self, kernel: &mut ArenaKernel, sites: Option<&mut Vec<u32>>) -> usize {
        let (value, at) = match sites {
            Some(sites) => {
                let at = sites.len();
                sites.extend(self.words);
                ("$sites$[$p$.spans_at + at]", at)
            }
            None => {
                kernel.bind(ArenaBinding::read(Bound::Table(self.words.into()), "spans", "u32"));
                ("$spans$[at]", 0)
            }
        };
        let text = format!("fn $span_word$(at: u32) -> u32 {{\n    return {value};\n}}\n");
        let shader = std::mem::take(&mut kernel.kernel.shader);
        kernel.kernel.shader = shader.file(&SPANS).item(Item::new("span_word", text));
        at
    }

    /// Gives a kernel that goes over spans `class_of(block)`, by the span at hand.
    pub fn bind_class(kernel: &mut ArenaKernel, classes: &Classes) {
        let value = match classes {
            Classes::One(_) => "$p$.class_number",
            Classes::Each(_) => "$span_word$($own_span$ + 4u)",
        };
        let text = format!("fn $class_of$(block: u32) -> u32 {{\n    return {value};\n}}\n");
        kernel.kernel.shader.items.push(Item::new("class_of", text));
    }
}
