//! Pointwise ops and views.

use kiln::{DType, Precision, Tensor};

use super::grow::Rounding::{Basic, Exact, Function};
use super::grow::{Grower, Value, broadcast};

impl Grower<'_> {
    /// One op or a few.
    pub(super) fn step(&mut self) {
        let kind = self.below(256);
        // The numbers of before stay what they were, so that old inputs are the same programs.
        if kind >= 208 {
            return self.moved();
        }
        match kind % 24 {
            0 => {
                let (shape, dtype) = (self.shape(), self.dtype());
                self.leaf(&shape, dtype);
            }
            1..=3 => self.unary(),
            4..=6 => self.binary(),
            7 | 8 => self.with_number(),
            9 => self.compare(),
            10 => self.select(),
            11..=13 => self.view(),
            14 => self.join(),
            15 | 16 => self.reduce(),
            17 => self.rows(),
            18 => self.product(),
            19 => self.pick(),
            20 => self.image(),
            21 => self.loss(),
            22 => self.cast(),
            _ => self.within(),
        }
    }

    /// A few ops in a region of their own.
    fn within(&mut self) {
        match self.below(3) {
            0 => kiln::no_grad(|| self.binary()),
            1 => kiln::recompute(|| {
                self.unary();
                self.binary();
            }),
            _ if self.halves && !self.mixed => {
                self.mixed = true;
                kiln::with_precision(Precision::Mixed, || {
                    self.product();
                    self.binary();
                });
                self.mixed = false;
            }
            _ => self.unary(),
        }
    }

    pub(super) fn unary(&mut self) {
        let x = self.float();
        let (low, high, largest, t) = (x.low, x.high, x.largest(), &x.tensor);
        let kind = self.below(36);
        let (name, y, low, high, rounding) = match kind {
            0 => ("relu", t.relu(), low.max(0.0), high.max(0.0), Exact),
            1 => ("abs", t.abs(), 0.0, largest, Exact),
            2 => ("negative", t.negative(), -high, -low, Exact),
            3 => ("sign", t.sign(), -1.0, 1.0, Exact),
            4 => ("square", t.square(), 0.0, largest * largest, Basic),
            5 => ("tanh", t.tanh(), -1.0, 1.0, Function),
            6 => ("sigmoid", t.sigmoid(), 0.0, 1.0, Function),
            7 => ("softplus", t.softplus(), 0.0, high.max(0.0) + 0.7, Function),
            8 => ("gelu", t.gelu(), -0.2, high.max(0.0), Function),
            9 => ("gelu_tanh", t.gelu_tanh(), -0.2, high.max(0.0), Function),
            10 => ("silu", t.silu(), -0.3, high.max(0.0), Function),
            11 => ("erf", t.erf(), -1.0, 1.0, Function),
            12 if high <= 4.0 => ("exp", t.exp(), 0.0, high.exp(), Function),
            13 if high <= 4.0 => ("expm1", t.expm1(), -1.0, high.exp(), Function),
            14 if low > 0.01 => ("log", t.log(), low.ln(), high.ln(), Function),
            15 if low >= 0.0 => ("log1p", t.log1p(), 0.0, high.ln_1p(), Function),
            16 if low > 0.01 => ("sqrt", t.sqrt(), 0.0, high.sqrt(), Basic),
            17 if low > 0.05 || high < -0.05 => {
                ("recip", t.recip(), (1.0 / low).min(1.0 / high), (1.0 / low).max(1.0 / high), Basic)
            }
            20 => ("sin", t.sin(), -1.0, 1.0, Function),
            21 => ("cos", t.cos(), -1.0, 1.0, Function),
            22 => ("atan", t.atan(), -1.6, 1.6, Function),
            23 => ("asinh", t.asinh(), low.asinh(), high.asinh(), Function),
            24 => ("mish", t.mish(), -0.4, high.max(0.0), Function),
            25 => ("softsign", t.softsign(), -1.0, 1.0, Basic),
            26 => ("selu", t.selu(), -1.8, high.max(0.0) * 1.1, Function),
            27 => ("erfc", t.erfc(), 0.0, 2.0, Function),
            28 => ("log_sigmoid", t.log_sigmoid(), low.min(0.0) - 0.7, 0.0, Function),
            29 => ("hardswish", t.hardswish(), -0.4, high.max(0.0), Basic),
            30 if largest <= 4.0 => ("sinh", t.sinh(), low.sinh(), high.sinh(), Function),
            31 if largest <= 4.0 => ("cosh", t.cosh(), 1.0, largest.cosh(), Function),
            32 if high <= 4.0 => ("exp2", t.exp2(), 0.0, high.exp2(), Function),
            33 if low > 0.01 => ("log2", t.log2(), low.log2(), high.log2(), Function),
            34 if low > 0.05 => ("rsqrt", t.rsqrt(), 0.0, 1.0 / low.sqrt(), Basic),
            18 => {
                let slope = self.number(0.0, 0.5);
                ("leaky_relu", t.leaky_relu(slope), low.min(0.0), high.max(0.0), Basic)
            }
            _ => {
                let alpha = self.number(0.5, 1.5);
                ("elu", t.elu(alpha), -1.5, high.max(0.0), Function)
            }
        };
        let y = if matches!(rounding, Function) { self.bent(y, t) } else { y };
        self.push(format!("{name}(t{})", x.number), y, low, high, rounding);
    }

    /// `|x| + number`, which can be divided by and has a logarithm.
    fn positive(&mut self, x: &Value) -> Option<Value> {
        if x.low > 0.05 {
            return Some(x.clone());
        }
        let number = self.number(0.25, 1.0);
        self.push(format!("abs(t{}) + {number}", x.number), x.tensor.abs() + number, 0.24, x.largest() + 1.0, Basic)
    }

    fn binary(&mut self) {
        let Some(x) = self.choose(|value| value.dtype != DType::Bool) else { return self.unary() };
        let y = self.partner(&x);
        let (mut x, mut y) = if self.chance(2) { (y, x) } else { (x, y) };
        let is_float = x.dtype.is_float();
        let kind = self.below(10);
        if is_float && kind >= 5 {
            let Some(divisor) = self.positive(&y) else { return };
            y = divisor;
        }
        if is_float && kind == 7 {
            // A power of moderate size.
            let Some(base) = self.positive(&x) else { return };
            let tanh = self.bent(y.tensor.tanh(), &y.tensor);
            let Some(power) = self.push(format!("tanh(t{})", y.number), tanh, -1.0, 1.0, Function) else { return };
            (x, y) = (base, power);
        }
        let is_rounded = is_float && matches!(kind, 3 | 4 | 6..=9);
        let shaken = if is_rounded {
            [&x, &y].map(|value| self.shaken(&value.tensor))
        } else {
            [x.tensor.clone(), y.tensor.clone()]
        };
        let [a, b] = &shaken;
        let corners = |f: fn(f64, f64) -> f64| {
            let all = [f(x.low, y.low), f(x.low, y.high), f(x.high, y.low), f(x.high, y.high)];
            (all.into_iter().fold(f64::INFINITY, f64::min), all.into_iter().fold(f64::NEG_INFINITY, f64::max))
        };
        let everything = (f64::NEG_INFINITY, f64::INFINITY);
        let (name, result, (low, high), rounding) = match kind {
            0 | 1 => ("plus", a + b, corners(|a, b| a + b), Basic),
            2 => ("minus", a - b, corners(|a, b| a - b), Basic),
            3 | 4 => ("times", a * b, corners(|a, b| a * b), Basic),
            5 => ("minimum", a.minimum(b), (x.low.min(y.low), x.high.min(y.high)), Exact),
            6 if self.chance(2) => ("maximum", a.maximum(b), (x.low.max(y.low), x.high.max(y.high)), Exact),
            7 if is_float => ("pow", a.pow(b), (0.0, x.high.max(1.0 / x.low)), Function),
            8 if is_float => ("hypot", a.hypot(b), (0.0, x.largest() + y.largest()), Function),
            9 if is_float => {
                let low = x.low.max(y.low);
                ("logaddexp", a.logaddexp(b), (low, x.high.max(y.high) + 0.7), Function)
            }
            8 => ("fmod", a.fmod(b), everything, Basic),
            _ if is_float => ("over", a / b, corners(|a, b| a / b), Basic),
            _ => ("over", a / b, everything, Basic),
        };
        let elements = broadcast(&x.shape, &y.shape).map_or(1, |shape| shape.iter().product());
        let result = self.shaken_sums(&result, elements / x.elements().min(y.elements()));
        self.push(format!("{name}(t{}, t{})", x.number, y.number), result, low, high, rounding);
    }

    fn with_number(&mut self) {
        let Some(x) = self.choose(|value| value.dtype != DType::Bool) else { return self.unary() };
        let (low, high, t) = (x.low, x.high, &x.tensor);
        let mut n = self.number(0.25, 2.0);
        if !x.dtype.is_float() {
            n = f64::from(1 + self.rng.below(5));
        }
        let (name, y, low, high, rounding) = match self.below(9) {
            0 => ("plus", t + n, low, high + 5.0, Basic),
            1 => ("minus", t - n, low - 5.0, high, Basic),
            2 => ("times", t * n, (low * 5.0).min(0.0), (high * 5.0).max(0.0), Basic),
            3 => ("over", t / n, (low * 4.0).min(0.0), (high * 4.0).max(0.0), Basic),
            4 => ("from", n - t, -high, 5.0 - low, Basic),
            5 => ("minimum", t.minimum(n), low.min(0.25), high.min(5.0), Exact),
            6 => ("maximum", t.maximum(n), low.max(0.25), high.max(5.0), Exact),
            7 => {
                let least = if x.dtype == DType::I32 { -n } else { n / 2.0 };
                let least = if x.dtype.is_float() { least } else { least.floor() };
                ("clamp above -n or n / 2", t.clamp(least, n), -5.0, 5.0, Exact)
            }
            _ if x.dtype.is_float() => {
                let p = if self.rng.below(2) == 0 { 0.1 } else { 0.5 };
                ("dropout", t.dropout(p, &self.draws), (low * 2.0).min(0.0), (high * 2.0).max(0.0), Basic)
            }
            _ => ("times", t * n, (low * 5.0).min(0.0), (high * 5.0).max(0.0), Basic),
        };
        // The reference holds numbers to more digits than f32 has.
        let rounding = if x.dtype.is_float() && matches!(rounding, Exact) { Basic } else { rounding };
        self.push(format!("{name}(t{}, {n})", x.number), y, low, high, rounding);
    }

    fn compare(&mut self) {
        type Comparison = (&'static str, fn(&Tensor, &Tensor) -> Tensor, fn(&Tensor, f64) -> Tensor);
        const ALL: [Comparison; 6] = [
            ("eq", |a, b| a.eq(b), |a, b| a.eq(b)),
            ("ne", |a, b| a.ne(b), |a, b| a.ne(b)),
            ("lt", |a, b| a.lt(b), |a, b| a.lt(b)),
            ("le", |a, b| a.le(b), |a, b| a.le(b)),
            ("gt", |a, b| a.gt(b), |a, b| a.gt(b)),
            ("ge", |a, b| a.ge(b), |a, b| a.ge(b)),
        ];
        let (x, (name, tensors, number)) = (self.any(), ALL[self.below(6)]);
        if x.dtype != DType::Bool && self.chance(2) {
            // Half numbers beside integers are compared as they are.
            let n = (self.number(-2.0, 2.0) * 2.0).round() / 2.0;
            self.push(format!("{name}(t{}, {n})", x.number), number(&x.tensor, n), 0.0, 1.0, Exact);
            return;
        }
        let y = self.partner(&x);
        let text = format!("{name}(t{}, t{})", x.number, y.number);
        self.push(text, tensors(&x.tensor, &y.tensor), 0.0, 1.0, Exact);
    }

    pub(super) fn condition(&mut self) -> Option<Value> {
        match self.choose(|value| value.dtype == DType::Bool) {
            Some(found) => Some(found),
            None => {
                let x = self.any();
                let y = self.partner(&x);
                self.push(format!("lt(t{}, t{})", x.number, y.number), x.tensor.lt(&y.tensor), 0.0, 1.0, Exact)
            }
        }
    }

    fn select(&mut self) {
        let Some(condition) = self.condition() else { return };
        match self.below(5) {
            0 => {
                drop(self.push(format!("not(t{})", condition.number), condition.tensor.logical_not(), 0.0, 1.0, Exact))
            }
            kind @ (1 | 2) => {
                let other = self.partner(&condition);
                let (a, b) = (&condition.tensor, &other.tensor);
                let (name, y) = if kind == 1 { ("and", a.logical_and(b)) } else { ("or", a.logical_or(b)) };
                self.push(format!("{name}(t{}, t{})", condition.number, other.number), y, 0.0, 1.0, Exact);
            }
            _ => {
                let a = self.any();
                let b = self.partner(&a);
                let shape = broadcast(&a.shape, &b.shape).and_then(|both| broadcast(&both, &condition.shape));
                let Some(shape) = shape else { return };
                let elements = shape.iter().product::<usize>();
                if elements > self.elements {
                    return;
                }
                let text = format!("where(t{}, t{}, t{})", condition.number, a.number, b.number);
                let y = condition.tensor.where_(&a.tensor, &b.tensor);
                let y = self.shaken_sums(&y, elements / a.elements().min(b.elements()));
                self.push(text, y, a.low.min(b.low), a.high.max(b.high), Exact);
            }
        }
    }

    pub(super) fn view(&mut self) {
        let x = self.any();
        let (rank, t) = (x.rank(), &x.tensor);
        let axis = self.below(rank);
        let (what, y) = match self.below(11) {
            0 | 1 => {
                // Prime factors of the number of elements, in new groups.
                let mut shape = vec![1];
                let (mut left, mut prime) = (x.elements(), 2);
                while left > 1 {
                    while left % prime == 0 {
                        left /= prime;
                        match shape.len() < 5 && self.chance(2) {
                            true => shape.push(prime),
                            false => *shape.last_mut().expect("an axis") *= prime,
                        }
                    }
                    prime += 1;
                }
                (format!("reshape {shape:?}"), t.reshape(&shape))
            }
            2 | 3 if rank > 1 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    axes.swap(i, self.below(i + 1));
                }
                (format!("permute {axes:?}"), t.permute(&axes))
            }
            4 | 5 if rank > 0 => {
                let length = 1 + self.below(x.shape[axis]);
                let start = self.rng.below((x.shape[axis] - length + 1) as u32) as usize;
                (format!("slice axis {axis} from {start}, {length} long"), t.slice(axis, start, length))
            }
            6 if rank > 0 && x.shape[axis] > 1 => {
                let first = 1 + self.below(x.shape[axis] - 1);
                let parts = t.split(axis, &[first, x.shape[axis] - first]);
                let part = self.below(2);
                (format!("part {part} of a split of axis {axis} at {first}"), parts[part].clone())
            }
            7 | 8 => {
                let mut shape = x.shape.clone();
                for length in &mut shape {
                    if *length == 1 && self.chance(2) {
                        *length = self.length();
                    }
                }
                if shape.len() < 5 && self.chance(2) {
                    shape.insert(0, self.length());
                }
                if shape.iter().product::<usize>() > self.elements {
                    return;
                }
                let terms = shape.iter().product::<usize>() / x.elements();
                (format!("expand {shape:?}"), self.shaken_sums(&t.expand(&shape), terms))
            }
            9 if rank < 6 => {
                let axis = self.below(rank + 1);
                (format!("unsqueeze {axis}"), t.unsqueeze(axis))
            }
            10 if rank > 0 => (format!("flatten {axis}"), t.flatten(axis)),
            _ => ("detach".into(), t.detach()),
        };
        self.push(format!("{what} of t{}", x.number), y, x.low, x.high, Exact);
    }

    fn join(&mut self) {
        let x = self.any();
        let (rank, t) = (x.rank(), x.tensor.clone());
        if rank == 0 || x.elements() * 3 > self.elements {
            return self.view();
        }
        let axis = self.below(rank);
        if x.dtype == DType::F32 && self.chance(3) {
            let mut pairs = vec![(0, 0); rank];
            for pair in &mut pairs {
                *pair = (self.below(3), self.below(3));
            }
            let around: usize = x.shape.iter().zip(&pairs).map(|(length, pair)| length + pair.0 + pair.1).product();
            if around <= self.elements {
                let value = [0.0, 0.5, -1.0][self.below(3)];
                let text = format!("pad t{} by {pairs:?} with {value}", x.number);
                self.push(text, t.pad(&pairs, value), x.low.min(-1.0), x.high.max(1.0), Basic);
            }
            return;
        }
        let alike = |other: &Value| {
            let matches = |(i, (a, b)): (usize, (&usize, &usize))| i == axis || a == b;
            other.dtype == x.dtype && other.rank() == rank && x.shape.iter().zip(&other.shape).enumerate().all(matches)
        };
        let y = self.choose(alike).unwrap_or(x.clone());
        let z = self.choose(alike).unwrap_or(x.clone());
        let three = self.chance(3);
        let all: Vec<&Tensor> = if three { vec![&t, &y.tensor, &z.tensor] } else { vec![&t, &y.tensor] };
        let (low, high) = (x.low.min(y.low).min(z.low), x.high.max(y.high).max(z.high));
        let of =
            format!("t{}, t{}{}", x.number, y.number, if three { format!(", t{}", z.number) } else { String::new() });
        let elements: usize = x.elements() + y.elements() + z.elements();
        if y.shape == x.shape && z.shape == x.shape && self.chance(3) {
            self.push(format!("stack axis {axis} of {of}"), Tensor::stack(&all, axis), low, high, Exact);
        } else if elements <= 2 * self.elements {
            self.push(format!("concat axis {axis} of {of}"), Tensor::concat(&all, axis), low, high, Exact);
        }
    }

    fn cast(&mut self) {
        let (x, to) = (self.any(), self.dtype());
        let y = x.tensor.cast(to);
        let (low, high) = match (x.dtype, to) {
            (_, DType::Bool) => (0.0, 1.0),
            (_, DType::I32 | DType::U32) => {
                let (least, largest) = super::grow::range(to);
                (x.low.floor().clamp(least, largest), x.high.ceil().clamp(least, largest))
            }
            // An f16 holds no more.
            (_, DType::F16) if x.largest() > 6e4 => return self.view(),
            _ => (x.low, x.high),
        };
        let rounding = if to == DType::F16 || x.largest() > 1e7 { Basic } else { Exact };
        self.push(format!("cast of t{}", x.number), y, low, high, rounding);
    }
}
