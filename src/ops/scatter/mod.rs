//! Elements put, added or compared where an index says: `scatter` and its relatives, along an axis by a whole index tensor or by a
//! vector.
//!
//! Floats are summed by the sorted runs that the gradient of gathering has (`ops/gather/segments.rs`). What depends on no order (the
//! last of several, extremes, sums of whole numbers) is found with integer atomics ([`Meet`]). So every result has the same bits
//! in each run.

mod meet;

pub use meet::{Meet, Meeting};

use crate::dtype::DType;
use crate::error::Problem;
use crate::ops::shared::check_axis;
use crate::shape::{Axis, Shape};
use crate::tensor::Tensor;

/// What [`Tensor::scatter_reduce`] makes of all that comes to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScatterReduction {
    /// The sum.
    Sum,
    /// The product; floats.
    Product,
    /// The mean; floats.
    Mean,
    /// The largest. NaN if one is.
    Max,
    /// The smallest. NaN if one is.
    Min,
}

impl Tensor {
    /// This tensor with `source[i, j, k]` at `[i, index[i, j, k], k]` for axis 1 of three, and so on, as `torch.scatter`. The source
    /// is of this dtype and may be longer than the index, which may be shorter than this tensor on the other axes. Of several that
    /// name one place the last one, in row-major order of the index, is put there; the gradient goes to it alone.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], [`crate::Error::Shape`] or [`crate::Error::DType`] where they do not fit, and
    /// [`crate::Error::Value`] if an uploaded index leaves the axis. An index that the device computes and that leaves the axis puts
    /// nothing.
    #[track_caller]
    pub fn scatter(&self, axis: impl Into<Axis>, index: &Tensor, source: &Tensor) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "scatter";
        let source = match self.source(OP, axis, index, source) {
            Ok(source) => source,
            Err(bad) => return bad,
        };
        let last = self.last_of(axis, index);
        let flat = source.reshape(&[source.dims().elements()]);
        let picked = flat.index_select(0, &last.reshape(&[last.dims().elements()])).reshape(self.dims());
        put(&last, &picked, self)
    }

    /// This tensor with `value` where `index` says, as `torch.scatter` with a number.
    ///
    /// # Errors
    /// As [`Tensor::scatter`], and [`crate::Error::DType`] if the dtype does not hold the number.
    #[track_caller]
    pub fn scatter_value(&self, axis: impl Into<Axis>, index: &Tensor, value: f64) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "scatter_value";
        if let Some(bad) = self.misfit(OP, axis, index) {
            return bad;
        }
        let value = Tensor::operand(self.device(), self.meta().dtype, value, OP);
        put(&self.last_of(axis, index), &value, self)
    }

    /// This tensor plus `source[i, j, k]` at `[i, index[i, j, k], k]` for axis 1 of three, and so on, as `torch.scatter_add`. Several
    /// that name one place add up in a fixed order. Floats and integers; half precision is summed in f32 and rounded once.
    ///
    /// # Errors
    /// As [`Tensor::scatter`], and [`crate::Error::DType`] for booleans.
    #[track_caller]
    pub fn scatter_add(&self, axis: impl Into<Axis>, index: &Tensor, source: &Tensor) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        self.scatter_reduce(axis, index, source, ScatterReduction::Sum, true)
    }

    /// All that comes to each place, as in [`Tensor::scatter_add`], made one by `reduction`, as `torch.scatter_reduce`. This
    /// tensor's own elements are among it if `with_self` says so; a place to which nothing comes keeps its element. Gradients of
    /// extremes are shared by all that are equal to them.
    ///
    /// # Errors
    /// As [`Tensor::scatter`], and [`crate::Error::DType`] for booleans, and for integers where floats are wanted.
    #[track_caller]
    pub fn scatter_reduce(
        &self,
        axis: impl Into<Axis>,
        index: &Tensor,
        source: &Tensor,
        reduction: ScatterReduction,
        with_self: bool,
    ) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        let op = match reduction {
            ScatterReduction::Sum => "scatter_add",
            _ => "scatter_reduce",
        };
        let source = match self.source(op, axis, index, source) {
            Ok(source) => source,
            Err(bad) => return bad,
        };
        let dtype = self.meta().dtype;
        let of_floats = matches!(reduction, ScatterReduction::Product | ScatterReduction::Mean);
        if dtype == DType::Bool || of_floats && !dtype.is_float() {
            let what = format!("{reduction:?} is not defined for {dtype}");
            return self.problem(op, Problem::DType(what));
        }
        let shape = *self.dims();
        let source = source.widen();
        let base = match with_self {
            true => self.widen(),
            // What changes nothing, where something comes.
            false => put(&self.last_of(axis, index), &self.neutral(reduction), &self.widen()),
        };
        let sum = |x: &Tensor| x.picked_together(axis, false, shape, index, false);
        let result = match reduction {
            ScatterReduction::Sum if dtype.is_float() => &base + sum(&source),
            ScatterReduction::Sum => base.meeting(Meeting::Sum, axis, index, &source),
            ScatterReduction::Product => &base * source.picked_together(axis, false, shape, index, true),
            ScatterReduction::Max => base.meeting(Meeting::Max, axis, index, &source),
            ScatterReduction::Min => base.meeting(Meeting::Min, axis, index, &source),
            ScatterReduction::Mean => {
                let came = sum(&source.device().fixed(source.dims(), DType::F32, 1.0));
                let count = if with_self { came.offset(1.0) } else { came.maximum(&came.scalar(1.0)) };
                (&base + sum(&source)) / count
            }
        };
        result.cast(dtype)
    }

    /// This tensor plus the slices of `source` along `axis`, each at the place that `index`, a vector, names, as
    /// `torch.index_add`. Otherwise as [`Tensor::scatter_add`].
    ///
    /// # Errors
    /// As [`Tensor::scatter_add`].
    #[track_caller]
    pub fn index_add(&self, axis: impl Into<Axis>, index: &Tensor, source: &Tensor) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "index_add";
        if let Some(bad) = self.bad_slices(OP, axis, index, Some(source)) {
            return bad;
        }
        let dtype = self.meta().dtype;
        if dtype == DType::Bool {
            return self.problem(OP, Problem::DType("it is not defined for bool".into()));
        }
        if dtype.is_float() {
            let sum = source.widen().picked_together(axis, true, *self.dims(), index, false);
            return (self.widen() + sum).cast(dtype);
        }
        let index = along(index, axis, source.dims().rank()).expand(source.dims());
        self.meeting(Meeting::Sum, axis, &index, source)
    }

    /// This tensor with slices of `source` along `axis` in place of those that `index`, a vector, names, as `torch.index_copy`. Of
    /// several for one place the last one is taken.
    ///
    /// # Errors
    /// As [`Tensor::scatter`].
    #[track_caller]
    pub fn index_copy(&self, axis: impl Into<Axis>, index: &Tensor, source: &Tensor) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        if let Some(bad) = self.bad_slices("index_copy", axis, index, Some(source)) {
            return bad;
        }
        let last = self.last_slice(axis, index);
        put(&along(&last, axis, self.dims().rank()), &source.index_select(axis, &last), self)
    }

    /// This tensor with `value` in the slices along `axis` that `index`, a vector, names, as `torch.index_fill`.
    ///
    /// # Errors
    /// As [`Tensor::scatter_value`].
    #[track_caller]
    pub fn index_fill(&self, axis: impl Into<Axis>, index: &Tensor, value: f64) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "index_fill";
        if let Some(bad) = self.bad_slices(OP, axis, index, None) {
            return bad;
        }
        let value = Tensor::operand(self.device(), self.meta().dtype, value, OP);
        put(&along(&self.last_slice(axis, index), axis, self.dims().rank()), &value, self)
    }

    /// How often each of the numbers from 0 to `bins - 1` is among these elements, u32 or i32 of any shape: `[bins]`, u32, as
    /// `torch.bincount`, whose `minlength` decides alone here. Others are not counted.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for other dtypes, [`crate::Error::Value`] for no bins.
    #[track_caller]
    pub fn bincount(&self, bins: usize) -> Tensor {
        const OP: &str = "bincount";
        if let Some(bad) = self.no_bins(OP, bins) {
            return bad;
        }
        let flat = self.reshape(&[self.dims().elements()]);
        let device = self.device();
        let ones = device.fixed(flat.dims(), DType::U32, 1.0);
        device.fixed(&[bins], DType::U32, 0.0).meeting(Meeting::Sum, 0, &flat, &ones)
    }

    /// The sum of the `weights`, f32 of this shape, of the elements that are each of the numbers from 0 to `bins - 1`: `[bins]`, f32,
    /// as `torch.bincount` with weights.
    ///
    /// # Errors
    /// As [`Tensor::bincount`], and [`crate::Error::Shape`] for weights of another shape.
    #[track_caller]
    pub fn bincount_weighted(&self, bins: usize, weights: &Tensor) -> Tensor {
        const OP: &str = "bincount_weighted";
        if let Some(bad) = self.no_bins(OP, bins) {
            return bad;
        }
        if weights.error().is_none() && weights.dims() != self.dims() {
            let what = format!("weights of shape {} for elements of shape {}", weights.dims(), self.dims());
            return self.problem(OP, Problem::Shape(what, "pass a weight for each element"));
        }
        let flat = |x: &Tensor| x.reshape(&[x.dims().elements()]);
        let shape = Shape::new(&[bins]).unwrap_or(Shape::SCALAR);
        flat(&weights.widen()).picked_together(0, true, shape, &flat(self), false)
    }

    #[track_caller]
    fn no_bins(&self, op: &'static str, bins: usize) -> Option<Tensor> {
        if self.error().is_some() {
            return Some(self.clone());
        }
        if !self.meta().dtype.is_integer() {
            let what = format!("it counts u32 and i32, not {}", self.meta().dtype);
            return Some(self.problem(op, Problem::DType(what)));
        }
        (bins == 0 || Shape::new(&[bins]).is_none()).then(|| {
            self.problem(op, Problem::Value(format!("{bins} bins"), "count from 1 to 2^32 - 1 different numbers"))
        })
    }

    /// These cells after the meeting of what `source` brings to them.
    #[track_caller]
    fn meeting(&self, meeting: Meeting, axis: usize, index: &Tensor, source: &Tensor) -> Tensor {
        Tensor::apply(Meet { axis, shape: *self.dims(), meeting }, &[index, self, source])
    }

    /// The number of the last element of `index` that names each place of this tensor; the largest u32 where none does.
    #[track_caller]
    fn last_of(&self, axis: usize, index: &Tensor) -> Tensor {
        Tensor::apply(Meet { axis, shape: *self.dims(), meeting: Meeting::Last }, &[index])
    }

    /// As [`Tensor::last_of`], of a vector, for each place of an axis.
    #[track_caller]
    fn last_slice(&self, axis: usize, index: &Tensor) -> Tensor {
        let shape = Shape::new(&[self.dims()[axis]]).unwrap_or(Shape::SCALAR);
        Tensor::apply(Meet { axis: 0, shape, meeting: Meeting::Last }, &[index])
    }

    /// What changes no result of `reduction`.
    fn neutral(&self, reduction: ScatterReduction) -> Tensor {
        let dtype = self.widen().meta().dtype;
        let (least, most) = match dtype {
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            DType::U32 => (0.0, f64::from(u32::MAX)),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let value = match reduction {
            ScatterReduction::Sum | ScatterReduction::Mean => 0.0,
            ScatterReduction::Product => 1.0,
            ScatterReduction::Max => least,
            ScatterReduction::Min => most,
        };
        self.device().fixed(&[], dtype, value)
    }

    /// `source` cut to the index, or a tensor that carries what does not fit.
    #[track_caller]
    fn source(&self, op: &'static str, axis: usize, index: &Tensor, source: &Tensor) -> Result<Tensor, Tensor> {
        if let Some(bad) = self.misfit(op, axis, index) {
            return Err(bad);
        }
        if source.error().is_some() {
            return Err(source.clone());
        }
        if source.meta().dtype != self.meta().dtype {
            let what = format!("a source of {} for a tensor of {}", source.meta().dtype, self.meta().dtype);
            return Err(self.problem(op, Problem::DType(what)));
        }
        let (from, to) = (*source.dims(), *index.dims());
        if from.rank() != to.rank() || from.iter().zip(to.iter()).any(|(have, want)| have < want) {
            let what = format!("a source of shape {from} for an index of shape {to}");
            return Err(self.problem(op, Problem::Shape(what, "pass an element for each of the index")));
        }
        let cut = |x: Tensor, axis: usize| match from[axis] == to[axis] {
            true => x,
            false => x.slice_fixed(axis, 0, to[axis]),
        };
        Ok((0..from.rank()).fold(source.clone(), cut))
    }

    /// An invalid tensor unless `index` fits `axis` of this one.
    #[track_caller]
    fn misfit(&self, op: &'static str, axis: usize, index: &Tensor) -> Option<Tensor> {
        if let Some(broken) = [self, index].into_iter().find(|x| x.error().is_some()) {
            return Some(broken.clone());
        }
        let fit = meet::check(axis, self.dims(), &index.meta());
        let problem = fit.err().or_else(|| self.leaves_axis(axis, index));
        problem.map(|problem| self.problem(op, problem))
    }

    /// An invalid tensor unless `index` is a vector for `axis` and `source` has a slice for each of its elements.
    #[track_caller]
    fn bad_slices(&self, op: &'static str, axis: usize, index: &Tensor, source: Option<&Tensor>) -> Option<Tensor> {
        if let Some(broken) = [Some(self), Some(index), source].into_iter().flatten().find(|x| x.error().is_some()) {
            return Some(broken.clone());
        }
        if let Err(problem) = check_axis(axis, self.dims().rank()) {
            return Some(self.problem(op, problem));
        }
        let mut want = self.dims().to_vec();
        want[axis] = index.dims().elements();
        let problem = if !index.meta().dtype.is_integer() {
            Problem::DType(format!("an index is u32 or i32, not {}", index.meta().dtype))
        } else if index.dims().rank() != 1 {
            let what = format!("the index has shape {}, not one axis", index.dims());
            Problem::Shape(what, "pass a vector, or use scatter")
        } else if let Some(source) = source.filter(|source| source.dims()[..] != want[..]) {
            let what = format!("a source of shape {}, not {want:?}", source.dims());
            Problem::Shape(what, "pass a slice for each element of the index")
        } else if let Some(source) = source.filter(|source| source.meta().dtype != self.meta().dtype) {
            Problem::DType(format!("a source of {} for a tensor of {}", source.meta().dtype, self.meta().dtype))
        } else {
            self.leaves_axis(axis, index)?
        };
        Some(self.problem(op, problem))
    }
}

/// `value` where something comes, else `old`.
fn put(last: &Tensor, value: &Tensor, old: &Tensor) -> Tensor {
    let none = last.device().fixed(&[], DType::U32, f64::from(u32::MAX));
    last.ne(&none).where_(value, old)
}

/// A vector along `axis` of `rank` axes.
fn along(vector: &Tensor, axis: usize, rank: usize) -> Tensor {
    let mut dims = vec![1; rank];
    dims[axis] = vector.dims().elements();
    vector.reshape(&dims)
}
