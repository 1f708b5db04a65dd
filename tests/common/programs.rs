//! Random programs of small graphs, from a seed or from bytes: what tests of the emitter and fuzzing share.
//!
//! A program is data that can be printed, and records itself on any device. With [`Options::exact`] every value is a small
//! whole number that each dtype holds, so devices must agree in every bit.

#[allow(unused_imports)] // A test file need not use it.
pub use random::program;

mod random;

use kiln::rng::Philox;
use kiln::{Array, DType, Device, Precision, Shape, Tensor, with_precision};

/// Where decisions come from.
pub trait Source {
    /// The next byte.
    fn byte(&mut self) -> u8;

    /// A number below `bound`, at most 256.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of a list that is not empty.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}

/// Bytes, and zeros behind them.
pub struct Bytes<'a>(pub &'a [u8]);

impl Source for Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }
}

impl Source for Philox {
    fn byte(&mut self) -> u8 {
        (self.next_u32() >> 24) as u8
    }
}

/// What programs may hold.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps at most.
    pub steps: usize,
    /// Elements of a tensor at most.
    pub elements: usize,
    /// Ops and values that every dtype and device computes without rounding.
    pub exact: bool,
    /// Without f16: a comparison of rounded values need not bear its steps.
    pub full: bool,
}

type Unary = (&'static str, fn(&Tensor) -> Tensor);
type Binary = (&'static str, fn(&Tensor, &Tensor) -> Tensor);
type Axes = (&'static str, fn(&Tensor, &[usize]) -> Tensor);

/// Exact on small whole numbers.
const EXACT_UNARY: &[Unary] = &[
    ("abs", Tensor::abs),
    ("neg", Tensor::negative),
    ("relu", Tensor::relu),
    ("sign", Tensor::sign),
    ("square", Tensor::square),
    ("not", Tensor::logical_not),
    ("detach", Tensor::detach),
    ("ones_like", Tensor::ones_like),
];

/// Without steps, and of values near those of their arguments.
const SMOOTH_UNARY: &[Unary] = &[
    ("tanh", Tensor::tanh),
    ("sigmoid", Tensor::sigmoid),
    ("gelu", Tensor::gelu),
    ("gelu_tanh", Tensor::gelu_tanh),
    ("silu", Tensor::silu),
    ("softplus", Tensor::softplus),
    ("erf", Tensor::erf),
    ("relu", Tensor::relu),
    ("abs", Tensor::abs),
    ("neg", Tensor::negative),
    ("exp_of_tanh", |x| x.tanh().exp()),
    ("expm1_of_tanh", |x| x.tanh().expm1()),
    ("log_of_softplus", |x| (x.softplus() + 1.0).log()),
    ("root_of_square", |x| (x.tanh().square() + 1.0).sqrt()),
    ("elu", |x| x.elu(0.5)),
    ("leaky_relu", |x| x.leaky_relu(0.25)),
    ("clamp", |x| x.clamp(-2.0, 1.5)),
];

/// Exact, of two tensors of one dtype.
const EXACT_BINARY: &[Binary] = &[
    ("add", |a, b| a + b),
    ("mul", |a, b| a * b),
    ("maximum", |a, b| a.maximum(b)),
    ("minimum", |a, b| a.minimum(b)),
    ("sub", |a, b| a - b),
    ("eq", |a, b| a.eq(b)),
    ("ne", |a, b| a.ne(b)),
    ("lt", |a, b| a.lt(b)),
    ("ge", |a, b| a.ge(b)),
    ("and", |a, b| a.logical_and(b)),
    ("or", |a, b| a.logical_or(b)),
];

const SMOOTH_BINARY: &[Binary] = &[
    ("add", |a, b| a + b),
    ("mul_of_tanh", |a, b| a * b.tanh()),
    ("sub", |a, b| a - b),
    ("over", |a, b| a / (b.square() + 1.0)),
    ("maximum", |a, b| a.maximum(b)),
    ("minimum", |a, b| a.minimum(b)),
    ("mean", |a, b| (a + b) * 0.5),
];

const REDUCTIONS: &[Axes] = &[
    ("sum", |x, axes| x.sum_keep(axes)),
    ("max", |x, axes| x.max_keep(axes)),
    ("min", |x, axes| x.min_keep(axes)),
    ("mean", |x, axes| x.mean_keep(axes)),
    ("var", |x, axes| x.var(axes, 0)),
];

/// Over the last axis, or over an axis given first.
const ROWS: &[Axes] = &[
    ("softmax", |x, axes| x.softmax(axes[0])),
    ("log_softmax", |x, axes| x.log_softmax(axes[0])),
    ("layer_norm", |x, _| x.layer_norm(1, None, None, 1e-3)),
    ("rms_norm", |x, _| x.rms_norm(1, None, 1e-3)),
    ("batch_norm", |x, _| x.batch_norm(None, None, 1e-3)),
];

/// One step; numbers are those of the values before it: inputs, then steps.
#[derive(Clone)]
pub enum Step {
    Fill(Vec<usize>, f64, DType),
    Index(usize, DType),
    Unary(Unary, usize),
    Binary(Binary, usize, usize),
    /// With a host number on the right.
    Number(Binary, usize, f64),
    Where(usize, usize, usize),
    Cast(usize, DType),
    Permute(usize, Vec<usize>),
    Slice(usize, usize, usize, usize),
    Expand(usize, Vec<usize>),
    Reshape(usize, Vec<usize>),
    Axes(Axes, usize, Vec<usize>),
    Argmax(usize, usize),
    Concat(usize, usize, usize),
    Pad(usize, Vec<(usize, usize)>),
    Matmul(usize, usize),
    Pool(bool, usize),
    Gather(usize, usize, usize),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Fill(shape, value, dtype) => write!(f, "full({shape:?}, {value}, {dtype})"),
            Step::Index(n, dtype) => write!(f, "arange({n}, {dtype})"),
            Step::Unary((name, _), a) => write!(f, "{name}(v{a})"),
            Step::Binary((name, _), a, b) => write!(f, "{name}(v{a}, v{b})"),
            Step::Number((name, _), a, number) => write!(f, "{name}(v{a}, {number})"),
            Step::Where(condition, a, b) => write!(f, "where(v{condition}, v{a}, v{b})"),
            Step::Cast(a, dtype) => write!(f, "cast(v{a}, {dtype})"),
            Step::Permute(a, axes) => write!(f, "permute(v{a}, {axes:?})"),
            Step::Slice(a, axis, start, length) => write!(f, "slice(v{a}, {axis}, {start}, {length})"),
            Step::Expand(a, shape) => write!(f, "expand(v{a}, {shape:?})"),
            Step::Reshape(a, shape) => write!(f, "reshape(v{a}, {shape:?})"),
            Step::Axes((name, _), a, axes) => write!(f, "{name}(v{a}, {axes:?})"),
            Step::Argmax(a, axis) => write!(f, "argmax(v{a}, {axis})"),
            Step::Concat(a, b, axis) => write!(f, "concat([v{a}, v{b}], {axis})"),
            Step::Pad(a, pairs) => write!(f, "pad(v{a}, {pairs:?}, 0)"),
            Step::Matmul(a, b) => write!(f, "matmul(v{a}, v{b})"),
            Step::Pool(max, a) => write!(f, "{}_pool2d(v{a})", if *max { "max" } else { "avg" }),
            Step::Gather(a, axis, index) => write!(f, "index_select(v{a}, {axis}, v{index})"),
        }
    }
}

/// An input of a program.
#[derive(Debug, Clone)]
pub struct Input {
    pub shape: Vec<usize>,
    pub dtype: DType,
}

/// A program: inputs, steps on them, and which values are its results.
#[derive(Clone)]
pub struct Program {
    pub inputs: Vec<Input>,
    pub steps: Vec<Step>,
    pub results: Vec<usize>,
    pub mixed: bool,
    /// Whether elements are small whole numbers.
    pub exact: bool,
    /// Seed of the inputs' elements.
    pub seed: u64,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (k, Input { shape, dtype }) in self.inputs.iter().enumerate() {
            writeln!(f, "v{k}: {dtype} {shape:?}")?;
        }
        for (k, step) in self.steps.iter().enumerate() {
            writeln!(f, "v{} = {step:?}", self.inputs.len() + k)?;
        }
        write!(f, "results {:?}, {}seed {}", self.results, if self.mixed { "mixed, " } else { "" }, self.seed)
    }
}

impl Program {
    /// The elements of its inputs.
    pub fn arrays(&self) -> Vec<Array> {
        (0..self.inputs.len()).map(|k| self.array(k)).collect()
    }

    fn array(&self, k: usize) -> Array {
        let Input { shape, dtype } = &self.inputs[k];
        let shape = Shape::new(shape).expect("a program's shape");
        let mut rng = Philox::new(self.seed, k as u64);
        let mut element = || match dtype {
            DType::Bool => f64::from(rng.below(2)),
            DType::U32 => f64::from(rng.below(5)),
            _ if self.exact => f64::from(rng.below(7)) - 3.0,
            DType::F16 => DType::F16.round(rng.normal()),
            _ => f64::from(rng.normal() as f32),
        };
        Array { shape, dtype: *dtype, data: (0..shape.elements()).map(|_| element()).collect() }
    }

    /// The inputs on `device`, and its results, pending; f32 inputs are variables.
    pub fn record(&self, device: &Device, arrays: &[Array]) -> (Vec<Tensor>, Vec<Tensor>) {
        let place = |array: &Array| match array.dtype {
            DType::F32 => device.array(array).variable(),
            _ => device.array(array),
        };
        let inputs: Vec<Tensor> = arrays.iter().map(place).collect();
        let mut values = inputs.clone();
        for step in &self.steps {
            let value = self.apply(step, device, &values);
            values.push(value);
        }
        (inputs, self.results.iter().map(|&k| values[k].clone()).collect())
    }

    /// The gradients of the sum of the f32 results' squares with respect to the inputs that they reach.
    pub fn gradients(&self, inputs: &[Tensor], results: &[Tensor]) -> kiln::Result<Vec<Tensor>> {
        let float = |x: &&Tensor| x.dtype().is_ok_and(DType::is_float) && x.requires_grad();
        let total = results.iter().filter(float).map(|y| y.cast(DType::F32).square().mean_all()).reduce(|a, b| a + b);
        let wrt: Vec<&Tensor> = inputs.iter().filter(float).collect();
        total.map_or(Ok(vec![]), |total| total.gradients(&wrt))
    }

    fn apply(&self, step: &Step, device: &Device, values: &[Tensor]) -> Tensor {
        let precision = if self.mixed { Precision::Mixed } else { Precision::Full };
        with_precision(precision, || one(step, device, values))
    }
}

fn one(step: &Step, device: &Device, values: &[Tensor]) -> Tensor {
    match step {
        Step::Fill(shape, value, dtype) => device.full(shape, *value, *dtype),
        Step::Index(n, dtype) => device.arange(*n, *dtype),
        Step::Unary((_, op), a) => op(&values[*a]),
        Step::Binary((_, op), a, b) => op(&values[*a], &values[*b]),
        Step::Number((name, _), a, number) => {
            let (a, number) = (&values[*a], *number);
            match *name {
                "add" => a + number,
                "sub" => a - number,
                "maximum" => a.maximum(number),
                "minimum" => a.minimum(number),
                "lt" => a.lt(number),
                _ => a * number,
            }
        }
        Step::Where(condition, a, b) => values[*condition].where_(&values[*a], &values[*b]),
        Step::Cast(a, dtype) => values[*a].cast(*dtype),
        Step::Permute(a, axes) => values[*a].permute(axes),
        Step::Slice(a, axis, start, length) => values[*a].slice(*axis, *start, *length),
        Step::Expand(a, shape) => values[*a].expand(shape),
        Step::Reshape(a, shape) => values[*a].reshape(shape),
        Step::Axes((_, op), a, axes) => op(&values[*a], axes),
        Step::Argmax(a, axis) => values[*a].argmax(*axis),
        Step::Concat(a, b, axis) => Tensor::concat(&[&values[*a], &values[*b]], *axis),
        Step::Pad(a, pairs) => values[*a].pad(pairs, 0.0),
        Step::Matmul(a, b) => values[*a].matmul(&values[*b]),
        Step::Pool(true, a) => values[*a].max_pool2d([2, 3], [1, 2], [1, 1]),
        Step::Pool(false, a) => values[*a].avg_pool2d([2, 3], [1, 2], [1, 1], true),
        Step::Gather(a, axis, index) => values[*a].index_select(*axis, &values[*index]),
    }
}
