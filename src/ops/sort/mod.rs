//! Sorting along an axis, with where each element stood; stable, so equal elements keep their order and the result is one.
//!
//! Short rows are sorted in workgroup memory, longer ones by the digits of keys whose order is that of the elements
//! (`ops/radix.rs`), in time linear in their length.

mod backward;
mod select;

pub use backward::SortBackward;
pub use select::Interpolation;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::radix::{Radix, temporary};
use crate::ops::rows::Rows;
use crate::ops::shared::{check_axis, each, team};
use crate::shader::{File, params};
use crate::shaders::sort::{BLOCK, KEY, KEY_F32, KEY_I32, KEY_U32, KEYS, RESULTS, ROW};
use crate::shape::Axis;
use crate::tensor::Tensor;

/// The elements along an axis in order, and where each stood: two results.
#[derive(Debug)]
pub struct Sort {
    /// The axis.
    pub axis: usize,
    /// True for the largest first.
    pub descending: bool,
}

impl Tensor {
    /// The elements along `axis` in ascending order, or descending: same shape and dtype, as the values of `torch.sort` with
    /// `stable=True`. NaN counts as largest. The gradient goes back where each element stood.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank.
    #[track_caller]
    pub fn sort(&self, axis: impl Into<Axis>, descending: bool) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        self.sort_with_indices(axis, descending).0
    }

    /// Where the elements of [`Tensor::sort`] stand along `axis`, u32: the indices of `torch.sort` with `stable=True`, as
    /// `torch.argsort`. Equal elements, NaNs too, keep their order.
    ///
    /// # Errors
    /// As [`Tensor::sort`].
    #[track_caller]
    pub fn argsort(&self, axis: impl Into<Axis>, descending: bool) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        self.sort_with_indices(axis, descending).1
    }

    /// [`Tensor::sort`] and [`Tensor::argsort`] at once, as `torch.sort`.
    ///
    /// # Errors
    /// As [`Tensor::sort`].
    #[track_caller]
    pub fn sort_with_indices(&self, axis: impl Into<Axis>, descending: bool) -> (Tensor, Tensor) {
        let axis = axis.into().of(self.dims().rank());
        let dtype = self.meta().dtype;
        let comparable = match dtype {
            _ if self.error().is_some() => self.clone(),
            DType::F16 => self.cast(DType::F32),
            DType::Bool => self.cast(DType::U32),
            DType::F32 | DType::I32 | DType::U32 => self.clone(),
        };
        let [values, indices] = Tensor::apply_many(Sort { axis, descending }, &[&comparable]);
        match values.error() {
            Some(_) => (values, indices),
            None => (values.cast(dtype), indices),
        }
    }
}

/// Longest row that a workgroup sorts.
const SHORT: usize = 1024;
/// Elements that a workgroup takes at least.
const HELD: usize = 256;
/// Lanes of a workgroup.
const LANES: u32 = 64;

params! {
    struct Sizes {
        rows,
        length,
        stride,
    }
}

impl Sizes {
    fn of(rows: &Rows) -> Sizes {
        Sizes { rows: rows.rows, length: rows.length, stride: rows.stride }
    }
}

/// The order of two elements: NaN is the largest, and the same as NaN.
fn compare(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Op for Sort {
    fn name(&self) -> &'static str {
        "sort"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, u64::from(self.descending)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check_axis(self.axis, inputs[0].shape.rank())?;
        if !matches!(inputs[0].dtype, DType::F32 | DType::I32 | DType::U32) {
            return Err(Problem::DType(format!("it takes f32, i32 and u32, not {}", inputs[0].dtype)));
        }
        Ok(vec![inputs[0], Meta { dtype: DType::U32, ..inputs[0] }])
    }

    /// Back where the elements stood.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let back = |grad: &Tensor| Tensor::apply(SortBackward { axis: self.axis }, &[&backward.outputs[1], grad]);
        vec![backward.grads[0].as_ref().map(back)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let mut values = inputs[0].clone();
        let mut indices = Array { dtype: DType::U32, ..inputs[0].clone() };
        for row in 0..rows.rows {
            let places: Vec<usize> = rows.positions(row).collect();
            let value = |j: &usize| inputs[0].data[places[*j]];
            let mut order: Vec<usize> = (0..rows.length).collect();
            match self.descending {
                true => order.sort_by(|a, b| compare(value(b), value(a))),
                false => order.sort_by(|a, b| compare(value(a), value(b))),
            }
            for (&at, from) in places.iter().zip(order) {
                values.data[at] = value(&from);
                indices.data[at] = from as f64;
            }
        }
        vec![values, indices]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        let rows = Rows::along(&inputs[0].shape, self.axis);
        let (element, key): (_, &'static File) = match inputs[0].dtype {
            DType::F32 | DType::F16 => ("f32", &KEY_F32),
            DType::I32 => ("i32", &KEY_I32),
            DType::U32 | DType::Bool => ("u32", &KEY_U32),
        };
        let keyed = |file: &'static File| {
            let shader = Shader::of(&[&ROW, &KEY, key, file]).alias("T", element);
            shader.constant("DESCENDING", self.descending)
        };
        let kernel = |name: &'static str, shader: Shader, workgroups: usize| {
            let mut kernel = Kernel::own(name, shader);
            kernel.bind(Binding::input(0), "input", element);
            kernel.uniform(Sizes::of(&rows));
            kernel.workgroups = workgroups as u64;
            kernel
        };
        if rows.length <= SHORT {
            let size = rows.length.next_power_of_two();
            let held = size.max(HELD);
            let shader = keyed(&BLOCK).constant("SIZE", size).constant("HELD", held);
            let mut block = kernel("sort.block", team(shader, LANES), (rows.rows * size).div_ceil(held));
            block.results = vec![0, 1];
            let steps = u64::from(size.trailing_zeros()) + 1;
            block.iterations = held as u64 / u64::from(LANES) * (steps * steps + 2);
            return Lowering::kernel(block);
        }
        let groups = (rows.rows * rows.length).div_ceil(64);
        let mut temporaries = vec![];
        let keys = temporary(&mut temporaries, rows.rows * rows.length);
        let mut first = kernel("sort.keys", each(keyed(&KEYS)), groups);
        first.bind(Binding::write(keys), "keys", "u32");
        let radix = Radix { rows: rows.rows, length: rows.length, bits: 32 };
        let sorted = radix.sort(keys, &mut temporaries);
        let mut last = kernel("sort.results", each(Shader::of(&[&ROW, &RESULTS])), groups);
        last.bind(Binding::read(sorted.pairs), "sorted", "vec2<u32>");
        last.results = vec![0, 1];
        let mut kernels = vec![first];
        kernels.extend(sorted.kernels);
        kernels.push(last);
        Lowering::Kernels { kernels, temporaries }
    }

    fn cases() -> Vec<Case> {
        let sort = |axis: usize, descending: bool| move |x: &[Tensor]| x[0].sort(axis, descending);
        let exact = |case: Case| case.tolerance(Tolerance::Exact);
        let distinct = |name: &str, shape: &[usize], axis: usize, descending: bool| {
            exact(Case::new(name, sort(axis, descending)).input(shape, DType::F32, Draw::Distinct))
        };
        let of = |name: &str, shape: &[usize], dtype: DType, draw: Draw, descending: bool| {
            exact(Case::new(name, sort(shape.len() - 1, descending)).input(shape, dtype, draw)).not_differentiable()
        };
        // Ties, both zeros, what is not finite.
        let odd = || Draw::Values(&[1.0, -0.0, f64::NAN, -3.0, 0.0, f64::INFINITY, 1.0, f64::NEG_INFINITY, 1e-40, 2.0]);
        vec![
            distinct("last", &[37, 131], 1, false),
            distinct("first", &[131, 3], 0, true),
            distinct("middle", &[3, 37, 5], 1, false),
            distinct("one", &[1], 0, false),
            distinct("of_one", &[5, 1], 1, true),
            distinct("long", &[2, 2053], 1, true),
            distinct("long_side_by_side", &[1031, 3], 0, false),
            of("odd", &[3, 37], DType::F32, odd(), false),
            of("odd_descending", &[3, 37], DType::F32, odd(), true),
            of("odd_long", &[1031], DType::F32, odd(), true),
            of("i32", &[5, 131], DType::I32, Draw::Uniform(-2e9, 2e9), false),
            of("u32_long", &[2, 1500], DType::U32, Draw::Below(u32::MAX), false),
            of("few", &[2, 1500], DType::U32, Draw::Below(3), true),
            of("f16", &[3, 37], DType::F16, Draw::Normal, false),
            of("bool", &[3, 37], DType::Bool, Draw::Below(2), true),
            Case::new("between", |x| (x[0].scale(0.5).transpose(0, 1).sort(1, false) * &x[1]).tanh())
                .input(&[37, 5], DType::F32, Draw::Distinct)
                .normal(&[37]),
            Case::new("topk", |x| x[0].topk(5, 1, true).0.tanh()).input(&[3, 37], DType::F32, Draw::Distinct),
            exact(Case::new("median", |x| x[0].median(0)).input(&[38, 3], DType::F32, Draw::Distinct)),
            exact(Case::new("median_i32", |x| x[0].median(1)).input(&[3, 5], DType::I32, Draw::Below(99)))
                .not_differentiable(),
            Case::new("quantile", |x| x[0].quantile(0.3, 1, Interpolation::Linear)).input(
                &[3, 37],
                DType::F32,
                Draw::Distinct,
            ),
            exact(Case::new("quantile_odd", |x| x[0].quantile(0.5, 1, Interpolation::Lower)))
                .input(&[3, 37], DType::F32, odd())
                .not_differentiable(),
            exact(Case::new("indices", |x| x[0].argsort(1, true)).input(&[5, 37], DType::F32, Draw::Distinct))
                .not_differentiable(),
        ]
    }
}
