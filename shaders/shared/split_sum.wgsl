// Adds the partial results of a split sum in ascending order:
//   result[i] = epilogue(sum over s of parts[s, i], i)
//
// binding 0  parts  [splits, elements]
// binding 1  result [elements], through `epilogue`
//
// Grid: ceil(elements / 64) workgroups, folded freely over x and y. Loops: splits iterations an invocation.
// Loops that surely have a round end where one does (see ARCHITECTURE.md).

struct Params {
    elements: u32,
    splits: u32,
}

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<OUT>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = (group.x + group.y * group_count.x) * 64u + local;
    if index >= p.elements {
        return;
    }
    var sum = 0.0;
    var split = 0u;
    loop {
        sum += parts[split * p.elements + index];
        split++;
        if split >= p.splits {
            break;
        }
    }
    result[index] = epilogue(sum, index);
}
