// For software drivers alone: `recurrent/backward.wgsl` four elements a load, which places count.

alias V = vec4<f32>;
alias Across = mat4x4<f32>;
const UNITS: u32 = 4u;
const WIDTH: u32 = 4u;

fn left_start(rows: vec4<u32>) -> vec4<u32> {
    return (p.here * p.rows + rows) * (p.lines / 4u);
}

fn left(at: u32) -> vec4<f32> {
    return d[at];
}

// Units past the edge read the last ones; their sums go nowhere.
fn right_start(unit: u32) -> vec4<u32> {
    return vec4<u32>(min(unit / 4u, p.hidden / 4u - 1u));
}

fn across(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let step = p.hidden / 4u;
    let own = at.x + 4u * k * step;
    return mat4x4<f32>(weight[own], weight[own + step], weight[own + 2u * step], weight[own + 3u * step]);
}

fn finish(row: u32, unit: u32, sum: vec4<f32>) {
    if unit < p.hidden {
        back(row, unit / 4u, sum);
    }
}
