//! Cases of attention: of the method, by each of its forms, and of its two ops.

use super::{Attention, AttentionBackward, AttentionForm, AttentionOptions, Form};
use crate::dtype::DType;
use crate::op::{Case, Draw, Tolerance};
use crate::rng::Draws;
use crate::tensor::Tensor;

/// Of the method, in either form.
pub(super) fn all() -> Vec<Case> {
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
        with("window", |_| AttentionOptions { window: Some([2, 1]), ..AttentionOptions::default() }),
        with("capped", |_| AttentionOptions { soft_cap: Some(1.5), causal: true, ..AttentionOptions::default() }),
        with("grouped", |_| AttentionOptions { grouped: true, ..AttentionOptions::default() }),
    ]
}

/// What is set of an attention of heads that share keys, by the composed form.
fn with(name: &str, options: fn(&[Tensor]) -> AttentionOptions<'_>) -> Case {
    let build = move |x: &[Tensor]| {
        let options = AttentionOptions { grouped: true, form: AttentionForm::Composed, ..options(x) };
        x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
    };
    let bound = Tolerance::Pointwise { absolute: 4e-5, relative: 1e-5 };
    let case = Case::new(format!("attention/{name}"), build);
    case.normal(&[2, 4, 7, 5]).normal(&[2, 2, 9, 5]).normal(&[2, 2, 9, 3]).tolerance(bound)
}

/// Leading axes of queries, those of keys, queries, keys, features and values.
type Sizes = (&'static [usize], &'static [usize], [usize; 4]);

const PLAIN: Form = Form { scale: 0.3, cap: None, left: None, right: None, mask: false, lengths: false, dropout: 0.0 };

/// More blocks than one of queries and of keys, with and without rests; four elements side by side, and not.
const SIZES: [(&str, Sizes); 6] = [
    ("one", (&[1, 1], &[1, 1], [1, 1, 1, 1])),
    ("odd", (&[3], &[3], [37, 131, 37, 5])),
    ("fours", (&[1, 2], &[1, 2], [44, 36, 8, 12])),
    ("eights", (&[2], &[2], [136, 296, 16, 8])),
    ("blocks", (&[1], &[1], [259, 517, 4, 3])),
    ("grouped", (&[2, 4], &[2, 2], [19, 45, 8, 4])),
];

/// Sums over keys of weighted values, after exponentials of products of size 1.
fn bound(keys: usize) -> Tolerance {
    Tolerance::Pointwise { absolute: 2e-5 + 1e-6 * (keys as f64).sqrt(), relative: 1e-5 }
}

/// The forms of each kind, with the inputs behind the operands: (name, form, sizes, shape, dtype, draw of the others).
type Kind = (&'static str, Form, Sizes, Vec<(Vec<usize>, DType, Draw)>);

fn kinds() -> Vec<Kind> {
    let flags = Draw::Values(&[1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
    let two: Sizes = (&[2, 3], &[2, 3], [21, 40, 8, 4]);
    let long: Sizes = (&[1, 2], &[1, 2], [141, 530, 8, 8]);
    let mut kinds: Vec<Kind> = SIZES.map(|(name, sizes)| (name, PLAIN, sizes, vec![])).to_vec();
    let masked = Form { mask: true, ..PLAIN };
    let more: [Kind; 8] = [
        ("causal", Form { right: Some(0), ..PLAIN }, (&[2], &[2], [131, 300, 8, 8]), vec![]),
        ("window", Form { left: Some(9), right: Some(2), ..PLAIN }, long, vec![]),
        // Queries past the last key see none.
        ("window_past", Form { left: Some(3), right: Some(0), ..PLAIN }, (&[1], &[1], [140, 31, 8, 8]), vec![]),
        ("capped", Form { cap: Some(0.7), ..PLAIN }, two, vec![]),
        ("shown", masked, two, vec![(vec![21, 40], DType::Bool, flags.clone())]),
        ("some_blind", masked, two, vec![(vec![2, 1, 21, 1], DType::Bool, flags)]),
        ("biased", masked, two, vec![(vec![3, 1, 40], DType::F32, Draw::Normal)]),
        ("lengths", Form { lengths: true, ..PLAIN }, two, vec![(vec![2], DType::U32, Draw::Values(&[13.0, 40.0]))]),
    ];
    kinds.extend(more);
    kinds
}

/// Inputs: queries, keys, values, those that `between` says, and the others of the kind.
fn case(kind: &Kind, between: bool, build: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
    let (name, _, (lead, shared, [queries, keys, features, values]), others) = kind;
    let of = |lead: &[usize], tail: &[usize]| [lead, tail].concat();
    let mut case = Case::new(*name, build).normal(&of(lead, &[*queries, *features]));
    case = case.normal(&of(shared, &[*keys, *features])).normal(&of(shared, &[*keys, *values]));
    if between {
        case = case.normal(&of(lead, &[*queries, *values]));
        // Logarithms of sums, above most scores.
        case = case.input(&of(lead, &[*queries]), DType::F32, Draw::Uniform(3.0, 5.0)).normal(&of(lead, &[*queries]));
    }
    for (shape, dtype, draw) in others {
        case = case.input(shape, *dtype, draw.clone());
    }
    case.tolerance(bound(*keys))
}

/// A tensor that a case of dropout has besides: the words of a counter.
fn drawn(mut inputs: Vec<Tensor>) -> Vec<Tensor> {
    let counter = super::counter(&inputs[0], &Draws::new(0x1234_5678_9abc_def0));
    inputs.push(counter);
    inputs
}

pub(super) fn forward() -> Vec<Case> {
    let apply = |form: Form, x: &[Tensor]| Tensor::apply(Attention { form }, &x.iter().collect::<Vec<_>>());
    let mut cases: Vec<Case> = vec![];
    for kind in kinds() {
        let form = kind.1;
        cases.push(case(&kind, false, move |x| apply(form, x)));
    }
    // With a count of keys that four divides, and not.
    for (name, keys) in [("dropout", 40), ("dropout_odd", 37)] {
        let form = Form { dropout: 0.3, ..PLAIN };
        let kind: Kind = (name, form, (&[2], &[2], [21, keys, 8, 4]), vec![]);
        cases.push(case(&kind, false, move |x| apply(form, &drawn(x.to_vec()))));
    }
    let kind: Kind = ("between_others", PLAIN, (&[2], &[2], [21, 40, 8, 4]), vec![]);
    let between = move |x: &[Tensor]| {
        let x: Vec<Tensor> = x.iter().map(|x| x.tanh()).collect();
        apply(PLAIN, &x).square() + 1.0
    };
    cases.push(case(&kind, false, between));
    let broken = Draw::Values(&[f64::NEG_INFINITY, 0.0, f64::NAN, f64::NEG_INFINITY, f64::INFINITY]);
    let form = Form { mask: true, ..PLAIN };
    let kind: Kind = ("not_finite", form, (&[1], &[1], [5, 12, 4, 4]), vec![(vec![5, 1], DType::F32, broken)]);
    cases.push(case(&kind, false, move |x| apply(form, x)).not_differentiable());
    cases
}

pub(super) fn backward() -> Vec<Case> {
    let apply = |form: Form, x: &[Tensor]| Tensor::apply(AttentionBackward { form }, &x.iter().collect::<Vec<_>>());
    let mut cases: Vec<Case> = vec![];
    for kind in kinds() {
        let (name, form) = (kind.0, kind.1);
        let one = case(&kind, true, move |x| apply(form, x));
        // Second gradients are composed: a few will do.
        let is_small = ["one", "grouped", "capped", "biased", "lengths"].contains(&name);
        cases.push(if is_small { one } else { one.not_differentiable() });
    }
    for (name, keys) in [("dropout", 40), ("dropout_odd", 37)] {
        let form = Form { dropout: 0.3, ..PLAIN };
        let kind: Kind = (name, form, (&[2], &[2], [21, keys, 8, 4]), vec![]);
        cases.push(case(&kind, true, move |x| apply(form, &drawn(x.to_vec()))).not_differentiable());
    }
    cases
}
