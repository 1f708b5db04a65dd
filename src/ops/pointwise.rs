//! Pointwise ops: rows of one table (see [`table`]), broadcasting as NumPy does.
//!
//! A row has a name, a WGSL expression, an f64 function and a derivative written in ops. Rows have no kernels: the
//! planner fuses connected ones into one.

/// Methods without further operands.
macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $row:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// Same shape and dtype. The result carries [`crate::Error::DType`] for a dtype that has no such function.
            #[track_caller]
            pub fn $method(&self) -> Tensor {
                Tensor::apply($crate::ops::pointwise::Pointwise(&$crate::ops::pointwise::table::$row), &[self])
            }
        )+ }
    };
}

/// Methods with a tensor or a number.
macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident = $row:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// `other` is a tensor or a number ([`Argument`]); shapes broadcast. The result carries
            /// [`crate::Error::Shape`] or [`crate::Error::DType`] where they do not fit.
            #[track_caller]
            pub fn $method<'a>(&self, other: impl Into<$crate::ops::pointwise::Argument<'a>>) -> Tensor {
                $crate::ops::pointwise::number::binary(&$crate::ops::pointwise::table::$row, self, other.into())
            }
        )+ }
    };
}

mod activations;
mod cases;
mod methods;
pub(crate) mod number;
mod operators;
pub mod table;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Lowering, Op};
use crate::shader::Expression;
use crate::shape::MAX_RANK;
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

impl Op for Pointwise {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn casting(&self) -> Casting {
        match self.0.name {
            "exp" | "exp2" | "expm1" | "log" | "log2" | "log10" | "log1p" | "logaddexp" | "logistic_loss" | "pow"
            | "recip" | "rsqrt" | "softplus" | "acos" | "asin" | "cosh" | "sinh" | "tan" => Casting::Full,
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
            Kind::Integer if !first.is_integer() => return refuse(first),
            Kind::Float | Kind::Number | Kind::Signed | Kind::Logical | Kind::Integer => {
                same(inputs)?;
                first
            }
            Kind::Comparison | Kind::Test => {
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
