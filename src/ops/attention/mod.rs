//! Scaled dot-product attention (Vaswani et al. 2017): softmax(scale q k^T + mask) v.
//!
//! Two forms compute it. `forward.rs` and `backward.rs` never have all weights in memory (Dao et al. 2022, Dao 2023): a block of
//! queries meets the keys block by block, with a running maximum and sum, and the backward pass forms the weights again from
//! the logarithms of the sums. `composed.rs` composes it of other ops, which short sequences are faster by: scale and masks
//! are the epilogue of the first product, and heads that were split off by views are read where they are.

mod backward;
mod blocks;
mod cases;
mod composed;
mod counter;
mod form;
mod forward;
mod tiled;

pub use backward::AttentionBackward;
pub use counter::Counter;
pub use form::Form;
pub use forward::Attention;

use std::cell::Cell;
use std::panic::Location;

use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::{Source, scalar};
use crate::op::Case;
use crate::rng::Draws;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "scaled_dot_product_attention";

thread_local! {
    static RECORDED: Cell<Option<Recorded>> = const { Cell::new(None) };
}

/// How attention is recorded for somebody who reads the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "onnx"), allow(dead_code))]
pub(crate) enum Recorded {
    /// As one op wherever it is plain: four axes, all keys or the causal ones, no mask but one that is added.
    Whole,
    /// Of other ops.
    Composed,
}

/// Runs `body`, in which attention is recorded so, whatever its options and lengths say.
#[cfg_attr(not(feature = "onnx"), allow(dead_code))]
pub(crate) fn recorded<R>(form: Recorded, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Recorded>);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDED.set(self.0);
        }
    }
    let _restore = Restore(RECORDED.replace(Some(form)));
    body()
}

/// Scores of a query and a key from which the weights are not kept.
const LONG: usize = 1024 * 1024;

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttentionForm {
    /// By blocks where weights would take much memory: from 1,024 queries and as many keys on.
    #[default]
    Auto,
    /// By other ops, which keep all weights in memory: gradients of any order.
    Composed,
    /// By blocks of queries and keys, in memory that grows with their number and not with its square.
    Blocks,
}

/// What is not the same for every attention. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionOptions<'a> {
    /// Query i sees keys 0 to i alone, whatever the lengths (PyTorch's `is_causal`).
    pub causal: bool,
    /// Query i sees keys from i - `window[0]` to i + `window[1]` alone.
    pub window: Option<[usize; 2]>,
    /// Of a shape that stretches to `[.., queries, keys]`. Bool: true where a query sees a key; a float of the queries' dtype:
    /// added to the scores. A query that sees no key gets zeros.
    pub mask: Option<&'a Tensor>,
    /// For each index of the first axis, u32, how many of its keys there are; the rest is padding, which must be finite.
    pub lengths: Option<&'a Tensor>,
    /// What scores are multiplied by; 1 / sqrt(features) if `None`.
    pub scale: Option<f64>,
    /// Scores become `cap tanh(score / cap)` before a mask is added (Gemma 2).
    pub soft_cap: Option<f64>,
    /// True if heads, the axis before the last two, may share keys and values: then the queries may have a multiple of their
    /// heads, and neighbours share (Ainslie et al. 2023; PyTorch's `enable_gqa`).
    pub grouped: bool,
    /// Share of the weights that are zeroed.
    pub dropout: f64,
    /// The counter of the dropout; the device's if `None`.
    pub draws: Option<&'a Draws>,
    /// How it is computed.
    pub form: AttentionForm,
}

impl Tensor {
    /// Attention of these queries `[.., queries, features]` over `key` `[.., keys, features]` and `value`
    /// `[.., keys, values]`: softmax(scale q k^T + mask) v, `[.., queries, values]`, as
    /// `torch.nn.functional.scaled_dot_product_attention`. The leading axes (batch, heads) are equal in all three, but for
    /// heads that share ([`AttentionOptions::grouped`]).
    ///
    /// All f32, or all f16 (computed in f32). Long sequences take memory that grows with their length, not with its square
    /// ([`AttentionForm`]).
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`] or, for a dropout, scale or cap that cannot be
    /// used, [`crate::Error::Value`]. Of long sequences, second gradients with dropout carry [`crate::Error::Value`], too.
    #[track_caller]
    pub fn scaled_dot_product_attention(&self, key: &Tensor, value: &Tensor, options: &AttentionOptions<'_>) -> Tensor {
        let parts = [self, key, value].into_iter().chain(options.mask).chain(options.lengths);
        if let Some(broken) = parts.into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        if let Err(problem) = check(self, key, value, options) {
            return self.problem(OP, problem);
        }
        let rank = self.dims().rank();
        let [queries, features] = [self.dims()[rank - 2], self.dims()[rank - 1]];
        let right = [options.causal.then_some(0), options.window.map(|window| window[1])];
        let form = Form {
            scale: options.scale.unwrap_or(1.0 / (features as f64).sqrt()),
            cap: options.soft_cap,
            left: options.window.map(|window| window[0]),
            right: right.into_iter().flatten().min(),
            mask: options.mask.is_some(),
            lengths: options.lengths.is_some(),
            dropout: options.dropout,
        };
        let mut inputs: Vec<Tensor> = [self, key, value].map(Tensor::widen).to_vec();
        inputs.extend(options.mask.map(Tensor::widen));
        inputs.extend(options.lengths.cloned());
        let draws = options.draws.unwrap_or(self.device().draws());
        let fits = features.max(value.dims()[rank - 1]) <= blocks::MOST_FEATURES && options.dropout < 1.0;
        let is_long = queries * key.dims()[rank - 2] >= LONG && queries.min(key.dims()[rank - 2]) >= 128;
        let is_plain = rank == 4
            && form.left.is_none()
            && form.right.is_none_or(|right| right == 0)
            && form.cap.is_none()
            && options.lengths.is_none()
            && options.dropout == 0.0
            && options.mask.is_none_or(|mask| mask.meta().dtype.is_float());
        let in_blocks = match (RECORDED.get(), options.form) {
            (Some(Recorded::Whole), _) => fits && is_plain,
            (Some(Recorded::Composed), _) => false,
            (None, AttentionForm::Auto) => fits && is_long,
            (None, AttentionForm::Composed) => false,
            (None, AttentionForm::Blocks) => fits,
        };
        if !in_blocks {
            return composed::attention(&form, &inputs, options.scale.is_some(), draws).cast(self.meta().dtype);
        }
        if options.dropout > 0.0 {
            inputs.push(counter(self, draws));
        }
        Tensor::apply(Attention { form }, &inputs.iter().collect::<Vec<_>>()).cast(self.meta().dtype)
    }
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions<'_>) -> Result<(), Problem> {
    let [a, b, c] = [q, k, v].map(|x| *x.dims());
    let rank = a.rank();
    let shapes = || format!("queries {a}, keys {b}, values {c}");
    if rank < 2
        || b.rank() != rank
        || c.rank() != rank
        || b[..rank - 2] != c[..rank - 2]
        || !may_share(&a[..rank - 2], &b[..rank - 2], options.grouped)
    {
        return Err(Problem::Shape(
            shapes(),
            "pass [.., length, features] with equal leading axes (batch, heads), or heads that share",
        ));
    }
    if a[rank - 1] != b[rank - 1] {
        return Err(Problem::Shape(shapes(), "queries and keys need the same number of features"));
    }
    if b[rank - 2] != c[rank - 2] {
        return Err(Problem::Shape(shapes(), "there must be one value for each key"));
    }
    let dtype = q.meta().dtype;
    if !dtype.is_float() || k.meta().dtype != dtype || v.meta().dtype != dtype {
        let all = [q, k, v].map(|x| x.meta().dtype);
        return Err(Problem::DType(format!(
            "it takes three f32 or three f16 tensors, not {}, {}, {}",
            all[0], all[1], all[2]
        )));
    }
    if let Some(mask) = options.mask {
        let scores = [&a[..rank - 1], &[b[rank - 2]]].concat();
        let scores =
            Shape::new(&scores).ok_or_else(|| Problem::Shape(shapes(), "use fewer queries or keys at once"))?;
        if mask.dims().broadcast(&scores) != Some(scores) {
            let what = format!("a mask of shape {} for scores of shape {scores}", mask.dims());
            return Err(Problem::Shape(what, "pass a mask that stretches to [.., queries, keys]"));
        }
        if mask.meta().dtype != DType::Bool && mask.meta().dtype != dtype {
            let what = format!("a mask is bool or, as the queries, {dtype}, not {}", mask.meta().dtype);
            return Err(Problem::DType(what));
        }
    }
    if let Some(lengths) = options.lengths {
        if lengths.meta().dtype != DType::U32 {
            return Err(Problem::DType(format!("lengths are u32, not {}", lengths.meta().dtype)));
        }
        if rank < 3 || lengths.dims()[..] != a[..1] {
            let what = format!("lengths of shape {} for queries {a}", lengths.dims());
            return Err(Problem::Shape(what, "pass one length for each index of the first axis"));
        }
    }
    if !(0.0..=1.0).contains(&options.dropout) {
        let what = format!("dropout {} is not in [0, 1]", options.dropout);
        return Err(Problem::Value(what, "pass the share of weights to zero"));
    }
    let weights = a[..rank - 1].iter().product::<usize>().checked_mul(b[rank - 2]);
    if options.dropout > 0.0 && weights.is_none_or(|weights| weights > u32::MAX as usize) {
        return Err(Problem::Shape(
            shapes(),
            "use fewer queries or keys at once, or no dropout: each weight has a number",
        ));
    }
    if let Some(cap) = options.soft_cap.filter(|cap| !(cap.is_finite() && *cap > 0.0)) {
        return Err(Problem::Value(format!("a soft cap of {cap}"), "pass a positive number, or None"));
    }
    match options.scale {
        Some(scale) if !scale.is_finite() => {
            Err(Problem::Value(format!("scale is {scale}"), "pass a finite number, or None for 1 / sqrt(features)"))
        }
        _ => Ok(()),
    }
}

/// True if planes of queries fit those of keys: equal, or so many more heads if they may share.
fn may_share(queries: &[usize], keys: &[usize], grouped: bool) -> bool {
    match (queries.split_last(), keys.split_last()) {
        (Some((heads, lead)), Some((shared, other))) if grouped => {
            lead == other && *shared > 0 && heads.is_multiple_of(*shared)
        }
        _ => queries == keys,
    }
}

/// The words that dropout draws by: seed and number of the draw.
#[track_caller]
fn counter(x: &Tensor, draws: &Draws) -> Tensor {
    let (seed, draw) = draws.take();
    let words = [seed as u32, (seed >> 32) as u32, draw as u32, (draw >> 32) as u32];
    let source = Source::Operand { value: words.map(f64::from), words };
    let leaf = Tensor::leaf(x.device(), scalar(DType::U32), source, Location::caller());
    Tensor::apply(Counter, &[&leaf])
}

/// Cases of the method; there is no op of its name.
pub(super) fn cases() -> Vec<Case> {
    cases::all()
}

#[cfg(test)]
mod tests {
    use super::AttentionOptions;
    use crate::{DType, Device, Error, Tensor};

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let device = Device::cpu();
        let x = |shape: &[usize]| device.zeros(shape);
        let attend = |q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions<'_>| {
            q.scaled_dot_product_attention(k, v, options).error().cloned()
        };
        let plain = AttentionOptions::default();
        let (q, k, v) = (x(&[2, 3, 5, 4]), x(&[2, 3, 7, 4]), x(&[2, 3, 7, 6]));
        assert!(attend(&q, &k, &v, &plain).is_none());
        for (q, k, v) in [(&q, &x(&[2, 3, 7, 5]), &v), (&q, &k, &x(&[2, 3, 5, 6])), (&q, &x(&[2, 1, 7, 4]), &v)] {
            let error = attend(q, k, v, &plain);
            assert!(matches!(error, Some(Error::Shape { op: super::OP, .. })), "{error:?}");
        }
        let half = k.cast(DType::F16);
        assert!(matches!(attend(&q, &half, &v, &plain), Some(Error::DType { .. })));
        let mask = x(&[7, 5]);
        let bad = [
            AttentionOptions { mask: Some(&mask), ..plain },
            AttentionOptions { dropout: 1.5, ..plain },
            AttentionOptions { scale: Some(f64::NAN), ..plain },
        ];
        for options in bad {
            assert!(attend(&q, &k, &v, &options).is_some(), "{options:?}");
        }
    }

    #[test]
    fn a_query_that_sees_no_key_gets_zeros_and_gives_no_gradient() {
        for device in [Device::cpu(), Device::best().unwrap()] {
            let [q, k, v] = [1, 2, 3].map(|seed| device.normal(&[1, 1, 2, 3], 0.0, 1.0, seed).variable());
            let mask = device.tensor(&[true, true, false, false], &[2, 2]);
            let options = AttentionOptions { mask: Some(&mask), ..AttentionOptions::default() };
            let y = q.scaled_dot_product_attention(&k, &v, &options);
            let gradient = y.square().sum_all().gradients(&[&q, &k]).unwrap();
            assert_eq!(y.to_vec::<f32>().unwrap()[3..], [0.0; 3]);
            assert_eq!(gradient[0].to_vec::<f32>().unwrap()[3..], [0.0; 3]);
            assert!(gradient[1].to_vec::<f32>().unwrap().iter().all(|g| g.is_finite()));
        }
    }
}
