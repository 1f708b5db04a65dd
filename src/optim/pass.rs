//! One pass of an optimizer as the engine sees it: where gradients go, which kernels follow, the same in f64.

use std::collections::HashSet;
use std::sync::Arc;

use super::clip::{self, Classes};
use super::rule::{Factors, Rule};
use super::settings::Settings;
use super::tally::{self, SETTLED, Tally};
use crate::arena::Arena;
use crate::costs::Costs;
use crate::engine::{ArenaBinding, ArenaKernel, Author, Bound, Found, Gradients, Step, Trained, Update, Wanted};
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::kernel::{Kernel, Vectors};
use crate::params::{BLOCK, Chunk, ParamStore, Placed};
use crate::shader::params;
use crate::shaders::optim::UPDATE;

/// Operand words of a group's factors.
const GROUP: usize = 8;

params! {
    /// Sizes of an update.
    struct Sizes {
        vectors,
        /// First word of the factors.
        word,
        /// The class of all blocks, if they have one.
        class_number: u32,
    }
}

/// What a pass works on.
pub(super) struct Parts<'a, R> {
    pub rule: &'a R,
    pub store: &'a ParamStore,
    pub layout: &'a [Placed],
    pub chunks: &'a [Chunk],
    pub leaves: &'a [Arc<Node>],
    pub histories: &'a [usize],
    pub gathered: &'a [bool],
    pub moments: &'a [Vec<Arc<Arena>>],
    pub partials: &'a Arc<Arena>,
    pub number: u64,
    pub author: &'a Arc<Author>,
    pub update: bool,
    /// As which kernels are cut up, if not as the device at hand.
    pub costs: Option<&'static Costs>,
    pub tally: &'a Tally,
}

pub(super) struct Pass<'a, R> {
    parts: Parts<'a, R>,
    /// Parameters that are not frozen.
    members: Vec<usize>,
    /// Class of each parameter, from 1: those of one class take the same factors.
    classes: Vec<usize>,
    /// Names of the groups.
    groups: Vec<Arc<str>>,
}

impl<'a, R: Rule> Pass<'a, R> {
    pub fn new(parts: Parts<'a, R>) -> Self {
        let members: Vec<usize> = (0..parts.layout.len()).filter(|&number| !parts.layout[number].frozen).collect();
        let counted = parts.rule.correction().is_some();
        let mut classes = vec![0; parts.layout.len()];
        let histories = parts.histories.iter().max().map_or(1, |last| last + 1);
        // For each group and history its class, once it has one.
        let mut known = vec![0; parts.store.groups().len() * histories];
        let mut count = 0;
        for &number in &members {
            let group = parts.chunks[parts.layout[number].chunk].group;
            let history = if counted { parts.histories[number] } else { 0 };
            let class = &mut known[group * histories + history];
            if *class == 0 {
                count += 1;
                *class = count;
            }
            classes[number] = *class;
        }
        let groups = parts.store.groups();
        Pass { parts, members, classes, groups }
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
        let Parts { store, tally, .. } = &self.parts;
        let kernels = |wanted: Wanted<'_>| self.kernels(wanted);
        let reference = |reached: &[bool], finite: bool| self.reference(reached, finite);
        run(&Step {
            store: store.state(),
            states: store.adopted(),
            author: self.parts.author,
            number: self.parts.number,
            gradients,
            targets: self.targets(),
            has_gathered: self.parts.gathered.contains(&true),
            seed: tally.scaling.map(|_| tally.leaf.clone()),
            key: self.key(),
            update: self.parts.update.then(|| Update {
                numbers: self.numbers(),
                status: &tally.status,
                kernels: &kernels,
                reference: &reference,
            }),
        })
    }

    fn factors(&self, group: usize, updates: u64) -> Factors {
        let Settings { lr, weight_decay, groups, .. } = self.parts.rule.settings();
        let name = self.groups.get(group).map_or("", |name| name);
        let own = groups.iter().find(|(known, _)| known == name).map(|(_, settings)| *settings).unwrap_or_default();
        self.parts.rule.factors(lr * own.lr_scale, own.weight_decay.unwrap_or(weight_decay), updates)
    }

    /// For each parameter 0 if it is not updated, else 1, and for one of each class that number more.
    fn roles(&self, found: &[Found]) -> Arc<[u32]> {
        let mut roles = vec![0.0f32; self.parts.layout.len().max(1)];
        let mut classes = HashSet::new();
        for chunk in 0..self.parts.chunks.len() {
            for (number, _) in self.updated(found, |found| found != Found::Nowhere, chunk) {
                let class = self.classes[number];
                roles[number] = if classes.insert(class) { 1.0 + class as f32 } else { 1.0 };
            }
        }
        roles.into_iter().map(f32::to_bits).collect()
    }

    /// Parameters to update, by chunk, with what is known of each.
    fn updated<T: Copy>(
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

    fn gradients(&self, chunk: usize) -> Result<&Arc<Arena>> {
        let arena = self.parts.chunks[chunk].gradients.as_ref();
        arena.ok_or_else(|| Error::internal("a chunk without gradients"))
    }

    /// What the kernels of a chunk work on: the whole of it, for gradients in the arena, and the range of each parameter
    /// whose gradient is somewhere else.
    fn ranges(&self, found: &[Found], chunk: usize) -> Result<Vec<Range>> {
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
struct Range {
    first: usize,
    elements: usize,
    gradients: Bound,
    classes: Classes,
}

impl<R: Rule> Pass<'_, R> {
    /// Everything that its kernels depend on besides host numbers.
    fn key(&self) -> Vec<u64> {
        // The arenas of the tally are this optimizer's own, the one for partial norms changes with the arenas.
        let Tally { scaling, scale, counts, status, .. } = self.parts.tally;
        let mut words = vec![status.id, counts.id, scale.id, self.parts.partials.id];
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
        let largest = self.parts.rule.settings().clip_norm;
        let mut numbers = self.parts.tally.head(largest, self.parts.rule.correction()).to_vec();
        for group in 0..self.groups.len() {
            numbers.extend(self.factors(group, SETTLED));
        }
        numbers.into_iter().map(|x| (x as f32).to_bits()).collect()
    }

    /// The kernels of the update: the verdict, then a kernel a range.
    fn kernels(&self, Wanted { found, first, beside, capabilities }: Wanted<'_>) -> Result<Vec<ArenaKernel>> {
        let Parts { rule, chunks, moments, tally, partials, .. } = &self.parts;
        let costs = self.parts.costs.unwrap_or_else(|| capabilities.costs());
        let (mut norms, mut updates) = (vec![], vec![]);
        for (chunk, arenas) in chunks.iter().enumerate() {
            for Range { first: start, elements, gradients, classes } in self.ranges(found, chunk)? {
                norms.push(clip::Norm { gradients: gradients.clone(), elements, classes: classes.clone() });
                let form = Vectors::of(elements, capabilities);
                let vectors = elements / form.width();
                // Where loads are dear a block shares those of its class and factors.
                let one = matches!(classes, Classes::One(_));
                let shares = costs.dear_loads && !one;
                let each = if shares { BLOCK / form.width() } else { 1 };
                let shader = rule.shader().into().file(form.file()).file(&UPDATE).with_operands();
                let shader = shader.constant("VECTORS", each).constant("ONE_CLASS", one);
                let name = if form.eights { format!("{}.eights", rule.name()) } else { rule.name().into() };
                let mut kernel = Kernel::own(name, shader);
                let word = first + tally::HEAD + arenas.group * GROUP;
                kernel.uniform(Sizes { vectors, word, class_number: classes.number() });
                kernel.workgroups = vectors.div_ceil(64 * each) as u64;
                kernel.iterations = each as u64;
                // Values and moments are read and written, gradients read.
                kernel.bytes = Some(elements as u64 * 4 * (3 + 2 * moments[chunk].len() as u64));
                let range = |arena: &Arc<Arena>| (Bound::Range(arena.place.clone(), start, elements), true);
                let mut bound = vec![range(&arenas.values), (gradients, false)];
                bound.extend(moments[chunk].iter().map(range));
                let mut kernel = ArenaKernel { kernel, arenas: bound };
                kernel.bind(ArenaBinding::read(&tally.status, "status", "vec4<f32>"));
                classes.bind(&mut kernel);
                updates.push(kernel);
            }
        }
        let verdict = tally.verdict(first, self.roles(found), rule.correction(), beside);
        let mut kernels = clip::kernels(norms, verdict, partials, capabilities, costs);
        kernels.extend(updates);
        Ok(kernels)
    }

    /// The same on the reference's arenas.
    fn reference(&self, reached: &[bool], finite: bool) -> Result<()> {
        let mut square = 0.0;
        for chunk in 0..self.parts.chunks.len() {
            let gradients = self.gradients(chunk)?.cpu()?;
            for (number, _) in self.updated(reached, |reached| reached, chunk) {
                let place = &self.parts.layout[number];
                let range = &gradients[place.offset..][..place.shape.elements()];
                square += range.iter().map(|g| g * g).sum::<f64>();
            }
        }
        let norm: f64 = f64::sqrt(square);
        let largest = self.parts.rule.settings().clip_norm;
        let tally = self.parts.tally;
        let status = tally.reference(norm, finite, largest)?;
        tally.status.cpu()?[..4].copy_from_slice(&status);
        let [_, factor, skipped, _] = status;
        if skipped != 0.0 {
            return Ok(());
        }
        for (chunk, arenas) in self.parts.chunks.iter().enumerate() {
            let gradients = self.gradients(chunk)?.cpu()?;
            let mut values = arenas.values.cpu()?;
            let mut moments = vec![];
            for arena in &self.parts.moments[chunk] {
                moments.push(arena.cpu()?);
            }
            for (number, _) in self.updated(reached, |reached| reached, chunk) {
                let place = &self.parts.layout[number];
                let updates = {
                    let count = &mut tally.counts.cpu()?[number];
                    *count += 1.0;
                    *count as u64 - 1
                };
                let factors = self.factors(arenas.group, updates);
                for i in place.offset..place.offset + place.shape.elements() {
                    let mut state = [0.0; 2];
                    moments.iter().zip(&mut state).for_each(|(moment, state)| *state = moment[i]);
                    values[i] = self.parts.rule.reference(&factors, values[i], factor * gradients[i], &mut state);
                    moments.iter_mut().zip(state).for_each(|(moment, state)| moment[i] = state);
                }
            }
        }
        Ok(())
    }
}
