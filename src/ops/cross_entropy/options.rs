//! Cross-entropy with PyTorch's options: label smoothing, class weights, labels that do not count, probabilities as
//! targets, and what becomes of the rows' losses. Composed of ops: what is made of labels runs inside the kernels.

use super::{CrossEntropy, SoftCrossEntropy, no_class};
use crate::dtype::DType;
use crate::error::Problem;
use crate::graph::Source;
use crate::layout::Meta;
use crate::op::{Case, Draw, Tolerance};
use crate::ops::reduction::Reduction;
use crate::tensor::Tensor;

const OP: &str = "cross_entropy_with";

/// What is not the same for every cross-entropy. The defaults are PyTorch's, but that no label is ignored unless asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossEntropyOptions<'a> {
    /// Share e, in [0, 1], of the target that is spread over all classes (Szegedy, Vanhoucke, Ioffe, Shlens and Wojna
    /// 2016, section 7): a label t counts as 1 - e of t and e / classes of each class.
    pub label_smoothing: f64,
    /// A factor for the loss of each class, `[classes]`, f32 or f16; no gradient flows to it.
    pub class_weights: Option<&'a Tensor>,
    /// Rows with this label have the loss 0, no gradient, and do not count in a mean (`ignore_index`; -100 is usual). It
    /// may be a class or not.
    pub ignore: Option<i64>,
    /// What becomes of the rows' losses.
    pub reduction: Reduction,
}

impl Tensor {
    /// Cross-entropy of these logits x, `[n, classes]`, f32 or f16, with a target and options: f32, a scalar, or `[n]` for
    /// [`Reduction::None`]. As `torch.nn.functional.cross_entropy`.
    ///
    /// The target is labels, `[n]`, u32 or i32, or the classes' probabilities, `[n, classes]`, f32 or f16, to which
    /// gradients flow too. With shares q of the classes, those of a label after smoothing or the probabilities after it, and
    /// class weights w, the loss of a row is
    ///
    /// `sum over c of q_c w_c (log(sum(exp(x))) - x_c)`
    ///
    /// The mean is the sum of the rows' losses over n for probabilities, as in PyTorch, and for labels over the sum of the
    /// weights of those labels that count: NaN if there is none.
    ///
    /// ```
    /// use kiln::ops::cross_entropy::CrossEntropyOptions;
    /// use kiln::prelude::*;
    ///
    /// let device = Device::cpu();
    /// let logits = device.tensor(&[2.0f32, 0.0, 0.0, 1.0, 1.0, 1.0], &[2, 3]);
    /// let labels = device.tensor(&[0i32, -100], &[2]);
    /// let options = CrossEntropyOptions { label_smoothing: 0.1, ignore: Some(-100), ..Default::default() };
    /// let loss = logits.cross_entropy_with(&labels, &options).item()?;
    /// let sum = 2f64.exp() + 2.0;
    /// assert!((loss - (sum.ln() - 2.0 * (0.9 + 0.1 / 3.0))).abs() < 1e-7);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] or [`crate::Error::DType`] where the inputs do not fit, and
    /// [`crate::Error::Value`] for a smoothing outside [0, 1], for an ignored label beside probabilities, and if uploaded
    /// labels hold one that is neither a class nor ignored. Such a label that the device computes makes the loss NaN.
    #[track_caller]
    pub fn cross_entropy_with(&self, target: &Tensor, options: &CrossEntropyOptions<'_>) -> Tensor {
        if let Some(broken) = [self, target].into_iter().chain(options.class_weights).find(|x| x.error().is_some()) {
            return broken.clone();
        }
        if let Err(problem) = check(self, target, options) {
            return self.problem(OP, problem);
        }
        let logits = self.widen();
        let weights = options.class_weights.map(|weights| weights.widen().detach());
        let (rows, counts) = match target.meta().dtype.is_float() {
            true => (of_probabilities(&logits, target.widen(), weights.as_ref(), options.label_smoothing), None),
            false => of_labels(&logits, target, weights.as_ref(), options),
        };
        match (options.reduction, counts) {
            (Reduction::None, _) => rows,
            (Reduction::Sum, _) => rows.sum_all(),
            (Reduction::Mean, None) => rows.mean_all(),
            (Reduction::Mean, Some(counts)) => rows.sum_all() / counts.sum_all(),
        }
    }
}

/// The loss of each row.
#[track_caller]
fn of_probabilities(logits: &Tensor, target: Tensor, weights: Option<&Tensor>, smoothing: f64) -> Tensor {
    let classes = target.dims()[1] as f64;
    let smoothed = if smoothing > 0.0 { target * (1.0 - smoothing) + smoothing / classes } else { target };
    let shares = weights.map_or(smoothed.clone(), |weights| smoothed * weights);
    Tensor::apply(SoftCrossEntropy, &[&shares, logits])
}

/// The loss of each row, and for how much it counts in a mean if not all count for 1.
#[track_caller]
fn of_labels(
    logits: &Tensor,
    labels: &Tensor,
    weights: Option<&Tensor>,
    options: &CrossEntropyOptions<'_>,
) -> (Tensor, Option<Tensor>) {
    let (device, dims) = (logits.device(), logits.dims());
    let zero = device.fixed(&[], DType::F32, 0.0);
    let counts = options.ignore.map(|label| labels.ne(label as f64));
    // An ignored label need not be a class: class 0 stands in, and what comes of it is dropped.
    let classed = match &counts {
        Some(counts) => counts.where_(labels, &device.fixed(&[], labels.meta().dtype, 0.0)),
        None => labels.clone(),
    };
    let of_rows = weights.map(|weights| weights.index_select(0, &classed));
    let smoothing = options.label_smoothing;
    let rows = if smoothing > 0.0 {
        let number = |number: f64| Tensor::operand(device, DType::F32, number, OP);
        // Of every row alike, so that none is stored.
        let share = number(smoothing / dims[1] as f64);
        let shares = weights.map_or(share.clone(), |weights| weights * &share).expand(dims);
        let rest = number(1.0 - smoothing);
        let rest = of_rows.as_ref().map_or(rest.expand(&dims[..1]), |weights| weights * &rest);
        Tensor::apply(SoftCrossEntropy, &[&shares, logits, &classed, &rest])
    } else {
        let rows = Tensor::apply(CrossEntropy, &[logits, &classed]);
        of_rows.as_ref().map_or(rows.clone(), |weights| &rows * weights)
    };
    let Some(counts) = counts else { return (rows, of_rows) };
    let counted = match of_rows {
        Some(weights) => counts.where_(&weights, &zero),
        None => counts.cast(DType::F32),
    };
    (counts.where_(&rows, &zero), Some(counted))
}

/// The rules that can be seen when it is recorded.
fn check(logits: &Tensor, target: &Tensor, options: &CrossEntropyOptions<'_>) -> Result<(), Problem> {
    let wide = |x: &Tensor| match x.meta().dtype {
        DType::F16 => Meta { dtype: DType::F32, ..x.meta() },
        _ => x.meta(),
    };
    if !(0.0..=1.0).contains(&options.label_smoothing) {
        let what = format!("label smoothing {} is not in [0, 1]", options.label_smoothing);
        return Err(Problem::Value(what, "pass the share of the target that is spread over all classes; 0.1 is usual"));
    }
    if target.meta().dtype.is_float() {
        super::soft::check(&[wide(target), wide(logits)])?;
        if let Some(label) = options.ignore {
            let what = format!("label {label} is to be ignored, but the target is probabilities");
            return Err(Problem::Value(what, "pass labels, or probabilities of 0 in rows that shall not count"));
        }
    } else {
        super::check(&[wide(logits), target.meta()])?;
        if let Some(label) = stray_label(target, logits.dims()[1], options.ignore) {
            return Err(no_class(label, logits.dims()));
        }
    }
    let Some(weights) = options.class_weights else { return Ok(()) };
    let classes = logits.dims()[1];
    if weights.dims()[..] != [classes] {
        let what = format!("class weights have shape {}, logits {}", weights.dims(), logits.dims());
        return Err(Problem::Shape(what, "pass one weight for each class"));
    }
    if !weights.meta().dtype.is_float() {
        return Err(Problem::DType(format!("class weights are f32 or f16, not {}", weights.meta().dtype)));
    }
    Ok(())
}

/// An uploaded label that is neither one of `classes` nor `ignored`.
fn stray_label(labels: &Tensor, classes: usize, ignored: Option<i64>) -> Option<i64> {
    let is_class = |label: i64| (0..classes as i64).contains(&label);
    let (least, largest) = labels.known_range()?;
    if is_class(least) && is_class(largest) {
        return None;
    }
    let Source::Upload { data, .. } = &labels.node().source else { return None };
    (0..data.len()).map(|i| data.get(i) as i64).find(|&label| !is_class(label) && Some(label) != ignored)
}

/// Cases for parity and gradients.
pub(super) fn cases() -> Vec<Case> {
    let plain = CrossEntropyOptions::default();
    // Weights from 1/4 to 7/4 in steps of 1/2: whole numbers, for no gradient flows to them.
    let case = |name: &str, dtype: DType, weighted: bool, options: CrossEntropyOptions<'static>| {
        let build = move |x: &[Tensor]| {
            let weights = x[2].cast(DType::F32) * 0.5 + 0.25;
            let class_weights = if weighted { Some(&weights) } else { None };
            x[0].cross_entropy_with(&x[1], &CrossEntropyOptions { class_weights, ..options })
        };
        let case = Case::new(name, build).normal(&[37, 10]);
        let case = match dtype.is_float() {
            true => case.input(&[37, 10], dtype, Draw::Uniform(0.0, 1.0)),
            false => case.input(&[37], dtype, Draw::Below(10)),
        };
        // Sums over 37 rows of losses of size 3 at most.
        let bound = Tolerance::Pointwise { absolute: 2e-5, relative: 2e-6 };
        case.input(&[10], DType::I32, Draw::Below(4)).tolerance(bound)
    };
    let smoothed = CrossEntropyOptions { label_smoothing: 0.1, ..plain };
    let ignoring = CrossEntropyOptions { ignore: Some(3), ..plain };
    let rows = CrossEntropyOptions { reduction: Reduction::None, ..plain };
    let sum = CrossEntropyOptions { reduction: Reduction::Sum, ..plain };
    // Labels that the device shifts by two, so that two classes become none; one of these is ignored.
    let computed = |name: &str, label_smoothing: f64| {
        let options = CrossEntropyOptions { label_smoothing, ignore: Some(6), ..rows };
        let case = Case::new(name, move |x| x[0].cross_entropy_with(&x[1].plus(2), &options)).normal(&[37, 5]);
        case.input(&[37], DType::I32, Draw::Below(5)).not_differentiable()
    };
    vec![
        case("label_smoothing", DType::U32, false, smoothed),
        case("class_weights", DType::U32, true, plain),
        case("ignored", DType::I32, false, ignoring),
        case("ignored_rows", DType::I32, false, CrossEntropyOptions { reduction: Reduction::None, ..ignoring }),
        case("all_options", DType::I32, true, CrossEntropyOptions { ignore: Some(3), ..smoothed }),
        case("all_options_sum", DType::U32, true, CrossEntropyOptions { ignore: Some(3), label_smoothing: 0.1, ..sum }),
        case("probabilities", DType::F32, false, plain),
        case("probabilities_weighted", DType::F32, true, CrossEntropyOptions { label_smoothing: 0.1, ..rows }),
        computed("computed_labels", 0.0),
        computed("computed_labels_smoothed", 0.1),
    ]
}
