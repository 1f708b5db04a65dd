//! Names of products that are matrix products, or products and sums, of axes in another order: composed of these.

use super::{Label, Labelled, diagonal, multiplied};
use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Tolerance};
use crate::ops::shared::check_axis;
use crate::shape::{Axes, Axis};
use crate::tensor::Tensor;

impl Tensor {
    /// The product of this and `other` summed over `axes` of this and `others` of it, pair by pair: what is left of this, then
    /// of the other; as `torch.tensordot` with two lists.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::Shape`] unless there are as many axes
    /// of each, all different, with equal lengths; else as [`Tensor::matmul`].
    #[track_caller]
    pub fn tensordot(&self, other: &Tensor, axes: impl Axes, others: impl Axes) -> Tensor {
        const OP: &str = "tensordot";
        if let Some(broken) = [self, other].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let (axes, others) = (&axes.of(self.dims().rank())[..], &others.of(other.dims().rank())[..]);
        if let Err(problem) = pairs(self, other, axes, others) {
            return self.problem(OP, problem);
        }
        // Axis k of a pair has label k.
        let labelled = |x: &Tensor, axes: &[usize], first: usize| {
            let label = |axis: usize| axes.iter().position(|&own| own == axis).unwrap_or(first + axis);
            Labelled { tensor: x.clone(), labels: (0..x.dims().rank()).map(label).map(Label::Ellipsis).collect() }
        };
        let (a, b) = (labelled(self, axes, 100), labelled(other, others, 200));
        let kept = |labels: &[Label]| labels.iter().copied().filter(|label| *label >= Label::Ellipsis(100)).collect();
        let keep: [Vec<Label>; 2] = [kept(&a.labels), kept(&b.labels)];
        multiplied(&a, &b, &keep.concat()).tensor
    }

    /// Matrix products of two batches, `[n, i, j] x [n, j, k]`: [`Tensor::matmul`] without stretching, as `torch.bmm`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have three axes and the first are equal; else as
    /// [`Tensor::matmul`].
    #[track_caller]
    pub fn bmm(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.dims(), other.dims());
        match a.rank() == 3 && b.rank() == 3 && a[0] == b[0] || self.error().is_some() || other.error().is_some() {
            true => self.matmul(other),
            false => self.problem("bmm", two(self, other, "pass [n, i, j] and [n, j, k]")),
        }
    }

    /// The product of this matrix `[i, j]` and a vector `[j]`, `[i]`; as `torch.mv`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless they have these shapes; else as [`Tensor::matmul`].
    #[track_caller]
    pub fn mv(&self, vector: &Tensor) -> Tensor {
        if let Some(broken) = [self, vector].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        match (&self.dims()[..], &vector.dims()[..]) {
            ([_, columns], [length]) if columns == length => {
                let product = self.matmul(&vector.reshape(&[*length, 1]));
                product.reshape(&self.dims()[..1])
            }
            _ => self.problem("mv", two(self, vector, "pass [i, j] and [j]")),
        }
    }

    /// The sum of the products of two vectors; as `torch.dot`, and `torch.vdot` of real numbers.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both are vectors of one length; else as [`Tensor::times`].
    #[track_caller]
    pub fn dot(&self, other: &Tensor) -> Tensor {
        if let Some(broken) = [self, other].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        match self.dims().rank() == 1 && self.dims() == other.dims() {
            true => (self * other).sum(&[0]),
            false => self.problem("dot", two(self, other, "pass two vectors of one length")),
        }
    }

    /// The sums of products over the last axes of both, `[.., n]` and `[.., n]`; of a scalar, the product. As `torch.inner`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless the last axes are equal; else as [`Tensor::matmul`].
    #[track_caller]
    pub fn inner(&self, other: &Tensor) -> Tensor {
        if let Some(broken) = [self, other].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        match (self.dims().rank(), other.dims().rank()) {
            (0, _) | (_, 0) => self * other,
            (a, b) if self.dims()[a - 1] == other.dims()[b - 1] => self.tensordot(other, &[a - 1], &[b - 1]),
            _ => self.problem("inner", two(self, other, "make the last axes equal")),
        }
    }

    /// Kronecker's product: each element of this times all of `other`, as `torch.kron`. The one with fewer axes gets axes of
    /// length 1 in front; lengths are multiplied.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for more than four axes or a result that is too large; else as
    /// [`Tensor::times`].
    #[track_caller]
    pub fn kron(&self, other: &Tensor) -> Tensor {
        if let Some(broken) = [self, other].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let rank = self.dims().rank().max(other.dims().rank());
        if rank > 4 {
            return self.problem("kron", two(self, other, "use four axes at most"));
        }
        let lengths = |x: &Tensor| [vec![1; rank - x.dims().rank()], x.dims().to_vec()].concat();
        let (a, b) = (lengths(self), lengths(other));
        let apart = |of: &[usize], first: usize| -> Vec<usize> {
            of.iter().flat_map(|&length| if first == 0 { [length, 1] } else { [1, length] }).collect()
        };
        let product = self.reshape(&apart(&a, 0)) * other.reshape(&apart(&b, 1));
        product.reshape(&a.iter().zip(&b).map(|(a, b)| a.saturating_mul(*b)).collect::<Vec<_>>())
    }

    /// The sum of the diagonal of a matrix, as `torch.trace`; one that is not square has the diagonal of its shorter side.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless it is a matrix.
    #[track_caller]
    pub fn trace(&self) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let &[rows, columns] = &self.dims()[..] else {
            let what = format!("a tensor of shape {}", self.dims());
            return self.problem("trace", Problem::Shape(what, "pass a matrix"));
        };
        let side = rows.min(columns);
        let square = self.slice_fixed(0, 0, side).slice_fixed(1, 0, side);
        diagonal(&square, 0, 1).sum(&[0])
    }

    /// The cross product along `axis`, which has length 3, as `torch.linalg.cross`; shapes broadcast.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range and [`crate::Error::Shape`] unless it has length 3 in
    /// both; else as [`Tensor::times`].
    #[track_caller]
    pub fn cross(&self, other: &Tensor, axis: impl Into<Axis>) -> Tensor {
        const OP: &str = "cross";
        if let Some(broken) = [self, other].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let rank = self.dims().rank();
        let axis = axis.into().of(rank);
        if let Err(problem) = check_axis(axis, rank) {
            return self.problem(OP, problem);
        }
        if other.dims().rank() != rank || self.dims()[axis] != 3 || other.dims()[axis] != 3 {
            return self.problem(OP, two(self, other, "pass as many axes, with three elements along this one"));
        }
        // The elements 1, 2, 0, and 2, 0, 1.
        let turned = |x: &Tensor, by: usize| {
            Tensor::concat(&[&x.slice_fixed(axis, by, 3 - by), &x.slice_fixed(axis, 0, by)], axis)
        };
        turned(self, 1) * turned(other, 2) - turned(self, 2) * turned(other, 1)
    }

    /// Square matrices multiplied `power` times with themselves, as `torch.linalg.matrix_power` of a power from 0 on: the
    /// identity for 0, in about 2 log2(power) products.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless the last two axes are equal; else as [`Tensor::matmul`].
    #[track_caller]
    pub fn matrix_power(&self, power: u32) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = self.dims().to_vec();
        let &[.., rows, columns] = &dims[..] else {
            return self
                .problem("matrix_power", Problem::Shape(format!("shape {}", self.dims()), "pass square matrices"));
        };
        if rows != columns {
            return self
                .problem("matrix_power", Problem::Shape(format!("shape {}", self.dims()), "pass square matrices"));
        }
        if power == 0 {
            let order = self.device().arange(rows, DType::U32);
            return order.reshape(&[rows, 1]).eq(&order).cast(self.meta().dtype).expand(&dims);
        }
        let (mut left, mut square, mut product) = (power, self.clone(), None::<Tensor>);
        loop {
            if left % 2 == 1 {
                product = Some(product.map_or_else(|| square.clone(), |product| product.matmul(&square)));
            }
            left /= 2;
            match (left, product) {
                (0, Some(product)) => return product,
                (_, so_far) => product = so_far,
            }
            square = square.matmul(&square);
        }
    }
}

fn two(a: &Tensor, b: &Tensor, next: &'static str) -> Problem {
    Problem::Shape(format!("shapes {} and {}", a.dims(), b.dims()), next)
}

/// `Err` unless these axes can be summed over pair by pair.
fn pairs(a: &Tensor, b: &Tensor, axes: &[usize], others: &[usize]) -> Result<(), Problem> {
    for (x, axes) in [(a, axes), (b, others)] {
        axes.iter().try_for_each(|&axis| check_axis(axis, x.dims().rank()))?;
        if (1..axes.len()).any(|k| axes[..k].contains(&axes[k])) {
            return Err(two(a, b, "name each axis once"));
        }
    }
    let equal = axes.len() == others.len() && axes.iter().zip(others).all(|(&i, &j)| a.dims()[i] == b.dims()[j]);
    if equal { Ok(()) } else { Err(two(a, b, "name as many axes of each, of equal lengths")) }
}

/// Cases of the methods; there are no ops of their names.
pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, shapes: [&[usize]; 2], terms: usize, build: fn(&Tensor, &Tensor) -> Tensor| {
        let case = Case::new(format!("products/{name}"), move |x| build(&x[0], &x[1]));
        case.normal(shapes[0]).normal(shapes[1]).tolerance(Tolerance::Sum { terms })
    };
    vec![
        case("tensordot", [&[3, 5, 7], &[7, 2, 3]], 21, |a, b| a.tensordot(b, &[0, 2], &[2, 0])),
        case("mv", [&[5, 131], &[131]], 131, Tensor::mv),
        case("kron", [&[3, 5], &[2, 4]], 1, Tensor::kron),
        // A difference, which is no sum of what the products are without their signs.
        case("cross", [&[5, 3, 2], &[5, 3, 2]], 2, |a, b| a.cross(b, 1))
            .tolerance(Tolerance::Pointwise { absolute: 2e-6, relative: 1e-6 }),
        case("trace", [&[7, 5], &[1]], 5, |a, b| a.trace() + b),
        case("matrix_power", [&[2, 4, 4], &[4, 4]], 1024, |a, b| a.matrix_power(5) + b.matrix_power(0)),
    ]
}
