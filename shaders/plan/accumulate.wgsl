// total += part: adds the gradient of one micro-batch to what earlier ones left in the arena.
// Bindings: part (read), total (read and written). One invocation an element; workgroups: ceil(elements / 64).

struct Params {
    elements: u32,
}

@group(0) @binding(0) var<storage, read> part: array<f32>;
@group(0) @binding(1) var<storage, read_write> total: array<f32>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i < p.elements {
        total[i] = total[i] + part[i];
    }
}
