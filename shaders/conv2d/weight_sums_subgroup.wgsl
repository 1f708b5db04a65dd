// For software drivers alone: `conv2d/weight_sums.wgsl`, whose functions these are, with lanes that share what they read of dy
// (`conv2d/spread.wgsl`).

struct Sums {
    kept: array<array<array<vec4<f32>, QUADS>, TAPS>, LINES>,
}

fn add_position(sum: ptr<function, Sums>, dy_plane: ptr<function, array<u32, LOADS>>, at: u32, windows: ptr<function, array<array<f32, WINDOW>, LINES>>) {
    var gradient: array<vec4<f32>, QUADS>;
    for (var i = 0u; i < LOADS; i++) {
        let lanes = spread(from_b(dy[(*dy_plane)[i] + at]));
        gradient[i * 2u] = lanes[0];
        gradient[i * 2u + 1u] = lanes[1];
    }
    for (var i = 0u; i < LINES; i++) {
        for (var v = 0u; v < TAPS; v++) {
            let value = (*windows)[i][v * DILATION_WIDTH];
            for (var q = 0u; q < QUADS; q++) {
                (*sum).kept[i][v][q] += gradient[q] * value;
            }
        }
    }
}

fn first_sum(sum: ptr<function, Sums>, i: u32, v: u32) -> f32 {
    return (*sum).kept[i][v][0].x;
}

fn move_up(sum: ptr<function, Sums>, i: u32) {
    for (var v = 0u; v < TAPS; v++) {
        for (var q = 0u; q < QUADS; q++) {
            let next = select(0.0, (*sum).kept[i][v][min(q + 1u, QUADS - 1u)].x, q + 1u < QUADS);
            (*sum).kept[i][v][q] = vec4<f32>((*sum).kept[i][v][q].yzw, next);
        }
    }
}
