//! Cross-entropy of rows of logits with a share q_c for each class, and a weight h for the label t of a row, if it has one:
//! loss = sum_c q_c (L - x_c) + h (L - x_t) with L = log(sum(exp(x))).
//!
//! One pass over each row, forward and backward. Label smoothing has the shares of all rows alike and the rest in the
//! weights, so no shares are stored; probabilities are shares without labels. The shares come first among the inputs: what
//! makes them is computed inside the kernel that reads them.

use super::{CrossEntropy, class, labels, log_sum_exp};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{EXP_DOWN, MAX_LENGTH, Program, RESULT, Rows};
use crate::shader::File;
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Loss of each row of logits (input 1) with its shares (input 0), and with its label (input 2) and that one's weight
/// (input 3) or without.
#[derive(Debug)]
pub struct SoftCrossEntropy;

/// Gradient of the logits (input 1) from shares (input 0) and weights (input 3) times the gradient of each row's loss; the
/// inputs are otherwise as above. It is linear in both.
#[derive(Debug)]
pub struct SoftCrossEntropyBackward;

pub(super) fn check(inputs: &[Meta]) -> Result<(), Problem> {
    let (shares, logits) = (inputs[0], inputs[1]);
    if logits.shape.rank() != 2 || shares.shape != logits.shape {
        let what = format!("targets have shape {}, logits {}", shares.shape, logits.shape);
        return Err(Problem::Shape(what, "pass both as [n, classes]"));
    }
    if logits.shape[1] > MAX_LENGTH {
        let what = format!("logits {} have more than {MAX_LENGTH} classes", logits.shape);
        return Err(Problem::Shape(what, "use log_softmax and sum"));
    }
    if let Some(meta) = inputs[..2].iter().find(|meta| meta.dtype != DType::F32) {
        return Err(Problem::DType(format!("targets and logits are f32 or f16, not {}", meta.dtype)));
    }
    match inputs[2..] {
        [] => Ok(()),
        [labels, weights] => {
            super::check(&[logits, labels])?;
            let rows = Meta { shape: labels.shape, dtype: DType::F32 };
            let what = || format!("weights of labels are {} {}, not {} f32", weights.shape, weights.dtype, rows.shape);
            if weights == rows { Ok(()) } else { Err(Problem::Shape(what(), "pass one for each label")) }
        }
        _ => Err(Problem::Value(format!("{} inputs", inputs.len()), "pass labels and their weights, or neither")),
    }
}

/// The kernel of one of the two.
fn kernel(name: &'static str, file: &'static File, results: usize, inputs: &[Meta], device: &Capabilities) -> Lowering {
    let is_labelled = inputs.len() == 4;
    let rows = match is_labelled {
        true => &shaders::cross_entropy::SOFT_LABELLED,
        false => &shaders::cross_entropy::SOFT_ALONE,
    };
    let mut bound = vec![(Binding::input(1), "logits", "$F$")];
    if is_labelled {
        bound.extend([labels(2), (Binding::input(3), "weights", "f32")]);
    }
    bound.push(if results == 0 { RESULT } else { (Binding::output(), "result", "f32") });
    let program = Program {
        name,
        shader: Shader::of(&[file, rows, &shaders::cross_entropy::SOFT_STATE, EXP_DOWN]),
        state: &["top", "sum", "bad", "total", "apart"],
        bound,
        results,
        number: 0.0,
        first_of_row: false,
    };
    Lowering::kernel(Rows::along(&inputs[1].shape, 1).kernel(program, device))
}

/// A row as references see it: its shares, logits, maximum, sum of exponentials, and its label, if it is a class, with
/// the weight of it (NaN if it is none).
struct Row<'a> {
    shares: &'a [f64],
    logits: &'a [f64],
    top: f64,
    sum: f64,
    label: Option<usize>,
    weight: f64,
}

fn row<'a>(inputs: &[&'a Array], row: usize) -> Row<'a> {
    let classes = inputs[1].shape[1];
    let [shares, logits] = [0, 1].map(|i| &inputs[i].data[row * classes..][..classes]);
    let (top, sum) = log_sum_exp(logits);
    let (label, weight) = match inputs[2..] {
        [labels, weights] => {
            let label = class(labels, row, classes);
            (label, if label.is_some() { weights.data[row] } else { f64::NAN })
        }
        _ => (None, 0.0),
    };
    Row { shares, logits, top, sum, label, weight }
}

/// Shapes: odd ones, one row, one class, long rows, four elements a value.
const SHAPES: [(&str, &[usize]); 7] = [
    ("plain", &[37, 10]),
    ("one_row", &[1, 7]),
    ("one_class", &[5, 1]),
    ("long", &[3, 1031]),
    ("four_along", &[67, 12]),
    ("four_along_long", &[5, 1036]),
    ("many_rows", &[4099, 3]),
];

impl Op for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft_cross_entropy"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(inputs)?;
        let shape = Shape::new(&inputs[1].shape[..1]).unwrap_or(inputs[1].shape);
        Ok(vec![Meta { shape, dtype: DType::F32 }])
    }

    /// Of the shares, -log of the softmax; of the weights, the same at the label; of the logits, the other op.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (shares, logits, grad) = (&backward.inputs[0], &backward.inputs[1], backward.grad);
        let of_row = grad.unsqueeze(1);
        let of_shares = backward.needs[0].then(|| -(&of_row * logits.log_softmax(1)));
        let shares = || &of_row * shares;
        let [labels, weights] = &backward.inputs[2..] else {
            let of_logits = || Tensor::apply(SoftCrossEntropyBackward, &[&shares(), logits]);
            return vec![of_shares, backward.needs[1].then(of_logits)];
        };
        let of_logits = || Tensor::apply(SoftCrossEntropyBackward, &[&shares(), logits, labels, &(grad * weights)]);
        let of_weights = || grad * Tensor::apply(CrossEntropy, &[logits, labels]);
        vec![of_shares, backward.needs[1].then(of_logits), None, backward.needs[3].then(of_weights)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![Array::build(output.shape, output.dtype, |number| {
            let row = row(inputs, number);
            let loss = |x: f64| row.sum.ln() - (x - row.top);
            let shared: f64 = row.shares.iter().zip(row.logits).map(|(q, x)| q * loss(*x)).sum();
            shared + row.weight * loss(row.label.map_or(0.0, |label| row.logits[label]))
        })]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        kernel(self.name(), &shaders::cross_entropy::SOFT_FORWARD, 1, inputs, capabilities)
    }

    fn cases() -> Vec<Case> {
        let shares = Draw::Uniform(0.0, 1.0);
        let case = |(name, shape): (&str, &[usize])| {
            let case = Case::new(name, |x| Tensor::apply(SoftCrossEntropy, &[&x[0], &x[1]]));
            // A sum of terms of one sign, and of size 8 at most; its gradient too, before what is taken off.
            let bound = Tolerance::Pointwise { absolute: 4e-6 * (shape[1] as f64).sqrt(), relative: 2e-6 };
            case.input(shape, DType::F32, shares.clone()).normal(shape).tolerance(bound)
        };
        let mut cases: Vec<Case> = SHAPES.map(case).into();
        cases.extend(SHAPES.map(|shape| labelled(case(shape), |x| Tensor::apply(SoftCrossEntropy, x))));
        // Far from zero, where a difference of two sums would lose its digits.
        let far = Case::new("far", |x| Tensor::apply(SoftCrossEntropy, &[&x[0], &(&x[1] * 3.0).plus(4096.0)]));
        let far = far.input(&[37, 10], DType::F32, shares.clone()).input(&[37, 10], DType::F32, Draw::Distinct);
        cases.push(far.tolerance(Tolerance::Pointwise { absolute: 2e-4, relative: 2e-6 }));
        // Some logits masked, with a share and without; whole rows of what has no softmax.
        let masked = Draw::Values(&[f64::NEG_INFINITY, 1.0, -2.0, 0.5, 3.0]);
        let broken = Draw::Values(&[f64::NAN, 1.0, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        for (name, shape, shares, logits) in [
            ("masked", [3, 5], Draw::Values(&[0.25, 0.5, 0.0, 0.25, 0.125]), masked.clone()),
            ("masked_without_share", [3, 5], Draw::Values(&[0.0, 0.5, 0.0, 0.25, 0.125]), masked),
            ("not_finite", [5, 2], Draw::Uniform(0.0, 1.0), broken),
        ] {
            let case = Case::new(name, |x| Tensor::apply(SoftCrossEntropy, &[&x[0], &x[1]]));
            let case = case.input(&shape, DType::F32, shares).input(&shape, DType::F32, logits);
            cases.push(case.not_differentiable());
        }
        cases.extend(super::options::cases());
        cases
    }
}

impl Op for SoftCrossEntropyBackward {
    fn name(&self) -> &'static str {
        "soft_cross_entropy_backward"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(inputs)?;
        Ok(vec![inputs[1]])
    }

    /// With D for the gradient of this op's result, y for the softmax and E = sum(D y): E - D, the same at the label, and
    /// (sum(q) + h) y (D - E).
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (shares, logits, grad) = (&backward.inputs[0], &backward.inputs[1], backward.grad);
        let y = logits.softmax(1);
        let common = (grad * &y).sum_keep(&[1]);
        let of_shares = backward.needs[0].then(|| &common - grad);
        let of_logits = |total: Tensor| total * (&y * (grad - &common));
        let [labels, weights] = &backward.inputs[2..] else {
            return vec![of_shares, backward.needs[1].then(|| of_logits(shares.sum_keep(&[1])))];
        };
        let total = || shares.sum_keep(&[1]) + weights.unsqueeze(1);
        let of_weights = || ((&common - grad) * labels.one_hot(logits.dims()[1])).sum(&[1]);
        let of_logits = backward.needs[1].then(|| of_logits(total()));
        vec![of_shares, of_logits, None, backward.needs[3].then(of_weights)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut data = Vec::with_capacity(output.elements());
        for number in 0..output.shape[0] {
            let row = row(inputs, number);
            let total: f64 = row.shares.iter().sum::<f64>() + row.weight;
            let shares = row.shares.iter().enumerate();
            data.extend(shares.zip(row.logits).map(|((c, q), x)| {
                let hot = if row.label == Some(c) { row.weight } else { 0.0 };
                (x - row.top).exp() / row.sum * total - q - hot
            }));
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        kernel(self.name(), &shaders::cross_entropy::SOFT_BACKWARD, 0, inputs, capabilities)
    }

    fn cases() -> Vec<Case> {
        let case = |(name, shape): (&str, &[usize])| {
            let case = Case::new(name, |x| Tensor::apply(SoftCrossEntropyBackward, &[&x[0], &x[1]]));
            // Sums of products of size 1 over the classes.
            let bound = Tolerance::Pointwise { absolute: 4e-6 * (shape[1] as f64).sqrt(), relative: 2e-6 };
            case.normal(shape).normal(shape).tolerance(bound)
        };
        let mut cases: Vec<Case> = SHAPES.map(case).into();
        cases.extend(SHAPES.map(|shape| labelled(case(shape), |x| Tensor::apply(SoftCrossEntropyBackward, x))));
        cases
    }
}

/// A case of shares and logits with labels and weights of them too.
fn labelled(case: Case, apply: impl Fn(&[&Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
    let (rows, classes) = (case.inputs[1].shape[0], case.inputs[1].shape[1]);
    let build = move |x: &[Tensor]| apply(&[&x[0], &x[1], &x[2], &x[3]]);
    let case = Case { name: format!("labelled_{}", case.name), build: std::sync::Arc::new(build), ..case };
    case.input(&[rows], DType::U32, Draw::Below(classes as u32)).input(&[rows], DType::F32, Draw::Uniform(0.5, 1.5))
}
