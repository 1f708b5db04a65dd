//! Windows laid side by side (im2col), and their sum back to where they came from (col2im). A convolution over three axes
//! takes its depth apart this way.

mod fold;

pub use fold::Fold;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::spans::{self, Cut, Sliding, Span};
use crate::ops::product::Product;
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// In which order the axes of windows stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `[batch, channels, elements of a window (three axes), windows (three axes)]`.
    Columns,
    /// `[batch, windows along depth, channels, elements of a window (three axes), windows (two axes)]`.
    Slices,
}

impl Order {
    /// Which of the axes of [`Order::Columns`] each axis is.
    fn roles(self) -> [usize; MAX_RANK] {
        match self {
            Order::Columns => [0, 1, 2, 3, 4, 5, 6, 7],
            Order::Slices => [0, 5, 1, 2, 3, 4, 6, 7],
        }
    }
}

/// The elements of each window of `[batch, channels, depth, height, width]`, zeros for padding.
#[derive(Debug, Clone, Copy)]
pub struct Unfold {
    /// Windows along the last three axes, which slide.
    pub spans: [Span; 3],
    /// What comes out.
    pub order: Order,
}

/// Windows of [`Tensor::unfold`] and [`Tensor::fold`] over `D` axes. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfoldOptions<const D: usize> {
    /// Elements of a window.
    pub kernel: [usize; D],
    /// Elements between the beginnings of windows.
    pub stride: [usize; D],
    /// Zeros around, on both sides of each axis.
    pub padding: [usize; D],
    /// Elements between those of a window.
    pub dilation: [usize; D],
}

impl<const D: usize> UnfoldOptions<D> {
    /// Windows of `kernel` at every place.
    pub fn new(kernel: [usize; D]) -> UnfoldOptions<D> {
        UnfoldOptions { kernel, stride: [1; D], padding: [0; D], dilation: [1; D] }
    }

    fn slide(&self, axis: usize) -> Sliding {
        Sliding {
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            before: self.padding[axis],
            after: self.padding[axis],
        }
    }
}

impl Tensor {
    /// The windows of `[batch, channels, ..]` with one, two or three axes behind, each as a column:
    /// `[batch, channels * elements of a window, windows]`, as `torch.nn.functional.unfold` (which takes two). f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for another rank or windows that do not fit, [`crate::Error::DType`] for
    /// integers, [`crate::Error::Value`] for sizes of 0 or beyond 65,535.
    #[track_caller]
    pub fn unfold<const D: usize>(&self, options: &UnfoldOptions<D>) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let parts = spans::volume(self.dims(), D).and_then(|dims| {
            let all = spans::spans(dims, D, |axis, size| Span::sliding(size, options.slide(axis), false))?;
            Ok((dims, all))
        });
        let (dims, spans) = match parts {
            Ok(parts) => parts,
            Err(problem) => return self.problem("unfold", problem),
        };
        let columns = Tensor::apply(Unfold { spans, order: Order::Columns }, &[&self.reshape(&dims)]);
        let [taps, windows] = counts(&spans);
        columns.reshape(&[dims[0], dims[1] * taps, windows])
    }

    /// Columns `[batch, channels * elements of a window, windows]` added up where [`Tensor::unfold`] of an image of `size`
    /// takes them from: `[batch, channels, ..size]`, as `torch.nn.functional.fold`. f32 or f16.
    ///
    /// # Errors
    /// As [`Tensor::unfold`], for columns that do not fit.
    #[track_caller]
    pub fn fold<const D: usize>(&self, size: [usize; D], options: &UnfoldOptions<D>) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        if !(1..=3).contains(&D) {
            let what = format!("{D} axes");
            return self.problem("fold", Problem::Value(what, "fold one, two or three axes"));
        }
        let spans = || {
            let &[batch, rows, windows] = &self.dims()[..] else {
                let what = format!("columns of shape {}", self.dims());
                return Err(Problem::Shape(what, "pass [batch, channels * elements of a window, windows]"));
            };
            let mut volume = [1; 5];
            volume[5 - D..].copy_from_slice(&size);
            let all = spans::spans(volume, D, |axis, size| Span::sliding(size, options.slide(axis), false))?;
            let [taps, places] = counts(&all);
            if !rows.is_multiple_of(taps) || places != windows {
                let what = format!(
                    "columns of shape {} for windows of {taps} elements, of which an image of {size:?} has {places}",
                    self.dims()
                );
                return Err(Problem::Shape(what, "pass what unfold gives for an image of this size"));
            }
            Ok((all, batch, rows / taps))
        };
        let (spans, batch, channels) = match spans() {
            Ok(parts) => parts,
            Err(problem) => return self.problem("fold", problem),
        };
        let folded = self.windows_added(spans, Order::Columns, batch, channels);
        folded.reshape(&[&[batch, channels][..], &size].concat())
    }

    /// Windows along the depth of `[batch, channels, depth, height, width]`:
    /// `[batch * windows, channels * elements of a window, height, width]`.
    #[track_caller]
    pub(crate) fn depth_unfolded(&self, span: Span) -> Tensor {
        let dims = *self.dims();
        let spans = [span, Span::whole(dims[3]), Span::whole(dims[4])];
        let slices = Tensor::apply(Unfold { spans, order: Order::Slices }, &[self]);
        slices.reshape(&[dims[0] * span.output, dims[1] * span.most_taps(), dims[3], dims[4]])
    }

    /// The adjoint of [`Tensor::depth_unfolded`], for `batch` volumes.
    #[track_caller]
    pub(crate) fn depth_folded(&self, span: Span, batch: usize) -> Tensor {
        let dims = *self.dims();
        if self.error().is_some() {
            return self.clone();
        }
        let spans = [span, Span::whole(dims[2]), Span::whole(dims[3])];
        self.windows_added(spans, Order::Slices, batch, dims[1] / span.most_taps())
    }

    #[track_caller]
    fn windows_added(&self, spans: [Span; 3], order: Order, batch: usize, channels: usize) -> Tensor {
        let lengths = lengths(batch, channels, &spans);
        let ordered = order.roles().map(|role| lengths[role]);
        Tensor::apply(Fold { spans, order }, &[&self.reshape(&ordered)])
    }
}

/// Elements of a window, and windows.
fn counts(spans: &[Span; 3]) -> [usize; 2] {
    [spans.iter().map(Span::most_taps).product(), spans.iter().map(|span| span.output).product()]
}

/// Lengths of the axes, in the order of [`Order::Columns`].
fn lengths(batch: usize, channels: usize, spans: &[Span; 3]) -> [usize; MAX_RANK] {
    let ([a, b, c], [d, e, f]) = (spans.map(|span| span.most_taps()), spans.map(|span| span.output));
    [batch, channels, a, b, c, d, e, f]
}

/// Words of the attributes.
fn words(spans: &[Span; 3], order: Order, words: &mut Vec<u64>) {
    spans.iter().for_each(|span| span.words(words));
    words.push(order as u64);
}

/// Windows that slide, whose element has a place along one axis.
fn slide(span: &Span) -> Sliding {
    match span.cut {
        Cut::Sliding(slide) => slide,
        Cut::Even => Sliding::NONE,
    }
}

/// The windows of a volume as columns, or nothing where they do not fit.
fn columns(shape: &Shape, spans: &[Span; 3], order: Order) -> Result<Shape, Problem> {
    spans::output(shape, spans)?;
    spans::loops(spans.map(|span| span.most_taps()))?;
    if spans.iter().any(|span| span.cut == Cut::Even) {
        return Err(Problem::Value("windows of several sizes".into(), "pass windows that slide"));
    }
    let lengths = lengths(shape[0], shape[1], spans);
    let dims = order.roles().map(|role| lengths[role]);
    Shape::new(&dims)
        .ok_or_else(|| Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements"))
}

/// Calls `visit(place in the columns, place in the volume)` for every element of a window that lies inside.
fn pairs(columns: &Shape, spans: &[Span; 3], order: Order, channels: usize, mut visit: impl FnMut(usize, usize)) {
    let roles = order.roles();
    for linear in 0..columns.elements() {
        let mut ordered = [0; MAX_RANK];
        Array::unravel(columns, linear, &mut ordered);
        let mut at = [0; MAX_RANK];
        roles.iter().zip(ordered).for_each(|(&role, index)| at[role] = index);
        let mut place = Some(at[0] * channels + at[1]);
        for (axis, span) in spans.iter().enumerate() {
            let found = span.taps(at[5 + axis]).find(|&(tap, _)| tap == at[2 + axis]);
            place = place.zip(found).map(|(place, (_, position))| place * span.input + position);
        }
        if let Some(place) = place {
            visit(linear, place);
        }
    }
}

params! {
    struct Sizes {
        elements,
        /// Of `axes`, those of length 1 left out.
        rank,
        /// Depth, height and width; what is put before each.
        sizes: [[u32; 4]; 2],
        /// (length, what it counts: depth, height, width or planes, how many of those a step is, 0), innermost first.
        axes: [[u32; 4]; MAX_RANK],
    }
}

impl Op for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, all: &mut Vec<u64>) {
        words(&self.spans, self.order, all);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if !dtype.is_float() {
            return Err(Problem::DType(format!("it takes floats, not {dtype}")));
        }
        Ok(vec![Meta { shape: columns(&shape, &self.spans, self.order)?, dtype }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(Fold { spans: self.spans, order: self.order }, &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        pairs(&output.shape, &self.spans, self.order, inputs[0].shape[1], |column, place| {
            result.data[column] = inputs[0].data[place];
        });
        vec![result]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let channels = inputs[0].shape[1];
        let lengths = lengths(inputs[0].shape[0], channels, &self.spans);
        let slides = self.spans.map(|span| slide(&span));
        let mut axes = [[1, 0, 0, 0]; MAX_RANK];
        let mut rank = 0;
        for role in self.order.roles().into_iter().rev().filter(|&role| lengths[role] > 1) {
            let (counts, step) = match role {
                0 => (3, channels),
                1 => (3, 1),
                2..5 => (role - 2, slides[role - 2].dilation),
                _ => (role - 5, slides[role - 5].stride),
            };
            axes[rank] = [lengths[role], counts, step, 0].map(|word| word as u32);
            rank += 1;
        }
        let [d, h, w] = self.spans.map(|span| span.input as u32);
        let [before_d, before_h, before_w] = slides.map(|slide| slide.before as u32);
        let shader = each(Product::FULL.types(inputs, capabilities)).file(&shaders::unfold::UNFOLD);
        let mut kernel = Kernel::own("unfold", shader);
        kernel.bind(Binding::input(0), "x", "$A_TYPE$");
        kernel.bind(Binding::output(), "result", "$OUT$");
        let sizes = [[d, h, w, 0], [before_d, before_h, before_w, 0]];
        kernel.uniform(Sizes { elements: output.elements(), rank, sizes, axes });
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = MAX_RANK as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, shape: &[usize], options: UnfoldOptions<2>| {
            Case::new(name, move |x| x[0].unfold(&options)).normal(shape).tolerance(Tolerance::Exact)
        };
        // Overlapping windows add up in the gradient.
        let sum = Tolerance::Sum { terms: 9 };
        let plain = UnfoldOptions::new([2, 3]);
        let uneven = UnfoldOptions { stride: [2, 1], padding: [1, 2], dilation: [1, 2], ..UnfoldOptions::new([3, 2]) };
        let volume = UnfoldOptions { stride: [2, 1, 2], padding: [1, 0, 1], ..UnfoldOptions::new([3, 1, 2]) };
        vec![
            case("plain", &[2, 3, 5, 7], plain).gradient_tolerance(sum),
            case("uneven", &[2, 3, 7, 9], uneven).gradient_tolerance(sum),
            case("one", &[1, 1, 1, 1], UnfoldOptions::new([1, 1])),
            Case::new("sequence", |x| {
                x[0].tanh().unfold(&UnfoldOptions { stride: [3], ..UnfoldOptions::new([4]) }).relu()
            })
            .normal(&[2, 3, 131])
            .tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 }),
            Case::new("volume_transposed", move |x| x[0].transpose(2, 3).unfold(&volume))
                .normal(&[1, 2, 3, 5, 4])
                .tolerance(Tolerance::Exact)
                .gradient_tolerance(sum),
            Case::new("slices", |x| {
                let slide = Sliding { kernel: 3, stride: 2, dilation: 2, before: 1, after: 2 };
                match Span::sliding(7, slide, false) {
                    Ok(span) => x[0].depth_unfolded(span),
                    Err(problem) => x[0].problem("unfold", problem),
                }
            })
            .normal(&[2, 3, 7, 3, 5])
            .tolerance(Tolerance::Exact)
            .gradient_tolerance(sum),
            Case::new("half", move |x| x[0].unfold(&uneven))
                .input(&[2, 3, 7, 9], DType::F16, Draw::Normal)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        ]
    }
}
