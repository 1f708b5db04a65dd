// For software drivers alone: `conv2d/sums.wgsl`, whose functions these are, with lanes that share the weights that they read
// (`conv2d/spread.wgsl`). KERNEL_WIDTH * COLUMNS <= 35 with two loads, else drivers stop unrolling.

const SECOND: u32 = QUADS - 2u;

struct Sums {
    kept: array<array<vec4<f32>, QUADS>, COLUMNS>,
}

fn add_taps(sum: ptr<function, Sums>, w_at: ptr<function, array<u32, LOADS>>, step: u32, window: ptr<function, array<f32, WINDOW>>) {
    for (var v = 0u; v < KERNEL_WIDTH; v++) {
        let weights = spread(from_b(w[(*w_at)[0u] + step + v]));
        for (var j = 0u; j < COLUMNS; j++) {
            let value = (*window)[tap_column(v, j)];
            (*sum).kept[j][0u] += weights[0] * value;
            (*sum).kept[j][1u] += weights[1] * value;
        }
    }
    if ROW_LOADS == 2u {
        for (var v = 0u; v < KERNEL_WIDTH; v++) {
            let weights = spread(from_b(w[(*w_at)[LOADS - 1u] + step + v]));
            for (var j = 0u; j < COLUMNS; j++) {
                let value = (*window)[tap_column(v, j)];
                (*sum).kept[j][SECOND] += weights[0] * value;
                (*sum).kept[j][SECOND + 1u] += weights[1] * value;
            }
        }
    }
}

fn add_tap(sum: ptr<function, Sums>, w_at: ptr<function, array<u32, LOADS>>, step: u32, values: ptr<function, array<f32, COLUMNS>>) {
    for (var i = 0u; i < LOADS; i++) {
        let weights = spread(from_b(w[(*w_at)[i] + step]));
        for (var j = 0u; j < COLUMNS; j++) {
            (*sum).kept[j][i * 2u] += weights[0] * (*values)[j];
            (*sum).kept[j][i * 2u + 1u] += weights[1] * (*values)[j];
        }
    }
}

fn first_sum(sum: ptr<function, Sums>, j: u32) -> f32 {
    return (*sum).kept[j][0].x;
}

fn move_up(sum: ptr<function, Sums>) {
    for (var j = 0u; j < COLUMNS; j++) {
        for (var q = 0u; q < QUADS; q++) {
            let next = select(0.0, (*sum).kept[j][min(q + 1u, QUADS - 1u)].x, q + 1u < QUADS);
            (*sum).kept[j][q] = vec4<f32>((*sum).kept[j][q].yzw, next);
        }
    }
}
