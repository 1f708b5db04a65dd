//! Random 32-bit words on the device, from a counter that travels as an operand; and what is made of them: dropout, uniform and
//! normal numbers, choices.

mod draws;
mod normal;

pub use normal::Normals;

use std::panic::Location;
use std::sync::Arc;

use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::{Source, scalar};
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::rng::{Draws, word};
use crate::shader::{Algebra, Expression};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Philox words of one draw; input 0 is the operand (seed low, seed high, draw low, draw high).
#[derive(Debug)]
pub struct RandomBits {
    /// Axis lengths.
    pub shape: Shape,
}

/// What [`Tensor::stochastic_depth`] keeps or zeros together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StochasticDepthMode {
    /// Each sample, an index of the first axis, by a draw of its own (`"row"` in torchvision).
    #[default]
    Row,
    /// The whole batch (`"batch"`).
    Batch,
}

impl Tensor {
    /// Zeros each element with probability `p` and scales the others by `1 / (1 - p)` (Srivastava et al. 2014, in the
    /// inverted form that PyTorch uses). The mask compares 32-bit words with a threshold; its backward pass and any
    /// recomputation use the same draw. With `p` of 1 all is 0, and so are gradients.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] unless `0 <= p <= 1`.
    #[track_caller]
    pub fn dropout(&self, p: f64, draws: &Draws) -> Tensor {
        self.kept_with("dropout", p, *self.dims(), draws)
    }

    /// Zeros whole samples with probability `p`, or the whole batch, and scales the others by `1 / (1 - p)`: a residual
    /// branch that is left out at random (Huang, Sun, Liu, Sedra and Weinberger 2016; also called DropPath), as
    /// `torchvision.ops.stochastic_depth`. With `p` of 1 all is 0, and so are gradients. Draws as [`Tensor::dropout`].
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] unless `0 <= p <= 1`, and [`crate::Error::Shape`] for a scalar and
    /// [`StochasticDepthMode::Row`].
    #[track_caller]
    pub fn stochastic_depth(&self, p: f64, mode: StochasticDepthMode, draws: &Draws) -> Tensor {
        const OP: &str = "stochastic_depth";
        let all: Vec<usize> = (0..self.dims().rank()).collect();
        let together = match (mode, &all[..]) {
            (StochasticDepthMode::Batch, all) => all,
            (StochasticDepthMode::Row, [_, of_sample @ ..]) => of_sample,
            (StochasticDepthMode::Row, []) => {
                let what = "a scalar has no samples".into();
                return self.problem(OP, Problem::Shape(what, "pass [batch, ..], or use StochasticDepthMode::Batch"));
            }
        };
        self.kept_with(OP, p, self.dims().keep(together), draws)
    }

    /// Each element kept and scaled, or zeroed, by the draw for it in a mask of `shape`, which stretches to this one's.
    #[track_caller]
    pub(crate) fn kept_with(&self, op: &'static str, p: f64, shape: Shape, draws: &Draws) -> Tensor {
        if !(0.0..=1.0).contains(&p) {
            let what = format!("probability {p} is not in [0, 1]");
            return self.problem(op, Problem::Value(what, "pass the share to zero"));
        }
        if self.error().is_some() {
            return self.clone();
        }
        let zero = Tensor::operand(self.device(), self.meta().dtype, 0.0, op);
        if p == 1.0 {
            // There is nothing to draw, and no factor: infinities become 0 too.
            return self.device().fixed(&[], DType::Bool, 0.0).where_(self, &zero);
        }
        let bits = random_bits(self.device(), shape, draws);
        // Kept where word >= p 2^32: p is resolved to 2^-32.
        let threshold = Tensor::operand(self.device(), DType::U32, (p * 4_294_967_296.0).floor(), op);
        // In f32, so that the factor keeps its digits.
        let scaled = (self.widen() * (1.0 / (1.0 - p))).cast(self.meta().dtype);
        bits.ge(&threshold).where_(&scaled, &zero)
    }
}

/// The words of the next draw.
#[track_caller]
fn random_bits(device: &Device, shape: Shape, draws: &Draws) -> Tensor {
    let at = Location::caller();
    let (seed, draw) = draws.take();
    let words = [seed as u32, (seed >> 32) as u32, draw as u32, (draw >> 32) as u32];
    let source = Source::Operand { value: words.map(f64::from), words };
    let counter = Tensor::leaf(device, scalar(DType::U32), source, at);
    Tensor::record(device, Arc::new(RandomBits { shape }), &[&counter], at)
}

impl Op for RandomBits {
    fn name(&self) -> &'static str {
        "random_bits"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend(self.shape.iter().map(|&dim| dim as u64));
    }

    fn shape(&self, _: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![Meta { shape: self.shape, dtype: DType::U32 }])
    }

    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [low, high, draw_low, draw_high] = [0, 1, 2, 3].map(|i| inputs[0].data[i] as u64);
        vec![Array::build(output.shape, output.dtype, |i| {
            f64::from(word(high << 32 | low, draw_high << 32 | draw_low, i as u32))
        })]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        let plain = Expression::new("random_bits(index, U(a), a1, a2, a3)", Algebra::Opaque);
        let expression = Expression { words: [true, false, false], draws: true, ..plain };
        Lowering::Expression { expression, constants: vec![] }
    }

    fn cases() -> Vec<Case> {
        let mask = |x: &[Tensor]| x[0].ones_like().dropout(0.37, &Draws::new(0x1234_5678_9abc_def0));
        let depth = |x: &Tensor, mode| x.stochastic_depth(0.37, mode, &Draws::new(0x1234_5678_9abc_def0));
        vec![
            Case::new("mask", mask).normal(&[37, 5]).tolerance(Tolerance::Exact).not_differentiable(),
            Case::new("mask_of_fours", mask).normal(&[3, 44]).tolerance(Tolerance::Exact).not_differentiable(),
            Case::new("stochastic_depth", move |x| depth(&x[0], StochasticDepthMode::Row)).normal(&[37, 3, 5]),
            Case::new("stochastic_depth_of_fours", move |x| depth(&x[0], StochasticDepthMode::Row)).normal(&[131, 12]),
            Case::new("stochastic_depth_batch", move |x| depth(&x[0], StochasticDepthMode::Batch)).normal(&[7, 5]),
            Case::new("nothing_kept", |x| x[0].dropout(1.0, &Draws::new(1)))
                .normal(&[37, 5])
                .tolerance(Tolerance::Exact),
            Case::new("rand", |x| x[0].device().rand(&[37, 5], &Draws::new(7)) + &x[0].detach())
                .normal(&[37, 5])
                .not_differentiable(),
            Case::new("randint", |x| x[0].device().randint(&[37, 5], -7, 1_000_000, &Draws::new(7)))
                .normal(&[1])
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("randperm", |x| x[0].device().randperm(1031, &Draws::new(7)))
                .normal(&[1])
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("bernoulli", |x| x[0].sigmoid().bernoulli(&Draws::new(7)))
                .normal(&[37, 5])
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("multinomial", |x| x[0].multinomial(67, true, &Draws::new(7)))
                .input(&[3, 8], DType::F32, Draw::Values(&[1.0, 0.0, 2.0, 1.0]))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("multinomial_once", |x| x[0].multinomial(5, false, &Draws::new(7)))
                .input(&[3, 37], DType::F32, Draw::Values(&[1.0, 0.0, 2.0, 1.0, 0.5]))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("mask_of_eights", mask).normal(&[1, 262_152]).tolerance(Tolerance::Exact).not_differentiable(),
        ]
    }
}
