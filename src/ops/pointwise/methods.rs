//! Methods of pointwise ops: arithmetic, functions, comparisons, logic, bits.

use super::{Argument, Pointwise, number, table};
use crate::dtype::DType;
use crate::error::Problem;
use crate::shape::Shape;
use crate::tensor::Tensor;

unary! {
    /// e to the power of each element.
    exp = EXP;
    /// Natural logarithm.
    log = LOG;
    /// Square root.
    sqrt = SQRT;
    /// Absolute value.
    abs = ABS;
    /// Sign: -1, 0 or 1.
    sign = SIGN;
    /// The negative.
    negative = NEG;
    /// 1 / x.
    recip = RECIP;
    /// exp(x) - 1, exact near 0.
    expm1 = EXPM1;
    /// log(1 + x), exact near 0.
    log1p = LOG1P;
    /// Hyperbolic tangent.
    tanh = TANH;
    /// The error function.
    erf = ERF;
    /// The standard normal distribution's share below x, exact in both tails (as `torch.special.ndtr`).
    normal_cdf = NORMAL_CDF;
    /// Truth value negated.
    logical_not = NOT;
    /// 2 to the power of each element; whole powers are exact.
    exp2 = EXP2;
    /// Logarithm to base 2, exact for powers of 2.
    log2 = LOG2;
    /// Logarithm to base 10.
    log10 = LOG10;
    /// 1 / sqrt(x).
    rsqrt = RSQRT;
    /// 1 - erf(x), which keeps its digits where that is small.
    erfc = ERFC;
    /// Sine of an angle in radians, as exact for large angles as for small ones.
    sin = SIN;
    /// Cosine of an angle in radians, as exact for large angles as for small ones.
    cos = COS;
    /// Tangent of an angle in radians, as exact for large angles as for small ones.
    tan = TAN;
    /// The angle in [-pi/2, pi/2] of which x is the sine; NaN outside [-1, 1].
    asin = ASIN;
    /// The angle in [0, pi] of which x is the cosine; NaN outside [-1, 1].
    acos = ACOS;
    /// The angle in [-pi/2, pi/2] of which x is the tangent.
    atan = ATAN;
    /// Hyperbolic sine.
    sinh = SINH;
    /// Hyperbolic cosine.
    cosh = COSH;
    /// The inverse of the hyperbolic sine.
    asinh = ASINH;
    /// The inverse of the hyperbolic cosine; NaN below 1.
    acosh = ACOSH;
    /// The inverse of the hyperbolic tangent; infinite at -1 and 1, NaN beyond.
    atanh = ATANH;
    /// The largest whole number that is not above x. Integers stay as they are. No gradient flows through it.
    floor = FLOOR;
    /// The least whole number that is not below x. Integers stay as they are. No gradient flows through it.
    ceil = CEIL;
    /// The nearest whole number, the even one of two. Integers stay as they are. No gradient flows through it.
    round = ROUND;
    /// The whole number next to x on the side of 0. Integers stay as they are. No gradient flows through it.
    trunc = TRUNC;
}

impl Tensor {
    /// True where an element is not a number; nowhere in integers and booleans (`torch.isnan`).
    #[track_caller]
    pub fn is_nan(&self) -> Tensor {
        Tensor::apply(Pointwise(&table::IS_NAN), &[self])
    }

    /// True where an element is infinite, of either sign; nowhere in integers and booleans (`torch.isinf`).
    #[track_caller]
    pub fn is_inf(&self) -> Tensor {
        Tensor::apply(Pointwise(&table::IS_INF), &[self])
    }

    /// True where an element is neither infinite nor NaN; everywhere in integers and booleans (`torch.isfinite`).
    #[track_caller]
    pub fn is_finite(&self) -> Tensor {
        Tensor::apply(Pointwise(&table::IS_FINITE), &[self])
    }
}

binary! {
    /// Sum. Integers wrap, here and in every other op on them.
    plus = ADD;
    /// Difference.
    minus = SUB;
    /// Product of elements.
    times = MUL;
    /// Quotient. Integers are cut toward zero; a / 0 is a, and the least i32 over -1 is itself, as in WGSL.
    over = DIV;
    /// Power; a negative base with a fractional exponent is NaN. Within one unit in the last place, and exact where an f32
    /// can hold the power. Gradients as PyTorch's: that of x^0 is 0, and so is the exponent's where x is 0.
    pow = POW;
    /// The smaller; NaN if either is. The gradient of a tie is shared in halves, as in PyTorch.
    minimum = MINIMUM;
    /// The larger; NaN if either is. The gradient of a tie is shared in halves, as in PyTorch.
    maximum = MAXIMUM;
    /// True where equal.
    eq = EQ;
    /// True where not equal (NaN is not equal to itself).
    ne = NE;
    /// True where less.
    lt = LT;
    /// True where less or equal.
    le = LE;
    /// True where greater.
    gt = GT;
    /// True where greater or equal.
    ge = GE;
    /// True where both are.
    logical_and = AND;
    /// True where either is.
    logical_or = OR;
    /// True where one is and the other is not.
    logical_xor = XOR;
    /// What is left of a division whose quotient is cut to a whole number: exact, with the sign of this tensor's element, as
    /// Rust's `%`. NaN where a float is divided by 0, 0 where an integer is.
    fmod = FMOD;
    /// The same with the sign of the divisor: its quotient is rounded down (`torch.remainder`, Python's `%`).
    remainder = REMAINDER;
    /// sqrt(a^2 + b^2), where the squares would leave the range too. The gradient is 0 where both are 0.
    hypot = HYPOT;
    /// The angle in [-pi, pi] of the point whose y this is and whose x is `other`. The gradient is 0 at the origin.
    atan2 = ATAN2;
    /// log(e^a + e^b) without leaving the range.
    logaddexp = LOGADDEXP;
}

impl Tensor {
    /// `min(max(x, low), high)`; NaN stays NaN. The bounds travel as host numbers; an infinite one is none.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for integers that do not hold a bound, [`crate::Error::Value`] for a float
    /// and a bound that is NaN.
    #[track_caller]
    pub fn clamp(&self, low: f64, high: f64) -> Tensor {
        if self.meta().dtype.is_float() && (low.is_nan() || high.is_nan()) {
            let what = format!("bounds {low} and {high}");
            return self.problem("clamp", Problem::Value(what, "pass numbers; an infinite bound is none"));
        }
        let [low, high] = number::bounds(self, low, high);
        Tensor::apply(Pointwise(&table::CLAMP), &[self, &low, &high])
    }

    /// This tensor where `weight` is 0, `end` where it is 1, and on the line between them: `x + weight (end - x)`. `weight` is a
    /// tensor or a number; all broadcast.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] unless all are floats of one dtype, [`crate::Error::Shape`] unless they
    /// broadcast.
    #[track_caller]
    pub fn lerp<'a>(&self, end: &Tensor, weight: impl Into<Argument<'a>>) -> Tensor {
        match weight.into() {
            Argument::Tensor(weight) => Tensor::apply(Pointwise(&table::LERP), &[self, end, weight]),
            _ if self.error().is_some() => self.clone(),
            Argument::Number(weight) => {
                let weight = number::beside(&table::LERP, self, weight);
                Tensor::apply(Pointwise(&table::LERP), &[self, end, &weight])
            }
        }
    }

    /// `a` where this condition is true, else `b`; all three broadcast.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] unless this is bool and `a` and `b` share a dtype.
    #[track_caller]
    pub fn where_(&self, a: &Tensor, b: &Tensor) -> Tensor {
        Tensor::apply(Pointwise(&table::WHERE), &[self, a, b])
    }

    /// (1 - t) x + log(1 + e^-x) for targets t.
    #[track_caller]
    pub(crate) fn logistic_loss(&self, target: &Tensor) -> Tensor {
        Tensor::apply(Pointwise(&table::LOGISTIC_LOSS), &[self, target])
    }

    /// x * x.
    #[track_caller]
    pub fn square(&self) -> Tensor {
        Tensor::apply(Pointwise(&table::MUL), &[self, self])
    }

    /// Multiplies by a number that is part of the graph's structure (for gradient rules).
    pub(crate) fn scale(&self, by: f64) -> Tensor {
        self.times(&self.scalar(by))
    }

    /// Adds a number that is part of the graph's structure.
    pub(crate) fn offset(&self, by: f64) -> Tensor {
        self.plus(&self.scalar(by))
    }

    /// Gradient `self` of a broadcast result, summed in f32 to the shape of what was broadcast. The gradient of an f16
    /// value may be f32: autograd rounds it where it must.
    pub(crate) fn sum_to(&self, shape: &Shape) -> Tensor {
        let from = *self.dims();
        if from == *shape {
            return self.clone();
        }
        let lead = from.rank() - shape.rank();
        let axes: Vec<usize> =
            (0..from.rank()).filter(|&i| i < lead || (shape[i - lead] == 1 && from[i] != 1)).collect();
        self.widen().sum_keep(&axes).reshape(shape)
    }
}

/// Of integers by their bits, of booleans as truth values.
macro_rules! bits {
    ($($(#[$doc:meta])* $method:ident = $row:ident or $logical:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// # Errors
            /// The result carries [`crate::Error::DType`] for floats and for two dtypes, [`crate::Error::Shape`] unless they
            /// broadcast.
            #[track_caller]
            pub fn $method<'a>(&self, other: impl Into<Argument<'a>>) -> Tensor {
                let is_bool = self.error().is_none() && self.meta().dtype == DType::Bool;
                number::binary(if is_bool { &table::$logical } else { &table::$row }, self, other.into())
            }
        )+ }
    };
}

bits! {
    /// Bits that both have; of booleans, true where both are.
    bitwise_and = BITS_AND or AND;
    /// Bits that either has; of booleans, true where either is.
    bitwise_or = BITS_OR or OR;
    /// Bits that one has and the other has not; of booleans, true where they differ.
    bitwise_xor = BITS_XOR or XOR;
    /// Bits moved up by `other` places, zeros behind: 0 for 32 places and more, and for less than 0.
    shift_left = SHIFT_LEFT or SHIFT_LEFT;
    /// Bits moved down by `other` places; an i32 keeps its sign. 32 places and more, and less than 0, leave 0, or -1 of a negative
    /// number.
    shift_right = SHIFT_RIGHT or SHIFT_RIGHT;
}

impl Tensor {
    /// The other bits; of booleans, the other truth value.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for floats.
    #[track_caller]
    pub fn bitwise_not(&self) -> Tensor {
        let is_bool = self.error().is_none() && self.meta().dtype == DType::Bool;
        Tensor::apply(Pointwise(if is_bool { &table::NOT } else { &table::BITS_NOT }), &[self])
    }
}
