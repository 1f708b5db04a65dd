// The filter of means over windows that slide: 1 / number for what is inside.
//
// Constant: COUNT_PADDING, whether padding counts in the number.

fn taps_of(a: Line, i: u32) -> Taps {
    let first = i * a.stride;
    let last = min(first + a.kernel, a.input + a.before + a.after);
    let begin = max(first, a.before) - a.before;
    let end = max(min(last, a.input + a.before), a.before) - a.before;
    let count = select(max(end, begin + 1u) - begin, last - first, COUNT_PADDING);
    return Taps(begin, end, i32(begin), 1.0 / f32(count));
}

fn weight(taps: Taps, j: u32) -> f32 {
    return taps.share;
}

fn users_of(a: Line, j: u32) -> vec2<u32> {
    let at = j + a.before;
    let below = max(at, a.kernel - 1u) - (a.kernel - 1u);
    return vec2<u32>((below + a.stride - 1u) / a.stride, min(at / a.stride + 1u, a.output));
}
