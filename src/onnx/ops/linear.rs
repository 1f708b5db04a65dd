//! Products of matrices.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, settled};
use crate::onnx::elem::Elem;
use crate::onnx::ops::shapes::broadcast;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// A product in the dtype that products have, rounded to that of the inputs: whole numbers below 2^24 keep their digits.
pub fn exact(elem: Elem, of: impl FnOnce(&dyn Fn(&Tensor) -> Tensor) -> Tensor) -> Tensor {
    let dtype = elem.dtype();
    match dtype {
        DType::F32 | DType::F16 => of(&Tensor::clone),
        _ => settled(of(&|x: &Tensor| x.cast(DType::F32)).round().cast(dtype), elem),
    }
}

fn matmul(call: &Call<'_>) -> Outcome {
    let elem = call.elem(0)?;
    let (a, b) = (call.tensor(0)?, call.tensor(1)?);
    let product = exact(elem, |taken| times(&taken(&a), &taken(&b)));
    one(product, elem)
}

/// The product of matrices behind batches that stretch; a vector is a row in front and a column behind.
pub fn times(a: &Tensor, b: &Tensor) -> Tensor {
    let (Ok(left), Ok(right)) = (a.shape().map(<[_]>::to_vec), b.shape().map(<[_]>::to_vec)) else {
        return a.matmul(b);
    };
    let row = if left.len() == 1 { a.unsqueeze(0) } else { a.clone() };
    let column = if right.len() == 1 { b.unsqueeze(1) } else { b.clone() };
    let batches = |shape: &[usize]| shape.get(..shape.len().saturating_sub(2)).unwrap_or_default().to_vec();
    let (front, behind) = (batches(&left), batches(&right));
    let product = match broadcast(&front, &behind) {
        Ok(batch) if front != behind && !behind.is_empty() => {
            let stretched = |x: &Tensor| match x.shape() {
                Ok(shape) => {
                    let matrix = shape.get(shape.len().saturating_sub(2)..).unwrap_or_default();
                    x.expand(&[&batch[..], matrix].concat())
                }
                Err(_) => x.clone(),
            };
            stretched(&row).matmul(&stretched(&column))
        }
        _ => row.matmul(&column),
    };
    let product = if right.len() == 1 { product.squeeze(-1) } else { product };
    match (left.len(), right.len()) {
        (1, 1) => product.squeeze(0),
        (1, _) => product.squeeze(-2),
        _ => product,
    }
}

fn gemm(call: &Call<'_>) -> Outcome {
    let (a, b, elem) = (call.tensor(0)?, call.tensor(1)?, call.elem(0)?);
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let turned = |x: Tensor, name: &str| -> Result<Tensor, Trouble> {
        Ok(if call.flag(name, false)? { x.transpose(0, 1) } else { x })
    };
    let (a, b) = (turned(a, "transA")?, turned(b, "transB")?);
    let c = call.optional(2)?;
    let y = exact(elem, |taken| {
        let product = taken(&a).matmul(&taken(&b));
        let product = if alpha == 1.0 { product } else { product * alpha };
        match &c {
            None => product,
            Some(c) if beta == 1.0 => product + taken(c),
            Some(c) => product + taken(c) * beta,
        }
    });
    one(y, elem)
}

fn einsum(call: &Call<'_>) -> Outcome {
    let elem = call.elem(0)?;
    let mut operands = vec![];
    for i in 0..call.inputs.len() {
        operands.push(call.tensor(i)?);
    }
    let equation: String = call.text("equation", "")?.chars().filter(|letter| !letter.is_whitespace()).collect();
    one(Tensor::einsum(&equation, &operands.iter().collect::<Vec<_>>()), elem)
}

/// By expansion of the first row, for matrices of up to three rows.
fn det(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let &[ref batch @ .., rows, columns] = &shape[..] else { return wrong(format!("shape {shape:?} is no matrix")) };
    if rows != columns {
        return wrong(format!("shape {shape:?} is not square"));
    }
    if rows > 3 {
        return unsupported(format!("the determinant of {rows} rows"));
    }
    let rank = batch.len();
    let at = |row: usize, column: usize| {
        let row = x.slice_step(rank, row as isize, row as isize + 1, 1);
        row.slice_step(rank + 1, column as isize, column as isize + 1, 1).reshape(batch)
    };
    let two = |columns: [usize; 2], rows: [usize; 2]| {
        at(rows[0], columns[0]) * at(rows[1], columns[1]) - at(rows[0], columns[1]) * at(rows[1], columns[0])
    };
    let det = match rows {
        1 => at(0, 0),
        2 => two([0, 1], [0, 1]),
        _ => at(0, 0) * two([1, 2], [1, 2]) - at(0, 1) * two([0, 2], [1, 2]) + at(0, 2) * two([0, 1], [1, 2]),
    };
    one(det, elem)
}

/// Products.
pub const ROWS: &[Row] = &[
    Row::new("MatMul", matmul),
    Row::new("Gemm", gemm).with(&["alpha", "beta", "transA", "transB"]),
    Row::new("Einsum", einsum).with(&["equation"]),
    Row::new("Det", det),
];
