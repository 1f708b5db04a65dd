// The axes of a resampling, and what is known of one result along one of them.
//
// A filter declares
//   taps_of(line, i)    the elements that result i takes: from `begin` to before `end`, and what weighs them
//   weight(taps, j)     the weight of element j among them
//   users_of(line, j)   (begin, end) of the results among which all are that take element j

struct Line {
    input: u32,
    output: u32,
    kernel: u32,
    stride: u32,
    before: u32,
    after: u32,
    // Elements between neighbouring results.
    numerator: u32,
    denominator: u32,
}

struct Taps {
    begin: u32,
    end: u32,
    // Place of the first tap, which may lie before the axis.
    first: i32,
    share: f32,
}

fn line_of(axis: u32) -> Line {
    let a = p.lines[2u * axis];
    let b = p.lines[2u * axis + 1u];
    return Line(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
}
