//! One pass of an optimizer as the engine sees it: where gradients go, which kernels follow, the same in f64.

use std::cell::RefCell;
use std::sync::Arc;

use super::clip::Classes;
use super::scale::{SETTLED, Scaler};
use super::{Factors, Rule, Settings, clip};
use crate::device::Arena;
use crate::engine::{ArenaKernel, Bound, Found, Update};
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::kernel::{Capabilities, Kernel, VECTORS};
use crate::params::{BLOCK, Chunk, ParamStore, Placed};
use crate::plan::Destination;
use crate::tensor::Tensor;
use crate::version::StoreState;

/// Operand words before the factors: the largest norm.
const HEAD: usize = 4;
/// Operand words of one class.
const CLASS: usize = 8;

/// Factors of a class as host numbers.
const IN_OPERANDS: &str = "@group(0) @binding(13) var<uniform> operands: array<vec4<u32>, 1024>;
fn factor(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(operands[at]);
}
";
/// Factors of a parameter as the device has made them.
const IN_ARENA: &str = "fn factor(at: u32) -> vec4<f32> {
    return factors[at];
}
";

/// What a pass works on.
pub(super) struct Parts<'a, R> {
    pub rule: &'a R,
    pub store: &'a ParamStore,
    pub layout: &'a [Placed],
    pub chunks: &'a [Chunk],
    pub leaves: &'a [Arc<Node>],
    pub updates: &'a [u64],
    pub gathered: &'a [bool],
    pub moments: &'a [Vec<Arc<Arena>>],
    pub status: &'a Arc<Arena>,
    pub partials: &'a Arc<Arena>,
    pub number: u64,
    pub update: bool,
    pub hardware: bool,
    pub scaler: Option<&'a Scaler>,
}

pub(super) struct Pass<'a, R> {
    parts: Parts<'a, R>,
    /// Parameters that are not frozen.
    members: Vec<usize>,
    /// Class of each parameter, from 0: those of one class take the same factors.
    classes: Vec<usize>,
    /// An update count of each class.
    counts: Vec<u64>,
    /// Names of the groups.
    groups: Vec<Arc<str>>,
    reached: RefCell<Vec<bool>>,
}

impl<'a, R: Rule> Pass<'a, R> {
    pub fn new(parts: Parts<'a, R>) -> Self {
        let members: Vec<usize> = (0..parts.layout.len()).filter(|&number| !parts.layout[number].frozen).collect();
        let mut classes = vec![0; parts.layout.len()];
        let mut counts: Vec<u64> = vec![];
        if parts.scaler.is_some() {
            // The device counts the updates of each parameter and makes its factors: a class of its own.
            classes = (0..parts.layout.len()).collect();
            counts.push(SETTLED);
        }
        for &number in members.iter().filter(|_| parts.scaler.is_none()) {
            let updates = parts.updates[number];
            let class = parts.rule.class(updates);
            let known = counts.iter().position(|&count| parts.rule.class(count) == class);
            classes[number] = known.unwrap_or_else(|| {
                counts.push(updates);
                counts.len() - 1
            });
        }
        let groups = parts.store.groups();
        Pass { parts, members, classes, counts, groups, reached: RefCell::default() }
    }

    /// Of a place for each parameter, those of the parameters that are not frozen.
    pub fn members<T: Clone>(&self, each: &[T]) -> Vec<T> {
        self.members.iter().map(|&number| each[number].clone()).collect()
    }

    /// Each parameter that is not frozen, with whether the loss reached it.
    pub fn into_reached(self) -> Vec<(usize, bool)> {
        self.members.into_iter().zip(self.reached.into_inner()).collect()
    }

    fn factors(&self, group: usize, updates: u64) -> Factors {
        let Settings { lr, weight_decay, groups, .. } = self.parts.rule.settings();
        let name = self.groups.get(group).map_or("", |name| name);
        let own = groups.iter().find(|(known, _)| known == name).map(|(_, settings)| *settings).unwrap_or_default();
        self.parts.rule.factors(lr * own.lr_scale, own.weight_decay.unwrap_or(weight_decay), updates)
    }

    /// The group, from 1, of each parameter that is updated, else 0.
    fn groups_of_updated(&self, found: &[Found]) -> Result<Arc<Arena>> {
        let mut groups = vec![0.0; self.parts.layout.len()];
        for (chunk, arenas) in self.parts.chunks.iter().enumerate() {
            for (number, _) in self.updated(found, |found| found != Found::Nowhere, chunk) {
                groups[number] = (arenas.group + 1) as f64;
            }
        }
        let device = self.parts.store.device();
        let arena = device.arena("groups".into(), groups.len().max(1))?;
        arena.write(device, 0, &groups)?;
        Ok(arena)
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

    fn classes(&self, blocks: &[u32]) -> Result<Classes> {
        if let [first, rest @ ..] = blocks
            && rest.iter().all(|class| class == first)
        {
            return Ok(Classes::One(*first));
        }
        let device = self.parts.store.device();
        let classes = device.arena("classes".into(), blocks.len())?;
        classes.write(device, 0, &blocks.iter().map(|&class| f64::from(class)).collect::<Vec<_>>())?;
        Ok(Classes::Each(classes))
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
            let class = self.classes[number] as u32 + 1;
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
            let gradients = Bound::Range(self.gradients(chunk)?.clone(), first, elements);
            let classes = self.classes(&blocks[begin..=last])?;
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

impl<R: Rule> Update for Pass<'_, R> {
    fn store(&self) -> &Arc<StoreState> {
        self.parts.store.state()
    }

    fn key(&self, words: &mut Vec<u64>) {
        // The status arena is this optimizer's own, the one for partial norms changes with the arenas.
        words.extend([self.parts.status.id, self.parts.partials.id]);
        words.push(u64::from(self.parts.update) << 1 | u64::from(self.parts.hardware));
        words.push(self.counts.len() as u64);
        if let Some(scaler) = self.parts.scaler {
            words.extend([scaler.state.id, scaler.counts.id]);
        }
        for (number, place) in self.parts.layout.iter().enumerate() {
            let flags = u64::from(place.frozen) | u64::from(self.parts.gathered[number]) << 1;
            words.push(flags | (self.classes[number] as u64) << 2);
        }
    }

    fn targets(&self) -> Vec<(Arc<Node>, Destination)> {
        let target = |&number: &usize| {
            let place = &self.parts.layout[number];
            // `prepare` has made every gradient arena.
            let arena = self.parts.chunks[place.chunk].gradients.clone()?;
            let destination = match self.parts.gathered[number] {
                true => Destination::Accumulate(arena, place.offset),
                false => Destination::Arena(arena, place.offset),
            };
            Some((self.parts.leaves[number].clone(), destination))
        };
        self.members.iter().filter_map(target).collect()
    }

    fn scalars(&self) -> Vec<u32> {
        if !self.parts.update {
            return vec![];
        }
        let largest = self.parts.rule.settings().clip_norm.unwrap_or(0.0);
        let mut numbers = match self.parts.scaler {
            Some(scaler) => scaler.head(largest, &self.parts.rule.correction()).to_vec(),
            None => vec![largest, 0.0, 0.0, 0.0],
        };
        for group in 0..self.groups.len() {
            self.counts.iter().for_each(|&updates| numbers.extend(self.factors(group, updates)));
        }
        numbers.into_iter().map(|x| (x as f32).to_bits()).collect()
    }

    fn kernels(&self, found: &[Found], first: usize, capabilities: &Capabilities) -> Result<Vec<ArenaKernel>> {
        let Parts { rule, chunks, moments, status, partials, .. } = &self.parts;
        if !self.parts.update {
            return Ok(vec![]);
        }
        // After values, gradients and moments.
        let status_binding = 2 + rule.moments().len();
        let head = format!("@group(0) @binding({status_binding}) var<storage, read> status: array<vec4<f32>>;\n");
        let factor = match self.parts.scaler {
            Some(_) => {
                let binding = status_binding + 1;
                format!("@group(0) @binding({binding}) var<storage, read> factors: array<vec4<f32>>;\n{IN_ARENA}")
            }
            None => IN_OPERANDS.into(),
        };
        let capabilities = if self.parts.hardware {
            &Capabilities { software: false, pairs: false, ..capabilities.clone() }
        } else {
            capabilities
        };
        let (mut norms, mut updates) = (vec![], vec![]);
        for (chunk, arenas) in chunks.iter().enumerate() {
            for Range { first: start, elements, gradients, classes } in self.ranges(found, chunk)? {
                norms.push(clip::Norm { gradients: gradients.clone(), elements, classes: classes.clone() });
                let wide = capabilities.pairs && elements.is_multiple_of(8);
                let width = if wide { 8 } else { 4 };
                let vectors = elements / width;
                // A load costs a software driver as much as some arithmetic: a block shares those of its class and factors.
                let one = matches!(classes, Classes::One(_));
                let shares = capabilities.software && !one;
                let each = if shares { BLOCK / width } else { 1 };
                let (class_of, class) = classes.text(status_binding + 1 + usize::from(self.parts.scaler.is_some()));
                let word = match self.parts.scaler {
                    Some(_) => 0,
                    None => first + HEAD + arenas.group * self.counts.len() * CLASS,
                };
                let text = format!(
                    "{}const VECTORS: u32 = {each}u;\nconst ONE_CLASS: bool = {one};\n{head}{factor}{class_of}{}{}",
                    VECTORS[usize::from(wide)],
                    rule.shader(),
                    include_str!("../../shaders/optim_update.wgsl")
                );
                let name = if wide { format!("{}.wide", rule.name()) } else { rule.name().into() };
                let mut kernel = Kernel::own(name, text);
                kernel.params = vec![vectors as u32, word as u32, class, 0];
                kernel.workgroups = vectors.div_ceil(64 * each) as u64;
                kernel.iterations = each as u64;
                // Values and moments are read and written, gradients read.
                kernel.bytes = Some(elements as u64 * 4 * (3 + 2 * moments[chunk].len() as u64));
                let range = |arena: &Arc<Arena>| (Bound::Range(arena.clone(), start, elements), true);
                let mut bound = vec![range(&arenas.values), (gradients, false)];
                bound.extend(moments[chunk].iter().map(range));
                bound.push(((*status).into(), false));
                bound.extend(self.parts.scaler.map(|scaler| ((&scaler.factors).into(), false)));
                bound.extend(classes.bound());
                updates.push(ArenaKernel { kernel, arenas: bound });
            }
        }
        let mut kernels = match self.parts.scaler {
            Some(scaler) => {
                let members = self.groups_of_updated(found)?;
                let (mut kernels, count) = clip::partial_norms(norms, partials, capabilities);
                kernels.push(scaler.status((count, first), partials, status, &members, &rule.correction()));
                kernels
            }
            None => clip::kernels(norms, first, partials, status, capabilities),
        };
        kernels.extend(updates);
        Ok(kernels)
    }

    fn reference(&self, reached: &[bool]) -> Result<()> {
        if !self.parts.update {
            return Ok(());
        }
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
        let status = match self.parts.scaler {
            Some(scaler) => scaler.reference(norm, largest)?,
            None => {
                let skipped = f64::from(u8::from(!norm.is_finite()));
                [norm, clip::factor(largest, norm), skipped, skipped]
            }
        };
        self.parts.status.cpu()?[..4].copy_from_slice(&status);
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
                let updates = match self.parts.scaler {
                    Some(scaler) => {
                        let count = &mut scaler.counts.cpu()?[number];
                        *count += 1.0;
                        *count as u64 - 1
                    }
                    None => self.counts[self.classes[number]],
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

    fn seed(&self) -> Option<Tensor> {
        self.parts.scaler.map(|scaler| scaler.leaf.clone())
    }

    fn status(&self) -> Option<Arc<Arena>> {
        self.parts.update.then(|| self.parts.status.clone())
    }

    fn number(&self) -> u64 {
        self.parts.number
    }

    fn changes_parameters(&self) -> bool {
        self.parts.update
    }

    fn reached(&self, reached: &[bool]) {
        *self.reached.borrow_mut() = reached.to_vec();
    }
}
