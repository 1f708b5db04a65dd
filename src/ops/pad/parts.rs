//! The sum of the gradients of a tensor's parts: a join where they cover it, else each is added where it came from.

use std::any::Any;

use super::Place;
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::Source;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Role, Tolerance};
use crate::ops::rows::Rows;
use crate::ops::shared::{check_axis, each};
use crate::shader::params;
use crate::shaders::pad::{ADD, ZERO};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Zeros, plus each of the first inputs along `axis` from the host number in one of the others, of which there are as many. It
/// takes the memory of the result alone, where a sum of [`Place`]s takes that of one result for each.
#[derive(Debug)]
pub struct PlaceSum {
    /// The axis.
    pub axis: usize,
    /// Its length in the result.
    pub total: usize,
}

/// What was put into zeros of this length along this axis, from this start on.
struct Placed {
    axis: usize,
    total: usize,
    piece: Tensor,
    start: Tensor,
}

impl Tensor {
    /// The sum of a tensor's gradients, formed in this order. Those of the pieces of a split, which cover it without
    /// overlapping, are joined instead; those of several slices along one axis are added to one result.
    pub(crate) fn sum_of_parts(parts: Vec<Tensor>) -> Tensor {
        if let [only] = &parts[..] {
            return only.clone();
        }
        let Some(dtype) = parts.first().map(|part| part.meta().dtype) else { return Tensor::concat(&[], 0) };
        let placed: Vec<Option<Placed>> = parts.iter().map(placed).collect();
        if let Some(joined) = joined(&placed) {
            return joined.cast(dtype);
        }
        let add = |sum: Tensor, part: Tensor| match sum.meta().dtype == part.meta().dtype {
            true => sum + part,
            false => sum.widen() + part.widen(),
        };
        together(parts, placed).into_iter().reduce(add).unwrap_or_else(|| Tensor::concat(&[], 0))
    }
}

/// What a part is, if it was put into zeros.
fn placed(part: &Tensor) -> Option<Placed> {
    let mut node = part.node().clone();
    // Half precision is put into zeros by way of f32.
    if part.meta().dtype == DType::F16 && node.role() == Some(Role::Cast) {
        node = node.with_inputs(|inputs| inputs.first().cloned())?;
    }
    let Source::Op(op) = &node.source else { return None };
    let &Place { axis, total } = (&**op as &dyn Any).downcast_ref()?;
    let inputs = node.inputs();
    let [input, start] = &inputs[..] else { return None };
    Some(Placed { axis, total, piece: Tensor::from_node(input.clone()), start: Tensor::from_node(start.clone()) })
}

/// The join of parts that were all put into zeros along one axis, each behind the one before; nothing for other parts.
fn joined(placed: &[Option<Placed>]) -> Option<Tensor> {
    let &Placed { axis, total, .. } = placed.first()?.as_ref()?;
    let mut pieces = vec![];
    for part in placed {
        let part = part.as_ref().filter(|part| (part.axis, part.total) == (axis, total))?;
        let Some(Role::Constant(start)) = part.start.node().role() else { return None };
        pieces.push((start as usize, &part.piece));
    }
    pieces.sort_by_key(|(start, _)| *start);
    let mut end = 0;
    for (start, piece) in &pieces {
        if *start != end {
            return None;
        }
        end += piece.dims()[axis];
    }
    let pieces: Vec<&Tensor> = pieces.into_iter().map(|(_, piece)| piece).collect();
    (end == total).then(|| Tensor::concat(&pieces, axis))
}

/// The parts, with those that were put into zeros along one axis added up in the place of their first.
fn together(parts: Vec<Tensor>, placed: Vec<Option<Placed>>) -> Vec<Tensor> {
    let key = |part: &Option<Placed>| part.as_ref().map(|part| (part.axis, part.total));
    let mut sums = vec![];
    for (k, part) in parts.into_iter().enumerate() {
        let same: Vec<&Placed> =
            placed.iter().flatten().filter(|other| key(&placed[k]) == Some((other.axis, other.total))).collect();
        let [first, _, ..] = same[..] else {
            sums.push(part);
            continue;
        };
        // The others are in the sum of the first.
        if placed[k].as_ref().is_some_and(|own| std::ptr::eq(own, first)) {
            let inputs: Vec<&Tensor> =
                same.iter().map(|part| &part.piece).chain(same.iter().map(|part| &part.start)).collect();
            let sum = Tensor::apply(PlaceSum { axis: first.axis, total: first.total }, &inputs);
            sums.push(sum.cast(part.meta().dtype));
        }
    }
    sums
}

params! {
    struct Zeros {
        elements,
    }
}

params! {
    struct Sizes {
        /// Of the part.
        elements,
        /// Elements of a block of the part, and of the result.
        span,
        total,
        /// Elements of a slice of either.
        inner,
    }
}

impl Op for PlaceSum {
    fn name(&self) -> &'static str {
        "place_sum"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.total as u64]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let (parts, _) = inputs.split_at(inputs.len() / 2);
        let Some(first) = parts.first() else {
            return Err(Problem::Value("no parts".into(), "pass as many starts as parts"));
        };
        let mut dims = first.shape.to_vec();
        check_axis(self.axis, dims.len())?;
        dims[self.axis] = self.total;
        Ok(vec![Meta { shape: Shape::new(&dims).unwrap_or(first.shape), dtype: DType::F32 }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (parts, starts) = backward.inputs.split_at(backward.inputs.len() / 2);
        let of_part =
            |(part, start): (&Tensor, &Tensor)| Some(backward.grad.slice_at(self.axis, start, part.dims()[self.axis]));
        parts.iter().zip(starts).map(of_part).chain(starts.iter().map(|_| None)).collect()
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let (parts, starts) = inputs.split_at(inputs.len() / 2);
        let to = Rows::along(&output.shape, self.axis);
        let mut data = vec![0.0; output.elements()];
        for (part, start) in parts.iter().zip(starts) {
            let from = Rows::along(&part.shape, self.axis);
            for row in 0..from.rows {
                for (j, at) in from.positions(row).enumerate() {
                    data[to.start(row) + (start.data[0] as usize + j) * to.stride] += part.data[at];
                }
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let (parts, _) = inputs.split_at(inputs.len() / 2);
        let elements = output.elements();
        let inner: usize = output.shape[self.axis + 1..].iter().product();
        let mut zero = Kernel::own("place_sum.zero", each(Shader::of(&[&ZERO])));
        zero.bind(Binding::output(), "result", "f32");
        zero.uniform(Zeros { elements });
        zero.workgroups = (elements as u64).div_ceil(64);
        let mut kernels = vec![zero];
        for (k, part) in parts.iter().enumerate() {
            let mut add = Kernel::own("place_sum", each(Shader::of(&[&ADD])));
            add.bind(Binding::input(k), "part", "f32");
            add.bind(Binding::input(parts.len() + k), "start", "u32");
            add.bind(Binding::output(), "result", "f32");
            let span = part.shape[self.axis] * inner;
            add.uniform(Sizes { elements: part.elements(), span, total: self.total * inner, inner });
            add.workgroups = (part.elements() as u64).div_ceil(64);
            kernels.push(add);
        }
        Lowering::Kernels { kernels, temporaries: vec![] }
    }

    fn cases() -> Vec<Case> {
        let start = |x: &Tensor, at: f64| Tensor::operand(x.device(), DType::U32, at, "place_sum");
        let sum = move |x: &[Tensor]| {
            let starts = [start(&x[0], 3.0), start(&x[0], 0.0), start(&x[0], 4.0)];
            let sum = PlaceSum { axis: 1, total: 11 };
            Tensor::apply(sum, &[&x[0], &x[1], &x[2], &starts[0], &starts[1], &starts[2]])
        };
        // A loop over time that reads two steps at once: its gradient is such a sum.
        let steps = |x: &[Tensor]| {
            let step = |t: usize| x[0].slice(1, t, 2).tanh();
            (1..5).fold(step(0), |sum, t| sum.tanh() + step(t))
        };
        vec![
            Case::new("middle", sum).normal(&[5, 7, 3]).normal(&[5, 1, 3]).normal(&[5, 2, 3]),
            Case::new("steps", steps)
                .normal(&[3, 6, 5])
                .tolerance(Tolerance::Pointwise { absolute: 4e-6, relative: 4e-6 }),
        ]
    }
}
