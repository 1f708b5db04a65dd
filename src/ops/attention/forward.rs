//! The op whose weights are never in memory: its result and the logarithm of each row's sum of exponentials.

use super::backward::AttentionBackward;
use super::form::{Form, Sight, Site};
use super::{blocks, cases, composed, tiled};
use crate::array::{Array, parallel};
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op};
use crate::ops::variants::{Rank, Variant, names, one_of};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Attention of inputs 0 to 2, queries, keys and values, then the mask, the lengths and the counter of the form. Results: as
/// [`Tensor::scaled_dot_product_attention`] says, and `[.., queries]`, the logarithm of the sum of the exponentials of a
/// query's scores; 0 where it sees no key.
#[derive(Debug)]
pub struct Attention {
    /// What scores become, and which of them count.
    pub form: Form,
}

/// The rules of shapes, of which the method's are stricter; `others`: as in [`Site`].
pub(super) fn check(form: &Form, inputs: &[Meta], others: usize) -> Result<Site, Problem> {
    let [q, k, v] = [0, 1, 2].map(|input| inputs[input].shape);
    let rank = q.rank();
    let what = || format!("queries {q}, keys {k}, values {v}");
    let alike = rank >= 2 && k.rank() == rank && v.rank() == rank && k[..rank - 1] == v[..rank - 1];
    let heads = |shape: &Shape| shape[..rank - 2].iter().product::<usize>();
    if !alike || q[rank - 1] != k[rank - 1] || !heads(&q).is_multiple_of(heads(&k).max(1)) {
        return Err(Problem::Shape(what(), "pass [.., length, features] with heads that fit"));
    }
    if let Some(meta) = inputs[..others].iter().find(|meta| meta.dtype != DType::F32) {
        return Err(Problem::DType(format!("it takes f32, not {}", meta.dtype)));
    }
    let site = Site::new(*form, inputs, others);
    if site.extras().into_iter().flatten().max().map_or(others, |last| last + 1) != inputs.len() {
        return Err(Problem::Shape(what(), "pass what the form says there is"));
    }
    Ok(site)
}

/// How it is computed.
static VARIANTS: &[Variant<Site>] = &[
    Variant {
        name: "attention.tiled",
        needs: |site, capabilities| tiled::needs(site, false, capabilities),
        make: |site, name, _| tiled::forward(site, name),
    },
    Variant {
        name: "attention.blocks",
        needs: |_, _| Some(Rank::Usual),
        make: |site, name, capabilities| blocks::forward(site, name, capabilities),
    },
];

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.form.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(&self.form, inputs, 3)?;
        let (q, v) = (inputs[0].shape, inputs[2].shape);
        let lines = &q[..q.rank() - 1];
        let result = |dims: &[usize]| -> Result<Meta, Problem> {
            let shape = Shape::new(dims);
            let shape = shape.ok_or_else(|| Problem::Shape(format!("queries {q}"), "use fewer queries at once"));
            Ok(Meta { shape: shape?, dtype: DType::F32 })
        };
        Ok(vec![result(&[lines, &[v[v.rank() - 1]]].concat())?, result(lines)?])
    }

    /// By [`AttentionBackward`], of delta = sum(dy y) - the gradient of the logarithms. A mask that is added gets its gradient
    /// by weights that are formed whole.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (inputs, y, lse) = (backward.inputs, &backward.outputs[0], &backward.outputs[1]);
        let dy = backward.grad;
        let whole = (dy * y).sum(&[y.dims().rank() - 1]);
        let delta = match &backward.grads[1] {
            Some(of_lse) => whole - of_lse,
            None => whole,
        };
        let mut all = vec![&inputs[0], &inputs[1], &inputs[2], dy, lse, &delta];
        all.extend(&inputs[3..]);
        let mut gradients = vec![None; inputs.len()];
        if backward.needs[..3].contains(&true) {
            let results: [Tensor; 3] = Tensor::apply_many(AttentionBackward { form: self.form }, &all);
            results.into_iter().zip(&mut gradients).for_each(|(result, place)| *place = Some(result));
        }
        if self.form.mask && backward.needs[3] {
            let all: Vec<Tensor> = all.into_iter().cloned().collect();
            gradients[3] = Some(composed::mask_gradient(&self.form, &all));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let metas: Vec<Meta> = inputs.iter().map(|x| Meta { shape: x.shape, dtype: x.dtype }).collect();
        let site = Site::new(self.form, &metas, 3);
        let sight = Sight::new(&site, inputs);
        let lines = Shape::new(&output.shape[..output.shape.rank() - 1]).unwrap_or(Shape::SCALAR);
        let lse = Array::build(lines, DType::F32, |line| {
            let row = sight.row(line / site.queries, line % site.queries);
            let top = row.iter().map(|(_, score)| score.value).fold(f64::NEG_INFINITY, f64::max);
            if row.iter().any(|(_, score)| score.value.is_nan() || score.value == f64::INFINITY) {
                f64::NAN
            } else if top == f64::NEG_INFINITY {
                0.0
            } else {
                top + row.iter().map(|(_, score)| (score.value - top).exp()).sum::<f64>().ln()
            }
        });
        let mut data = vec![0.0; output.elements()];
        parallel(&mut data, |first, run| {
            let mut done = 0;
            while done < run.len() {
                let (line, column) = ((first + done) / site.values, (first + done) % site.values);
                let length = (site.values - column).min(run.len() - done);
                let plane = line / site.queries;
                for (j, score) in sight.row(plane, line % site.queries) {
                    let weight = (score.value - lse.data[line]).exp() * score.factor;
                    let v = &inputs[2].data[(site.key_plane(plane) * site.keys + j) * site.values + column..];
                    run[done..done + length].iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * v);
                }
                done += length;
            }
        });
        vec![Array { shape: output.shape, dtype: DType::F32, data }, lse]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        one_of(VARIANTS, Site::new(self.form, inputs, 3), capabilities, |_, lowering| lowering)
    }

    fn cases() -> Vec<Case> {
        cases::forward()
    }

    fn variants() -> Vec<&'static str> {
        names(VARIANTS)
    }
}
