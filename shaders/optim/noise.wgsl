// Adds annealed normal noise to gradients (Neelakantan et al. 2015): g <- g + scale sqrt(variance / (1 + t)^power) n, with t the steps
// so far and n drawn by Philox from seed, parameter, step and element.
//
// gradients  vectors of four floats, p.vectors of them
// blocks     [blocks of 64 elements], 0 to leave it alone, 1 + the number of the parameter
// owners     [parameters], its first element, how many it has, its stream
// steps      [1], u32
// scaling    as in `optim/tally.wgsl`
//
// Asks for: `philox` (`pointwise/philox.wgsl`); `const EACH`, a divisor of 16; p.deviation, the root of the variance; p.power;
// p.key_low and p.key_high.
// One invocation EACH vectors; workgroups: ceil(vectors / (64 EACH)). Iterations: EACH.

// ln u for a normal u > 0, with all its digits: u = m 2^e with m near 1, and a series in (m - 1) / (m + 1).
fn logarithm(u: f32) -> f32 {
    let bits = bitcast<u32>(u);
    var e = f32(bits >> 23u) - 127.0;
    var m = bitcast<f32>((bits & 0x7fffffu) | 0x3f800000u);
    if m > 1.4142135 {
        m *= 0.5;
        e += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 2.0 * s * (1.0 + q * (0.33333334 + q * (0.2 + q * (0.14285715 + q * 0.11111111))));
    // ln 2 in two parts: the first has few bits.
    return e * 0.693359375 + (series - e * 2.1219444e-4);
}

// (cos, sin) of 2 pi v for v in [0, 1): by quarters, and series within an eighth.
fn circle(v: f32) -> vec2<f32> {
    let quarter = floor(v * 4.0 + 0.5);
    let x = (v - quarter * 0.25) * 6.2831855;
    let q = x * x;
    let s = x * (1.0 - q * (0.16666667 - q * (8.3333333e-3 - q * (1.9841270e-4 - q * 2.7557319e-6))));
    let c = 1.0 - q * (0.5 - q * (4.1666667e-2 - q * (1.3888889e-3 - q * (2.4801587e-5 - q * 2.7557319e-7))));
    let turn = u32(quarter) & 3u;
    let odd = select(vec2<f32>(c, s), vec2<f32>(-s, c), (turn & 1u) == 1u);
    return select(odd, -odd, turn > 1u);
}

// Two normals from two words (Box and Muller 1958).
fn pair_of(words: vec2<u32>) -> vec2<f32> {
    let u = f32((words.x >> 8u) + 1u) * 5.9604645e-8;
    return sqrt(-2.0 * logarithm(u)) * circle(f32(words.y >> 8u) * 5.9604645e-8);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = ((group.x + group.y * groups.x) * 64u + lane) * EACH;
    if start >= p.vectors {
        return;
    }
    let number = blocks[start / 16u];
    if number == 0u {
        return;
    }
    let owner = owners[number - 1u];
    let step = steps[0];
    let size = scaling[0] * p.deviation * exp(-0.5 * p.power * logarithm(f32(step) + 1.0));
    for (var i = start; i < start + EACH; i++) {
        let element = 4u * i - owner.x;
        let words = philox(vec4<u32>(element / 4u, step, owner.z, owner.w), vec2<u32>(p.key_low, p.key_high));
        let noise = vec4<f32>(pair_of(words.xy), pair_of(words.zw));
        // What is behind a parameter's last element stays 0.
        let inside = vec4<u32>(element) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(owner.y);
        gradients[i] += select(vec4<f32>(0.0), size * noise, inside);
    }
}
