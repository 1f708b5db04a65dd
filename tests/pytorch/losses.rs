//! Losses (`scripts/values/losses.py`).

use kiln::Tensor;
use kiln::ops::Reduction;
use kiln::ops::losses::{
    BceOptions, FocalOptions, GaussianOptions, MultiMarginOptions, NllOptions, PoissonOptions, TripletOptions,
};
use serde_json::Value;

use super::number;

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    let reduction = match attrs["reduction"].as_str() {
        Some("none") => Reduction::None,
        Some("sum") => Reduction::Sum,
        _ => Reduction::Mean,
    };
    let flag = |key: &str| attrs[key] == true;
    let margin = || number(attrs, "margin");
    let result = match op {
        "mse_loss_with" => x[0].mse_loss_with(&x[1], reduction),
        "l1_loss_with" => x[0].l1_loss_with(&x[1], reduction),
        "huber_loss_with" => x[0].huber_loss_with(&x[1], number(attrs, "delta"), reduction),
        "smooth_l1_loss" => x[0].smooth_l1_loss(&x[1], number(attrs, "beta"), reduction),
        "poisson_nll_loss" => {
            let (log_input, full, eps) = (flag("log_input"), flag("full"), number(attrs, "eps"));
            x[0].poisson_nll_loss(&x[1], &PoissonOptions { log_input, full, eps, reduction })
        }
        "gaussian_nll_loss" => {
            let options = GaussianOptions { full: flag("full"), eps: number(attrs, "eps"), reduction };
            x[0].gaussian_nll_loss(&x[1], &x[2], &options)
        }
        "binary_cross_entropy" => {
            x[0].binary_cross_entropy(&x[1], &BceOptions { weight: x.get(2), pos_weight: None, reduction })
        }
        "binary_cross_entropy_with_logits_and" => {
            let weight = x.get(2).filter(|_| flag("weight"));
            let pos_weight = x.last().filter(|_| flag("pos_weight"));
            x[0].binary_cross_entropy_with_logits_and(&x[1], &BceOptions { weight, pos_weight, reduction })
        }
        "sigmoid_focal_loss" => {
            let (gamma, alpha) = (number(attrs, "gamma"), attrs["alpha"].as_f64());
            x[0].sigmoid_focal_loss(&x[1], &FocalOptions { gamma, alpha, reduction })
        }
        "dice_loss" => x[0].dice_loss(&x[1], number(attrs, "smooth"), reduction),
        "kl_div" => x[0].kl_div(&x[1], flag("log_target"), reduction),
        "nll_loss" => {
            let ignore = attrs["ignore"].as_i64();
            x[0].nll_loss(&x[1], &NllOptions { class_weights: x.get(2), ignore, reduction })
        }
        "multi_margin_loss" => {
            let (squared, margin) = (attrs["p"] == 2, margin());
            let options = MultiMarginOptions { squared, margin, class_weights: x.get(2), reduction };
            x[0].multi_margin_loss(&x[1], &options)
        }
        "multilabel_margin_loss" => x[0].multilabel_margin_loss(&x[1], reduction),
        "multilabel_soft_margin_loss" => x[0].multilabel_soft_margin_loss(&x[1], x.get(2), reduction),
        "soft_margin_loss" => x[0].soft_margin_loss(&x[1], reduction),
        "hinge_embedding_loss" => x[0].hinge_embedding_loss(&x[1], margin(), reduction),
        "margin_ranking_loss" => x[0].margin_ranking_loss(&x[1], &x[2], margin(), reduction),
        "cosine_embedding_loss" => x[0].cosine_embedding_loss(&x[1], &x[2], margin(), reduction),
        "triplet_margin_loss" => {
            let (p, eps, swap) = (number(attrs, "p"), number(attrs, "eps"), flag("swap"));
            x[0].triplet_margin_loss(&x[1], &x[2], &TripletOptions { margin: margin(), p, eps, swap, reduction })
        }
        "info_nce_loss" => x[0].info_nce_loss(&x[1], number(attrs, "temperature"), reduction),
        _ => return None,
    };
    Some(vec![result])
}
