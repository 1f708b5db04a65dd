//! Kernels that go along an axis and write what all elements up to each one make: running sums, products, extremes.
//!
//! One invocation a row; few or long rows are taken in runs: their states, the states before each, then the states from there.
//! How a row is cut depends on the shape alone, so every device combines in one order.

pub mod extreme;
pub mod log_sum_exp;
pub mod product;
pub mod recurrence;

use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Kernel, Shader};
use crate::layout::Meta;
use crate::op::Lowering;
use crate::ops::rows::{Bound, Rows};
use crate::ops::shared::check_axis;
use crate::shader::{File, Item, params};
use crate::shaders::scan::{BEFORE, ROWS, TOTALS, WRITE};

pub use extreme::Cumextreme;
pub use log_sum_exp::Logcumsumexp;
pub use product::Cumprod;
pub use recurrence::Recurrence;

/// Rows from this many on, of at most [`MOST`] elements, are taken whole.
const MANY: usize = 1024;
/// Shorter rows are taken whole, however few.
const SHORT: usize = 512;
/// Elements that an invocation takes at most; its square bounds the length of a row.
const MOST: usize = 50_000;

/// Elements of a run: about as many as there are runs, so that what the runs make takes no longer than forming it.
fn part(rows: &Rows) -> usize {
    match rows.length < SHORT || rows.rows >= MANY && rows.length <= MOST {
        true => rows.length,
        false => rows.length.isqrt() + 1,
    }
}

params! {
    struct Sizes {
        rows,
        /// Elements of a row.
        length,
        /// How far those are apart.
        stride,
        /// Elements of a run.
        part,
        /// Runs of a row.
        parts,
        /// Zero: keeps compilers from folding an infinity into the text, which WGSL forbids.
        zero,
    }
}

/// What an op brings to the kernels: see `shaders/scan/rows.wgsl`.
pub(crate) struct Program {
    /// Name of the op.
    pub name: &'static str,
    /// The type of a state, and functions.
    pub shader: Shader,
    /// Words of a state.
    pub words: usize,
    /// True to begin at the end.
    pub reverse: bool,
    /// What is read besides input 0, which comes through the prologue.
    pub reads: Vec<Bound>,
    /// Results, the first of which goes through the epilogue.
    pub writes: Vec<Bound>,
}

/// `Err` unless the axis is one and not too long.
pub(crate) fn check(axis: usize, input: &Meta) -> Result<(), Problem> {
    check_axis(axis, input.shape.rank())?;
    if input.shape[axis] >= MOST * MOST {
        let what = format!("axis {axis} of shape {}", input.shape);
        return Err(Problem::Shape(what, "take at most 2.5e9 elements along an axis"));
    }
    Ok(())
}

/// The order in which elements of a row are taken.
pub(crate) fn positions(rows: &Rows, row: usize, reverse: bool) -> Vec<usize> {
    let mut places: Vec<usize> = rows.positions(row).collect();
    if reverse {
        places.reverse();
    }
    places
}

/// The kernels of `program` over `rows`.
pub(crate) fn kernels(rows: &Rows, program: &Program) -> Lowering {
    let part = part(rows);
    let parts = rows.length.div_ceil(part);
    let kernel = |name: String, file: &'static File, invocations: usize| {
        let shader = Shader::of(&[&ROWS, file]).constant("REVERSE", program.reverse);
        let mut kernel = Kernel::own(name, shader.join(program.shader.clone()));
        kernel.uniform(Sizes { rows: rows.rows, length: rows.length, stride: rows.stride, part, parts, zero: 0 });
        kernel.workgroups = (invocations as u64).div_ceil(64);
        kernel.iterations = part.max(parts) as u64;
        kernel.flops = (rows.rows * rows.length) as u64;
        kernel
    };
    let bind = |kernel: &mut Kernel, bound: &[Bound]| {
        bound.iter().for_each(|&(binding, name, element)| kernel.bind(binding, name, element));
    };
    // Reads its input by `prologue`.
    let over_runs = |name: String, file: &'static File| {
        let mut kernel = kernel(name, file, rows.rows * parts);
        kernel.prologue = true;
        kernel.bindings.push(Binding::input(0));
        bind(&mut kernel, &program.reads);
        kernel
    };
    let mut write = over_runs(program.name.to_string(), &WRITE);
    write.epilogue = true;
    bind(&mut write, &program.writes);
    let is_whole = parts == 1;
    let value = if is_whole { "$initial$()" } else { "$states$[run]" };
    let before = format!("fn $before$(run: u32) -> $T$ {{\n    return {value};\n}}\n");
    write.shader.items.push(Item::new("before", before));
    if is_whole {
        return Lowering::kernel(write);
    }
    write.bind(Binding::read(0), "states", "$T$");
    let mut totals = over_runs(format!("{}.totals", program.name), &TOTALS);
    totals.bind(Binding::write(0), "states", "$T$");
    let mut before = kernel(format!("{}.before", program.name), &BEFORE, rows.rows);
    before.bind(Binding::write(0), "states", "$T$");
    // Those two write no results and read no elements beyond their own.
    for kernel in [&mut totals, &mut before] {
        kernel.shader.items.retain(|item| item.name != "store");
    }
    before.shader.items.retain(|item| item.name != "element");
    // The planner says what these are where it fuses.
    for (name, kind) in [("F", "f32"), ("I", "i32"), ("U", "u32")] {
        before.shader.items.push(Item::alias(name, kind));
    }
    Lowering::Kernels { kernels: vec![totals, before, write], temporaries: vec![rows.rows * parts * program.words] }
}

/// The kernels of running sums, or of running products.
pub(crate) fn numbers(name: &'static str, is_product: bool, reverse: bool, axis: usize, output: &Meta) -> Lowering {
    // The planner says what a float is stored as; see `epilogue` in the shader.
    let (number, out) = match output.dtype {
        DType::F32 | DType::F16 => ("f32", "$OUT$"),
        DType::I32 => ("i32", "i32"),
        DType::U32 | DType::Bool => ("u32", "u32"),
    };
    let program = Program {
        name,
        shader: Shader::of(&[&crate::shaders::scan::NUMBERS]).alias("T", number).constant("PRODUCT", is_product),
        words: 1,
        reverse,
        reads: vec![],
        writes: vec![(Binding::output(), "result", out)],
    };
    kernels(&Rows::along(&output.shape, axis), &program)
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Error};

    #[test]
    fn an_axis_beyond_the_rank_and_booleans_are_refused() {
        let x = Device::cpu().zeros(&[2, 3]);
        assert!(matches!(x.cumprod(2).error(), Some(Error::Axis { op: "cumprod", .. })));
        assert!(matches!(x.cummin(-3)[1].error(), Some(Error::Axis { op: "cummin", .. })));
        assert!(matches!(x.cast(DType::Bool).cummax(0)[0].error(), Some(Error::DType { op: "cummax", .. })));
        assert!(matches!(x.cast(DType::I32).logcumsumexp(0).error(), Some(Error::DType { .. })));
    }

    #[test]
    fn second_derivatives_of_products_hold_at_zeros() {
        let x = Device::cpu().tensor(&[2.0f32, 0.0, 3.0, 5.0], &[4]).variable();
        let y = x.prod_all();
        let first = y.gradients(&[&x]).unwrap().remove(0);
        assert_eq!(first.to_vec::<f32>().unwrap(), [0.0, 30.0, 0.0, 0.0]);
        // d/dx of 30, with the others for x_1: 15, -, 10, 6.
        let second = first.slice(0, 1, 1).sum_all().gradients(&[&x]).unwrap().remove(0);
        assert_eq!(second.to_vec::<f32>().unwrap(), [15.0, 0.0, 10.0, 6.0]);
        let third = first.slice(0, 0, 1).sum_all().gradients(&[&x]).unwrap().remove(0);
        assert_eq!(third.to_vec::<f32>().unwrap(), [0.0, 15.0, 0.0, 0.0]);
    }
}
