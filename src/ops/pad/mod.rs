//! Padding with a constant, and its relatives: a slice's gradient put back where it came from, and the sum of those of many slices.

mod parts;
mod place;

pub use parts::PlaceSum;
pub use place::Place;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::each;
use crate::shader::{Item, params};
use crate::shaders::pad::PAD;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Elements of `value` before and after each axis.
#[derive(Debug)]
pub struct Pad {
    /// (before, after) for each axis.
    pub pairs: Vec<(usize, usize)>,
    /// What the new elements hold.
    pub value: f64,
}

impl Tensor {
    /// `value` put around: (before, after) elements for each axis, as `torch.nn.functional.pad` in constant mode. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there is a pair for each axis, [`crate::Error::DType`] if the dtype does not
    /// hold the value.
    #[track_caller]
    pub fn pad(&self, pairs: &[(usize, usize)], value: f64) -> Tensor {
        let dtype = self.meta().dtype;
        // A host number beside a tensor, as any other.
        match dtype.hold(value) {
            Some(value) => Tensor::apply(Pad { pairs: pairs.to_vec(), value }, &[&self.widen()]).of_dtype(self),
            None => self.problem("pad", Problem::number(dtype, value)),
        }
    }

    /// In the dtype of `input`, from which it was widened.
    fn of_dtype(self, input: &Tensor) -> Tensor {
        if self.error().is_some() { self } else { self.cast(input.meta().dtype) }
    }
}

params! {
    struct Sizes {
        elements,
        /// Bits of the value.
        value: u32,
        /// The axis, counted from the innermost, that the start moves along; 8 for none.
        dynamic,
        /// (length, input length, input stride, before) of each axis, innermost first.
        axes: [[u32; 4]; MAX_RANK],
    }
}

/// Type of an element in a shader, and bits of a value.
fn element(dtype: DType, value: f64) -> (&'static str, u32) {
    match dtype {
        DType::F32 | DType::F16 => ("f32", (value as f32).to_bits()),
        DType::I32 => ("i32", value as i32 as u32),
        DType::U32 | DType::Bool => ("u32", value as u32),
    }
}

fn kernel(name: &'static str, from: &Shape, to: &Meta, before: &[usize], value: f64, dynamic: Option<usize>) -> Kernel {
    let strides = from.strides();
    let (element, value) = element(to.dtype, value);
    // The hook takes no bools.
    let epilogue = to.dtype != DType::Bool;
    let to = to.shape;
    let mut axes = [[1, 1, 0, 0]; MAX_RANK];
    for (words, axis) in axes.iter_mut().zip((0..to.rank()).rev()) {
        *words = [to[axis], from[axis], strides[axis], before[axis]].map(|x| x as u32);
    }
    let moved = match dynamic {
        Some(_) => "fn $moved$() -> u32 {\n    return $start$[0];\n}\n",
        None => "fn $moved$() -> u32 {\n    return 0u;\n}\n",
    };
    let held = if epilogue { "$epilogue$(value, at)" } else { "value" };
    let store = format!("fn $store$(at: u32, value: $V$) {{\n    $result$[at] = {held};\n}}\n");
    let shader = each(Shader::of(&[&PAD])).alias("V", element);
    let mut kernel = Kernel::own(name, shader.item(Item::new("moved", moved)).item(Item::new("store", store)));
    kernel.bind(Binding::input(0), "input", element);
    if dynamic.is_some() {
        kernel.bind(Binding::input(1), "start", "u32");
    }
    kernel.bind(Binding::output(), "result", "$V$");
    let dynamic = dynamic.map_or(MAX_RANK, |axis| to.rank() - 1 - axis);
    kernel.uniform(Sizes { elements: to.elements(), value, dynamic, axes });
    kernel.workgroups = (to.elements() as u64).div_ceil(64);
    kernel.iterations = 8;
    kernel.epilogue = epilogue;
    kernel
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.value.to_bits());
        words.extend(self.pairs.iter().flat_map(|&(before, after)| [before as u64, after as u64]));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if self.pairs.len() != shape.rank() {
            let what = format!("{} pairs for the {} axes of shape {shape}", self.pairs.len(), shape.rank());
            return Err(Problem::Shape(what, "pass (before, after) for each axis"));
        }
        if dtype == DType::F16 {
            return Err(Problem::DType("it takes f32, not f16".into()));
        }
        let dims: Vec<usize> =
            shape.iter().zip(&self.pairs).map(|(&n, &(b, a))| n.saturating_add(b).saturating_add(a)).collect();
        let shape = Shape::new(&dims);
        shape.map(|shape| vec![Meta { shape, dtype }]).ok_or_else(|| {
            Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements")
        })
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let input = backward.inputs[0].dims();
        let mut gradient = backward.grad.clone();
        for (axis, &(before, after)) in self.pairs.iter().enumerate() {
            if before + after > 0 {
                gradient = gradient.slice_fixed(axis, before, input[axis]);
            }
        }
        vec![Some(gradient)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![place(inputs[0], output, |axis| self.pairs[axis].0, self.value)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let before: Vec<usize> = self.pairs.iter().map(|pair| pair.0).collect();
        Lowering::kernel(kernel("pad", &inputs[0].shape, output, &before, self.value, None))
    }

    fn cases() -> Vec<Case> {
        let exact = |case: Case| case.tolerance(Tolerance::Exact);
        let of = |name: &str, dtype: DType, draw: Draw, build: fn(&[Tensor]) -> Tensor| {
            exact(Case::new(name, build).input(&[5, 7], dtype, draw)).not_differentiable()
        };
        vec![
            exact(Case::new("zeros", |x| x[0].pad(&[(0, 0), (1, 2), (3, 0)], 0.0)).normal(&[3, 5, 37])),
            exact(Case::new("value", |x| x[0].pad(&[(2, 1)], -1.5)).normal(&[131])),
            of("i32", DType::I32, Draw::Uniform(-2e9, 2e9), |x| x[0].pad(&[(2, 1), (0, 3)], -7.0)),
            of("u32", DType::U32, Draw::Below(u32::MAX), |x| x[0].pad(&[(2, 1), (0, 3)], 4e9)),
            of("bool", DType::Bool, Draw::Below(2), |x| x[0].pad(&[(2, 1), (0, 3)], 1.0)),
            of("f16", DType::F16, Draw::Normal, |x| x[0].pad(&[(2, 1), (0, 3)], 0.1)),
        ]
    }
}

/// An array in a larger one.
fn place(input: &Array, output: &Meta, before: impl Fn(usize) -> usize + Sync, value: f64) -> Array {
    let rank = output.shape.rank();
    let strides = input.shape.strides();
    Array::build(output.shape, output.dtype, |linear| {
        let mut index = [0; MAX_RANK];
        Array::unravel(&output.shape, linear, &mut index[..rank]);
        let mut at = 0;
        for axis in 0..rank {
            match index[axis].checked_sub(before(axis)) {
                Some(i) if i < input.shape[axis] => at += i * strides[axis],
                _ => return value,
            }
        }
        input.data[at]
    })
}
