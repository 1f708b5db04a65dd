//! Cross-entropy of rows of logits with integer labels: loss = log(sum(exp(x))) - x_t.
//!
//! One pass over each row, forward and backward; the maximum is subtracted first, so no finite row overflows. What takes
//! options or shares of classes is in files of its own.

mod options;
mod soft;

pub use crate::ops::reduction::Reduction;
pub use options::CrossEntropyOptions;
pub use soft::{SoftCrossEntropy, SoftCrossEntropyBackward};

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{Bound, EXP_DOWN, LOG_SUM_EXP, MAX_LENGTH, Program, RESULT, Rows};
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Loss of each row of logits (input 0) with its label (input 1).
#[derive(Debug)]
pub struct CrossEntropy;

/// Gradient of the logits from the gradient of each row's loss (input 0, most often a constant that costs no buffer),
/// logits and labels.
#[derive(Debug)]
pub struct CrossEntropyBackward;

impl Tensor {
    /// Mean over the rows of the cross-entropy of these logits, shape `[n, classes]`, f32 or f16, with `labels`, shape
    /// `[n]`, u32 or i32: a scalar, f32. As `torch.nn.functional.cross_entropy`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] or [`crate::Error::DType`] where the inputs do not fit, and
    /// [`crate::Error::Value`] if uploaded labels hold one that is no class. A label that the device computes and that
    /// is no class makes the loss NaN.
    #[track_caller]
    pub fn cross_entropy(&self, labels: &Tensor) -> Tensor {
        self.cross_entropy_rows(labels).mean_all()
    }

    /// As [`Tensor::cross_entropy`], summed over the rows.
    #[track_caller]
    pub fn cross_entropy_sum(&self, labels: &Tensor) -> Tensor {
        self.cross_entropy_rows(labels).sum_all()
    }

    /// As [`Tensor::cross_entropy`] for each row: shape `[n]`.
    #[track_caller]
    pub fn cross_entropy_rows(&self, labels: &Tensor) -> Tensor {
        if let (Some(&classes), Some((least, largest))) = (self.dims().get(1), labels.known_range()) {
            let wrong = if least < 0 { least } else { largest };
            if self.error().is_none() && (wrong < 0 || wrong >= classes as i64) {
                return self.problem("cross_entropy", no_class(wrong, self.dims()));
            }
        }
        Tensor::apply(CrossEntropy, &[&self.widen(), labels])
    }

    /// One at each element's class along a new last axis of `classes`, else zero: f32. An element that is no class gives
    /// zeros.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] unless this is u32 or i32.
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Tensor {
        let dtype = self.meta().dtype;
        if self.error().is_none() && !matches!(dtype, DType::U32 | DType::I32) {
            return self.problem("one_hot", Problem::DType(format!("classes are u32 or i32, not {dtype}")));
        }
        let numbers = self.device().arange(classes, dtype);
        self.unsqueeze(self.dims().rank()).eq(&numbers).cast(DType::F32)
    }
}

fn no_class(label: i64, logits: &Shape) -> Problem {
    let what = format!("label {label} is out of range for the {} classes of logits {logits}", logits[1]);
    Problem::Value(what, "labels count from 0: pass labels below the number of classes, or widen the last layer")
}

fn check(inputs: &[Meta]) -> Result<(), Problem> {
    let (logits, labels) = (inputs[0], inputs[1]);
    if logits.shape.rank() != 2 {
        let what = format!("logits have shape {}, not [n, classes]", logits.shape);
        return Err(Problem::Shape(what, "reshape the logits to two axes and the labels to one"));
    }
    if labels.shape.rank() != 1 || labels.shape[0] != logits.shape[0] {
        let what = format!("labels have shape {}, logits {}", labels.shape, logits.shape);
        return Err(Problem::Shape(what, "pass one label for each row of logits"));
    }
    if logits.shape[1] > MAX_LENGTH {
        let what = format!("logits {} have more than {MAX_LENGTH} classes", logits.shape);
        return Err(Problem::Shape(what, "use log_softmax and gather"));
    }
    if logits.dtype != DType::F32 {
        return Err(Problem::DType(format!("logits are f32 or f16, not {}", logits.dtype)));
    }
    if !matches!(labels.dtype, DType::U32 | DType::I32) {
        return Err(Problem::DType(format!("labels are u32 or i32, not {}", labels.dtype)));
    }
    Ok(())
}

/// Labels, input `i`: of i32, the negative ones are out of range as u32 too.
fn labels(i: usize) -> Bound {
    (Binding::input(i), "labels", "u32")
}

/// The label of a row, if it is one of `classes`.
fn class(labels: &Array, row: usize, classes: usize) -> Option<usize> {
    let label = labels.data[row];
    (label >= 0.0 && label < classes as f64).then_some(label as usize)
}

/// Maximum, and sum of exponentials of differences from it.
fn log_sum_exp(row: &[f64]) -> (f64, f64) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (top, row.iter().map(|x| (x - top).exp()).sum())
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(inputs)?;
        Ok(vec![Meta { shape: inputs[1].shape, dtype: DType::F32 }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let inputs = [backward.grad, &backward.inputs[0], &backward.inputs[1]];
        vec![Some(Tensor::apply(CrossEntropyBackward, &inputs)), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let classes = inputs[0].shape[1];
        vec![Array::build(output.shape, output.dtype, |row| {
            let x = &inputs[0].data[row * classes..][..classes];
            let (top, sum) = log_sum_exp(x);
            class(inputs[1], row, classes).map_or(f64::NAN, |label| sum.ln() - (x[label] - top))
        })]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let program = Program {
            name: "cross_entropy",
            shader: Shader::of(&[&shaders::cross_entropy::FORWARD, LOG_SUM_EXP, EXP_DOWN]),
            state: &["top", "sum", "bad"],
            bound: vec![labels(1), (Binding::output(), "result", "f32")],
            results: 1,
            number: 0.0,
            first_of_row: false,
        };
        Lowering::kernel(Rows::along(&inputs[0].shape, 1).kernel(program, capabilities))
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, n: usize, classes: usize| {
            let case = Case::new(name, |x| x[0].cross_entropy_rows(&x[1])).normal(&[n, classes]);
            case.input(&[n], DType::U32, Draw::Below(classes as u32))
        };
        let mean = Case::new("mean", |x| x[0].cross_entropy(&x[1])).normal(&[67, 10]);
        let signed = Case::new("sum_i32", |x| x[0].cross_entropy_sum(&x[1])).normal(&[37, 10]);
        let large = Case::new("large", |x| (&x[0] * 300.0).cross_entropy_rows(&x[1])).normal(&[37, 10]);
        // Whole numbers that the device shifts by two: the largest two classes become none.
        let computed = Case::new("computed_labels", |x| x[0].cross_entropy_rows(&x[1].plus(2))).normal(&[37, 5]);
        let negative = Case::new("negative_labels", |x| x[0].cross_entropy_rows(&x[1].plus(-2))).normal(&[37, 5]);
        vec![
            case("plain", 37, 10),
            case("one_row", 1, 7),
            case("one_class", 5, 1),
            case("long", 3, 1031),
            case("four_along", 67, 12),
            case("four_along_long", 5, 1036),
            case("many_rows", 4099, 3),
            mean.input(&[67], DType::U32, Draw::Below(10)),
            signed.input(&[37], DType::I32, Draw::Below(10)).tolerance(Tolerance::Pointwise {
                // The sum of 37 losses of size 3.
                absolute: 1e-5,
                relative: 1e-6,
            }),
            large.input(&[37], DType::U32, Draw::Below(10)).gradient_tolerance(Tolerance::Pointwise {
                // Gradients of x * 300.
                absolute: 1e-4,
                relative: 1e-6,
            }),
            computed.input(&[37], DType::I32, Draw::Below(5)).not_differentiable(),
            negative.input(&[37], DType::I32, Draw::Below(5)).not_differentiable(),
        ]
    }
}

impl Op for CrossEntropyBackward {
    fn name(&self) -> &'static str {
        "cross_entropy_backward"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(&inputs[1..])?;
        if inputs[0] != (Meta { shape: inputs[2].shape, dtype: DType::F32 }) {
            let what = format!("gradients have shape {}, labels {}", inputs[0].shape, inputs[2].shape);
            return Err(Problem::Shape(what, "pass one gradient, f32, for each row"));
        }
        Ok(vec![inputs[1]])
    }

    /// With D for the gradient of this op's result, y for the softmax and E = D dloss: sum(D (y - one_hot(t))),
    /// and y (E - sum(y E)).
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (logits, labels) = (&backward.inputs[1], &backward.inputs[2]);
        let n = logits.dims()[0];
        let y = logits.softmax(1);
        let logits_gradient = backward.needs[1].then(|| {
            let scaled = backward.grad * backward.inputs[0].reshape(&[n, 1]);
            &y * (&scaled - (&y * &scaled).sum_keep(&[1]))
        });
        let loss_gradient = backward.needs[0].then(|| {
            let slope = &y - labels.one_hot(logits.dims()[1]);
            (backward.grad * slope).sum(&[1])
        });
        vec![loss_gradient, logits_gradient, None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [n, classes] = [output.shape[0], output.shape[1]];
        let mut data = Vec::with_capacity(n * classes);
        for row in 0..n {
            let x = &inputs[1].data[row * classes..][..classes];
            let (top, sum) = log_sum_exp(x);
            let label = class(inputs[2], row, classes);
            for (j, x) in x.iter().enumerate() {
                let target = label.map_or(f64::NAN, |label| f64::from(u8::from(label == j)));
                data.push(((x - top).exp() / sum - target) * inputs[0].data[row]);
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let program = Program {
            name: "cross_entropy_backward",
            shader: Shader::of(&[&shaders::cross_entropy::BACKWARD, LOG_SUM_EXP, EXP_DOWN]),
            state: &["top", "sum", "bad"],
            bound: vec![(Binding::input(1), "input", "$F$"), labels(2), RESULT],
            results: 0,
            number: 0.0,
            first_of_row: true,
        };
        Lowering::kernel(Rows::along(&inputs[1].shape, 1).kernel(program, capabilities))
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, n: usize, classes: usize| {
            let apply = |x: &[Tensor]| Tensor::apply(CrossEntropyBackward, &[&x[2], &x[0], &x[1]]);
            let case = Case::new(name, apply).normal(&[n, classes]);
            // Second gradients sum over the classes.
            let bound = Tolerance::Pointwise { absolute: 1e-6 * (classes as f64).sqrt(), relative: 2e-6 };
            case.input(&[n], DType::U32, Draw::Below(classes as u32)).normal(&[n]).gradient_tolerance(bound)
        };
        let shifted =
            Case::new("computed_labels", |x| Tensor::apply(CrossEntropyBackward, &[&x[2], &x[0], &x[1].plus(2)]));
        let shifted = shifted.normal(&[37, 5]).input(&[37], DType::I32, Draw::Below(5)).normal(&[37]);
        vec![
            case("plain", 37, 10),
            case("one_class", 5, 1),
            case("long", 3, 1031),
            case("four_along", 67, 12),
            case("four_along_long", 5, 1036),
            case("many_rows", 4099, 3),
            shifted.not_differentiable(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error};

    #[test]
    fn an_uploaded_label_that_is_no_class_is_named_when_recorded() {
        let device = Device::cpu();
        let logits = device.zeros(&[2, 10]);
        let refused = |labels: &Tensor, wrong: &str| match logits.cross_entropy(labels).error() {
            Some(Error::Value { what, .. }) => assert!(what.contains(wrong) && what.contains("10 classes"), "{what}"),
            other => panic!("{other:?}"),
        };
        refused(&device.labels(&[3, 10]), "label 10 ");
        refused(&device.tensor(&[3u32, 11], &[2]), "label 11 ");
        refused(&device.tensor(&[3i32, -100], &[2]), "label -100 ");
        assert!(logits.cross_entropy(&device.labels(&[0, 9])).item().is_ok());
    }

    #[test]
    fn one_hot_of_no_class_is_zero() {
        let device = Device::cpu();
        let hot = device.tensor(&[1i32, -1, 3], &[3]).one_hot(3);
        assert_eq!(hot.to_vec::<f32>().unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
