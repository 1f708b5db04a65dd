//! Ops that order, count up, scatter, move and cut windows.

use kiln::ops::conv2d::TransposeOptions;
use kiln::ops::max_pool::MaxPoolOptions;
use kiln::ops::resample::{AvgPoolOptions, Interpolation};
use kiln::ops::scatter::ScatterReduction;
use kiln::ops::sort;
use kiln::ops::unfold::UnfoldOptions;
use kiln::ops::walk::PadMode;
use kiln::{DType, Tensor};

use super::grow::Rounding::{Absolute, Basic, Exact, Function, Terms};
use super::grow::{Grower, Value, many};

impl Grower<'_> {
    /// One of them.
    pub(super) fn moved(&mut self) {
        match self.below(8) {
            0 => self.ordered(),
            1 => self.counted_up(),
            2 | 3 => self.scattered(),
            4 | 5 => self.arranged(),
            6 => self.windows(),
            _ => self.summed(),
        }
    }

    /// A value with axes, booleans aside unless they are wanted, and one of its axes.
    fn with_axis(&mut self, wanted: impl Fn(DType) -> bool) -> Option<(Value, usize)> {
        let x = self.choose(|value| value.rank() > 0 && wanted(value.dtype))?;
        let axis = self.below(x.rank());
        Some((x, axis))
    }

    fn ordered(&mut self) {
        let Some((x, axis)) = self.with_axis(|dtype| dtype != DType::Bool) else { return self.reduce() };
        let (t, length) = (&x.tensor, x.shape[axis]);
        let last = length as f64 - 1.0;
        let (what, y, low, high) = match self.below(7) {
            0 => ("sort", t.sort(axis, false), x.low, x.high),
            1 => ("descending sort", t.sort(axis, true), x.low, x.high),
            2 => ("argsort", t.argsort(axis, false), 0.0, last),
            kind @ (3 | 4) => {
                let k = 1 + self.below(length.min(16));
                let (values, indices) = t.topk(k, axis, kind == 3);
                self.push(format!("indices of top {k}, axis {axis} of t{}", x.number), indices, 0.0, last, Exact);
                ("top values of it", values, x.low, x.high)
            }
            5 => {
                let (values, indices) = t.kthvalue(1 + self.below(length), axis);
                self.push(format!("index of a kth value, axis {axis} of t{}", x.number), indices, 0.0, last, Exact);
                ("kth value", values, x.low, x.high)
            }
            _ if x.dtype.is_float() => {
                let q = [0.0, 0.25, 0.5, 0.9, 1.0][self.below(5)];
                let y = t.quantile(q, axis, sort::Interpolation::Linear);
                self.push(
                    format!("quantile {q} axis {axis} of t{}", x.number),
                    y,
                    x.low,
                    x.high,
                    Absolute(1e-6 * x.largest()),
                );
                return;
            }
            _ => ("median", t.median(axis), x.low, x.high),
        };
        self.push(format!("{what}, axis {axis} of t{}", x.number), y, low, high, Exact);
    }

    fn counted_up(&mut self) {
        let Some((x, axis)) = self.with_axis(|dtype| dtype != DType::Bool) else { return self.reduce() };
        let (t, length) = (&x.tensor, x.shape[axis]);
        match self.below(4) {
            kind @ (0 | 1) => {
                let [values, indices] = if kind == 0 { t.cummax(axis) } else { t.cummin(axis) };
                let name = if kind == 0 { "cummax" } else { "cummin" };
                let last = length as f64 - 1.0;
                self.push(format!("indices of {name} axis {axis} of t{}", x.number), indices, 0.0, last, Exact);
                self.push(format!("{name} axis {axis} of t{}", x.number), values, x.low, x.high, Exact);
            }
            // A product of moderate size.
            2 if x.dtype.is_float() && x.largest() <= 2.0 && length <= 5 => {
                let bound = x.largest().max(1.0).powi(length as i32);
                let y = t.cumprod(axis);
                self.push(format!("cumprod axis {axis} of t{}", x.number), y, -bound, bound, Function);
            }
            _ => {
                let terms =
                    (self.noise.is_some() && x.dtype.is_float()).then(|| t.detach().abs().cumsum(axis) * many(length));
                let (low, high) = (length as f64 * x.low.min(0.0), length as f64 * x.high.max(0.0));
                self.push(format!("cumsum axis {axis} of t{}", x.number), t.cumsum(axis), low, high, Terms(terms));
            }
        }
    }

    fn scattered(&mut self) {
        let Some((x, axis)) = self.with_axis(|_| true) else { return self.view() };
        let mut shape = x.shape.clone();
        for (other, length) in shape.iter_mut().enumerate() {
            *length = if other == axis { 1 + self.below(8) } else { 1 + self.below(*length) };
        }
        if shape.iter().product::<usize>() > self.elements {
            return;
        }
        let kind = self.below(8);
        let whole = kind < 2;
        if whole {
            // Whole slices are added: the index has one axis.
            shape = x.shape.iter().enumerate().map(|(other, &n)| if other == axis { shape[axis] } else { n }).collect();
            if shape.iter().product::<usize>() > self.elements {
                return;
            }
        }
        let index = if whole { self.index(&[shape[axis]], x.shape[axis]) } else { self.index(&shape, x.shape[axis]) };
        let source = self.leaf(&shape, x.dtype);
        self.used[index.number] = true;
        self.used[source.number] = true;
        let (t, at, s) = (&x.tensor, &index.tensor, &source.tensor);
        let (low, high) = (x.low.min(source.low), x.high.max(source.high));
        let most = shape[axis] as f64;
        let added = (x.low + most * source.low.min(0.0), x.high + most * source.high.max(0.0));
        let is_float = x.dtype.is_float();
        let noisy = self.noise.is_some() && is_float;
        let of = format!("axis {axis} of t{}, t{} at t{}", x.number, source.number, index.number);
        match kind {
            0 | 1 if x.dtype != DType::Bool => {
                let terms = noisy.then(|| t.detach().abs().index_add(axis, at, &s.detach().abs()));
                self.push(format!("index_add {of}"), t.index_add(axis, at, s), added.0, added.1, Terms(terms));
            }
            2 | 3 if x.dtype != DType::Bool => {
                let terms = noisy.then(|| t.detach().abs().scatter_add(axis, at, &s.detach().abs()));
                self.push(format!("scatter_add {of}"), t.scatter_add(axis, at, s), added.0, added.1, Terms(terms));
            }
            4 | 5 if is_float => {
                let with_self = self.chance(2);
                let (name, reduction) =
                    [("mean", ScatterReduction::Mean), ("max", ScatterReduction::Max), ("min", ScatterReduction::Min)]
                        [self.below(3)];
                let y = t.scatter_reduce(axis, at, s, reduction, with_self);
                let rounding = match reduction {
                    ScatterReduction::Mean => Absolute(1e-6 * low.abs().max(high.abs())),
                    _ => Exact,
                };
                self.push(format!("scatter_reduce by {name}, itself {with_self}, {of}"), y, low, high, rounding);
            }
            6 => {
                let y = t.scatter_value(axis, at, 1.0);
                self.push(format!("scatter of 1 {of}"), y, x.low.min(1.0), x.high.max(1.0), Exact);
            }
            _ if whole => {
                self.push(format!("index_select {of}"), t.index_select(axis, at), x.low, x.high, Exact);
            }
            _ => drop(self.push(format!("scatter {of}"), t.scatter(axis, at, s), low, high, Exact)),
        }
    }

    fn arranged(&mut self) {
        let Some((x, axis)) = self.with_axis(|_| true) else { return self.view() };
        let (t, rank, length) = (&x.tensor, x.rank(), x.shape[axis]);
        let (mut low, mut high) = (x.low, x.high);
        let (what, y) = match self.below(9) {
            0 => (format!("flip axis {axis}"), t.flip(axis)),
            1 => {
                let by = self.below(2 * length) as isize - length as isize;
                (format!("roll axis {axis} by {by}"), t.roll(axis, by))
            }
            2 | 3 => {
                let step = 1 + self.below(3) as isize;
                let start = self.below(length) as isize;
                let (start, end, step) =
                    if self.chance(2) { (start, isize::MIN, -step) } else { (start, isize::MAX, step) };
                (format!("slice axis {axis} from {start} by {step}"), t.slice_step(axis, start, end, step))
            }
            4 => {
                let times = 1 + self.below(3);
                if x.elements() * times > self.elements {
                    return;
                }
                (format!("each of axis {axis} {times} times"), t.repeat_interleave(axis, times))
            }
            kind @ (5 | 6) if rank > 1 => {
                let offset = self.below(5) as isize - 2;
                (low, high) = (low.min(0.0), high.max(0.0));
                let (name, y) = if kind == 5 { ("tril", t.tril(offset)) } else { ("triu", t.triu(offset)) };
                (format!("{name} {offset}"), y)
            }
            7 => {
                let (name, mode) = [
                    ("reflected", PadMode::Reflect),
                    ("replicated", PadMode::Replicate),
                    ("circular", PadMode::Circular),
                ][self.below(3)];
                let mut pairs = vec![(0, 0); rank];
                for (pair, &length) in pairs.iter_mut().zip(&x.shape) {
                    *pair = (self.below(length.min(3)), self.below(length.min(3)));
                }
                let around: usize = x.shape.iter().zip(&pairs).map(|(length, pair)| length + pair.0 + pair.1).product();
                if around > self.elements {
                    return;
                }
                (format!("{name} by {pairs:?}"), t.pad_with(&pairs, mode))
            }
            _ => {
                let Some(mask) = self.condition() else { return };
                let both = super::grow::broadcast(&x.shape, &mask.shape);
                if both.is_none_or(|both| both != x.shape) {
                    return;
                }
                (low, high) = (low.min(1.0), high.max(1.0));
                (format!("1 where t{}", mask.number), t.masked_fill(&mask.tensor, 1.0))
            }
        };
        self.push(format!("{what}, of t{}", x.number), y, low, high, Exact);
    }

    /// Windows over one to three axes.
    fn windows(&mut self) {
        let halves = self.halves && self.chance(3);
        let dtype = if halves { DType::F16 } else { DType::F32 };
        let found = self.choose(|value| value.dtype.is_float() && (3..=5).contains(&value.rank()));
        let x = found.unwrap_or_else(|| {
            let mut shape = vec![1 + self.below(3), [1, 2, 4][self.below(3)]];
            for _ in 0..1 + self.below(3) {
                shape.push(2 + self.below(6));
            }
            let leaf = self.leaf(&shape, dtype);
            self.used[leaf.number] = true;
            leaf
        });
        match x.rank() {
            3 => self.window::<1>(&x),
            4 => self.window::<2>(&x),
            _ => self.window::<3>(&x),
        }
    }

    fn window<const D: usize>(&mut self, x: &Value) {
        let mut numbers =
            |least: usize, count: usize| -> [usize; D] { std::array::from_fn(|_| least + self.below(count)) };
        let (kernel, stride, dilation) = (numbers(1, 3), numbers(1, 2), numbers(1, 2));
        let sizes = numbers(1, 6);
        let padding: [usize; D] = std::array::from_fn(|axis| kernel[axis] / 2);
        let ceil = self.chance(2);
        let (t, largest) = (&x.tensor, x.largest());
        let lengths = &x.shape[2..];
        let fits = (0..D).all(|axis| lengths[axis] + 2 * padding[axis] > dilation[axis] * (kernel[axis] - 1));
        let near = Absolute(1e-6 * largest);
        let (zero_low, zero_high) = (x.low.min(0.0), x.high.max(0.0));
        let grown = x.shape[0] * x.shape[1] * sizes.iter().product::<usize>();
        let what =
            format!("{kernel:?} by {stride:?}, {dilation:?} apart, around {padding:?}, ceil {ceil}, of t{}", x.number);
        match self.below(7) {
            0 if fits => {
                let options = MaxPoolOptions { stride, padding, dilation, ceil, ..MaxPoolOptions::new(kernel) };
                self.push(format!("max_pool {what}"), t.max_pool(&options), x.low, x.high, Exact);
            }
            1 if fits => {
                let count_include_pad = self.chance(2);
                let options =
                    AvgPoolOptions { stride, padding, ceil, count_include_pad, ..AvgPoolOptions::new(kernel) };
                self.push(format!("avg_pool {what}"), t.avg_pool(&options), zero_low, zero_high, near);
            }
            2 if grown <= self.elements => {
                self.push(
                    format!("adaptive_avg_pool {sizes:?} of t{}", x.number),
                    t.adaptive_avg_pool(sizes),
                    x.low,
                    x.high,
                    near,
                );
            }
            3 if grown <= self.elements => {
                self.push(
                    format!("adaptive_max_pool {sizes:?} of t{}", x.number),
                    t.adaptive_max_pool(sizes),
                    x.low,
                    x.high,
                    Exact,
                );
            }
            4 if grown <= self.elements => {
                let align_corners = self.chance(2);
                let mode = [
                    Interpolation::Nearest,
                    Interpolation::NearestExact,
                    Interpolation::Linear { align_corners },
                    Interpolation::Cubic { align_corners },
                ][self.below(4)];
                let rounding = match mode {
                    Interpolation::Nearest | Interpolation::NearestExact => Exact,
                    _ => Absolute(4e-6 * largest),
                };
                let y = t.interpolate(&sizes, mode);
                self.push(
                    format!("interpolate to {sizes:?}, {mode:?}, t{}", x.number),
                    y,
                    -2.0 * largest,
                    2.0 * largest,
                    rounding,
                );
            }
            5 if fits && x.elements() * kernel.iter().product::<usize>() <= self.elements => {
                let options = UnfoldOptions { stride, padding, dilation, ..UnfoldOptions::new(kernel) };
                self.push(format!("unfold {what}"), t.unfold(&options), zero_low, zero_high, Exact);
            }
            _ => self.transposed(x, kernel, stride),
        }
    }

    fn transposed<const D: usize>(&mut self, x: &Value, kernel: [usize; D], stride: [usize; D]) {
        let (inputs, outputs) = (x.shape[1], 1 + self.below(4));
        let taps: usize = kernel.iter().product();
        let grown: usize = (0..D).map(|axis| x.shape[2 + axis] * stride[axis] + kernel[axis]).product();
        if x.shape[0] * outputs * grown > self.elements || inputs * outputs * taps > self.elements {
            return;
        }
        let mut shape = vec![inputs, outputs];
        shape.extend(kernel);
        let weight = self.leaf(&shape, x.dtype);
        self.used[weight.number] = true;
        let options = TransposeOptions { stride, ..Default::default() };
        let (t, w) = (&x.tensor, &weight.tensor);
        let terms = self.noise.is_some().then(|| t.detach().abs().conv_transpose(&w.detach().abs(), &options));
        let bound = (inputs * taps) as f64 * x.largest() * weight.largest();
        let text = format!("conv_transpose {kernel:?} by {stride:?} of t{} with t{}", x.number, weight.number);
        let y = self.shaken_sums(&t.conv_transpose(w, &options), x.elements() / inputs);
        self.push(text, y, -bound, bound, Terms(terms));
    }

    /// Sums of products, norms, and what lies between two values.
    fn summed(&mut self) {
        let Some((x, axis)) = self.with_axis(DType::is_float) else { return self.unary() };
        let (t, largest) = (&x.tensor, x.largest());
        let length = x.shape[axis];
        match self.below(5) {
            0 => {
                let y = t.log_sum_exp(axis);
                let y = match self.bend(t) {
                    None => y,
                    Some(nothing) => (y.cast(DType::F32) + nothing.sum(axis)).cast(x.dtype),
                };
                let high = x.high + (length as f64).ln();
                self.push(format!("log_sum_exp axis {axis} of t{}", x.number), y, x.low, high, Function);
            }
            kind @ (1 | 2) => {
                let p = if kind == 1 { 1.0 } else { f64::INFINITY };
                let terms = (self.noise.is_some() && kind == 1).then(|| t.detach().abs().sum(axis) * many(length));
                let y = t.norm(p, axis);
                let rounding = if kind == 1 { Terms(terms) } else { Exact };
                self.push(format!("{p}-norm axis {axis} of t{}", x.number), y, 0.0, length as f64 * largest, rounding);
            }
            3 if x.rank() == 2 => {
                let rows = 1 + self.below(8);
                let other = self.leaf(&[rows, x.shape[1]], x.dtype);
                self.used[other.number] = true;
                let product = |a: &Tensor, b: &Tensor| Tensor::einsum("ab,cb->ca", &[a, b]);
                let terms = self.noise.is_some().then(|| product(&t.detach().abs(), &other.tensor.detach().abs()));
                let bound = x.shape[1] as f64 * largest * other.largest();
                let text = format!("einsum ab,cb->ca of t{}, t{}", x.number, other.number);
                let y = self.shaken_sums(&product(t, &other.tensor), x.shape[0]);
                self.push(text, y, -bound, bound, Terms(terms));
            }
            _ => {
                let end = self.leaf(&x.shape.clone(), x.dtype);
                self.used[end.number] = true;
                let weight = self.number(0.0, 1.0);
                let (low, high) = (x.low.min(end.low), x.high.max(end.high));
                let text = format!("lerp(t{}, t{}, {weight})", x.number, end.number);
                let rounding =
                    if largest.max(end.largest()) > 0.0 { Absolute(4e-7 * largest.max(end.largest())) } else { Basic };
                self.push(text, t.lerp(&end.tensor, weight), low, high, rounding);
            }
        }
    }
}
