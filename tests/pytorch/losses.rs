//! Losses (`scripts/values/losses.py`).

use kiln::ops::Reduction;
use kiln::ops::ctc::CtcOptions;
use kiln::ops::losses::{
    BceOptions, FocalOptions, GaussianOptions, MultiMarginOptions, NllOptions, PoissonOptions, TripletOptions,
};
use kiln::{DType, Device, Error, Tensor};
use serde_json::Value;

use super::{integer, number};

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
        // PyTorch's gradient is that of what is normalised.
        "ctc_loss" => {
            let (blank, zero_infinity) = (integer(attrs, "blank"), flag("zero_infinity"));
            x[0].log_softmax(2).ctc_loss(&x[1], &x[2], &x[3], &CtcOptions { blank, zero_infinity, reduction })
        }
        _ => return None,
    };
    Some(vec![result])
}

#[test]
fn what_a_loss_cannot_be_of_is_refused() {
    let device = Device::cpu();
    let x = device.zeros(&[3, 2]);
    let mean = Reduction::Mean;
    let values = [
        x.smooth_l1_loss(&x, -1.0, mean),
        x.dice_loss(&x, 0.0, mean),
        x.info_nce_loss(&x, f64::NAN, mean),
        x.sigmoid_focal_loss(&x, &FocalOptions { alpha: Some(2.0), ..FocalOptions::default() }),
        x.nll_loss(&device.labels(&[0, 1, 2]), &NllOptions::default()),
        x.binary_cross_entropy(&x, &BceOptions { pos_weight: Some(&x), ..BceOptions::default() }),
    ];
    values.iter().for_each(|loss| assert!(matches!(loss.error(), Some(Error::Value { .. })), "{loss:?}"));
    let shapes = [
        x.kl_div(&device.zeros(&[2, 3]), false, mean),
        x.mse_loss_with(&device.zeros(&[3, 1]), mean),
        x.nll_loss(&device.labels(&[0, 1]), &NllOptions::default()),
        x.cosine_embedding_loss(&x, &device.zeros(&[2]), 0.0, mean),
        x.binary_cross_entropy(&x, &BceOptions { weight: Some(&device.zeros(&[3])), ..BceOptions::default() }),
    ];
    shapes.iter().for_each(|loss| assert!(matches!(loss.error(), Some(Error::Shape { .. })), "{loss:?}"));
    let whole = x.cast(DType::I32);
    for loss in [whole.soft_margin_loss(&x, mean), x.nll_loss(&device.zeros(&[3]), &NllOptions::default())] {
        assert!(matches!(loss.error(), Some(Error::DType { .. })), "{loss:?}");
    }
    let half = x.cast(DType::F16);
    assert_eq!(half.soft_margin_loss(&half, mean).dtype().unwrap(), DType::F16);
}

#[test]
fn a_sequence_that_cannot_be_said_has_no_gradient() {
    let device = Device::cpu();
    let whole = |values: &[i32], shape: &[usize]| device.tensor(values, shape);
    // Between equal labels there is a blank: three frames at least.
    let (frames, lengths) = (whole(&[2], &[1]), whole(&[2], &[1]));
    let x = device.zeros(&[2, 1, 3]).variable();
    let of = |labels: &[i32], options: CtcOptions| {
        x.log_softmax(2).ctc_loss(&whole(labels, &[1, 2]), &frames, &lengths, &options)
    };
    let loss = of(&[1, 1], CtcOptions::default());
    assert_eq!(loss.item().unwrap(), f64::INFINITY);
    assert_eq!(loss.gradients(&[&x]).unwrap()[0].to_vec::<f32>().unwrap(), [0.0; 6]);
    assert_eq!(of(&[1, 1], CtcOptions { zero_infinity: true, ..CtcOptions::default() }).item().unwrap(), 0.0);
    let said = of(&[1, 2], CtcOptions { reduction: Reduction::Sum, ..CtcOptions::default() });
    assert!((said.item().unwrap() - 9f64.ln()).abs() < 1e-12);
    let again = said.gradients(&[&x]).unwrap()[0].square().sum_all().gradients(&[&x]);
    assert!(matches!(again, Err(Error::Value { op: "ctc_loss", .. })), "{again:?}");
    for refused in [of(&[1, 3], CtcOptions::default()), of(&[1, 2], CtcOptions { blank: 3, ..CtcOptions::default() })] {
        assert!(matches!(refused.error(), Some(Error::Value { .. })), "{refused:?}");
    }
    let long = x.ctc_loss(&whole(&[1, 2], &[1, 2]), &whole(&[3], &[1]), &lengths, &CtcOptions::default());
    assert!(matches!(long.error(), Some(Error::Value { .. })), "{long:?}");
}
