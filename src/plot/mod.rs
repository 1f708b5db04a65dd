//! Line charts as the text of an SVG file: schedules, losses, anything with numbers over numbers.
//!
//! The text stands alone: no script, no font, no other file. It follows the reader's light or dark setting, and names
//! every line for those who hear it.

pub(crate) mod page;

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Space for the labels of the axes.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 28.0;
const BOTTOM: f64 = 52.0;
/// Height of the title, and of a row of the legend.
const TITLE: f64 = 44.0;
const ROW: f64 = 20.0;
/// About the width of a letter.
const LETTER: f64 = 7.5;
/// Colours of lines, on light and on dark ground; further lines are dashed, then dotted.
const COLOURS: [(&str, &str); 8] = [
    ("#0063b2", "#6cb6ff"),
    ("#c2410c", "#ffa657"),
    ("#1a7f37", "#56d364"),
    ("#8250df", "#d2a8ff"),
    ("#b3004b", "#ff7eb6"),
    ("#0e7490", "#5ee0e6"),
    ("#7a5c00", "#e3c04b"),
    ("#57606a", "#b1bac4"),
];
/// A number of at least this size cannot be drawn, nor can a span below its inverse.
const HUGE: f64 = 1e300;

/// A chart of lines, each with a name.
///
/// Points go from left to right. One whose numbers are not finite, or not above 0 on a logarithmic axis, leaves a gap.
///
/// ```
/// let losses = [2.3, 1.1, 0.6, 0.4];
/// let points = losses.iter().enumerate().map(|(epoch, &loss)| (epoch as f64, loss));
/// let text = kiln::plot::Chart::new("Loss").axes("epoch", "loss").log().line("training", points).svg();
/// assert!(text.starts_with("<svg"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    title: String,
    x: String,
    y: String,
    is_log: bool,
    /// Width and height, without rows of names.
    size: [f64; 2],
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Numbers along an axis, and those that are written there.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Chart {
    /// A chart without lines.
    pub fn new(title: impl Into<String>) -> Chart {
        let size = [WIDTH, HEIGHT];
        Chart { title: title.into(), x: String::new(), y: String::new(), is_log: false, size, lines: vec![] }
    }

    /// Names the axes, with their units.
    pub fn axes(self, x: impl Into<String>, y: impl Into<String>) -> Chart {
        Chart { x: x.into(), y: y.into(), ..self }
    }

    /// Makes the vertical axis logarithmic.
    pub fn log(self) -> Chart {
        Chart { is_log: true, ..self }
    }

    /// Width and height in the units in which letters are 12 high, 720 by 420 unless this is called; at least 240 by 180.
    pub fn size(self, width: f64, height: f64) -> Chart {
        // NaN is the least too.
        Chart { size: [width.max(240.0), height.max(180.0)], ..self }
    }

    /// Adds a line through `points`.
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Chart {
        self.lines.push((name.into(), points.into_iter().collect()));
        self
    }

    /// The text of the SVG file, a little higher than its [`size`](Chart::size) for each row of names.
    pub fn svg(&self) -> String {
        let (legend, rows) = self.legend();
        let top = TITLE + rows * ROW;
        let [width, plain] = self.size;
        let (height, bottom, right) = (plain + rows * ROW, plain + rows * ROW - BOTTOM, width - RIGHT);
        let drawn = || self.lines.iter().flat_map(|(_, points)| points.iter().filter_map(|&point| self.seen(point)));
        let (x, y) = (Axis::linear(drawn().map(|point| point.0), false), self.vertical(drawn().map(|point| point.1)));
        let across = |number: f64| LEFT + (number - x.low) / (x.high - x.low) * (right - LEFT);
        let up = |number: f64| bottom - (number - y.low) / (y.high - y.low) * (bottom - top);

        let title = escaped(&self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             class=\"kiln-chart\" role=\"img\">\n\
             <title>{title}</title>\n{}<rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"26\">{title}</text>\n{legend}",
            style()
        );
        for (number, label) in &x.ticks {
            let at = across(*number);
            line(&mut svg, "grid", (at, top), (at, bottom));
            text(&mut svg, "middle", (at, bottom + 18.0), label);
        }
        for (number, label) in &y.ticks {
            let at = up(*number);
            line(&mut svg, "grid", (LEFT, at), (right, at));
            text(&mut svg, "end", (LEFT - 8.0, at + 4.0), label);
        }
        line(&mut svg, "axis", (LEFT, bottom), (right, bottom));
        line(&mut svg, "axis", (LEFT, top), (LEFT, bottom));
        text(&mut svg, "middle", ((LEFT + right) / 2.0, height - 12.0), &self.x);
        let middle = (top + bottom) / 2.0;
        _ = writeln!(
            svg,
            "<text class=\"middle\" transform=\"translate(16 {middle}) rotate(-90)\">{}</text>",
            escaped(&self.y)
        );
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let place = |&point: &(f64, f64)| self.seen(point).map(|(x, y)| (across(x), up(y)));
            let path = path(points.iter().map(place));
            _ = writeln!(
                svg,
                "<path class=\"line {}\" d=\"{path}\"><title>{}</title></path>",
                class(index),
                escaped(name)
            );
        }
        svg + "</svg>\n"
    }

    /// A point as its axes count, unless it cannot be drawn.
    fn seen(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let y = if self.is_log { y.log10() } else { y };
        (x.abs() < HUGE && y.abs() < HUGE).then_some((x, y))
    }

    fn vertical(&self, numbers: impl Iterator<Item = f64>) -> Axis {
        if self.is_log { Axis::log(numbers) } else { Axis::linear(numbers, true) }
    }

    /// The names of lines in rows, and how many rows; none where there is one line.
    fn legend(&self) -> (String, f64) {
        let (mut texts, mut at, mut row) = (String::new(), LEFT, 0.0);
        if self.lines.len() < 2 {
            return (texts, row);
        }
        for (index, (name, _)) in self.lines.iter().enumerate() {
            let width = 40.0 + name.chars().count() as f64 * LETTER;
            if at > LEFT && at + width > self.size[0] - RIGHT {
                (at, row) = (LEFT, row + 1.0);
            }
            let middle = TITLE + row * ROW;
            line(&mut texts, &format!("line {}", class(index)), (at, middle - 4.0), (at + 20.0, middle - 4.0));
            text(&mut texts, "start", (at + 26.0, middle), name);
            at += width;
        }
        (texts, row + 1.0)
    }
}

impl Axis {
    /// Around `numbers`, with five or so ticks; whole ticks at both ends if it is `rounded`.
    fn linear(numbers: impl Iterator<Item = f64>, rounded: bool) -> Axis {
        let (mut low, mut high) = span(numbers).unwrap_or((0.0, 1.0));
        // From 0 where that costs little.
        if rounded && low > 0.0 && low < 0.5 * high {
            low = 0.0;
        }
        let size = low.abs().max(high.abs());
        if high - low <= 1e-9 * size || high - low < 1.0 / HUGE {
            let room = if size < 1.0 / HUGE { 1.0 } else { 0.5 * size };
            (low, high) = (low - room, high + room);
        }
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|&s| s >= rough).unwrap_or(rough);
        let (mut first, mut last) = ((low / step - 1e-6).ceil(), (high / step + 1e-6).floor());
        if rounded {
            (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
            (low, high) = (first * step, last * step);
        }
        let ticks = (0..=(last - first) as u32).map(|k| first + f64::from(k));
        let size = low.abs().max(high.abs());
        Axis { low, high, ticks: ticks.map(|k| (k * step, label(k * step, step, size))).collect() }
    }

    /// Around logarithms: a tick a decade, or fewer; at 2 and 5 times them where they are few.
    fn log(numbers: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = span(numbers).map_or((0.0, 1.0), |(low, high)| (low.floor(), high.ceil()));
        let high = if high > low { high } else { low + 1.0 };
        let between: &[u32] = if high - low <= 2.0 { &[1, 2, 5] } else { &[1] };
        let stride = ((high - low) / 8.0).ceil() as usize;
        let decades = (low as i32..=high as i32).step_by(stride);
        let ticks = decades.flat_map(|decade| between.iter().map(move |&n| (f64::from(n).log10(), n, decade)));
        let name = |n: u32, decade: i32| match (-3..6).contains(&decade) {
            true => format!("{:.*}", (-decade).max(0) as usize, f64::from(n) * 10f64.powi(decade)),
            false => format!("{n}e{decade}"),
        };
        let ticks = ticks.map(|(part, n, decade)| (part + f64::from(decade), name(n, decade)));
        Axis { low, high, ticks: ticks.filter(|(number, _)| *number <= high).collect() }
    }
}

/// The least and the greatest number, if there are any.
fn span(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers.fold(None, |span, number| {
        let (low, high) = span.unwrap_or((number, number));
        Some((low.min(number), high.max(number)))
    })
}

/// A number with as many digits as ticks of this step, up to this size, need.
fn label(number: f64, step: f64, size: f64) -> String {
    let digits = |of: f64| of.abs().log10().floor() as i32;
    if number == 0.0 {
        return "0".into();
    }
    // The step may be a rounding below a power of ten.
    let last = digits(step * 1.001);
    match (1e-3..1e6).contains(&size) {
        true => format!("{number:.*}", (-last).max(0) as usize),
        false => format!("{number:.*e}", (digits(number * 1.001) - last).max(0) as usize),
    }
}

/// The path through points. Of those that fall into one pixel from left to right it has the first, the last, the
/// highest and the lowest, so that its length has a bound and no peak is lost.
fn path(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let (mut path, mut column, mut is_down) = (String::new(), Vec::<(f64, f64)>::new(), false);
    let mut flush = |column: &mut Vec<(f64, f64)>, is_down: &mut bool| {
        for &(x, y) in column.iter() {
            // A stroke of no length shows a point that stands alone.
            let stroke = if *is_down { "L" } else { "M" };
            _ = write!(path, "{stroke}{x:.1} {y:.1}");
            if !*is_down {
                path.push_str("h0");
            }
            *is_down = true;
        }
        column.clear();
    };
    for point in points {
        let Some(point) = point else {
            flush(&mut column, &mut is_down);
            is_down = false;
            continue;
        };
        if column.first().is_some_and(|first| first.0.floor() != point.0.floor()) {
            flush(&mut column, &mut is_down);
        }
        column.push(point);
        if let [_, b, c, d, _] = column[..] {
            // One of the three in the middle lies between the others.
            let mut inner = [(b, 1), (c, 2), (d, 3)];
            inner.sort_by(|one, other| one.0.1.total_cmp(&other.0.1));
            column.remove(inner[1].1);
        }
    }
    flush(&mut column, &mut is_down);
    path
}

fn class(index: usize) -> String {
    let strokes = ["", " dashed", " dotted"];
    format!("s{}{}", index % COLOURS.len(), strokes[(index / COLOURS.len()).min(2)])
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let (x, y) = from;
    _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x:.1} {y:.1}L{:.1} {:.1}\"/>", to.0, to.1);
}

fn text(svg: &mut String, class: &str, (x, y): (f64, f64), text: &str) {
    _ = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
}

/// A text as XML has it; characters that it cannot have are left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Colours and letters; each rule is for this chart alone, wherever its text is put.
fn style() -> String {
    let lines = |of: fn(&(&'static str, &'static str)) -> &'static str| {
        let rule = |(index, pair)| format!(".kiln-chart .s{index}{{stroke:{}}}", of(pair));
        COLOURS.iter().enumerate().map(rule).collect::<String>()
    };
    let light = lines(|pair| pair.0);
    let dark = lines(|pair| pair.1);
    format!(
        "<style>\n.kiln-chart text{{font:12px system-ui,sans-serif;fill:#1f2328}}\
         .kiln-chart .title{{font-size:15px;font-weight:600}}\
         .kiln-chart .middle{{text-anchor:middle}}.kiln-chart .end{{text-anchor:end}}\
         .kiln-chart .ground{{fill:#fff}}.kiln-chart path{{fill:none}}\
         .kiln-chart .grid{{stroke:#d8dee4}}.kiln-chart .axis{{stroke:#57606a}}\
         .kiln-chart .line{{stroke-width:2;stroke-linecap:round;stroke-linejoin:round}}\
         .kiln-chart .dashed{{stroke-dasharray:6 4}}.kiln-chart .dotted{{stroke-dasharray:1 4}}{light}\n\
         @media (prefers-color-scheme:dark){{.kiln-chart text{{fill:#e6edf3}}.kiln-chart .ground{{fill:#0d1117}}\
         .kiln-chart .grid{{stroke:#30363d}}.kiln-chart .axis{{stroke:#8d96a0}}{dark}}}\n</style>\n"
    )
}
