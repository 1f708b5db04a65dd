//! Weighted sums along each of the three axes behind channels, all in one pass: means of windows, and interpolation. Each
//! axis has its own filter, a matrix of few elements a row; a result's weight is the product of three.
//!
//! Places are found in whole numbers, so that f32 and the f64 reference pick the same elements however long an axis is.

mod backward;
mod filter;
mod interpolate;
mod pooling;

pub use backward::ResampleBackward;
pub use filter::{Filter, Line};
pub use interpolate::Interpolation;
pub use pooling::AvgPoolOptions;

use crate::array::Array;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Lowering, Op};
use crate::ops::pool::spans;
use crate::ops::product::Product;
use crate::ops::shared::each;
use crate::shader::{Shader, params};
use crate::shaders::resample::{CUBIC, EVEN, FORWARD, LINEAR, LINES, NEAREST, WINDOW};
use crate::tensor::Tensor;

/// Elements of `[batch, channels, depth, height, width]` as sums of what [`Filter`] says along the last three axes.
#[derive(Debug, Clone, Copy)]
pub struct Resample {
    /// How elements are weighted.
    pub filter: Filter,
    /// The three axes.
    pub lines: [Line; 3],
}

params! {
    struct Sizes {
        elements,
        /// Of each axis (input, output, kernel, stride), (before, after, numerator, denominator).
        lines: [[u32; 4]; 6],
    }
}

impl Resample {
    fn words(&self, words: &mut Vec<u64>) {
        self.filter.words(words);
        self.lines.iter().for_each(|line| line.words(words));
    }

    /// The result for an input.
    fn output(&self, input: &Meta) -> Result<Meta, Problem> {
        let Meta { shape, dtype } = *input;
        if !dtype.is_float() {
            return Err(Problem::DType(format!("it takes floats, not {dtype}")));
        }
        let shape = spans::output(&shape, &self.lines.map(|line| line.span))?;
        self.rounds()?;
        Ok(Meta { shape, dtype })
    }

    /// Rounds of loops that a result takes, and those of an element's gradient.
    fn rounds(&self) -> Result<[usize; 2], Problem> {
        let taps = spans::loops(self.lines.map(|line| self.filter.most_taps(&line)))?;
        Ok([taps, spans::loops(self.lines.map(|line| self.filter.most_users(&line)))?])
    }

    /// The shader of a pass, with the filter's functions.
    fn shader(&self, types: Shader) -> Shader {
        let shader = each(types).file(&LINES);
        match self.filter {
            Filter::Mean { .. } if self.lines[0].is_even() => shader.file(&EVEN),
            Filter::Mean { count_padding } => shader.file(&WINDOW).constant("COUNT_PADDING", count_padding),
            Filter::Nearest { exact } => shader.file(&NEAREST).constant("EXACT", exact),
            Filter::Linear { corners } => shader.file(&LINEAR).constant("CORNERS", corners),
            Filter::Cubic { corners } => shader.file(&CUBIC).constant("CORNERS", corners),
        }
    }

    fn sizes(&self, elements: usize) -> Sizes {
        let [a, b, c] = self.lines.map(|line| line.sizes());
        Sizes { elements, lines: [a[0], a[1], b[0], b[1], c[0], c[1]] }
    }

    /// For each axis the elements and weights of each result.
    fn tables(&self) -> [Vec<Vec<(usize, f64)>>; 3] {
        self.lines.map(|line| (0..line.span.output).map(|i| self.filter.taps(&line, i)).collect())
    }

    /// Calls `visit(result, element, weight)` for a plane.
    fn pairs(&self, mut visit: impl FnMut(usize, usize, f64)) {
        let tables = self.tables();
        let [_, height, width] = self.lines.map(|line| line.span.input);
        let mut result = 0;
        for slices in &tables[0] {
            for rows in &tables[1] {
                for columns in &tables[2] {
                    for (d, a) in slices {
                        for (h, b) in rows {
                            for (w, c) in columns {
                                visit(result, (d * height + h) * width + w, a * b * c);
                            }
                        }
                    }
                    result += 1;
                }
            }
        }
    }
}

impl Tensor {
    /// This filter along each of the last axes of `[batch, channels, ..]`; in a pass for each axis where one would be too long.
    #[track_caller]
    pub(crate) fn resampled(
        &self,
        op: &'static str,
        axes: usize,
        filter: Filter,
        line: impl Fn(usize, usize) -> Result<Line, Problem>,
    ) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = match spans::volume(self.dims(), axes) {
            Ok(dims) => dims,
            Err(problem) => return self.problem(op, problem),
        };
        let mut lines = [2, 3, 4].map(|axis| Line::whole(dims[axis]));
        for axis in 0..axes {
            match line(axis, dims[5 - axes + axis]) {
                Ok(line) => lines[3 - axes + axis] = line,
                Err(problem) => return self.problem(op, problem),
            }
        }
        // Windows of one kind have unit axes of that kind.
        if lines.iter().any(Line::is_even) {
            for line in &mut lines[..3 - axes] {
                *line = Line::unit_even();
            }
        }
        let whole = Resample { filter, lines };
        let volume = self.reshape(&dims);
        let result = match whole.rounds() {
            Ok(_) => Tensor::apply(whole, &[&volume]),
            Err(_) => (0..3).rev().fold(volume, |volume, axis| {
                let dims = *volume.dims();
                // The other axes are as one: nothing of theirs is mixed.
                let outer: usize = dims.iter().take(2 + axis).product();
                let inner: usize = dims.iter().skip(3 + axis).product();
                if volume.error().is_some() || lines[axis].span.input == 1 && lines[axis].span.output == 1 {
                    return volume;
                }
                let single = [lines[axis], Line::whole(1), Line::whole(inner)];
                let single =
                    if single[0].is_even() { [single[0], Line::unit_even(), Line::each_even(inner)] } else { single };
                let y = Tensor::apply(
                    Resample { filter, lines: single },
                    &[&volume.reshape(&[outer, 1, lines[axis].span.input, 1, inner])],
                );
                let mut dims = dims.to_vec();
                if y.error().is_none() {
                    dims[2 + axis] = lines[axis].span.output;
                }
                y.reshape(&dims)
            }),
        };
        if result.error().is_some() {
            return result;
        }
        let dims = *result.dims();
        result.reshape(&spans::flat(&dims, axes))
    }
}

impl Op for Resample {
    fn name(&self) -> &'static str {
        self.filter.name()
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![self.output(&inputs[0])?])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(ResampleBackward(*self), &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [from, to]: [usize; 2] = [&inputs[0].shape, &output.shape].map(|shape| shape[2..].iter().product());
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        let planes = output.shape[0] * output.shape[1];
        self.pairs(|at, place, weight| {
            for plane in 0..planes {
                result.data[plane * to + at] += weight * inputs[0].data[plane * from + place];
            }
        });
        vec![Product { output: output.dtype, ..Product::FULL }.result(result)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let shader = self.shader(Product::FULL.types(inputs, capabilities)).file(&FORWARD);
        let mut kernel = Kernel::own(self.name(), shader);
        kernel.bind(Binding::input(0), "x", "$A_TYPE$");
        kernel.bind(Binding::output(), "y", "$OUT$");
        kernel.uniform(self.sizes(output.elements()));
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = self.rounds().map_or(0, |[taps, _]| taps) as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        [pooling::cases(), interpolate::cases()].concat()
    }
}
