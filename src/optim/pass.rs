//! One pass of an optimizer as the engine sees it: where gradients go, which kernels follow, the same in f64.

use std::collections::HashSet;
use std::sync::Arc;

use super::clip::Classes;
use super::follow::Follower;
use super::measure::Measured;
use super::noise::Noise;
use super::places::MomentPlace;
use super::rounds::{self, Room, Round};
use super::rule::{Beside, Now, Numbers, Rule};
use super::ruled::Ruled;
use super::settings::Options;
use super::sharp::{Phase, Sharp};
use super::tally::{Members, Tally};
use crate::arena::Arena;
use crate::costs::Costs;
use crate::dispatch::ArenaRef;
use crate::engine::{Author, Bound, Found, Gradients, Step, Trained, Update, Wanted};
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::params::{BLOCK, Chunk, ParamStore, Placed};

/// Operand words of a group (`GROUP` of `settle.wgsl`, in vectors): those of its rule, and of the options.
pub(super) const GROUP: usize = 20;
/// Operand words of a follower.
pub(super) const FOLLOWER: usize = 4;

/// What a pass works on.
pub(super) struct Parts<'a> {
    pub rules: &'a [Ruled],
    /// For each group of the store the number of its rule.
    pub rule_of_group: Vec<Option<usize>>,
    /// For each group of the store what its numbers depend on.
    pub now: &'a [Now],
    pub options: &'a Options,
    pub followers: &'a [Arc<dyn Follower>],
    pub store: &'a ParamStore,
    pub layout: &'a [Placed],
    pub chunks: &'a [Chunk],
    pub leaves: &'a [Arc<Node>],
    pub histories: &'a [usize],
    pub gathered: &'a [bool],
    pub moments: &'a [Vec<Arc<Arena>>],
    pub places: &'a [Vec<Option<MomentPlace>>],
    pub kept: Option<&'a Arc<Arena>>,
    pub measured: Option<&'a Measured>,
    /// For each chunk what its rule computes in.
    pub scratch: &'a [Option<Arc<Arena>>],
    /// Room for the rounds over gradients, if there are any.
    pub room: Option<&'a Room>,
    pub noise: Option<Noise<'a>>,
    /// Which pass it is of a step that has two.
    pub sharp: Option<(Phase, &'a Sharp)>,
    pub partials: &'a Arc<Arena>,
    pub number: u64,
    pub author: &'a Arc<Author>,
    pub update: bool,
    /// True if the gradients are those that all ranks have agreed on.
    pub has_met: bool,
    /// As which kernels are cut up, if not as the device at hand.
    pub costs: Option<&'static Costs>,
    pub tally: &'a Tally,
    /// What is read of gradients while the pass goes on.
    pub reads: &'a [Vec<(ArenaRef, usize, usize)>],
}

pub(super) struct Pass<'a> {
    pub(super) parts: Parts<'a>,
    /// Parameters that are not frozen.
    members: Vec<usize>,
    /// Class of each parameter, from 1: those of one class take the same factors.
    pub(super) classes: Vec<usize>,
}

impl<'a> Pass<'a> {
    pub fn new(parts: Parts<'a>) -> Self {
        let members: Vec<usize> = (0..parts.layout.len()).filter(|&number| !parts.layout[number].frozen).collect();
        let counted: Vec<bool> = parts
            .rule_of_group
            .iter()
            .map(|rule| rule.is_some_and(|rule| parts.rules[rule].rule.correction().is_some()))
            .collect();
        let mut classes = vec![0; parts.layout.len()];
        let histories = parts.histories.iter().max().map_or(1, |last| last + 1);
        // For each group and history its class, once it has one.
        let mut known = vec![0; counted.len() * histories];
        let mut count = 0;
        for &number in &members {
            let group = parts.chunks[parts.layout[number].chunk].group;
            let history = if counted[group] { parts.histories[number] } else { 0 };
            let class = &mut known[group * histories + history];
            if *class == 0 {
                count += 1;
                *class = count;
            }
            classes[number] = *class;
        }
        Pass { parts, members, classes }
    }

    /// Of a place for each parameter, those of the parameters that are not frozen.
    pub fn members<T: Clone>(&self, each: &[T]) -> Vec<T> {
        self.members.iter().map(|&number| each[number].clone()).collect()
    }

    /// Each parameter that is not frozen, with what is known of each target.
    pub fn by_parameter(&self, reached: &[bool]) -> Vec<(usize, bool)> {
        self.members.iter().copied().zip(reached.iter().copied()).collect()
    }

    /// What `run` makes of this pass as a step that the engine can do.
    pub fn step<T>(&self, gradients: Gradients<'_>, run: impl FnOnce(&Step<'_>) -> T) -> T {
        let Parts { store, tally, chunks, sharp, .. } = &self.parts;
        let kernels = |wanted: Wanted<'_>| match sharp {
            Some((Phase::Moves, sharp)) => self.moving(sharp, wanted),
            Some((Phase::Ends, sharp)) => {
                Ok([sharp.restore(chunks), self.kernels(wanted)?].into_iter().flatten().collect())
            }
            None => self.kernels(wanted),
        };
        let reference = |reached: &[bool], finite: bool| match sharp {
            Some((Phase::Moves, sharp)) => self.moving_on_reference(sharp, reached, finite),
            Some((Phase::Ends, sharp)) => {
                sharp.restore_on_reference(chunks)?;
                self.reference(reached, finite)
            }
            None => self.reference(reached, finite),
        };
        let moves = matches!(sharp, Some((Phase::Moves, _)));
        // Rules that do more than go over the scalars work on whole arenas.
        let works_in_arenas = self.parts.rules.iter().any(|ruled| ruled.rule.beside() != Beside::Nothing);
        run(&Step {
            store: store.state(),
            states: store.adopted(),
            author: self.parts.author,
            number: self.parts.number,
            gradients,
            has_met: self.parts.has_met,
            targets: self.targets(),
            has_gathered: self.parts.gathered.contains(&true),
            seed: tally.scaling.map(|_| tally.leaf.clone()),
            key: self.key(),
            parts: self.parts.reads.to_vec(),
            update: self.parts.update.then(|| Update {
                numbers: self.numbers(),
                status: &tally.status,
                ends: !moves,
                changes_gradients: moves || rounds::any(self.parts.options) || works_in_arenas,
                kernels: &kernels,
                reference: &reference,
            }),
        })
    }

    /// The rule of a group that has parameters: `prepare` has looked.
    pub(super) fn rule(&self, group: usize) -> Result<&'a dyn Rule> {
        let missing = || Error::internal("a group without a rule");
        let number = self.parts.rule_of_group.get(group).copied().flatten().ok_or_else(missing)?;
        Ok(&*self.parts.rules[number].rule)
    }

    fn group_of(&self, number: usize) -> usize {
        self.parts.chunks[self.parts.layout[number].chunk].group
    }

    pub(super) fn group_numbers(&self, group: usize) -> Result<Numbers> {
        Ok(self.rule(group)?.numbers(&self.parts.now[group]))
    }

    /// What settles the parameters of each rule that has any to update: the rule, and its parameters.
    pub(super) fn settlings(&self, found: &[Found]) -> Vec<(&'a dyn Rule, Members)> {
        let chunks = 0..self.parts.chunks.len();
        let updated: Vec<usize> = chunks
            .flat_map(|chunk| self.updated(found, |found| found != Found::Nowhere, chunk))
            .map(|(number, _)| number)
            .collect();
        let settling = |(rule, ruled): (usize, &'a Ruled)| {
            let mut roles = vec![0.0f32; 2 * self.parts.layout.len().max(1)];
            let mut classes = HashSet::new();
            let own = |number: &&usize| self.parts.rule_of_group[self.group_of(**number)] == Some(rule);
            for &number in updated.iter().filter(own) {
                let class = self.classes[number];
                roles[2 * number] = if classes.insert(class) { 1.0 + class as f32 } else { 1.0 };
                roles[2 * number + 1] = self.group_of(number) as f32;
            }
            let kept = self.parts.kept.filter(|_| !ruled.rule.kept().is_empty()).cloned();
            let members = Members { roles: roles.into_iter().map(f32::to_bits).collect(), kept };
            (!classes.is_empty()).then_some((&*ruled.rule, members))
        };
        self.parts.rules.iter().enumerate().filter_map(settling).collect()
    }

    /// Parameters to update, by chunk, with what is known of each.
    pub(super) fn updated<T: Copy>(
        &self,
        known: &[T],
        is_reached: impl Fn(T) -> bool,
        chunk: usize,
    ) -> impl Iterator<Item = (usize, T)> {
        let wanted = self.members.iter().zip(known);
        wanted.filter_map(move |(&number, &known)| {
            let mine = self.parts.layout[number].chunk == chunk;
            (mine && (is_reached(known) || self.parts.gathered[number])).then_some((number, known))
        })
    }

    pub(super) fn gradients(&self, chunk: usize) -> Result<&Arc<Arena>> {
        let arena = self.parts.chunks[chunk].gradients.as_ref();
        arena.ok_or_else(|| Error::internal("a chunk without gradients"))
    }

    /// What the kernels of a chunk work on: the whole of it, for gradients in the arena, and the range of each parameter
    /// whose gradient is somewhere else.
    pub(super) fn ranges(&self, found: &[Found], chunk: usize) -> Result<Vec<Range>> {
        let values = &self.parts.chunks[chunk].values;
        let mut blocks = vec![0; values.elements / BLOCK];
        let mut ranges = vec![];
        for (number, found) in self.updated(found, |found| found != Found::Nowhere, chunk) {
            let place = &self.parts.layout[number];
            let elements = place.shape.elements();
            let class = self.classes[number] as u32;
            match found {
                Found::InLeaf(leaf) => ranges.push(Range {
                    first: place.offset,
                    elements,
                    gradients: Bound::Leaf(leaf, elements),
                    classes: Classes::One(class),
                }),
                Found::Nowhere | Found::InArena => {
                    blocks[place.offset / BLOCK..][..elements.div_ceil(BLOCK)].fill(class);
                }
            }
        }
        let updated = |&class: &u32| class != 0;
        if let (Some(begin), Some(last)) = (blocks.iter().position(updated), blocks.iter().rposition(updated)) {
            let (first, elements) = (begin * BLOCK, (last + 1 - begin) * BLOCK);
            let gradients = Bound::Range(self.gradients(chunk)?.place.clone(), first, elements);
            let classes = Classes::of(&blocks[begin..=last]);
            ranges.push(Range { first, elements, gradients, classes });
        }
        Ok(ranges)
    }
}

/// A part of an arena that one kernel updates.
pub(super) struct Range {
    pub first: usize,
    pub elements: usize,
    pub gradients: Bound,
    pub classes: Classes,
}

impl<'a> Pass<'a> {
    /// Everything that its kernels depend on besides host numbers.
    fn key(&self) -> Vec<u64> {
        // The arenas of the tally are this optimizer's own, the one for partial norms changes with the arenas.
        let Tally { scaling, scale, counts, status, .. } = self.parts.tally;
        let mut words = Vec::with_capacity(64 + self.parts.layout.len());
        words.extend([status.id, counts.id, scale.id, self.parts.partials.id, self.parts.options.key()]);
        words.extend(self.parts.kept.iter().map(|arena| arena.id));
        words.extend(self.parts.measured.iter().map(|measured| measured.sums.id));
        words.extend(self.parts.room.iter().map(|room| room.key()));
        words.extend(self.parts.options.rounds().into_iter().flat_map(Round::words));
        words.extend(self.parts.sharp.iter().flat_map(|(phase, sharp)| sharp.words(*phase)));
        words.extend(self.parts.noise.iter().flat_map(Noise::words));
        words.extend(self.parts.followers.iter().map(|follower| follower.key()));
        for part in self.parts.reads {
            words.push(part.len() as u64);
            words.extend(part.iter().flat_map(|(arena, first, length)| [arena.id, *first as u64, *length as u64]));
        }
        let scaled = u64::from(scaling.is_some());
        words.push(scaled << 2 | u64::from(self.parts.update) << 1 | u64::from(self.parts.costs.is_some()));
        for (number, place) in self.parts.layout.iter().enumerate() {
            let flags = u64::from(place.frozen) | u64::from(self.parts.gathered[number]) << 1;
            words.push(flags | (self.classes[number] as u64) << 2);
        }
        words
    }

    /// Parameters that want a gradient.
    fn targets(&self) -> Vec<Trained> {
        let target = |&number: &usize| {
            let place = &self.parts.layout[number];
            // `prepare` has made every gradient arena.
            let arena = self.parts.chunks[place.chunk].gradients.clone()?;
            let (node, adds) = (self.parts.leaves[number].clone(), self.parts.gathered[number]);
            Some(Trained { node, arena, offset: place.offset, adds })
        };
        self.members.iter().filter_map(target).collect()
    }

    /// Host numbers of the update, as 32-bit words.
    fn numbers(&self) -> Vec<u32> {
        if let Some((Phase::Moves, sharp)) = self.parts.sharp {
            return sharp.numbers().into_iter().map(|x| (x as f32).to_bits()).collect();
        }
        let mut numbers = self.parts.tally.head(self.parts.options.clip_norm).to_vec();
        for group in 0..self.parts.now.len() {
            numbers.extend(self.group_numbers(group).unwrap_or_default());
            numbers.extend(self.parts.options.numbers());
        }
        numbers.extend(self.parts.followers.iter().flat_map(|follower| follower.numbers()));
        numbers.into_iter().map(|x| (x as f32).to_bits()).collect()
    }
}
