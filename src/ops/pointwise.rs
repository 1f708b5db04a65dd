//! Pointwise ops: rows of one table (see [`table`]), broadcasting as NumPy does.
//!
//! A row has a name, a WGSL expression, an f64 function and a derivative written in ops. Rows have no kernels: the
//! planner fuses connected ones into one.

mod cases;
pub(crate) mod number;
pub mod table;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Lowering, Op};
use crate::shader::Expression;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;
pub use number::Argument;
use table::{Kind, Row};

/// One row of the table applied to one to three inputs.
pub struct Pointwise(pub &'static Row);

impl std::fmt::Debug for Pointwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $row:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// Same shape and dtype. The result carries [`crate::Error::DType`] for a dtype that has no such function.
            #[track_caller]
            pub fn $method(&self) -> Tensor {
                Tensor::apply(Pointwise(&table::$row), &[self])
            }
        )+ }
    };
}

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
    /// max(x, 0); NaN stays NaN.
    relu = RELU;
    /// Gaussian error linear unit x * Phi(x) (Hendrycks and Gimpel 2016), exact form.
    gelu = GELU;
    /// GELU by the tanh approximation (`approximate="tanh"` in PyTorch).
    gelu_tanh = GELU_TANH;
    /// x * sigmoid(x).
    silu = SILU;
    /// 1 / (1 + exp(-x)).
    sigmoid = SIGMOID;
    /// Hyperbolic tangent.
    tanh = TANH;
    /// log(1 + exp(x)).
    softplus = SOFTPLUS;
    /// The error function.
    erf = ERF;
    /// The standard normal distribution's share below x, exact in both tails (as `torch.special.ndtr`).
    normal_cdf = NORMAL_CDF;
    /// Truth value negated.
    logical_not = NOT;
}

macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident = $row:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// `other` is a tensor or a number ([`Argument`]); shapes broadcast. The result carries
            /// [`crate::Error::Shape`] or [`crate::Error::DType`] where they do not fit.
            #[track_caller]
            pub fn $method<'a>(&self, other: impl Into<Argument<'a>>) -> Tensor {
                number::binary(&table::$row, self, other.into())
            }
        )+ }
    };
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
}

impl Tensor {
    /// x where x > 0, else `slope * x`.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        number::binary(&table::LEAKY_RELU, self, slope.into())
    }

    /// x where x > 0, else `alpha * (exp(x) - 1)` (Clevert et al. 2015).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        number::binary(&table::ELU, self, alpha.into())
    }

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

macro_rules! operator {
    ($($trait:ident $method:ident $named:ident $row:ident;)+) => { $(
        impl<'a, R: Into<Argument<'a>>> std::ops::$trait<R> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor { self.$named(other) }
        }
        impl<'a, R: Into<Argument<'a>>> std::ops::$trait<R> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor { self.$named(other) }
        }
        impl std::ops::$trait<Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { self.$named(&other) }
        }
        impl std::ops::$trait<Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { self.$named(&other) }
        }
        impl std::ops::$trait<&Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor { number::reversed(&table::$row, self, other) }
        }
        impl std::ops::$trait<Tensor> for f64 {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { number::reversed(&table::$row, self, &other) }
        }
    )+ };
}

operator! {
    Add add plus ADD;
    Sub sub minus SUB;
    Mul mul times MUL;
    Div div over DIV;
}

impl std::ops::Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.negative()
    }
}

impl std::ops::Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.negative()
    }
}

impl Op for Pointwise {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn casting(&self) -> Casting {
        match self.0.name {
            "exp" | "expm1" | "log" | "log1p" | "logistic_loss" | "pow" | "recip" | "softplus" => Casting::Full,
            _ => Casting::Widest,
        }
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let mut shape = inputs[0].shape;
        for input in &inputs[1..] {
            shape = shape.broadcast(&input.shape).ok_or_else(|| {
                let shapes: Vec<_> = inputs.iter().map(|meta| meta.shape.to_string()).collect();
                Problem::Shape(
                    format!("shapes {} do not broadcast", shapes.join(" and ")),
                    "axes must be equal or 1, counted from the last; reshape one of them",
                )
            })?;
        }
        let same = |metas: &[Meta]| match metas.windows(2).find(|pair| pair[0].dtype != pair[1].dtype) {
            Some(pair) => Err(Problem::DType(format!("dtypes {} and {} do not mix", pair[0].dtype, pair[1].dtype))),
            None => Ok(()),
        };
        let refuse = |dtype: DType| Err(Problem::DType(format!("it is not defined for {dtype}")));
        let first = inputs[0].dtype;
        let dtype = match self.0.kind {
            Kind::Where if first != DType::Bool => {
                return Err(Problem::DType(format!("the condition is {first}, not bool")));
            }
            Kind::Where => {
                same(&inputs[1..])?;
                inputs[1].dtype
            }
            Kind::Float if !first.is_float() => return refuse(first),
            Kind::Number if first == DType::Bool => return refuse(first),
            Kind::Signed if matches!(first, DType::Bool | DType::U32) => return refuse(first),
            Kind::Logical if first != DType::Bool => return refuse(first),
            Kind::Float | Kind::Number | Kind::Signed | Kind::Logical => {
                same(inputs)?;
                first
            }
            Kind::Comparison => {
                same(inputs)?;
                DType::Bool
            }
        };
        Ok(vec![Meta { shape, dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let Some(derivative) = self.0.derivative else {
            return vec![None; backward.inputs.len()];
        };
        let sum = |(gradient, input): (Option<Tensor>, &Tensor)| gradient.map(|g| g.sum_to(input.dims()));
        if !backward.inputs.iter().any(|input| input.meta().dtype == DType::F16) {
            return derivative(backward).into_iter().zip(backward.inputs).map(sum).collect();
        }
        // Half precision: in f32 throughout and rounded at the end, but for what is summed to the shape of an input.
        let inputs: Vec<Tensor> = backward.inputs.iter().map(Tensor::widen).collect();
        let (output, grad) = (backward.output.widen(), backward.grad.widen());
        let wide = Backward {
            inputs: &inputs,
            output: &output,
            outputs: std::slice::from_ref(&output),
            grad: &grad,
            grads: &[Some(grad.clone())],
            needs: backward.needs,
        };
        let narrow = |(gradient, input): (Option<Tensor>, &Tensor)| {
            let gradient = gradient?;
            let same = gradient.dims() == input.dims();
            let summed = gradient.sum_to(input.dims());
            Some(if same { summed.cast(input.meta().dtype) } else { summed })
        };
        derivative(&wide).into_iter().zip(backward.inputs).map(narrow).collect()
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        // Strides of each input over the output's axes: 0 where it is stretched.
        let rank = output.shape.rank();
        let strides: Vec<Vec<usize>> = inputs
            .iter()
            .map(|input| {
                let mut strides = vec![0; rank];
                let lead = rank - input.shape.rank();
                for (axis, stride) in input.shape.strides().into_iter().enumerate() {
                    strides[lead + axis] = if input.shape[axis] == 1 { 0 } else { stride };
                }
                strides
            })
            .collect();
        let same = inputs.iter().all(|input| input.shape == output.shape);
        let function = self.0.function;
        let is_whole = output.dtype.is_integer();
        vec![Array::build(output.shape, output.dtype, |linear| {
            let mut values = [0.0; 3];
            let mut index = [0; MAX_RANK];
            if !same {
                Array::unravel(&output.shape, linear, &mut index[..rank]);
            }
            for (k, input) in inputs.iter().enumerate() {
                let at = if same { linear } else { (0..rank).map(|axis| index[axis] * strides[k][axis]).sum() };
                values[k] = input.data[at];
            }
            let [a, b, c] = values;
            match (is_whole, self.0.whole) {
                (false, _) => output.dtype.round(function(a, b, c)),
                (true, Some(whole)) => output.dtype.wrap(whole(a as i64, b as i64)),
                // Sums, differences and choices of 32-bit numbers are exact in f64.
                (true, None) => output.dtype.wrap(function(a, b, c) as i64),
            }
        })]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        // The last input is of the arithmetic's dtype; whole numbers compare as they are, bools as words.
        let integer = match inputs.last().map(|meta| meta.dtype) {
            Some(DType::I32 | DType::U32) => self.0.kind != Kind::Comparison,
            Some(DType::Bool) => true,
            _ => false,
        };
        let is_unsigned = inputs.last().is_some_and(|meta| meta.dtype == DType::U32);
        let expression = match integer {
            true => self.0.unsigned.filter(|_| is_unsigned).or(self.0.integer).unwrap_or(self.0.wgsl),
            false => self.0.wgsl,
        };
        Lowering::Expression { expression: Expression::new(expression, self.0.algebra), constants: vec![] }
    }

    fn cases() -> Vec<Case> {
        cases::cases()
    }
}
