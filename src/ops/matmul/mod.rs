//! Matrix product, with leading batch axes that broadcast.
//!
//! Operands are read through strides, so a transposed or permuted one is not copied. A long sum over few outputs is split
//! into parts that a second kernel adds in order. The kernels, all with the same parameters, are listed in `variants.rs`:
//!
//! - `eights`: as `wide`, both operands read eight elements at a time as 64-bit integers, the left along k;
//! - `wide`: software drivers with 8 lanes, where both operands can be read four elements at a time along k or along their
//!   other axis;
//! - `subgroup`: software drivers with 8 lanes, where a load costs much: a lane loads a row's element once and broadcasts it;
//! - `tiled.128`, `.64`, `.32`: square blocks in workgroup memory, for GPUs (see `shaders/tiles/loop.wgsl`);
//! - `cooperative`: blocks by matrix units, for f16 where the adapter lists square matrices and has subgroups of 32;
//! - `vector`: one row or one column, for GPUs;
//! - `registers`: everything else.
//!
//! Rates on software drivers, and what was tried there: `docs/software-drivers.md`, "matmul".

mod cases;
mod kernel;
mod site;
mod variants;

pub(crate) use site::{Matrix, Site};
use variants::VARIANTS;

use crate::array::{Array, parallel};
use crate::error::Problem;
use crate::kernel::{Capabilities, Kernel};
use crate::layout::{Meta, Strided};
use crate::op::{Backward, Case, Casting, Lowering, Op, Role};
use crate::ops::product::{self, Product};
use crate::ops::shared::split_sum;
use crate::ops::tiles::Sizes;
use crate::ops::variants::{default_of, names, one_of};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// `[.., m, k] x [.., k, n]`, at most two batch axes.
#[derive(Debug)]
pub struct Matmul {
    /// How operands are read and the result is written.
    pub product: Product,
}

impl Tensor {
    /// Matrix product `[.., m, k] x [.., k, n] -> [.., m, n]`, as `torch.matmul`: leading axes are batches and broadcast.
    ///
    /// Both f32, or both f16 (the sum is formed in f32); in mixed precision any floats, as f16. A transposed or permuted operand costs no copy.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have two axes or more, the inner lengths agree and the batch
    /// axes broadcast, and [`crate::Error::DType`] for other dtypes.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let (left, right, product) = product::operands(self, other);
        left.multiplied(&right, Matmul { product })
    }

    #[track_caller]
    fn multiplied(&self, other: &Tensor, op: Matmul) -> Tensor {
        let (a, b) = (self.dims(), other.dims());
        let Ok(shape) = result_shape(a, b) else { return Tensor::apply(op, &[self, other]) };
        let rank = shape.rank();
        if b.rank() == 2 && a.rank() > 2 {
            // Batches of rows with one matrix are more rows; the matrix' gradient is then one product too.
            let rows = a[..rank - 1].iter().product();
            return self.reshape(&[rows, a[rank - 1]]).multiplied(other, op).reshape(&shape);
        }
        if rank <= 4 {
            return Tensor::apply(op, &[self, other]);
        }
        // More than two batch axes: all but the last become one. An operand that is stretched along some of them only is
        // stretched along all.
        let inner = rank - 3;
        let merged = |tensor: &Tensor| {
            let dims = tensor.dims();
            let lead = rank - dims.rank();
            let all_ones = (0..inner).all(|axis| axis < lead || dims[axis - lead] == 1);
            let last = if lead <= inner { dims[inner - lead] } else { 1 };
            let tail = [last, dims[dims.rank() - 2], dims[dims.rank() - 1]];
            let outer: usize = if all_ones { 1 } else { shape[..inner].iter().product() };
            let full = [&shape[..inner], &tail].concat();
            let tensor = if all_ones { tensor.clone() } else { tensor.expand(&full) };
            tensor.reshape(&[outer, tail[0], tail[1], tail[2]])
        };
        Tensor::apply(op, &[&merged(self), &merged(other)]).reshape(&shape)
    }
}

/// Shape of the product, or the rule that the operands break.
fn result_shape(a: &Shape, b: &Shape) -> Result<Shape, Problem> {
    if a.rank() < 2 || b.rank() < 2 {
        let what = format!("{a} x {b}: a product takes matrices, with any batch axes in front");
        return Err(Problem::Shape(what, "give a vector a second axis with unsqueeze"));
    }
    let [m, k] = [a[a.rank() - 2], a[a.rank() - 1]];
    let [rows, n] = [b[b.rank() - 2], b[b.rank() - 1]];
    if k != rows {
        let what = format!("{a} x {b}: the left has {k} columns, the right {rows} rows");
        return Err(Problem::Shape(what, "make the inner lengths equal, perhaps with transpose"));
    }
    let batch = |shape: &Shape| Shape::new(&shape[..shape.rank() - 2]);
    let batch = batch(a).zip(batch(b)).and_then(|(a, b)| a.broadcast(&b));
    let Some(batch) = batch else {
        let what = format!("{a} x {b}: the batch axes do not broadcast");
        return Err(Problem::Shape(what, "make each pair of batch lengths equal or one of them 1"));
    };
    Shape::new(&[&batch[..], &[m, n]].concat()).ok_or_else(|| {
        let what = format!("{a} x {b}: the result is too large");
        Problem::Shape(what, "use at most 8 axes and 2^32 - 1 elements")
    })
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.product.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let shape = result_shape(&inputs[0].shape, &inputs[1].shape)?;
        self.product.check(inputs)?;
        if shape.rank() > 4 {
            return Err(Problem::Shape(format!("{shape} has more than two batch axes"), "use Tensor::matmul"));
        }
        Ok(vec![Meta { shape, dtype: self.product.output }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [a, b] = [&backward.inputs[0], &backward.inputs[1]];
        let dy = backward.grad;
        let turn = |x: &Tensor| x.transpose(x.dims().rank() - 2, x.dims().rank() - 1);
        let product = |of: &Tensor, a: &Tensor, b: &Tensor| {
            Tensor::apply(Matmul { product: self.product.gradient_of(of) }, &[a, b])
        };
        // The gradient of a permuted operand is permuted back: formed transposed, it ends up in row-major order.
        let permuted = |x: &Tensor| x.node().role() == Some(Role::Permutation);
        let da = || if permuted(a) { turn(&product(a, b, &turn(dy))) } else { product(a, dy, &turn(b)) };
        let db = || if permuted(b) { turn(&product(b, &turn(dy), a)) } else { product(b, &turn(a), dy) };
        vec![backward.needs[0].then(|| da().sum_to(a.dims())), backward.needs[1].then(|| db().sum_to(b.dims()))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [a, b] = [0, 1].map(|k| self.product.operand(inputs[k]));
        let (a, b) = (&*a, &*b);
        let rank = output.shape.rank();
        let [m, n, depth] = [output.shape[rank - 2], output.shape[rank - 1], a.shape[a.shape.rank() - 1]];
        // First element of the operand's matrix for batch number `batch` of the result.
        let start = |operand: &Array, batch: usize| {
            let (strides, own) = (operand.shape.strides(), operand.shape.rank());
            let (mut rest, mut at) = (batch, 0);
            for back in 3..=rank {
                let index = rest % output.shape[rank - back];
                rest /= output.shape[rank - back];
                if back <= own && operand.shape[own - back] > 1 {
                    at += index * strides[own - back];
                }
            }
            at
        };
        let mut data = vec![0.0; output.elements()];
        parallel(&mut data, |first, run| {
            let mut done = 0;
            while done < run.len() {
                // A stretch of one row of the result at a time.
                let (row, column) = ((first + done) / n, (first + done) % n);
                let length = (n - column).min(run.len() - done);
                let a_row = start(a, row / m) + row % m * depth;
                let b_start = start(b, row / m) + column;
                let out = &mut run[done..done + length];
                for k in 0..depth {
                    let factor = a.data[a_row + k];
                    let b_row = &b.data[b_start + k * n..][..length];
                    out.iter_mut().zip(b_row).for_each(|(sum, value)| *sum += factor * value);
                }
                done += length;
            }
        });
        vec![self.product.result(Array { shape: output.shape, dtype: output.dtype, data })]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        self.lowering_strided(inputs, &[None, None], output, capabilities)
    }

    fn strided(&self, _: usize, _: &Strided) -> bool {
        true
    }

    fn lowering_strided(
        &self,
        inputs: &[Meta],
        views: &[Option<Strided>],
        output: &Meta,
        capabilities: &Capabilities,
    ) -> Lowering {
        let rank = output.shape.rank();
        let operand = |k: usize| {
            let view = views[k].clone().unwrap_or_else(|| Strided::contiguous(inputs[k].shape));
            let own = view.shape.rank();
            // Strides of the last four axes; a stretched or missing batch axis has 0.
            let stride = |back: usize| match own.checked_sub(back) {
                Some(axis) if back <= 2 || view.shape[axis] > 1 => view.strides[axis],
                _ => 0,
            };
            let strides = [stride(4), stride(3), stride(2), stride(1)];
            Matrix { input: k, meta: inputs[k], start: view.offset, strides }
        };
        let batch = [4, 3].map(|back| if rank >= back { output.shape[rank - back] } else { 1 });
        let sizes = Sizes {
            rows: output.shape[rank - 2],
            columns: output.shape[rank - 1],
            depth: inputs[0].shape[inputs[0].shape.rank() - 1],
            batches: batch[0] * batch[1],
        };
        let site =
            Site { precision: self.product, sizes, batch, a: operand(0), b: operand(1), output: *output, whole: false };
        one_of(VARIANTS, site, capabilities, |site, (kernel, splits)| match splits {
            1 => Lowering::kernel(kernel),
            _ => split_sum(vec![kernel], splits, &site.output),
        })
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }

    fn variants() -> Vec<&'static str> {
        names(VARIANTS)
    }
}

/// The kernel of a product by the default variant, and the number of parts that it leaves to be added: for ops that are one.
pub(crate) fn product_kernel(site: &Site, name: &'static str, capabilities: &Capabilities) -> (Kernel, usize) {
    default_of(VARIANTS, site, name, capabilities)
}
