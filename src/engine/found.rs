//! What is found in a tensor's values, in a number that depends on them: on the host, for a recorded op has one shape.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::Element;
use crate::tensor::Tensor;

/// What [`Tensor::unique`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Unique<T> {
    /// Each value once, ascending; every NaN is one of its own, behind the others.
    pub values: Vec<T>,
    /// For each element, in row-major order, where its value stands among them.
    pub inverse: Vec<u32>,
    /// How often each value comes.
    pub counts: Vec<u32>,
}

impl Tensor {
    /// The coordinates of the elements that are not zero, in row-major order, as `torch.nonzero`. Runs what is recorded, and waits
    /// for it: the result is no tensor, for its length depends on the values.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[track_caller]
    pub fn nonzero(&self) -> Result<Vec<Vec<usize>>> {
        let array = self.to_array()?;
        let found = (0..array.data.len()).filter(|&i| array.data[i] != 0.0);
        let coordinates = |i: usize| {
            let mut at = vec![0; array.shape.rank()];
            Array::unravel(&array.shape, i, &mut at);
            at
        };
        Ok(found.map(coordinates).collect())
    }

    /// The elements where `mask`, bool, holds, in row-major order, as `torch.masked_select`; the two broadcast. Runs what is
    /// recorded, and waits for it: the result is no tensor, for its length depends on the values. Through [`Tensor::where_`] or
    /// [`Tensor::masked_fill`] gradients flow.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`], and [`crate::Error::DType`] or [`crate::Error::Shape`] where the mask does not fit.
    #[track_caller]
    pub fn masked_select<T: Element>(&self, mask: &Tensor) -> Result<Vec<T>> {
        // Both in the shape to which they broadcast, and read together.
        let elements = mask.where_(self, self);
        let kept = mask.logical_and(&self.device().fixed(self.dims(), DType::Bool, 1.0));
        self.device().eval(&[&elements, &kept])?;
        let kept = kept.to_vec::<bool>()?;
        Ok(elements.to_vec::<T>()?.into_iter().zip(kept).filter_map(|(x, kept)| kept.then_some(x)).collect())
    }

    /// The different values of the elements, where each element's stands among them, and how often each comes, as `torch.unique`.
    /// Runs what is recorded, and waits for it: the results are no tensors, for their length depends on the values.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[track_caller]
    pub fn unique<T: Element + PartialOrd>(&self) -> Result<Unique<T>> {
        let elements = self.to_vec::<T>()?;
        let is_nan = |x: &T| x.partial_cmp(x).is_none();
        let compare = |a: &T, b: &T| a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)));
        let mut order: Vec<usize> = (0..elements.len()).collect();
        order.sort_by(|&a, &b| compare(&elements[a], &elements[b]));
        let mut found = Unique { values: Vec::<T>::new(), inverse: vec![0; elements.len()], counts: vec![] };
        for place in order {
            let x = elements[place];
            let is_known = found.values.last().is_some_and(|last: &T| *last == x);
            if !is_known {
                found.values.push(x);
                found.counts.push(0);
            }
            let last = found.values.len() - 1;
            found.counts[last] += 1;
            found.inverse[place] = last as u32;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use crate::Device;

    #[test]
    fn what_is_found_on_the_host_is_in_row_major_order() {
        let device = Device::cpu();
        let x = device.tensor(&[0.0f32, 2.0, -1.0, 0.0, f32::NAN, 2.0], &[2, 3]);
        assert_eq!(x.nonzero().unwrap(), [[0, 1], [0, 2], [1, 1], [1, 2]]);
        assert_eq!(x.masked_select::<f32>(&x.gt(0.0)).unwrap(), [2.0, 2.0]);
        let column = device.tensor(&[true, false], &[2, 1]);
        assert_eq!(x.masked_select::<f32>(&column).unwrap(), [0.0, 2.0, -1.0]);
        let unique = x.unique::<f32>().unwrap();
        assert_eq!(unique.values[..3], [-1.0, 0.0, 2.0]);
        assert!(unique.values[3].is_nan());
        assert_eq!((unique.counts, unique.inverse), (vec![1, 2, 2, 1], vec![1, 2, 0, 1, 3, 2]));
        assert!(x.unique::<i32>().is_err() && x.masked_select::<f32>(&x).is_err());
    }
}
