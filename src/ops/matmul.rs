//! Matrix product, with leading batch axes that broadcast.
//!
//! Operands are read through strides, so a transposed or permuted one is not copied. A long sum over few outputs is split
//! into parts that a second kernel adds in order. Three kernels, all with the same parameters:
//!
//! - `subgroup`: software drivers with 8 lanes. A load there costs as much as 8 scalar ones, so a lane loads a row's
//!   element once and broadcasts it: 18 GFLOP/s where `registers` has 6 (512^3, lavapipe, 2 cores);
//! - `tiled`: workgroup memory, for GPUs. On a software driver its barriers leave 2 GFLOP/s;
//! - `registers`: everything else.
//!
//! Tried and lost on lavapipe: unrolling k by 4 (no gain, 3x the compile time); register tiles above 4 x 8 by 4 in
//! `subgroup` (the driver stops unrolling: 2-4 s compile, 1-3 GFLOP/s); vec4 loads of b (1.0-1.4x, within the noise).

use crate::array::{Array, parallel};
use crate::dtype::DType;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::ops::{Backward, Case, Lowering, Meta, Op, Problem, Tolerance, split_sum};
use crate::plan::Strided;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A kernel of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Loads shared by broadcast among the 8 lanes of a subgroup.
    Subgroup,
    /// A tile of 64 x 64 in workgroup memory.
    Tiled,
    /// A tile in an invocation's registers.
    Registers,
}

/// `[.., m, k] x [.., k, n]`, at most two batch axes.
#[derive(Debug)]
pub struct Matmul {
    /// The kernel to use; `None` chooses by device and shape.
    pub variant: Option<Variant>,
}

impl Tensor {
    /// Matrix product `[.., m, k] x [.., k, n] -> [.., m, n]`, as `torch.matmul`: leading axes are batches and broadcast.
    ///
    /// Both f32, or both f16 (the sum is formed in f32). A transposed or permuted operand costs no copy.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have two axes or more, the inner lengths agree and the batch
    /// axes broadcast, and [`crate::Error::DType`] for other dtypes.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        self.product(other, None)
    }

    #[track_caller]
    fn product(&self, other: &Tensor, variant: Option<Variant>) -> Tensor {
        let (a, b) = (self.dims(), other.dims());
        let op = Matmul { variant };
        let Ok(shape) = result_shape(a, b) else { return Tensor::apply(op, &[self, other]) };
        if self.meta().dtype == DType::F16 && other.meta().dtype == DType::F16 {
            return self.cast(DType::F32).product(&other.cast(DType::F32), variant).cast(DType::F16);
        }
        let rank = shape.rank();
        if b.rank() == 2 && a.rank() > 2 {
            // Batches of rows with one matrix are more rows; the matrix' gradient is then one product too.
            let rows = a[..rank - 1].iter().product();
            return self.reshape(&[rows, a[rank - 1]]).product(other, variant).reshape(&shape);
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

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.variant.map_or(0, |variant| variant as u64 + 1));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Meta, Problem> {
        let [a, b] = [inputs[0], inputs[1]];
        let shape = result_shape(&a.shape, &b.shape)?;
        if a.dtype != DType::F32 || b.dtype != DType::F32 {
            return Err(Problem::DType(format!("it takes two f32 or two f16 tensors, not {} and {}", a.dtype, b.dtype)));
        }
        if shape.rank() > 4 {
            return Err(Problem::Shape(format!("{shape} has more than two batch axes"), "use Tensor::matmul"));
        }
        Ok(Meta { shape, dtype: DType::F32 })
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [a, b] = [&backward.inputs[0], &backward.inputs[1]];
        let dy = backward.grad;
        let turn = |x: &Tensor| x.transpose(x.dims().rank() - 2, x.dims().rank() - 1);
        let product = |a: &Tensor, b: &Tensor| Tensor::apply(Matmul { variant: self.variant }, &[a, b]);
        // The gradient of a permuted operand is permuted back: formed transposed, it ends up in row-major order.
        let permuted = |x: &Tensor| x.node().name() == "permute";
        let da = || if permuted(a) { turn(&product(b, &turn(dy))) } else { product(dy, &turn(b)) };
        let db = || if permuted(b) { turn(&product(&turn(dy), a)) } else { product(&turn(a), dy) };
        vec![
            backward.needs[0].then(|| da().sum_to(a.dims())),
            backward.needs[1].then(|| db().sum_to(b.dims())),
        ]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Array {
        let [a, b] = [inputs[0], inputs[1]];
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
        Array { shape: output.shape, dtype: output.dtype, data }
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
            (view.offset, [stride(4), stride(3), stride(2), stride(1)])
        };
        let batch = |back: usize| if rank >= back { output.shape[rank - back] } else { 1 };
        let sizes = Sizes {
            rows: output.shape[rank - 2],
            columns: output.shape[rank - 1],
            depth: inputs[0].shape[inputs[0].shape.rank() - 1],
            batches: batch(4) * batch(3),
        };
        let ((a_start, a), (b_start, b)) = (operand(0), operand(1));
        let tile = Tile::choose(self.variant, &sizes, capabilities);
        let (splits, split_depth) = tile.splits(&sizes, capabilities.software);
        let shader = match tile.variant {
            Variant::Subgroup => include_str!("../../shaders/matmul_subgroup.wgsl"),
            Variant::Tiled => include_str!("../../shaders/matmul_tiled.wgsl"),
            Variant::Registers => include_str!("../../shaders/matmul_registers.wgsl"),
        };
        let (name, constants) = match tile.variant {
            Variant::Subgroup => {
                let [rows, columns] = tile.each;
                ("matmul.subgroup", format!("const ROW_LOADS: u32 = {rows}u;\nconst COLUMNS: u32 = {columns}u;\n"))
            }
            Variant::Tiled => {
                // Neighbours load neighbouring elements: along k where that is the contiguous axis.
                let along = [a[3] == 1, b[2] == 1 && b[3] != 1];
                let [a, b] = along;
                let text = format!("const A_DEPTH_CONTIGUOUS: bool = {a};\nconst B_DEPTH_CONTIGUOUS: bool = {b};\n");
                ("matmul.tiled", text)
            }
            Variant::Registers => {
                let ([rows, columns], [y, x]) = (tile.each, tile.group);
                let text = format!(
                    "const ROWS: u32 = {rows}u;\nconst COLUMNS: u32 = {columns}u;\n\
                     const GROUP_X: u32 = {x}u;\nconst GROUP_Y: u32 = {y}u;\n"
                );
                ("matmul.registers", text)
            }
        };
        let mut kernel = Kernel::own(name, constants + shader);
        kernel.bindings = vec![Binding::input(0), Binding::input(1), Binding::output()];
        let sizes_words = [sizes.rows, sizes.columns, sizes.depth, batch(4), batch(3), splits, split_depth];
        let words = [&sizes_words[..], &a, &b, &[a_start, b_start]].concat();
        kernel.params = words.into_iter().map(|word| word as u32).collect();
        kernel.workgroups = (tile.count(&sizes) * splits) as u64;
        kernel.iterations = tile.iterations(split_depth.min(sizes.depth));
        kernel.epilogue = true;
        if splits == 1 { Lowering::kernel(kernel) } else { split_sum(vec![kernel], splits, output) }
    }

    fn cases() -> Vec<Case> {
        cases()
    }
}

struct Sizes {
    rows: usize,
    columns: usize,
    depth: usize,
    batches: usize,
}

/// A variant with its tile: `each` is the constants' tile of an invocation (row loads for `subgroup`), rows first.
struct Tile {
    variant: Variant,
    each: [usize; 2],
    group: [usize; 2],
}

impl Tile {
    /// Classes of shapes are wide, so that another batch size rarely means another pipeline.
    fn choose(wanted: Option<Variant>, sizes: &Sizes, capabilities: &Capabilities) -> Tile {
        let lanes = capabilities.subgroup == Some(8);
        let thin = sizes.rows.min(sizes.columns) <= 4;
        let variant = match wanted {
            Some(Variant::Subgroup) if !lanes => Variant::Registers,
            Some(variant) => variant,
            None if capabilities.software && lanes => Variant::Subgroup,
            None if !capabilities.software && sizes.rows.min(sizes.columns) >= 32 => Variant::Tiled,
            None => Variant::Registers,
        };
        let (each, group) = match (variant, capabilities.software) {
            (Variant::Subgroup, _) if thin => ([1, 2], [8, 8]),
            (Variant::Subgroup, _) => ([4, 4], [8, 8]),
            (Variant::Tiled, _) => ([4, 4], [16, 16]),
            (Variant::Registers, true) => ([8, 8], [1, 8]),
            (Variant::Registers, false) if thin => ([1, 1], [16, 16]),
            (Variant::Registers, false) => ([4, 4], [4, 16]),
        };
        Tile { variant, each, group }
    }

    /// Tiles of the whole product, batches included.
    fn count(&self, sizes: &Sizes) -> usize {
        let [rows, columns] = [0, 1].map(|axis| self.each[axis] * self.group[axis]);
        sizes.rows.div_ceil(rows) * sizes.columns.div_ceil(columns) * sizes.batches
    }

    /// Parts of the sum over k, and the length of each.
    fn splits(&self, sizes: &Sizes, software: bool) -> (usize, usize) {
        // The loop bound of an invocation, see `iterations`.
        let longest = if self.variant == Variant::Tiled { 40_000 } else { 56_000 };
        let count = self.count(sizes);
        // A software driver has a few cores and pays for each dispatch; a GPU wants some hundred workgroups.
        let (enough, shortest) = if software { (4, 2048) } else { (256, 256) };
        let wanted = if count < enough { (enough / count).min(sizes.depth / shortest).max(1) } else { 1 };
        let split_depth = sizes.depth.div_ceil(wanted.max(sizes.depth.div_ceil(longest)));
        match split_depth >= sizes.depth {
            true => (1, sizes.depth),
            false => {
                let split_depth = split_depth.next_multiple_of(16);
                (sizes.depth.div_ceil(split_depth), split_depth)
            }
        }
    }

    fn iterations(&self, depth: usize) -> u64 {
        let steps = if self.variant == Variant::Tiled { depth.div_ceil(16) * 21 + 8 } else { depth + 64 };
        steps as u64
    }
}

fn cases() -> Vec<Case> {
    fn case(name: impl Into<String>, a: &[usize], b: &[usize], build: fn(&Tensor, &Tensor) -> Tensor) -> Case {
        let terms = a.iter().chain(b).copied().max().unwrap_or(1);
        let sum = Tolerance::Sum { terms };
        // Stretched batches are summed in the gradient.
        let batches = a.iter().rev().skip(2).chain(b.iter().rev().skip(2)).product::<usize>();
        let case = Case::new(name, move |x| build(&x[0], &x[1])).normal(a).normal(b).tolerance(sum);
        case.gradient_tolerance(Tolerance::Sum { terms: terms * batches })
    }
    let plain: fn(&Tensor, &Tensor) -> Tensor = |a, b| a.matmul(b);
    let mut cases = vec![
        case("37x131x75", &[37, 131], &[131, 75], plain),
        case("one_by_one", &[1, 1], &[1, 1], plain),
        case("outer", &[37, 1], &[1, 131], plain),
        case("inner", &[1, 131], &[131, 1], plain),
        case("row", &[1, 131], &[131, 37], plain),
        case("column", &[131, 37], &[37, 1], plain),
        case("left_transposed", &[131, 37], &[131, 75], |a, b| a.transpose(0, 1).matmul(b)),
        case("right_transposed", &[37, 131], &[75, 131], |a, b| a.matmul(&b.transpose(0, 1))),
        case("both_transposed", &[131, 37], &[75, 131], |a, b| a.transpose(0, 1).matmul(&b.transpose(0, 1))),
        case("split", &[5, 4099], &[4099, 7], plain),
        case("split_long", &[2, 60_001], &[60_001, 3], plain),
        case("batched", &[3, 37, 5], &[3, 5, 11], plain),
        case("rows_folded", &[3, 5, 37], &[37, 11], plain),
        case("batch_broadcast", &[5, 1, 7, 11], &[3, 11, 13], plain),
        case("left_broadcast", &[7, 11], &[2, 3, 11, 5], plain),
        case("three_batch_axes", &[2, 1, 3, 5, 7], &[2, 2, 1, 7, 4], plain),
        case("heads", &[2, 5, 3, 7], &[2, 11, 3, 7], |q, k| {
            q.permute(&[0, 2, 1, 3]).matmul(&k.permute(&[0, 2, 3, 1]))
        }),
        case("slice", &[9, 37], &[37, 11], |a, b| a.slice(0, 2, 5).matmul(&b.slice_fixed(1, 3, 7))),
    ];
    let epilogue = case("epilogue", &[37, 13], &[13, 75], |a, b| (a.matmul(b) + 1.0).relu().transpose(0, 1));
    // The relu of a sum near zero falls either way: a bound on its own size.
    cases.push(epilogue.tolerance(Tolerance::Pointwise { absolute: 1e-4, relative: 1e-5 }));
    let half = Case::new("f16", |x| x[0].matmul(&x[1]));
    let half = half.input(&[37, 19], DType::F16, crate::ops::Draw::Normal).input(&[19, 11], DType::F16, crate::ops::Draw::Normal);
    // One rounding to 11 bits.
    let half = half.tolerance(Tolerance::Pointwise { absolute: 1e-3, relative: 1e-3 });
    cases.push(half.not_differentiable());
    for (variant, name) in
        [(Variant::Registers, "registers"), (Variant::Tiled, "tiled"), (Variant::Subgroup, "subgroup")]
    {
        let forced = |label: &str, a: &[usize], b: &[usize], turn: bool| {
            let mut case = case(format!("{name}_{label}"), a, b, plain);
            case.build = std::sync::Arc::new(move |x| {
                let b = if turn { x[1].transpose(0, 1) } else { x[1].clone() };
                x[0].product(&b, Some(variant))
            });
            case
        };
        cases.push(forced("37x131x75", &[37, 131], &[131, 75], false));
        cases.push(forced("turned", &[67, 35], &[131, 35], true));
        cases.push(forced("split", &[3, 5003], &[5003, 5], false));
    }
    cases
}
