//! Windows along the three axes behind channels, `[batch, channels, depth, height, width]`: with dilation, rests, padding on
//! each side its own, or as many as are asked for. Images and sequences have axes of length 1 in front.

use crate::error::Problem;
use crate::kernel::MAX_ITERATIONS;
use crate::shape::Shape;

/// Windows of one size at one distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sliding {
    /// Elements of a window.
    pub kernel: usize,
    /// Elements from the beginning of one window to that of the next.
    pub stride: usize,
    /// Elements from one of a window's to the next.
    pub dilation: usize,
    /// Elements put before the axis.
    pub before: usize,
    /// Elements put behind it.
    pub after: usize,
}

impl Sliding {
    /// Each element a window.
    pub const NONE: Sliding = Sliding { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };

    /// Elements from a window's first to its last, both counted.
    pub fn reach(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }
}

/// How windows lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// They slide.
    Sliding(Sliding),
    /// Window i of n begins at floor(i length / n) and ends before ceil((i + 1) length / n).
    Even,
}

/// The windows along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Elements of the axis.
    pub input: usize,
    /// Windows.
    pub output: usize,
    /// How they lie.
    pub cut: Cut,
}

/// The largest size of a window, a stride or a padding.
const MOST: usize = 1 << 16;

impl Span {
    /// Each of `input` elements a window.
    pub fn whole(input: usize) -> Span {
        Span { input, output: input, cut: Cut::Sliding(Sliding::NONE) }
    }

    /// Windows that slide over `input` elements; with `ceil` one more for a rest, if it begins before the padding behind.
    ///
    /// # Errors
    /// A size of 0 or beyond 65,535, or a window that does not fit.
    pub fn sliding(input: usize, slide: Sliding, ceil: bool) -> Result<Span, Problem> {
        let Sliding { kernel, stride, dilation, before, after } = slide;
        let sizes = [kernel, stride, dilation, before, after];
        if sizes[..3].contains(&0) || sizes.iter().any(|&size| size >= MOST) {
            let what = format!("kernel {kernel}, stride {stride}, dilation {dilation}, padding {before} and {after}");
            return Err(Problem::Value(what, "kernel, stride and dilation start at 1, and none may pass 65,535"));
        }
        let (padded, reach) = (input + before + after, slide.reach());
        if reach > padded {
            let what = format!("windows reach over {reach} elements, an axis of {input} with its padding has {padded}");
            return Err(Problem::Shape(what, "use smaller windows or more padding"));
        }
        let rest = padded - reach;
        let mut output = rest / stride + 1;
        if ceil && !rest.is_multiple_of(stride) && output * stride < input + before {
            output += 1;
        }
        Ok(Span { input, output, cut: Cut::Sliding(slide) })
    }

    /// `output` windows over `input` elements, as even as can be.
    ///
    /// # Errors
    /// None, or so many that their places pass 32 bits.
    pub fn even(input: usize, output: usize) -> Result<Span, Problem> {
        let product = input.checked_mul(output + 1).filter(|&product| product < 1 << 31);
        if output == 0 || product.is_none() {
            let what = format!("{output} windows over {input} elements");
            return Err(Problem::Value(what, "ask for at least 1, and for fewer than 2^31 / length"));
        }
        Ok(Span { input, output, cut: Cut::Even })
    }

    /// As words of an op's attributes.
    pub fn words(&self, words: &mut Vec<u64>) {
        let cut = match self.cut {
            Cut::Sliding(s) => [s.kernel, s.stride, s.dilation, s.before, s.after],
            Cut::Even => [0; 5],
        };
        words.extend([&[self.input, self.output][..], &cut].concat().into_iter().map(|word| word as u64));
    }

    /// The elements of window `i` that lie on the axis, each with its number in the window.
    pub fn taps(&self, i: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Span { input, output, cut } = *self;
        let (begin, before, step, count) = match cut {
            Cut::Sliding(s) => (i * s.stride, s.before, s.dilation, s.kernel),
            Cut::Even => {
                let begin = i * input / output;
                (begin, 0, 1, ((i + 1) * input).div_ceil(output) - begin)
            }
        };
        let place = move |tap: usize| (begin + tap * step).checked_sub(before).filter(|&at| at < input);
        (0..count).filter_map(move |tap| Some((tap, place(tap)?)))
    }

    /// How many elements a window may have.
    pub fn most_taps(&self) -> usize {
        match self.cut {
            Cut::Sliding(s) => s.kernel,
            Cut::Even => self.input.div_ceil(self.output) + 1,
        }
    }

    /// From how many windows those are picked that an element may be in.
    pub fn most_windows(&self) -> usize {
        match self.cut {
            Cut::Sliding(s) => ((s.reach() - 1) / s.stride + 1).min(self.output),
            Cut::Even => self.output.div_ceil(self.input) + 1,
        }
    }

    /// For kernels: (input, output, kernel, stride), (dilation, before, after, 0).
    pub(crate) fn sizes(&self) -> [[u32; 4]; 2] {
        let s = match self.cut {
            Cut::Sliding(slide) => slide,
            Cut::Even => Sliding::NONE,
        };
        let word = |size: usize| size as u32;
        [[self.input, self.output, s.kernel, s.stride].map(word), [s.dilation, s.before, s.after, 0].map(word)]
    }
}

/// The shape `[batch, channels, depth, height, width]` of a tensor of `axes` axes behind its channels.
///
/// # Errors
/// Another rank.
pub fn volume(shape: &Shape, axes: usize) -> Result<[usize; 5], Problem> {
    if !(1..=3).contains(&axes) || shape.rank() != axes + 2 {
        let what = format!("input of shape {shape} for {axes} axes");
        return Err(Problem::Shape(what, "pass [batch, channels, ..] with one, two or three axes behind"));
    }
    let mut dims = [1; 5];
    dims[..2].copy_from_slice(&shape[..2]);
    dims[5 - axes..].copy_from_slice(&shape[2..]);
    Ok(dims)
}

/// Three axes from those that there are, the others whole.
///
/// # Errors
/// What `span` gives for one of them.
pub fn spans(
    volume: [usize; 5],
    axes: usize,
    span: impl Fn(usize, usize) -> Result<Span, Problem>,
) -> Result<[Span; 3], Problem> {
    let mut all = [2, 3, 4].map(|axis| Span::whole(volume[axis]));
    for axis in 0..axes {
        all[3 - axes + axis] = span(axis, volume[5 - axes + axis])?;
    }
    Ok(all)
}

/// The shape of results, without the axes that stand for none.
pub fn flat(dims: &[usize], axes: usize) -> Vec<usize> {
    [&dims[..2], &dims[5 - axes..]].concat()
}

/// The shape of what spans make of `[batch, channels, ..]`.
///
/// # Errors
/// A shape that is too large, or an input that they are not made for.
pub fn output(input: &Shape, spans: &[Span; 3]) -> Result<Shape, Problem> {
    let fits = input.rank() == 5 && (0..3).all(|axis| input[2 + axis] == spans[axis].input);
    if !fits {
        let wanted = spans.map(|span| span.input);
        let what = format!("input of shape {input} for axes of {wanted:?}");
        return Err(Problem::Shape(what, "pass [batch, channels, depth, height, width] of these sizes"));
    }
    let [depth, height, width] = spans.map(|span| span.output);
    let dims = [input[0], input[1], depth, height, width];
    Shape::new(&dims)
        .ok_or_else(|| Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements"))
}

/// `Err` if an element takes more rounds of a loop than software drivers allow an invocation.
///
/// # Errors
/// The number of rounds.
pub fn loops(counts: [usize; 3]) -> Result<usize, Problem> {
    let rounds = counts.iter().rev().fold(0usize, |rounds, &count| count.saturating_mul(rounds.saturating_add(1)));
    if (rounds as u64) < MAX_ITERATIONS {
        return Ok(rounds);
    }
    let what = format!("windows of {counts:?} take {rounds} steps an element");
    Err(Problem::Value(what, "use smaller windows, a larger stride, or `mean` or `max` over whole axes"))
}
