//! Random programs: small graphs of all dtypes, shapes and views, grown from a string of bytes.
//!
//! The bytes decide the structure, a seed the elements and the host numbers, so that one structure can run twice, the
//! second time from a cached plan with other data. Values stay of moderate size. With noise every result is disturbed by
//! about what a GPU may round it by: what the disturbed references do not agree on among themselves, no device can be held
//! to (Parker 1997, "Monte Carlo arithmetic").
use kiln::rng::Philox;
use kiln::{Array, DType, Device, Draws, Error, Shape, Tensor};

/// Floats grow no larger.
const LARGE: f64 = 64.0;
const LENGTHS: [usize; 20] = [1, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 37, 64, 131];
/// Lengths where there is room.
const LONG: [usize; 6] = [72, 255, 1000, 1024, 4099, 16_384];

/// What to grow.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// Decides the structure.
    pub bytes: &'a [u8],
    /// Decides elements and host numbers.
    pub data: u64,
    /// The seed of the noise, if there is any.
    pub noise: Option<u64>,
    /// True if there may be f16.
    pub halves: bool,
    /// True if integers may wrap and be divided by zero.
    pub wild: bool,
    /// Most elements of a value.
    pub elements: usize,
}

/// A program on a device, recorded and not yet run.
pub struct Program {
    /// What is read: results, and gradients of one of them.
    pub roots: Vec<Tensor>,
    /// What is read before all else, so that it is a stored value for the rest.
    pub early: Option<Tensor>,
    /// A line for each value.
    pub text: Vec<String>,
    /// Ops that the library refused.
    pub refused: usize,
}

/// Grows a program of one to twelve ops or so.
///
/// # Panics
/// If the library calls something an internal error.
pub fn grow(device: &Device, recipe: Recipe<'_>) -> Program {
    let mut grower = Grower {
        device: device.clone(),
        bytes: recipe.bytes,
        at: 0,
        rng: Philox::new(recipe.data, 0),
        noise: recipe.noise.map(|seed| Philox::new(seed, 1)),
        halves: recipe.halves,
        wild: recipe.wild,
        elements: recipe.elements,
        mixed: false,
        draws: Draws::new(recipe.data),
        values: vec![],
        used: vec![],
        variables: vec![],
        text: vec![],
        refused: 0,
    };
    let shape = grower.shape();
    let dtype = grower.dtype();
    grower.leaf(&shape, dtype);
    let ops = 1 + grower.below(12);
    for _ in 0..ops {
        grower.step();
    }
    grower.finish()
}

/// How far a GPU's result may be from the exact one of the same inputs.
pub(super) enum Rounding {
    /// Not at all.
    Exact,
    /// Arithmetic: units in the last place.
    Basic,
    /// Functions: what their kernels' tests allow.
    Function,
    /// Functions that have units of 1, whatever their result.
    Absolute(f64),
    /// Sums: units of the sum of the terms' absolute values.
    Terms(Option<Tensor>),
}

/// A tensor of the program, and the least and the largest element that it can have.
#[derive(Clone)]
pub(super) struct Value {
    pub number: usize,
    pub tensor: Tensor,
    pub shape: Vec<usize>,
    pub dtype: DType,
    pub low: f64,
    pub high: f64,
}

impl Value {
    pub(super) fn largest(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

pub(super) struct Grower<'a> {
    pub device: Device,
    bytes: &'a [u8],
    at: usize,
    pub rng: Philox,
    pub noise: Option<Philox>,
    pub halves: bool,
    pub wild: bool,
    pub elements: usize,
    /// True within mixed precision.
    pub mixed: bool,
    pub draws: Draws,
    values: Vec<Value>,
    pub used: Vec<bool>,
    variables: Vec<Tensor>,
    text: Vec<String>,
    refused: usize,
}

/// Least and largest value of an integer type.
pub(super) fn range(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        DType::Bool => (0.0, 1.0),
        DType::F32 | DType::F16 => (f64::NEG_INFINITY, f64::INFINITY),
    }
}

impl Grower<'_> {
    /// The next decision: a number below `bound`; 0 once the bytes are used up.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % bound.clamp(1, 256)
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }

    pub(super) fn dtype(&mut self) -> DType {
        match [DType::F32, DType::F32, DType::F32, DType::F16, DType::F16, DType::I32, DType::U32, DType::Bool]
            [self.below(8)]
        {
            DType::F16 if !self.halves => DType::F32,
            dtype => dtype,
        }
    }

    pub(super) fn length(&mut self) -> usize {
        if self.elements > 1 << 16 && self.chance(3) {
            return LONG[self.below(LONG.len())];
        }
        LENGTHS[self.below(LENGTHS.len())]
    }

    pub(super) fn shape(&mut self) -> Vec<usize> {
        let rank = self.below(6);
        let mut shape = vec![];
        for _ in 0..rank {
            let length = self.length();
            let elements: usize = shape.iter().product();
            shape.push(if elements * length > self.elements / 2 { 1 } else { length });
        }
        shape
    }

    /// A host number between two: whole multiples of 1/16 as often as not, so that there are ties.
    pub(super) fn number(&mut self, low: f64, high: f64) -> f64 {
        let number = low + (high - low) * self.rng.uniform();
        let even = (number * 16.0).round() / 16.0;
        if self.rng.below(2) == 0 && (low..=high).contains(&even) { even } else { number }
    }

    /// Uploads elements, or has the device make some.
    pub(super) fn leaf(&mut self, shape: &[usize], dtype: DType) -> Value {
        let count: usize = shape.iter().product();
        let kind = match self.below(6) {
            kind if kind < 2 && !dtype.is_float() && !self.wild => 2,
            kind => kind,
        };
        let rng = &mut self.rng;
        let mut value = || -> f64 {
            match (dtype, kind) {
                (DType::F32 | DType::F16, 0 | 1) => 4.0 * rng.uniform() - 2.0,
                (DType::F32 | DType::F16, 2) => f64::from(rng.below(17)) / 4.0 - 2.0,
                (DType::F32 | DType::F16, 3) => 0.25 + 2.0 * rng.uniform(),
                (DType::F32 | DType::F16, 4) => rng.normal().clamp(-3.0, 3.0),
                (DType::F32 | DType::F16, _) => [0.0, -1.0, 1.0, 0.1, 0.5][rng.below(5) as usize],
                (DType::I32, 0) => f64::from(rng.next_u32() as i32),
                (DType::I32, 1) => [i32::MIN, i32::MIN + 1, -1, 0, 1, 1 << 24, (1 << 24) + 1, i32::MAX - 1, i32::MAX]
                    [rng.below(9) as usize]
                    .into(),
                (DType::I32, _) => f64::from(rng.below(13)) - 6.0,
                (DType::U32, 0) => f64::from(rng.next_u32()),
                (DType::U32, 1) => {
                    [0, 1, 2, 1 << 24, (1 << 24) + 1, 1 << 31, u32::MAX - 1, u32::MAX][rng.below(8) as usize].into()
                }
                (DType::U32, _) => f64::from(rng.below(13)),
                (DType::Bool, _) => f64::from(rng.below(2)),
            }
        };
        // What is so long is only planned.
        let mut data: Vec<f64> = if count > 1 << 14 { vec![0.0; count] } else { (0..count).map(|_| value()).collect() };
        for value in &mut data {
            *value = if dtype == DType::F32 { f64::from(*value as f32) } else { dtype.round(*value) };
        }
        let (low, high) = match (dtype, kind) {
            (DType::F32 | DType::F16, 3) => (0.24, 2.25),
            (DType::F32 | DType::F16, 4) => (-3.0, 3.0),
            (DType::F32 | DType::F16, _) => (-2.0, 2.0),
            (DType::I32, 2..) => (-6.0, 6.0),
            (DType::U32, 2..) => (0.0, 12.0),
            _ => range(dtype),
        };
        let array = Array { shape: Shape::new(shape).expect("a small shape"), dtype, data };
        let mut tensor = self.device.array(&array);
        let is_variable = dtype.is_float() && self.chance(2);
        if is_variable {
            tensor = tensor.variable();
            self.variables.push(tensor.clone());
        }
        let what = if is_variable { "variable" } else { "upload" };
        let number = self.put(format!("{what} {kind}"), tensor, low, high);
        self.values[number].clone()
    }

    /// An index into an axis of `length`, u32 or i32.
    pub(super) fn index(&mut self, shape: &[usize], length: usize) -> Value {
        let dtype = [DType::U32, DType::I32][self.below(2)];
        let count: usize = shape.iter().product();
        let data = (0..count).map(|_| f64::from(self.rng.below(length as u32))).collect();
        let array = Array { shape: Shape::new(shape).expect("a small shape"), dtype, data };
        let number = self.put("index".into(), self.device.array(&array), 0.0, length as f64 - 1.0);
        self.values[number].clone()
    }

    pub(super) fn put(&mut self, text: String, tensor: Tensor, low: f64, high: f64) -> usize {
        let (shape, dtype) = (tensor.shape().expect("no error").to_vec(), tensor.dtype().expect("no error"));
        let number = self.values.len();
        self.text.push(format!("t{number} = {text}: {dtype} {shape:?} in {low} .. {high}"));
        self.values.push(Value { number, tensor, shape, dtype, low, high });
        self.used.push(false);
        number
    }

    /// Takes the result of an op into the program; nothing if the library refused it.
    pub(super) fn push(
        &mut self,
        text: String,
        tensor: Tensor,
        low: f64,
        high: f64,
        rounding: Rounding,
    ) -> Option<Value> {
        if let Some(error) = tensor.error() {
            assert!(!matches!(error, Error::Internal { .. }), "{error}\n{}\n{text}", self.text.join("\n"));
            self.text.push(format!("{text}: refused, {error}"));
            self.refused += 1;
            return None;
        }
        let tensor = self.disturbed(tensor, rounding);
        let dtype = tensor.dtype().expect("no error");
        let (mut low, mut high) = (low.min(high), high.max(low));
        if !dtype.is_float() {
            let (least, largest) = range(dtype);
            // What wraps can be anything.
            if !(low >= least && high <= largest) {
                if !self.wild {
                    return None;
                }
                (low, high) = (least, largest);
            }
        }
        let number = self.put(text, tensor, low, high);
        let value = self.values[number].clone();
        if !dtype.is_float() || value.largest() <= LARGE {
            return Some(value);
        }
        // Back to a size that every dtype holds.
        let factor = LARGE / 4.0 / value.largest() * self.number(0.5, 1.0);
        self.used[number] = true;
        let bound = LARGE / 4.0;
        let (low, high) = (if low < 0.0 { -bound } else { 0.0 }, if high > 0.0 { bound } else { 0.0 });
        self.push(format!("t{number} * {factor}"), &value.tensor * factor, low, high, Rounding::Basic)
    }

    /// The tensor with noise, if this program has any.
    pub(super) fn disturbed(&mut self, tensor: Tensor, rounding: Rounding) -> Tensor {
        let dtype = tensor.dtype().expect("no error");
        let Some(rng) = &mut self.noise else { return tensor };
        if !dtype.is_float() || matches!(rounding, Rounding::Exact) {
            return tensor;
        }
        let mut around = |middle: f64, by: f64| noise(rng, &tensor, middle, by);
        let unit = if dtype == DType::F16 { 2f64.powi(-10) } else { 2f64.powi(-23) };
        let relative = if matches!(rounding, Rounding::Function) { unit.max(2e-6) } else { unit };
        let mut noisy = tensor.cast(DType::F32) * around(1.0, relative);
        let by = match rounding {
            Rounding::Function => Some(around(0.0, 1e-6)),
            Rounding::Absolute(by) => Some(around(0.0, by)),
            Rounding::Terms(Some(terms)) => {
                let unit = if self.mixed { 2f64.powi(-11) } else { 2f64.powi(-21) };
                Some(terms.cast(DType::F32).detach() * around(0.0, unit))
            }
            _ => None,
        };
        if let Some(by) = by {
            // What is as small as that may as well be 0, which some ops tell from all else.
            let is_nothing = noisy.abs().lt(&by.abs()).cast(DType::F32);
            noisy += by;
            if rng.below(2) == 0 {
                noisy = &noisy - (&noisy * is_nothing).detach();
            }
        }
        noisy.cast(dtype)
    }

    /// The result `y` of a function of `x` with noise in its first and second derivative, which are formed of rounded values:
    /// where a function levels off, little of them is left.
    pub(super) fn bent(&mut self, y: Tensor, x: &Tensor) -> Tensor {
        let Some(nothing) = self.bend(x) else { return y };
        let dtype = y.dtype().expect("no error");
        (y.cast(DType::F32) + nothing).cast(dtype)
    }

    /// What [`Grower::bent`] adds, for each element of `x`: zeros that have derivatives.
    pub(super) fn bend(&mut self, x: &Tensor) -> Option<Tensor> {
        let is_half = self.mixed || x.dtype().expect("no error") == DType::F16;
        let rng = self.noise.as_mut()?;
        let unit = if is_half { 2f64.powi(-9) } else { 2f64.powi(-21) };
        let away = x.cast(DType::F32) - x.cast(DType::F32).detach();
        Some(&away * noise(rng, x, 0.0, unit) + away.square() * noise(rng, x, 0.0, unit))
    }

    /// `x` with noise in the gradient that arrives at it. The gradients of an op of several inputs are rounded each by itself:
    /// where all of them go on to one variable and cancel out, as those of x / x do, rounding is what is left.
    pub(super) fn shaken(&mut self, x: &Tensor) -> Tensor {
        self.shaken_sums(x, 1)
    }

    /// The result `y` of an op whose gradients are sums of so many terms. Where few values are among these, they are all
    /// rounded to the same side: noise that grows with the root of their number adds up to what their absolute values do.
    pub(super) fn shaken_sums(&mut self, y: &Tensor, terms: usize) -> Tensor {
        let dtype = y.dtype().unwrap_or(DType::Bool);
        let is_half = dtype == DType::F16 || self.mixed;
        let Some(rng) = self.noise.as_mut().filter(|_| dtype.is_float()) else { return y.clone() };
        let unit = if is_half { 2f64.powi(-9) } else { 2f64.powi(-21) };
        let wide = y.cast(DType::F32);
        let still = wide.detach();
        ((wide - &still) * noise(rng, y, 1.0, unit * (terms as f64).sqrt()) + still).cast(dtype)
    }

    /// A value that is as wanted, the later ones more often.
    pub(super) fn choose(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let count = self.values.len();
        let back = self.below(4 * count.min(12)) / 4;
        let found = (0..count).map(|i| &self.values[(2 * count - 1 - back - i) % count]).find(|value| wanted(value))?;
        let found = found.clone();
        self.used[found.number] = true;
        Some(found)
    }

    pub(super) fn any(&mut self) -> Value {
        self.choose(|_| true).expect("there is a value")
    }

    /// A float; a new one where there is none, and now and then.
    pub(super) fn float(&mut self) -> Value {
        let found = if self.chance(12) { None } else { self.choose(|value| value.dtype.is_float()) };
        found.unwrap_or_else(|| {
            let shape = self.shape();
            let dtype = if self.halves && self.chance(3) { DType::F16 } else { DType::F32 };
            let leaf = self.leaf(&shape, dtype);
            self.used[leaf.number] = true;
            leaf
        })
    }

    /// A value of the same dtype that broadcasts with `value`: one that is there, or a new one of some of its axes.
    pub(super) fn partner(&mut self, value: &Value) -> Value {
        let most = self.elements;
        let fits = |other: &Value| {
            let broadcast = broadcast(&value.shape, &other.shape);
            other.dtype == value.dtype && broadcast.is_some_and(|shape| shape.iter().product::<usize>() <= most)
        };
        let found = if self.chance(3) { None } else { self.choose(fits) };
        found.unwrap_or_else(|| {
            let mut shape = value.shape.clone();
            for length in &mut shape {
                if self.chance(3) {
                    *length = 1;
                }
            }
            let dropped = if self.chance(3) { self.below(shape.len() + 1) } else { 0 };
            let leaf = self.leaf(&shape[dropped..], value.dtype);
            self.used[leaf.number] = true;
            leaf
        })
    }

    fn gradients(&self, loss: &Tensor) -> Vec<Tensor> {
        let wrt: Vec<&Tensor> = self.variables.iter().collect();
        loss.gradients(&wrt).unwrap_or_else(|error| panic!("{error}\n{}", self.text.join("\n")))
    }

    /// Gradients of a scalar, and what is read.
    pub(super) fn finish(mut self) -> Program {
        let mut roots = vec![];
        let loss = match self.variables.is_empty() || self.chance(4) {
            true => None,
            false => self.choose(|value| value.tensor.requires_grad()),
        };
        if let Some(value) = loss {
            let wide = value.tensor.cast(DType::F32);
            let name = ["mean", "mean of squares", "sum of tanh"][self.below(3)];
            let (terms, sum) = match name {
                "mean" => (wide.clone(), false),
                "mean of squares" => (wide.square(), false),
                _ => (self.bent(wide.tanh(), &wide), true),
            };
            let total = |terms: &Tensor| if sum { terms.sum_all() } else { terms.mean_all() };
            let size = self.noise.is_some().then(|| total(&terms.detach().abs()) * many(value.elements()));
            let loss = self.disturbed(total(&terms), Rounding::Terms(size));
            self.text.push(format!("loss = {name} of t{}, and its gradients", value.number));
            let mut gradients = self.gradients(&loss);
            if self.chance(6) {
                // Differentiated again; what does not depend on a variable any more has no gradient.
                let squares = gradients.iter().filter(|gradient| gradient.requires_grad());
                let size = squares.map(|gradient| gradient.cast(DType::F32).square().mean_all()).reduce(|a, b| a + b);
                if let Some(size) = size {
                    self.text.push("gradients of their mean squares".into());
                    gradients.extend(self.gradients(&size));
                }
            }
            roots.push(loss);
            roots.extend(gradients);
        }
        // The last results, which nothing else reads, and one from between.
        let unread = self.values.iter().rev().filter(|value| !self.used[value.number]).take(6);
        roots.extend(unread.map(|value| value.tensor.clone()));
        if self.chance(3) {
            let between = self.any();
            roots.push(between.tensor);
        }
        if roots.is_empty() {
            roots.extend(self.values.last().map(|value| value.tensor.clone()));
        }
        let early = if self.chance(4) { Some(self.any()) } else { None };
        if let Some(value) = &early {
            self.text.push(format!("t{} is read first", value.number));
        }
        Program { roots, early: early.map(|value| value.tensor), text: self.text, refused: self.refused }
    }
}

/// How many times a sum of so many terms may be off by what one of a few is: what is added one after another, with few values among the
/// terms, is rounded to the same side again and again.
pub(super) fn many(terms: usize) -> f64 {
    ((terms as f64).sqrt() / 8.0).max(1.0)
}

/// Numbers around `middle`, for each element of `like`.
fn noise(rng: &mut Philox, like: &Tensor, middle: f64, by: f64) -> Tensor {
    let shape = Shape::new(like.shape().expect("no error")).expect("a shape");
    let data = (0..shape.elements()).map(|_| middle + by * (2.0 * rng.uniform() - 1.0)).collect();
    like.device().array(&Array { shape, dtype: DType::F32, data })
}

pub(super) fn broadcast(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let at = |shape: &[usize], back: usize| if back <= shape.len() { shape[shape.len() - back] } else { 1 };
    let length = |back: usize| match (at(left, back), at(right, back)) {
        (1, n) | (n, 1) => Some(n),
        (l, r) => (l == r).then_some(l),
    };
    (1..=rank).rev().map(length).collect()
}
