//! Attention composed of other ops, with all weights in memory: the check of the kernels that have not, what they do not
//! take, and second gradients.

use super::form::Form;
use crate::dtype::DType;
use crate::rng::Draws;
use crate::tensor::Tensor;

/// Queries, keys and values with what the form says there is, `others` as in `Site`.
struct Parts<'a> {
    form: &'a Form,
    q: &'a Tensor,
    /// Keys and values, one plane for each of the queries.
    k: Tensor,
    v: Tensor,
    groups: usize,
    mask: Option<&'a Tensor>,
    lengths: Option<&'a Tensor>,
}

impl<'a> Parts<'a> {
    fn new(form: &'a Form, inputs: &'a [Tensor], others: usize) -> Parts<'a> {
        let [q, k, v] = [0, 1, 2].map(|input| &inputs[input]);
        let rank = q.dims().rank();
        let groups = q.dims()[..rank - 2].iter().product::<usize>() / k.dims()[..rank - 2].iter().product::<usize>();
        let mut rest = inputs[others..].iter();
        let mask = form.mask.then(|| rest.next()).flatten();
        let lengths = form.lengths.then(|| rest.next()).flatten();
        Parts { form, q, k: repeated(k, groups), v: repeated(v, groups), groups, mask, lengths }
    }

    /// Products of queries and keys, scaled, and what the cap makes of them.
    fn capped(&self, scaled: &dyn Fn(Tensor) -> Tensor) -> Tensor {
        let scores = scaled(self.q.matmul(&turned(&self.k)));
        match self.form.cap {
            Some(cap) => scores.scale(1.0 / cap).tanh().scale(cap),
            None => scores,
        }
    }

    /// The derivative of the cap, from what it gives; `None` without.
    fn cap_slope(&self, capped: &Tensor) -> Option<Tensor> {
        self.form.cap.map(|cap| -capped.scale(1.0 / cap).square().offset(-1.0))
    }

    /// Scores with a mask that is added.
    fn biased(&self, capped: Tensor) -> Tensor {
        match self.mask {
            Some(mask) if mask.meta().dtype != DType::Bool => capped + mask.widen(),
            _ => capped,
        }
    }

    /// True where a score counts; `None` where all do.
    fn seen(&self) -> Option<Tensor> {
        let (device, rank) = (self.q.device(), self.q.dims().rank());
        let [queries, keys] = [self.q, &self.k].map(|x| x.dims()[rank - 2]);
        let (row, column) =
            (device.arange(queries, DType::I32).reshape(&[queries, 1]), device.arange(keys, DType::I32));
        // What reaches past the ends reaches the ends.
        let by = |x: usize| device.fixed(&[], DType::I32, x.min(queries + keys) as f64);
        let right = self.form.right.map(|right| match right {
            0 => column.le(&row),
            _ => column.le(&(&row + by(right))),
        });
        let left = self.form.left.map(|left| (&column + by(left)).ge(&row));
        let mask = self.mask.filter(|mask| mask.meta().dtype == DType::Bool).cloned();
        let lengths = self.lengths.map(|lengths| {
            let mut dims = vec![1; rank];
            dims[0] = lengths.dims().elements();
            device.arange(keys, DType::U32).lt(&lengths.reshape(&dims))
        });
        [right, left, mask, lengths].into_iter().flatten().reduce(|all, next| all.logical_and(&next))
    }

    /// The weights, from the logarithms of the sums of their exponentials.
    fn weights(&self, capped: &Tensor, lse: &Tensor) -> Tensor {
        let powers = (self.biased(capped.clone()) - lse.unsqueeze(lse.dims().rank())).exp();
        match self.seen() {
            Some(seen) => seen.where_(&powers, &powers.scalar(0.0)),
            None => powers,
        }
    }
}

fn turned(x: &Tensor) -> Tensor {
    let rank = x.dims().rank();
    x.transpose(rank - 2, rank - 1)
}

/// Each plane as often as groups share it.
fn repeated(x: &Tensor, groups: usize) -> Tensor {
    if groups == 1 {
        return x.clone();
    }
    let dims = x.dims().to_vec();
    let rank = dims.len();
    let with = |heads: &[usize]| [&dims[..rank - 3], heads, &dims[rank - 2..]].concat();
    let heads = dims[rank - 3];
    x.reshape(&with(&[heads, 1])).expand(&with(&[heads, groups])).reshape(&with(&[heads * groups]))
}

/// The sums over the groups of a plane.
fn gathered(x: &Tensor, groups: usize) -> Tensor {
    if groups == 1 {
        return x.clone();
    }
    let dims = x.dims().to_vec();
    let rank = dims.len();
    let heads = dims[rank - 3] / groups;
    x.reshape(&[&dims[..rank - 3], &[heads, groups], &dims[rank - 2..]].concat()).sum(&[rank - 2])
}

/// Attention of f32 inputs as `Attention` has them, without a counter. The scale is a host number where it was `given`.
pub(super) fn attention(form: &Form, inputs: &[Tensor], given: bool, draws: &Draws) -> Tensor {
    let parts = Parts::new(form, inputs, 3);
    let (device, rank) = (parts.q.device(), parts.q.dims().rank());
    let [nothing, zero] = [f64::NEG_INFINITY, 0.0].map(|value| device.fixed(&[], DType::F32, value));
    let scaled = |x: Tensor| if given { x.times(form.scale) } else { x.scale(form.scale) };
    let mut scores = parts.biased(parts.capped(&scaled));
    if let Some(seen) = parts.seen() {
        scores = seen.where_(&scores, &nothing);
    }
    // Query 0 sees key 0 if nothing but later keys is hidden. Else a row may be all -inf, which has no softmax.
    let may_be_blind = form.mask || form.lengths || form.left.is_some();
    let blind = may_be_blind.then(|| scores.max_keep(&[rank - 1]).detach().eq(&nothing));
    if let Some(row) = &blind {
        scores = row.where_(&zero, &scores);
    }
    let mut weights = scores.softmax(rank - 1);
    if let Some(row) = &blind {
        weights = row.where_(&zero, &weights);
    }
    if form.dropout > 0.0 {
        weights = weights.dropout(form.dropout, draws);
    }
    weights.matmul(&parts.v)
}

/// The gradient of a mask that is added, of `AttentionBackward`'s inputs.
pub(super) fn mask_gradient(form: &Form, inputs: &[Tensor]) -> Tensor {
    if form.dropout > 0.0 {
        return no_draws(&inputs[0]);
    }
    let parts = Parts::new(form, inputs, super::backward::OTHERS);
    let [dy, lse, delta] = [3, 4, 5].map(|input| &inputs[input]);
    let capped = parts.capped(&|x| x.scale(form.scale));
    let inner = dy.matmul(&turned(&parts.v)) - delta.unsqueeze(delta.dims().rank());
    let slopes = parts.weights(&capped, lse) * inner;
    let mask = &inputs[super::backward::OTHERS];
    slopes.sum_to(mask.dims()).result_of(mask)
}

/// The gradients of `AttentionBackward`'s inputs. With a, b, c for those of dq, dk, dv, and s for the scale:
/// E = s (a k^T + q b^T) of the products' gradients g, F = dy c^T of the weights w; D = dy v^T - delta, C the slope of the
/// cap; g = w D C. So that of w is E C D + F, of a score w times it and, through C, E w D C'.
pub(super) fn second(form: &Form, inputs: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
    if form.dropout > 0.0 {
        return vec![Some(no_draws(&inputs[0])); inputs.len()];
    }
    let parts = Parts::new(form, inputs, super::backward::OTHERS);
    let (q, k, v, groups) = (parts.q, &parts.k, &parts.v, parts.groups);
    let [dy, lse, delta] = [3, 4, 5].map(|input| &inputs[input]);
    let rank = q.dims().rank();
    let wide = |x: &Option<Tensor>| x.as_ref().map(|x| repeated(x, groups));
    let (a, b, c) = (grads[0].clone(), wide(&grads[1]), wide(&grads[2]));
    let capped = parts.capped(&|x| x.scale(form.scale));
    let cap = parts.cap_slope(&capped);
    let weights = parts.weights(&capped, lse);
    let inner = dy.matmul(&turned(v)) - delta.unsqueeze(rank - 1);
    let with_cap = |x: Tensor| match &cap {
        Some(cap) => x * cap,
        None => x,
    };
    let sum = |x: Option<Tensor>, y: Option<Tensor>| match (x, y) {
        (Some(x), Some(y)) => Some(x + y),
        (x, y) => x.or(y),
    };
    let of_products = sum(a.as_ref().map(|a| a.matmul(&turned(k))), b.as_ref().map(|b| q.matmul(&turned(b))));
    let of_products = of_products.map(|x| x.scale(form.scale));
    let of_weights = c.as_ref().map(|c| dy.matmul(&turned(c)));
    let e = of_products.clone().map(&with_cap);
    let of_inner = e.as_ref().map(|e| e * &weights);
    let of_powers = sum(e.as_ref().map(|e| e * &inner), of_weights);
    let of_scores = of_powers.map(|x| x * &weights);
    // C = 1 - (y / cap)^2 has the slope -2 y C / cap^2.
    let through_cap =
        form.cap.zip(of_products).map(|(cap, of)| (of * &weights * &inner * &capped).scale(-2.0 / (cap * cap)));
    let of_capped = sum(of_scores.clone(), through_cap);
    let of_first = of_capped.map(|x| with_cap(x).scale(form.scale));
    let slopes = with_cap(&weights * &inner).scale(form.scale);
    let dq = sum(of_first.as_ref().map(|x| x.matmul(k)), b.as_ref().map(|b| slopes.matmul(b)));
    let dk = sum(of_first.as_ref().map(|x| turned(x).matmul(q)), a.as_ref().map(|a| turned(&slopes).matmul(a)));
    let dv = of_inner.as_ref().map(|x| turned(x).matmul(dy));
    let ddy = sum(of_inner.as_ref().map(|x| x.matmul(v)), c.as_ref().map(|c| weights.matmul(c)));
    let dlse = of_scores.as_ref().map(|x| -x.sum(&[rank - 1]));
    let ddelta = of_inner.as_ref().map(|x| -x.sum(&[rank - 1]));
    let narrow = |x: Option<Tensor>| x.map(|x| gathered(&x, groups));
    let mut gradients = vec![dq, narrow(dk), narrow(dv), ddy, dlse, ddelta];
    let mask = parts.mask.filter(|mask| mask.meta().dtype.is_float());
    gradients.extend(form.mask.then(|| mask.zip(of_scores).map(|(mask, x)| x.sum_to(mask.dims()).result_of(mask))));
    gradients.resize(inputs.len(), None);
    gradients
}

/// What a gradient is that asks for weights that dropout has zeroed, whole.
fn no_draws(x: &Tensor) -> Tensor {
    let what = "gradients of gradients, and of a mask that is added, with dropout".to_string();
    let problem = crate::error::Problem::Value(what, "use AttentionForm::Composed, or no dropout");
    x.problem("attention", problem)
}
