//! What an average of weights has on the device, the kernels that go over it, and the same in f64.

use std::ops::Range;
use std::sync::Arc;

use super::{Kind, Settings};
use crate::arena::Arena;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::error::{Error, Result};
use crate::kernel::{Capabilities, Kernel, Shader, Vectors};
use crate::optim::blocks::owners;
use crate::params::{Chunk, ParamStore, Placed};
use crate::shader::params;
use crate::shaders::optim::{
    AVERAGE, AVERAGE_COPY, AVERAGE_COUNT, AVERAGE_FORM, AVERAGE_FORMED, AVERAGE_LAST, AVERAGE_MEAN, NUMBERS,
};

/// Counts of steps in front of those of the parameters, one for each invocation of the kernel that counts.
pub(super) const LANES: usize = 64;

params! {
    /// Sizes of the count.
    struct Counting {
        /// First word of its host numbers.
        word,
        parameters,
        start,
        every,
        copies,
    }
}

params! {
    /// Sizes of what goes over an arena.
    struct Sizes {
        vectors,
        /// Number of the first copy, how many there are in this arena, and in all.
        start,
        copies,
        all,
    }
}

/// Copies of the weights of one arena.
#[derive(Clone)]
struct Shelf {
    arena: Arc<Arena>,
    /// Number of the first, and how many there are.
    start: usize,
    copies: usize,
}

/// What there is for each arena of the store.
#[derive(Clone)]
struct Own {
    values: Arc<Arena>,
    /// The parameter of each block.
    owners: Arc<[u32]>,
    /// The average; of the last weights, where it is formed.
    average: Arc<Arena>,
    shelves: Vec<Shelf>,
}

/// All of it. A clone is another handle.
#[derive(Clone, Default)]
pub(super) struct Memory {
    chunks: Vec<Own>,
    layout: Vec<Placed>,
    /// Steps, [`LANES`] times, then the weights taken of each parameter, as integers.
    counts: Option<Arc<Arena>>,
    /// What becomes of each parameter in a step.
    shares: Option<Arc<Arena>>,
}

fn missing() -> Error {
    Error::internal("an average without its arenas")
}

impl Memory {
    /// Makes what is missing. True if there was anything.
    pub fn fit(&mut self, store: &ParamStore, kind: Kind, chunks: &[Chunk], layout: Vec<Placed>) -> Result<bool> {
        let device = store.device();
        let is_new = chunks.len() > self.chunks.len() || layout.len() > self.layout.len() || self.counts.is_none();
        while let Some(chunk) = chunks.get(self.chunks.len()) {
            let (values, elements) = (chunk.values.clone(), chunk.values.elements);
            let mut shelves = vec![];
            if let Kind::Last(all) = kind {
                let most = (store.arena_limit() / elements).max(1);
                for start in (0..all).step_by(most) {
                    let copies = most.min(all - start);
                    shelves.push(Shelf { arena: device.arena("copies of weights", copies * elements)?, start, copies });
                }
            }
            let owners = owners(&layout, self.chunks.len(), 0, elements).into();
            let average = device.arena("an average of weights", elements)?;
            self.chunks.push(Own { values, owners, average, shelves });
        }
        let room = layout.len().max(1).next_multiple_of(64);
        if self.shares.as_ref().is_none_or(|shares| shares.elements < room) {
            let counts = device.arena("counts of an average", LANES + room)?;
            if let Some(old) = &self.counts {
                counts.copy_from(old)?;
            }
            (self.counts, self.shares) = (Some(counts), Some(device.arena("shares of an average", room)?));
        }
        self.layout = layout;
        Ok(is_new)
    }

    /// True if it has all that a store of so many arenas and parameters takes.
    pub fn holds(&self, (arenas, parameters): (usize, usize)) -> bool {
        self.counts.is_some() && self.chunks.len() == arenas && self.layout.len() == parameters
    }

    pub fn layout(&self) -> &[Placed] {
        &self.layout
    }

    pub fn counts(&self) -> Result<&Arc<Arena>> {
        self.counts.as_ref().ok_or_else(missing)
    }

    /// The arena of each chunk's average.
    pub fn averages(&self) -> impl Iterator<Item = Arc<Arena>> {
        self.chunks.iter().map(|own| own.average.clone())
    }

    /// Where what is kept of a parameter lies: the average, or each of so many copies.
    pub fn places(&self, place: &Placed, copies: usize) -> Vec<(Arc<Arena>, usize)> {
        let Some(own) = self.chunks.get(place.chunk) else { return vec![] };
        if own.shelves.is_empty() {
            return vec![(own.average.clone(), place.offset)];
        }
        let copy = |shelf: &Shelf, i: usize| (shelf.arena.clone(), i * own.values.elements + place.offset);
        let all = own.shelves.iter().flat_map(|shelf| (0..shelf.copies).map(move |i| copy(shelf, i)));
        all.take(copies).collect()
    }

    /// The kernels behind an update.
    pub fn follow(
        &self,
        settings: &Settings,
        word: usize,
        status: &Arc<Arena>,
        capabilities: &Capabilities,
    ) -> Result<Vec<ArenaKernel>> {
        let (counts, shares) = (self.counts()?, self.shares.as_ref().ok_or_else(missing)?);
        let parameters = self.layout.len();
        let copies = if let Kind::Last(copies) = settings.kind { copies } else { 0 };
        let (start, every) = (settings.start as usize, settings.every as usize);
        let mut kernel = Kernel::own("average.count", Shader::of(&[&NUMBERS, &AVERAGE_COUNT]).with_operands());
        kernel.uniform(Counting { word, parameters, start, every, copies });
        kernel.iterations = parameters.div_ceil(64) as u64;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::write(counts, "counts", "u32"));
        kernel.bind(ArenaBinding::write(shares, "shares", "f32"));
        kernel.bind(ArenaBinding::read(status, "status", "vec4<f32>"));
        let mut kernels = vec![kernel];
        for own in &self.chunks {
            let update = |shelf| own.update(shelf, shares, capabilities);
            match &own.shelves[..] {
                [] => kernels.push(update(None)),
                shelves => kernels.extend(shelves.iter().map(|shelf| update(Some(shelf)))),
            }
        }
        Ok(kernels)
    }

    /// The same on the reference.
    pub fn follow_on_reference(&self, settings: &Settings) -> Result<()> {
        let mut counts = self.counts()?.cpu()?;
        counts[0] += 1.0;
        if !settings.takes(counts[0] as u64) {
            return Ok(());
        }
        for (number, place) in self.layout.iter().enumerate() {
            let count = &mut counts[LANES + number];
            let share = settings.share(*count as u64);
            *count += 1.0;
            let own = self.chunks.get(place.chunk).ok_or_else(missing)?;
            let range = range_of(place);
            let values = own.values.cpu()?[range.clone()].to_vec();
            match settings.kind {
                Kind::Last(_) => {
                    let copies = self.places(place, share as usize + 1);
                    let (arena, first) = copies.last().ok_or_else(missing)?;
                    arena.cpu()?[*first..][..values.len()].copy_from_slice(&values);
                }
                _ => {
                    for (a, x) in own.average.cpu()?[range].iter_mut().zip(values) {
                        *a = if share == 1.0 { x } else { *a + share * (x - *a) };
                    }
                }
            }
        }
        Ok(())
    }

    /// The kernels that fill in what has no average yet, and form that of the last weights.
    pub fn form(&self, capabilities: &Capabilities) -> Result<Vec<ArenaKernel>> {
        let counts = self.counts()?;
        let mut kernels = vec![];
        for own in &self.chunks {
            match &own.shelves[..] {
                [] => kernels.push(own.form(None, counts, capabilities)),
                shelves => kernels.extend(shelves.iter().map(|shelf| own.form(Some(shelf), counts, capabilities))),
            }
        }
        Ok(kernels)
    }

    /// The same on the reference.
    pub fn form_on_reference(&self) -> Result<()> {
        let counts = self.counts()?.cpu()?;
        for (number, place) in self.layout.iter().enumerate() {
            let count = counts[LANES + number] as usize;
            let own = self.chunks.get(place.chunk).ok_or_else(missing)?;
            let range = range_of(place);
            if count == 0 {
                let values = own.values.cpu()?[range.clone()].to_vec();
                own.average.cpu()?[range].copy_from_slice(&values);
            } else if !own.shelves.is_empty() {
                let copies = self.places(place, count);
                let mut sums = vec![0.0; range.len()];
                for (arena, first) in &copies {
                    sums.iter_mut().zip(&arena.cpu()?[*first..]).for_each(|(sum, x)| *sum += x);
                }
                let mean = |(average, sum): (&mut f64, f64)| *average = sum / copies.len() as f64;
                own.average.cpu()?[range].iter_mut().zip(sums).for_each(mean);
            }
        }
        Ok(())
    }
}

/// The elements of a parameter.
fn range_of(place: &Placed) -> Range<usize> {
    place.offset..place.offset + place.shape.elements()
}

impl Own {
    fn sizes(&self, shelf: Option<&Shelf>, form: Vectors) -> Sizes {
        let vectors = self.values.elements / form.width();
        let (start, copies) = shelf.map_or((0, 0), |shelf| (shelf.start, shelf.copies));
        Sizes { vectors, start, copies, all: self.shelves.iter().map(|shelf| shelf.copies).sum() }
    }

    /// The kernel that takes the weights into the average, or into one of the copies.
    fn update(&self, shelf: Option<&Shelf>, shares: &Arc<Arena>, capabilities: &Capabilities) -> ArenaKernel {
        let form = Vectors::of(self.values.elements, capabilities);
        let (name, take) = match shelf {
            Some(_) => ("average.copy", &AVERAGE_COPY),
            None => ("average", &AVERAGE_MEAN),
        };
        let mut kernel = Kernel::own(name, Shader::of(&[form.file(), &AVERAGE, take]));
        let sizes = self.sizes(shelf, form);
        kernel.uniform(sizes);
        kernel.workgroups = sizes.vectors.div_ceil(64) as u64;
        kernel.bytes = Some(self.values.elements as u64 * 4 * if shelf.is_some() { 2 } else { 3 });
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(&self.values, "theta", "$V$"));
        kernel.bind(match shelf {
            Some(shelf) => ArenaBinding::write(&shelf.arena, "copies", "$V$"),
            None => ArenaBinding::write(&self.average, "average", "$V$"),
        });
        kernel.bind(ArenaBinding::read(shares, "shares", "f32"));
        kernel.bind(ArenaBinding::read(Bound::Table(self.owners.clone()), "owners", "u32"));
        kernel
    }

    /// The kernel that makes the average ready to be read.
    fn form(&self, shelf: Option<&Shelf>, counts: &Arc<Arena>, capabilities: &Capabilities) -> ArenaKernel {
        let form = Vectors::of(self.values.elements, capabilities);
        let (name, body) = match shelf {
            Some(_) => ("average.last", &AVERAGE_LAST),
            None => ("average.form", &AVERAGE_FORMED),
        };
        let mut kernel = Kernel::own(name, Shader::of(&[form.file(), &AVERAGE_FORM, body]));
        let sizes = self.sizes(shelf, form);
        kernel.uniform(sizes);
        kernel.workgroups = sizes.vectors.div_ceil(64) as u64;
        kernel.iterations = sizes.copies as u64;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::write(&self.average, "average", "$V$"));
        kernel.bind(ArenaBinding::read(&self.values, "theta", "$V$"));
        kernel.bind(ArenaBinding::read(counts, "counts", "u32"));
        kernel.bind(ArenaBinding::read(Bound::Table(self.owners.clone()), "owners", "u32"));
        if let Some(shelf) = shelf {
            kernel.bind(ArenaBinding::read(&shelf.arena, "copies", "$V$"));
        }
        kernel
    }
}
