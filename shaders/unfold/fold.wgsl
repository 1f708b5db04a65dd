// Windows added up where they were taken from, as a gather: each element of the volume sums over the elements of a window that
// it may be, in their order.
//
// columns  see Order in src/ops/unfold/mod.rs; p.strides has (batch, depth, height, width of a window), (channel, windows along
//          depth, height, width)
// result   [batch, channels, depth, height, width], through `epilogue`
//
// Workgroups: ceil(elements / 64). Iterations: kernel depth * (1 + kernel height * (1 + kernel width)).

// The window along an axis whose element `tap` is at padded position `at`; huge if there is none.
fn window_of(at: u32, tap: u32, axis: u32) -> u32 {
    let back = tap * p.spans[2u * axis + 1u].x;
    let stride = p.spans[2u * axis].w;
    let begin = at - back;
    let i = begin / stride;
    return select(0xffffffffu, i, back <= at && i * stride == begin && i < p.spans[2u * axis].y);
}

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let sizes = vec3<u32>(p.spans[0].x, p.spans[2].x, p.spans[4].x);
    let kernel = vec3<u32>(p.spans[0].z, p.spans[2].z, p.spans[4].z);
    var rest = index / sizes.z;
    let w = index - rest * sizes.z + p.spans[5].y;
    var outer = rest / sizes.y;
    let h = rest - outer * sizes.y + p.spans[3].y;
    rest = outer / sizes.x;
    let d = outer - rest * sizes.x + p.spans[1].y;
    outer = rest / p.channels;
    let base = outer * p.strides[0].x + (rest - outer * p.channels) * p.strides[1].x;
    var sum = 0.0;
    for (var a = 0u; a < kernel.x; a++) {
        let i = window_of(d, a, 0u);
        if i == 0xffffffffu {
            continue;
        }
        let slice = base + a * p.strides[0].y + i * p.strides[1].y;
        for (var b = 0u; b < kernel.y; b++) {
            let j = window_of(h, b, 1u);
            if j == 0xffffffffu {
                continue;
            }
            let line = slice + b * p.strides[0].z + j * p.strides[1].z;
            for (var c = 0u; c < kernel.z; c++) {
                let k = window_of(w, c, 2u);
                if k != 0xffffffffu {
                    sum += from_a(columns[line + c * p.strides[0].w + k * p.strides[1].w]);
                }
            }
        }
    }
    result[index] = epilogue(sum, index);
}
