// The filter of means over windows i of n, from floor(i length / n) to before ceil((i + 1) length / n).

fn taps_of(a: Line, i: u32) -> Taps {
    let begin = i * a.numerator / a.denominator;
    let end = ((i + 1u) * a.numerator + a.denominator - 1u) / a.denominator;
    return Taps(begin, end, i32(begin), 1.0 / f32(end - begin));
}

fn weight(taps: Taps, j: u32) -> f32 {
    return taps.share;
}

fn users_of(a: Line, j: u32) -> vec2<u32> {
    return vec2<u32>(j * a.denominator / a.numerator, ((j + 1u) * a.denominator - 1u) / a.numerator + 1u);
}
