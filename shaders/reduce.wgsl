// Reduction of some axes by a sum, a maximum or a minimum; also the second pass over partial results.
//
// result[o] = finish(combine over r of prologue(kept_index(o) + reduced_index(r)))
//
// Each output is formed by `parts` invocations, part q taking r = q, q + parts, q + 2 parts, .. with four accumulators
// that are combined in a fixed order; with more than one part a second pass combines the partial results in order.
//
// Put in front of this text: `alias V`, `combine`, `initial`, `store` (which finishes and calls epilogue, or writes a
// partial result), `kept_index`, `reduced_index`, `Params`, `const PARTIAL: bool` (true: several parts) and
// `const PART_FASTEST: bool` (true: neighbouring invocations are parts of one output).
//
// Bindings: 0 input (read, through prologue), 1 result (written, through store): [outputs], or [parts][outputs].
// Workgroups: ceil(outputs * parts / 64). Iterations: reduced / (4 parts) + 4.

@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.outputs * p.parts {
        return;
    }
    var o = i;
    var part = 0u;
    if PARTIAL {
        if PART_FASTEST {
            o = i / p.parts;
            part = i - o * p.parts;
        } else {
            part = i / p.outputs;
            o = i - part * p.outputs;
        }
    }
    let base = kept_index(o);
    let stride = p.parts;
    var a = initial();
    var b = initial();
    var c = initial();
    var d = initial();
    var r = part;
    if p.reduced > 3u * stride {
        let last = p.reduced - 3u * stride;
        while r < last {
            a = combine(a, prologue(base + reduced_index(r)));
            b = combine(b, prologue(base + reduced_index(r + stride)));
            c = combine(c, prologue(base + reduced_index(r + 2u * stride)));
            d = combine(d, prologue(base + reduced_index(r + 3u * stride)));
            r += 4u * stride;
        }
    }
    while r < p.reduced {
        a = combine(a, prologue(base + reduced_index(r)));
        r += stride;
    }
    let total = combine(combine(a, b), combine(c, d));
    store(total, part, o);
}
