//! What becomes of a step, decided and counted on the device.
//!
//! A step is refused where its loss or a gradient is not finite, and the host learns of it a few steps later, when others that it does
//! not know to be the next are under way. So whatever depends on how many updates there have been is formed on the device
//! (`shaders/optim/tally.wgsl`): the counts of each parameter, the corrections that follow from them, the loss scale. A refused
//! step changes none of these, and those behind it go on as if it had never been.

use std::panic::Location;
use std::sync::Arc;

use super::clip::{self, Verdict};
use super::rule::Correction;
use super::scale::LossScale;
use crate::arena::Arena;
use crate::device::Device;
use crate::dtype::DType;
use crate::engine::{ArenaBinding, Beside, Bound};
use crate::error::Result;
use crate::graph::{Node, ParameterLeaf, Source};
use crate::history::Flow;
use crate::kernel::Shader;
use crate::layout::Meta;
use crate::shader::Item;
use crate::shaders::optim::TALLY;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Operand words of a step before the factors of its groups.
pub(super) const HEAD: usize = 12;
/// A count that no run reaches: beyond it the words on the device would not be numbers.
pub(super) const MOST_UPDATES: u64 = 0x7f00_0000;
/// A number of updates after which no factor changes.
pub(super) const SETTLED: u64 = 1 << 60;
/// The correction of a rule whose factors do not depend on the count.
const UNCORRECTED: &str =
    "fn $correction$(constants: vec4<f32>, count: u32) -> vec2<f32> {\n    return vec2<f32>(1.0);\n}\n";

/// The tally of an optimizer, on the device.
pub(super) struct Tally {
    /// How losses are scaled, if they are.
    pub scaling: Option<LossScale>,
    /// (loss scale, good steps since it changed); (1, 0) where losses are not scaled.
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
        let node = Node::new(device, meta, Source::Parameter(leaf), vec![], Flow::Nothing, Location::caller());
        let tally = Tally { scaling, scale, counts, status, leaf: Tensor::from_node(Arc::new(node)) };
        tally.scale.write(0, &[scaling.map_or(1.0, |settings| settings.initial), 0.0])?;
        Ok(tally)
    }

    /// Makes room for parameters that were added, and begins to scale losses if `scaling` says how and they are not yet.
    pub fn fit(&mut self, device: &Device, scaling: Option<LossScale>, parameters: usize) -> Result<()> {
        if parameters > self.counts.elements {
            let counts = self.counts.read(0, self.counts.elements)?;
            let status = self.status.read(0, 4)?;
            (self.counts, self.status) = arenas(device, parameters)?;
            self.counts.write(0, &counts)?;
            self.status.write(0, &status)?;
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
        let count = |&word: &f64| if device.is_cpu() { word as u64 } else { u64::from((word as f32).to_bits()) };
        Ok((0..parameters).map(|number| known.get(number).map_or(0, count)).collect())
    }

    pub fn write_counts(&self, device: &Device, updates: &[u64]) -> Result<()> {
        let word = |&count: &u64| match device.is_cpu() {
            true => count as f64,
            false => f64::from(f32::from_bits(count as u32)),
        };
        self.counts.write(0, &updates.iter().map(word).collect::<Vec<_>>())
    }

    /// Host numbers of a step: the largest norm (0: no clipping), the settings, the constants of the rule's correction.
    pub fn head(&self, largest: Option<f64>, correction: Option<Correction>) -> [f64; HEAD] {
        let [a, b, c, d] = correction.map_or([0.0; 4], |correction| correction.constants);
        let largest = largest.unwrap_or(0.0);
        match self.scaling {
            Some(LossScale { growth, backoff, interval, floor, .. }) => {
                [largest, growth, backoff, f64::from(interval), floor, 0.0, 0.0, 0.0, a, b, c, d]
            }
            None => [largest, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, a, b, c, d],
        }
    }

    /// What a kernel needs to pass the verdict of a step whose host numbers begin at `word`. `members` says of each
    /// parameter 0: it is not updated, 1: it is, 1 + c: it is, and stands for class c.
    pub fn verdict(
        &self,
        word: usize,
        members: Arc<[u32]>,
        correction: Option<Correction>,
        Beside { loss, accepted }: Beside,
    ) -> Verdict {
        let parameters = members.len();
        let mut bound = vec![
            ArenaBinding::write(&self.status, "status", "vec4<f32>"),
            ArenaBinding::write(&self.scale, "scaling", "f32"),
            ArenaBinding::write(&self.counts, "counts", "u32"),
            ArenaBinding::read(Bound::Table(members), "members", "f32"),
        ];
        let (mut accept, mut refuses) = ("", "false".to_string());
        if let Some(accepted) = accepted {
            accept = "    $accepted$[0] = u32(yes);\n";
            bound.push(ArenaBinding::write(accepted, "accepted", "u32"));
        }
        if let Some((loss, bits)) = loss {
            refuses = format!("($loss$[0] & {bits:#x}u) == {bits:#x}u");
            bound.push(ArenaBinding::read(loss, "loss", "u32"));
        }
        let accept = format!("fn $accept$(yes: bool) {{\n{accept}}}\n");
        let refuses = format!("fn $refuses_loss$() -> bool {{\n    return {refuses};\n}}\n");
        let shader = match correction {
            Some(Correction { wgsl, .. }) => Shader::foreign(wgsl.into()),
            None => Shader::default().item(Item::new("correction", UNCORRECTED)),
        };
        let shader = shader.item(Item::new("accept", accept)).item(Item::new("refuses_loss", refuses));
        let shader = shader.file(&TALLY).with_operands();
        Verdict { shader, bound, word, parameters, iterations: parameters.div_ceil(64) as u64 * 12 }
    }

    /// The same in f64 for gradients of this norm, scaled, and a loss that is `finite` or not: the status (norm, factor of the gradients, 1 if the update is
    /// skipped, what error that is), with the scale changed.
    pub fn reference(&self, scaled: f64, finite: bool, largest: Option<f64>) -> Result<[f64; 4]> {
        let mut state = self.scale.cpu()?;
        let scale = state[0];
        let norm = scaled / scale;
        let factor = clip::factor(largest, norm) / scale;
        let good = finite && scaled.is_finite();
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

fn arenas(device: &Device, parameters: usize) -> Result<(Arc<Arena>, Arc<Arena>)> {
    let room = parameters.max(1).next_multiple_of(64);
    Ok((device.arena("counts of updates", room)?, device.arena("status", 4 * (1 + room))?))
}
