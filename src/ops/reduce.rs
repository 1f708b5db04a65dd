//! Sum, mean, maximum and minimum over any axes, and variance made of them.
//!
//! One kernel for all: each output is formed by one or more invocations in a fixed order, so results are the same bits
//! in every run. Pointwise ops before a reduction run inside it.

use crate::array::{Array, offsets};
use crate::dtype::DType;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::ops::{Backward, Case, Draw, Lowering, Meta, Op, Problem, Tolerance, check_axis};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// What a reduction forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sum.
    Sum,
    /// Sum over number.
    Mean,
    /// Largest; NaN if there is one.
    Max,
    /// Smallest; NaN if there is one.
    Min,
}

/// Reduction of `axes`, which stay with length 1.
#[derive(Debug)]
pub struct Reduce {
    /// What is formed.
    pub kind: Kind,
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $plain:ident $keep:ident $all:ident $kind:ident;)+) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// `axes` are removed. The result carries [`crate::Error::Axis`] for an axis out of range.
            #[track_caller]
            pub fn $plain(&self, axes: &[usize]) -> Tensor {
                self.reduce(Kind::$kind, axes, false)
            }

            #[doc = concat!("As [`Tensor::", stringify!($plain), "`], but `axes` stay with length 1.")]
            #[track_caller]
            pub fn $keep(&self, axes: &[usize]) -> Tensor {
                self.reduce(Kind::$kind, axes, true)
            }

            #[doc = concat!("As [`Tensor::", stringify!($plain), "`] over all axes: a scalar.")]
            #[track_caller]
            pub fn $all(&self) -> Tensor {
                self.reduce(Kind::$kind, &(0..self.dims().rank()).collect::<Vec<_>>(), false)
            }
        )+ }
    };
}

reductions! {
    /// Sum of the elements along `axes`.
    sum sum_keep sum_all Sum;
    /// Mean of the elements along `axes`.
    mean mean_keep mean_all Mean;
    /// Largest element along `axes`; NaN if there is one. The gradient goes to the first of equal elements.
    max max_keep max_all Max;
    /// Smallest element along `axes`; NaN if there is one. The gradient goes to the first of equal elements.
    min min_keep min_all Min;
}

impl Tensor {
    /// Variance along `axes`, which are removed, with `correction` degrees of freedom taken off (1: unbiased, 0: biased),
    /// as `torch.var`.
    #[track_caller]
    pub fn var(&self, axes: &[usize], correction: usize) -> Tensor {
        let count: usize = axes.iter().filter_map(|&axis| self.dims().get(axis)).product();
        let centred = self - self.mean_keep(axes);
        // One element and a correction of 1 divide by zero, as in PyTorch.
        centred.square().sum(axes).scale(1.0 / (count as f64 - correction as f64).max(0.0))
    }

    #[track_caller]
    fn reduce(&self, kind: Kind, axes: &[usize], keep: bool) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        let shape = *self.dims();
        let reduced = Tensor::apply(Reduce { kind, axes: axes.clone() }, &[&self.widen()]);
        let reduced = match kind {
            _ if reduced.error().is_some() => reduced,
            Kind::Sum | Kind::Mean => reduced.result_of(self),
            Kind::Max | Kind::Min => reduced.cast(self.meta().dtype),
        };
        if keep || reduced.error().is_some() {
            return reduced;
        }
        let left: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
        reduced.reshape(&left)
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sum => "sum",
            Kind::Mean => "mean",
            Kind::Max => "max",
            Kind::Min => "min",
        }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend(self.axes.iter().map(|&axis| axis as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Meta, Problem> {
        let Meta { shape, dtype } = inputs[0];
        self.axes.iter().try_for_each(|&axis| check_axis(axis, shape.rank()))?;
        if self.axes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Problem::Shape(format!("an axis is named twice in {:?}", self.axes), "name each axis once"));
        }
        if dtype == DType::Bool || (self.kind == Kind::Mean && !dtype.is_float()) {
            return Err(Problem::DType(format!("it is not defined for {dtype}")));
        }
        Ok(Meta { shape: shape.keep(&self.axes), dtype })
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let input = &backward.inputs[0];
        let shape = *input.dims();
        let spread = backward.grad.expand(&shape);
        let count: usize = self.axes.iter().map(|&axis| shape[axis]).product();
        vec![Some(match self.kind {
            Kind::Sum => spread,
            Kind::Mean => spread.scale(1.0 / count as f64),
            Kind::Max | Kind::Min => {
                let signed = if self.kind == Kind::Max { input.clone() } else { -input };
                let first = signed.argmax_axes(&self.axes);
                // Position of each element among those it is reduced with.
                let mut dims = vec![1; shape.rank()];
                self.axes.iter().for_each(|&axis| dims[axis] = shape[axis]);
                let place = input.device().arange(count, DType::U32).reshape(&dims);
                place.eq(&first).where_(&spread, &input.scalar(0.0))
            }
        })]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Array {
        let input = inputs[0];
        let (kept, reduced) = offsets(&input.shape, &self.axes);
        let count = reduced.len() as f64;
        Array::build(output.shape, output.dtype, |o| {
            let values = reduced.iter().map(|r| input.data[kept[o] + r]);
            match self.kind {
                Kind::Sum => values.sum(),
                Kind::Mean => values.sum::<f64>() / count,
                Kind::Max => values.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b < a { a } else { b }),
                Kind::Min => values.fold(f64::INFINITY, |a, b| if a.is_nan() || b > a { a } else { b }),
            }
        })
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let layout = Layout::new(&inputs[0].shape, &self.axes);
        let outputs = output.elements();
        let reduced = inputs[0].elements() / outputs;
        let parts = parts(outputs, reduced, capabilities.software);
        let scale = if self.kind == Kind::Mean { 1.0 / reduced as f64 } else { 1.0 };
        let whole = |kernel: Kernel| Lowering::kernel(kernel);
        if parts == 1 {
            return whole(self.kernel(inputs[0].dtype, &layout, outputs, reduced, 1, scale, false));
        }
        let mut first = self.kernel(inputs[0].dtype, &layout, outputs, reduced, parts, 1.0, true);
        first.bindings[1] = Binding::write(0);
        let across = Layout { kept: vec![(outputs, 1)], reduced: vec![(parts, outputs)] };
        let mut second = self.kernel(inputs[0].dtype, &across, outputs, parts, 1, scale, false);
        second.prologue = false;
        second.bindings[0] = Binding::read(0);
        second.source = format!(
            "@group(0) @binding(0) var<storage, read> partial: array<V>;\n\
             fn prologue(index: u32) -> V {{\n    return partial[index];\n}}\n{}",
            second.source
        );
        Lowering::Kernels { kernels: vec![first, second], temporaries: vec![outputs * parts] }
    }

    fn cases() -> Vec<Case> {
        let mut cases = vec![];
        type Method = fn(&Tensor, &[usize]) -> Tensor;
        let methods: [(&str, Method); 4] =
            [("sum", Tensor::sum), ("mean", Tensor::mean), ("max", Tensor::max), ("min", Tensor::min)];
        let shapes: [(&str, &[usize], &[usize]); 7] = [
            ("last", &[37, 131], &[1]),
            ("first", &[131, 37], &[0]),
            ("channels", &[3, 5, 7, 2], &[0, 2, 3]),
            ("ends", &[3, 5, 7], &[0, 2]),
            ("all", &[37, 5], &[0, 1]),
            ("one", &[1, 37], &[0]),
            ("long", &[2, 5003], &[1]),
        ];
        for (name, method) in methods {
            for (label, shape, axes) in shapes {
                let terms: usize = axes.iter().map(|&axis| shape[axis]).product();
                let extreme = matches!(name, "max" | "min");
                let case = Case::new(format!("{name}_{label}"), move |x| method(&x[0], axes));
                let draw = if extreme { Draw::Distinct } else { Draw::Normal };
                let case = case.input(shape, DType::F32, draw);
                cases.push(case.tolerance(if extreme { Tolerance::Exact } else { Tolerance::Sum { terms } }));
            }
        }
        cases.push(
            Case::new("sum_i32", |x| x[0].sum(&[1]))
                .input(&[37, 131], DType::I32, Draw::Below(1000))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        );
        cases.push(Case::new("sum_of_products", |x| (&x[0] * &x[1]).exp().sum(&[0])).normal(&[131, 5]).normal(&[5]).tolerance(
            // The terms are exponentials of products of normals: up to e^9, so the bound is relative.
            Tolerance::Pointwise { absolute: 1e-5, relative: 2e-5 },
        ));
        cases.push(Case::new("variance", |x| x[0].var(&[0, 2], 1))
                .normal(&[5, 3, 37])
                // Differences from the mean: the error is that of numbers of size 1.
                .tolerance(Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 }),
        );
        cases.push(
            Case::new("sum_strided", |x| x[0].permute(&[1, 0]).sum(&[0]))
                .normal(&[37, 131])
                .tolerance(Tolerance::Sum { terms: 131 }),
        );
        cases
    }
}

impl Reduce {
    #[allow(clippy::too_many_arguments)]
    fn kernel(
        &self,
        dtype: DType,
        layout: &Layout,
        outputs: usize,
        reduced: usize,
        parts: usize,
        scale: f64,
        partial: bool,
    ) -> Kernel {
        let value = match dtype {
            DType::F32 | DType::F16 => "f32",
            DType::I32 => "i32",
            DType::U32 | DType::Bool => "u32",
        };
        let (combine, initial) = match (self.kind, value) {
            (Kind::Sum | Kind::Mean, _) => ("a + b", "V(0)"),
            (Kind::Max, "f32") => ("with_nan(max(a, b), a, b)", "bitcast<f32>(0xff800000u + p.zero)"),
            (Kind::Min, "f32") => ("with_nan(min(a, b), a, b)", "bitcast<f32>(0x7f800000u + p.zero)"),
            (Kind::Max, "i32") => ("max(a, b)", "i32(-2147483648)"),
            (Kind::Min, "i32") => ("min(a, b)", "2147483647i"),
            (Kind::Max, _) => ("max(a, b)", "0u"),
            (Kind::Min, _) => ("min(a, b)", "4294967295u"),
        };
        let finish = if value == "f32" && self.kind == Kind::Mean { "total * bitcast<f32>(p.scale)" } else { "total" };
        let store = if partial {
            "result[part * p.outputs + o] = total;".to_string()
        } else {
            format!("result[o] = epilogue({finish}, o);")
        };
        let mut words = vec![outputs as u32, reduced as u32, parts as u32, (scale as f32).to_bits(), 0];
        let mut members = String::from("    outputs: u32,\n    reduced: u32,\n    parts: u32,\n    scale: u32,\n    zero: u32,\n");
        let mut index = |axes: &[(usize, usize)], name: &str| {
            let mut terms = vec![];
            let mut below = 1;
            for (place, &(dim, stride)) in axes.iter().enumerate().rev() {
                let mut word = |value: usize| {
                    let k = words.len();
                    words.push(value as u32);
                    members.push_str(&format!("    w{k}: u32,\n"));
                    format!("p.w{k}")
                };
                let mut term = name.to_string();
                if below > 1 {
                    term = format!("{term} / {}", word(below));
                }
                if place > 0 {
                    term = format!("({term}) % {}", word(dim));
                }
                if stride != 1 {
                    term = format!("({term}) * {}", word(stride));
                }
                terms.push(term);
                below *= dim;
            }
            if terms.is_empty() { "0u".to_string() } else { terms.join(" + ") }
        };
        let kept = index(&layout.kept, "o");
        let within = index(&layout.reduced, "r");
        let part_fastest = layout.reduced.last().is_some_and(|&(_, stride)| stride == 1);
        let nan = if combine.contains("with_nan") {
            "fn nan(x: f32) -> bool {\n    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;\n}\n\
             fn with_nan(result: f32, a: f32, b: f32) -> f32 {\n    return select(select(result, b, nan(b)), a, nan(a));\n}\n"
        } else {
            ""
        };
        let source = format!(
            "alias V = {value};\nconst PARTIAL: bool = {partial};\nconst PART_FASTEST: bool = {part_fastest};\n\
             struct Params {{\n{members}}}\n{nan}\
             fn combine(a: V, b: V) -> V {{\n    return {combine};\n}}\n\
             fn initial() -> V {{\n    return {initial};\n}}\n\
             @group(0) @binding(1) var<storage, read_write> result: array<V>;\n\
             fn store(total: V, part: u32, o: u32) {{\n    {store}\n}}\n\
             fn kept_index(o: u32) -> u32 {{\n    return {kept};\n}}\n\
             fn reduced_index(r: u32) -> u32 {{\n    return {within};\n}}\n{}",
            include_str!("../../shaders/reduce.wgsl")
        );
        let mut kernel = Kernel::own(format!("{}{}", self.name(), if partial { ".parts" } else { "" }), source);
        kernel.bindings = vec![Binding::input(0), Binding::output()];
        kernel.params = words;
        kernel.workgroups = ((outputs * parts) as u64).div_ceil(64);
        kernel.iterations = (reduced / (4 * parts)) as u64 + 4;
        kernel.prologue = true;
        kernel.epilogue = !partial;
        kernel.flops = (outputs * reduced) as u64;
        kernel
    }
}

/// Kept and reduced axes as (length, stride), neighbours merged.
struct Layout {
    kept: Vec<(usize, usize)>,
    reduced: Vec<(usize, usize)>,
}

impl Layout {
    fn new(shape: &Shape, axes: &[usize]) -> Layout {
        let strides = shape.strides();
        let side = |wanted: bool| {
            let mut merged: Vec<(usize, usize)> = vec![];
            for axis in (0..shape.rank()).filter(|axis| axes.contains(axis) == wanted && shape[*axis] > 1) {
                match merged.last_mut() {
                    Some(last) if last.1 == shape[axis] * strides[axis] => *last = (last.0 * shape[axis], strides[axis]),
                    _ => merged.push((shape[axis], strides[axis])),
                }
            }
            merged
        };
        Layout { kept: side(false), reduced: side(true) }
    }
}

/// How many invocations share an output: enough to fill the device, each with enough to do.
///
/// On software drivers a second dispatch costs as much as some 100,000 additions.
fn parts(outputs: usize, reduced: usize, software: bool) -> usize {
    let (target, least) = if software { (1024, 8192) } else { (16_384, 64) };
    let wanted = (target / outputs).min(reduced / least).max(1);
    // The loop bound of software drivers: at most 4 x 50,000 terms an invocation.
    wanted.max(reduced.div_ceil(200_000))
}
