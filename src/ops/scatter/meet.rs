//! What comes to each place of a tensor where an index sends it, where the order of coming does not matter.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::scatter::ScatterReduction;
use crate::ops::shared::{check_axis, each};
use crate::shader::{Item, params};
use crate::shaders::scatter::{FINISH, KEYS, MEET, START};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// What is made of all that comes to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// The largest number of an element of the index, in row-major order; `u32::MAX` where none comes.
    Last,
    /// The sum, of whole numbers.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// The cells of a tensor after the meeting of what comes to them: input 0 is the index, input 1 what they hold before (but for
/// [`Meeting::Last`]), input 2 what comes, of the index's shape.
#[derive(Debug)]
pub struct Meet {
    /// The axis that the index counts along.
    pub axis: usize,
    /// Shape of the cells.
    pub shape: Shape,
    /// What is made of it.
    pub meeting: Meeting,
}

/// `Err` unless an index fits an axis of cells of this shape.
pub(super) fn check(axis: usize, cells: &Shape, index: &Meta) -> Result<(), Problem> {
    check_axis(axis, cells.rank())?;
    if !index.dtype.is_integer() {
        return Err(Problem::DType(format!("an index is u32 or i32, not {}", index.dtype)));
    }
    let fits = |other: usize| other == axis || index.shape[other] <= cells[other];
    if index.shape.rank() != cells.rank() || !(0..cells.rank()).all(fits) {
        let what = format!("an index of shape {} does not fit axis {axis} of shape {cells}", index.shape);
        return Err(Problem::Shape(what, "pass as many axes, none longer than the tensor's but the axis itself"));
    }
    Ok(())
}

params! {
    struct Cells {
        elements,
    }
}

params! {
    struct Comers {
        /// Elements of the index.
        count,
        /// Of the axis, and how far its neighbours are apart.
        length,
        stride,
        axes: [[u32; 4]; MAX_RANK],
    }
}

impl Op for Meet {
    fn name(&self) -> &'static str {
        match self.meeting {
            Meeting::Last => "scatter_last",
            Meeting::Sum => "scatter_sum",
            Meeting::Max => "scatter_max",
            Meeting::Min => "scatter_min",
        }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
        words.extend(self.shape.iter().map(|&dim| dim as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(self.axis, &self.shape, &inputs[0])?;
        let [_, before, source] = inputs else {
            return Ok(vec![Meta { shape: self.shape, dtype: DType::U32 }]);
        };
        if before.shape != self.shape || source.shape != inputs[0].shape {
            let what = format!(
                "cells of {} and a source of {} for an index of {}",
                before.shape, source.shape, inputs[0].shape
            );
            return Err(Problem::Shape(what, "pass an element for each of the index"));
        }
        let fits = match self.meeting {
            Meeting::Sum => before.dtype.is_integer(),
            _ => matches!(before.dtype, DType::F32 | DType::I32 | DType::U32),
        };
        if source.dtype != before.dtype || !fits {
            return Err(Problem::DType(format!("dtypes {} and {} do not meet", before.dtype, source.dtype)));
        }
        Ok(vec![*before])
    }

    /// Of an extreme: shared by all that are equal to it.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [index, before, source] = backward.inputs else { return vec![None] };
        if self.meeting == Meeting::Sum {
            return vec![None; 3];
        }
        let (axis, zero) = (self.axis, backward.grad.scalar(0.0));
        let stays = before.eq(backward.output);
        let comes = source.eq(&backward.output.gather(axis, index));
        let equal = comes.cast(DType::F32).picked_together(axis, false, self.shape, index, false);
        let share = backward.grad / (equal + stays.cast(DType::F32));
        let of_source = comes.where_(&share.gather(axis, index), &zero);
        vec![None, Some(stays.where_(&share, &zero)), Some(of_source)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let index = &inputs[0].shape;
        let strides = output.shape.strides();
        let mut data = match inputs {
            [_, before, _] => before.data.clone(),
            _ => vec![f64::from(u32::MAX); output.elements()],
        };
        for (linear, &place) in inputs[0].data.iter().enumerate() {
            if place < 0.0 || place >= output.shape[self.axis] as f64 {
                continue;
            }
            let mut at = [0; MAX_RANK];
            Array::unravel(index, linear, &mut at[..index.rank()]);
            at[self.axis] = place as usize;
            let cell = &mut data[(0..index.rank()).map(|axis| at[axis] * strides[axis]).sum::<usize>()];
            let coming = inputs.get(2).map_or(linear as f64, |source| source.data[linear]);
            let beats = |is_beyond: bool| coming.is_nan() || !cell.is_nan() && is_beyond;
            *cell = match self.meeting {
                Meeting::Last => coming,
                Meeting::Sum => output.dtype.wrap((*cell as i64).wrapping_add(coming as i64)),
                Meeting::Max if beats(coming > *cell) => coming,
                Meeting::Min if beats(coming < *cell) => coming,
                Meeting::Max | Meeting::Min => *cell,
            };
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let (elements, count) = (output.elements(), inputs[0].elements());
        let (element, is_float) = match output.dtype {
            DType::F32 | DType::F16 => ("f32", true),
            DType::I32 => ("i32", false),
            DType::U32 | DType::Bool => ("u32", false),
        };
        // A number as a key, and back. Smaller is larger of what is turned; NaN stays above all.
        let (key, value) = match (self.meeting, output.dtype) {
            (Meeting::Max, _) if is_float => ("key_of(x)", "value_of(cell)"),
            (Meeting::Min, _) if is_float => ("key_of(-x)", "-value_of(cell)"),
            (Meeting::Max, DType::I32) => ("bitcast<u32>(x) ^ 0x80000000u", "bitcast<i32>(cell ^ 0x80000000u)"),
            (Meeting::Min, DType::I32) => ("bitcast<u32>(x) ^ 0x7fffffffu", "bitcast<i32>(cell ^ 0x7fffffffu)"),
            (Meeting::Min, _) => ("~x", "~cell"),
            (Meeting::Last, _) => ("x", "cell - 1u"),
            (_, DType::I32) => ("bitcast<u32>(x)", "bitcast<i32>(cell)"),
            _ => ("x", "cell"),
        };
        let (key, value) = (marked(key), marked(value));
        let key = Item::new("key", format!("fn $key$(x: {element}) -> u32 {{\n    return {key};\n}}\n"));
        let kernel = |name: &'static str, shader: Shader, invocations: usize| {
            let shader = if is_float { shader.file(&KEYS) } else { shader };
            let mut kernel = Kernel::own(name, each(shader));
            kernel.workgroups = (invocations as u64).div_ceil(64);
            kernel
        };
        let has_source = self.meeting != Meeting::Last;
        let first = if has_source { "$key$($before$[i])" } else { "0u" };
        let first = Item::new("first", format!("fn $first$(i: u32) -> u32 {{\n    return {first};\n}}\n"));
        let mut start = kernel("scatter.start", Shader::of(&[&START]).item(key.clone()).item(first), elements);
        if has_source {
            start.bind(Binding::input(1), "before", element);
        }
        start.bind(Binding::write(0), "cells", "u32");
        start.uniform(Cells { elements });
        let coming = if has_source { "$key$($source$[i])" } else { "i + 1u" };
        let way = if self.meeting == Meeting::Sum { "atomicAdd" } else { "atomicMax" };
        let meet = format!("fn $meet$(at: u32, i: u32) {{\n    {way}(&$cells$[at], {coming});\n}}\n");
        let shader = Shader::of(&[&MEET]).item(key).item(Item::new("meet", meet));
        let mut meet = kernel("scatter.meet", shader, count);
        meet.bind(Binding::input(0), "index", "u32");
        if has_source {
            meet.bind(Binding::input(2), "source", element);
        }
        meet.bind(Binding::write(0), "cells", "atomic<u32>");
        let (strides, index) = (output.shape.strides(), inputs[0].shape);
        let mut axes = [[1, 0, 0, 0]; MAX_RANK];
        for (words, axis) in axes.iter_mut().zip((0..index.rank()).rev()) {
            *words = [index[axis] as u32, if axis == self.axis { 0 } else { strides[axis] as u32 }, 0, 0];
        }
        let (length, stride) = (output.shape[self.axis], strides[self.axis]);
        meet.uniform(Comers { count, length, stride, axes });
        meet.iterations = MAX_RANK as u64;
        let value = format!("fn $value$(cell: u32) -> {element} {{\n    return {value};\n}}\n");
        let shader = Shader::of(&[&FINISH]).item(Item::new("value", value));
        let mut finish = kernel("scatter.finish", shader, elements);
        finish.bind(Binding::read(0), "cells", "u32");
        finish.bind(Binding::output(), "result", if is_float { "$OUT$" } else { element });
        finish.uniform(Cells { elements });
        finish.epilogue = true;
        Lowering::Kernels { kernels: vec![start, meet, finish], temporaries: vec![elements] }
    }

    fn cases() -> Vec<Case> {
        cases()
    }
}

/// With marks around the functions that it calls.
fn marked(text: &str) -> String {
    ["key_of", "value_of"].iter().fold(text.to_string(), |text, name| text.replace(name, &format!("${name}$")))
}

/// Of all that the methods are made of.
fn cases() -> Vec<Case> {
    let exact = |case: Case| case.tolerance(Tolerance::Exact);
    let with_index = |name: &str, cells: &[usize], index: &[usize], build: fn(&[Tensor]) -> Tensor| {
        let case = Case::new(name, build).normal(cells).input(index, DType::U32, Draw::Below(cells[0] as u32));
        case.input(index, DType::F32, Draw::Distinct)
    };
    let whole = |name: &str, dtype: DType, draw: Draw, build: fn(&[Tensor]) -> Tensor| {
        let case = Case::new(name, build).input(&[7, 5], dtype, draw.clone());
        exact(case.input(&[131, 3], DType::I32, Draw::Below(7)).input(&[131, 3], dtype, draw)).not_differentiable()
    };
    fn reduced(x: &[Tensor], reduction: ScatterReduction, with_self: bool) -> Tensor {
        x[0].scatter_reduce(0, &x[1], &x[2], reduction, with_self)
    }
    let sum = |terms| Tolerance::Sum { terms };
    let odd = Draw::Values(&[1.0, f64::NAN, -2.0, f64::INFINITY, 0.5, -0.5, f64::NEG_INFINITY, 3.0, 1.0]);
    let near = Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 };
    vec![
        exact(with_index("last", &[37, 5], &[131, 3], |x| x[0].scatter(0, &x[1], &x[2]))),
        exact(with_index("value", &[37, 5], &[11, 5], |x| x[0].scatter_value(0, &x[1], 2.5))),
        exact(Case::new("last_middle", |x| x[0].scatter(1, &x[1].plus(-1), &x[2].transpose(0, 2))))
            .normal(&[3, 7, 5])
            .input(&[2, 9, 4], DType::I32, Draw::Below(9))
            .normal(&[5, 11, 2]),
        with_index("add", &[37, 5], &[131, 3], |x| x[0].scatter_add(0, &x[1], &x[2])).tolerance(sum(131)),
        with_index("max", &[7, 5], &[131, 3], |x| reduced(x, ScatterReduction::Max, true)).tolerance(near),
        with_index("min", &[37, 5], &[31, 3], |x| reduced(x, ScatterReduction::Min, false)).tolerance(near),
        with_index("mean", &[37, 5], &[131, 3], |x| reduced(x, ScatterReduction::Mean, false)).tolerance(sum(131)),
        with_index("product", &[37, 5], &[31, 3], |x| {
            x[0].scatter_reduce(0, &x[1], &x[2].tanh(), ScatterReduction::Product, true)
        })
        .tolerance(near),
        whole("max_odd", DType::F32, odd.clone(), |x| reduced(x, ScatterReduction::Max, true)),
        whole("min_odd", DType::F32, odd, |x| reduced(x, ScatterReduction::Min, true)),
        whole("sum_i32", DType::I32, Draw::Uniform(-2e9, 2e9), |x| reduced(x, ScatterReduction::Sum, true)),
        whole("max_i32", DType::I32, Draw::Uniform(-2e9, 2e9), |x| reduced(x, ScatterReduction::Max, false)),
        whole("min_u32", DType::U32, Draw::Below(u32::MAX), |x| reduced(x, ScatterReduction::Min, true)),
        exact(Case::new("copy", |x| x[0].index_copy(1, &x[1], &x[2]).tanh().tanh()))
            .normal(&[3, 37, 5])
            .input(&[11], DType::U32, Draw::Below(37))
            .normal(&[3, 11, 5])
            .tolerance(near),
        exact(Case::new("fill", |x| x[0].index_fill(0, &x[1], -1.0)).normal(&[37, 5])).input(
            &[11],
            DType::U32,
            Draw::Below(37),
        ),
        Case::new("index_add", |x| x[0].index_add(1, &x[1], &x[2]))
            .normal(&[3, 37, 5])
            .input(&[131], DType::I32, Draw::Below(37))
            .normal(&[3, 131, 5])
            .tolerance(sum(131)),
        exact(Case::new("index_add_u32", |x| x[0].index_add(1, &x[1], &x[2])))
            .input(&[3, 7], DType::U32, Draw::Below(u32::MAX))
            .input(&[131], DType::I32, Draw::Below(7))
            .input(&[3, 131], DType::U32, Draw::Below(u32::MAX))
            .not_differentiable(),
        exact(Case::new("bincount", |x| x[0].bincount(5)))
            .input(&[37, 5], DType::I32, Draw::Below(7))
            .not_differentiable(),
        Case::new("bincount_weighted", |x| x[0].bincount_weighted(5, &x[1]))
            .input(&[37, 5], DType::U32, Draw::Below(7))
            .normal(&[37, 5])
            .tolerance(sum(185)),
    ]
}
