// Windows along three axes: those that slide, or (EVEN) window i of n from floor(i length / n) to before ceil((i + 1) length / n).
//
// p.spans has of each axis (input, output, kernel, stride), (dilation, before, after, 0). Constant: EVEN.

// (place of the first element, number of elements): what lies before the axis wraps to huge numbers.
fn window_of(axis: u32, i: u32) -> vec2<u32> {
    let sizes = p.spans[2u * axis];
    if EVEN {
        let begin = i * sizes.x / sizes.y;
        return vec2<u32>(begin, ((i + 1u) * sizes.x + sizes.y - 1u) / sizes.y - begin);
    }
    return vec2<u32>(i * sizes.w - p.spans[2u * axis + 1u].y, sizes.z);
}

// (begin, end) of the windows among which all are that have element j.
fn windows_with(axis: u32, j: u32) -> vec2<u32> {
    let sizes = p.spans[2u * axis];
    if EVEN {
        return vec2<u32>(j * sizes.y / sizes.x, ((j + 1u) * sizes.y - 1u) / sizes.x + 1u);
    }
    let more = p.spans[2u * axis + 1u];
    let reach = (sizes.z - 1u) * more.x;
    let at = j + more.y;
    let below = max(at, reach) - reach;
    return vec2<u32>((below + sizes.w - 1u) / sizes.w, min(at / sizes.w + 1u, sizes.y));
}
