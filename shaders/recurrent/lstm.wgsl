// A step of a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000):
//   i, f, o = sigmoid(x + W h + b), g = tanh(x + W h + b), c' = f c + i g, h' = o tanh(c'), lines in the order i, f, g, o
//
// x, gates  [steps, rows, 4 hidden]; gates are kept for the way back
// cells     [steps + 1, rows, hidden], slots as those of states

const UNITS: u32 = 1u;

fn lines_of(unit: u32) -> vec4<u32> {
    return unit + p.hidden * vec4<u32>(0u, 1u, 2u, 3u);
}

fn finish(row: u32, unit: u32, sum: vec4<f32>) {
    if unit >= p.hidden {
        return;
    }
    let at = row * p.hidden + unit;
    let slot = p.rows * p.hidden;
    let gate = (p.time * p.rows + row) * p.lines + unit;
    let lines = lines_of(0u);
    let own = gate + lines;
    let bias_at = unit + lines;
    let z = sum + vec4<f32>(x[own.x], x[own.y], x[own.z], x[own.w])
        + vec4<f32>(bias[bias_at.x], bias[bias_at.y], bias[bias_at.z], bias[bias_at.w]);
    let i = sigmoid(z.x);
    let f = sigmoid(z.y);
    let g = tanh_full(z.z);
    let o = sigmoid(z.w);
    let before = cells[p.before * slot + at];
    let c = f * before + i * g;
    gates[own.x] = i;
    gates[own.y] = f;
    gates[own.z] = g;
    gates[own.w] = o;
    let lasts = is_within(row);
    cells[p.here * slot + at] = select(before, c, lasts);
    put_state(p.here * slot + at, select(state(p.before * slot + at), o * tanh_full(c), lasts));
}
