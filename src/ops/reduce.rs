//! Sum, product, mean, maximum and minimum over any axes.
//!
//! One kernel for all: each output is formed by one or more invocations in a fixed order, so results are the same bits
//! in every run. Pointwise ops before a reduction run inside it. Where the last axis divides by four, four terms of an
//! output, or one each of four outputs, are read at a time, and where a term lies is stepped, not divided
//! (`docs/software-drivers.md`, "reduce").

mod layout;

use layout::{Lanes, Layout, VECTORS, Words, index, walk};

use crate::array::{Array, offsets};
use crate::costs::{Costs, Parts};
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::{Meta, Run, Strided};
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::shared::{check_axis, each};
use crate::shader::{Item, params};
use crate::shaders;
use crate::shape::Axes;
use crate::tensor::Tensor;

/// What a reduction forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sum.
    Sum,
    /// Product.
    Prod,
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
            pub fn $plain(&self, axes: impl Axes) -> Tensor {
                self.reduce(Kind::$kind, axes.of(self.dims().rank()), false)
            }

            #[doc = concat!("As [`Tensor::", stringify!($plain), "`], but `axes` stay with length 1.")]
            #[track_caller]
            pub fn $keep(&self, axes: impl Axes) -> Tensor {
                self.reduce(Kind::$kind, axes.of(self.dims().rank()), true)
            }

            #[doc = concat!("As [`Tensor::", stringify!($plain), "`] over all axes: a scalar.")]
            #[track_caller]
            pub fn $all(&self) -> Tensor {
                self.reduce(Kind::$kind, (0..self.dims().rank()).collect(), false)
            }
        )+ }
    };
}

reductions! {
    /// Sum of the elements along `axes`; integers wrap. The sum of booleans is i32: how many are true.
    sum sum_keep sum_all Sum;
    /// Product of the elements along `axes`; integers wrap, and that of booleans is i32. The gradient divides by nothing, so that it
    /// is right where elements are 0.
    prod prod_keep prod_all Prod;
    /// Mean of the elements along `axes`.
    mean mean_keep mean_all Mean;
    /// Largest element along `axes`; NaN if there is one; of booleans, whether any is true. The gradient goes to the first of equal
    /// elements.
    max max_keep max_all Max;
    /// Smallest element along `axes`; NaN if there is one; of booleans, whether all are true. The gradient goes to the first of equal
    /// elements.
    min min_keep min_all Min;
}

impl Tensor {
    #[track_caller]
    fn reduce(&self, kind: Kind, mut axes: Vec<usize>, keep: bool) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        axes.sort_unstable();
        let shape = *self.dims();
        let is_bool = self.meta().dtype == DType::Bool;
        let taken = match kind {
            Kind::Sum | Kind::Prod if is_bool => self.cast(DType::I32),
            Kind::Max | Kind::Min if is_bool => self.cast(DType::U32),
            _ => self.widen(),
        };
        let reduced = Tensor::apply(Reduce { kind, axes: axes.clone() }, &[&taken]);
        let reduced = match kind {
            _ if reduced.error().is_some() => reduced,
            Kind::Sum | Kind::Prod if is_bool => reduced,
            Kind::Sum | Kind::Prod | Kind::Mean => reduced.result_of(self),
            Kind::Max | Kind::Min => reduced.cast(self.meta().dtype),
        };
        if keep || reduced.error().is_some() {
            return reduced;
        }
        let left: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
        reduced.reshape(&left)
    }
}

/// The product of all other elements along `axes`, for each one.
fn others(x: &Tensor, axes: &[usize]) -> Tensor {
    match axes {
        [] => x.ones_like(),
        &[axis] => x.products_of_others(axis),
        axes => x.with_axes_last(axes, |rows| rows.products_of_others(1)),
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Sum => "sum",
            Kind::Prod => "prod",
            Kind::Mean => "mean",
            Kind::Max => "max",
            Kind::Min => "min",
        }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend(self.axes.iter().map(|&axis| axis as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        self.axes.iter().try_for_each(|&axis| check_axis(axis, shape.rank()))?;
        if self.axes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Problem::Shape(format!("an axis is named twice in {:?}", self.axes), "name each axis once"));
        }
        if dtype == DType::Bool || (self.kind == Kind::Mean && !dtype.is_float()) {
            return Err(Problem::DType(format!("it is not defined for {dtype}")));
        }
        Ok(vec![Meta { shape: shape.keep(&self.axes), dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let input = &backward.inputs[0];
        let shape = *input.dims();
        let spread = backward.grad.expand(&shape);
        let count: usize = self.axes.iter().map(|&axis| shape[axis]).product();
        vec![Some(match self.kind {
            Kind::Sum => spread,
            Kind::Prod => spread * others(input, &self.axes),
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

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let input = inputs[0];
        let (kept, reduced) = offsets(&input.shape, &self.axes);
        let count = reduced.len() as f64;
        vec![Array::build(output.shape, output.dtype, |o| {
            let values = reduced.iter().map(|r| input.data[kept[o] + r]);
            match self.kind {
                Kind::Sum if output.dtype.is_integer() => {
                    output.dtype.wrap(values.fold(0i64, |sum, x| sum.wrapping_add(x as i64)))
                }
                Kind::Prod if output.dtype.is_integer() => {
                    output.dtype.wrap(values.fold(1i64, |product, x| product.wrapping_mul(x as i64)))
                }
                Kind::Prod => values.product(),
                Kind::Sum => values.sum(),
                Kind::Mean => values.sum::<f64>() / count,
                Kind::Max => values.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b < a { a } else { b }),
                Kind::Min => values.fold(f64::INFINITY, |a, b| if a.is_nan() || b > a { a } else { b }),
            }
        })]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        self.over(Layout::new(&inputs[0].shape, &self.axes, true), inputs, output, capabilities)
    }

    /// What cannot be read four elements at a time is read where it is, one at a time.
    fn strided(&self, _: usize, view: &Strided) -> bool {
        view.run(4) == Run::Scattered
    }

    fn lowering_strided(
        &self,
        inputs: &[Meta],
        views: &[Option<Strided>],
        output: &Meta,
        capabilities: &Capabilities,
    ) -> Lowering {
        self.over(Layout::new(&inputs[0].shape, &self.axes, views[0].is_none()), inputs, output, capabilities)
    }

    fn cases() -> Vec<Case> {
        let mut cases = vec![];
        type Method = fn(&Tensor, &[usize]) -> Tensor;
        let methods: [(&str, Method); 4] =
            [("sum", |x, a| x.sum(a)), ("mean", |x, a| x.mean(a)), ("max", |x, a| x.max(a)), ("min", |x, a| x.min(a))];
        let shapes: [(&str, &[usize], &[usize]); 15] = [
            ("last", &[37, 131], &[1]),
            ("first", &[131, 37], &[0]),
            ("channels", &[3, 5, 7, 2], &[0, 2, 3]),
            ("ends", &[3, 5, 7], &[0, 2]),
            ("all", &[37, 5], &[0, 1]),
            ("one", &[1, 37], &[0]),
            ("long", &[2, 5003], &[1]),
            ("four_last", &[37, 132], &[1]),
            ("four_first", &[131, 36], &[0]),
            ("four_middle", &[3, 37, 8], &[1]),
            ("four_channels", &[3, 5, 4, 7], &[0, 2, 3]),
            ("four_ends", &[3, 5, 8], &[0, 2]),
            ("four_apart", &[3, 2, 5, 2, 4], &[0, 2, 4]),
            ("four_all", &[37, 20], &[0, 1]),
            ("four_long", &[2, 40_000], &[1]),
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
        // Factors around 1, and zeros: products of many stay numbers.
        let products = Tolerance::Pointwise { absolute: 2e-6, relative: 2e-5 };
        for (label, shape, axes, draw) in [
            ("prod_last", &[37, 131][..], &[1][..], Draw::Uniform(0.9, 1.1)),
            ("prod_middle", &[3, 37, 8], &[1], Draw::Uniform(0.9, 1.1)),
            ("prod_ends", &[3, 5, 7], &[0, 2], Draw::Uniform(-1.5, 1.5)),
            ("prod_all", &[37, 4], &[0, 1], Draw::Uniform(0.9, 1.1)),
            ("prod_one", &[1, 37], &[0], Draw::Normal),
            ("prod_zeros", &[5, 7], &[1], Draw::Values(&[1.5, 0.0, -0.5, 2.0, 1.0, 0.5, 3.0, 0.0])),
        ] {
            let case = Case::new(label, move |x| x[0].prod(axes)).input(shape, DType::F32, draw);
            cases.push(case.tolerance(products));
        }
        let whole = |name: &str, form: fn(&Tensor) -> Tensor, dtype: DType, draw: Draw| {
            let case = Case::new(name, move |x| form(&x[0])).input(&[37, 131], dtype, draw);
            case.tolerance(Tolerance::Exact).not_differentiable()
        };
        cases.extend([
            whole("prod_i32", |x| x.prod(&[1]), DType::I32, Draw::Uniform(-9.0, 9.0)),
            whole("sum_bool", |x| x.sum(&[0]), DType::Bool, Draw::Below(2)),
            whole("max_bool", |x| x.max(&[0]), DType::Bool, Draw::Below(2)),
            whole("any_f32", |x| x.floor().any(&[1]), DType::F32, Draw::Uniform(0.0, 1.01)),
            whole("all_i32", |x| x.all_keep(&[1]), DType::I32, Draw::Below(100)),
        ]);
        cases.push(
            Case::new("sum_of_products", |x| (&x[0] * &x[1]).exp().sum(&[0])).normal(&[131, 5]).normal(&[5]).tolerance(
                // The terms are exponentials of products of normals: up to e^9, so the bound is relative.
                Tolerance::Pointwise { absolute: 1e-5, relative: 2e-5 },
            ),
        );
        cases.push(
            Case::new("variance", |x| x[0].var(&[0, 2], 1))
                .normal(&[5, 3, 37])
                // Differences from the mean: the error is that of numbers of size 1.
                .tolerance(Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 }),
        );
        // The same function before and after, four terms at a time and one output.
        let around = Case::new("between_four", |x| (x[0].tanh() * &x[1]).sum(&[1]).scale(0.1).tanh());
        cases.push(
            around.normal(&[37, 132]).normal(&[132]).tolerance(Tolerance::Pointwise { absolute: 4e-6, relative: 4e-6 }),
        );
        let turned = Case::new("sum_strided_four", |x| x[0].permute(&[1, 0]).sum(&[0]));
        cases.push(turned.normal(&[36, 40]).tolerance(Tolerance::Sum { terms: 40 }));
        cases.push(
            Case::new("sum_strided", |x| x[0].permute(&[1, 0]).sum(&[0]))
                .normal(&[37, 131])
                .tolerance(Tolerance::Sum { terms: 131 }),
        );
        cases
    }
}

impl Reduce {
    /// The kernels over a layout.
    fn over(&self, layout: Layout, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let values = |axes: &[(usize, usize)]| axes.iter().map(|&(dim, _)| dim).product::<usize>();
        let (outputs, reduced) = (values(&layout.kept), values(&layout.reduced));
        let costs = capabilities.costs();
        let parts = parts(outputs, reduced, layout.lanes != Lanes::One, costs);
        let terms = inputs[0].elements() / output.elements();
        let scale = if self.kind == Kind::Mean { 1.0 / terms as f64 } else { 1.0 };
        if parts == 1 {
            return Lowering::kernel(self.kernel(inputs[0].dtype, &layout, 1, scale, false));
        }
        let mut first = self.kernel(inputs[0].dtype, &layout, parts, 1.0, !costs.coalesces);
        first.bindings[1] = Binding::write(0);
        let outputs = output.elements();
        let across = Layout { kept: vec![(outputs, 1)], reduced: vec![(parts, outputs)], lanes: Lanes::One };
        let mut second = self.kernel(inputs[0].dtype, &across, 1, scale, false);
        second.prologue = false;
        second.bindings[0] = Binding::read(0);
        let prologue = "fn $prologue$(index: u32) -> $V$ {\n    return $partial$[index];\n}\n";
        second.shader =
            std::mem::take(&mut second.shader).bound(0, false, "partial", "$V$").item(Item::new("prologue", prologue));
        Lowering::Kernels { kernels: vec![first, second], temporaries: vec![outputs * parts] }
    }

    /// The kernel in which `parts` invocations share an output.
    fn kernel(&self, dtype: DType, layout: &Layout, parts: usize, scale: f64, chunks: bool) -> Kernel {
        let scalar = match dtype {
            DType::F32 | DType::F16 => "f32",
            DType::I32 => "i32",
            DType::U32 | DType::Bool => "u32",
        };
        let initial = match (self.kind, scalar) {
            (Kind::Sum | Kind::Mean, _) => "$S$(0)",
            (Kind::Prod, _) => "$S$(1)",
            (Kind::Max, "f32") => "bitcast<f32>(0xff800000u + $p$.zero)",
            (Kind::Min, "f32") => "bitcast<f32>(0x7f800000u + $p$.zero)",
            (Kind::Max, "i32") => "i32(-2147483648)",
            (Kind::Min, "i32") => "2147483647i",
            (Kind::Max, _) => "0u",
            (Kind::Min, _) => "4294967295u",
        };
        let four = layout.lanes != Lanes::One;
        let value = if four { format!("vec4<{scalar}>") } else { scalar.to_string() };
        // The type of what is stored, and how it is made of a value.
        let (out, close) = match layout.lanes {
            Lanes::One | Lanes::Across => ("$V$", "total"),
            Lanes::Along => ("$S$", "$join$($join$(total.x, total.y), $join$(total.z, total.w))"),
        };
        let finish = if scalar == "f32" && self.kind == Kind::Mean { " * $p$.scale" } else { "" };
        let at = if layout.lanes == Lanes::Across { "o * 4u" } else { "o" };
        let store = match parts {
            1 => format!("$result$[o] = $epilogue$({close}{finish}, {at});"),
            _ => format!("$result$[part * $p$.outputs + o] = {close};"),
        };
        let size = |axes: &[(usize, usize)]| axes.iter().map(|&(dim, _)| dim).product::<usize>();
        let (outputs, reduced) = (size(&layout.kept), size(&layout.reduced));
        let (first, span, step) = match chunks {
            true => (reduced.div_ceil(parts), reduced.div_ceil(parts), 1),
            false => (1, reduced, parts),
        };
        let mut words = Words::default();
        let kept = index(&layout.kept, "o", &mut words);
        let walk = walk(&layout.reduced, step, four, &mut words);
        let part_fastest =
            layout.reduced.last().is_some_and(|&(_, stride)| stride == 1 || layout.lanes == Lanes::Along);
        let function = |name: &'static str, rest: String| Item::new(name, format!("fn ${name}${rest}\n"));
        let mut shader = each(Shader::of(&[&shaders::REDUCE]))
            .alias("S", scalar)
            .alias("V", value)
            .constant("PARTIAL", parts > 1)
            .constant("PART_FASTEST", part_fastest)
            .item(self.combine("combine", "V", scalar, if four { "vec4<u32>" } else { "u32" }))
            .item(function("initial", format!("() -> $V$ {{\n    return $V$({initial});\n}}")))
            .item(function("store", format!("(total: $V$, part: u32, o: u32) {{\n    {store}\n}}")))
            .item(function("kept_index", format!("(o: u32) -> u32 {{\n    return {kept};\n}}")));
        if layout.lanes == Lanes::Along {
            shader = shader.item(self.combine("join", "S", scalar, "u32"));
        }
        shader.items.extend(walk);
        let mut kernel = Kernel::own(format!("{}{}", self.name(), if parts > 1 { ".parts" } else { "" }), shader);
        kernel.bindings.push(Binding::input(0));
        kernel.bind(Binding::output(), "result", out);
        let (scale, zero, words) = (scale as f32, 0, words.values);
        kernel.uniform(Sizes { outputs, reduced, parts, first, span, step, scale, zero, words });
        kernel.workgroups = ((outputs * parts) as u64).div_ceil(64);
        kernel.iterations = (reduced / (4 * parts)) as u64 + 4;
        kernel.prologue = true;
        kernel.epilogue = parts == 1;
        kernel.lanes = if layout.lanes == Lanes::Across { 4 } else { 1 };
        kernel.prologue_lanes = if four { 4 } else { 1 };
        kernel.flops = (outputs * reduced * if four { 4 } else { 1 }) as u64;
        kernel
    }

    /// A function that combines two values of a type of `scalar`s; `words` is that of as many `u32`.
    fn combine(&self, name: &'static str, kind: &str, scalar: &str, words: &str) -> Item {
        let plain = match self.kind {
            Kind::Sum | Kind::Mean => "a + b",
            Kind::Prod => "a * b",
            Kind::Max => "max(a, b)",
            Kind::Min => "min(a, b)",
        };
        let body = match scalar == "f32" && matches!(self.kind, Kind::Max | Kind::Min) {
            false => format!("    return {plain};\n"),
            // NaN by its bits: `max` and `min` drop it on some drivers. The bits without the sign are above those of infinity.
            true => format!(
                "    let a_bits = bitcast<{words}>(a) & {words}(0x7fffffffu);\n    \
                 let b_bits = bitcast<{words}>(b) & {words}(0x7fffffffu);\n    let limit = {words}(0x7f800000u);\n    \
                 return select(select({plain}, b, b_bits > limit), a, a_bits > limit);\n"
            ),
        };
        Item::new(name, format!("fn ${name}$(a: ${kind}$, b: ${kind}$) -> ${kind}$ {{\n{body}}}\n"))
    }
}

params! {
    /// Numbers of outputs and of terms are in values.
    struct Sizes {
        outputs,
        reduced,
        /// Invocations that share an output. Part q begins at term q first, ends at the latest span behind that, and goes in steps.
        parts,
        first,
        span,
        step,
        scale: f32,
        /// Zero: keeps compilers from folding an infinity into the text, which WGSL forbids.
        zero,
        /// Lengths and strides of axes.
        words: [[u32; 4]; VECTORS],
    }
}

/// How many invocations share an output: enough to fill the device, each with enough to do.
fn parts(outputs: usize, reduced: usize, four: bool, costs: &Costs) -> usize {
    let Parts { enough, least } = if four { costs.reduction_of_fours } else { costs.reduction };
    let wanted = (enough / outputs).min(reduced / least).max(1);
    // The loop bound of software drivers: at most 4 x 50,000 values an invocation.
    wanted.max(reduced.div_ceil(200_000))
}
