// A step of a gated recurrent unit (Cho and others 2014, with the bias of the product inside the reset, as PyTorch and cuDNN have it):
//   r, z = sigmoid(x + W h + b), q = W h + b, n = tanh(x + r q), h' = (1 - z) n + z h, lines in the order r, z, n
//
// x      [steps, rows, 3 hidden]
// gates  [steps, rows, 4 hidden]: r, z, n, q, kept for the way back

const UNITS: u32 = 1u;

fn lines_of(unit: u32) -> vec4<u32> {
    return unit + p.hidden * vec4<u32>(0u, 1u, 2u, 2u);
}

fn finish(row: u32, unit: u32, sum: vec3<f32>) {
    if unit >= p.hidden {
        return;
    }
    let at = row * p.hidden + unit;
    let slot = p.rows * p.hidden;
    let own = (p.time * p.rows + row) * p.lines + unit;
    let product = sum + vec3<f32>(bias[unit], bias[unit + p.hidden], bias[unit + 2u * p.hidden]);
    let r = sigmoid(x[own] + product.x);
    let z = sigmoid(x[own + p.hidden] + product.y);
    let n = tanh_full(x[own + 2u * p.hidden] + r * product.z);
    let gate = (p.time * p.rows + row) * 4u * p.hidden + unit;
    gates[gate] = r;
    gates[gate + p.hidden] = z;
    gates[gate + 2u * p.hidden] = n;
    gates[gate + 3u * p.hidden] = product.z;
    let before = state(p.before * slot + at);
    put_state(p.here * slot + at, select(before, n + z * (before - n), is_within(row)));
}
