//! Comparisons, tests of what a number is, logic and choices.

use super::row::{Kind, Row, rows, zero};
use crate::shader::Algebra;

rows! {
    EQ "eq" Comparison Difference 2 "a == b", |a, b, _| f64::from(u8::from(a == b)), None;
    NE "ne" Comparison Difference 2 "!(a == b)", |a, b, _| f64::from(u8::from(a != b)), None;
    LT "lt" Comparison Difference 2 "a < b" int "U(a) < U(b)", |a, b, _| f64::from(u8::from(a < b)), None;
    LE "le" Comparison Difference 2 "a <= b" int "U(a) <= U(b)", |a, b, _| f64::from(u8::from(a <= b)), None;
    GT "gt" Comparison Difference 2 "a > b" int "U(a) > U(b)", |a, b, _| f64::from(u8::from(a > b)), None;
    GE "ge" Comparison Difference 2 "a >= b" int "U(a) >= U(b)", |a, b, _| f64::from(u8::from(a >= b)), None;
    WITHIN "within" Comparison Difference 3 "(a >= b) & (a <= c)", |a, b, c| f64::from(u8::from(b <= a && a <= c)), None;
    NOT "not" Logical Plain 1 "!a", |a, _, _| f64::from(u8::from(a == 0.0)), None;
    AND "and" Logical Plain 2 "a & b", |a, b, _| f64::from(u8::from(a != 0.0 && b != 0.0)), None;
    OR "or" Logical Plain 2 "a | b", |a, b, _| f64::from(u8::from(a != 0.0 || b != 0.0)), None;
    XOR "xor" Logical Plain 2 "a != b", |a, b, _| f64::from(u8::from((a != 0.0) != (b != 0.0))), None;
    IS_NAN "is_nan" Test Plain 1 "is_nan(a)" int "a != a", |a, _, _| f64::from(u8::from(a.is_nan())), None;
    IS_INF "is_inf" Test Plain 1 "is_inf(a)" int "a != a", |a, _, _| f64::from(u8::from(a.is_infinite())), None;
    IS_FINITE "is_finite" Test Plain 1 "is_finite(a)" int "a == a", |a, _, _| f64::from(u8::from(a.is_finite())), None;
    WHERE "where" Where Choice 3 "select(c, b, a)", |a, b, c| if a != 0.0 { b } else { c },
        Some(|w| vec![
            None,
            w.needs[1].then(|| w.inputs[0].where_(w.grad, &zero(w))),
            w.needs[2].then(|| w.inputs[0].where_(&zero(w), w.grad)),
        ]);
}
