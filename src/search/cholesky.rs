//! Symmetric positive definite matrices by their Cholesky factors: A = L Lᵀ. Square, row by row.

/// The factor of a matrix.
pub(super) struct Cholesky {
    size: usize,
    /// L, with what stood above its diagonal.
    lower: Vec<f64>,
}

impl Cholesky {
    /// `None` where the matrix is not positive definite to the precision of f64.
    pub(super) fn new(mut matrix: Vec<f64>, size: usize) -> Option<Cholesky> {
        for row in 0..size {
            for column in 0..=row {
                let (before, own) = matrix.split_at(row * size);
                let other = if column == row { own } else { &before[column * size..] };
                let sum = own[column] - dot(&own[..column], &other[..column]);
                matrix[row * size + column] = match row == column {
                    true if sum > 0.0 && sum.is_finite() => sum.sqrt(),
                    true => return None,
                    false => sum / matrix[column * size + column],
                };
            }
        }
        Some(Cholesky { size, lower: matrix })
    }

    /// x with L x = b.
    pub(super) fn forward(&self, mut b: Vec<f64>) -> Vec<f64> {
        for row in 0..self.size {
            let own = &self.lower[row * self.size..];
            b[row] = (b[row] - dot(&own[..row], &b[..row])) / own[row];
        }
        b
    }

    /// x with Lᵀ x = b.
    pub(super) fn backward(&self, mut b: Vec<f64>) -> Vec<f64> {
        for row in (0..self.size).rev() {
            let own = &self.lower[row * self.size..];
            b[row] /= own[row];
            let known = b[row];
            b[..row].iter_mut().zip(own).for_each(|(b, entry)| *b -= entry * known);
        }
        b
    }

    /// The inverse of the matrix.
    pub(super) fn inverse(&self) -> Vec<f64> {
        let unit = |column: usize| (0..self.size).map(|row| f64::from(u8::from(row == column))).collect();
        (0..self.size).flat_map(|column| self.backward(self.forward(unit(column)))).collect()
    }

    /// The logarithm of the determinant of L: half of that of the matrix.
    pub(super) fn log_root(&self) -> f64 {
        (0..self.size).map(|place| self.lower[place * self.size + place].ln()).sum()
    }
}

/// The sum of products.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_undoes_the_matrix() {
        let matrix = vec![4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let factor = Cholesky::new(matrix.clone(), 3).unwrap();
        let inverse = factor.inverse();
        for row in 0..3 {
            for column in 0..3 {
                let sum: f64 = (0..3).map(|k| matrix[row * 3 + k] * inverse[k * 3 + column]).sum();
                assert!((sum - f64::from(u8::from(row == column))).abs() < 1e-12);
            }
        }
        // 4 (15 - 1) - 2 (6 - 0.6) + 0.6 (2 - 3)
        assert!((2.0 * factor.log_root() - 44.6f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::new(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::new(vec![f64::NAN], 1).is_none());
    }
}
