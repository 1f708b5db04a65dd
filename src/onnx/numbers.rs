//! Numbers that are known while a model is recorded: constants, shapes, and what is made of them. Unlike tensors they may be
//! empty, and whole numbers have 64 bits.

use std::sync::OnceLock;

use super::elem::Elem;
use super::trouble::{Trouble, wrong};
use crate::device::Device;
use crate::dtype::DType;
use crate::tensor::Tensor;

/// The elements of [`Numbers`].
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Whole numbers and truth values.
    Whole(Vec<i64>),
    /// Floats.
    Real(Vec<f64>),
}

/// An array on the host.
#[derive(Debug)]
pub struct Numbers {
    /// What the elements are.
    pub elem: Elem,
    /// Axis lengths.
    pub shape: Vec<usize>,
    /// The elements, row-major, as many as the shape has.
    pub data: Data,
    /// The same as a tensor of the model's device, once one was asked for.
    tensor: OnceLock<Tensor>,
}

impl Clone for Numbers {
    fn clone(&self) -> Self {
        Numbers::new(self.elem, self.shape.clone(), self.data.clone())
    }
}

/// Most elements that are held on the host for a shape or a constant that a model computes.
pub const MOST: usize = 1 << 20;

/// The number of elements of a shape, if it is one that can be held.
pub fn count(shape: &[usize]) -> Result<usize, Trouble> {
    let product = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    match product.filter(|&product| product <= u32::MAX as usize) {
        Some(product) => Ok(product),
        None => wrong(format!("shape {shape:?} has more elements than a tensor can have")),
    }
}

impl Numbers {
    /// An array; the caller has seen to it that data and shape fit.
    pub fn new(elem: Elem, shape: Vec<usize>, data: Data) -> Numbers {
        Numbers { elem, shape, data, tensor: OnceLock::new() }
    }

    /// Whole numbers along one axis.
    pub fn vector(values: Vec<i64>) -> Numbers {
        Numbers::new(Elem::I64, vec![values.len()], Data::Whole(values))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Whole(values) => values.len(),
            Data::Real(values) => values.len(),
        }
    }

    /// The elements as floats.
    pub fn reals(&self) -> Vec<f64> {
        match &self.data {
            Data::Whole(values) => values.iter().map(|&value| value as f64).collect(),
            Data::Real(values) => values.clone(),
        }
    }

    /// The elements as whole numbers.
    ///
    /// # Errors
    /// [`Trouble::Wrong`] if one has a fraction.
    pub fn wholes(&self) -> Result<Vec<i64>, Trouble> {
        match &self.data {
            Data::Whole(values) => Ok(values.clone()),
            Data::Real(values) => match values.iter().find(|value| value.fract() != 0.0 || value.abs() > 9e15) {
                Some(value) => wrong(format!("{value} where whole numbers are wanted")),
                None => Ok(values.iter().map(|&value| value as i64).collect()),
            },
        }
    }

    /// A tensor of these elements.
    ///
    /// # Errors
    /// [`Trouble::Wrong`] if there are no elements, and for a whole number that 32 bits do not hold.
    pub fn tensor(&self, device: &Device) -> Result<Tensor, Trouble> {
        if let Some(tensor) = self.tensor.get().filter(|tensor| tensor.device().same(device)) {
            return Ok(tensor.clone());
        }
        let made = self.upload(device)?;
        // Kept for the model's own device: constants are folded on the reference, too.
        let _ = self.tensor.set(made.clone());
        Ok(made)
    }

    fn upload(&self, device: &Device) -> Result<Tensor, Trouble> {
        let made = match (&self.data, self.elem.dtype()) {
            (Data::Real(values), DType::F16) => {
                let halves: Vec<half::f16> = values.iter().map(|&value| half::f16::from_f64(value)).collect();
                device.tensor(&halves, &self.shape)
            }
            (Data::Real(values), _) if device.is_exact() => {
                let shape = shape_of(&self.shape)?;
                device.array(&crate::array::Array { shape, dtype: DType::F32, data: values.clone() })
            }
            (Data::Real(values), _) => device.tensor(values, &self.shape),
            (Data::Whole(values), dtype) => {
                let (least, most) = self.elem.range();
                if let Some(value) = values.iter().find(|&&value| value < least || value > most) {
                    return wrong(format!("{value} is beyond the 32 bits that hold {} here", self.elem));
                }
                match dtype {
                    DType::Bool => {
                        device.tensor(&values.iter().map(|&value| value != 0).collect::<Vec<_>>(), &self.shape)
                    }
                    DType::U32 => {
                        device.tensor(&values.iter().map(|&value| value as u32).collect::<Vec<_>>(), &self.shape)
                    }
                    _ => device.tensor(&values.iter().map(|&value| value as i32).collect::<Vec<_>>(), &self.shape),
                }
            }
        };
        match made.error() {
            Some(error) => Err(Trouble::Op(error.clone())),
            None => Ok(made),
        }
    }

    /// What a tensor holds. Runs it if it was computed, and waits for it.
    ///
    /// # Errors
    /// What running it met.
    pub fn read(tensor: &Tensor, elem: Elem) -> Result<Numbers, Trouble> {
        let array = tensor.to_array()?;
        let data = match elem.is_float() {
            true => Data::Real(array.data),
            false => Data::Whole(array.data.iter().map(|&value| value as i64).collect()),
        };
        Ok(Numbers::new(elem, array.shape.to_vec(), data))
    }

    /// The elements at these places, as `shape`.
    pub fn pick(&self, places: &[usize], shape: Vec<usize>) -> Result<Numbers, Trouble> {
        fn at<T: Copy>(values: &[T], places: &[usize]) -> Option<Vec<T>> {
            places.iter().map(|&place| values.get(place).copied()).collect()
        }
        let data = match &self.data {
            Data::Whole(values) => at(values, places).map(Data::Whole),
            Data::Real(values) => at(values, places).map(Data::Real),
        };
        match data {
            Some(data) => Ok(Numbers::new(self.elem, shape, data)),
            None => wrong("an index leaves its axis"),
        }
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`Trouble::Wrong`] if it has another number of them.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Numbers, Trouble> {
        if count(&shape)? != self.len() {
            return wrong(format!("shape {:?} cannot become {shape:?}", self.shape));
        }
        Ok(Numbers::new(self.elem, shape, self.data.clone()))
    }

    /// The elements at the places that `of` finds for each place of a result of `shape`.
    pub fn built(&self, shape: Vec<usize>, of: impl Fn(&[usize]) -> usize) -> Result<Numbers, Trouble> {
        let count = count(&shape)?;
        if count > MOST {
            return wrong(format!("a constant of shape {shape:?} is too large"));
        }
        let mut index = vec![0; shape.len()];
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(of(&index));
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        self.pick(&places, shape)
    }

    /// The elements as another type, converted as a cast does; whole numbers wrap.
    pub fn cast(&self, to: Elem) -> Numbers {
        let data = match (&self.data, to) {
            (_, Elem::Bool) => Data::Whole(self.reals().iter().map(|&value| i64::from(value != 0.0)).collect()),
            (Data::Real(values), _) if to.is_float() => {
                Data::Real(values.iter().map(|&value| rounded(value, to)).collect())
            }
            (Data::Whole(values), _) if to.is_float() => {
                Data::Real(values.iter().map(|&value| rounded(value as f64, to)).collect())
            }
            (Data::Real(values), _) => {
                Data::Whole(values.iter().map(|&value| wrapped(value.trunc() as i64, to)).collect())
            }
            (Data::Whole(values), _) => Data::Whole(values.iter().map(|&value| wrapped(value, to)).collect()),
        };
        Numbers::new(to, self.shape.clone(), data)
    }
}

/// Row-major strides.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// A shape as a tensor has it.
pub fn shape_of(shape: &[usize]) -> Result<crate::shape::Shape, Trouble> {
    match crate::shape::Shape::new(shape) {
        Some(shape) => Ok(shape),
        None => wrong(format!("shape {shape:?} has more than 8 axes, or more elements than a tensor can have")),
    }
}

/// A float rounded to a float type.
pub fn rounded(value: f64, to: Elem) -> f64 {
    match to {
        Elem::F16 => half::f16::from_f64(value).to_f64(),
        Elem::BF16 => half::bf16::from_f64(value).to_f64(),
        Elem::F32 => f64::from(value as f32),
        _ => value,
    }
}

/// A whole number in the bits of a type.
pub fn wrapped(value: i64, to: Elem) -> i64 {
    match to {
        Elem::U8 => i64::from(value as u8),
        Elem::I8 => i64::from(value as i8),
        Elem::U16 => i64::from(value as u16),
        Elem::I16 => i64::from(value as i16),
        Elem::U32 => i64::from(value as u32),
        Elem::I32 => i64::from(value as i32),
        _ => value,
    }
}
