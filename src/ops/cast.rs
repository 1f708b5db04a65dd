//! Conversion between dtypes.

use std::sync::Arc;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::Node;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Role, Tolerance};
use crate::shader::{Algebra, Expression};
use crate::tensor::{Tensor, is_mixed};

/// Conversion to `to`.
#[derive(Debug)]
pub struct Cast {
    /// The new dtype.
    pub to: DType,
}

impl Tensor {
    /// The same values as `dtype`: floats to nearest even, to integers toward zero with saturation (NaN to 0), to bool
    /// as "not zero".
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Tensor {
        if self.error().is_some() || self.meta().dtype == dtype {
            return self.clone();
        }
        // From f16 to f32 and back is what was there.
        let node = self.node();
        let half = |inputs: &[Arc<Node>]| inputs.first().filter(|input| input.meta.dtype == DType::F16).cloned();
        if dtype == DType::F16
            && node.role() == Some(Role::Cast)
            && let Some(input) = node.with_inputs(half)
        {
            return Tensor::from_node(input);
        }
        Tensor::apply(Cast { to: dtype }, &[self])
    }

    /// This tensor, or its f32 form if it is f16: kernels compute in f32, and the caller casts back.
    #[track_caller]
    pub(crate) fn widen(&self) -> Tensor {
        if self.meta().dtype == DType::F16 { self.cast(DType::F32) } else { self.clone() }
    }

    /// What f32 kernels made of an f16 input, as the result of the op: of the input's dtype, but f32 in mixed precision.
    #[track_caller]
    pub(crate) fn result_of(self, input: &Tensor) -> Tensor {
        if self.error().is_some() || is_mixed(&[input]) { self } else { self.cast(input.meta().dtype) }
    }

    /// What `form` makes of this tensor in f32, rounded once to its dtype (and kept as f32 in mixed precision). For what is made of a
    /// reduction and other ops: squares of f16 overflow at 256, and a mean in f16 has 11 bits.
    #[track_caller]
    pub(crate) fn formed_wide(&self, form: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        form(&self.widen()).result_of(self)
    }

    /// As [`Tensor::formed_wide`], of this tensor and a target. `form` refuses two dtypes, but in mixed precision.
    #[track_caller]
    pub(crate) fn loss_formed_wide(&self, target: &Tensor, form: impl FnOnce(&Tensor, &Tensor) -> Tensor) -> Tensor {
        let (dtype, mixed) = (self.meta().dtype, is_mixed(&[self, target]));
        if !mixed && dtype != target.meta().dtype {
            return form(self, target);
        }
        let loss = form(&self.widen(), &target.widen());
        if mixed { loss } else { loss.cast(dtype) }
    }

    /// Ones of this tensor's shape and dtype.
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        self.filled_like(1.0)
    }

    /// A number that is part of the graph's structure, in this tensor's shape and dtype.
    #[track_caller]
    pub(crate) fn filled_like(&self, value: f64) -> Tensor {
        match self.error() {
            Some(_) => self.clone(),
            None => self.device().fixed(self.dims(), self.meta().dtype, value),
        }
    }
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn role(&self) -> Role {
        Role::Cast
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.to as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![Meta { shape: inputs[0].shape, dtype: self.to }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(backward.grad.cast(backward.inputs[0].meta().dtype))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        // Integers are rounded to f32 where they become floats: no gradient needs the digits beyond, and comparisons
        // then branch as on a GPU.
        let is_integer = inputs[0].dtype.is_integer() && self.to.is_float();
        let value = |x: f64| if is_integer { f64::from(x as f32) } else { x };
        vec![Array::build(output.shape, self.to, |i| self.to.round(value(inputs[0].data[i])))]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        use DType::{Bool, F16, F32, I32, U32};
        // The bounds are the largest f32 below 2^31 and 2^32: a conversion beyond them is undefined on some drivers.
        let expression = match (inputs[0].dtype, self.to) {
            (F32 | F16, F32 | F16) => "a",
            (F32 | F16, I32) => {
                "select(select(I(clamp(a, F(-2147483648.0), F(2147483520.0))), I(2147483647), a >= F(2147483648.0)), I(0), is_nan(a))"
            }
            (F32 | F16, U32) => {
                "select(select(U(clamp(a, F(0.0), F(4294967040.0))), U(4294967295u), a >= F(4294967296.0)), U(0u), is_nan(a))"
            }
            (F32 | F16, Bool) => "!(a == F(0.0))",
            (I32 | U32, F32 | F16) => "F(a)",
            (I32, U32) => "U(max(a, I(0)))",
            (U32, I32) => "I(min(a, U(2147483647u)))",
            (I32, Bool) => "a != I(0)",
            (U32, Bool) => "a != U(0u)",
            (Bool, F32 | F16) => "select(F(0.0), F(1.0), a)",
            (Bool, I32) => "select(I(0), I(1), a)",
            (Bool, U32) => "select(U(0u), U(1u), a)",
            (I32, I32) | (U32, U32) | (Bool, Bool) => "a",
        };
        Lowering::Expression { expression: Expression::new(expression, Algebra::Plain), constants: vec![] }
    }

    fn cases() -> Vec<Case> {
        let to = |dtype: DType| move |x: &[Tensor]| x[0].cast(dtype);
        let exact = |case: Case| case.tolerance(Tolerance::Exact).not_differentiable();
        let edges = Draw::Values(&[f64::NAN, 1e30, -1e30, f64::INFINITY, -0.5, 2.9, -2.9, 65_519.0, 65_520.0, 1e-8]);
        let half = |x: &[Tensor]| (x[0].cast(DType::F16) * x[1].cast(DType::F16)).cast(DType::F32);
        vec![
            exact(Case::new("to_i32", to(DType::I32)).input(&[37], DType::F32, edges.clone())),
            exact(Case::new("to_u32", to(DType::U32)).input(&[37], DType::F32, edges.clone())),
            exact(Case::new("to_bool", to(DType::Bool)).input(&[37], DType::F32, edges.clone())),
            exact(Case::new("to_f16", to(DType::F16)).input(&[37], DType::F32, edges)),
            exact(Case::new("from_f16", to(DType::F32)).input(&[131], DType::F16, Draw::Normal)),
            exact(Case::new("from_i32", to(DType::F32)).input(&[131], DType::I32, Draw::Below(1000))),
            exact(Case::new("from_bool", to(DType::F32)).input(&[131], DType::Bool, Draw::Below(2))),
            exact(Case::new("u32_to_i32", to(DType::I32)).input(&[131], DType::U32, Draw::Below(u32::MAX))),
            // Rounds to half precision twice; a rounding that falls the other way is one unit of 2^-11.
            Case::new("half_product", half)
                .normal(&[37, 4])
                .normal(&[37, 4])
                .tolerance(Tolerance::Pointwise { absolute: 5e-4, relative: 5e-4 })
                .not_differentiable(),
        ]
    }
}
