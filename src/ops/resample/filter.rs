//! What a result is along one axis: which elements it takes, and with what weights.

use crate::error::Problem;
use crate::ops::pool::spans::{Cut, Sliding, Span};

/// How elements are weighted, the same along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// All of a window alike, over the number of its elements: with padding that counts, or those inside alone.
    Mean {
        /// True if padding counts.
        count_padding: bool,
    },
    /// The element at floor(i scale), or with `exact` at floor((i + 1/2) scale).
    Nearest {
        /// Whether the middles of elements are compared.
        exact: bool,
    },
    /// The two elements around i scale (`corners`) or (i + 1/2) scale - 1/2, by their distance.
    Linear {
        /// Whether first and last elements lie on one another.
        corners: bool,
    },
    /// The four elements around it, by a cubic convolution (Keys 1981) with a = -3/4.
    Cubic {
        /// Whether first and last elements lie on one another.
        corners: bool,
    },
}

/// One axis of a resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its lengths, and for means its windows.
    pub span: Span,
    /// Elements between neighbouring results, as a fraction.
    pub scale: [usize; 2],
}

/// Slope of the cubic filter at distance 1.
const CUBIC: f64 = -0.75;

fn divisor(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// The fraction nearest to `number`, of terms that stay small.
fn fraction(number: f64) -> [usize; 2] {
    let (mut before, mut last) = ([0.0, 1.0], [1.0, 0.0]);
    let mut rest = number;
    loop {
        let whole = rest.floor();
        let next = [whole * last[0] + before[0], whole * last[1] + before[1]];
        if next[0] > 10_000.0 || next[1] > 10_000.0 {
            break;
        }
        (before, last) = (last, next);
        rest -= whole;
        if rest < 1e-9 || (next[0] / next[1] - number).abs() <= 1e-13 * number {
            break;
        }
        rest = 1.0 / rest;
    }
    [last[0] as usize, (last[1] as usize).max(1)]
}

impl Line {
    /// An axis left as it is.
    pub fn whole(length: usize) -> Line {
        Line { span: Span::whole(length), scale: [1, 1] }
    }

    /// Means of windows.
    pub fn windows(span: Span) -> Line {
        let common = divisor(span.input, span.output);
        Line { span, scale: [span.input / common, span.output / common] }
    }

    /// An axis of one element beside even windows.
    pub fn unit_even() -> Line {
        Line::each_even(1)
    }

    /// Even windows of one element each.
    pub fn each_even(length: usize) -> Line {
        Line::windows(Span { input: length, output: length, cut: Cut::Even })
    }

    /// True for even windows.
    pub fn is_even(&self) -> bool {
        self.span.cut == Cut::Even
    }

    /// `output` elements of `input`; with `factor` as it says, else by the lengths.
    ///
    /// # Errors
    /// No elements, or so many that their places pass 32 bits.
    pub fn scaled(input: usize, output: usize, filter: Filter, factor: Option<f64>) -> Result<Line, Problem> {
        let corners = matches!(filter, Filter::Linear { corners: true } | Filter::Cubic { corners: true });
        let scale = match factor {
            _ if corners && output > 1 => [input.saturating_sub(1), output - 1],
            _ if corners => [0, 1],
            Some(factor) => fraction(1.0 / factor),
            None => [input, output],
        };
        let common = divisor(scale[0], scale[1]);
        let scale = scale.map(|term| term / common);
        let largest = (2 * input as u64 + 8)
            .checked_mul(scale[1] as u64 + 1)
            .zip((2 * output as u64 + 8).checked_mul(scale[0] as u64 + 1))
            .map(|(a, b)| a.max(b));
        if output == 0 || scale[1] == 0 || largest.is_none_or(|largest| largest >= 1 << 31) {
            let what = format!("{output} elements of {input}");
            return Err(Problem::Value(what, "ask for at least one, and for no more than places in 32 bits"));
        }
        Ok(Line { span: Span { input, output, cut: Cut::Sliding(Sliding::NONE) }, scale })
    }

    /// As words of an op's attributes.
    pub fn words(&self, words: &mut Vec<u64>) {
        self.span.words(words);
        words.extend(self.scale.map(|term| term as u64));
    }

    /// For kernels: (input, output, kernel, stride), (before, after, numerator, denominator).
    pub(crate) fn sizes(&self) -> [[u32; 4]; 2] {
        let [first, [_, before, after, _]] = self.span.sizes();
        [first, [before, after, self.scale[0] as u32, self.scale[1] as u32]]
    }
}

/// A weighted place in the input.
type Tap = (usize, f64);

impl Filter {
    /// Name of the op.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Mean { .. } => "window_mean",
            _ => "interpolate",
        }
    }

    /// As words of an op's attributes.
    pub fn words(self, words: &mut Vec<u64>) {
        let (kind, flag) = match self {
            Filter::Mean { count_padding } => (0, count_padding),
            Filter::Nearest { exact } => (1, exact),
            Filter::Linear { corners } => (2, corners),
            Filter::Cubic { corners } => (3, corners),
        };
        words.push(kind << 1 | u64::from(flag));
    }

    /// The elements that result `i` takes.
    pub fn taps(self, line: &Line, i: usize) -> Vec<Tap> {
        let Span { input, cut, .. } = line.span;
        let [numerator, denominator] = line.scale;
        let last = input - 1;
        // (floor, rest) of (i + 1/2) scale - 1/2 + 1, or of i scale + 1.
        let place = |corners: bool| {
            let (over, under) = match corners {
                true => (i * numerator, denominator),
                false => ((2 * i + 1) * numerator + denominator, 2 * denominator),
            };
            let over = if corners { over + under } else { over };
            (over / under, (over % under) as f64 / under as f64)
        };
        match self {
            Filter::Mean { count_padding } => {
                let inside: Vec<usize> = line.span.taps(i).map(|(_, at)| at).collect();
                let count = match cut {
                    Cut::Sliding(s) if count_padding => {
                        (i * s.stride + s.kernel).min(input + s.before + s.after) - i * s.stride
                    }
                    _ => inside.len().max(1),
                };
                inside.into_iter().map(|at| (at, 1.0 / count as f64)).collect()
            }
            Filter::Nearest { exact: false } => vec![((i * numerator / denominator).min(last), 1.0)],
            Filter::Nearest { exact: true } => vec![(((2 * i + 1) * numerator / (2 * denominator)).min(last), 1.0)],
            Filter::Linear { corners } => match place(corners) {
                // Before the first, or behind the last.
                (0, _) => vec![(0, 1.0)],
                (next, _) if next > last => vec![(last, 1.0)],
                (next, share) => vec![(next - 1, 1.0 - share), (next, share)],
            },
            Filter::Cubic { corners } => {
                let (next, t) = place(corners);
                let near = |t: f64| ((CUBIC + 2.0) * t - (CUBIC + 3.0)) * t * t + 1.0;
                let far = |t: f64| ((CUBIC * t - 5.0 * CUBIC) * t + 8.0 * CUBIC) * t - 4.0 * CUBIC;
                let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
                let at = |k: usize| (next + k).saturating_sub(2).min(last);
                weights.into_iter().enumerate().map(|(k, weight)| (at(k), weight)).collect()
            }
        }
    }

    /// How many neighbouring elements a result may take.
    pub fn most_taps(self, line: &Line) -> usize {
        match self {
            Filter::Mean { .. } => line.span.most_taps(),
            Filter::Nearest { .. } => 1,
            Filter::Linear { .. } => 2,
            Filter::Cubic { .. } => 4,
        }
    }

    /// Among how many neighbouring results those are looked for that take an element.
    pub fn most_users(self, line: &Line) -> usize {
        let output = line.span.output;
        let ratio = if line.scale[0] == 0 { output } else { line.scale[1].div_ceil(line.scale[0]) };
        let among = |elements: usize| ratio.saturating_mul(elements).saturating_add(4).min(output);
        match self {
            Filter::Mean { .. } => line.span.most_windows(),
            Filter::Nearest { .. } => among(1),
            Filter::Linear { .. } => among(2),
            Filter::Cubic { .. } => among(4),
        }
    }
}
