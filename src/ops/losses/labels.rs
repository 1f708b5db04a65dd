//! Losses with labels: classes of rows.

use super::{Reduction, loss, not_negative};
use crate::dtype::DType;
use crate::error::Problem;
use crate::tensor::Tensor;

/// Options of [`Tensor::nll_loss`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NllOptions<'a> {
    /// A factor for the loss of each class, `[classes]`; no gradient flows to it.
    pub class_weights: Option<&'a Tensor>,
    /// Elements with this label have the loss 0 and do not count in a mean (`ignore_index`).
    pub ignore: Option<i64>,
    /// What becomes of the losses; the mean is over the weights of labels that count.
    pub reduction: Reduction,
}

/// Options of [`Tensor::multi_margin_loss`].
#[derive(Debug, Clone, Copy)]
pub struct MultiMarginOptions<'a> {
    /// True for squares of what is above the margin (p = 2 in PyTorch).
    pub squared: bool,
    /// How far the label's score should be above the others.
    pub margin: f64,
    /// A factor for the loss of each class, `[classes]`; no gradient flows to it.
    pub class_weights: Option<&'a Tensor>,
    /// What becomes of the rows' losses.
    pub reduction: Reduction,
}

impl Default for MultiMarginOptions<'_> {
    fn default() -> Self {
        MultiMarginOptions { squared: false, margin: 1.0, class_weights: None, reduction: Reduction::Mean }
    }
}

/// `Err` unless the second axis are classes, and `labels` has the other axes, whole numbers.
fn labelled(scores: &Tensor, labels: &Tensor, weights: Option<&Tensor>) -> Result<(), Problem> {
    let (dims, own) = (scores.dims(), labels.dims());
    if dims.rank() < 2 || own.rank() + 1 != dims.rank() || own[0] != dims[0] || own[1..] != dims[2..] {
        let what = format!("scores of shape {dims} with labels {own}");
        return Err(Problem::Shape(what, "pass scores [n, classes, ..] and labels [n, ..]"));
    }
    whole(labels)?;
    match weights {
        Some(weights) if weights.dims()[..] != [dims[1]] => {
            let what = format!("class weights of shape {} for {} classes", weights.dims(), dims[1]);
            Err(Problem::Shape(what, "pass one weight for each class"))
        }
        _ => Ok(()),
    }
}

fn whole(labels: &Tensor) -> Result<(), Problem> {
    match labels.meta().dtype {
        DType::I32 | DType::U32 => Ok(()),
        other => Err(Problem::DType(format!("labels are u32 or i32, not {other}"))),
    }
}

/// `Err` with an uploaded label that is no class.
fn classes_alone(labels: &Tensor, classes: usize) -> Result<(), Problem> {
    match labels.known_range() {
        Some((least, largest)) if least < 0 || largest >= classes as i64 => {
            let wrong = if least < 0 { least } else { largest };
            let what = format!("label {wrong} is out of range for {classes} classes");
            Err(Problem::Value(what, "labels count from 0: pass labels below the number of classes"))
        }
        _ => Ok(()),
    }
}

impl Tensor {
    /// Negative log likelihood of `labels`, `[n, ..]`, u32 or i32, under these log-probabilities, `[n, classes, ..]`:
    /// -w_t x_t, as `torch.nn.functional.nll_loss`. Take [`Tensor::cross_entropy`] of logits.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] or [`crate::Error::DType`] where the inputs do not fit, and
    /// [`crate::Error::Value`] if uploaded labels hold one that is no class, unless labels are ignored. One that the device
    /// computes, or beside ignored ones, makes the loss NaN.
    #[track_caller]
    pub fn nll_loss(&self, labels: &Tensor, options: &NllOptions<'_>) -> Tensor {
        let NllOptions { class_weights, ignore, reduction } = *options;
        if let Some(broken) = Some(labels).filter(|labels| labels.error().is_some()) {
            return broken.clone();
        }
        let inputs: Vec<&Tensor> = [self].into_iter().chain(class_weights).collect();
        let check = || {
            labelled(self, labels, class_weights)?;
            if ignore.is_none() { classes_alone(labels, self.dims()[1]) } else { Ok(()) }
        };
        loss("nll_loss", &inputs, check, |inputs| {
            let x = &inputs[0];
            let (counts, classed) = match ignore {
                Some(label) => {
                    let counts = labels.ne(label as f64);
                    let first = x.device().fixed(&[], labels.meta().dtype, 0.0);
                    (Some(counts.clone()), counts.where_(labels, &first))
                }
                None => (None, labels.clone()),
            };
            let zero = x.device().fixed(&[], DType::F32, 0.0);
            let kept = |values: Tensor| counts.as_ref().map_or(values.clone(), |counts| counts.where_(&values, &zero));
            let weights = match inputs.get(1) {
                Some(weights) => {
                    let flat = weights.detach().index_select(0, &classed.reshape(&[classed.dims().elements()]));
                    flat.reshape(classed.dims())
                }
                None => x.device().fixed(classed.dims(), DType::F32, 1.0),
            };
            let taken = x.gather(1, &classed.unsqueeze(1)).squeeze(1);
            let losses = kept(-taken * &weights);
            match reduction {
                Reduction::Mean => losses.sum_all() / kept(weights).sum_all(),
                other => other.of(&losses),
            }
        })
    }

    /// Multi-class margin loss of these scores, `[n, classes]`, with `labels`, `[n]`: the sum over other classes c of
    /// w_t max(0, margin - x_t + x_c), or its square, over the number of classes; as
    /// `torch.nn.functional.multi_margin_loss`.
    ///
    /// # Errors
    /// As [`Tensor::nll_loss`], and [`crate::Error::Value`] for a margin that is not finite.
    #[track_caller]
    pub fn multi_margin_loss(&self, labels: &Tensor, options: &MultiMarginOptions<'_>) -> Tensor {
        let MultiMarginOptions { squared, margin, class_weights, reduction } = *options;
        if let Some(broken) = Some(labels).filter(|labels| labels.error().is_some()) {
            return broken.clone();
        }
        let inputs: Vec<&Tensor> = [self].into_iter().chain(class_weights).collect();
        let check = || {
            labelled(self, labels, class_weights)?;
            if self.dims().rank() != 2 {
                return Err(Problem::Shape(format!("scores {}", self.dims()), "pass scores [n, classes]"));
            }
            not_negative("the margin", margin.abs())?;
            classes_alone(labels, self.dims()[1])
        };
        loss("multi_margin_loss", &inputs, check, |inputs| {
            let x = &inputs[0];
            let classes = x.dims()[1];
            let own = labels.unsqueeze(1);
            let above = (x - x.gather(1, &own) + margin).relu();
            let above = if squared { above.square() } else { above };
            let others = x.device().arange(classes, labels.meta().dtype).ne(&own);
            let zero = x.device().fixed(&[], DType::F32, 0.0);
            let mut losses = others.where_(&above, &zero).sum(&[1]).scale(1.0 / classes as f64);
            if let Some(weights) = inputs.get(1) {
                losses *= weights.detach().index_select(0, labels);
            }
            reduction.of(&losses)
        })
    }

    /// Margin loss of these scores, `[n, classes]`, with several labels a row: `labels`, `[n, classes]`, i32, has the classes
    /// of a row in front of its first -1. The sum over classes t among them and c that are not of max(0, 1 - x_t + x_c),
    /// over the number of classes; as `torch.nn.functional.multilabel_margin_loss`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape of two axes, [`crate::Error::DType`] unless the
    /// labels are i32.
    #[track_caller]
    pub fn multilabel_margin_loss(&self, labels: &Tensor, reduction: Reduction) -> Tensor {
        if let Some(broken) = Some(labels).filter(|labels| labels.error().is_some()) {
            return broken.clone();
        }
        let check = || {
            super::alike(self, labels)?;
            if self.dims().rank() != 2 {
                return Err(Problem::Shape(format!("scores {}", self.dims()), "pass scores [n, classes]"));
            }
            match labels.meta().dtype {
                DType::I32 => Ok(()),
                other => Err(Problem::DType(format!("labels that end with -1 are i32, not {other}"))),
            }
        };
        loss("multilabel_margin_loss", &[self], check, |inputs| {
            let x = &inputs[0];
            let classes = x.dims()[1];
            let zero = x.device().fixed(&[], DType::F32, 0.0);
            let counts = labels.lt(0.0).cast(DType::I32).cumsum(1).eq(0.0);
            let classed = labels.maximum(0.0);
            // [n, labels, classes]: where a label is a class.
            let is_class = x.device().arange(classes, DType::I32).eq(&classed.unsqueeze(2));
            let hits = is_class.logical_and(&counts.unsqueeze(2)).cast(DType::F32);
            let is_other = hits.sum_keep(&[1]).eq(0.0);
            let above = (x.unsqueeze(1) - x.gather(1, &classed).unsqueeze(2) + 1.0).relu();
            let pairs = counts.unsqueeze(2).logical_and(&is_other);
            let losses = pairs.where_(&above, &zero).sum(&[1, 2]).scale(1.0 / classes as f64);
            reduction.of(&losses)
        })
    }

    /// Cross-entropy of several labels a row: of these logits, `[n, classes]`, with 0 or 1 for each class, the mean over the
    /// classes of [`Tensor::binary_cross_entropy_with_logits`] times `class_weights`; as
    /// `torch.nn.functional.multilabel_soft_margin_loss`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape of at least one axis and there is one weight for
    /// each class, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn multilabel_soft_margin_loss(
        &self,
        target: &Tensor,
        class_weights: Option<&Tensor>,
        reduction: Reduction,
    ) -> Tensor {
        let inputs: Vec<&Tensor> = [self, target].into_iter().chain(class_weights).collect();
        let check = || {
            super::alike(self, target)?;
            let Some(&classes) = self.dims().last() else {
                return Err(Problem::Shape("a scalar".into(), "pass logits [n, classes]"));
            };
            match class_weights {
                Some(weights) if weights.dims()[..] != [classes] => {
                    let what = format!("class weights of shape {} for {classes} classes", weights.dims());
                    Err(Problem::Shape(what, "pass one weight for each class"))
                }
                _ => Ok(()),
            }
        };
        loss("multilabel_soft_margin_loss", &inputs, check, |inputs| {
            let losses = inputs[0].logistic_loss(&inputs[1]);
            let losses = inputs.get(2).map_or(losses.clone(), |weights| losses * weights);
            reduction.of(&losses.mean(&[losses.dims().rank() - 1]))
        })
    }
}
