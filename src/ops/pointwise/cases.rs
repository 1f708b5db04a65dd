//! Cases of the pointwise table.

use super::Pointwise;
use super::table::*;
use crate::dtype::DType;
use crate::op::{Case, Draw, Tolerance};
use crate::tensor::Tensor;

fn bound(absolute: f64, relative: f64) -> Tolerance {
    Tolerance::Pointwise { absolute, relative }
}

/// Inputs within which the row is smooth, and the bounds of its value and gradient.
///
/// Bounds above 1e-6: powers go through exp(b log a), whose error grows with |b log a|; quotients and reciprocals of
/// inputs near 0 amplify the rounding of their inputs; gradients are products of several rounded factors.
fn domain(row: &Row) -> (Draw, Tolerance, Tolerance) {
    let tight = bound(1e-6, 1e-6);
    match row.name {
        "log" | "sqrt" => (Draw::Uniform(0.1, 4.0), tight, bound(2e-6, 2e-6)),
        "recip" | "div" => (Draw::Uniform(0.5, 4.0), tight, bound(4e-6, 2e-6)),
        "pow" => (Draw::Uniform(0.3, 3.0), bound(1e-6, 4e-6), bound(8e-6, 8e-6)),
        "log1p" => (Draw::Uniform(-0.5, 2.0), tight, tight),
        "exp" | "expm1" => (Draw::Normal, tight, bound(2e-6, 2e-6)),
        "gelu" | "gelu_tanh" | "silu" | "erf" => (Draw::Normal, tight, bound(3e-6, 2e-6)),
        _ => (Draw::Distinct, tight, bound(2e-6, 2e-6)),
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for row in ROWS {
        let (draw, tolerance, gradient) = domain(row);
        let arity = row.arity;
        let apply = move |x: &[Tensor]| Tensor::apply(Pointwise(row), &x.iter().collect::<Vec<_>>());
        let mut case = Case::new(row.name, apply).tolerance(tolerance).gradient_tolerance(gradient);
        if row.derivative.is_none() {
            case = case.not_differentiable();
        }
        case = match (row.kind, arity) {
            (Kind::Logical, 1) => case.input(&[37, 5], DType::Bool, Draw::Below(2)),
            (Kind::Logical, _) => {
                case.input(&[37, 5], DType::Bool, Draw::Below(2)).input(&[37, 1], DType::Bool, Draw::Below(2))
            }
            (Kind::Where, _) => case
                .input(&[37, 1], DType::Bool, Draw::Below(2))
                .input(&[37, 5], DType::F32, Draw::Normal)
                .input(&[5], DType::F32, Draw::Normal),
            (_, 1) => case.input(&[37, 5], DType::F32, draw.clone()),
            // Slopes and bounds: scalars whose gradient is not defined.
            (_, 3) => case
                .input(&[37, 5], DType::F32, draw.clone())
                .input(&[], DType::F32, Draw::Values(&[-0.3]))
                .input(&[], DType::F32, Draw::Values(&[0.4])),
            _ if matches!(row.name, "leaky_relu" | "elu") => {
                case.input(&[37, 5], DType::F32, draw.clone()).input(&[], DType::F32, Draw::Values(&[0.2]))
            }
            _ => case.input(&[3, 1, 7], DType::F32, draw.clone()).input(&[5, 1], DType::F32, draw.clone()),
        };
        cases.push(case);
    }
    let of = |row: &'static Row| move |x: &[Tensor]| Tensor::apply(Pointwise(row), &[&x[0], &x[1]]);
    for (row, label) in [(&ADD, "add_i32"), (&MUL, "mul_i32"), (&MAXIMUM, "maximum_i32"), (&LT, "lt_u32")] {
        let dtype = if label.ends_with("u32") { DType::U32 } else { DType::I32 };
        cases.push(
            Case::new(label, of(row))
                .input(&[131], dtype, Draw::Below(100))
                .input(&[1], dtype, Draw::Below(100))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        );
    }
    // All pairs of the numbers at which integers wrap, or leave a quotient open.
    const INTS: Draw = Draw::Values(&[0.0, 1.0, -1.0, -2_147_483_648.0, 2_147_483_647.0, 65_537.0, -16_777_217.0, 7.0]);
    const WORDS: Draw = Draw::Values(&[0.0, 1.0, 4_294_967_295.0, 2_147_483_648.0, 65_537.0, 16_777_217.0, 7.0, 2.0]);
    for row in [&ADD, &SUB, &MUL, &DIV, &MINIMUM, &EQ, &GE] {
        for (dtype, draw) in [(DType::I32, INTS), (DType::U32, WORDS)] {
            let case = Case::new(format!("{}_edges_{dtype}", row.name), of(row)).input(&[8, 1], dtype, draw.clone());
            cases.push(case.input(&[8], dtype, draw).tolerance(Tolerance::Exact).not_differentiable());
        }
    }
    for (row, dtype) in
        [(&ABS, DType::U32), (&ABS, DType::I32), (&NEG, DType::I32), (&SIGN, DType::I32), (&RELU, DType::I32)]
    {
        let draw = if dtype == DType::U32 { WORDS } else { INTS };
        let case = Case::new(format!("{}_edges_{dtype}", row.name), |x| Tensor::apply(Pointwise(row), &[&x[0]]));
        cases.push(case.input(&[8], dtype, draw).tolerance(Tolerance::Exact).not_differentiable());
    }
    // Rows that some drivers take eight elements at a time, in two halves that share their loads.
    let mixed = |x: &[Tensor]| (&x[0] * &x[1] + &x[2]).sigmoid().maximum(&x[0]).relu();
    let rows = |case: Case| case.normal(&[2, 262_152]).normal(&[262_152]).normal(&[2, 1]);
    cases.push(rows(Case::new("mixed_long_rows", mixed)).tolerance(bound(2e-6, 2e-6)).not_differentiable());
    for (row, dtype) in [(&LT, DType::F32), (&ADD, DType::I32), (&MAXIMUM, DType::U32), (&AND, DType::Bool)] {
        let draw = if dtype == DType::F32 { Draw::Normal } else { Draw::Below(2) };
        cases.push(
            Case::new("long_rows", of(row))
                .input(&[2, 1, 87_384], dtype, draw.clone())
                .input(&[3, 1], dtype, draw)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        );
    }
    // One workgroup dimension holds 65,535 groups: more must fold.
    cases.push(Case::new("mul_large", of(&MUL)).normal(&[1, 300_007]).normal(&[1]).tolerance(bound(1e-6, 1e-6)));
    cases
}
