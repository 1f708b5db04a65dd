// The filter of linear interpolation between the two elements around i scale (CORNERS), or around (i + 1/2) scale - 1/2.
//
// Constant: CORNERS.

fn taps_of(a: Line, i: u32) -> Taps {
    // One place further than it is, so that nothing is negative.
    var over = (2u * i + 1u) * a.numerator + a.denominator;
    var under = 2u * a.denominator;
    if CORNERS {
        under = a.denominator;
        over = i * a.numerator + under;
    }
    let next = over / under;
    let share = f32(over - next * under) / f32(under);
    if next == 0u {
        return Taps(0u, 1u, 0, 0.0);
    }
    if next >= a.input {
        return Taps(a.input - 1u, a.input, i32(a.input) - 1, 0.0);
    }
    return Taps(next - 1u, next + 1u, i32(next) - 1, share);
}

fn weight(taps: Taps, j: u32) -> f32 {
    return select(taps.share, 1.0 - taps.share, j == taps.begin);
}

fn users_of(a: Line, j: u32) -> vec2<u32> {
    if a.numerator == 0u {
        return vec2<u32>(0u, a.output);
    }
    var begin = (max(j, 1u) - 1u) * a.denominator / a.numerator;
    var end = (j + 1u) * a.denominator / a.numerator + 1u;
    if !CORNERS {
        let twice = (max(2u * j, 1u) - 1u) * a.denominator / a.numerator;
        begin = (max(twice, 1u) - 1u) / 2u;
        end = (2u * j + 3u) * a.denominator / a.numerator / 2u + 1u;
    }
    end = select(min(end, a.output), a.output, j + 1u == a.input);
    return vec2<u32>(begin, end);
}
