//! An op of your own, with a WGSL kernel of your own: each row of a matrix divided by its length, y = x / sqrt(sum x^2 + eps).
//!
//! `cargo run --release --example custom_op` holds it to its f64 reference, checks its gradient, and trains through it.
//! The library's ops are written in the same way; `src/ops/softmax.rs` is one to read next.

#[path = "common/program.rs"]
mod program;

use anyhow::{Result, ensure};
use clap::Parser;
use kiln::kernel::{Binding, Capabilities, Kernel};
use kiln::ops::{Backward, Case, Lowering, Meta, Op, Problem, Tolerance};
use kiln::prelude::*;
use kiln::{Array, Shape, rng::Philox};
use serde_json::json;

/// Checks an op that this program defines, and trains through it.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// One invocation a row. Sizes come in the uniform at binding 15, so a new batch size compiles nothing; a result goes
/// through `epilogue(value, index)`, into which the planner fuses what follows (the `* scale` below).
const SHADER: &str = "
struct Params { rows: u32, length: u32, eps: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    // Workgroups are folded to two dimensions: there may be more of them than one dimension takes.
    let row = (group.x + group.y * groups.x) * 64u + lane;
    if row >= p.rows { return; }
    let first = row * p.length;
    var sum = p.eps;
    for (var j = 0u; j < p.length; j++) { sum += x[first + j] * x[first + j]; }
    let factor = 1.0 / sqrt(sum);
    for (var j = 0u; j < p.length; j++) { y[first + j] = epilogue(x[first + j] * factor, first + j); }
}
";

#[derive(Debug)]
struct NormalizeRows {
    eps: f32,
}

/// What users of the op call. `apply` checks the inputs with `Op::shape`; an error travels in the result.
#[track_caller]
fn normalize_rows(x: &Tensor, eps: f32) -> Tensor {
    Tensor::apply(NormalizeRows { eps }, &[x])
}

impl Op for NormalizeRows {
    fn name(&self) -> &'static str {
        "normalize_rows"
    }

    /// All that the result depends on besides the inputs: plans are found again by it.
    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(u64::from(self.eps.to_bits()));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        match (inputs[0].shape.rank(), inputs[0].dtype) {
            (2, DType::F32) => Ok(vec![inputs[0]]),
            (2, other) => Err(Problem::DType(format!("it takes f32, not {other}"))),
            (rank, _) => Err(Problem::Shape(format!("rows of a tensor of rank {rank}"), "reshape it to a matrix")),
        }
    }

    /// Written in ops, so it needs no kernel: dx = (dy - y sum(y dy)) / sqrt(sum x^2 + eps).
    fn gradient(&self, Backward { inputs, output, grad, .. }: &Backward<'_>) -> Vec<Option<Tensor>> {
        let length = (inputs[0].square().sum_keep(&[1]) + f64::from(self.eps)).sqrt();
        let along = (*output * *grad).sum_keep(&[1]);
        vec![Some((*grad - *output * along) / length)]
    }

    /// Plain loops in f64: the judge of the kernel.
    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut data = inputs[0].data.clone();
        for row in data.chunks_mut(output.shape[1]) {
            let length = (row.iter().map(|x| x * x).sum::<f64>() + f64::from(self.eps)).sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let (rows, length) = (output.shape[0] as u32, output.shape[1] as u32);
        let mut kernel = Kernel::new("normalize_rows", SHADER);
        kernel.bindings = vec![Binding::input(0), Binding::output()];
        kernel.params = vec![rows, length, self.eps.to_bits(), 0];
        kernel.workgroups = u64::from(rows.div_ceil(64));
        kernel.iterations = 2 * u64::from(length);
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    /// Odd sizes, one element, one long row, more rows than a workgroup has lanes.
    fn cases() -> Vec<Case> {
        [[5, 7], [1, 1], [1, 1031], [131, 10]]
            .map(|shape| {
                let case = Case::new(format!("{}x{}", shape[0], shape[1]), |x| normalize_rows(&x[0], 1e-6));
                case.normal(&shape).tolerance(Tolerance::Pointwise { absolute: 4e-6, relative: 4e-6 })
            })
            .into()
    }
}

fn normals(shape: &[usize], rng: &mut Philox) -> Array {
    let shape = Shape::new(shape).expect("a small shape");
    let data = (0..shape.elements()).map(|_| f64::from(rng.normal() as f32)).collect();
    Array { shape, dtype: DType::F32, data }
}

/// Result of a case for `x`, and the gradient of sum(result * weights).
fn run(device: &Device, case: &Case, x: &Array, weights: &Array) -> Result<[Array; 2]> {
    let x = device.array(x).variable();
    let y = (case.build)(std::slice::from_ref(&x));
    let gradients = (&y * device.array(weights)).sum_all().gradients(&[&x])?;
    Ok([y.to_array()?, gradients[0].to_array()?])
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let (device, cpu) = (args.start()?, Device::cpu());
    let mut rng = Philox::new(args.seed, 0);
    for case in NormalizeRows::cases().into_iter().take(args.pick(4, 2)) {
        let [x, weights, step] = [(); 3].map(|()| normals(&case.inputs[0].shape, &mut rng));
        let (got, want) = (run(&device, &case, &x, &weights)?, run(&cpu, &case, &x, &weights)?);
        let Tolerance::Pointwise { absolute, relative } = case.tolerance else { continue };
        let pairs = || got.iter().zip(&want).flat_map(|(got, want)| got.data.iter().zip(&want.data));
        let worst = pairs().map(|(g, w)| (g - w).abs() / (absolute + relative * w.abs())).fold(0.0, f64::max);
        // The gradient rule against a central difference in f64, along `step`.
        let at = |h: f64| -> Result<f64> {
            let data = x.data.iter().zip(&step.data).map(|(x, s)| x + h * s).collect();
            let y = (case.build)(&[cpu.array(&Array { data, ..x.clone() })]).to_array()?;
            Ok(y.data.iter().zip(&weights.data).map(|(y, w)| y * w).sum())
        };
        let slope = (at(1e-5)? - at(-1e-5)?) / 2e-5;
        let rule: f64 = want[1].data.iter().zip(&step.data).map(|(g, s)| g * s).sum();
        println!("case {:8} {worst:.2} of the allowed error; slope {slope:.6}, by the rule {rule:.6}", case.name);
        ensure!(worst <= 1.0 && (slope - rule).abs() <= 1e-6 * (1.0 + slope.abs()), "case {} is wrong", case.name);
    }
    // In a model, like any other op: turn a vector until it points where another does.
    let params = ParamStore::new(&device, args.seed);
    let vector = params.root().param("vector", &[1, 16], Init::Normal { mean: 0.0, deviation: 1.0 });
    let goal = normalize_rows(&device.normal(&[1, 16], 0.0, 1.0, args.seed + 1), 0.0);
    let mut sgd = Sgd::new(&params, SgdConfig { lr: 1.0, momentum: 0.9, ..Default::default() });
    let cosine = || (normalize_rows(&vector.tensor(), 1e-6) * &goal).sum_all();
    println!("cosine before training {:.4}", cosine().item()?);
    for _ in 0..50 {
        sgd.step(&(1.0 - cosine()))?;
    }
    let reached = cosine().item()?;
    println!("cosine after it        {reached:.4}");
    args.finish(json!({ "cosine": reached }))?;
    ensure!(reached > 0.99, "the vector did not turn");
    Ok(())
}
