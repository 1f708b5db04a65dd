//! A row of the table of pointwise ops, and the macro that writes rows down.

use crate::op::Backward;
use crate::shader::Algebra;
use crate::tensor::Tensor;

/// Which dtypes a row takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Floats to the same float.
    Float,
    /// Floats or integers to the same.
    Number,
    /// Floats or i32 to the same.
    Signed,
    /// Two of any one dtype to bool.
    Comparison,
    /// Bools to bool.
    Logical,
    /// A bool and two of any one dtype to that dtype.
    Where,
    /// Integers to the same.
    Integer,
    /// Any dtype to bool.
    Test,
}

/// Gradients of a row's inputs, in ops, before summing over stretched axes.
pub type Derivative = fn(&Backward<'_>) -> Vec<Option<Tensor>>;

/// A pointwise op.
pub struct Row {
    /// Name in errors and dumps.
    pub name: &'static str,
    /// Dtypes.
    pub kind: Kind,
    /// What a compiler may make of it where operands share a part.
    pub algebra: Algebra,
    /// Number of inputs.
    pub arity: usize,
    /// WGSL expression of `a`, `b`, `c` for floats.
    pub wgsl: &'static str,
    /// The same for integers and bools, where it differs.
    pub integer: Option<&'static str>,
    /// The same for u32, where that differs from i32.
    pub unsigned: Option<&'static str>,
    /// The f64 definition.
    pub function: fn(f64, f64, f64) -> f64,
    /// The definition for integers where f64 has not the bits for it: right modulo 2^32.
    pub whole: Option<fn(i64, i64) -> i64>,
    /// The derivative; `None` where it is zero or undefined everywhere.
    pub derivative: Option<Derivative>,
}

/// A zero of the gradient's dtype.
pub(super) fn zero(backward: &Backward<'_>) -> Tensor {
    backward.grad.scalar(0.0).cast(backward.grad.meta().dtype)
}

/// The gradient of the only input.
pub(super) fn one(gradient: Tensor) -> Vec<Option<Tensor>> {
    vec![Some(gradient)]
}

/// Rows of the table: a name, its text, dtypes, algebra, number of inputs, WGSL (where it differs, that of integers and of u32,
/// and their arithmetic on the host), the f64 definition and the derivative.
macro_rules! rows {
    ($($name:ident $text:literal $kind:ident $algebra:ident $arity:literal $wgsl:literal $(int $integer:literal)? $(uint $unsigned:literal)? $(whole $whole:expr)?, $function:expr, $derivative:expr;)+) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub static $name: Row = Row {
                name: $text,
                kind: Kind::$kind,
                algebra: Algebra::$algebra,
                arity: $arity,
                wgsl: $wgsl,
                integer: { let _other: Option<&'static str> = None; $(let _other = Some($integer);)? _other },
                unsigned: { let _other: Option<&'static str> = None; $(let _other = Some($unsigned);)? _other },
                function: $function,
                whole: { let _other: Option<fn(i64, i64) -> i64> = None; $(let _other = Some($whole as fn(i64, i64) -> i64);)? _other },
                derivative: $derivative,
            };
        )+
        /// The rows of this file.
        pub(super) static HERE: &[&Row] = &[$(&$name),+];
    };
}
pub(super) use rows;
