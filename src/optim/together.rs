//! Steps of several ranks: each forms gradients of its own batch, all take the sum.
//!
//! A step has two passes. The first gathers the rank's own gradients, as `accumulate` does; they are read back, which is the
//! step's one wait, and added in the order of ranks. The sums take the place of the rank's own, and the second pass updates
//! with what has been gathered. So everything behind the gradients (clipping, the verdict on what is not finite, loss
//! scaling, rules) is the same computation on every rank, from the same bits.

use super::broadcast::{decode, encode};
use super::optimizer::GradientSource;
use super::stepper::Stepper;
use crate::arena::Arena;
use crate::dispatch::ArenaRef;
use crate::distributed::{Lost, Number, Share, World};
use crate::engine;
use crate::error::{Error, Problem, Result};
use crate::host::HostData;
use crate::params::{Chunk, Placed, stream};
use crate::tensor::Tensor;
use crate::wait::Awaited;

/// What an optimizer knows of the other ranks.
pub(super) struct Together {
    pub world: World,
    /// Passes of this rank since the last step.
    pub(super) passes: u64,
    /// The micro-batch that the step began with.
    pub(super) base: u64,
    /// Gradients of passes that are kept apart.
    pub(super) parts: Vec<HostData>,
    /// For each parameter: whether one of these has a gradient of it.
    pub(super) reached: Vec<bool>,
    /// What rounding has taken from what was sent, on a GPU or on the reference.
    lost: (Lost<f32>, Lost<f64>),
    /// The loss of the last pass.
    pub(super) loss: Option<Tensor>,
    /// True once the ranks have found that they do the same.
    has_agreed: bool,
    /// True while the pass is under way that ends a step.
    pub ends: bool,
    /// What the pass under way reads while it goes on, and what of it is on its way since.
    pub reads: Vec<Vec<(ArenaRef, usize, usize)>>,
    pub arriving: Vec<Awaited>,
}

/// A gradient as a device keeps it.
pub(super) trait Stored: Number {
    const NAN: Self;
    fn lost(all: &mut (Lost<f32>, Lost<f64>)) -> &mut Lost<Self>;
    fn of(data: HostData) -> Option<Vec<Self>>;
    fn write(chunk: &Chunk, first: usize, values: &[Self]) -> Result<()>;
}

impl Stored for f32 {
    const NAN: f32 = f32::NAN;

    fn lost(all: &mut (Lost<f32>, Lost<f64>)) -> &mut Lost<f32> {
        &mut all.0
    }

    fn of(data: HostData) -> Option<Vec<f32>> {
        if let HostData::F32(values) = data { Some(values) } else { None }
    }

    fn write(chunk: &Chunk, first: usize, values: &[f32]) -> Result<()> {
        chunk.gradients.as_ref().map_or(Ok(()), |arena| arena.write_f32(first, values))
    }
}

impl Stored for f64 {
    const NAN: f64 = f64::NAN;

    fn lost(all: &mut (Lost<f32>, Lost<f64>)) -> &mut Lost<f64> {
        &mut all.1
    }

    fn of(data: HostData) -> Option<Vec<f64>> {
        if let HostData::F64(values) = data { Some(values) } else { None }
    }

    fn write(chunk: &Chunk, first: usize, values: &[f64]) -> Result<()> {
        chunk.gradients.as_ref().map_or(Ok(()), |arena| arena.write(first, values))
    }
}

/// What a rank tells all others about its part of a step.
#[derive(Default)]
pub(super) struct Head {
    passes: u64,
    wishes: u32,
    /// What must be the same on all ranks.
    check: u64,
    reached: Vec<bool>,
}

impl Head {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [self.passes.to_le_bytes(), self.check.to_le_bytes()].concat();
        bytes.extend(self.wishes.to_le_bytes());
        bytes.extend(self.reached.iter().map(|&reached| u8::from(reached)));
        bytes
    }

    fn of(bytes: &[u8], parameters: usize) -> Option<Head> {
        let (words, rest) = bytes.split_at_checked(20)?;
        let word = |at: usize| words.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let wishes = words.get(16..20)?.try_into().ok().map(u32::from_le_bytes)?;
        let reached: Vec<bool> = rest.iter().map(|&byte| byte != 0).collect();
        let head = Head { passes: word(0)?, check: word(8)?, wishes, reached };
        (head.reached.len() == parameters).then_some(head)
    }
}

impl Together {
    /// What this rank says of its part of a step.
    pub(super) fn head(&mut self, check: u64, parameters: usize) -> Head {
        let mut reached = std::mem::take(&mut self.reached);
        reached.resize(parameters, false);
        Head { passes: self.passes, wishes: self.world.wishes(), check, reached }
    }
}

/// What all ranks say: how many passes there are in all, which parameters have been reached, what is wished for.
pub(super) fn hear_heads(world: &World, heads: &[&[u8]], check: u64, gathered: &mut [bool]) -> Result<u64> {
    let (mut passes, mut wishes) = (0, 0);
    for (rank, bytes) in heads.iter().enumerate() {
        let next = "let all ranks do the same steps with the same model";
        let refuse = |what: &str| Error::Rank { rank, what: what.into(), next };
        let theirs = Head::of(bytes, gathered.len()).ok_or_else(|| refuse("it has another number of parameters"))?;
        if theirs.check != check {
            return Err(refuse("it is at another step, or has frozen other parameters"));
        }
        passes += theirs.passes;
        wishes |= theirs.wishes;
        gathered.iter_mut().zip(theirs.reached).for_each(|(any, own)| *any |= own);
    }
    world.agree_on(wishes);
    Ok(passes)
}

impl<R: ?Sized + Send + Sync> Stepper<R> {
    /// Takes steps together with the other ranks of `world`: gradients are added in their order, so the losses of the ranks
    /// are scaled so that their sum is that of the whole batch, as those of micro-batches are.
    ///
    /// Parameters and states are those of rank 0 from here on. Each step is one wait for the device. Dropout is drawn by the
    /// number of the micro-batch ([`crate::distributed`]), also where the world has one rank.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// use kiln::distributed::World;
    ///
    /// # let params = ParamStore::new(&Device::cpu(), 1);
    /// # let weight = params.root().param("weight", &[2], Init::Ones);
    /// let world = World::start()?;
    /// let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.5, ..Default::default() }).distributed(&world)?;
    /// let loss = weight.tensor().square().sum_all();
    /// sgd.step(&(loss / world.size() as f64))?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Rank`] for a rank with another model, or one that does not answer. The first step compares settings too.
    pub fn distributed(mut self, world: &World) -> Result<Self> {
        self.join(world)?;
        Ok(self)
    }

    /// [`Stepper::distributed`] of an optimizer that is borrowed.
    pub(super) fn join(&mut self, world: &World) -> Result<()> {
        self.store.broadcast(world)?;
        let draws = self.store.draws();
        draws.set_rank(world.rank());
        // A new micro-batch, unless nothing has been drawn in this one.
        let (_, next) = draws.position();
        let here = draws.micro_batch();
        draws.begin_micro_batch(here);
        let base = if draws.position().1 == next { here } else { here + 1 };
        draws.begin_micro_batch(base);
        self.together = Some(Together {
            world: world.clone(),
            passes: 0,
            base,
            parts: vec![],
            reached: vec![],
            lost: Default::default(),
            loss: None,
            has_agreed: world.is_alone(),
            ends: false,
            reads: vec![],
            arriving: vec![],
        });
        Ok(())
    }

    /// True between [`Optimizer::accumulate`](super::Optimizer::accumulate) and the step.
    pub(super) fn is_gathering(&self) -> bool {
        self.gathered.contains(&true) || self.together.as_ref().is_some_and(|together| together.passes > 0)
    }

    /// A pass over a rank's own gradients, numbered as a micro-batch; the last one of a step if it `updates`.
    #[track_caller]
    pub(super) fn own_pass(&mut self, source: GradientSource<'_>, updates: bool) -> Result<()> {
        let Some(together) = &mut self.together else { return self.pass(source, updates) };
        if together.passes == 0 {
            together.base = self.store.draws().micro_batch();
        }
        let (apart, alone) = (together.world.keeps_order(), together.world.is_alone());
        let given = match source {
            GradientSource::Loss(loss) => self.gradients_over_ranks(loss)?,
            GradientSource::Given(_) => None,
        };
        let reads = if updates && !alone { self.early_reads()? } else { vec![] };
        self.set_reads(reads);
        let passed = self.pass(given.as_deref().map_or(source, GradientSource::Given), updates && alone);
        self.set_reads(vec![]);
        passed?;
        let Some(together) = &mut self.together else { return Ok(()) };
        together.passes += 1;
        let next = together.base + together.passes * together.world.size() as u64;
        if let GradientSource::Loss(loss) = source {
            together.loss = Some(loss.clone());
        }
        self.store.draws().begin_micro_batch(next);
        if alone {
            if updates {
                together.passes = 0;
                together.world.agree_on(together.world.wishes());
            }
            return Ok(());
        }
        if updates {
            return self.end_together();
        }
        if apart {
            let read = self.take_gathered();
            self.told(read)?;
        }
        Ok(())
    }

    /// Ends a step with what all ranks have gathered; this one may have nothing.
    #[track_caller]
    pub(super) fn end_together(&mut self) -> Result<()> {
        if let Some(together) = self.together.as_mut().filter(|together| together.passes == 0) {
            together.base = self.store.draws().micro_batch();
        }
        let ended = self.together.as_ref().map_or(Ok(()), |together| together.world.end_joining());
        self.told(ended)?;
        let met = self.meet();
        self.told(met)?;
        let none = vec![None; self.gathered.len()];
        self.set_ending(true);
        let result = self.pass(GradientSource::Given(&none), true);
        self.set_ending(false);
        self.told(result)
    }

    fn set_reads(&mut self, reads: Vec<Vec<(ArenaRef, usize, usize)>>) {
        if let Some(together) = &mut self.together {
            together.reads = reads;
        }
    }

    fn set_ending(&mut self, ends: bool) {
        if let Some(together) = &mut self.together {
            together.ends = ends;
        }
    }

    /// The result, of which the other ranks are told if it is an error: they wait for this one.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        if let (Err(error), Some(together)) = (&result, &self.together) {
            together.world.fail(error);
        }
        result
    }

    /// Reads what has been gathered, and keeps it apart: the next pass begins anew.
    pub(super) fn take_gathered(&mut self) -> Result<()> {
        let reached = self.gathered.clone();
        if !reached.contains(&true) {
            return Ok(());
        }
        let (chunks, layout) = (self.store.chunks(true)?, self.store.layout()?);
        let own = match self.store.device().is_cpu() {
            true => read::<f64>(&chunks, &layout, &reached).map(HostData::F64),
            false => read::<f32>(&chunks, &layout, &reached).map(HostData::F32),
        }?;
        self.gathered.fill(false);
        let Some(together) = &mut self.together else { return Ok(()) };
        let width = if matches!(own, HostData::F64(_)) { 8 } else { 4 };
        together.world.count_read((own.len() * width) as u64);
        together.parts.push(own);
        together.reached.resize(reached.len(), false);
        together.reached.iter_mut().zip(&reached).for_each(|(any, own)| *any |= own);
        Ok(())
    }

    /// Puts the sums over all ranks where the own gradients were.
    fn meet(&mut self) -> Result<()> {
        let chunks = self.prepare()?;
        self.agree()?;
        let buckets = self.buckets(&chunks)?;
        if buckets.len() > 1 {
            return match self.store.device().is_cpu() {
                true => self.meet_in_buckets::<f64>(&chunks, &buckets),
                false => self.meet_in_buckets::<f32>(&chunks, &buckets),
            };
        }
        self.take_gathered()?;
        // All steps before this one have run: what became of them is known on every rank from here on, learning rates that
        // follow the steps included.
        engine::hear(self.store.device())?;
        match self.store.device().is_cpu() {
            true => self.meet_in::<f64>(&chunks),
            false => self.meet_in::<f32>(&chunks),
        }
    }

    fn meet_in<T: Stored>(&mut self, chunks: &[Chunk]) -> Result<()> {
        let check = self.check_of_step()?;
        let (states, layout) = (self.store.adopted(), self.store.layout()?);
        let Some(together) = &mut self.together else { return Ok(()) };
        let world = together.world.clone();
        let mut parts: Vec<Vec<T>> = std::mem::take(&mut together.parts).into_iter().filter_map(T::of).collect();
        if let Some(loss) = together.loss.take()
            && !engine::computed(loss.node())?.to_f64().iter().all(|x| x.is_finite())
            && let Some((place, _)) = layout.iter().zip(&together.reached).find(|(_, reached)| **reached)
            && let Some(first) = parts.last_mut().and_then(|part| part.get_mut(start_of(chunks, place)))
        {
            // The sum is then not finite either, and all ranks refuse the step: they look at what some rank has reached alone.
            *first = T::NAN;
        }
        let head = together.head(check, self.gathered.len());
        let tail = match world.is_first() {
            true => encode(&states.iter().map(|state| state.gathered()).collect::<Vec<_>>())?,
            false => vec![],
        };
        let length = chunks.iter().map(|chunk| chunk.values.elements).sum();
        let share = Share { length, parts, head: head.to_bytes() };
        let mut passes = 0;
        let gathered = &mut self.gathered;
        let lost = world.sends_half().then(|| T::lost(&mut together.lost));
        let summed = world.sum(share, lost, |heads| {
            passes = hear_heads(&world, heads, check, gathered)?;
            Ok(tail)
        })?;
        let mut rest = &summed.sum[..];
        for chunk in chunks {
            let (own, others) = rest.split_at_checked(chunk.values.elements).unwrap_or((rest, &[]));
            T::write(chunk, 0, own)?;
            rest = others;
        }
        world.count_written(size_of_val(&summed.sum[..]) as u64);
        self.end_meeting(&summed.tail, passes)
    }

    /// Takes rank 0's states, and counts the passes of all.
    pub(super) fn end_meeting(&mut self, tail: &[u8], passes: u64) -> Result<()> {
        let Some(together) = &mut self.together else { return Ok(()) };
        if !together.world.is_first() {
            let mut bytes = tail;
            for state in &self.store.adopted() {
                state.set_gathered(decode(&mut bytes, &state.committed())?);
            }
        }
        together.passes = 0;
        self.store.draws().begin_micro_batch(together.base + passes);
        Ok(())
    }

    /// A number that is the same on ranks that are at the same step with the same parameters to train.
    pub(super) fn check_of_step(&self) -> Result<u64> {
        let frozen =
            self.store.layout()?.iter().fold(0u64, |hash, place| {
                (hash ^ u64::from(place.frozen)).wrapping_mul(0x100_0000_01b3).rotate_left(1)
            });
        Ok(frozen ^ stream(&self.name()) ^ self.submitted.rotate_left(32))
    }

    /// Before the first step: makes sure that all ranks train the same in the same way.
    fn agree(&mut self) -> Result<()> {
        let Some(together) = self.together.as_ref().filter(|together| !together.has_agreed) else { return Ok(()) };
        let world = together.world.clone();
        let mut settings = vec![];
        let mut say = |name: &str, value: String| settings.push((name.to_string(), value));
        say("version of Kiln", env!("CARGO_PKG_VERSION").into());
        say("device", self.store.device().info().to_string());
        say("precision", self.store.precision().to_string());
        for ruled in &self.rules {
            say("rule", format!("{:?}", ruled.rule));
            say("learning rate", ruled.lr(self.steps_done()).to_string());
        }
        say("options", format!("{:?}", self.options));
        for (name, settings) in &self.groups {
            say("settings of group", format!("{name} {settings:?}"));
        }
        say("steps so far", self.steps_done().to_string());
        say("gradients are sent", if world.sends_half() { "as f16" } else { "whole" }.into());
        say("buckets", format!("{:?}", world.buckets()));
        say("order of sums", if world.keeps_order() { "of micro-batches" } else { "of ranks" }.into());
        let layout = self.store.layout()?;
        for Placed { name, shape, frozen, .. } in &layout {
            say("parameter", format!("{name} {shape}{}", if *frozen { ", frozen" } else { "" }));
        }
        for (name, hash) in self.store.hashes()? {
            say("bits of the parameter", format!("{name} {hash:016x}"));
        }
        world.agree(&settings)?;
        if let Some(together) = &mut self.together {
            together.has_agreed = true;
        }
        Ok(())
    }
}

impl<R: ?Sized> Stepper<R> {
    /// True if steps are taken with others.
    pub(super) fn is_shared(&self) -> bool {
        self.together.as_ref().is_some_and(|together| !together.world.is_alone())
    }

    /// Why there can be no step of two passes, if steps are taken with others.
    pub(super) fn check_alone(&self) -> Result<(), Problem> {
        match self.is_shared() {
            true => {
                Err(Problem::Value("a step of two passes of several ranks".into(), "use one rank, or ordinary steps"))
            }
            false => Ok(()),
        }
    }
}

/// Where a parameter begins in the arenas of gradients one behind the other.
fn start_of(chunks: &[Chunk], place: &Placed) -> usize {
    chunks.iter().take(place.chunk).map(|chunk| chunk.values.elements).sum::<usize>() + place.offset
}

/// The arenas of gradients one behind the other, with nothing where there is no gradient.
fn read<T: Stored>(chunks: &[Chunk], layout: &[Placed], reached: &[bool]) -> Result<Vec<T>> {
    let arena = |chunk: &Chunk| chunk.gradients.clone().ok_or_else(|| Error::internal("a chunk without gradients"));
    let arenas = chunks.iter().map(arena).collect::<Result<Vec<_>>>()?;
    let all = T::of(Arena::read_together(&arenas)?);
    let mut all = all.ok_or_else(|| Error::internal("gradients of another width"))?;
    for (place, _) in layout.iter().zip(reached).filter(|(_, reached)| !**reached) {
        let first = start_of(chunks, place);
        if let Some(own) = all.get_mut(first..first + place.shape.elements()) {
            own.fill(T::NOTHING);
        }
    }
    Ok(all)
}
