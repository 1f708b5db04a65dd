//! Losses of probabilities, or of logits of two classes each.

use super::{Reduction, alike, loss, not_negative, positive};
use crate::error::Problem;
use crate::tensor::Tensor;

/// The least logarithm of a probability that counts in a loss.
const LEAST_LOG: f64 = -100.0;

/// Options of [`Tensor::binary_cross_entropy`] and [`Tensor::binary_cross_entropy_with_logits_and`].
#[derive(Debug, Clone, Copy, Default)]
pub struct BceOptions<'a> {
    /// A factor for the loss of each element, of a shape that broadcasts to the prediction's.
    pub weight: Option<&'a Tensor>,
    /// A factor for the part of positive targets, likewise; with logits alone.
    pub pos_weight: Option<&'a Tensor>,
    /// What becomes of the elements' losses.
    pub reduction: Reduction,
}

/// Options of [`Tensor::sigmoid_focal_loss`], with the defaults of its paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FocalOptions {
    /// How much less elements count that are predicted well; 0 is cross-entropy.
    pub gamma: f64,
    /// The factor of positive targets, with 1 less this that of negative ones; `None`: both count alike.
    pub alpha: Option<f64>,
    /// What becomes of the elements' losses.
    pub reduction: Reduction,
}

impl Default for FocalOptions {
    fn default() -> Self {
        FocalOptions { gamma: 2.0, alpha: Some(0.25), reduction: Reduction::Mean }
    }
}

/// `Err` unless factors stretch to the prediction's shape.
fn stretches(name: &str, factors: Option<&Tensor>, to: &Tensor) -> Result<(), Problem> {
    let Some(factors) = factors else { return Ok(()) };
    let (own, all) = (factors.dims(), to.dims());
    let fits =
        own.rank() <= all.rank() && own.iter().rev().zip(all.iter().rev()).all(|(own, all)| own == all || *own == 1);
    if fits {
        return Ok(());
    }
    Err(Problem::Shape(format!("{name} of shape {own} for predictions {all}"), "pass one that broadcasts to them"))
}

impl Tensor {
    /// Cross-entropy of `target`, probabilities of the same shape, with these probabilities p: -t ln(p) - (1 - t) ln(1 - p),
    /// logarithms at least -100, as `torch.nn.functional.binary_cross_entropy`. Take
    /// [`Tensor::binary_cross_entropy_with_logits`] where the probabilities are sigmoids.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape to which the weight broadcasts,
    /// [`crate::Error::DType`] for integers, [`crate::Error::Value`] for a `pos_weight`.
    #[track_caller]
    pub fn binary_cross_entropy(&self, target: &Tensor, options: &BceOptions<'_>) -> Tensor {
        let BceOptions { weight, pos_weight, reduction } = *options;
        let check = || {
            alike(self, target)?;
            match pos_weight {
                Some(_) => Err(Problem::Value("it has a pos_weight".into(), "pass a weight, or take logits")),
                None => stretches("a weight", weight, self),
            }
        };
        let inputs: Vec<&Tensor> = [self, target].into_iter().chain(weight).collect();
        loss("binary_cross_entropy", &inputs, check, |x| {
            let (p, t) = (&x[0], &x[1]);
            let [positive, negative] = [p.log(), (-p).log1p()].map(|log| log.maximum(LEAST_LOG));
            let losses = -(t * (positive - &negative) + negative);
            reduction.of(&x.get(2).map_or(losses.clone(), |weight| losses * weight))
        })
    }

    /// As [`Tensor::binary_cross_entropy_with_logits`], with a weight, a factor w for positive targets, (1 - t) x + (1 + (w - 1) t)
    /// ln(1 + e^-x), and a reduction.
    ///
    /// # Errors
    /// As [`Tensor::binary_cross_entropy`], but that it takes a `pos_weight`.
    #[track_caller]
    pub fn binary_cross_entropy_with_logits_and(&self, target: &Tensor, options: &BceOptions<'_>) -> Tensor {
        let BceOptions { weight, pos_weight, reduction } = *options;
        let check = || {
            alike(self, target)?;
            stretches("a weight", weight, self)?;
            stretches("a pos_weight", pos_weight, self)
        };
        let inputs: Vec<&Tensor> = [self, target].into_iter().chain(weight).chain(pos_weight).collect();
        loss("binary_cross_entropy_with_logits", &inputs, check, |inputs| {
            let (x, t) = (&inputs[0], &inputs[1]);
            let losses = match pos_weight {
                Some(_) => {
                    let factors = &inputs[inputs.len() - 1];
                    (1.0 - t) * x + ((factors - 1.0) * t + 1.0) * (-x).softplus()
                }
                None => x.logistic_loss(t),
            };
            reduction.of(&if weight.is_some() { losses * &inputs[2] } else { losses })
        })
    }

    /// Focal loss of these logits (Lin et al. 2017, "Focal loss for dense object detection"): the cross-entropy of each
    /// element times (1 - p)^gamma, with p the probability of what the target, 0 or 1, says; as
    /// `torchvision.ops.sigmoid_focal_loss`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape, [`crate::Error::DType`] for integers,
    /// [`crate::Error::Value`] for a negative `gamma` or an `alpha` outside [0, 1].
    #[track_caller]
    pub fn sigmoid_focal_loss(&self, target: &Tensor, options: &FocalOptions) -> Tensor {
        let FocalOptions { gamma, alpha, reduction } = *options;
        let check = || {
            alike(self, target)?;
            not_negative("gamma", gamma)?;
            match alpha {
                Some(alpha) if !(0.0..=1.0).contains(&alpha) => {
                    Err(Problem::Value(format!("alpha is {alpha}"), "pass a share from 0 to 1, or None"))
                }
                _ => Ok(()),
            }
        };
        loss("sigmoid_focal_loss", &[self, target], check, |inputs| {
            let (x, t) = (&inputs[0], &inputs[1]);
            // The probability of the other class, by no difference from 1.
            let other = t * (-x).sigmoid() + (1.0 - t) * x.sigmoid();
            let losses = x.logistic_loss(t) * other.pow(gamma);
            reduction.of(&match alpha {
                Some(alpha) => losses * (t * (2.0 * alpha - 1.0) + (1.0 - alpha)),
                None => losses,
            })
        })
    }

    /// 1 less Dice's overlap of these probabilities with `target` (Milletari et al. 2016, "V-Net"), one for each entry of the
    /// first axis: 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth).
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape of at least one axis, [`crate::Error::DType`]
    /// for integers, [`crate::Error::Value`] unless `smooth` is above 0.
    #[track_caller]
    pub fn dice_loss(&self, target: &Tensor, smooth: f64, reduction: Reduction) -> Tensor {
        let check = || {
            alike(self, target)?;
            positive("smooth", smooth)?;
            match self.dims().rank() {
                0 => Err(Problem::Shape("a scalar".into(), "pass a batch of images")),
                _ => Ok(()),
            }
        };
        loss("dice_loss", &[self, target], check, |x| {
            let rows = |x: Tensor| x.sum(&(1..x.dims().rank()).collect::<Vec<_>>());
            let (shared, all) = (rows(&x[0] * &x[1]), rows(&x[0] + &x[1]));
            reduction.of(&(1.0 - (shared * 2.0 + smooth) / (all + smooth)))
        })
    }

    /// Kullback-Leibler divergence of `target` from these log-probabilities x, element by element: t (ln(t) - x), and 0 for a
    /// t of 0; with `log_target` the target is logarithms too. As `torch.nn.functional.kl_div`; its `batchmean` is
    /// [`Reduction::Sum`] over the number of rows.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn kl_div(&self, target: &Tensor, log_target: bool, reduction: Reduction) -> Tensor {
        loss(
            "kl_div",
            &[self, target],
            || alike(self, target),
            |inputs| {
                let (x, t) = (&inputs[0], &inputs[1]);
                reduction.of(&if log_target { t.exp() * (t - x) } else { t.xlogy(t) - t * x })
            },
        )
    }
}
