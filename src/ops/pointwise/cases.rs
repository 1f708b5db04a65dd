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
        "log" | "log2" | "log10" | "sqrt" => (Draw::Uniform(0.1, 4.0), tight, bound(2e-6, 2e-6)),
        "rsqrt" => (Draw::Uniform(0.1, 4.0), tight, bound(4e-6, 4e-6)),
        "hypot" | "atan2" | "fmod" | "remainder" => (Draw::Uniform(0.5, 4.0), tight, bound(4e-6, 2e-6)),
        "asin" | "acos" | "atanh" => (Draw::Uniform(-0.9, 0.9), tight, bound(4e-6, 4e-6)),
        "acosh" => (Draw::Uniform(1.25, 4.0), tight, bound(4e-6, 4e-6)),
        "tan" => (Draw::Uniform(-1.2, 1.2), bound(2e-6, 2e-6), bound(8e-6, 4e-6)),
        "recip" | "div" => (Draw::Uniform(0.5, 4.0), tight, bound(4e-6, 2e-6)),
        "pow" => (Draw::Uniform(0.3, 3.0), bound(1e-6, 4e-6), bound(8e-6, 8e-6)),
        "log1p" => (Draw::Uniform(-0.5, 2.0), tight, tight),
        "exp" | "exp2" | "expm1" | "sinh" | "cosh" | "logaddexp" => (Draw::Normal, tight, bound(2e-6, 2e-6)),
        "gelu" | "gelu_tanh" | "silu" | "erf" | "erfc" | "mish" => (Draw::Normal, tight, bound(3e-6, 2e-6)),
        _ => (Draw::Distinct, tight, bound(2e-6, 2e-6)),
    }
}

const NOT_FINITE: Draw = Draw::Values(&[0.0, f64::NAN, 1.0, f64::INFINITY, -2.0, f64::NEG_INFINITY, 1e-30]);

/// What is composed of rows, and rows between others.
fn composed() -> Vec<Case> {
    let wide = |case: Case| case.tolerance(bound(4e-6, 4e-6));
    vec![
        wide(Case::new("glu", |x| x[0].glu(1)).normal(&[5, 74])),
        wide(Case::new("geglu_transposed", |x| x[0].transpose(0, 1).geglu(0)).normal(&[37, 6])),
        wide(Case::new("swiglu_first", |x| x[0].swiglu(0)).normal(&[2, 131])),
        wide(Case::new("prelu_channels", |x| x[0].prelu(&x[1])).normal(&[3, 5, 7]).normal(&[5])),
        wide(Case::new("softplus_with", |x| x[0].softplus_with(3.0, 2.0)).normal(&[131])),
        wide(Case::new("tanhshrink", |x| x[0].tanhshrink()).normal(&[131])),
        wide(Case::new("relu6", |x| (&x[0] * 4.0).relu6()).normal(&[131])),
        wide(Case::new("log_sigmoid", |x| x[0].log_sigmoid()).normal(&[131])),
        wide(Case::new("lerp_number", |x| x[0].lerp(&x[1], 0.75)).normal(&[37, 5]).normal(&[5])),
        wide(Case::new("between_waves", |x| {
            let turned = (x[0].sin() * &x[1] + x[0].cos()).atan2(&x[1].exp2());
            turned.hypot(&x[0].slice(0, 0, 1).mish()).expm1()
        }))
        .normal(&[37, 131])
        .normal(&[131]),
        // Angles of every size, and what Cody and Waite do not reach.
        Case::new("far_angles", |x| (x[0].exp2() * 3.0).sin() + (x[0].exp2() * 5.0).tan().atan())
            .input(&[1009], DType::F32, Draw::Values(&[0.0, 11.0, 12.0, 13.0, 24.0, 60.0, 100.0, 125.0, -3.0]))
            .not_differentiable(),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for &row in ROWS.iter() {
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
            (Kind::Integer, 1) => case.input(&[37, 5], DType::I32, Draw::Uniform(-2e9, 2e9)),
            (Kind::Integer, _) => {
                case.input(&[3, 1, 7], DType::I32, Draw::Uniform(-2e9, 2e9)).input(&[5, 1], DType::I32, Draw::Below(40))
            }
            (Kind::Test, _) => case.input(&[37, 5], DType::F32, NOT_FINITE),
            (_, 1) => case.input(&[37, 5], DType::F32, draw.clone()),
            // Slopes and bounds: scalars whose gradient is not defined.
            (_, 3) => case
                .input(&[37, 5], DType::F32, draw.clone())
                .input(&[], DType::F32, Draw::Values(&[-0.3]))
                .input(&[], DType::F32, Draw::Values(&[0.4])),
            _ if matches!(row.name, "leaky_relu" | "elu" | "prelu" | "celu" | "softshrink" | "hardshrink") => {
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
    let whole = [&FMOD, &REMAINDER, &BITS_AND, &BITS_OR, &BITS_XOR, &SHIFT_LEFT, &SHIFT_RIGHT];
    for row in [&ADD, &SUB, &MUL, &DIV, &MINIMUM, &EQ, &GE].into_iter().chain(whole) {
        for (dtype, draw) in [(DType::I32, INTS), (DType::U32, WORDS)] {
            let case = Case::new(format!("{}_edges_{dtype}", row.name), of(row)).input(&[8, 1], dtype, draw.clone());
            cases.push(case.input(&[8], dtype, draw).tolerance(Tolerance::Exact).not_differentiable());
        }
    }
    for (row, dtype) in [
        (&ABS, DType::U32),
        (&ABS, DType::I32),
        (&NEG, DType::I32),
        (&SIGN, DType::I32),
        (&RELU, DType::I32),
        (&BITS_NOT, DType::I32),
        (&BITS_NOT, DType::U32),
        (&FLOOR, DType::I32),
        (&IS_NAN, DType::U32),
        (&IS_FINITE, DType::I32),
    ] {
        let draw = if dtype == DType::U32 { WORDS } else { INTS };
        let case = Case::new(format!("{}_edges_{dtype}", row.name), |x| Tensor::apply(Pointwise(row), &[&x[0]]));
        cases.push(case.input(&[8], dtype, draw).tolerance(Tolerance::Exact).not_differentiable());
    }
    cases.extend(composed());
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
