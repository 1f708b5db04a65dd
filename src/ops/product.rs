//! How products (matrix product, convolution and its gradients) read their operands and write their result: what full and
//! half precision have in common. Not an op.
//!
//! A product in half precision rounds its operands to f16, forms the sum in f32 and rounds the result once, to its dtype.
//! An operand may be stored as f16, or as f32 and be rounded where it is read: parameters are, so that their f32 masters
//! need no cast of their own. Every kernel of a product has what `Product::types` declares (`A_TYPE`, `B_TYPE`, `from_a`,
//! `from_b`) and writes elements of `OUT`, which the planner defines.

use std::borrow::Cow;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::{Node, Source};
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::Role;
use crate::shader::{Facts, Item, Shader};
use crate::shaders;
use crate::tensor::{Tensor, is_mixed};

/// Precision of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// True if operands are rounded to f16.
    pub half: bool,
    /// Dtype of the result.
    pub output: DType,
}

impl Product {
    /// f32 throughout.
    pub const FULL: Product = Product { half: false, output: DType::F32 };
    /// f16 operands and result.
    pub const HALF: Product = Product { half: true, output: DType::F16 };

    /// As words of an op's attributes.
    pub fn words(&self, words: &mut Vec<u64>) {
        words.push(u64::from(self.half) << 8 | self.output as u64);
    }

    /// The same product as part of a gradient: of the dtype of `input`, whose gradient it is.
    pub fn gradient_of(&self, input: &Tensor) -> Product {
        Product { output: input.meta().dtype, ..*self }
    }

    /// `Err` unless the operands are floats that fit.
    ///
    /// # Errors
    /// The dtypes.
    pub fn check(&self, inputs: &[Meta]) -> Result<(), Problem> {
        let fits = |meta: &Meta| meta.dtype == DType::F32 || (self.half && meta.dtype == DType::F16);
        if inputs.iter().all(fits) {
            return Ok(());
        }
        let what = format!("it takes two f32 or two f16 tensors, not {} and {}", inputs[0].dtype, inputs[1].dtype);
        Err(Problem::DType(what))
    }

    /// An operand as the product sees it, for the reference.
    pub fn operand<'a>(&self, input: &'a Array) -> Cow<'a, Array> {
        if !self.half || input.dtype == DType::F16 {
            return Cow::Borrowed(input);
        }
        let data = input.data.iter().map(|&value| DType::F16.round(value)).collect();
        Cow::Owned(Array { shape: input.shape, dtype: DType::F16, data })
    }

    /// A result of the reference, rounded.
    pub fn result(&self, mut sum: Array) -> Array {
        if self.output == DType::F16 {
            sum.data.iter_mut().for_each(|value| *value = DType::F16.round(*value));
        }
        sum
    }

    /// The element types of inputs 0 and 1, and functions that give an element as f32.
    pub(crate) fn types(&self, inputs: &[Meta], capabilities: &Capabilities) -> Shader {
        let mut shader = Shader::default();
        let mut rounds = false;
        for (meta, [kind, function]) in inputs.iter().zip([["A_TYPE", "from_a"], ["B_TYPE", "from_b"]]) {
            let (stored, has) = match meta.dtype == DType::F16 && capabilities.f16 {
                true => ("f16", Facts::HALF),
                false => ("f32", Facts::NONE),
            };
            let is_rounded = self.half && meta.dtype == DType::F32;
            rounds |= is_rounded;
            let (value, takes) = match (is_rounded, capabilities.f16) {
                (true, true) => ("f32(f16(x))", Facts::HALF),
                (true, false) => ("$to_half$(x)", Facts::NONE),
                (false, _) => ("f32(x)", Facts::NONE),
            };
            let text = format!("fn ${function}$(x: ${kind}$) -> f32 {{\n    return {value};\n}}\n");
            shader = shader.item(Item::alias(kind, stored).with(has)).item(Item::new(function, text).with(takes));
        }
        if rounds && !capabilities.f16 { shader.file(&shaders::product::ROUND) } else { shader }
    }
}

/// The operands of a product of `a` and `b` with its precision: in half precision what an op has computed in f32 becomes
/// f16 here, while parameters and uploads are rounded where they are read.
pub(crate) fn operands(a: &Tensor, b: &Tensor) -> (Tensor, Tensor, Product) {
    let both = a.meta().dtype == DType::F16 && b.meta().dtype == DType::F16;
    if !both && !is_mixed(&[a, b]) {
        return (a.clone(), b.clone(), Product::FULL);
    }
    let narrow =
        |x: &Tensor| if x.meta().dtype == DType::F32 && is_computed(x.node()) { x.cast(DType::F16) } else { x.clone() };
    (narrow(a), narrow(b), Product::HALF)
}

/// True unless a node is a view of a leaf.
fn is_computed(node: &Node) -> bool {
    match &node.source {
        Source::Op(op) => {
            let view = matches!(op.role(), Role::View | Role::Permutation);
            // A view that has let go of its input has been computed itself.
            !view || node.inputs().first().is_none_or(|input| is_computed(input))
        }
        Source::Result { .. } => true,
        _ => false,
    }
}
