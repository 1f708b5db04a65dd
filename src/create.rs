//! Tensors from host data and from constants.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::array::Array;
use crate::device::Device;
use crate::dtype::{DType, half_of};
use crate::error::Problem;
use crate::graph::Source;
use crate::host::{Element, HostData};
use crate::layout::Meta;
use crate::ops::constant::{Constant, Fill};
use crate::rng::{Philox, below};
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Device {
    /// A tensor of `shape` with these elements, row-major. The data stay on the host until a run needs them. Its dtype is that of
    /// [`Element`]: f64 and bf16 become f32, whole numbers of other widths i32 or u32.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] if the number of elements is not that of `shape`, [`crate::Error::Value`] for a whole
    /// number that 32 bits do not hold.
    #[track_caller]
    pub fn tensor<T: Element>(&self, data: &[T], shape: &[usize]) -> Tensor {
        match T::pack(data) {
            Ok(packed) => self.upload(packed, T::DTYPE, shape, None),
            Err(place) => {
                let what = format!("element {place}, {}, is none of {}", data[place].to_f64(), T::DTYPE);
                let problem = Problem::Value(what, "pass whole numbers of 32 bits, or floats");
                Tensor::invalid(self, problem.at("tensor", Location::caller()), Location::caller())
            }
        }
    }

    /// Integer class labels, shape `[labels.len()]`, dtype u32; their maximum is kept for the check in
    /// [`Tensor::cross_entropy`].
    #[track_caller]
    pub fn labels(&self, labels: &[u32]) -> Tensor {
        let largest = labels.iter().copied().max();
        self.upload(HostData::U32(labels.to_vec()), DType::U32, &[labels.len()], largest)
    }

    /// A tensor from an f64 array; the reference device keeps all its bits.
    #[track_caller]
    pub fn array(&self, array: &Array) -> Tensor {
        let values = &array.data;
        let data = match array.dtype {
            DType::F32 if self.is_exact() => HostData::F64(values.clone()),
            DType::F32 => HostData::F32(values.iter().map(|&x| x as f32).collect()),
            DType::F16 => HostData::F16(values.iter().map(|&x| half_of(x)).collect()),
            DType::I32 => HostData::I32(values.iter().map(|&x| x as i32).collect()),
            DType::U32 | DType::Bool => HostData::U32(values.iter().map(|&x| x as u32).collect()),
        };
        let largest = match array.dtype {
            DType::U32 => values.iter().map(|&x| x as u32).max(),
            DType::I32 => values.iter().map(|&x| (x as i32).max(0) as u32).max(),
            _ => None,
        };
        self.upload(data, array.dtype, &array.shape, largest)
    }

    #[track_caller]
    fn upload(&self, data: HostData, dtype: DType, shape: &[usize], largest: Option<u32>) -> Tensor {
        let at = Location::caller();
        let problem = match Shape::new(shape) {
            Some(shape) if shape.elements() == 0 => {
                Problem::Shape(format!("shape {shape} has no elements"), "leave out empty batches and axes of length 0")
            }
            Some(shape) if shape.elements() == data.len() => {
                let source = Source::Upload { data: Arc::new(data), largest, uses: AtomicU32::new(0) };
                return Tensor::leaf(self, Meta { shape, dtype }, source, at);
            }
            Some(_) => Problem::Shape(
                format!("{} elements do not fill shape {shape:?}", data.len()),
                "pass as many elements as the shape has",
            ),
            None => too_large(shape),
        };
        Tensor::invalid(self, problem.at("tensor", at), at)
    }

    /// All elements 0, f32.
    #[track_caller]
    pub fn zeros(&self, shape: &[usize]) -> Tensor {
        self.constant(shape, DType::F32, Fill::Value(0.0))
    }

    /// All elements 1, f32.
    #[track_caller]
    pub fn ones(&self, shape: &[usize]) -> Tensor {
        self.constant(shape, DType::F32, Fill::Value(1.0))
    }

    /// All elements `value`, which travels as a host number: changing it makes no new plan. A float dtype rounds it once.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] if `dtype` is an integer or bool and does not hold `value`, and
    /// [`crate::Error::Shape`] for a shape that is too large.
    #[track_caller]
    pub fn full(&self, shape: &[usize], value: f64, dtype: DType) -> Tensor {
        match Shape::new(shape) {
            Some(_) => Tensor::operand(self, dtype, value, "full").expand(shape),
            None => Tensor::invalid(self, too_large(shape).at("full", Location::caller()), Location::caller()),
        }
    }

    /// `0, 1, .., n - 1` of any dtype but bool; floats round what they have not the digits for.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for bool, and [`crate::Error::Value`] if i32 does not hold `n - 1`.
    #[track_caller]
    pub fn arange(&self, n: usize, dtype: DType) -> Tensor {
        let problem = match dtype {
            DType::Bool => Problem::DType("it counts, which bool cannot: make it u32, and compare".into()),
            DType::I32 if n > 1 << 31 => Problem::Value(format!("{n} numbers from 0 on leave i32"), "use u32"),
            _ => return self.constant(&[n], dtype, Fill::Index),
        };
        Tensor::invalid(self, problem.at("arange", Location::caller()), Location::caller())
    }

    /// Uniform in `[low, high)`, f32, drawn on the host in f64 from `seed`: the same on every device. No element is `high`,
    /// which rounding would give once in some 30 million; `low` where there is no f32 between the two.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Value`] unless both are finite and `low` is not above `high`.
    #[track_caller]
    pub fn uniform(&self, shape: &[usize], low: f64, high: f64, seed: u64) -> Tensor {
        self.uniform_as(shape, low, high, DType::F32, seed)
    }

    /// [`Device::uniform`] of f32 or f16: rounded to the dtype and still below `high`, which a cast of f32 may reach.
    ///
    /// # Errors
    /// Those of [`Device::uniform`], and [`crate::Error::DType`] for another dtype.
    #[track_caller]
    pub fn uniform_as(&self, shape: &[usize], low: f64, high: f64, dtype: DType, seed: u64) -> Tensor {
        let problem = if !dtype.is_float() {
            Problem::DType(format!("it draws floats, not {dtype}"))
        } else if !(low <= high && low.is_finite() && high.is_finite()) {
            Problem::Value(
                format!("from {low} to {high} there is nothing to draw"),
                "pass finite bounds, the lower first",
            )
        } else {
            return self.drawn(shape, dtype, seed, |rng| below(low + (high - low) * rng.uniform(), [low, high], dtype));
        };
        Tensor::invalid(self, problem.at("uniform", Location::caller()), Location::caller())
    }

    /// Normal with this mean and standard deviation, f32, drawn on the host in f64 from `seed`.
    #[track_caller]
    pub fn normal(&self, shape: &[usize], mean: f64, deviation: f64, seed: u64) -> Tensor {
        self.drawn(shape, DType::F32, seed, |rng| mean + deviation * rng.normal())
    }

    #[track_caller]
    fn drawn(&self, shape: &[usize], dtype: DType, seed: u64, mut draw: impl FnMut(&mut Philox) -> f64) -> Tensor {
        let Some(checked) = Shape::new(shape) else {
            return Tensor::invalid(self, too_large(shape).at("draw", Location::caller()), Location::caller());
        };
        let mut rng = Philox::new(seed, u64::MAX);
        let draws = (0..checked.elements()).map(|_| draw(&mut rng));
        match dtype {
            DType::F16 => self.tensor(&draws.map(half_of).collect::<Vec<_>>(), shape),
            _ => self.tensor(&draws.map(|x| x as f32).collect::<Vec<_>>(), shape),
        }
    }

    /// All elements `value`, as part of the graph's structure.
    #[track_caller]
    pub(crate) fn fixed(&self, shape: &[usize], dtype: DType, value: f64) -> Tensor {
        self.constant(shape, dtype, Fill::Value(value))
    }

    #[track_caller]
    fn constant(&self, shape: &[usize], dtype: DType, fill: Fill) -> Tensor {
        let at = Location::caller();
        match Shape::new(shape) {
            Some(shape) => Tensor::record(self, Arc::new(Constant { shape, dtype, fill }), &[], at),
            None => Tensor::invalid(self, too_large(shape).at("constant", at), at),
        }
    }
}

impl Tensor {
    /// A float constant of this tensor's device that is part of the graph's structure (for gradient rules): f16 if the
    /// tensor is, else f32.
    #[track_caller]
    pub(crate) fn scalar(&self, value: f64) -> Tensor {
        let dtype = if self.meta().dtype == DType::F16 { DType::F16 } else { DType::F32 };
        self.device().constant(&[], dtype, Fill::Value(value))
    }
}

fn too_large(shape: &[usize]) -> Problem {
    Problem::Shape(
        format!("shape {shape:?} has more than 8 axes or more than 2^32 - 1 elements"),
        "split the tensor, or merge axes",
    )
}
