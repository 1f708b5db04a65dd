// Some inputs one after another along an axis, written to their part of the result:
//   result[row * total + start + r] = load(row, r)
// where a row is what one element of the axes before is followed by: `total` elements in the result, of which `span`
// from `start` on come from these inputs.
//
// Put in front of this text: the bindings (inputs, then `result`), `load` and `store`.
// Workgroups: ceil(elements / 64). Iterations: 0.

struct Params {
    elements: u32,
    span: u32,
    start: u32,
    total: u32,
    // Elements of a row of each input.
    lengths: array<vec4<u32>, 2>,
}

@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.elements {
        return;
    }
    let row = i / p.span;
    let r = i - row * p.span;
    store(row * p.total + p.start + r, load(row, r));
}
