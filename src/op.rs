//! What an op is: the contract between a graph and what its nodes do, and the cases on which an op is tested.
//!
//! The ops themselves are in [`crate::ops`], one file each.

use std::any::Any;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Capabilities, Kernel};
use crate::layout::{Meta, Strided, ViewKind};
use crate::shader::Expression;
use crate::tensor::Tensor;

/// What a gradient rule sees.
pub struct Backward<'a> {
    /// The op's inputs.
    pub inputs: &'a [Tensor],
    /// The op's first result: the only one of most ops.
    pub output: &'a Tensor,
    /// All results.
    pub outputs: &'a [Tensor],
    /// Gradient of the loss with respect to the first result; same shape. Zeros where none reaches it, but others.
    pub grad: &'a Tensor,
    /// The gradient for each result; `None` where none reaches it.
    pub grads: &'a [Option<Tensor>],
    /// Which inputs need a gradient; rules may return `None` for the others.
    pub needs: &'a [bool],
}

/// What an op becomes on a GPU.
#[derive(Debug, Clone)]
pub enum Lowering {
    /// One expression an element, of the inputs `a`, `b`, `c` (broadcast), `index` (linear, of this op's result) and the
    /// constants `k0`, `k1` (lanes of the result's dtype; `F` for bool); lanes are `F`, `I`, `U`, `B` (one or four wide).
    /// The planner fuses these.
    Pointwise {
        /// The WGSL expression.
        expression: &'static str,
        /// WGSL functions that it calls.
        helpers: &'static str,
        /// Values of `k0`, `k1`, ..
        constants: Vec<f64>,
    },
    /// The same of an expression that says of itself what the planner must know: those of this crate.
    Expression {
        /// The expression.
        expression: Expression,
        /// Values of `k0`, `k1`, ..
        constants: Vec<f64>,
    },
    /// Index arithmetic of the consumer.
    View(ViewKind),
    /// Kernels in order; `temporaries` are sizes in elements of 4 bytes.
    Kernels {
        /// The dispatches.
        kernels: Vec<Kernel>,
        /// Scratch between them.
        temporaries: Vec<usize>,
    },
    /// One of these, whichever the planner takes; the default first.
    Variants(Vec<Candidate>),
}

/// A variant that may run, made when it is asked for.
#[derive(Clone)]
pub struct Candidate {
    /// Its name.
    pub name: &'static str,
    make: Arc<dyn Fn() -> Lowering + Send + Sync>,
}

impl Candidate {
    /// A variant of this name.
    pub fn new(name: &'static str, make: impl Fn() -> Lowering + Send + Sync + 'static) -> Candidate {
        Candidate { name, make: Arc::new(make) }
    }

    /// Its kernels.
    pub fn make(&self) -> Lowering {
        (self.make)()
    }
}

impl Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Lowering {
    /// A single kernel.
    pub fn kernel(kernel: Kernel) -> Lowering {
        Lowering::Kernels { kernels: vec![kernel], temporaries: vec![] }
    }
}

/// What mixed precision ([`crate::Precision::Mixed`]) does with the f16 inputs of an op when it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Casting {
    /// Nothing: the op takes both widths, or its method has seen to it.
    Own,
    /// They become f32 if another float input is.
    Widest,
    /// They become f32.
    Full,
}

/// A word that two ops share if they are of one type and have one name. The address of a name is none: code that is
/// compiled in parts has several copies of it, and two types may share one.
pub(crate) fn identity(op: &dyn Op) -> u64 {
    let mut hasher = DefaultHasher::new();
    ((op as &dyn Any).type_id(), op.name()).hash(&mut hasher);
    hasher.finish()
}

/// What the library may take an op for, besides calling it. Names are for people: an op may have any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// It computes elements.
    Computed,
    /// The elements of its input as another dtype, rounded as [`Tensor::cast`] says.
    Cast,
    /// The elements of its first input where they are.
    View,
    /// A view with the axes in another order.
    Permutation,
    /// This value everywhere.
    Constant(f64),
    /// A normalisation whose gradient depends on the batches of other ranks: its rule alone cannot form it.
    OfRanks,
}

/// What a node of a graph does.
///
/// Only what it may be taken for, the two rules about strides, the one about mixed precision and the names of variants have a
/// default: an op without a gradient rule, a reference or cases does not compile.
pub trait Op: Any + Debug + Send + Sync {
    /// Name in errors, dumps and profiles.
    fn name(&self) -> &'static str;

    /// Appends everything besides the inputs that the result or the gradient depends on. Two ops of one name with equal
    /// words are the same op.
    fn attributes(&self, words: &mut Vec<u64>);

    /// Shape and dtype of the result, or of each of several, or the rule that the inputs break.
    ///
    /// # Errors
    /// The broken rule.
    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem>;

    /// Gradients of the loss with respect to each input, written in ops. `None`: no gradient flows there. It runs when a step
    /// is planned, not at each step: it may not read a tensor, nor make one from host data.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>>;

    /// The results in f64 by plain loops: the judge of every kernel. `output` is the first of them.
    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array>;

    /// The GPU form. `output` is the first result; kernels bind several by number
    /// ([`Binding::result`](crate::kernel::Binding::result)) or hand them over ([`Kernel::results`]).
    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering;

    /// What it may be taken for: what says no more than [`Role::Computed`] is never dropped or moved.
    fn role(&self) -> Role {
        Role::Computed
    }

    /// What mixed precision does with f16 inputs. f32 is right for any op that knows of no f16.
    fn casting(&self) -> Casting {
        Casting::Full
    }

    /// True if input `input` may be read where `view` says, without a copy; other inputs arrive contiguous.
    fn strided(&self, _input: usize, _view: &Strided) -> bool {
        false
    }

    /// [`Op::lowering`] when an input for which [`Op::strided`] holds comes with its strides (`None`: contiguous).
    fn lowering_strided(
        &self,
        inputs: &[Meta],
        _views: &[Option<Strided>],
        output: &Meta,
        capabilities: &Capabilities,
    ) -> Lowering {
        self.lowering(inputs, output, capabilities)
    }

    /// Shapes, attributes and dtypes that parity, gradient checks and benchmarks use.
    fn cases() -> Vec<Case>
    where
        Self: Sized;

    /// Names of the variants that [`Op::lowering`] lists.
    fn variants() -> Vec<&'static str>
    where
        Self: Sized,
    {
        vec![]
    }
}

/// How a case draws an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// Standard normal.
    Normal,
    /// Uniform in a range.
    Uniform(f64, f64),
    /// All different, at least `1/32` apart, in random order (no ties, no kinks within a finite difference).
    Distinct,
    /// Integers in `0..n`.
    Below(u32),
    /// These values, repeated.
    Values(&'static [f64]),
}

/// One input of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseInput {
    /// Axis lengths.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// How its elements are drawn.
    pub draw: Draw,
}

/// The error that a case allows, by the kind of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// Every bit equal after rounding (integers, copies).
    Exact,
    /// At most `absolute + relative * |reference|`.
    Pointwise {
        /// Absolute part.
        absolute: f64,
        /// Relative part.
        relative: f64,
    },
    /// A product or sum over this many terms: each element within `4 * 2^-24 * sqrt(terms)` of the sum of the terms'
    /// absolute values (at most the product of the norms), the whole within `2e-7 * sqrt(terms)` in norm.
    Sum {
        /// Number of terms K.
        terms: usize,
    },
    /// As `Sum`, then rounded to half precision: one unit of 2^-10 more where the roundings fall on either side.
    HalfSum {
        /// Number of terms K.
        terms: usize,
    },
}

/// Builds a case's tensor from its inputs.
pub type Build = Arc<dyn Fn(&[Tensor]) -> Tensor + Send + Sync>;

/// A shape, attributes and dtype on which an op is tested and timed.
#[derive(Clone)]
pub struct Case {
    /// Name; those that tables make by shape may share one.
    pub name: String,
    /// The op's inputs.
    pub inputs: Vec<CaseInput>,
    /// Applies the op.
    pub build: Build,
    /// Allowed error of the forward result.
    pub tolerance: Tolerance,
    /// Allowed error of the gradients.
    pub gradient_tolerance: Tolerance,
    /// True if the gradient check applies to the float inputs.
    pub differentiable: bool,
}

impl Case {
    /// A differentiable case with the default pointwise bound of 1e-6.
    pub fn new(name: impl Into<String>, build: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
        Case::of(name.into(), Arc::new(build))
    }

    fn of(name: String, build: Build) -> Case {
        let bound = Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 };
        Case { name, inputs: vec![], build, tolerance: bound, gradient_tolerance: bound, differentiable: true }
    }

    /// Adds an f32 input of standard normals.
    pub fn normal(self, shape: &[usize]) -> Case {
        self.input(shape, DType::F32, Draw::Normal)
    }

    /// Adds an input.
    pub fn input(mut self, shape: &[usize], dtype: DType, draw: Draw) -> Case {
        self.inputs.push(CaseInput { shape: shape.to_vec(), dtype, draw });
        self
    }

    /// Sets both bounds.
    pub fn tolerance(mut self, tolerance: Tolerance) -> Case {
        self.tolerance = tolerance;
        self.gradient_tolerance = tolerance;
        self
    }

    /// Sets the gradients' bound alone.
    pub fn gradient_tolerance(mut self, tolerance: Tolerance) -> Case {
        self.gradient_tolerance = tolerance;
        self
    }

    /// Marks the case as having no gradient to check.
    pub fn not_differentiable(mut self) -> Case {
        self.differentiable = false;
        self
    }
}

impl Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}
