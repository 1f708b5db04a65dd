//! Elements put at places of a larger plane, zeros around them: the inverse of a max pooling.
//!
//! Each place is taken by the last element that names it, in row-major order, whatever runs first: the elements' numbers meet in
//! a maximum of integers. No float is added.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::product::Product;
use crate::ops::shared::each;
use crate::shader::{Shader, params};
use crate::shaders::unpool::{CLEAR, FILL, MARK};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// `[planes, elements]` at the places of input 1, u32 or i32 of the same shape, in planes of `area` elements.
#[derive(Debug, Clone, Copy)]
pub struct Unpool {
    /// Elements of a plane of the result.
    pub area: usize,
}

impl Tensor {
    /// Elements of `[batch, channels, ..]` at the places `indices`, of the same shape, in zeros of `size`, as
    /// `torch.nn.functional.max_unpool1d` to `3d`: [`Tensor::max_pool_with_indices`] gives such places. Where several name
    /// one place, the last in row-major order takes it. The gradient of each element is that at its place, as in PyTorch.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have as many axes behind the channels as `size`,
    /// [`crate::Error::DType`] unless this is a float and the places u32 or i32, [`crate::Error::Value`] if an uploaded
    /// place is beyond `size`. A place that the device computes and that is beyond it is left out.
    #[track_caller]
    pub fn max_unpool<const D: usize>(&self, indices: &Tensor, size: [usize; D]) -> Tensor {
        const OP: &str = "max_unpool";
        if let Some(broken) = [self, indices].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let dims = *self.dims();
        if dims.rank() != D + 2 || dims != *indices.dims() {
            let what = format!("elements of shape {dims}, places of shape {} and a size of {size:?}", indices.dims());
            return self
                .problem(OP, Problem::Shape(what, "pass [batch, channels, ..] twice, with a size for each axis"));
        }
        let shape = [&dims[..2], &size[..]].concat();
        let Some(shape) = Shape::new(&shape).filter(|shape| shape.elements() > 0) else {
            let what = format!("the result, {shape:?}, is too large or empty");
            return self.problem(OP, Problem::Shape(what, "use from 1 to 2^32 - 1 elements"));
        };
        let area: usize = size.iter().product();
        if let Some((least, most)) = indices.known_range().filter(|&(least, most)| least < 0 || most >= area as i64) {
            let what = format!("places from {least} to {most} in planes of {area} elements");
            return self.problem(OP, Problem::Value(what, "places count from 0 within a plane"));
        }
        let rows = [dims[0] * dims[1], dims.iter().skip(2).product()];
        Tensor::apply(Unpool { area }, &[&self.reshape(&rows), &indices.reshape(&rows)]).reshape(&shape)
    }
}

params! {
    struct Sizes {
        /// Elements with work.
        elements,
        /// Elements of a plane that is read.
        count,
        /// Of one that is written.
        area,
    }
}

impl Op for Unpool {
    fn name(&self) -> &'static str {
        "unpool"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.area as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if !dtype.is_float() || !inputs[1].dtype.is_integer() {
            let what = format!("it takes floats and integers, not {dtype} and {}", inputs[1].dtype);
            return Err(Problem::DType(what));
        }
        let result = match *shape {
            [planes, _] if inputs[1].shape == shape => Shape::new(&[planes, self.area]),
            _ => None,
        };
        let what = || format!("elements of shape {shape} at places of shape {}", inputs[1].shape);
        let shape = result.ok_or_else(|| Problem::Shape(what(), "pass two matrices of one shape"))?;
        Ok(vec![Meta { shape, dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let places = &backward.inputs[1];
        let bound = |value: usize| places.device().fixed(&[], places.meta().dtype, value as f64);
        let inside = places.ge(&bound(0)).logical_and(&places.lt(&bound(self.area)));
        let picked = backward.grad.gather(1, places);
        vec![Some(inside.where_(&picked, &picked.scalar(0.0))), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        let count = inputs[0].shape[1];
        for (at, &place) in inputs[1].data.iter().enumerate() {
            if place >= 0.0 && place < self.area as f64 {
                result.data[at / count * self.area + place as usize] = inputs[0].data[at];
            }
        }
        vec![result]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let count = inputs[0].shape[1];
        let kernel = |name: &'static str, shader: Shader, elements: usize| {
            let mut kernel = Kernel::own(name, each(shader));
            kernel.uniform(Sizes { elements, count, area: self.area });
            kernel.workgroups = (elements as u64).div_ceil(64);
            kernel
        };
        let mut clear = kernel("unpool.clear", Shader::of(&[&CLEAR]), output.elements());
        clear.bind(Binding::write(0), "takers", "u32");
        let mut mark = kernel("unpool.mark", Shader::of(&[&MARK]), inputs[0].elements());
        mark.bind(Binding::input(1), "places", "u32");
        mark.bind(Binding::write(0), "takers", "atomic<u32>");
        let types = Product::FULL.types(&inputs[..1], capabilities);
        let mut fill = kernel("unpool.fill", types.file(&FILL), output.elements());
        fill.bind(Binding::input(0), "x", "$A_TYPE$");
        fill.bind(Binding::read(0), "takers", "u32");
        fill.bind(Binding::output(), "y", "$OUT$");
        fill.epilogue = true;
        Lowering::Kernels { kernels: vec![clear, mark, fill], temporaries: vec![output.elements()] }
    }

    fn cases() -> Vec<Case> {
        let places = |case: Case, shape: &[usize], below| case.input(shape, DType::U32, Draw::Below(below));
        let pooled = |x: &[Tensor]| {
            let (values, indices) = x[0].max_pool2d_with_indices([2, 2], [2, 2], [0, 0]);
            values.relu().max_unpool(&indices, [7, 9])
        };
        let plain = |x: &[Tensor]| x[0].max_unpool(&x[1], [131]);
        vec![
            Case::new("pooled", pooled).input(&[2, 3, 7, 9], DType::F32, Draw::Distinct).tolerance(Tolerance::Exact),
            // Several name one place.
            places(Case::new("repeated", plain).normal(&[2, 3, 67]), &[2, 3, 67], 131)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("computed", |x| x[0].max_unpool(&x[1].plus(-2), [5]))
                .normal(&[2, 3, 37])
                .input(&[2, 3, 37], DType::I32, Draw::Below(11))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            places(Case::new("half", plain).input(&[1, 2, 37], DType::F16, Draw::Normal), &[1, 2, 37], 131)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        ]
    }
}
