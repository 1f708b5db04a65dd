//! The gradients of attention's queries, keys and values: weights are formed again from the logarithms of the rows' sums.

use super::form::{Form, Sight, Site};
use super::forward::check;
use super::{blocks, cases, composed, tiled};
use crate::array::{Array, parallel};
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op};
use crate::ops::variants::{Rank, Variant, names, one_of};
use crate::tensor::Tensor;

/// Gradients of queries, keys and values. Inputs 0 to 2 are these, then dy, the gradient of the result; lse, the logarithms of
/// the sums of each row's exponentials; delta, what each row's weighted gradients sum to; then as `Attention`'s. With
/// w = exp(score - lse) and g for the gradient of a score: dv = w^T dy, g = w (dy v^T - delta), dq = scale g k,
/// dk = scale g^T q.
#[derive(Debug)]
pub struct AttentionBackward {
    /// What scores become, and which of them count.
    pub form: Form,
}

/// Inputs before the mask.
pub(super) const OTHERS: usize = 6;

/// How it is computed.
static VARIANTS: &[Variant<Site>] = &[
    Variant {
        name: "attention_backward.tiled",
        needs: |site, capabilities| tiled::needs(site, true, capabilities),
        make: |site, name, _| tiled::backward(site, name),
    },
    Variant {
        name: "attention_backward.blocks",
        needs: |_, _| Some(Rank::Usual),
        make: |site, name, capabilities| blocks::backward(site, name, capabilities),
    },
];

impl Op for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.form.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(&self.form, inputs, OTHERS)?;
        let (q, v) = (inputs[0].shape, inputs[2].shape);
        let rank = q.rank();
        let fits = inputs[3].shape[..rank - 1] == q[..rank - 1] && inputs[3].shape[rank - 1] == v[rank - 1];
        if !fits || inputs[4..OTHERS].iter().any(|meta| meta.shape[..] != q[..rank - 1]) {
            let what = format!("a gradient of shape {} for queries {q} and values {v}", inputs[3].shape);
            return Err(Problem::Shape(what, "pass the gradient of the result, and two numbers a query"));
        }
        Ok(inputs[..3].to_vec())
    }

    /// By weights that are formed whole: there is no other way for a second gradient yet.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        composed::second(&self.form, backward.inputs, backward.grads)
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        let metas: Vec<Meta> = inputs.iter().map(|x| Meta { shape: x.shape, dtype: x.dtype }).collect();
        let site = Site::new(self.form, &metas, OTHERS);
        let Site { queries, keys, features, values, groups, .. } = site;
        let sight = Sight::new(&site, inputs);
        let [q, k, v, dy, lse, delta] = [0, 1, 2, 3, 4, 5].map(|input| &inputs[input].data);
        // The weight of a score, with dropout, and the gradient of the product that the score is of.
        let slope = |plane: usize, i: usize, j: usize| {
            let score = sight.score(plane, i, j)?;
            let line = plane * queries + i;
            let weight = (score.value - lse[line]).exp();
            let (dy, v) = (&dy[line * values..][..values], &v[(site.key_plane(plane) * keys + j) * values..][..values]);
            let dot = dy.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
            let slope = weight * (dot * score.factor - delta[line]) * score.slope * self.form.scale;
            Some((weight * score.factor, slope))
        };
        // Row by row of a result: `add(row, sums)` adds to a row.
        let by_rows = |input: usize, add: &(dyn Fn(usize, &mut [f64]) + Sync)| {
            let shape = inputs[input].shape;
            let width = shape[shape.rank() - 1];
            let mut data = vec![0.0; shape.elements()];
            parallel(&mut data, |first, run| {
                let mut done = 0;
                while done < run.len() {
                    let (row, column) = ((first + done) / width, (first + done) % width);
                    let length = (width - column).min(run.len() - done);
                    let mut whole = vec![0.0; width];
                    add(row, &mut whole);
                    run[done..done + length].copy_from_slice(&whole[column..column + length]);
                    done += length;
                }
            });
            Array { shape, dtype: DType::F32, data }
        };
        let sum = |out: &mut [f64], factor: f64, row: &[f64]| {
            out.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
        };
        let dq = by_rows(0, &|line, out| {
            let plane = line / queries;
            for j in 0..keys {
                if let Some((_, slope)) = slope(plane, line % queries, j) {
                    sum(out, slope, &k[(site.key_plane(plane) * keys + j) * features..][..features]);
                }
            }
        });
        let of_key = |row: usize, out: &mut [f64], of_value: bool| {
            for plane in row / keys * groups..(row / keys + 1) * groups {
                for i in 0..queries {
                    let Some((weight, slope)) = slope(plane, i, row % keys) else { continue };
                    let line = plane * queries + i;
                    match of_value {
                        true => sum(out, weight, &dy[line * values..][..values]),
                        false => sum(out, slope, &q[line * features..][..features]),
                    }
                }
            }
        };
        let dk = by_rows(1, &|row, out| of_key(row, out, false));
        let dv = by_rows(2, &|row, out| of_key(row, out, true));
        vec![dq, dk, dv]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        one_of(VARIANTS, Site::new(self.form, inputs, OTHERS), capabilities, |_, lowering| lowering)
    }

    fn cases() -> Vec<Case> {
        cases::backward()
    }

    fn variants() -> Vec<&'static str> {
        names(VARIANTS)
    }
}
