//! Ops with kernels of their own.

use kiln::DType;
use kiln::Tensor;
use kiln::ops::attention::AttentionOptions;
use kiln::ops::conv2d::Conv2dOptions;

use super::grow::Rounding::{Absolute, Exact, Function, Terms};
use super::grow::{Grower, Value, broadcast, many};

/// Logarithm of the most classes.
const LARGE_LOG: f64 = 9.0;

impl Grower<'_> {
    fn axes(&mut self, rank: usize) -> Vec<usize> {
        let mask = 1 + self.below((1 << rank) - 1);
        (0..rank).filter(|axis| mask >> axis & 1 == 1).collect()
    }

    pub(super) fn reduce(&mut self) {
        let Some(x) = self.choose(|value| value.dtype != DType::Bool && value.rank() > 0) else { return self.unary() };
        let (axes, keep, t) = (self.axes(x.rank()), self.chance(2), &x.tensor);
        let terms = axes.iter().map(|&axis| x.shape[axis]).product::<usize>() as f64;
        let noisy = self.noise.is_some() && x.dtype.is_float();
        let sum = || noisy.then(|| t.abs().sum_keep(&axes) * many(terms as usize));
        let (name, y, low, high, rounding) = match self.below(7) {
            0 | 1 => ("sum", t.sum_keep(&axes), terms * x.low.min(0.0), terms * x.high.max(0.0), Terms(sum())),
            2 if x.dtype.is_float() => {
                ("mean", t.mean_keep(&axes), x.low, x.high, Terms(sum().map(|sum| sum * (1.0 / terms))))
            }
            3 => ("max", t.max_keep(&axes), x.low, x.high, Exact),
            4 => ("min", t.min_keep(&axes), x.low, x.high, Exact),
            5 if x.dtype.is_float() && terms > 1.0 => {
                let (correction, size) = (self.below(2), x.largest() * x.largest());
                let y = t.var(&axes, correction);
                let error = Absolute(size * 1e-6 * many(terms as usize));
                self.push(format!("var axes {axes:?} of t{}", x.number), y, 0.0, 2.0 * size, error);
                return;
            }
            _ => {
                let y = t.argmax(axes[0]);
                let last = x.shape[axes[0]] as f64 - 1.0;
                self.push(format!("argmax axis {} of t{}", axes[0], x.number), y, 0.0, last, Exact);
                return;
            }
        };
        let kept: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x.shape[axis]).collect();
        let dropped = |tensor: Tensor| if keep { tensor } else { tensor.reshape(&kept) };
        let rounding = match rounding {
            Terms(terms) => Terms(terms.map(dropped)),
            other => other,
        };
        let of = if keep { "kept axes" } else { "axes" };
        self.push(format!("{name} {of} {axes:?} of t{}", x.number), dropped(y), low, high, rounding);
    }

    pub(super) fn rows(&mut self) {
        let Some(x) = self.choose(|value| value.dtype.is_float() && value.rank() > 0) else { return self.unary() };
        let (rank, t) = (x.rank(), &x.tensor);
        let axis = self.below(rank);
        // Nearly equal elements are scaled up by as much as 1 / sqrt(epsilon).
        let normal = Absolute(1e-6 * x.largest().max(1.0));
        let (what, y, low, high, rounding) = match self.below(6) {
            0 | 1 => (format!("softmax axis {axis}"), t.softmax(axis), 0.0, 1.0, Function),
            2 => {
                (format!("log_softmax axis {axis}"), t.log_softmax(axis), -2.0 * LARGE_LOG - x.largest(), 0.0, Function)
            }
            3 => {
                let dims = 1 + axis;
                let shape = x.shape[rank - dims..].to_vec();
                let (weight, bias) = (self.leaf(&shape, DType::F32), self.leaf(&shape, DType::F32));
                self.used[weight.number] = true;
                self.used[bias.number] = true;
                let y = t.layer_norm(dims, Some(&weight.tensor), Some(&bias.tensor), 1e-2);
                let y = self.shaken_sums(&y, x.elements() / weight.elements());
                (format!("layer_norm {dims} of"), y, -40.0, 40.0, normal)
            }
            4 => (format!("rms_norm {}", 1 + axis), t.rms_norm(1 + axis, None, 1e-2), -64.0, 64.0, normal),
            // It is refused for one element a channel.
            _ if rank > 1 && x.shape.iter().product::<usize>() > x.shape[1] => {
                ("batch_norm".into(), t.batch_norm(None, None, 1e-2), -64.0, 64.0, normal)
            }
            _ => (format!("softmax axis {axis}"), t.softmax(axis), 0.0, 1.0, Function),
        };
        // Where a row is nearly constant, its gradient is a difference of nearly equal terms.
        let y = self.bent(y, t);
        self.push(format!("{what} t{}", x.number), y, low, high, rounding);
    }

    pub(super) fn product(&mut self) {
        let Some(x) = self.choose(|value| value.dtype.is_float() && value.rank() > 1 && value.elements() > 1) else {
            return self.reduce();
        };
        let (rank, t) = (x.rank(), x.tensor.clone());
        let [rows, inner] = [x.shape[rank - 2], x.shape[rank - 1]];
        if rank > 2 && self.chance(3) {
            return self.attention(&x);
        }
        let most = self.elements;
        let fits = |other: &Value| {
            other.dtype == x.dtype
                && other.rank() > 1
                && other.shape[other.rank() - 2] == inner
                && broadcast(&x.shape[..rank - 2], &other.shape[..other.rank() - 2])
                    .is_some_and(|batch| batch.iter().product::<usize>() * rows * other.shape[other.rank() - 1] <= most)
        };
        let turned = self.chance(4);
        let found = if self.chance(2) { self.choose(fits) } else { None };
        let (text, y) = match found {
            _ if turned && x.elements() * rows <= self.elements * inner => {
                (format!("transpose(t{})", x.number), Value { tensor: t.transpose(rank - 2, rank - 1), ..x.clone() })
            }
            Some(found) => (format!("t{}", found.number), found),
            None => {
                let columns = self.length();
                if x.elements() / inner * columns > self.elements || inner * columns > self.elements {
                    return;
                }
                let leaf = self.leaf(&[inner, columns], x.dtype);
                self.used[leaf.number] = true;
                (format!("t{}", leaf.number), leaf)
            }
        };
        let bound = inner as f64 * x.largest() * y.largest();
        let terms = self.noise.is_some().then(|| t.detach().abs().matmul(&y.tensor.detach().abs()) * many(inner));
        let product = self.shaken_sums(&t.matmul(&y.tensor), x.elements() / inner);
        self.push(format!("matmul(t{}, {text})", x.number), product, -bound, bound, Terms(terms));
    }

    fn attention(&mut self, x: &Value) {
        let rank = x.rank();
        let (mut shape, keys) = (x.shape.clone(), self.length().min(16));
        if x.elements() / x.shape[rank - 1] * keys > self.elements {
            return;
        }
        shape[rank - 2] = keys;
        if shape.iter().product::<usize>() > self.elements {
            return;
        }
        let (key, value) = (self.leaf(&shape, x.dtype), self.leaf(&shape, x.dtype));
        self.used[key.number] = true;
        self.used[value.number] = true;
        let causal = self.chance(2);
        let options = AttentionOptions { causal, ..Default::default() };
        let y = match self.noise {
            None => x.tensor.scaled_dot_product_attention(&key.tensor, &value.tensor, &options),
            Some(_) => self.composed_attention([&x.tensor, &key.tensor, &value.tensor], causal),
        };
        let text = format!("attention(t{}, t{}, t{}), causal {causal}", x.number, key.number, value.number);
        // The scores are sums of as many terms as there are features; mixed precision has them in f16.
        let unit = if self.mixed { 1e-3 } else { 1e-6 };
        let error = unit * x.largest().max(1.0) * (x.shape[rank - 1] as f64).sqrt();
        let y = self.shaken_sums(&y, x.shape[rank - 2]);
        self.push(text, y, value.low, value.high, Absolute(error));
    }

    /// Attention by its parts, with noise in the gradients of its weights: those of the scores are differences of them, which nearly cancel out
    /// where values are alike or a weight has nearly all.
    fn composed_attention(&mut self, [query, key, value]: [&Tensor; 3], causal: bool) -> Tensor {
        let shape = query.shape().expect("no error");
        let (rank, keys) = (shape.len(), key.shape().expect("no error"));
        let (rows, columns) = (shape[rank - 2], keys[rank - 2]);
        let products = query.matmul(&key.transpose(rank - 2, rank - 1)) * (1.0 / (shape[rank - 1] as f64).sqrt());
        let device = query.device();
        let [row, column] = [(rows, [rows, 1]), (columns, [1, columns])]
            .map(|(length, shape)| device.arange(length, DType::I32).reshape(&shape));
        let scores = if causal { products.masked_fill(&column.gt(&row), f64::NEG_INFINITY) } else { products.clone() };
        // Of what a row has in common rounding is left, too.
        let weights = self.bent(scores.softmax(rank - 1), &products);
        // Mixed precision has products in f16, and the op's result is not.
        self.shaken(&weights).matmul(value).cast(query.dtype().expect("no error"))
    }

    pub(super) fn pick(&mut self) {
        let x = self.any();
        let rank = x.rank();
        if rank == 0 {
            return self.view();
        }
        let (axis, t) = (self.below(rank), &x.tensor);
        match self.below(5) {
            0 | 1 => {
                let mut shape = x.shape.clone();
                for (other, length) in shape.iter_mut().enumerate() {
                    *length = if other == axis { 1 + self.below(8) } else { 1 + self.below(*length) };
                }
                let index = self.index(&shape, x.shape[axis]);
                self.used[index.number] = true;
                let text = format!("gather axis {axis} of t{} at t{}", x.number, index.number);
                self.push(text, t.gather(axis, &index.tensor), x.low, x.high, Exact);
            }
            2 => {
                let (length, most) = (x.shape[axis], self.elements);
                let fits = |other: &Value| {
                    matches!(other.dtype, DType::I32 | DType::U32)
                        && other.rank() == 1
                        && other.low >= 0.0
                        && other.high < length as f64
                        && x.elements() / length * other.elements() <= most
                };
                let index = match self.choose(fits) {
                    Some(index) => index,
                    None => self.index(&[3], length),
                };
                self.used[index.number] = true;
                let text = format!("index_select axis {axis} of t{} at t{}", x.number, index.number);
                self.push(text, t.index_select(axis, &index.tensor), x.low, x.high, Exact);
            }
            3 if rank == 2 && x.dtype.is_float() && x.shape[1] * 6 <= self.elements => {
                let index = self.index(&[2, 3], x.shape[0]);
                self.used[index.number] = true;
                let padding = if self.chance(2) { Some(self.below(x.shape[0])) } else { None };
                let text = format!("embedding of t{} at t{}, padding {padding:?}", x.number, index.number);
                self.push(text, t.embedding(&index.tensor, padding), x.low.min(0.0), x.high.max(0.0), Exact);
            }
            _ if rank == 2 && x.dtype.is_float() => {
                let labels = self.index(&[x.shape[0]], x.shape[1]);
                self.used[labels.number] = true;
                let text = format!("cross_entropy of t{} with t{}", x.number, labels.number);
                let y = t.cross_entropy_rows(&labels.tensor);
                self.push(text, y, 0.0, 2.0 * x.largest() + LARGE_LOG, Function);
            }
            _ => {
                let classes = self.length();
                let index = self.index(&[5], classes);
                self.used[index.number] = true;
                self.push(format!("one_hot of t{}", index.number), index.tensor.one_hot(classes), 0.0, 1.0, Exact);
            }
        }
    }

    pub(super) fn image(&mut self) {
        let found = self.choose(|value| value.dtype.is_float() && value.rank() == 4);
        let x = match found {
            Some(found) => found,
            None => {
                let shape = [1 + self.below(3), [1, 2, 4, 6][self.below(4)], 3 + self.below(7), 3 + self.below(7)];
                let dtype = if self.halves && self.chance(3) { DType::F16 } else { DType::F32 };
                self.leaf(&shape, dtype)
            }
        };
        self.used[x.number] = true;
        let t = &x.tensor;
        let kernel = [1 + self.below(3), 1 + self.below(3)];
        let stride = [1 + self.below(2), 1 + self.below(2)];
        let padding = [self.below(kernel[0].div_ceil(2)), self.below(kernel[1].div_ceil(2))];
        if (0..2).any(|i| x.shape[2 + i] + 2 * padding[i] < kernel[i]) {
            return;
        }
        let what = format!("{kernel:?}, stride {stride:?}, padding {padding:?} of t{}", x.number);
        match self.below(4) {
            0 => drop(self.push(
                format!("max_pool2d {what}"),
                t.max_pool2d(kernel, stride, padding),
                x.low,
                x.high,
                Exact,
            )),
            1 => {
                let (low, high) = (x.low.min(0.0), x.high.max(0.0));
                self.push(
                    format!("avg_pool2d {what}"),
                    t.avg_pool2d(kernel, stride, padding, true),
                    low,
                    high,
                    Absolute(4e-7 * x.largest()),
                );
            }
            _ => {
                let channels = x.shape[1];
                let groups = if self.chance(3) { channels } else { 1 };
                let filters = groups * (1 + self.below(4));
                if x.elements() / channels * filters > self.elements {
                    return;
                }
                let weight = self.leaf(&[filters, channels / groups, kernel[0], kernel[1]], x.dtype);
                self.used[weight.number] = true;
                let options = Conv2dOptions { stride, padding, groups, ..Default::default() };
                let bound = (channels / groups * kernel[0] * kernel[1]) as f64 * x.largest() * weight.largest();
                let w = &weight.tensor;
                let terms = self.noise.is_some().then(|| t.detach().abs().conv2d(&w.detach().abs(), &options));
                let text = format!("conv2d with t{}, {groups} groups, {what}", weight.number);
                let y = self.shaken_sums(&t.conv2d(w, &options), x.elements() / channels);
                self.push(text, y, -bound, bound, Terms(terms));
            }
        }
    }

    pub(super) fn loss(&mut self) {
        let x = self.float();
        let y = self.leaf(&x.shape.clone(), x.dtype);
        self.used[y.number] = true;
        let (a, b) = (&x.tensor, &y.tensor);
        let square = (x.largest() + y.largest()).powi(2);
        let (name, loss) = match self.below(4) {
            0 => ("mse_loss", a.mse_loss(b)),
            1 => ("l1_loss", a.l1_loss(b)),
            2 => {
                let delta = self.number(0.5, 1.5);
                ("huber_loss", a.huber_loss(b, delta))
            }
            _ => ("bce_with_logits", a.binary_cross_entropy_with_logits(b)),
        };
        self.push(
            format!("{name}(t{}, t{})", x.number, y.number),
            loss,
            -square,
            square + 1.0,
            Absolute(1e-6 * square * many(x.elements())),
        );
    }
}
