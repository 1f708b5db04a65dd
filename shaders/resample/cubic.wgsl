// The filter of cubic convolution (Keys 1981, a = -3/4) of the four elements around i scale (CORNERS), or around
// (i + 1/2) scale - 1/2. Elements beyond an end are that at the end.
//
// Constant: CORNERS.

const SLOPE: f32 = -0.75;

fn taps_of(a: Line, i: u32) -> Taps {
    var over = (2u * i + 1u) * a.numerator + a.denominator;
    var under = 2u * a.denominator;
    if CORNERS {
        under = a.denominator;
        over = i * a.numerator + under;
    }
    let next = over / under;
    let share = f32(over - next * under) / f32(under);
    let last = a.input - 1u;
    let begin = min(max(next, 2u) - 2u, last);
    return Taps(begin, min(next + 1u, last) + 1u, i32(next) - 2, share);
}

// Of an element at distance t, up to 1.
fn near_by(t: f32) -> f32 {
    return ((SLOPE + 2.0) * t - (SLOPE + 3.0)) * t * t + 1.0;
}

fn weight(taps: Taps, j: u32) -> f32 {
    let t = taps.share;
    let rest = 1.0 - t;
    // The cubic beyond distance 1, as a product: a sum of its powers would lose digits.
    let weights = vec4<f32>(SLOPE * t * rest * rest, near_by(t), near_by(rest), SLOPE * rest * t * t);
    // At an end several taps are one element.
    let ends = vec2<i32>(i32(taps.begin), i32(taps.end) - 1);
    let places = clamp(vec4<i32>(taps.first) + vec4<i32>(0, 1, 2, 3), vec4<i32>(ends.x), vec4<i32>(ends.y));
    return dot(select(vec4<f32>(0.0), weights, places == vec4<i32>(i32(j))), vec4<f32>(1.0));
}

fn users_of(a: Line, j: u32) -> vec2<u32> {
    if a.numerator == 0u {
        return vec2<u32>(0u, a.output);
    }
    var begin = (max(j, 2u) - 2u) * a.denominator / a.numerator;
    var end = (j + 2u) * a.denominator / a.numerator + 1u;
    if !CORNERS {
        let twice = (max(2u * j, 3u) - 3u) * a.denominator / a.numerator;
        begin = (max(twice, 1u) - 1u) / 2u;
        end = (2u * j + 5u) * a.denominator / a.numerator / 2u + 1u;
    }
    end = select(min(end, a.output), a.output, j + 1u == a.input);
    return vec2<u32>(begin, end);
}
