//! Layer normalisation (Ba, Kiros and Hinton 2016) and its variants: over the last axes (RMS: Zhang and Sennrich 2019),
//! and over groups of channels (Wu and He 2018).
//!
//! y = (x - mean) / sqrt(variance + epsilon) * w + b, with the biased variance. One kernel folds a row to its moments and
//! writes it. The backward pass forms the moments again once (reading x is what storing them in the forward pass would
//! have cost inference), then dx in one kernel and both parameter gradients in another.
//!
//! On software drivers loads are what costs: there a workgroup takes several rows, which share what is read of w and b, two
//! values move at a time (`Kernel::pairs`), and the backward pass is one kernel that forms moments, dx and partial parameter
//! gradients in two reads. Rates, and what was tried: `docs/software-drivers.md`, "layer_norm".

mod backward;
mod weights;

pub use backward::LayerNormBackward;
pub use weights::{LayerNormStatistics, LayerNormWeightGrad};

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{Block, Bound, MAX_LENGTH, MOMENTS, Program, RESULT, Rows};
use crate::shader::Item;
use crate::shaders;
use crate::tensor::Tensor;

/// The rows of input 0, shape `[rows, n]`, normalised; times input 1 and plus input 2, shape `[n]`, where there are any.
#[derive(Debug)]
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f64,
    /// False to take 0 for the mean (RMS normalisation).
    pub centred: bool,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Tensor {
    /// Layer normalisation over the last `dims` axes, f32 or f16: mean 0 and variance 1 over them (`epsilon` is added to
    /// the variance), times `weight` plus `bias`, both of the shape of these axes. As `torch.nn.functional.layer_norm`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless `dims` is from 1 to the rank and the weights have the shape of
    /// these axes, [`crate::Error::DType`] for integers, [`crate::Error::Value`] for a negative `epsilon`.
    #[track_caller]
    pub fn layer_norm(&self, dims: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Tensor {
        self.normalise_rows("layer_norm", dims, weight, bias, epsilon, true)
    }

    /// Root-mean-square normalisation over the last `dims` axes: divided by sqrt(mean(x^2) + `epsilon`), times `weight`. As
    /// `torch.nn.functional.rms_norm`.
    ///
    /// # Errors
    /// As [`Tensor::layer_norm`].
    #[track_caller]
    pub fn rms_norm(&self, dims: usize, weight: Option<&Tensor>, epsilon: f64) -> Tensor {
        self.normalise_rows("rms_norm", dims, weight, None, epsilon, false)
    }

    /// Normalisation over `groups` groups of the channels of axis 1 and all axes behind it, times `weight` plus `bias`,
    /// both `[channels]`. As `torch.nn.functional.group_norm`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are channels that `groups` divides and the weights have one
    /// element for each; else as [`Tensor::layer_norm`].
    #[track_caller]
    pub fn group_norm(&self, groups: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Tensor {
        let shape = *self.dims();
        if self.error().is_some() {
            return self.clone();
        }
        let channels = shape.get(1).copied().unwrap_or(0);
        if channels == 0 || groups == 0 || channels % groups != 0 {
            let what = format!("{groups} groups of the channels of shape {shape}");
            return self
                .problem("group_norm", Problem::Shape(what, "pass [n, channels, ..] and a divisor of channels"));
        }
        if let Some(broken) = [weight, bias].into_iter().flatten().find(|tensor| tensor.error().is_some()) {
            return broken.clone();
        }
        let rows = shape[0] * groups;
        let wide = self.widen();
        let normal = wide.reshape(&[rows, shape.elements() / rows]).layer_norm(1, None, None, epsilon).reshape(&shape);
        // [channels, 1, ..]: aligned with axis 1.
        let mut per_channel = vec![1; shape.rank() - 1];
        per_channel[0] = channels;
        let scaled = match weight {
            Some(weight) => &normal * weight.widen().reshape(&per_channel),
            None => normal,
        };
        let shifted = match bias {
            Some(bias) => scaled + bias.widen().reshape(&per_channel),
            None => scaled,
        };
        shifted.result_of(self)
    }

    #[track_caller]
    fn normalise_rows(
        &self,
        name: &'static str,
        dims: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        epsilon: f64,
        centred: bool,
    ) -> Tensor {
        let parts = [Some(self), weight, bias];
        if let Some(broken) = parts.iter().flatten().find(|tensor| tensor.error().is_some()) {
            return (*broken).clone();
        }
        let shape = *self.dims();
        if dims == 0 || dims > shape.rank() {
            let what = format!("the last {dims} axes of shape {shape}");
            return self.problem(name, Problem::Shape(what, "normalise over one axis to all of them"));
        }
        let over = &shape[shape.rank() - dims..];
        if let Some(wrong) = [weight, bias].into_iter().flatten().find(|tensor| tensor.dims()[..] != *over) {
            let what = format!("a weight or bias of shape {} for the axes {over:?}", wrong.dims());
            return self.problem(name, Problem::Shape(what, "give it the shape of the axes that are normalised"));
        }
        if epsilon.is_nan() || epsilon < 0.0 {
            let what = format!("epsilon is {epsilon}");
            return self.problem(name, Problem::Value(what, "pass a number from 0 on, such as 1e-5"));
        }
        let n: usize = over.iter().product();
        let rows = self.widen().reshape(&[shape.elements() / n, n]);
        let flat = |tensor: &Tensor| tensor.widen().reshape(&[n]);
        let (weight, bias) = (weight.map(flat), bias.map(flat));
        if n > MAX_LENGTH {
            return long(&rows, weight, bias, epsilon, centred).reshape(&shape).cast(self.meta().dtype);
        }
        let op = LayerNorm { epsilon, centred, weight: weight.is_some(), bias: bias.is_some() };
        let inputs: Vec<&Tensor> = [Some(&rows), weight.as_ref(), bias.as_ref()].into_iter().flatten().collect();
        Tensor::apply(op, &inputs).reshape(&shape).cast(self.meta().dtype)
    }
}

/// Rows longer than a kernel folds, composed of other ops.
fn long(rows: &Tensor, weight: Option<Tensor>, bias: Option<Tensor>, epsilon: f64, centred: bool) -> Tensor {
    let shifted = if centred { rows.centred(&[1]) } else { rows.clone() };
    let normal = &shifted / shifted.square().mean_keep(&[1]).offset(epsilon).sqrt();
    let scaled = weight.map_or_else(|| normal.clone(), |weight| &normal * weight);
    bias.map_or_else(|| scaled.clone(), |bias| &scaled + bias)
}

/// `Err` unless these are f32: rows `[rows, n]` first.
fn check_rows(inputs: &[Meta]) -> Result<[usize; 2], Problem> {
    if let Some(meta) = inputs.iter().find(|meta| meta.dtype != DType::F32) {
        return Err(Problem::DType(format!("it takes floats, not {}", meta.dtype)));
    }
    match inputs[0].shape[..] {
        [rows, n] if n <= MAX_LENGTH => Ok([rows, n]),
        _ => Err(Problem::Shape(format!("rows of shape {}", inputs[0].shape), "pass [rows, n]")),
    }
}

/// Weight and bias as they are bound where there are any, inputs from `first` on.
fn weights(first: usize, weight: bool, bias: bool, element: &'static str) -> Vec<Bound> {
    let present = [("weight", weight), ("bias", bias)].into_iter().filter(|(_, present)| *present);
    present.enumerate().map(|(i, (name, _))| (Binding::input(first + i), name, element)).collect()
}

/// The text of x times the weight and plus the bias where there are any, each as `read` has it.
fn scaled(weight: bool, bias: bool, read: impl Fn(&str) -> String) -> String {
    let parts = [("weight", '*', weight), ("bias", '+', bias)].into_iter().filter(|(.., present)| *present);
    parts.fold("x".to_string(), |value, (name, sign, _)| format!("{value} {sign} {}", read(name)))
}

/// `affine(x, column)`, and `column(j, half)`, which reads a weight and a bias where there are any.
fn columns(weight: bool, bias: bool) -> Shader {
    let bound = weights(0, weight, bias, "$V$");
    let each = |form: &dyn Fn(&str) -> String| bound.iter().map(|(_, name, _)| form(name)).collect::<Vec<_>>();
    let members = each(&|name| format!("    {name}: $F$,\n")).concat();
    let reads = each(&|name| format!("$value_of$(${name}$[j], half)")).join(", ");
    let (column, read) = match bound.is_empty() {
        true => (Item::alias("Column", "u32"), "j".to_string()),
        false => (Item::new("Column", format!("struct $Column$ {{\n{members}}}\n")), format!("$Column$({reads})")),
    };
    let value = scaled(weight, bias, |name| format!("shared_by_rows.{name}"));
    let read = format!("fn $column$(j: u32, half: u32) -> $Column$ {{\n    return {read};\n}}\n");
    let affine = format!("fn $affine$(x: $F$, shared_by_rows: $Column$) -> $F$ {{\n    return {value};\n}}\n");
    Shader::default().item(column).item(Item::new("column", read)).item(Item::new("affine", affine))
}

/// `affine(x, j)`, which reads a weight and a bias where there are any.
fn affine(weight: bool, bias: bool) -> Shader {
    let value = scaled(weight, bias, |name| format!("${name}$[j]"));
    let affine = format!("fn $affine$(x: $F$, j: u32) -> $F$ {{\n    return {value};\n}}\n");
    Shader::default().item(Item::new("affine", affine))
}

/// Mean and reciprocal standard deviation of a row.
fn moments(row: &[f64], epsilon: f64, centred: bool) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = if centred { row.iter().sum::<f64>() / n } else { 0.0 };
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Mean and reciprocal standard deviation of a row, from the statistics of all.
fn mean_and_scale(statistics: &[f64], row: usize) -> (f64, f64) {
    (statistics[4 * row] + statistics[4 * row + 2], statistics[4 * row + 1])
}

/// h = (x - mean) r of rows with these statistics: the first element goes before the rest of the mean.
fn normal(x: &Tensor, statistics: &Tensor) -> Tensor {
    let column = |k: usize| statistics.slice_fixed(1, k, 1);
    ((x - column(0)) - column(2)) * column(1)
}

/// Rows of 1, lengths that four divides and does not, rows for one invocation, for a subgroup and for a workgroup.
const SHAPES: [(&str, [usize; 2]); 10] = [
    ("short", [37, 5]),
    ("four", [131, 12]),
    ("one_row", [1, 131]),
    ("subgroup", [67, 516]),
    ("odd_subgroup", [5, 1031]),
    ("long", [3, 5004]),
    ("pairs", [67, 520]),
    ("pairs_beyond_lanes", [9, 136]),
    ("one_element", [3, 1]),
    ("many_rows", [2051, 8]),
];

/// The bound of normalised values and of their gradients: sums of n terms over the deviation.
fn bound(n: usize) -> Tolerance {
    Tolerance::Pointwise { absolute: 4e-6 + 4e-7 * (n as f64).sqrt(), relative: 4e-6 }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        if self.centred { "layer_norm" } else { "rms_norm" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.epsilon.to_bits(), u64::from(self.weight), u64::from(self.bias)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let [_, n] = check_rows(inputs)?;
        match inputs[1..].iter().find(|meta| meta.shape[..] != [n]) {
            Some(meta) => Err(Problem::Shape(format!("a weight of shape {} for rows of {n}", meta.shape), "pass [n]")),
            None => Ok(vec![inputs[0]]),
        }
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (x, grad) = (&backward.inputs[0], backward.grad);
        let n = x.dims()[1];
        let statistics = Tensor::apply(LayerNormStatistics { epsilon: self.epsilon, centred: self.centred }, &[x]);
        let of_weights = backward.needs[1..].contains(&true);
        let (rows, both) = match backward.needs[0] {
            true => {
                let mut inputs = vec![grad, x, &statistics];
                inputs.extend(self.weight.then(|| &backward.inputs[1]));
                let op = LayerNormBackward { epsilon: self.epsilon, centred: self.centred, weight: self.weight };
                let [rows, both] = Tensor::apply_many(op, &inputs);
                (Some(rows), both)
            }
            false => {
                let op = LayerNormWeightGrad { epsilon: self.epsilon, centred: self.centred };
                (None, Tensor::apply(op, &[grad, x, &statistics]))
            }
        };
        let part = |k: usize| of_weights.then(|| both.slice_fixed(0, k, 1).reshape(&[n]));
        let mut gradients = vec![rows];
        gradients.extend(self.weight.then(|| part(0)));
        gradients.extend(self.bias.then(|| part(1)));
        gradients
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let n = output.shape[1];
        let weight = |j: usize| if self.weight { inputs[1].data[j] } else { 1.0 };
        let bias = |j: usize| if self.bias { inputs[inputs.len() - 1].data[j] } else { 0.0 };
        let mut data = Vec::with_capacity(output.elements());
        for row in inputs[0].data.chunks(n) {
            let (mean, scale) = moments(row, self.epsilon, self.centred);
            data.extend(row.iter().enumerate().map(|(j, x)| (x - mean) * scale * weight(j) + bias(j)));
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let rows = Rows::along(&output.shape, 1);
        let block = rows.block(1, capabilities).filter(|_| self.weight || self.bias);
        let (shader, element) = match block {
            Some(_) => (columns(self.weight, self.bias).file(&shaders::layer_norm::BLOCK), "$V$"),
            None => {
                let shader = affine(self.weight, self.bias).file(&shaders::layer_norm::MOMENTS);
                (shader.file(&shaders::layer_norm::FORWARD), "$F$")
            }
        };
        let mut bound = weights(1, self.weight, self.bias, element);
        bound.push(RESULT);
        let program = Program {
            name: self.name(),
            shader: shader.file(MOMENTS).constant("CENTRED", self.centred),
            state: &["count", "mean", "square"],
            bound,
            results: 0,
            number: self.epsilon,
            first_of_row: false,
        };
        Lowering::kernel(match block {
            Some(block) => {
                rows.block_kernel(program, block, &Block { kept: &["first", "mean", "scale"], most: 1 }, capabilities)
            }
            None => rows.kernel(program, capabilities),
        })
    }

    fn cases() -> Vec<Case> {
        let mut cases = vec![];
        for (name, [rows, n]) in SHAPES {
            // Where a row has one element, the result is the bias, and the gradient 0 but for epsilon.
            let case = Case::new(name, |x| x[0].layer_norm(1, Some(&x[1]), Some(&x[2]), 1e-5));
            cases.push(case.normal(&[rows, n]).normal(&[n]).normal(&[n]).tolerance(bound(n.max(rows))));
            let case = Case::new(format!("rms_{name}"), |x| x[0].rms_norm(1, Some(&x[1]), 1e-5));
            cases.push(case.normal(&[rows, n]).normal(&[n]).tolerance(bound(n.max(rows))));
        }
        let plain = Case::new("plain", |x| x[0].layer_norm(2, None, None, 1e-5));
        cases.push(plain.normal(&[5, 3, 20]).tolerance(bound(60)));
        let bias = Case::new("bias_only", |x| x[0].layer_norm(1, None, Some(&x[1]), 1e-3));
        cases.push(bias.normal(&[37, 20]).normal(&[20]).tolerance(bound(37)));
        // A mean that is large beside the deviation: squares less the square of the mean would lose four digits. Rounding
        // x + 200 moves each element by up to 8e-6.
        let shifted = Case::new("far_from_zero", |x| x[0].offset(200.0).layer_norm(1, None, None, 1e-5));
        cases.push(shifted.normal(&[37, 516]).tolerance(Tolerance::Pointwise { absolute: 5e-5, relative: 3e-5 }));
        for (name, n) in [("far_short", 12), ("far_odd", 131), ("far_pairs", 520)] {
            let case = Case::new(name, |x| x[0].layer_norm(1, Some(&x[1]), Some(&x[2]), 1e-5));
            let case = case.input(&[37, n], DType::F32, Draw::Uniform(998.0, 1_002.0)).normal(&[n]).normal(&[n]);
            cases.push(case.tolerance(bound(n)));
        }
        let fused = Case::new("between", |x| (&x[0] * 2.0).layer_norm(1, Some(&x[1]), None, 1e-5).relu() + &x[2]);
        cases.push(fused.normal(&[37, 12]).normal(&[12]).normal(&[37, 12]).tolerance(bound(37)));
        let turned = Case::new("transposed", |x| x[0].transpose(0, 1).layer_norm(1, None, None, 1e-5));
        cases.push(turned.normal(&[20, 36]).tolerance(bound(36)));
        for groups in [1, 3] {
            let name = format!("groups_{groups}");
            let case = Case::new(name, move |x| x[0].group_norm(groups, Some(&x[1]), Some(&x[2]), 1e-5));
            cases.push(case.normal(&[5, 6, 4, 3]).normal(&[6]).normal(&[6]).tolerance(bound(60)));
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error};

    #[test]
    fn weights_of_another_shape_and_a_negative_epsilon_are_refused() {
        let device = Device::cpu();
        let x = device.zeros(&[2, 3, 4]);
        let wrong = x.layer_norm(1, Some(&device.zeros(&[3])), None, 1e-5);
        assert!(matches!(wrong.error(), Some(Error::Shape { op: "layer_norm", .. })), "{wrong:?}");
        assert!(matches!(x.layer_norm(4, None, None, 1e-5).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.rms_norm(1, None, -1.0).error(), Some(Error::Value { op: "rms_norm", .. })));
        assert!(matches!(x.group_norm(2, None, None, 1e-5).error(), Some(Error::Shape { op: "group_norm", .. })));
    }
}
