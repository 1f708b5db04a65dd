//! Scaled dot-product attention (Vaswani et al. 2017): softmax(scale q k^T + mask) v, composed of other ops.
//!
//! Scale and masks are the epilogue of the first product. Heads that were split off by views are read by the products
//! where they are.

use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::rng::Draws;
use crate::shape::Shape;
use crate::tensor::Tensor;

const OP: &str = "scaled_dot_product_attention";

/// What is not the same for every attention. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionOptions<'a> {
    /// Query i sees keys 0 to i alone, whatever the lengths (PyTorch's `is_causal`).
    pub causal: bool,
    /// Of a shape that stretches to `[.., queries, keys]`. Bool: true where a query sees a key; a float of the queries' dtype:
    /// added to the scores. A query that sees no key gets zeros.
    pub mask: Option<&'a Tensor>,
    /// What scores are multiplied by; 1 / sqrt(features) if `None`.
    pub scale: Option<f64>,
    /// Share of the weights that are zeroed.
    pub dropout: f64,
    /// The counter of the dropout; the device's if `None`.
    pub draws: Option<&'a Draws>,
}

impl Tensor {
    /// Attention of these queries `[.., queries, features]` over `key` `[.., keys, features]` and `value`
    /// `[.., keys, values]`: softmax(scale q k^T + mask) v, `[.., queries, values]`, as
    /// `torch.nn.functional.scaled_dot_product_attention`. The leading axes (batch, heads) are equal in all three.
    ///
    /// All f32, or all f16 (computed in f32).
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`] or, for a dropout or scale that cannot be used,
    /// [`crate::Error::Value`].
    #[track_caller]
    pub fn scaled_dot_product_attention(&self, key: &Tensor, value: &Tensor, options: &AttentionOptions<'_>) -> Tensor {
        if let Some(broken) = [self, key, value].into_iter().chain(options.mask).find(|x| x.error().is_some()) {
            return broken.clone();
        }
        if let Err(problem) = check(self, key, value, options) {
            return self.problem(OP, problem);
        }
        let rank = self.dims().rank();
        let [queries, features] = [self.dims()[rank - 2], self.dims()[rank - 1]];
        let keys = key.dims()[rank - 2];
        let device = self.device();
        let [q, k, v] = [self, key, value].map(Tensor::widen);
        let scores = q.matmul(&k.transpose(rank - 2, rank - 1));
        let mut scores = match options.scale {
            Some(scale) => scores.times(scale),
            None => scores.scale(1.0 / (features as f64).sqrt()),
        };
        let nothing = device.fixed(&[], DType::F32, f64::NEG_INFINITY);
        if options.causal {
            let row = device.arange(queries, DType::U32).reshape(&[queries, 1]);
            scores = device.arange(keys, DType::U32).le(&row).where_(&scores, &nothing);
        }
        let mut blind = None;
        if let Some(mask) = options.mask {
            scores = match mask.meta().dtype {
                DType::Bool => mask.where_(&scores, &nothing),
                _ => scores + mask.widen(),
            };
            // A row of -inf has no softmax.
            let row = scores.max_keep(&[rank - 1]).detach().eq(&nothing);
            scores = row.where_(&device.fixed(&[], DType::F32, 0.0), &scores);
            blind = Some(row);
        }
        let mut weights = scores.softmax(rank - 1);
        if let Some(row) = blind {
            weights = row.where_(&device.fixed(&[], DType::F32, 0.0), &weights);
        }
        if options.dropout > 0.0 {
            weights = weights.dropout(options.dropout, options.draws.unwrap_or(device.draws()));
        }
        weights.matmul(&v).cast(self.meta().dtype)
    }
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions<'_>) -> Result<(), Problem> {
    let [a, b, c] = [q, k, v].map(|x| *x.dims());
    let rank = a.rank();
    let shapes = || format!("queries {a}, keys {b}, values {c}");
    if rank < 2
        || b.rank() != rank
        || c.rank() != rank
        || a[..rank - 2] != b[..rank - 2]
        || b[..rank - 2] != c[..rank - 2]
    {
        return Err(Problem::Shape(shapes(), "pass [.., length, features] with equal leading axes (batch, heads)"));
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
    if !(0.0..=1.0).contains(&options.dropout) {
        let what = format!("dropout {} is not in [0, 1]", options.dropout);
        return Err(Problem::Value(what, "pass the share of weights to zero"));
    }
    match options.scale {
        Some(scale) if !scale.is_finite() => {
            Err(Problem::Value(format!("scale is {scale}"), "pass a finite number, or None for 1 / sqrt(features)"))
        }
        _ => Ok(()),
    }
}

/// Cases for parity and gradients; there is no op of this name.
pub(super) fn cases() -> Vec<Case> {
    // Products and sums of up to 37 terms of size 1 on both sides of a softmax.
    let bound = Tolerance::Pointwise { absolute: 4e-5, relative: 1e-5 };
    let case = |name: &str, lead: &[usize], [queries, keys, features, values]: [usize; 4], causal: bool| {
        let build = move |x: &[Tensor]| {
            let options = AttentionOptions { causal, ..AttentionOptions::default() };
            x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
        };
        let with = |tail: [usize; 2]| [lead, &tail].concat();
        let case = Case::new(format!("attention/{name}"), build).normal(&with([queries, features]));
        case.normal(&with([keys, features])).normal(&with([keys, values])).tolerance(bound)
    };
    let masked = |name: &str, shape: &[usize], dtype: DType, draw: Draw| {
        let mut case = case(name, &[2, 3], [5, 7, 4, 3], false);
        case.build = std::sync::Arc::new(|x: &[Tensor]| {
            let options = AttentionOptions { mask: Some(&x[3]), scale: Some(0.7), ..AttentionOptions::default() };
            x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
        });
        case.input(shape, dtype, draw)
    };
    let heads = |x: &[Tensor]| {
        let parts = x[0].split(2, &[12, 12, 12]);
        let [q, k, v] = [0, 1, 2].map(|i| parts[i].reshape(&[2, 11, 3, 4]).permute(&[0, 2, 1, 3]));
        let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
        q.scaled_dot_product_attention(&k, &v, &options).permute(&[0, 2, 1, 3]).reshape(&[2, 11, 12])
    };
    let flags = Draw::Values(&[1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
    vec![
        case("plain", &[2, 3], [5, 7, 4, 3], false),
        case("causal", &[1, 2], [37, 37, 5, 7], true),
        case("causal_more_keys", &[2], [5, 9, 3, 3], true),
        case("causal_more_queries", &[], [9, 5, 3, 3], true),
        case("one", &[1, 1], [1, 1, 1, 1], true),
        masked("bool", &[5, 7], DType::Bool, flags),
        masked("some_blind", &[2, 1, 5, 1], DType::Bool, Draw::Values(&[1.0, 0.0, 1.0])),
        masked("added", &[3, 5, 7], DType::F32, Draw::Normal),
        Case::new("attention/heads", heads).normal(&[2, 11, 36]).tolerance(bound),
    ]
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
