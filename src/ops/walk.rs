//! Elements along every axis by a rule of three numbers and an edge: slices with steps, reversed and turned axes, tiles, and
//! padding with what is there.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::{check_axis, each};
use crate::shader::{Item, params};
use crate::shaders;
use crate::shape::{Axes, Axis, MAX_RANK, Shape};
use crate::tensor::Tensor;

/// What is found beyond the ends of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// What is next to the end, as in a mirror that stands on the last element.
    Reflect,
    /// The last element.
    Replicate,
    /// The other end.
    Circular,
}

/// Along one axis: number i of the result is element `edge(start + step i)` of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Along {
    /// Where the first one is.
    pub start: i64,
    /// How far the next one is.
    pub step: i64,
    /// How many there are.
    pub length: usize,
    /// What is beyond the ends.
    pub edge: Edge,
}

/// The elements that each axis's rule finds.
#[derive(Debug)]
pub struct Walk {
    /// The rule of each axis.
    pub axes: Vec<Along>,
}

/// What [`Tensor::pad_with`] puts around a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadMode {
    /// This value.
    Constant(f64),
    /// The elements next to the end, as in a mirror that stands on the last one.
    Reflect,
    /// The last element.
    Replicate,
    /// What is at the other end.
    Circular,
}

impl Along {
    /// All elements in their order.
    fn all(length: usize) -> Along {
        Along { start: 0, step: 1, length, edge: Edge::Replicate }
    }

    /// Which element of an axis of `length` number i is.
    fn find(&self, i: usize, length: usize) -> usize {
        let (t, n) = (self.start + self.step * i as i64, length as i64);
        let found = match self.edge {
            Edge::Reflect => n - 1 - (n - 1 - t.abs()).abs(),
            Edge::Replicate => t,
            Edge::Circular => t.rem_euclid(n),
        };
        found.clamp(0, n - 1) as usize
    }

    /// The rule that undoes this one on an axis of `length`, if it finds each element once.
    fn inverse(&self, length: usize) -> Option<Along> {
        match *self {
            Along { length: same, .. } if same != length => None,
            // Reversed, or as it was.
            Along { start, step: -1, .. } if start == length as i64 - 1 => Some(*self),
            Along { start, step: 1, edge: Edge::Circular, .. } => Some(Along { start: -start, ..*self }),
            Along { start: 0, step: 1, .. } => Some(*self),
            _ => None,
        }
    }
}

impl Tensor {
    /// Elements put around as `mode` says: (before, after) for each axis, as `torch.nn.functional.pad`, whose pairs begin with the
    /// last axis. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there is a pair for each axis, and unless those that reflect are below the
    /// axis's length and circular ones not above it; [`crate::Error::DType`] if the dtype does not hold a constant.
    #[track_caller]
    pub fn pad_with(&self, pairs: &[(usize, usize)], mode: PadMode) -> Tensor {
        const OP: &str = "pad_with";
        let edge = match mode {
            PadMode::Constant(value) => return self.pad(pairs, value),
            PadMode::Reflect => Edge::Reflect,
            PadMode::Replicate => Edge::Replicate,
            PadMode::Circular => Edge::Circular,
        };
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        if pairs.len() != dims.rank() {
            let what = format!("{} pairs for the {} axes of shape {dims}", pairs.len(), dims.rank());
            return self.problem(OP, Problem::Shape(what, "pass (before, after) for each axis"));
        }
        let mut axes = vec![];
        for (&(before, after), &length) in pairs.iter().zip(dims.iter()) {
            let most = match edge {
                Edge::Reflect => length - 1,
                Edge::Circular => length,
                Edge::Replicate => u32::MAX as usize,
            };
            if before.max(after) > most {
                let what = format!("({before}, {after}) elements around an axis of {length}");
                return self
                    .problem(OP, Problem::Shape(what, "reflect fewer elements than there are, or repeat them once"));
            }
            let (start, length) = (-(before as i64), before.saturating_add(length).saturating_add(after));
            axes.push(Along { start, step: 1, length, edge });
        }
        self.walk(axes)
    }

    /// With the elements along `axes` in reverse order, as `torch.flip`. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis that is not below the rank.
    #[track_caller]
    pub fn flip(&self, axes: impl Axes) -> Tensor {
        let reversed = |length: usize| Along { start: length as i64 - 1, step: -1, ..Along::all(length) };
        self.walk_along("flip", axes.of(self.dims().rank()).into_iter().map(|axis| (axis, reversed)))
    }

    /// With the elements along `axis` moved `by` places, those that leave one end coming in at the other, as `torch.roll`. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis that is not below the rank.
    #[track_caller]
    pub fn roll(&self, axis: impl Into<Axis>, by: isize) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        let turned = |length: usize| {
            let start = (-(by as i64)).rem_euclid(length as i64);
            Along { start, step: 1, length, edge: Edge::Circular }
        };
        self.walk_along("roll", [(axis, turned)])
    }

    /// The elements of `axis` from `start` to before `end`, `step` apart, as `x[start:end:step]` of NumPy and PyTorch: negative ends
    /// count from the end of the axis, and those beyond it are cut. With a negative step it goes backwards, and `isize::MIN` as the
    /// end is before the first element. All three are part of the graph's structure.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], or [`crate::Error::Value`] for a step of 0 and where nothing is left.
    #[track_caller]
    pub fn slice_step(&self, axis: impl Into<Axis>, start: isize, end: isize, step: isize) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "slice_step";
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        if let Err(problem) = check_axis(axis, dims.rank()) {
            return self.problem(OP, problem);
        }
        let length = dims[axis] as i64;
        let (low, high) = if step < 0 { (-1, length - 1) } else { (0, length) };
        let within = |end: isize| {
            let end = end as i64;
            (if end < 0 { end.saturating_add(length) } else { end }).clamp(low, high)
        };
        let (first, last) = (within(start), within(end));
        let count = match step {
            0 => 0,
            _ if step > 0 => (last - first + step as i64 - 1).max(0) / step as i64,
            _ => (first - last - step as i64 - 1).max(0) / -(step as i64),
        };
        if count == 0 {
            let what = format!("elements {start} to {end} in steps of {step} of axis {axis} of shape {dims} are none");
            return self
                .problem(OP, Problem::Value(what, "pass a step that is not 0 and goes from the start to the end"));
        }
        if step == 1 {
            return self.slice_fixed(axis, first as usize, count as usize);
        }
        let stepped = |_| Along { start: first, step: step as i64, length: count as usize, edge: Edge::Replicate };
        self.walk_along(OP, [(axis, stepped)])
    }

    /// This tensor `times` over along each axis, as `torch.tile` and `Tensor.repeat`: more numbers than axes make new axes in
    /// front, fewer leave the first axes as they are. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for more than 8 axes, a number of 0, or what is too large.
    #[track_caller]
    pub fn tile(&self, times: &[usize]) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let lead = times.len().saturating_sub(self.dims().rank());
        if times.contains(&0) || lead + self.dims().rank() > MAX_RANK {
            let what = format!("shape {} repeated {times:?} times", self.dims());
            return self.problem("tile", Problem::Shape(what, "repeat once or more, over at most 8 axes"));
        }
        let dims = [&vec![1; lead][..], &self.dims()[..]].concat();
        let alone = dims.len() - times.len();
        let along = |(axis, &length): (usize, &usize)| {
            let times = if axis < alone { 1 } else { times[axis - alone] };
            Along { start: 0, step: 1, length: length.saturating_mul(times), edge: Edge::Circular }
        };
        let axes = dims.iter().enumerate().map(along).collect();
        self.reshape(&dims).walk(axes)
    }

    /// The elements along the diagonal of the last two axes, which become one, as `torch.diagonal` of these: `offset` of them above
    /// the main one, below it if negative. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for less than two axes and for a diagonal outside of the matrix.
    #[track_caller]
    pub fn diagonal(&self, offset: isize) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        let &[ref before @ .., rows, columns] = &dims[..] else {
            let what = format!("shape {dims}");
            return self.problem("diagonal", Problem::Shape(what, "pass a matrix, or several"));
        };
        let (down, right) = ((-offset).max(0) as usize, offset.max(0) as usize);
        if down >= rows || right >= columns {
            let what = format!("diagonal {offset} is outside of shape {dims}");
            return self.problem("diagonal", Problem::Shape(what, "pass one that crosses the matrix"));
        }
        let length = (rows - down).min(columns - right);
        let start = (down * columns + right) as i64;
        let flat = self.reshape(&[before, &[rows * columns]].concat());
        let step = |_| Along { start, step: columns as i64 + 1, length, edge: Edge::Replicate };
        flat.walk_along("diagonal", [(before.len(), step)])
    }

    /// The elements that these rules find on their axes, and all of the others.
    #[track_caller]
    fn walk_along<F: Fn(usize) -> Along>(
        &self,
        op: &'static str,
        rules: impl IntoIterator<Item = (usize, F)>,
    ) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let mut axes: Vec<Along> = self.dims().iter().map(|&length| Along::all(length)).collect();
        for (axis, rule) in rules {
            if let Err(problem) = check_axis(axis, axes.len()) {
                return self.problem(op, problem);
            }
            axes[axis] = rule(self.dims()[axis]);
        }
        self.walk(axes)
    }

    /// The elements that the rules find; this tensor if that is all of them in their order.
    #[track_caller]
    fn walk(&self, axes: Vec<Along>) -> Tensor {
        let is_all = |(along, &length): (&Along, &usize)| (along.start, along.step, along.length) == (0, 1, length);
        if axes.iter().zip(self.dims().iter()).all(is_all) {
            return self.clone();
        }
        let walked = Tensor::apply(Walk { axes }, &[&self.widen()]);
        if walked.error().is_some() { walked } else { walked.cast(self.meta().dtype) }
    }
}

params! {
    struct Sizes {
        elements,
        /// (length, start, step, edge) of each axis, innermost first.
        axes: [[u32; 4]; MAX_RANK],
        /// (length, stride) of the input.
        sources: [[u32; 4]; MAX_RANK],
    }
}

impl Op for Walk {
    fn name(&self) -> &'static str {
        "walk"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        let words_of = |along: &Along| [along.start as u64, along.step as u64, along.length as u64, along.edge as u64];
        words.extend(self.axes.iter().flat_map(words_of));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if self.axes.len() != shape.rank() {
            let what = format!("{} rules for the {} axes of shape {shape}", self.axes.len(), shape.rank());
            return Err(Problem::Shape(what, "pass a rule for each axis"));
        }
        if dtype == DType::F16 {
            return Err(Problem::DType("it takes f32, not f16".into()));
        }
        let dims: Vec<usize> = self.axes.iter().map(|along| along.length).collect();
        // Places are counted in i32.
        let end =
            |along: &Along| along.start.abs().saturating_add(along.step.abs().saturating_mul(along.length as i64));
        let fits = self.axes.iter().all(|along| end(along) < 1 << 31);
        Shape::new(&dims).filter(|_| fits).map(|shape| vec![Meta { shape, dtype }]).ok_or_else(|| {
            Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^31 elements along an axis")
        })
    }

    /// Axis after axis: back where each came from, or summed where several came from one place.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let input = backward.inputs[0].dims();
        let mut gradient = backward.grad.clone();
        for (axis, along) in self.axes.iter().enumerate() {
            let length = input[axis];
            if *along == Along::all(length) {
                continue;
            }
            gradient = match along.inverse(length) {
                Some(inverse) => gradient.walk_along("walk", [(axis, |_| inverse)]),
                None => {
                    let mut dims = gradient.dims().to_vec();
                    dims[axis] = length;
                    let numbers = gradient.device().arange(length, DType::U32);
                    let index = Tensor::apply(Walk { axes: vec![*along] }, &[&numbers]);
                    let shape = Shape::new(&dims).unwrap_or(*input);
                    gradient.widen().picked_together(axis, true, shape, &index, false)
                }
            };
        }
        vec![Some(gradient)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let from = inputs[0].shape;
        let strides = from.strides();
        vec![Array::build(output.shape, output.dtype, |linear| {
            let mut at = [0; MAX_RANK];
            Array::unravel(&output.shape, linear, &mut at[..from.rank()]);
            let place = |axis: usize| self.axes[axis].find(at[axis], from[axis]) * strides[axis];
            inputs[0].data[(0..from.rank()).map(place).sum::<usize>()]
        })]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let (from, strides) = (inputs[0].shape, inputs[0].shape.strides());
        let element = match output.dtype {
            DType::F32 | DType::F16 => "f32",
            DType::I32 => "i32",
            DType::U32 | DType::Bool => "u32",
        };
        // The hook takes no bools.
        let epilogue = output.dtype != DType::Bool;
        let held = if epilogue { "$epilogue$(value, at)" } else { "value" };
        let store = format!("fn $store$(at: u32, value: $V$) {{\n    $result$[at] = {held};\n}}\n");
        let shader = each(Shader::of(&[&shaders::WALK])).alias("V", element);
        let mut kernel = Kernel::own("walk", shader.item(Item::new("store", store)));
        kernel.bind(Binding::input(0), "input", "$V$");
        kernel.bind(Binding::output(), "result", "$V$");
        let (mut axes, mut sources) = ([[1, 0, 0, 0]; MAX_RANK], [[1, 0, 0, 0]; MAX_RANK]);
        for (k, axis) in (0..from.rank()).rev().enumerate() {
            let Along { start, step, length, edge } = self.axes[axis];
            let edge = match edge {
                Edge::Reflect => 1,
                Edge::Replicate => 2,
                Edge::Circular => 3,
            };
            axes[k] = [length as u32, start as i32 as u32, step as i32 as u32, edge];
            sources[k] = [from[axis] as u32, strides[axis] as u32, 0, 0];
        }
        kernel.uniform(Sizes { elements: output.elements(), axes, sources });
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = MAX_RANK as u64;
        kernel.epilogue = epilogue;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let of = |name: &str, shape: &[usize], build: fn(&[Tensor]) -> Tensor| {
            Case::new(name, build)
                .normal(shape)
                .tolerance(Tolerance::Exact)
                .gradient_tolerance(Tolerance::Sum { terms: 8 })
        };
        let typed = |name: &str, dtype: DType, draw: Draw, build: fn(&[Tensor]) -> Tensor| {
            Case::new(name, build).input(&[5, 7], dtype, draw).tolerance(Tolerance::Exact).not_differentiable()
        };
        vec![
            of("reflect", &[3, 5, 37], |x| x[0].pad_with(&[(0, 0), (4, 1), (0, 3)], PadMode::Reflect)),
            of("replicate", &[3, 5], |x| x[0].pad_with(&[(2, 0), (1, 3)], PadMode::Replicate)),
            of("circular", &[3, 5], |x| x[0].pad_with(&[(3, 1), (0, 5)], PadMode::Circular)),
            of("flip", &[3, 131, 2], |x| x[0].flip(&[1, 2])),
            of("roll", &[3, 37], |x| x[0].roll(1, 40)),
            of("roll_back", &[37, 3], |x| x[0].roll(0, -5)),
            of("step", &[3, 37], |x| x[0].slice_step(1, 2, -1, 3)),
            of("backwards", &[37], |x| x[0].slice_step(0, -1, isize::MIN, -4)),
            of("tile", &[3, 5], |x| x[0].tile(&[2, 1, 3])),
            of("diagonal", &[3, 7, 5], |x| x[0].diagonal(-1)),
            of("of_transposed", &[7, 5], |x| x[0].transpose(0, 1).diagonal(2)),
            typed("i32", DType::I32, Draw::Uniform(-2e9, 2e9), |x| x[0].flip(&[0])),
            typed("bool", DType::Bool, Draw::Below(2), |x| x[0].tile(&[2])),
            typed("f16", DType::F16, Draw::Normal, |x| x[0].roll(0, 2)),
            Case::new("between", |x| (x[0].tanh().flip(&[0]) + &x[0]).tanh())
                .normal(&[37, 5])
                .tolerance(Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::PadMode;
    use crate::{Device, Error};

    #[test]
    fn what_finds_nothing_is_refused() {
        let x = Device::cpu().zeros(&[2, 3]);
        assert!(matches!(x.flip(&[2]).error(), Some(Error::Axis { .. })));
        assert!(matches!(x.slice_step(1, 0, 3, 0).error(), Some(Error::Value { .. })));
        assert!(matches!(x.slice_step(1, 2, 1, 1).error(), Some(Error::Value { .. })));
        assert!(matches!(x.pad_with(&[(2, 0), (0, 0)], PadMode::Reflect).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.pad_with(&[(0, 0)], PadMode::Replicate).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.diagonal(3).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.tile(&[0, 1]).error(), Some(Error::Shape { .. })));
    }

    #[test]
    fn steps_and_ends_are_counted_as_numpy_does() {
        let x = Device::cpu().arange(6, crate::DType::I32);
        let taken = |start, end, step| x.slice_step(0, start, end, step).to_vec::<i32>().unwrap();
        assert_eq!(taken(1, 6, 2), [1, 3, 5]);
        assert_eq!(taken(-4, -1, 1), [2, 3, 4]);
        assert_eq!(taken(-100, 100, 5), [0, 5]);
        assert_eq!(taken(4, 0, -2), [4, 2]);
        assert_eq!(taken(isize::MAX, isize::MIN, -3), [5, 2]);
    }
}
