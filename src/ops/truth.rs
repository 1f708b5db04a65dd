//! Whether any or all elements are true, made of extremes. An element is true if it is not 0, as NaN is not.

use crate::dtype::DType;
use crate::shape::Axes;
use crate::tensor::Tensor;

macro_rules! truths {
    ($($(#[$doc:meta])* $plain:ident $keep:ident $all:ident = $reduced:ident $reduced_keep:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// Of any dtype, to bool; `axes` are removed. The result carries [`crate::Error::Axis`] for an axis out of range.
            #[track_caller]
            pub fn $plain(&self, axes: impl Axes) -> Tensor {
                self.as_truth().$reduced(axes)
            }

            #[doc = concat!("As [`Tensor::", stringify!($plain), "`], but `axes` stay with length 1.")]
            #[track_caller]
            pub fn $keep(&self, axes: impl Axes) -> Tensor {
                self.as_truth().$reduced_keep(axes)
            }

            #[doc = concat!("As [`Tensor::", stringify!($plain), "`] over all axes: a scalar.")]
            #[track_caller]
            pub fn $all(&self) -> Tensor {
                self.$plain(&(0..self.dims().rank()).collect::<Vec<_>>())
            }
        )+ }
    };
}

truths! {
    /// True where any element along `axes` is not 0.
    any any_keep any_all = max max_keep;
    /// True where no element along `axes` is 0.
    all all_keep all_all = min min_keep;
}

impl Tensor {
    #[track_caller]
    fn as_truth(&self) -> Tensor {
        if self.error().is_some() || self.meta().dtype == DType::Bool { self.clone() } else { self.ne(0) }
    }
}
