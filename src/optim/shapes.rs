//! The matrices that rules see in a parameter.

/// (matrices, rows, columns) of a parameter that has any.
pub(super) fn matrices(shape: &[usize]) -> Option<[usize; 3]> {
    match shape {
        [before @ .., rows, columns] => Some([before.iter().product(), *rows, *columns]),
        _ => None,
    }
}

/// Rows, along the first axis, and columns, along all others.
pub(super) fn sides(shape: &[usize]) -> [usize; 2] {
    let rows = shape.first().copied().unwrap_or(1);
    [rows, shape.iter().product::<usize>() / rows.max(1)]
}
