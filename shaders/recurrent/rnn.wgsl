// A step of a plain recurrent network (Elman 1990): h' = activation(x + W h + b).
//
// x  [steps, rows, hidden]
// A lane has four units. Asks for: `activation(x)`.

const UNITS: u32 = 4u;

fn lines_of(unit: u32) -> vec4<u32> {
    return unit + vec4<u32>(0u, 1u, 2u, 3u);
}

fn finish(row: u32, unit: u32, sum: vec4<f32>) {
    if unit >= p.hidden {
        return;
    }
    let slot = p.rows * p.hidden;
    let end = min(unit + 4u, p.hidden);
    var one = unit;
    loop {
        let i = one - unit;
        let own = select(select(sum.x, sum.y, i == 1u), select(sum.z, sum.w, i == 3u), i > 1u);
        let at = row * p.hidden + one;
        let h = activation(own + x[p.time * slot + at] + bias[one]);
        put_state(p.here * slot + at, select(state(p.before * slot + at), h, is_within(row)));
        one++;
        if one >= end {
            break;
        }
    }
}
