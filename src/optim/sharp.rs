//! Sharpness-aware minimisation: gradients are taken where the loss near the weights is worst.
//!
//! A step has two passes. The first forms the gradient at the weights, keeps them, and moves them; the second forms the
//! gradient there, puts the weights back bit for bit, and updates them. Whether the first was refused goes into the verdict
//! on the second, on the device.

use std::panic::Location;
use std::sync::Arc;

use super::clip::{self, Classes, Norm, Verdict};
use super::optimizer::GradientSource;
use super::pass::Pass;
use super::settings::check_number;
use super::stepper::Stepper;
use super::tally::refusal;
use crate::arena::Arena;
use crate::engine::{self, ArenaBinding, ArenaKernel, Bound, Found, Wanted, Work};
use crate::error::{Problem, Result};
use crate::kernel::{Capabilities, Kernel, Shader, Vectors};
use crate::params::{BLOCK, Chunk};
use crate::plan::Plan;
use crate::shader::params;
use crate::shaders::optim::{NUMBERS, SHARP, SHARP_MOVE, SHARP_RESTORE, SHARP_SCALE};
use crate::state::Outcome;
use crate::target::Target;
use crate::tensor::Tensor;

/// Host numbers of the first pass.
const WORDS: usize = 4;

/// Which pass of a step this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The one that moves the weights.
    Moves,
    /// The one that puts them back and ends the step.
    Ends,
}

/// What an optimizer has for such steps.
pub(super) struct Sharp {
    rho: f64,
    /// Of the adaptive form.
    eta: Option<f64>,
    /// The weights of each chunk, while they are moved.
    kept: Vec<Arc<Arena>>,
    /// (norm, share, 1 if the first pass was refused, 0).
    status: Arc<Arena>,
    /// True while the weights are moved.
    is_moved: bool,
}

params! {
    /// Sizes of what goes over an arena.
    struct Sizes {
        vectors,
        word,
        class_number: u32,
    }
}

/// Sharpness-aware minimisation with any optimizer (SAM; Foret et al. 2021, "Sharpness-aware minimization for efficiently
/// improving generalization").
///
/// e = rho g / |g|, with g the gradient at theta and |g| its norm over all parameters that the loss reaches; the optimizer
/// then does its update of theta with the gradient at theta + e. With [`Sam::adaptive`] (ASAM; Kwon et al. 2021, "ASAM:
/// adaptive sharpness-aware minimization for scale-invariant learning of deep neural networks") e = rho t^2 g / |t g|, with
/// t = |theta| + eta element by element.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::optim::Sam;
/// # let device = Device::cpu();
/// # let params = ParamStore::new(&device, 1);
/// # let weight = params.root().param("weight", &[2], Init::Ones);
/// let sgd = Sgd::new(&params, SgdConfig { lr: 0.5, ..Default::default() });
/// let mut sam = Sam::new(sgd, 0.05);
/// let loss = sam.step(|| weight.tensor().square().sum_all())?;
/// assert_eq!(loss.item()?, 2.0); // at the weights from before
/// # Ok::<(), Error>(())
/// ```
///
/// Clipping, penalties, noise, averages and loss scaling are the optimizer's, and concern the second gradient alone. It takes
/// the memory of one more model.
pub struct Sam<R: ?Sized> {
    optimizer: Stepper<R>,
    rho: f64,
    eta: Option<f64>,
}

impl<R: ?Sized> Sam<R> {
    /// Lets `optimizer` do its updates with gradients from `rho` away (0.05 in the paper). One that cannot be used is
    /// reported by the first step.
    pub fn new(optimizer: Stepper<R>, rho: f64) -> Sam<R> {
        Sam { optimizer, rho, eta: None }
    }

    /// The adaptive form, with `eta` added to the magnitude of each weight (0.01 in the paper, with a rho of 0.5 to 2).
    #[must_use]
    pub fn adaptive(mut self, eta: f64) -> Self {
        self.eta = Some(eta);
        self
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &Stepper<R> {
        &self.optimizer
    }

    /// The optimizer, for its settings and its state. What it does by its own [`Optimizer::step`](crate::optim::Optimizer::step) is an ordinary step.
    pub fn optimizer_mut(&mut self) -> &mut Stepper<R> {
        &mut self.optimizer
    }

    /// The optimizer alone.
    pub fn into_inner(self) -> Stepper<R> {
        self.optimizer
    }
}

impl<R: ?Sized + Send + Sync> Sam<R> {
    /// A step: two passes, one update, and no waiting. `loss` records the loss, and is called twice: at the weights, and at
    /// those moved. It must record it anew each time. Gives the loss at the weights, computed.
    ///
    /// Assignments to states (running statistics) of both passes are carried out, as those of micro-batches are. Other threads
    /// that use the parameters wait until the step is done.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for a rho or eta that is not finite and positive, and between [`Optimizer::accumulate`](crate::optim::Optimizer::accumulate) and
    /// [`Optimizer::step`](crate::optim::Optimizer::step); else as [`Optimizer::step`](crate::optim::Optimizer::step). The weights are what they were, also if `loss` panics.
    #[track_caller]
    pub fn step(&mut self, mut loss: impl FnMut() -> Tensor) -> Result<Tensor> {
        let at = Location::caller();
        let Sam { optimizer, rho, eta } = self;
        optimizer.check_sharp(*rho, *eta).map_err(|problem| problem.at("sam", at))?;
        optimizer.make_sharp(*rho, *eta)?;
        let state = optimizer.store.state().clone();
        let _gate = state.enter();
        let mut moved = Moved { optimizer, is_done: false };
        let first = loss();
        moved.pass(&first, Phase::Moves)?;
        let second = loss();
        moved.pass(&second, Phase::Ends)?;
        Ok(first)
    }

    /// The plans of both passes on a loss for a device of this kind. Nothing is run. For tests.
    #[doc(hidden)]
    pub fn plans_with(&mut self, loss: &Tensor, target: &Target) -> Result<[Plan; 2]> {
        self.optimizer.make_sharp(self.rho, self.eta)?;
        let mut plan = |phase| {
            self.optimizer.phase = Some(phase);
            let plan = self.optimizer.plan_with(loss, true, target, true);
            self.optimizer.phase = None;
            plan
        };
        Ok([plan(Phase::Moves)?, plan(Phase::Ends)?])
    }
}

/// A step under way. Dropping it before its end puts the weights back.
struct Moved<'a, R: ?Sized> {
    optimizer: &'a mut Stepper<R>,
    is_done: bool,
}

impl<R: ?Sized + Send + Sync> Moved<'_, R> {
    #[track_caller]
    fn pass(&mut self, loss: &Tensor, phase: Phase) -> Result<()> {
        self.optimizer.phase = Some(phase);
        let result = self.optimizer.pass(GradientSource::Loss(loss), true);
        self.optimizer.phase = None;
        result?;
        self.is_done = phase == Phase::Ends;
        if let Some(sharp) = &mut self.optimizer.sharp {
            sharp.is_moved = !self.is_done;
        }
        Ok(())
    }
}

impl<R: ?Sized> Drop for Moved<'_, R> {
    fn drop(&mut self) {
        self.optimizer.phase = None;
        if !self.is_done {
            self.optimizer.store.adopted().iter().for_each(|state| state.settle(&Outcome::Refused));
            // What goes wrong here the next step meets again before it does anything.
            let _ = self.optimizer.move_back();
        }
    }
}

impl<R: ?Sized> Stepper<R> {
    /// Why there can be no such step now, if so.
    fn check_sharp(&self, rho: f64, eta: Option<f64>) -> Result<(), Problem> {
        for (name, value) in [("rho", Some(rho)), ("eta", eta)] {
            check_number(name, value.unwrap_or(1.0))?;
        }
        self.check_alone()?;
        if rho == 0.0 {
            return Err(Problem::Value("rho is 0".into(), "pass a positive number, or do ordinary steps"));
        }
        if self.gathered.contains(&true) {
            let what = "a step of two passes was asked for between accumulate and step".into();
            return Err(Problem::Value(what, "end that step first"));
        }
        Ok(())
    }

    /// Makes what such a step needs.
    fn make_sharp(&mut self, rho: f64, eta: Option<f64>) -> Result<()> {
        let chunks = self.prepare()?;
        let device = self.store.device();
        if self.sharp.is_none() {
            let status = device.arena("how far weights are moved", 64)?;
            self.sharp = Some(Sharp { rho, eta, kept: vec![], status, is_moved: false });
        }
        if let Some(sharp) = &mut self.sharp {
            (sharp.rho, sharp.eta) = (rho, eta);
            while let Some(chunk) = chunks.get(sharp.kept.len()) {
                sharp.kept.push(device.arena("weights that are moved", chunk.values.elements)?);
            }
        }
        Ok(())
    }

    /// Puts weights back that a step has moved and could not end.
    pub(super) fn move_back(&mut self) -> Result<()> {
        let Some(sharp) = self.sharp.as_mut().filter(|sharp| sharp.is_moved) else { return Ok(()) };
        let _gate = self.store.state().enter();
        let chunks = self.store.chunks(false)?;
        self.store.settle_held()?;
        if self.store.device().is_cpu() {
            restore_on_reference(&chunks, &sharp.kept)?;
        } else {
            let key = sharp.kept.iter().map(|arena| arena.id).collect();
            let kernels = |_: usize, _: &Capabilities| -> Result<Vec<ArenaKernel>> {
                Ok(chunks.iter().zip(&sharp.kept).map(|(chunk, kept)| restore(chunk, kept)).collect())
            };
            let work = Work { name: "sharp.restore", key, numbers: &[], kernels: &kernels };
            engine::run_kernels(self.store.device(), &work)?;
        }
        if let Some(tally) = &self.tally {
            tally.scale.write(2, &[0.0])?;
        }
        self.store.state().advance();
        sharp.is_moved = false;
        Ok(())
    }
}

/// The kernel that puts the weights of a chunk back.
pub(super) fn restore(chunk: &Chunk, kept: &Arc<Arena>) -> ArenaKernel {
    let vectors = chunk.values.elements / 4;
    let mut kernel = Kernel::own("sharp.restore", Shader::of(&[&SHARP_RESTORE]));
    kernel.uniform(Sizes { vectors, word: 0, class_number: 0 });
    kernel.workgroups = vectors.div_ceil(64) as u64;
    let mut kernel = ArenaKernel { kernel, arenas: vec![] };
    kernel.bind(ArenaBinding::write(&chunk.values, "theta", "vec4<u32>"));
    kernel.bind(ArenaBinding::read(kept, "kept", "vec4<u32>"));
    kernel
}

fn restore_on_reference(chunks: &[Chunk], kept: &[Arc<Arena>]) -> Result<()> {
    for (chunk, kept) in chunks.iter().zip(kept) {
        chunk.values.cpu()?.copy_from_slice(&kept.cpu()?);
    }
    Ok(())
}

impl Sharp {
    /// Words that the kernels of its passes depend on.
    pub fn words(&self, phase: Phase) -> Vec<u64> {
        let mut words = vec![1 + phase as u64, u64::from(self.eta.is_some()), self.status.id];
        words.extend(self.kept.iter().map(|arena| arena.id));
        words
    }

    /// Host numbers of the first pass.
    pub fn numbers(&self) -> [f64; WORDS] {
        [self.rho, self.eta.unwrap_or(0.0), 0.0, 0.0]
    }

    /// The kernels that put the weights back, first of all in the second pass.
    pub fn restore(&self, chunks: &[Chunk]) -> Vec<ArenaKernel> {
        chunks.iter().zip(&self.kept).map(|(chunk, kept)| restore(chunk, kept)).collect()
    }

    /// The same on the reference.
    pub fn restore_on_reference(&self, chunks: &[Chunk]) -> Result<()> {
        restore_on_reference(chunks, &self.kept)
    }
}

impl Pass<'_> {
    /// The kernels of the first pass.
    pub(super) fn moving(&self, sharp: &Sharp, wanted: Wanted<'_>) -> Result<Vec<ArenaKernel>> {
        let Wanted { found, first: word, beside, capabilities } = wanted;
        let costs = self.parts.costs.unwrap_or_else(|| capabilities.costs());
        let (mut kernels, mut norms, mut moves) = (vec![], vec![], vec![]);
        for (number, (chunk, kept)) in self.parts.chunks.iter().zip(&sharp.kept).enumerate() {
            let gradients = self.gradients(number)?;
            let mut blocks = vec![0; chunk.values.elements / BLOCK];
            for (number, _) in self.updated(found, |found| found != Found::Nowhere, number) {
                let place = &self.parts.layout[number];
                blocks[place.offset / BLOCK..][..place.shape.elements().div_ceil(BLOCK)].fill(1);
            }
            let any = blocks.contains(&1);
            let classes = Classes::of(&blocks);
            let site = Site { chunk, gradients, classes, word, capabilities };
            if any && sharp.eta.is_some() {
                kernels.push(site.scale());
            }
            if any {
                let (gradients, elements) = (Bound::from(gradients), chunk.values.elements);
                norms.push(Norm { gradients, elements, classes: site.classes.clone() });
            }
            moves.push(site.shift(sharp, kept));
        }
        let mut bound = vec![
            ArenaBinding::write(&sharp.status, "sharp", "vec4<f32>"),
            ArenaBinding::write(&self.parts.tally.scale, "scaling", "f32"),
        ];
        let (refuses, loss) = refusal(beside.loss);
        bound.extend(loss);
        let shader = Shader::of(&[&NUMBERS, &SHARP]).item(refuses).with_operands();
        let verdict = Verdict { shader, bound, word, parameters: 0, iterations: 0 };
        kernels.extend(clip::kernels(norms, verdict, self.parts.partials, capabilities, costs));
        kernels.extend(moves);
        Ok(kernels)
    }

    /// The same in f64.
    pub(super) fn moving_on_reference(&self, sharp: &Sharp, reached: &[bool], finite: bool) -> Result<()> {
        let stretch = |x: f64| sharp.eta.map_or(1.0, |eta| x.abs() + eta);
        let mut square = 0.0;
        let each = |and: &mut dyn FnMut(&mut f64, f64)| -> Result<()> {
            for (number, chunk) in self.parts.chunks.iter().enumerate() {
                let (mut values, gradients) = (chunk.values.cpu()?, self.gradients(number)?.cpu()?);
                for (number, _) in self.updated(reached, |reached| reached, number) {
                    let place = &self.parts.layout[number];
                    let range = place.offset..place.offset + place.shape.elements();
                    values[range.clone()].iter_mut().zip(&gradients[range]).for_each(|(x, g)| and(x, *g));
                }
            }
            Ok(())
        };
        each(&mut |x, g| square += (stretch(*x) * g).powi(2))?;
        let norm = f64::sqrt(square);
        let refused = !finite || !norm.is_finite();
        for (chunk, kept) in self.parts.chunks.iter().zip(&sharp.kept) {
            kept.cpu()?.copy_from_slice(&chunk.values.cpu()?);
        }
        if !refused && norm > 0.0 {
            each(&mut |x, g| *x += sharp.rho / norm * stretch(*x).powi(2) * g)?;
        }
        self.parts.tally.scale.cpu()?[2] = f64::from(u8::from(refused));
        Ok(())
    }
}

/// A chunk as the kernels of the first pass see it.
struct Site<'a> {
    chunk: &'a Chunk,
    gradients: &'a Arc<Arena>,
    classes: Classes,
    word: usize,
    capabilities: &'a Capabilities,
}

impl Site<'_> {
    fn kernel(&self, name: &'static str, shader: Shader) -> ArenaKernel {
        let form = Vectors::of(self.chunk.values.elements, self.capabilities);
        let vectors = self.chunk.values.elements / form.width();
        let mut kernel = Kernel::own(name, shader.file(form.file()).file(&NUMBERS).with_operands());
        kernel.uniform(Sizes { vectors, word: self.word, class_number: self.classes.number() });
        kernel.workgroups = vectors.div_ceil(64) as u64;
        ArenaKernel { kernel, arenas: vec![] }
    }

    /// The kernel that stretches gradients by their weights.
    fn scale(&self) -> ArenaKernel {
        let mut kernel = self.kernel("sharp.scale", Shader::of(&[&SHARP_SCALE]));
        kernel.bind(ArenaBinding::read(&self.chunk.values, "theta", "$V$"));
        kernel.bind(ArenaBinding::write(self.gradients, "gradients", "$V$"));
        self.classes.clone().bind(&mut kernel);
        kernel
    }

    /// The kernel that keeps the weights and moves them.
    fn shift(&self, sharp: &Sharp, kept: &Arc<Arena>) -> ArenaKernel {
        let shader = Shader::of(&[&SHARP_MOVE]).constant("ADAPTIVE", sharp.eta.is_some());
        let mut kernel = self.kernel("sharp.move", shader);
        kernel.bind(ArenaBinding::write(&self.chunk.values, "theta", "$V$"));
        kernel.bind(ArenaBinding::read(self.gradients, "gradients", "$V$"));
        kernel.bind(ArenaBinding::write(kept, "kept", "$V$"));
        kernel.bind(ArenaBinding::read(&sharp.status, "sharp", "vec4<f32>"));
        self.classes.clone().bind(&mut kernel);
        kernel
    }
}
