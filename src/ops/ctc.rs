//! Connectionist temporal classification (Graves et al. 2006, "Connectionist temporal classification: labelling unsegmented
//! sequence data with recurrent neural networks"): minus the logarithm of the probability of all ways to say a row of labels.
//!
//! Labels with blanks between are the states of a lattice; ops gather what each frame says of each state, and a workgroup a
//! sequence goes over the frames. The logarithms of a frame are kept less their largest, so that long sequences lose no digits.

use std::sync::Arc;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, MAX_ITERATIONS, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::reduction::Reduction;
use crate::ops::rows::EXP_DOWN;
use crate::ops::shared::team;
use crate::shader::{File, params};
use crate::shaders::ctc::{BACKWARD, FORWARD, LATTICE};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Lanes of a workgroup.
const GROUP: usize = 64;
/// States of a sequence at most: labels with blanks between.
const MOST_STATES: usize = 1536;
/// The logarithm of a probability of 0.
const NEVER: f64 = -1e30;

/// Minus the logarithm of all ways (result 0, `[sequences]`), and the logarithms of the ways to each state (result 1): of what
/// each frame says of each state (input 0, `[sequences, frames, states]`), where two states may be passed (input 1,
/// `[sequences, states]`), and how many frames and states there are (input 2, `[sequences, 2]`).
#[derive(Debug)]
pub struct CtcLattice;

/// Its gradient, from the gradient of the losses (input 0), its own inputs, and its result 1.
#[derive(Debug)]
pub struct CtcLatticeBackward;

/// Options of [`Tensor::ctc_loss`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CtcOptions {
    /// The class of a blank.
    pub blank: usize,
    /// True to take 0 for the loss of a sequence that its frames cannot say.
    pub zero_infinity: bool,
    /// What becomes of the sequences' losses; the mean is of those over the number of their labels.
    pub reduction: Reduction,
}

impl Tensor {
    /// Connectionist temporal classification of these log-probabilities, `[frames, n, classes]`: minus the logarithm of the
    /// probability that the frames of a sequence say its labels, blanks and repetitions left out. `labels`, `[n, most]`, and
    /// `frames` and `lengths`, `[n]`, say how many frames and labels of each sequence count; all u32 or i32. f32, as
    /// `torch.nn.functional.ctc_loss`. A sequence that cannot be said has the loss infinity, and no gradient.
    ///
    /// Of 1,000 frames gradients keep four digits or more on a GPU, of 400 five.
    ///
    /// Take it of [`Tensor::log_softmax`]: PyTorch's gradient is right of normalised inputs alone, this one of any.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] or [`crate::Error::DType`] where the inputs do not fit, or for more than 767
    /// labels, and [`crate::Error::Value`] for a blank or uploaded labels that are no classes and uploaded lengths that are
    /// longer than there is; and where it is differentiated twice.
    #[track_caller]
    pub fn ctc_loss(&self, labels: &Tensor, frames: &Tensor, lengths: &Tensor, options: &CtcOptions) -> Tensor {
        let inputs = [self, labels, frames, lengths];
        if let Some(broken) = inputs.into_iter().find(|input| input.error().is_some()) {
            return broken.clone();
        }
        if let Err(problem) = check(inputs, options) {
            return self.problem("ctc_loss", problem);
        }
        let (count, n) = (self.dims()[0], self.dims()[1]);
        let most = labels.dims()[1];
        let states = 2 * most + 1;
        let device = self.device();
        let whole = |shape: &[usize], value: usize| device.fixed(shape, DType::U32, value as f64);
        let [frames, lengths] = [frames, lengths].map(|lengths| lengths.cast(DType::U32));
        // Labels behind a sequence's end may be anything.
        let counts = device.arange(most, DType::U32).lt(&lengths.unsqueeze(1));
        let labels = counts.where_(&labels.cast(DType::U32), &whole(&[], options.blank));
        let between = |blank: &Tensor, values: &Tensor| {
            let pairs = Tensor::stack(&[&blank.expand(&[n, most]), values], 2).reshape(&[n, 2 * most]);
            Tensor::concat(&[&pairs, &blank.expand(&[n, 1])], 1)
        };
        let classes = between(&whole(&[1, 1], options.blank), &labels);
        let changes = match most {
            1 => whole(&[n, 1], 0),
            _ => {
                let change = labels.slice(1, 1, most - 1).ne(&labels.slice(1, 0, most - 1));
                Tensor::concat(&[&whole(&[n, 1], 0), &change.cast(DType::U32)], 1)
            }
        };
        let skips = between(&whole(&[1, 1], 0), &changes);
        let extents = Tensor::stack(&[&frames, &(&lengths * 2.0 + 1.0)], 1);
        let index = classes.unsqueeze(1).expand(&[n, count, states]);
        let said = self.widen().permute(&[1, 0, 2]).gather(2, &index);
        let mut losses = Tensor::apply(CtcLattice, &[&said, &skips, &extents]);
        if options.zero_infinity {
            losses = losses.lt(f64::from(f32::MAX)).where_(&losses, &device.fixed(&[], DType::F32, 0.0));
        }
        match options.reduction {
            Reduction::Mean => (losses / lengths.maximum(1.0).cast(DType::F32)).mean_all(),
            other => other.of(&losses),
        }
    }
}

fn check([x, labels, frames, lengths]: [&Tensor; 4], options: &CtcOptions) -> Result<(), Problem> {
    let (dims, own) = (x.dims(), labels.dims());
    let fits = dims.rank() == 3 && own.rank() == 2 && own[0] == dims[1];
    let [first, second] = [frames, lengths].map(Tensor::dims);
    if !fits || first[..] != [dims[1]] || second[..] != [dims[1]] {
        let what = format!("log-probabilities {dims}, labels {own}, lengths {first} and {second}");
        return Err(Problem::Shape(what, "pass [frames, n, classes], [n, most] and twice [n]"));
    }
    if !x.meta().dtype.is_float() {
        return Err(Problem::DType(format!("log-probabilities are f32 or f16, not {}", x.meta().dtype)));
    }
    for whole in [labels, frames, lengths] {
        if !matches!(whole.meta().dtype, DType::I32 | DType::U32) {
            return Err(Problem::DType(format!("labels and lengths are u32 or i32, not {}", whole.meta().dtype)));
        }
    }
    let classes = dims[2];
    if options.blank >= classes {
        let what = format!("the blank is {} of {classes} classes", options.blank);
        return Err(Problem::Value(what, "pass a class"));
    }
    for (name, values, most) in [("frames", frames, dims[0]), ("labels", lengths, own[1])] {
        if let Some((least, largest)) = values.known_range()
            && (least < 0 || largest > most as i64)
        {
            let wrong = if least < 0 { least } else { largest };
            let what = format!("a sequence has {wrong} {name}, of {most}");
            return Err(Problem::Value(what, "pass lengths that are not longer than the inputs"));
        }
    }
    // What stands behind a sequence's end is often -1.
    if let Some((_, largest)) = labels.known_range().filter(|(_, largest)| *largest >= classes as i64) {
        let what = format!("label {largest} is out of range for {classes} classes");
        return Err(Problem::Value(what, "labels count from 0: pass labels below the number of classes"));
    }
    Ok(())
}

params! {
    struct Sizes {
        sequences,
        frames,
        states,
        zero,
    }
}

/// Rounds of loops that a lane takes, at most.
fn rounds(frames: usize, states: usize) -> u64 {
    (frames * (3 * states.div_ceil(GROUP) + 18)) as u64
}

fn check_lattice(x: &Meta, skips: &Meta, lengths: &Meta) -> Result<(), Problem> {
    let shape = x.shape;
    let fits = shape.rank() == 3 && skips.shape[..] == [shape[0], shape[2]] && lengths.shape[..] == [shape[0], 2];
    if !fits || x.dtype != DType::F32 || [skips, lengths].iter().any(|meta| meta.dtype != DType::U32) {
        let what = format!("a lattice {shape} with {} and {}", skips.shape, lengths.shape);
        return Err(Problem::Shape(what, "pass f32 [n, frames, states], u32 [n, states] and [n, 2]"));
    }
    if shape[2] > MOST_STATES || rounds(shape[1], shape[2]) >= MAX_ITERATIONS {
        let what = format!("{} frames with {} labels", shape[1], shape[2] / 2);
        return Err(Problem::Shape(what, "cut sequences: at most 767 labels, and fewer beside thousands of frames"));
    }
    Ok(())
}

/// A kernel over sequences of `x`.
fn kernel(name: &'static str, file: &'static File, x: &Meta) -> Kernel {
    let [sequences, frames, states] = [0, 1, 2].map(|axis| x.shape[axis]);
    let shader = team(Shader::of(&[&LATTICE, EXP_DOWN, file]), GROUP as u32);
    let mut kernel = Kernel::own(name, shader.constant("STATES", states.next_multiple_of(GROUP)));
    kernel.uniform(Sizes { sequences, frames, states, zero: 0 });
    kernel.workgroups = sequences as u64;
    kernel.iterations = rounds(frames, states);
    kernel
}

/// ln of a sum of exponentials.
fn sum_of(ways: &[f64]) -> f64 {
    let top = ways.iter().copied().fold(NEVER, f64::max);
    if top <= NEVER / 10.0 { NEVER } else { top + ways.iter().map(|way| (way - top).exp()).sum::<f64>().ln() }
}

/// A sequence of the reference.
struct Sequence<'a> {
    x: &'a [f64],
    skips: &'a [f64],
    /// States of a row of `x`.
    width: usize,
    frames: usize,
    states: usize,
}

impl Sequence<'_> {
    fn new<'a>(number: usize, x: &'a Array, skips: &'a Array, lengths: &Array) -> Sequence<'a> {
        let (frames, width) = (x.shape[1], x.shape[2]);
        let length = |k: usize| lengths.data[2 * number + k] as usize;
        Sequence {
            x: &x.data[number * frames * width..][..frames * width],
            skips: &skips.data[number * width..][..width],
            width,
            frames: length(0).min(frames),
            states: length(1).min(width),
        }
    }

    /// Logarithms of the ways to each state, frame by frame.
    fn ways(&self) -> Vec<Vec<f64>> {
        let mut all: Vec<Vec<f64>> = vec![];
        for t in 0..self.frames {
            let way = |s: usize| {
                let from = match all.last() {
                    None => return if s < 2 { 0.0 } else { NEVER },
                    Some(before) => before,
                };
                let mut ways = vec![from[s]];
                ways.extend(s.checked_sub(1).map(|s| from[s]));
                ways.extend(s.checked_sub(2).filter(|_| self.skips[s] != 0.0).map(|s| from[s]));
                sum_of(&ways)
            };
            let row = (0..self.states).map(|s| (way(s) + self.x[t * self.width + s]).max(NEVER)).collect();
            all.push(row);
        }
        all
    }

    /// The logarithm of all ways.
    fn total(&self, ways: &[Vec<f64>]) -> f64 {
        match ways.last() {
            Some(last) => sum_of(&last[self.states.saturating_sub(2)..]),
            None => {
                if self.states == 1 {
                    0.0
                } else {
                    NEVER
                }
            }
        }
    }

    /// The share of all ways that goes through each state, frame by frame.
    fn shares(&self) -> Vec<Vec<f64>> {
        let ways = self.ways();
        let total = self.total(&ways);
        let mut next: Option<Vec<f64>> = None;
        let mut shares = vec![vec![]; self.frames];
        for t in (0..self.frames).rev() {
            let back = |s: usize| {
                let Some(next) = &next else { return if s + 2 >= self.states { 0.0 } else { NEVER } };
                let mut ways = vec![next[s]];
                ways.extend(next.get(s + 1));
                ways.extend(next.get(s + 2).filter(|_| self.skips[s + 2] != 0.0));
                sum_of(&ways)
            };
            let backs: Vec<f64> = (0..self.states).map(back).collect();
            let share = |s: usize| if total <= NEVER / 10.0 { 0.0 } else { (ways[t][s] + backs[s] - total).exp() };
            shares[t] = (0..self.states).map(share).collect();
            next = Some((0..self.states).map(|s| (backs[s] + self.x[t * self.width + s]).max(NEVER)).collect());
        }
        shares
    }
}

impl Op for CtcLattice {
    fn name(&self) -> &'static str {
        "ctc_lattice"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check_lattice(&inputs[0], &inputs[1], &inputs[2])?;
        let shape = Shape::new(&inputs[2].shape[..1]).unwrap_or(Shape::SCALAR);
        let losses = Meta { shape, dtype: DType::F32 };
        Ok(vec![losses, inputs[0]])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [x, skips, lengths] = backward.inputs else { return vec![None, None, None] };
        let ways = backward.outputs[1].detach();
        let inputs = [backward.grad, x, skips, lengths, &ways];
        vec![Some(Tensor::apply(CtcLatticeBackward, &inputs)), None, None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [x, skips, lengths] = inputs else { return vec![] };
        let (frames, width) = (x.shape[1], x.shape[2]);
        let mut losses = Array::build(output.shape, DType::F32, |_| 0.0);
        let mut kept = Array::build(x.shape, DType::F32, |_| NEVER);
        for number in 0..x.shape[0] {
            let own = Sequence::new(number, x, skips, lengths);
            let ways = own.ways();
            let total = own.total(&ways);
            losses.data[number] = if total <= NEVER / 10.0 { f64::INFINITY } else { -total };
            for (t, ways) in ways.iter().enumerate() {
                let top = ways.iter().copied().fold(NEVER, f64::max);
                for (s, way) in ways.iter().enumerate().filter(|(_, way)| **way > NEVER / 10.0) {
                    kept.data[(number * frames + t) * width + s] = way - top;
                }
            }
        }
        vec![losses, kept]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        let mut kernel = kernel("ctc_lattice", &FORWARD, &inputs[0]);
        kernel.bind(Binding::input(0), "x", "f32");
        kernel.bind(Binding::input(1), "skips", "u32");
        kernel.bind(Binding::input(2), "lengths", "u32");
        kernel.results = vec![0, 1];
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        // Every second sequence is shorter than the arrays; no lattice has more states than its frames can pass.
        let case = |name: &str, n: usize, frames: usize, labels: usize, lengths: &'static [f64]| {
            // Behind it an op: gradients are those of the losses alone.
            let build = |x: &[Tensor]| Tensor::apply(CtcLattice, &[&x[0], &x[1], &x[2]]).scale(0.5);
            let states = 2 * labels + 1;
            let case = Case::new(name, build).input(&[n, frames, states], DType::F32, Draw::Uniform(-3.0, 0.0));
            let case = case.input(&[n, states], DType::U32, Draw::Values(&[0.0, 1.0]));
            let bound = Tolerance::Pointwise { absolute: 1e-5, relative: 1e-6 };
            case.input(&[n, 2], DType::U32, Draw::Values(lengths)).tolerance(bound).gradient_tolerance(bound)
        };
        let mut both = case("both_results", 3, 7, 2, &[7.0, 5.0, 5.0, 3.0]).not_differentiable();
        both.build = Arc::new(|x| Tensor::apply(CtcLattice, &[&x[0], &x[1], &x[2]]));
        vec![
            both,
            case("one", 1, 1, 1, &[1.0, 3.0]),
            case("short", 3, 7, 2, &[7.0, 5.0, 5.0, 3.0]),
            case("several", 5, 37, 7, &[37.0, 15.0, 20.0, 13.0, 31.0, 1.0]),
            case("more_states_than_lanes", 2, 67, 40, &[67.0, 81.0, 60.0, 79.0]),
            case("long", 1, 523, 3, &[523.0, 7.0]),
            case("cannot_be_said", 2, 3, 5, &[3.0, 11.0, 0.0, 3.0]).not_differentiable(),
        ]
    }
}

impl Op for CtcLatticeBackward {
    fn name(&self) -> &'static str {
        "ctc_lattice_backward"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check_lattice(&inputs[1], &inputs[2], &inputs[3])?;
        Ok(vec![inputs[1]])
    }

    /// Linear in the gradient of the losses. Shares would have to be followed through all pairs of states.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let inputs: Vec<&Tensor> = backward.inputs.iter().collect();
        let of_losses = backward.needs[0].then(|| {
            let ones = inputs[0].ones_like();
            let slopes = Tensor::apply(CtcLatticeBackward, &[&ones, inputs[1], inputs[2], inputs[3], inputs[4]]);
            (backward.grad * slopes).sum(&[1, 2])
        });
        let of_x = backward.needs[1].then(|| {
            let what = "its gradient was differentiated again".to_string();
            inputs[1].problem("ctc_loss", Problem::Value(what, "take first gradients alone of this loss"))
        });
        vec![of_losses, of_x, None, None, None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let (frames, width) = (output.shape[1], output.shape[2]);
        let mut dx = Array::build(output.shape, DType::F32, |_| 0.0);
        for number in 0..output.shape[0] {
            let shares = Sequence::new(number, inputs[1], inputs[2], inputs[3]).shares();
            for (t, shares) in shares.iter().enumerate() {
                for (s, share) in shares.iter().enumerate() {
                    dx.data[(number * frames + t) * width + s] = -inputs[0].data[number] * share;
                }
            }
        }
        vec![dx]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        let mut kernel = kernel("ctc_lattice_backward", &BACKWARD, &inputs[1]);
        kernel.bind(Binding::input(0), "dy", "f32");
        kernel.bind(Binding::input(1), "x", "f32");
        kernel.bind(Binding::input(2), "skips", "u32");
        kernel.bind(Binding::input(3), "lengths", "u32");
        kernel.bind(Binding::input(4), "ways", "f32");
        kernel.bind(Binding::output(), "dx", "$OUT$");
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        // The ways are those of the same lattice.
        let case = |name: &str, n: usize, frames: usize, labels: usize, lengths: &'static [f64]| {
            let build = |x: &[Tensor]| {
                let lattice = x[1].detach();
                let [_, ways] = Tensor::apply_many(CtcLattice, &[&lattice, &x[2], &x[3]]);
                Tensor::apply(CtcLatticeBackward, &[&x[0], &lattice, &x[2], &x[3], &ways])
            };
            let states = 2 * labels + 1;
            let case = Case::new(name, build).normal(&[n]);
            let case = case.input(&[n, frames, states], DType::F32, Draw::Uniform(-3.0, 0.0));
            let case = case.input(&[n, states], DType::U32, Draw::Values(&[0.0, 1.0]));
            let case = case.input(&[n, 2], DType::U32, Draw::Values(lengths)).not_differentiable();
            case.tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 })
        };
        vec![
            case("short", 3, 7, 2, &[7.0, 5.0, 5.0, 3.0]),
            case("more_states_than_lanes", 2, 67, 40, &[67.0, 81.0, 60.0, 79.0]),
            case("long", 1, 523, 3, &[523.0, 7.0]),
        ]
    }
}
