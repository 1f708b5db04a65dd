//! Statistics of rows, and the gradients of a normalisation's weight and bias.

use super::{SHAPES, bound, check_rows, moments};
use crate::array::Array;
use crate::costs::Parts;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Tolerance};
use crate::ops::rows::{MOMENTS, Program, Rows};
use crate::ops::shared::{add_splits, each};
use crate::shader::params;
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Of each row of `[rows, n]` its first element, the reciprocal standard deviation, its mean less the first element, and a 0:
/// `[rows, 4]`. The first element counts as given: a gradient of the mean goes to the third number.
#[derive(Debug)]
pub struct LayerNormStatistics {
    /// Added to the variance.
    pub epsilon: f64,
    /// False to take 0 for the mean.
    pub centred: bool,
}

/// Gradients of the weight and of the bias, `[2, n]`, from the result's gradient, the rows and their statistics.
///
/// Its own gradient counts the statistics as functions of the rows.
#[derive(Debug)]
pub struct LayerNormWeightGrad {
    /// What the statistics were formed with.
    pub epsilon: f64,
    /// False if the mean was taken to be 0.
    pub centred: bool,
}

impl Op for LayerNormStatistics {
    fn name(&self) -> &'static str {
        "layer_norm_statistics"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.epsilon.to_bits(), u64::from(self.centred)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let [rows, _] = check_rows(inputs)?;
        Ok(vec![matrix(rows, 4)?])
    }

    /// 1/n for the mean, and -r^2 h / n for r, with h the normalised row.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let x = &backward.inputs[0];
        let [rows, n] = [x.dims()[0], x.dims()[1]];
        let column = |of: &Tensor, k: usize| of.slice_fixed(1, k, 1).reshape(&[rows, 1]);
        let scale = column(backward.output, 1);
        let normal = super::normal(x, backward.output);
        let from_scale = -(normal * (scale.square() * column(backward.grad, 1)));
        let total = if self.centred { from_scale + column(backward.grad, 2) } else { from_scale };
        vec![Some(total.scale(1.0 / n as f64))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = inputs[0].data.chunks(inputs[0].shape[1]);
        let four = |row: &[f64]| {
            let (mean, scale) = moments(row, self.epsilon, self.centred);
            let first = if self.centred { row[0] } else { 0.0 };
            [first, scale, mean - first, 0.0]
        };
        let data = rows.flat_map(four).collect();
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let program = Program {
            name: self.name(),
            shader: Shader::of(&[&shaders::layer_norm::MOMENTS, &shaders::layer_norm::STATISTICS, MOMENTS])
                .constant("CENTRED", self.centred),
            state: &["count", "mean", "square"],
            bound: vec![(Binding::output(), "result", "f32")],
            results: 4,
            number: self.epsilon,
            first_of_row: false,
        };
        Lowering::kernel(Rows::along(&inputs[0].shape, 1).kernel(program, capabilities))
    }

    fn cases() -> Vec<Case> {
        let case = |(name, shape): (&str, [usize; 2])| {
            let apply = |x: &[Tensor]| {
                let all = Tensor::apply(LayerNormStatistics { epsilon: 0.1, centred: true }, &[&x[0]]);
                let column = |k: usize| all.slice_fixed(1, k, 1);
                Tensor::concat(&[&(column(0) + column(2)), &column(1)], 1)
            };
            Case::new(name, apply).normal(&shape).tolerance(bound(shape[1]))
        };
        SHAPES.into_iter().map(case).collect()
    }
}

impl Op for LayerNormWeightGrad {
    fn name(&self) -> &'static str {
        "layer_norm_weight_grad"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.epsilon.to_bits(), u64::from(self.centred)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let [rows, n] = check_rows(inputs)?;
        match inputs[1] == inputs[0] && inputs[2].shape[..] == [rows, 4] {
            true => Ok(vec![matrix(2, n)?]),
            false => Err(Problem::Shape("the inputs do not belong together".into(), "pass those of one normalisation")),
        }
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [from_dy, from_x] = sums_gradient(backward.inputs, backward.grad, self.centred, self.epsilon);
        vec![Some(from_dy), Some(from_x), None]
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        vec![sums(inputs)]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let (kernels, temporaries) = sums_kernels(inputs, Binding::output(), capabilities);
        Lowering::Kernels { kernels, temporaries }
    }

    fn cases() -> Vec<Case> {
        let shapes: [(&str, [usize; 2], bool); 7] = [
            ("few_rows", [5, 37], true),
            ("one_row", [1, 12], true),
            ("parts", [1031, 5], true),
            ("four_parts", [1031, 20], true),
            ("one_value", [131, 4], true),
            ("one_column", [67, 1], true),
            ("rms", [37, 12], false),
        ];
        let case = |(name, [rows, n], centred): (&str, [usize; 2], bool)| {
            let case = Case::new(name, move |x| {
                let statistics = Tensor::apply(LayerNormStatistics { epsilon: 0.1, centred }, &[&x[1]]);
                Tensor::apply(LayerNormWeightGrad { epsilon: 0.1, centred }, &[&x[0], &x[1], &statistics])
            });
            let absolute = 4e-6 * (rows as f64).sqrt();
            case.normal(&[rows, n]).normal(&[rows, n]).tolerance(Tolerance::Pointwise { absolute, relative: 4e-6 })
        };
        shapes.into_iter().map(case).collect()
    }
}

/// Gradients of dy and x through the sums, with D and E for those of the two: D h + E for dy, and for x what normalising
/// sends back for dy D.
pub(super) fn sums_gradient(inputs: &[Tensor], grad: &Tensor, centred: bool, epsilon: f64) -> [Tensor; 2] {
    let [dy, x, statistics] = [&inputs[0], &inputs[1], &inputs[2]];
    let n = x.dims()[1];
    let part = |k: usize| grad.slice_fixed(0, k, 1).reshape(&[n]);
    let from_dy = super::normal(x, statistics) * part(0) + part(1);
    let op = super::LayerNormBackward { epsilon, centred, weight: false };
    [from_dy, Tensor::apply(op, &[&(dy * part(0)), x, statistics])]
}

/// The sums over the rows of dy h and of dy, from dy, x and statistics.
pub(super) fn sums(inputs: &[&Array]) -> Array {
    let n = inputs[0].shape[1];
    let mut data = vec![0.0; 2 * n];
    for (row, (dy, x)) in inputs[0].data.chunks(n).zip(inputs[1].data.chunks(n)).enumerate() {
        let (mean, scale) = super::mean_and_scale(&inputs[2].data, row);
        for j in 0..n {
            data[j] += dy[j] * (x[j] - mean) * scale;
            data[n + j] += dy[j];
        }
    }
    let shape = Shape::new(&[2, n]).unwrap_or(inputs[0].shape);
    Array { shape, dtype: inputs[0].dtype, data }
}

params! {
    /// Columns are values.
    struct Sizes { rows, columns, parts, rows_per_part }
}

/// The kernels that write these sums to `to`, and the scratch between them.
pub(super) fn sums_kernels(inputs: &[Meta], to: Binding, capabilities: &Capabilities) -> (Vec<Kernel>, Vec<usize>) {
    let [rows, n] = [inputs[0].shape[0], inputs[0].shape[1]];
    let lanes = if n.is_multiple_of(4) { 4 } else { 1 };
    let values = n / lanes;
    let costs = capabilities.costs();
    // Where loads are dear, two columns share a row's statistics.
    let columns = if costs.dear_loads { 2 } else { 1 };
    let tiles = values.div_ceil(columns);
    let Parts { enough, least } = costs.column_sum;
    let parts = (enough / tiles).min(rows / least).max(rows.div_ceil(50_000)).max(1);
    let rows_per_part = rows.div_ceil(parts);
    let shader = each(Shader::of(&[&shaders::layer_norm::WEIGHT_GRAD]));
    let shader = shader.constant("LANES", lanes).constant("COLUMNS", columns);
    let mut kernel = Kernel::own("layer_norm_weight_grad", shader);
    kernel.bindings.push(Binding::input(0));
    kernel.bind(Binding::input(1), "input", "$F$");
    kernel.bind(Binding::input(2), "statistics", "vec4<f32>");
    kernel.bind(if parts == 1 { to } else { Binding::write(0) }, "result", "$F$");
    kernel.uniform(Sizes { rows, columns: values, parts, rows_per_part });
    kernel.workgroups = ((parts * tiles) as u64).div_ceil(64);
    kernel.iterations = rows_per_part as u64;
    kernel.prologue = true;
    kernel.lanes = lanes;
    if parts == 1 {
        return (vec![kernel], vec![]);
    }
    (vec![kernel, add_splits(2 * n, parts, Binding::read(0), to)], vec![2 * n * parts])
}

pub(super) fn matrix(rows: usize, columns: usize) -> Result<Meta, Problem> {
    let too_large = || Problem::Shape(format!("statistics of {rows} rows"), "normalise fewer rows at a time");
    Ok(Meta { shape: Shape::new(&[rows, columns]).ok_or_else(too_large)?, dtype: DType::F32 })
}
