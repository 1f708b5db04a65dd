//! Tensors joined along an axis.

use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::{check_axis, each};
use crate::shader::{Item, params};
use crate::shaders;
use crate::shape::{Axis, MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Most inputs that one dispatch reads; the uniform holds a bound for each.
const MOST: usize = 8;

/// All inputs one after another along `axis`.
#[derive(Debug)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl Tensor {
    /// `tensors` one after another along `axis`, as `torch.cat`. All have one dtype and, but for `axis`, one shape.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] for an empty list, [`crate::Error::Axis`], [`crate::Error::Shape`] or
    /// [`crate::Error::DType`] where the tensors do not fit.
    #[track_caller]
    pub fn concat(tensors: &[&Tensor], axis: impl Into<Axis>) -> Tensor {
        let rank = tensors.iter().find(|tensor| tensor.error().is_none()).map_or(0, |tensor| tensor.dims().rank());
        let axis = axis.into().of(rank);
        match tensors {
            [] => empty("concat"),
            [only] if only.error().is_some() || axis < only.dims().rank() => (*only).clone(),
            _ => {
                // Half precision by way of f32; a list of mixed dtypes is left as it is, for the error to name them.
                let half = tensors.iter().all(|tensor| tensor.meta().dtype == DType::F16);
                if !half {
                    return Tensor::apply(Concat { axis }, tensors);
                }
                let wide: Vec<Tensor> = tensors.iter().map(|tensor| tensor.widen()).collect();
                Tensor::apply(Concat { axis }, &wide.iter().collect::<Vec<_>>()).cast(DType::F16)
            }
        }
    }

    /// `tensors`, all of one shape and dtype, along a new axis, `axis` of the result, as `torch.stack`.
    ///
    /// # Errors
    /// As [`Tensor::concat`].
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: impl Into<Axis>) -> Tensor {
        let Some(first) = tensors.first() else { return empty("stack") };
        if let Some(other) = tensors.iter().find(|tensor| tensor.error().is_none() && tensor.dims() != first.dims())
            && first.error().is_none()
        {
            let what = format!("shapes {} and {} differ", first.dims(), other.dims());
            return first.problem("stack", Problem::Shape(what, "stack tensors of one shape"));
        }
        let axis = axis.into();
        let mut wide = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            wide.push(tensor.unsqueeze(axis));
        }
        Tensor::concat(&wide.iter().collect::<Vec<_>>(), axis)
    }
}

/// There is no tensor whose device the error could live on.
#[track_caller]
fn empty(op: &'static str) -> Tensor {
    let at = std::panic::Location::caller();
    let problem = Problem::Value("the list of tensors is empty".into(), "pass at least one tensor");
    Tensor::invalid(&Device::cpu(), problem.at(op, at), at)
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        check_axis(self.axis, shape.rank())?;
        let mut dims = shape.to_vec();
        for input in &inputs[1..] {
            let same = |axis: usize| axis == self.axis || input.shape[axis] == shape[axis];
            if input.shape.rank() != shape.rank() || !(0..shape.rank()).all(same) {
                let what = format!("shapes {shape} and {} differ beside axis {}", input.shape, self.axis);
                return Err(Problem::Shape(what, "tensors may differ in length on the axis they are joined on alone"));
            }
            if input.dtype != dtype {
                return Err(Problem::DType(format!("dtypes {dtype} and {} do not mix", input.dtype)));
            }
            dims[self.axis] = dims[self.axis].saturating_add(input.shape[self.axis]);
        }
        let shape = Shape::new(&dims);
        shape.map(|shape| vec![Meta { shape, dtype }]).ok_or_else(|| {
            Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements")
        })
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let mut start = 0;
        let mut slice = |(input, &needed): (&Tensor, &bool)| {
            let length = input.dims()[self.axis];
            start += length;
            needed.then(|| backward.grad.slice_fixed(self.axis, start - length, length))
        };
        backward.inputs.iter().zip(backward.needs).map(&mut slice).collect()
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rank = output.shape.rank();
        vec![Array::build(output.shape, output.dtype, |linear| {
            let mut at = [0; MAX_RANK];
            Array::unravel(&output.shape, linear, &mut at[..rank]);
            let mut k = 0;
            while at[self.axis] >= inputs[k].shape[self.axis] {
                at[self.axis] -= inputs[k].shape[self.axis];
                k += 1;
            }
            let strides = inputs[k].shape.strides();
            inputs[k].data[(0..rank).map(|axis| at[axis] * strides[axis]).sum::<usize>()]
        })]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        // Each dispatch reads as many inputs as it may bind, and writes their part of the result.
        let most = capabilities.storage_buffers.saturating_sub(1).clamp(1, MOST);
        let inner: usize = output.shape[self.axis + 1..].iter().product();
        let outer: usize = output.shape[..self.axis].iter().product();
        let total = output.shape[self.axis] * inner;
        // The hook takes no bools, and must see every element in one dispatch.
        let epilogue = output.dtype != DType::Bool && inputs.len() <= most;
        let mut kernels = vec![];
        let mut start = 0;
        for (group, metas) in inputs.chunks(most).enumerate() {
            let lengths: Vec<usize> = metas.iter().map(|meta| meta.shape[self.axis] * inner).collect();
            let span: usize = lengths.iter().sum();
            // Elements in fours where none of them crosses a bound.
            let width = if lengths.iter().all(|length| length.is_multiple_of(4)) { 4 } else { 1 };
            let mut kernel = Kernel::own("concat", shader(output.dtype, metas.len(), epilogue, width));
            let element = element(output.dtype);
            for (k, name) in NAMES.into_iter().enumerate().take(metas.len()) {
                let unit = if width == 4 { format!("vec4<{element}>") } else { element.to_string() };
                kernel.bind(Binding::input(group * most + k), name, unit);
            }
            kernel.bind(Binding::output(), "result", element);
            let mut units = [[0; 4]; MOST / 4];
            for (k, length) in lengths.iter().enumerate() {
                units[k / 4][k % 4] = (length / width) as u32;
            }
            let (span_units, all) = (span / width, outer * span / width);
            kernel.uniform(Sizes { units: all, span: span_units, start, total, lengths: units });
            kernel.workgroups = ((outer * span / width) as u64).div_ceil(64);
            kernel.epilogue = epilogue;
            kernels.push(kernel);
            start += span;
        }
        Lowering::Kernels { kernels, temporaries: vec![] }
    }

    fn cases() -> Vec<Case> {
        let join = |axis: usize| move |x: &[Tensor]| Tensor::concat(&x.iter().collect::<Vec<_>>(), axis);
        let exact = |case: Case| case.tolerance(Tolerance::Exact);
        let many = (0..19).fold(Case::new("many", join(1)), |case, k| case.normal(&[5, 1 + k % 3, 2]));
        let integers = Case::new("i32", join(0)).input(&[5, 3], DType::I32, Draw::Below(99));
        let flags = Case::new("bool", join(1)).input(&[5, 3], DType::Bool, Draw::Below(2));
        // One input twice, and a reader of the whole behind it.
        let twice = Case::new("twice", |x| Tensor::concat(&[&x[0], &x[1], &x[0]], 0).tanh());
        let halves =
            Case::new("f16", join(0)).input(&[3], DType::F16, Draw::Normal).input(&[5], DType::F16, Draw::Normal);
        vec![
            exact(Case::new("first", join(0)).normal(&[3, 5]).normal(&[1, 5]).normal(&[2, 5])),
            exact(Case::new("middle", join(1)).normal(&[3, 7, 5]).normal(&[3, 4, 5])),
            exact(Case::new("last", join(2)).normal(&[3, 5, 1]).normal(&[3, 5, 4]).normal(&[3, 5, 2])),
            exact(Case::new("stack", |x| Tensor::stack(&[&x[0], &x[1]], 1)).normal(&[7, 5]).normal(&[7, 5])),
            exact(many),
            exact(Case::new("fours", join(1)).normal(&[3, 2, 6]).normal(&[3, 4, 6]).normal(&[3, 2, 6])),
            exact(Case::new("fours_last", join(1)).normal(&[5, 12]).normal(&[5, 4])),
            exact(integers.input(&[2, 3], DType::I32, Draw::Below(99))).not_differentiable(),
            exact(flags.input(&[5, 4], DType::Bool, Draw::Below(2))).not_differentiable(),
            exact(halves).not_differentiable(),
            twice
                .normal(&[3, 5])
                .normal(&[2, 5])
                .gradient_tolerance(Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 }),
        ]
    }
}

params! {
    struct Sizes {
        units,
        /// Units.
        span,
        /// Elements.
        start,
        total,
        /// Units of a row of each input.
        lengths: [[u32; 4]; MOST / 4],
    }
}

/// Names of the inputs' bindings.
const NAMES: [&str; MOST] = ["in0", "in1", "in2", "in3", "in4", "in5", "in6", "in7"];

fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 => "f32",
        DType::I32 => "i32",
        DType::U32 | DType::Bool => "u32",
    }
}

/// The shader for `count` inputs: `load`, which finds unit `r` of a row of all of them, and `store`; a unit is one element or
/// four.
fn shader(dtype: DType, count: usize, epilogue: bool, width: usize) -> Shader {
    let unit = if width == 4 { format!("vec4<{}>", element(dtype)) } else { element(dtype).to_string() };
    let mut load = format!("fn $load$(row: u32, r: u32) -> {unit} {{\n    var at = r;\n");
    for k in 0..count - 1 {
        let length = format!("$p$.lengths[{}][{}]", k / 4, k % 4);
        load += &format!(
            "    if at < {length} {{\n        return $in{k}$[row * {length} + at];\n    }}\n    at -= {length};\n"
        );
    }
    let last = count - 1;
    load += &format!("    return $in{last}$[row * $p$.lengths[{}][{}] + at];\n}}\n", last / 4, last % 4);
    let mut store = format!("fn $store$(at: u32, value: {unit}) {{\n");
    for k in 0..width {
        let (at, value) = match width {
            1 => ("at".to_string(), "value".to_string()),
            _ => (format!("at + {k}u"), format!("value[{k}]")),
        };
        let value = if epilogue { format!("$epilogue$({value}, {at})") } else { value };
        store += &format!("    $result$[{at}] = {value};\n");
    }
    store += "}\n";
    let shader = each(Shader::of(&[&shaders::CONCAT])).constant("WIDTH", width);
    shader.item(Item::new("load", load)).item(Item::new("store", store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn lists_that_do_not_fit_carry_errors() {
        let device = Device::cpu();
        let (a, b) = (device.zeros(&[2, 3]), device.zeros(&[2, 4]));
        let whole = device.arange(3, DType::I32).reshape(&[1, 3]);
        assert!(matches!(Tensor::concat(&[], 0).error(), Some(Error::Value { .. })));
        assert!(matches!(Tensor::stack(&[], 0).error(), Some(Error::Value { .. })));
        assert!(matches!(Tensor::concat(&[&a, &b], 0).error(), Some(Error::Shape { .. })));
        assert!(matches!(Tensor::stack(&[&a, &b], 0).error(), Some(Error::Shape { .. })));
        assert!(matches!(Tensor::concat(&[&a, &b], 2).error(), Some(Error::Axis { .. })));
        assert!(matches!(Tensor::concat(&[&a], 2).error(), Some(Error::Axis { .. })));
        assert!(matches!(Tensor::concat(&[&a, &whole], 0).error(), Some(Error::DType { .. })));
        assert_eq!(Tensor::concat(&[&a, &b], 1).shape().unwrap(), [2, 7]);
    }
}
