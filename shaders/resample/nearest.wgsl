// The filter that takes the one element at floor(i scale), or at floor((i + 1/2) scale).
//
// Constant: EXACT, whether it is the latter.

fn taps_of(a: Line, i: u32) -> Taps {
    var at = 0u;
    if EXACT {
        at = (2u * i + 1u) * a.numerator / (2u * a.denominator);
    } else {
        at = i * a.numerator / a.denominator;
    }
    at = min(at, a.input - 1u);
    return Taps(at, at + 1u, i32(at), 1.0);
}

fn weight(taps: Taps, j: u32) -> f32 {
    return 1.0;
}

fn users_of(a: Line, j: u32) -> vec2<u32> {
    var begin = j * a.denominator / a.numerator;
    var end = (j + 1u) * a.denominator / a.numerator + 1u;
    if EXACT {
        begin = max(begin, 1u) - 1u;
    }
    // What would lie behind the axis is its last element.
    end = select(min(end, a.output), a.output, j + 1u == a.input);
    return vec2<u32>(begin, end);
}
