//! Shapes on which the three ops of a convolution are tested and timed.

use super::{Conv2d, Conv2dDataGrad, Conv2dOptions, Conv2dWeightGrad, geometry::Geometry};
use crate::dtype::DType;
use crate::op::{Case, Draw, Tolerance};
use crate::ops::product::Product;
use crate::shape::Shape;
use crate::tensor::Tensor;

type Build = Box<dyn Fn(&[Tensor], Product) -> Tensor + Send + Sync>;

/// Operands as f16, as f32 that is rounded where it is read, and one of each; results of either width.
const HALVES: [([DType; 2], DType); 3] = [
    ([DType::F16, DType::F16], DType::F16),
    ([DType::F16, DType::F32], DType::F16),
    ([DType::F32, DType::F16], DType::F32),
];

/// Sizes for half precision: with and without the subgroup kernels, strides, groups.
fn halves() -> impl Iterator<Item = (Sizes, ([DType; 2], DType))> {
    let sizes = small().into_iter().filter(|s| ["3x3_same", "uneven", "stride_2", "depthwise"].contains(&s.name));
    sizes.zip(HALVES.into_iter().cycle())
}

struct Sizes {
    name: &'static str,
    x: [usize; 4],
    w: [usize; 4],
    options: Conv2dOptions,
}

fn options(stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2], groups: usize) -> Conv2dOptions {
    Conv2dOptions { stride, padding, dilation, groups }
}

/// What every kernel must get right: sizes that divide by nothing, options that differ by axis, the tiles' special cases.
fn small() -> Vec<Sizes> {
    let case = |name, x, w, options| Sizes { name, x, w, options };
    let plain = Conv2dOptions::default();
    let same = options([1, 1], [1, 1], [1, 1], 1);
    vec![
        case("3x3", [2, 3, 7, 11], [5, 3, 3, 3], plain),
        case("3x3_same", [2, 9, 14, 14], [17, 9, 3, 3], same),
        case("width_8", [2, 4, 8, 8], [19, 4, 3, 3], same),
        case("1x1", [2, 7, 5, 9], [11, 7, 1, 1], plain),
        case("one_pixel", [1, 1, 1, 1], [1, 1, 1, 1], plain),
        case("uneven", [2, 6, 13, 9], [8, 3, 3, 2], options([2, 3], [2, 1], [2, 1], 2)),
        case("stride_2", [2, 3, 9, 15], [9, 3, 3, 3], options([2, 2], [1, 1], [1, 1], 1)),
        case("dilated", [1, 5, 12, 17], [10, 5, 3, 3], options([1, 1], [2, 3], [2, 3], 1)),
        case("depthwise", [2, 7, 9, 10], [7, 1, 3, 3], options([1, 1], [1, 1], [1, 1], 7)),
        case("depthwise_quads", [2, 3, 12, 16], [3, 1, 3, 3], options([1, 1], [1, 1], [1, 1], 3)),
        case("depthwise_strided", [2, 5, 13, 20], [5, 1, 5, 3], options([2, 2], [2, 0], [1, 1], 5)),
        case("depthwise_apart", [1, 3, 17, 11], [3, 1, 2, 2], options([4, 3], [1, 1], [1, 1], 3)),
        case("depthwise_multiplied", [2, 3, 5, 7], [6, 1, 3, 3], options([1, 1], [1, 1], [1, 1], 3)),
        case("1x1_quads", [2, 8, 6, 10], [12, 8, 1, 1], plain),
        case("row_kernel", [2, 5, 3, 21], [6, 5, 1, 7], options([1, 1], [0, 3], [1, 1], 1)),
        case("column_kernel", [2, 5, 21, 3], [6, 5, 7, 1], options([1, 1], [3, 0], [1, 1], 1)),
        case("wide_kernel", [1, 3, 4, 31], [6, 3, 2, 13], options([1, 1], [0, 6], [1, 1], 1)),
        case("stride_beyond_kernel", [1, 3, 11, 11], [5, 3, 2, 2], options([3, 4], [0, 0], [1, 1], 1)),
    ]
}

fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims).unwrap_or(Shape::SCALAR)
}

impl Sizes {
    fn dy(&self) -> [usize; 4] {
        let geometry = Geometry::new(&shape(&self.x), &shape(&self.w), &self.options);
        geometry.map_or([1; 4], |g| [g.batch, g.out_channels, g.output[0], g.output[1]])
    }

    /// The same in half precision, operands of these dtypes, for a result of `output`.
    fn half(&self, build: Build, [a, b]: [[usize; 4]; 2], dtypes: [DType; 2], output: DType) -> Case {
        let [left, right] = dtypes;
        let terms = a.iter().chain(&b).copied().max().unwrap_or(1) * self.w[2] * self.w[3];
        let tolerance = if output == DType::F16 { Tolerance::HalfSum { terms } } else { Tolerance::Sum { terms } };
        let case = Case::new(format!("{}_{left}_{right}_{output}", self.name), move |x| {
            build(x, Product { half: true, output })
        });
        case.input(&a, left, Draw::Normal).input(&b, right, Draw::Normal).tolerance(tolerance).not_differentiable()
    }

    fn case(&self, build: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static, a: [usize; 4], b: [usize; 4]) -> Case {
        let dy = self.dy();
        let forward = self.w[1] * self.w[2] * self.w[3];
        let data = self.w[0] * self.w[2] * self.w[3];
        let weight = dy[0] * dy[2] * dy[3];
        let terms = forward.max(data).max(weight);
        Case::new(self.name, build).normal(&a).normal(&b).tolerance(Tolerance::Sum { terms })
    }
}

pub fn forward() -> Vec<Case> {
    let mut all = small();
    // More channels than one loop may run over.
    let long = Sizes {
        name: "many_channels",
        x: [1, 14_100, 3, 3],
        w: [5, 14_100, 3, 3],
        options: options([1, 1], [1, 1], [1, 1], 1),
    };
    all.push(long);
    let mut cases: Vec<Case> = all
        .into_iter()
        .map(|sizes| {
            let options = sizes.options;
            sizes.case(move |x| x[0].conv2d(&x[1], &options), sizes.x, sizes.w)
        })
        .collect();
    let same = options([1, 1], [1, 1], [1, 1], 1);
    let bias = Case::new("bias_relu", move |x| (x[0].conv2d(&x[1], &same) + x[2].reshape(&[1, 10, 1, 1])).relu());
    cases.extend(halves().map(|(sizes, (dtypes, output))| {
        let options = sizes.options;
        let build = move |x: &[Tensor], product| Tensor::apply(Conv2d { options, product }, &[&x[0], &x[1]]);
        sizes.half(Box::new(build), [sizes.x, sizes.w], dtypes, output)
    }));
    let half = Case::new("half_bias_relu", move |x| {
        let y =
            x[0].cast(DType::F16).conv2d(&x[1].cast(DType::F16), &same) + x[2].cast(DType::F16).reshape(&[1, 10, 1, 1]);
        y.relu().cast(DType::F32)
    });
    // Every step is rounded to 11 bits.
    let rounding = Tolerance::Pointwise { absolute: 6e-2, relative: 4e-3 };
    cases
        .push(half.normal(&[2, 4, 7, 9]).normal(&[10, 4, 3, 3]).normal(&[10]).tolerance(rounding).not_differentiable());
    // A sum near zero falls to either side of the kink: a bound on its own size.
    let bound = Tolerance::Pointwise { absolute: 2e-4, relative: 1e-5 };
    cases.push(bias.normal(&[3, 4, 7, 9]).normal(&[10, 4, 3, 3]).normal(&[10]).tolerance(bound));
    cases
}

pub fn data_grad() -> Vec<Case> {
    let case = |sizes: Sizes| {
        let (options, size) = (sizes.options, [sizes.x[2], sizes.x[3]]);
        let build = move |x: &[Tensor]| {
            Tensor::apply(Conv2dDataGrad { options, product: Product::FULL, size }, &[&x[0], &x[1]])
        };
        sizes.case(build, sizes.dy(), sizes.w)
    };
    let mut cases: Vec<Case> = small().into_iter().step_by(4).map(case).collect();
    cases.extend(halves().map(|(sizes, (dtypes, output))| {
        let (options, size) = (sizes.options, [sizes.x[2], sizes.x[3]]);
        let build =
            move |x: &[Tensor], product| Tensor::apply(Conv2dDataGrad { options, product, size }, &[&x[0], &x[1]]);
        sizes.half(Box::new(build), [sizes.dy(), sizes.w], dtypes, output)
    }));
    cases
}

pub fn weight_grad() -> Vec<Case> {
    let mut all: Vec<Sizes> = small().into_iter().skip(1).step_by(4).collect();
    // More lines than one loop may run over.
    all.push(Sizes { name: "many_lines", x: [3, 2, 150, 150], w: [5, 2, 3, 3], options: Conv2dOptions::default() });
    // Rows longer than one loop may be.
    all.push(Sizes { name: "long_rows", x: [1, 1, 1, 41_003], w: [3, 1, 1, 3], options: Conv2dOptions::default() });
    // More taps in a row than registers hold.
    all.extend([
        Sizes { name: "wide_rows", x: [2, 3, 1, 701], w: [9, 3, 1, 15], options: options([1, 2], [0, 7], [1, 1], 1) },
        Sizes { name: "hundred_taps", x: [1, 1, 1, 625], w: [4, 1, 1, 100], options: Conv2dOptions::default() },
        // Taps that lie far apart.
        Sizes { name: "far_taps", x: [1, 2, 3, 97], w: [3, 2, 2, 5], options: options([1, 2], [1, 9], [1, 20], 1) },
    ]);
    let case = |sizes: Sizes| {
        let (options, kernel) = (sizes.options, [sizes.w[2], sizes.w[3]]);
        let build = move |x: &[Tensor]| {
            Tensor::apply(Conv2dWeightGrad { options, product: Product::FULL, kernel }, &[&x[0], &x[1]])
        };
        sizes.case(build, sizes.x, sizes.dy())
    };
    let mut cases: Vec<Case> = all.into_iter().map(case).collect();
    cases.extend(halves().map(|(sizes, (dtypes, output))| {
        let (options, kernel) = (sizes.options, [sizes.w[2], sizes.w[3]]);
        let build =
            move |x: &[Tensor], product| Tensor::apply(Conv2dWeightGrad { options, product, kernel }, &[&x[0], &x[1]]);
        sizes.half(Box::new(build), [sizes.x, sizes.dy()], dtypes, output)
    }));
    cases
}
