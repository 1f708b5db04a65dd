//! Elements picked along one axis by an index tensor (gather) or an index vector (index_select), and their gradient.

mod backward;
mod segments;

pub use backward::GatherBackward;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::{check_axis, each};
use crate::shader::{Item, params};
use crate::shaders::gather::GATHER;
use crate::shape::{Axis, MAX_RANK, Shape};
use crate::tensor::Tensor;

/// Elements of input 0 along `axis` at the places in input 1.
#[derive(Debug)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
    /// True if the index is a vector that all other coordinates share.
    pub vector: bool,
    /// A place on the axis, of a vector's, that gets no gradient.
    pub padding: Option<usize>,
}

impl Tensor {
    /// `result[i, j, k] = self[i, index[i, j, k], k]` for axis 1 of three, and so on: the result has the index's shape.
    /// The index, u32 or i32, has as many axes and may be shorter on axes other than `axis`, as in `torch.gather`. Any
    /// dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], [`crate::Error::Shape`] or [`crate::Error::DType`] where the inputs do
    /// not fit, and [`crate::Error::Value`] if an uploaded index leaves the axis. An index that the device computes and
    /// that leaves the axis gives NaN (0 for integers), and no gradient.
    #[track_caller]
    pub fn gather(&self, axis: impl Into<Axis>, index: &Tensor) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        self.picked("gather", axis, index, false)
    }

    /// The slices of `axis` at the places in `index`, a vector of u32 or i32, as `torch.index_select`: the result is as
    /// long as the index on that axis. Any dtype.
    ///
    /// # Errors
    /// As [`Tensor::gather`].
    #[track_caller]
    pub fn index_select(&self, axis: impl Into<Axis>, index: &Tensor) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        self.picked("index_select", axis, index, true)
    }

    /// Rows of this table `[rows, features]` at the places in `index`, u32 or i32 of any shape: `[.., features]`, as
    /// `torch.nn.functional.embedding`. Row `padding`, if there is one, gets no gradient.
    ///
    /// The gradient has the table's shape. It costs one pass over the table, one over the gradient and a sorting of the indices,
    /// in time linear in them; repeated indices add up in their order, with the same bits in every run.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless this is a matrix, [`crate::Error::Value`] for a padding that is no
    /// row; else as [`Tensor::gather`].
    #[track_caller]
    pub fn embedding(&self, index: &Tensor, padding: Option<usize>) -> Tensor {
        const OP: &str = "embedding";
        if let Some(broken) = [self, index].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let &[rows, features] = &self.dims()[..] else {
            let what = format!("a table of shape {}", self.dims());
            return self.problem(OP, Problem::Shape(what, "pass a table [rows, features]"));
        };
        if let Some(row) = padding.filter(|&row| row >= rows) {
            let what = format!("padding row {row} of a table of {rows} rows");
            return self.problem(OP, Problem::Value(what, "name a row of the table"));
        }
        if let Some(problem) = self.leaves_axis(0, index) {
            return self.problem(OP, problem);
        }
        let flat = index.reshape(&[index.dims().elements()]);
        let picked = Tensor::apply(Gather { axis: 0, vector: true, padding }, &[&self.widen(), &flat]);
        picked.cast(self.meta().dtype).reshape(&[&index.dims()[..], &[features]].concat())
    }

    #[track_caller]
    fn picked(&self, op: &'static str, axis: usize, index: &Tensor, vector: bool) -> Tensor {
        match self.leaves_axis(axis, index) {
            Some(problem) => self.problem(op, problem),
            None => {
                let gather = Gather { axis, vector, padding: None };
                Tensor::apply(gather, &[&self.widen(), index]).cast(self.meta().dtype)
            }
        }
    }

    /// What is wrong with an uploaded index.
    pub(crate) fn leaves_axis(&self, axis: usize, index: &Tensor) -> Option<Problem> {
        let (None, Some(&length), Some((least, largest))) = (self.error(), self.dims().get(axis), index.known_range())
        else {
            return None;
        };
        let wrong = if least < 0 { least } else { largest };
        (wrong < 0 || wrong >= length as i64).then(|| {
            let what = format!("index {wrong} leaves axis {axis} of shape {}", self.dims());
            Problem::Value(what, "indices count from 0: pass indices below the length of the axis")
        })
    }
}

/// Shape of what `index` picks from `input`.
fn picked_shape(axis: usize, vector: bool, input: &Shape, index: &Meta) -> Result<Shape, Problem> {
    check_axis(axis, input.rank())?;
    if !matches!(index.dtype, DType::U32 | DType::I32) {
        return Err(Problem::DType(format!("an index is u32 or i32, not {}", index.dtype)));
    }
    if vector {
        if index.shape.rank() != 1 {
            let what = format!("the index has shape {}, not one axis", index.shape);
            return Err(Problem::Shape(what, "pass a vector, or use gather"));
        }
        let mut dims = input.to_vec();
        dims[axis] = index.shape[0];
        return Shape::new(&dims).ok_or_else(|| {
            Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements")
        });
    }
    let fits = |other: usize| other == axis || index.shape[other] <= input[other];
    if index.shape.rank() != input.rank() || !(0..input.rank()).all(fits) {
        let what = format!("an index of shape {} does not fit axis {axis} of shape {input}", index.shape);
        return Err(Problem::Shape(what, "pass as many axes, none longer than the input's but the axis itself"));
    }
    Ok(index.shape)
}

/// Strides of the index over the axes of what it picks: a vector has them along its axis alone.
fn index_strides(axis: usize, vector: bool, picked: &Shape) -> Vec<usize> {
    match vector {
        true => (0..picked.rank()).map(|other| usize::from(other == axis)).collect(),
        false => picked.strides(),
    }
}

/// `fn store` of values V, with the hook where the planner may use it: it takes no bools.
fn store(epilogue: bool) -> Item {
    let value = if epilogue { "$epilogue$(value, at)" } else { "value" };
    Item::new("store", format!("fn $store$(at: u32, value: $V$) {{\n    $result$[at] = {value};\n}}\n"))
}

fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 => "f32",
        DType::I32 => "i32",
        DType::U32 | DType::Bool => "u32",
    }
}

params! {
    /// Sizes of a gather.
    struct Picks {
        elements,
        /// Of the axis.
        length,
        /// Of the axis in the input.
        stride,
        /// Keeps the compiler from folding a NaN into the text, which WGSL forbids.
        zero,
        /// Innermost first: (length, input stride, or 0 for the axis itself, index stride, unused).
        axes: [[u32; 4]; MAX_RANK],
    }
}

/// What a kernel knows of each axis, innermost first.
fn axes(rank: usize, of: impl Fn(usize) -> [usize; 4]) -> [[u32; 4]; MAX_RANK] {
    let mut axes = [[1; 4]; MAX_RANK];
    (0..rank).rev().zip(&mut axes).for_each(|(axis, words)| *words = of(axis).map(|word| word as u32));
    axes
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        if self.vector { "index_select" } else { "gather" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.padding.map_or(0, |row| row as u64 + 1)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let shape = picked_shape(self.axis, self.vector, &inputs[0].shape, &inputs[1])?;
        Ok(vec![Meta { shape, dtype: inputs[0].dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let Gather { axis, vector, padding } = *self;
        let op = GatherBackward { axis, vector, shape: *backward.inputs[0].dims(), padding, product: false };
        vec![Some(Tensor::apply(op, &[&backward.inputs[1], backward.grad])), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rank = output.shape.rank();
        let (strides, places) = (inputs[0].shape.strides(), index_strides(self.axis, self.vector, &output.shape));
        let length = inputs[0].shape[self.axis];
        let missing = if output.dtype.is_float() { f64::NAN } else { 0.0 };
        vec![Array::build(output.shape, output.dtype, |linear| {
            let mut at = [0; MAX_RANK];
            Array::unravel(&output.shape, linear, &mut at[..rank]);
            let picked = inputs[1].data[(0..rank).map(|axis| at[axis] * places[axis]).sum::<usize>()];
            if picked < 0.0 || picked >= length as f64 {
                return missing;
            }
            at[self.axis] = picked as usize;
            inputs[0].data[(0..rank).map(|axis| at[axis] * strides[axis]).sum::<usize>()]
        })]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let strides = inputs[0].shape.strides();
        let places = index_strides(self.axis, self.vector, &output.shape);
        let epilogue = output.dtype != DType::Bool;
        let missing = if output.dtype.is_float() { "bitcast<f32>(0x7fc00000u + $p$.zero)" } else { "$V$(0)" };
        let missing = format!("fn $missing$() -> $V$ {{\n    return {missing};\n}}\n");
        let shader = each(Shader::of(&[&GATHER])).alias("V", element(output.dtype)).item(store(epilogue));
        let mut kernel = Kernel::own(self.name(), shader.item(Item::new("missing", missing)));
        kernel.bind(Binding::input(0), "input", "$V$");
        kernel.bind(Binding::input(1), "index", "u32");
        kernel.bind(Binding::output(), "result", "$V$");
        kernel.uniform(Picks {
            elements: output.elements(),
            length: inputs[0].shape[self.axis],
            stride: strides[self.axis],
            zero: 0,
            axes: axes(output.shape.rank(), |axis| {
                let stride = if axis == self.axis { 0 } else { strides[axis] };
                [output.shape[axis], stride, places[axis], 0]
            }),
        });
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = 8;
        kernel.epilogue = epilogue;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let gather = |name: &str, axis: usize, shape: &[usize], index: &[usize]| {
            let case = Case::new(name, move |x| x[0].gather(axis, &x[1])).normal(shape);
            let case = case.input(index, DType::U32, Draw::Below(shape[axis] as u32));
            case.tolerance(Tolerance::Exact).gradient_tolerance(Tolerance::Sum { terms: index[axis] })
        };
        let select = |name: &str, axis: usize, shape: &[usize], count: usize| {
            let case = Case::new(name, move |x| x[0].index_select(axis, &x[1])).normal(shape);
            let case = case.input(&[count], DType::I32, Draw::Below(shape[axis] as u32));
            case.tolerance(Tolerance::Exact).gradient_tolerance(Tolerance::Sum { terms: count })
        };
        let embedding = |name: &str, table: &[usize], index: &[usize], padding: Option<usize>| {
            let case = Case::new(name, move |x| x[0].embedding(&x[1], padding)).normal(table);
            let case = case.input(index, DType::U32, Draw::Below(table[0] as u32));
            // The gradient that finite differences find for the padding row is not zero.
            let case = if padding.is_some() { case.not_differentiable() } else { case };
            case.tolerance(Tolerance::Exact).gradient_tolerance(Tolerance::Sum { terms: index.iter().product() })
        };
        let exact = |case: Case| case.tolerance(Tolerance::Exact).not_differentiable();
        // Whole numbers that the device shifts: some leave the axis.
        let computed = |by: i32| move |x: &[Tensor]| x[0].gather(1, &x[1].plus(by));
        let integers = |x: &[Tensor]| x[0].gather(1, &x[1].plus(2));
        let flags = |x: &[Tensor]| x[0].index_select(0, &x[1]);
        let shift = Draw::Below(5);
        vec![
            gather("first", 0, &[7, 5], &[11, 5]),
            gather("last", 1, &[7, 5], &[7, 3]),
            gather("smaller", 1, &[5, 7, 3], &[2, 13, 2]),
            gather("vector", 0, &[37], &[131]),
            select("select_first", 0, &[37, 5, 3], 11),
            select("select_middle", 1, &[3, 37, 5], 67),
            select("select_last", 2, &[3, 5, 7], 4),
            embedding("embedding", &[37, 5], &[3, 43], None),
            embedding("embedding_of_fours", &[131, 12], &[261], None),
            embedding("embedding_large", &[5003, 4], &[67], None),
            embedding("embedding_padding", &[7, 3], &[2, 5, 3], Some(3)),
            exact(Case::new("above", computed(2)).normal(&[7, 5]).input(&[7, 3], DType::I32, shift.clone())),
            exact(Case::new("below", computed(-2)).normal(&[7, 5]).input(&[7, 3], DType::I32, shift.clone())),
            exact(Case::new("i32", integers).input(&[7, 5], DType::I32, Draw::Below(99)).input(
                &[7, 3],
                DType::U32,
                shift.clone(),
            )),
            exact(Case::new("bool", flags).input(&[5, 7], DType::Bool, Draw::Below(2)).input(&[3], DType::U32, shift)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error};

    #[test]
    fn an_uploaded_index_that_leaves_the_axis_is_named_when_recorded() {
        let device = Device::cpu();
        let rows = device.zeros(&[3, 2]);
        for (index, wrong) in [([0i32, 3], "index 3 "), ([-1, 0], "index -1 ")] {
            match rows.index_select(0, &device.tensor(&index, &[2])).error() {
                Some(Error::Value { what, .. }) => assert!(what.contains(wrong), "{what}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_index_longer_than_the_input_on_another_axis_is_refused() {
        let device = Device::cpu();
        let index = device.tensor(&[0u32; 8], &[4, 2]);
        assert!(matches!(device.zeros(&[3, 2]).gather(1, &index).error(), Some(Error::Shape { .. })));
    }
}
