//! What becomes of a step, decided and counted on the device.
//!
//! A step is refused where its loss or a gradient is not finite, and the host learns of it a few steps later, when others that it does
//! not know to be the next are under way. So whatever depends on how many updates there have been is formed on the device
//! (`shaders/optim/tally.wgsl`): the counts of each parameter, the corrections that follow from them, the loss scale. A refused
//! step changes none of these, and those behind it go on as if it had never been.

use std::panic::Location;
use std::sync::Arc;

use super::clip::{self, Verdict};
use super::rule::Rule;
use super::scale::LossScale;
use crate::arena::Arena;
use crate::device::Device;
use crate::dtype::DType;
use crate::engine::{ArenaBinding, ArenaKernel, Beside, Bound};
use crate::error::Result;
use crate::graph::{Inputs, Node, ParameterLeaf, Source};
use crate::history::Flow;
use crate::kernel::{Kernel, Shader};
use crate::layout::Meta;
use crate::shader::{Item, params};
use crate::shaders::optim::{NUMBERS, SETTLE, SETTLE_ALONE, TALLY};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Operand words of a step before those of its groups (`HEAD` of `settle.wgsl`, in vectors).
pub(super) const HEAD: usize = 8;
/// A count that no run reaches: beyond it the words on the device would not be numbers.
pub(super) const MOST_UPDATES: u64 = 0x7f00_0000;
/// The correction of a rule whose numbers do not depend on the count.
const UNCORRECTED: &str = "fn $correction$(at: u32, count: u32, kept: vec4<f32>) -> $Corrected$ {
    return $Corrected$(vec4<f32>(1.0), kept);
}
";
/// What a rule keeps that keeps nothing.
const NOTHING: &str = "fn $kept_of$(number: u32) -> vec4<f32> {
    return vec4<f32>(0.0);
}
";

params! {
    /// Sizes of the settling of a rule's parameters.
    struct Sizes {
        word,
        parameters,
    }
}

/// The parameters of a rule as its settling needs them.
pub(super) struct Members {
    /// For each parameter 0: it is not updated, 1: it is, 1 + c: it is, and stands for class c; and the number of its group.
    pub roles: Arc<[u32]>,
    /// What is kept for each parameter, if the rule keeps anything.
    pub kept: Option<Arc<Arena>>,
}

/// The tally of an optimizer, on the device.
pub(super) struct Tally {
    /// How losses are scaled, if they are.
    pub scaling: Option<LossScale>,
    /// (loss scale, good steps since it changed, 1 if an earlier pass of a step was refused); (1, 0, ..) where losses are not
    /// scaled.
    pub scale: Arc<Arena>,
    /// Updates of each parameter so far, as integers.
    pub counts: Arc<Arena>,
    /// Four a class of parameters, from 1 on: what its update needs; before them how the last step went.
    pub status: Arc<Arena>,
    /// The scale as a leaf of the graph.
    pub leaf: Tensor,
}

impl Tally {
    /// For so many parameters, none of them updated yet.
    pub fn new(device: &Device, scaling: Option<LossScale>, parameters: usize) -> Result<Tally> {
        let scale = device.arena("loss scale", 64)?;
        let (counts, status) = arenas(device, parameters)?;
        let leaf = ParameterLeaf {
            arena: scale.clone(),
            offset: 0,
            version: 0,
            store: Arc::default(),
            name: "loss scale".into(),
        };
        let meta = Meta { shape: Shape::SCALAR, dtype: DType::F32 };
        let node = Node::new(device, meta, Source::Parameter(leaf), Inputs::new(), Flow::Nothing, Location::caller());
        let tally = Tally { scaling, scale, counts, status, leaf: Tensor::from_node(Arc::new(node)) };
        tally.scale.write(0, &[scaling.map_or(1.0, |settings| settings.initial), 0.0])?;
        Ok(tally)
    }

    /// Makes room for parameters that were added, and begins to scale losses if `scaling` says how and they are not yet.
    pub fn fit(&mut self, device: &Device, scaling: Option<LossScale>, parameters: usize) -> Result<()> {
        if parameters > self.counts.elements {
            let (counts, status) = arenas(device, parameters)?;
            counts.copy_from(&self.counts)?;
            status.copy_from(&self.status)?;
            (self.counts, self.status) = (counts, status);
        }
        if let (None, Some(settings)) = (self.scaling, scaling) {
            self.scale.write(0, &[settings.initial, 0.0])?;
            self.scaling = scaling;
        }
        Ok(())
    }

    /// Updates of each parameter so far. Waits for the device.
    pub fn counts(&self, device: &Device, parameters: usize) -> Result<Vec<u64>> {
        let known = self.counts.read(0, parameters.min(self.counts.elements))?;
        Ok((0..parameters).map(|number| known.get(number).map_or(0, |&word| count_of(device, word))).collect())
    }

    pub fn write_counts(&self, device: &Device, updates: &[u64]) -> Result<()> {
        self.counts.write(0, &updates.iter().map(|&count| word_of(device, count)).collect::<Vec<_>>())
    }

    /// Host numbers of a step: the largest norm (0: no clipping), and the settings of loss scaling.
    pub fn head(&self, largest: Option<f64>) -> [f64; HEAD] {
        let largest = largest.unwrap_or(0.0);
        match self.scaling {
            Some(LossScale { growth, backoff, interval, floor, .. }) => {
                [largest, growth, backoff, f64::from(interval), floor, 0.0, 0.0, 0.0]
            }
            None => [largest, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        }
    }

    /// The parts that count the updates of a rule's parameters, and what they bind besides `status`.
    fn settling(&self, rule: &dyn Rule, members: Members) -> (Shader, Vec<ArenaBinding>) {
        let mut bound = vec![
            ArenaBinding::write(&self.counts, "counts", "u32"),
            ArenaBinding::read(Bound::Table(members.roles), "members", "f32"),
        ];
        let shader = rule.correction().unwrap_or_else(|| Shader::default().item(Item::new("correction", UNCORRECTED)));
        let keeps = members.kept.is_some();
        let (kept_of, keep) = match members.kept {
            Some(kept) => {
                bound.push(ArenaBinding::write(&kept, "kept_numbers", "vec4<f32>"));
                (
                    "fn $kept_of$(number: u32) -> vec4<f32> {\n    return $kept_numbers$[number];\n}\n",
                    "    $kept_numbers$[number] = kept;\n",
                )
            }
            None => (NOTHING, ""),
        };
        let keep = format!("fn $keep$(number: u32, kept: vec4<f32>) {{\n{keep}}}\n");
        let shader = shader.item(Item::new("kept_of", kept_of)).item(Item::new("keep", keep)).constant("KEEPS", keeps);
        (shader.file(&NUMBERS).file(&SETTLE).with_operands(), bound)
    }

    /// What a kernel needs to pass the verdict of a step whose host numbers begin at `word`, and to settle the parameters
    /// of its first rule.
    pub fn verdict(
        &self,
        word: usize,
        rule: &dyn Rule,
        members: Members,
        Beside { loss, accepted }: Beside,
    ) -> Verdict {
        let parameters = members.roles.len() / 2;
        let (mut shader, settling) = self.settling(rule, members);
        let mut bound = vec![
            ArenaBinding::write(&self.status, "status", "vec4<f32>"),
            ArenaBinding::write(&self.scale, "scaling", "f32"),
        ];
        bound.extend(settling);
        let mut accept = "";
        if let Some(accepted) = accepted {
            accept = "    $accepted$[0] = u32(yes);\n";
            bound.push(ArenaBinding::write(accepted, "accepted", "u32"));
        }
        let (refuses, loss) = refusal(loss);
        bound.extend(loss);
        let accept = format!("fn $accept$(yes: bool) {{\n{accept}}}\n");
        shader = shader.item(Item::new("accept", accept)).item(refuses).file(&TALLY);
        Verdict { shader, bound, word, parameters, iterations: iterations(parameters) }
    }

    /// The kernel that settles the parameters of a further rule, once the verdict is passed.
    pub fn settle(&self, word: usize, rule: &dyn Rule, members: Members) -> ArenaKernel {
        let parameters = members.roles.len() / 2;
        let (shader, bound) = self.settling(rule, members);
        let mut kernel = Kernel::own("settle", shader.file(&SETTLE_ALONE));
        kernel.uniform(Sizes { word, parameters });
        kernel.iterations = iterations(parameters);
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::write(&self.status, "status", "vec4<f32>"));
        bound.into_iter().for_each(|binding| kernel.bind(binding));
        kernel
    }

    /// The same in f64 for gradients of this norm, scaled, and a loss that is `finite` or not: the status (norm, factor of the gradients, 1 if the update is
    /// skipped, what error that is), with the scale changed.
    pub fn reference(&self, scaled: f64, finite: bool, largest: Option<f64>) -> Result<[f64; 4]> {
        let mut state = self.scale.cpu()?;
        let scale = state[0];
        let norm = scaled / scale;
        let factor = clip::factor(largest, norm) / scale;
        let good = finite && scaled.is_finite() && std::mem::take(&mut state[2]) == 0.0;
        let Some(LossScale { growth, backoff, interval, floor, .. }) = self.scaling else {
            let skipped = f64::from(u8::from(!good));
            return Ok([norm, factor, skipped, skipped]);
        };
        if good {
            state[1] += 1.0;
            if state[1] >= f64::from(interval) {
                state[1] = 0.0;
                if scale * growth <= f64::from(f32::MAX) {
                    state[0] = scale * growth;
                }
            }
            return Ok([norm, factor, 0.0, 0.0]);
        }
        state[1] = 0.0;
        if scale * backoff < floor {
            return Ok([norm, floor, 1.0, 2.0]);
        }
        state[0] = scale * backoff;
        Ok([norm, 0.0, 1.0, 0.0])
    }
}

/// `fn refuses_loss()`, and what it reads: true for a loss whose word has all of these bits.
pub(super) fn refusal(loss: Option<(Bound, u32)>) -> (Item, Option<ArenaBinding>) {
    let value = loss.as_ref().map_or("false".into(), |(_, bits)| format!("($loss$[0] & {bits:#x}u) == {bits:#x}u"));
    let text = format!("fn $refuses_loss$() -> bool {{\n    return {value};\n}}\n");
    (Item::new("refuses_loss", text), loss.map(|(loss, _)| ArenaBinding::read(loss, "loss", "u32")))
}

/// A count, from how an arena of counts has it: a GPU has the words of integers there.
pub(super) fn count_of(device: &Device, word: f64) -> u64 {
    if device.is_cpu() { word as u64 } else { u64::from((word as f32).to_bits()) }
}

/// [`count_of`] the other way round.
pub(super) fn word_of(device: &Device, count: u64) -> f64 {
    if device.is_cpu() { count as f64 } else { f64::from(f32::from_bits(count as u32)) }
}

fn arenas(device: &Device, parameters: usize) -> Result<(Arc<Arena>, Arc<Arena>)> {
    let room = parameters.max(1).next_multiple_of(64);
    Ok((device.arena("counts of updates", room)?, device.arena("status", 4 * (1 + room))?))
}

/// Rounds of the loops that settle so many parameters: a correction has at most three powers of twelve rounds, or two and a
/// series of sixteen.
fn iterations(parameters: usize) -> u64 {
    parameters.div_ceil(64) as u64 * (1 + 2 * 12 + 16)
}
